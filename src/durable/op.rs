//! One operation of a running command, as its journal sees it.

use std::task::Waker;

use serde_json::value::RawValue;

use super::entry::Outcome;

/// What an operation was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// A step's or a call's outcome.
    Outcome(Outcome),
    /// The time has come.
    Woke,
    /// The time came first.
    Expired,
    /// The signal.
    Signal(Box<RawValue>),
    /// The command is to end.
    Cancelled,
}

/// What happens when an operation's time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is written that it ended.
    Wake,
    /// It is written that its time came first.
    Expire,
    /// It looks again; nobody else need know.
    Nudge,
}

/// How an operation stands.
pub(super) enum Stage {
    /// Nobody has asked for it yet.
    New,
    /// Something of this process runs for it.
    Live,
    /// It waits for something from outside, or for this time.
    Waits(Option<(i64, Then)>),
    /// Its end is known, and perhaps not written or told yet.
    Ended,
    /// It was told.
    Told(Told),
    /// Nobody wants to know any more.
    Dropped,
}

/// An operation that the handler has begun.
pub(super) struct Op {
    pub(super) what: &'static str,
    pub(super) name: String,
    pub(super) stage: Stage,
    pub(super) waker: Option<Waker>,
}

impl Op {
    /// Whether somebody waits for its end.
    pub(super) fn is_awaited(&self) -> bool {
        match self.stage {
            Stage::New => self.waker.is_some(),
            Stage::Live | Stage::Waits(_) | Stage::Ended => true,
            Stage::Told(_) | Stage::Dropped => false,
        }
    }

    /// Tells it, if somebody still wants to know.
    pub(super) fn tell(&mut self, told: Told) {
        if !matches!(self.stage, Stage::Dropped) {
            self.stage = Stage::Told(told);
        }
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
