//! Frames (`host/adr/0002-frames.md`) as units of a snapshot, in a segment's file or a block's object alike: only the stretches
//! that are asked for are read.

use std::cell::RefCell;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt32Array};
use prism_model::window::Window;
use prism_model::{Batch, ColumnId, Origin, Signal, TableKind};

use crate::cache::Cache;
use crate::disk::File;
use crate::error::{Damage, StoreError};
use crate::frame::decode::{Blooms, FrameMeta, TokenFilter, TraceFilter};
use crate::frame::stats::ColumnMeta;
use crate::open_file;
use crate::unit::{Exact, Frame, FrameStats, Numbered, ReadCost, Tier, Unit};

/// Bytes of remembered filters of trace ids: about as many frames as headers are remembered of.
const TRACE_CACHE_BYTES: usize = 8 << 20;
/// Bytes of remembered filters of keys and values, which take some 20 KB of a frame.
const TOKEN_CACHE_BYTES: usize = 32 << 20;

/// Buffers that a thread keeps for its next reads, and bytes of each at most.
const SPARE_BUFFERS: usize = 4;
const SPARE_BYTES_MAX: usize = 1 << 20;

thread_local! {
    // A fresh one is filled with zeros, and often by the kernel too, for each frame of a scan.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of so many bytes, whatever they are.
fn spare(len: usize) -> Vec<u8> {
    let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.resize(len, 0);
    buffer
}

/// Keeps a buffer for the next read.
fn keep(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BYTES_MAX {
            spare.push(buffer);
        }
    });
}

/// What frames lie in.
pub(crate) trait Source: Send + Sync {
    /// Opens it; fails where something else has its name by now.
    fn open(&self) -> Result<Arc<dyn File>, StoreError>;
    /// Tells it from every other one.
    fn identity(&self) -> u64;
    /// Safe to show to its tenant.
    fn name(&self) -> String;
    fn tier(&self) -> Tier;
}

/// A frame: what it lies in, its place there, its segment's fingerprint.
type FrameKey = (u64, u64, u64);

/// Filters that were read before.
pub(crate) struct Filters {
    traces: Cache<FrameKey, Arc<TraceFilter>>,
    tokens: Cache<FrameKey, Arc<TokenFilter>>,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters { traces: Cache::new(TRACE_CACHE_BYTES), tokens: Cache::new(TOKEN_CACHE_BYTES) }
    }
}

/// A frame in its file.
pub(crate) struct Framed {
    source: Arc<dyn Source>,
    known: Arc<Filters>,
    at: u64,
    window: Window,
    meta: Arc<FrameMeta>,
    stats: FrameStats,
}

impl Framed {
    /// The frame whose header stands at `at`.
    pub(crate) fn frame(
        source: &Arc<dyn Source>,
        known: &Arc<Filters>,
        at: u64,
        window: Window,
        meta: Arc<FrameMeta>,
    ) -> Frame {
        let header = &meta.header;
        let stats = FrameStats {
            rows: header.rows as usize,
            time_min: header.time_min,
            time_max: header.time_max,
            services: meta.services.clone(),
            bytes: header.span(),
        };
        Frame::new(Framed { source: source.clone(), known: known.clone(), at, window, meta, stats })
    }

    fn key(&self) -> FrameKey {
        (self.source.identity(), self.at, self.meta.header.segment)
    }

    /// The filters, from disk; `None` where they cannot be read, which must not lose rows.
    fn filters(&self) -> Option<Blooms> {
        let header = &self.meta.header;
        let file = open_file::open(&self.source).ok()?;
        let mut bytes = vec![0; header.bloom_len as usize];
        let n = file.read_at(&mut bytes, self.at + header.bloom_at()).ok()?;
        let filters = self.meta.blooms(bytes.get(..n)?).ok()?;
        self.known.traces.put(self.key(), filters.traces.clone(), filters.traces.memory_bytes());
        self.known.tokens.put(self.key(), filters.tokens.clone(), filters.tokens.memory_bytes());
        Some(filters)
    }

    /// Stretches (offset, length) of the payload with their bytes.
    fn payload(&self, stretches: Vec<(u64, u64)>) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let file = open_file::open(&self.source)?;
        let from = self.at + self.meta.header.payload_at();
        let read = |(offset, len): (u64, u64)| {
            let mut bytes = spare(len as usize);
            let n = file.read_at(&mut bytes, from + offset).map_err(|e| StoreError::read("read a frame", e))?;
            if n < bytes.len() { Err(Damage::Short("frame").into()) } else { Ok((offset, bytes)) }
        };
        stretches.into_iter().map(read).collect()
    }

    /// The values of a column of the items that stand in the statistics.
    fn few_values(&self, column: &ColumnId) -> Option<&[Arc<str>]> {
        let columns = self.meta.columns(TableKind::Items);
        columns.iter().find(|known| known.id == *column)?.dictionary.as_deref()
    }

    /// One stretch of the payload.
    fn stretch(&self, stretch: (u64, u64)) -> Result<(Vec<u8>, ReadCost), StoreError> {
        let (_, bytes) = self.payload(vec![stretch])?.pop().ok_or(Damage::Short("frame"))?;
        let cost = ReadCost { bytes: bytes.len() as u64, reads: 1 };
        Ok((bytes, cost))
    }
}

