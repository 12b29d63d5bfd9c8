//! What messages cost Redis that wait, that have ended, and whose results are kept.

use std::{sync::Arc, time::Duration};

use fred::{prelude::*, types::InfoKind};
use greenroom::backend::{
    Backend, Scope,
    cluster::{Accept, Cluster, Options},
};

use crate::{
    load::{self, append, drained, envelope},
    servers::{Redis, options},
};

/// Bytes that Redis has in use.
async fn used(redis: &Redis) -> f64 {
    let client = redis.client().await;
    let info: String = client.info(Some(InfoKind::Memory)).await.unwrap();
    client.quit().await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

fn open(options: Options) -> Arc<dyn Backend> {
    Arc::new(Cluster::open(options).unwrap())
}

/// A backlog of which every twentieth message is of a paused kind, before and after the others have ended.
pub(crate) async fn waiting() {
    const MESSAGES: u64 = 100_000;
    let redis = Redis::start("everysec");
    let store = open(options(&redis, Accept::Memory, "memory"));
    store.pause(Scope::kind("account"), 1).await.unwrap();
    let before = used(&redis).await;
    for page in 0..MESSAGES / 100 {
        let one = |n: u64| envelope(if n.is_multiple_of(20) { "account" } else { "job" }, page * 100 + n, false);
        for appended in store.append((0..100).map(one).collect()).await {
            appended.unwrap();
        }
    }
    let bytes: u64 = store.ledgers().await.unwrap().iter().map(|ledger| ledger.bytes).sum();
    let all = used(&redis).await - before;
    let node = load::start(store.clone()).await;
    let paused = MESSAGES / 20;
    while store.ledgers().await.unwrap().iter().map(|ledger| ledger.in_flight()).sum::<i64>() > paused as i64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = used(&redis).await - before;
    println!(
        "waiting: {:.0} bytes in Redis a message of {} bytes; when 95 % have ended and 5 % are paused, {:.1} % of that is \
         in use, {:.0} bytes a paused message",
        all / MESSAGES as f64,
        bytes / MESSAGES,
        100.0 * left / all,
        left / paused as f64
    );
    node.drain(Duration::from_secs(5)).await;
}

/// A million results are kept, and a node has nothing to do.
pub(crate) async fn kept() {
    const RESULTS: u64 = 1_000_000;
    const SECONDS: f64 = 30.0;
    let redis = Redis::start("everysec");
    let options = Options { partitions: 64, ..options(&redis, Accept::Memory, "kept") };
    let store = open(options);
    let node = load::start(store.clone()).await;
    let before = used(&redis).await;
    append(&store, "job", RESULTS, 1_000, true).await;
    drained(&store).await;
    let bytes = (used(&redis).await - before) / RESULTS as f64;
    // What was appended is synced and forgotten by the file system.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = redis.cpu();
    tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
    println!(
        "kept: {bytes:.0} bytes in Redis a result; idle with {RESULTS} of them in 64 partitions: {:.2} % of a core in Redis",
        (redis.cpu() - cpu) / SECONDS * 100.0
    );
    node.drain(Duration::from_secs(5)).await;
}
