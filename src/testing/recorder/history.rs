//! What happened in a world, kept over restarts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{address::Address, backend::Commit, envelope::Position};

/// What happened, kept over restarts.
#[derive(Default)]
pub(crate) struct History {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// How often each message ended.
    ended: BTreeMap<Position, u32>,
    /// The order in which each actor's messages ended.
    order: BTreeMap<Address, Vec<Position>>,
    timers: HashSet<Position>,
    turns: HashMap<u16, Arc<tokio::sync::Mutex<()>>>,
}

impl History {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits of a partition are written down in the order in which they were asked for, which is the store's:
    /// whoever asked for an earlier one, in an earlier life, may be slow to hear of it.
    pub(super) async fn turn(&self, partition: u16) -> tokio::sync::OwnedMutexGuard<()> {
        let turns = self.lock().turns.entry(partition).or_default().clone();
        turns.lock_owned().await
    }

    pub(super) fn committed(&self, commit: &Commit) {
        let mut inner = self.lock();
        for done in &commit.done {
            *inner.ended.entry(done.position).or_default() += 1;
            inner.order.entry(commit.address.clone()).or_default().push(done.position);
        }
    }

    /// Messages that ended more than once.
    pub(in crate::testing) fn doubles(&self) -> Vec<Position> {
        self.lock().ended.iter().filter(|(_, times)| **times > 1).map(|(position, _)| *position).collect()
    }

    /// The order in which an actor's messages ended, timers aside.
    pub(in crate::testing) fn order(&self, address: &Address) -> Vec<Position> {
        let inner = self.lock();
        let order = inner.order.get(address).cloned().unwrap_or_default();
        order.into_iter().filter(|position| !inner.timers.contains(position)).collect()
    }

    /// A redriven message may end again, and out of its order.
    pub(super) fn redriven(&self, positions: &[Position]) {
        let mut inner = self.lock();
        for position in positions {
            inner.ended.remove(position);
            inner.timers.insert(*position);
        }
    }

    /// These are timers.
    pub(super) fn timers(&self, timers: impl Iterator<Item = Position>) {
        self.lock().timers.extend(timers);
    }
}
