//! A Redis that has lost what it had acknowledged: what is accepted afterwards is still handled exactly once,
//! and nothing is taken for something else (B1-B5 of the cluster store's faults), with two nodes on real servers.

use std::time::Duration;

use fred::prelude::*;
use greenroom::backend::{Lookup, Refused, Sent};

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

/// What a partition has; the second hashes are those of its second era.
const KEYS: [&str; 12] = [
    "head",
    "mail:0",
    "mail:8192",
    "mails",
    "out:0",
    "out:2048",
    "outs",
    "sent",
    "seen",
    "deferred",
    "results:0",
    "ended",
];

fn keys(pair: &Pair, partition: u16) -> impl Iterator<Item = String> {
    KEYS.into_iter().map(move |key| format!("{}:{{{partition:04}}}:{key}", pair.options.prefix))
}

/// The server has lost all of a partition.
async fn lose(pair: &Pair, partition: u16) {
    restore(pair, partition, vec![Value::Null; KEYS.len()]).await;
}

/// What the server has on its disk of a partition.
async fn dump(pair: &Pair, partition: u16) -> Vec<Value> {
    let client = client(pair).await;
    let mut dumps = Vec::new();
    for key in keys(pair, partition) {
        dumps.push(client.dump(key).await.unwrap());
    }
    dumps
}

/// The server comes back with that.
async fn restore(pair: &Pair, partition: u16, dumps: Vec<Value>) {
    let client = client(pair).await;
    for (key, dump) in keys(pair, partition).zip(dumps) {
        let _: i64 = client.del(&key).await.unwrap();
        if !dump.is_null() {
            let _: Value = client.restore(key, 0, dump, false, false, None, None).await.unwrap();
        }
    }
}

/// Waits until so many messages are known to be lost, and no more.
async fn lost(pair: &Pair, messages: u64) {
    let known = async {
        while pair.new.audit().await.unwrap().lost < messages {
            tokio::task::yield_now().await;
        }
    };
    let known = tokio::time::timeout(Duration::from_secs(10), known).await;
    let audit = pair.new.audit().await.unwrap();
    assert!(known.is_ok() && audit.lost == messages, "{messages}: {audit:?}");
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

#[test]
fn what_the_next_owner_knows_to_be_lost_is_counted_though_another_node_met_the_loss_first() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        lose(&pair, partition).await;
        append(&pair.new, message(KEY, "2")).await;
        assert_eq!(pair.new.audit().await.unwrap().lost, 0, "the node that met it knows of none");
        take(&pair.old, partition).await;
        lost(&pair, 1).await;
    });
}

#[test]
fn what_a_node_knows_to_be_lost_is_counted_though_another_one_was_faster_to_say_that_some_may_be() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        lose(&pair, partition).await;
        let mut both = Vec::new();
        for node in [&pair.new, &pair.old] {
            both.push(node.append(vec![message(KEY, "2")]));
        }
        futures_util::future::join_all(both).await;
        lost(&pair, 1).await;
    });
}

#[test]
fn what_a_receiver_has_lost_of_another_partitions_messages_is_counted_once() {
    pair(|pair| async move {
        let to = receivers(pair.lease.partition).remove(0);
        let at = address(&to).partition(4);
        let send = async |accepted| {
            let mut sends = commit(KEY);
            sends.outbox.push(Sent { envelope: envelope(&to, "7").into(), due: None });
            assert_eq!(pair.old.commit(pair.lease, vec![sends].into()).await, [Ok(())]);
            arrived(&pair.new, accepted).await;
        };
        send(2).await;
        let dumps = dump(&pair, at).await;
        send(3).await;
        send(4).await;
        append(&pair.old, message(&to, "8")).await;
        restore(&pair, at, dumps).await;
        // Two messages of another partition, and one from outside; the next one of that partition meets a gap.
        send(6).await;
        lost(&pair, 3).await;
        let found = pair.new.read(at, start(at), 10).await.unwrap();
        assert_eq!(found.len(), 2, "the first one, and the one after the gap");
    });
}

