//! The accounts, and what time it is for the store.

use std::sync::atomic::Ordering::SeqCst;

use super::Recorder;
use crate::{
    backend::{Audit, Books, Fut, Ledger},
    clock::Clock,
    error::Result,
};

impl Books for Recorder {
    fn ledgers(&self) -> Fut<'_, Result<Vec<Ledger>>> {
        self.live(self.store.ledgers())
    }

    fn audit(&self) -> Fut<'_, Result<Audit>> {
        self.live(self.store.audit())
    }

    fn runnable(&self, now: i64) -> Fut<'_, Result<u64>> {
        self.live(self.store.runnable(now))
    }

    fn oldest(&self) -> Fut<'_, Result<Option<i64>>> {
        self.live(self.store.oldest())
    }

    fn time(&self) -> Fut<'_, Result<Option<i64>>> {
        match self.hold.as_ref().map_or(0, |hold| hold.behind.load(SeqCst)) {
            0 => self.live(self.store.time()),
            behind => Box::pin(std::future::ready(Ok(Some(Clock::System.now() - behind)))),
        }
    }

    fn ready(&self) -> Fut<'_, Result<()>> {
        self.live(self.store.ready())
    }
}
