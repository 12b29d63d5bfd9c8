//! Limits over all nodes that share a store: how much of something may be used in a time, and how many
//! may use it at once. `tests/conformance/limits.rs` is the contract.
//!
//! Invariant: over all nodes together a bucket gives no more than it holds, and no more than `most`
//! permits are held at once, as long as their holders renew them in time.

use std::{fmt, time::Duration};

use sha2::{Digest, Sha256};
use tokio::sync::broadcast;

use super::Fut;
use crate::error::{Error, Result};

/// Most tokens that a rate adds per time.
pub const MOST_TOKENS: u64 = 10_000_000;
/// Most that a quota grants in a window.
pub const MOST_QUOTA: u64 = 10_000_000_000;
/// The longest time of a rate, and the longest window of a quota: a leap year.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// The longest that somebody may wait for tokens.
pub const LONGEST_WAIT: Duration = Duration::from_secs(86_400);
/// Tokens times milliseconds of a full bucket: together with a wait it stays exact as a number of Lua,
/// which has 53 bits.
const FULLEST: u64 = 1 << 51;

/// What a bucket or a set of permits is stored under: a digest, so that names of any length and content
/// take one size, and who somebody is does not stand in the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name([u8; 16]);

impl Name {
    /// Of what it is made of, in order.
    pub fn of(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let mut name = [0; 16];
        name.copy_from_slice(&digest.finalize()[..16]);
        Self(name)
    }

    /// A number that spreads names evenly.
    pub fn spread(self) -> usize {
        usize::from(self.0[0])
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(|bits| Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A bucket that holds `burst` tokens and is refilled evenly, `tokens` in each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    tokens: u64,
    per: u64,
    burst: u64,
}

impl Rate {
    /// Terminal error when one of them is 0 or beyond what can be counted exactly.
    pub fn new(tokens: u64, per: Duration, burst: u64) -> Result<Self> {
        let (ms, longest) = (per.as_millis(), LONGEST.as_millis());
        let refuse = |what: String| Err(Error::terminal(what).code("bad_limit"));
        if !(1..=MOST_TOKENS).contains(&tokens) {
            return refuse(format!("a rate of {tokens} tokens: expected 1 to {MOST_TOKENS}"));
        }
        if !(1..=longest).contains(&ms) {
            return refuse(format!("a rate per {per:?}: expected 1 ms to {} days", LONGEST.as_secs() / 86_400));
        }
        let per = ms as u64;
        match burst.checked_mul(per) {
            Some(1..=FULLEST) => Ok(Self { tokens, per, burst }),
            _ => refuse(format!("a burst of {burst}: expected 1 to {}", FULLEST / per)),
        }
    }

    /// Tokens added in each [`per`](Rate::per).
    pub fn tokens(self) -> u64 {
        self.tokens
    }

    /// In how many milliseconds the tokens are added.
    pub fn per(self) -> u64 {
        self.per
    }

    /// Tokens in a full bucket: the most that can be used at once.
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// How long it takes to add so many tokens, in milliseconds, rounded up.
    pub fn refill(self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.per).div_ceil(self.tokens)
    }
}

/// At most `most` in each window; windows follow each other from 1970-01-01T00:00Z on, so that one of a
/// day is a day of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    most: u64,
    window: u64,
}

impl Quota {
    /// Terminal error when one of them is 0 or beyond what can be counted.
    pub fn new(most: u64, window: Duration) -> Result<Self> {
        let (ms, longest) = (window.as_millis(), LONGEST.as_millis());
        if !(1..=MOST_QUOTA).contains(&most) {
            return Err(Error::terminal(format!("a quota of {most}: expected 1 to {MOST_QUOTA}")).code("bad_limit"));
        }
        if !(1_000..=longest).contains(&ms) {
            let days = LONGEST.as_secs() / 86_400;
            return Err(
                Error::terminal(format!("a quota per {window:?}: expected 1 s to {days} days")).code("bad_limit")
            );
        }
        Ok(Self { most, window: ms as u64 })
    }

    /// The most that may be used in a window.
    pub fn most(self) -> u64 {
        self.most
    }

    /// How long a window is, in milliseconds.
    pub fn window(self) -> u64 {
        self.window
    }
}

/// How a bucket is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Evenly.
    Rate(Rate),
    /// By windows.
    Quota(Quota),
}

impl Measure {
    /// The most that can be taken at once.
    pub fn most(self) -> u64 {
        match self {
            Self::Rate(rate) => rate.burst,
            Self::Quota(quota) => quota.most,
        }
    }
}

