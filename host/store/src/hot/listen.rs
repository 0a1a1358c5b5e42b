//! New rows of a tenant's signal as they become durable, whichever process stores them: each frame once.
//!
//! ```text
//! own commit rings (ears), or time to look -> list segments -> what stands behind the last look -> confirmed, or acknowledged here, or
//!   synced here -> told
//! ```
//!
//! A segment stays for the read grace behind its block, so that who looks more often than that sees all of it here, and need
//! not know of sealing: a segment's place does not change when its rows are in a block too. Where nobody looked for so long
//! (the machine slept), what was sealed and deleted meanwhile is not told, and the look says since when.
//!
//! Where no other writer has a lease, nothing is listed but the leases between two own commits, for a second at a time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::follow::{ALONE_MAX, Follower, Wanted};
use super::position::{Place, Position};
use super::scan::{NoIndex, SegmentIndex};
use super::writer::Store;
use crate::error::StoreError;
use crate::framed::{Framed, Source};
use crate::place::SegmentName;
use crate::read::Reader;
use crate::unit::{Frame, Tier};

/// A segment that is not listed any more is remembered for so long: a listing of a network file system may lack what is there.
const FORGET: Duration = Duration::from_secs(600);
/// Looks that a listing of recent rows takes at most, where segments are sealed meanwhile.
const RECENT_TRIES: usize = 8;

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
struct Told {
    frames: u32,
    /// The segment is ended and all of it told: it is not opened again.
    done: bool,
    listed: Instant,
}

/// A frame with its place in the hot tier.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its rows.
    pub frame: Frame,
    /// Where it lies.
    pub place: Place,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct News {
    /// Frames that became durable since the look before, each segment's in order.
    pub frames: Vec<Placed>,
    /// Since then (unix nanoseconds) nobody looked for so long that rows may have been sealed and deleted unseen.
    pub gap_since: Option<i64>,
    /// Segments that could not be read; they are looked at again.
    pub unread: usize,
}

