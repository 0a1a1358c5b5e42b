//! One group: encoded, written, synced and acknowledged together, or undone together.
//!
//! A batch may be cut over several windows and so over several files. It must not be there in part, so a group stands or falls
//! as a whole: after any failure all of its files are ended before it, durably, before anybody is answered. Where that fails
//! too, the lane refuses everything until it has succeeded: the client will send the batch again, and a frame that comes back
//! would make it there twice (ST-1).
//!
//! Where a batch must not be stored twice, the group is claimed before it is made visible, and only then it is asked what others
//! have of it (`once`): of two that claim the same, at least one sees the other and gives way before a row of it is seen.
//!
//! Others may take this writer for dead meanwhile, and end its files: so a group is acknowledged only when the lease is seen
//! to be its own still after the sync, and what was not is taken back by the same links that an observer would make.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use prism_model::{Classify as _, Cleared, Kind, Signal, TenantId};
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::frame::encode::{Encoded, encode};
use crate::frame::schema::{Sibling, Siblings};
use crate::hot::lease::Lease;
use crate::hot::once::{Known, Once, known, sort};
use crate::hot::segment::{Begin, Fate, Limbo, SegmentWriter};
use crate::hot::split::{Slot, by_window, into_frames};
use crate::hot::writer::Shared;
use crate::metrics::Metrics;
use crate::options::{StoreOptions, nanos};
use crate::place::{SHARD, SegmentName, Token};

/// A file's right to be appended to is never given to anybody else: a fenced writer's next files are another writer's.
const EPOCH: u64 = 1;

/// A batch that waits for its acknowledgement.
pub(crate) struct Item {
    pub(crate) batch: Cleared,
    /// When it was received, unix nanoseconds: decides what is late.
    pub(crate) now: i64,
    /// Who is asked whether it is stored already; `None` where it is stored whatever there is.
    pub(crate) once: Option<Arc<dyn Once>>,
    pub(crate) reply: oneshot::Sender<Result<Token, StoreError>>,
}

/// The open segments of one tenant and signal.
pub(crate) struct LaneFiles {
    tenant: TenantId,
    signal: Signal,
    open: BTreeMap<Slot, SegmentWriter>,
    /// Whose the open segments are.
    lease: Option<Arc<Lease>>,
    limbo: Vec<Limbo>,
    /// What the segment that was closed last took: extents fit the rate.
    bytes_before: u64,
}

/// The frames of a group, by segment.
type Frames = BTreeMap<Slot, Vec<Encoded>>;

impl LaneFiles {
    pub(crate) fn new(tenant: TenantId, signal: Signal) -> LaneFiles {
        LaneFiles { tenant, signal, open: BTreeMap::new(), lease: None, limbo: Vec::new(), bytes_before: 0 }
    }

