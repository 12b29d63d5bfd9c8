//! A node's memory of one partition. All of it can be forgotten: Redis and MongoDB know.
//!
//! Invariant: only the store's own threads hold a lock of a place across a wait. A call that is polled on its
//! caller's thread stands still while a handler blocks that, and the next owner would wait for it.

use std::{
    cmp::Ordering::{Equal, Greater, Less},
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Counter, open::Opened, outbox::Outbox, tail::Tail};
use crate::{address::Address, backend::Signals};

/// Actors whose documents are remembered; beyond it they are read or claimed anew, which costs nothing else.
const DOCUMENTS: usize = 32_768;

/// One partition on this node.
#[derive(Default)]
pub(super) struct Place {
    pub(super) tail: Tail,
    pub(super) outbox: Outbox,
    /// The epoch of the owner on this node; 0 when there is none.
    epoch: AtomicU64,
    /// Of the sequences that this owner gives.
    era: AtomicU64,
    /// Of groups of commits, and of all other calls: each rises by one.
    serials: Counter,
    calls: Counter,
    /// Held while a group of commits does its part in Redis.
    pub(super) finishing: tokio::sync::Mutex<()>,
    /// Held while the owner counts attempts, or cancels: the partition remembers the answer to its last call of each.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// Held while this node confirms the partition on a server that may have lost some of it.
    pub(super) warming: tokio::sync::Mutex<()>,
    /// Bytes of messages that wait for their append to be answered.
    pub(super) waiting: AtomicUsize,
    redos: AtomicU64,
    signals: Mutex<Arc<Signals>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Attempts that were counted, of messages that have not ended.
    attempts: HashMap<u64, u32>,
    /// Documents as this owner knows them, by the digest of their address.
    documents: HashMap<u64, Document>,
    /// When this owner came.
    since: Option<Instant>,
    /// The newest messages that are known to have been accepted.
    known: Known,
}

/// What an owner knows of an actor's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// The revision that this owner read or wrote last.
    pub(super) rev: u64,
    /// Whether the document has this owner's epoch: then no earlier owner can write it.
    pub(super) claimed: bool,
    /// Whether a write of this owner is on its way, so that the revision may be the next one.
    writing: bool,
}

/// What a node knows to have been accepted in an era: all numbers from the first to the last one. There may be
/// others before and behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) era: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

fn digest(address: &Address) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{}/{}", address.kind(), address.key()).as_bytes())
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new owner on this node: what the last one knew is forgotten.
    pub(super) fn enter(&self, epoch: u64, era: u64, attempts: HashMap<u64, u32>) {
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        // First: what the last one saw late says nothing of the documents of this one.
        self.epoch.store(0, Ordering::SeqCst);
        {
            let mut inner = self.lock();
            let known = inner.known;
            *inner = Inner { attempts, documents: HashMap::new(), since: Some(Instant::now()), known };
        }
        self.tail.start(epoch);
        self.era.store(era, Ordering::SeqCst);
        self.epoch.store(epoch, Ordering::SeqCst);
        self.outbox.restart();
    }

    /// No owner on this node any more.
    pub(super) fn leave(&self) {
        self.epoch.store(0, Ordering::SeqCst);
        self.tail.start(0);
        self.outbox.restart();
    }

    /// Ends the stay of one owner, unless a later one has come.
    pub(super) fn leave_epoch(&self, epoch: u64) {
        if self.epoch.compare_exchange(epoch, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.leave();
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The era in which this node took the partition.
    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    /// How long this node has owned the partition; nothing when it does not.
    pub(super) fn owned(&self) -> Duration {
        let since = self.lock().since.filter(|_| self.epoch() > 0);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The next serial of a group of commits.
    pub(super) fn next_serial(&self) -> u64 {
        self.serials.next()
    }

    /// The next serial of any other call.
    pub(super) fn next_call(&self) -> u64 {
        self.calls.next()
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

    /// Messages were accepted. Where that was in a later era than the last one, what was known of that.
    pub(super) fn accepted(&self, new: Known) -> Option<Known> {
        let mut inner = self.lock();
        let before = inner.known;
        match new.era.cmp(&before.era) {
            Less => None,
            Equal => {
                // Numbers of an era follow each other: those in between were given to others.
                inner.known.first = before.first.min(new.first);
                inner.known.last = before.last.max(new.last);
                None
            }
            Greater => {
                inner.known = new;
                (before.last > 0).then_some(before)
            }
        }
    }

    pub(super) fn known(&self) -> Known {
        self.lock().known
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

    /// An owner has read, claimed or written an actor's document.
    pub(super) fn saw(&self, epoch: u64, address: &Address, rev: u64, claimed: bool) {
        let mut inner = self.lock();
        if self.epoch() != epoch {
            return;
        }
        if inner.documents.len() >= DOCUMENTS {
            inner.documents.clear();
        }
        let seen = inner.documents.entry(digest(address)).or_insert(Document { rev, claimed, writing: false });
        *seen = Document { rev, claimed: claimed || (seen.claimed && seen.rev == rev), writing: false };
    }

    /// An owner sends a write of an actor's document, or has the answer.
    pub(super) fn writes(&self, epoch: u64, address: &Address, writing: bool) {
        let mut inner = self.lock();
        if self.epoch() == epoch
            && let Some(document) = inner.documents.get_mut(&digest(address))
        {
            document.writing = writing;
        }
    }

    /// Whether another owner has written a document that has just been claimed, after this one opened it. Where a
    /// write of this owner is on its way, its answer will tell. Of one that is not known, it may be that this owner is
    /// opening it just now and has read what was there before.
    pub(super) fn is_behind(&self, epoch: u64, address: &Address, claimed: &Opened) -> bool {
        match self.document(epoch, address) {
            Some(document) => !document.writing && claimed.loaded.rev > document.rev,
            None => claimed.finished,
        }
    }

    /// What an owner knows of an actor's document.
    pub(super) fn document(&self, epoch: u64, address: &Address) -> Option<Document> {
        if self.epoch() != epoch {
            return None;
        }
        self.lock().documents.get(&digest(address)).copied()
    }

    /// Whether an owner is known to have written or claimed an actor's document.
    pub(super) fn claimed(&self, epoch: u64, address: &Address) -> bool {
        self.document(epoch, address).is_some_and(|document| document.claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_document_that_is_not_known_a_commit_that_was_finished_may_have_been_missed() {
        let (place, address) = (Place::default(), "thing/a".parse().unwrap());
        place.enter(7, 1, HashMap::new());
        let found = |finished| Opened { finished, ..Opened::default() };
        assert!(place.is_behind(7, &address, &found(true)));
        assert!(!place.is_behind(7, &address, &found(false)));
        place.saw(7, &address, 0, false);
        assert!(!place.is_behind(7, &address, &found(true)), "it was opened with that");
    }

    #[test]
    fn what_is_known_of_an_era_grows_at_both_ends_and_is_handed_out_when_it_is_over() {
        let place = Place::default();
        let known = |era, first, last| Known { era, first, last };
        assert_eq!(place.accepted(known(1, 5, 5)), None);
        assert_eq!(place.accepted(known(1, 3, 4)), None);
        assert_eq!(place.accepted(known(1, 8, 9)), None);
        assert_eq!(place.known(), known(1, 3, 9));
        assert_eq!(place.accepted(known(2, 101, 100)), Some(known(1, 3, 9)));
        assert_eq!(place.accepted(known(1, 10, 10)), None, "it comes too late");
        assert_eq!(place.accepted(known(2, 104, 104)), None);
        assert_eq!(place.known(), known(2, 101, 104));
    }
}