/// Rows that were stored before, where they lay when they were asked for.
#[derive(Debug, Default)]
pub struct Recent {
    /// Of blocks and files, the oldest first.
    pub old: Vec<Frame>,
    /// Of segments.
    pub hot: Vec<Placed>,
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
            let told = self.segments.entry(name).or_insert(Told { frames: 0, done: false, listed: now });
            told.listed = now;
            if told.done {
                continue;
            }
            match segment(follower, &wanted, name, told, acknowledged.get(&name).copied(), &mut news.frames) {
                Ok(waits) => self.waits |= waits,
                Err(NoIndex::Absent | NoIndex::Vanished) => {}
                Err(error) => {
                    tracing::warn!(segment = name.file_name(), ?error, "new rows of a segment cannot be read");
                    news.unread += 1;
                    // Damage does not mend by looking again, and queries tell of it.
                    told.done = matches!(error, NoIndex::Damaged(_));
                    self.waits |= !told.done;
                }
            }
        }
        self.segments.retain(|_, told| now.duration_since(told.listed) < FORGET);
        self.looked = Some((now, unix));
        Ok(news)
    }

    /// Whose rows it hears of.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Whether no other process wrote at the last look.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// How far was told.
    pub fn position(&self) -> Position {
        Position(self.segments.iter().map(|(name, told)| (*name, told.frames)).collect())
    }

    /// What was told behind a position and still stands, the oldest first; within a segment in order. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn since(&self, position: &Position) -> Result<Vec<Placed>, StoreError> {
        let all = self.segments.iter().filter_map(|(name, told)| {
            let from = position.0.get(name).copied().unwrap_or(0);
            (from < told.frames).then_some((*name, from..told.frames))
        });
        self.frames(all.collect())
    }

    /// Rows that were told already and whose frames touch a range of event times: all of them once, wherever they lie. What
    /// comes after is told by looks. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where a tier cannot be listed, or does not stand still.
    pub fn recent(&mut self, reader: &Reader, range: TimeRange) -> Result<(Recent, Vec<Placed>), StoreError> {
        let mut behind = Vec::new();
        for _ in 0..RECENT_TRIES {
            let snapshot = reader.snapshot(&self.tenant, self.signal, range)?;
            // A segment that was sealed before all of it was told would come again.
            let told = |name: &SegmentName| self.segments.get(name).is_some_and(|told| told.done);
            if reader.has_sealed(&self.tenant, self.signal, &|name| !told(name))? {
                behind.extend(self.look()?.frames);
                continue;
            }
            let by_file: HashMap<String, (SegmentName, u32)> =
                self.segments.iter().map(|(name, told)| (name.file_name(), (*name, told.frames))).collect();
            let mut recent = Recent::default();
            let mut hot: BTreeMap<SegmentName, Vec<u32>> = BTreeMap::new();
            for frame in snapshot.frames {
                if frame.tier() != Tier::Hot {
                    recent.old.push(frame);
                    continue;
                }
                let name = frame.name();
                let mut parts = name.rsplit('/');
                let (number, file) = (parts.next().and_then(|n| n.parse::<u32>().ok()), parts.next());
                // What is not told yet comes with the next look.
                if let (Some(number), Some((name, told))) = (number, file.and_then(|file| by_file.get(file)))
                    && number < *told
                {
                    hot.entry(*name).or_default().push(number);
                }
            }
            recent.old.sort_by_key(|frame| frame.stats().time_min);
            let whole = hot.iter().filter_map(|(name, of)| Some((*name, *of.first()?..of.last()? + 1))).collect();
            let wanted: BTreeMap<SegmentName, BTreeSet<u32>> =
                hot.iter().map(|(name, of)| (*name, of.iter().copied().collect())).collect();
            recent.hot = self.frames(whole)?;
            recent
                .hot
                .retain(|placed| wanted.get(&placed.place.segment).is_some_and(|of| of.contains(&placed.place.frame)));
            return Ok((recent, behind));
        }
        Err(StoreError::io(
            "listed recent rows",
            std::io::Error::other("segments were sealed meanwhile, again and again"),
        ))
    }

    /// Frames of segments, the oldest first; within a segment in order.
    fn frames(&self, of: BTreeMap<SegmentName, std::ops::Range<u32>>) -> Result<Vec<Placed>, StoreError> {
        let follower = &self.store.follower;
        let any = |_, _| true;
        let wanted = Wanted {
            tenant: &self.tenant,
            signal: self.signal,
            writer: self.store.shared.now_writer(),
            window: &any,
            batch: &|_| false,
        };
        let mut queues: Vec<VecDeque<Placed>> = Vec::new();
        for (name, range) in of {
            let (index, _) = match follower.index(&wanted, &name) {
                Ok(index) => index,
                // It was sealed and deleted since: whoever asks for that long ago is told so.
                Err(NoIndex::Absent | NoIndex::Vanished) => continue,
                Err(NoIndex::Io(error)) => return Err(StoreError::read("read a segment", error)),
                Err(NoIndex::Locked(error)) => return Err(error.into()),
                Err(NoIndex::Damaged(damage)) => return Err(damage.into()),
            };
            queues.push(range.filter_map(|number| placed(follower, &wanted, name, &index, number)).collect());
        }
        let mut merged = Vec::new();
        let mut heads: std::collections::BinaryHeap<_> = Default::default();
        let head = |queue: &VecDeque<Placed>| queue.front().map(|placed| placed.frame.stats().time_min);
        heads.extend(queues.iter().enumerate().filter_map(|(n, queue)| Some(Reverse((head(queue)?, n)))));
        while let Some(Reverse((_, n))) = heads.pop() {
            merged.extend(queues[n].pop_front());
            heads.extend(head(&queues[n]).map(|time| Reverse((time, n))));
        }
        Ok(merged)
    }
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
    let (index, linked) = follower.index(wanted, &name)?;
    for number in told.frames..u32::try_from(index.frames.len()).unwrap_or(u32::MAX) {
        let Some(entry) = index.frames.get(number as usize) else { break };
        let known = entry.end() <= index.confirmed || acknowledged.is_some_and(|last| number <= last);
        if !known && !follower.settle(wanted, &name, entry)? {
            return Ok(true);
        }
        news.extend(placed(follower, wanted, name, &index, number));
        told.frames = number + 1;
    }
    told.done = linked || index.is_closed();
    Ok(false)
}

fn placed(
    follower: &Follower,
    wanted: &Wanted<'_>,
    segment: SegmentName,
    index: &SegmentIndex,
    number: u32,
) -> Option<Placed> {
    let entry = index.frames.get(number as usize)?;
    let source: Arc<dyn Source> = Arc::new(follower.file(wanted, &segment, index.inode));
    let frame = Framed::frame(&source, &follower.filters, entry.at, segment.window, entry.meta.clone());
    Some(Placed { frame, place: Place { segment, frame: number } })
}
