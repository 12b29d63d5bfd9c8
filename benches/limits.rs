//! What limits cost: tokens a second from each store against the raw cycle it is built on, and a request
//! over HTTP with a rule against one without, in one run.
//! `tests/servers start && . .parts/run/env; cargo bench --bench limits [-- NAME]`; every line says what it
//! is compared with. A benchmark that cannot measure stops with the reason: an `unwrap` is that.

#[allow(dead_code, reason = "the other benchmarks use the rest")]
#[path = "load/servers.rs"]
mod servers;

use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fred::prelude::{Client, LuaInterface};
use futures_util::future::join_all;
use greenroom::{
    Feature, Limit,
    backend::{
        Backend,
        cluster::{Accept, Cluster},
        embedded::{Embedded, Options},
        limits::{Measure, Name, Rate, Take},
    },
    clock::Clock,
    gateway::{
        Gateway, Settings as Http,
        limits::{Rule, Who},
    },
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};
use servers::{Redis, options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether this part was asked for: all are when none is named.
fn wanted(name: &str) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str()))
}

/// A rate that never refuses here.
fn plenty() -> Measure {
    Measure::Rate(Rate::new(10_000_000, Duration::from_secs(1), 10_000_000).unwrap())
}

fn wish(bucket: u64) -> Take {
    Take { name: Name::of(&[&bucket.to_string()]), of: plenty(), cost: 1, ahead: 0, patience: 0 }
}

/// How often a second `once` is done by so many at the same time.
async fn rate<F: Future<Output = ()>>(at_once: u64, each: u64, once: impl Fn(u64) -> F) -> f64 {
    let began = Instant::now();
    let tasks = (0..at_once).map(|task| {
        let once = &once;
        async move {
            for n in 0..each {
                once(task * each + n).await;
            }
        }
    });
    join_all(tasks).await;
    (at_once * each) as f64 / began.elapsed().as_secs_f64()
}

async fn embedded() {
    let store: Arc<dyn Backend> = Arc::new(Embedded::in_memory(Options::default()).unwrap());
    let wishes: Vec<Take> = (0..1_000).map(wish).collect();
    let raw = Mutex::new(HashMap::<Name, u64>::new());
    for round in 1..=3 {
        let locked = rate(1, 1_000_000, async |n| {
            *raw.lock().unwrap().entry(wishes[(n % 1_000) as usize].name).or_default() += 1;
        })
        .await;
        let taken = rate(1, 1_000_000, async |n| {
            assert!(store.take_tokens(wishes[(n % 1_000) as usize], None).await.unwrap().allowed());
        })
        .await;
        println!(
            "embedded {round}: {:.2} M takes/s, one thread, 1,000 buckets; a locked map of counters {:.2} M/s ({:.1} times as many)",
            taken / 1e6,
            locked / 1e6,
            locked / taken
        );
    }
}

/// The usual script, as everybody has it: one bucket a call.
const GCRA: &str = "local now = redis.call('TIME'); now = now[1] * 1000000 + now[2]
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + tonumber(ARGV[1])
if tat - now > tonumber(ARGV[2]) then return {0, tat - now} end
redis.call('SET', KEYS[1], string.format('%d', tat), 'PX', 60000)
return {1, tat - now}";

async fn raw_call(client: &Client, sha: &str, key: u64) {
    let _: Vec<i64> = client.evalsha(sha, format!("raw:{key}"), vec!["1", "1000000"]).await.unwrap();
}

async fn cluster(fsync: &str, accept: Accept) {
    let redis = Redis::start(fsync);
    let client = redis.client().await;
    let sha: String = client.script_load(GCRA).await.unwrap();
    let node = start(Arc::new(Cluster::open(options(&redis, accept, "limits")).unwrap())).await;
    let store: Arc<dyn Backend> = Arc::new(Cluster::open(options(&redis, accept, "limits")).unwrap());
    let limits = node.limits();
    let refused = Limits { limits: limits.clone() };
    for at_once in [1, 64, 512] {
        let each = if at_once == 1 { 1_000 } else { 40_000 / at_once };
        let cpu = async |work: &dyn AsyncWork| {
            let (before, rate) = (redis.cpu(), work.run(at_once, each).await);
            (rate, (redis.cpu() - before) / (at_once * each) as f64 * 1e6)
        };
        let (raw, raw_cpu) = cpu(&Raw { client: &client, sha: &sha }).await;
        let (many, many_cpu) = cpu(&Many { store: &store }).await;
        let (hot, hot_cpu) = cpu(&Hot { limits: &limits.clone() }).await;
        println!(
            "cluster, {fsync}, {at_once} at once: one script a token {raw:.0}/s, {raw_cpu:.1} µs of Redis; 1,000 buckets {many:.0}/s ({:.1} times), {many_cpu:.1} µs; one busy bucket, with what is taken ahead {hot:.0}/s ({:.1} times), {hot_cpu:.2} µs",
            many / raw,
            hot / raw
        );
    }
    let none = rate(64, 20_000, async |_| refused.once().await).await;
    println!("cluster, {fsync}: of an empty bucket {none:.0} refusals/s, without asking Redis");
    node.drain(Duration::from_secs(5)).await;
}

