//! The ledger: accepted = completed + failed + dead + cancelled + lost + in flight, always (G11).

use serde::Serialize;

use crate::envelope::Position;

/// The counts of one partition, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Messages accepted: from clients and from actors.
    pub accepted: u64,
    /// Ended with their effect committed.
    pub completed: u64,
    /// Ended with a terminal error.
    pub failed: u64,
    /// In the dead letters now.
    pub dead: u64,
    /// Cancelled or discarded.
    pub cancelled: u64,
    /// Accepted, and lost by a server that had not synced them: at least as many as nodes knew of. Always 0 in the
    /// embedded store.
    pub lost: u64,
    /// Bytes waiting in the mailbox.
    #[serde(skip)]
    pub bytes: u64,
}

impl Ledger {
    /// What has not ended, by the counts.
    pub fn in_flight(&self) -> i64 {
        self.accepted as i64 - (self.completed + self.failed + self.dead + self.cancelled + self.lost) as i64
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            completed: self.completed + other.completed,
            failed: self.failed + other.failed,
            dead: self.dead + other.dead,
            cancelled: self.cancelled + other.cancelled,
            lost: self.lost + other.lost,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The ledger held against what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Messages accepted.
    pub accepted: u64,
    /// Ended with their effect committed.
    pub completed: u64,
    /// Ended with a terminal error.
    pub failed: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Cancelled or discarded.
    pub cancelled: u64,
    /// Accepted, and lost by a server that had not synced them.
    pub lost: u64,
    /// Messages found waiting.
    pub in_flight: u64,
    /// Whether everything adds up.
    pub balanced: bool,
    /// What does not.
    pub mismatches: Vec<Mismatch>,
}

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// In which partition.
    pub partition: u16,
    /// What was found and what was expected.
    pub what: String,
    /// The messages it is about, as far as they can be named (at most 100).
    pub messages: Vec<Position>,
}
