//! A frame's bytes become what can be asked without its payload ([`FrameMeta`]), and rows.

mod values;

use std::borrow::Cow;
use std::sync::Arc;

use prism_model::{Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};

use super::again::{self, Stored, StoredValues};
use super::buffer::{self, Buffer, Lines};
use super::column::{self, ColumnDir};
use super::crypt::{Blocks, DataKey, Place};
use super::encode::SERVICES_MAX;
use super::header::{FRAME_HEADER, FrameHeader};
use super::origins;
use super::schema::{self, Siblings, TableColumn};
use super::stats::{self, ColumnMeta};
use super::wire::Take;
use crate::error::Damage;

/// Rows of one table that are believed.
const TABLE_ROWS_MAX: usize = 1 << 26;

/// A frame's header, statistics and directory.
#[derive(Debug)]
pub(crate) struct FrameMeta {
    pub(crate) header: FrameHeader,
    pub(crate) signal: Signal,
    pub(crate) services: Option<Arc<[Arc<str>]>>,
    /// Its segment's, where that is encrypted.
    key: Option<Arc<DataKey>>,
    tables: Vec<TableMeta>,
    origins: Buffer,
    /// The lines of the directory as they stand on disk: a tenth of what they take when they are read.
    lines: Box<[u8]>,
}

#[derive(Debug)]
struct TableMeta {
    kind: TableKind,
    rows: usize,
    columns: Vec<ColumnMeta>,
    /// Of each column.
    directory: Vec<Line>,
}

/// A column's line of the directory.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Where it begins in the lines.
    at: u32,
    /// Where the column's buffers begin in the payload.
    offset: u64,
}

impl FrameMeta {
    /// Opens schema and meta as they are stored, one behind the other; `key` is the segment's, where it is encrypted. `known`
    /// are the columns that the segment defined before: those that this frame defines are added, none where it fails. What
    /// stands in `like` too, a frame of the same segment, is shared with it: low-cardinality texts repeat from frame to frame.
    pub(crate) fn open(
        header: FrameHeader,
        stored: &[u8],
        key: Option<&Arc<DataKey>>,
        known: &mut Vec<TableColumn>,
        like: Option<&FrameMeta>,
    ) -> Result<(FrameMeta, Siblings), Damage> {
        if crc32c::crc32c(stored) != header.head_crc {
            return Err(Damage::Checksum("frame meta"));
        }
        let blocks = Blocks::open(&header, key.map(|k| &**k))?;
        let (schema, meta) = stored.split_at_checked(header.schema_len as usize).ok_or(Damage::Short("frame meta"))?;
        let (schema, meta) = (blocks.take(Place::Schema, schema)?, blocks.take(Place::Meta, meta)?);
        let before = known.len();
        let (columns, siblings) = schema::read(&schema, known)?;
        match FrameMeta::read(header, &meta, key, &columns, like) {
            Ok(meta) => Ok((meta, siblings)),
            Err(damage) => {
                known.truncate(before);
                Err(damage)
            }
        }
    }

    /// Reads the meta block; `columns` are the frame's, in its order.
    pub(super) fn read(
        header: FrameHeader,
        meta: &[u8],
        key: Option<&Arc<DataKey>>,
        columns: &[TableColumn],
        like: Option<&FrameMeta>,
    ) -> Result<FrameMeta, Damage> {
        let raw = buffer::unpack(meta, header.meta_raw)?;
        FrameMeta::read_raw(header, &raw, key, columns, like)
    }

