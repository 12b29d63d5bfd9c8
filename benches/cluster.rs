//! What the engine costs on Redis and MongoDB, against the raw cycles through the same client
//! libraries, in one run. `cargo bench --bench cluster [-- NAME]`; starts a Redis of its own, and takes
//! MongoDB from `GREENROOM_TEST_MONGO` (`tests/servers start && . .parts/run/env`). What the peers need
//! is installed by `npm --prefix bench/peers install`. A benchmark that cannot measure stops with the
//! reason: an `unwrap` is that.

#[path = "load/mod.rs"]
mod load;

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use fred::prelude::*;
use greenroom::backend::{
    Backend,
    cluster::{Accept, Cluster, Options},
};
use mongodb::bson::{RawArrayBuf, rawdoc};

use load::{append, drained, envelope, wanted};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u16 = 16;

/// A Redis of our own, killed when dropped.
struct Redis {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start(fsync: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ours = std::path::Path::new(".parts/bin/redis-server");
        let program = if ours.exists() { std::path::absolute(ours).unwrap() } else { "redis-server".into() };
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", fsync])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Self { child, port, _dir: dir }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn client(&self) -> Client {
        let client = Builder::from_config(Config::from_url(&self.url()).unwrap()).build().unwrap();
        client.init().await.unwrap();
        client
    }

