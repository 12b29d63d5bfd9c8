//! Slots between two times: which are due, which of them are newest, and when exactly each fires.
//!
//! Invariant: a slot fires within its jitter, and always before the next slot.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::spec::When;

/// As far as slots are counted one by one; beyond, there are "so many or more".
pub(super) const COUNTED: u64 = 10_000;

/// Slots that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The newest of them, oldest first.
    pub(super) newest: Vec<i64>,
    /// How many there are, counted up to [`COUNTED`].
    pub(super) count: u64,
}

/// The slots from `first`, which is one, up to `until`, of which the `most` newest are named.
pub(super) fn due(when: &When, first: i64, until: i64, most: usize) -> Due {
    let (mut newest, mut count) = (std::collections::VecDeque::new(), 0);
    let mut next = Some(first).filter(|slot| *slot <= until);
    while let Some(slot) = next {
        if count == COUNTED {
            return Due { newest: last(when, first, until, most), count };
        }
        count += 1;
        if newest.len() == most {
            newest.pop_front();
        }
        newest.push_back(slot);
        next = when.next(slot).filter(|slot| *slot <= until);
    }
    Due { newest: newest.into(), count }
}

/// The `most` newest slots up to `until`, of more than can be counted. That there are more than so many after
/// a time is true up to some time and false after it, so that time is found by halving.
fn last(when: &When, first: i64, until: i64, most: usize) -> Vec<i64> {
    let after = |from: i64| {
        let next = |slot: &i64| when.next(*slot).filter(|slot| *slot <= until);
        std::iter::successors(next(&from), next)
    };
    let (mut more, mut few) = (first, until);
    while few - more > 1 {
        let middle = more + (few - more) / 2;
        if after(middle).nth(most).is_some() { more = middle } else { few = middle }
    }
    after(few).collect()
}

/// When a slot fires: up to `jitter` milliseconds later, the same for the same slot of the same name, and
/// before the `next` slot.
pub(super) fn fires(name: &str, slot: i64, next: Option<i64>, jitter: i64) -> i64 {
    let most = next.map_or(jitter, |next| jitter.min(next.saturating_sub(slot)));
    if most <= 0 {
        return slot;
    }
    let hash = xxh3_64_with_seed(name.as_bytes(), slot as u64);
    slot.saturating_add((hash % most as u64) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::spec::Spec, *};

    fn every(period: i64) -> When {
        Spec::Every { period, from: 0 }.read().unwrap()
    }

    #[test]
    fn the_newest_of_many_are_named_without_counting_all() {
        let when = every(1_000);
        let year = 365 * 86_400_000;
        let due = due(&when, 1_000, year + 1, 3);
        assert_eq!(due, Due { newest: vec![year - 2_000, year - 1_000, year], count: COUNTED });
        // Clumps: every second of an hour of each day, asked for in the evening.
        let clumps = Spec::Cron { text: "* * 3 * * *".into(), zone: None }.read().unwrap();
        let due = super::due(&clumps, 3 * 3_600_000, year + 20 * 3_600_000, 2);
        assert_eq!(due.newest, [year + 4 * 3_600_000 - 2_000, year + 4 * 3_600_000 - 1_000]);
    }

    #[test]
    fn jitter_is_the_same_for_the_same_slot_and_spreads_the_others() {
        let fire = |name, slot| fires(name, slot, Some(slot + 3_600_000), 600_000) - slot;
        assert_eq!(fire("a", 0), fire("a", 0));
        let spread: std::collections::BTreeSet<i64> = (0..100).map(|n| fire("a", n * 3_600_000) / 60_000).collect();
        assert!(spread.len() >= 8, "over the ten minutes: {spread:?}");
        assert_ne!(fire("a", 0), fire("b", 0));
    }

    proptest! {
        #[test]
        fn what_is_due_is_what_comes_one_by_one(
            period in 1_000i64..5_000, first in 0i64..10, length in 0i64..200_000, most in 1usize..8
        ) {
            let (when, first) = (every(period), first * period);
            let all: Vec<i64> = (first..=first + length).filter(|at| at % period == 0).collect();
            let due = due(&when, first, first + length, most);
            prop_assert_eq!(due.count, all.len() as u64);
            prop_assert_eq!(&due.newest[..], &all[all.len().saturating_sub(most)..]);
            // What is found by halving is the same.
            if all.len() > most {
                prop_assert_eq!(last(&when, first, first + length, most), due.newest);
            }
        }

        #[test]
        fn a_slot_fires_in_its_time(slot in 0i64..1_000_000, gap in 1i64..100_000, jitter in 0i64..200_000) {
            let at = fires("x", slot, Some(slot + gap), jitter);
            prop_assert!(at >= slot && at < slot + gap && at <= slot + jitter);
        }
    }
}
