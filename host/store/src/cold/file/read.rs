//! Cold files as frames of a snapshot: one read for everything that is known, then only the columns that are asked for.

mod values;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, UInt32Array};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader, RowGroupMetaData,
};
use prism_model::window::{TimeRange, Window};
use prism_model::{Batch, ColumnId, Origin, Signal, TableKind};

use super::filter::TokenFilter;
use super::meta::{FileMeta, GroupMeta, Stretch, TRAILER, Trailer};
use super::page_map::{self, ChunkPages, PageMap};
use super::picked::Picked;
use super::rebuild::{self, Shape};
use super::stretches::{Stretches, check, join, read};
use super::write::filter_path;
use super::{cuckoo, damaged};
use crate::cache::Cache;
use crate::cold::schema::Outside;
use crate::error::{Damage, StoreError};
use crate::frame::bloom;
use crate::frame::column::token_key;
use crate::frame::stats::ColumnMeta;
use crate::objects::Objects;
use crate::unit::{Exact, Frame, FrameStats, Numbered, ReadCost, Tier, Unit};

/// Bytes of the end that are read at first: the footer of most files is within.
const END_BYTES: u64 = 256 << 10;
/// Bytes behind Parquet's footer: its length and `PAR1`.
const FOOTER_TAIL: usize = 8;
/// Bytes that a column takes in a reader, about.
const FIELD_BYTES: usize = 256;

/// Cold files by name, those used last remembered: their footers take a few hundred kilobytes each.
pub struct ColdFiles {
    objects: Arc<dyn Objects>,
    known: Cache<String, Arc<ColdFile>>,
}

impl ColdFiles {
    /// Files of an object store; footers of at most so many bytes in memory are remembered. Names are never used twice.
    pub fn new(objects: Arc<dyn Objects>, bytes_max: usize) -> ColdFiles {
        ColdFiles { objects, known: Cache::new(bytes_max) }
    }

    /// The file of a name and length, as [`ColdFile::open`].
    ///
    /// # Errors
    /// As [`ColdFile::open`].
    pub fn open(&self, name: &str, len: u64) -> Result<Arc<ColdFile>, StoreError> {
        let key = name.to_owned();
        if let Some(file) = self.known.get(&key) {
            return Ok(file);
        }
        let file = ColdFile::open(self.objects.clone(), name, len)?;
        self.known.put(key, file.clone(), file.memory_bytes());
        Ok(file)
    }
}

/// A cold file whose footer was read.
pub struct ColdFile {
    objects: Arc<dyn Objects>,
    name: String,
    parquet: Arc<ParquetMetaData>,
    meta: FileMeta,
    shape: Shape,
    stats: Vec<FrameStats>,
    /// How each row group is read: to work it out costs as much as to read a small column.
    readers: Vec<OnceLock<ArrowReaderMetadata>>,
    columns: OnceLock<ColumnFilters>,
    tokens: OnceLock<Vec<TokenFilter>>,
    /// Empty where it tells no pages.
    map: PageMap,
    map_at: Option<Stretch>,
    footer_bytes: u64,
}

/// The filters by column of all row groups: read together, once.
struct ColumnFilters {
    blooms: Vec<HashMap<String, Sbbf>>,
    cuckoos: Vec<HashMap<String, Bytes>>,
}

