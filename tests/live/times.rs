//! How long things took: percentiles.

use std::{fmt, time::Duration};

/// Times of one thing.
#[derive(Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this part of all took at most.
    pub(crate) fn at(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |part| self.at(part).as_secs_f64() * 1000.0;
        let (count, p50, p99, most) = (self.0.len(), ms(0.5), ms(0.99), ms(1.0));
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, max {most:.1} ms of {count}")
    }
}
