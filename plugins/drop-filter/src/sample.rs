//! Keeps one in so many: whole traces together, and what is kept tells how many it stands for.
//!
//! A trace id is hashed to a number between 0 and 1; one in N is kept where that is below 1/N. So rules with different N agree
//! (what 1 in 100 keeps, 1 in 10 keeps too), on every node, without a word between them. The hash is not the random part of
//! the id that head sampling in SDKs goes by, so that what was sampled there is sampled evenly here.

use prism_sdk::{Addition, Batch, Bits, Place, Role, TableKind};

use crate::field::Needs;

/// What sampling needs, by position among the needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampler {
    trace_id: usize,
    time: usize,
    weight: usize,
}

impl Sampler {
    pub(crate) fn new(needs: &mut Needs) -> Sampler {
        Sampler {
            trace_id: needs.of(Place::Item, Role::Intrinsic, "trace_id"),
            time: needs.of(Place::Item, Role::Intrinsic, "time"),
            weight: needs.of(Place::Item, Role::Intrinsic, "sampling_weight"),
        }
    }

    /// A number for each row.
    pub(crate) fn batch(&self, batch: &Batch) -> Sampled {
        let rows = batch.rows();
        let column = |need| batch.columns().find(|c| c.need() == need && c.kind() == TableKind::Items);
        let mut chances = vec![0; rows];
        // Records outside of any trace are taken by their time.
        if let Some((column, times)) = column(self.time).and_then(|c| Some((c, c.ints()?))) {
            column.for_each_row(|row, entry| chances[row] = mix(times[entry] as u64));
        }
        if let Some((column, ids)) = column(self.trace_id).and_then(|c| Some((c, c.bytes()?))) {
            column.for_each_row(|row, entry| {
                if let Some(chance) = ids.get(entry).try_into().ok().and_then(of_trace) {
                    chances[row] = chance;
                }
            });
        }
        let mut weights = vec![1.0; rows];
        if let Some((column, old)) = column(self.weight).and_then(|c| Some((c, c.floats()?))) {
            column.for_each_row(|row, entry| weights[row] = old[entry]);
        }
        Sampled { chances, weights, changed: Bits::filled(rows, false), any: false }
    }
}

/// The chances and weights of a batch.
#[derive(Debug)]
pub(crate) struct Sampled {
    chances: Vec<u64>,
    weights: Vec<f64>,
    changed: Bits,
    any: bool,
}

impl Sampled {
    /// Whether the row is the one in `n` that stays; it then stands for `n` times as many as before.
    pub(crate) fn keep(&mut self, row: usize, n: u32) -> bool {
        if self.chances[row] > u64::MAX / u64::from(n) {
            return false;
        }
        self.weights[row] *= f64::from(n);
        self.changed.set(row, true);
        self.any = true;
        true
    }

    /// The weights that changed, where any did.
    pub(crate) fn finish(self) -> Option<Addition> {
        self.any.then(|| Addition::sampling_weight(self.weights, self.changed))
    }
}

/// `None` for an id of zeros, which means that there is no trace.
fn of_trace(id: [u8; 16]) -> Option<u64> {
    let id = u128::from_be_bytes(id);
    (id != 0).then(|| mix(mix((id >> 64) as u64) ^ id as u64))
}

/// The finalizer of SplitMix64: every bit of the input moves about half of the output's.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