impl ColdFile {
    /// Reads the footer of a file of a known length: one read, two where it is unusually long. Blocks.
    ///
    /// # Errors
    /// `Retry` where the object store fails; `Bug` ([`Damage`]) where the bytes are not a file that this version wrote.
    pub fn open(objects: Arc<dyn Objects>, name: &str, len: u64) -> Result<Arc<ColdFile>, StoreError> {
        let end = read(&*objects, name, len.saturating_sub(END_BYTES)..len)?;
        let (end, footer) = with_footer(&*objects, name, len, end)?;
        let before = end.len() - FOOTER_TAIL - footer;
        let trailer_at = before.checked_sub(TRAILER).ok_or(Damage::Short("footer"))?;
        let trailer = end.get(trailer_at..).and_then(|b| b.first_chunk::<TRAILER>()).ok_or(Damage::Short("footer"))?;
        let trailer = Trailer::read(trailer)?;
        let footer_bytes = end.get(before..before + footer).ok_or(Damage::Short("footer"))?;
        trailer.check(footer_bytes)?;
        let meta_at = (len - (end.len() - trailer_at) as u64).checked_sub(trailer.meta_len as u64);
        let meta_at = meta_at.ok_or(Damage::Bounds("length of a cold file's meta"))?;
        let begin = len - end.len() as u64;
        let meta = if meta_at >= begin {
            let at = (meta_at - begin) as usize;
            trailer.meta(end.get(at..trailer_at).ok_or(Damage::Short("meta"))?)?
        } else {
            trailer.meta(&read(&*objects, name, meta_at..meta_at + trailer.meta_len as u64)?)?
        };
        let parquet = ParquetMetaDataReader::decode_metadata(footer_bytes).map_err(damaged)?;
        let map_at = map_at(&parquet, meta_at);
        let map = match &map_at {
            None => PageMap::new(),
            Some(stretch) => {
                let bytes = match stretch.offset.checked_sub(begin) {
                    Some(at) => end.slice(at as usize..(meta_at - begin) as usize),
                    None => read(&*objects, name, stretch.range())?,
                };
                page_map::take(&bytes, stretch.crc)?
            }
        };
        let map_bytes = map_at.map_or(0, |stretch| stretch.len as usize);
        let footer_bytes = (FOOTER_TAIL + footer + TRAILER + trailer.meta_len + map_bytes) as u64;
        let file = ColdFile::checked(objects, name, len, parquet, meta, footer_bytes)?;
        Ok(Arc::new(file.with_map(map, map_at)))
    }

    fn checked(
        objects: Arc<dyn Objects>,
        name: &str,
        len: u64,
        parquet: ParquetMetaData,
        meta: FileMeta,
        footer_bytes: u64,
    ) -> Result<ColdFile, StoreError> {
        let same = parquet.num_row_groups() == meta.groups.len()
            && parquet.row_groups().iter().zip(&meta.groups).all(|(p, own)| {
                p.num_rows() as u64 == own.rows as u64
                    && p.num_columns() == own.chunks.len()
                    && p.columns().iter().all(|c| {
                        c.data_page_offset() >= 0
                            && c.compressed_size() >= 0
                            && c.dictionary_page_offset().is_none_or(|o| o >= 0)
                            && c.byte_range().0.checked_add(c.byte_range().1).is_some_and(|end| end <= len)
                    })
            });
        if !same {
            return Err(Damage::Bounds("row group").into());
        }
        let shape = Shape::of(&meta, &parquet);
        let stats = meta.groups.iter().zip(parquet.row_groups()).map(|(own, group)| FrameStats {
            rows: own.rows,
            time_min: own.time_min,
            time_max: own.time_max,
            services: own.services.as_deref().map(Arc::from),
            bytes: group.columns().iter().map(|c| c.byte_range().1).sum(),
        });
        let stats = stats.collect();
        let (name, parquet) = (name.to_owned(), Arc::new(parquet));
        let (columns, tokens) = (OnceLock::new(), OnceLock::new());
        let readers = meta.groups.iter().map(|_| OnceLock::new()).collect();
        let (map, map_at) = (PageMap::new(), None);
        Ok(ColdFile { objects, name, parquet, meta, shape, stats, readers, columns, tokens, map, map_at, footer_bytes })
    }

    /// With the pages of its chunks, where the map is of these.
    fn with_map(mut self, map: PageMap, at: Option<Stretch>) -> ColdFile {
        let chunks = |group: &RowGroupMetaData| {
            let lies = |column: &ColumnChunkMetaData| {
                let (offset, len) = column.byte_range();
                (offset..offset + len, group.num_rows() as usize)
            };
            group.columns().iter().map(lies).collect()
        };
        let chunks: Vec<Vec<(Range<u64>, usize)>> = self.parquet.row_groups().iter().map(chunks).collect();
        if let Some(index) = page_map::offset_index(&map, &chunks) {
            let parquet = ParquetMetaDataBuilder::new_from_metadata(Arc::unwrap_or_clone(self.parquet));
            self.parquet = Arc::new(parquet.set_offset_index(Some(index)).build());
            self.map = map;
        }
        self.map_at = at;
        self
    }

    /// The row groups that may hold rows of the range.
    pub fn frames(self: &Arc<Self>, range: TimeRange) -> Vec<Frame> {
        let touched = |s: &FrameStats| range.touches(s.time_min, s.time_max);
        let groups = (0..self.stats.len()).filter(|i| touched(&self.stats[*i]));
        groups.map(|index| Frame::new(Group { file: self.clone(), index })).collect()
    }

    /// The signal of the rows.
    pub fn signal(&self) -> Signal {
        self.meta.signal
    }

