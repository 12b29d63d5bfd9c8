//! Batches: thousands of commands sent as one, counted exactly as they end, with one callback when all have.
//!
//! ```text
//! cx.batch ──┐                    ┌─► greenroom_batch_page/ID/0 ──► 100 members ─┐
//! node ──────┼─► greenroom_batch/ID ─► greenroom_batch_page/ID/1 ──► 100 members ─┤ each end, by the commit
//! HTTP ──────┘        ▲           └─► …                              ▲           │ that ends it
//!                     └── when all of a page have ended ── page ◄────┴───────────┘
//! ```
//!
//! * Who makes one ([`draft`]) sends its members in a few large messages to the [`whole`], which deals them out
//!   to [`page`]s of a hundred. So no document is larger than a page, and an end rewrites only its page.
//! * A page sends its members, is told how each ended, and reports once when all have; then of every change,
//!   which only redriving a dead letter makes.
//! * [`view`] reads how far a batch is from all of its pages.
//!
//! Invariant: a member is counted under exactly one end, the last one that it had.

pub mod draft;
pub(crate) mod page;
pub mod view;
pub(crate) mod whole;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{address::Address, ended::End, request::RequestId};

/// Members of one page.
pub(crate) const PAGE: usize = 100;
/// Failures that are named; more are only counted.
pub const NAMED: usize = 100;

/// One command of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member(pub(crate) Address, pub(crate) Box<RawValue>);

/// How many ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Their effect is committed.
    pub completed: i64,
    /// With a terminal error.
    pub failed: i64,
    /// Given up; each may still be redriven, and is counted anew then.
    pub dead_lettered: i64,
    /// Cancelled.
    pub cancelled: i64,
}

impl Ends {
    /// How many ended.
    pub fn all(&self) -> i64 {
        self.completed + self.failed + self.dead_lettered + self.cancelled
    }

    fn of(&mut self, end: End) -> &mut i64 {
        match end {
            End::Completed => &mut self.completed,
            End::Failed => &mut self.failed,
            End::DeadLettered => &mut self.dead_lettered,
            End::Cancelled => &mut self.cancelled,
        }
    }

    fn add(&mut self, more: Ends) {
        self.completed += more.completed;
        self.failed += more.failed;
        self.dead_lettered += more.dead_lettered;
        self.cancelled += more.cancelled;
    }
}

/// A member that did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its actor, `kind/key`.
    pub to: String,
    /// Its request: where it is looked at, and redriven if it is a dead letter.
    pub request: RequestId,
    /// How it ended.
    pub status: End,
    /// The code of its error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The beginning of its message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What became of a batch, as whoever is told of it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchDone {
    /// Its id.
    pub batch: String,
    /// Its name.
    pub name: String,
    /// How many members it has.
    pub total: i64,
    /// How they ended.
    pub ends: Ends,
    /// Some of those that did not complete, at most [`NAMED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failed>,
}
