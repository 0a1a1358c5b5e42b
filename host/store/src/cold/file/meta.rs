//! What only Prism knows of a cold file: stands between the page index and Parquet's footer, and is read with it.
//!
//! ```text
//! … row groups, filters, page index | meta (zstd) | trailer, 32 bytes | Parquet footer | its length | PAR1
//! trailer: magic `PRISMCLD` 8, version 2, room 2, meta length 4, meta raw 4, crc32c of meta 4, of Parquet's footer 4, of these 28 bytes 4
//! ```
//! Everything that is read is checked before it is parsed: footers by the trailer, column chunks and filters by checksums here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range as Span;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use prism_model::reshape::default_array;
use prism_model::{ColumnId, Redaction, Signal, TableKind};

use super::filter::Tokens;
use super::unwritable;
use crate::error::{Damage, StoreError};
use crate::frame::buffer;
use crate::frame::column::{double_range, token_key};
use crate::frame::encode::SERVICES_MAX;
use crate::frame::schema::{self, SegmentSchema, Siblings, TableColumn};
use crate::frame::stats::{self, ColumnMeta, Range, SMALL_DICTIONARY, TextRange};
use crate::frame::wire::{Put as _, Take};

/// Bytes of the trailer.
pub(super) const TRAILER: usize = 32;
const MAGIC: [u8; 8] = *b"PRISMCLD";
/// The version that is written here.
pub(super) const VERSION: u16 = 1;
/// Bytes of meta that are believed, unpacked.
const META_BYTES_MAX: usize = 256 << 20;
/// Row groups of a file that are believed; Parquet counts them in 16 bits.
const GROUPS_MAX: usize = 1 << 15;
/// Rows of a table that are believed.
const TABLE_ROWS_MAX: usize = 1 << 31;

/// Bytes of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

impl Stretch {
    /// Where it is.
    pub(super) fn range(&self) -> Span<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.len))
    }
}

/// What is known of a table of a row group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableMeta {
    pub(super) kind: TableKind,
    pub(super) rows: usize,
    /// The columns that hold something else than their default.
    pub(super) columns: Vec<ColumnMeta>,
}

/// What is known of a row group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GroupMeta {
    pub(super) rows: usize,
    pub(super) time_min: i64,
    pub(super) time_max: i64,
    pub(super) services: Option<Vec<Arc<str>>>,
    pub(super) tables: Vec<TableMeta>,
    /// The token filter.
    pub(super) tokens: Stretch,
    /// Keys that it says nothing about.
    pub(super) unknown: BTreeSet<String>,
    /// Bloom filters by dotted path of the column.
    pub(super) blooms: BTreeMap<String, Stretch>,
    /// Cuckoo filters, likewise.
    pub(super) cuckoos: BTreeMap<String, Stretch>,
    /// Of each column chunk, in Parquet's order.
    pub(super) chunks: Vec<u32>,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FileMeta {
    pub(super) signal: Signal,
    pub(super) groups: Vec<GroupMeta>,
    pub(super) received: i64,
    pub(super) redactions: Vec<Redaction>,
    pub(super) cube: Option<Stretch>,
}

impl GroupMeta {
    pub(super) fn table(&self, kind: TableKind) -> Option<&TableMeta> {
        self.tables.iter().find(|t| t.kind == kind)
    }
}

/// Whether every row has the column's default.
pub(super) fn is_default(id: &ColumnId, array: &ArrayRef) -> bool {
    let default = default_array(id, 1);
    if default.is_null(0) {
        return array.null_count() == array.len();
    }
    if array.null_count() > 0 {
        return false;
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().values().iter().all(|v| *v == 0),
        DataType::Int32 => array.as_primitive::<Int32Type>().values().iter().all(|v| *v == 0),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().values().iter().all(|v| *v == 0),
        DataType::Float64 => {
            let one = default.as_primitive::<Float64Type>().value(0).to_bits();
            array.as_primitive::<Float64Type>().values().iter().all(|v| v.to_bits() == one)
        }
        DataType::Boolean => array.as_boolean().true_count() == 0,
        _ => false,
    }
}