    /// How many row groups it has.
    pub fn groups(&self) -> usize {
        self.stats.len()
    }

    /// The name of its object.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.meta.groups.iter().map(|g| g.rows as u64).sum()
    }

    /// The rollup cube as bytes; `None` where the file has none.
    ///
    /// # Errors
    /// `Retry` where the object store fails, `Bug` where the bytes are damaged.
    pub fn cube(&self) -> Result<Option<Bytes>, StoreError> {
        self.meta.cube.map(|stretch| self.own_bytes(stretch)).transpose()
    }

    /// Bytes of its rollup; `None` where it has none. Nothing is read.
    pub fn cube_len(&self) -> Option<u64> {
        self.meta.cube.map(|stretch| u64::from(stretch.len))
    }

    /// Whether this file, by its filters, may hold rows of a trace: all of them with one or two reads.
    pub fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        (0..self.meta.groups.len()).any(|group| self.group_may_contain_trace(group, id))
    }

    /// Bytes in memory, about.
    pub fn memory_bytes(&self) -> usize {
        let column = |c: &ColumnMeta| size_of::<ColumnMeta>() + c.own_bytes();
        let of_group =
            |g: &GroupMeta| g.tables.iter().flat_map(|t| &t.columns).map(column).sum::<usize>() + g.chunks.len() * 4;
        let own: usize = self.meta.groups.iter().map(of_group).sum();
        let filters = |g: &GroupMeta| {
            g.blooms.values().chain(g.cuckoos.values()).chain([&g.tokens]).map(|s| s.len as usize).sum::<usize>()
        };
        // Fields of a schema and its reader, by row group.
        let readers = self.readers.len() * self.parquet.file_metadata().schema_descr().num_columns() * FIELD_BYTES;
        self.parquet.memory_size()
            + own
            + readers
            + self.meta.groups.iter().map(filters).sum::<usize>()
            + self.map.iter().flatten().map(ChunkPages::memory_bytes).sum::<usize>()
            + size_of::<ColdFile>()
    }

    /// Bytes at the end that [`ColdFile::open`] needs.
    pub fn footer_bytes(&self) -> u64 {
        self.footer_bytes
    }

    /// Compressed bytes of each column (dotted path), over all row groups, in the order of the file.
    pub fn column_bytes(&self) -> Vec<(String, u64)> {
        let descriptor = self.parquet.file_metadata().schema_descr();
        let bytes = |leaf| self.parquet.row_groups().iter().map(|g| g.column(leaf).byte_range().1).sum();
        (0..descriptor.num_columns()).map(|leaf| (descriptor.column(leaf).path().string(), bytes(leaf))).collect()
    }

    /// Re-reads everything and compares it with its checksums: row groups, filters, cube.
    ///
    /// # Errors
    /// `Retry` where the object store fails, `Bug` for the first damage.
    pub fn verify(&self) -> Result<(), StoreError> {
        for (group, own) in self.parquet.row_groups().iter().zip(&self.meta.groups) {
            for (column, crc) in group.columns().iter().zip(&own.chunks) {
                let (offset, len) = column.byte_range();
                check(&read(&*self.objects, &self.name, offset..offset + len)?, *crc, "column chunk")?;
            }
            for stretch in own.blooms.values().chain(own.cuckoos.values()).chain([&own.tokens]) {
                self.own_bytes(*stretch)?;
            }
        }
        self.map_at.map(|map| self.own_bytes(map)).transpose()?;
        self.cube().map(|_| ())
    }

    fn own_bytes(&self, stretch: Stretch) -> Result<Bytes, StoreError> {
        let end = stretch.offset.checked_add(u64::from(stretch.len)).ok_or(Damage::Bounds("own bytes"))?;
        let bytes = read(&*self.objects, &self.name, stretch.offset..end)?;
        check(&bytes, stretch.crc, "own bytes")?;
        Ok(bytes)
    }

    /// The filters by column; what cannot be read is as if it were not there, which loses no row.
    fn column_filters(&self) -> Option<&ColumnFilters> {
        if let Some(filters) = self.columns.get() {
            return Some(filters);
        }
        let filters = self.read_column_filters().ok()?;
        Some(self.columns.get_or_init(|| filters))
    }

    fn read_column_filters(&self) -> Result<ColumnFilters, StoreError> {
        let all = self.meta.groups.iter().flat_map(|g| g.blooms.values().chain(g.cuckoos.values()));
        let stretches = Stretches::read(&*self.objects, &self.name, all.map(Stretch::range).collect())?;
        let mut filters = ColumnFilters { blooms: Vec::new(), cuckoos: Vec::new() };
        for group in &self.meta.groups {
            let mut blooms = HashMap::new();
            for (path, stretch) in &group.blooms {
                let bytes = stretches.own(stretch)?;
                blooms.insert(path.clone(), Sbbf::from_bytes(&bytes).map_err(damaged)?);
            }
            let mut cuckoos = HashMap::new();
            for (path, stretch) in &group.cuckoos {
                cuckoos.insert(path.clone(), stretches.own(stretch)?);
            }
            filters.blooms.push(blooms);
            filters.cuckoos.push(cuckoos);
        }
        Ok(filters)
    }

    fn token_filters(&self) -> Option<&Vec<TokenFilter>> {
        if let Some(filters) = self.tokens.get() {
            return Some(filters);
        }
        let filters = self.read_token_filters().ok()?;
        Some(self.tokens.get_or_init(|| filters))
    }

    fn read_token_filters(&self) -> Result<Vec<TokenFilter>, StoreError> {
        let all = self.meta.groups.iter().map(|g| g.tokens.range());
        let stretches = Stretches::read(&*self.objects, &self.name, all.collect())?;
        let filter =
            |g: &GroupMeta| Ok(TokenFilter { bytes: stretches.own(&g.tokens)?.to_vec(), unknown: g.unknown.clone() });
        self.meta.groups.iter().map(filter).collect()
    }

    /// `None`: the column has no filter.
    fn in_filter(&self, group: usize, path: &str, value: &[u8]) -> Option<bool> {
        let filters = self.column_filters()?;
        if let Some(bloom) = filters.blooms.get(group).and_then(|b| b.get(path)) {
            return Some(bloom.check(value));
        }
        let cuckoo = filters.cuckoos.get(group).and_then(|c| c.get(path))?;
        Some(cuckoo::may_contain(cuckoo, bloom::trace_hash(value)))
    }

    fn group_may_contain_trace(&self, group: usize, id: &[u8; 16]) -> bool {
        let trace = ColumnId::Intrinsic(prism_model::Intrinsic::TraceId);
        let has = |kind| self.meta.groups[group].table(kind).is_some_and(|t| t.columns.iter().any(|c| c.id == trace));
        let items = Outside::Column(TableKind::Items, trace.clone());
        let places = [
            (TableKind::Items, items),
            (TableKind::Links, Outside::Children(TableKind::Links)),
            (TableKind::Exemplars, Outside::Children(TableKind::Exemplars)),
        ];
        places
            .iter()
            .any(|(kind, column)| has(*kind) && self.in_filter(group, &filter_path(column), id).unwrap_or(true))
    }

    fn group_may_contain_token(&self, group: usize, key: &str, value: &str) -> bool {
        let known = self.token_filters().and_then(|f| f.get(group)?.may_contain(key, value));
        known.unwrap_or_else(|| self.columns_may_contain(group, key, value))
    }

    /// By the filters of the columns of a key that the token filter says nothing about.
    fn columns_may_contain(&self, group: usize, key: &str, value: &str) -> bool {
        let mut columns =
            self.meta.groups[group].tables.iter().flat_map(|t| t.columns.iter().map(move |c| (t.kind, c)));
        columns.any(|(kind, column)| match kind {
            // Any key may be in it.
            TableKind::Tail => true,
            _ if token_key(&column.id) != Some(key) => false,
            TableKind::Events | TableKind::Links | TableKind::Exemplars => true,
            _ => {
                let path = Outside::Column(kind, column.id.clone()).name();
                self.in_filter(group, &path, value.as_bytes()).unwrap_or(true)
            }
        })
    }

    /// Where the chunks of some columns of a row group lie.
    fn ranges(&self, index: usize, leaves: &[usize]) -> Vec<Range<u64>> {
        let group = self.parquet.row_group(index);
        let range = |leaf: &usize| {
            let (offset, len) = group.column(*leaf).byte_range();
            offset..offset + len
        };
        leaves.iter().map(range).collect()
    }

    fn group_cost(&self, index: usize, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        let (own, group) = (&self.meta.groups[index], self.parquet.row_group(index));
        let leaves = self.shape.wanted(own, group.columns(), want);
        let joined = join(self.ranges(index, &leaves), self.objects.gap_bytes());
        ReadCost { bytes: joined.iter().map(|r| r.end - r.start).sum(), reads: joined.len() as u64 }
    }

    /// As many reads as pages of these columns can lie apart in.
    fn group_cost_apart(&self, index: usize, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        let (own, group) = (&self.meta.groups[index], self.parquet.row_group(index));
        let leaves = self.shape.wanted(own, group.columns(), want);
        let gap = self.objects.gap_bytes();
        let mut cost = ReadCost { reads: 0, ..self.group_cost(index, want) };
        for range in self.ranges(index, &leaves) {
            cost.reads += (range.end - range.start) / (gap + 1) + 1;
        }
        cost
    }

    fn reader(&self, index: usize) -> Result<&ArrowReaderMetadata, StoreError> {
        let place = self.readers.get(index).ok_or(Damage::Bounds("row group"))?;
        if let Some(reader) = place.get() {
            return Ok(reader);
        }
        let schema = self.shape.arrow(&self.parquet, index)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(schema);
        let reader = ArrowReaderMetadata::try_new(self.parquet.clone(), options).map_err(damaged)?;
        Ok(place.get_or_init(|| reader))
    }

    /// The chunks of some leaves, checked.
    fn chunks(&self, index: usize, leaves: &[usize]) -> Result<Stretches, StoreError> {
        let (own, group) = (&self.meta.groups[index], self.parquet.row_group(index));
        let stretches = Stretches::read(&*self.objects, &self.name, self.ranges(index, leaves))?;
        for leaf in leaves {
            let (offset, len) = group.column(*leaf).byte_range();
            let bytes = stretches.get(offset, len as usize).map_err(damaged)?;
            check(&bytes, own.chunks.get(*leaf).copied().unwrap_or_default(), "column chunk")?;
        }
        Ok(stretches)
    }

    /// The pages of some leaves that hold some rows, checked.
    fn pages(
        &self,
        index: usize,
        leaves: &[usize],
        pages: &[ChunkPages],
        rows: &[Range<usize>],
    ) -> Result<Stretches, StoreError> {
        let group = self.parquet.row_group(index);
        let of_leaf = |leaf: &usize| pages[*leaf].holding(rows, group.column(*leaf).byte_range().0);
        let pages: Vec<(Range<u64>, u32)> = leaves.iter().flat_map(of_leaf).collect();
        let lie = pages.iter().map(|(lies, _)| lies.clone()).collect();
        let stretches = Stretches::read(&*self.objects, &self.name, lie)?;
        for (lies, crc) in pages {
            let bytes = stretches.get(lies.start, (lies.end - lies.start) as usize).map_err(damaged)?;
            check(&bytes, crc, "page")?;
        }
        Ok(stretches)
    }

    /// Leaves of a row group from bytes that were read: all rows, or those that are picked and what lies between.
    fn columns(
        &self,
        index: usize,
        leaves: Vec<usize>,
        stretches: Stretches,
        picked: Option<&Picked>,
    ) -> Result<HashMap<String, ArrayRef>, StoreError> {
        let all = self.meta.groups[index].rows;
        let metadata = self.reader(index)?.clone();
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), leaves);
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(stretches, metadata)
            .with_row_groups(vec![index])
            .with_projection(mask)
            .with_batch_size(all.max(1));
        if let Some(picked) = picked {
            reader = reader.with_row_selection(picked.selection(all));
        }
        rebuild::columns(reader.build().map_err(damaged)?, picked.map_or(all, Picked::read))
    }

    fn read_group(
        &self,
        index: usize,
        want: &dyn Fn(TableKind, &ColumnId) -> bool,
        rows: Option<&UInt32Array>,
    ) -> Result<(Batch, ReadCost), StoreError> {
        let own = &self.meta.groups[index];
        let group = self.parquet.row_group(index);
        let leaves = self.shape.wanted(own, group.columns(), want);
        let picked = rows.map(|rows| Picked::of(rows, own.rows)).transpose()?;
        let stretches = match (&picked, self.map.get(index)) {
            (Some(picked), Some(pages)) => self.pages(index, &leaves, pages, &picked.ranges)?,
            // Whole columns are read, which their checksums are of, but only the pages of wanted rows are decompressed.
            _ => self.chunks(index, &leaves)?,
        };
        let cost = stretches.cost;
        let columns = match &picked {
            _ if leaves.is_empty() => HashMap::new(),
            None => self.columns(index, leaves, stretches, None)?,
            Some(picked) => picked.of_those(self.columns(index, leaves, stretches, Some(picked))?)?,
        };
        let rows = rows.map_or(own.rows, Array::len);
        let mut origin = Origin {
            batch_id: [0; 16],
            first_row: 0,
            rows: rows as u32,
            received_unix_nanos: self.meta.received,
            redactions: Vec::new(),
        };
        if index == 0 {
            origin.redactions = self.meta.redactions.clone();
        }
        let batch = rebuild::batch(self.meta.signal, vec![origin], own, rows, columns, want)?;
        Ok((batch, cost))
    }
}

