//! What waits for a connection: the tenants take turns, and in theirs the partitions of each. Some messages for
//! one partition are one call, which costs the store little more than one message does.
//!
//! Invariant: what is one tenant's for one partition leaves in the order in which it came.

use std::collections::{HashMap, VecDeque};

use crate::backend::{Tenant, turns::Turns};

/// Whose it is, if it is known, and the partition it is for.
pub(super) type Queue = (Option<Tenant>, u16);

pub(super) struct Calls<T> {
    /// Each with how many messages it is.
    queues: HashMap<Queue, VecDeque<(usize, T)>>,
    turns: Turns<Option<Tenant>, Queue>,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), turns: Turns::default() }
    }
}

impl<T> Calls<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn push(&mut self, queue: Queue, weight: usize, item: T) {
        let items = self.queues.entry(queue).or_insert_with(|| {
            self.turns.push(queue.0, queue);
            VecDeque::new()
        });
        items.push_back((weight, item));
    }

    /// The next call, and how many messages it is: no more than `most`, unless its first item alone is more.
    pub(super) fn next(&mut self, most: usize) -> Option<(usize, Vec<T>)> {
        let queue = self.turns.pop()?;
        let items = self.queues.get_mut(&queue)?;
        let (mut call, mut weighs) = (Vec::new(), 0);
        while let Some((weight, item)) = items.pop_front_if(|(weight, _)| weighs == 0 || weighs + *weight <= most) {
            weighs += weight;
            call.push(item);
        }
        if items.is_empty() {
            self.queues.remove(&queue);
        } else {
            self.turns.push(queue.0, queue);
        }
        Some((weighs, call))
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

    #[test]
    fn each_tenant_has_a_call_before_any_has_a_second() {
        let mut calls = Calls::default();
        for n in 0..6 {
            calls.push(of(ANN, n % 2), 1, n);
        }
        for n in 10..14 {
            calls.push(of(BOB, 0), 1, n);
        }
        let taken: Vec<_> = std::iter::from_fn(|| calls.next(2)).map(|(_, call)| call).collect();
        let expected = [vec![0, 2], vec![10, 11], vec![1, 3], vec![12, 13], vec![4], vec![5]];
        assert_eq!(taken, expected, "a call is for one partition, and in order");
        assert!(calls.is_empty() && calls.turns.is_empty());
    }

    #[test]
    fn a_call_is_no_larger_than_it_may_be_unless_one_item_is() {
        let mut calls = Calls::default();
        for (weight, item) in [(3, 'a'), (2, 'b'), (9, 'c'), (1, 'd')] {
            calls.push((None, 7), weight, item);
        }
        let taken: Vec<_> = std::iter::from_fn(|| calls.next(4)).collect();
        assert_eq!(taken, [(3, vec!['a']), (2, vec!['b']), (9, vec!['c']), (1, vec!['d'])]);
    }
}
