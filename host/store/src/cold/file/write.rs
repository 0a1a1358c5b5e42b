//! Rows to a Parquet file in the object store: sorted, in row groups, streamed column by column.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Schema, UInt32Type};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{BloomFilterPosition, EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use prism_model::{Batch, ColumnId, Redaction, Signal, TableKind};
use zstd::bulk::Compressor;

use super::flatten::{Flat, Gathered};
use super::meta::{self, FileMeta, GroupMeta, Stretch};
use super::page_map::{self, ChunkPages, PageMap};
use super::pages::{self, Chunk};
use super::rows::{INTERNED, Rows, is_index};
use super::summary;
use super::{FileOptions, FileSummary, Filter, cuckoo, unwritable};
use crate::cold::schema::{Found, KEY_METADATA, LastUse, Outside, arrow_schema, choose};
use crate::control::Create;
use crate::error::StoreError;
use crate::frame::bloom;
use crate::objects::{Objects, Upload};

/// Bytes after which an upload gets what was written.
const UPLOAD_BYTES: usize = 1 << 20;
/// Rows between looks at the size of a page.
const WRITE_BATCH_ROWS: usize = 4_096;
/// Bytes of a dictionary: the trace ids of a row group fit.
const DICTIONARY_BYTES_MAX: usize = 4 << 20;
/// Bytes of a text in the statistics.
const STATISTICS_TEXT_BYTES: usize = 32;

/// Writes one file. Rows are kept until [`Writer::finish`], since they are sorted; the caller begins another file when
/// [`Writer::is_full`].
pub struct Writer {
    objects: Arc<dyn Objects>,
    name: String,
    signal: Signal,
    options: FileOptions,
    batches: Vec<Batch>,
    rows: usize,
    bytes: usize,
    /// The latest receipt.
    received: Option<i64>,
    redactions: Redactions,
    known: Arc<BTreeMap<(TableKind, ColumnId), LastUse>>,
    today: i64,
    cube: Option<Vec<u8>>,
}

/// What redactors changed, by plugin, version and label.
type Redactions = BTreeMap<(String, String, String), u64>;

impl Writer {
    /// Begins a file. Nothing is in the object store before it is finished.
    pub fn begin(objects: Arc<dyn Objects>, name: &str, signal: Signal, options: &FileOptions) -> Writer {
        Writer {
            objects,
            name: name.to_owned(),
            signal,
            options: options.clone(),
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            received: None,
            redactions: Redactions::new(),
            known: Arc::default(),
            today: 0,
            cube: None,
        }
    }

    /// The attribute columns that the table has, with their last use, and today as days since 1970: what decides which keys of
    /// this file get a column ([`choose`]).
    pub fn known_columns(mut self, known: Arc<BTreeMap<(TableKind, ColumnId), LastUse>>, today: i64) -> Writer {
        (self.known, self.today) = (known, today);
        self
    }

    /// A rollup cube to stand in the file as it is.
    pub fn set_cube(&mut self, cube: Vec<u8>) {
        self.cube = Some(cube);
    }

