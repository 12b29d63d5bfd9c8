//! What durable execution costs: a step against the raw commit that writes it, a question and its answer,
//! and commands that wait. `cargo bench --bench durable [-- NAME]`; on the embedded store, and on Redis
//! and MongoDB where `GREENROOM_TEST_MONGO` names one (`tests/servers start && . .parts/run/env`).
//! A benchmark that cannot measure stops with the reason: an `unwrap` is that.

#[path = "load/mod.rs"]
mod load;
#[allow(dead_code, reason = "the benchmark of the cluster store uses the rest")]
#[path = "load/servers.rs"]
mod servers;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use greenroom::{
    Actor, Context, Feature, Node, Result, Waits,
    backend::{
        Acquired, Backend, Commit, Done, Home, JournalWrite, Lease, Outcome,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
    },
    envelope::Position,
    runtime::{node::Start, outside::SignalId, settings::Settings},
};
use serde::{Deserialize, Serialize};

use load::{drained, envelope, wanted};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STEPS: u32 = 5;
/// Workflows that run at once.
const AT_ONCE: u64 = 200;

#[derive(Clone, Serialize, Deserialize)]
enum Do {
    Steps,
    Ask,
    Wait,
}

#[derive(Default, Clone)]
struct Flow {
    /// How long each answer took, in microseconds.
    waits: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Flow {
    const KIND: &'static str = "flow";
    type State = ();
    type Command = Do;
    type Reply = u64;

    fn waits(command: &Do) -> Waits {
        if matches!(command, Do::Wait) { Waits::Shared } else { Waits::Alone }
    }

    async fn handle(&self, _: &mut (), command: Do, cx: &Context<Self>) -> Result<u64> {
        match command {
            Do::Steps => {
                let mut sum = 0;
                for _ in 0..STEPS {
                    sum += cx.run("a step of the bench", |_| async { Ok(7u64) }).await?;
                }
                Ok(sum)
            }
            Do::Ask => {
                let begun = Instant::now();
                let answer = cx.ask(Desk::at(cx.key()), 1).await?;
                let took = begun.elapsed().as_micros() as u64;
                self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                Ok(answer)
            }
            Do::Wait => cx.signal("go").await,
        }
    }
}

struct Desk;

impl Actor for Desk {
    const KIND: &'static str = "desk";
    type State = ();
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, _: &mut (), number: u64, _: &Context<Self>) -> Result<u64> {
        Ok(number + 1)
    }
}

async fn start(backend: Arc<dyn Backend>, flow: &Flow) -> Node {
    let features = vec![Feature::new(flow.clone()).actor(Desk)];
    let clock = greenroom::clock::Clock::System;
    Node::start(Start { backend, features, settings: Settings::default(), clock }).await.unwrap()
}

/// Workflows a second: so many at once, each asked for when the one before has ended.
async fn ours(backend: Arc<dyn Backend>, count: u64) -> f64 {
    let node = start(backend, &Flow::default()).await;
    let run = async |count: u64| {
        let begun = Instant::now();
        join_all((0..AT_ONCE).map(|key| {
            let node = node.clone();
            async move {
                for _ in 0..count / AT_ONCE {
                    node.ask(Flow::at(key.to_string()), Do::Steps).await.unwrap();
                }
            }
        }))
        .await;
        count as f64 / begun.elapsed().as_secs_f64()
    };
    run(AT_ONCE).await;
    let rate = run(count).await;
    node.drain(Duration::from_secs(5)).await;
    rate
}

