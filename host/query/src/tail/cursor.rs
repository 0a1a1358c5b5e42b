//! Where a tail stopped, as text that brings it on from there: on any node, and without a row twice or left out.
//!
//! It stands before the rows of a frame. A client that has taken `n` rows since comes back with `.n` behind it: a frame shows its
//! rows always in the same order.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use prism_dsl::{Pos, Query};
use prism_model::Signal;
use prism_store::{Place, Position};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::{QueryError, code};

/// The form of the bytes.
const VERSION: u8 = 1;
/// Checksum behind them.
const TAIL: usize = 4;
/// Characters that are looked at: the longest that is written names some thousand segments.
const CHARACTERS_MAX: usize = 96 << 10;
/// Characters that are written: with a query of a usual length it must fit into a document of 64 KiB.
const WRITTEN_MAX: usize = 48 << 10;

/// Where a tail stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct TailCursor {
    /// When that was, unix nanoseconds: what `now()` meant in the frame that follows.
    pub at_unix_nanos: i64,
    /// Rows that were shown up to here, for `limit`.
    pub shown: u64,
    /// By signal, what was taken.
    pub positions: Vec<(Signal, Position)>,
    /// The frame whose rows follow, and how many of them were taken.
    pub halfway: Option<Halfway>,
    /// What was stored before the tail began, where that is not shown yet to its end.
    pub before: Option<Before>,
}

/// Rows that were stored before a tail began.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// Those of earlier event times (unix nanoseconds) are not shown.
    pub from_unix_nanos: i64,
    /// By signal, up to where they lie.
    pub positions: Vec<(Signal, Position)>,
}

/// A frame of which some rows were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halfway {
    /// Whose.
    pub signal: Signal,
    /// Where.
    pub place: Place,
    /// How many, with those that are counted behind the cursor.
    pub rows: u64,
}

/// What tells a query from others: where it begins and when it ends may differ.
pub(super) fn fingerprint(query: &Query) -> u64 {
    let same = Query { cursor: None, limit: None, range: None, ..query.clone() };
    xxh3_64(same.to_string().as_bytes())
}

impl TailCursor {
    /// As text of `A-Z a-z 0-9 - _`. How many rows were taken is for the reader to say, behind a dot. `None` where it would be
    /// refused when it is brought back: then the one before counts, and rows come again rather than not at all.
    pub fn write(&self, query: &Query) -> Option<String> {
        let before = self.before.iter().flat_map(|before| &before.positions);
        if !self.positions.iter().chain(before).all(|(_, position)| position.is_believed()) {
            return None;
        }
        let mut bytes = vec![VERSION];
        bytes.extend(fingerprint(query).to_le_bytes());
        bytes.extend(self.at_unix_nanos.to_le_bytes());
        bytes.extend(self.shown.to_le_bytes());
        write_positions(&self.positions, &mut bytes);
        bytes.push(u8::from(self.before.is_some()));
        if let Some(before) = &self.before {
            bytes.extend(before.from_unix_nanos.to_le_bytes());
            write_positions(&before.positions, &mut bytes);
        }
        match &self.halfway {
            None => bytes.push(u8::MAX),
            Some(halfway) => {
                bytes.push(halfway.signal as u8);
                halfway.place.write(&mut bytes);
                bytes.extend(halfway.rows.to_le_bytes());
            }
        }
        bytes.extend(check(&bytes));
        Some(BASE64.encode(bytes)).filter(|text| text.len() <= WRITTEN_MAX)
    }

    /// Reads the cursor of a query, with the number of rows that were taken behind it.
    ///
    /// # Errors
    /// `Fix` where it is none, or another query's.
    pub fn read(text: &str, query: &Query) -> Result<TailCursor, QueryError> {
        let refuse = |message: &str| QueryError::at(code::CURSOR, Pos::NONE, 1, message);
        let damaged = || refuse("expected a cursor as a tail brought it, found something else");
        if text.len() > CHARACTERS_MAX {
            return Err(damaged());
        }
        let (text, rows) = match text.split_once('.') {
            Some((text, rows)) => (text, rows.parse::<u64>().map_err(|_| damaged())?),
            None => (text, 0),
        };
        let bytes = BASE64.decode(text).map_err(|_| damaged())?;
        let (front, sum) = bytes.split_last_chunk::<TAIL>().ok_or_else(damaged)?;
        if check(front) != *sum {
            return Err(damaged());
        }
        let (version, mut rest) = front.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            return Err(refuse("the cursor is of another version of Prism").with_hint("begin again without it"));
        }
        if number(&mut rest).ok_or_else(damaged)? != fingerprint(query) {
            return Err(refuse("the cursor belongs to another query")
                .with_hint("send the query as it was; only its range and `limit` may change"));
        }
        let mut cursor = read(&mut rest).filter(|_| rest.is_empty()).ok_or_else(damaged)?;
        match &mut cursor.halfway {
            Some(halfway) => {
                halfway.rows = halfway.rows.saturating_add(rows);
                cursor.shown = cursor.shown.saturating_add(rows);
            }
            None if rows > 0 => return Err(damaged()),
            None => {}
        }
        Ok(cursor)
    }
}