impl Unit for Framed {
    fn tier(&self) -> Tier {
        self.source.tier()
    }

    fn name(&self) -> String {
        format!("{}/{}/{}", self.window.number(), self.source.name(), self.meta.header.number)
    }

    fn signal(&self) -> Signal {
        self.meta.signal
    }

    fn window(&self) -> Window {
        self.window
    }

    fn stats(&self) -> &FrameStats {
        &self.stats
    }

    fn table_rows(&self, table: TableKind) -> usize {
        self.meta.rows(table)
    }

    fn columns(&self, table: TableKind) -> &[ColumnMeta] {
        self.meta.columns(table)
    }

    fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        let filter = self.known.traces.get(&self.key()).or_else(|| Some(self.filters()?.traces));
        filter.is_none_or(|f| f.may_contain(id))
    }

    fn may_contain_token(&self, key: &str, value: &str) -> bool {
        let filter = self.known.tokens.get(&self.key()).or_else(|| Some(self.filters()?.tokens));
        filter.is_none_or(|f| f.may_contain(key, value))
    }

    fn read(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<(Batch, ReadCost), StoreError> {
        let stretches = self.payload(self.meta.stretches(want)?)?;
        let bytes = stretches.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let cost = ReadCost { bytes, reads: stretches.len() as u64 };
        let rows = self.meta.rows_of(want, &stretches)?;
        stretches.into_iter().for_each(|(_, bytes)| keep(bytes));
        Ok((rows, cost))
    }

    fn rows_of(&self, column: &ColumnId, value: Exact<'_>) -> Result<Option<(UInt32Array, ReadCost)>, StoreError> {
        // Texts are compared by dictionary as they are decoded, which takes as long.
        let Exact::Int(number) = value else { return Ok(None) };
        let Some(stretch) = self.meta.column_stretch(column)? else { return Ok(None) };
        let (bytes, cost) = self.stretch(stretch)?;
        let rows = self.meta.rows_of_int(column, number, &bytes)?;
        keep(bytes);
        Ok(rows.map(|rows| (rows.into(), cost)))
    }

    fn tells_values(&self, column: &ColumnId) -> bool {
        self.few_values(column).is_some() || matches!(self.meta.values_stretch(column), Ok(Some(_)))
    }

    fn values_of(&self, column: &ColumnId) -> Result<Option<(ArrayRef, ReadCost)>, StoreError> {
        if let Some(values) = self.few_values(column) {
            let values: ArrayRef = Arc::new(StringArray::from_iter_values(values.iter()));
            return Ok(Some((values, ReadCost::default())));
        }
        let Some(stretch) = self.meta.values_stretch(column)? else { return Ok(None) };
        let (bytes, cost) = self.stretch(stretch)?;
        let values = self.meta.values_of(column, &bytes)?;
        keep(bytes);
        Ok(values.map(|values| (values, cost)))
    }

    fn numbers_of(&self, column: &ColumnId) -> Result<Option<(Numbered, ReadCost)>, StoreError> {
        if !self.meta.has_numbers(column)? {
            return Ok(None);
        }
        let Some(stretch) = self.meta.column_stretch(column)? else { return Ok(None) };
        let (bytes, cost) = self.stretch(stretch)?;
        let numbers = self.meta.numbers_of(column, &bytes)?;
        keep(bytes);
        Ok(numbers.map(|numbers| (numbers, cost)))
    }

    fn cost(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        // A directory that is damaged costs the read that finds it out.
        let stretches = self.meta.stretches(want).unwrap_or_default();
        ReadCost { bytes: stretches.iter().map(|(_, len)| len).sum(), reads: stretches.len() as u64 }
    }

    fn cost_apart(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        let mut cost = self.cost(want);
        let columns = self.columns(TableKind::Items).iter().filter(|column| want(TableKind::Items, &column.id));
        for (_, len) in columns.filter_map(|column| self.meta.column_stretch(&column.id).ok().flatten()) {
            cost += ReadCost { bytes: len, reads: 1 };
        }
        cost
    }

    fn origins(&self) -> Result<Vec<Origin>, StoreError> {
        let stretches = self.payload(vec![self.meta.origins_stretch()])?;
        let bytes = stretches.first().map_or(&[][..], |(_, bytes)| bytes);
        Ok(self.meta.origins_of(bytes)?)
    }
}
