//! Pages: where an answer stopped, as text that the next question brings back.
//!
//! A cursor pins what `now` was on the first page, and so the range, and names the last row by its place in the order: by the
//! values of the order, then by a hash of all that the row shows. Rows that are alike in both cannot be told apart by whoever
//! reads them, so that it is enough to count how many of them were given. Nothing of it says where a row lies: rows may move to
//! a colder tier between two pages, and new ones arrive.
//!
//! A cursor is no secret and opens nothing: its reader's key decides whose rows are read. It is checked whole, so that one that
//! was cut, changed or made for another query is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use prism_dsl::{Pos, Query};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::{QueryError, code};

/// The form of the bytes.
const VERSION: u8 = 1;
/// Version, query, now, hash, count.
const HEAD: usize = 1 + 8 + 8 + 16 + 4;
/// Checksum behind the key.
const TAIL: usize = 8;
/// A cursor comes back within a query, of which the longest are 64 KiB: rows that are ordered by longer texts have none.
pub(crate) const KEY_BYTES_MAX: usize = 16 << 10;

/// Where an answer stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Of the first page, unix nanoseconds.
    pub(crate) now: i64,
    pub(crate) after: After,
}

/// The last row that was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct After {
    /// Its place in the order: the values of the order as bytes.
    pub(crate) key: Vec<u8>,
    /// What it shows.
    pub(crate) hash: u128,
    /// How many rows of this key and hash were given.
    pub(crate) given: u32,
}

/// What tells a query from others: pages may be of different lengths and budgets.
fn fingerprint(query: &Query) -> u64 {
    let same = Query { cursor: None, limit: None, budget: None, dry_run: false, ..query.clone() };
    xxh3_64(same.to_string().as_bytes())
}

impl Cursor {
    /// The text for the next page of a query; `None` where it would be too long.
    pub(crate) fn write(&self, query: &Query) -> Option<String> {
        let After { key, hash, given } = &self.after;
        if key.len() > KEY_BYTES_MAX {
            return None;
        }
        let mut bytes = vec![VERSION];
        bytes.extend(fingerprint(query).to_le_bytes());
        bytes.extend(self.now.to_le_bytes());
        bytes.extend(hash.to_le_bytes());
        bytes.extend(given.to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend(check(&bytes).to_le_bytes());
        Some(BASE64.encode(bytes))
    }

    /// Reads the cursor of a query.
    pub(crate) fn read(text: &str, query: &Query) -> Result<Cursor, QueryError> {
        let refuse = |message: &str| QueryError::at(code::CURSOR, Pos::NONE, 1, message);
        let damaged = || refuse("expected a cursor as an answer brought it, found something else");
        let bytes = BASE64.decode(text).map_err(|_| damaged())?;
        let (front, tail) = bytes.split_last_chunk::<TAIL>().ok_or_else(damaged)?;
        if front.len() < HEAD || front.len() > HEAD + KEY_BYTES_MAX || check(front) != u64::from_le_bytes(*tail) {
            return Err(damaged());
        }
        if front[0] != VERSION {
            return Err(refuse("the cursor is of another version of Prism").with_hint("begin again without `cursor`"));
        }
        let word = |at: usize| front[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if word(1) != fingerprint(query) {
            return Err(refuse("the cursor belongs to another query")
                .with_hint("send the query as it was; only `limit` and `budget` may change from page to page"));
        }
        let hash = front[17..].first_chunk::<16>().map_or(0, |bytes| u128::from_le_bytes(*bytes));
        let given = front[33..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let after = After { key: front[HEAD..].to_vec(), hash, given };
        Ok(Cursor { now: word(9) as i64, after })
    }
}

fn check(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0x7072_6973_6d63_7572)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_back_as_it_was_and_refused_otherwise() {
        let query = prism_dsl::parse_text("from logs last 1h where severity >= error limit 7").unwrap();
        let after = After { key: vec![1, 2, 0, 255], hash: u128::MAX - 5, given: 3 };
        let cursor = Cursor { now: -5, after };
        let text = cursor.write(&query).unwrap();
        assert_eq!(Cursor::read(&text, &query).unwrap(), cursor);
        let longer =
            prism_dsl::parse_text("from logs last 1h where severity >= error limit 70 budget bytes 1GB").unwrap();
        assert_eq!(Cursor::read(&text, &longer).unwrap(), cursor, "pages may differ in length");
        let other = prism_dsl::parse_text("from logs last 1h where severity >= warn limit 7").unwrap();
        assert_eq!(Cursor::read(&text, &other).unwrap_err().code(), code::CURSOR);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(Cursor::read(&changed, &query).is_err(), "{at}");
            assert!(Cursor::read(&text[..at], &query).is_err(), "{at}");
        }
        for bad in ["ü", "=", "AAAA", &text.repeat(2)] {
            assert!(Cursor::read(bad, &query).is_err(), "{bad}");
        }
        let long = Cursor { after: After { key: vec![0; KEY_BYTES_MAX + 1], ..After::default() }, ..cursor };
        assert!(long.write(&query).is_none());
    }
}
