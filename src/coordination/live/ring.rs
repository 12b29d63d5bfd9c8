//! The last events of a channel, for those who come back. Bounded by number, bytes and age.
//! Invariant: what is kept has consecutive numbers.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::settings::Settings;

/// An event that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(rename = "n")]
    pub(crate) n: u64,
    /// When it was pushed, in milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    pub(crate) at: i64,
    /// Its name.
    #[serde(rename = "e")]
    pub(crate) event: String,
    /// Its value, as JSON.
    #[serde(rename = "v")]
    pub(crate) value: String,
}

impl Kept {
    fn size(&self) -> usize {
        self.event.len() + self.value.len() + 48
    }
}

/// Oldest first. Shared, because a command begins with a copy of its actor's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ring(VecDeque<Arc<Kept>>);

impl Ring {
    pub(crate) fn push(&mut self, kept: Kept) {
        self.0.push_back(Arc::new(kept));
    }

    /// Drops what is too old or too much. The newest stays however large it is.
    pub(crate) fn trim(&mut self, settings: &Settings, now: i64) {
        let age = settings.ring_age.as_millis().min(i64::MAX as u128) as i64;
        let old = |kept: &Arc<Kept>| kept.at.saturating_add(age) <= now;
        let mut bytes: usize = self.0.iter().map(|kept| kept.size()).sum();
        while let Some(first) = self.0.front() {
            let much = self.0.len() > 1 && (self.0.len() > settings.ring_events || bytes > settings.ring_bytes);
            if !much && !old(first) {
                break;
            }
            bytes -= first.size();
            self.0.pop_front();
        }
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Kept>> {
        self.0.back()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_consecutive_and_ends_with_the_newest(
            sizes in proptest::collection::vec((0_usize..300, 0_i64..50), 1..80),
            events in 1_usize..20, bytes in 300_usize..2000, age in 1_u64..500,
        ) {
            let age = Duration::from_millis(age);
            let settings = Settings { ring_events: events, ring_bytes: bytes, ring_age: age, ..Settings::default() };
            let (mut ring, mut now) = (Ring::default(), 1_000);
            for (n, (size, wait)) in (1..).zip(sizes) {
                now += wait;
                ring.push(Kept { n, at: now, event: "e".into(), value: "x".repeat(size) });
                ring.trim(&settings, now);
                let kept: Vec<_> = ring.iter().collect();
                prop_assert_eq!(kept.last().unwrap().n, n);
                prop_assert!(kept.windows(2).all(|two| two[0].n + 1 == two[1].n));
                prop_assert!(kept.len() <= events);
                prop_assert!(kept.len() == 1 || kept.iter().map(|kept| kept.size()).sum::<usize>() <= bytes);
                prop_assert!(kept.iter().all(|kept| kept.at + age.as_millis() as i64 > now));
            }
            ring.trim(&settings, now + age.as_millis() as i64);
            prop_assert!(ring.is_empty());
        }
    }
}
