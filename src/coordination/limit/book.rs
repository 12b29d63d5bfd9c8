//! What is remembered of a limit on this node for whoever looks: counts, and who is at its end.
//!
//! Invariant: it is bounded, however many are limited, and costs one lock only when somebody is low.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::metrics::{LimitMetrics, Metrics};

/// Most that are remembered of one limit.
const WATCHED: usize = 32;
/// The longest name that is remembered, in bytes.
const NAME: usize = 128;
/// Below this part of what a bucket can hold somebody is low.
const LOW: u64 = 5;

/// The book of one limit.
pub(crate) struct Book {
    pub(crate) counts: LimitMetrics,
    watched: Mutex<Vec<Watched>>,
}

/// Somebody who was at the end of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Watched {
    /// Who: a key, a tenant, a user, an address; empty where the limit is the same for all.
    pub who: String,
    /// How often it was refused here; an estimate from above when very many are refused.
    pub refused: u64,
    /// What was left for it when last seen low.
    pub remaining: u64,
    /// Of how much.
    pub of: u64,
    /// When that was, in milliseconds since the Unix epoch.
    pub seen: i64,
}

impl Book {
    pub(crate) fn new(metrics: &Metrics, name: &str) -> Self {
        Self { counts: metrics.limit(name), watched: Mutex::default() }
    }

    /// Somebody took, or was refused.
    pub(super) fn saw(&self, who: &str, allowed: bool, remaining: u64, of: u64, now: i64) {
        if allowed {
            self.counts.allowed();
        } else {
            self.counts.refused();
        }
        if allowed && remaining >= of.div_ceil(LOW) {
            return;
        }
        let who = &who[..who.floor_char_boundary(NAME)];
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = u64::from(!allowed);
        if let Some(known) = watched.iter_mut().find(|watched| watched.who == who) {
            known.refused += refused;
            (known.remaining, known.of, known.seen) = (remaining, of, now);
            return;
        }
        let mut new = Watched { who: who.to_owned(), refused, remaining, of, seen: now };
        if watched.len() < WATCHED {
            return watched.push(new);
        }
        // Who is refused often stays, whatever crowd passes by: the newcomer inherits the smallest count.
        if let Some(least) = watched.iter_mut().min_by_key(|watched| (watched.refused, watched.seen)) {
            new.refused += least.refused;
            *least = new;
        }
    }

    /// Who was at its end, most refused first.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        watched.sort_by(|a, b| b.refused.cmp(&a.refused).then(b.seen.cmp(&a.seen)));
        watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_most_stays_in_a_crowd() {
        let book = Book::new(&Metrics::default(), "api");
        for n in 0..10_000 {
            book.saw(&format!("passer-by {n}"), false, 0, 10, n);
            if n % 10 == 0 {
                book.saw("offender", false, 0, 10, n);
            }
        }
        book.saw("full", true, 9, 10, 0);
        let watched = book.watched();
        assert_eq!((watched.len(), watched[0].who.as_str()), (WATCHED, "offender"));
        assert!(watched[0].refused >= 1_000);
        book.saw(&"ä".repeat(100), false, 0, 1, 20_000);
        assert!(book.watched().iter().all(|watched| watched.who.len() <= NAME));
    }
}
