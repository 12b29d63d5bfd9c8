//! What is known of one lock: who holds it, who waits, which token was the last. Pure: whoever calls says
//! what time it is.
//!
//! Invariants: a token is never given twice and never falls; whoever waits is served in the order of
//! claiming; and whether a lease is over is decided by a clock that is never set, from when this
//! activation last heard of whoever has it. So neither a clock that jumps nor a takeover ends a lease
//! early; a takeover lets it begin anew.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{address::Address, envelope::Position};

/// Most that wait for one lock.
pub(crate) const WAITERS: usize = 10_000;
/// How long an unused lock is remembered, in milliseconds.
pub(crate) const KEPT: i64 = 24 * 3600 * 1000;
/// How often it is looked whether a command that holds the lock has ended, while others wait, in
/// milliseconds.
pub(crate) const CHECK: i64 = 10_000;

/// A moment by both clocks, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// Since the Unix epoch.
    pub(crate) now: i64,
    /// Of a clock that is never set.
    pub(crate) steady: i64,
}

/// A lock.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The last token given.
    #[serde(default)]
    pub(crate) token: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<Claim>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(crate) queue: VecDeque<Claim>,
    /// When it last changed hands.
    #[serde(default)]
    pub(crate) used: i64,
    /// When it is next looked at; 0 when it is not.
    #[serde(default)]
    pub(crate) alarm: i64,
}

/// Somebody who holds a lock or waits for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Who: for a command what the keys of its steps begin with, for others an id of their own.
    pub(crate) by: String,
    /// When it was made, or when the lock was given, in milliseconds since the Unix epoch.
    pub(crate) since: i64,
    /// The command, if it is one: it has what it has until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<Asker>,
    /// How long it is good for without being renewed, in milliseconds, if it is no command.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) lease: i64,
    /// The node where it is waited for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) node: i64,
    /// When nobody waits for it any more, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<i64>,
    /// When this activation last heard of it, by the clock that is never set. Not saved: it means nothing
    /// elsewhere, and renewing would be writing.
    #[serde(skip)]
    pub(crate) seen: Option<i64>,
}

/// The command that asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asker {
    /// Its actor.
    pub(crate) by: Address,
    /// Where it is, or was before a resize.
    pub(crate) position: Position,
    /// Which of its operations.
    pub(crate) op: u32,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// How somebody stands with a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has the lock.
    Holds { token: i64 },
    /// So many are before it.
    Waits { before: usize },
    /// Neither.
    Not,
}

impl Claim {
    /// Whether its lease is over. One that this activation has not heard of is heard of now.
    fn lapsed(&mut self, at: Moment) -> bool {
        self.lease > 0 && at.steady - *self.seen.get_or_insert(at.steady) >= self.lease
    }

    /// How long until it is to be looked at.
    fn rest(&self, at: Moment) -> i64 {
        let span = if self.lease > 0 { self.lease } else { CHECK };
        (span - (at.steady - self.seen.unwrap_or(at.steady))).max(1)
    }
}

