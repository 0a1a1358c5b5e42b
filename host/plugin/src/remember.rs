//! What a deterministic redactor said about texts, remembered by (need, text) within one binding.
//!
//! Bounded by bytes in two generations: when the young one is full it becomes the old one, and what is asked for again moves
//! back. Texts are compared whole, never by hash alone: one that somebody made collide must not pass for another.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Texts longer than this are not kept: few repeat, and each would push out many short ones.
const TEXT_BYTES_MAX: usize = 2 << 10;
/// Bytes of an entry besides its texts: the table's slots and allocations.
const ENTRY_BYTES: usize = 96;

/// What was said about a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// Leave it.
    Keep,
    /// Set it to null; the label says why.
    Clear(u8),
    /// Replace it; the label says why.
    Replace(u8, Box<str>),
}

struct Verdict {
    hash: u64,
    need: u32,
    text: Box<str>,
    said: Said,
}

impl Verdict {
    fn bytes(&self) -> usize {
        let new = if let Said::Replace(_, new) = &self.said { new.len() } else { 0 };
        ENTRY_BYTES + self.text.len() + new
    }
}

#[derive(Default)]
struct Generation {
    verdicts: HashTable<Verdict>,
    bytes: usize,
}

/// Verdicts of one binding.
pub(crate) struct Remembered {
    young: Generation,
    old: Generation,
    bytes_max: usize,
    hasher: RandomState,
}

impl Remembered {
    pub(crate) fn new(bytes_max: usize) -> Remembered {
        Remembered {
            young: Generation::default(),
            old: Generation::default(),
            bytes_max,
            hasher: RandomState::default(),
        }
    }

    /// What was said about a text, if that is known.
    pub(crate) fn get(&mut self, need: u32, text: &str) -> Option<&Said> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let hash = self.hasher.hash_one((need, text));
        let same = |v: &Verdict| v.need == need && *v.text == *text;
        if self.young.verdicts.find(hash, same).is_none() {
            let Ok(found) = self.old.verdicts.find_entry(hash, same) else { return None };
            let (verdict, _) = found.remove();
            self.insert(verdict);
        }
        self.young.verdicts.find(hash, same).map(|v| &v.said)
    }

    /// Keeps what was said about a text.
    pub(crate) fn put(&mut self, need: u32, text: &str, said: Said) {
        if text.len() > TEXT_BYTES_MAX {
            return;
        }
        let hash = self.hasher.hash_one((need, text));
        if self.young.verdicts.find(hash, |v| v.need == need && *v.text == *text).is_none() {
            self.insert(Verdict { hash, need, text: text.into(), said });
        }
    }

    fn insert(&mut self, verdict: Verdict) {
        let bytes = verdict.bytes();
        if bytes > self.bytes_max / 2 {
            return;
        }
        if self.young.bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.verdicts.insert_unique(verdict.hash, verdict, |v| v.hash);
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_stay_within_their_bytes_and_the_used_ones_stay() {
        let mut remembered = Remembered::new(64 << 10);
        remembered.put(1, "hot", Said::Clear(3));
        for i in 0..10_000 {
            remembered.put(0, &format!("cold {i}"), Said::Replace(0, "x".repeat(i % 50).into()));
            assert_eq!(remembered.get(1, "hot"), Some(&Said::Clear(3)), "after {i}");
            assert!(remembered.bytes() <= 64 << 10);
        }
        assert_eq!(remembered.get(0, "hot"), None, "needs are kept apart");
        assert_eq!(remembered.get(0, "cold 0"), None);
        assert_eq!(remembered.get(0, "cold 9999"), Some(&Said::Replace(0, "x".repeat(49).into())));
        remembered.put(0, &"long".repeat(1_000), Said::Keep);
        assert_eq!(remembered.get(0, &"long".repeat(1_000)), None);
    }
}
