//! A Redis that has lost what it had acknowledged: what is accepted afterwards is still handled exactly once,
//! and nothing is taken for something else (B1-B5 of the cluster store's faults), with two nodes on real servers.

use fred::prelude::*;
use greenroom::backend::{Lookup, Refused};

use super::{
    protocol::{KEY, Pair, pair, receivers},
    *,
};

/// A client of its own, to do to the server what a loss does.
async fn client(pair: &Pair) -> Client {
    let url = pair.options.redis.replacen(',', "?node=", 1).replace(',', "&node=");
    let client = Builder::from_config(Config::from_url(&url).unwrap()).build().unwrap();
    client.init().await.unwrap();
    client
}

/// The server has lost all of a partition.
async fn lose(pair: &Pair, partition: u16) {
    let client = client(pair).await;
    for key in ["head", "mail:0", "mails", "out:0", "outs", "sent", "seen", "deferred", "results:0", "ended"] {
        let _: i64 = client.del(format!("{}:{{{partition:04}}}:{key}", pair.options.prefix)).await.unwrap();
    }
}

#[test]
fn what_is_accepted_after_a_loss_has_a_number_of_its_own_and_what_was_lost_is_said_to_be() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        let second = append(&pair.old, message(KEY, "2")).await;
        lose(&pair, partition).await;
        let third = append(&pair.old, message(KEY, "3")).await;
        assert!(third.number() > second.number() + 1, "{third} was reserved after {second}");
        for lost in [pair.message.position, second] {
            let found = pair.new.lookup(lost).await.unwrap();
            assert!(matches!(found, Lookup::Lost), "{lost}: {found:?}");
        }
        assert!(matches!(pair.new.lookup(third).await.unwrap(), Lookup::Waiting(_)));
        let never = Position::new(partition, third.number() + 1);
        assert!(matches!(pair.new.lookup(never).await.unwrap(), Lookup::Unknown));
        let audit = pair.new.audit().await.unwrap();
        assert_eq!((audit.accepted, audit.lost, audit.in_flight, audit.balanced), (3, 2, 1, true), "{audit:?}");
    });
}

#[test]
fn the_owner_learns_of_a_loss_and_the_next_one_reads_on_and_writes_every_state() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "one")].into()).await, [Ok(())]);
        lose(&pair, partition).await;
        // What it reads from the server it asks for under its lease, and learns that this is over; so does a commit.
        let read = pair.old.reread(partition, start(partition), pair.message.position, 10).await;
        assert!(read.unwrap_err().is_terminal());
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(1, "two")].into()).await, [Err(Refused::Stale)]);
        let third = append(&pair.new, message(KEY, "3")).await;
        let lease = take(&pair.old, partition).await;
        assert!(lease.epoch > pair.lease.epoch, "{lease:?} is after {:?}", pair.lease);
        let read = pair.old.read(partition, start(partition), 10).await.unwrap().remove(0);
        assert_eq!(read.position, third);
        let loaded = pair.old.open(lease, vec![address(KEY)]).await.unwrap().remove(0);
        assert!(!loaded.finished.contains(&(third, Home::Mailbox)), "it is no message of an earlier commit");
        let mut effect = pair.effect(loaded.rev, "three");
        effect.done = vec![done(&read)];
        assert_eq!(pair.old.commit(lease, vec![effect].into()).await, [Ok(())]);
        assert!(matches!(pair.new.lookup(third).await.unwrap(), Lookup::Ended(_)));
    });
}

#[test]
fn sequences_begin_anew_after_a_loss_so_that_nothing_new_passes_for_known() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        assert_eq!(pair.old.commit(pair.lease, vec![pair.effect(0, "one")].into()).await, [Ok(())]);
        pair.once("one").await;
        lose(&pair, partition).await;
        append(&pair.old, message(KEY, "2")).await;
        let lease = take(&pair.old, partition).await;
        let read = pair.old.read(partition, start(partition), 10).await.unwrap().remove(0);
        pair.old.open(lease, vec![address(KEY)]).await.unwrap();
        let mut effect = pair.effect(1, "two");
        effect.done = vec![done(&read)];
        assert_eq!(pair.old.commit(lease, vec![effect].into()).await, [Ok(())]);
        for to in receivers(partition) {
            let at = address(&to).partition(4);
            while pair.new.read(at, start(at), 10).await.unwrap().len() < 2 {
                tokio::task::yield_now().await;
            }
        }
        assert!(pair.new.audit().await.unwrap().balanced);
    });
}

#[test]
fn a_number_that_is_given_twice_tells_no_two_nodes_apart_but_their_tokens_do() {
    pair(|pair| async move {
        let (client, nodes) = (client(&pair).await, format!("{}:{{nodes}}", pair.options.prefix));
        let other = || async {
            let node = greenroom::backend::cluster::Cluster::open(pair.options.clone()).unwrap();
            let node: Arc<dyn Backend> = Arc::new(node);
            node.join().await.unwrap();
            node.beat().await.unwrap();
            node
        };
        // The count is set back, and the members are still there: theirs are not given again.
        let _: Value = client.set(format!("{nodes}:next"), 0, None, None, false).await.unwrap();
        let third = other().await;
        assert!(third.me() != pair.old.me() && third.me() != pair.new.me());
        // The members are gone too: the old node's number is given again, and it learns that it is nobody.
        let _: Value = client.set(format!("{nodes}:next"), pair.old.me() - 1, None, None, false).await.unwrap();
        let _: Value = client.hdel(format!("{nodes}:members"), pair.old.me().to_string()).await.unwrap();
        let twin = other().await;
        assert_eq!(twin.me(), pair.old.me());
        assert!(pair.old.beat().await.unwrap_err().is_terminal());
        let lease = take(&twin, pair.lease.partition).await;
        assert!(lease.epoch > pair.lease.epoch && !lease.clean);
        let mut parks = commit(KEY);
        parks.parked.push((pair.message.position, Home::Mailbox));
        assert_eq!(pair.old.commit(pair.lease, vec![parks].into()).await, [Err(Refused::Stale)]);
    });
}
