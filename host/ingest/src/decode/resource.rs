//! Resources and scopes: read once per distinct message, however many items point to them.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::UInt32Type;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use prism_model::value::write_string;
use prism_model::{Column, Intrinsic, Table, TableKind};

use super::any_value::check_entry;
use super::{Context, Stop, attribute};
use crate::columns::ColumnError;
use crate::columns::attributes::Attributes;
use crate::columns::scalar::{Scalars, zero_filled};
use crate::columns::text::Texts;
use crate::wire::{LEN, LEN_1, LEN_2, LEN_3, LEN_4, Reader, Result as WireResult, VARINT, key, known, utf8};

/// Columns of a table as they are finished: name and values, `None` where every row has the default.
pub(crate) fn columns(of: impl IntoIterator<Item = (Intrinsic, Option<ArrayRef>)>) -> Vec<Column> {
    let present = |(id, array): (Intrinsic, Option<ArrayRef>)| array.map(|array| Column { id: id.into(), array });
    of.into_iter().filter_map(present).collect()
}

/// Takes a text field of a message: the last occurrence counts, the ones before are checked as prost checks them.
#[inline(always)]
pub(crate) fn replace<'a>(field: &mut &'a [u8], with: &'a [u8]) -> WireResult<()> {
    if !field.is_empty() {
        utf8(field)?;
    }
    *field = with;
    Ok(())
}

/// Row numbers that repeat for runs of items.
#[derive(Default)]
pub(crate) struct Runs(Vec<(u32, u32)>);

impl Runs {
    /// The next `count` items point to `row`.
    pub(crate) fn push(&mut self, row: u32, count: u32) {
        self.0.push((row, count));
    }

    /// The column; `None` where all point to row 0.
    pub(crate) fn finish(&self) -> Option<ArrayRef> {
        if self.0.iter().all(|(row, _)| *row == 0) {
            return None;
        }
        let rows = self.0.iter().flat_map(|&(row, count)| std::iter::repeat_n(row, count as usize));
        Some(Arc::new(UInt32Array::from_iter_values(rows)))
    }
}

/// Which messages have a row already, by their bytes and the schema URL beside them.
#[derive(Default)]
struct Seen<'a> {
    messages: Vec<(Cow<'a, [u8]>, &'a [u8])>,
    rows: HashTable<u32>,
    hasher: RandomState,
}

impl<'a> Seen<'a> {
    /// The row of a message, and whether it is a new one.
    fn row(&mut self, message: Cow<'a, [u8]>, schema_url: &'a [u8]) -> (u32, bool) {
        let hash = self.hasher.hash_one((&*message, schema_url));
        let (messages, hasher) = (&self.messages, &self.hasher);
        let same = |&row: &u32| {
            let (bytes, url) = &messages[row as usize];
            **bytes == *message && *url == schema_url
        };
        if let Some(&row) = self.rows.find(hash, same) {
            return (row, false);
        }
        let row = messages.len() as u32;
        self.rows.insert_unique(hash, row, |&row| {
            let (bytes, url) = &messages[row as usize];
            hasher.hash_one((&**bytes, *url))
        });
        self.messages.push((message, schema_url));
        (row, true)
    }
}

const ATTRIBUTES: u32 = key(1, LEN);
const DROPPED: u32 = key(2, VARINT);
const ENTITY_REF: u32 = key(3, LEN);
const RESOURCE_KNOWN: u32 = known(&[1, 2, 3]);

/// The resources table while it grows.
pub(crate) struct Resources<'a> {
    seen: Seen<'a>,
    attributes: Attributes,
    dropped: Scalars<u32>,
    schema_url: Texts,
    entity_refs: Texts,
}

impl<'a> Resources<'a> {
    pub(crate) fn new(context: &Context) -> Resources<'a> {
        Resources {
            seen: Seen::default(),
            attributes: Attributes::new(TableKind::Resources, context.columns_max),
            dropped: Scalars::default(),
            schema_url: Texts::default(),
            entity_refs: Texts::default(),
        }
    }

    /// The row of a `Resource` message.
    pub(crate) fn intern(
        &mut self,
        message: Option<Cow<'a, [u8]>>,
        schema_url: &'a [u8],
        context: &mut Context,
    ) -> Result<u32, Stop> {
        let (row, new) = self.seen.row(message.unwrap_or_default(), schema_url);
        if !new {
            return Ok(row);
        }
        self.attributes.start_record();
        let mut dropped = 0;
        let mut refs = String::new();
        let mut reader = Reader::new(&self.seen.messages[row as usize].0);
        while let Some(key) = reader.next()? {
            match key {
                ATTRIBUTES => {
                    attribute::push(&mut self.attributes, TableKind::Resources, row, reader.bytes()?, context)?;
                }
                DROPPED => dropped = reader.varint()? as u32,
                ENTITY_REF => write_entity_ref(reader.bytes()?, &mut refs)?,
                other => reader.skip(other, RESOURCE_KNOWN)?,
            }
        }
        self.dropped.push_unless(row, dropped, 0);
        self.schema_url.push_unless_empty(row, schema_url);
        if !refs.is_empty() {
            refs.push(']');
            self.entity_refs.push(row, refs.as_bytes());
        }
        Ok(row)
    }

    pub(crate) fn finish(self, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.seen.messages.len();
        let mut all = columns([
            (Intrinsic::DroppedAttributes, zero_filled::<UInt32Type>(self.dropped, rows)),
            (Intrinsic::SchemaUrl, self.schema_url.finish(rows)?),
            (Intrinsic::EntityRefs, self.entity_refs.finish(rows)?),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Resources, rows, all)?)
    }
}

