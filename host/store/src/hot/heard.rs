//! What a listener had told at one moment, and rows of before: asked for while the listener looks on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::follow::{Follower, Wanted};
use super::listen::Told;
use super::position::{Place, Position};
use super::scan::{NoIndex, SegmentIndex};
use super::writer::Store;
use crate::error::StoreError;
use crate::framed::{Framed, Source};
use crate::place::SegmentName;
use crate::read::Reader;
use crate::unit::{Frame, Tier};

/// A frame with its place in the hot tier.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its rows.
    pub frame: Frame,
    /// Where it lies.
    pub place: Place,
}

/// Rows that were stored before, where they lay when they were asked for.
#[derive(Debug, Default)]
pub struct Recent {
    /// Of blocks and files, the oldest first.
    pub old: Vec<Frame>,
    /// Of segments.
    pub hot: Vec<Placed>,
    /// Parts that cannot be read, whose rows are not here.
    pub lacks: usize,
    /// There are more frames than were asked for: behind those that are here, segment by segment.
    pub more: bool,
    /// What was told of segments that are gone since: their rows are in blocks, and not here.
    pub gone: Position,
}

/// See the module.
pub struct Heard {
    pub(super) store: Arc<Store>,
    pub(super) tenant: TenantId,
    pub(super) signal: Signal,
    pub(super) segments: BTreeMap<SegmentName, Told>,
}

impl Heard {
    /// Whose rows they are.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// How far was told.
    pub fn position(&self) -> Position {
        super::listen::position(&self.segments)
    }

    /// What was told behind a position and still stands, the oldest first; within a segment in order. About so many frames at most,
    /// and the first of each segment. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn since(&self, position: &Position, frames_max: usize) -> Result<Recent, StoreError> {
        let all = self.segments.iter().filter_map(|(name, told)| {
            let from = position.0.get(name).copied().unwrap_or(0);
            (from < told.frames).then_some((*name, from..told.frames))
        });
        let all: BTreeMap<SegmentName, Range<u32>> = all.collect();
        // One more than is given of each, to know of it.
        let cut = |range: Range<u32>| {
            let most = u32::try_from(frames_max).unwrap_or(u32::MAX).saturating_add(1);
            range.start..range.end.min(range.start.saturating_add(most))
        };
        let few = all.into_iter().map(|(name, range)| (name, cut(range)));
        let (hot, _, gone) = self.frames(few.collect())?;
        let gone = gone.into_iter().filter_map(|name| Some((name, self.segments.get(&name)?.frames)));
        let gone = Position(gone.collect());
        let lacks = self.segments.values().filter(|told| told.damaged).count();
        let mut recent = Recent { lacks, gone, ..Recent::default() };
        let mut begun = BTreeSet::new();
        for placed in hot {
            let first = begun.insert(placed.place.segment);
            match first || recent.hot.len() < frames_max {
                true => recent.hot.push(placed),
                false => recent.more = true,
            }
        }
        Ok(recent)
    }

    /// Rows that were told already and whose frames touch a range of event times: all of them once, wherever they lie. What
    /// comes after is told by looks. `None` where a segment was sealed before all of it was told: a look tells it, and what was
    /// heard then is to be asked. Blocks on the disk and the object store.
    ///
    /// # Errors
    /// `Retry` where a tier cannot be listed.
    pub fn recent(&self, reader: &Reader, range: TimeRange) -> Result<Option<Recent>, StoreError> {
        let snapshot = reader.snapshot(&self.tenant, self.signal, range)?;
        // A segment that was sealed before all of it was told would come again.
        let told = |name: &SegmentName| self.segments.get(name).is_some_and(|told| told.done);
        if reader.has_sealed(&self.tenant, self.signal, &|name| !told(name))? {
            return Ok(None);
        }
        let by_file: HashMap<String, (SegmentName, u32)> =
            self.segments.iter().map(|(name, told)| (name.file_name(), (*name, told.frames))).collect();
        let mut recent = Recent { lacks: snapshot.unreadable.len(), ..Recent::default() };
        let mut hot: BTreeMap<SegmentName, BTreeSet<u32>> = BTreeMap::new();
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
                hot.entry(*name).or_default().insert(number);
            }
        }
        recent.old.sort_by_key(|frame| frame.stats().time_min);
        let whole = hot.iter().filter_map(|(name, of)| Some((*name, *of.first()?..of.last()? + 1))).collect();
        let (frames, damaged, _) = self.frames(whole)?;
        (recent.hot, recent.lacks) = (frames, recent.lacks + damaged);
        recent.hot.retain(|placed| hot.get(&placed.place.segment).is_some_and(|of| of.contains(&placed.place.frame)));
        Ok(Some(recent))
    }

    /// Frames of segments, the oldest first, within a segment in order; how many segments are damaged since, and which are gone.
    fn frames(
        &self,
        of: BTreeMap<SegmentName, Range<u32>>,
    ) -> Result<(Vec<Placed>, usize, Vec<SegmentName>), StoreError> {
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
        let (mut damaged, mut gone) = (0, Vec::new());
        for (name, range) in of {
            let (index, _) = match follower.index(&wanted, &name, range.start as usize) {
                Ok(index) => index,
                // It was sealed and deleted since.
                Err(NoIndex::Absent | NoIndex::Vanished) => {
                    gone.push(name);
                    continue;
                }
                Err(NoIndex::Io(error)) => return Err(StoreError::read("read a segment", error)),
                Err(NoIndex::Locked(error)) => return Err(error.into()),
                Err(NoIndex::Damaged(_)) => {
                    damaged += 1;
                    continue;
                }
            };
            queues.push(range.filter_map(|number| placed(follower, &wanted, name, &index, number)).collect());
        }
        let mut merged = Vec::new();
        let mut heads = BinaryHeap::new();
        let head = |queue: &VecDeque<Placed>| queue.front().map(|placed| placed.frame.stats().time_min);
        heads.extend(queues.iter().enumerate().filter_map(|(n, queue)| Some(Reverse((head(queue)?, n)))));
        while let Some(Reverse((_, n))) = heads.pop() {
            merged.extend(queues[n].pop_front());
            heads.extend(head(&queues[n]).map(|time| Reverse((time, n))));
        }
        Ok((merged, damaged, gone))
    }
}

pub(super) fn placed(
    follower: &Follower,
    wanted: &Wanted<'_>,
    segment: SegmentName,
    index: &SegmentIndex,
    number: u32,
) -> Option<Placed> {
    let entry = index.frame(number as usize)?;
    let source: Arc<dyn Source> = Arc::new(follower.file(wanted, &segment, index.inode));
    let frame = Framed::frame(&source, &follower.filters, entry.at, segment.window, entry.meta.clone());
    Some(Placed { frame, place: Place { segment, frame: number } })
}
