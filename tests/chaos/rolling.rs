//! A rolling restart: three nodes behind a load balancer are ended and started anew one at a time,
//! under load, and every request is accepted (G8).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    NODES, alone,
    servers::Servers,
    support::{Client, Haproxy, Load, PATIENCE, Server, eventually, server::Setup, servers::port},
};

/// Longer than the load balancer takes to see that a node is not ready: it asks every 200 ms.
const NOTICE: &str = "1s";
/// Requests a second.
const RATE: u32 = 80;
/// How often each node is restarted.
const ROUNDS: usize = 3;

#[test]
fn a_rolling_restart_fails_no_request() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let servers = Servers::start(crate::SEED, crate::scenario::PLAIN);
    let setups: Vec<Setup> = (0..NODES)
        .map(|_| {
            let address = format!("127.0.0.1:{}", port::free());
            servers.setup(dir.path()).set("drain", "notice", NOTICE).listen(&address)
        })
        .collect();
    let mut nodes: Vec<Option<Server>> = setups.iter().map(|setup| Some(setup.start())).collect();
    let addresses: Vec<String> =
        nodes.iter().flatten().map(|node| node.base().trim_start_matches("http://").to_owned()).collect();
    let haproxy = Haproxy::start(&addresses);
    haproxy.wait_up(&[true; NODES]);

    // Every account of a few hundred, so that all partitions are told something all the time.
    let url = format!("{}/accounts/r[0-9]{{2}}/commands", haproxy.url());
    let body = json!({ "command": { "note": { "mark": "rolling" } } });
    let running = Load::post(url, &body).random_url().rate(RATE).start_lasting(PATIENCE);
    let began = Instant::now();
    let mut ended: Vec<Duration> = Vec::new();
    for slot in (0..ROUNDS).flat_map(|_| 0..NODES) {
        served_by_all(&haproxy);
        let asked = Instant::now();
        let status = nodes[slot].take().expect("it runs").terminate();
        assert!(status.success(), "node {slot} was asked to end and ended with {status}");
        ended.push(asked.elapsed());
        let mut up = [true; NODES];
        up[slot] = false;
        haproxy.wait_up(&up);
        nodes[slot] = Some(setups[slot].start());
        haproxy.wait_up(&[true; NODES]);
    }
    served_by_all(&haproxy);
    let outcome = running.stop();
    println!("restarted within {:?} (each ended within {ended:?}): {outcome:?}", began.elapsed());
    outcome.expect_all(202);

    let client = Client::new(haproxy.url());
    let direct = Client::new(format!("http://{}", addresses[0]));
    let ledger = eventually("everything to end", || {
        let ledger = direct.get("/admin/ledger").expect(200).json();
        (ledger["in_flight"] == 0).then_some(ledger)
    });
    let noted: usize = (0..100)
        .map(|number| client.get(&format!("/accounts/r{number:02}")).expect(200).json())
        .map(|account| account["tape"].as_array().expect("a tape").len())
        .sum();
    assert_eq!((&ledger["completed"], &ledger["accepted"]), (&json!(noted), &json!(noted)), "{ledger}");
    // What was under way when the load ended was accepted and is not in oha's count.
    assert!(noted as u64 >= outcome.total(), "{noted} of {}", outcome.total());
}

/// Waits until each node was given some requests anew.
fn served_by_all(haproxy: &Haproxy) {
    let before = haproxy.backends();
    eventually("requests on every node", || {
        let more =
            haproxy.backends().into_iter().zip(&before).all(|(now, before)| now.requests >= before.requests + 20);
        more.then_some(())
    });
}
