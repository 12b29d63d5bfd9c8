//! The nodes: three processes, each in a slot where another one follows when it ended.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    stage::Stage,
    support::{Client, PATIENCE, Server, server::Setup},
};

/// What a supervisor waits before it starts a process again.
const SUPERVISOR: Duration = Duration::from_millis(250);

/// The processes of a run.
pub(crate) struct Nodes<'a> {
    setup: Setup,
    keep: &'a Path,
    slots: Vec<Option<Server>>,
    lives: usize,
    stage: &'a Stage,
    /// What is no fault of ours and should not have happened.
    pub(crate) surprises: Vec<String>,
    /// How often a process ended before it listened: a server was away.
    pub(crate) false_starts: u32,
}

impl<'a> Nodes<'a> {
    /// Starts so many; their logs go to `keep`.
    pub(crate) fn start(number: usize, setup: Setup, keep: &'a Path, stage: &'a Stage) -> Self {
        let slots = (0..number).map(|_| None).collect();
        let mut nodes = Self { setup, keep, slots, lives: 0, stage, surprises: Vec::new(), false_starts: 0 };
        (0..number).for_each(|slot| nodes.fill(slot));
        nodes
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The process of a slot, which runs.
    pub(crate) fn get(&self, slot: usize) -> &Server {
        self.slots[slot].as_ref().expect("it runs")
    }

    /// Starts a process in an empty slot, as often as it takes, and waits until it listens.
    pub(crate) fn fill(&mut self, slot: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.keep.join(format!("node-{}.log", self.lives));
            self.lives += 1;
            let mut server = self.setup.clone().log(&log).spawn();
            if server.listens() {
                self.slots[slot] = Some(server);
                return self.publish();
            }
            // Without its servers a node does not start; whoever supervises it tries again, not at once.
            self.false_starts += 1;
            thread::sleep(SUPERVISOR);
            assert!(Instant::now() < deadline, "no node starts within {PATIENCE:?}:\n{}", server.log());
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, slot: usize) {
        self.slots[slot].take().expect("it runs").kill();
        self.publish();
    }

    /// SIGTERM, and waits until it left in order.
    pub(crate) fn leave(&mut self, slot: usize) {
        let server = self.slots[slot].take().expect("it runs");
        self.publish();
        let id = server.id();
        let status = server.terminate();
        if !status.success() {
            self.surprises.push(format!("process {id} was asked to end and ended with {status}"));
        }
    }

    /// Stops it where it is. Its clients and the other nodes do not know.
    pub(crate) fn pause(&self, slot: usize) {
        self.get(slot).signal(Signal::STOP);
    }

    pub(crate) fn resume(&self, slot: usize) {
        self.get(slot).signal(Signal::CONT);
    }

    /// Sets its clock forward by so many milliseconds.
    pub(crate) fn set_clock(&self, slot: usize, by: i64) {
        let answer = self.get(slot).client().send("POST", &format!("/clock/{by}"), &[], None);
        assert!(answer.is_ok_and(|answer| answer.status == 200), "its clock cannot be set");
    }

    /// Replaces what ended by itself, which nothing should, and waits until every node is ready; an error when one
    /// does not become so.
    pub(crate) fn recover(&mut self) -> Result<(), String> {
        for slot in 0..self.slots.len() {
            let ended = self.slots[slot].as_mut().map(|server| (server.id(), server.ended(), server.log()));
            if let Some((id, Some(status), log)) = ended {
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                self.surprises.push(format!("process {id} ended by itself with {status}: {last:#?}"));
                self.slots[slot] = None;
                self.publish();
            }
            if self.slots[slot].is_none() {
                self.fill(slot);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for base in self.stage.nodes() {
            let client = Client::new(&base);
            let ready = || client.send("GET", "/readyz", &[], None).is_ok_and(|answer| answer.status == 200);
            while !ready() {
                if Instant::now() > deadline {
                    return Err(format!("{base} is not ready after {PATIENCE:?}"));
                }
                thread::park_timeout(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// What a node says of all of them.
    pub(crate) fn seen(&self) -> Option<Vec<Value>> {
        let base = self.stage.nodes().first()?.clone();
        let answer = Client::new(base).send("GET", "/admin/nodes", &[], None).ok()?;
        (answer.status == 200).then(|| answer.json()["items"].as_array().cloned())?
    }

    /// The partitions that a process owns.
    pub(crate) fn partitions(&self, slot: usize) -> Vec<u16> {
        let pid = self.get(slot).id();
        let seen = self.seen().unwrap_or_default();
        let node = seen.iter().find(|node| node["pid"] == pid);
        let partitions = node.and_then(|node| node["partitions"].as_array());
        partitions.into_iter().flatten().filter_map(|number| number.as_u64()?.try_into().ok()).collect()
    }

    fn publish(&self) {
        self.stage.publish(self.slots.iter().flatten().map(|server| server.base().to_owned()).collect());
    }
}
