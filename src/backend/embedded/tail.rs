//! The newest messages of a partition, kept in memory between the writer and the reader, so that
//! a message that is handled soon is never read back from the file. Only a cache: it holds *every*
//! committed message after `since`, and forgets the oldest when it is over its budget.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    backend::{Home, Signals, Stored},
    envelope::{Envelope, Position},
};

const BUDGET: usize = 1 << 20;

/// A message just committed.
pub(super) struct Fresh {
    pub(super) position: Position,
    pub(super) envelope: Arc<Envelope>,
    pub(super) size: usize,
}

/// One partition's tail.
pub(super) struct Tail {
    inner: Mutex<Inner>,
    signals: Mutex<Arc<Signals>>,
}

struct Inner {
    since: Position,
    bytes: usize,
    ring: VecDeque<Fresh>,
}

impl Tail {
    /// An empty tail of a partition whose last message so far is `since`.
    pub(super) fn new(since: Position) -> Self {
        Self { inner: Mutex::new(Inner { since, bytes: 0, ring: VecDeque::new() }), signals: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What wakes the partition's present owner.
    pub(super) fn signals(&self) -> Arc<Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new owner gets signals of its own: the old one, perhaps on a thread that is stuck, must not
    /// swallow what wakes the new one.
    pub(super) fn renew(&self) {
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// Adds committed messages, in order. The caller notifies.
    pub(super) fn push(&self, fresh: impl Iterator<Item = Fresh>) {
        let mut inner = self.lock();
        for message in fresh {
            inner.bytes += message.size + 64;
            inner.ring.push_back(message);
        }
        while inner.bytes > BUDGET {
            let Some(oldest) = inner.ring.pop_front() else { break };
            inner.bytes -= oldest.size + 64;
            inner.since = oldest.position;
        }
    }

    /// These have been cancelled.
    pub(super) fn forget(&self, gone: HashSet<Position>) {
        let mut inner = self.lock();
        let mut freed = 0;
        inner.ring.retain(|message| {
            let kept = !gone.contains(&message.position);
            freed += if kept { 0 } else { message.size + 64 };
            kept
        });
        inner.bytes -= freed;
    }

    /// Messages after `after`, or `None` when some of them may be only in the file.
    pub(super) fn take(&self, after: Position, limit: usize) -> Option<Vec<Stored>> {
        let mut inner = self.lock();
        if after < inner.since {
            return None;
        }
        while inner.ring.front().is_some_and(|oldest| oldest.position <= after) {
            if let Some(oldest) = inner.ring.pop_front() {
                inner.bytes -= oldest.size + 64;
                inner.since = oldest.position;
            }
        }
        let fresh = |message: &Fresh| Stored {
            position: message.position,
            envelope: Ok(message.envelope.clone()),
            home: Home::Mailbox,
            size: message.size,
            attempts: 0,
            failures: Vec::new(),
            due: 0,
            parked: false,
        };
        Some(inner.ring.iter().take(limit).map(fresh).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(number: u64, size: usize) -> Fresh {
        let envelope = Envelope {
            to: "a/b".parse().unwrap(),
            command: serde_json::value::to_raw_value(&1).unwrap(),
            accepted: 0,
            request: false,
            trace: None,
            reply: None,
            cause: None,
            asked: None,
            then: None,
            slot: None,
            note: None,
        };
        Fresh { position: Position::new(0, number), envelope: Arc::new(envelope), size }
    }

    #[test]
    fn what_it_no_longer_holds_it_does_not_pretend_to_know() {
        let tail = Tail::new(Position::new(0, 5));
        let numbers = |after, limit| {
            tail.take(Position::new(0, after), limit)
                .map(|found| found.iter().map(|m| m.position.number()).collect::<Vec<_>>())
        };
        assert_eq!(numbers(4, 10), None);
        assert_eq!(numbers(5, 10), Some(vec![]));
        tail.push([fresh(6, 10), fresh(7, 10), fresh(8, 10)].into_iter());
        assert_eq!(numbers(5, 2), Some(vec![6, 7]));
        assert_eq!(numbers(7, 2), Some(vec![8]));
        tail.push([fresh(9, BUDGET), fresh(10, 1)].into_iter());
        assert_eq!(numbers(8, 10), None);
        assert_eq!(numbers(9, 10), Some(vec![10]));
    }
}
