//! Attempts that this process has counted and lives to tell of: whatever became of them, they ended no process.
//! A tenure that is lost while they run leaves their counts in the store.
//!
//! Invariant: an attempt is here only if it was counted by this process and has not blocked a thread of it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::envelope::Position;

/// How many attempts of each message this process counted whose fate is not committed.
#[derive(Default)]
pub(crate) struct Begun(Mutex<HashMap<Position, u32>>);

impl Begun {
    fn lock(&self) -> MutexGuard<'_, HashMap<Position, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more attempt of a message was counted.
    pub(crate) fn counted(&self, position: Position) {
        *self.lock().entry(position).or_default() += 1;
    }

    /// How many of a message's attempts this process has survived.
    pub(crate) fn of(&self, position: Position) -> u32 {
        self.lock().get(&position).copied().unwrap_or(0)
    }

    /// The fate of a message is committed.
    pub(crate) fn ended(&self, position: Position) {
        self.lock().remove(&position);
    }

    /// Attempts in a partition that was let go of are the next owner's; those on a thread that was blocked ended
    /// without a word.
    pub(crate) fn forget(&self, partition: u16) {
        self.lock().retain(|position, _| position.partition() != partition);
    }
}
