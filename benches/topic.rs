//! What topics cost: events to one and to three groups against plain tells to the same actors, catching up,
//! and bytes kept; and what a broadcast costs. `cargo bench --bench topic [-- NAME]`; on the embedded store,
//! and on Redis and MongoDB where `GREENROOM_TEST_MONGO` names one (`tests/servers start && .
//! .parts/run/env`). A benchmark that cannot measure stops with the reason: an `unwrap` is that.

#[path = "load/mod.rs"]
mod load;
#[allow(dead_code, reason = "the benchmark of the cluster store uses the rest")]
#[path = "load/servers.rs"]
mod servers;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use greenroom::{
    Actor, Context, Feature, Node, Result, Topic,
    backend::{
        Backend,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
    },
    runtime::{broadcast::Heard, node::Start, settings::Settings},
};
use serde::{Deserialize, Serialize};

use load::wanted;
use tokio::sync::Notify;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GROUPS: [&str; 3] = ["one", "two", "three"];
/// Events of one command, and keys that they are about.
const EACH: u64 = 100;
const KEYS: u64 = 1_000;

#[derive(Serialize, Deserialize, Clone)]
struct Event {
    n: u64,
    note: String,
}

const EVENTS: Topic<Event> = Topic::new("events").shards(4);

#[derive(Serialize, Deserialize, Clone, Copy)]
enum Do {
    /// Tells the actors of so many groups.
    Tell(usize),
    Publish,
}

struct Source;

impl Actor for Source {
    const KIND: &'static str = "source";
    type State = u64;
    type Command = Do;
    type Reply = ();