    /// Adds rows.
    ///
    /// # Errors
    /// `Bug` where they are of another signal.
    pub fn write(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        if batch.signal != self.signal {
            return Err(unwritable(format!("expected {} in a file, found {}", self.signal, batch.signal)));
        }
        if batch.rows() > 0 {
            self.rows += batch.rows();
            self.bytes += batch.memory_bytes();
            // Summed at once: requests of a row each would take more than their rows until the file is full.
            for origin in std::mem::take(&mut batch.origins) {
                self.received = self.received.max(Some(origin.received_unix_nanos));
                for Redaction { plugin, version, label, count } in origin.redactions {
                    let sum = self.redactions.entry((plugin, version, label)).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
            self.batches.push(batch);
        }
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of them in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the file should be finished (`file_rows_max`, `file_bytes_max`).
    pub fn is_full(&self) -> bool {
        self.rows >= self.options.file_rows_max || self.bytes >= self.options.file_bytes_max
    }

    /// Sorts, writes and uploads. Blocks.
    ///
    /// # Errors
    /// `Retry` where the object store fails: nothing was written, or all. `Bug` where rows cannot be written.
    pub fn finish(self) -> Result<FileSummary, StoreError> {
        let Writer { objects, name, signal, options, batches, known, today, cube, bytes, rows, .. } = self;
        let of = |((plugin, version, label), count)| Redaction { plugin, version, label, count };
        let redactions = self.redactions.into_iter().map(of).collect();
        let per_row = (bytes / rows.max(1)).max(1);
        let group_rows = options.row_group_rows.min(options.row_group_bytes / per_row).max(1);
        let rows = Rows::sort(signal, batches, group_rows)?;
        let found = found(&rows)?;
        let promoted = choose(&known, &found, today, options.column_idle_days, options.attribute_columns_max);
        let flat = Flat::new(&rows, promoted, &options.personal)?;
        let schema = Arc::new(arrow_schema(&flat.columns));
        let upload = objects.upload(&name).map_err(|e| StoreError::io("began a cold file", e))?;
        let mut file = File::begin(Sink::new(upload), &schema, &flat.columns, signal, &options)?;
        let mut gathered = Gathered::default();
        let mut from = 0;
        while from < rows.len() {
            let to = (from + group_rows).min(rows.len());
            let group = flat.group(from..to, &mut gathered)?;
            file.group(&flat.columns, group, &options)?;
            from = to;
        }
        let time = rows.times.iter().fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(*t), max.max(*t)));
        let known =
            FileMeta { signal, groups: Vec::new(), received: self.received.unwrap_or(0), redactions, cube: None };
        let written = file.finish(known, cube.as_deref())?;
        let Gathered { mut traces, unbounded, attributes } = gathered;
        traces.sort_unstable();
        traces.dedup();
        let mut columns = summary::columns(&schema, &written.metadata);
        for column in &mut columns {
            if unbounded.contains(&column.name) {
                column.range = None;
            }
        }
        Ok(FileSummary {
            created: written.created,
            rows: rows.len() as u64,
            bytes: written.bytes,
            footer_bytes: written.footer_bytes,
            row_groups: written.metadata.num_row_groups(),
            time_min: time.0,
            time_max: time.1,
            columns,
            schema,
            attributes: attributes.into_iter().collect(),
            traces,
            cube,
            redactions: written.redactions,
        })
    }
}

/// The attribute keys of the file, and in how many rows each is.
fn found(rows: &Rows) -> Result<Vec<Found>, StoreError> {
    let attribute = |id: &ColumnId| matches!(id, ColumnId::Attr { .. }) && !is_index(id);
    let mut found: Vec<Found> = rows
        .items
        .iter()
        .filter(|c| attribute(&c.id))
        .map(|c| Found { table: TableKind::Items, id: c.id.clone(), rows: c.present() })
        .collect();
    for (kind, pointer) in INTERNED {
        let Some(table) = rows.tables.table(kind) else { continue };
        let mut used = vec![0u64; table.rows()];
        match rows.tables.items().index(pointer) {
            Some(pointers) => pointers.values().iter().for_each(|p| used[*p as usize] += 1),
            None => used[0] = rows.len() as u64,
        }
        for column in table.columns().iter().filter(|c| attribute(&c.id)) {
            let there = (0..table.rows()).filter(|r| column.array.is_valid(*r)).map(|r| used[r]).sum();
            found.push(Found { table: kind, id: column.id.clone(), rows: there });
        }
    }
    Ok(found)
}

/// A Parquet file that is being written.
struct File {
    parquet: SerializedFileWriter<Sink>,
    factory: ArrowRowGroupWriterFactory,
    schema: Arc<Schema>,
    descriptor: Arc<SchemaDescriptor>,
    compressor: Compressor<'static>,
    groups: Vec<GroupMeta>,
    /// `None` where a chunk does not tell its pages.
    map: Option<PageMap>,
    /// Filters by row group: written together behind the last one, so that one read gets those of all.
    aside: Vec<(usize, Aside, Vec<u8>)>,
}

/// Bytes of our own.
enum Aside {
    Tokens,
    Cuckoo(String),
}

struct Written {
    created: Create,
    bytes: u64,
    footer_bytes: u64,
    metadata: ParquetMetaData,
    redactions: Vec<Redaction>,
}

impl File {
    fn begin(
        sink: Sink,
        schema: &Arc<Schema>,
        columns: &[Outside],
        signal: Signal,
        options: &FileOptions,
    ) -> Result<File, StoreError> {
        let descriptor = ArrowSchemaConverter::new().schema_root("prism").convert(schema).map_err(unwritable)?;
        let properties = Arc::new(properties(schema, &descriptor, columns, signal, options)?);
        let parquet = SerializedFileWriter::new(sink, descriptor.root_schema_ptr(), properties).map_err(unwritable)?;
        let factory = ArrowRowGroupWriterFactory::new(&parquet, schema.clone());
        let descriptor = Arc::new(descriptor);
        let compressor = Compressor::new(options.level()).map_err(unwritable)?;
        Ok(File {
            parquet,
            factory,
            schema: schema.clone(),
            descriptor,
            compressor,
            groups: Vec::new(),
            map: Some(Vec::new()),
            aside: Vec::new(),
        })
    }

