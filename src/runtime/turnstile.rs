//! How many commits of a node are on their way to a store that all partitions share, while several tenants are
//! there: few, so that none waits long behind another's, and the tenants in turns. What has no tenant is one of
//! them.
//!
//! Each partition gathers commits for itself, so that many small groups are one large one to the store. Whoever
//! has little on its way passes at once, up to twice as many. One tenant alone passes without asking.
//!
//! *How few* is found out, as a sender finds out how much a network carries: a little more while commits arrive
//! about as soon as they do when there is no other, fewer as soon as they do not.
//!
//! Invariant: what has passed is given back, however it ended; and what a thread has that was given up does not count
//! from then on, as it may never be dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::supervisor::Beat;
use crate::backend::{Tenant, turns::Turns};

/// Messages whose commits are on their way at once: at least, and at most.
const LEAST: f64 = 32.0;
const MOST: f64 = 1024.0;
/// Of one group, until it says how many it is of.
pub(super) const GROUP: usize = 8;
/// A commit that takes so many times what the quickest takes has waited for others.
const SLOW: f64 = 3.0;
/// What the quickest takes is forgotten by and by: the store may have become slower.
const FORGET: f64 = 1.0001;

/// Where commits pass on their way to the store.
#[derive(Clone, Default)]
pub(crate) struct Turnstile(Arc<Mutex<Inside>>);

struct Inside {
    /// How much may be on its way, and how long a commit takes at least (seconds).
    most: f64,
    quickest: f64,
    /// How much is, and whose.
    passed: usize,
    has: HashMap<Option<Tenant>, usize>,
    /// And on which thread (the address of its sign of life).
    on: HashMap<usize, HashMap<Option<Tenant>, usize>>,
    waiting: Turns<Option<Tenant>, Waiting>,
}

/// One that waits for its turn.
struct Waiting {
    thread: Arc<Beat>,
    turn: oneshot::Sender<Pass>,
}

impl Default for Inside {
    fn default() -> Self {
        Self {
            most: LEAST,
            quickest: f64::MAX,
            passed: 0,
            has: HashMap::new(),
            on: HashMap::new(),
            waiting: Turns::default(),
        }
    }
}

/// Somebody who has passed, until it is dropped.
pub(crate) struct Pass {
    turnstile: Turnstile,
    thread: Arc<Beat>,
    tenant: Option<Tenant>,
    weight: usize,
    since: Instant,
}

impl Turnstile {
    /// Waits for a tenant's turn, which does not come any more when the thread is given up.
    pub(crate) fn ask(&self, tenant: Option<Tenant>, thread: &Arc<Beat>) -> oneshot::Receiver<Pass> {
        let (turn, called) = oneshot::channel();
        self.inside(|inside| inside.waiting.push(tenant, Waiting { thread: thread.clone(), turn }));
        self.call();
        called
    }

    /// Lets in whoever's turn it is, while there is room.
    fn call(&self) {
        while let Some((tenant, Waiting { thread, turn })) = self.inside(Inside::next) {
            // Whoever went away a moment ago gives it back.
            let _ = turn.send(Pass { turnstile: self.clone(), thread, tenant, weight: GROUP, since: Instant::now() });
        }
    }

    /// Lets the others pass in place of what a thread has that was given up.
    pub(crate) fn give_up(&self, thread: &Arc<Beat>) {
        self.inside(|inside| inside.forget(thread));
        self.call();
    }

    /// Whether only who has little on its way passes.
    #[cfg(test)]
    pub(crate) fn is_full(&self) -> bool {
        self.inside(|inside| inside.passed >= inside.most as usize)
    }

    fn inside<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inside {
    fn next(&mut self) -> Option<(Option<Tenant>, Waiting)> {
        loop {
            let most = self.most as usize;
            let little = |tenant: &Option<Tenant>| self.has.get(tenant).is_none_or(|has| *has <= most / 4);
            let tenant = if self.passed < most {
                self.waiting.everybody().next()
            } else if self.passed < most * 2 {
                self.waiting.everybody().find(little)
            } else {
                None
            }?;
            let next = self.waiting.pop_of(tenant)?;
            if !next.turn.is_closed() && !next.thread.is_given_up() {
                self.weigh(&next.thread, tenant, 0, GROUP);
                return Some((tenant, next));
            }
        }
    }

    /// A commit of so many has arrived.
    fn learn(&mut self, weight: usize, took: Duration) {
        let took = took.as_secs_f64();
        self.quickest = (self.quickest * FORGET).min(took);
        let part = (weight as f64 / self.most).min(1.0);
        // A group more, or half of it, for each round of all.
        let change = if took > self.quickest * SLOW { -self.most / 2.0 } else { GROUP as f64 };
        self.most = (self.most + change * part).clamp(LEAST, MOST);
    }

    fn weigh(&mut self, thread: &Arc<Beat>, tenant: Option<Tenant>, before: usize, weight: usize) {
        if thread.is_given_up() {
            return;
        }
        let on = self.on.entry(Arc::as_ptr(thread) as usize).or_default();
        change(on, tenant, before, weight);
        if on.is_empty() {
            self.on.remove(&(Arc::as_ptr(thread) as usize));
        }
        self.count(tenant, before, weight);
    }

    fn count(&mut self, tenant: Option<Tenant>, before: usize, weight: usize) {
        self.passed = self.passed + weight - before;
        change(&mut self.has, tenant, before, weight);
    }

    /// What a thread has does not count any more.
    fn forget(&mut self, thread: &Arc<Beat>) {
        for (tenant, has) in self.on.remove(&(Arc::as_ptr(thread) as usize)).unwrap_or_default() {
            self.count(tenant, has, 0);
        }
    }
}

/// Changes how much a tenant has.
fn change(has: &mut HashMap<Option<Tenant>, usize>, tenant: Option<Tenant>, before: usize, weight: usize) {
    let of = has.entry(tenant).or_default();
    *of = *of + weight - before;
    if *of == 0 {
        has.remove(&tenant);
    }
}

impl Pass {
    /// Says of how many messages it is.
    pub(crate) fn weigh(&mut self, weight: usize) {
        let before = std::mem::replace(&mut self.weight, weight);
        self.turnstile.inside(|inside| inside.weigh(&self.thread, self.tenant, before, weight));
        self.turnstile.call();
    }

