//! The peers, driven by the scripts of `bench/peers` (`npm --prefix bench/peers install`), in the same
//! run and on the same disk as ours.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    served::Served,
    servers::{Redis, cpu, mongo_pid},
    wrk::Load,
};

/// BullMQ, enqueueing in bulk and processing at once, on the same Redis: jobs a second, best of three.
pub(crate) fn bullmq(redis: &Redis) -> Option<f64> {
    let output = Command::new("node").arg("bench/peers/bullmq.mjs").env("REDIS_URL", redis.url()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rates = text.lines().filter_map(|line| line.split(": ").nth(1)?.strip_suffix("/s")?.parse::<f64>().ok());
    let best = rates.fold(0.0, f64::max);
    if best == 0.0 {
        println!("bullmq: not run: {}", String::from_utf8_lossy(&output.stderr));
    }
    (best > 0.0).then_some(best)
}

/// Restate and a process with its handlers; both end when this is dropped.
struct Restate {
    script: Child,
    url: String,
    pids: [u32; 2],
    _data: tempfile::TempDir,
}

impl Restate {
    /// `None` when it cannot be started, with the reason printed.
    fn start() -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let mut script = Command::new("node")
            .arg("bench/peers/restate.mjs")
            .env("DATA", data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let said =
            BufReader::new(script.stdout.take()?).lines().map_while(Result::ok).find(|l| l.starts_with("READY"))?;
        let mut words = said.split(' ').skip(1);
        let url = words.next()?.to_owned();
        let pids = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
        Some(Self { script, url, pids, _data: data })
    }
}

impl Drop for Restate {
    fn drop(&mut self) {
        // The end of its input is what it ends by.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// Name, path of theirs, path of ours, keys, whether the answer is the result, connections.
const ROWS: [(&str, &str, &str, u64, bool, usize); 9] = [
    ("stateless, result", "/job/run", "/jobs/{key}", 1_000, true, 1),
    ("stateless, result", "/job/run", "/jobs/{key}", 1_000, true, 64),
    ("stateless, result", "/job/run", "/jobs/{key}", 1_000, true, 256),
    ("counter, 1,000 keys, result", "/counter/{key}/add", "/counters/{key}", 1_000, true, 1),
    ("counter, 1,000 keys, result", "/counter/{key}/add", "/counters/{key}", 1_000, true, 64),
    ("counter, 1,000 keys, result", "/counter/{key}/add", "/counters/{key}", 1_000, true, 256),
    ("counter, one hot key, result", "/counter/{key}/add", "/counters/{key}", 1, true, 64),
    ("stateless, one-way", "/job/run/send", "/jobs/{key}", 1_000, false, 64),
    ("counter, one-way", "/counter/{key}/add/send", "/counters/{key}", 1_000, false, 256),
];
const SECONDS: u64 = 4;

/// What a row came to: requests/s, p50 and p99 in ms, processor time a request of each process in µs.
struct Row {
    load: [f64; 3],
    cpu: Vec<f64>,
}

async fn rows(base: &str, ours: bool, pids: &[u32]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (_, their_path, our_path, keys, wait, connections) in ROWS {
        let path = if ours { our_path } else { their_path };
        let load = Load { path, keys, wait, connections, seconds: SECONDS };
        if rows.is_empty() {
            Load { connections: 64, seconds: 2, ..load }.on(base).await;
        }
        let before: Vec<f64> = pids.iter().copied().map(cpu).collect();
        let load = load.on(base).await;
        let each = |(pid, before): (&u32, f64)| (cpu(*pid) - before) * 1e6 / (load[0] * SECONDS as f64);
        rows.push(Row { load, cpu: pids.iter().zip(before).map(each).collect() });
        // What was only accepted is handled meanwhile.
        tokio::time::sleep(Duration::from_secs(if wait { 0 } else { 4 })).await;
    }
    rows
}

/// Restate, and a node of ours on Redis with `appendfsync always` and MongoDB.
pub(crate) async fn restate() {
    let mongo = mongo_pid().await;
    println!(
        "| | connections | Restate/s | p50 / p99 ms | CPU µs: server + handlers | Greenroom/s | p50 / p99 ms | CPU µs: node + Redis + MongoDB | times |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for round in 1..=3 {
        let Some(restate) = Restate::start() else {
            println!("restate: not run; install it with `npm --prefix bench/peers install`");
            return;
        };
        let theirs = rows(&restate.url, false, &restate.pids).await;
        drop(restate);
        let redis = Redis::start("always");
        let node = Served::start(&redis, &format!("restate{round}"));
        let ours = rows(&node.url(), true, &[node.pid(), redis.pid(), mongo]).await;
        for ((row, theirs), ours) in ROWS.iter().zip(theirs).zip(ours) {
            let shown = |Row { load: [rate, p50, p99], cpu }: &Row| {
                let cpu: Vec<String> = cpu.iter().map(|cpu| format!("{cpu:.0}")).collect();
                format!("{rate:.0} | {p50:.1} / {p99:.1} | {}", cpu.join(" + "))
            };
            let times = ours.load[0] / theirs.load[0];
            println!("| {} | {} | {} | {} | {times:.1} |", row.0, row.5, shown(&theirs), shown(&ours));
        }
        println!("| round {round} | | | | | | | | |");
    }
}