/// The statistics of a column of ADR 0001, and its tokens. A dictionary must hold values that are used only.
pub(super) fn measure(id: &ColumnId, array: &ArrayRef, tokens: Option<&mut Tokens>) -> Result<ColumnMeta, StoreError> {
    let mut meta = ColumnMeta { id: id.clone(), null_count: array.null_count() as u32, range: None, dictionary: None };
    fn ints<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &ArrayRef) -> Option<Range> {
        let array = array.as_primitive::<T>();
        let wider = |range: (i64, i64), v: i64| (range.0.min(v), range.1.max(v));
        let (min, max) = match array.nulls() {
            None => array.values().iter().map(|v| (*v).into()).fold((i64::MAX, i64::MIN), wider),
            Some(_) => array.iter().flatten().map(Into::into).fold((i64::MAX, i64::MIN), wider),
        };
        (min <= max).then_some(Range::Int { min, max })
    }
    match array.data_type() {
        _ if array.null_count() == array.len() => {}
        DataType::Int64 => meta.range = ints::<Int64Type>(array),
        DataType::Int32 => meta.range = ints::<Int32Type>(array),
        DataType::UInt32 => meta.range = ints::<UInt32Type>(array),
        DataType::UInt8 => meta.range = ints::<UInt8Type>(array),
        DataType::Float64 => meta.range = double_range(array.as_primitive::<Float64Type>().iter().flatten()),
        DataType::Boolean => {
            let (trues, falses) = (array.as_boolean().true_count(), array.as_boolean().false_count());
            meta.range = Some(Range::Bool { any_true: trues > 0, any_false: falses > 0 });
        }
        DataType::Utf8 => measure_texts(&mut meta, array.as_string::<i32>().iter().flatten(), tokens),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<UInt32Type>();
            let mut used = vec![false; dictionary.values().len()];
            dictionary.keys().iter().flatten().for_each(|k| used[k as usize] = true);
            let values = dictionary.values().as_string::<i32>();
            let texts = || (0..used.len()).filter(|i| used[*i]).map(|i| values.value(i));
            let (count, bytes) = texts().fold((0, 0), |(n, bytes), t| (n + 1, bytes + t.len()));
            if count <= SMALL_DICTIONARY.values && bytes <= SMALL_DICTIONARY.bytes {
                meta.dictionary = Some(texts().map(Arc::from).collect());
            }
            measure_texts(&mut meta, texts(), tokens);
        }
        DataType::FixedSizeBinary(_) | DataType::Binary | DataType::List(_) => {}
        other => return Err(unwritable(format!("column `{id}` has type {other}"))),
    }
    Ok(meta)
}

fn measure_texts<'a>(meta: &mut ColumnMeta, texts: impl Iterator<Item = &'a str> + Clone, tokens: Option<&mut Tokens>) {
    meta.range = TextRange::of(texts.clone()).map(Range::Text);
    if let (Some(key), Some(tokens)) = (token_key(&meta.id), tokens) {
        tokens.texts(key, texts);
    }
}

/// The meta and its trailer, for a file whose Parquet footer is `footer`.
pub(super) fn encode(meta: &FileMeta, footer: &[u8]) -> Result<Vec<u8>, StoreError> {
    let raw = put(meta);
    let mut out = Vec::new();
    if !buffer::compress(&raw, 3, &mut out)? {
        out = raw.clone();
    }
    let (len, crc) = (u32::try_from(out.len()).map_err(unwritable)?, crc32c::crc32c(&out));
    let mut trailer = Vec::with_capacity(TRAILER);
    trailer.extend_from_slice(&MAGIC);
    trailer.u16(VERSION);
    trailer.u16(0);
    trailer.u32(len);
    trailer.u32(u32::try_from(raw.len()).map_err(unwritable)?);
    trailer.u32(crc);
    trailer.u32(crc32c::crc32c(footer));
    trailer.u32(crc32c::crc32c(&trailer));
    out.extend_from_slice(&trailer);
    Ok(out)
}

