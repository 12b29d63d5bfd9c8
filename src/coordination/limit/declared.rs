//! What a limit says: as features and `config.toml` write it, and checked.
//!
//! Invariant: a limit that is in force can be counted exactly; what cannot is refused at start.

use std::{sync::Arc, time::Duration};

use super::book::Book;
use crate::{
    backend::limits::{Name, Quota, Rate},
    error::{Error, Result},
};

/// What holds while the store cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Each node counts for itself, from a full bucket: over all nodes as many times as much as there are
    /// nodes, and never nothing at all.
    Local,
    /// Nothing is given.
    Refuse,
}

impl Unavailable {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Refuse => "refuse",
        }
    }
}

/// How much of something may be used over all nodes: in a time, and at once. Declared by
/// [`Feature::limit`](crate::Feature::limit), [`Actor::limit`](crate::Actor::limit) or in `config.toml`,
/// and checked when the node starts.
///
/// ```
/// use greenroom::coordination::limit::Limit;
/// use std::time::Duration;
///
/// // 60 a minute, at most 10 of them at once, and never more than 4 running.
/// let openai = Limit::rate(60, Duration::from_secs(60)).burst(10).at_once(4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    pub(crate) rate: Option<(u64, Duration)>,
    pub(crate) burst: Option<u64>,
    pub(crate) quota: Option<(u64, Duration)>,
    pub(crate) at_once: Option<u32>,
    pub(crate) lease: Option<Duration>,
    pub(crate) unavailable: Option<Unavailable>,
}

impl Limit {
    /// So many tokens in each `per`, added evenly.
    pub fn rate(tokens: u64, per: Duration) -> Self {
        Self { rate: Some((tokens, per)), ..Self::default() }
    }

    /// At most `most` in each window; a window of a day is a day of UTC.
    pub fn quota(most: u64, window: Duration) -> Self {
        Self { quota: Some((most, window)), ..Self::default() }
    }

    /// At most `most` at the same time.
    pub fn concurrency(most: u32) -> Self {
        Self { at_once: Some(most), ..Self::default() }
    }

    /// The most tokens that can be used at once after a pause. The default is that of one `per`.
    pub fn burst(mut self, tokens: u64) -> Self {
        self.burst = Some(tokens);
        self
    }

    /// Besides, at most `most` in each window.
    pub fn and_quota(mut self, most: u64, window: Duration) -> Self {
        self.quota = Some((most, window));
        self
    }

    /// Besides, at most `most` at the same time.
    pub fn at_once(mut self, most: u32) -> Self {
        self.at_once = Some(most);
        self
    }

    /// How long the permit of a node that died is kept from the others; 30 seconds by default.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// What holds while the store cannot answer. The default is [`Unavailable::Refuse`] for what is
    /// asked for by name, since vendors are merciless, and [`Unavailable::Local`] for kinds and for HTTP.
    pub fn unavailable(mut self, then: Unavailable) -> Self {
        self.unavailable = Some(then);
        self
    }

    /// Checks it. Terminal error naming what is wrong.
    pub(crate) fn declare(&self, name: &str, otherwise: Unavailable, book: Book) -> Result<Arc<Declared>> {
        let wrong = |error: Error| error.context(format!("the limit {name:?}"));
        let bad = |what: &str| Err(wrong(Error::terminal(what).code("bad_limit")));
        let rate = match (self.rate, self.burst) {
            (Some((tokens, per)), burst) => Some(Rate::new(tokens, per, burst.unwrap_or(tokens)).map_err(wrong)?),
            (None, Some(_)) => return bad("it has a burst and no rate"),
            (None, None) => None,
        };
        let quota = self.quota.map(|(most, window)| Quota::new(most, window).map_err(wrong)).transpose()?;
        if rate.is_none() && quota.is_none() && self.at_once.is_none() {
            return bad("it says nothing: expected a rate, a quota or how many at once");
        }
        if self.at_once == Some(0) {
            return bad("none at once: expected at least 1");
        }
        let lease = self.lease.unwrap_or(LEASE);
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&lease) {
            return bad("its lease: expected between 1s and 1h");
        }
        let unavailable = self.unavailable.unwrap_or(otherwise);
        Ok(Arc::new(Declared { name: name.into(), rate, quota, at_once: self.at_once, lease, unavailable, book }))
    }
}

/// How long a permit is held unless renewed.
const LEASE: Duration = Duration::from_secs(30);

/// A limit in force.
pub(crate) struct Declared {
    /// What it is called in metrics and for operators: `openai`, `kind:mailer`, `http:api`.
    pub(crate) name: Box<str>,
    pub(crate) rate: Option<Rate>,
    pub(crate) quota: Option<Quota>,
    pub(crate) at_once: Option<u32>,
    pub(crate) lease: Duration,
    pub(crate) unavailable: Unavailable,
    pub(crate) book: Book,
}

impl Declared {
    /// What the buckets of somebody are stored under: of `rate`, `quota` or `permits`.
    pub(super) fn stored(&self, who: &str, what: &str) -> Name {
        Name::of(&[&self.name, who, what])
    }

    /// Terminal error when so much can never be given.
    pub(super) fn check(&self, cost: u64) -> Result<()> {
        let most = [self.rate.map(Rate::burst), self.quota.map(Quota::most)].into_iter().flatten().min();
        match most {
            _ if cost == 0 => Err(Error::terminal(format!("nothing is taken from the limit {:?}", self.name))),
            Some(most) if cost > most => {
                let name = &self.name;
                Err(Error::terminal(format!("the limit {name:?} never gives {cost} at once, but at most {most}")))
            }
            Some(_) => return Ok(()),
            None => Err(Error::terminal(format!("the limit {:?} has neither a rate nor a quota", self.name))),
        }
        .map_err(|error| error.code("bad_limit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn declare(limit: Limit) -> Result<Arc<Declared>> {
        limit.declare("openai", Unavailable::Refuse, Book::new(&Metrics::default(), "openai"))
    }

    #[test]
    fn what_says_nothing_or_nonsense_is_refused_by_name() {
        let refused = |limit| declare(limit).map(|_| ()).unwrap_err().to_string();
        let second = Duration::from_secs(1);
        for (limit, says) in [
            (Limit::default(), "it says nothing"),
            (Limit::rate(0, second), "a rate of 0 tokens"),
            (Limit::rate(1, second).burst(0), "a burst of 0"),
            (Limit::concurrency(1).burst(3), "a burst and no rate"),
            (Limit::concurrency(0), "none at once"),
            (Limit::concurrency(1).lease(Duration::from_millis(10)), "its lease"),
            (Limit::quota(1, Duration::ZERO), "a quota per"),
        ] {
            let error = refused(limit);
            assert!(error.starts_with("the limit \"openai\": ") && error.contains(says), "{error}");
        }
        let limit = declare(Limit::rate(60, second).and_quota(5, second)).unwrap();
        assert!(limit.check(5).is_ok() && limit.check(6).is_err() && limit.check(0).is_err());
        assert_eq!(limit.rate.map(Rate::burst), Some(60));
    }
}
