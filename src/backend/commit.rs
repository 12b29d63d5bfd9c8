//! The unit of change: what one actor did with one or more of its messages, all or nothing (G3).

use std::sync::Arc;

use serde_json::value::RawValue;

use super::message::Home;
use crate::{
    address::Address,
    envelope::{Envelope, Position},
    error::Failure,
    query::Value,
};

/// Everything that becomes true together.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The actor.
    pub address: Address,
    /// The revision of the state that all this was decided on; `None` when the state was not looked
    /// at. Where state and mailbox are in two stores, another one may refuse the commit (G4).
    pub seen: Option<u64>,
    /// Its new state, if it changed.
    pub state: Option<StateWrite>,
    /// Messages that ended.
    pub done: Vec<Done>,
    /// Messages to try again later.
    pub deferred: Vec<Deferral>,
    /// Messages set aside until the key is free again.
    pub parked: Vec<(Position, Home)>,
    /// Messages that leave with this commit, in order.
    pub outbox: Vec<Sent>,
    /// Journals written with it.
    pub journals: Vec<JournalWrite>,
    /// Now, in milliseconds since the Unix epoch.
    pub at: i64,
}

impl Commit {
    /// A commit of `address` that changes nothing yet.
    pub fn of(address: Address, at: i64) -> Self {
        Self {
            address,
            seen: None,
            state: None,
            done: Vec::new(),
            deferred: Vec::new(),
            parked: Vec::new(),
            outbox: Vec::new(),
            journals: Vec::new(),
            at,
        }
    }
}

impl Commit {
    /// How many messages and records it is about.
    pub fn weight(&self) -> usize {
        1 + self.done.len() + self.deferred.len() + self.parked.len() + self.outbox.len() + self.journals.len()
    }

    /// Bytes of all of it, its state included, roughly and rather too many.
    pub fn bytes(&self) -> usize {
        self.size() + self.state.as_ref().map_or(0, |state| state.doc.len())
    }

    /// Bytes of what it sends, answers and records, roughly and rather too many.
    pub fn size(&self) -> usize {
        const EACH: usize = 256;
        let failures = |list: &[Failure]| list.iter().map(Failure::size).sum::<usize>();
        let done = self.done.iter().map(|done| match &done.outcome {
            Outcome::Completed(reply) => reply.get().len(),
            Outcome::Failed(failure) => failure.size(),
            Outcome::Dead(list) => failures(list),
            Outcome::Cancelled => 0,
        });
        let deferred = self.deferred.iter().map(|deferral| failures(&deferral.failures));
        let sent = self.outbox.iter().map(|sent| sent.envelope.size() + EACH);
        let entries = |write: &JournalWrite| write.entries.iter().map(|entry| entry.len() + 8).sum::<usize>();
        let written = self.journals.iter().map(entries);
        let each = done.chain(deferred).chain(written).map(|bytes| bytes + EACH);
        each.chain(sent).sum::<usize>() + self.parked.len() * 32
    }
}

/// A conditional write of the state.
#[derive(Clone, Debug)]
pub struct StateWrite {
    /// The revision it was made from; 0 when nothing was saved. Any other stored revision
    /// refuses the commit (G4).
    pub from: u64,
    /// The BSON document `{"state": …}`; empty when nothing is to be kept of the actor. Its next write
    /// names the revision after this one, or 0 if its activation was let go meanwhile.
    pub doc: Vec<u8>,
    /// The value of each declared index field, in the order of
    /// [`declared_fields`](crate::query::declared_fields).
    pub fields: Vec<Value>,
}

/// A message that ended.
#[derive(Clone, Debug)]
pub struct Done {
    /// Which.
    pub position: Position,
    /// Where it is.
    pub home: Home,
    /// How it ended.
    pub outcome: Outcome,
    /// Its [size](super::Stored::size).
    pub size: usize,
    /// Attempts it took.
    pub attempts: u32,
    /// Whether the result is kept for the retention time.
    pub keep: bool,
    /// Whether it has a journal: kept beside the result if that is kept (and forgotten with it), else
    /// forgotten at once.
    pub journal: bool,
}

/// How a message ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With this reply.
    Completed(Box<RawValue>),
    /// With a terminal error.
    Failed(Failure),
    /// Given up after these failures.
    Dead(Vec<Failure>),
    /// Cancelled while it ran.
    Cancelled,
}

/// A message that waits for its next attempt, or for something that comes from outside.
#[derive(Clone, Debug)]
pub struct Deferral {
    /// Which.
    pub position: Position,
    /// Where it is.
    pub home: Home,
    /// When it is due, in milliseconds since the Unix epoch.
    pub due: i64,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Failures so far.
    pub failures: Vec<Failure>,
    /// Whether its key waits for it (a retry, a command that waits alone); otherwise only it waits, as
    /// a timer does.
    pub blocks: bool,
}

/// Entries for the journal of a message of the commit's partition.
#[derive(Clone, Debug)]
pub struct JournalWrite {
    /// Whose journal.
    pub position: Position,
    /// Appended in this order; nobody but the runtime looks into them.
    pub entries: Vec<Vec<u8>>,
    /// Whether the message's own handler writes: then the message must still be waiting (in the mailbox
    /// or deferred), or the whole commit is refused as [`Refused::Gone`]. Otherwise something came for
    /// the message from outside (an answer, a signal): if the message has ended (a dead letter has not)
    /// the entries are dropped, and the rest of the commit still happens.
    pub own: bool,
    /// A deferred message whose due time is later than the commit's `at` becomes due at `at`, and its
    /// reader is told as for any new deferral. Nothing happens when it is not deferred, or when it has
    /// no due time because it is parked behind another message.
    pub wake: bool,
}

/// A message that leaves with the commit.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message.
    pub envelope: Arc<Envelope>,
    /// Not before this time; at once when `None`.
    pub due: Option<i64>,
}

/// Hears which commits of a group are decided before the group is answered: see
/// [`Commits::commit_early`](super::Commits::commit_early).
#[derive(Clone, Default)]
pub struct Decided(Option<Arc<dyn Fn(usize) + Send + Sync>>);

impl Decided {
    /// Calls `hear` with the place of each commit in its group, on a thread of the store's: it must be quick.
    pub fn new(hear: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    /// The commit at this place of the group is decided.
    pub fn say(&self, index: usize) {
        if let Some(hear) = &self.0 {
            hear(index);
        }
    }
}

/// Why a commit did not happen. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The lease's epoch is over, or the state was changed by somebody else: stop (G4). Where state
    /// and mailbox are in two stores the next owner may find it half done, and then finishes it.
    Stale,
    /// This message has ended already (it was cancelled): forget it and do the others again.
    Gone(Position),
    /// The store cannot write now: try again.
    Unavailable(String),
    /// The store will never take this state, so trying again is of no use: whatever made it so fails. The
    /// others of its group are not concerned.
    Unsavable {
        /// What the failure is called: `state_unsavable`, or `state_too_large`.
        code: &'static str,
        /// What the store said.
        why: String,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale => f.write_str("another owner has taken over"),
            Self::Gone(position) => write!(f, "message {position} has ended already"),
            Self::Unavailable(why) => write!(f, "the store cannot write: {why}"),
            Self::Unsavable { why, .. } => f.write_str(why),
        }
    }
}

impl std::error::Error for Refused {}