    /// [`FrameMeta::read`] of an unpacked block.
    pub(crate) fn read_raw(
        header: FrameHeader,
        raw: &[u8],
        key: Option<&Arc<DataKey>>,
        columns: &[TableColumn],
        like: Option<&FrameMeta>,
    ) -> Result<FrameMeta, Damage> {
        let mut take = Take::new(raw, "frame meta");
        let signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or(Damage::Bounds("signal"))?;
        let mut lines = Lines::new(&header);
        let origins = lines.take(&mut take)?;
        let services = match take.var_max(SERVICES_MAX + 1)? {
            0 => None,
            n => Some((1..n).map(|_| take.string().map(Arc::from)).collect::<Result<_, _>>()?),
        };
        let mut columns = columns.iter();
        let count = take.var_max(TableKind::ALL.len())?;
        let mut tables = Vec::with_capacity(count);
        let mut kept = Vec::new();
        for _ in 0..count {
            let kind = TableKind::from_u8(take.u8()?).ok_or(Damage::Bounds("table"))?;
            let rows = take.var_max(TABLE_ROWS_MAX)?;
            let count = take.var_max(columns.len())?;
            let mut table =
                TableMeta { kind, rows, columns: Vec::with_capacity(count), directory: Vec::with_capacity(count) };
            for (table_of, id) in columns.by_ref().take(count) {
                if *table_of != kind {
                    return Err(Damage::Bounds("column of a table"));
                }
                let line = Line { at: kept.len() as u32, offset: lines.total() };
                let from = raw.len() - take.left();
                let dir = column::take(&mut take, &mut lines, rows)?;
                kept.extend_from_slice(&raw[from..raw.len() - take.left()]);
                let mut meta = stats::take(&mut take, id.clone(), dir.nulls())?;
                if let Some(like) = like.and_then(|like| like.column(kind, table.columns.len(), id)) {
                    meta.share(like);
                }
                table.columns.push(meta);
                table.directory.push(line);
            }
            tables.push(table);
        }
        take.end()?;
        let items = tables.iter().find(|t| t.kind == TableKind::Items).map_or(0, |t| t.rows);
        if columns.next().is_some() || lines.total() != header.payload_raw_or_len() || items != header.rows as usize {
            return Err(Damage::Bounds("frame meta"));
        }
        let key = key.cloned();
        Ok(FrameMeta { header, signal, services, key, tables, origins, lines: kept.into() })
    }

    /// A column, most likely at this place.
    fn column(&self, kind: TableKind, place: usize, id: &ColumnId) -> Option<&ColumnMeta> {
        let columns = self.columns(kind);
        columns.get(place).filter(|c| c.id == *id).or_else(|| columns.iter().find(|c| c.id == *id))
    }

    /// Where a column's buffers are.
    fn dir(&self, table: &TableMeta, i: usize) -> Result<ColumnDir, Damage> {
        let line = table.directory.get(i).ok_or(Damage::Bounds("column of a table"))?;
        let bytes = self.lines.get(line.at as usize..).unwrap_or_default();
        column::take(&mut Take::new(bytes, "frame meta"), &mut Lines::from(line.offset, &self.header), table.rows)
    }

    pub(crate) fn columns(&self, kind: TableKind) -> &[ColumnMeta] {
        self.tables.iter().find(|t| t.kind == kind).map_or(&[], |t| &t.columns)
    }

    pub(crate) fn rows(&self, kind: TableKind) -> usize {
        self.tables.iter().find(|t| t.kind == kind).map_or(0, |t| t.rows)
    }

    /// Bytes in memory, about: what a cache of these is bounded by.
    pub(crate) fn memory_bytes(&self) -> usize {
        let column = |c: &ColumnMeta| size_of::<ColumnMeta>() + size_of::<Line>() + c.own_bytes();
        let columns = self.tables.iter().flat_map(|t| &t.columns).map(column).sum::<usize>();
        size_of::<FrameMeta>() + self.lines.len() + columns
    }

    /// Where the parts of the payload stand that are read alone (offset, length), in order.
    pub(super) fn payload_blocks(&self) -> Result<Vec<(u64, u64)>, Damage> {
        if self.header.whole {
            return Ok(vec![(0, self.header.payload_len)]);
        }
        let mut buffers = vec![self.origins];
        for table in &self.tables {
            for i in 0..table.columns.len() {
                buffers.extend(self.dir(table, i)?.buffers());
            }
        }
        Ok(buffers.iter().filter(|b| b.stored > 0).map(|b| (b.offset, u64::from(b.stored))).collect())
    }

    /// The columns of all tables in the frame's order.
    pub(crate) fn table_columns(&self) -> Vec<TableColumn> {
        self.tables.iter().flat_map(|t| t.columns.iter().map(|c| (t.kind, c.id.clone()))).collect()
    }

