//! How often and how far apart a failed command is tried again: exponential with equal jitter.

use std::time::Duration;

/// A backoff policy. The default tries 8 times over about two minutes.
///
/// ```
/// use greenroom::Retry;
/// use std::time::Duration;
/// let policy = Retry::times(3).backoff(Duration::from_secs(1), Duration::from_secs(60));
/// assert_eq!(policy.limit(), 3);
/// assert!(policy.wait(1, 0.999) <= Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    limit: u32,
    first: Duration,
    most: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: 8, first: Duration::from_millis(500), most: Duration::from_secs(300) }
    }
}

impl Retry {
    /// At most `limit` attempts, the first one counted; at least 1.
    pub fn times(limit: u32) -> Self {
        Self { limit: limit.max(1), ..Self::default() }
    }

    /// The longest wait after the first failure; it doubles with each further one, up to `most`.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        self.first = first;
        self.most = most.max(first);
        self
    }

    /// How many attempts before the dead letters.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// How long to wait after `failures` failures. `random` in `0..1` places the wait between
    /// half of the full backoff and all of it ("equal jitter"), so that it spreads herds and
    /// still never retries at once.
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.most);
        full.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stop_at_the_most() {
        let policy = Retry::times(9).backoff(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (1..5).map(|n| policy.wait(n, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5]);
        assert_eq!(policy.wait(40, 0.0), Duration::from_millis(2500));
    }
}
