//! Parcels of an outbox in memory: a window of what is in Redis, with a queue for each receiver.
//!
//! Invariant: the queue of a receiver holds its next parcels in order of their serial, each once and without a
//! hole; what comes after them is in Redis. So nothing depends on the order in which commits tell of their
//! parcels, on how late they do, or on whether they do at all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{encode::Parcel, pack::Unpacker};
use crate::envelope::Envelope;

/// Bytes in memory of one receiver, and of all: beyond them parcels are left in Redis.
const EACH: usize = 1 << 20;
const ALL: usize = 32 << 20;

/// A parcel with its place in the outbox.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) serial: u64,
    pub(super) era: u64,
    pub(super) seq: u64,
    pub(super) to: u16,
    pub(super) head: Bytes,
    pub(super) bytes: Bytes,
    /// What the bytes are; nothing where they cannot be read, which is for the receiver to bury.
    pub(super) envelope: Option<Arc<Envelope>>,
}

impl Leaving {
    /// One that a commit has just put there.
    pub(super) fn new(serial: u64, era: u64, seq: u64, parcel: Parcel) -> Self {
        let Parcel { to, head, bytes, envelope } = parcel;
        Self { serial, era, seq, to, head, bytes, envelope: Some(envelope) }
    }

    /// Reads an entry of the outbox, `{to era seq head envelope}`; nothing when it is none.
    pub(super) fn read(serial: u64, packed: &[u8]) -> Option<Self> {
        let mut read = Unpacker::array(packed, 5)?;
        let (to, era, seq) = (read.int()?.try_into().ok()?, read.int()? as u64, read.int()? as u64);
        let (head, bytes) = (read.bytes()?.to_vec().into(), read.bytes()?.to_vec());
        let envelope = serde_json::from_slice(&bytes).ok().map(Arc::new);
        Some(Self { serial, era, seq, to, head, bytes: bytes.into(), envelope })
    }

    fn weight(&self) -> usize {
        self.bytes.len() + 128
    }
}

/// Parcels of one receiver.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Leaving>,
    bytes: usize,
    /// Some are on their way; no others of this receiver go.
    busy: bool,
    /// Serial, era and sequence of the last one that was taken in.
    last: (u64, u64, u64),
    /// The first one that was left in Redis.
    left: Option<u64>,
}

/// The window.
pub(super) struct Parcels {
    queues: BTreeMap<u16, Queue>,
    bytes: usize,
    /// What is after this serial is to be read.
    behind: Option<u64>,
    /// Whether commits have put parcels there since reading was begun.
    missed: bool,
}

impl Default for Parcels {
    /// Nothing is known: all of it is in Redis.
    fn default() -> Self {
        Self { queues: BTreeMap::new(), bytes: 0, behind: Some(0), missed: false }
    }
}

impl Parcels {
    /// A parcel that a commit has just put into the outbox.
    pub(super) fn push(&mut self, leaving: Leaving) {
        if self.behind.is_some() {
            self.missed = true;
            return;
        }
        let queue = self.queues.get(&leaving.to);
        let ((serial, era, seq), left) = queue.map_or(((0, 0, 0), false), |queue| (queue.last, queue.left.is_some()));
        if leaving.era == era && leaving.seq > seq + 1 && !left {
            // Those between were put there by a commit whose answer is still on its way.
            return self.read_after(serial);
        }
        self.take_in(leaving);
    }

    /// Takes a parcel in, if it is the next one of its receiver and there is room.
    fn take_in(&mut self, leaving: Leaving) {
        let queue = self.queues.entry(leaving.to).or_default();
        let met = leaving.serial <= queue.last.0;
        if met || queue.left.is_some_and(|left| left != leaving.serial) {
            return;
        }
        let full = queue.bytes >= EACH || (self.bytes >= ALL && !queue.waiting.is_empty());
        queue.left = full.then_some(leaving.serial);
        if !full {
            queue.bytes += leaving.weight();
            self.bytes += leaving.weight();
            queue.last = (leaving.serial, leaving.era, leaving.seq);
            queue.waiting.push_back(leaving);
        }
    }

