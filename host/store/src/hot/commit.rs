//! One group: encoded, written, synced and acknowledged together, or undone together.
//!
//! A batch may be cut over several windows and so over several files. It must not be there in part, so a group stands or falls
//! as a whole: after any failure all of its frames are made invisible, durably, before anybody is answered. Where that fails
//! too, the lane refuses everything until it has succeeded: the client will send the batch again, and a frame that comes back
//! would make it there twice (ST-1).

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use prism_model::{Classify as _, Cleared, Kind, Signal, TenantId};
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::frame::encode::{Encoded, encode};
use crate::frame::schema::{Sibling, Siblings};
use crate::hot::segment::{Limbo, SegmentWriter};
use crate::hot::split::{Slot, by_window, into_frames};
use crate::hot::writer::Shared;
use crate::metrics::Metrics;
use crate::place::{SHARD, SegmentName, Token};

/// Fencing comes with leases; until then every writer has files of its own.
const EPOCH: u64 = 1;

/// A batch that waits for its acknowledgement.
pub(crate) struct Item {
    pub(crate) batch: Cleared,
    /// When it was received, unix nanoseconds: decides what is late.
    pub(crate) now: i64,
    pub(crate) reply: oneshot::Sender<Result<Token, StoreError>>,
}

/// The open segments of one tenant and signal.
pub(crate) struct LaneFiles {
    tenant: TenantId,
    signal: Signal,
    open: BTreeMap<Slot, SegmentWriter>,
    limbo: Vec<Limbo>,
}

/// The frames of a group, by segment.
type Frames = BTreeMap<Slot, Vec<Encoded>>;

impl LaneFiles {
    pub(crate) fn new(tenant: TenantId, signal: Signal) -> LaneFiles {
        LaneFiles { tenant, signal, open: BTreeMap::new(), limbo: Vec::new() }
    }

