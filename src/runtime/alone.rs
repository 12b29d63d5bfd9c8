//! Running alone: of the messages that may have taken the process down before, one at a time runs on a node, so that
//! the guilty one is known (G6).
//!
//! Invariant: a thread that was given up keeps no other waiting, whatever of it is never dropped; and nothing of it
//! runs alone any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::supervisor::Beat;

/// Which thread of a node runs a message alone.
#[derive(Default)]
pub(crate) struct Alone {
    by: Mutex<Option<Arc<Beat>>>,
    freed: Notify,
}

/// The right of a thread to run a message alone, until it is dropped.
pub(crate) struct Right<'a> {
    alone: &'a Alone,
    thread: Arc<Beat>,
}

impl Alone {
    /// Waits until no other thread runs a message alone.
    pub(crate) async fn enter(&self, thread: &Arc<Beat>) -> Right<'_> {
        loop {
            let freed = self.freed.notified();
            if self.take(thread) {
                return Right { alone: self, thread: thread.clone() };
            }
            freed.await;
        }
    }

    fn take(&self, thread: &Arc<Beat>) -> bool {
        let mut by = self.by();
        let free = !thread.is_given_up() && by.as_ref().is_none_or(|by| by.is_given_up());
        if free {
            *by = Some(thread.clone());
        }
        free
    }

    fn by(&self) -> MutexGuard<'_, Option<Arc<Beat>>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one may run something alone.
    pub(crate) fn look_again(&self) {
        // All of them: the first may be on a thread that is never heard of again.
        self.freed.notify_waiters();
    }
}

impl Drop for Right<'_> {
    fn drop(&mut self) {
        // What was given up may be dropped at last when another one has the right.
        self.alone.by().take_if(|by| Arc::ptr_eq(by, &self.thread));
        self.alone.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn one_at_a_time_runs_alone_and_the_next_one_after_it() {
        let (alone, [one, other]) = (Alone::default(), [(); 2].map(|()| Arc::<Beat>::default()));
        let right = alone.enter(&one).now_or_never().unwrap();
        let mut waits = [Box::pin(alone.enter(&other)), Box::pin(alone.enter(&one))];
        assert!(waits.iter_mut().all(|waits| waits.as_mut().now_or_never().is_none()));
        drop(right);
        let right = waits[0].as_mut().now_or_never().unwrap();
        assert!(waits[1].as_mut().now_or_never().is_none());
        drop(right);
        assert!(waits[1].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_thread_that_was_given_up_keeps_no_other_waiting() {
        let (alone, [blocked, fresh]) = (Alone::default(), [(); 2].map(|()| Arc::<Beat>::default()));
        let late = alone.enter(&blocked).now_or_never().unwrap();
        let mut first = Box::pin(alone.enter(&blocked));
        assert!(first.as_mut().now_or_never().is_none());
        let mut waits = Box::pin(alone.enter(&fresh));
        assert!(waits.as_mut().now_or_never().is_none());
        blocked.give_up();
        alone.look_again();
        let right = waits.now_or_never().unwrap();
        drop(late);
        assert!(alone.enter(&fresh).now_or_never().is_none(), "it is not free because the first one was dropped");
        drop(right);
        assert!(alone.enter(&blocked).now_or_never().is_none());
        assert!(alone.enter(&fresh).now_or_never().is_some());
    }
}
