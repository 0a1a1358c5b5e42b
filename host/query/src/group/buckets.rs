//! Counts of measurements by bucket, as OTLP's histograms have them: differences of readings, and quantiles, which lie in a
//! bucket as if its measurements were spread evenly.
//!
//! Source: OpenTelemetry metrics data model, histogram and exponential histogram.

/// One side of an exponential histogram: buckets from `offset` on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Side {
    pub(super) offset: i64,
    pub(super) counts: Vec<u64>,
}

/// What a point counted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Buckets {
    /// `counts[i]` lies above `bounds[i - 1]` and up to `bounds[i]`.
    Explicit {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        /// Least and greatest measurement, which end the outer buckets.
        ends: (Option<f64>, Option<f64>),
    },
    /// Bucket i lies above `base^i` and up to `base^(i + 1)`, where base is `2^(2^-scale)`; of negatives mirrored.
    Exponential { scale: i32, zero_count: u64, zero_threshold: f64, positive: Side, negative: Side },
}

/// Scales that OTLP's clients use lie from -10 to 20; beyond these a bucket is all doubles, or less than one.
const SCALES: std::ops::RangeInclusive<i32> = -11..=52;

impl Buckets {
    /// Whether its parts fit each other.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Buckets::Explicit { bounds, counts, .. } => {
                counts.len() == bounds.len() + 1
                    && bounds.iter().all(|bound| bound.is_finite())
                    && bounds.is_sorted_by(|a, b| a < b)
            }
            Buckets::Exponential { scale, zero_threshold, .. } => {
                SCALES.contains(scale) && zero_threshold.is_finite() && *zero_threshold >= 0.0
            }
        }
    }

    /// How many measurements.
    pub(super) fn count(&self) -> u64 {
        let sum = |counts: &[u64]| counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        match self {
            Buckets::Explicit { counts, .. } => sum(counts),
            Buckets::Exponential { zero_count, positive, negative, .. } => {
                zero_count.saturating_add(sum(&positive.counts)).saturating_add(sum(&negative.counts))
            }
        }
    }

    /// What was counted since an earlier reading; `None` where the counter began anew between them.
    pub(super) fn since(&self, before: &Buckets) -> Option<Buckets> {
        match (self, before) {
            (
                Buckets::Explicit { bounds, counts, .. },
                Buckets::Explicit { bounds: of_before, counts: earlier, .. },
            ) if bounds == of_before && counts.len() == earlier.len() => {
                let counts = counts.iter().zip(earlier).map(|(now, then)| now.checked_sub(*then));
                // The least and greatest are those since the start.
                Some(Buckets::Explicit {
                    bounds: bounds.clone(),
                    counts: counts.collect::<Option<_>>()?,
                    ends: (None, None),
                })
            }
            (
                Buckets::Exponential { scale, zero_count, zero_threshold, positive, negative },
                Buckets::Exponential {
                    scale: of_before,
                    zero_count: zeros,
                    positive: positive_before,
                    negative: negative_before,
                    ..
                },
            ) => {
                // Of two scales the coarser one, whose buckets each hold some of the finer's.
                let coarse = *scale.min(of_before);
                let side =
                    |now: &Side, then: &Side| now.coarser(scale - coarse).since(&then.coarser(of_before - coarse));
                Some(Buckets::Exponential {
                    scale: coarse,
                    zero_count: zero_count.checked_sub(*zeros)?,
                    zero_threshold: *zero_threshold,
                    positive: side(positive, positive_before)?,
                    negative: side(negative, negative_before)?,
                })
            }
            _ => None,
        }
    }

    /// The buckets that hold anything: lower end, upper end, count.
    pub(super) fn each(&self, mut give: impl FnMut(f64, f64, u64)) {
        match self {
            Buckets::Explicit { bounds, counts, ends } => {
                for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let below = i.checked_sub(1).and_then(|i| bounds.get(i)).copied();
                    let above = bounds.get(i).copied();
                    // Without a bound measurements lie from 0 on, or at the bound that there is.
                    let low = below.or(ends.0).or_else(|| above.map(|above| above.min(0.0)));
                    let high = above.or(ends.1).or(below);
                    if let Some((low, high)) = low.zip(high) {
                        give(low.min(high), high.max(low), *count);
                    }
                }
            }
            Buckets::Exponential { scale, zero_count, zero_threshold, positive, negative } => {
                let edge = |i: i64| (i as f64 * (-f64::from(*scale)).exp2()).exp2();
                for (side, sign) in [(negative, -1.0), (positive, 1.0)] {
                    for (i, count) in (side.offset..).zip(&side.counts).filter(|(_, count)| **count > 0) {
                        let (near, far) = (edge(i).min(f64::MAX), edge(i.saturating_add(1)).min(f64::MAX));
                        give((sign * near).min(sign * far), (sign * near).max(sign * far), *count);
                    }
                }
                if *zero_count > 0 {
                    let reach = |side: &Side| if side.counts.iter().any(|n| *n > 0) { *zero_threshold } else { 0.0 };
                    give(-reach(negative), reach(positive), *zero_count);
                }
            }
        }
    }
}