    /// Whether nothing is left to do for this lane.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.limbo.is_empty()
    }

    /// Keeps the items and answers each.
    pub(crate) fn commit(&mut self, shared: &Shared, items: Vec<Item>, now: Instant) {
        self.undo_leftovers(shared);
        if !self.settled() {
            return items.into_iter().for_each(|i| drop(i.reply.send(Err(StoreError::Undoing))));
        }
        let (batches, replies): (Vec<_>, Vec<_>) = items.into_iter().map(|i| ((i.batch, i.now), i.reply)).unzip();
        let rows = batches.iter().map(|(b, _)| b.batch().rows() as u64).sum();
        let alone = batches.len() == 1;
        // The batches themselves are cheap to clone; they are needed again only where one of them cannot be encoded.
        match self.keep(shared, batches.clone(), now) {
            Ok(token) => {
                Metrics::add(&shared.metrics.batches, replies.len() as u64);
                Metrics::add(&shared.metrics.rows, rows);
                // A client that has gone does not want its answer.
                replies.into_iter().for_each(|r| drop(r.send(Ok(token.clone()))));
            }
            // A batch that cannot be stored must not take its neighbours with it.
            Err(e) if e.kind() == Kind::Bug && !alone => {
                for ((batch, received), reply) in batches.into_iter().zip(replies) {
                    self.commit(shared, vec![Item { batch, now: received, reply }], now);
                }
            }
            Err(e) => {
                Metrics::add(&shared.metrics.groups_failed, 1);
                tracing::warn!(error = %e, cause = ?std::error::Error::source(&e), rows, "a group was not kept");
                let shared_message = e.to_string();
                let uncertain = matches!(e, StoreError::Uncertain);
                let mut error = Some(e);
                for reply in replies {
                    let answer = match error.take() {
                        Some(first) => first,
                        None if uncertain => StoreError::Uncertain,
                        None => StoreError::Group(shared_message.clone()),
                    };
                    drop(reply.send(Err(answer)));
                }
            }
        }
    }

    /// Frames are pending here only where a commit panicked half-way: nobody was told that they are kept.
    fn undo_leftovers(&mut self, shared: &Shared) {
        let left: Vec<Slot> = self.open.iter().filter(|(_, s)| s.is_pending()).map(|(slot, _)| *slot).collect();
        self.undo(shared, left.into_iter(), Vec::new());
    }

    /// Ends segments that had no row for a while.
    pub(crate) fn close_idle(&mut self, shared: &Shared, now: Instant) {
        self.undo_leftovers(shared);
        self.settled();
        let idle = Duration::from_millis(shared.options.segment_idle_ms);
        let slots: Vec<Slot> = self
            .open
            .iter()
            .filter(|(_, s)| now.saturating_duration_since(s.used) >= idle)
            .map(|(slot, _)| *slot)
            .collect();
        slots.into_iter().for_each(|slot| self.close(shared, slot));
    }

    /// Ends all segments.
    pub(crate) fn close_all(&mut self, shared: &Shared) {
        self.undo_leftovers(shared);
        self.settled();
        while let Some(slot) = self.open.keys().next().copied() {
            self.close(shared, slot);
        }
    }

    fn close(&mut self, shared: &Shared, slot: Slot) {
        let Some(segment) = self.open.remove(&slot) else { return };
        shared.metrics.segments_open.fetch_sub(1, Relaxed);
        // The end mark spares readers some work; a segment without one is as good.
        if let Err(e) = segment.close() {
            tracing::warn!(error = %e, "a segment was left without its end mark");
        }
    }

    /// Tries again what could not be undone; whether nothing is left of it.
    fn settled(&mut self) -> bool {
        self.limbo.retain(|l| l.settle().is_err());
        self.limbo.is_empty()
    }

    fn keep(&mut self, shared: &Shared, batches: Vec<(Cleared, i64)>, now: Instant) -> Result<Token, StoreError> {
        let started = Instant::now();
        let frames = encode_group(shared, batches)?;
        Metrics::add(&shared.metrics.encode_nanos, started.elapsed().as_nanos() as u64);
        for slot in frames.keys() {
            self.ready(shared, *slot, now).map_err(|e| StoreError::io("began a segment", e))?;
        }
        let count: usize = frames.values().map(Vec::len).sum();
        let last = |slot: &Slot, n: usize| self.open.get(slot).map(|s| (s.name, s.next_frame() + n as u32 - 1));
        let ends: Vec<(SegmentName, u32)> = frames.iter().filter_map(|(slot, f)| last(slot, f.len())).collect();
        let siblings = if count > 1 { siblings(&ends) } else { Siblings::new() };
        let group = shared.groups.fetch_add(1, Relaxed);
        match self.write(shared, &frames, group, &siblings) {
            Ok(bytes) => {
                for slot in frames.keys() {
                    self.open.entry(*slot).and_modify(|s| s.commit(now));
                }
                Metrics::add(&shared.metrics.frames, count as u64);
                Metrics::add(&shared.metrics.bytes_written, bytes);
                Ok(Token { signal: self.signal, frames: ends })
            }
            Err((error, failed)) => {
                self.undo(shared, frames.keys().copied(), failed);
                if self.limbo.is_empty() {
                    return Err(StoreError::io("wrote a group", error));
                }
                tracing::error!(error = %error, "a failed group is not undone: nothing is accepted until it is");
                Err(StoreError::Uncertain)
            }
        }
    }

    /// An open segment for the slot with room, others closed where too many are open.
    fn ready(&mut self, shared: &Shared, slot: Slot, now: Instant) -> io::Result<()> {
        if self.open.get(&slot).is_some_and(|s| s.bytes() >= shared.options.segment_bytes_max) {
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
        let file = shared.files.fetch_add(1, Relaxed) as u32;
        let name = SegmentName {
            shard: SHARD,
            window: slot.window,
            late: slot.late,
            writer: shared.writer,
            epoch: EPOCH,
            file,
        };
        let segment = SegmentWriter::create(&shared.folders, &self.tenant, self.signal, name, now)?;
        Metrics::add(&shared.metrics.segments_open, 1);
        self.open.insert(slot, segment);
        Ok(())
    }

    /// Writes and syncs all frames. On error also the segments that failed to sync.
    fn write(
        &mut self,
        shared: &Shared,
        frames: &Frames,
        group: u64,
        siblings: &Siblings,
    ) -> Result<u64, (io::Error, Vec<Slot>)> {
        let mut bytes = 0;
        for (slot, frames) in frames {
            let Some(segment) = self.open.get_mut(slot) else { continue };
            for frame in frames {
                bytes += segment.write(frame, group, siblings).map_err(|e| (e, Vec::new()))?;
            }
        }
        let segments: Vec<(Slot, &SegmentWriter)> =
            frames.keys().filter_map(|slot| Some((*slot, self.open.get(slot)?))).collect();
        let timed = |segment: &SegmentWriter| {
            let started = Instant::now();
            let result = segment.sync();
            shared.metrics.synced(started.elapsed().as_nanos() as u64);
            result
        };
        let results: Vec<(Slot, io::Result<()>)> = match segments.as_slice() {
            [(slot, one)] => vec![(*slot, timed(one))],
            several if !shared.folders.disk.may_block() => several.iter().map(|(slot, s)| (*slot, timed(s))).collect(),
            // Several files take as long as one when they are synced at once: the journal is written once.
            many => std::thread::scope(|scope| {
                let threads: Vec<_> = many.iter().map(|(slot, s)| (*slot, scope.spawn(|| timed(s)))).collect();
                let join = |t: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
                    t.join().unwrap_or_else(|_| Err(io::Error::other("a sync panicked")))
                };
                threads.into_iter().map(|(slot, t)| (slot, join(t))).collect()
            }),
        };
        let failed: Vec<Slot> = results.iter().filter(|(_, r)| r.is_err()).map(|(slot, _)| *slot).collect();
        match results.into_iter().find_map(|(_, r)| r.err()) {
            Some(error) => Err((error, failed)),
            None => Ok(bytes),
        }
    }

    fn undo(&mut self, shared: &Shared, slots: impl Iterator<Item = Slot>, failed: Vec<Slot>) {
        for slot in slots {
            let Some(segment) = self.open.remove(&slot) else { continue };
            let (again, limbo) = segment.undo(failed.contains(&slot));
            match again {
                Some(segment) => drop(self.open.insert(slot, segment)),
                None => drop(shared.metrics.segments_open.fetch_sub(1, Relaxed)),
            }
            if let Some(limbo) = limbo {
                Metrics::add(&shared.metrics.undo_failed, 1);
                self.limbo.push(limbo);
            }
        }
    }
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
