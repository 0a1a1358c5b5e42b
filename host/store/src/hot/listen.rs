//! New rows of a tenant's signal as they become durable, whichever process stores them: each frame once.
//!
//! ```text
//! own commit rings (ears), or time to look -> list segments -> what stands behind the last look -> confirmed, or acknowledged here
//!   -> told
//! ```
//!
//! A segment stays for the read grace behind its block, so that who looks more often than that sees all of it here, and need
//! not know of sealing: a segment's place does not change when its rows are in a block too. Where nobody looked for so long
//! (the machine slept), what was sealed and deleted meanwhile is not told, and the look says since when.
//!
//! Where no other writer has a lease, nothing is listed but the leases between two own commits, for a second at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prism_model::{Signal, TenantId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::follow::{ALONE_MAX, Follower, Wanted};
use super::heard::{Heard, Placed, placed};
use super::position::Position;
use super::scan::NoIndex;
use super::writer::Store;
use crate::error::StoreError;
use crate::place::SegmentName;

/// A segment that is not listed any more is remembered for so long: a listing of a network file system may lack what is there.
const FORGET: Duration = Duration::from_secs(600);

/// Hears of everything that is stored of one tenant's signal. Dropped, it costs nothing more.
pub struct Listener {
    store: Arc<Store>,
    tenant: TenantId,
    signal: Signal,
    /// What was sealed stays so long at least.
    grace: Duration,
    bell: watch::Receiver<u64>,
    rung: u64,
    segments: BTreeMap<SegmentName, Told>,
    looked: Option<(Instant, i64)>,
    alone: bool,
    /// Something stands that nothing confirms yet.
    waits: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) frames: u32,
    /// The segment is ended and all of it told: it is not opened again.
    pub(super) done: bool,
    /// Acknowledged rows of it cannot be read.
    pub(super) damaged: bool,
    listed: Instant,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct News {
    /// Frames that became durable since the look before, each segment's in order.
    pub frames: Vec<Placed>,
    /// Rows that were stored since then (unix nanoseconds) may be missing: nobody looked for so long that some may have been
    /// sealed and deleted unseen, or a segment is damaged.
    pub gap_since: Option<i64>,
    /// Segments that could not be read; they are looked at again.
    pub unread: usize,
    /// Segments that are found damaged, each once: what cannot be read of them is not told.
    pub damaged: usize,
}

impl Store {
    /// Begins to listen. Nothing is known before the first [`Listener::look`], which tells all that stands as new. `grace`: how
    /// long sealed segments stay, `storage.read_grace_ms`.
    pub fn listen(self: &Arc<Store>, tenant: &TenantId, signal: Signal, grace: Duration) -> Listener {
        Listener {
            bell: self.shared.ears.open(tenant, signal),
            store: self.clone(),
            tenant: tenant.clone(),
            signal,
            grace,
            rung: 0,
            segments: BTreeMap::new(),
            looked: None,
            alone: false,
            waits: false,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.store.shared.ears.close(&self.tenant, self.signal);
    }
}

impl Listener {
    /// Rings when this process stores something of the tenant's signal: then a look finds it at once.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.clone()
    }