#[test]
fn what_came_from_another_partition_last_is_known_to_be_lost() {
    pair(|pair| async move {
        let to = receivers(pair.lease.partition).remove(0);
        let at = address(&to).partition(4);
        let mut sends = commit(KEY);
        sends.outbox.push(Sent { envelope: envelope(&to, "7").into(), due: None });
        append(&pair.new, message(&to, "1")).await;
        let dumps = dump(&pair, at).await;
        assert_eq!(pair.old.commit(pair.lease, vec![sends].into()).await, [Ok(())]);
        arrived(&pair.new, 3).await;
        restore(&pair, at, dumps).await;
        // It is told when the sender has the answer.
        tokio::time::timeout(Duration::from_secs(10), async {
            while pair.new.runnable(0).await.unwrap() > 2 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        append(&pair.old, message(&to, "2")).await;
        lost(&pair, 1).await;
    });
}

#[test]
fn where_an_era_is_lost_no_more_is_counted_than_was_given_in_it() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        for _ in 0..9 {
            append(&pair.old, message(KEY, "2")).await;
        }
        let client = client(&pair).await;
        let head = keys(&pair, partition).next().unwrap();
        let _: i64 = client.hset(&head, ("run", "another")).await.unwrap();
        let dumps = dump(&pair, partition).await;
        let later = append(&pair.old, message(KEY, "3")).await;
        assert!(later.number() > 1 << 20, "{later} is of the next era");
        restore(&pair, partition, dumps).await;
        append(&pair.old, message(KEY, "4")).await;
        lost(&pair, 1).await;
        // What it knows of that era is told again by the owner, and counted no more.
        take(&pair.old, partition).await;
        append(&pair.old, message(KEY, "5")).await;
        lost(&pair, 1).await;
    });
}

#[test]
fn where_an_era_is_lost_a_node_that_hears_of_it_later_tells_no_more_than_was_given_in_it() {
    pair(|pair| async move {
        let partition = pair.lease.partition;
        append(&pair.new, message(KEY, "2")).await;
        let client = client(&pair).await;
        let head = keys(&pair, partition).next().unwrap();
        let _: i64 = client.hset(&head, ("run", "another")).await.unwrap();
        let dumps = dump(&pair, partition).await;
        append(&pair.old, message(KEY, "3")).await;
        append(&pair.old, message(KEY, "4")).await;
        restore(&pair, partition, dumps).await;
        append(&pair.new, message(KEY, "5")).await;
        assert_eq!(pair.new.audit().await.unwrap().lost, 0, "the node that met it knows of none");
        append(&pair.old, message(KEY, "6")).await;
        lost(&pair, 2).await;
    });
}

#[test]
fn a_partition_whose_owner_has_a_number_that_was_never_given_is_taken() {
    pair(|pair| async move {
        let (client, nodes) = (client(&pair).await, format!("{}:{{nodes}}", pair.options.prefix));
        // All that was known of nodes is lost, and the owner is one of many that there were.
        let head = keys(&pair, pair.lease.partition).next().unwrap();
        let _: i64 = client.hset(&head, ("owner", 40)).await.unwrap();
        let _: i64 = client.hset(&head, ("token", 4)).await.unwrap();
        for key in ["next", "members"] {
            let _: i64 = client.del(format!("{nodes}:{key}")).await.unwrap();
        }
        for node in [&pair.old, &pair.new] {
            assert!(node.beat().await.unwrap_err().is_terminal());
            node.join().await.unwrap();
            node.beat().await.unwrap();
        }
        let held = pair.new.acquire(pair.lease.partition).await.unwrap();
        assert_eq!(held, Acquired::Held(40), "it may have come after the last beat");
        pair.new.beat().await.unwrap();
        let lease = take(&pair.new, pair.lease.partition).await;
        assert!(lease.epoch > pair.lease.epoch && !lease.clean);
        let third = greenroom::backend::cluster::Cluster::open(pair.options.clone()).unwrap();
        let third: Arc<dyn Backend> = Arc::new(third);
        third.join().await.unwrap();
        assert_eq!(third.me(), 41, "and its number is not given either");
    });
}
