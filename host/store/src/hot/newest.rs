//! The newest frames of a segment, without those before them: who looks at a segment that grows needs what came since the last
//! look, and a busy one has ten thousand frames in its window, of ten kilobytes each in memory.
//!
//! What is remembered of the others is where every so manieth stands, so that who is further behind begins there, and not at the
//! segment's begin.

use std::borrow::Cow;

use super::scan::{Entry, SegmentIndex};
use crate::frame::header::SEGMENT_HEADER;

/// Frames from one mark to the next: so many headers are read too many at most, by who is behind.
const MARK_EVERY: usize = 64;
/// Frames that are let go at once.
const FORGET_EVERY: usize = 32;
/// The newest of those that are not asked for stay, for others who are a little further behind.
const KEPT_FRAMES: usize = 128;

/// Where a frame stands, and what was known before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    at: u64,
    columns: usize,
}

impl SegmentIndex {
    /// Frames of the segment up to here, also those that are not here.
    pub(crate) fn count(&self) -> usize {
        self.first + self.frames.len()
    }

    /// A frame by its number, where it is here.
    pub(crate) fn frame(&self, number: usize) -> Option<&Entry> {
        self.frames.get(number.checked_sub(self.first)?)
    }

    /// Notes where a frame stands that is about to be added.
    pub(super) fn mark(&mut self, entry: &Entry) {
        if self.count() == self.marks.len() * MARK_EVERY {
            self.marks.push(Mark { at: entry.at, columns: entry.columns_before });
        }
    }

    /// Forgets the marks of frames that are not there any more.
    pub(super) fn forget_marks(&mut self) {
        self.marks.truncate(self.count().div_ceil(MARK_EVERY));
    }

    /// Lets frames before `from` go, but for the newest, and for those that may be undone.
    pub(super) fn forget(&mut self, from: usize) {
        let gone = from.saturating_sub(self.first).min(self.frames.len().saturating_sub(KEPT_FRAMES));
        if gone >= FORGET_EVERY {
            let confirmed = self.frames.iter().take(gone).take_while(|frame| frame.end() <= self.confirmed).count();
            self.frames.drain(..confirmed);
            self.first += confirmed;
        }
    }

    /// The newest frames, as many as take about so many bytes of memory, and at least those that may be undone.
    pub(super) fn newest(&self, bytes_max: usize) -> SegmentIndex {
        let mut bytes = 0;
        let newest = self.frames.iter().rev().take_while(|frame| {
            bytes += frame.memory_bytes();
            bytes <= bytes_max
        });
        let old = self.frames.len() - newest.count();
        let confirmed = self.frames[..old].iter().take_while(|frame| frame.end() <= self.confirmed).count();
        SegmentIndex {
            inode: self.inode,
            first: self.first + confirmed,
            frames: self.frames[confirmed..].to_vec(),
            marks: self.marks.clone(),
            fault: self.fault.clone(),
            confirmed: self.confirmed,
            key: self.key.clone(),
            columns: self.columns.clone(),
            next: self.next,
            closed: self.closed,
        }
    }