/// Where the page map lies: before the meta, if there is one.
fn map_at(parquet: &ParquetMetaData, meta_at: u64) -> Option<Stretch> {
    let (len, crc) = page_map::stands(parquet.file_metadata().key_value_metadata())?;
    Some(Stretch { offset: meta_at.checked_sub(len as u64)?, len: u32::try_from(len).ok()?, crc })
}

/// The last bytes so that all of Parquet's footer and the trailer before it are there, and the footer's length.
fn with_footer(objects: &dyn Objects, name: &str, len: u64, end: Bytes) -> Result<(Bytes, usize), StoreError> {
    let tail = end.len().checked_sub(FOOTER_TAIL).and_then(|at| end.get(at..)).ok_or(Damage::NotOurs("the file"))?;
    let (footer, magic) = tail.split_at(4);
    if magic != b"PAR1" {
        return Err(Damage::NotOurs("the file").into());
    }
    let footer = footer.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b)) as usize;
    let need = (footer + FOOTER_TAIL + TRAILER) as u64;
    if need > len {
        return Err(Damage::NotOurs("the file").into());
    }
    if need <= end.len() as u64 {
        return Ok((end, footer));
    }
    Ok((read(objects, name, len - need..len)?, footer))
}

/// A row group of a file.
struct Group {
    file: Arc<ColdFile>,
    index: usize,
}

