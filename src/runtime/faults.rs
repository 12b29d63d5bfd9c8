//! Named boundaries in the life of a message at which a test can let the process die. In
//! production there is no plan and a boundary costs one branch.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// A boundary in the life of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// It is durable in the mailbox; its client has not been told.
    Accepted,
    /// It was read by the partition's owner; its actor has not seen it.
    Read,
    /// Its actor's state was loaded.
    Activated,
    /// Its attempt was counted because an earlier one ended without a word.
    Counted,
    /// Its handler has finished; nothing is committed.
    Handled,
    /// Its commit is durable; nobody has been told.
    Committed,
    /// Whoever waits was told.
    Delivered,
    /// Its failure and next attempt are recorded, or that it waits.
    Deferred,
    /// Something that its handler does is about to be written into its journal.
    Journal,
    /// It is written; the handler has not been told.
    Journaled,
}

impl Point {
    /// Every boundary, in the order a message meets them.
    pub const ALL: [Point; 10] = [
        Point::Accepted,
        Point::Read,
        Point::Activated,
        Point::Counted,
        Point::Handled,
        Point::Committed,
        Point::Delivered,
        Point::Deferred,
        Point::Journal,
        Point::Journaled,
    ];
}

/// When to die, if ever.
#[derive(Clone, Default)]
pub(crate) struct Faults(Option<Arc<Plan>>);

#[derive(Default)]
pub(crate) struct Plan {
    crash: Mutex<Option<(Point, u32)>>,
    crashed: AtomicBool,
    pub(crate) died: Notify,
    met: Mutex<std::collections::HashMap<Point, u64>>,
    pub(crate) replay: AtomicBool,
    begun: AtomicU64,
    open: AtomicU64,
}

/// A call to the store that has not ended.
pub(crate) struct Call(Arc<Plan>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Plan {
    /// Dies at the `nth` time `point` is met from now on, counted from 1.
    pub(crate) fn crash_at(&self, point: Point, nth: u32) {
        *self.crash.lock().unwrap_or_else(PoisonError::into_inner) = Some((point, nth.max(1)));
    }

    /// Dies now.
    pub(crate) fn die(&self) {
        self.crashed.store(true, Ordering::SeqCst);
        self.died.notify_waiters();
        self.died.notify_one();
    }

    pub(crate) fn crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// Dies no more.
    pub(crate) fn spare(&self) {
        *self.crash.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A call to the store has begun; it ends with what is returned.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        Call(self.clone())
    }

    /// How many calls were begun, and how many have not ended.
    pub(crate) fn calls(&self) -> (u64, u64) {
        (self.begun.load(Ordering::SeqCst), self.open.load(Ordering::SeqCst))
    }

    /// How often a boundary was met.
    pub(crate) fn met(&self, point: Point) -> u64 {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).get(&point).copied().unwrap_or(0)
    }

    fn meet(&self, point: Point) -> bool {
        *self.met.lock().unwrap_or_else(PoisonError::into_inner).entry(point).or_default() += 1;
        let mut crash = self.crash.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((wanted, left)) = crash.as_mut()
            && *wanted == point
        {
            *left -= 1;
            if *left == 0 {
                *crash = None;
                return true;
            }
        }
        false
    }
}

impl Faults {
    pub(crate) fn planned(plan: Arc<Plan>) -> Self {
        Self(Some(plan))
    }

    /// Whether the process is to be thought dead.
    pub(crate) fn crashed(&self) -> bool {
        self.0.as_ref().is_some_and(|plan| plan.crashed())
    }

    /// Whether there is any plan: only in tests.
    pub(crate) fn planned_at_all(&self) -> bool {
        self.0.is_some()
    }

    /// Whether every handler runs twice, the first time for nothing.
    pub(crate) fn replays(&self) -> bool {
        self.0.as_ref().is_some_and(|plan| plan.replay.load(Ordering::Relaxed))
    }

    /// Passes a boundary, or never returns.
    pub(crate) async fn at(&self, point: Point) {
        let Some(plan) = &self.0 else { return };
        if plan.meet(point) {
            plan.die();
        }
        if plan.crashed() {
            std::future::pending::<()>().await;
        }
    }
}
