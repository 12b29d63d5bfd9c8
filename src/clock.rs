//! Time as the runtime sees it: the system's, or a virtual one that only a test moves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;

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
            Clock::Virtual(clock) => clock.lock().now,
        }
    }

    /// Milliseconds of a clock that is never set: only differences mean anything, within one process.
    pub fn steady(&self) -> i64 {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        match self {
            Clock::System => BEGINNING.get_or_init(Instant::now).elapsed().as_millis() as i64,
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
            Clock::System => tokio::time::sleep(time).await,
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
            self.sleep(if matches!(self, Clock::System) { left.min(LOOK) } else { left }).await;
        }
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
}