    fn group(
        &mut self,
        columns: &[Outside],
        group: super::flatten::Group,
        options: &FileOptions,
    ) -> Result<(), StoreError> {
        let number = self.groups.len();
        let mut pages = Vec::new();
        let rows = group.meta.rows;
        let mut writers = self.factory.create_column_writers(number).map_err(unwritable)?.into_iter();
        let mut row_group = self.parquet.next_row_group().map_err(unwritable)?;
        let descriptor = self.descriptor.clone();
        let mut leaves = descriptor.columns().iter();
        for ((field, array), column) in self.schema.fields().iter().zip(&group.arrays).zip(columns) {
            let own = compute_leaves(field, array).map_err(unwritable)?;
            let flat = own.len() == 1;
            for leaf in own {
                let of_leaf = leaves.next().zip(writers.next());
                let (descr, mut writer) = of_leaf.ok_or_else(|| unwritable("a column without a writer"))?;
                if flat
                    && pages::suits(descr)
                    && encoding(&column.name(), descr.physical_type()).is_none()
                    && let Some(chunk) = pages::write(array, chunk(descr, column, options)?, &mut self.compressor)?
                {
                    pages.push(ChunkPages::of(chunk.close.offset_index.as_ref(), rows));
                    row_group.append_column(&chunk.bytes, chunk.close).map_err(unwritable)?;
                    continue;
                }
                writer.write(&leaf).map_err(unwritable)?;
                let chunk = writer.close().map_err(unwritable)?;
                pages.push(ChunkPages::of(chunk.close().offset_index.as_ref(), rows));
                chunk.append_to_row_group(&mut row_group).map_err(unwritable)?;
            }
            if filter_of(column, options) == Filter::Cuckoo
                && let Some((path, mut hashes)) = hashes(column, array)
            {
                let filter = cuckoo::build(&mut hashes, options.false_positives());
                self.aside.push((number, Aside::Cuckoo(path), filter));
            }
        }
        row_group.close().map_err(unwritable)?;
        let tokens = group.tokens.build(options.token_filter_bytes_max);
        let mut meta = group.meta;
        meta.unknown = tokens.unknown;
        self.aside.push((number, Aside::Tokens, tokens.bytes));
        self.groups.push(meta);
        self.parquet.flush().map_err(|e| StoreError::io("wrote a cold file", e))?;
        let ranges: Vec<(u64, u64)> = match self.parquet.flushed_row_groups().last() {
            Some(group) => group.columns().iter().map(|c| c.byte_range()).collect(),
            None => Vec::new(),
        };
        let (sums, pages) =
            self.parquet.inner_mut().settle(&ranges, pages).map_err(|e| StoreError::io("wrote a cold file", e))?;
        if let Some(meta) = self.groups.last_mut() {
            meta.chunks = sums;
        }
        self.map = self.map.take().zip(pages).map(|(mut map, pages)| {
            map.push(pages);
            map
        });
        Ok(())
    }

