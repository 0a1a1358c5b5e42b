//! One column as buffers, and back: `write`, the line in the directory (here), `read`.
//!
//! Only values that are there are written: what lies under a null, and dictionary values that no row uses, may be what a
//! redactor took out (PL-1), and costs bytes.

mod write;
mod read;

pub(super) use read::{decode, has_numbers, has_texts, numbers, rows_of_int, texts, values, values_buffer};
pub(super) use write::{Encoder, encode};
pub(crate) use write::{double_range, token_key};

use super::buffer::{Buffer, Lines};
use super::header::FRAME_BYTES_MAX;
use super::ints::IntForm;
use super::wire::Take;
use crate::error::Damage;

const NULLS: u8 = 0;
const BOOLS: u8 = 1;
const INTS: u8 = 2;
const DOUBLES: u8 = 3;
const FIXED: u8 = 4;
const BYTES: u8 = 5;
const DICTIONARY: u8 = 6;
const INT_LISTS: u8 = 7;
const DOUBLE_LISTS: u8 = 8;
/// From version 2 of a frame on.
const FIXED_DICTIONARY: u8 = 9;

/// Values of all lists of a column that are written and believed: as many as there are in the largest buffer.
const LIST_VALUES_MAX: usize = FRAME_BYTES_MAX as usize / 8;

/// Where the buffers of a column are and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnDir {
    layout: u8,
    nulls: u32,
    validity: Option<Buffer>,
    /// Numbers, lengths, or keys.
    form: Option<IntForm>,
    main: Option<Buffer>,
    /// Bytes of plain values.
    second: Option<Buffer>,
    /// How many values a dictionary or all lists have.
    values: u32,
    /// Lengths of a dictionary's values, or the numbers in lists.
    values_form: Option<IntForm>,
    /// Lengths and bytes of the values of a dictionary, or the bytes of ids; the values of lists.
    third: Option<Buffer>,
}

impl ColumnDir {
    pub(super) fn nulls(&self) -> u32 {
        self.nulls
    }

    /// The buffer that holds nothing but values as they are, one after the other; `None` where there is no such.
    pub(super) fn plain_values(&self) -> Option<Buffer> {
        match self.layout {
            FIXED => self.main,
            BYTES => self.second,
            _ => None,
        }
    }

    /// The buffers that must be fetched, in the order of the payload.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = Buffer> {
        [self.validity, self.main, self.second, self.third].into_iter().flatten()
    }
}

/// Reads a column's line of the directory.
pub(super) fn take(take: &mut Take<'_>, lines: &mut Lines, rows: usize) -> Result<ColumnDir, Damage> {
    let layout = take.u8()?;
    let nulls = take.var_max(rows)? as u32;
    let mut dir = ColumnDir {
        layout,
        nulls,
        validity: None,
        form: None,
        main: None,
        second: None,
        values: 0,
        values_form: None,
        third: None,
    };
    if layout == NULLS {
        return if nulls as usize == rows { Ok(dir) } else { Err(Damage::Bounds("nulls of a column")) };
    }
    if nulls > 0 {
        dir.validity = Some(lines.take(take)?);
    }
    if matches!(layout, INTS | BYTES | DICTIONARY | INT_LISTS | DOUBLE_LISTS | FIXED_DICTIONARY) {
        dir.form = Some(IntForm::take(take)?);
    }
    dir.main = Some(lines.take(take)?);
    match layout {
        BOOLS | INTS | DOUBLES | FIXED => {}
        BYTES => dir.second = Some(lines.take(take)?),
        DICTIONARY => {
            dir.values = take.var_max(rows - nulls as usize)? as u32;
            dir.values_form = Some(IntForm::take(take)?);
            dir.third = Some(lines.take(take)?);
        }
        FIXED_DICTIONARY => {
            dir.values = take.var_max(rows - nulls as usize)? as u32;
            dir.third = Some(lines.take(take)?);
        }
        INT_LISTS | DOUBLE_LISTS => {
            dir.values = take.var_max(LIST_VALUES_MAX)? as u32;
            if layout == INT_LISTS {
                dir.values_form = Some(IntForm::take(take)?);
            }
            dir.third = Some(lines.take(take)?);
        }
        _ => return Err(Damage::Bounds("layout of a column")),
    }
    Ok(dir)
}
