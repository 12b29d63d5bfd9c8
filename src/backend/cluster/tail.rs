//! The newest messages of a partition, in memory on its owner, so that a message accepted on the node
//! that handles it is not read back. Only a cache: it holds *every* message after `from`, and whoever
//! has read less than that asks Redis.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    backend::{Home, Stored},
    envelope::{Envelope, Position},
};

const BUDGET: usize = 1 << 20;

/// One partition's tail.
#[derive(Default)]
pub(super) struct Tail(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The owner it is for. What was sent under another one comes too late: its number may have been read and
    /// ended since, and would be handed out again.
    epoch: u64,
    /// Everything after this number is here; `None` when nothing is sure.
    from: Option<u64>,
    /// The newest number that is here or was passed over.
    last: u64,
    bytes: usize,
    ring: VecDeque<(u64, Arc<Envelope>, usize)>,
}

impl Inner {
    fn restart(&mut self, from: Option<u64>) {
        self.from = from;
        self.last = from.unwrap_or(0);
        self.bytes = 0;
        self.ring.clear();
    }

    /// Makes room for `number` as the next one; `false` when it is old.
    fn reach(&mut self, number: u64) -> bool {
        match self.from {
            Some(_) if number <= self.last => return false,
            Some(_) if number == self.last + 1 => {}
            // Somebody else's are between, or nothing was sure.
            _ => self.restart(Some(number - 1)),
        }
        self.last = number;
        true
    }
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another owner, or none: nothing is sure.
    pub(super) fn start(&self, epoch: u64) {
        let mut inner = self.lock();
        inner.epoch = epoch;
        inner.restart(None);
    }

    /// Nothing is sure any more.
    pub(super) fn forget(&self) {
        self.lock().restart(None);
    }

    /// Others have appended up to `number`.
    pub(super) fn beyond(&self, number: u64) {
        let mut inner = self.lock();
        if inner.from.is_some() && number > inner.last {
            inner.restart(Some(number));
        }
    }

    /// A message was appended from here, under an owner.
    pub(super) fn push(&self, epoch: u64, number: u64, envelope: &Arc<Envelope>, size: usize) {
        let mut inner = self.lock();
        if inner.epoch != epoch || !inner.reach(number) {
            return;
        }
        inner.bytes += size + 64;
        inner.ring.push_back((number, envelope.clone(), size));
        while inner.bytes > BUDGET {
            let Some((oldest, _, size)) = inner.ring.pop_front() else { break };
            inner.bytes -= size + 64;
            inner.from = Some(oldest);
        }
    }

    /// A number was given to a message that is not in the mailbox.
    pub(super) fn pass(&self, epoch: u64, number: u64) {
        let mut inner = self.lock();
        if inner.epoch == epoch {
            inner.reach(number);
        }
    }

    /// These have been cancelled.
    pub(super) fn forget_some(&self, gone: HashSet<u64>) {
        let mut inner = self.lock();
        let mut freed = 0;
        inner.ring.retain(|(number, _, size)| {
            let kept = !gone.contains(number);
            freed += if kept { 0 } else { size + 64 };
            kept
        });
        inner.bytes -= freed;
    }

    /// Messages after `after`, or `None` when only Redis knows them all.
    pub(super) fn take(&self, after: Position, limit: usize) -> Option<Vec<Stored>> {
        let mut inner = self.lock();
        if inner.from.is_none_or(|from| after.number() < from) {
            return None;
        }
        while inner.ring.front().is_some_and(|(oldest, ..)| *oldest <= after.number()) {
            if let Some((oldest, _, size)) = inner.ring.pop_front() {
                inner.bytes -= size + 64;
                inner.from = Some(oldest);
            }
        }
        let stored = |(number, envelope, size): &(u64, Arc<Envelope>, usize)| Stored {
            position: Position::new(after.partition(), *number),
            envelope: Ok(envelope.clone()),
            home: Home::Mailbox,
            size: *size,
            attempts: 0,
            failures: Vec::new(),
            due: 0,
            parked: false,
        };
        Some(inner.ring.iter().take(limit).map(stored).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_appended_is_never_passed_over() {
        let tail = Tail::default();
        let envelope: Arc<Envelope> =
            Arc::new(serde_json::from_str(r#"{"to":{"kind":"a","key":"b"},"command":1,"accepted":0}"#).unwrap());
        let numbers = |after| {
            let found = tail.take(Position::new(3, after), 10)?;
            Some(found.iter().map(|stored| stored.position.number()).collect::<Vec<_>>())
        };
        assert_eq!(numbers(0), None, "nothing is known at first");
        tail.push(0, 5, &envelope, 10);
        assert_eq!((numbers(3), numbers(4)), (None, Some(vec![5])));
        tail.pass(0, 6);
        tail.push(0, 7, &envelope, 10);
        assert_eq!(numbers(5), Some(vec![7]));
        tail.push(0, 9, &envelope, 10);
        assert_eq!((numbers(7), numbers(8)), (None, Some(vec![9])), "8 is somebody else's");
        tail.push(0, 8, &envelope, 10);
        assert_eq!(numbers(8), Some(vec![9]), "what came late was read by whoever has read so far");
        tail.beyond(12);
        assert_eq!((numbers(11), numbers(12)), (None, Some(vec![])));
        tail.push(0, 13, &envelope, BUDGET);
        tail.push(0, 14, &envelope, 1);
        assert_eq!((numbers(12), numbers(13)), (None, Some(vec![14])));
        tail.forget();
        assert_eq!(numbers(14), None);
    }

    #[test]
    fn what_was_sent_under_an_earlier_owner_comes_too_late() {
        let tail = Tail::default();
        let envelope: Arc<Envelope> =
            Arc::new(serde_json::from_str(r#"{"to":{"kind":"a","key":"b"},"command":1,"accepted":0}"#).unwrap());
        tail.start(2);
        tail.push(1, 5, &envelope, 10);
        tail.pass(1, 6);
        assert!(tail.take(Position::new(3, 4), 10).is_none(), "5 may have been read and ended since");
        tail.push(2, 7, &envelope, 10);
        assert_eq!(tail.take(Position::new(3, 6), 10).unwrap().len(), 1);
    }
}