/// Refuses a `Resource` that no item points to, where prost would.
pub(crate) fn check_resource(message: &[u8], context: &Context) -> WireResult<()> {
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTES => check_entry(reader.bytes()?, context.depth_max)?,
            DROPPED => drop(reader.varint()?),
            ENTITY_REF => write_entity_ref(reader.bytes()?, &mut String::new())?,
            other => reader.skip(other, RESOURCE_KNOWN)?,
        }
    }
    Ok(())
}

/// Appends an `EntityRef` to the text form of a list of maps; the closing bracket is missing.
fn write_entity_ref(message: &[u8], out: &mut String) -> WireResult<()> {
    let (mut schema_url, mut ty, mut ids, mut descriptions) = ("", "", Vec::new(), Vec::new());
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            LEN_1 => schema_url = reader.text()?,
            LEN_2 => ty = reader.text()?,
            LEN_3 => ids.push(reader.text()?),
            LEN_4 => descriptions.push(reader.text()?),
            other => reader.skip(other, known(&[1, 2, 3, 4]))?,
        }
    }
    out.push_str(if out.is_empty() { "[{\"schema_url\":" } else { ",{\"schema_url\":" });
    write_string(schema_url, out);
    out.push_str(",\"type\":");
    write_string(ty, out);
    for (name, keys) in [("id_keys", ids), ("description_keys", descriptions)] {
        out.push(',');
        write_string(name, out);
        out.push_str(":[");
        for (i, key) in keys.into_iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_string(key, out);
        }
        out.push(']');
    }
    out.push('}');
    Ok(())
}

const SCOPE_NAME: u32 = key(1, LEN);
const SCOPE_VERSION: u32 = key(2, LEN);
const SCOPE_ATTRIBUTES: u32 = key(3, LEN);
const SCOPE_DROPPED: u32 = key(4, VARINT);
const SCOPE_KNOWN: u32 = known(&[1, 2, 3, 4]);

/// The scopes table while it grows.
pub(crate) struct Scopes<'a> {
    seen: Seen<'a>,
    attributes: Attributes,
    name: Texts,
    version: Texts,
    dropped: Scalars<u32>,
    schema_url: Texts,
}

impl<'a> Scopes<'a> {
    pub(crate) fn new(context: &Context) -> Scopes<'a> {
        Scopes {
            seen: Seen::default(),
            attributes: Attributes::new(TableKind::Scopes, context.columns_max),
            name: Texts::default(),
            version: Texts::default(),
            dropped: Scalars::default(),
            schema_url: Texts::default(),
        }
    }

    /// The row of an `InstrumentationScope` message.
    pub(crate) fn intern(
        &mut self,
        message: Option<Cow<'a, [u8]>>,
        schema_url: &'a [u8],
        context: &mut Context,
    ) -> Result<u32, Stop> {
        let (row, new) = self.seen.row(message.unwrap_or_default(), schema_url);
        if !new {
            return Ok(row);
        }
        self.attributes.start_record();
        let (mut name, mut version, mut dropped): (&[u8], &[u8], u32) = (&[], &[], 0);
        let mut reader = Reader::new(&self.seen.messages[row as usize].0);
        while let Some(key) = reader.next()? {
            match key {
                SCOPE_NAME => replace(&mut name, reader.bytes()?)?,
                SCOPE_VERSION => replace(&mut version, reader.bytes()?)?,
                SCOPE_ATTRIBUTES => {
                    attribute::push(&mut self.attributes, TableKind::Scopes, row, reader.bytes()?, context)?;
                }
                SCOPE_DROPPED => dropped = reader.varint()? as u32,
                other => reader.skip(other, SCOPE_KNOWN)?,
            }
        }
        self.name.push_unless_empty(row, name);
        self.version.push_unless_empty(row, version);
        self.dropped.push_unless(row, dropped, 0);
        self.schema_url.push_unless_empty(row, schema_url);
        Ok(row)
    }

    pub(crate) fn finish(self, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.seen.messages.len();
        let mut all = columns([
            (Intrinsic::Name, self.name.finish(rows)?),
            (Intrinsic::Version, self.version.finish(rows)?),
            (Intrinsic::DroppedAttributes, zero_filled::<UInt32Type>(self.dropped, rows)),
            (Intrinsic::SchemaUrl, self.schema_url.finish(rows)?),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Scopes, rows, all)?)
    }
}

/// Refuses an `InstrumentationScope` that no item points to, where prost would.
pub(crate) fn check_scope(message: &[u8], context: &Context) -> WireResult<()> {
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            SCOPE_NAME | SCOPE_VERSION => drop(reader.text()?),
            SCOPE_ATTRIBUTES => check_entry(reader.bytes()?, context.depth_max)?,
            SCOPE_DROPPED => drop(reader.varint()?),
            other => reader.skip(other, SCOPE_KNOWN)?,
        }
    }
    Ok(())
}