    /// The wanted columns with the place of each, by table, and the columns of row numbers that hold them together: a table's
    /// pointers where what they point to is asked for, whose rows a child's are where anything of it is. Child tables of which
    /// nothing is asked for are left out.
    fn wanted(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Vec<(&TableMeta, Vec<usize>)> {
        let asked = |kind| self.columns(kind).iter().any(|column| want(kind, &column.id));
        // A tail's rows may belong to rows of any other table.
        let tail = asked(TableKind::Tail);
        let held = |kind| tail || asked(kind);
        let (resources, scopes, metrics) =
            (held(TableKind::Resources), held(TableKind::Scopes), held(TableKind::Descriptors));
        let picked = |table: &TableMeta| -> Option<Vec<usize>> {
            let kind = table.kind;
            let is_child =
                matches!(kind, TableKind::Events | TableKind::Links | TableKind::Exemplars | TableKind::Tail);
            if is_child && !held(kind) {
                return None;
            }
            let holds = |id: &ColumnId| match id {
                ColumnId::Intrinsic(Intrinsic::Parent | Intrinsic::Of) => true,
                ColumnId::Intrinsic(Intrinsic::Resource) => resources,
                ColumnId::Intrinsic(Intrinsic::Scope) => scopes,
                ColumnId::Intrinsic(Intrinsic::Metric) => metrics,
                _ => false,
            };
            let columns = table.columns.iter().enumerate();
            Some(columns.filter(|(_, c)| holds(&c.id) || want(kind, &c.id)).map(|(i, _)| i).collect())
        };
        self.tables.iter().filter_map(|table| Some((table, picked(table)?))).collect()
    }

    /// The stretches of the payload (offset, length) that a read of the wanted columns needs, ascending.
    ///
    /// # Errors
    /// None that [`FrameMeta::read`] would not have found.
    pub(crate) fn stretches(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<Vec<(u64, u64)>, Damage> {
        if self.header.whole {
            return Ok(vec![(0, self.header.payload_len)]);
        }
        let mut buffers = vec![self.origins];
        for (table, picked) in self.wanted(want) {
            for i in picked {
                buffers.extend(self.dir(table, i)?.buffers());
            }
        }
        let mut out: Vec<(u64, u64)> = Vec::new();
        for buffer in buffers.into_iter().filter(|b| b.stored > 0) {
            match out.last_mut() {
                // One read of some bytes too many is cheaper than two reads.
                Some((start, len)) if buffer.offset <= *start + *len + GAP_BYTES => {
                    *len = buffer.offset + u64::from(buffer.stored) - *start;
                }
                _ => out.push((buffer.offset, u64::from(buffer.stored))),
            }
        }
        Ok(out)
    }

    /// The stretch of the payload (offset, length) that holds the origins: all of it where it is compressed whole.
    pub(crate) fn origins_stretch(&self) -> (u64, u64) {
        if self.header.whole { (0, self.header.payload_len) } else { (self.origins.offset, self.origins.stored.into()) }
    }

    pub(super) fn blocks(&self) -> Result<Blocks<'_>, Damage> {
        Blocks::open(&self.header, self.key.as_deref())
    }

    /// The payload that is compressed as one, out of its stored bytes.
    fn whole_payload<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, Damage> {
        if crc32c::crc32c(stored) != self.header.payload_crc {
            return Err(Damage::Checksum("payload"));
        }
        let bytes = self.blocks()?.take(Place::Payload(0), stored)?;
        if bytes.len() as u64 == self.header.payload_raw {
            return Ok(bytes);
        }
        Ok(Cow::Owned(buffer::decompress(&bytes, self.header.payload_raw as usize)?))
    }

    /// The origins out of the stretch of [`FrameMeta::origins_stretch`].
    pub(crate) fn origins_of(&self, bytes: &[u8]) -> Result<Vec<Origin>, Damage> {
        if !self.header.whole {
            return origins::decode(&buffer::open(&self.origins, bytes, false, &self.blocks()?)?);
        }
        let raw = self.whole_payload(bytes)?;
        let from = self.origins.offset as usize;
        let own = raw.get(from..from + self.origins.raw as usize).ok_or(Damage::Short("payload"))?;
        origins::decode(own)
    }

    /// The filters out of their stored bytes.
    pub(crate) fn blooms(&self, stored: &[u8]) -> Result<Blooms, Damage> {
        if crc32c::crc32c(stored) != self.header.bloom_crc {
            return Err(Damage::Checksum("blooms"));
        }
        Blooms::read(&self.blocks()?.take(Place::Blooms, stored)?)
    }

    /// The wanted columns out of a body that is there as a whole: all behind the header.
    pub(crate) fn rows_in(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool, body: &[u8]) -> Result<Batch, Damage> {
        let payload = body.get(self.header.payload_at() as usize - FRAME_HEADER..).ok_or(Damage::Short("frame"))?;
        let bytes = |(at, len): (u64, u64)| {
            let stretch = payload.get(at as usize..(at + len) as usize).ok_or(Damage::Short("frame"))?;
            Ok((at, stretch))
        };
        let stretches = self.stretches(want)?.into_iter().map(bytes).collect::<Result<Vec<_>, Damage>>()?;
        self.rows_of(want, &stretches)
    }

    /// The buffers of ids and plain texts out of a body whose rows were read, as they are stored; none of a payload that is
    /// compressed as one.
    pub(crate) fn stored_values(&self, body: &[u8]) -> Result<StoredValues, Damage> {
        let mut found = StoredValues::new();
        if self.header.whole {
            return Ok(found);
        }
        let (blocks, payload_at) = (self.blocks()?, self.header.payload_at() as usize - FRAME_HEADER);
        for table in self.tables.iter().filter(|table| again::keeps_order(table.kind)) {
            for (i, column) in table.columns.iter().enumerate() {
                let Some(buffer) = self.dir(table, i)?.plain_values().filter(|buffer| buffer.stored > 0) else {
                    continue;
                };
                let from = payload_at + buffer.offset as usize;
                let stored = body.get(from..from + buffer.stored as usize).ok_or(Damage::Short("payload"))?;
                let bytes = blocks.take(Place::Payload(buffer.offset), stored)?.into_owned();
                let stored = Stored { bytes, raw: buffer.raw as usize, packed: buffer.packed };
                found.insert((table.kind, column.id.clone()), stored);
            }
        }
        Ok(found)
    }

    /// The wanted columns out of the stretches of [`FrameMeta::stretches`], with their bytes.
    pub(crate) fn rows_of(
        &self,
        want: &dyn Fn(TableKind, &ColumnId) -> bool,
        stretches: &[(u64, impl AsRef<[u8]>)],
    ) -> Result<Batch, Damage> {
        let (whole, blocks) = (self.header.whole, self.blocks()?);
        let stretches: Vec<(u64, Cow<'_, [u8]>)> = match stretches {
            [(0, stored)] if whole => vec![(0, self.whole_payload(stored.as_ref())?)],
            _ => stretches.iter().map(|(at, bytes)| (*at, Cow::Borrowed(bytes.as_ref()))).collect(),
        };
        let fetch = |b: &Buffer| -> Result<Cow<'_, [u8]>, Damage> {
            if b.stored == 0 {
                return Ok(Cow::Borrowed(&[]));
            }
            let i = stretches.partition_point(|(start, _)| *start <= b.offset);
            let (start, bytes) = i.checked_sub(1).and_then(|i| stretches.get(i)).ok_or(Damage::Short("payload"))?;
            let from = (b.offset - start) as usize;
            let stored = bytes.get(from..from + b.stored as usize).ok_or(Damage::Short("payload"))?;
            buffer::open(b, stored, whole, &blocks)
        };
        let origins: Vec<Origin> = origins::decode(&fetch(&self.origins)?)?;
        let broken = |e: prism_model::table::BadTable| Damage::Rows(e.to_string());
        let mut tables = Vec::with_capacity(self.tables.len());
        for (table, picked) in self.wanted(want) {
            let mut columns = Vec::with_capacity(picked.len());
            for i in picked {
                let id = table.columns[i].id.clone();
                let array = column::decode(&id, &self.dir(table, i)?, table.rows, fetch)?;
                columns.push(Column { id, array });
            }
            tables.push(Table::try_new(table.kind, table.rows, columns).map_err(broken)?);
        }
        Batch::try_new(self.signal, origins, tables).map_err(broken)
    }
}