/// What a trailer says.
pub(super) struct Trailer {
    pub(super) meta_len: usize,
    meta_raw: usize,
    meta_crc: u32,
    footer_crc: u32,
}

impl Trailer {
    /// Reads it.
    pub(super) fn read(bytes: &[u8; TRAILER]) -> Result<Trailer, Damage> {
        let (head, crc) = bytes.split_at(TRAILER - 4);
        if !head.starts_with(&MAGIC) {
            return Err(Damage::NotOurs("the file"));
        }
        if Take::new(crc, "trailer").u32()? != crc32c::crc32c(head) {
            return Err(Damage::Checksum("trailer"));
        }
        let mut take = Take::new(&head[MAGIC.len()..], "trailer");
        Damage::version("the cold file", take.u16()?, VERSION)?;
        take.u16()?;
        let (meta_len, meta_raw) = (take.u32()? as usize, take.u32()? as usize);
        if meta_raw > META_BYTES_MAX {
            return Err(Damage::Bounds("length of a cold file's meta"));
        }
        Ok(Trailer { meta_len, meta_raw, meta_crc: take.u32()?, footer_crc: take.u32()? })
    }

    /// Whether Parquet's footer is the one that was written.
    pub(super) fn check(&self, footer: &[u8]) -> Result<(), Damage> {
        if crc32c::crc32c(footer) == self.footer_crc { Ok(()) } else { Err(Damage::Checksum("Parquet footer")) }
    }

    /// The meta out of its bytes.
    pub(super) fn meta(&self, bytes: &[u8]) -> Result<FileMeta, Damage> {
        if crc32c::crc32c(bytes) != self.meta_crc {
            return Err(Damage::Checksum("meta"));
        }
        if bytes.len() == self.meta_raw {
            return take(bytes);
        }
        take(&buffer::decompress(bytes, self.meta_raw)?)
    }
}

fn put(meta: &FileMeta) -> Vec<u8> {
    let mut out = Vec::new();
    out.u8(meta.signal as u8);
    let mut columns: Vec<TableColumn> = Vec::new();
    let mut numbers: std::collections::HashMap<TableColumn, u64> = std::collections::HashMap::new();
    for table in meta.groups.iter().flat_map(|g| &g.tables) {
        for column in &table.columns {
            let id = (table.kind, column.id.clone());
            if !numbers.contains_key(&id) {
                numbers.insert(id.clone(), columns.len() as u64);
                columns.push(id);
            }
        }
    }
    let (block, _) = SegmentSchema::default().block(&columns, &Siblings::new());
    out.text(&block);
    out.var(meta.groups.len() as u64);
    for group in &meta.groups {
        put_group(group, &numbers, &mut out);
    }
    out.i64(meta.received);
    out.var(meta.redactions.len() as u64);
    for r in &meta.redactions {
        [&r.plugin, &r.version, &r.label].into_iter().for_each(|t| out.text(t.as_bytes()));
        out.var(r.count);
    }
    out.u8(u8::from(meta.cube.is_some()));
    put_stretch(&meta.cube.unwrap_or_default(), &mut out);
    out
}

fn put_group(group: &GroupMeta, numbers: &std::collections::HashMap<TableColumn, u64>, out: &mut Vec<u8>) {
    out.var(group.rows as u64);
    out.i64(group.time_min);
    out.i64(group.time_max);
    out.var(group.services.as_ref().map_or(0, |s| s.len() as u64 + 1));
    group.services.iter().flatten().for_each(|s| out.text(s.as_bytes()));
    out.var(group.tables.len() as u64);
    for table in &group.tables {
        out.u8(table.kind as u8);
        out.var(table.rows as u64);
        out.var(table.columns.len() as u64);
        for column in &table.columns {
            out.var(numbers.get(&(table.kind, column.id.clone())).copied().unwrap_or_default());
            out.var(u64::from(column.null_count));
            stats::put(column, out);
        }
    }
    put_stretch(&group.tokens, out);
    out.var(group.unknown.len() as u64);
    group.unknown.iter().for_each(|k| out.text(k.as_bytes()));
    for filters in [&group.blooms, &group.cuckoos] {
        out.var(filters.len() as u64);
        for (name, stretch) in filters {
            out.text(name.as_bytes());
            put_stretch(stretch, out);
        }
    }
    out.var(group.chunks.len() as u64);
    group.chunks.iter().for_each(|crc| out.u32(*crc));
}