/// Something measured, by so many at once.
trait AsyncWork {
    fn run<'a>(&'a self, at_once: u64, each: u64) -> std::pin::Pin<Box<dyn Future<Output = f64> + 'a>>;
}

struct Raw<'a> {
    client: &'a Client,
    sha: &'a str,
}

impl AsyncWork for Raw<'_> {
    fn run<'a>(&'a self, at_once: u64, each: u64) -> std::pin::Pin<Box<dyn Future<Output = f64> + 'a>> {
        Box::pin(rate(at_once, each, async |n| raw_call(self.client, self.sha, n % 1_000).await))
    }
}

struct Many<'a> {
    store: &'a Arc<dyn Backend>,
}

impl AsyncWork for Many<'_> {
    fn run<'a>(&'a self, at_once: u64, each: u64) -> std::pin::Pin<Box<dyn Future<Output = f64> + 'a>> {
        Box::pin(rate(at_once, each, async |n| {
            assert!(self.store.take_tokens(wish(n % 1_000), None).await.unwrap().allowed());
        }))
    }
}

struct Hot<'a> {
    limits: &'a greenroom::coordination::limit::Limits,
}

impl AsyncWork for Hot<'_> {
    fn run<'a>(&'a self, at_once: u64, each: u64) -> std::pin::Pin<Box<dyn Future<Output = f64> + 'a>> {
        Box::pin(rate(at_once, each * 20, async |_| {
            assert!(self.limits.try_take("plenty", 1).await.unwrap().allowed());
        }))
    }
}

struct Limits {
    limits: greenroom::coordination::limit::Limits,
}

impl Limits {
    async fn once(&self) {
        self.limits.try_take("scarce", 1).await.unwrap();
    }
}

async fn start(backend: Arc<dyn Backend>) -> Node {
    let second = Duration::from_secs(1);
    let feature = Feature::default()
        .limit("plenty", Limit::rate(10_000_000, second))
        .limit("scarce", Limit::rate(1, Duration::from_secs(3600)));
    let settings = Settings { arbiters: 1, ..Settings::default() };
    Node::start(Start { backend, features: vec![feature], settings, clock: Clock::System }).await.unwrap()
}

/// Requests a second of the gateway's index page, by `wrk`.
async fn served(node: &Node, rules: Vec<Rule>) -> f64 {
    let mut http = Http { listen: "127.0.0.1:0".parse().unwrap(), workers: 1, ..Http::default() };
    http.limits.rules = rules;
    let gateway = Gateway::start(node.clone(), &[], http).unwrap();
    let command = format!("wrk -t1 -c64 -d3s http://{}/", gateway.address());
    let run = move || Command::new("sh").args(["-c", &command]).output();
    let output = actix_web::web::block(run).await.unwrap().unwrap();
    let [text, error] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(!text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate = rate.unwrap_or_else(|| panic!("wrk (a Debian package) said: {text}{error}")).trim().parse().unwrap();
    gateway.stop(false).await;
    rate
}

async fn http(store: &str, backend: Arc<dyn Backend>) {
    let rule = |name: String, paths: Vec<String>| Rule {
        name,
        who: Who::Ip,
        paths,
        methods: Vec::new(),
        limit: Limit::rate(10_000_000, Duration::from_secs(1)),
    };
    let node = start(backend).await;
    for round in 1..=3 {
        let without = served(&node, Vec::new()).await;
        let other = served(&node, vec![rule(format!("other{round}"), vec!["/other".into()])]).await;
        let with = served(&node, vec![rule(format!("all{round}"), Vec::new())]).await;
        println!(
            "http {round}, {store}: without a rule {without:.0}/s; with one of other paths {other:.0}/s ({:.0} %); with one that applies {with:.0}/s ({:.0} %, {:.1} µs more a request)",
            100.0 * other / without,
            100.0 * with / without,
            1e6 / with - 1e6 / without
        );
    }
    node.drain(Duration::from_secs(5)).await;
}

fn main() {
    actix::System::new().block_on(async {
        if wanted("embedded") {
            embedded().await;
        }
        for (fsync, accept) in [("everysec", Accept::Memory), ("always", Accept::Fsync)] {
            if wanted("cluster") {
                cluster(fsync, accept).await;
            }
        }
        if wanted("http") {
            http("embedded", Arc::new(Embedded::in_memory(Options::default()).unwrap())).await;
            let redis = Redis::start("everysec");
            let store = Cluster::open(options(&redis, Accept::Memory, "http")).unwrap();
            http("cluster", Arc::new(store)).await;
        }
    });
}
