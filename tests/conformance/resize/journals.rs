//! A journal goes where its message goes, once, whatever interrupts the resize; that of a result stays
//! with the result.

use greenroom::backend::JournalWrite;

use super::{
    super::journals::{entries, own},
    *,
};

/// Messages in every place, with what their journals say. The last ones are without.
async fn fill(options: &Options) -> Vec<(Position, Vec<String>)> {
    let backend = node(options).await;
    let mut leases = HashMap::new();
    for partition in 0..options.partitions {
        leases.insert(partition, take(&backend, partition).await);
    }
    let mut written = Vec::new();
    for n in 0..KEYS {
        let to = key(n);
        let position = append(&backend, message(&to, "1")).await;
        let lease = leases[&position.partition()];
        let journal: Vec<String> = (0..n).map(|step| format!("{to} {step}")).collect();
        let write = JournalWrite {
            entries: journal.iter().map(|entry| entry.clone().into_bytes()).collect(),
            ..own(position, &[])
        };
        let mut all = commit(&to);
        all.journals.push(write);
        let Lookup::Waiting(stored) = backend.lookup(position).await.unwrap() else { panic!("not there") };
        let home = Home::Mailbox;
        match n % 4 {
            0 => all.done.push(Done { outcome: Outcome::Dead(vec![]), journal: true, ..done(&stored) }),
            1 => all.done.push(Done { journal: true, ..done(&stored) }),
            2 => {
                let due = 253_402_300_799_999;
                all.deferred.push(Deferral { position, home, due, attempts: 0, failures: vec![], blocks: n % 8 == 2 });
            }
            _ => {}
        }
        assert_eq!(backend.commit(lease, vec![all].into()).await, [Ok(())]);
        written.push((position, journal));
    }
    for lease in leases.into_values() {
        backend.release(lease).await.unwrap();
    }
    backend.leave().await.unwrap();
    written
}

async fn there(options: &Options, written: &[(Position, Vec<String>)]) {
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    let mut waiting = HashSet::new();
    for (position, journal) in written {
        // By its old position, and by the one that it has.
        let now = backend.locate(*position).await.unwrap();
        assert_eq!(entries(&backend, *position).await, *journal, "{position}");
        assert_eq!(entries(&backend, now).await, *journal, "{now}");
        let ended = matches!(backend.lookup(*position).await.unwrap(), Lookup::Ended(_));
        assert!(!ended || now == *position, "results stay");
        if !ended && !journal.is_empty() {
            waiting.insert(now);
        }
    }
    let mut found = Vec::new();
    for partition in 0..options.partitions {
        found.extend(backend.journaled(partition).await.unwrap());
    }
    assert_eq!(found.len(), waiting.len(), "{found:?}");
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), waiting);
    assert!(backend.audit().await.unwrap().balanced);
}

#[test]
fn a_journal_moves_along_with_its_message_and_stays_with_its_result() {
    stores(async |mut options| {
        let written = fill(&options).await;
        there(&options, &written).await;
        // With one partition only, results lie in those that are no more.
        for to in [16, 1] {
            resize(&options, to).unwrap();
            options.partitions = to;
            there(&options, &written).await;
        }
        let backend = node(&options).await;
        take(&backend, 0).await;
        let ended = (0..KEYS).filter(|n| n % 4 == 1);
        assert_eq!(backend.expire(NOW + 1, NOW).await.unwrap(), ended.clone().count());
        for n in ended {
            assert!(entries(&backend, written[n].0).await.is_empty());
        }
    });
}

#[test]
fn interrupted_at_any_step_each_journal_moves_once() {
    store(Which::Redis, async |mut options| {
        let written = fill(&options).await;
        for to in [16, 4] {
            let interrupting = Interrupting::default();
            loop {
                let options = Options { lease: Duration::from_millis(80), ..options.clone() };
                match Cluster::resize(options, interrupting.order(to)) {
                    Ok(_) => break,
                    Err(error) => assert_eq!(error.to_string(), "killed"),
                }
            }
            options.partitions = to;
            there(&options, &written).await;
        }
    });
}