impl Side {
    /// The same with buckets so many times twice as wide.
    fn coarser(&self, by: i32) -> Side {
        let by = by.clamp(0, 63);
        if by == 0 || self.counts.is_empty() {
            return self.clone();
        }
        let offset = self.offset >> by;
        let mut counts = Vec::new();
        for (i, count) in (self.offset..).zip(&self.counts) {
            let at = ((i >> by) - offset) as usize;
            if counts.len() <= at {
                counts.resize(at + 1, 0u64);
            }
            counts[at] = counts[at].saturating_add(*count);
        }
        Side { offset, counts }
    }

    fn since(&self, before: &Side) -> Option<Side> {
        let at = |i: i64| {
            let at = i.checked_sub(self.offset).and_then(|at| usize::try_from(at).ok());
            at.filter(|at| *at < self.counts.len())
        };
        let mut counts = self.counts.clone();
        for (i, then) in (before.offset..).zip(&before.counts).filter(|(_, then)| **then > 0) {
            let now = counts.get_mut(at(i)?)?;
            *now = now.checked_sub(*then)?;
        }
        Some(Side { offset: self.offset, counts })
    }
}

/// Buckets of any layouts together.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    /// Lower end, upper end, count.
    of: Vec<(f64, f64, u64)>,
}

impl Spread {
    pub(super) fn add(&mut self, low: f64, high: f64, count: u64) {
        self.of.push((low, high, count));
    }

    /// Puts buckets of one place together.
    pub(super) fn settle(&mut self) {
        self.of.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
        self.of.dedup_by(|next, kept| {
            let same = next.0 == kept.0 && next.1 == kept.1;
            if same {
                kept.2 = kept.2.saturating_add(next.2);
            }
            same
        });
    }

    /// Buckets before they are put together again.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// The value that a part `q` of all measurements does not exceed. To be asked once settled.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.of.iter().map(|(.., count)| *count as f64).sum();
        let rank = q * total;
        let mut edges: Vec<f64> = self.of.iter().flat_map(|(low, high, _)| [*low, *high]).collect();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        let (mut below, mut next) = (0.0, 0);
        // Buckets that reach over the edge; of one layout there is one at most.
        let mut open: Vec<(f64, f64, u64)> = Vec::new();
        let mut last = *edges.first()?;
        for edge in edges {
            let inside: f64 = open
                .iter()
                .map(|(low, high, count)| {
                    let whole = *low == last && *high == edge;
                    *count as f64 * if whole { 1.0 } else { (edge - last) / (high - low) }
                })
                .sum();
            if inside > 0.0 && below + inside >= rank {
                return Some(last + (edge - last) * ((rank - below) / inside).clamp(0.0, 1.0));
            }
            below += inside;
            open.retain(|(_, high, _)| *high > edge);
            let mut here = 0.0;
            while let Some(bucket) = self.of.get(next).filter(|bucket| bucket.0 <= edge) {
                if bucket.1 > bucket.0 {
                    open.push(*bucket)
                } else {
                    here += bucket.2 as f64
                }
                next += 1;
            }
            if here > 0.0 && below + here >= rank {
                return Some(edge);
            }
            below += here;
            last = edge;
        }
        (total > 0.0).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(bounds: &[f64], counts: &[u64]) -> Buckets {
        Buckets::Explicit { bounds: bounds.to_vec(), counts: counts.to_vec(), ends: (None, None) }
    }

