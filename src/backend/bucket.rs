//! Counting tokens, as the embedded store does, and a node that cannot reach its store. The cluster
//! store counts the same way in `cluster/functions/limits.lua`.
//!
//! A bucket is two whole numbers. The usual one number (the time at which it is full again, as GCRA has
//! it) needs fractions of time as soon as tokens do not divide the second, and drifts with each of them.
//!
//! Invariant: the tokens given in any time are no more than the bucket held at its beginning and what
//! was added in it, whatever the clock does.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::limits::{Measure, Name, Quota, Rate, Take, Taken};

/// Buckets of one shard that are remembered at most; 256k in all, about 16 MB.
const MOST: usize = 16_384;
const SHARDS: usize = 16;

/// What is kept of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Saved {
    /// Of a rate, what is owed: the tokens that are missing, times [`Rate::per`]. Of a quota, what is used
    /// of the window, and of the following ones by those who wait for them.
    used: u64,
    /// Of a rate, when that was so; of a quota, the number of the window.
    at: i64,
}

/// The answer to a wish, and what is kept of the bucket then.
fn take(saved: Option<Saved>, take: &Take, now: i64) -> (Taken, Saved) {
    match take.of {
        Measure::Rate(rate) => even(saved, rate, take, now),
        Measure::Quota(quota) => windows(saved, quota, take, now),
    }
}

fn even(saved: Option<Saved>, rate: Rate, take: &Take, now: i64) -> (Taken, Saved) {
    let Saved { used, at } = saved.unwrap_or(Saved { used: 0, at: now });
    // A clock that went back adds nothing, and takes nothing away.
    let elapsed = now.saturating_sub(at).max(0) as u64;
    let mut owed = used.saturating_sub(elapsed.saturating_mul(rate.tokens()));
    let full = rate.burst() * rate.per();
    let need = owed.saturating_add(take.cost.saturating_mul(rate.per()));
    let (mut given, mut wait) = (0, 0);
    if need <= full {
        given = take.cost + take.ahead.min((full / 2).saturating_sub(need) / rate.per());
        owed += given * rate.per();
    } else {
        wait = (need - full).div_ceil(rate.tokens());
        if wait <= take.patience {
            given = take.cost;
            owed = need;
        }
    }
    let remaining = full.saturating_sub(owed) / rate.per();
    (Taken { given, wait, remaining, resets: owed.div_ceil(rate.tokens()) }, Saved { used: owed, at: now })
}

fn windows(saved: Option<Saved>, quota: Quota, take: &Take, now: i64) -> (Taken, Saved) {
    let (most, length) = (quota.most(), quota.window() as i64);
    let current = now.div_euclid(length);
    let (first, mut used) = match saved {
        Some(Saved { used, at }) if at <= current => {
            (current, used.saturating_sub(most.saturating_mul((current - at) as u64)))
        }
        // The clock stepped back over the edge of a window: that one goes on.
        Some(Saved { used, at }) if at == current + 1 => (at, used),
        _ => (current, 0),
    };
    // Where there is room for all of it in one window.
    let start = if used % most + take.cost > most { (used / most + 1) * most } else { used };
    let ends = |first: i64, windows: u64| ((first + windows as i64) * length - now).max(0) as u64;
    let wait = if start < most { 0 } else { ends(first, start / most) };
    let mut given = 0;
    if wait == 0 {
        given = take.cost + take.ahead.min((most / 2).saturating_sub(start + take.cost));
        used = start + given;
    } else if wait <= take.patience {
        given = take.cost;
        used = start + given;
    }
    let resets = ends(first, used.div_ceil(most).max(1));
    (Taken { given, wait, remaining: most.saturating_sub(used), resets }, Saved { used, at: first })
}

/// Buckets in memory.
#[derive(Default)]
pub(crate) struct Buckets {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// With when each is as good as new.
    buckets: HashMap<Name, (Saved, i64)>,
    /// When there are so many, those that are as good as new are forgotten.
    sweep_at: usize,
}

impl Buckets {
    /// Takes tokens, at `now` in milliseconds since the Unix epoch.
    pub(crate) fn take(&self, wish: &Take, now: i64) -> Taken {
        let mut shard = self.shards[wish.name.spread() % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let saved = shard.buckets.get(&wish.name).map(|(saved, _)| *saved);
        let (taken, kept) = take(saved, wish, now);
        if taken.allowed() {
            if saved.is_none() {
                shard.make_room(now);
            }
            shard.buckets.insert(wish.name, (kept, now.saturating_add_unsigned(taken.resets)));
        }
        taken
    }

    /// How many are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().buckets.len()).sum()
    }
}

