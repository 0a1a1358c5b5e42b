//! Column chunks of few or of random values, as pages without a look at each value: dictionaries stay the dictionaries that they
//! are in memory, and ids are copied. Parquet's own writer hashes and compares every value, which is half of its time.
//!
//! Written as the format's version 1 asks (data pages v1, RLE levels and numbers), for flat columns that may be null.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, UInt32Type};
use bytes::Bytes;
use foldhash::fast::RandomState;
use parquet::basic::{BoundaryOrder, Compression, Encoding, PageType};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::hybrid::{hybrid, levels};
use super::unwritable;
use crate::error::StoreError;
use crate::frame::stats::TextRange;

/// Bytes of a dictionary that is read at once whatever the pages.
const DICTIONARY_BYTES_MAX: usize = 4 << 20;
/// Values of a dictionary up to which pages have bounds.
const BOUNDED_VALUES_MAX: usize = 4_096;
/// Values between the smallest and the largest integer for which a table of numbers is kept.
const INTS_SPREAD_MAX: i64 = 1 << 16;

/// What a chunk is written with.
pub(super) struct Chunk {
    pub(super) leaf: ColumnDescPtr,
    pub(super) compression: Compression,
    pub(super) page_rows: usize,
    pub(super) value_page_rows: usize,
    /// Bounds of pages and chunk may be told.
    pub(super) bounds: bool,
    /// False positives of a Bloom filter, where one is wanted.
    pub(super) bloom: Option<f64>,
}

/// A chunk that was written.
pub(super) struct Written {
    pub(super) bytes: Bytes,
    pub(super) close: ColumnCloseResult,
}

/// The distinct values of a chunk.
enum Values {
    Texts(StringArray),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fixed(Vec<[u8; 16]>, usize),
}

/// Numbers of values, for the rows that have one.
struct Numbered<'a> {
    values: Values,
    numbers: Cow<'a, [u32]>,
}

/// The chunk of an array, where this way is the better one; `None` leaves it to Parquet's writer.
pub(super) fn write(
    array: &ArrayRef,
    chunk: Chunk,
    compressor: &mut Compressor<'static>,
) -> Result<Option<Written>, StoreError> {
    let numbered = match array.data_type() {
        DataType::Dictionary(..) => texts(array),
        DataType::Int32 => {
            ints(array.as_primitive::<Int32Type>(), |v| Values::Int32(v.into_iter().map(|v| v as i32).collect()))
        }
        DataType::Int64 => ints(array.as_primitive::<Int64Type>(), Values::Int64),
        DataType::FixedSizeBinary(_) => {
            let ids = array.as_fixed_size_binary();
            return match fixed(ids) {
                Some(numbered) => Pages::new(chunk, compressor).dictionary(array, &numbered).map(Some),
                None => Pages::new(chunk, compressor).plain(ids).map(Some),
            };
        }
        _ => None,
    };
    numbered.map(|numbered| Pages::new(chunk, compressor).dictionary(array, &numbered)).transpose()
}

/// A dictionary as it is, without the values that nobody uses.
fn texts(array: &ArrayRef) -> Option<Numbered<'_>> {
    let dictionary = array.as_dictionary::<UInt32Type>();
    let values = dictionary.values().as_string::<i32>();
    let keys = there(dictionary.keys());
    let mut used = vec![false; values.len()];
    keys.iter().for_each(|key| used[*key as usize] = true);
    let (texts, numbers) = if used.iter().all(|used| *used) {
        (values.clone(), keys)
    } else {
        let kept: Vec<usize> = (0..used.len()).filter(|key| used[*key]).collect();
        let mut new = vec![0; values.len()];
        kept.iter().zip(0..).for_each(|(key, number)| new[*key] = number);
        let texts = kept.iter().map(|key| values.is_valid(*key).then(|| values.value(*key))).collect();
        (texts, keys.iter().map(|key| new[*key as usize]).collect())
    };
    let bytes: usize = (0..texts.len()).map(|i| texts.value_length(i) as usize + 4).sum();
    if texts.null_count() > 0 || bytes > DICTIONARY_BYTES_MAX {
        return None;
    }
    Some(Numbered { values: Values::Texts(texts), numbers })
}

