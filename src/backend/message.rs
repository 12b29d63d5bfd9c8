//! Messages as a store holds them: appended, waiting, looked up, dead.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    envelope::{Envelope, Position},
    error::Failure,
};

/// A message to accept.
#[derive(Clone, Debug)]
pub struct Append {
    /// The message.
    pub envelope: Envelope,
    /// Not before this time (milliseconds since the Unix epoch); at once when `None`.
    pub due: Option<i64>,
    /// Makes a repeated append happen once.
    pub idempotency: Option<Idempotency>,
    /// Refuses it when a newer holder of a lock has appended to the same mailbox.
    pub fence: Option<Fence>,
}

/// Which holder of a lock appends. Each mailbox remembers the newest one, for [`FENCED`] after its last
/// append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lock's name.
    pub lock: String,
    /// The holder's fencing token: later holders of the lock have higher ones.
    pub token: u64,
}

/// How long a mailbox remembers the newest holder of a lock, in milliseconds.
pub const FENCED: i64 = 24 * 3600 * 1000;

/// A client's `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, unique within its scope (method and route, and tenant where there is one).
    pub key: String,
    /// Digest of what was asked: the same key with another one is a mistake of the client.
    pub fingerprint: u64,
    /// The answer to repeat, as JSON text.
    pub answer: String,
    /// When the key is forgotten, in milliseconds since the Unix epoch.
    pub expires: i64,
}

/// What an append did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The message is in the mailbox.
    New(Position),
    /// It was there already: the first append's position and answer.
    Seen(Position, String),
}

impl Appended {
    /// The message's position.
    pub fn position(&self) -> Position {
        match self {
            Appended::New(position) | Appended::Seen(position, _) => *position,
        }
    }
}

/// Why a message was not accepted. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAppended {
    /// The mailbox is at its byte budget (G10).
    Full {
        /// Bytes waiting in the partition.
        bytes: u64,
        /// Its budget.
        budget: u64,
    },
    /// The idempotency key was used for something else.
    Mismatch,
    /// A newer holder of the lock has appended here.
    Fenced {
        /// Its token.
        newest: u64,
    },
    /// The store cannot write now.
    Unavailable(String),
}

impl std::fmt::Display for NotAppended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full { bytes, budget } => write!(f, "the mailbox is full: {bytes} of {budget} bytes"),
            Self::Mismatch => f.write_str("the idempotency key was used for another request"),
            Self::Fenced { newest } => write!(f, "the lock was lost: its holder with token {newest} has written since"),
            Self::Unavailable(why) => write!(f, "the store cannot accept: {why}"),
        }
    }
}

impl std::error::Error for NotAppended {}

/// Which place a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The mailbox.
    Mailbox,
    /// Deferred: a timer, a retry, or parked behind one.
    Deferred,
}

/// A message as read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it is.
    pub position: Position,
    /// The message, or the bytes and the reason when they cannot be read (G12).
    pub envelope: Result<std::sync::Arc<Envelope>, Undecodable>,
    /// Which place it is in.
    pub home: Home,
    /// Bytes it counts against budgets.
    pub size: usize,
    /// Attempts counted as begun.
    pub attempts: u32,
    /// Attempts that failed, with why.
    pub failures: Vec<Failure>,
    /// When it is due, if deferred.
    pub due: i64,
    /// Whether its key waits for it (a retry, or parked behind one).
    pub parked: bool,
}

/// Stored bytes that are no message.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Why they cannot be read.
    pub reason: String,
}

/// What is known of a position.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Never assigned.
    Unknown,
    /// Ended, and its result forgotten.
    Expired,
    /// Accepted, and lost by a server that had not synced it: among the numbers that were leapt over then.
    Lost,
    /// Not ended.
    Waiting(Stored),
    /// Ended.
    Ended(Request),
    /// Given up, to be redriven or discarded.
    Dead(Dead),
}

/// A kept result.
#[derive(Clone, Debug)]
pub struct Request {
    /// How it ended.
    pub status: Status,
    /// The reply when completed.
    pub reply: Option<Box<RawValue>>,
    /// Why, when failed.
    pub error: Option<Failure>,
    /// How many attempts it took.
    pub attempts: u32,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended: i64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its effect is committed.
    Completed,
    /// A terminal error.
    Failed,
    /// Cancelled before it began, or discarded.
    Cancelled,
}

/// A dead letter.
#[derive(Clone, Debug, Serialize)]
pub struct Dead {
    /// Where it was accepted.
    pub position: Position,
    /// The message; `None` when its bytes cannot be read.
    pub envelope: Option<Envelope>,
    /// The bytes of an unreadable message, as text with replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// Every recorded failure, oldest first.
    pub failures: Vec<Failure>,
    /// When it was given up, in milliseconds since the Unix epoch.
    pub died: i64,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of this kind only.
    pub kind: Option<String>,
    /// Of this key only.
    pub key: Option<String>,
    /// This one only.
    pub position: Option<Position>,
}
