//! A shard of a Redis Cluster that stands still, with its connections open: the others are not held up.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use greenroom::backend::Mailbox;

use super::store::{PARTITIONS, append, joined, options, run};
use crate::support::servers::{RedisCluster, RedisSetup};

#[test]
fn a_shard_that_stands_still_holds_up_no_other() {
    // Without that, the others would refuse as soon as they miss it.
    let cluster = RedisCluster::of(&RedisSetup::redis().set("cluster-require-full-coverage", "no"));
    let options = options(&cluster.url());
    let owner = |partition: u16| cluster.owner(&format!("{}:{{{partition:04}}}", options.prefix));
    let (stalled, others): (Vec<u16>, Vec<u16>) = (0..PARTITIONS).partition(|partition| owner(*partition) == owner(0));
    run(async {
        let store = joined(&options).await;
        for partition in 0..PARTITIONS {
            append(&store, partition, 1).await.unwrap();
        }
        let node = &cluster.nodes()[owner(0)];
        node.pause();
        let began = Instant::now();
        let (mut slowest, mut count) = (Duration::ZERO, 0);
        let read = async |partition: u16| store.due(partition, 1, None, HashSet::new(), 10).await;
        // Longer than any timeout of a connection.
        while began.elapsed() < Duration::from_secs(12) {
            let waits = tokio::time::timeout(Duration::from_millis(1), read(stalled[0]));
            assert!(!matches!(waits.await, Ok(Ok(_))), "a server that stands still has answered");
            for partition in &others {
                let asked = Instant::now();
                read(*partition).await.unwrap();
                slowest = slowest.max(asked.elapsed());
                count += 1;
            }
        }
        assert!(slowest < Duration::from_secs(1), "a read of another shard took {slowest:?}");
        println!("{count} reads of other shards, the slowest took {slowest:?}");
        // What it was asked and did not answer is said to be so, in time.
        let asked = Instant::now();
        assert!(read(stalled[0]).await.is_err());
        assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
        node.resume();
        let asked = Instant::now();
        while append(&store, stalled[0], 2).await.is_err() {
            assert!(asked.elapsed() < Duration::from_secs(10), "it is not used again");
        }
    });
}
