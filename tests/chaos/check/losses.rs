//! What may be missing, or be there twice, since Redis forgot something that it had confirmed: only what was told
//! before it served again, and was still being promised or handled when it forgot. Whatever was told afterwards
//! ends exactly once, and nothing is ever answered with what belongs to another.

use std::collections::HashMap;

use serde_json::Value;

use super::{Case, Evidence, Told};
use crate::{history::Event, servers::Loss};

/// How long before a loss something may have been handled that ended within it, in milliseconds.
const HANDLING: i64 = 3_000;

/// Whether an answer says that the request was lost.
pub(super) fn says_lost(view: &Value) -> bool {
    let problem = view["answer"].as_str().is_some_and(|answer| answer.contains("/problems/lost"));
    view["http"] == 410 && problem || view["status"] == "lost"
}

/// When something was last done or heard under each mark.
pub(super) fn touched(evidence: &Evidence) -> HashMap<&str, i64> {
    let heard = evidence.history.iter().filter_map(|event| Some((event.mark(), at(event)?)));
    let done = evidence.accounts.values().flat_map(|held| &held.tape).map(|entry| (entry.mark.as_str(), entry.at));
    let drops = evidence.accounts.values().flat_map(|held| &held.drops);
    let dropped = drops.map(|(mark, drops)| (mark.as_str(), drops.last));
    let called = evidence.calls.iter().map(|called| (called.call.mark.as_str(), called.at));
    let mut touched: HashMap<&str, i64> = HashMap::new();
    for (mark, at) in heard.chain(done).chain(dropped).chain(called) {
        let last = touched.entry(mark).or_insert(at);
        *last = at.max(*last);
    }
    touched
}

/// When it was heard, if it says so.
fn at(event: &Event) -> Option<i64> {
    match event {
        Event::Promised { at, .. } | Event::Cancelled { at, .. } | Event::Signalled { at, .. } => Some(*at),
        _ => None,
    }
}

impl Case<'_> {
    /// Whether a loss may have taken something of it: its message, its end or what it caused.
    pub(crate) fn exposed(&self, told: &Told<'_>) -> bool {
        let last = self.touched.get(told.command.mark()).copied().unwrap_or(told.sent);
        self.evidence.losses.iter().any(|loss| told.sent <= loss.to && last >= loss.from - HANDLING)
    }

    /// The same by its mark; what was never told is not.
    pub(super) fn is_exposed(&self, mark: &str) -> bool {
        self.told.get(mark).is_some_and(|told| self.exposed(told))
    }

    /// Whether the message itself may be gone: it was promised while Redis kept nothing.
    pub(super) fn may_be_lost(&self, told: &Told<'_>) -> bool {
        let promised = told.events.iter().filter_map(|event| match event {
            Event::Promised { at, .. } => Some(*at),
            _ => None,
        });
        let within = |loss: &Loss, at: i64| told.sent <= loss.to && at >= loss.from;
        // The first promise counts: a later one was of the same message, or of another after it was lost.
        promised.min().is_some_and(|at| self.evidence.losses.iter().any(|loss| within(loss, at)))
    }
}
