//! Slots of a Redis Cluster that move while their partitions are used: every call waits or is carried out
//! once, at one of the two servers.

use std::time::Duration;

use greenroom::backend::{Acquired, Leases};

use super::store::{Appender, joined, mailbox, options, run};
use crate::support::{
    eventually,
    servers::{Redis, RedisCluster, RedisSetup},
};

/// A slot, and the two servers that it moves between.
struct Move<'a> {
    slot: String,
    from: &'a Redis,
    to: &'a Redis,
}

impl<'a> Move<'a> {
    /// Of the slot of a partition.
    fn of(cluster: &'a RedisCluster, prefix: &str, partition: u16) -> Self {
        let key = format!("{prefix}:{{{partition:04}}}");
        let from = cluster.owner(&key);
        let slot = cluster.nodes()[0].cli(&["cluster", "keyslot", &key]);
        Self { slot, from: &cluster.nodes()[from], to: &cluster.nodes()[(from + 1) % 3] }
    }

    /// As `redis-cli --cluster reshard` begins.
    fn begin(&self) {
        let [from, to] = [self.from, self.to].map(|node| node.cli(&["cluster", "myid"]));
        self.to.cli(&["cluster", "setslot", &self.slot, "importing", &from]);
        self.from.cli(&["cluster", "setslot", &self.slot, "migrating", &to]);
    }

    fn call_off(&self) {
        self.from.cli(&["cluster", "setslot", &self.slot, "stable"]);
        self.to.cli(&["cluster", "setslot", &self.slot, "stable"]);
    }

    fn keys(&self, at: &Redis) -> usize {
        at.cli(&["cluster", "countkeysinslot", &self.slot]).parse().unwrap()
    }

    /// Moves one key; whether there was one.
    fn one(&self) -> bool {
        let found = self.from.cli(&["cluster", "getkeysinslot", &self.slot, "1"]);
        let Some(key) = found.lines().next().filter(|key| !key.is_empty()) else { return false };
        let port = self.to.port().to_string();
        self.from.cli(&["migrate", "127.0.0.1", &port, "", "0", "5000", "keys", key]);
        true
    }

    fn finish(&self) {
        let to = self.to.cli(&["cluster", "myid"]);
        self.to.cli(&["cluster", "setslot", &self.slot, "node", &to]);
        self.from.cli(&["cluster", "setslot", &self.slot, "node", &to]);
    }
}

/// Two partitions on the same server, on two writing connections.
fn beside(cluster: &RedisCluster, prefix: &str) -> [u16; 2] {
    let owner = |partition: u16| cluster.owner(&format!("{prefix}:{{{partition:04}}}"));
    let other = (1..16).step_by(2).find(|partition| owner(*partition) == owner(0));
    [0, other.expect("of eight, one is on that server")]
}

#[test]
fn a_slot_that_was_to_move_and_did_not_ends_no_connection() {
    let cluster = RedisCluster::start();
    let options = options(&cluster.url());
    run(async {
        let store = joined(&options).await;
        let [partition, other] = beside(&cluster, &options.prefix);
        let moving = Move::of(&cluster, &options.prefix, partition);
        let (there, beside) = (Appender::start(&store, partition), Appender::start(&store, other));
        there.more(50).await;
        moving.begin();
        let before = there.so_far().numbers.len();
        beside.more(200).await;
        // One may have been on its way.
        assert!(there.so_far().numbers.len() <= before + 1, "a call ran in a slot that is being moved");
        moving.call_off();
        there.more(50).await;
        beside.more(50).await;
        for log in [there.stop().await, beside.stop().await] {
            assert_eq!(log.errors, Vec::<String>::new());
        }
    });
}

#[test]
fn a_slot_moves_under_calls_and_nothing_is_split_or_lost() {
    moves(&RedisSetup::redis());
}

#[test]
fn a_slot_of_valkey_moves_too() {
    moves(&RedisSetup::valkey());
}

fn moves(setup: &RedisSetup) {
    let cluster = RedisCluster::of(&setup.clone().set("cluster-node-timeout", "5000"));
    let options = options(&cluster.url());
    run(async {
        let store = joined(&options).await;
        let partition = 0;
        let moving = Move::of(&cluster, &options.prefix, partition);
        let epoch = async || match store.acquire(partition).await.unwrap() {
            Acquired::Taken(lease) => lease.epoch,
            held => panic!("{held:?}"),
        };
        let first = epoch().await;
        let appender = Appender::start(&store, partition);
        appender.more(50).await;
        moving.begin();
        tokio::time::sleep(Duration::from_millis(200)).await;
        // With calls waiting all the time, on either side nothing changes but by what moves.
        let (keys, mut moved) = (moving.keys(moving.from), 0);
        assert!(keys >= 2, "{keys} keys");
        while moving.one() {
            moved += 1;
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!((moving.keys(moving.from), moving.keys(moving.to)), (keys - moved, moved));
        }
        assert_eq!(moved, keys);
        moving.finish();
        appender.more(50).await;
        let log = appender.stop().await;
        assert_eq!(log.errors, Vec::<String>::new());
        // Each number once, at one server, and the lease of before counts.
        assert_eq!(mailbox(&store, partition).await, log.numbers);
        assert!(log.numbers.windows(2).all(|two| two[0] < two[1]), "a number was given twice");
        assert!(epoch().await > first);
        eventually("the slot to be empty where it was", || (moving.keys(moving.from) == 0).then_some(()));
    });
}
