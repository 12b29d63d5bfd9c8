//! Taking turns: where several tenants want something of one thing, each gets its next one before any gets a
//! second, and nobody waits behind more than a little.
//!
//! Large groups are what makes a store quick, and what makes whoever comes next wait. So groups are as large as
//! they can be while one tenant is there alone, and small while there are [several](Company).
//!
//! Invariant: what is one tenant's leaves in the order in which it came.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::Tenant;
use crate::clock::Clock;

/// Whoever was there this long ago is expected back (milliseconds).
const LATELY: i64 = 10_000;

/// A queue for each of those who take turns.
pub(crate) struct Turns<K, T> {
    queues: HashMap<K, VecDeque<T>>,
    ring: VecDeque<K>,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { queues: HashMap::new(), ring: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, T> Turns<K, T> {
    pub(crate) fn push(&mut self, tenant: K, item: T) {
        let queue = self.queues.entry(tenant).or_insert_with(|| {
            self.ring.push_back(tenant);
            VecDeque::new()
        });
        queue.push_back(item);
    }

    /// The next one.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let tenant = self.ring.pop_front()?;
        let queue = self.queues.get_mut(&tenant)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&tenant);
        } else {
            self.ring.push_back(tenant);
        }
        item
    }

    /// What comes next.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.peek_of(*self.ring.front()?)
    }

    /// What comes next of somebody.
    pub(crate) fn peek_of(&self, tenant: K) -> Option<&T> {
        self.queues.get(&tenant)?.front()
    }

    /// The next one of somebody, whose turn that was.
    pub(crate) fn pop_of(&mut self, tenant: K) -> Option<T> {
        let queue = self.queues.get_mut(&tenant)?;
        let item = queue.pop_front();
        let over = queue.is_empty();
        // Those whose turn it is are at the front.
        if let Some(at) = self.ring.iter().position(|other| *other == tenant) {
            self.ring.remove(at);
        }
        if over {
            self.queues.remove(&tenant);
        } else {
            self.ring.push_back(tenant);
        }
        item
    }

    /// Who has something here.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = K> {
        self.ring.iter().copied()
    }

    /// How many have something here.
    pub(crate) fn tenants(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.queues.clear();
        self.ring.clear();
    }
}

/// Whether several tenants were there lately.
pub(crate) struct Company {
    last: AtomicU64,
    several: AtomicI64,
}

impl Default for Company {
    fn default() -> Self {
        Self { last: AtomicU64::new(0), several: AtomicI64::new(i64::MIN) }
    }
}

impl Company {
    /// A tenant wants something.
    pub(crate) fn saw(&self, tenant: Tenant) {
        let before = self.last.swap(tenant.0, Ordering::Relaxed);
        if before != 0 && before != tenant.0 {
            self.several.store(Clock::System.steady(), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_several(&self) -> bool {
        let at = self.several.load(Ordering::Relaxed);
        at != i64::MIN && Clock::System.steady() - at < LATELY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gets_its_next_before_any_gets_a_second() {
        let (ann, bob) = (Some(Tenant::of("ann")), Some(Tenant::of("bob")));
        let mut turns = Turns::default();
        for n in 1..=4 {
            turns.push(ann, n);
        }
        turns.push(None, 10);
        turns.push(bob, 20);
        turns.push(None, 11);
        let order: Vec<i32> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [1, 10, 20, 2, 11, 3, 4]);
        assert!(turns.is_empty() && turns.queues.is_empty());
    }

    #[test]
    fn who_was_taken_from_is_last() {
        let mut turns = Turns::default();
        for (tenant, n) in [(1, 10), (1, 11), (2, 20), (3, 30)] {
            turns.push(tenant, n);
        }
        assert_eq!(turns.pop_of(1), Some(10));
        assert_eq!(turns.everybody().collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!((turns.pop_of(3), turns.pop_of(3)), (Some(30), None));
        assert_eq!((turns.pop(), turns.pop(), turns.pop()), (Some(20), Some(11), None));
        assert!(turns.is_empty() && turns.queues.is_empty());
    }

    #[test]
    fn one_alone_is_no_company() {
        let company = Company::default();
        for _ in 0..3 {
            company.saw(Tenant::of("ann"));
            assert!(!company.is_several());
        }
        company.saw(Tenant::of("bob"));
        assert!(company.is_several());
    }
}