    fn read_after(&mut self, serial: u64) {
        self.behind = Some(self.behind.map_or(serial, |behind| behind.min(serial)));
        self.missed = true;
    }

    /// There may be parcels in Redis that no commit told of.
    pub(super) fn look_again(&mut self) {
        self.read_after(0);
    }

    /// After which serial the outbox is to be read; nothing when there is nothing to read or no room.
    pub(super) fn behind(&self) -> Option<u64> {
        self.behind
    }

    /// Said before the outbox is read.
    pub(super) fn begin(&mut self) {
        self.missed = false;
    }

    /// What was found after a serial up to another one, in order; nothing when that was all.
    pub(super) fn found(&mut self, after: u64, to: Option<u64>, found: Vec<Leaving>) {
        if self.behind != Some(after) {
            return;
        }
        let gone = |left: u64| {
            let passed = left > after && to.is_none_or(|to| left <= to);
            passed && found.binary_search_by_key(&left, |leaving| leaving.serial).is_err()
        };
        // What was left there and is there no more is not waited for.
        for queue in self.queues.values_mut() {
            queue.left = queue.left.filter(|left| !gone(*left));
        }
        match to {
            Some(to) => self.behind = Some(to),
            None if self.missed => {}
            None => self.behind = None,
        }
        found.into_iter().for_each(|leaving| self.take_in(leaving));
    }

    /// Parcels of each receiver that is `ready` and that none are on their way to, those of a receiver of one era.
    pub(super) fn take(&mut self, most: usize, bytes: usize, ready: impl Fn(u16) -> bool) -> Vec<(u16, Vec<Leaving>)> {
        let (mut batches, mut left) = (Vec::new(), None::<u64>);
        for (to, queue) in &mut self.queues {
            if queue.busy || !ready(*to) {
                continue;
            }
            let era = queue.waiting.front().map(|first| first.era);
            let (mut batch, mut weight) = (Vec::new(), 0);
            let fits =
                |next: &Leaving, weight| Some(next.era) == era && (weight == 0 || weight + next.weight() <= bytes);
            while batch.len() < most
                && let Some(next) = queue.waiting.pop_front_if(|next| fits(next, weight))
            {
                weight += next.weight();
                batch.push(next);
            }
            if batch.is_empty() {
                left = left.into_iter().chain(queue.left).min();
                continue;
            }
            queue.busy = true;
            queue.bytes -= weight;
            self.bytes -= weight;
            batches.push((*to, batch));
        }
        if let Some(left) = left {
            self.read_after(left - 1);
        }
        batches
    }

    /// A delivery has arrived.
    pub(super) fn arrived(&mut self, to: u16) {
        self.queues.entry(to).or_default().busy = false;
    }

    /// A delivery has not arrived: its parcels are the first of their receiver again.
    pub(super) fn put_back(&mut self, to: u16, leaving: Vec<Leaving>) {
        let queue = self.queues.entry(to).or_default();
        queue.busy = false;
        for one in leaving.into_iter().rev() {
            queue.bytes += one.weight();
            self.bytes += one.weight();
            queue.waiting.push_front(one);
        }
    }

