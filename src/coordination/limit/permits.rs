//! Permits of this node: those it holds, renewed as long as they are held, and who of it waits for one.
//!
//! Invariant: of those that wait here for the same permits one after the other asks the store, who waits
//! longest first; so the line in the store is as long as there are nodes, and each node's turn comes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::backend::limits::{Held, Name};

/// The right to be one of so many at the same time; given back when dropped. Renewed by the node for as
/// long as it is held: when the process dies, the others get it after its lease.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit {
    held: Held,
    lost: Arc<Lost>,
    permits: Arc<Permits>,
}

#[derive(Debug, Default)]
struct Lost {
    lost: AtomicBool,
    told: Notify,
}

impl Permit {
    /// Whether it ended before it was given back: the store could not be reached, or this process stood
    /// still, for as long as its lease. Somebody else may have it by now.
    pub fn is_lost(&self) -> bool {
        self.lost.lost.load(Ordering::SeqCst)
    }

    /// Returns when it is lost.
    pub async fn lost(&self) {
        loop {
            let told = self.lost.told.notified();
            if self.is_lost() {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.held().remove(&self.held);
        self.permits.give_back(self.held.clone());
    }
}

/// What is to be done for permits beside those who hold them.
pub(super) enum Chore {
    /// This one, or a place in line, is given back: until the store has heard of it, or its lease has ended
    /// at this time by the node's own clock.
    Back(Held, Option<u64>),
    /// Something is held that is to be renewed.
    Renew,
    /// Whoever asks wants to know when everything before this is done.
    Flush(oneshot::Sender<()>),
}

/// A permit that is held here. Times are those of the node's own clock that only rises.
struct Holding {
    /// When it is to be renewed next; never when it is lost.
    renew: Option<u64>,
    /// When it ends unless renewed.
    until: u64,
    lost: Arc<Lost>,
}

pub(super) struct Permits {
    held: Mutex<HashMap<Held, Holding>>,
    lines: Mutex<HashMap<Name, Line>>,
    chores: mpsc::UnboundedSender<Chore>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Chore>>>,
}

/// Who waits, by since when; the second number tells those of one moment apart.
type Line = BTreeMap<(i64, u64), Arc<Notify>>;

impl std::fmt::Debug for Permits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permits").finish_non_exhaustive()
    }
}

impl Permits {
    pub(super) fn new() -> Arc<Self> {
        let (chores, queue) = mpsc::unbounded_channel();
        Arc::new(Self { held: Mutex::default(), lines: Mutex::default(), chores, queue: Mutex::new(Some(queue)) })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Held, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Name, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done; the first caller gets it.
    pub(super) fn chores(&self) -> Option<mpsc::UnboundedReceiver<Chore>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn give_back(&self, held: Held) {
        // Without anybody to do it, it ends by itself.
        let _ = self.chores.send(Chore::Back(held, None));
    }

    /// Waits until everything that was given back is.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.chores.send(Chore::Flush(done)).is_ok() {
            // Whoever does the chores has stopped.
            let _ = flushed.await;
        }
    }

    /// The store gave a permit that was asked for at `now`.
    pub(super) fn got(self: &Arc<Self>, held: Held, now: u64) -> Permit {
        let lost = Arc::<Lost>::default();
        let holding = Holding { renew: Some(now + held.lease / 3), until: now + held.lease, lost: lost.clone() };
        self.held().insert(held.clone(), holding);
        // Nobody renews when nothing runs any more.
        let _ = self.chores.send(Chore::Renew);
        Permit { held, lost, permits: self.clone() }
    }

    /// Those to be renewed, and when the next one is.
    pub(super) fn to_renew(&self, now: u64) -> (Vec<Held>, Option<u64>) {
        let held = self.held();
        let is_due = |holding: &Holding| holding.renew.is_some_and(|renew| renew <= now);
        let due = held.iter().filter(|(_, holding)| is_due(holding)).map(|(held, _)| held.clone()).collect();
        let next = held.values().filter_map(|holding| holding.renew).filter(|renew| *renew > now).min();
        (due, next)
    }

    /// What became of renewing some at `now`: `None` when nobody knows.
    pub(super) fn renewed(&self, asked: Vec<Held>, still: Option<Vec<bool>>, now: u64) {
        let mut all = self.held();
        for (index, held) in asked.into_iter().enumerate() {
            let Some(holding) = all.get_mut(&held) else { continue };
            match still.as_ref().map(|still| still.get(index) == Some(&true)) {
                Some(true) => (holding.renew, holding.until) = (Some(now + held.lease / 3), now + held.lease),
                None if now < holding.until => holding.renew = Some(now + (held.lease / 10).max(1)),
                _ => {
                    tracing::warn!(holder = held.holder, "a permit was lost before it was given back");
                    holding.renew = None;
                    holding.lost.lost.store(true, Ordering::SeqCst);
                    holding.lost.told.notify_waiters();
                }
            }
        }
    }

    /// How many are held here, and how many wait here.
    pub(super) fn count(&self, names: impl Fn(Name) -> bool) -> (usize, usize) {
        let held = self.held().keys().filter(|held| names(held.name)).count();
        let waiting = self.lines().iter().filter(|(name, _)| names(**name)).map(|(_, line)| line.len()).sum();
        (held, waiting)
    }

    /// Stands in line.
    pub(super) fn stand(self: &Arc<Self>, wish: Held, since: i64, number: u64) -> Place {
        let turn = Arc::<Notify>::default();
        self.lines().entry(wish.name).or_default().insert((since, number), turn.clone());
        Place { permits: self.clone(), wish, at: (since, number), turn, asked: false }
    }
}

