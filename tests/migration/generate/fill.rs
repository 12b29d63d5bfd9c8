//! Of everything that messages can be there is some, for each key: revisions, ended results, dead letters, a
//! retry with what is parked behind it, timers, messages in the mailbox, idempotency keys, fences.

use std::{ops::Range, sync::Arc};

use greenroom::backend::{
    Append, Backend, Deferral, Done, Home, JournalWrite, Outcome, Sent, StateWrite, cluster::Options,
};
use serde_json::json;

use super::{address, append, commit, done, open, stored, take, tally};
use crate::{
    expected::{Expected, NOW},
    handled::{becomes, envelope, fenced, keyed, message},
};

pub(super) async fn fill(options: &Options, keys: Range<u64>, expected: &mut Expected) {
    let backend = open(options).await;
    let leases = take(&backend).await;
    let before = backend.audit().await.unwrap().accepted;
    for n in keys.clone() {
        let to = format!("tally/k{n}");
        let lease = leases[&address(&to).partition(options.partitions)];
        // Two revisions, by two messages that end; the second has a journal, and sends to another key.
        for command in [1, 2] {
            let position = match command {
                1 => append(&backend, keyed(&to, 1, "\"first\"")).await,
                _ => append(&backend, message(&to, 2)).await,
            };
            let message = stored(&backend, position).await;
            let mut ends = commit(&to);
            let seen: Vec<u32> = (1..=command).collect();
            ends.state = Some(StateWrite { from: u64::from(command) - 1, doc: tally(&seen), fields: Vec::new() });
            if command == 1 {
                expected.keyed.push((to.clone(), 1, "\"first\"".into(), position.to_string()));
                ends.done.push(done(&message));
            } else {
                let next = (n + 1 - keys.start) % (keys.end - keys.start) + keys.start;
                let sent = envelope(&format!("tally/k{next}"), "100").into();
                ends.outbox.push(Sent { envelope: sent, due: None });
                ends.journals.push(write(&message, &["kept", &to]));
                ends.done.push(Done { journal: true, ..done(&message) });
            }
            assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
        }
    }
    let count = keys.end - keys.start;
    becomes("what was sent to arrive", async || backend.audit().await.unwrap().accepted == before + count * 3).await;
    for n in keys {
        one(&backend, leases[&address(&format!("tally/k{n}")).partition(options.partitions)], n, expected).await;
    }
    for lease in leases.into_values() {
        backend.release(lease).await.unwrap();
    }
    backend.leave().await.unwrap();
}

fn write(stored: &greenroom::backend::Stored, entries: &[&str]) -> JournalWrite {
    let entries = entries.iter().map(|entry| entry.as_bytes().to_vec()).collect();
    JournalWrite { position: stored.position, entries, own: true, wake: false }
}

async fn one(backend: &Arc<dyn Backend>, lease: greenroom::backend::Lease, n: u64, expected: &mut Expected) {
    let to = format!("tally/k{n}");
    let partition = lease.partition;
    // What was sent by the other key is the first in the mailbox: it is deferred for a retry on every second
    // key, with what is behind it parked.
    let mut sent = None;
    becomes("what was sent to be read", async || {
        let all = backend.read(partition, greenroom::envelope::Position::new(partition, 0), 1000).await.unwrap();
        sent = all.into_iter().find(|stored| {
            let envelope = stored.envelope.as_ref().unwrap();
            envelope.to == address(&to) && envelope.command.get() == "100"
        });
        sent.is_some()
    })
    .await;
    let sent = sent.unwrap();
    let mut order = vec![1, 2, 100];
    let mut open = vec![sent.position];
    let (dies, fails) = (append(backend, message(&to, 99)).await, append(backend, message(&to, 98)).await);
    let mut commits = commit(&to);
    let failure = |attempt| greenroom::Error::new(format!("no {attempt}")).failure(attempt, NOW);
    let dying = stored(backend, dies).await;
    if n % 4 == 3 {
        commits.journals.push(write(&dying, &["of a dead letter"]));
    }
    let causes = vec![failure(1), failure(2)];
    commits.done.push(Done { outcome: Outcome::Dead(causes), attempts: 2, journal: n % 4 == 3, ..done(&dying) });
    commits.done.push(Done { outcome: Outcome::Failed(failure(1)), ..done(&stored(backend, fails).await) });
    let behind = append(backend, message(&to, 101)).await;
    open.push(behind);
    order.push(101);
    if n.is_multiple_of(2) {
        backend.begin(lease, vec![(sent.position, Home::Mailbox)]).await.unwrap();
        commits.deferred.push(Deferral {
            position: sent.position,
            home: Home::Mailbox,
            due: NOW,
            attempts: 1,
            failures: vec![failure(1)],
            blocks: true,
        });
        commits.parked.push((behind, Home::Mailbox));
    }
    assert_eq!(backend.commit(lease, vec![commits].into()).await, [Ok(())]);
    if n % 4 != 3 {
        expected.dead.push((dies.to_string(), to.clone(), 99));
    }
    let cancelled = append(backend, message(&to, 97)).await;
    assert!(backend.cancel(lease, cancelled, NOW).await.unwrap());
    for command in 102..105 {
        let append = match command {
            104 if n.is_multiple_of(3) => {
                // A newer one makes the older one of the same mailbox known no more.
                expected.fences.retain(|(other, ..)| address(other).partition(4) != address(&to).partition(4));
                expected.fences.push((to.clone(), "import".into(), 1000 + n));
                fenced(&to, command, "import", 1000 + n)
            }
            _ => message(&to, command),
        };
        open.push(self::append(backend, append).await);
        order.push(command);
    }
    // Ended between those that wait, and one whose attempt had begun when its node died.
    let gap = append(backend, message(&to, 96)).await;
    let mut ends = commit(&to);
    ends.done.push(done(&stored(backend, gap).await));
    assert_eq!(backend.commit(lease, vec![ends].into()).await, [Ok(())]);
    if n % 5 == 1 {
        backend.begin(lease, vec![(open[open.len() - 1], Home::Mailbox)]).await.unwrap();
    }
    // One due soon after, which is handled, and one that is not.
    let later = Append { due: Some(NOW + 60_000 + n as i64), ..message("bell/timer", 1) };
    open.push(append(backend, later).await);
    append(backend, Append { due: Some(i64::MAX / 4), ..message(&to, 200) }).await;
    expected.far += 1;
    expected.open.extend(open.iter().map(ToString::to_string));
    expected.after.insert(to, Some(json!(order)));
}