    /// A receiver misses something before a delivery: all that is for it is read again.
    pub(super) fn again(&mut self, to: u16) {
        if let Some(queue) = self.queues.remove(&to) {
            self.bytes -= queue.bytes;
        }
        self.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A parcel of this size for a receiver, with its serial and sequence.
    fn parcel(to: u16, serial: u64, seq: u64, size: usize) -> Leaving {
        Leaving { serial, era: 1, seq, to, head: Bytes::new(), bytes: vec![0; size].into(), envelope: None }
    }

    fn found(window: &mut Parcels, after: u64, all: Vec<Leaving>) {
        window.found(after, all.last().map(|last| last.serial), all);
    }

    /// A window that has read an empty outbox.
    fn window() -> Parcels {
        let mut window = Parcels::default();
        window.begin();
        found(&mut window, 0, Vec::new());
        assert_eq!(window.behind(), None);
        window
    }

    fn taken(window: &mut Parcels) -> Vec<(u16, Vec<u64>)> {
        let batches = window.take(1024, 1 << 20, |_| true);
        batches.into_iter().map(|(to, all)| (to, all.iter().map(|leaving| leaving.seq).collect())).collect()
    }

    #[test]
    fn a_parcel_that_was_read_before_its_commit_told_of_it_is_there_once() {
        let mut window = window();
        window.look_again();
        window.begin();
        let read = (1..=3000).map(|n| parcel(7, n, n, 1)).collect();
        found(&mut window, 0, read);
        for n in 1..=3000 {
            window.push(parcel(7, n, n, 1));
        }
        assert_eq!(window.behind(), Some(3000), "a commit has told of something meanwhile");
        window.begin();
        found(&mut window, 3000, Vec::new());
        let mut seqs = Vec::new();
        while let Some((_, some)) = taken(&mut window).pop() {
            seqs.extend(some);
            window.arrived(7);
        }
        assert_eq!(seqs, (1..=3000).collect::<Vec<_>>());
    }

    #[test]
    fn a_parcel_whose_commit_is_slow_to_tell_is_read_before_later_ones() {
        let mut window = window();
        window.push(parcel(7, 1, 1, 1));
        assert_eq!(taken(&mut window), [(7, vec![1])]);
        window.arrived(7);
        window.push(parcel(7, 3, 3, 1));
        assert_eq!((taken(&mut window), window.behind()), (vec![], Some(1)));
        window.begin();
        found(&mut window, 1, vec![parcel(7, 2, 2, 1), parcel(7, 3, 3, 1)]);
        assert_eq!(taken(&mut window), [(7, vec![2, 3])]);
    }

    #[test]
    fn a_receiver_that_is_away_leaves_its_parcels_in_redis_and_holds_up_no_other() {
        let mut window = window();
        let large = EACH / 2;
        for n in 1..=4 {
            window.push(parcel(7, n, n, large));
        }
        window.push(parcel(8, 5, 1, 1));
        let first = window.take(1, 1 << 20, |_| true);
        assert_eq!(first.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [7, 8]);
        window.arrived(8);
        window.push(parcel(8, 6, 2, 1));
        assert_eq!(taken(&mut window), [(8, vec![2])]);
        let (_, batch) = first.into_iter().next().unwrap();
        window.put_back(7, batch);
        assert_eq!(taken(&mut window), [(7, vec![1])]);
        window.arrived(7);
        assert_eq!(taken(&mut window), [(7, vec![2])]);
        window.arrived(7);
        window.arrived(8);
        assert_eq!(taken(&mut window), []);
        assert_eq!(window.behind(), Some(2), "the rest is read when its turn comes");
        window.begin();
        found(&mut window, 2, vec![parcel(7, 3, 3, large), parcel(7, 4, 4, large), parcel(8, 6, 2, 1)]);
        assert_eq!(taken(&mut window), [(7, vec![3])], "and what others had is not taken in again");
    }

    #[test]
    fn what_was_left_in_redis_and_is_gone_from_there_is_not_waited_for() {
        let mut window = window();
        for n in 1..=3 {
            window.push(parcel(7, n, n, EACH));
        }
        assert_eq!(taken(&mut window), [(7, vec![1])]);
        window.arrived(7);
        assert_eq!((taken(&mut window), window.behind()), (vec![], Some(1)));
        window.begin();
        found(&mut window, 1, vec![parcel(7, 3, 3, 1)]);
        assert_eq!(taken(&mut window), [(7, vec![3])]);
        window.arrived(7);
        window.begin();
        found(&mut window, 3, Vec::new());
        assert_eq!((taken(&mut window), window.behind()), (vec![], None), "there is nothing to read on for");
    }

    #[test]
    fn what_a_receiver_misses_is_read_from_the_beginning() {
        let mut window = window();
        window.push(parcel(7, 1, 1, 1));
        window.push(parcel(8, 2, 1, 1));
        assert_eq!(taken(&mut window).len(), 2);
        window.again(7);
        assert_eq!(window.behind(), Some(0));
        window.begin();
        found(&mut window, 0, vec![parcel(7, 1, 1, 1), parcel(8, 2, 1, 1)]);
        assert_eq!(taken(&mut window), [(7, vec![1])]);
    }
}