impl State {
    /// How somebody stands; that it was heard of counts as renewing.
    pub(crate) fn renew(&mut self, by: &str, at: Moment) -> Standing {
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.by == by) {
            holder.seen = Some(at.steady);
            return Standing::Holds { token: self.token };
        }
        match self.queue.iter_mut().enumerate().find(|(_, claim)| claim.by == by) {
            Some((before, claim)) => {
                claim.seen = Some(at.steady);
                Standing::Waits { before }
            }
            None => Standing::Not,
        }
    }

    /// Whether whoever comes now would have to wait.
    pub(crate) fn is_taken(&self) -> bool {
        self.holder.is_some() || !self.queue.is_empty()
    }

    /// Puts somebody at the end of the queue; `false` when that is full of claims that are still good.
    pub(crate) fn enqueue(&mut self, claim: Claim, at: Moment) -> bool {
        if self.queue.len() >= WAITERS {
            self.queue.retain_mut(|claim| !claim.lapsed(at) && claim.until.is_none_or(|until| until > at.now));
        }
        let fits = self.queue.len() < WAITERS;
        if fits {
            self.queue.push_back(Claim { seen: Some(at.steady), ..claim });
        }
        fits
    }

    /// Somebody wants it no more; whether it had the lock.
    pub(crate) fn release(&mut self, by: &str) -> bool {
        self.queue.retain(|claim| claim.by != by);
        self.holder.take_if(|holder| holder.by == by).is_some()
    }

    /// Lets go of what lapsed, and gives the lock to the next one, if it is free: who that is.
    pub(crate) fn settle(&mut self, at: Moment) -> Option<&Claim> {
        if self.holder.as_mut().is_some_and(|holder| holder.lapsed(at)) {
            self.holder = None;
        }
        if self.holder.is_some() {
            return None;
        }
        while let Some(mut next) = self.queue.pop_front() {
            if next.lapsed(at) || next.until.is_some_and(|until| until <= at.now) {
                continue;
            }
            // A hundred a millisecond: more than are given on the whole, so that tokens rise also when the
            // lock was forgotten in between, and fewer than 15 digits (RFC 9651 §3.3.1).
            self.token = (self.token + 1).max(at.now.saturating_mul(100));
            (self.used, next.since, next.seen, next.until) = (at.now, at.now, Some(at.steady), None);
            return Some(self.holder.insert(next));
        }
        None
    }

    /// When it is next to be looked at, in milliseconds since the Unix epoch.
    pub(crate) fn due(&self, at: Moment) -> i64 {
        match &self.holder {
            Some(holder) if !self.queue.is_empty() => at.now + holder.rest(at),
            Some(_) => at.now.max(self.used) + KEPT,
            None => self.used + KEPT,
        }
    }

    /// Whether nothing of it need be remembered.
    pub(crate) fn is_over(&self, at: Moment) -> bool {
        !self.is_taken() && self.used + KEPT <= at.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000;

    fn at(ms: i64) -> Moment {
        Moment { now: NOW + ms, steady: ms }
    }

    fn claim(by: &str, lease: i64) -> Claim {
        Claim { by: by.into(), since: 0, asked: None, lease, node: 0, until: None, seen: None }
    }

    fn holder(state: &State) -> Option<&str> {
        state.holder.as_ref().map(|holder| holder.by.as_str())
    }

    fn saved(state: &State) -> State {
        serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
    }

    #[test]
    fn whoever_waits_is_served_in_order_and_tokens_rise() {
        let mut state = State::default();
        let mut tokens = Vec::new();
        for by in ["a", "b", "c"] {
            assert!(state.enqueue(claim(by, 100), at(0)));
            state.settle(at(0));
        }
        assert_eq!(state.renew("c", at(1)), Standing::Waits { before: 1 });
        for by in ["a", "b", "c"] {
            assert_eq!(holder(&state), Some(by));
            tokens.push(state.token);
            assert!(state.release(by));
            // A clock that was set back does not let tokens fall.
            state.settle(Moment { now: 5, steady: 1 });
        }
        assert_eq!(tokens, [NOW * 100, NOW * 100 + 1, NOW * 100 + 2]);
        assert!(!state.is_taken() && !state.release("a"));
    }

    #[test]
    fn a_lease_is_over_only_by_the_clock_that_is_never_set() {
        let mut state = State::default();
        state.enqueue(claim("a", 100), at(0));
        state.settle(at(0));
        state.enqueue(claim("b", 100), at(0));
        state.settle(Moment { now: NOW + 1_000_000, steady: 99 });
        assert_eq!(holder(&state), Some("a"), "the wall clock has jumped");
        assert_eq!(state.renew("a", at(99)), Standing::Holds { token: NOW * 100 });
        state.renew("b", at(150));
        state.settle(at(198));
        assert_eq!((holder(&state), state.due(at(198))), (Some("a"), NOW + 199));
        // Another owner has heard of nobody: leases begin anew.
        let mut state = saved(&state);
        state.settle(at(500));
        state.settle(at(599));
        assert_eq!(holder(&state), Some("a"));
        state.settle(at(600));
        assert_eq!(holder(&state), Some("b"));
        assert_eq!(state.renew("a", at(600)), Standing::Not);
    }

    #[test]
    fn whoever_waited_in_vain_is_passed_over() {
        let mut state = State::default();
        for by in ["a", "gone", "late"] {
            state.enqueue(Claim { until: (by == "late").then_some(NOW + 200), ..claim(by, 100) }, at(0));
        }
        state.settle(at(0));
        state.renew("a", at(90));
        state.renew("late", at(150));
        state.enqueue(claim("b", 100), at(150));
        state.release("a");
        state.settle(at(200));
        assert_eq!((holder(&state), state.queue.len()), (Some("b"), 0));
    }

    #[test]
    fn a_queue_is_bounded_and_makes_room_for_the_living() {
        let mut state = State::default();
        for n in 0..WAITERS {
            assert!(state.enqueue(claim(&n.to_string(), 100), at(0)));
        }
        assert!(!state.enqueue(claim("more", 100), at(99)));
        state.renew("7", at(99));
        assert!(state.enqueue(claim("more", 100), at(100)));
        assert_eq!(state.queue.len(), 2);
    }

    #[test]
    fn it_is_remembered_for_a_day_after_it_was_last_held() {
        let mut state = State::default();
        state.enqueue(claim("a", 100), at(0));
        state.settle(at(0));
        assert!(state.due(at(0)) == NOW + KEPT && !state.is_over(at(KEPT)));
        state.release("a");
        assert!(!state.is_over(at(KEPT - 1)) && state.is_over(at(KEPT)));
    }

    #[test]
    fn stored_names_never_change() {
        let asked = Asker { by: "order/7".parse().unwrap(), position: Position::new(1, 9), op: 2 };
        let mut state = State::default();
        state.enqueue(Claim { asked: Some(asked), ..claim("k", 0) }, at(0));
        state.enqueue(Claim { until: Some(NOW + 5), node: 3, ..claim("o", 100) }, at(0));
        state.settle(at(0));
        assert_eq!(
            serde_json::to_string(&state).unwrap(),
            r#"{"token":176722560000000,"holder":{"by":"k","since":1767225600000,"asked":{"by":{"kind":"order","key":"7"},"position":281474976710665,"op":2}},"queue":[{"by":"o","since":0,"lease":100,"node":3,"until":1767225600005}],"used":1767225600000,"alarm":0}"#
        );
    }
}