    fn exponential(scale: i32, offset: i64, counts: &[u64]) -> Buckets {
        let positive = Side { offset, counts: counts.to_vec() };
        Buckets::Exponential { scale, zero_count: 0, zero_threshold: 0.0, positive, negative: Side::default() }
    }

    fn quantile(of: &[Buckets], q: f64) -> Option<f64> {
        let mut spread = Spread::default();
        of.iter().for_each(|buckets| buckets.each(|low, high, count| spread.add(low, high, count)));
        spread.settle();
        spread.quantile(q)
    }

    #[test]
    fn quantiles_lie_evenly_in_their_bucket() {
        let one = explicit(&[10.0, 20.0, 50.0], &[10, 20, 10, 0]);
        for (q, value) in [(0.0, 0.0), (0.25, 10.0), (0.5, 15.0), (0.75, 20.0), (0.9, 38.0), (1.0, 50.0)] {
            assert_eq!(quantile(std::slice::from_ref(&one), q), Some(value), "{q}");
        }
        // Beyond the last bound nothing is known, and so before the first where it is below 0.
        assert_eq!(quantile(&[explicit(&[10.0], &[0, 5])], 0.5), Some(10.0));
        assert_eq!(quantile(&[explicit(&[-10.0], &[5, 0])], 0.5), Some(-10.0));
        assert_eq!(quantile(&[explicit(&[], &[5])], 0.5), None);
        assert_eq!(quantile(&[explicit(&[10.0], &[0, 0])], 0.5), None);
        let known = Buckets::Explicit { bounds: vec![10.0], counts: vec![1, 1], ends: (Some(8.0), Some(12.0)) };
        assert_eq!(quantile(std::slice::from_ref(&known), 0.25), Some(9.0));
        assert_eq!(quantile(&[known], 0.75), Some(11.0));
        // Of two layouts the measurements of each lie evenly in its own.
        assert_eq!(quantile(&[explicit(&[10.0], &[10, 0]), explicit(&[20.0], &[10, 0])], 0.75), Some(10.0));
    }

    #[test]
    fn exponential_buckets_double_with_each_scale() {
        // Scale 0: 1 to 2, 2 to 4, 4 to 8.
        assert_eq!(quantile(&[exponential(0, 0, &[2, 2, 4])], 0.25), Some(2.0));
        assert_eq!(quantile(&[exponential(0, 0, &[2, 2, 4])], 0.75), Some(6.0));
        assert_eq!(quantile(&[exponential(-1, 0, &[4])], 0.5), Some(2.5));
        let both = Buckets::Exponential {
            scale: 0,
            zero_count: 2,
            zero_threshold: 0.5,
            positive: Side { offset: 0, counts: vec![1] },
            negative: Side { offset: 1, counts: vec![1] },
        };
        for (q, value) in [(0.0, -4.0), (0.25, -2.0), (0.5, 0.0), (0.75, 0.5), (1.0, 2.0)] {
            assert_eq!(quantile(std::slice::from_ref(&both), q), Some(value), "{q}");
        }
    }

    #[test]
    fn readings_of_two_scales_are_compared_by_the_coarser() {
        // Buckets 4 to 7 of scale 2 are bucket 1 of scale 0: 2 to 4.
        let (fine, coarse) = (exponential(2, 4, &[1, 1, 0, 1]), exponential(0, 1, &[5, 2]));
        assert_eq!(coarse.since(&fine), Some(exponential(0, 1, &[2, 2])));
        // A scale that becomes finer means a new start in practice, and counts as far as it can be told.
        assert_eq!(fine.since(&coarse), None);
        assert_eq!(exponential(0, -3, &[4]).since(&exponential(1, -6, &[1, 2])), Some(exponential(0, -3, &[1])));
        assert_eq!(explicit(&[1.0], &[1, 2]).since(&explicit(&[1.0], &[1, 3])), None);
        assert_eq!(explicit(&[1.0], &[1, 2]).since(&explicit(&[2.0], &[1, 1])), None);
    }
}
