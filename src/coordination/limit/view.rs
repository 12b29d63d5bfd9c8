//! The limits of a node as operators see them.

use std::sync::PoisonError;

use serde::Serialize;

use super::{book::Watched, declared::Declared, handle::Limits};
use crate::config::show_duration;

/// One limit on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitView {
    /// What it is called: by its own name, `kind:…`, `key:…` or `http:…`.
    pub name: String,
    /// Tokens per time, as they are written; null without a rate.
    pub rate: Option<String>,
    /// The most that can be used at once; null without a rate.
    pub burst: Option<u64>,
    /// The most in a window, as it is written; null without a quota.
    pub quota: Option<String>,
    /// How many at the same time; null without such a limit.
    pub at_once: Option<u32>,
    /// What holds while the store cannot answer: `local` or `refuse`.
    pub unavailable: &'static str,
    /// How often it gave something here since the start.
    pub allowed: u64,
    /// How often it refused.
    pub refused: u64,
    /// How often somebody had to wait.
    pub waited: u64,
    /// How often the store did not answer.
    pub unanswered: u64,
    /// Permits that are held here.
    pub held: usize,
    /// Who waits here for a permit.
    pub waiting: usize,
    /// Who is at its end: at most 32, those refused most first.
    pub low: Vec<Watched>,
}

impl Limits {
    /// All limits of this node, in the order they were declared.
    pub fn list(&self) -> Vec<LimitView> {
        let all = self.inner.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().map(|declared| self.view(declared)).collect()
    }

    /// Whether the store gave an answer when it was asked last.
    pub fn store_answers(&self) -> bool {
        !self.is_out()
    }

    fn view(&self, of: &Declared) -> LimitView {
        let per = |tokens: u64, ms: u64| format!("{tokens}/{}", show_duration(std::time::Duration::from_millis(ms)));
        let (allowed, refused, waited, unanswered) = of.book.counts.get();
        let own = of.stored("", "permits");
        let (held, waiting) = self.inner.permits.count(|name| name == own);
        LimitView {
            name: of.name.to_string(),
            rate: of.rate.map(|rate| per(rate.tokens(), rate.per())),
            burst: of.rate.map(|rate| rate.burst()),
            quota: of.quota.map(|quota| per(quota.most(), quota.window())),
            at_once: of.at_once,
            unavailable: of.unavailable.as_str(),
            allowed,
            refused,
            waited,
            unanswered,
            held,
            waiting,
            low: of.book.watched(),
        }
    }
}
