//! What a frame tells about its columns without its payload being read.

use std::sync::Arc;

use prism_model::ColumnId;

use super::wire::{Put as _, Take};
use crate::error::Damage;

/// Bounds of a dictionary that stands in the statistics.
pub(crate) struct SmallDictionary {
    pub(crate) values: usize,
    pub(crate) bytes: usize,
}

/// Enough for methods, status codes, regions and most service lists; small beside the frame.
pub(crate) const SMALL_DICTIONARY: SmallDictionary = SmallDictionary { values: 32, bytes: 1024 };
/// Longer texts are bounded by a prefix: URLs and messages differ early or not at all.
const TEXT_BOUND_BYTES: usize = 32;

/// What is known about a column of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnMeta {
    /// Its name.
    pub id: ColumnId,
    /// Rows without a value.
    pub null_count: u32,
    /// Where its values lie; `None` where unknown (bytes, ids, doubles with a NaN) or where there is no value.
    pub range: Option<Range>,
    /// Every distinct value of a text column, where there are few. `None` means unknown.
    pub dictionary: Option<Arc<[Arc<str>]>>,
}

impl ColumnMeta {
    /// Takes texts that stand in `like` too from there.
    pub(crate) fn share(&mut self, like: &ColumnMeta) {
        if let (Some(own), Some(other)) = (&mut self.dictionary, &like.dictionary) {
            if own == other {
                *own = other.clone();
            } else {
                let same = |value: &Arc<str>| other.iter().find(|o| *o == value).unwrap_or(value).clone();
                *own = own.iter().map(same).collect();
            }
        }
        if let (Some(Range::Text(own)), Some(Range::Text(other))) = (&mut self.range, &like.range) {
            if own.min == other.min {
                own.min = other.min.clone();
            }
            if own.max == other.max {
                own.max = other.max.clone();
            }
        }
    }

    /// Bytes in memory that no other frame shares, about.
    pub(crate) fn own_bytes(&self) -> usize {
        let text = |text: &Arc<str>| if Arc::strong_count(text) > 1 { 0 } else { text.len() + 32 };
        let dictionary = match &self.dictionary {
            Some(values) if Arc::strong_count(values) == 1 => values.iter().map(|v| text(v) + 16).sum(),
            _ => 0,
        };
        match &self.range {
            Some(Range::Text(range)) => dictionary + text(&range.min) + range.max.as_ref().map_or(0, text),
            _ => dictionary,
        }
    }
}

/// Bounds of the values of a column, nulls aside.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// Smallest and largest integer, exact.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// Bounds of doubles, exact but for the sign of zero; there is no NaN.
    Double {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// Which booleans there are.
    Bool {
        /// Any `true`.
        any_true: bool,
        /// Any `false`.
        any_false: bool,
    },
    /// Bounds of texts in the order of their bytes.
    Text(TextRange),
}

/// Bounds of texts. Long ones are cut: then a bound is no value of the column, but still a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRange {
    /// Not greater than any value.
    pub min: Arc<str>,
    /// Not less than any value; `None` where no short text is.
    pub max: Option<Arc<str>>,
    /// Both bounds are values of the column.
    pub exact: bool,
}

impl TextRange {
    pub(crate) fn of<'a>(mut texts: impl Iterator<Item = &'a str>) -> Option<TextRange> {
        let first = texts.next()?;
        let (min, max) = texts.fold((first, first), |(min, max), t| {
            if t < min {
                (t, max)
            } else if t > max {
                (min, t)
            } else {
                (min, max)
            }
        });
        let exact = min.len() <= TEXT_BOUND_BYTES && max.len() <= TEXT_BOUND_BYTES;
        Some(TextRange { min: prefix(min).into(), max: upper(max), exact })
    }
}

fn prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BOUND_BYTES)]
}

/// The text, or a short one that is greater than each with its prefix: the last character that has a successor is raised.
fn upper(text: &str) -> Option<Arc<str>> {
    if text.len() <= TEXT_BOUND_BYTES {
        return Some(text.into());
    }
    let mut chars: Vec<char> = prefix(text).chars().collect();
    while let Some(last) = chars.pop() {
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect::<String>().into());
        }
    }
    None
}

const HAS_RANGE: u8 = 1;
const HAS_DICTIONARY: u8 = 2;
const HAS_MAX: u8 = 4;
const EXACT: u8 = 8;
const KIND_SHIFT: u8 = 4;