    /// It has arrived, or is given up: how long that took tells how many more may be on their way.
    pub(crate) fn arrived(self) {
        self.turnstile.inside(|inside| inside.learn(self.weight, self.since.elapsed()));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turnstile.inside(|inside| inside.weigh(&self.thread, self.tenant, self.weight, 0));
        self.turnstile.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: usize = LEAST as usize / GROUP;

    fn of(tenant: &str) -> Option<Tenant> {
        Some(Tenant::of(tenant))
    }

    /// Asks on a thread that nothing else is on.
    fn ask(turnstile: &Turnstile, tenant: Option<Tenant>) -> oneshot::Receiver<Pass> {
        turnstile.ask(tenant, &Arc::default())
    }

    fn passes(turn: &mut oneshot::Receiver<Pass>) -> Option<Pass> {
        turn.try_recv().ok()
    }

    #[test]
    fn who_has_little_on_its_way_passes_a_flood() {
        let turnstile = Turnstile::default();
        let mut flood: Vec<_> = (0..10).map(|_| ask(&turnstile, of("ann"))).collect();
        let passed: Vec<Pass> = flood.iter_mut().filter_map(passes).collect();
        assert_eq!(passed.len(), GROUPS);
        let mut bob = ask(&turnstile, of("bob"));
        let bob = passes(&mut bob).expect("nothing of bob's was on its way");
        drop(bob);
        assert_eq!(flood.iter_mut().filter_map(passes).count(), 0, "ann has as many on their way as before");
        drop(passed);
        let next: Vec<Pass> = flood.iter_mut().filter_map(passes).collect();
        assert_eq!(next.len(), GROUPS);
    }

    #[test]
    fn who_waits_is_called_in_turns() {
        let turnstile = Turnstile::default();
        let mut full = ask(&turnstile, None);
        let mut full = passes(&mut full).unwrap();
        full.weigh(LEAST as usize * 2);
        let mut ann: Vec<_> = (0..6).map(|_| ask(&turnstile, of("ann"))).collect();
        let mut bob = ask(&turnstile, of("bob"));
        assert!(ann.iter_mut().chain([&mut bob]).all(|turn| passes(turn).is_none()));
        drop(full);
        let passed: Vec<Pass> = ann.iter_mut().filter_map(passes).collect();
        assert!(passes(&mut bob).is_some() && passed.len() == GROUPS - 1, "{}", passed.len());
    }

    #[test]
    fn what_went_away_holds_nothing_up() {
        let turnstile = Turnstile::default();
        let mut first = ask(&turnstile, of("ann"));
        let mut pass = passes(&mut first).unwrap();
        pass.weigh(LEAST as usize * 2);
        drop(ask(&turnstile, of("bob")));
        let waiting = ask(&turnstile, of("cid"));
        drop(pass);
        // A pass that was on its way to somebody who left is given back with it.
        drop(waiting);
        let mut last = ask(&turnstile, of("ann"));
        assert!(passes(&mut last).is_some());
        turnstile.inside(|inside| {
            assert!(inside.passed == 0 && inside.has.is_empty() && inside.on.is_empty() && inside.waiting.is_empty());
            assert_eq!(inside.quickest, f64::MAX, "a pass that was not used says nothing of the store");
        });
    }

    #[test]
    fn a_thread_that_was_given_up_keeps_no_pass_and_gets_none() {
        let (turnstile, blocked) = (Turnstile::default(), Arc::<Beat>::default());
        // Nothing of these is polled or dropped any more.
        let mut asked: Vec<_> = (0..10).map(|_| turnstile.ask(of("ann"), &blocked)).collect();
        let held: Vec<Pass> = asked.iter_mut().take(1).filter_map(passes).collect();
        let mut other = ask(&turnstile, of("ann"));
        assert!(passes(&mut other).is_none());
        blocked.give_up();
        turnstile.give_up(&blocked);
        let pass = passes(&mut other).expect("another thread's turn has come");
        // What comes back in the end was given back before.
        drop((held, asked));
        assert_eq!(turnstile.inside(|inside| inside.passed), GROUP);
        drop(pass);
        turnstile.inside(|inside| {
            assert!(inside.passed == 0 && inside.has.is_empty() && inside.on.is_empty() && inside.waiting.is_empty());
        });
    }

    #[test]
    fn more_pass_while_the_store_is_quick_and_fewer_when_it_is_not() {
        let mut inside = Inside::default();
        inside.learn(1, Duration::from_millis(1));
        for _ in 0..10_000 {
            inside.learn(GROUP, Duration::from_millis(2));
        }
        assert!(inside.most > LEAST * 4.0, "{}", inside.most);
        for _ in 0..1_000 {
            inside.learn(GROUP, Duration::from_millis(20));
        }
        assert!(inside.most <= LEAST, "{}", inside.most);
    }
}
