//! What a store says of a commit before it answers it: decided means that it becomes true as it is, whatever the
//! answer is.

use std::sync::Mutex;

use greenroom::backend::{Decided, Lookup, Refused, StateWrite};

use super::*;

/// Commits a group under a lease; the answers, and which were said to be decided, in that order.
async fn say(
    backend: &Arc<dyn Backend>,
    lease: Lease,
    batch: Vec<Commit>,
) -> (Vec<std::result::Result<(), Refused>>, Vec<usize>) {
    let said: Arc<Mutex<Vec<usize>>> = Arc::default();
    let heard = said.clone();
    let decided = Decided::new(move |index| heard.lock().unwrap().push(index));
    let answers = backend.commit_early(lease, batch.into(), decided).await;
    let said = said.lock().unwrap().clone();
    (answers, said)
}

fn write(stored: &Stored, from: u64) -> Commit {
    let mut commit = commit(&stored.envelope.as_ref().unwrap().to.to_string());
    commit.seen = Some(from);
    commit.state = Some(StateWrite { from, doc: saved("doc"), fields: Vec::new() });
    commit.done.push(done(stored));
    commit
}

/// Messages to so many actors of one partition.
async fn messages(backend: &Arc<dyn Backend>, count: usize) -> (u16, Vec<Stored>) {
    let partition = address("thing/0").partition(4);
    let keys = (0..).map(|n: u64| format!("thing/{n}")).filter(|to| address(to).partition(4) == partition);
    for to in keys.take(count) {
        append(backend, message(&to, "1")).await;
    }
    (partition, backend.read(partition, start(partition), count).await.unwrap())
}

#[test]
fn of_a_group_only_what_becomes_true_is_said_to_be_decided_and_once() {
    each(|backend| async move {
        let (partition, stored) = messages(&backend, 4).await;
        let lease = take(&backend, partition).await;
        let mut stateless = commit(&stored[2].envelope.as_ref().unwrap().to.to_string());
        stateless.done.push(done(&stored[2]));
        // The second one's revision is not the one it is made from.
        let mut before = write(&stored[1], 0);
        before.done.clear();
        assert_eq!(say(&backend, lease, vec![before]).await, (vec![Ok(())], Vec::new()), "nothing would finish it");
        let batch = vec![write(&stored[0], 0), write(&stored[1], 0), stateless, write(&stored[3], 0)];
        let (answers, mut said) = say(&backend, lease, batch).await;
        assert_eq!(answers, [Ok(()), Err(Refused::Stale), Ok(()), Ok(())]);
        said.sort_unstable();
        // A store that does all at once has nothing to say.
        assert!([&[][..], &[0, 3]].contains(&&*said), "{said:?}");
        for (stored, ended) in stored.iter().zip([true, false, true, true]) {
            assert_eq!(matches!(backend.lookup(stored.position).await.unwrap(), Lookup::Ended(_)), ended);
        }
    });
}

#[test]
fn what_was_decided_is_made_true_by_the_next_owner_where_this_one_is_refused() {
    each(|backend| async move {
        let (partition, stored) = messages(&backend, 1).await;
        let to = stored[0].envelope.as_ref().unwrap().to.clone();
        let old = take(&backend, partition).await;
        let new = take(&backend, partition).await;
        let (answers, said) = say(&backend, old, vec![write(&stored[0], 0)]).await;
        assert_eq!(answers, [Err(Refused::Stale)]);
        let loaded = backend.open(new, vec![to]).await.unwrap().remove(0);
        let ended = matches!(backend.lookup(stored[0].position).await.unwrap(), Lookup::Ended(_));
        let decided = said == [0];
        assert!(decided || said.is_empty(), "{said:?}");
        assert_eq!(
            (loaded.rev == 1, ended, loaded.finished == [(stored[0].position, Home::Mailbox)]),
            (decided, decided, decided)
        );
        // Under the new lease a late write of the old one decides nothing.
        let (partition, stored) = messages(&backend, 2).await;
        let late = stored.last().unwrap();
        let mut parked = commit(&late.envelope.as_ref().unwrap().to.to_string());
        parked.parked.push((late.position, late.home));
        let newest = take(&backend, partition).await;
        assert_eq!(backend.commit(newest, vec![parked].into()).await, [Ok(())]);
        let from = loaded.rev;
        let (answers, said) = say(&backend, new, vec![write(late, from)]).await;
        assert_eq!((answers, said), (vec![Err(Refused::Stale)], Vec::new()));
        assert!(backend.audit().await.unwrap().balanced);
    });
}
