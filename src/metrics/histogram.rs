//! A histogram without locks: every worker thread observes into the same atomics.
//! Invariant: an observation lands in exactly one bucket, so the count is the sum of the buckets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

const SECONDS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, f64::INFINITY];
const COUNTS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, f64::INFINITY];

/// Counts of observations by size.
#[derive(Clone, Debug)]
pub struct Histogram {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    /// In units of `1 / scale`, so that adding is one instruction.
    sum: AtomicU64,
    scale: f64,
}

impl Histogram {
    /// Of times, from a quarter of a millisecond to half a minute.
    pub fn seconds() -> Self {
        Self::new(&SECONDS, 1e9)
    }

    /// Of sizes of batches, by powers of two.
    pub fn counts() -> Self {
        Self::new(&COUNTS, 1.0)
    }

    fn new(bounds: &'static [f64], scale: f64) -> Self {
        let buckets = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { inner: Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0), scale }) }
    }

    /// Counts one observation. What is negative or no number counts as 0.
    pub fn observe(&self, value: f64) {
        let inner = &*self.inner;
        let index = inner.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = inner.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
            // The conversion saturates: no number and negative ones become 0.
            inner.sum.fetch_add((value * inner.scale) as u64, Relaxed);
        }
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> std::fmt::Result {
        let inner = &*self.inner;
        let buckets: Vec<(f64, u64)> =
            inner.bounds.iter().zip(&inner.buckets).map(|(bound, count)| (*bound, count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = inner.sum.load(Relaxed) as f64 / inner.scale;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lands_in_one_bucket() {
        let histogram = Histogram::counts();
        for value in [0.0, 1.0, 2.0, 3.0, 1e9, f64::INFINITY, -1.0, f64::NAN] {
            histogram.observe(value);
        }
        let counts: Vec<u64> = histogram.inner.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        assert_eq!(counts.iter().sum::<u64>(), 8);
        assert_eq!((counts[0], counts[1], counts[2], counts[11]), (4, 1, 1, 2));
    }
}