    /// What became durable since the look before. Blocks on the disk.
    ///
    /// # Errors
    /// `Forbidden` where the tenant was erased, `Retry` where a folder cannot be listed: the next look tells what this one did
    /// not.
    pub fn look(&mut self) -> Result<News, StoreError> {
        let shared = &self.store.shared;
        shared.folders.keys.admit(&self.tenant, false)?;
        let (now, unix) = (Instant::now(), shared.now());
        let rung = *self.bell.borrow_and_update();
        let writer = shared.now_writer();
        let follower = &self.store.follower;
        // One that was there at the look before may have written until it left.
        let alone = follower.is_alone(writer);
        let were_alone = std::mem::replace(&mut self.alone, alone) && alone;
        let quiet = rung == self.rung && !self.waits;
        if quiet && were_alone && self.looked.is_some_and(|(looked, _)| now.duration_since(looked) < ALONE_MAX) {
            return Ok(News::default());
        }
        let any = |_, _| true;
        let wanted = Wanted { tenant: &self.tenant, signal: self.signal, writer, window: &any, batch: &|_| false };
        let names = follower.segments(&wanted, true)?;
        let done = |name: &SegmentName| self.segments.get(name).is_some_and(|told| told.done);
        let acknowledged = shared.ears.acknowledged(&self.tenant, self.signal, done);
        let mut news = News::default();
        let unseen = |looked: &i64| may_have_missed(unix.saturating_sub(*looked), self.grace);
        news.gap_since = self.looked.map(|(_, unix)| unix).filter(unseen);
        (self.rung, self.waits) = (rung, false);
        for name in names {
            let fresh = Told { frames: 0, done: false, damaged: false, listed: now };
            let told = self.segments.entry(name).or_insert(fresh);
            told.listed = now;
            if told.done {
                continue;
            }
            let were_damaged = told.damaged;
            match segment(follower, &wanted, name, told, acknowledged.get(&name).copied(), &mut news.frames) {
                Ok(waits) => self.waits |= waits,
                Err(NoIndex::Absent | NoIndex::Vanished) => {}
                Err(NoIndex::Damaged(error)) => {
                    tracing::warn!(segment = name.file_name(), %error, "new rows of a segment cannot be read");
                    // Damage does not mend by looking again.
                    (told.done, told.damaged) = (true, true);
                }
                Err(error) => {
                    tracing::warn!(segment = name.file_name(), ?error, "new rows of a segment cannot be read");
                    news.unread += 1;
                    self.waits = true;
                }
            }
            news.damaged += usize::from(told.damaged && !were_damaged);
        }
        if news.damaged > 0 {
            news.gap_since = news.gap_since.or(self.looked.map(|(_, unix)| unix));
        }
        self.segments.retain(|_, told| now.duration_since(told.listed) < FORGET);
        self.looked = Some((now, unix));
        Ok(news)
    }

    /// Whether no other process wrote at the last look.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// How far was told.
    pub fn position(&self) -> Position {
        position(&self.segments)
    }

    /// The next look believes of no process that it is silent: whoever found something that was not told has a reason to doubt.
    pub fn doubt(&mut self) {
        self.alone = false;
    }

    /// What was told up to now, to be asked for rows while the listener is used on.
    pub fn heard(&self) -> Heard {
        let (store, tenant, segments) = (self.store.clone(), self.tenant.clone(), self.segments.clone());
        Heard { store, tenant, signal: self.signal, segments }
    }
}

pub(super) fn position(segments: &BTreeMap<SegmentName, Told>) -> Position {
    Position(segments.iter().map(|(name, told)| (*name, told.frames)).collect())
}

/// Whether rows may have been sealed and deleted within so many nanoseconds in which nobody looked. A reserve is for clocks
/// that differ.
pub fn may_have_missed(nanos: i64, grace: Duration) -> bool {
    u128::try_from(nanos).is_ok_and(|nanos| nanos >= grace.as_nanos() / 4 * 3)
}

/// Tells what stands in a segment behind what was told; whether something there waits to be confirmed.
fn segment(
    follower: &Follower,
    wanted: &Wanted<'_>,
    name: SegmentName,
    told: &mut Told,
    acknowledged: Option<u32>,
    news: &mut Vec<Placed>,
) -> Result<bool, NoIndex> {
    let (index, linked) = follower.index(wanted, &name, told.frames as usize)?;
    told.damaged |= index.fault.as_ref().is_some_and(|fault| fault.lost);
    for number in told.frames..u32::try_from(index.count()).unwrap_or(u32::MAX) {
        let Some(entry) = index.frame(number as usize) else { break };
        let known = entry.end() <= index.confirmed || acknowledged.is_some_and(|last| number <= last);
        // Its writer may take it back.
        if !known {
            return Ok(true);
        }
        news.extend(placed(follower, wanted, name, &index, number));
        told.frames = number + 1;
    }
    told.done = linked || index.is_closed();
    Ok(false)
}
