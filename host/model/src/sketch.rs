//! A quantile sketch: counts by buckets of doubles whose width is 1/64 of their lower bound, so that a bucket's middle is
//! within 0.8 % of every value in it. Few values are kept as they are. Sketches merge in any order to the same result.
//! Quantiles of queries and the durations of rollups are made of them.
//!
//! The idea is that of HdrHistogram and DDSketch (<https://arxiv.org/abs/1908.10693>); taking the bucket from the bits of
//! the double costs a shift instead of a logarithm.

use std::collections::BTreeMap;

use crate::varint::{put, take};

/// Bits of the mantissa that tell buckets apart: 2^6 buckets for each power of two.
const MANTISSA_BITS: u32 = 6;
const SHIFT: u32 = 52 - MANTISSA_BITS;
/// Below this many values they are kept one by one, and quantiles are exact: most groups of a query with many are small.
const EXACT_MAX: usize = 32;
/// Buckets of a dense run, 128 powers of two; a sketch that spans more (which sane durations do not) keeps a tree.
const DENSE_MAX: usize = 128 << MANTISSA_BITS;

/// The bucket of infinity, the last one.
const BUCKET_MAX: u32 = (f64::INFINITY.to_bits() >> SHIFT) as u32;

/// Counts by bucket of the values above 0, or of the negated ones below.
#[derive(Clone, Debug, Default, PartialEq)]
enum Buckets {
    #[default]
    Empty,
    /// As long as each count fits: most of what a sketch costs are bytes that are not in the processor's caches.
    Dense {
        first: u32,
        counts: Vec<u32>,
    },
    Sparse(BTreeMap<u32, u64>),
}

/// The sketch of some doubles. NaN is no value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    /// All values, while they are few.
    exact: Vec<f64>,
    zeros: u64,
    above: Buckets,
    below: Buckets,
    count: u64,
}

/// The nearest rank of a quantile among so many values, at least one, from 1: that of the smallest value that a part `q` of all
/// does not exceed.
pub fn rank(q: f64, count: u64) -> u64 {
    let exact = q * count as f64;
    // 0.55 as a double is a little more than that, and so is 0.55 of 100 values: what is off by as little is meant to be whole.
    let whole = exact.round();
    let rank = if (exact - whole).abs() <= exact * f64::EPSILON { whole } else { exact.ceil() };
    (rank as u64).clamp(1, count.max(1))
}

fn bucket_of(positive: f64) -> u32 {
    (positive.to_bits() >> SHIFT) as u32
}

/// The middle of a bucket; the bucket of infinity is infinity alone.
fn middle(bucket: u32) -> f64 {
    let low = f64::from_bits(u64::from(bucket) << SHIFT);
    let high = f64::from_bits(u64::from(bucket + 1) << SHIFT);
    if low.is_infinite() {
        low
    } else if high.is_infinite() || high.is_nan() {
        low * (1.0 + 0.5 / f64::from(1u32 << MANTISSA_BITS))
    } else {
        low + (high - low) / 2.0
    }
}

impl Buckets {
    fn add(&mut self, bucket: u32, n: u64) {
        if let Buckets::Empty = self {
            // Room on both sides: neighbours come next.
            let first = bucket.saturating_sub(64);
            *self = Buckets::Dense { first, counts: vec![0; 128] };
        }
        match self {
            Buckets::Dense { first, counts } => {
                let at = bucket.wrapping_sub(*first) as usize;
                let small = u32::try_from(n).ok();
                if let Some(count) = counts.get_mut(at)
                    && let Some(sum) = small.and_then(|n| count.checked_add(n))
                {
                    *count = sum;
                    return;
                }
                let low = bucket.min(*first);
                let high = (bucket + 1).max(*first + counts.len() as u32);
                if let Some(n) = small.filter(|_| at >= counts.len() && (high - low) as usize <= DENSE_MAX) {
                    let grown = ((high - low) as usize).next_multiple_of(64);
                    let mut wider = vec![0; grown];
                    let offset = (*first - low) as usize;
                    wider[offset..offset + counts.len()].copy_from_slice(counts);
                    wider[(bucket - low) as usize] += n;
                    (*first, *counts) = (low, wider);
                } else {
                    let mut tree: BTreeMap<u32, u64> = self.iter().collect();
                    *tree.entry(bucket).or_default() += n;
                    *self = Buckets::Sparse(tree);
                }
            }
            Buckets::Sparse(tree) => *tree.entry(bucket).or_default() += n,
            Buckets::Empty => {}
        }
    }