    /// Whether nothing is left to do for this lane.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.limbo.is_empty()
    }

    /// Keeps the items and answers each, but for those that are under way in another process: those come back, to be tried
    /// again.
    pub(crate) fn commit(&mut self, shared: &Shared, mut items: Vec<Item>, now: Instant) -> Vec<Item> {
        let mut waiting = Vec::new();
        for _ in 0..CLAIMS_MAX {
            // Files of an erased tenant have no name any more: what is written to them would be acknowledged and gone.
            if let Err(e) = shared.folders.keys.admit(&self.tenant, false) {
                items.into_iter().for_each(|i| drop(i.reply.send(Err(e.clone().into()))));
                return waiting;
            }
            self.undo_leftovers(shared);
            if !self.settled() {
                items.into_iter().for_each(|i| drop(i.reply.send(Err(StoreError::Undoing))));
                return waiting;
            }
            if items.is_empty() {
                return waiting;
            }
            let kept = self.keep(shared, &items, now);
            let kept = match kept {
                Ok(token) => Ok(token),
                Err(Unkept::Failed(error)) => Err(error),
                Err(Unkept::Known(known)) => {
                    let (left, wait) = sort(items, known);
                    items = left;
                    waiting.extend(wait);
                    continue;
                }
            };
            waiting.extend(self.answer(shared, items, now, kept));
            return waiting;
        }
        waiting.extend(items);
        waiting
    }

    /// Answers items that were kept as one group, or not; gives those that wait for others.
    fn answer(
        &mut self,
        shared: &Shared,
        items: Vec<Item>,
        now: Instant,
        kept: Result<Token, StoreError>,
    ) -> Vec<Item> {
        let rows = items.iter().map(|item| item.batch.batch().rows() as u64).sum();
        match kept {
            Ok(token) => {
                Metrics::add(&shared.metrics.batches, items.len() as u64);
                Metrics::add(&shared.metrics.rows, rows);
                shared.ears.stored(&self.tenant, &token);
                // A client that has gone does not want its answer.
                items.into_iter().for_each(|item| drop(item.reply.send(Ok(token.clone()))));
            }
            // A batch that cannot be stored must not take its neighbours with it.
            Err(e) if e.kind() == Kind::Bug && items.len() > 1 => {
                return items.into_iter().flat_map(|item| self.commit(shared, vec![item], now)).collect();
            }
            Err(e) => {
                Metrics::add(&shared.metrics.groups_failed, 1);
                tracing::warn!(error = %e, cause = ?std::error::Error::source(&e), rows, "a group was not kept");
                let shared_message = e.to_string();
                let uncertain = matches!(e, StoreError::Uncertain);
                let mut error = Some(e);
                for item in items {
                    let answer = match error.take() {
                        Some(first) => first,
                        None if uncertain => StoreError::Uncertain,
                        None => StoreError::Group(shared_message.clone()),
                    };
                    drop(item.reply.send(Err(answer)));
                }
            }
        }
        Vec::new()
    }

    /// Frames are pending here only where a commit panicked half-way: nobody was told that they are kept.
    fn undo_leftovers(&mut self, shared: &Shared) {
        let left: Vec<Slot> = self.open.iter().filter(|(_, s)| s.is_pending()).map(|(slot, _)| *slot).collect();
        if !left.is_empty() {
            let _ = self.undo(shared, &left);
        }
    }

    /// Whether other nodes do not see yet that the last group was acknowledged.
    pub(crate) fn hides(&self) -> bool {
        self.open.values().any(SegmentWriter::hides)
    }

    /// Lets them see it. Where that fails the next group does, or the end of the segment.
    pub(crate) fn show(&mut self) {
        self.open.values_mut().filter(|segment| segment.hides()).for_each(|segment| drop(segment.show()));
    }

    /// The segment that was idle longest.
    pub(crate) fn idlest(&self) -> Option<(Instant, Slot)> {
        self.open.iter().filter(|(_, s)| !s.is_pending()).map(|(slot, s)| (s.used, *slot)).min()
    }

    /// Whether a segment is to be closed now: its time is over, or it had no row for a while.
    pub(crate) fn is_due(&self, shared: &Shared, now: Instant) -> bool {
        let wall = shared.now();
        !self.limbo.is_empty() || self.open.values().any(|s| due(s, &shared.options, now, wall))
    }

    /// Ends segments whose time is over, or that had no row for a while.
    pub(crate) fn close_due(&mut self, shared: &Shared, now: Instant) {
        self.undo_leftovers(shared);
        self.settled();
        self.leave(shared, |held| held.is_lost());
        let wall = shared.now();
        let open = self.open.iter().filter(|(_, s)| due(s, &shared.options, now, wall));
        let slots: Vec<Slot> = open.map(|(slot, _)| *slot).collect();
        for slot in slots {
            self.close(shared, slot);
        }
    }

    /// Ends all segments; whether all are.
    pub(crate) fn close_all(&mut self, shared: &Shared) -> bool {
        self.undo_leftovers(shared);
        let mut done = self.settled();
        self.leave(shared, |held| held.is_lost());
        while let Some(slot) = self.open.keys().next().copied() {
            done &= self.close(shared, slot);
        }
        done
    }

    /// Ends a segment; whether it is. One that cannot be ended here is when its writer's lease is over.
    pub(crate) fn close(&mut self, shared: &Shared, slot: Slot) -> bool {
        let Some(segment) = self.open.remove(&slot) else { return true };
        shared.metrics.segments_open.fetch_sub(1, Relaxed);
        self.bytes_before = segment.bytes();
        match segment.close() {
            Ok(()) => true,
            Err((error, limbo)) => {
                tracing::warn!(%error, "a segment has no end mark: it is ended by a link");
                let open = limbo.settle().is_err();
                if open {
                    self.limbo.push(limbo);
                }
                !open
            }
        }
    }

    /// Segments of a writer that was fenced are left to whoever fenced it.
    fn leave(&mut self, shared: &Shared, lost: impl Fn(&Arc<Lease>) -> bool) {
        if self.lease.as_ref().is_some_and(lost) {
            shared.metrics.segments_open.fetch_sub(self.open.len() as u64, Relaxed);
            self.open.clear();
            self.lease = None;
        }
    }

    /// Tries again what could not be undone; whether nothing is left of it.
    fn settled(&mut self) -> bool {
        self.limbo.retain(|l| l.settle().is_err());
        self.limbo.is_empty()
    }

    fn keep(&mut self, shared: &Shared, items: &[Item], now: Instant) -> Result<Token, Unkept> {
        // The batches themselves are cheap to clone; they are needed again where the group has to do without some of them.
        let batches = items.iter().map(|item| (item.batch.clone(), item.now)).collect();
        let frames = shared.encoders.run(|| {
            let started = Instant::now();
            let frames = encode_group(shared, batches);
            Metrics::add(&shared.metrics.encode_nanos, started.elapsed().as_nanos() as u64);
            frames
        })?;
        let lease = shared.lease().map_err(|e| StoreError::io("took its lease", e))?;
        // All of a group is one writer's: what another one began is not gone on with.
        self.leave(shared, |held| !Arc::ptr_eq(held, &lease));
        self.lease = Some(lease.clone());
        for slot in frames.keys() {
            self.ready(shared, &lease, *slot, now).map_err(|e| StoreError::io("began a segment", e))?;
        }
        let count: usize = frames.values().map(Vec::len).sum();
        let last = |slot: &Slot, n: usize| self.open.get(slot).map(|s| (s.name, s.next_frame() + n as u32 - 1));
        let ends: Vec<(SegmentName, u32)> = frames.iter().filter_map(|(slot, f)| last(slot, f.len())).collect();
        let siblings = if count > 1 { siblings(&ends) } else { Siblings::new() };
        let group = shared.groups.fetch_add(1, Relaxed);
        let kept = self.write(shared, &frames, group, &siblings).and_then(|bytes| {
            if let Some(known) = self.ask(&frames, items)? {
                return Ok(Err(known));
            }
            self.publish(shared, &frames)?;
            // What was synced before this look is there for whoever fences later; what was fenced before is seen by it.
            if lease.confirm()? { Ok(Ok(bytes)) } else { Err(io::Error::other(FENCED)) }
        });
        let slots: Vec<Slot> = frames.keys().copied().collect();
        match kept {
            Ok(Err(known)) => {
                // Nobody saw it. Where a claim cannot be taken back yet nothing is accepted until it is.
                let _settled_before_the_next = self.undo(shared, &slots);
                Err(Unkept::Known(known))
            }
            Ok(Ok(bytes)) => {
                for slot in frames.keys() {
                    self.open.entry(*slot).and_modify(|s| s.commit(&shared.folders, now));
                }
                Metrics::add(&shared.metrics.frames, count as u64);
                Metrics::add(&shared.metrics.bytes_written, bytes);
                Ok(Token { signal: self.signal, frames: ends })
            }
            Err(error) => {
                match self.undo(shared, &slots) {
                    Some(Fate::Undone) if lease.is_lost() => return Err(StoreError::Group(FENCED.into()).into()),
                    Some(Fate::Undone) => return Err(StoreError::io("wrote a group", error).into()),
                    Some(Fate::Kept) => tracing::error!(%error, "others saw a group before it was taken back"),
                    None => tracing::error!(%error, "a failed group is not undone: nothing is accepted until it is"),
                }
                Err(StoreError::Uncertain.into())
            }
        }
    }

    /// An open segment for the slot with room, others closed where too many are open.
    fn ready(&mut self, shared: &Shared, lease: &Lease, slot: Slot, now: Instant) -> io::Result<()> {
        let wall = shared.now();
        let full = |s: &SegmentWriter| s.bytes() >= shared.options.segment_bytes_max;
        if self.open.get(&slot).is_some_and(|s| full(s) || wall >= s.closes) {
            self.close(shared, slot);
        }
        if let Some(segment) = self.open.get_mut(&slot) {
            // In use: not the one to be closed for another.
            segment.used = now;
            return Ok(());
        }
        while self.open.len() >= shared.options.segments_open_max.max(1) {
            let idle =
                self.open.iter().filter(|(_, s)| s.used != now).min_by_key(|(_, s)| s.used).map(|(slot, _)| *slot);
            let Some(idle) = idle else { break };
            self.close(shared, idle);
        }
        shared.open.make_room(shared);
        let file = shared.files.fetch_add(1, Relaxed) as u32;
        let name = SegmentName {
            shard: SHARD,
            window: slot.window,
            late: slot.late,
            writer: lease.writer,
            epoch: EPOCH,
            file,
        };
        let begin = Begin { now, closes: closes(slot, wall, &shared.options), bytes_before: self.bytes_before };
        let segment = SegmentWriter::create(&shared.folders, &self.tenant, self.signal, name, &begin)?;
        Metrics::add(&shared.metrics.segments_open, 1);
        self.open.insert(slot, segment);
        Ok(())
    }

    /// Writes all frames but for their headers: nobody sees them yet.
    fn write(&mut self, shared: &Shared, frames: &Frames, group: u64, siblings: &Siblings) -> io::Result<u64> {
        let mut bytes = 0;
        for (slot, frames) in frames {
            let Some(segment) = self.open.get_mut(slot) else { continue };
            for frame in frames {
                bytes += segment.write(frame, group, siblings)?;
            }
        }
        if frames.len() > 1 {
            for slot in frames.keys() {
                let Some(segment) = self.open.get_mut(slot) else { continue };
                segment.settle_name(&shared.folders)?;
            }
        }
        Ok(bytes)
    }

    /// Claims the batches that nobody else may store, and asks what others have of them: `None` where that is nothing.
    ///
    /// Who stores the same at this moment does so too. Whichever claim was made later is followed by a look that sees the
    /// earlier one, or what became of it; who sees one gives way, and tries again.
    fn ask(&mut self, frames: &Frames, items: &[Item]) -> io::Result<Option<Vec<Known>>> {
        if items.iter().all(|item| item.once.is_none()) {
            return Ok(None);
        }
        for slot in frames.keys() {
            let Some(segment) = self.open.get_mut(slot) else { continue };
            segment.claim()?;
        }
        Ok(known(&self.tenant, self.signal, items))
    }

    /// Makes all frames visible, and durable.
    fn publish(&mut self, shared: &Shared, frames: &Frames) -> io::Result<()> {
        // All of it has room now: what fails from here on is the disk.
        for slot in frames.keys() {
            let Some(segment) = self.open.get_mut(slot) else { continue };
            segment.publish()?;
        }
        let segments: Vec<&SegmentWriter> = frames.keys().filter_map(|slot| self.open.get(slot)).collect();
        let timed = |segment: &SegmentWriter| {
            let started = Instant::now();
            let result = segment.sync();
            shared.metrics.synced(started.elapsed().as_nanos() as u64);
            result
        };
        match segments.as_slice() {
            [one] => timed(one),
            several if !shared.folders.disk.may_block() => several.iter().try_for_each(|s| timed(s)),
            // Several files take as long as one when they are synced at once: the journal is written once.
            many => std::thread::scope(|scope| {
                let threads: Vec<_> = many.iter().map(|s| scope.spawn(|| timed(s))).collect();
                let join = |t: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
                    t.join().unwrap_or_else(|_| Err(io::Error::other("a sync panicked")))
                };
                threads.into_iter().map(join).fold(Ok(()), io::Result::and)
            }),
        }
    }

    /// Takes a group back; `None` where that is open still.
    fn undo(&mut self, shared: &Shared, slots: &[Slot]) -> Option<Fate> {
        let published = slots.iter().any(|slot| self.open.get(slot).is_some_and(SegmentWriter::is_published));
        if !published {
            let mut undone = true;
            // Each of them, also behind one that cannot be.
            for slot in slots {
                undone &= self.open.get_mut(slot).is_none_or(|segment| segment.retract().is_ok());
            }
            if undone {
                return Some(Fate::Undone);
            }
        }
        let segments: Vec<SegmentWriter> = slots.iter().filter_map(|slot| self.open.remove(slot)).collect();
        shared.metrics.segments_open.fetch_sub(segments.len() as u64, Relaxed);
        let limbo = Limbo::of(segments, &shared.folders.disk);
        // Twice, since the first reply may have been lost.
        match limbo.settle().or_else(|_| limbo.settle()) {
            Ok(fate) => Some(fate),
            Err(_) => {
                Metrics::add(&shared.metrics.undo_failed, 1);
                self.limbo.push(limbo);
                None
            }
        }
    }
}

