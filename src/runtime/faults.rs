//! Named boundaries in the life of a message at which a test can let the process die. In
//! production there is no plan and a boundary costs one branch.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
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
pub(crate) enum Faults {
    #[default]
    Never,
    /// A process that is only thought dead, so that a test can look at it.
    Planned(Arc<Plan>),
    /// This process really dies.
    Doomed(&'static Doom),
}

/// Where this process dies, and how often it may pass there before.
pub(crate) struct Doom {
    point: Point,
    left: AtomicU64,
}

static DOOM: OnceLock<Doom> = OnceLock::new();

/// Lets this process kill itself with SIGKILL the `nth` time that any message passes `point`, counted from
/// 1 over all nodes that it starts from now on. For programs that are tested by killing them. Only the
/// first call counts.
pub fn kill_at(point: Point, nth: u64) {
    DOOM.get_or_init(|| Doom { point, left: AtomicU64::new(nth) });
}

impl Doom {
    fn meet(&self, point: Point) {
        if point == self.point && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Whatever else runs, runs on until the signal takes it; this thread does not.
            if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).is_err() {
                std::process::abort();
            }
            loop {
                std::thread::park();
            }
        }
    }
}

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
    /// What a test wants of this very process: nothing, unless [`kill_at`] was called.
    pub(crate) fn of_process() -> Self {
        DOOM.get().map_or(Self::Never, Self::Doomed)
    }

    pub(crate) fn planned(plan: Arc<Plan>) -> Self {
        Self::Planned(plan)
    }

    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Planned(plan) => Some(plan),
            _ => None,
        }
    }

    /// Whether the process is to be thought dead.
    pub(crate) fn crashed(&self) -> bool {
        self.plan().is_some_and(Plan::crashed)
    }

    /// Whether there is any plan: only in tests.
    pub(crate) fn planned_at_all(&self) -> bool {
        self.plan().is_some()
    }

    /// Whether every handler runs twice, the first time for nothing.
    pub(crate) fn replays(&self) -> bool {
        self.plan().is_some_and(|plan| plan.replay.load(Ordering::Relaxed))
    }

    /// Passes a boundary, or never returns.
    pub(crate) async fn at(&self, point: Point) {
        match self {
            Self::Never => {}
            Self::Doomed(doom) => doom.meet(point),
            Self::Planned(plan) => {
                if plan.meet(point) {
                    plan.die();
                }
                if plan.crashed() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
