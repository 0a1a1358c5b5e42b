//! What clients know of the rows they sent, and what any snapshot must therefore show.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};
use prism_store::StoreError;

use super::turnstile::Process;

/// A batch whose fate is not known is sent again so long after it was sent before, in nanoseconds: after half an hour nobody
/// remembers.
const AGAIN_MIN: i64 = 5_000_000_000;
const AGAIN_MAX: i64 = 15 * 60_000_000_000;

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

#[derive(Clone)]
struct Sent {
    /// Event times of its rows.
    times: Vec<i64>,
    known: Known,
    /// When it was sent last, simulated, and by whom.
    at: i64,
    by: Option<Process>,
    /// It was sent again although nobody could see whether it is stored.
    may_be_twice: bool,
    /// Whoever sends it looks for other copies.
    once: bool,
    /// Several processes have sent it at once: what one of them is told says nothing of the others' copies.
    copied: bool,
}

/// Batches of one tenant and signal, by the number of their first row.
type Batches = BTreeMap<i64, Sent>;

/// What was sent for a tenant's signal.
#[derive(Clone)]
struct Lane {
    batches: Batches,
    /// Rows before this event time may be expired.
    expires: i64,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane { batches: Batches::new(), expires: i64::MIN }
    }
}

/// A batch that may be sent again.
#[derive(Clone, Debug)]
pub struct Again {
    pub first: i64,
    pub times: Vec<i64>,
    /// An earlier copy may be stored.
    pub may_be: bool,
}

