//! Drawing tokens: from what is known here, from the store, and from what holds while it is out.
//!
//! Invariant: whoever asks waits no longer than [`PATIENCE`] for a store that does not answer, and while it
//! is out only one at a time waits at all.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    ahead::Answer,
    declared::{Declared, Unavailable},
    handle::Limits,
};
use crate::{
    backend::limits::{LONGEST_WAIT, Measure, Name, Take, Taken},
    error::{Error, Result},
};

/// How long the store may take to answer before it counts as out.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is not asked again then, in milliseconds.
pub(super) const OUT: u64 = 1_000;
/// Parts of the store that may be out by themselves: as many as the cluster store spreads limits over.
pub(super) const PARTS: usize = 16;

/// The code of limits whose store cannot answer.
pub(crate) const UNAVAILABLE: &str = "limit_unavailable";

/// What became of drawing from a limit's buckets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drawn {
    pub(crate) rate: Option<Taken>,
    pub(crate) quota: Option<Taken>,
}

impl Drawn {
    pub(super) fn each(&self) -> impl Iterator<Item = Taken> {
        [self.rate, self.quota].into_iter().flatten()
    }

    pub(crate) fn allowed(&self) -> bool {
        self.each().all(|taken| taken.allowed())
    }

    /// When it may be used, or asked for again, in milliseconds.
    pub(crate) fn wait(&self) -> u64 {
        self.each().map(|taken| taken.wait).max().unwrap_or(0)
    }
}

impl Limits {
    /// Draws from the buckets of somebody, those of the rate first: a quota is not used up by what the rate
    /// refuses.
    pub(crate) async fn draw(&self, of: &Declared, who: &str, cost: u64, patience: Duration) -> Result<Drawn> {
        of.check(cost)?;
        let patience = patience.as_millis().min(LONGEST_WAIT.as_millis()) as u64;
        let mut drawn = Drawn::default();
        if let Some(rate) = of.rate {
            let name = of.stored(who, "rate");
            let take = Take { name, of: Measure::Rate(rate), cost, ahead: 0, patience };
            drawn.rate = Some(self.one(of, take).await?);
        }
        if let Some(quota) = of.quota.filter(|_| drawn.allowed()) {
            let name = of.stored(who, "quota");
            let take = Take { name, of: Measure::Quota(quota), cost, ahead: 0, patience };
            drawn.quota = Some(self.one(of, take).await?);
        }
        if drawn.wait() > 0 && drawn.allowed() {
            of.book.counts.waited();
        }
        let rate = drawn.rate.zip(of.rate).map(|(taken, rate)| (taken.remaining, rate.burst()));
        let quota = drawn.quota.zip(of.quota).map(|(taken, quota)| (taken.remaining, quota.most()));
        let tightest = rate.into_iter().chain(quota).min_by_key(|(left, most)| left.saturating_mul(1000) / most);
        if let Some((left, most)) = tightest {
            of.book.saw(who, drawn.allowed(), left, most, self.inner.clock.now());
        }
        Ok(drawn)
    }

    async fn one(&self, of: &Declared, mut take: Take) -> Result<Taken> {
        if let Some(ahead) = &self.inner.ahead {
            match ahead.look(&take, self.tick()) {
                Answer::Known(taken) => return Ok(taken),
                Answer::Ask(more) => take.ahead = more,
            }
        }
        let error = match self.asked(take.name, self.inner.store.take_tokens(take, self.given())).await {
            Ok(taken) => {
                if let Some(ahead) = &self.inner.ahead {
                    ahead.learn(&take, take.ahead, &taken, self.tick());
                }
                return Ok(taken);
            }
            Err(error) => error,
        };
        of.book.counts.unavailable();
        match of.unavailable {
            Unavailable::Local => Ok(self.inner.local.take(&Take { ahead: 0, ..take }, self.inner.clock.now())),
            Unavailable::Refuse => Err(error),
        }
    }

    /// Waits for the part of the store that has this name, but not for long. While it is out, one asks it now
    /// and then, and the others do not wait for that.
    pub(super) async fn asked<T>(&self, name: Name, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let error = |why: String| {
            let error = Error::new(format!("the store of the limits cannot answer: {why}"));
            Err(error.code(UNAVAILABLE).retry_after(Duration::from_millis(OUT)))
        };
        let part = &self.inner.out[name.spread() % PARTS];
        let (now, until) = (self.tick(), part.load(Ordering::Relaxed));
        let tries = now + PATIENCE.as_millis() as u64 + OUT;
        let may = until == 0
            || (now >= until && part.compare_exchange(until, tries, Ordering::Relaxed, Ordering::Relaxed).is_ok());
        if !may {
            return error("it did not just now".into());
        }
        let why = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => {
                part.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing came within {PATIENCE:?}"),
        };
        part.store(self.tick() + OUT, Ordering::Relaxed);
        error(why)
    }

    /// Whether some of the store did not answer when it was asked last.
    pub(super) fn is_out(&self) -> bool {
        self.inner.out.iter().any(|part| part.load(Ordering::Relaxed) != 0)
    }
}
