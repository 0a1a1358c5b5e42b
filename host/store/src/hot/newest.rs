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
mod tests;