/// Appends range and dictionary; name and null count stand in the directory.
pub(crate) fn put(meta: &ColumnMeta, out: &mut Vec<u8>) {
    let kind = match &meta.range {
        None => 0,
        Some(Range::Int { .. }) => HAS_RANGE | 1 << KIND_SHIFT,
        Some(Range::Double { .. }) => HAS_RANGE | 2 << KIND_SHIFT,
        Some(Range::Bool { .. }) => HAS_RANGE | 3 << KIND_SHIFT,
        Some(Range::Text(t)) => {
            HAS_RANGE | 4 << KIND_SHIFT | if t.max.is_some() { HAS_MAX } else { 0 } | if t.exact { EXACT } else { 0 }
        }
    };
    // A dictionary gives the range: it is not written twice.
    let range_follows = !matches!((&meta.range, &meta.dictionary), (Some(Range::Text(_)), Some(_)));
    out.u8(kind | if meta.dictionary.is_some() { HAS_DICTIONARY } else { 0 });
    match &meta.range {
        Some(Range::Int { min, max }) => {
            out.i64(*min);
            out.i64(*max);
        }
        Some(Range::Double { min, max }) => {
            out.u64(min.to_bits());
            out.u64(max.to_bits());
        }
        Some(Range::Bool { any_true, any_false }) => out.u8(u8::from(*any_true) | u8::from(*any_false) << 1),
        Some(Range::Text(t)) if range_follows => {
            out.text(t.min.as_bytes());
            if let Some(max) = &t.max {
                out.text(max.as_bytes());
            }
        }
        Some(Range::Text(_)) | None => {}
    }
    if let Some(dictionary) = &meta.dictionary {
        out.var(dictionary.len() as u64);
        dictionary.iter().for_each(|v| out.text(v.as_bytes()));
    }
}

/// Reads what [`put`] wrote.
pub(crate) fn take(take: &mut Take<'_>, id: ColumnId, null_count: u32) -> Result<ColumnMeta, Damage> {
    let bad = Damage::Bounds("statistics");
    let flags = take.u8()?;
    let has = |bit: u8| flags & bit != 0;
    let mut range = match flags >> KIND_SHIFT {
        0 => None,
        1 => Some(Range::Int { min: take.i64()?, max: take.i64()? }),
        2 => Some(Range::Double { min: f64::from_bits(take.u64()?), max: f64::from_bits(take.u64()?) }),
        3 => {
            let bits = take.u8()?;
            Some(Range::Bool { any_true: bits & 1 != 0, any_false: bits & 2 != 0 })
        }
        4 if has(HAS_DICTIONARY) => None,
        4 => {
            let min = take.string()?.into();
            let max = if has(HAS_MAX) { Some(take.string()?.into()) } else { None };
            Some(Range::Text(TextRange { min, max, exact: has(EXACT) }))
        }
        _ => return Err(bad),
    };
    let dictionary: Option<Arc<[Arc<str>]>> = if has(HAS_DICTIONARY) {
        let count = take.var_max(SMALL_DICTIONARY.values)?;
        Some((0..count).map(|_| take.string().map(Arc::from)).collect::<Result<_, _>>()?)
    } else {
        None
    };
    if flags >> KIND_SHIFT == 4
        && let Some(dictionary) = &dictionary
    {
        range = TextRange::of(dictionary.iter().map(AsRef::as_ref)).map(Range::Text);
    }
    Ok(ColumnMeta { id, null_count, range, dictionary })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_hold_every_text(texts in proptest::collection::vec("[\u{10fffe}\u{10ffff}a-c\u{d7ff}ü]{0,40}", 1..8)) {
            let range = TextRange::of(texts.iter().map(String::as_str)).unwrap();
            for text in &texts {
                prop_assert!(*range.min <= **text);
                prop_assert!(range.max.as_ref().is_none_or(|max| **max >= **text));
            }
        }
    }

    #[test]
    fn statistics_read_back() {
        let id = ColumnId::attr("k", prism_model::AttrType::Str);
        let text = |t: &[&str]| TextRange::of(t.iter().copied()).map(Range::Text);
        let long = "x".repeat(100);
        for (range, dictionary) in [
            (None, None),
            (Some(Range::Int { min: i64::MIN, max: 3 }), None),
            (Some(Range::Double { min: -0.0, max: 3.0 }), None),
            (Some(Range::Bool { any_true: true, any_false: false }), None),
            (text(&["b", "a"]), None),
            (text(&["b", &long]), None),
            (text(&["b", &long]), Some(["b".into(), long.as_str().into()].into())),
        ] {
            let meta = ColumnMeta { id: id.clone(), null_count: 3, range, dictionary };
            let mut bytes = Vec::new();
            put(&meta, &mut bytes);
            let mut from = Take::new(&bytes, "test");
            assert_eq!(take(&mut from, id.clone(), 3).unwrap(), meta);
            assert_eq!(from.left(), 0);
        }
    }
}