    fn finish(mut self, known: FileMeta, cube: Option<&[u8]>) -> Result<Written, StoreError> {
        let failed = |e| StoreError::io("wrote a cold file", e);
        for (number, what, bytes) in std::mem::take(&mut self.aside) {
            let stretch = self.own_bytes(&bytes)?;
            match what {
                Aside::Tokens => self.groups[number].tokens = stretch,
                Aside::Cuckoo(path) => {
                    self.groups[number].cuckoos.insert(path, stretch);
                }
            }
        }
        let cube = cube.map(|bytes| self.own_bytes(bytes)).transpose()?;
        self.parquet.flush().map_err(failed)?;
        self.parquet.inner_mut().settle(&[], Vec::new()).map_err(failed)?;
        let map = self.map.take().map(|map| page_map::put(&map));
        map.iter().for_each(|map| self.parquet.append_key_value_metadata(page_map::told(map)));
        // What comes now is Bloom filters, page index and footer; our own meta goes between the last two.
        let metadata = self.parquet.finish().map_err(unwritable)?;
        self.parquet.flush().map_err(failed)?;
        let mut sink = std::mem::take(self.parquet.inner_mut());
        let end = std::mem::take(&mut sink.pending);
        let footer_len =
            end.len().checked_sub(8).and_then(|at| end[at..].first_chunk::<4>()).map(|n| u32::from_le_bytes(*n));
        let footer_len = footer_len.unwrap_or_default() as usize + 8;
        let footer_at = end.len().checked_sub(footer_len).ok_or_else(|| unwritable("a footer of no length"))?;
        let (before, footer) = end.split_at(footer_at);
        let base = sink.len;
        for (group, metas) in metadata.row_groups().iter().zip(&mut self.groups) {
            for column in group.columns() {
                let (Some(offset), Some(len)) = (column.bloom_filter_offset(), column.bloom_filter_length()) else {
                    continue;
                };
                let (offset, len) = (offset as u64, len as u32);
                let at = offset.checked_sub(base).ok_or_else(|| unwritable("a filter before its place"))? as usize;
                let bytes = before.get(at..at + len as usize).ok_or_else(|| unwritable("a filter behind the end"))?;
                let stretch = Stretch { offset, len, crc: crc32c::crc32c(bytes) };
                metas.blooms.insert(column.column_path().string(), stretch);
            }
        }
        let known = FileMeta { groups: self.groups, cube, ..known };
        let own = meta::encode(&known, &footer[..footer.len() - 8])?;
        let map = map.unwrap_or_default();
        let footer_bytes = (map.len() + own.len() + footer.len()) as u64;
        for bytes in [before, &map, &own, footer] {
            sink.put(bytes).map_err(failed)?;
        }
        let bytes = sink.len + sink.pending.len() as u64;
        let created = sink.finish().map_err(failed)?;
        Ok(Written { created, bytes, footer_bytes, metadata, redactions: known.redactions })
    }

