//! Commits of several tenants on their way to a store that partitions share.

use std::sync::atomic::Ordering;

use super::{town::Town, *};
use crate::backend::Tenant;

const PARTITIONS: u16 = 64;
/// As many as there may be on their way.
const HANG: usize = 16;

/// A key of each partition.
fn keys(partitions: u16) -> Vec<String> {
    (0..partitions).map(|wanted| key_of("key", wanted, partitions)).collect()
}

fn key_of(name: &str, wanted: u16, partitions: u16) -> String {
    let partition = |key: &String| Counter::at(key.as_str()).address().unwrap().partition(partitions);
    (0..).map(|n| format!("{name}{n}")).find(|key| partition(key) == wanted).unwrap()
}

#[test]
fn commits_that_hang_do_not_keep_those_of_other_partitions_waiting() {
    play(async || {
        let (town, hold) = (Town::new(PARTITIONS, Duration::from_secs(60)), Arc::<Hold>::default());
        let settings = Settings { arbiters: 0, ..Settings::default() };
        let resident = town.start_held(Counter::open(), settings, Some(hold.clone())).await;
        let (node, keys) = (&resident.node, keys(PARTITIONS));
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

#[test]
fn a_blocked_thread_keeps_no_pass_and_gets_none() {
    // More than may be on their way, on either thread.
    const MANY: u16 = PARTITIONS * 2;
    let counter = Counter::open();
    let block = counter.block.clone();
    let blocked = block.lock().unwrap();
    play(async || {
        let (town, hold) = (Town::new(MANY, Duration::from_secs(60)), Arc::<Hold>::default());
        let settings = Settings { arbiters: 2, stall: Duration::from_secs(2), ..Settings::default() };
        let resident = town.start_held(counter.clone(), settings, Some(hold.clone())).await;
        let (node, keys) = (&resident.node, keys(MANY));
        for key in &keys {
            assert_eq!(node.ask(Counter::at(key.as_str()), 1).await.unwrap(), 1);
        }
        ["ann", "bob"].into_iter().for_each(|tenant| node.shared.company.saw(Tenant::of(tenant)));
        hold.lost.store(usize::from(MANY), Ordering::SeqCst);
        let told = keys.iter().step_by(2).map(|key| node.tell(Counter::at(key.as_str()), 1));
        assert!(futures_util::future::join_all(told).await.iter().all(Result::is_ok));
        let turnstile = node.shared.turnstile().unwrap();
        until("nothing passes any more", async || turnstile.is_full()).await;
        node.tell(Counter::at(key_of("other", 0, MANY)), BLOCK).await.unwrap();
        until("their thread is blocked", async || counter.begun().contains(&BLOCK)).await;
        hold.lost.store(0, Ordering::SeqCst);
        for key in keys.iter().skip(1).step_by(2) {
            let answer = tokio::time::timeout(Duration::from_secs(20), node.ask(Counter::at(key.as_str()), 1));
            assert_eq!(answer.await.expect("nothing passes any more").unwrap(), 2);
        }
        let dead = async || node.audit().await.unwrap().dead;
        until("what blocks is in the dead letters", async || dead().await == 1).await;
        resident.kill();
    });
    drop(blocked);
}