/// The values that are there.
fn there<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> Cow<'_, [T::Native]> {
    match array.nulls() {
        None => Cow::Borrowed(&array.values()[..]),
        Some(nulls) => nulls.valid_indices().map(|i| array.value(i)).collect(),
    }
}

/// Integers that lie close and repeat.
fn ints<T>(array: &PrimitiveArray<T>, collect: impl Fn(Vec<i64>) -> Values) -> Option<Numbered<'static>>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let there = there(array);
    let values = there.iter().map(|v| Into::<i64>::into(*v));
    let (min, max) = values.clone().fold((i64::MAX, i64::MIN), |(min, max), v| (min.min(v), max.max(v)));
    if there.is_empty() {
        return Some(Numbered { values: collect(Vec::new()), numbers: Cow::default() });
    }
    if max.checked_sub(min).is_none_or(|spread| spread >= INTS_SPREAD_MAX) {
        return None;
    }
    let mut new = vec![u32::MAX; (max - min) as usize + 1];
    let mut used = Vec::new();
    let mut numbers = Vec::with_capacity(there.len());
    for v in values {
        let slot = &mut new[(v - min) as usize];
        if *slot == u32::MAX {
            *slot = used.len() as u32;
            used.push(v);
        }
        numbers.push(*slot);
    }
    // Many values packed by difference take less than their dictionary.
    (used.len() <= (array.len() / 16).max(16)).then(|| Numbered { values: collect(used), numbers: numbers.into() })
}

