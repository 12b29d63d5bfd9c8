//! What a client has promised itself to do later: the signals that its payments wait for, and the wish
//! that some of them end.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use crate::script::Task;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Signal,
    Cancel,
}

/// What is to be done, of which command, under which id.
type Thing = (What, String, String);

/// What is left, the first due first.
#[derive(Default)]
pub(crate) struct Later(BinaryHeap<Reverse<(Instant, Thing)>>);

impl Later {
    /// Leaves what belongs to a payment.
    pub(crate) fn add(&mut self, task: &Task, request: String) {
        let mut add = |what, after: Duration| {
            let thing = (what, task.command.mark().to_owned(), request.clone());
            self.0.push(Reverse((Instant::now() + after, thing)));
        };
        add(What::Signal, task.later.0);
        if task.cancel {
            add(What::Cancel, task.later.1);
        }
    }

    /// Something whose time has come.
    pub(crate) fn due(&mut self) -> Option<Thing> {
        self.0.peek().filter(|Reverse((due, _))| *due <= Instant::now())?;
        self.0.pop().map(|Reverse((_, thing))| thing)
    }

    /// All that is left.
    pub(crate) fn rest(self) -> impl Iterator<Item = Thing> {
        self.0.into_sorted_vec().into_iter().rev().map(|Reverse((_, thing))| thing)
    }
}
