//! What is counted for each route: rate, errors, duration.

use prometheus_client::metrics::counter::Counter;

use super::histogram::Histogram;

/// The series of one route, method and status. Cheap to clone; each HTTP worker keeps its own.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    served: Counter,
    seconds: Histogram,
}

impl HttpMetrics {
    pub(super) fn new(served: Counter, seconds: Histogram) -> Self {
        Self { served, seconds }
    }

    /// A request was answered after `seconds`.
    pub fn observe(&self, seconds: f64) {
        self.served.inc();
        self.seconds.observe(seconds);
    }
}