/// A place in the line of this node; left when dropped.
pub(super) struct Place {
    permits: Arc<Permits>,
    /// The permit it is for.
    wish: Held,
    at: (i64, u64),
    turn: Arc<Notify>,
    /// Whether the store may know of it.
    pub(super) asked: bool,
}

impl Place {
    /// Whether nobody here waits longer.
    pub(super) fn is_first(&self) -> bool {
        let lines = self.permits.lines();
        lines.get(&self.wish.name).and_then(|line| line.first_key_value()).is_some_and(|(first, _)| *first == self.at)
    }

    /// Returns when it may have become the first.
    pub(super) async fn turn(&self) {
        self.turn.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.permits.lines();
        if let Some(line) = lines.get_mut(&self.wish.name) {
            line.remove(&self.at);
            match line.first_key_value() {
                Some((_, next)) => next.notify_one(),
                None => _ = lines.remove(&self.wish.name),
            }
        }
        drop(lines);
        if self.asked {
            self.permits.give_back(self.wish.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_longest_is_first_and_whoever_leaves_lets_the_next_on() {
        let (permits, name) = (Permits::new(), Name::of(&["p"]));
        let stand = |since: i64, number: u64| {
            permits.stand(Held { name, holder: number.to_string(), lease: 1_000 }, since, number)
        };
        let (late, early, tie) = (stand(20, 1), stand(10, 2), stand(10, 3));
        assert_eq!([&late, &early, &tie].map(Place::is_first), [false, true, false]);
        drop(early);
        assert!(tie.is_first() && !late.is_first());
        drop((late, tie));
        assert!(permits.lines().is_empty());
    }

    #[test]
    fn a_permit_is_lost_when_the_store_says_so_or_says_nothing_for_a_lease() {
        let (permits, name) = (Permits::new(), Name::of(&["p"]));
        let held = |holder: &str| Held { name, holder: holder.into(), lease: 3_000 };
        let (kept, taken, unheard) = (permits.got(held("a"), 0), permits.got(held("b"), 0), permits.got(held("c"), 0));
        assert_eq!(permits.to_renew(999).0, []);
        assert_eq!(permits.to_renew(1_000).0.len(), 3);
        permits.renewed(vec![held("a"), held("b")], Some(vec![true, false]), 1_000);
        permits.renewed(vec![held("c")], None, 1_000);
        assert_eq!([&kept, &taken, &unheard].map(Permit::is_lost), [false, true, false]);
        permits.renewed(vec![held("c")], None, 3_000);
        assert!(unheard.is_lost());
        assert_eq!(permits.to_renew(2_000), (vec![held("a")], None));
        drop(kept);
        assert_eq!(permits.count(|of| of == name), (2, 0));
    }
}