/// The same writes as groups without anything around them: 200 messages are appended, each step is one
/// commit of one entry, all 200 in one group for each partition, and the last commit ends them.
async fn raw(backend: Arc<dyn Backend>, count: u64) -> f64 {
    let mut leases = Vec::new();
    for partition in 0..backend.partitions() {
        match backend.acquire(partition).await.unwrap() {
            Acquired::Taken(lease) => leases.push(lease),
            Acquired::Held(node) => panic!("node {node} holds partition {partition}"),
        }
    }
    // What the entry of such a step is.
    let entry = br#"{"Ran":{"op":0,"name":"a step of the bench","outcome":{"Ok":7},"attempts":1,"began":1767225600000,"at":1767225600000}}"#;
    let begun = Instant::now();
    for _ in 0..count / AT_ONCE {
        let batch: Vec<_> = (0..AT_ONCE).map(|key| envelope("flow", key, true)).collect();
        let addresses: Vec<_> = batch.iter().map(|append| append.envelope.to.clone()).collect();
        let sizes: Vec<usize> =
            batch.iter().map(|append| serde_json::to_vec(&append.envelope).unwrap().len()).collect();
        let positions: Vec<Position> =
            backend.append(batch).await.into_iter().map(|appended| appended.unwrap().position()).collect();
        for step in 0..=STEPS {
            let groups = leases.iter().map(|lease: &Lease| {
                let mut group = Vec::new();
                for ((address, position), size) in addresses.iter().zip(&positions).zip(&sizes) {
                    if position.partition() != lease.partition {
                        continue;
                    }
                    let mut commit = Commit::of(address.clone(), 1_767_225_600_000);
                    if step < STEPS {
                        let entries = vec![entry.to_vec()];
                        commit.journals.push(JournalWrite { position: *position, entries, own: true, wake: false });
                    } else {
                        commit.done.push(Done {
                            position: *position,
                            home: Home::Mailbox,
                            outcome: Outcome::Completed(serde_json::value::RawValue::from_string("35".into()).unwrap()),
                            size: *size,
                            attempts: 1,
                            keep: true,
                            journal: true,
                        });
                    }
                    group.push(commit);
                }
                backend.commit(*lease, Arc::new(group))
            });
            for answers in join_all(groups).await {
                answers.into_iter().for_each(|answer| answer.unwrap());
            }
        }
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// A question and its answer, one after the other, 100 a second: p50 and p99 in µs.
async fn ask(backend: Arc<dyn Backend>) -> (u64, u64) {
    let flow = Flow::default();
    let node = start(backend, &flow).await;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for n in 0..600 {
        tick.tick().await;
        node.ask(Flow::at((n % 50).to_string()), Do::Ask).await.unwrap();
    }
    node.drain(Duration::from_secs(5)).await;
    let mut waits = std::mem::take(&mut *flow.waits.lock().unwrap()).split_off(100);
    waits.sort_unstable();
    let at = |part: f64| waits[(waits.len() as f64 * part) as usize];
    (at(0.5), at(0.99))
}

/// Resident memory of this process, in bytes.
fn resident() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
}

/// Commands that wait for a signal, each of its own actor: what each weighs once it has left memory, how
/// long a node takes to have them all again, and how long to end them all.
async fn waiting(backend: Arc<dyn Backend>, name: &str, count: u64) {
    let settings = Settings { idle: Duration::from_secs(2), linger: Duration::from_millis(200), ..Settings::default() };
    let begin = async |backend: Arc<dyn Backend>| {
        let features = vec![Feature::new(Flow::default()).actor(Desk)];
        let clock = greenroom::clock::Clock::System;
        Node::start(Start { backend, features, settings: settings.clone(), clock }).await.unwrap()
    };
    let node = begin(backend.clone()).await;
    let wait = async |from: u64, count: u64| {
        let mut requests = Vec::new();
        for key in from..from + count {
            requests.push(node.tell(Flow::at(key.to_string()), Do::Wait).await.unwrap());
        }
        // All have left memory when the last has, and their actors too.
        tokio::time::sleep(Duration::from_secs(6)).await;
        requests
    };
    // What the store and the allocator keep is there before.
    let mut requests = wait(0, count).await;
    let before = resident();
    requests.extend(wait(count, count).await);
    let each = (resident() - before) as f64 / count as f64;
    node.drain(Duration::from_secs(5)).await;
    let begun = Instant::now();
    let node = begin(backend.clone()).await;
    let opened = begun.elapsed();
    let begun = Instant::now();
    for request in &requests {
        let id = SignalId { request: *request, name: "go".into() };
        let value = serde_json::value::RawValue::from_string("7".into()).unwrap();
        node.signal(&id, value, None).await.unwrap();
    }
    let signalled = begun.elapsed();
    drained(&backend).await;
    println!(
        "waiting on {name}: {each:.0} bytes in memory for each of {count}; {} found again {:.0} ms after a start; signalled one by one in {:.1} s, all ended {:.1} s after the first signal",
        requests.len(),
        opened.as_secs_f64() * 1e3,
        signalled.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    node.drain(Duration::from_secs(5)).await;
}

fn file(dir: &Path, name: &str) -> Arc<dyn Backend> {
    let options = Options { mailbox_bytes: 4 << 30, ..Options::default() };
    Arc::new(Embedded::open(&dir.join(name), options).unwrap())
}

fn cluster(redis: &servers::Redis, accept: Accept, name: &str) -> Arc<dyn Backend> {
    Arc::new(Cluster::open(servers::options(redis, accept, name)).unwrap())
}

async fn all(name: &str, open: impl Fn(&str) -> Arc<dyn Backend>) {
    if wanted("steps") {
        for round in 1..=3 {
            let raw = raw(open(&format!("raw{round}")), 4_000).await;
            let ours = ours(open(&format!("ours{round}")), 4_000).await;
            println!(
                "steps {round} on {name}: workflows of {STEPS} steps: raw group commits {raw:.0}/s; ours {ours:.0}/s ({:.0} %)",
                100.0 * ours / raw
            );
        }
    }
    if wanted("ask") {
        for round in 1..=3 {
            let (p50, p99) = ask(open(&format!("ask{round}"))).await;
            println!("ask {round} on {name}: question → answer p50 {p50} µs, p99 {p99} µs");
        }
    }
    if wanted("waiting") {
        waiting(open("waiting"), name, 10_000).await;
    }
}

fn main() {
    actix::System::new().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        all("the embedded store", |name| file(dir.path(), name)).await;
        if std::env::var_os("GREENROOM_TEST_MONGO").is_some() {
            for (fsync, accept) in [("everysec", Accept::Memory), ("always", Accept::Fsync)] {
                let redis = servers::Redis::start(fsync);
                all(&format!("Redis ({fsync})"), |name| cluster(&redis, accept, &format!("{name}-{fsync}"))).await;
            }
        }
    });
}
