//! Chaos: three real nodes on real servers under load, while processes die and networks break.
//! Afterwards an independent checker holds everything that was promised against everything there is.
//!
//! ```text
//! script    what each client tells, and how each telling must end: from a seed, before it is sent
//! client    tells it over HTTP, repeats under the same Idempotency-Key on any node until promised
//! later     what a client does afterwards: signals that payments wait for, cancelling them
//! history   the clients' own file
//! bank      the program under test: Greenroom's command line around accounts, and payments: workflows
//! vendor    whom payments call: it outlives every fault and counts
//! scenario  what there is to run: on which servers, with which faults, promising what
//! servers   Redis and MongoDB, behind proxies      nodes     three processes, replaced when they end
//! fault     what goes wrong, by seed               killer    makes it so, and waits for progress
//! takeover  how long a killed node's keys are without an owner
//! rates     what one master of Redis that stands still takes from the partitions of the others
//! collect   reads everything when nothing is in flight any more
//! check     compares (it has tests of its own)     report    the numbers
//! rolling   the other test: a rolling restart behind a load balancer loses no request
//! ```
//!
//! `make chaos` runs half an hour, `make test` five minutes, of which each scenario, a test of its own, has its
//! share; `CHAOS_SECONDS` (of all), `CHAOS_SEED`, `CHAOS_ONLY` (rounds in which these words occur, several divided by
//! `&`) and `CHAOS_KEEP` (a directory for logs and history) change that.

#[path = "../support/mod.rs"]
mod support;

mod check;
mod client;
mod collect;
#[path = "bank/command.rs"]
mod command;
mod fault;
mod history;
mod killer;
mod later;
mod nodes;
mod rates;
mod report;
mod rolling;
mod scenario;
mod script;
mod servers;
mod stage;
mod takeover;
mod vendor;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use check::Violation;
use scenario::Scenario;
use tempfile::TempDir;

/// How long a node may be silent.
const LEASE: Duration = Duration::from_secs(2);
/// What G9 allows on top of it.
const TAKEOVER: Duration = Duration::from_secs(1);
const NODES: usize = 3;
const CLIENTS: u64 = 12;
/// Each client tells something this often, if it is not held up.
const PACE: Duration = Duration::from_millis(40);
/// The seed, if none is given.
const SEED: u64 = 20_261_122;
/// What the partitions of other masters keep at least of their rate while one stands still. Nine of ten are meant,
/// and on a machine that is busy otherwise fewer are seen.
const KEPT: f64 = 0.6;
/// Violations that are told in full.
const TOLD: usize = 10;

/// Both tests measure time on all cores: one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Where logs and the history are, and whether they stay.
fn keep(scenario: &Scenario) -> (PathBuf, Option<TempDir>) {
    match std::env::var_os("CHAOS_KEEP").map(PathBuf::from) {
        Some(keep) => {
            let keep = keep.join(scenario.title.replace([' ', ','], "-"));
            std::fs::create_dir_all(&keep).expect("a directory");
            (keep, None)
        }
        None => {
            let dir = tempfile::tempdir().expect("a directory");
            (dir.path().to_owned(), Some(dir))
        }
    }
}

#[test]
fn every_promise_is_kept_whatever_breaks() {
    play(&scenario::PLAIN);
}

#[test]
fn what_is_accepted_after_redis_lost_its_last_second_ends_once() {
    play(&scenario::LAST_SECOND);
}

#[test]
fn what_is_accepted_after_a_promotion_ends_once() {
    play(&scenario::PROMOTED);
}

#[test]
fn every_promise_is_kept_when_a_replica_that_confirmed_it_is_promoted() {
    play(&scenario::REPLICATED);
}

#[test]
fn every_promise_is_kept_on_a_cluster_that_is_resharded() {
    play(&scenario::CLUSTER);
}

#[test]
fn every_promise_is_kept_when_mongodb_elects_another_primary() {
    play(&scenario::MEMBERS);
}

#[test]
fn what_has_ended_is_kept_whatever_a_clock_says() {
    play(&scenario::CLOCKS);
}

/// Runs a scenario for its share of the time, and checks it.
fn play(scenario: &Scenario) {
    let _alone = alone();
    let all = Duration::from_secs(number("CHAOS_SECONDS", 300));
    let (seed, lasting) = (number("CHAOS_SEED", SEED), scenario.lasts(all));
    println!("{}: CHAOS_SEED={seed} CHAOS_SECONDS={}, of which {}", scenario.title, all.as_secs(), lasting.as_secs());
    let (keep, _dir) = keep(scenario);
    let file = keep.join("history.jsonl");
    let mut servers = servers::Servers::start(seed, *scenario);
    let setup = servers.setup(&keep.join("data"));
    let stage = stage::Stage::default();
    let mut nodes = nodes::Nodes::start(NODES, setup.clone(), &keep, &stage);
    nodes.recover().expect("every node is ready at first");

    let history = history::History::create(&file);
    let began = Instant::now();
    let deeds = thread::scope(|scope| {
        let (stage, history) = (&stage, &history);
        let client = |number| move || client::run(seed, number, scenario, stage, history);
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(client(number))).collect();
        let deeds = killer::run(seed, (scenario, lasting), &mut servers, &mut nodes, stage, history);
        stage.close();
        clients.into_iter().for_each(|client| client.join().expect("every client told what it had begun"));
        deeds
    });
    drop(history);
    let lasted = began.elapsed();

    let mut evidence = collect::evidence(history::read(&file), &stage.nodes(), &setup, &servers);
    (evidence.calls, evidence.faults) = (servers.vendor.calls(), deeds.times.clone());
    evidence.losses = deeds.losses.clone();
    let violations = check::check(&evidence);
    let false_starts = nodes.false_starts;
    let surprises = [std::mem::take(&mut nodes.surprises), deeds.surprises.clone()].concat();
    // Their last words are in their logs, and would drown what is said below.
    drop((nodes, servers));
    let run = report::Run { scenario: *scenario, seed, all, lasted, clients: CLIENTS, nodes: NODES, false_starts };
    let text = report::section(&run, &deeds, &evidence, &violations);
    println!("\n{text}");
    let told: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    std::fs::write(keep.join("violations.txt"), told).expect("written");
    let report = std::env::var_os("CHAOS_REPORT").map(PathBuf::from);
    // What fails leaves no section, nor that of an earlier run.
    report.iter().for_each(|report| report::write(report, &run, None));
    judge(&violations, &deeds, &surprises);
    report.iter().for_each(|report| report::write(report, &run, Some(&text)));
}

/// Fails unless everything was right.
fn judge(violations: &[Violation], deeds: &killer::Deeds, surprises: &[String]) {
    violations.iter().take(TOLD).for_each(|violation| println!("{violation}"));
    let late: Vec<String> = deeds
        .takeovers
        .iter()
        .filter(|takeover| takeover.took > LEASE + TAKEOVER)
        .map(|takeover| format!("partition {} after {:?}", takeover.partition, takeover.took))
        .collect();
    assert!(violations.is_empty(), "{} promises were broken, see above", violations.len());
    assert!(surprises.is_empty(), "{surprises:#?}");
    let slowed: Vec<_> = deeds.stalls.iter().filter(|rates| rates.kept() < KEPT).collect();
    assert!(slowed.is_empty(), "a master that stood still took too much from the others: {slowed:?}");
    assert!(late.is_empty(), "taken over later than {:?}: {late:?}", LEASE + TAKEOVER);
}