impl Shard {
    fn make_room(&mut self, now: i64) {
        if self.buckets.len() < self.sweep_at.max(64) {
            return;
        }
        self.buckets.retain(|_, (_, new)| *new > now);
        if self.buckets.len() >= MOST {
            // Whoever can be so many is not held up by a limit for each of them.
            let mut number = 0u32;
            self.buckets.retain(|_, _| {
                number += 1;
                number.is_multiple_of(2)
            });
        }
        self.sweep_at = (self.buckets.len() * 2).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wish(of: Measure, cost: u64) -> Take {
        Take { name: Name::of(&["t"]), of, cost, ahead: 0, patience: 0 }
    }

    fn rate(tokens: u64, per_ms: u64, burst: u64) -> Measure {
        Measure::Rate(Rate::new(tokens, Duration::from_millis(per_ms), burst).unwrap())
    }

    #[test]
    fn a_third_of_a_token_a_millisecond_is_exact_for_ever() {
        let (buckets, of) = (Buckets::default(), rate(1, 3, 1));
        let given = (0..300_000).filter(|now| buckets.take(&wish(of, 1), *now).allowed()).count();
        assert_eq!(given, 100_000);
    }

    #[test]
    fn a_clock_that_goes_back_neither_fills_nor_locks_a_bucket() {
        let (buckets, of) = (Buckets::default(), rate(1, 1000, 1));
        assert!(buckets.take(&wish(of, 1), 10_000_000).allowed());
        assert_eq!(buckets.take(&wish(of, 1), 5_000_000).wait, 1000);
        let mut quota = wish(Measure::Quota(Quota::new(1, Duration::from_secs(10)).unwrap()), 1);
        quota.name = Name::of(&["q"]);
        assert!(buckets.take(&quota, 20_000).allowed());
        assert!(!buckets.take(&quota, 19_999).allowed(), "a step back over the edge is no new window");
        assert!(buckets.take(&quota, 5_000).allowed(), "a clock that was set is a new beginning");
    }

    #[test]
    fn whoever_waits_for_a_later_window_uses_that_one() {
        let (buckets, of) = (Buckets::default(), Measure::Quota(Quota::new(3, Duration::from_secs(1)).unwrap()));
        let patient = |cost| Take { patience: 10_000, ..wish(of, cost) };
        assert_eq!(buckets.take(&wish(of, 2), 100).wait, 0);
        // Two do not fit into this window any more, nor does the rest of it belong to anybody now.
        assert_eq!(buckets.take(&patient(2), 100).wait, 900);
        assert_eq!(buckets.take(&patient(2), 100).wait, 1_900);
        assert_eq!(buckets.take(&patient(1), 100), Taken { given: 1, wait: 1_900, remaining: 0, resets: 2_900 });
        let later = buckets.take(&wish(of, 1), 1_000);
        assert_eq!((later.given, later.wait), (0, 2_000), "those windows are taken");
        assert_eq!(buckets.take(&wish(of, 3), 3_000).remaining, 0);
    }

    #[test]
    fn what_is_taken_ahead_leaves_half() {
        let (buckets, of) = (Buckets::default(), rate(1, 1000, 10));
        let ahead = |ahead| Take { ahead, ..wish(of, 1) };
        assert_eq!(buckets.take(&ahead(100), 0).given, 5);
        assert_eq!(buckets.take(&ahead(100), 0).given, 1);
    }

    fn name(n: u32) -> Name {
        Name::parse(&format!("{:02x}{n:030x}", n % 256)).unwrap()
    }

    #[test]
    fn idle_buckets_are_forgotten_and_there_are_never_too_many() {
        let (buckets, of) = (Buckets::default(), rate(1, 1000, 1));
        for n in 0..100_000u32 {
            buckets.take(&Take { name: name(n), ..wish(of, 1) }, i64::from(n) * 1000);
        }
        assert!(buckets.len() <= SHARDS * 65, "{}", buckets.len());
        let (buckets, of) = (Buckets::default(), rate(1, 86_400_000, 1));
        for n in 0..(SHARDS * MOST * 2) as u32 {
            buckets.take(&Take { name: name(n), ..wish(of, 1) }, 0);
        }
        assert!(buckets.len() <= SHARDS * MOST, "{}", buckets.len());
    }
}
