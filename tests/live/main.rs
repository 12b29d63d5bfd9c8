//! Live connections at the size of a product: thousands of WebSockets on three nodes behind a load balancer,
//! under pushes, while each node is restarted, and while one is killed. Every client must be given exactly
//! the numbers that were accepted, in order, once.
//!
//! ```text
//! program   the server under test: tapes that write numbers down and push them
//! pushers   write numbers over HTTP, one after the other on each tape, and know which were accepted
//! crowd     the clients: they follow a tape, come back when told or cut off, and check what they get
//! stage     the servers and nodes      times   percentiles
//! size      how many there are, and the open files that they need
//! ```
//!
//! `LIVE_CONNECTIONS` is how many, 5,000 if not said: they need 5,000 open files here, twice as many in the
//! load balancer, and half a minute. `cargo bench --bench live` measures what they cost.

#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod pushers;
mod size;
mod stage;
mod times;

use std::time::Instant;

use crowd::{Crowd, Left};
use pushers::Pushers;
use size::{more_files, number};
use stage::{NODES, Stage};
use support::{Client, Haproxy, eventually};

/// Clients of one tape.
const SHARE: usize = 20;

#[test]
fn rolling_restarts_and_a_kill_lose_no_event() {
    more_files();
    let connections = number("LIVE_CONNECTIONS", 5_000);
    let tapes = connections.div_ceil(SHARE);
    let mut stage = Stage::start();
    let haproxy = Haproxy::long_lived(&stage.addresses());
    haproxy.wait_up(&[true; NODES]);

    let began = Instant::now();
    let pushed = pushers::nothing(tapes);
    let mut crowd = Crowd::start(&haproxy.url(), connections, &pushed);
    crowd.wait_connected();
    println!("{connections} connections on {tapes} channels within {:?}", began.elapsed());
    let listed = stage.node(0).client().get("/admin/connections").expect(200).json();
    let open = |node: &serde_json::Value| node["websockets"].as_u64().expect("a count") as usize;
    let nodes = listed["nodes"].as_array().expect("nodes");
    println!("of them on each node: {:?}", nodes.iter().map(open).collect::<Vec<_>>());
    assert_eq!(nodes.iter().map(open).sum::<usize>(), connections, "{listed}");
    let pushers = Pushers::start(&haproxy.url(), &pushed, number("LIVE_RATE", 100));
    eventually("some pushes", || (pushers.accepted() > 300).then_some(()));
    println!("latency before anything happens: {}", crowd.take_latency());

    for slot in 0..NODES {
        let asked = Instant::now();
        stage.terminate(slot);
        let ended = asked.elapsed();
        stage.start_again(slot);
        haproxy.wait_up(&[true; NODES]);
        crowd.wait_connected();
        println!("node {slot} ended within {ended:?}, and all were back after {:?}", asked.elapsed());
    }
    println!("back after a restart: {}", crowd.back(Left::Moved));
    println!("  of that, told to wait: {}", crowd.waits());
    println!("latency meanwhile: {}", crowd.take_latency());
    let cut = crowd.back(Left::Cut);
    assert!(cut.is_empty(), "an orderly restart cuts nobody off: {cut}");

    let before = pushers.accepted();
    stage.kill(1);
    stage.start_again(1);
    haproxy.wait_up(&[true; NODES]);
    crowd.wait_connected();
    eventually("some pushes after the kill", || (pushers.accepted() > before + 200).then_some(()));
    println!("back after a kill: {}", crowd.back(Left::Cut));

    let accepted = pushers.stop();
    let total: u64 = accepted.iter().sum();
    crowd.wait_seen(&accepted);
    println!("latency at last: {}", crowd.take_latency());
    let (given, violations) = crowd.stop();
    println!(
        "{total} pushes, {given} events given to {connections} clients, refused connections in between: {}",
        crowd.refused()
    );
    assert!(violations.is_empty(), "{} of:\n{}", violations.len(), violations[..violations.len().min(20)].join("\n"));
    let every: u64 = (0..connections).map(|client| accepted[client % tapes]).sum();
    assert_eq!(given, every, "each client was given each number of its tape");
    // The list that is independent of all that: what the actors themselves wrote down.
    let client = Client::new(haproxy.url());
    for (tape, accepted) in accepted.iter().enumerate() {
        let written: Vec<u64> =
            serde_json::from_str(&client.get(&format!("/tapes/{tape}")).expect(200).text).expect("numbers");
        assert!(written.iter().copied().eq(1..=*accepted), "tape {tape}: {written:?}, accepted {accepted}");
    }
    stage.has_no_loss();
}