impl Group {
    fn meta(&self) -> &GroupMeta {
        &self.file.meta.groups[self.index]
    }
}

impl Unit for Group {
    fn tier(&self) -> Tier {
        Tier::Cold
    }

    fn name(&self) -> String {
        let name = self.file.name.rsplit('/').next().unwrap_or_default();
        format!("{name}/{}", self.index)
    }

    fn signal(&self) -> Signal {
        self.file.meta.signal
    }

    fn window(&self) -> Window {
        Window::of(self.stats().time_min)
    }

    fn stats(&self) -> &FrameStats {
        &self.file.stats[self.index]
    }

    fn table_rows(&self, table: TableKind) -> usize {
        self.meta().table(table).map_or(0, |t| t.rows)
    }

    fn columns(&self, table: TableKind) -> &[ColumnMeta] {
        self.meta().table(table).map_or(&[], |t| &t.columns)
    }

    fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        self.file.group_may_contain_trace(self.index, id)
    }

    fn may_contain_token(&self, key: &str, value: &str) -> bool {
        self.file.group_may_contain_token(self.index, key, value)
    }

    fn read(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<(Batch, ReadCost), StoreError> {
        self.file.read_group(self.index, want, None)
    }

    fn skips(&self) -> bool {
        true
    }

    fn read_rows(
        &self,
        want: &dyn Fn(TableKind, &ColumnId) -> bool,
        rows: &UInt32Array,
    ) -> Result<(Batch, ReadCost), StoreError> {
        self.file.read_group(self.index, want, Some(rows))
    }

    fn rows_of(&self, column: &ColumnId, value: Exact<'_>) -> Result<Option<(UInt32Array, ReadCost)>, StoreError> {
        self.file.rows_of(self.index, column, value)
    }

    fn tells_values(&self, column: &ColumnId) -> bool {
        self.file.tells_values(self.index, column)
    }

    fn values_of(&self, column: &ColumnId) -> Result<Option<(ArrayRef, ReadCost)>, StoreError> {
        self.file.values_of(self.index, column)
    }

    fn numbers_of(&self, column: &ColumnId) -> Result<Option<(Numbered, ReadCost)>, StoreError> {
        self.file.numbers_of(self.index, column)
    }

    fn cost(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        self.file.group_cost(self.index, want)
    }

    fn cost_apart(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        self.file.group_cost_apart(self.index, want)
    }

    fn origins(&self) -> Result<Vec<Origin>, StoreError> {
        // The requests of rows that are so old are forgotten: nobody sends them again.
        Ok(Vec::new())
    }
}
