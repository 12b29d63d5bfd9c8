//! What this node knows of buckets without asking: tokens that it took ahead of busy ones, and which are
//! empty for a while. So a busy bucket costs a few round trips in each tenth of a second instead of one
//! for each token, and an empty one costs none.
//!
//! Invariant: what is given from here was taken from the store before, less than [`HOLD`] ago where it is
//! of a rate. So over all nodes, in any time `t`, no more is used than the bucket's burst and what is
//! added in `t` and [`HOLD`]. What is not used in time is lost: that is why no more is taken ahead than
//! half of what was used in the [`HOLD`] before, and never from the emptier half of a bucket.

use dashmap::{DashMap, Entry};

use crate::backend::limits::{Measure, Name, Take, Taken};

/// How long tokens of a rate may be held, in milliseconds; and the time in which use is counted.
const HOLD: u64 = 100;
/// A bucket of which fewer were used in that time is not worth it.
const BUSY: u64 = 8;
/// How long somebody who asked for more may take for it, in milliseconds.
const ASKING: u64 = 1_000;
/// Most buckets that are known.
const MOST: usize = 10_000;

/// What is known of a bucket. Times are those of the node's own clock that only rises.
#[derive(Default)]
struct Known {
    left: u64,
    /// Until when what is left may be used.
    left_until: u64,
    /// Nothing of this cost or more is given until then.
    empty: (u64, u64),
    /// What was used in this time, and in the one before it; when this one began.
    used: u64,
    before: u64,
    since: u64,
    asking: u64,
    remaining: u64,
    resets: u64,
}

impl Known {
    fn pass(&mut self, now: u64) {
        if now >= self.since + HOLD {
            self.before = if now < self.since + 2 * HOLD { self.used } else { 0 };
            (self.used, self.since) = (0, now);
        }
        if now >= self.left_until {
            self.left = 0;
        }
    }

    /// Whether nothing would be lost by forgetting it.
    fn is_idle(&self, now: u64) -> bool {
        now >= self.left_until && now >= self.empty.1 && now >= self.since + 2 * HOLD
    }
}

/// What is to be done about a wish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is known how it ends.
    Known(Taken),
    /// The store must be asked, for so many more than are wished for.
    Ask(u64),
}

#[derive(Default)]
pub(super) struct Ahead {
    buckets: DashMap<Name, Known>,
}

impl Ahead {
    /// Answers a wish if that can be done here, at `now` by the node's own clock in milliseconds.
    pub(super) fn look(&self, take: &Take, now: u64) -> Answer {
        let Some(mut known) = self.buckets.get_mut(&take.name) else { return Answer::Ask(0) };
        known.pass(now);
        let resets = known.resets.saturating_sub(now);
        let (cost, until) = known.empty;
        let wait = until.saturating_sub(now);
        if take.cost >= cost && wait > take.patience {
            return Answer::Known(Taken { given: 0, wait, remaining: 0, resets });
        }
        if take.cost <= known.left {
            known.left -= take.cost;
            known.used += take.cost;
            let remaining = known.remaining + known.left;
            return Answer::Known(Taken { given: take.cost, wait: 0, remaining, resets });
        }
        if known.before < BUSY || now < known.asking {
            return Answer::Ask(0);
        }
        known.asking = now + ASKING;
        let added = match take.of {
            Measure::Rate(rate) => HOLD * rate.tokens() / rate.per(),
            Measure::Quota(quota) => quota.most(),
        };
        Answer::Ask(known.before.min(added) / 2)
    }

    /// What the store said.
    pub(super) fn learn(&self, take: &Take, asked: u64, taken: &Taken, now: u64) {
        let room = self.buckets.len() < MOST || self.make_room(now);
        let mut known = match self.buckets.entry(take.name) {
            Entry::Occupied(known) => known.into_ref(),
            Entry::Vacant(new) if room => new.insert(Known { since: now, ..Known::default() }),
            Entry::Vacant(_) => return,
        };
        known.pass(now);
        (known.remaining, known.resets) = (taken.remaining, now + taken.resets);
        if asked > 0 {
            known.asking = 0;
        }
        if !taken.allowed() {
            known.empty = (take.cost, now + taken.wait);
            return;
        }
        known.empty = (0, 0);
        known.used += take.cost;
        let more = taken.given.saturating_sub(take.cost);
        if more > 0 {
            known.left += more;
            known.left_until = match take.of {
                Measure::Rate(_) => now + HOLD,
                // Of a window all is of one window: none is lost before its end.
                Measure::Quota(_) => now + taken.resets,
            };
        }
    }

