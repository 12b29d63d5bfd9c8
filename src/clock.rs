//! Time as the runtime sees it: the system's, or a virtual one that only a test moves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;
use tracing::warn;

use crate::error::Result;

/// What the clock of this process shows besides the machine's, in milliseconds.
static SHIFT: AtomicI64 = AtomicI64::new(0);
/// How soon it is noticed that the machine's clock was set, or that the machine slept.
const LOOK: Duration = Duration::from_secs(1);

/// Lets the clock of this process jump by so many milliseconds. For programs that are tested with clocks that
/// jump.
pub fn jump(by: i64) {
    SHIFT.fetch_add(by, Ordering::Relaxed);
}

/// Reads the time and waits for it. Cheap to clone.
#[derive(Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// The machine's clock, never far ahead of the store's.
    Bounded(Arc<Bounded>),
    /// A clock that stands still until it is [advanced](Virtual::advance).
    Virtual(Arc<Virtual>),
}

impl Clock {
    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        match self {
            // A clock before 1970 reads as 1970: timers wait rather than fire early.
            Clock::System => {
                let machine = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
                machine.saturating_add(SHIFT.load(Ordering::Relaxed))
            }
            Clock::Bounded(bounded) => bounded.show(Clock::System.now(), self.steady()),
            Clock::Virtual(clock) => clock.lock().now,
        }
    }

    /// Milliseconds of a clock that is never set: only differences mean anything, within one process.
    pub fn steady(&self) -> i64 {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        match self {
            Clock::System | Clock::Bounded(_) => BEGINNING.get_or_init(Instant::now).elapsed().as_millis() as i64,
            Clock::Virtual(clock) => clock.lock().now,
        }
    }

    /// Waits for `time` to pass. Never returns early.
    pub async fn sleep(&self, time: Duration) {
        self.sleep_as(time, false).await;
    }

    /// Like [`Clock::sleep`], for upkeep that repeats for ever: a test that skips through a month
    /// does not stop at each of its rounds.
    pub async fn rest(&self, time: Duration) {
        self.sleep_as(time, true).await;
    }

    async fn sleep_as(&self, time: Duration, upkeep: bool) {
        match self {
            Clock::System | Clock::Bounded(_) => tokio::time::sleep(time).await,
            Clock::Virtual(clock) => {
                let wake = {
                    let mut inner = clock.lock();
                    let due = inner.now.saturating_add(time.as_millis().min(i64::MAX as u128) as i64);
                    if due <= inner.now && time.is_zero() {
                        return;
                    }
                    inner.sleep_until(due, upkeep)
                };
                // The sender lives in the clock; were it dropped, waiting for ever is what a stopped clock does.
                if wake.await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Waits until the clock shows `time`, be it set forward or back meanwhile. Never returns before it does.
    pub async fn until(&self, time: i64) {
        loop {
            let left = time.saturating_sub(self.now());
            if left <= 0 {
                return;
            }
            let left = Duration::from_millis(left as u64);
            // Waiting goes by another clock, which nobody sets.
            self.sleep(if matches!(self, Clock::Virtual(_)) { left } else { left.min(LOOK) }).await;
        }
    }

    /// Compares a bounded clock with the store's, which `store` reads.
    pub(crate) async fn compare(&self, store: impl Future<Output = Result<Option<i64>>>) -> Result<()> {
        let Clock::Bounded(bounded) = self else { return Ok(()) };
        let steady = self.steady();
        if let Some(store) = store.await? {
            bounded.learn(store, steady);
        }
        Ok(())
    }

    /// Runs `future` for at most `limit`; `None` when it took longer.
    pub async fn limit<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.sleep(limit) => None,
        }
    }
}

/// How far a machine's clock may be from the store's before it is not believed, in milliseconds.
const TOLERATED: i64 = 60_000;

/// What the clock of the store showed, for nodes that share it. A machine whose clock is a day ahead would fire
/// timers early and forget results that are young, for all nodes; one whose clock is behind is only late.
pub struct Bounded {
    /// The store's time less the steady one, in milliseconds; the least number when the store has none.
    offset: AtomicI64,
    warned: AtomicBool,
}

impl Default for Bounded {
    fn default() -> Self {
        Self { offset: AtomicI64::new(i64::MIN), warned: AtomicBool::new(false) }
    }
}

