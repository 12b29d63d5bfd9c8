//! What a node keeps in memory of one partition. All of it can be forgotten: Redis knows.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Counter, outbox::Outbox, tail::Tail};
use crate::{address::Address, backend::Signals};

/// Claims remembered; beyond it they are made anew, which costs a write each and nothing else.
const CLAIMS: usize = 100_000;

/// One partition on this node.
#[derive(Default)]
pub(super) struct Place {
    pub(super) tail: Tail,
    pub(super) outbox: Outbox,
    /// The epoch of the owner on this node; 0 when there is none.
    epoch: AtomicU64,
    serials: Counter,
    /// Held while a group of commits does its part in Redis.
    pub(super) finishing: tokio::sync::Mutex<()>,
    redos: AtomicU64,
    signals: Mutex<Arc<Signals>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Attempts that were counted, of messages that have not ended.
    attempts: HashMap<u64, u32>,
    /// Actors whose saved document has this epoch: no earlier owner can write it.
    claims: HashSet<u64>,
    /// When this owner came.
    since: Option<Instant>,
}

fn digest(address: &Address) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{}/{}", address.kind(), address.key()).as_bytes())
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new owner on this node: what the last one knew is forgotten.
    pub(super) fn enter(&self, epoch: u64, attempts: HashMap<u64, u32>) {
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        *self.lock() = Inner { attempts, claims: HashSet::new(), since: Some(Instant::now()) };
        self.tail.forget();
        self.epoch.store(epoch, Ordering::SeqCst);
        self.outbox.restart();
    }

    /// No owner on this node any more.
    pub(super) fn leave(&self) {
        self.epoch.store(0, Ordering::SeqCst);
        self.outbox.restart();
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// How long this node has owned the partition; nothing when it does not.
    pub(super) fn owned(&self) -> Duration {
        let since = self.lock().since.filter(|_| self.epoch() > 0);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn next_serial(&self) -> u64 {
        self.serials.next()
    }

    /// Commits of earlier owners, or of this one while they are on their way, are about to be finished.
    pub(super) fn redo(&self) {
        self.redos.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was.
    pub(super) fn redone(&self) -> u64 {
        self.redos.load(Ordering::SeqCst)
    }

    /// What wakes the present owner.
    pub(super) fn signals(&self) -> Arc<Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something was added from here.
    pub(super) fn notify(&self, mail: bool, timer: bool) {
        let signals = self.signals();
        if mail {
            signals.arrived.notify_one();
        }
        if timer {
            signals.deferred.notify_one();
        }
    }

    /// There may be more in Redis than this node knows.
    pub(super) fn look_again(&self) {
        self.tail.forget();
        self.notify(true, true);
    }

    /// Attempts counted of a message.
    pub(super) fn attempts(&self, number: u64) -> u32 {
        self.lock().attempts.get(&number).copied().unwrap_or(0)
    }

    pub(super) fn counted(&self, counts: impl Iterator<Item = (u64, u32)>) {
        self.lock().attempts.extend(counts);
    }

    /// Messages that have ended.
    pub(super) fn ended(&self, numbers: impl Iterator<Item = u64>) {
        let mut inner = self.lock();
        if !inner.attempts.is_empty() {
            for number in numbers {
                inner.attempts.remove(&number);
            }
        }
    }

    /// This epoch has written or claimed an actor's document.
    pub(super) fn claim(&self, epoch: u64, address: &Address) {
        let mut inner = self.lock();
        if self.epoch() != epoch {
            return;
        }
        if inner.claims.len() >= CLAIMS {
            inner.claims.clear();
        }
        inner.claims.insert(digest(address));
    }

    /// Whether this epoch is known to have written or claimed an actor's document.
    pub(super) fn claimed(&self, epoch: u64, address: &Address) -> bool {
        self.epoch() == epoch && self.lock().claims.contains(&digest(address))
    }
}