    /// Processor time it has used, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It is ours, and on its way out.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const RAW: &str = r"#!lua name=raw
redis.register_function('raw_append', function(keys, args)
  local last = tonumber(redis.call('HGET', keys[2], 'p') or '0')
  if tonumber(args[1]) <= last then return 0 end
  for i = 2, #args do redis.call('XADD', keys[1], '*', 'm', args[i]) end
  redis.call('HSET', keys[2], 'p', args[1])
  return #args - 1
end)";

/// The raw cycle: a function that appends 100 messages and checks a sequence, reading from an offset,
/// trimming what was read. One producer and one consumer for each of 16 streams.
async fn raw_cycle(redis: &Redis, messages: u64) -> Rate {
    let (writer, reader) = (redis.client().await, redis.client().await);
    let _: Value = writer.function_load(true, RAW).await.unwrap();
    let bytes = serde_json::to_vec(&envelope("job", 1, false).envelope).unwrap();
    let each = messages / u64::from(PARTITIONS) / 100;
    let (begun, cpu) = (Instant::now(), redis.cpu());
    let tasks = (0..PARTITIONS).flat_map(|p| {
        let (writer, reader, bytes) = (writer.clone(), reader.clone(), bytes.clone());
        let stream = format!("raw:{{{p}}}:s");
        let produce = tokio::spawn({
            let stream = stream.clone();
            async move {
                for n in 1..=each {
                    let mut args = vec![Value::from(n.to_string())];
                    args.extend((0..100).map(|_| Value::Bytes(bytes.clone().into())));
                    let keys = vec![stream.clone(), format!("raw:{{{p}}}:q")];
                    let _: Value = writer.fcall("raw_append", keys, args).await.unwrap();
                }
            }
        });
        let consume = tokio::spawn(async move {
            let (mut seen, mut last) = (0, "0".to_owned());
            while seen < each * 100 {
                let found: Value = reader.xrange(&stream, format!("({last}"), "+", Some(256)).await.unwrap();
                let Value::Array(found) = found else { panic!("{found:?}") };
                let Some(Value::Array(entry)) = found.last() else { continue };
                last = entry[0].as_string().unwrap();
                seen += found.len() as u64;
                let keep =
                    last.split_once('-').map(|(ms, n)| format!("{ms}-{}", n.parse::<u64>().unwrap() + 1)).unwrap();
                let _: Value = reader.xtrim(&stream, ("MINID", "=", keep)).await.unwrap();
            }
        });
        [produce, consume]
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    Rate { rate, redis: (redis.cpu() - cpu) / messages as f64 * 1e6 }
}

/// Raw group updates of documents like those of the stateful actor: 500 a command, two at once.
async fn raw_updates(updates: u64, keys: u64) -> f64 {
    let client = mongodb::Client::with_uri_str(&mongo()).await.unwrap();
    let db = client.database(&name("raw"));
    let begun = Instant::now();
    let tasks = (0..2u64).map(|half| {
        let db = db.clone();
        tokio::spawn(async move {
            let (mut revs, mut done) = (vec![0i64; keys as usize], 0);
            while done < updates / 2 {
                let mut batch = RawArrayBuf::new();
                for n in 0..500 {
                    let key = (half * keys / 2 + (done + n) % (keys / 2)) as usize;
                    let rev = revs[key];
                    revs[key] += 1;
                    batch.push(rawdoc! {
                        "q": { "_id": key.to_string(), "rev": rev },
                        "u": { "_id": key.to_string(), "rev": rev + 1, "state": { "total": rev, "note": "y".repeat(250) } },
                        "upsert": true,
                    });
                }
                let command = rawdoc! { "update": "account", "updates": batch, "ordered": false, "writeConcern": { "w": "majority", "j": true } };
                let answer = db.run_raw_command(command).await.unwrap();
                assert!(answer.get_array("writeErrors").is_err(), "{answer:?}");
                done += 500;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let rate = updates as f64 / begun.elapsed().as_secs_f64();
    db.drop().await.unwrap();
    rate
}

fn mongo() -> String {
    std::env::var("GREENROOM_TEST_MONGO").expect("GREENROOM_TEST_MONGO: tests/servers start && . .parts/run/env")
}

fn name(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

fn options(redis: &Redis, accept: Accept, what: &str) -> Options {
    Options {
        redis: redis.url(),
        mongo: mongo(),
        database: name(what),
        prefix: name(what),
        partitions: PARTITIONS,
        mailbox_bytes: 4 << 30,
        accept,
        lease: Duration::from_secs(3),
    }
}

/// A store of its own on these servers.
fn open(redis: &Redis, accept: Accept, what: &str) -> Arc<dyn Backend> {
    Arc::new(Cluster::open(options(redis, accept, what)).unwrap())
}

struct Rate {
    rate: f64,
    redis: f64,
}

/// Appends and processes at once: messages a second, and Redis's processor time for each, in µs.
async fn through(redis: &Redis, accept: Accept, kind: &str, messages: u64, keys: u64, request: bool) -> Rate {
    let store = open(redis, accept, &format!("{kind}{keys}{request}"));
    let node = load::start(store.clone()).await;
    append(&store, kind, 2_000, keys, request).await;
    drained(&store).await;
    let (begun, cpu) = (Instant::now(), redis.cpu());
    append(&store, kind, messages, keys, request).await;
    drained(&store).await;
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    let redis = (redis.cpu() - cpu) / messages as f64 * 1e6;
    node.drain(Duration::from_secs(5)).await;
    Rate { rate, redis }
}

/// BullMQ, enqueueing in bulk and processing at once, on the same Redis: jobs a second, best of three.
fn bullmq(redis: &Redis) -> Option<f64> {
    let output = Command::new("node").arg("bench/peers/bullmq.mjs").env("REDIS_URL", redis.url()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rates = text.lines().filter_map(|line| line.split(": ").nth(1)?.strip_suffix("/s")?.parse::<f64>().ok());
    let best = rates.fold(0.0, f64::max);
    if best == 0.0 {
        println!(
            "bullmq: not run; install it with `npm --prefix bench/peers install`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    (best > 0.0).then_some(best)
}

/// What a node costs that has nothing to do.
async fn idle() {
    let redis = Redis::start("everysec");
    let options = Options { partitions: 256, ..options(&redis, Accept::Memory, "idle") };
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options).unwrap());
    let node = load::start(backend).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let client = redis.client().await;
    let commands = async || -> f64 {
        let info: String = client.info(Some(fred::types::InfoKind::Stats)).await.unwrap();
        info.lines().find_map(|l| l.strip_prefix("total_commands_processed:")).unwrap().trim().parse().unwrap()
    };
    let own = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<f64> = stat.rsplit(") ").next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        (fields[10] + fields[11]) / 100.0
    };
    let (before, cpu, redis_cpu) = (commands().await, own(), redis.cpu());
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!(
        "idle node with 256 partitions: {:.0} Redis commands/s, {:.2} % of a core here, {:.2} % in Redis",
        (commands().await - before) / 20.0,
        (own() - cpu) / 20.0 * 100.0,
        (redis.cpu() - redis_cpu) / 20.0 * 100.0
    );
    node.drain(Duration::from_secs(5)).await;
}

fn main() {
    actix::System::new().block_on(async {
        for (fsync, accept) in [("everysec", Accept::Memory), ("always", Accept::Fsync)] {
            for round in 1..=3 {
                let redis = Redis::start(fsync);
                if wanted("stateless") {
                    let raw = raw_cycle(&redis, 320_000).await;
                    let told = through(&redis, accept, "job", 200_000, 1_000, false).await;
                    let kept = through(&redis, accept, "job", 100_000, 1_000, true).await;
                    println!(
                        "stateless {round}, {fsync}: raw {:.0}/s, Redis {:.1} µs a message; ours {:.0}/s ({:.0} %), Redis {:.1} µs; with results kept {:.0}/s ({:.0} %), Redis {:.1} µs",
                        raw.rate, raw.redis, told.rate, 100.0 * told.rate / raw.rate, told.redis, kept.rate, 100.0 * kept.rate / raw.rate, kept.redis
                    );
                }
                if wanted("bullmq")
                    && let Some(peer) = bullmq(&redis)
                {
                    let ours = through(&redis, accept, "job", 100_000, 1_001, false).await;
                    println!(
                        "bullmq {round}, {fsync}: BullMQ {peer:.0}/s; ours {:.0}/s ({:.1} times)",
                        ours.rate,
                        ours.rate / peer
                    );
                }
                if wanted("stateful") {
                    let raw = raw_updates(60_000, 1_000).await;
                    let many = through(&redis, accept, "account", 60_000, 1_000, true).await;
                    let hot = through(&redis, accept, "account", 20_000, 1, true).await;
                    println!(
                        "stateful {round}, {fsync}: raw MongoDB groups {raw:.0}/s; ours {:.0}/s ({:.0} %), Redis {:.1} µs a message; one hot key {:.0}/s",
                        many.rate, 100.0 * many.rate / raw, many.redis, hot.rate
                    );
                }
                if wanted("latency") {
                    let (p50, p99) = load::latency(open(&redis, accept, "latency")).await;
                    println!("latency at 500/s, {accept:?}: enqueue → handler p50 {p50} µs, p99 {p99} µs");
                }
            }
        }
        if wanted("idle") {
            idle().await;
        }
    });
}
