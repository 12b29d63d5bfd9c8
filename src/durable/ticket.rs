//! One operation of a running command, as the future that waits for it.
//!
//! Invariant: whoever stops waiting says so, so that nothing is waited for in vain.

use std::rc::Rc;

use super::{
    journal::{Journal, cancelled},
    op::{Then, Told},
};
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// An operation that has begun.
pub(crate) struct Ticket {
    journal: Rc<Journal>,
    /// `None` when the journal has another one here: it never goes on.
    op: Option<u32>,
}

impl Ticket {
    pub(crate) fn new(journal: &Rc<Journal>, what: &'static str, name: &str) -> Self {
        Self { op: journal.begin(what, name), journal: journal.clone() }
    }

    pub(crate) fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.journal.shared.clock
    }

    /// Its number, once it may go on.
    pub(crate) async fn op(&self) -> u32 {
        match self.op {
            Some(op) => op,
            None => std::future::pending().await,
        }
    }

    /// Waits until it is told how it ended.
    pub(crate) async fn told(&self) -> Told {
        let op = self.op().await;
        self.journal.until(op, |journal| journal.told(op)).await
    }

    /// Waits until effects may begin.
    pub(crate) async fn opened(&self) {
        let op = self.op().await;
        self.journal.until(op, |journal| journal.is_open().then_some(())).await;
    }

    /// Waits for a time that nobody else need know of; error when the command is cancelled meanwhile.
    pub(crate) async fn rest(&self, until: i64) -> Result<()> {
        let op = self.op().await;
        let over = |journal: &Journal| {
            if journal.is_cancelled() {
                return Some(Err(cancelled()));
            }
            (journal.shared.clock.now() >= until).then_some(Ok(()))
        };
        if over(&self.journal).is_none() {
            self.journal.waits(op, Some((until, Then::Nudge)));
        }
        let rested = self.journal.until(op, over).await;
        self.journal.lives(op);
        rested
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(op) = self.op {
            self.journal.dropped(op);
        }
    }
}

/// Reads a recorded value as the type it is asked for.
pub(crate) fn read<T: serde::de::DeserializeOwned>(what: &str, value: &serde_json::value::RawValue) -> Result<T> {
    serde_json::from_str(value.get()).map_err(|e| {
        let error = Error::from(e).into_terminal().code("journal_unreadable");
        error.context(format!("what the journal has of {what} is of another type"))
    })
}
