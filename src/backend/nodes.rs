//! Who runs what: the nodes that share a store, and the lease of each partition.
//!
//! Invariant: a lease's epoch only rises, and every commit names the epoch it is made under. So it
//! does not matter for correctness when a node learns that it lost a partition: membership and beats
//! only make ownership efficient.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Fut;
use crate::error::Result;

/// The right to run a partition, proved by an epoch that only rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The partition.
    pub partition: u16,
    /// Which owner in its history.
    pub epoch: u64,
    /// Whether the previous owner let go in order.
    pub clean: bool,
    /// Whether an owner that did not was this very process, which lives: then nothing of what it ran has ended
    /// a process. What any other ran is suspect.
    pub mine: bool,
    /// The number of the newest message when the lease was taken.
    pub last: u64,
}

/// What became of the wish to take a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is this node's.
    Taken(Lease),
    /// This node, which lives, has it.
    Held(u64),
}

/// Who runs a partition.
pub trait Leases: Send + Sync + 'static {
    /// Takes the partition, unless another living node has it; every earlier epoch's commits are
    /// refused from now on. A node may take from itself.
    fn acquire(&self, partition: u16) -> Fut<'_, Result<Acquired>>;

    /// Lets go in order: nothing of it is running any more.
    fn release(&self, lease: Lease) -> Fut<'_, Result<()>>;

    /// The owner of each partition, by number.
    fn owners(&self) -> Fut<'_, Result<Vec<Owner>>>;
}

/// Who has a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The node's number; 0 when nobody has it.
    pub node: u64,
    /// The epoch of its last owner.
    pub epoch: u64,
}

/// A node as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number: never used before and never again.
    pub id: u64,
    /// Rises with each sign of life.
    pub beat: u64,
    /// What it says of itself.
    pub info: NodeInfo,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The URL of its gateway, if it has one.
    #[serde(default)]
    pub listen: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// Its build.
    pub version: String,
    /// When it joined, in milliseconds since the Unix epoch, by its own clock.
    pub since: i64,
    /// A digest of the names of the schedules that its features declare; `None` before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedules: Option<String>,
    /// A fingerprint of the program it runs and of what that was started as; `None` before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Partitions with messages that only another build can read: they are for a node of another build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declines: Vec<u16>,
}

/// The nodes that share the store. A store of one process has one node, number 1, and none of this
/// costs anything.
pub trait Nodes: Send + Sync + 'static {
    /// This node's number.
    fn me(&self) -> u64;

    /// How long a node may be silent before the others take its partitions; `None` when there are
    /// no others.
    fn lease_time(&self) -> Option<Duration>;

    /// Joins under a new number, at first and after the others gave this node up.
    fn join(&self) -> Fut<'_, Result<()>>;

    /// Gives a sign of life; answers who is there. Terminal error (`node_lost`) when the others have
    /// given this node up: what it holds is theirs, and it may [join](Nodes::join) anew.
    fn beat(&self) -> Fut<'_, Result<Vec<Member>>>;

    /// Who is there, as the store has it now, without a sign of life.
    fn members(&self) -> Fut<'_, Result<Vec<Member>>> {
        self.beat()
    }

    /// Gives a node up that has been silent since `member` was seen; `false` when it was not.
    fn give_up(&self, member: Member) -> Fut<'_, Result<bool>>;

    /// Leaves, having let go of everything.
    fn leave(&self) -> Fut<'_, Result<()>>;

    /// Sends a few bytes to a node, at most once; whether anybody was listening.
    fn post(&self, node: u64, letter: Vec<u8>) -> Fut<'_, Result<bool>>;

    /// What others post to this node; the first caller gets it.
    fn letters(&self) -> Option<mpsc::UnboundedReceiver<Vec<u8>>>;

    /// Tells the others (from the next beat on) which schedules this node declares, by a digest.
    fn declares(&self, schedules: &str) {
        let _ = schedules;
    }

    /// Tells the others (from the next beat on) which build this node is, and which partitions have messages that
    /// it cannot read.
    fn describes(&self, build: &str, declines: Vec<u16>) {
        let _ = (build, declines);
    }

    /// Tells the others where this node's gateway is: at once, or with the next beat if that does not come through.
    fn announce(&self, listen: &str) -> Fut<'_, Result<()>>;
}
