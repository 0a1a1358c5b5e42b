//! Counting distinct values: exact up to a few thousand, then HyperLogLog with Ertl's improved estimator
//! (<https://arxiv.org/abs/1702.01284>).

use std::collections::HashSet;

use prism_model::varint::{put, take};

/// 2^15 registers: a standard error of 0.57 %, so that 2 % is three and a half of them.
const PRECISION: u32 = 15;
const REGISTERS: usize = 1 << PRECISION;
/// Up to here the hashes themselves take no more room than the registers.
const EXACT_MAX: usize = REGISTERS / 8;
/// Bits of a hash behind the register number.
const REST_BITS: u32 = 64 - PRECISION;

/// Distinct values of one group, by their 64-bit hashes.
#[derive(Clone, Debug)]
pub(crate) enum Distinct {
    /// All hashes.
    Few(HashSet<u64, foldhash::fast::FixedState>),
    /// Registers.
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Distinct {
        Distinct::Few(HashSet::default())
    }
}

impl Distinct {
    /// Adds a value by its hash.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64) {
        match self {
            Distinct::Many(registers) => raise(registers, hash),
            Distinct::Few(_) => self.add_to_few(hash),
        }
    }

    #[inline(never)]
    fn add_to_few(&mut self, hash: u64) {
        let Distinct::Few(hashes) = self else { return };
        hashes.insert(hash);
        if hashes.len() > EXACT_MAX {
            let mut registers = Box::new([0; REGISTERS]);
            hashes.iter().for_each(|h| raise(&mut registers, *h));
            *self = Distinct::Many(registers);
        }
    }

    /// Adds all values of another.
    pub(crate) fn merge(&mut self, other: Distinct) {
        match other {
            Distinct::Few(hashes) => hashes.into_iter().for_each(|h| self.add(h)),
            Distinct::Many(theirs) => match self {
                Distinct::Many(ours) => ours.iter_mut().zip(*theirs).for_each(|(a, b)| *a = (*a).max(b)),
                Distinct::Few(_) => {
                    let few = std::mem::replace(self, Distinct::Many(theirs));
                    self.merge(few);
                }
            },
        }
    }

    /// How many, within 2 %.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Distinct::Few(hashes) => hashes.len() as u64,
            Distinct::Many(registers) => estimate(registers).round() as u64,
        }
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Distinct>()
            + match self {
                Distinct::Few(hashes) => hashes.capacity() * 9,
                Distinct::Many(registers) => registers.len(),
            }
    }

    /// Appends its bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Distinct::Few(hashes) => {
                put(out, hashes.len() as u64 + 1);
                hashes.iter().for_each(|h| out.extend(h.to_le_bytes()));
            }
            Distinct::Many(registers) => {
                put(out, 0);
                out.extend_from_slice(&registers[..]);
            }
        }
    }

    /// Reads what [`Distinct::write`] wrote.
    pub(crate) fn read(bytes: &mut &[u8]) -> Option<Distinct> {
        let head = take(bytes)?;
        if head == 0 {
            let (registers, rest) = bytes.split_first_chunk::<REGISTERS>()?;
            *bytes = rest;
            return Some(Distinct::Many(Box::new(*registers)));
        }
        let mut hashes = HashSet::default();
        for _ in 0..head - 1 {
            let (word, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            hashes.insert(u64::from_le_bytes(*word));
        }
        Some(Distinct::Few(hashes))
    }
}

#[inline]
fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = &mut registers[(hash >> REST_BITS) as usize];
    // The place of the first 1 among the remaining bits, from 1.
    let rank = ((hash << PRECISION).leading_zeros().min(REST_BITS) + 1) as u8;
    // Whether it is larger is chance for the first many values: it is not asked.
    *register = rank.max(*register);
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut counts = [0u32; 66];
    registers.iter().for_each(|r| counts[usize::from(*r).min(65)] += 1);
    let m = registers.len() as f64;
    let q = REST_BITS as usize;
    let mut z = m * tau(1.0 - f64::from(counts[q + 1]) / m);
    for k in (1..=q).rev() {
        z = 0.5 * (z + f64::from(counts[k]));
    }
    z += m * sigma(f64::from(counts[0]) / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::Range<u64>) -> Distinct {
        let mut distinct = Distinct::default();
        range.for_each(|i| distinct.add(xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes())));
        distinct
    }

    #[test]
    fn counts_are_within_two_percent_and_small_ones_exact() {
        for n in [0u64, 1, 100, 4_096, 4_097, 10_000, 60_000, 100_000] {
            let found = of(0..n).count();
            let allowed = if n <= 4_096 { 0 } else { n / 50 };
            assert!(found.abs_diff(n) <= allowed, "{found} for {n}");
        }
    }

    #[test]
    fn merging_is_adding() {
        for (a, b) in [(0..10, 5..20), (0..9_000, 8_000..8_100), (0..100, 50..9_000), (0..9_000, 4_000..20_000)] {
            let whole = of(a.start..b.end.max(a.end)).count();
            let mut bytes = Vec::new();
            of(b).write(&mut bytes);
            let mut merged = of(a);
            merged.merge(Distinct::read(&mut bytes.as_slice()).unwrap());
            assert_eq!(merged.count(), whole);
        }
    }
}
