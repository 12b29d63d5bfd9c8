//! haproxy spreads requests over its nodes and goes around a dead one; oha counts what came back.

use std::time::Duration;

use serde_json::json;

use crate::{
    support::{Client, Haproxy, Load, eventually},
    tcp::Node,
};

fn names(haproxy: &Haproxy, requests: usize) -> Vec<String> {
    let client = Client::new(haproxy.url());
    let mut names: Vec<String> = (0..requests).map(|_| client.get("/").expect(200).text).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn it_balances_and_survives_a_death() {
    let (one, mut two) = (Node::start("one"), Node::start("two"));
    let haproxy = Haproxy::start(&[one.address(), two.address()]);
    haproxy.wait_up(&[true, true]);
    assert_eq!(names(&haproxy, 10), ["one", "two"]);

    // At once, before any health check has seen it.
    two.die();
    assert_eq!(names(&haproxy, 10), ["one"]);
    haproxy.wait_up(&[true, false]);

    two.revive();
    haproxy.wait_up(&[true, true]);
    assert_eq!(names(&haproxy, 10), ["one", "two"]);
}

#[test]
fn a_node_that_is_not_ready_is_given_nothing() {
    let (one, two) = (Node::start("one"), Node::start("two"));
    let haproxy = Haproxy::keeping_connections(&[one.address(), two.address()]);
    haproxy.wait_up(&[true, true]);
    two.retire();
    haproxy.wait_up(&[true, false]);
    let before = haproxy.backends()[1].requests;
    assert_eq!(names(&haproxy, 10), ["one"]);
    assert_eq!(haproxy.backends()[1].requests, before);
}

#[test]
fn without_nodes_it_says_503() {
    let one = Node::start("one");
    one.die();
    let haproxy = Haproxy::start(&[one.address()]);
    haproxy.wait_up(&[false]);
    assert_eq!(Client::new(haproxy.url()).get("/").status, 503);
}

#[test]
fn posts_under_load_arrive_once_while_nodes_come_and_go() {
    let (one, two) = (Node::start("one"), Node::start("two"));
    let haproxy = Haproxy::start(&[one.address(), two.address()]);
    haproxy.wait_up(&[true, true]);
    let load = Load::post(haproxy.url(), &json!({ "n": 1 })).connections(4).rate(500);
    let running = load.start_requests(1000);
    eventually("some to arrive", || (one.posts() > 50 && two.posts() > 50).then_some(()));
    // As a rolling restart does: first not ready, then without work, then gone.
    two.retire();
    haproxy.wait_up(&[true, false]);
    eventually("its work to end", || (haproxy.backends()[1].under_way == 0).then_some(()));
    two.die();
    let outcome = running.outcome();
    outcome.expect_all(200);
    assert_eq!(outcome.total(), 1000);
    assert_eq!(one.posts() + two.posts(), 1000);
}

#[test]
fn oha_counts_statuses_and_errors() {
    let one = Node::start("one");
    one.retire();
    let url = format!("http://{}/", one.address());
    let outcome = Load::get(&url).header("x-test", "1").requests(100);
    outcome.expect_all(200);
    assert_eq!(outcome.total(), 100);
    assert!(outcome.p99 >= outcome.median && outcome.slowest >= outcome.p99 && outcome.per_second > 0.0, "{outcome:?}");

    let refused = Load::get(format!("{url}readyz")).requests(20);
    assert_eq!((refused.status(503), refused.failed()), (20, 0));

    let short = Load::get(&url).connections(2).rate(100).lasting(Duration::from_millis(300));
    short.expect_all(200);

    let running = Load::post(&url, &json!({})).rate(100).start_lasting(Duration::from_secs(60));
    eventually("some to arrive", || (one.posts() > 50).then_some(()));
    let stopped = running.stop();
    assert!(stopped.total() + 10 >= one.posts(), "at most one of each connection is not counted: {stopped:?}");
    assert!(stopped.status(200) > 0 && stopped.failed() == 0, "{stopped:?}");

    one.die();
    let dead = Load::get(&url).requests(10);
    assert_eq!((dead.failed(), dead.total()), (10, 10), "{dead:?}");
}