/// Ids that repeat often enough.
fn fixed(array: &FixedSizeBinaryArray) -> Option<Numbered<'static>> {
    let width = array.value_size();
    if width > 16 {
        return None;
    }
    let count = array.len() - array.null_count();
    // Random ids show on the first thousands whether they repeat; near each other in time most of them do if any.
    let mut known: HashMap<u128, u32, RandomState> =
        HashMap::with_capacity_and_hasher(count / 4, RandomState::default());
    let mut used = Vec::new();
    let mut numbers = Vec::with_capacity(count);
    let mut last: Option<(u128, u32)> = None;
    for (seen, id) in array.iter().flatten().enumerate() {
        let mut value = [0; 16];
        value[..width].copy_from_slice(id);
        let key = u128::from_le_bytes(value);
        let next = used.len() as u32;
        let number = match last {
            // The rows of a trace mostly lie together.
            Some((last, number)) if last == key => number,
            _ => *known.entry(key).or_insert(next),
        };
        last = Some((key, number));
        if number == next {
            used.push(value);
        }
        numbers.push(number);
        if seen == 8_192 && used.len() > seen * 15 / 16 {
            return None;
        }
    }
    let bits = usize::BITS - used.len().leading_zeros();
    let dictionary = used.len() * width + count * bits as usize / 8;
    (dictionary < count * width && used.len() * width <= DICTIONARY_BYTES_MAX)
        .then(|| Numbered { values: Values::Fixed(used, width), numbers: numbers.into() })
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Texts(v) => v.len(),
            Values::Int32(v) => v.len(),
            Values::Int64(v) => v.len(),
            Values::Fixed(v, _) => v.len(),
        }
    }

    /// The dictionary page's bytes.
    fn plain(&self) -> Vec<u8> {
        match self {
            Values::Texts(v) => {
                let mut out = Vec::with_capacity(v.value_data().len() + v.len() * 4);
                for text in v.iter().flatten() {
                    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                out
            }
            Values::Int32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::Int64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::Fixed(v, width) => v.iter().flat_map(|v| &v[..*width]).copied().collect(),
        }
    }

    /// The values in their order; `None` for ids, whose bounds prune nothing.
    fn order(&self) -> Option<Vec<u32>> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        match self {
            Values::Texts(v) => order.sort_unstable_by_key(|i| v.value(*i as usize)),
            Values::Int32(v) => order.sort_unstable_by_key(|i| v[*i as usize]),
            Values::Int64(v) => order.sort_unstable_by_key(|i| v[*i as usize]),
            Values::Fixed(..) => return None,
        }
        Some(order)
    }

    /// The smallest and the largest value; `None` for ids, or where there is none.
    fn extremes(&self) -> Option<(u32, u32)> {
        let numbers = || 0..self.len() as u32;
        let pair = |min: Option<u32>, max: Option<u32>| min.zip(max);
        match self {
            Values::Texts(v) => {
                let text = |i: &u32| v.value(*i as usize);
                pair(numbers().min_by_key(text), numbers().max_by_key(text))
            }
            Values::Int32(v) => {
                pair(numbers().min_by_key(|i| v[*i as usize]), numbers().max_by_key(|i| v[*i as usize]))
            }
            Values::Int64(v) => {
                pair(numbers().min_by_key(|i| v[*i as usize]), numbers().max_by_key(|i| v[*i as usize]))
            }
            Values::Fixed(..) => None,
        }
    }

    fn insert_all(&self, bloom: &mut Sbbf) {
        match self {
            Values::Texts(v) => v.iter().flatten().for_each(|t| bloom.insert(t.as_bytes())),
            Values::Int32(v) => v.iter().for_each(|v| bloom.insert(v)),
            Values::Int64(v) => v.iter().for_each(|v| bloom.insert(v)),
            Values::Fixed(v, width) => v.iter().for_each(|v| bloom.insert(&v[..*width])),
        }
    }

    /// Bounds of two values as bytes, and whether they are exact; `None` where a text has no short upper bound.
    fn bounds(&self, min: u32, max: u32) -> Option<(Vec<u8>, Vec<u8>, bool)> {
        let (min, max) = (min as usize, max as usize);
        match self {
            Values::Texts(v) => {
                let range = TextRange::of([v.value(min), v.value(max)].into_iter())?;
                Some((range.min.as_bytes().to_vec(), range.max?.as_bytes().to_vec(), range.exact))
            }
            Values::Int32(v) => Some((v[min].to_le_bytes().to_vec(), v[max].to_le_bytes().to_vec(), true)),
            Values::Int64(v) => Some((v[min].to_le_bytes().to_vec(), v[max].to_le_bytes().to_vec(), true)),
            Values::Fixed(..) => None,
        }
    }

    fn statistics(&self, bounds: Option<(u32, u32)>, nulls: u64) -> Statistics {
        let nulls = Some(nulls);
        match self {
            Values::Texts(_) => {
                let own = bounds.and_then(|(min, max)| self.bounds(min, max));
                let exact = own.as_ref().is_none_or(|(_, _, exact)| *exact);
                let (min, max) = own.map(|(min, max, _)| (ByteArray::from(min), ByteArray::from(max))).unzip();
                let statistics = ValueStatistics::new(min, max, None, nulls, false);
                Statistics::ByteArray(statistics.with_min_is_exact(exact).with_max_is_exact(exact))
            }
            Values::Int32(v) => {
                let (min, max) = bounds.map(|(min, max)| (v[min as usize], v[max as usize])).unzip();
                Statistics::int32(min, max, None, nulls, false)
            }
            Values::Int64(v) => {
                let (min, max) = bounds.map(|(min, max)| (v[min as usize], v[max as usize])).unzip();
                Statistics::int64(min, max, None, nulls, false)
            }
            Values::Fixed(..) => ids_statistics(nulls),
        }
    }
}

fn ids_statistics(nulls: Option<u64>) -> Statistics {
    let none: Option<FixedLenByteArray> = None;
    Statistics::FixedLenByteArray(ValueStatistics::new(none.clone(), none, None, nulls, false))
}

/// The pages of a chunk, as they are added.
struct Pages<'c> {
    chunk: Chunk,
    out: TrackedWrite<Vec<u8>>,
    /// Takes longer to make than a small page to compress.
    compressor: &'c mut Compressor<'static>,
    raw: i64,
    dictionary: bool,
    data_at: Option<i64>,
    pages: i32,
    offsets: OffsetIndexBuilder,
    bounds: ColumnIndexBuilder,
}

