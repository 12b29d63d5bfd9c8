//! Commits of several tenants on their way to a store that partitions share.

use std::sync::atomic::Ordering;

use super::{town::Town, *};
use crate::backend::Tenant;

const PARTITIONS: u16 = 64;
/// As many as there may be on their way.
const HANG: usize = 16;

/// A key of each partition.
fn keys() -> Vec<String> {
    let partition = |key: &String| Counter::at(key.as_str()).address().unwrap().partition(PARTITIONS);
    let of = |wanted: u16| (0..).map(|n| format!("key{n}")).find(|key| partition(key) == wanted).unwrap();
    (0..PARTITIONS).map(of).collect()
}

#[test]
fn commits_that_hang_do_not_keep_those_of_other_partitions_waiting() {
    play(async || {
        let (town, hold) = (Town::new(PARTITIONS, Duration::from_secs(60)), Arc::<Hold>::default());
        let settings = Settings { arbiters: 0, ..Settings::default() };
        let resident = town.start_held(Counter::open(), settings, Some(hold.clone())).await;
        let (node, keys) = (&resident.node, keys());
        for key in &keys {
            assert_eq!(node.ask(Counter::at(key.as_str()), 1).await.unwrap(), 1);
        }
        ["ann", "bob"].into_iter().for_each(|tenant| node.shared.company.saw(Tenant::of(tenant)));
        hold.lost.store(HANG, Ordering::SeqCst);
        for key in &keys[..HANG] {
            node.tell(Counter::at(key.as_str()), 1).await.unwrap();
        }
        until("they hang", async || hold.lost.load(Ordering::SeqCst) == 0).await;
        for key in &keys[HANG..] {
            let answer = tokio::time::timeout(Duration::from_secs(20), node.ask(Counter::at(key.as_str()), 1));
            assert_eq!(answer.await.expect("nothing passes any more").unwrap(), 2);
        }
        resident.kill();
    });
}