fn put_stretch(stretch: &Stretch, out: &mut Vec<u8>) {
    out.u64(stretch.offset);
    out.u32(stretch.len);
    out.u32(stretch.crc);
}

fn take(bytes: &[u8]) -> Result<FileMeta, Damage> {
    let mut take = Take::new(bytes, "meta");
    let signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or(Damage::Bounds("signal"))?;
    let (columns, _) = schema::read(take.text()?, &mut Vec::new())?;
    let count = take.var_max(GROUPS_MAX)?;
    let mut groups: Vec<GroupMeta> = Vec::new();
    for _ in 0..count {
        let group = take_group(&mut take, &columns, groups.last())?;
        groups.push(group);
    }
    let received = take.i64()?;
    let count = take.var_max(take.left() / 4)?;
    let redactions = (0..count).map(|_| {
        let mut text = || take.string().map(str::to_owned);
        Ok(Redaction { plugin: text()?, version: text()?, label: text()?, count: take.var()? })
    });
    let redactions = redactions.collect::<Result<_, Damage>>()?;
    let has_cube = take.u8()? == 1;
    let cube = Some(take_stretch(&mut take)?).filter(|_| has_cube);
    take.end()?;
    Ok(FileMeta { signal, groups, received, redactions, cube })
}

fn take_group(take: &mut Take<'_>, columns: &[TableColumn], like: Option<&GroupMeta>) -> Result<GroupMeta, Damage> {
    let rows = take.var_max(TABLE_ROWS_MAX)?;
    let (time_min, time_max) = (take.i64()?, take.i64()?);
    let services = match take.var_max(SERVICES_MAX + 1)? {
        0 => None,
        n => Some((1..n).map(|_| take.string().map(Arc::from)).collect::<Result<_, _>>()?),
    };
    let count = take.var_max(TableKind::ALL.len())?;
    let mut tables = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = TableKind::from_u8(take.u8()?).ok_or(Damage::Bounds("table"))?;
        let rows = take.var_max(TABLE_ROWS_MAX)?;
        let count = take.var_max(columns.len())?;
        let mut own = Vec::with_capacity(count);
        for _ in 0..count {
            let (of, id) = columns.get(take.var_max(columns.len())?).ok_or(Damage::Bounds("number of a column"))?;
            if *of != kind {
                return Err(Damage::Bounds("column of a table"));
            }
            let nulls = take.var_max(rows)? as u32;
            let mut meta = stats::take(take, id.clone(), nulls)?;
            let same = like.and_then(|l| l.table(kind)).and_then(|t| t.columns.iter().find(|c| c.id == *id));
            same.into_iter().for_each(|same| meta.share(same));
            own.push(meta);
        }
        tables.push(TableMeta { kind, rows, columns: own });
    }
    let tokens = take_stretch(take)?;
    let count = take.var_max(take.left())?;
    let unknown = (0..count).map(|_| take.string().map(str::to_owned)).collect::<Result<_, _>>()?;
    let mut filters = || {
        let count = take.var_max(take.left())?;
        (0..count).map(|_| Ok((take.string()?.to_owned(), take_stretch(take)?))).collect::<Result<_, Damage>>()
    };
    let (blooms, cuckoos) = (filters()?, filters()?);
    let count = take.var_max(take.left() / 4)?;
    let chunks = (0..count).map(|_| take.u32()).collect::<Result<_, _>>()?;
    Ok(GroupMeta { rows, time_min, time_max, services, tables, tokens, unknown, blooms, cuckoos, chunks })
}

fn take_stretch(take: &mut Take<'_>) -> Result<Stretch, Damage> {
    Ok(Stretch { offset: take.u64()?, len: take.u32()?, crc: take.u32()? })
}
