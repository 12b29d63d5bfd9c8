//! What has been promised in a store of a fixture, and must be found there by every later build.

use std::collections::BTreeMap;

use greenroom::envelope::Position;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A time all of it agrees on, in milliseconds since the Unix epoch.
pub(crate) const NOW: i64 = 1_767_225_600_000;

/// No number in a fixture is so high.
pub(crate) const LATE: u64 = 1000;

/// The contents of `expected.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// How many partitions there are.
    pub(crate) partitions: u16,
    /// Addresses of actors that have, or will have, a state.
    pub(crate) addresses: Vec<String>,
    /// Users that have sessions.
    pub(crate) users: Vec<String>,
    /// Messages that end when everything is handled, by the positions at which they were accepted.
    pub(crate) open: Vec<String>,
    /// How many messages wait for a time that does not come.
    pub(crate) far: u64,
    /// Signals that commands wait for, by the positions of these.
    pub(crate) signals: Vec<(String, u64)>,
    /// States when everything is handled, of those whose state is known then; nothing of one that is
    /// forgotten.
    pub(crate) after: BTreeMap<String, Option<Value>>,
    /// Dead letters by the positions at which they were accepted, with address and command.
    pub(crate) dead: Vec<(String, String, u32)>,
    /// Requests that are known by their idempotency keys: address, command, and what was answered.
    pub(crate) keyed: Vec<(String, u32, String, String)>,
    /// The newest holders of locks: address of a mailbox where they appended, lock, token.
    pub(crate) fences: Vec<(String, String, u64)>,
    /// Of each partition, the last sequence sent to each other one.
    pub(crate) sent: BTreeMap<u16, BTreeMap<u16, u64>>,
    /// Of each partition, the last sequence received from each other one.
    pub(crate) seen: BTreeMap<u16, BTreeMap<u16, u64>>,
    /// Of each partition, what has not left its outbox: receiver and sequence.
    pub(crate) outbox: BTreeMap<u16, Vec<(u16, u64)>>,
    /// The owner of each partition: node and epoch, and whether it had let go in order.
    pub(crate) leases: BTreeMap<u16, (u64, u64, bool)>,
    /// Numbers that a test has appended itself, all at least [`LATE`]: each actor's, in order.
    #[serde(skip)]
    pub(crate) late: BTreeMap<String, Vec<u64>>,
    /// All that can be seen of the store from outside.
    pub(crate) snapshot: BTreeMap<String, Value>,
}

/// Reads `<partition>-<number>`.
pub(crate) fn position(text: &str) -> Position {
    let (partition, number) = text.split_once('-').unwrap();
    Position::new(partition.parse().unwrap(), number.parse().unwrap())
}
