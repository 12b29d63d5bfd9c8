//! The same load on one, two and three nodes.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    served::Served,
    servers::{Redis, cpu, mongo_pid},
    wrk::Load,
};

const CONNECTIONS: usize = 192;
const SECONDS: u64 = 5;

/// Prints requests/s and the processor time of each.
pub(crate) async fn nodes() {
    let mongo = mongo_pid().await;
    println!("| round | nodes | load | requests/s | p99 ms | µs of processor a request: nodes + Redis + MongoDB |");
    println!("|---|---|---|---|---|---|");
    for round in 1..=3 {
        for count in 1..=3 {
            let redis = Redis::start("always");
            let nodes: Vec<Served> = (0..count).map(|_| Served::start(&redis, &format!("{round}{count}"))).collect();
            // Until the partitions are shared out.
            tokio::time::sleep(Duration::from_secs(4)).await;
            for (name, path) in [("stateless", "/jobs/{key}"), ("counter", "/counters/{key}")] {
                let connections = CONNECTIONS / count;
                let load = Load { path, keys: 1_000, wait: true, connections, seconds: SECONDS };
                let all = |seconds| {
                    join_all(
                        nodes.iter().map(move |node| async move { Load { seconds, ..load }.on(&node.url()).await }),
                    )
                };
                all(1).await;
                let used = || [nodes.iter().map(|node| cpu(node.pid())).sum(), redis.cpu(), cpu(mongo)];
                let before: [f64; 3] = used();
                let done = all(SECONDS).await;
                let rate: f64 = done.iter().map(|[rate, ..]| rate).sum();
                let p99 = done.iter().map(|[.., p99]| *p99).fold(0.0, f64::max);
                let after = used();
                let each = |n: usize| (after[n] - before[n]) * 1e6 / (rate * SECONDS as f64);
                println!(
                    "| {round} | {count} | {name}, wait | {rate:.0} | {p99:.1} | {:.0} + {:.0} + {:.0} |",
                    each(0),
                    each(1),
                    each(2)
                );
            }
        }
    }
}