/// The wish for some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Of which bucket.
    pub name: Name,
    /// How the bucket is counted.
    pub of: Measure,
    /// How many: at least 1, and no more than the bucket can hold.
    pub cost: u64,
    /// How many more are welcome, for what comes next: given only from the fuller half of the bucket.
    pub ahead: u64,
    /// How long the taker would wait, in milliseconds: if the tokens are there by then, they are its own,
    /// whoever comes later. At most [`LONGEST_WAIT`].
    pub patience: u64,
}

/// What became of it. Times are in milliseconds from the answer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Tokens given: 0 when refused, else the cost and what was given ahead.
    pub given: u64,
    /// When the given ones may be used; when refused, for how long asking again is pointless.
    pub wait: u64,
    /// What could be taken right now by the next one.
    pub remaining: u64,
    /// When the bucket is full again, or the quota's window ends, if nobody takes anything.
    pub resets: u64,
}

impl Taken {
    /// Whether it was given.
    pub fn allowed(&self) -> bool {
        self.given > 0
    }
}

/// The wish for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enter {
    /// Of which permits.
    pub name: Name,
    /// Who asks: `<node>-<anything>`, unique among all that ever ask. Asking again is harmless.
    pub holder: String,
    /// How many permits there are.
    pub most: u32,
    /// How long it is held unless renewed, in milliseconds.
    pub lease: u64,
    /// Since when it waits, as an earlier answer said: it goes before those that came later.
    pub since: Option<i64>,
    /// For how long it stands in line if there is none, in milliseconds; asking again prolongs that. 0
    /// when it does not wait.
    pub patience: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is in.
    In,
    /// It is not.
    Wait {
        /// Since when it waits, by the store's clock, in milliseconds since the Unix epoch.
        since: i64,
        /// When the first permit comes free by itself, unless it is renewed: in so many milliseconds.
        next: Option<u64>,
    },
}

/// A permit that is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Of which permits.
    pub name: Name,
    /// By whom.
    pub holder: String,
    /// How long it is held unless renewed, in milliseconds.
    pub lease: u64,
}

/// Buckets and permits. Each call takes the time, in milliseconds since the Unix epoch, only where a
/// test has a clock of its own: otherwise the store's own clock counts, because the clocks of nodes
/// differ, and one that is ahead would fill every bucket for all.
pub trait Limits: Send + Sync + 'static {
    /// Takes tokens. Many calls at once share a way to the store.
    fn take_tokens(&self, take: Take, now: Option<i64>) -> Fut<'_, Result<Taken>>;

    /// Takes a permit, or a place in line for one.
    fn enter_permit(&self, enter: Enter, now: Option<i64>) -> Fut<'_, Result<Entered>>;

    /// Prolongs permits; of each whether it was still held.
    fn renew_permits(&self, held: Vec<Held>, now: Option<i64>) -> Fut<'_, Result<Vec<bool>>>;

    /// Gives a permit or a place in line back.
    fn leave_permit(&self, name: Name, holder: String, now: Option<i64>) -> Fut<'_, Result<()>>;

    /// Names of which a permit may have come free for somebody of this node. May be told for nothing,
    /// and may miss something: whoever waits asks again now and then.
    fn permits_freed(&self) -> broadcast::Receiver<Name>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_digest_of_its_parts_and_never_changes() {
        let name = Name::of(&["named", "openai", "acme", "rate"]);
        assert_eq!(name.to_string(), "93e6ea963eea42dfb3079973a6e411eb");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert_ne!(Name::of(&["a", "bc"]), Name::of(&["ab", "c"]));
        assert_eq!(Name::parse("3b"), None);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let second = Duration::from_secs(1);
        assert!(Rate::new(10, second, 10).is_ok());
        let refused = |rate: Result<Rate>| rate.unwrap_err().to_string();
        assert_eq!(refused(Rate::new(0, second, 1)), "a rate of 0 tokens: expected 1 to 10000000");
        assert!(refused(Rate::new(1, Duration::ZERO, 1)).contains("expected 1 ms to 366 days"));
        assert_eq!(refused(Rate::new(1, second, 0)), "a burst of 0: expected 1 to 2251799813685");
        assert!(Quota::new(0, second).is_err() && Quota::new(1, Duration::from_millis(999)).is_err());
        assert_eq!(Rate::new(3, second, 9).unwrap().refill(1), 334);
    }
}
