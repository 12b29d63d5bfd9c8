//! A command on its way: who it is for, what it says, who waits for it. Stored as JSON, so its
//! field names are an interface with the past and never change.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{address::Address, trace::Trace};

/// Where a message is: its partition and its number in it, packed as `partition << 48 | number`.
/// Numbers rise in the order of acceptance and are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position(u64);

impl Position {
    const NUMBER_BITS: u32 = 48;

    /// The message `number` of `partition`. Only the low 48 bits of `number` count: at a million
    /// messages a second they last nine years in each partition.
    pub fn new(partition: u16, number: u64) -> Self {
        Self(u64::from(partition) << Self::NUMBER_BITS | (number & ((1 << Self::NUMBER_BITS) - 1)))
    }

    /// Its partition.
    pub fn partition(self) -> u16 {
        (self.0 >> Self::NUMBER_BITS) as u16
    }

    /// Its number in the partition, from 1.
    pub fn number(self) -> u64 {
        self.0 & ((1 << Self::NUMBER_BITS) - 1)
    }

    /// As stored. Partitions stay below 4,096, so the sign bit is never set.
    pub fn packed(self) -> i64 {
        self.0 as i64
    }

    /// The opposite of [`Position::packed`].
    pub fn from_packed(packed: i64) -> Self {
        Self(packed as u64)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition(), self.number())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who waits for the result: a number that only the waiting node knows the meaning of. After a
/// crash nobody does, and the result is simply polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The node that waits.
    #[serde(rename = "n")]
    pub node: u64,
    /// Its name for the wait.
    #[serde(rename = "t")]
    pub token: u64,
}

/// A command with its address and its story.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The receiving actor.
    pub to: Address,
    /// The command, as JSON that nobody but the actor's type looks into.
    pub command: Box<RawValue>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub accepted: i64,
    /// Whether a client was promised the result, so that it is kept for the retention time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub request: bool,
    /// The trace it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Who waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyTo>,
    /// The message whose handler sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Position>,
}

impl Envelope {
    /// Its size against mailbox and window budgets, in bytes.
    pub fn size(&self) -> usize {
        self.command.get().len() + self.to.kind().len() + self.to.key().len() + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_never_change() {
        let envelope = Envelope {
            to: "order/7".parse().unwrap(),
            command: RawValue::from_string(r#"{"Pay":3}"#.into()).unwrap(),
            accepted: 1_700_000_000_000,
            request: true,
            trace: Trace::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            reply: Some(ReplyTo { node: 1, token: 2 }),
            cause: Some(Position::new(1, 9)),
        };
        assert_eq!(
            serde_json::to_string(&envelope).unwrap(),
            r#"{"to":{"kind":"order","key":"7"},"command":{"Pay":3},"accepted":1700000000000,"request":true,"trace":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","reply":{"n":1,"t":2},"cause":281474976710665}"#
        );
    }
}
