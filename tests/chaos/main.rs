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
//! servers   Redis and MongoDB, behind proxies      nodes     three processes, replaced when they end
//! fault     what goes wrong, by seed               killer    makes it so, and waits for progress
//! takeover  how long a killed node's keys are without an owner
//! collect   reads everything when nothing is in flight any more
//! check     compares (it has tests of its own)     report    the numbers
//! rolling   the other test: a rolling restart behind a load balancer loses no request
//! ```
//!
//! `make chaos` runs ten minutes; `CHAOS_SECONDS`, `CHAOS_SEED` and `CHAOS_KEEP` (a directory for logs
//! and history) change that.

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
mod report;
mod rolling;
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
fn keep() -> (PathBuf, Option<TempDir>) {
    match std::env::var_os("CHAOS_KEEP").map(PathBuf::from) {
        Some(keep) => {
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
    let _alone = alone();
    let (seed, lasting) = (number("CHAOS_SEED", SEED), Duration::from_secs(number("CHAOS_SECONDS", 75)));
    println!("CHAOS_SEED={seed} CHAOS_SECONDS={}", lasting.as_secs());
    let (keep, _dir) = keep();
    let file = keep.join("history.jsonl");
    let mut servers = servers::Servers::start(seed);
    let setup = servers.setup(&keep.join("data"));
    let stage = stage::Stage::default();
    let mut nodes = nodes::Nodes::start(NODES, setup.clone(), &keep, &stage);
    nodes.recover();

    let history = history::History::create(&file);
    let began = Instant::now();
    let deeds = thread::scope(|scope| {
        let (stage, history) = (&stage, &history);
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client::run(seed, number, PACE, stage, history))).collect();
        let deeds = killer::run(seed, lasting, &mut servers, &mut nodes, stage, history);
        stage.close();
        clients.into_iter().for_each(|client| client.join().expect("every client told what it had begun"));
        deeds
    });
    drop(history);
    let lasted = began.elapsed();

    let mut evidence = collect::evidence(history::read(&file), &stage.nodes(), &setup);
    (evidence.calls, evidence.faults) = (servers.vendor.calls(), deeds.times.clone());
    let violations = check::check(&evidence);
    let (false_starts, surprises) = (nodes.false_starts, std::mem::take(&mut nodes.surprises));
    // Their last words are in their logs, and would drown what is said below.
    drop((nodes, servers));
    let run = report::Run { seed, lasted, clients: CLIENTS, nodes: NODES, false_starts };
    let text = report::markdown(&run, &deeds, &evidence, &violations);
    println!("\n{text}");
    let told: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    std::fs::write(keep.join("violations.txt"), told).expect("written");
    judge(&violations, &deeds.takeovers, &surprises);
    if let Some(path) = std::env::var_os("CHAOS_REPORT") {
        std::fs::write(path, text).expect("written");
    }
}

/// Fails unless everything was right.
fn judge(violations: &[Violation], takeovers: &[takeover::Takeover], surprises: &[String]) {
    violations.iter().take(TOLD).for_each(|violation| println!("{violation}"));
    let late: Vec<String> = takeovers
        .iter()
        .filter(|takeover| takeover.took > LEASE + TAKEOVER)
        .map(|takeover| format!("partition {} after {:?}", takeover.partition, takeover.took))
        .collect();
    assert!(violations.is_empty(), "{} promises were broken, see above", violations.len());
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert!(late.is_empty(), "taken over later than {:?}: {late:?}", LEASE + TAKEOVER);
}
