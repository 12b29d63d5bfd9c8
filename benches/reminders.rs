//! What a million reminders cost: to make, to keep, and when they are due; against as many plain timers.
//! `cargo bench --bench reminders [-- NAME]`: `embedded`, `redis`; `REMINDERS` says how many (a million, and
//! 200,000 on servers). Redis is one of its own; MongoDB is the one that `GREENROOM_TEST_MONGO` names.
//! A benchmark that cannot measure stops with the reason: an `unwrap` is that.

#[path = "load/mod.rs"]
mod load;
#[allow(dead_code, reason = "the benchmark of the cluster store uses the rest")]
#[path = "load/servers.rs"]
mod servers;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fred::{interfaces::ClientLike, types::InfoKind};
use greenroom::{
    backend::{
        Backend, Ledger,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
    },
    clock::Clock,
    prelude::*,
    runtime::{node::Start, settings::Settings},
    testing::jump,
};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reminders that one command makes.
const EACH: u64 = 500;
const DAY: i64 = 86_400_000;
/// The time over which they are due, in milliseconds.
const SPREAD: u64 = 60_000;

#[derive(Clone, Copy, Serialize, Deserialize, PartialEq, Debug)]
enum As {
    Timers,
    Reminders,
}

#[derive(Serialize, Deserialize)]
struct Make {
    from: u64,
    at: i64,
    how: As,
}

struct Maker;

impl Actor for Maker {
    const KIND: &'static str = "maker";
    type State = ();
    type Command = Make;
    type Reply = ();

