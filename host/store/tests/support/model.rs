//! What clients know of the rows they sent, and what any snapshot must therefore show.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};
use prism_store::StoreError;

/// What a client knows about a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known {
    /// No answer yet.
    Sent,
    /// Acknowledged, at a simulated time.
    Kept(i64),
    /// Refused: it is never there.
    Refused,
    /// An answer that says so, or none since the process died: there as a whole, or not.
    Unknown,
}

#[derive(Clone, Debug)]
struct Sent {
    rows: i64,
    known: Known,
}

/// Batches of one tenant and signal, by the number of their first row.
type Batches = BTreeMap<i64, Sent>;

/// Rows that were sent, all processes together. Every row has a number of its own.
#[derive(Clone, Default)]
pub struct Model(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    lanes: BTreeMap<(TenantId, Signal), Batches>,
    next: i64,
}

/// What was known when a snapshot began.
pub struct Before {
    lane: (TenantId, Signal),
    batches: Batches,
    time: i64,
}

impl Before {
    /// When the snapshot began.
    pub fn time(&self) -> i64 {
        self.time
    }
}

impl Model {
    /// Numbers for the rows of a batch that is about to be sent: the first.
    pub fn sends(&self, tenant: &TenantId, signal: Signal, rows: i64) -> i64 {
        let mut inner = self.0.lock();
        let first = inner.next;
        inner.next += rows;
        let lane = inner.lanes.entry((tenant.clone(), signal)).or_default();
        lane.insert(first, Sent { rows, known: Known::Sent });
        first
    }

    /// Its answer. One that a dead process gave is none.
    pub fn answered(
        &self,
        lane: &(TenantId, Signal),
        first: i64,
        time: i64,
        dead: bool,
        answer: &Result<(), StoreError>,
    ) {
        let known = match answer {
            Ok(()) if !dead => Known::Kept(time),
            Err(StoreError::Uncertain) => Known::Unknown,
            Err(_) if !dead => Known::Refused,
            _ => Known::Unknown,
        };
        self.0.lock().lanes.get_mut(lane).unwrap().get_mut(&first).unwrap().known = known;
    }

    /// Nobody waits for an answer any more.
    pub fn nobody_waits(&self) {
        for sent in self.0.lock().lanes.values_mut().flat_map(BTreeMap::values_mut) {
            if sent.known == Known::Sent {
                sent.known = Known::Unknown;
            }
        }
    }

    /// The tenants and signals that were sent anything.
    pub fn lanes(&self) -> Vec<(TenantId, Signal)> {
        self.0.lock().lanes.keys().cloned().collect()
    }

    /// Acknowledged rows so far.
    pub fn kept(&self) -> i64 {
        let inner = self.0.lock();
        let kept = |s: &&Sent| matches!(s.known, Known::Kept(_));
        inner.lanes.values().flat_map(BTreeMap::values).filter(kept).map(|s| s.rows).sum()
    }

    /// A snapshot is about to begin.
    pub fn before(&self, tenant: &TenantId, signal: Signal, time: i64) -> Before {
        let lane = (tenant.clone(), signal);
        let batches = self.0.lock().lanes.get(&lane).cloned().unwrap_or_default();
        Before { lane, batches, time }
    }

    /// ST-1: each row at most once, acknowledged ones surely, refused ones never. Rows acknowledged less than `stale`
    /// nanoseconds before the snapshot began may be missing. Where `quiet` nothing is being written: batches whose fate is
    /// unknown are there as a whole or not at all.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, before: &Before, found: &[i64], stale: i64, quiet: bool) -> Result<(), String> {
        if let Some(twice) = found.windows(2).find(|w| w[0] == w[1]) {
            return Err(format!("ST-1: row {} is there twice: {found:?}", twice[0]));
        }
        let (tenant, signal) = &before.lane;
        let after = self.before(tenant, *signal, before.time).batches;
        let mut found = found.iter().peekable();
        for (first, sent) in &after {
            let mut seen = 0;
            while found.next_if(|row| (*first..first + sent.rows).contains(row)).is_some() {
                seen += 1;
            }
            let known = before.batches.get(first).map_or(Known::Sent, |b| b.known);
            let fits = match known {
                Known::Kept(at) if at + stale < before.time || stale == 0 => seen == sent.rows,
                Known::Refused => seen == 0,
                Known::Sent | Known::Unknown | Known::Kept(_) => !quiet || seen == 0 || seen == sent.rows,
            };
            if !fits {
                return Err(format!(
                    "ST-1: of {} rows from {first} on ({tenant}, {signal:?}), {known:?}, {seen} are there",
                    sent.rows
                ));
            }
        }
        match found.next() {
            Some(row) => Err(format!("ST-1: row {row} ({tenant}, {signal:?}) was never sent, or is of another")),
            None => Ok(()),
        }
    }
}