impl<'c> Pages<'c> {
    fn new(chunk: Chunk, compressor: &'c mut Compressor<'static>) -> Pages<'c> {
        let bounds = ColumnIndexBuilder::new(chunk.leaf.physical_type());
        Pages {
            chunk,
            out: TrackedWrite::new(Vec::new()),
            compressor,
            raw: 0,
            dictionary: false,
            data_at: None,
            pages: 0,
            offsets: OffsetIndexBuilder::new(),
            bounds,
        }
    }

    fn dictionary(mut self, array: &ArrayRef, numbered: &Numbered<'_>) -> Result<Written, StoreError> {
        let Numbered { values, numbers } = numbered;
        let plain = values.plain();
        let page = Page::DictionaryPage {
            buf: self.compress(&plain)?,
            num_values: values.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.put(page, plain.len(), None)?;
        self.dictionary = true;
        // Bounds of pages that hold values from everywhere prune nothing, and sorting many texts takes its time.
        let by_page = self.chunk.bounds && values.len() <= BOUNDED_VALUES_MAX;
        let order = if by_page { values.order() } else { None };
        let ranks = order.as_ref().map(|order| {
            let mut ranks = vec![0; order.len()];
            order.iter().enumerate().for_each(|(rank, i)| ranks[*i as usize] = rank as u32);
            ranks
        });
        let mut bits = (u32::BITS - (values.len().max(1) as u32 - 1).leading_zeros()) as u8;
        let (mut from, mut taken) = (0, 0);
        while from < array.len() {
            let to = (from + self.chunk.page_rows).min(array.len());
            let mut head = Vec::new();
            let there = levels(array.nulls(), from, to, &mut head);
            let own = &numbers[taken..taken + there];
            let page = |bits: u8| {
                let mut raw = head.clone();
                raw.push(bits);
                hybrid(own, bits, &mut raw);
                raw
            };
            let mut raw = page(bits);
            let mut packed = self.compress(&raw)?;
            if from == 0 && bits > 8 && !bits.is_multiple_of(8) {
                // Numbers of whole bytes show zstd that values come again soon, as the ids of a trace do.
                let wide = page(bits.next_multiple_of(8));
                let wide_packed = self.compress(&wide)?;
                if wide_packed.len() < packed.len() {
                    (bits, raw, packed) = (bits.next_multiple_of(8), wide, wide_packed);
                }
            }
            let bounds = order.as_ref().zip(ranks.as_ref()).and_then(|(order, ranks)| {
                let of_page = own.iter().map(|n| ranks[*n as usize]);
                let (least, most) = of_page.fold((u32::MAX, 0), |(min, max), rank| (min.min(rank), max.max(rank)));
                let least = order.get(least as usize)?;
                values.bounds(*least, order[most as usize]).map(|(min, max, _)| (min, max))
            });
            self.data(packed, raw.len(), Encoding::RLE_DICTIONARY, to - from, there, bounds)?;
            (from, taken) = (to, taken + there);
        }
        let all = if self.chunk.bounds { values.extremes() } else { None };
        let statistics = values.statistics(all, (array.len() - numbers.len()) as u64);
        let bloom = self.chunk.bloom.map(|share| bloom(values.len(), share, |b| values.insert_all(b))).transpose()?;
        self.finish(array.len(), statistics, bloom)
    }

    /// Ids one after the other.
    fn plain(mut self, array: &FixedSizeBinaryArray) -> Result<Written, StoreError> {
        let (mut from, width) = (0, array.value_size());
        while from < array.len() {
            let to = (from + self.chunk.value_page_rows).min(array.len());
            let mut raw = Vec::with_capacity((to - from) * width + 64);
            let there = levels(array.nulls(), from, to, &mut raw);
            match array.nulls() {
                None => raw.extend_from_slice(&array.value_data()[from * width..to * width]),
                Some(nulls) => {
                    let there = nulls.slice(from, to - from);
                    there.valid_indices().for_each(|i| raw.extend_from_slice(array.value(from + i)));
                }
            }
            let packed = self.compress(&raw)?;
            self.data(packed, raw.len(), Encoding::PLAIN, to - from, there, None)?;
            from = to;
        }
        let count = array.len() - array.null_count();
        let insert = |b: &mut Sbbf| array.iter().flatten().for_each(|id| b.insert(id));
        let bloom = self.chunk.bloom.map(|share| bloom(count, share, insert)).transpose()?;
        self.finish(array.len(), ids_statistics(Some(array.null_count() as u64)), bloom)
    }

    fn compress(&mut self, raw: &[u8]) -> Result<Bytes, StoreError> {
        Ok(self.compressor.compress(raw).map_err(unwritable)?.into())
    }

    fn data(
        &mut self,
        buf: Bytes,
        raw: usize,
        encoding: Encoding,
        rows: usize,
        there: usize,
        bounds: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let page = Page::DataPage {
            buf,
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let nulls = (rows - there) as i64;
        match bounds {
            Some((min, max)) => self.bounds.append(false, min, max, nulls),
            None if there == 0 && self.chunk.bounds => self.bounds.append(true, Vec::new(), Vec::new(), nulls),
            None => self.bounds.to_invalid(),
        }
        self.put(page, raw, Some(rows))
    }

    /// Adds a page; `rows` of a data page.
    fn put(&mut self, page: Page, raw: usize, rows: Option<usize>) -> Result<(), StoreError> {
        let page = CompressedPage::new(page, raw);
        let spec = SerializedPageWriter::new(&mut self.out).write_page(page).map_err(unwritable)?;
        self.raw += spec.uncompressed_size as i64;
        if let Some(rows) = rows {
            self.data_at.get_or_insert(spec.offset as i64);
            self.pages += 1;
            self.offsets.append_row_count(rows as i64);
            self.offsets.append_offset_and_size(spec.offset as i64, spec.compressed_size as i32);
        }
        Ok(())
    }

    fn finish(self, rows: usize, statistics: Statistics, bloom: Option<Sbbf>) -> Result<Written, StoreError> {
        let Pages { chunk, out, raw, dictionary, data_at, pages, offsets, mut bounds, .. } = self;
        let bytes = Bytes::from(out.into_inner().map_err(unwritable)?);
        let encoding = if dictionary { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
        let stats = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let mut per_page = vec![stats(PageType::DATA_PAGE, encoding, pages)];
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        if dictionary {
            per_page.insert(0, stats(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1));
            encodings.push(Encoding::RLE_DICTIONARY);
        }
        let metadata = ColumnChunkMetaData::builder(chunk.leaf)
            .set_compression(chunk.compression)
            .set_encodings(encodings)
            .set_page_encoding_stats(per_page)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(raw)
            .set_num_values(rows as i64)
            .set_data_page_offset(data_at.unwrap_or_default())
            .set_dictionary_page_offset(dictionary.then_some(0))
            .set_statistics(statistics)
            .build()
            .map_err(unwritable)?;
        bounds.set_boundary_order(BoundaryOrder::UNORDERED);
        let column_index = if bounds.valid() { Some(bounds.build().map_err(unwritable)?) } else { None };
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: bloom,
            column_index,
            offset_index: Some(offsets.build()),
        };
        Ok(Written { bytes, close })
    }
}

fn bloom(values: usize, share: f64, insert: impl FnOnce(&mut Sbbf)) -> Result<Sbbf, StoreError> {
    // Sizes are powers of two: folded where that is enough.
    let mut bloom = Sbbf::new_with_ndv_fpp(values.max(1) as u64, share).map_err(unwritable)?;
    insert(&mut bloom);
    bloom.fold_to_target_fpp(share);
    Ok(bloom)
}

/// Whether a leaf is flat and may be null: what is written here.
pub(super) fn suits(leaf: &ColumnDescPtr) -> bool {
    leaf.max_rep_level() == 0 && leaf.max_def_level() == 1 && leaf.path().parts().len() == 1
}