    /// Adds all counts of others.
    fn merge(&mut self, other: &Buckets) {
        if let Buckets::Dense { first, counts } = other
            && let Some(from) = counts.iter().position(|n| *n > 0)
            && let Some(to) = counts.iter().rposition(|n| *n > 0)
        {
            // The outermost make the room; what lies between is added as it stands.
            self.add(*first + from as u32, u64::from(counts[from]));
            if to > from {
                self.add(*first + to as u32, u64::from(counts[to]));
            }
            let between = counts.get(from + 1..to).unwrap_or_default();
            let at = *first + from as u32 + 1;
            if let Buckets::Dense { first, counts: own } = self
                && let Some(own) = own.get_mut((at - *first) as usize..)
                && own.iter().zip(between).all(|(own, n)| own.checked_add(*n).is_some())
            {
                own.iter_mut().zip(between).for_each(|(own, n)| *own += n);
            } else {
                let there = between.iter().enumerate().filter(|(_, n)| **n > 0);
                there.for_each(|(i, n)| self.add(at + i as u32, u64::from(*n)));
            }
            return;
        }
        other.iter().for_each(|(bucket, n)| self.add(bucket, n));
    }

    /// Calls `of` with each bucket that holds values, ascending: several times as fast as an iterator in a box.
    fn each(&self, mut of: impl FnMut(u32, u64)) {
        match self {
            Buckets::Empty => {}
            Buckets::Dense { first, counts } => {
                for (i, n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
                    of(*first + i as u32, u64::from(*n));
                }
            }
            Buckets::Sparse(tree) => tree.iter().for_each(|(bucket, n)| of(*bucket, *n)),
        }
    }

    /// Buckets that hold values, ascending.
    fn iter(&self) -> Box<dyn DoubleEndedIterator<Item = (u32, u64)> + '_> {
        match self {
            Buckets::Empty => Box::new(std::iter::empty()),
            Buckets::Dense { first, counts } => {
                let there = counts.iter().enumerate().filter(|(_, n)| **n > 0);
                Box::new(there.map(|(i, n)| (*first + i as u32, u64::from(*n))))
            }
            Buckets::Sparse(tree) => Box::new(tree.iter().map(|(b, n)| (*b, *n))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Buckets::Empty => 0,
            Buckets::Dense { counts, .. } => counts.capacity() * 4,
            Buckets::Sparse(tree) => tree.len() * 32,
        }
    }
}

