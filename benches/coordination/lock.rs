//! Locks: taken and let go by one after the other, by many of different names, and by many of one name; against
//! what everybody builds from Redis, which has no queue, no token and no renewal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fred::prelude::*;
use futures_util::future::join_all;
use greenroom::{Feature, Node};

use super::{Open, load::Stateless, p50_p99, servers, start};

const AT_ONCE: u64 = 16;
const EACH: u64 = 200;

/// Lets go of what is still its own.
const RELEASE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// Who can take a lock and let it go.
trait Locks: Clone + 'static {
    type Held;
    async fn take(&self, name: &str) -> Self::Held;
    async fn free(&self, held: Self::Held);
}

impl Locks for Node {
    type Held = greenroom::coordination::lock::guard::Guard;

    async fn take(&self, name: &str) -> Self::Held {
        self.lock(name).await.unwrap()
    }

    async fn free(&self, held: Self::Held) {
        held.release().await.unwrap();
    }
}

#[derive(Clone)]
struct Raw {
    client: Client,
    sha: String,
    tokens: Arc<AtomicU64>,
}

impl Locks for Raw {
    type Held = (String, String);

    async fn take(&self, name: &str) -> (String, String) {
        let token = self.tokens.fetch_add(1, Ordering::SeqCst).to_string();
        loop {
            let (key, expires) = (format!("raw:{name}"), Some(Expiration::PX(15_000)));
            let set: Option<String> =
                self.client.set(&key, &token, expires, Some(SetOptions::NX), false).await.unwrap();
            if set.is_some() {
                return (key, token);
            }
            // As often as is usual among the impatient.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn free(&self, (key, token): (String, String)) {
        let _: i64 = self.client.evalsha(&self.sha, key, token).await.unwrap();
    }
}

/// So many take and free names, each its own or all the same one: times a second, and how long one waits, in µs.
async fn rate(locks: &impl Locks, at_once: u64, shared: bool) -> (f64, (u64, u64)) {
    let begun = Instant::now();
    let takers = (0..at_once).map(|taker| {
        let locks = locks.clone();
        actix::spawn(async move {
            let mut waits = Vec::new();
            for n in 0..EACH {
                let name = if shared { "one".to_owned() } else { format!("{taker}-{}", n % 10) };
                let asked = Instant::now();
                let held = locks.take(&name).await;
                waits.push(asked.elapsed().as_micros() as u64);
                locks.free(held).await;
            }
            waits
        })
    });
    let waits: Vec<u64> = join_all(takers).await.into_iter().flat_map(Result::unwrap).collect();
    (waits.len() as f64 / begun.elapsed().as_secs_f64(), p50_p99(waits))
}

async fn report(what: &str, locks: &impl Locks) {
    for (at_once, shared, how) in [
        (1, false, "one at a time"),
        (AT_ONCE, false, "16 at once, of their own"),
        (AT_ONCE, true, "16 at once, of one"),
    ] {
        rate(locks, at_once, shared).await;
        let (rate, (p50, p99)) = rate(locks, at_once, shared).await;
        println!("lock, {what}, {how}: {rate:.0} taken and freed a second; waited for p50 {p50} µs, p99 {p99} µs");
    }
}

pub(crate) async fn raw(store: &str, redis: &servers::Redis) {
    let client = redis.client().await;
    let sha: String = client.script_load(RELEASE).await.unwrap();
    report(&format!("SET NX on {store}"), &Raw { client, sha, tokens: Arc::default() }).await;
}

pub(crate) async fn lock(store: &str, open: Open<'_>) {
    let node = start(open("lock"), vec![Feature::new(Stateless)]).await;
    report(&format!("Node::lock on {store}"), &node).await;
    node.drain(Duration::from_secs(10)).await;
}
