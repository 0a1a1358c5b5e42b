//! A frame's bytes become what can be asked without its payload ([`FrameMeta`]), and rows.

use std::borrow::Cow;
use std::sync::Arc;

use prism_model::{Batch, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};

use super::buffer::{self, Buffer, Lines};
use super::column::{self, ColumnDir};
use super::encode::SERVICES_MAX;
use super::header::FrameHeader;
use super::origins;
use super::schema::TableColumn;
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
    pub(crate) services: Option<Vec<Arc<str>>>,
    tables: Vec<TableMeta>,
    origins: Buffer,
}

#[derive(Debug)]
struct TableMeta {
    kind: TableKind,
    rows: usize,
    columns: Vec<ColumnMeta>,
    directory: Vec<ColumnDir>,
}

impl FrameMeta {
    /// Reads the meta block; `columns` are the frame's, in its order.
    pub(crate) fn read(header: FrameHeader, meta: &[u8], columns: &[TableColumn]) -> Result<FrameMeta, Damage> {
        let unpacked;
        let raw = if header.meta_len == header.meta_raw {
            meta
        } else {
            unpacked = buffer::decompress(meta, header.meta_raw as usize)?;
            &unpacked
        };
        let mut take = Take::new(raw, "frame meta");
        let signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or(Damage::Bounds("signal"))?;
        let mut lines = Lines::new(header.whole);
        let origins = lines.take(&mut take)?;
        let services = match take.var_max(SERVICES_MAX + 1)? {
            0 => None,
            n => Some((1..n).map(|_| take.string().map(Arc::from)).collect::<Result<_, _>>()?),
        };
        let mut columns = columns.iter();
        let count = take.var_max(TableKind::ALL.len())?;
        let mut tables = Vec::with_capacity(count);
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
                let dir = column::take(&mut take, &mut lines, rows)?;
                table.columns.push(stats::take(&mut take, id.clone(), dir.nulls())?);
                table.directory.push(dir);
            }
            tables.push(table);
        }
        take.end()?;
        let items = tables.iter().find(|t| t.kind == TableKind::Items).map_or(0, |t| t.rows);
        if columns.next().is_some() || lines.total() != header.payload_raw_or_len() || items != header.rows as usize {
            return Err(Damage::Bounds("frame meta"));
        }
        Ok(FrameMeta { header, signal, services, tables, origins })
    }

    pub(crate) fn columns(&self, kind: TableKind) -> &[ColumnMeta] {
        self.tables.iter().find(|t| t.kind == kind).map_or(&[], |t| &t.columns)
    }

    pub(crate) fn rows(&self, kind: TableKind) -> usize {
        self.tables.iter().find(|t| t.kind == kind).map_or(0, |t| t.rows)
    }

    /// Bytes in memory, about: what a cache of these is bounded by.
    pub(crate) fn memory_bytes(&self) -> usize {
        let column = |c: &ColumnMeta| {
            size_of::<ColumnMeta>()
                + size_of::<ColumnDir>()
                + c.dictionary.as_ref().map_or(0, |d| d.iter().map(|v| v.len() + 32).sum())
                + 64
        };
        size_of::<FrameMeta>() + self.tables.iter().flat_map(|t| &t.columns).map(column).sum::<usize>()
    }

    /// The wanted columns with the place of each, by table.
    fn wanted(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Vec<(&TableMeta, Vec<usize>)> {
        let wanted = |t: &TableMeta, id: &ColumnId| is_index(id) || want(t.kind, id);
        self.tables
            .iter()
            .map(|t| (t, (0..t.columns.len()).filter(|i| wanted(t, &t.columns[*i].id)).collect()))
            .collect()
    }

    /// The stretches of the payload (offset, length) that a read of the wanted columns needs, ascending.
    pub(crate) fn stretches(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Vec<(u64, u64)> {
        if self.header.whole {
            return vec![(0, self.header.payload_len)];
        }
        let columns = self.wanted(want);
        let dirs = columns.iter().flat_map(|(t, picked)| picked.iter().map(|i| &t.directory[*i]));
        let buffers = std::iter::once(self.origins).chain(dirs.flat_map(ColumnDir::buffers));
        let mut out: Vec<(u64, u64)> = Vec::new();
        for buffer in buffers.filter(|b| b.stored > 0) {
            match out.last_mut() {
                // One read of some bytes too many is cheaper than two reads.
                Some((start, len)) if buffer.offset <= *start + *len + GAP_BYTES => {
                    *len = buffer.offset + u64::from(buffer.stored) - *start;
                }
                _ => out.push((buffer.offset, u64::from(buffer.stored))),
            }
        }
        out
    }

    /// The stretch of the payload (offset, length) that holds the origins: all of it where it is compressed whole.
    pub(crate) fn origins_stretch(&self) -> (u64, u64) {
        if self.header.whole { (0, self.header.payload_len) } else { (self.origins.offset, self.origins.stored.into()) }
    }

    /// The origins out of the stretch of [`FrameMeta::origins_stretch`].
    pub(crate) fn origins_of(&self, bytes: &[u8]) -> Result<Vec<Origin>, Damage> {
        if !self.header.whole {
            return origins::decode(&buffer::open(&self.origins, bytes, false)?);
        }
        if crc32c::crc32c(bytes) != self.header.payload_crc {
            return Err(Damage::Checksum("payload"));
        }
        let packed = self.header.payload_len != self.header.payload_raw;
        let unpacked = if packed { buffer::decompress(bytes, self.header.payload_raw as usize)? } else { Vec::new() };
        let raw = if packed { &unpacked } else { bytes };
        let from = self.origins.offset as usize;
        let own = raw.get(from..from + self.origins.raw as usize).ok_or(Damage::Short("payload"))?;
        origins::decode(own)
    }

    /// The wanted columns out of the stretches of [`FrameMeta::stretches`], with their bytes.
    pub(crate) fn rows_of(
        &self,
        want: &dyn Fn(TableKind, &ColumnId) -> bool,
        stretches: &[(u64, Vec<u8>)],
    ) -> Result<Batch, Damage> {
        let unpacked;
        let whole = self.header.whole;
        if let [(_, bytes)] = stretches
            && whole
            && crc32c::crc32c(bytes) != self.header.payload_crc
        {
            return Err(Damage::Checksum("payload"));
        }
        let stretches = match stretches {
            [(0, bytes)] if whole && self.header.payload_len != self.header.payload_raw => {
                unpacked = [(0, buffer::decompress(bytes, self.header.payload_raw as usize)?)];
                &unpacked
            }
            _ => stretches,
        };
        let fetch = |b: &Buffer| -> Result<Cow<'_, [u8]>, Damage> {
            if b.stored == 0 {
                return Ok(Cow::Borrowed(&[]));
            }
            let i = stretches.partition_point(|(start, _)| *start <= b.offset);
            let (start, bytes) = i.checked_sub(1).and_then(|i| stretches.get(i)).ok_or(Damage::Short("payload"))?;
            let from = (b.offset - start) as usize;
            let stored = bytes.get(from..from + b.stored as usize).ok_or(Damage::Short("payload"))?;
            buffer::open(b, stored, whole)
        };
        let origins: Vec<Origin> = origins::decode(&fetch(&self.origins)?)?;
        let broken = |e: prism_model::table::BadTable| Damage::Rows(e.to_string());
        let mut tables = Vec::with_capacity(self.tables.len());
        for (table, picked) in self.wanted(want) {
            let mut columns = Vec::with_capacity(picked.len());
            for i in picked {
                let id = table.columns[i].id.clone();
                let array = column::decode(&id, &table.directory[i], table.rows, fetch)?;
                columns.push(Column { id, array });
            }
            tables.push(Table::try_new(table.kind, table.rows, columns).map_err(broken)?);
        }
        Batch::try_new(self.signal, origins, tables).map_err(broken)
    }
}

