//! What the engine costs on Redis and MongoDB, against the raw cycles through the same client
//! libraries, in one run. `cargo bench --bench cluster [-- NAME]`; starts a Redis of its own, and takes
//! MongoDB from `GREENROOM_TEST_MONGO` (`tests/servers start && . .parts/run/env`). What the peers need
//! is installed by `npm --prefix bench/peers install`. A benchmark that cannot measure stops with the
//! reason: an `unwrap` is that.

#[path = "load/conditional.rs"]
mod conditional;
#[path = "load/counter.rs"]
mod counter;
#[path = "load/mod.rs"]
mod load;
#[path = "load/memory.rs"]
mod memory;
#[path = "load/nodes.rs"]
mod nodes;
#[path = "load/peers.rs"]
mod peers;
#[path = "load/served.rs"]
mod served;
#[path = "load/servers.rs"]
mod servers;
#[path = "load/wrk.rs"]
mod wrk;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    prelude::*,
    types::{CustomCommand, InfoKind},
};
use greenroom::backend::{
    Backend,
    cluster::{Accept, Cluster, Options},
};
use mongodb::bson::{RawArrayBuf, rawdoc};

use load::{append, drained, envelope, wanted};
use servers::{PARTITIONS, Redis, mongo, name, options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

/// What a node costs that has nothing to do.
async fn idle() {
    let redis = Redis::start("everysec");
    let options = Options { partitions: 256, ..options(&redis, Accept::Memory, "idle") };
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options).unwrap());
    let node = load::start(backend).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let client = redis.client().await;
    let commands = async || -> f64 {
        let info: String = client.info(Some(InfoKind::Stats)).await.unwrap();
        info.lines().find_map(|l| l.strip_prefix("total_commands_processed:")).unwrap().trim().parse().unwrap()
    };
    let own = || servers::cpu(std::process::id());
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

/// Where Redis's time goes for a stateless message: what it counts of each command, those that our
/// functions call included, and what is left of the processor time it used.
async fn profile(fsync: &str, accept: Accept) {
    const MESSAGES: u64 = 200_000;
    let redis = Redis::start(fsync);
    let client = redis.client().await;
    let reset: Value =
        client.custom(CustomCommand::new_static("CONFIG", None, false), vec!["RESETSTAT"]).await.unwrap();
    assert_eq!(reset.as_str().as_deref(), Some("OK"));
    let told = through(&redis, accept, "job", MESSAGES, 1_000, false).await;
    let info: String = client.info(Some(InfoKind::CommandStats)).await.unwrap();
    let mut rows: Vec<(f64, f64, &str)> = info
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .map(|(command, numbers)| {
            let mut numbers = numbers.split(['=', ',']).filter_map(|n| n.parse::<f64>().ok());
            let (calls, us) = (numbers.next().unwrap(), numbers.next().unwrap());
            (us / MESSAGES as f64, calls / MESSAGES as f64, command)
        })
        .collect();
    rows.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!("profile, {fsync}: {:.0} messages/s, Redis {:.1} µs of processor a message", told.rate, told.redis);
    for (us, calls, command) in rows.iter().filter(|row| row.0 >= 0.02) {
        println!("  {command}: {us:.2} µs and {calls:.4} calls a message");
    }
}

fn main() {
    served::serve_if_told();
    actix::System::new().block_on(async {
        for (fsync, accept) in [("everysec", Accept::Memory), ("always", Accept::Fsync)] {
            for round in 1..=3 {
                let redis = Redis::start(fsync);
                if wanted("stateless") {
                    let raw = raw_cycle(&redis, 320_000).await;
                    let told = through(&redis, accept, "job", 200_000, 1_000, false).await;
                    let kept = through(&redis, accept, "job", 100_000, 1_000, true).await;
                    println!(
                        "stateless {round}, {fsync}: raw {:.0}/s, Redis {:.1} µs a message; ours {:.0}/s ({:.0} %), Redis {:.1} µs ({:.1} times raw); with results kept {:.0}/s ({:.0} %), Redis {:.1} µs",
                        raw.rate, raw.redis, told.rate, 100.0 * told.rate / raw.rate, told.redis, told.redis / raw.redis, kept.rate, 100.0 * kept.rate / raw.rate, kept.redis
                    );
                }
                if wanted("bullmq")
                    && let Some(peer) = peers::bullmq(&redis)
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
        if wanted("conditional") {
            let redis = Redis::start("everysec");
            let cost = conditional::conditional(open(&redis, Accept::Memory, "conditional")).await;
            println!(
                "conditional write of a state: MongoDB {:.1} µs of processor; with its condition in the query {:.1} µs ({:+.0} %)",
                cost.ours, cost.queried, 100.0 * (cost.ours / cost.queried - 1.0)
            );
        }
        if wanted("restate") {
            peers::restate().await;
        }
        if wanted("nodes") {
            nodes::nodes().await;
        }
        if wanted("profile") {
            profile("everysec", Accept::Memory).await;
            profile("always", Accept::Fsync).await;
        }
        if wanted("idle") {
            idle().await;
        }
        if wanted("memory") {
            memory::waiting().await;
            memory::kept().await;
        }
    });
}