    async fn handle(&self, _: &mut (), make: Make, cx: &Context<Self>) -> Result<()> {
        for n in make.from..make.from + EACH {
            let (at, customer) = (make.at + (n * 7919 % SPREAD) as i64, Customer::at(format!("customer-{n}")));
            match make.how {
                As::Timers => drop(cx.tell(customer, Remind::Renewal).at(at)),
                As::Reminders => {
                    cx.schedule(format!("renewal/customer-{n}"), Schedule::once(at), customer, Remind::Renewal);
                }
            }
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
enum Remind {
    Renewal,
}

#[derive(Clone, Default)]
struct Customer(Arc<AtomicU64>);

impl Actor for Customer {
    const KIND: &'static str = "customer";
    type State = ();
    type Command = Remind;
    type Reply = ();

    async fn handle(&self, _: &mut (), _: Remind, _: &Context<Self>) -> Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Where things are kept, to be weighed.
enum Scale {
    File(PathBuf),
    Servers { redis: servers::Redis, database: String },
}

impl Scale {
    /// Bytes in the file; or in Redis' memory and in MongoDB, uncompressed and on its disk.
    async fn bytes(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::File(file) => {
                let db = rusqlite::Connection::open(file).unwrap();
                let number = |pragma: &str| db.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
                let pages = number("PRAGMA page_count") - number("PRAGMA freelist_count");
                vec![("SQLite", pages * number("PRAGMA page_size"))]
            }
            Self::Servers { redis, database } => {
                let info: String = redis.client().await.info(Some(InfoKind::Memory)).await.unwrap();
                let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
                let client = mongodb::Client::with_uri_str(&servers::mongo()).await.unwrap();
                client.database("admin").run_command(mongodb::bson::doc! { "fsync": 1 }).await.unwrap();
                let stats = client.database(database).run_command(mongodb::bson::doc! { "dbStats": 1 }).await.unwrap();
                let of = |name: &str| stats.get_f64(name).unwrap() as u64;
                let plain = of("dataSize") + of("indexSize");
                vec![("Redis", used.trim().parse().unwrap()), ("MongoDB", plain), ("MongoDB's disk", of("totalSize"))]
            }
        }
    }

    /// Processor time, in seconds: of this process, and of the servers.
    async fn cpu(&self) -> (f64, f64) {
        let me = servers::cpu(std::process::id());
        match self {
            Self::File(_) => (me, 0.0),
            Self::Servers { redis, .. } => (me, redis.cpu() + servers::cpu(servers::mongo_pid().await)),
        }
    }
}

fn resident() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
}

async fn ledger(store: &Arc<dyn Backend>) -> Ledger {
    store.ledgers().await.unwrap().into_iter().fold(Ledger::default(), Ledger::plus)
}

async fn wait(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn measure(name: &str, store: Arc<dyn Backend>, scale: &Scale, count: u64, how: As) {
    let rung = Customer::default();
    let settings = Settings { idle: Duration::from_secs(2), ..Settings::default() };
    let features = vec![Feature::new(Maker).actor(rung.clone())];
    let node = Node::start(Start { backend: store.clone(), features, settings, clock: Clock::System }).await.unwrap();
    let per = |cost: f64| cost * 1e6 / count as f64;
    let (weight, memory, accepted, (cpu, servers)) =
        (scale.bytes().await, resident(), ledger(&store).await.accepted, scale.cpu().await);
    let (begun, at) = (Instant::now(), node.clock().now() + DAY);
    for from in (0..count).step_by(EACH as usize) {
        node.tell(Maker::at(format!("maker-{}", from / EACH % 64)), Make { from, at, how }).await.unwrap();
        // As many on their way as keep it busy, not all: this measures making, not waiting.
        while ledger(&store).await.in_flight() - i64::try_from(from).unwrap() > 20_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let made = match how {
        As::Timers => count / EACH + count,
        As::Reminders => count / EACH + 2 * count,
    };
    wait(async || ledger(&store).await.accepted - accepted >= made).await;
    wait(async || ledger(&store).await.in_flight() == count as i64).await;
    let (took, (cpu_now, servers_now)) = (begun.elapsed().as_secs_f64(), scale.cpu().await);
    println!(
        "{name}: {count} {how:?} made, {:.0}/s; {:.0} µs of CPU each here, {:.0} µs in servers",
        count as f64 / took,
        per(cpu_now - cpu),
        per(servers_now - servers)
    );
    // What is idle leaves memory.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let kept: Vec<String> = scale
        .bytes()
        .await
        .into_iter()
        .zip(weight)
        .map(|((what, now), (_, before))| {
            format!("{:.0} B in {what}", (now.saturating_sub(before)) as f64 / count as f64)
        })
        .collect();
    let here = (resident() - memory) as f64 / count as f64;
    println!("{name}: {how:?} waiting: each {}, {here:.0} B in this process", kept.join(", "));

    let (accepted, (cpu, servers), begun) = (ledger(&store).await.accepted, scale.cpu().await, Instant::now());
    jump(DAY);
    wait(async || rung.0.load(Ordering::Relaxed) >= count && ledger(&store).await.in_flight() == 0).await;
    let (took, (cpu_now, servers_now)) = (begun.elapsed().as_secs_f64(), scale.cpu().await);
    let messages = (ledger(&store).await.accepted - accepted) as f64 / count as f64;
    assert_eq!(rung.0.load(Ordering::Relaxed), count, "each once");
    println!(
        "{name}: {how:?} due: all told in {took:.1} s ({:.0}/s, due within {} s); {:.0} µs of CPU each here, {:.0} µs in servers; {messages:.2} more messages each",
        count as f64 / took,
        SPREAD / 1000,
        per(cpu_now - cpu),
        per(servers_now - servers)
    );
    node.drain(Duration::from_secs(5)).await;
}

fn count(default: u64) -> u64 {
    let count = std::env::var("REMINDERS").map_or(default, |text| text.parse().unwrap());
    count / EACH * EACH
}

fn main() {
    actix::System::new().block_on(async {
        for how in [As::Timers, As::Reminders] {
            if load::wanted("embedded") {
                let dir = tempfile::tempdir().unwrap();
                let store: Arc<dyn Backend> = Arc::new(
                    Embedded::open(dir.path(), Options { mailbox_bytes: 8 << 30, ..Options::default() }).unwrap(),
                );
                let scale = Scale::File(dir.path().join("greenroom.db"));
                measure("embedded", store, &scale, count(1_000_000), how).await;
            }
            if load::wanted("redis") && std::env::var_os("GREENROOM_TEST_MONGO").is_some() {
                let redis = servers::Redis::start("everysec");
                let options = servers::options(&redis, Accept::Memory, &format!("reminders-{how:?}").to_lowercase());
                let database = options.database.clone();
                let store: Arc<dyn Backend> = Arc::new(Cluster::open(options).unwrap());
                measure("redis", store, &Scale::Servers { redis, database }, count(200_000), how).await;
            }
        }
    });
}