/// Unwanted bytes that are read rather than skipped. A read costs about as much as 64 KiB more of it.
const GAP_BYTES: u64 = 64 << 10;

/// The two filters of a frame. That of trace ids is a hundredth of the other, and is remembered for itself.
#[derive(Debug)]
pub(crate) struct Blooms {
    pub(crate) traces: Arc<TraceFilter>,
    pub(crate) tokens: Arc<TokenFilter>,
}

/// Of trace ids.
#[derive(Debug)]
pub(crate) struct TraceFilter(Box<[u8]>);

/// Of keys with their values.
#[derive(Debug)]
pub(crate) struct TokenFilter(Box<[u8]>);

impl Blooms {
    fn read(bytes: &[u8]) -> Result<Blooms, Damage> {
        let mut take = Take::new(bytes, "blooms");
        let traces = take.u32()? as usize;
        let traces = take.bytes(traces)?;
        let tokens = take.bytes(take.left())?;
        Ok(Blooms { traces: Arc::new(TraceFilter(traces.into())), tokens: Arc::new(TokenFilter(tokens.into())) })
    }
}

impl TraceFilter {
    pub(crate) fn may_contain(&self, id: &[u8; 16]) -> bool {
        super::bloom::may_contain(&self.0, super::bloom::trace_hash(id))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len() + 64
    }
}

impl TokenFilter {
    pub(crate) fn may_contain(&self, key: &str, value: &str) -> bool {
        super::bloom::may_contain(&self.0, super::bloom::token_hash(super::bloom::key_seed(key), value))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len() + 64
    }
}

/// The hash of all bytes behind a header.
pub(crate) fn body_matches(header: &FrameHeader, body: &[u8]) -> bool {
    xxhash_rust::xxh3::xxh3_128(body) == header.hash
}