    fn make_room(&self, now: u64) -> bool {
        self.buckets.retain(|_, known| !known.is_idle(now));
        self.buckets.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::{
        bucket::Buckets,
        limits::{Quota, Rate},
    };

    fn wish(of: Measure) -> Take {
        Take { name: Name::of(&["t"]), of, cost: 1, ahead: 0, patience: 0 }
    }

    /// Takes as a node does; whether it was given, and whether the store was asked.
    fn take(ahead: &Ahead, store: &Buckets, take: Take, now: u64) -> (bool, bool) {
        match ahead.look(&take, now) {
            Answer::Known(taken) => (taken.allowed(), false),
            Answer::Ask(more) => {
                let take = Take { ahead: more, ..take };
                let taken = store.take(&take, now as i64);
                ahead.learn(&take, more, &taken, now);
                (taken.allowed(), true)
            }
        }
    }

    #[test]
    fn a_busy_bucket_is_rarely_asked_for_and_an_empty_one_not_at_all() {
        let of = Measure::Rate(Rate::new(1000, Duration::from_secs(1), 1000).unwrap());
        let (ahead, store) = (Ahead::default(), Buckets::default());
        let (mut given, mut asked) = (0, 0);
        for now in 0..10_000 {
            // One in two milliseconds: half of the rate.
            if now % 2 == 0 {
                let (ok, ask) = take(&ahead, &store, wish(of), now);
                (given, asked) = (given + u32::from(ok), asked + u32::from(ask));
            }
        }
        assert_eq!(given, 5_000);
        assert!(asked < 700, "asked {asked} times");

        let of = Measure::Rate(Rate::new(1, Duration::from_secs(1), 1).unwrap());
        let (ahead, store) = (Ahead::default(), Buckets::default());
        let all: Vec<_> = (0..10_000).map(|now| take(&ahead, &store, wish(of), now)).collect();
        assert_eq!(all.iter().filter(|(ok, _)| *ok).count(), 10);
        assert!(all.iter().filter(|(_, asked)| *asked).count() <= 20);
    }

    /// Nodes that all want as much as they can get, over any second.
    #[test]
    fn no_time_sees_more_than_the_bound() {
        let rate = Rate::new(1000, Duration::from_secs(1), 200).unwrap();
        let (nodes, store) = ((0..3).map(|_| Ahead::default()).collect::<Vec<_>>(), Buckets::default());
        let mut used = Vec::new();
        for now in 0..5_000u64 {
            for node in &nodes {
                // Sometimes busy, sometimes not.
                let wanted = if (now / 150) % 3 == 0 { 4 } else { u64::from(now % 7 == 0) };
                for _ in 0..wanted {
                    if take(node, &store, wish(Measure::Rate(rate)), now).0 {
                        used.push(now);
                    }
                }
            }
        }
        for (first, from) in used.iter().enumerate() {
            let within = |time: u64| used[first..].iter().take_while(|now| **now <= from + time).count() as u64;
            for time in [1, 10, 100, 1000] {
                assert!(within(time) <= 200 + time + HOLD + 1, "{} in {time} ms from {from}", within(time));
            }
        }
        assert!(used.len() > 3_000, "{}", used.len());
    }

    #[test]
    fn a_quota_is_exact_and_nothing_of_it_is_lost() {
        let of = Measure::Quota(Quota::new(1_000, Duration::from_secs(3600)).unwrap());
        let (ahead, store) = (Ahead::default(), Buckets::default());
        let given = (0..200_000).filter(|now| take(&ahead, &store, wish(of), *now).0).count();
        assert_eq!(given, 1_000);
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let of = Measure::Rate(Rate::new(1, Duration::from_secs(1), 1).unwrap());
        let (ahead, store) = (Ahead::default(), Buckets::default());
        for n in 0..3 * MOST as u64 {
            take(&ahead, &store, Take { name: Name::of(&[&n.to_string()]), ..wish(of) }, n / 20);
        }
        assert!(ahead.buckets.len() <= MOST);
    }
}