    /// An index that has the frames from a number on, or that leads to them when it is read on; `None` where there is none. `valid` is
    /// the length of an end link.
    pub(super) fn reaching(&self, from: usize, valid: Option<u64>) -> Option<Cow<'_, SegmentIndex>> {
        let begin = self.frames.first().map_or(self.next, |frame| frame.at);
        let ends_before = |at: u64| valid.is_some_and(|valid| valid < at);
        if self.first == 0 || (self.first <= from && !ends_before(begin)) {
            return Some(Cow::Borrowed(self));
        }
        let before = self.marks.iter().take(from / MARK_EVERY + 1).enumerate().rev();
        let (number, mark) = before.map(|(n, mark)| (n * MARK_EVERY, mark)).find(|(_, mark)| !ends_before(mark.at))?;
        if mark.at > self.confirmed.max(SEGMENT_HEADER as u64) {
            return None;
        }
        Some(Cow::Owned(SegmentIndex {
            inode: self.inode,
            first: number,
            frames: Vec::new(),
            marks: self.marks[..number / MARK_EVERY].to_vec(),
            fault: None,
            confirmed: self.confirmed,
            key: self.key.clone(),
            columns: self.columns[..mark.columns].to_vec(),
            next: mark.at,
            closed: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use prism_model::samples::{Random, spans};
    use prism_model::window::WINDOW_NANOS;
    use prism_model::{Cleared, Signal, TenantId};

    use super::*;
    use crate::disk::{Disk as _, RealDisk};
    use crate::hot::list::segments;
    use crate::hot::segment::end_link;
    use crate::hot::writer::{Store, Surroundings};
    use crate::keys::Keyring;
    use crate::options::StoreOptions;
    use crate::place::SegmentName;

    /// Within a window: the times of a sample may lie before it.
    const NOW: i64 = 6_000_000 * WINDOW_NANOS + WINDOW_NANOS / 2;

    fn tenant() -> TenantId {
        "acme".parse().unwrap()
    }

    async fn append(store: &Store, seed: u64) {
        #[expect(clippy::disallowed_methods, reason = "this is of what comes behind the plugin chain")]
        let rows = Cleared::by_plugin_chain(spans(1, NOW, seed));
        store.append(&tenant(), rows).await.unwrap();
    }

    fn read(root: &Path, name: &SegmentName, before: Option<&SegmentIndex>, from: usize) -> SegmentIndex {
        let path = root.join(name.dir(&tenant(), Signal::Spans)).join(name.file_name());
        let header = name.header(&tenant(), Signal::Spans);
        let valid = RealDisk.read_link(&end_link(&path)).ok().map(|text| text.parse().unwrap());
        SegmentIndex::read_from(&RealDisk, &path, &header, valid, before, &Keyring::default(), from).unwrap()
    }

    /// Readers at different paces share what one remembers of the newest frames: each finds every frame, as who reads all of them.
    #[tokio::test]
    async fn who_reads_on_finds_each_frame_whatever_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let around =
            Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 7, keys: Keyring::default() };
        let options = StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() };
        let store = Store::open_in(root.path(), options, around);
        append(&store, 0).await;
        let listed = segments(&RealDisk, root.path(), &tenant(), Signal::Spans, &|_, _| true).unwrap();
        let name = listed[0].name;
        let mut random = Random(5);
        let mut kept: Option<SegmentIndex> = None;
        let mut readers = [0usize; 4];
        let mut most = 0;
        let mut look = |readers: &mut [usize; 4], reader: usize, whole: &SegmentIndex| {
            let from = readers[reader];
            let index = read(root.path(), &name, kept.as_ref(), from);
            assert!(index.first <= from && index.count() == whole.count(), "{} {}", index.count(), whole.count());
            for number in from..index.count() {
                let (found, expected) = (index.frame(number).unwrap(), &whole.frames[number]);
                assert_eq!((found.at, &found.meta.header), (expected.at, &expected.meta.header));
                assert_eq!(found.meta.table_columns(), expected.meta.table_columns());
            }
            assert_eq!((index.next, index.confirmed, index.closed), (whole.next, whole.confirmed, whole.closed));
            assert_eq!((&index.columns, &index.fault, &index.marks), (&whole.columns, &whole.fault, &whole.marks));
            readers[reader] = index.count();
            most = most.max(index.frames.len() - (index.count() - from));
            kept = Some(index.newest([0, 4_000, 40_000, usize::MAX][reader]));
        };
        for seed in 1..400 {
            append(&store, seed).await;
            // Each is behind by another count of frames.
            for reader in 0..4 {
                if random.one_in([1, 7, 60, 150][reader]) {
                    look(&mut readers, reader, &read(root.path(), &name, None, 0));
                }
            }
        }
        store.close().await;
        for reader in [3, 0, 2, 1] {
            let whole = read(root.path(), &name, None, 0);
            assert!(whole.is_closed());
            look(&mut readers, reader, &whole);
        }
        assert_eq!(readers, [400; 4]);
        // From the begin again, with what the last one left; and ended earlier than what is remembered.
        look(&mut [0; 4], 0, &read(root.path(), &name, None, 0));
        let (behind, whole) = (kept.clone().unwrap(), read(root.path(), &name, None, 0));
        let path = root.path().join(name.dir(&tenant(), Signal::Spans)).join(name.file_name());
        let valid = whole.frames[100].at;
        RealDisk.symlink(&valid.to_string(), &end_link(&path)).unwrap();
        let cut = read(root.path(), &name, Some(&behind), 90);
        assert_eq!((cut.count(), cut.frame(99).unwrap().end(), cut.frame(100).is_none()), (100, valid, true));
        assert!(most >= MARK_EVERY / 2 && cut.fault.is_none(), "some begin at a mark: {most}");
    }
}