impl Sketch {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.count += 1;
        if self.count as usize <= EXACT_MAX {
            self.exact.push(value);
        } else {
            if !self.exact.is_empty() {
                self.spread();
            }
            self.add_bucket(value, 1);
        }
    }

    /// Adds values: the same as one by one, and cheaper where they are many.
    pub fn add_all(&mut self, values: &[f64]) {
        if self.count as usize + values.len() > EXACT_MAX {
            self.make_room(values);
        }
        values.iter().for_each(|value| self.add(*value));
    }

    fn spread(&mut self) {
        let values = std::mem::take(&mut self.exact);
        self.make_room(&values);
        values.into_iter().for_each(|value| self.add_bucket(value, 1));
    }

    /// The outermost make the room for what lies between.
    fn make_room(&mut self, values: &[f64]) {
        let outermost = [values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max)];
        outermost.into_iter().flatten().for_each(|value| self.add_bucket(value, 0));
    }

    #[inline]
    fn add_bucket(&mut self, value: f64, n: u64) {
        if value > 0.0 {
            self.above.add(bucket_of(value), n);
        } else if value < 0.0 {
            self.below.add(bucket_of(-value), n);
        } else {
            self.zeros += n;
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Sketch) {
        let count = self.count + other.count;
        if count as usize <= EXACT_MAX {
            self.exact.extend_from_slice(&other.exact);
        } else {
            self.spread();
            other.exact.iter().for_each(|v| self.add_bucket(*v, 1));
            self.zeros += other.zeros;
            self.above.merge(&other.above);
            self.below.merge(&other.below);
        }
        self.count = count;
    }

    /// The value at the nearest [`rank`]: the smallest that at least `q` of all values do not exceed, within 0.8 %, and itself where
    /// there are few. `None` of nothing.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = rank(q, self.count);
        if !self.exact.is_empty() {
            let mut sorted = self.exact.clone();
            sorted.sort_by(f64::total_cmp);
            return sorted.get(rank as usize - 1).copied();
        }
        let mut seen = 0;
        for (value, n) in self.buckets() {
            seen += n;
            if seen >= rank {
                return Some(value);
            }
        }
        None
    }

    /// Every value within 0.8 % and how often it is there, ascending.
    pub fn values(&self) -> Vec<(f64, u64)> {
        if self.exact.is_empty() {
            return self.buckets().filter(|(_, n)| *n > 0).collect();
        }
        let mut sorted = self.exact.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.into_iter().map(|value| (value, 1)).collect()
    }

    /// The middles of all buckets and what they count, where values are not kept one by one.
    fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let below = self.below.iter().rev().map(|(b, n)| (-middle(b), n));
        let above = self.above.iter().map(|(b, n)| (middle(b), n));
        below.chain(std::iter::once((0.0, self.zeros))).chain(above)
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<Sketch>() + self.exact.capacity() * 8 + self.above.bytes() + self.below.bytes()
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All values, while they are few enough to be kept one by one; in no order.
    pub fn exact(&self) -> &[f64] {
        &self.exact
    }

    /// Appends the sketch's bytes; the same values give the same bytes, in whatever order they came.
    pub fn write(&self, out: &mut Vec<u8>) {
        put(out, self.exact.len() as u64);
        let mut sorted = self.exact.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.iter().for_each(|v| out.extend(v.to_bits().to_le_bytes()));
        if !self.exact.is_empty() {
            return;
        }
        put(out, self.zeros);
        for buckets in [&self.above, &self.below] {
            let (mut count, mut last) = (0, 0);
            buckets.each(|_, _| count += 1);
            put(out, count);
            buckets.each(|bucket, n| {
                put(out, u64::from(bucket - last));
                put(out, n);
                last = bucket;
            });
        }
    }

    /// Reads what [`Sketch::write`] wrote, from the front of `bytes`; `None` where that is something else.
    pub fn read(bytes: &mut &[u8]) -> Option<Sketch> {
        let mut sketch = Sketch::default();
        let exact = take(bytes)?;
        if exact > EXACT_MAX as u64 {
            return None;
        }
        for _ in 0..exact {
            let (word, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            sketch.add(f64::from_bits(u64::from_le_bytes(*word)));
        }
        if exact > 0 {
            return (sketch.count == exact).then_some(sketch);
        }
        sketch.zeros = take(bytes)?;
        sketch.count = sketch.zeros;
        for above in [true, false] {
            let mut bucket = 0u32;
            for _ in 0..take(bytes)? {
                bucket = bucket.checked_add(u32::try_from(take(bytes)?).ok()?)?;
                let n = take(bytes)?;
                if bucket > BUCKET_MAX {
                    return None;
                }
                sketch.count = sketch.count.checked_add(n)?;
                if above { &mut sketch.above } else { &mut sketch.below }.add(bucket, n);
            }
        }
        Some(sketch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            4 => (0u64..10_000_000_000).prop_map(|n| n as f64),
            1 => (-1_000i64..1_000).prop_map(|n| n as f64 / 8.0),
            1 => any::<f64>().prop_filter("numbers", |v| !v.is_nan() && (v.is_infinite() || *v == 0.0 || v.abs() > 1e-290)),
        ];
        proptest::collection::vec(value, 0..200)
    }

    #[test]
    fn counts_beyond_32_bits_are_exact() {
        let mut sketch = Sketch::default();
        (0..40).for_each(|i| sketch.add(f64::from(1 + i % 4 * 100)));
        let few = sketch.clone();
        for _ in 0..40 {
            let same = sketch.clone();
            sketch.merge(&same);
        }
        let n = 10u64 << 40;
        assert_eq!((sketch.count(), sketch.values().len()), (4 * n, 4));
        assert!(sketch.values().iter().all(|(_, count)| *count == n), "{:?}", sketch.values());
        // Few into many, and many into few.
        let mut other = few.clone();
        other.merge(&sketch);
        sketch.merge(&few);
        assert!(sketch.values() == other.values() && sketch.values().iter().all(|(_, count)| *count == n + 10));
        let (mut bytes, mut others) = (Vec::new(), Vec::new());
        sketch.write(&mut bytes);
        other.write(&mut others);
        assert_eq!(bytes, others);
        assert_eq!(Sketch::read(&mut bytes.as_slice()).unwrap().values(), sketch.values());
    }

    #[test]
    fn ranks_are_those_of_decimal_numbers() {
        // All percentiles and per milles, beside whole numbers.
        for count in (1..=1_000).chain([4_000, 10_000, 1_000_000, 123_456_789]) {
            for n in 0..=1_000u64 {
                let expected = (n * count).div_ceil(1_000).max(1);
                assert_eq!(rank(n as f64 / 1_000.0, count), expected, "{n} of {count}");
            }
        }
        assert_eq!((rank(0.55, 100), rank(0.07, 100), rank(0.9999, 10_000)), (55, 7, 9_999));
        assert_eq!((rank(0.0, 5), rank(1.0, 5), rank(1.0, 0)), (1, 5, 1));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent(values in values(), q in 0.0f64..=1.0, split in 0usize..200) {
            let (mut a, mut b) = (Sketch::default(), Sketch::default());
            let (left, right) = values.split_at(split.min(values.len()));
            left.iter().for_each(|v| a.add(*v));
            let (first, rest) = right.split_at(right.len() / 3);
            b.add_all(first);
            b.add_all(rest);
            let mut single = Sketch::default();
            right.iter().for_each(|v| single.add(*v));
            prop_assert_eq!(b.values(), single.values());
            let mut bytes = Vec::new();
            b.write(&mut bytes);
            let back = Sketch::read(&mut bytes.as_slice()).unwrap();
            a.merge(&back);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = rank(q, sorted.len() as u64) as usize;
            match (a.quantile(q), sorted.get(rank - 1)) {
                (None, None) => {}
                (Some(found), Some(expected)) => {
                    let close = found == *expected || (found - expected).abs() <= expected.abs() * 0.01;
                    prop_assert!(close, "{} for {}", found, expected);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
