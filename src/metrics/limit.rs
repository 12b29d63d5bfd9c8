//! What is counted for each limit.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::labels::Limit;

/// The series of one limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LimitMetrics {
    allowed: Counter,
    refused: Counter,
    waited: Counter,
    unavailable: Counter,
}

impl LimitMetrics {
    pub(super) fn register(to: &mut Registry) -> Family<Limit, Counter> {
        let family = Family::default();
        to.register("limit_asked", "What became of asking limits", family.clone());
        family
    }

    pub(super) fn of(family: &Family<Limit, Counter>, limit: &str) -> Self {
        let outcome = |outcome| family.get_or_create_owned(&Limit { limit: limit.to_owned(), outcome });
        Self {
            allowed: outcome("allowed"),
            refused: outcome("refused"),
            waited: outcome("waited"),
            unavailable: outcome("unavailable"),
        }
    }

    /// It gave something.
    pub fn allowed(&self) {
        self.allowed.inc();
    }

    /// It refused.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// Somebody has to wait.
    pub fn waited(&self) {
        self.waited.inc();
    }

    /// The store did not answer.
    pub fn unavailable(&self) {
        self.unavailable.inc();
    }

    /// How often each of these happened, in this order.
    pub fn get(&self) -> (u64, u64, u64, u64) {
        (self.allowed.get(), self.refused.get(), self.waited.get(), self.unavailable.get())
    }
}