/// Times that a group is written without what others have of it, each time by less than before.
const CLAIMS_MAX: usize = 4;

/// Why a group was not kept.
enum Unkept {
    Failed(StoreError),
    /// Others have some of its batches.
    Known(Vec<Known>),
}

impl From<StoreError> for Unkept {
    fn from(error: StoreError) -> Unkept {
        Unkept::Failed(error)
    }
}

/// Why a group is not acknowledged that others may have cut off.
const FENCED: &str = "another process took this writer for dead";

/// When a segment that is made now is closed though rows come still: one of the first rows of its window a little after the
/// window's end, so that it can be sealed; what comes later goes to another file, until nothing is taken any more.
fn closes(slot: Slot, wall: i64, options: &StoreOptions) -> i64 {
    let after = nanos(options.seal_after_ms);
    let base = slot.window.end_nanos().saturating_add(after);
    if wall < base {
        return base;
    }
    base.saturating_add(nanos(options.lateness_ms)).max(wall.saturating_add(after))
}

fn due(segment: &SegmentWriter, options: &StoreOptions, now: Instant, wall: i64) -> bool {
    let idle = Duration::from_millis(options.segment_idle_ms);
    wall >= segment.closes || now.saturating_duration_since(segment.used) >= idle
}

fn siblings(ends: &[(SegmentName, u32)]) -> Siblings {
    let one = |(s, frame): &(SegmentName, u32)| Sibling {
        late: s.late,
        window: s.window.number(),
        file: s.file,
        frame: *frame,
    };
    ends.iter().map(one).collect()
}

/// A panic in here (a bug in rows that came from outside) must not take the lane with it: nothing is written yet.
fn encode_group(shared: &Shared, batches: Vec<(Cleared, i64)>) -> Result<Frames, StoreError> {
    let work = || -> Result<Frames, StoreError> {
        let mut slots: BTreeMap<Slot, Vec<Cleared>> = BTreeMap::new();
        for (batch, received) in batches {
            for (slot, part) in by_window(batch, received, &shared.options)? {
                if slot.late {
                    Metrics::add(&shared.metrics.rows_late, part.batch().rows() as u64);
                }
                slots.entry(slot).or_default().push(part);
            }
        }
        let level = shared.options.zstd_level.clamp(1, 3);
        let mut frames = Frames::new();
        for (slot, parts) in slots {
            let parts = into_frames(parts, shared.options.frame_rows)?;
            frames.insert(slot, parts.iter().map(|p| encode(p.batch(), level)).collect::<Result<_, _>>()?);
        }
        Ok(frames)
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Rows("encoding panicked".into())))
}