fn read(bytes: &mut &[u8]) -> Option<TailCursor> {
    let (at, shown) = (number(bytes)?, number(bytes)?);
    let positions = read_positions(bytes)?;
    let before = match byte(bytes)? {
        0 => None,
        _ => Some(Before { from_unix_nanos: number(bytes)? as i64, positions: read_positions(bytes)? }),
    };
    let halfway = match byte(bytes)? {
        u8::MAX => None,
        of => Some(Halfway { signal: signal(of)?, place: Place::read(bytes)?, rows: number(bytes)? }),
    };
    Some(TailCursor { at_unix_nanos: at as i64, shown, positions, halfway, before })
}

fn write_positions(positions: &[(Signal, Position)], out: &mut Vec<u8>) {
    out.push(u8::try_from(positions.len()).unwrap_or(u8::MAX));
    for (signal, position) in positions {
        out.push(*signal as u8);
        position.write(out);
    }
}

fn read_positions(bytes: &mut &[u8]) -> Option<Vec<(Signal, Position)>> {
    (0..byte(bytes)?).map(|_| Some((signal(byte(bytes)?)?, Position::read(bytes)?))).collect()
}

fn signal(number: u8) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| *signal as u8 == number)
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*first))
}

fn check(bytes: &[u8]) -> [u8; TAIL] {
    let [a, b, c, d, ..] = xxh3_64_with_seed(bytes, 0x7072_6973_6d74_6169).to_le_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_back_as_it_was_and_refused_otherwise() {
        let query = prism_dsl::parse_text("from logs where severity >= error").unwrap();
        let cursor = TailCursor {
            at_unix_nanos: -5,
            shown: 12,
            positions: vec![(Signal::Logs, Position::default())],
            halfway: None,
            before: Some(Before { from_unix_nanos: 77, positions: vec![(Signal::Spans, Position::default())] }),
        };
        let text = cursor.write(&query).unwrap();
        assert!(text.len() < 72, "{text}");
        assert_eq!(TailCursor::read(&text, &query).unwrap(), cursor);
        let later = prism_dsl::parse_text("from logs last 5m where severity >= error limit 7").unwrap();
        assert_eq!(TailCursor::read(&text, &later).unwrap(), cursor, "where it begins and ends may change");
        let other = prism_dsl::parse_text("from logs where severity >= warn").unwrap();
        assert_eq!(TailCursor::read(&text, &other).unwrap_err().code(), code::CURSOR);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(TailCursor::read(&String::from_utf8(changed).unwrap(), &query).is_err(), "{at}");
            assert!(TailCursor::read(&text[..at], &query).is_err(), "{at}");
        }
        for bad in ["", ".", "ü", "AAAA", ".5", &format!("{text}.3"), &format!("{text}."), &format!("{text}.-1")] {
            assert!(TailCursor::read(bad, &query).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_that_would_be_refused_is_not_written() {
        let query = prism_dsl::parse_text("from logs").unwrap();
        // A writer, then shard, window, writer and epoch, the file in two groups of seven bits, and the frame.
        let place = |file: u16| {
            let file = [file as u8 | 0x80, (file >> 7) as u8];
            Place::read(&mut &[&[7; 8][..], &[0, 2, 0, 1], &file, &[3]].concat()[..]).unwrap()
        };
        let mut position = Position::default();
        let mut written = 0;
        for file in 0..5_000 {
            position.pass(&place(file));
            let cursor = |before| TailCursor {
                at_unix_nanos: 0,
                shown: 0,
                positions: vec![(Signal::Logs, position.clone())],
                halfway: None,
                before,
            };
            if file % 500 != 0 {
                continue;
            }
            let before = Before { from_unix_nanos: 0, positions: vec![(Signal::Logs, position.clone())] };
            for cursor in [cursor(None), cursor(Some(before))] {
                let Some(text) = cursor.write(&query) else { continue };
                written += 1;
                assert_eq!(TailCursor::read(&text, &query).unwrap(), cursor, "{file}");
                assert!(text.len() < 60_000, "{file}");
            }
        }
        assert!((10..20).contains(&written), "{written}");
    }
}
