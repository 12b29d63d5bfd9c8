//! Every example runs to its end by itself, quickly, and says what its comment promises.

mod support;

use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Runs an example; answers what it printed.
fn run(name: &str) -> String {
    let program = support::build::example(name);
    let began = Instant::now();
    let output = Command::new(program).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    said
}

#[test]
fn hello_is_a_durable_actor_in_less_than_twenty_lines() {
    assert_eq!(run("hello"), "visits: 2\n");
    let source = include_str!("../examples/hello.rs");
    let lines = source.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//")).count();
    assert!(lines < 20, "{lines} lines");
}

#[test]
fn tell_loses_nothing_in_between() {
    assert!(run("tell").ends_with("the ledger says 10\n"));
}

#[test]
fn timer_outlives_its_process() {
    assert!(run("timer").contains("it boiled after"));
}

#[test]
fn schedule_makes_up_for_the_time_nobody_was_there() {
    let said = run("schedule");
    assert!(said.contains("seconds were reported, each once") && said.ends_with("ann was reminded\n"), "{said}");
}

#[test]
fn retry_gives_up_in_order_and_comes_back() {
    assert!(run("retry").ends_with("redriven: Completed\n"));
}

#[test]
fn idempotency_is_one_effect() {
    assert!(run("idempotency").ends_with("asked twice, deposited once: balance 50\n"));
}

#[test]
fn checkout_is_approved_or_undone() {
    let said = run("checkout");
    assert!(said.contains("bob's piano: waits for approval\nbob's piano: approved, "), "{said}");
    assert!(said.ends_with("refunds: 1, tea on the shelf: 9\n"), "{said}");
}

#[test]
fn sessions_are_nobodys_who_knew_them_before() {
    let said = run("sessions");
    assert!(said.starts_with("after the login: ann with 1 cups\nwith the cookie of before: 401\n"), "{said}");
    assert!(said.ends_with("revoked: 1\nafter that: 401\n"), "{said}");
}

#[test]
fn limits_make_everybody_wait_and_nobody_fail() {
    let said = run("limits");
    assert!(said.contains("never more than 2 at a time\n"), "{said}");
    assert!(said.ends_with("ms, bob does not\n"), "{said}");
}

#[test]
fn topic_reaches_each_group_once_and_who_comes_late() {
    let said = run("topic");
    assert!(said.starts_with("billing: ann owes 120, bob owes 40\n"), "{said}");
    assert!(said.ends_with("stats came late: 3 orders, 160 in all\n"), "{said}");
}

#[test]
fn broadcast_empties_caches() {
    assert!(run("broadcast").ends_with("tea costs 450 now\n"));
}

#[test]
fn live_misses_nothing_in_a_tunnel() {
    let said = run("live");
    let back = said.split("ann comes back").nth(1).expect("she does");
    let told: Vec<&str> = back.lines().filter_map(|line| line.strip_prefix("  told: ")).collect();
    // How many of the missed ones there were when she came back depends on how quickly the last was handled.
    let bids: Vec<&str> = told.into_iter().filter(|told| *told != "up to date").collect();
    assert_eq!(bids, [r#"bid {"amount":110}"#, r#"bid {"amount":120}"#], "{said}");
}

/// An example that nobody runs rots.
#[test]
fn no_example_is_forgotten() {
    let here = include_str!("examples.rs");
    for file in std::fs::read_dir(support::build::root().join("examples")).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(here.contains(&format!("run(\"{name}\")")), "examples/{name}.rs is not run");
    }
}
