//! What commands of a limited kind pass before they begin.
//!
//! One that gets through soon waits in memory; every other one is told a time to come again, and waits in
//! the store. Times are spread at the pace of the limit, as this node knows it: else all would come at
//! once, and all but a few in vain. While some wait that way, newcomers are sent behind them without
//! asking.
//!
//! Invariant: nothing passes without a permit and tokens where the kind has such limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::warn;

use super::{admit::Admission, declared::Declared, handle::Limits, permits::Permit};

/// The latest time that somebody is told to come again, in milliseconds from now: what the limit is may
/// have changed by then, and others may have more of it than was thought.
const LATEST: i64 = 600_000;
/// When to come again while the store cannot answer.
const OUT: i64 = 1_000;

/// The limits of one kind.
pub(crate) struct Gate {
    /// Of all its commands together.
    kind: Option<Arc<Declared>>,
    /// Of those of each key.
    key: Option<Arc<Declared>>,
    /// When the next one is told to come again, in microseconds since the Unix epoch.
    tail: AtomicI64,
    /// How long its commands take, in microseconds: a mean that forgets.
    takes: AtomicU64,
}

/// What a command passed with: what it holds is given back when it is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    began: u64,
    limits: Limits,
    _permit: Option<Permit>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let took = self.limits.tick().saturating_sub(self.began) * 1000;
        let known = self.gate.takes.load(Ordering::Relaxed);
        let mean = if known == 0 { took } else { known - known / 8 + took / 8 };
        self.gate.takes.store(mean.max(1), Ordering::Relaxed);
    }
}

/// Whether a command may begin.
pub(crate) enum Admitted {
    Now(Pass),
    /// It comes again then, in milliseconds since the Unix epoch.
    Later(i64),
}

/// Who stands at the gate.
pub(crate) struct Arrival<'a> {
    pub(crate) key: &'a str,
    /// It was not here before: it goes behind those that were sent away.
    pub(crate) fresh: bool,
    /// It has begun before, and only goes on: it needs a permit, and no tokens.
    pub(crate) resumed: bool,
}

impl Gate {
    pub(super) fn new(kind: Option<Arc<Declared>>, key: Option<Arc<Declared>>) -> Self {
        Self { kind, key, tail: AtomicI64::default(), takes: AtomicU64::default() }
    }

    /// Waits for no longer than `patience`.
    pub(crate) async fn admit(self: &Arc<Self>, limits: &Limits, who: Arrival<'_>, patience: Duration) -> Admitted {
        let now = limits.clock().now();
        let soon = patience.as_millis() as i64;
        if who.fresh && self.tail.load(Ordering::Relaxed) > (now + soon) * 1000 {
            return self.later(now, soon);
        }
        let permit = match self.enter(limits, patience).await {
            Ok(Some(Admission::In(permit))) => Some(permit),
            Ok(Some(Admission::Wait(_))) => return self.later(limits.clock().now(), 1),
            Ok(None) => None,
            Err(error) => {
                warn!(key = who.key, %error, "a command waits: its kind's permits cannot be asked for");
                return Admitted::Later(now + OUT);
            }
        };
        if !who.resumed {
            match self.draw(limits, who.key, patience).await {
                Ok(Ok(wait)) => limits.clock().sleep(Duration::from_millis(wait)).await,
                Ok(Err(later)) => return later,
                Err(error) => {
                    warn!(key = who.key, %error, "a command waits: its kind's limit cannot be asked");
                    return Admitted::Later(now + OUT);
                }
            }
        }
        Admitted::Now(Pass { gate: self.clone(), began: limits.tick(), limits: limits.clone(), _permit: permit })
    }

    async fn enter(&self, limits: &Limits, patience: Duration) -> crate::Result<Option<Admission>> {
        match self.kind.as_ref().filter(|kind| kind.at_once.is_some()) {
            Some(kind) => limits.admit(kind, "", None, patience).await.map(Some),
            None => Ok(None),
        }
    }

    /// Draws a token from each bucket; in how many milliseconds they may be used, or when to come again.
    async fn draw(&self, limits: &Limits, key: &str, patience: Duration) -> crate::Result<Result<u64, Admitted>> {
        let mut wait = 0;
        // That of the key first: it stops only itself.
        for (of, who) in [(&self.key, key), (&self.kind, "")] {
            let Some(of) = of.as_ref().filter(|of| of.rate.is_some() || of.quota.is_some()) else { continue };
            let drawn = limits.draw(of, who, 1, patience).await?;
            if !drawn.allowed() {
                let (now, wait) = (limits.clock().now(), drawn.wait() as i64);
                let own = Admitted::Later(now + wait.clamp(1, LATEST));
                return Ok(Err(if who.is_empty() { self.later(now, wait) } else { own }));
            }
            wait = wait.max(drawn.wait());
        }
        Ok(Ok(wait))
    }

    /// When to come again: behind all that were told so, and not before `wait` is over, in milliseconds.
    fn later(&self, now: i64, wait: i64) -> Admitted {
        let pace = self.pace();
        let earliest = (now + wait.clamp(1, LATEST)) * 1000;
        let latest = (now + LATEST) * 1000;
        let next = |tail: i64| Some((tail.max(earliest) + pace).min(latest));
        let tail = self.tail.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        Admitted::Later(tail.max(earliest).min(latest).div_euclid(1000).max(now + 1))
    }

    /// How far apart commands pass, in microseconds, if nobody else has the limit.
    fn pace(&self) -> i64 {
        let Some(kind) = &self.kind else { return 0 };
        let rate = kind.rate.map_or(0, |rate| rate.per() * 1000 / rate.tokens());
        let turn = kind.at_once.map_or(0, |most| self.takes.load(Ordering::Relaxed) / u64::from(most));
        rate.max(turn).min(LATEST as u64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        coordination::limit::{Limit, Unavailable, book::Book},
        metrics::Metrics,
    };

    #[test]
    fn those_who_come_again_are_spread_at_the_pace_of_the_limit() {
        let book = Book::new(&Metrics::default(), "kind:k");
        let kind = Limit::rate(10, Duration::from_secs(1)).declare("kind:k", Unavailable::Local, book).unwrap();
        let gate = Gate::new(Some(kind), None);
        let mut times = Vec::new();
        for _ in 0..10_000 {
            match gate.later(1_000_000, 500) {
                Admitted::Later(time) => times.push(time - 1_000_000),
                Admitted::Now(_) => unreachable!(),
            }
        }
        assert_eq!(times[..3], [500, 600, 700]);
        assert!(times.is_sorted() && times.iter().all(|time| *time <= LATEST));
    }
}
