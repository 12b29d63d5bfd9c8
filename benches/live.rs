//! What live connections cost: memory of an open one, the time from a push to its client, and events given out in a
//! second. `cargo bench --bench live [-- NAME]`; `LIVE_CONNECTIONS` says how many connections there are. A benchmark
//! that cannot measure stops with the reason: an `expect` is that.

// The parts of the live test, of which this uses some.
#![allow(dead_code)]

#[path = "../tests/live/crowd.rs"]
mod crowd;
#[path = "load/mod.rs"]
mod load;
#[path = "../tests/live/pushers.rs"]
mod pushers;
#[path = "../tests/live/size.rs"]
mod size;
#[path = "../tests/live/stage.rs"]
mod stage;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/live/times.rs"]
mod times;

use std::time::{Duration, Instant};

use crowd::Crowd;
use load::wanted;
use pushers::Pushers;
use size::{more_files, number};
use stage::Stage;
use support::{Client, eventually};

fn main() {
    more_files();
    if wanted("memory") {
        memory_and_latency();
    }
    if wanted("fan") {
        fan_out();
    }
}

/// Memory of each connection, and the time from a push to its client where pusher, channel and client may be on
/// different nodes, or all on one.
fn memory_and_latency() {
    let connections = number("LIVE_CONNECTIONS", 5_000);
    for (nodes, share) in [(1, 1), (1, 10), (3, 10)] {
        let stage = Stage::of(nodes);
        let before: u64 = (0..nodes).map(|slot| stage.node(slot).memory()).sum();
        let pushed = pushers::nothing(connections / share);
        let began = Instant::now();
        let mut crowds: Vec<Crowd> = Vec::new();
        for slot in 0..nodes {
            crowds.push(Crowd::start(stage.node(slot).base(), connections / nodes, &pushed));
            crowds[slot].wait_connected();
        }
        let took = began.elapsed();
        let after: u64 = (0..nodes).map(|slot| stage.node(slot).memory()).sum();
        let each = (after - before) / connections as u64;
        println!(
            "{nodes} nodes, {connections} connections on {} channels: connected in {took:?}, {each} bytes each",
            connections / share
        );
        for rate in [20, 200] {
            let pushers = Pushers::start(stage.node(0).base(), &pushed, rate);
            let (from, begun) = (pushers.accepted(), Instant::now());
            while begun.elapsed() < Duration::from_secs(10) {
                eventually("some pushes", || (pushers.accepted() > from + 10).then_some(()));
                std::thread::park_timeout(Duration::from_millis(100));
            }
            let accepted = pushers.stop();
            crowds.iter().for_each(|crowd| {
                crowd.wait_seen(&pushed.iter().map(|tape| tape.lock().unwrap().len() as u64).collect::<Vec<_>>())
            });
            for (slot, crowd) in crowds.iter().enumerate() {
                println!("  {rate} pushes/s to node 0, clients on node {slot}: {}", crowd.take_latency());
            }
            drop(accepted);
        }
        crowds.iter_mut().for_each(|crowd| drop(crowd.stop()));
    }
}

/// How many events one node gives out in a second: one channel, many connections, pushes as fast as they are
/// accepted.
fn fan_out() {
    let connections = number("LIVE_CONNECTIONS", 1_000);
    let stage = Stage::of(1);
    let node = stage.node(0);
    let pushed = pushers::nothing(1);
    let mut crowd = Crowd::start(node.base(), connections, &pushed);
    crowd.wait_connected();
    let sent = |client: &Client| {
        let text = client.get("/metrics").expect(200).text;
        let line =
            text.lines().find(|line| line.starts_with("greenroom_live_sent_total ")).expect("a count").to_owned();
        line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).expect("a number")
    };
    let client = node.client();
    let pushers = Pushers::start(node.base(), &pushed, 400);
    eventually("some pushes", || (pushers.accepted() > 200).then_some(()));
    let (begun, from) = (Instant::now(), sent(&client));
    eventually("ten seconds", || (begun.elapsed() > Duration::from_secs(10)).then_some(()));
    let rate = (sent(&client) - from) / begun.elapsed().as_secs_f64();
    pushers.stop();
    println!("{connections} connections of one channel: {rate:.0} events given out in a second");
    crowd.stop();
}
