//! How many segments this process has open: each takes a file handle, an extent of the disk, and the names of its columns.
//!
//! Where a lane needs one more than may be, those that were idle longest are closed, whichever lane they belong to. A lane that
//! is at work is left alone, so the bound may be passed by as many segments as groups are being written.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::hot::commit::LaneFiles;
use crate::hot::writer::Shared;

/// Handles that everything else of the process may need: connections, readers' files, plugins.
const OTHER_HANDLES: u64 = 1_024;
/// Segments that are closed together, since they are synced at once.
const CLOSED_MAX: usize = 32;

/// The lanes of this process.
pub(crate) struct OpenSegments {
    max: u64,
    turn: Mutex<()>,
    lanes: Mutex<Vec<Weak<Mutex<LaneFiles>>>>,
}

impl OpenSegments {
    pub(crate) fn new(max: usize) -> OpenSegments {
        OpenSegments { max: max.max(1) as u64, turn: Mutex::default(), lanes: Mutex::default() }
    }

    /// A lane whose segments may be closed for those of others.
    pub(crate) fn register(&self, lane: &Arc<Mutex<LaneFiles>>) {
        let mut lanes = self.lanes.lock();
        if lanes.len() == lanes.capacity() {
            lanes.retain(|lane| lane.strong_count() > 0);
        }
        lanes.push(Arc::downgrade(lane));
    }

    /// Closes segments that are idle until there is room for one more. The caller's lane is at work, and left alone.
    pub(crate) fn make_room(&self, shared: &Shared) {
        let is_full = || shared.metrics.segments_open.load(Relaxed) >= self.max;
        if !is_full() {
            return;
        }
        // One after the other, so that each closes others.
        let _turn = self.turn.lock();
        while is_full() && self.close_idle(shared) {}
    }

    /// Closes some of those that were idle longest; `false` where all are at work.
    fn close_idle(&self, shared: &Shared) -> bool {
        let lanes: Vec<Arc<Mutex<LaneFiles>>> = self.lanes.lock().iter().filter_map(Weak::upgrade).collect();
        let mut idle: Vec<_> = lanes.iter().filter_map(|lane| Some((lane.try_lock()?.idlest()?, lane))).collect();
        idle.sort_unstable_by_key(|((used, _), _)| *used);
        idle.truncate((self.max as usize / CLOSED_MAX).clamp(1, CLOSED_MAX));
        // One that was taken up meanwhile is idle no more.
        let close = |slot, lane: &Mutex<LaneFiles>| lane.try_lock().is_some_and(|mut files| files.close(shared, slot));
        if !shared.folders.disk.may_block() {
            return idle.into_iter().filter(|((_, slot), lane)| close(*slot, lane)).count() > 0;
        }
        std::thread::scope(|scope| {
            let closing: Vec<_> =
                idle.into_iter().map(|((_, slot), lane)| scope.spawn(move || close(slot, lane))).collect();
            closing.into_iter().filter_map(|thread| thread.join().ok()).filter(|closed| *closed).count() > 0
        })
    }
}

/// How many segments may be open: as many as are wanted, and as file handles are allowed for. The soft limit is raised as far
/// as it goes without privileges.
pub(crate) fn permitted(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + OTHER_HANDLES;
    let soft = limit.current.unwrap_or(u64::MAX);
    let raised = limit.maximum.map_or(needed, |hard| hard.min(needed)).max(soft);
    let wider = Rlimit { current: Some(raised), maximum: limit.maximum };
    let allowed = if soft >= needed || setrlimit(Resource::Nofile, wider).is_err() { soft } else { raised };
    let left = allowed.saturating_sub(OTHER_HANDLES).max(allowed / 2);
    if left < wanted as u64 {
        tracing::warn!(
            allowed,
            segments = left,
            "fewer file handles are allowed than `store.segments_open_total_max` asks for"
        );
    }
    wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_segments_are_open_as_handles_are_allowed() {
        assert_eq!(permitted(16), 16);
        assert!(permitted(usize::MAX >> 8) < usize::MAX >> 8, "no process may have that many");
    }
}