/// Unwanted bytes that are read rather than skipped. A read costs about as much as 64 KiB more of it.
const GAP_BYTES: u64 = 64 << 10;

/// Columns that hold rows together: always read.
fn is_index(id: &ColumnId) -> bool {
    matches!(
        id,
        ColumnId::Intrinsic(
            Intrinsic::Resource | Intrinsic::Scope | Intrinsic::Metric | Intrinsic::Parent | Intrinsic::Of
        )
    )
}

/// The two filters of a frame.
#[derive(Debug)]
pub(crate) struct Blooms {
    bytes: Vec<u8>,
    tokens_at: usize,
}

impl Blooms {
    pub(crate) fn read(header: &FrameHeader, bytes: Vec<u8>) -> Result<Blooms, Damage> {
        if crc32c::crc32c(&bytes) != header.bloom_crc {
            return Err(Damage::Checksum("blooms"));
        }
        let traces = Take::new(&bytes, "blooms").u32()? as usize;
        let tokens_at = traces.checked_add(4).filter(|at| *at <= bytes.len()).ok_or(Damage::Bounds("blooms"))?;
        Ok(Blooms { bytes, tokens_at })
    }

    pub(crate) fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        super::bloom::may_contain(&self.bytes[4..self.tokens_at], super::bloom::trace_hash(id))
    }

    pub(crate) fn may_contain_token(&self, key: &str, value: &str) -> bool {
        let hash = super::bloom::token_hash(super::bloom::key_seed(key), value);
        super::bloom::may_contain(&self.bytes[self.tokens_at..], hash)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len() + 64
    }
}

/// The hash of all bytes behind a header.
pub(crate) fn body_matches(header: &FrameHeader, body: &[u8]) -> bool {
    xxhash_rust::xxh3::xxh3_128(body) == header.hash
}
