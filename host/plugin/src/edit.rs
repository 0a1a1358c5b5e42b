//! What a redactor answered, checked like network input, as changes to the entries of sources.
//!
//! Not here: how changes are put into columns (`apply`).

use crate::bindings::base::Dtype;
use crate::bindings::columns::ValuesResult;
use crate::bindings::redactor::exports::prism::plugin::redacting::Edit;
use crate::change::Change;
use crate::error::{Failure, lied};
use crate::source::Sources;
use crate::view::View;

/// A checked change.
pub(crate) struct Found {
    pub(crate) source: u32,
    pub(crate) entry: u32,
    pub(crate) label: u8,
    pub(crate) change: Change,
}

/// Checks every edit of a call. Entries that are null, or stand for nothing, are passed over.
///
/// # Errors
/// The first rule that the answer breaks; then none of it may be used.
pub(crate) fn check(edits: Vec<Edit>, view: &View, sources: &Sources, labels: usize) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for edit in edits {
        let (t, c) = (edit.table, edit.column);
        let Some(table) = view.tables.get(t as usize) else {
            return Err(lied(format!("table {t} of {}", view.tables.len())));
        };
        let Some(column) = table.columns.get(c as usize) else {
            return Err(lied(format!("column {c} of {}", table.columns.len())));
        };
        if !seen.insert((t, c)) {
            return Err(lied(format!("two edits of column {c} of table {t}")));
        }
        if edit.at.is_empty() && edit.cleared.is_empty() {
            if edit.labels.is_empty() { continue } else { return Err(lied("labels without changes")) }
        }
        if column.back.is_empty() {
            return Err(lied(format!("column {c} of table {t} cannot be edited")));
        }
        check_positions("at", &edit.at, column.entries)?;
        check_positions("cleared", &edit.cleared, column.entries)?;
        if let Some(both) = in_both(&edit.at, &edit.cleared) {
            return Err(lied(format!("entry {both} is in `at` and in `cleared`")));
        }
        let changes = edit.at.len() + edit.cleared.len();
        if edit.labels.len() != changes {
            return Err(lied(format!("expected {changes} labels, found {}", edit.labels.len())));
        }
        if let Some(label) = edit.labels.iter().find(|&&l| usize::from(l) >= labels) {
            return Err(lied(format!("label {label} of {labels}")));
        }
        let dtype = view.fields.get(column.field as usize).map(|f| f.dtype);
        let news = new_values(edit.values, edit.at.len(), dtype)?;
        let cleared = edit.cleared.iter().map(|_| Change::Clear);
        let positions = edit.at.iter().chain(&edit.cleared);
        for ((&at, change), &label) in positions.zip(news.into_iter().chain(cleared)).zip(&edit.labels) {
            let Some((source, entry)) = column.origin(at) else { continue };
            let known = sources.list.get(source as usize).map(|s| &s.entries);
            if known.is_some_and(|e| (entry as usize) < e.len() && !e.is_null(entry as usize)) {
                found.push(Found { source, entry, label, change });
            }
        }
    }
    Ok(found)
}

fn check_positions(what: &str, positions: &[u32], entries: usize) -> Result<(), Failure> {
    if let Some(pair) = positions.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(lied(format!("`{what}` does not ascend: {} before {}", pair[0], pair[1])));
    }
    match positions.last() {
        Some(&last) if last as usize >= entries => Err(lied(format!("`{what}` names entry {last} of {entries}"))),
        _ => Ok(()),
    }
}

/// An element of both ascending lists.
fn in_both(a: &[u32], b: &[u32]) -> Option<u32> {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => return Some(a[i]),
        }
    }
    None
}

fn new_values(values: ValuesResult, count: usize, dtype: Option<Dtype>) -> Result<Vec<Change>, Failure> {
    let counted = |found: usize| {
        if found == count { Ok(()) } else { Err(lied(format!("expected {count} values, found {found}"))) }
    };
    match (values, dtype) {
        (ValuesResult::Utf8(bytes), Some(Dtype::Utf8)) => {
            let texts = check_texts(&bytes.offsets, &bytes.data, count)?;
            Ok(texts.map(|t| Change::Text(t.to_owned())).collect())
        }
        (ValuesResult::Binary(bytes), Some(Dtype::Binary)) => {
            check_offsets(&bytes.offsets, bytes.data.len(), count)?;
            Ok(bytes
                .offsets
                .windows(2)
                .map(|o| Change::Bytes(bytes.data[o[0] as usize..o[1] as usize].to_vec()))
                .collect())
        }
        (ValuesResult::S64s(ints), Some(Dtype::Int64)) => {
            counted(ints.len())?;
            Ok(ints.into_iter().map(Change::Int).collect())
        }
        (ValuesResult::F64s(doubles), Some(Dtype::Float64)) => {
            counted(doubles.len())?;
            Ok(doubles.into_iter().map(Change::Double).collect())
        }
        // Where only entries are cleared there is nothing to type; any empty list will do.
        (values, _) if count == 0 && is_empty(&values) => Ok(Vec::new()),
        _ => Err(lied("the new values are not of the column's type")),
    }
}

fn is_empty(values: &ValuesResult) -> bool {
    match values {
        ValuesResult::Bools(v) => v.is_empty(),
        ValuesResult::S32s(v) => v.is_empty(),
        ValuesResult::U32s(v) => v.is_empty(),
        ValuesResult::S64s(v) => v.is_empty(),
        ValuesResult::U64s(v) => v.is_empty(),
        ValuesResult::F64s(v) => v.is_empty(),
        ValuesResult::Utf8(v) | ValuesResult::Binary(v) => v.data.is_empty() && v.offsets.len() <= 1,
        ValuesResult::Fixed(v) => v.data.is_empty(),
        ValuesResult::U64List(v) => v.data.is_empty() && v.offsets.len() <= 1,
        ValuesResult::F64List(v) => v.data.is_empty() && v.offsets.len() <= 1,
    }
}

/// Checks offsets of `count` values over `len` bytes.
pub(crate) fn check_offsets(offsets: &[u32], len: usize, count: usize) -> Result<(), Failure> {
    if offsets.is_empty() && count == 0 && len == 0 {
        return Ok(());
    }
    if offsets.len() != count + 1 {
        return Err(lied(format!("expected {} offsets, found {}", count + 1, offsets.len())));
    }
    if offsets[0] != 0 || offsets[count] as usize != len {
        return Err(lied(format!("offsets span {}..{} of {len} bytes", offsets[0], offsets[count])));
    }
    match offsets.windows(2).find(|pair| pair[0] > pair[1]) {
        Some(pair) => Err(lied(format!("offsets descend from {} to {}", pair[0], pair[1]))),
        None => Ok(()),
    }
}

/// Checks `count` texts, each of which must be UTF-8 by itself.
pub(crate) fn check_texts<'a>(
    offsets: &'a [u32],
    data: &'a [u8],
    count: usize,
) -> Result<impl Iterator<Item = &'a str>, Failure> {
    check_offsets(offsets, data.len(), count)?;
    let whole =
        std::str::from_utf8(data).map_err(|e| lied(format!("text is not UTF-8 at byte {}", e.valid_up_to())))?;
    if let Some(cut) = offsets.iter().find(|&&o| !whole.is_char_boundary(o as usize)) {
        return Err(lied(format!("offset {cut} cuts a character")));
    }
    Ok(offsets.windows(2).map(move |o| &whole[o[0] as usize..o[1] as usize]))
}
