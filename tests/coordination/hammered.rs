//! One lock, three processes with clocks an hour apart, stopped and killed while they hold it: what they
//! write under it is never out of order, and somebody always goes on.

#[path = "hammer/log.rs"]
mod log;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use greenroom::{
    backend::{cluster::Cluster, embedded},
    clock::Clock,
    prelude::*,
    runtime::{node::Start, settings::Settings},
    testing::{Random, Which},
};
use log::Log;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::build;

const PATIENCE: Duration = Duration::from_secs(30);
/// By how much each clock is wrong.
const SKEWS: [i64; 3] = [-3_600_000, 0, 3_600_000];

/// Something that a process said.
#[derive(Debug)]
struct Said {
    slot: usize,
    what: String,
    token: u64,
}

struct Process {
    child: Child,
    /// It ends when this does.
    _input: ChildStdin,
}

struct Stage {
    arguments: [String; 3],
    says: mpsc::Sender<Said>,
    said: mpsc::Receiver<Said>,
    processes: Vec<Process>,
}

impl Stage {
    fn start(&self, slot: usize) -> Process {
        let mut child = Command::new(build::example("hammer"))
            .arg(slot.to_string())
            .arg(SKEWS[slot].to_string())
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let says = self.says.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let (what, token) = line.split_once(' ').unwrap();
                let said = Said { slot, what: what.to_owned(), token: token.parse().unwrap() };
                // The test may be over.
                let _ = says.send(said);
            }
        });
        Process { child, _input: input }
    }

    fn signal(&self, slot: usize, signal: Signal) {
        let pid = Pid::from_raw(self.processes[slot].child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until somebody says something like this.
    fn until(&self, what: &str, is: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let said = said.unwrap_or_else(|_| panic!("nobody has {what} within {PATIENCE:?}"));
            if said.what == what && is(&said) {
                return said;
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

#[test]
fn what_is_written_under_a_lock_is_never_out_of_order() {
    let options = Which::Redis.cluster(&embedded::Options { partitions: 4, ..Default::default() }).unwrap();
    let arguments = [options.redis.clone(), options.mongo.clone(), options.prefix.clone()];
    let (says, said) = mpsc::channel();
    let mut stage = Stage { arguments, says, said, processes: Vec::new() };
    for slot in 0..SKEWS.len() {
        let process = stage.start(slot);
        stage.processes.push(process);
    }
    let mut random = Random::new(7);
    let mut fenced = 0;
    for round in 0..6 {
        // Whoever takes it from now on: it has still to write most of what it will.
        stage.said.try_iter().for_each(drop);
        let holder = stage.until("held", |_| true);
        println!("round {round}: {holder:?}");
        if round % 3 == 2 {
            // Killed, and started again as a supervisor would.
            stage.processes[holder.slot].child.kill().unwrap();
            stage.processes[holder.slot].child.wait().unwrap();
            stage.processes[holder.slot] = stage.start(holder.slot);
            stage.until("wrote", |said| said.token > holder.token);
        } else {
            stage.signal(holder.slot, Signal::STOP);
            // Somebody else has the lock and writes; how much says the seed.
            for _ in 0..=random.below(3) {
                stage.until("wrote", |said| said.slot != holder.slot && said.token > holder.token);
            }
            stage.signal(holder.slot, Signal::CONT);
            stage.until("fenced", |said| said.slot == holder.slot);
            fenced += 1;
        }
    }
    assert_eq!(fenced, 4);
    // All end in order, and what they left is done.
    for process in stage.processes.drain(..) {
        let Process { mut child, _input } = process;
        drop(_input);
        child.wait().unwrap();
    }
    actix::System::new().block_on(async {
        let backend = Arc::new(Cluster::open(options).unwrap());
        let settings = Settings { arbiters: 1, ..Settings::default() };
        let features = vec![Feature::new(Log)];
        let node = Node::start(Start { backend, features, settings, clock: Clock::System }).await.unwrap();
        let began = Instant::now();
        // Timers of the lock stay.
        let lines = loop {
            let lines = node.state::<Log>("log").await.unwrap().unwrap();
            let (before, ledger) = (lines.len(), node.oldest().await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
            if ledger == 0.0 && node.state::<Log>("log").await.unwrap().unwrap().len() == before {
                break lines;
            }
            assert!(began.elapsed() < PATIENCE, "it does not come to rest");
        };
        assert!(lines.len() > 20, "{} lines", lines.len());
        for pair in lines.windows(2) {
            let [before, after] = pair else { continue };
            assert!(before.token <= after.token, "{before:?} before {after:?}");
            assert!(before.token < after.token || before.who == after.who, "{before:?} and {after:?} share a token");
        }
        assert!(node.audit().await.unwrap().balanced);
        node.drain(Duration::from_secs(5)).await;
    });
}
