//! What clients and killer share: which nodes there are, how much was promised, whether it is over.

use std::{
    sync::{
        Condvar, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::PATIENCE;

/// Shared by all threads of a run.
#[derive(Default)]
pub(crate) struct Stage {
    nodes: RwLock<Vec<String>>,
    promises: AtomicU64,
    /// No more tellings are begun.
    closed: AtomicBool,
    /// Something went wrong: leave everything.
    abandoned: AtomicBool,
    waiting: Mutex<()>,
    heard: Condvar,
}

impl Stage {
    /// The gateways there are; some may be paused or about to be killed.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.nodes.read().unwrap().clone()
    }

    /// From now on these are the gateways.
    pub(crate) fn publish(&self, nodes: Vec<String>) {
        *self.nodes.write().unwrap() = nodes;
    }

    /// One more promise was heard.
    pub(crate) fn promised(&self) {
        self.promises.fetch_add(1, Ordering::SeqCst);
        self.heard.notify_all();
    }

    pub(crate) fn promises(&self) -> u64 {
        self.promises.load(Ordering::SeqCst)
    }

    /// Waits for `more` promises; an error when they do not come.
    pub(crate) fn hear(&self, more: u64) -> Result<(), String> {
        let until = self.promises() + more;
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.waiting.lock().unwrap();
        while self.promises() < until {
            assert!(!self.abandoned(), "another thread failed, see above");
            if Instant::now() > deadline {
                return Err(format!("fewer than {more} promises in {PATIENCE:?}"));
            }
            // Promises are counted without the lock, so a signal may be missed: look again soon.
            guard = self.heard.wait_timeout(guard, Duration::from_millis(5)).expect("nothing panics with it").0;
        }
        Ok(())
    }

    /// Lets a client rest until `due`: load has a rate.
    pub(crate) fn rest(&self, due: Instant) {
        while Instant::now() < due && !self.closed() {
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }
}

/// Ends the run when it goes out of scope by a panic, so that no thread waits for ever.
pub(crate) struct Curtain<'a>(pub(crate) &'a Stage);

impl Drop for Curtain<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandoned.store(true, Ordering::SeqCst);
            self.0.close();
        }
    }
}
