//! A command on its way: who it is for, what it says, who waits for it. Stored as JSON, so its
//! field names are an interface with the past and never change.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{address::Address, error::Failure, trace::Trace};

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

/// Who asked for a command and waits for its answer, however long: not a connection but a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The actor that asked.
    pub by: Address,
    /// Its command.
    pub position: Position,
    /// Which of that command's operations.
    pub op: u32,
    /// Actors that wait for this command and let nothing else be handled meanwhile, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Address>,
}

/// Who is told how a message ended: a command with a hole for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Then {
    /// Who is told.
    pub to: Address,
    /// Its command, up to the hole.
    pub before: String,
    /// And after it.
    pub after: String,
    /// Tells apart what the same actor is told of: see [`Note::Withdraw`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tag: u64,
}

fn is_zero(tag: &u64) -> bool {
    *tag == 0
}

/// Something that came for a command that has begun, instead of a command. No handler sees it: it is
/// written into that command's journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Note {
    /// How something ended that the command asked for.
    Answer {
        /// The command.
        to: Position,
        /// Which of its operations.
        op: u32,
        /// The reply.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Box<RawValue>>,
        /// Why there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// The message that ended.
        from: Position,
    },
    /// A value from outside.
    Signal {
        /// The command.
        to: Position,
        /// What it waits for, or will.
        name: String,
        /// The value.
        value: Box<RawValue>,
    },
    /// The command is to end.
    Cancel {
        /// The command.
        to: Position,
    },
    /// Whoever asked for a command does not want it any more.
    Recall {
        /// The command that asked.
        by: Position,
        /// Which of its operations.
        op: u32,
    },
    /// Whoever is [told](Then) how a command ends does not want it any more.
    Withdraw {
        /// Who is told.
        told: Address,
        /// Which of what it is told of.
        tag: u64,
    },
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
    /// The command that waits for its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Box<Asked>>,
    /// Who is told how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Box<Then>>,
    /// The slot of the schedule that told it, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<i64>,
    /// What it brings, if it is no command; `command` is null then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<Note>>,
}

impl Envelope {
    /// One that says nothing.
    pub(crate) fn empty(to: Address) -> Self {
        Self { note: None, ..Self::note(to, Note::Cancel { to: Position::new(0, 0) }, 0) }
    }

    /// One that brings something instead of a command.
    pub fn note(to: Address, note: Note, accepted: i64) -> Self {
        Self {
            to,
            command: RawValue::NULL.to_owned(),
            accepted,
            request: false,
            trace: None,
            reply: None,
            cause: None,
            asked: None,
            then: None,
            slot: None,
            note: Some(Box::new(note)),
        }
    }

    /// Whether another actor is told how it ends: then only its own activation may end it.
    pub(crate) fn tells(&self) -> bool {
        self.asked.is_some() || self.then.is_some()
    }

    /// Its size against mailbox and window budgets, in bytes.
    pub fn size(&self) -> usize {
        let note = self.note.as_deref().map_or(0, |note| match note {
            Note::Answer { reply, failure, .. } => {
                reply.as_ref().map_or(0, |reply| reply.get().len()) + failure.as_ref().map_or(0, Failure::size)
            }
            Note::Signal { name, value, .. } => name.len() + value.get().len(),
            Note::Cancel { .. } | Note::Recall { .. } | Note::Withdraw { .. } => 0,
        });
        let then = self.then.as_ref().map_or(0, |then| then.before.len() + then.after.len() + then.to.key().len());
        self.command.get().len() + note + then + self.to.kind().len() + self.to.key().len() + 64
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
            asked: None,
            then: None,
            slot: None,
            note: None,
        };
        assert_eq!(
            serde_json::to_string(&envelope).unwrap(),
            r#"{"to":{"kind":"order","key":"7"},"command":{"Pay":3},"accepted":1700000000000,"request":true,"trace":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","reply":{"n":1,"t":2},"cause":281474976710665}"#
        );
    }
}