/// Rows that were sent, all processes together. Every row has a number of its own.
#[derive(Clone, Default)]
pub struct Model(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    lanes: BTreeMap<(TenantId, Signal), Lane>,
    next: i64,
    /// Tenants that somebody began to erase, and when that was done, simulated.
    erased: BTreeMap<TenantId, Option<i64>>,
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
    /// Numbers for the rows of a batch that is about to be sent, of these event times: the first.
    pub fn sends(&self, tenant: &TenantId, signal: Signal, times: &[i64], by: Option<&Process>) -> i64 {
        let mut inner = self.0.lock();
        let first = inner.next;
        inner.next += times.len() as i64;
        let (at, by) = (by.map_or(0, Process::time), by.cloned());
        let sent =
            Sent { times: times.to_vec(), known: Known::Sent, at, by, may_be_twice: false, once: false, copied: false };
        inner.lane(tenant, signal).batches.insert(first, sent);
        first
    }

    /// A batch that was refused, or that nobody knows the fate of, whose sender is gone or was told so, a while but not too long
    /// ago; where `at_once` also one that another process is sending now. Whoever gets it sends it.
    pub fn sends_again(&self, (tenant, signal): &(TenantId, Signal), by: &Process, at_once: bool) -> Option<Again> {
        let mut inner = self.0.lock();
        let now = by.time();
        let (first, sent) = inner.lane(tenant, *signal).batches.iter_mut().find(|(_, sent)| match sent.known {
            Known::Refused | Known::Unknown => (AGAIN_MIN..AGAIN_MAX).contains(&(now - sent.at)),
            Known::Sent => {
                let gone = sent.by.as_ref().is_some_and(Process::is_dead);
                let by_another = sent.by.as_ref().is_some_and(|other| !other.is(by));
                (gone && (AGAIN_MIN..AGAIN_MAX).contains(&(now - sent.at)))
                    || (!gone && at_once && by_another && sent.once)
            }
            Known::Kept(_) => false,
        })?;
        let may_be = sent.known != Known::Refused;
        sent.copied |= sent.known == Known::Sent;
        (sent.known, sent.at, sent.by) = (Known::Sent, now, Some(by.clone()));
        Some(Again { first: *first, times: sent.times.clone(), may_be })
    }

    /// Whoever sends a batch looks for copies by others, so that there may be some at the same moment.
    pub fn is_sent_once(&self, (tenant, signal): &(TenantId, Signal), first: i64) {
        let mut inner = self.0.lock();
        inner.lane(tenant, *signal).batches.entry(first).and_modify(|sent| sent.once = true);
    }

    /// A batch that any number of processes are about to send at once: its number.
    pub fn sends_at_once(&self, (tenant, signal): &(TenantId, Signal), times: &[i64]) -> i64 {
        let first = self.sends(tenant, *signal, times, None);
        self.0.lock().lane(tenant, *signal).batches.entry(first).and_modify(|sent| sent.copied = true);
        first
    }

    /// Nobody could see whether a batch is stored, so it was stored whatever there is.
    pub fn may_be_twice(&self, (tenant, signal): &(TenantId, Signal), first: i64) {
        let mut inner = self.0.lock();
        inner.lane(tenant, *signal).batches.entry(first).and_modify(|sent| sent.may_be_twice = true);
    }

    /// The answer to a batch. One that a dead process gave is none; `again` where it may be stored since an earlier time.
    pub fn answered(
        &self,
        (tenant, signal): &(TenantId, Signal),
        first: i64,
        time: i64,
        dead: bool,
        again: bool,
        answer: &Result<(), StoreError>,
    ) {
        let mut inner = self.0.lock();
        let Some(sent) = inner.lane(tenant, *signal).batches.get_mut(&first) else { return };
        sent.known = match answer {
            _ if matches!(sent.known, Known::Kept(_)) => sent.known,
            Ok(()) | Err(StoreError::Stored) if !dead => Known::Kept(time),
            Err(StoreError::Uncertain) => Known::Unknown,
            Err(_) if !dead && !again && !sent.copied => Known::Refused,
            _ => Known::Unknown,
        };
    }

    /// Rows before an event time are about to be expired.
    pub fn expires(&self, (tenant, signal): &(TenantId, Signal), before: i64) {
        let mut inner = self.0.lock();
        let lane = inner.lane(tenant, *signal);
        lane.expires = lane.expires.max(before);
    }

    /// A tenant is about to be erased.
    pub fn erases(&self, tenant: &TenantId) {
        self.0.lock().erased.entry(tenant.clone()).or_default();
    }

    /// It is erased, at a simulated time.
    pub fn erased(&self, tenant: &TenantId, time: i64) {
        self.0.lock().erased.entry(tenant.clone()).or_default().get_or_insert(time);
    }

    /// Whether a tenant is erased, or may be; and since when.
    pub fn is_erased(&self, tenant: &TenantId) -> Option<Option<i64>> {
        self.0.lock().erased.get(tenant).copied()
    }

    /// Nobody waits for an answer any more.
    pub fn nobody_waits(&self) {
        for sent in self.0.lock().lanes.values_mut().flat_map(|lane| lane.batches.values_mut()) {
            if sent.known == Known::Sent {
                sent.known = Known::Unknown;
            }
        }
    }

    /// The tenants and signals that were sent anything, without those of erased tenants.
    pub fn lanes(&self) -> Vec<(TenantId, Signal)> {
        let inner = self.0.lock();
        inner.lanes.keys().filter(|(tenant, _)| !inner.erased.contains_key(tenant)).cloned().collect()
    }

    /// Acknowledged rows so far.
    pub fn kept(&self) -> i64 {
        let inner = self.0.lock();
        let kept = |s: &&Sent| matches!(s.known, Known::Kept(_));
        inner.lanes.values().flat_map(|lane| lane.batches.values()).filter(kept).map(|s| s.times.len() as i64).sum()
    }

    /// A snapshot is about to begin.
    pub fn before(&self, tenant: &TenantId, signal: Signal, time: i64) -> Before {
        let lane = (tenant.clone(), signal);
        let batches = self.0.lock().of(tenant, signal).batches;
        Before { lane, batches, time }
    }

    /// ST-1: each row at most once, acknowledged ones surely, refused ones never. Rows acknowledged less than `stale`
    /// nanoseconds before the snapshot began may be missing, and those that may be expired or are of an erased tenant. Where
    /// `quiet` nothing is being written: batches whose fate is unknown are there as a whole or not at all.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, before: &Before, found: &[i64], stale: i64, quiet: bool) -> Result<(), String> {
        let (tenant, signal) = &before.lane;
        let (after, erased) = {
            let inner = self.0.lock();
            (inner.of(tenant, *signal), inner.erased.contains_key(tenant))
        };
        let mut found = found.iter().copied().peekable();
        for (first, sent) in &after.batches {
            let (mut old, mut young) = (0, 0);
            for (row, time) in (*first..).zip(&sent.times) {
                let times = std::iter::from_fn(|| found.next_if_eq(&row)).count();
                if times > if sent.may_be_twice { 2 } else { 1 } {
                    return Err(format!("ST-1: row {row} ({tenant}, {signal:?}) is there {times} times"));
                }
                *(if *time < after.expires { &mut old } else { &mut young }) += times.min(1);
            }
            let all = sent.times.iter().filter(|time| **time >= after.expires).count();
            // One that was sent again since the snapshot began may be there whatever was said of it before.
            let same = |before: &&Sent| before.at == sent.at;
            let known = before.batches.get(first).filter(same).map_or(Known::Sent, |b| b.known);
            let fits = match known {
                Known::Refused => old + young == 0,
                _ if erased => true,
                Known::Kept(at) if at + stale < before.time || stale == 0 => young == all,
                Known::Sent | Known::Unknown | Known::Kept(_) => !quiet || young == 0 || young == all,
            };
            if !fits {
                return Err(format!(
                    "ST-1: of {all} rows from {first} on ({tenant}, {signal:?}), {known:?}, {young} are there, and {old} old ones"
                ));
            }
        }
        match found.next() {
            Some(row) => Err(format!("ST-1: row {row} ({tenant}, {signal:?}) was never sent, or is of another")),
            None => Ok(()),
        }
    }

    /// After a day's rows were expired none before it is there, all from it on are.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_expired(
        &self,
        (tenant, signal): &(TenantId, Signal),
        found: &[i64],
        before: i64,
    ) -> Result<(), String> {
        let batches = self.0.lock().of(tenant, *signal).batches;
        let mut times = batches.iter().flat_map(|(first, sent)| (*first..).zip(&sent.times));
        match times.find(|(row, time)| **time < before && found.contains(row)) {
            Some((row, time)) => Err(format!("row {row} of {time} ({tenant}, {signal:?}) is there though it expired")),
            None => Ok(()),
        }
    }
}

impl Inner {
    fn lane(&mut self, tenant: &TenantId, signal: Signal) -> &mut Lane {
        self.lanes.entry((tenant.clone(), signal)).or_default()
    }

    fn of(&self, tenant: &TenantId, signal: Signal) -> Lane {
        self.lanes.get(&(tenant.clone(), signal)).cloned().unwrap_or_default()
    }
}
