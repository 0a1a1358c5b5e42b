//! A histogram of times: fixed memory however long the run, every value within 1 %.

use std::time::Duration;

use serde::Serialize;

/// Values below this many microseconds have a bucket each; above, each power of two has half as many.
const LINEAR: u64 = 256;
const HALF: u64 = LINEAR / 2;

/// Times in microseconds, in buckets.
#[derive(Clone, Default)]
pub struct Latency {
    counts: Vec<u64>,
    count: u64,
    max: u64,
    sum: u64,
}

/// The figures of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// How many times.
    pub count: u64,
    /// Mean in milliseconds.
    pub mean_ms: f64,
    /// Half of the times are at or below this many milliseconds.
    pub p50_ms: f64,
    /// 95 % are.
    pub p95_ms: f64,
    /// 99 % are.
    pub p99_ms: f64,
    /// All are.
    pub max_ms: f64,
}

impl Latency {
    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
        self.sum = self.sum.saturating_add(micros);
    }

    /// Adds all times of another histogram.
    pub fn merge(&mut self, other: &Latency) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The figures, or none without a time.
    pub fn figures(&self) -> Option<Figures> {
        let millis = |micros: u64| micros as f64 / 1e3;
        (self.count > 0).then(|| Figures {
            count: self.count,
            mean_ms: millis(self.sum) / self.count as f64,
            p50_ms: millis(self.quantile(0.50)),
            p95_ms: millis(self.quantile(0.95)),
            p99_ms: millis(self.quantile(0.99)),
            max_ms: millis(self.max),
        })
    }

    /// The smallest bucket's upper bound at or below which the fraction `q` of the times is, in microseconds.
    fn quantile(&self, q: f64) -> u64 {
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(micros: u64) -> usize {
    if micros < LINEAR {
        return micros as usize;
    }
    // The upper eight bits that count: from HALF up to and without LINEAR.
    let shift = 63 - micros.leading_zeros() - LINEAR.ilog2() + 1;
    (LINEAR + u64::from(shift - 1) * HALF + ((micros >> shift) - HALF)) as usize
}

fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < LINEAR {
        return bucket;
    }
    let shift = (bucket - LINEAR) / HALF + 1;
    let mantissa = (bucket - LINEAR) % HALF + HALF;
    ((mantissa + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_join_without_a_gap_and_hold_their_values() {
        for micros in (0..5_000).chain((0..40).map(|n| 1 << n)).chain((9..40).map(|n| (1 << n) - 1)) {
            let bucket = bucket(micros);
            let below = if bucket == 0 { None } else { Some(upper(bucket - 1)) };
            assert!(micros <= upper(bucket) && below.is_none_or(|below| below < micros), "{micros} in {bucket}");
            assert!(upper(bucket) - micros <= micros / 100, "{micros} within 1 %");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let mut whole = Latency::default();
        let mut parts = [Latency::default(), Latency::default()];
        for n in 1..=10_000u64 {
            // Out of order: 7919 is prime to 10,000.
            let micros = n * 7_919 % 10_000 + 1;
            whole.record(Duration::from_micros(micros));
            parts[(n % 2) as usize].record(Duration::from_micros(micros));
        }
        let [mut first, second] = parts;
        first.merge(&second);
        for figures in [whole.figures().unwrap(), first.figures().unwrap()] {
            let near =
                |found: f64, wanted: f64| assert!((found - wanted).abs() <= wanted / 100.0, "{found} near {wanted}");
            near(figures.p50_ms, 5.0);
            near(figures.p95_ms, 9.5);
            near(figures.p99_ms, 9.9);
            assert_eq!((figures.count, figures.max_ms), (10_000, 10.0));
            near(figures.mean_ms, 5.0005);
        }
        assert_eq!(Latency::default().figures(), None);
    }
}