impl Bounded {
    /// Notes that the store's clock showed `store` at the steady time `steady` or a little later.
    pub(crate) fn learn(&self, store: i64, steady: i64) {
        self.offset.store(store.saturating_sub(steady), Ordering::Relaxed);
        let ahead = Clock::System.now() - store;
        let far = ahead.abs() > TOLERATED;
        if far && !self.warned.swap(far, Ordering::Relaxed) {
            warn!(seconds = ahead / 1000, "the clock of this machine is not that of the store: set it right");
        } else if !far {
            self.warned.store(far, Ordering::Relaxed);
        }
    }

    /// What this clock shows when the machine's shows `machine`.
    fn show(&self, machine: i64, steady: i64) -> i64 {
        match self.offset.load(Ordering::Relaxed) {
            i64::MIN => machine,
            offset => {
                let store = offset.saturating_add(steady);
                if machine.saturating_sub(store) > TOLERATED { store } else { machine }
            }
        }
    }
}

/// The hands of a virtual clock.
pub struct Virtual {
    inner: Mutex<Inner>,
}

struct Inner {
    now: i64,
    next: u64,
    sleepers: BTreeMap<(i64, u64), (bool, oneshot::Sender<()>)>,
}

impl Inner {
    fn sleep_until(&mut self, due: i64, upkeep: bool) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        self.next += 1;
        // Sleeps that were given up leave closed senders behind: drop them now and then.
        if self.next.is_multiple_of(1024) {
            self.sleepers.retain(|_, (_, sleeper)| !sleeper.is_closed());
        }
        self.sleepers.insert((due, self.next), (upkeep, wake));
        woken
    }
}

impl Virtual {
    /// A clock standing at `now`, in milliseconds since the Unix epoch.
    pub fn at(now: i64) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { now, next: 0, sleepers: BTreeMap::new() }) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next sleeper wakes, upkeep aside.
    pub fn next_due(&self) -> Option<i64> {
        let mut inner = self.lock();
        inner.sleepers.retain(|_, (_, sleeper)| !sleeper.is_closed());
        inner.sleepers.iter().find(|(_, (upkeep, _))| !upkeep).map(|((due, _), _)| *due)
    }

    /// Moves the clock to `time` if that is later, and wakes whoever slept until then or before.
    pub fn advance_to(&self, time: i64) {
        let mut inner = self.lock();
        inner.now = inner.now.max(time);
        let after = (inner.now.saturating_add(1), 0);
        let later = inner.sleepers.split_off(&after);
        for (_, (_, sleeper)) in std::mem::replace(&mut inner.sleepers, later) {
            // A closed receiver gave up its sleep; nobody is left to wake.
            let _ = sleeper.send(());
        }
    }

    /// Moves the clock by `time`.
    pub fn advance(&self, time: Duration) {
        let to = self.lock().now.saturating_add(time.as_millis() as i64);
        self.advance_to(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_virtual_sleep_ends_exactly_when_due() {
        let hands = Virtual::at(1_000);
        let clock = Clock::Virtual(hands.clone());
        let mut sleep = Box::pin(clock.sleep(Duration::from_millis(10)));
        assert!(sleep.as_mut().now_or_never().is_none());
        hands.advance(Duration::from_millis(9));
        assert!(sleep.as_mut().now_or_never().is_none());
        assert_eq!(hands.next_due(), Some(1_010));
        hands.advance(Duration::from_millis(1));
        assert!(sleep.as_mut().now_or_never().is_some());
        let mut until = Box::pin(clock.until(1_020));
        hands.advance_to(1_019);
        assert!(until.as_mut().now_or_never().is_none());
        hands.advance_to(1_020);
        assert!(until.as_mut().now_or_never().is_some());
        assert!(clock.until(5).now_or_never().is_some());
    }

    #[test]
    fn a_bounded_clock_is_no_day_ahead_of_the_store_whenever_it_jumps() {
        const DAY: i64 = 86_400_000;
        let (bounded, noon) = (Bounded::default(), 1_700_000_000_000);
        // As long as nothing is known, and where a store has no clock.
        assert_eq!(bounded.show(noon + DAY, 5), noon + DAY);
        bounded.learn(noon, 1_000);
        assert_eq!(bounded.show(noon + DAY, 1_000), noon);
        assert_eq!(bounded.show(noon + DAY + 7, 1_007), noon + 7);
        // Set back, it is late and nothing worse; a little ahead is what clocks are.
        assert_eq!(bounded.show(noon - DAY, 1_010), noon - DAY);
        assert_eq!(bounded.show(noon + 10 + TOLERATED, 1_010), noon + 10 + TOLERATED);
        assert_eq!(bounded.show(noon + 11 + TOLERATED, 1_010), noon + 10);
    }
}
