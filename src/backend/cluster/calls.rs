//! Calls that wait for their partition: one of a partition is on its way at a time, so a partition whose server
//! stands still holds up itself alone. The tenants take turns, and in theirs the partitions of each. Some
//! messages for one partition are one call, which costs the store little more than one message does.
//!
//! Invariant: what is one tenant's for one partition leaves in the order in which it came.

use std::collections::{HashMap, VecDeque};

use crate::backend::{Tenant, turns::Turns};

/// Whose it is, if it is known, and the partition it is for.
pub(super) type Queue = (Option<Tenant>, u16);

/// What waits, and which partitions have a call on its way.
pub(super) struct Calls<T> {
    /// Each item with how many messages it is.
    queues: HashMap<Queue, VecDeque<(usize, T)>>,
    /// Queues of partitions without a call on its way.
    turns: Turns<Option<Tenant>, Queue>,
    /// Queues of the others.
    held: HashMap<u16, Held>,
}

/// Queues of a partition that has a call on its way.
#[derive(Default)]
struct Held {
    /// The one that the call was taken from, if there is more in it: the others go first.
    served: Option<Queue>,
    waiting: Vec<Queue>,
}

/// A call that may go: its partition, how many messages it is, and what they are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call<T> {
    pub(super) partition: u16,
    pub(super) weight: usize,
    pub(super) items: Vec<T>,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: Turns::default(), held: HashMap::new() }
    }
}

impl<T> Calls<T> {
    /// Adds an item to its queue.
    pub(super) fn push(&mut self, queue: Queue, weight: usize, item: T) {
        let items = self.queues.entry(queue).or_insert_with(|| {
            match self.held.get_mut(&queue.1) {
                Some(held) => held.waiting.push(queue),
                None => self.turns.push(queue.0, queue),
            }
            VecDeque::new()
        });
        items.push_back((weight, item));
    }

    /// The next call of a partition that has none on its way, of no more than `most` messages unless its first
    /// item alone is more. From now on the partition has one.
    pub(super) fn next(&mut self, most: usize) -> Option<Call<T>> {
        let queue = loop {
            let queue = self.turns.pop()?;
            match self.held.get_mut(&queue.1) {
                Some(held) => held.waiting.push(queue),
                None => break queue,
            }
        };
        let queued = self.queues.get_mut(&queue)?;
        let (mut items, mut weight) = (Vec::new(), 0);
        while let Some((weighs, item)) = queued.pop_front_if(|(weighs, _)| weight == 0 || weight + *weighs <= most) {
            weight += weighs;
            items.push(item);
        }
        let served = (!queued.is_empty()).then_some(queue);
        if served.is_none() {
            self.queues.remove(&queue);
        }
        self.held.insert(queue.1, Held { served, waiting: Vec::new() });
        Some(Call { partition: queue.1, weight, items })
    }

    /// A partition's call has been answered.
    pub(super) fn answered(&mut self, partition: u16) {
        let Held { served, waiting } = self.held.remove(&partition).unwrap_or_default();
        for queue in waiting.into_iter().chain(served) {
            self.turns.push(queue.0, queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: u64 = 1;
    const BOB: u64 = 2;

    fn of(tenant: u64, partition: u16) -> Queue {
        (Some(Tenant(tenant)), partition)
    }

    /// Takes all that may go, and answers it.
    fn round(calls: &mut Calls<u16>, most: usize) -> Vec<Vec<u16>> {
        let taken: Vec<_> = std::iter::from_fn(|| calls.next(most)).collect();
        taken.iter().for_each(|call| calls.answered(call.partition));
        taken.into_iter().map(|call| call.items).collect()
    }

    #[test]
    fn each_tenant_has_a_call_before_any_has_a_second() {
        let mut calls = Calls::default();
        for n in 0..6 {
            calls.push(of(ANN, n % 2), 1, n);
        }
        for n in 10..14 {
            calls.push(of(BOB, 0), 1, n);
        }
        assert_eq!(round(&mut calls, 2), [vec![0, 2], vec![1, 3]], "one call of a partition at a time, and in order");
        assert_eq!(round(&mut calls, 2), [vec![10, 11], vec![5]]);
        assert_eq!(round(&mut calls, 2), [vec![4]]);
        assert_eq!(round(&mut calls, 2), [vec![12, 13]]);
        assert!(calls.next(2).is_none() && calls.queues.is_empty() && calls.turns.is_empty() && calls.held.is_empty());
    }

    #[test]
    fn a_partition_that_is_not_answered_holds_up_no_other() {
        let mut calls = Calls::default();
        for (partition, n) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            calls.push((None, partition), 1, n);
        }
        let items = |call: Option<Call<u16>>| call.map(|call| (call.partition, call.items));
        assert_eq!(items(calls.next(1)), Some((0, vec![1])));
        assert_eq!(items(calls.next(1)), Some((1, vec![2])));
        assert_eq!(items(calls.next(1)), None);
        calls.answered(1);
        assert_eq!(items(calls.next(1)), Some((1, vec![4])));
        calls.push((None, 0), 1, 5);
        assert_eq!(items(calls.next(9)), None);
        calls.answered(0);
        assert_eq!(items(calls.next(9)), Some((0, vec![3, 5])));
    }

    #[test]
    fn a_call_is_no_larger_than_it_may_be_unless_one_item_is() {
        let mut calls = Calls::default();
        for (weight, item) in [(3, 1), (2, 2), (9, 3), (1, 4)] {
            calls.push((None, 7), weight, item);
        }
        let taken: Vec<_> = std::iter::from_fn(|| {
            calls.answered(7);
            calls.next(4)
        })
        .map(|call| (call.weight, call.items))
        .collect();
        assert_eq!(taken, [(3, vec![1]), (2, vec![2]), (9, vec![3]), (1, vec![4])]);
    }
}
