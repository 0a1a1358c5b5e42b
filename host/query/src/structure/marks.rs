//! Which rows of frames fit what was looked for first, from the look for traces to that for spans.
//!
//! Kept within a bound of memory, since no share of the traces makes them fewer: of frames for which there was no room they are
//! found anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// What is known of a frame.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Known {
    /// No row fits.
    #[default]
    Nothing,
    /// By row the bindings that it fits.
    Marks(Vec<u32>),
    /// Some row fits; there was no room to keep which.
    Forgotten,
}

/// The marks of all frames.
pub(super) struct Kept {
    of: Vec<Mutex<Known>>,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Kept {
    pub(super) fn new(frames: usize, bytes_max: usize) -> Kept {
        let of = (0..frames).map(|_| Mutex::default()).collect();
        Kept { of, bytes: AtomicUsize::new(0), bytes_max }
    }

    /// Keeps the marks of a frame in which some row fits, where there is room.
    pub(super) fn keep(&self, frame: usize, marks: Vec<u32>) {
        let of_frame = marks.capacity() * size_of::<u32>();
        let more = |bytes: usize| bytes.checked_add(of_frame).filter(|bytes| *bytes <= self.bytes_max);
        let is_room = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        *self.of[frame].lock() = if is_room { Known::Marks(marks) } else { Known::Forgotten };
    }

    /// What is known of a frame, once.
    pub(super) fn take(&self, frame: usize) -> Known {
        let known = std::mem::take(&mut *self.of[frame].lock());
        if let Known::Marks(marks) = &known {
            self.bytes.fetch_sub(marks.capacity() * size_of::<u32>(), Ordering::Relaxed);
        }
        known
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_kept_while_there_is_room() {
        let kept = Kept::new(4, 100);
        kept.keep(0, vec![1; 15]);
        kept.keep(1, vec![2; 15]);
        kept.keep(2, vec![3; 10]);
        assert_eq!(kept.bytes(), 100);
        assert_eq!(
            [1, 3, 0].map(|frame| kept.take(frame)),
            [Known::Forgotten, Known::Nothing, Known::Marks(vec![1; 15])]
        );
        assert_eq!(kept.bytes(), 40, "what is taken makes room");
        assert_eq!((kept.take(2), kept.bytes()), (Known::Marks(vec![3; 10]), 0));
    }
}