    /// Writes bytes that Parquet readers skip.
    fn own_bytes(&mut self, bytes: &[u8]) -> Result<Stretch, StoreError> {
        let offset = self.parquet.bytes_written() as u64;
        self.parquet.write_all(bytes).map_err(|e| StoreError::io("wrote a cold file", e))?;
        let len = u32::try_from(bytes.len()).map_err(unwritable)?;
        Ok(Stretch { offset, len, crc: crc32c::crc32c(bytes) })
    }
}

/// The filter of a column; the trace ids of links and exemplars go with those of the items.
fn filter_of(column: &Outside, options: &FileOptions) -> Filter {
    match column {
        Outside::Children(TableKind::Links | TableKind::Exemplars) => options.filter("trace_id"),
        Outside::Column(_, id) if matches!(id.data_type(), DataType::Utf8 | DataType::FixedSizeBinary(_)) => {
            options.filter(&column.name())
        }
        _ => Filter::Off,
    }
}

/// The dotted path of a column's values that a filter is over.
pub(super) fn filter_path(column: &Outside) -> String {
    match column {
        Outside::Children(_) => format!("{}.list.element.trace_id", column.name()),
        _ => column.name(),
    }
}

/// The hashes of the values of ids or text, distinct as far as a dictionary says.
fn hashes(column: &Outside, array: &ArrayRef) -> Option<(String, Vec<u64>)> {
    let ids = |array: &ArrayRef| {
        array.as_fixed_size_binary_opt().map(|a| a.iter().flatten().map(bloom::trace_hash).collect())
    };
    let texts = |array: &ArrayRef| -> Option<Vec<u64>> {
        match array.as_dictionary_opt::<UInt32Type>() {
            Some(dictionary) => texts_of(dictionary.values()),
            None => texts_of(array),
        }
    };
    let hashes = match column {
        Outside::Children(_) => {
            let structs = array.as_list_opt::<i32>()?.values().as_struct_opt()?.column_by_name("trace_id")?.clone();
            ids(&structs)?
        }
        _ => ids(array).or_else(|| texts(array))?,
    };
    Some((filter_path(column), hashes))
}

fn texts_of(array: &ArrayRef) -> Option<Vec<u64>> {
    Some(array.as_string_opt::<i32>()?.iter().flatten().map(|t| bloom::trace_hash(t.as_bytes())).collect())
}

fn properties(
    schema: &Schema,
    descriptor: &SchemaDescriptor,
    columns: &[Outside],
    signal: Signal,
    options: &FileOptions,
) -> Result<WriterProperties, StoreError> {
    let keys: serde_json::Map<String, serde_json::Value> = schema
        .fields()
        .iter()
        .filter_map(|f| Some((f.name().clone(), f.metadata().get(KEY_METADATA)?.as_str().into())))
        .collect();
    let told = [
        ("prism.version", meta::VERSION.to_string()),
        ("prism.signal", signal.as_str().to_owned()),
        ("prism.keys", serde_json::Value::Object(keys).to_string()),
    ];
    let level = ZstdLevel::try_new(options.level()).map_err(unwritable)?;
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("prism ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_key_value_metadata(Some(told.into_iter().map(|(k, v)| KeyValue::new(k.to_owned(), v)).collect()))
        .set_data_page_row_count_limit(options.value_page_rows())
        .set_write_batch_size(options.value_page_rows().min(WRITE_BATCH_ROWS))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_bloom_filter_position(BloomFilterPosition::End)
        .set_statistics_truncate_length(Some(STATISTICS_TEXT_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_TEXT_BYTES))
        .set_max_row_group_row_count(None);
    let blooms: Vec<String> =
        columns.iter().filter(|c| filter_of(c, options) == Filter::Bloom).map(filter_path).collect();
    for leaf in descriptor.columns() {
        let path = leaf.path().clone();
        let top = path.parts().first().cloned().unwrap_or_default();
        let nested = path.parts().len() > 1;
        let statistics = match leaf.physical_type() {
            _ if options.personal.contains(&top) => EnabledStatistics::None,
            // Bounds of random bytes prune nothing; the nulls are counted all the same.
            Type::FIXED_LEN_BYTE_ARRAY | Type::BOOLEAN => EnabledStatistics::Chunk,
            _ if nested => EnabledStatistics::None,
            _ => EnabledStatistics::Page,
        };
        builder = builder.set_column_statistics_enabled(path.clone(), statistics);
        if !nested && let Some(encoding) = encoding(&top, leaf.physical_type()).or(otherwise(leaf.physical_type())) {
            builder = builder.set_column_encoding(path.clone(), encoding);
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
        }
        if blooms.contains(&path.string()) {
            builder = builder.set_column_bloom_filter_enabled(path.clone(), true);
            builder = builder.set_column_bloom_filter_fpp(path.clone(), options.false_positives());
            builder = builder.set_column_bloom_filter_max_ndv(path, options.row_group_rows.max(1) as u64);
        }
    }
    Ok(builder.build())
}

/// Columns of times and durations, which hardly repeat: differences are small.
fn encoding(top: &str, physical: Type) -> Option<Encoding> {
    let time = matches!(top, "time" | "timestamp" | "observed_time" | "start_time" | "duration");
    (time && physical == Type::INT64).then_some(Encoding::DELTA_BINARY_PACKED)
}

/// What [`pages`] leaves to Parquet's writer has too many values for a dictionary.
fn otherwise(physical: Type) -> Option<Encoding> {
    match physical {
        Type::INT32 | Type::INT64 => Some(Encoding::DELTA_BINARY_PACKED),
        Type::BYTE_ARRAY => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        _ => None,
    }
}

fn chunk(leaf: &ColumnDescPtr, column: &Outside, options: &FileOptions) -> Result<Chunk, StoreError> {
    let bloom = filter_of(column, options) == Filter::Bloom;
    Ok(Chunk {
        leaf: leaf.clone(),
        compression: Compression::ZSTD(ZstdLevel::try_new(options.level()).map_err(unwritable)?),
        page_rows: options.page_rows.max(1),
        value_page_rows: options.value_page_rows(),
        bounds: !options.personal.contains(&column.name()),
        bloom: bloom.then(|| options.false_positives()),
    })
}

/// Where Parquet's bytes go: to the upload, in large pieces.
#[derive(Default)]
struct Sink {
    upload: Option<Box<dyn Upload>>,
    pending: Vec<u8>,
    /// Bytes that the upload has.
    len: u64,
}

impl Sink {
    fn new(upload: Box<dyn Upload>) -> Sink {
        Sink { upload: Some(upload), ..Sink::default() }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= UPLOAD_BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(upload) = &mut self.upload else { return Err(io::ErrorKind::BrokenPipe.into()) };
        upload.write(&self.pending)?;
        self.len += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// The checksums of these chunks of what is still here, and of their pages where these are known of all of them; then it goes
    /// to the upload.
    fn settle(
        &mut self,
        chunks: &[(u64, u64)],
        pages: Vec<Option<ChunkPages>>,
    ) -> io::Result<(Vec<u32>, Option<Vec<ChunkPages>>)> {
        let mut sums = Vec::with_capacity(chunks.len());
        let mut map = (pages.len() == chunks.len()).then(|| Vec::with_capacity(chunks.len()));
        let mut pages = pages.into_iter();
        for (offset, len) in chunks {
            let at = offset.checked_sub(self.len).and_then(|at| usize::try_from(at).ok());
            let bytes = at.and_then(|at| self.pending.get(at..at + *len as usize));
            let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
            sums.push(crc32c::crc32c(bytes));
            let pages = pages.next().flatten().and_then(|pages| pages.summed(bytes));
            map = map.zip(pages).map(|(mut map, pages)| {
                map.push(pages);
                map
            });
        }
        self.send()?;
        Ok((sums, map))
    }

    fn finish(mut self) -> io::Result<Create> {
        self.send()?;
        self.upload.take().ok_or(io::ErrorKind::BrokenPipe)?.finish()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A row group is kept until its checksums are made: some megabytes.
        self.pending.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
