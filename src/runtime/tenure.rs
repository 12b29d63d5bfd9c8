//! One owner's time with a partition, as its thread and the rest of the node both see it.
//!
//! Invariant: a tenure that is over never begins again; a partition that is opened anew has a new one.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a partition may still begin work.
#[derive(Debug, Default)]
pub(crate) struct Tenure {
    over: AtomicBool,
    lost: AtomicBool,
}

impl Tenure {
    /// From now on nothing begins, also on a thread that hears of it only later.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// The store said that another owner has taken over.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.end();
    }

    pub(crate) fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether it ended because the store said so, and nobody has cleared up after it yet.
    pub(crate) fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}