    async fn handle(&self, count: &mut u64, what: Do, cx: &Context<Self>) -> Result<()> {
        for _ in 0..EACH {
            *count += 1;
            let event = Event { n: *count, note: "x".repeat(100) };
            let key = (*count * 7 % KEYS).to_string();
            match what {
                Do::Publish => cx.publish(EVENTS, &key, &event),
                Do::Tell(groups) => {
                    for group in &GROUPS[..groups] {
                        cx.tell(Target::at(format!("{group}:{key}")), event.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

#[derive(Default, Clone)]
struct Target {
    got: Arc<AtomicU64>,
    arrived: Arc<Notify>,
}

impl Actor for Target {
    const KIND: &'static str = "target";
    type State = ();
    type Command = Event;
    type Reply = ();

    async fn handle(&self, _: &mut (), _: Event, _: &Context<Self>) -> Result<()> {
        self.got.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_one();
        Ok(())
    }
}

async fn start(backend: Arc<dyn Backend>, target: &Target, groups: usize) -> Node {
    let group = |feature: Feature, name: &'static str| {
        feature.subscribe(EVENTS, name, move |event, to| {
            to.tell(Target::at(format!("{name}:{}", event.key)), event.value.clone());
        })
    };
    let feature = Feature::new(Source).actor(target.clone()).topic(EVENTS);
    let features = vec![GROUPS[..groups].iter().fold(feature, |feature, name| group(feature, name))];
    let clock = greenroom::clock::Clock::System;
    Node::start(Start { backend, features, settings: Settings::default(), clock }).await.unwrap()
}

/// Waits for the actors to have so many; how long that took, in seconds.
async fn arrive(target: &Target, count: u64) -> f64 {
    let begun = Instant::now();
    while target.got.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed().as_secs_f64()
}

/// Has eight sources do so many commands; events a second until all groups have them.
async fn rate(node: &Node, target: &Target, what: Do, commands: u64, groups: u64) -> f64 {
    target.got.store(0, Ordering::SeqCst);
    let begun = Instant::now();
    let told = (0..commands).map(|n| node.tell(Source::at((n % 8).to_string()), what));
    for told in join_all(told).await {
        told.unwrap();
    }
    arrive(target, commands * EACH * groups).await;
    (commands * EACH) as f64 / begun.elapsed().as_secs_f64()
}

async fn publish(open: &impl Fn(&str) -> Arc<dyn Backend>, name: &str, commands: u64) {
    for groups in [1, 3] {
        for round in 1..=3 {
            let target = Target::default();
            let node = start(open(&format!("publish{groups}{round}")), &target, groups).await;
            for what in [Do::Tell(groups), Do::Publish] {
                rate(&node, &target, what, 16, groups as u64).await;
            }
            let told = rate(&node, &target, Do::Tell(groups), commands, groups as u64).await;
            let published = rate(&node, &target, Do::Publish, commands, groups as u64).await;
            println!(
                "publish {round} on {name}, {groups} group(s): told {told:.0} events/s; published {published:.0} events/s ({:.0} %)",
                100.0 * published / told
            );
            node.drain(Duration::from_secs(10)).await;
        }
    }
}

/// One event after the other: from the handler that tells or publishes to the actor that gets it, in µs.
async fn latency(open: &impl Fn(&str) -> Arc<dyn Backend>, name: &str) {
    let target = Target::default();
    let node = start(open("latency"), &target, 1).await;
    let mut medians = Vec::new();
    for publishes in [false, true, false, true] {
        let mut waits = Vec::new();
        for n in 0..300_u64 {
            target.got.store(0, Ordering::SeqCst);
            let (event, key) = (Event { n, note: "x".repeat(100) }, (n % KEYS).to_string());
            let begun = Instant::now();
            match publishes {
                true => drop(node.publish(EVENTS, &key, &event).await.unwrap()),
                false => drop(node.tell(Target::at(format!("one:{key}")), event).await.unwrap()),
            }
            while target.got.load(Ordering::SeqCst) == 0 {
                target.arrived.notified().await;
            }
            waits.push(begun.elapsed().as_micros() as u64);
        }
        waits.sort_unstable();
        medians.push(waits[waits.len() / 2]);
    }
    println!(
        "latency on {name}, one at a time: told p50 {} µs, published p50 {} µs ({:.1} times)",
        medians[2],
        medians[3],
        medians[3] as f64 / medians[2] as f64
    );
    node.drain(Duration::from_secs(10)).await;
}

/// A new group gets what is old; and what is kept of an event.
async fn behind(open: &impl Fn(&str) -> Arc<dyn Backend>, name: &str, commands: u64) {
    let (backend, target) = (open("behind"), Target::default());
    let node = start(backend.clone(), &target, 1).await;
    let live = rate(&node, &target, Do::Publish, commands, 1).await;
    let topic = node.topic("events").await.unwrap().unwrap();
    let event = serde_json::to_string(&Event { n: 1_000, note: "x".repeat(100) }).unwrap().len();
    println!(
        "kept on {name}: {:.1} bytes an event of {event} bytes of JSON, with its key and time",
        topic.bytes as f64 / topic.kept as f64
    );
    node.drain(Duration::from_secs(10)).await;
    target.got.store(0, Ordering::SeqCst);
    let node = start(backend, &target, 2).await;
    let took = arrive(&target, commands * EACH).await;
    let rate = (commands * EACH) as f64 / took;
    println!(
        "behind on {name}: a new group gets {rate:.0} old events/s ({:.0} % of {live:.0} new ones/s)",
        100.0 * rate / live
    );
    node.drain(Duration::from_secs(10)).await;
}

/// What is said on one node and heard on three.
async fn broadcast(redis: &servers::Redis, name: &str) {
    const SAID: u64 = 20_000;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let options = servers::options(redis, Accept::Memory, "broadcast");
        nodes.push(start(Arc::new(Cluster::open(options).unwrap()), &Target::default(), 0).await);
    }
    // Until they know of each other.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut listeners: Vec<_> = nodes.iter().map(|node| node.listen::<u64>("numbers")).collect();
    let mut rounds = Vec::new();
    for _ in 0..300 {
        let begun = Instant::now();
        nodes[0].broadcast("numbers", &1).unwrap();
        for listener in &mut listeners {
            listener.next().await.unwrap();
        }
        rounds.push(begun.elapsed().as_micros() as u64);
    }
    rounds.sort_unstable();
    let hear = |listener: &mut greenroom::runtime::broadcast::Listener<u64>| {
        let mut taken = std::mem::replace(listener, nodes[0].listen("nobody"));
        actix::spawn(async move {
            let (mut heard, mut missed) = (0, 0);
            while heard + missed < SAID {
                match tokio::time::timeout(Duration::from_secs(2), taken.next()).await {
                    Ok(Ok(Heard::Value(_))) => heard += 1,
                    Ok(Ok(Heard::Missed(n))) => missed += n,
                    _ => break,
                }
            }
            (heard, missed)
        })
    };
    // As fast as it can be said, and a hundred every ten milliseconds.
    let mut results = Vec::new();
    for pause in [Duration::ZERO, Duration::from_millis(10)] {
        let mut listeners: Vec<_> = nodes.iter().map(|node| node.listen::<u64>("numbers")).collect();
        let ears: Vec<_> = listeners.iter_mut().map(hear).collect();
        let cpu = redis.cpu();
        for n in 0..SAID {
            nodes[0].broadcast("numbers", &n).unwrap();
            if n % 100 == 0 {
                tokio::time::sleep(pause).await;
            }
        }
        let heard: Vec<(u64, u64)> = join_all(ears).await.into_iter().map(Result::unwrap).collect();
        results.push((heard, (redis.cpu() - cpu) / SAID as f64 * 1e6));
    }
    println!(
        "broadcast on {name}, 3 nodes: heard everywhere p50 {} µs, p99 {} µs after it was said; of {SAID}, heard and told that they missed: in one burst {:?}, at 10,000/s {:?} with {:.1} µs of Redis each",
        rounds[150], rounds[297], results[0].0, results[1].0, results[1].1
    );
    for node in nodes {
        node.drain(Duration::from_secs(5)).await;
    }
}

fn file(dir: &Path, name: &str) -> Arc<dyn Backend> {
    let options = Options { mailbox_bytes: 4 << 30, ..Options::default() };
    Arc::new(Embedded::open(&dir.join(name), options).unwrap())
}

async fn all(name: &str, commands: u64, open: impl Fn(&str) -> Arc<dyn Backend>) {
    if wanted("publish") {
        publish(&open, name, commands).await;
    }
    if wanted("latency") {
        latency(&open, name).await;
    }
    if wanted("behind") {
        behind(&open, name, commands).await;
    }
}

fn main() {
    actix::System::new().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        all("the embedded store", 500, |name| file(dir.path(), name)).await;
        if std::env::var_os("GREENROOM_TEST_MONGO").is_none() {
            return;
        }
        for (fsync, accept) in [("everysec", Accept::Memory), ("always", Accept::Fsync)] {
            let redis = servers::Redis::start(fsync);
            let open = |name: &str| -> Arc<dyn Backend> {
                Arc::new(Cluster::open(servers::options(&redis, accept, &format!("{name}-{fsync}"))).unwrap())
            };
            all(&format!("Redis ({fsync})"), 300, open).await;
            if wanted("broadcast") {
                broadcast(&redis, &format!("Redis ({fsync})")).await;
            }
        }
    });
}
