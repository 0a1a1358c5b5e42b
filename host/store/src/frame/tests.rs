//! A frame gives back what went in, as a whole and by column, and refuses damaged bytes.

use std::sync::Arc;

use arrow::datatypes::DataType;
use prism_model::samples::{self, Random, batch, texts};
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Signal, TableKind, Value};
use proptest::prelude::*;

use super::crypt::{Crypt, DataKey};
use super::decode::{Blooms, FrameMeta};
use super::encode::{Encoded, Position, encode, encode_joined};
use super::header::{FRAME_HEADER, FrameHeader};
use super::schema::{self, SegmentSchema};
use super::stats::Range;
use crate::error::Damage;

const NOW: i64 = 1_800_000_000_000_000_000;
const ALL: &dyn Fn(TableKind, &ColumnId) -> bool = &|_, _| true;

fn bytes_of(frame: &Encoded) -> Vec<u8> {
    bytes_with(frame, None)
}

fn bytes_with(frame: &Encoded, crypt: Option<Crypt<'_>>) -> Vec<u8> {
    let (block, _) = SegmentSchema::default().block(&frame.columns, &Vec::new());
    let at =
        Position { segment: 7, number: 0, epoch: 1, confirmed: 256, schema_base: 0, group: 0, split: false, crypt };
    let (header, body) = frame.place(&block, &at).unwrap();
    [&header[..], &body[..]].concat()
}

fn open<'a>(bytes: &'a [u8], key: Option<&Arc<DataKey>>) -> Result<(FrameMeta, &'a [u8]), Damage> {
    let header = FrameHeader::from_bytes(bytes.first_chunk::<FRAME_HEADER>().ok_or(Damage::Short("header"))?)?;
    let body = bytes.get(FRAME_HEADER..).ok_or(Damage::Short("body"))?;
    let head = body.get(..(header.schema_len + header.meta_len) as usize).ok_or(Damage::Short("body"))?;
    Ok((FrameMeta::open(header, head, key, &mut Vec::new(), None)?.0, bytes))
}

fn read(bytes: &[u8], want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<(Batch, u64), Damage> {
    read_with(bytes, None, want)
}

fn read_with(
    bytes: &[u8],
    key: Option<&Arc<DataKey>>,
    want: &dyn Fn(TableKind, &ColumnId) -> bool,
) -> Result<(Batch, u64), Damage> {
    let (meta, bytes) = open(bytes, key)?;
    let payload = bytes.get(meta.header.payload_at() as usize..).ok_or(Damage::Short("payload"))?;
    let mut total = 0;
    let mut stretches = Vec::new();
    for (at, len) in meta.stretches(want)? {
        total += len;
        let stretch = payload.get(at as usize..(at + len) as usize).ok_or(Damage::Short("payload"))?;
        stretches.push((at, stretch.to_vec()));
    }
    Ok((meta.rows_of(want, &stretches)?, total))
}

fn blooms(bytes: &[u8]) -> Blooms {
    let (meta, bytes) = open(bytes, None).unwrap();
    let at = meta.header.bloom_at() as usize;
    meta.blooms(&bytes[at..at + meta.header.bloom_len as usize]).unwrap()
}

/// Every string attribute of every scope, by key and value.
fn tokens(batch: &Batch) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for table in batch.tables() {
        let cell = |c: &arrow::array::ArrayRef, row: usize| {
            let plain = arrow::compute::cast(c, &arrow::datatypes::DataType::Utf8).unwrap();
            let plain = arrow::array::AsArray::as_string::<i32>(&plain).clone();
            arrow::array::Array::is_valid(&plain, row).then(|| plain.value(row).to_owned())
        };
        for c in table.columns() {
            if let ColumnId::Attr { key, ty: AttrType::Str } = &c.id {
                out.extend((0..table.rows()).filter_map(|row| Some((key.to_string(), cell(&c.array, row)?))));
            }
        }
        if table.kind() == TableKind::Tail {
            let (keys, values) = (table.intrinsic(Intrinsic::Key).unwrap(), table.intrinsic(Intrinsic::Value).unwrap());
            for row in 0..table.rows() {
                if let Ok(Value::Str(text)) = Value::from_text(&cell(values, row).unwrap()) {
                    out.push((cell(keys, row).unwrap(), text));
                }
            }
        }
    }
    out
}

fn trace_ids(batch: &Batch) -> Vec<[u8; 16]> {
    let columns = batch.tables().iter().filter_map(|t| t.intrinsic(Intrinsic::TraceId));
    columns
        .flat_map(|c| {
            let ids = arrow::array::AsArray::as_fixed_size_binary(c);
            ids.iter().flatten().map(|id| id.try_into().unwrap()).collect::<Vec<[u8; 16]>>()
        })
        .collect()
}

/// Small batches are compressed whole; repeating one makes a large one of the same oddness.
fn sample(signal: usize, rows: usize, seed: u64, large: bool) -> Batch {
    let one = batch(Signal::ALL[signal], rows, NOW, seed);
    if !large || rows == 0 {
        return one;
    }
    Batch::concat(&vec![one; super::encode::WHOLE_ROWS_MAX / rows + 1]).unwrap()
}

proptest! {
    #[test]
    fn any_batch_reads_back(signal in 0..3usize, rows in 0..40usize, seed in any::<u64>(), large in proptest::bool::weighted(0.05)) {
        let batch = sample(signal, rows, seed, large);
        let bytes = bytes_of(&encode(&batch, 1).unwrap());
        let (back, _) = read(&bytes, ALL).unwrap();
        prop_assert!(texts(&back) == texts(&batch));
        prop_assert_eq!(&back.origins, &batch.origins);
    }

    #[test]
    fn a_projection_equals_the_columns_of_a_full_read(
        signal in 0..3usize, rows in 1..40usize, seed in any::<u64>(), large in proptest::bool::weighted(0.05), pick in any::<u64>(),
    ) {
        let batch = sample(signal, rows, seed, large);
        let bytes = bytes_of(&encode(&batch, 1).unwrap());
        let want = |kind: TableKind, id: &ColumnId| {
            Random(pick ^ xxhash_rust::xxh3::xxh3_64(format!("{kind:?} {id}").as_bytes())).one_in(3)
        };
        let (part, _) = read(&bytes, &want).unwrap();
        let (full, _) = read(&bytes, ALL).unwrap();
        for f in full.tables() {
            let asked = f.columns().iter().any(|column| want(f.kind(), &column.id));
            let Some(p) = part.table(f.kind()) else {
                prop_assert!(!asked, "{:?} is left out", f.kind());
                continue;
            };
            prop_assert_eq!(p.rows(), f.rows());
            // What a table's rows belong to, or which rows belong to it, is known wherever anything of it is.
            let pointer = match f.kind() {
                TableKind::Resources => Some(Intrinsic::Resource),
                TableKind::Scopes => Some(Intrinsic::Scope),
                TableKind::Descriptors => Some(Intrinsic::Metric),
                _ => None,
            };
            let held = pointer.filter(|_| asked).is_none_or(|pointer| {
                full.items().intrinsic(pointer).is_none() || part.items().intrinsic(pointer).is_some()
            });
            prop_assert!(held && (f.intrinsic(Intrinsic::Parent).is_none() || p.intrinsic(Intrinsic::Parent).is_some()));
            for column in f.columns() {
                match p.column(&column.id) {
                    Some(array) => prop_assert_eq!(array.to_data(), column.array.to_data()),
                    None => prop_assert!(!want(f.kind(), &column.id)),
                }
            }
        }
    }

    /// What is told without rows is what the rows have.
    #[test]
    fn values_and_rows_of_a_number_equal_those_of_a_full_read(
        signal in 0..3usize, rows in 1..40usize, seed in any::<u64>(), large in proptest::bool::weighted(0.2), pick in any::<u64>(),
    ) {
        let batch = sample(signal, rows, seed, large);
        let bytes = bytes_of(&encode(&batch, 1).unwrap());
        let (meta, bytes) = open(&bytes, None).unwrap();
        let payload = &bytes[meta.header.payload_at() as usize..];
        let part = |(at, len): (u64, u64)| &payload[at as usize..(at + len) as usize];
        for column in batch.items().columns() {
            if let Some(stretch) = meta.values_stretch(&column.id).unwrap() {
                let values = meta.values_of(&column.id, part(stretch)).unwrap().unwrap();
                prop_assert_eq!(distinct(&values), distinct(&column.array), "{}", column.id);
                let plain = matches!(column.array.data_type(), DataType::Utf8);
                prop_assert!(plain || values.len() == distinct(&values).len(), "{}", column.id);
            }
            let (Some(stretch), DataType::Int64) = (meta.column_stretch(&column.id).unwrap(), column.array.data_type()) else {
                continue;
            };
            let ints = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&column.array);
            let Some(some) = ints.iter().flatten().nth(pick as usize % ints.len()).or(ints.iter().flatten().next()) else {
                continue;
            };
            for number in [some, some.wrapping_add(1), i64::MIN] {
                let rows = (0..ints.len() as u32).filter(|row| {
                    arrow::array::Array::is_valid(ints, *row as usize) && ints.value(*row as usize) == number
                });
                if let Some(found) = meta.rows_of_int(&column.id, number, part(stretch)).unwrap() {
                    prop_assert_eq!(found, rows.collect::<Vec<_>>(), "{} = {}", column.id, number);
                }
            }
        }
    }

    #[test]
    fn qu2_filters_and_statistics_never_lose_a_row(signal in 0..3usize, rows in 1..40usize, seed in any::<u64>()) {
        let batch = sample(signal, rows, seed, false);
        let bytes = bytes_of(&encode(&batch, 1).unwrap());
        let blooms = blooms(&bytes);
        for (key, value) in tokens(&batch) {
            prop_assert!(blooms.tokens.may_contain(&key, &value), "{key}={value}");
        }
        for id in trace_ids(&batch) {
            prop_assert!(blooms.traces.may_contain(&id));
        }
        let (meta, _) = open(&bytes, None).unwrap();
        for time in batch.event_times().values() {
            prop_assert!(meta.header.time_min <= *time && *time <= meta.header.time_max);
        }
        for table in batch.tables() {
            prop_assert_eq!(meta.rows(table.kind()), table.rows());
            for (stats, column) in meta.columns(table.kind()).iter().zip(table.columns()) {
                prop_assert_eq!(&stats.id, &column.id);
                check_statistics(stats, &column.array);
            }
        }
    }
}

fn check_statistics(stats: &super::stats::ColumnMeta, array: &arrow::array::ArrayRef) {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Float64Type, Int64Type};
    let plain = match array.data_type() {
        DataType::Dictionary(..) => arrow::compute::cast(array, &DataType::Utf8).unwrap(),
        DataType::Int32 | DataType::UInt32 | DataType::UInt8 => arrow::compute::cast(array, &DataType::Int64).unwrap(),
        _ => array.clone(),
    };
    assert_eq!(stats.null_count as usize, plain.null_count());
    for row in (0..plain.len()).filter(|row| plain.is_valid(*row)) {
        match &stats.range {
            None => {}
            Some(Range::Int { min, max }) => {
                let n = plain.as_primitive::<Int64Type>().value(row);
                assert!(*min <= n && n <= *max);
            }
            Some(Range::Double { min, max }) => {
                let n = plain.as_primitive::<Float64Type>().value(row);
                assert!(min.total_cmp(&n).is_le() && max.total_cmp(&n).is_ge());
            }
            Some(Range::Bool { any_true, any_false }) => {
                assert!(if plain.as_boolean().value(row) { *any_true } else { *any_false });
            }
            Some(Range::Text(range)) => {
                let text = plain.as_string::<i32>().value(row);
                assert!(*range.min <= *text && range.max.as_ref().is_none_or(|max| **max >= *text), "{text} {range:?}");
                if let Some(dictionary) = &stats.dictionary {
                    assert!(dictionary.iter().any(|v| **v == *text));
                }
            }
        }
    }
}

/// The values of a column, each once, as their bytes.
fn distinct(array: &arrow::array::ArrayRef) -> std::collections::BTreeSet<Vec<u8>> {
    use arrow::array::AsArray;
    let plain = match array.data_type() {
        DataType::Dictionary(..) => arrow::compute::cast(array, &DataType::Utf8).unwrap(),
        _ => array.clone(),
    };
    match plain.as_string_opt::<i32>() {
        Some(texts) => texts.iter().flatten().map(|text| text.as_bytes().to_vec()).collect(),
        None => plain.as_fixed_size_binary().iter().flatten().map(<[u8]>::to_vec).collect(),
    }
}

/// Trace ids that come again are kept by value, in a frame that says so; a frame without such ones stays one that any version reads.
#[test]
fn ids_that_come_again_are_kept_by_value() {
    use super::header::{FIRST_FRAME_VERSION, IDS_FRAME_VERSION};
    let version = |bytes: &[u8]| header_of(bytes).version;
    let id = ColumnId::from(Intrinsic::TraceId);
    let size = |bytes: &[u8]| {
        let (meta, _) = open(bytes, None).unwrap();
        meta.column_stretch(&id).unwrap().unwrap().1
    };
    let again = samples::spans(4_000, NOW, 1);
    let bytes = bytes_of(&encode(&again, 1).unwrap());
    let distinct = trace_ids(&again).into_iter().collect::<std::collections::HashSet<_>>().len();
    assert!(distinct * 2 <= 4_000);
    assert_eq!(version(&bytes), IDS_FRAME_VERSION);
    assert!(size(&bytes) < (distinct * 16 + 2 * 4_000 + 64) as u64, "{} bytes", size(&bytes));
    let (back, _) = read(&bytes, ALL).unwrap();
    assert!(texts(&back) == texts(&again));
    // Each id once: nothing is gained.
    let many = samples::spans(30_000, NOW, 2);
    let mut seen = std::collections::HashSet::new();
    let firsts = trace_ids(&many).into_iter().enumerate().filter(|(_, id)| seen.insert(*id)).map(|(row, _)| row as u32);
    let unique = many.select(&firsts.collect::<Vec<_>>().into()).unwrap();
    assert!(unique.rows() >= super::encode::WHOLE_ROWS_MAX);
    assert_eq!(version(&bytes_of(&encode(&unique, 1).unwrap())), FIRST_FRAME_VERSION);
    assert_eq!(version(&bytes_of(&encode(&samples::spans(20, NOW, 1), 1).unwrap())), FIRST_FRAME_VERSION);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Of columns that are here and not there, a dictionary here and plain text there, compressed as one here and by column there.
    #[test]
    fn joined_frames_read_back_though_their_values_are_not_compressed_again(
        signal in 0..3usize,
        parts in proptest::collection::vec((1..40usize, any::<u64>(), proptest::bool::weighted(0.8)), 1..4),
        encrypted in any::<bool>(),
    ) {
        let key = key(1);
        let crypt = |nonce| encrypted.then_some(Crypt { key: &key, nonce });
        let (mut batches, mut stored, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (nonce, (rows, seed, large)) in parts.into_iter().enumerate() {
            let batch = sample(signal, rows, seed, large);
            expected.extend(texts(&batch));
            let bytes = bytes_with(&encode(&batch, 1).unwrap(), crypt(nonce as u64));
            let (meta, bytes) = open(&bytes, encrypted.then_some(&key)).unwrap();
            batches.push(meta.rows_in(ALL, &bytes[FRAME_HEADER..]).unwrap());
            stored.push(meta.stored_values(&bytes[FRAME_HEADER..]).unwrap());
        }
        let joined = Batch::concat(&batches).unwrap();
        let bytes = bytes_of(&encode_joined(&joined, 1, &stored).unwrap());
        prop_assert!(texts(&read(&bytes, ALL).unwrap().0) == expected);
    }
}

#[test]
fn what_was_compressed_is_taken_over_where_frames_are_joined() {
    let parts = [samples::spans(2_500, NOW, 1), samples::spans(2_500, NOW, 2)];
    let (mut batches, mut stored) = (Vec::new(), Vec::new());
    for part in &parts {
        let bytes = bytes_of(&encode(part, 1).unwrap());
        let (meta, bytes) = open(&bytes, None).unwrap();
        batches.push(meta.rows_in(ALL, &bytes[FRAME_HEADER..]).unwrap());
        stored.push(meta.stored_values(&bytes[FRAME_HEADER..]).unwrap());
    }
    let joined = Batch::concat(&batches).unwrap();
    let (anew, again) = (encode(&joined, 1).unwrap(), encode_joined(&joined, 1, &stored).unwrap());
    let (anew, again) = (bytes_of(&anew), bytes_of(&again));
    for id in [Intrinsic::SpanId.into(), ColumnId::attr("url.path", AttrType::Str)] {
        let pieces =
            stored.iter().map(|of| &of[&(TableKind::Items, id.clone())].bytes[..]).collect::<Vec<_>>().concat();
        assert!(memchr::memmem::find(&again, &pieces).is_some(), "{id}");
    }
    assert!(again.len() < anew.len() + anew.len() / 50, "{} and {}", again.len(), anew.len());
    assert!(texts(&read(&again, ALL).unwrap().0) == texts(&read(&anew, ALL).unwrap().0));
}

#[test]
fn one_column_is_read_alone() {
    let batch = samples::spans(4_000, NOW, 1);
    let bytes = bytes_of(&encode(&batch, 1).unwrap());
    let (part, cost) = read(&bytes, &|kind, id| {
        kind == TableKind::Items && *id == ColumnId::attr("http.response.status_code", AttrType::Int)
    })
    .unwrap();
    // Two bytes a row and the origins, with what lies between them.
    assert!(cost < bytes.len() as u64 * 2 / 3, "{cost} of {}", bytes.len());
    assert_eq!(part.items().columns().len(), 1);
    assert!(part.tables().iter().all(|table| table.kind() == TableKind::Items || table.columns().is_empty()));
    assert_eq!(part.rows(), 4_000);
}

#[test]
fn a_small_frame_is_small() {
    let bytes = bytes_of(&encode(&samples::spans(20, NOW, 1), 1).unwrap());
    assert!(bytes.len() < 20 * 400, "{} bytes for 20 spans", bytes.len());
}

/// PL-1: what a redactor took out by making it null, or by pointing rows to another dictionary value, is not on disk.
#[test]
fn pl1_bytes_under_nulls_and_unused_dictionary_values_are_not_written() {
    use arrow::array::{ArrayRef, DictionaryArray, StringArray, UInt32Array};
    use arrow::buffer::NullBuffer;
    use prism_model::{Column, Table};
    let secret = StringArray::from(vec!["keep", "SECRET-1", "keep"]);
    let nulls = NullBuffer::from(vec![true, false, true]);
    let hidden = StringArray::new(secret.offsets().clone(), secret.values().clone(), Some(nulls));
    let values = StringArray::from(vec!["SECRET-2", "clear"]);
    let unused = DictionaryArray::new(UInt32Array::from(vec![1, 1, 1]), std::sync::Arc::new(values));
    let ids = arrow::array::FixedSizeBinaryArray::new(
        8,
        b"SECRET-3SECRET-4clear-id".to_vec().into(),
        Some(vec![false, false, true].into()),
    );
    let column = |id: ColumnId, array: ArrayRef| Column { id, array };
    let items = Table::try_new(
        TableKind::Items,
        3,
        vec![
            column(ColumnId::attr("a", AttrType::Str), std::sync::Arc::new(hidden)),
            column(ColumnId::attr("b", AttrType::Str), std::sync::Arc::new(unused)),
            column(Intrinsic::ParentId.into(), std::sync::Arc::new(ids)),
        ],
    );
    let batch = Batch::try_new(Signal::Spans, Vec::new(), vec![items.unwrap()]).unwrap();
    // So few bytes are not compressed: they would be found.
    for batch in [batch.clone(), Batch::concat(&vec![batch; 1_000]).unwrap()] {
        let bytes = bytes_of(&encode(&batch, 1).unwrap());
        assert!(!bytes.windows(6).any(|w| w == b"SECRET"));
        let (back, _) = read(&bytes, ALL).unwrap();
        assert_eq!(texts(&back), texts(&batch));
        for table in back.tables() {
            assert!(table.columns().iter().all(|c| !format!("{:?}", c.array.to_data()).contains("SECRET")));
        }
    }
}

/// Numbers of a list that is null, and lists that a slice leaves out, are not written; empty lists stay lists.
#[test]
fn lists_under_nulls_are_not_written() {
    use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use prism_model::{Column, Table};
    let secret = i64::from_le_bytes(*b"SECRET-1");
    let DataType::List(item) = Intrinsic::BucketCounts.data_type() else { unreachable!("a list") };
    let values = Int64Array::from(vec![secret, 1, 2, secret, 3]);
    let nulls = NullBuffer::from(vec![true, true, true, false, true]);
    let offsets = OffsetBuffer::from_lengths([1, 2, 0, 1, 1]);
    let lists: ArrayRef = std::sync::Arc::new(ListArray::new(item, offsets, std::sync::Arc::new(values), Some(nulls)));
    let column = Column { id: Intrinsic::BucketCounts.into(), array: lists.slice(1, 4) };
    let items = Table::try_new(TableKind::Items, 4, vec![column]).unwrap();
    let batch = Batch::try_new(Signal::Metrics, Vec::new(), vec![items]).unwrap();
    let bytes = bytes_of(&encode(&batch, 1).unwrap());
    assert!(!bytes.windows(6).any(|w| w == b"SECRET"));
    let (back, _) = read(&bytes, ALL).unwrap();
    assert_eq!(texts(&back), texts(&batch));
    let lists = back.items().intrinsic(Intrinsic::BucketCounts).unwrap().as_list::<i32>();
    assert_eq!(lists.values().len(), 3);
    assert_eq!(lists.iter().map(|l| l.map(|l| l.len())).collect::<Vec<_>>(), [Some(2), Some(0), None, Some(1)]);
}

fn key(seed: u8) -> Arc<DataKey> {
    Arc::new(DataKey::new(&[seed; 32]).unwrap())
}

proptest! {
    /// Whole and by column, and no value of it stands in the bytes.
    #[test]
    fn an_encrypted_frame_reads_back(
        signal in 0..3usize, rows in 1..40usize, seed in any::<u64>(), large in proptest::bool::weighted(0.05), nonce in any::<u64>(),
    ) {
        let batch = sample(signal, rows, seed, large);
        let (key, frame) = (key(1), encode(&batch, 1).unwrap());
        let bytes = bytes_with(&frame, Some(Crypt { key: &key, nonce }));
        let (back, _) = read_with(&bytes, Some(&key), ALL).unwrap();
        prop_assert!(texts(&back) == texts(&batch));
        prop_assert_eq!(&back.origins, &batch.origins);
        let odd = |_: TableKind, id: &ColumnId| id.to_string().len().is_multiple_of(2);
        let (part, _) = read_with(&bytes, Some(&key), &odd).unwrap();
        let (clear, _) = read(&bytes_of(&frame), &odd).unwrap();
        prop_assert!(texts(&part) == texts(&clear));
        let (meta, _) = open(&bytes, Some(&key)).unwrap();
        let (at, len) = meta.origins_stretch();
        let from = (meta.header.payload_at() + at) as usize;
        prop_assert_eq!(meta.origins_of(&bytes[from..from + len as usize]).unwrap(), batch.origins.clone());
        let bloom_at = meta.header.bloom_at() as usize;
        let filters = meta.blooms(&bytes[bloom_at..bloom_at + meta.header.bloom_len as usize]).unwrap();
        for (key, value) in tokens(&batch) {
            prop_assert!(filters.tokens.may_contain(&key, &value), "{key}={value}");
        }
    }
}

/// A frame opens with its own key only, as the frame that it is, and not where its segment is clear.
#[test]
fn an_encrypted_frame_opens_nowhere_else() {
    let batch = batch(Signal::Spans, 25, NOW, 5);
    let (own, other, frame) = (key(1), key(2), encode(&batch, 1).unwrap());
    let bytes = bytes_with(&frame, Some(Crypt { key: &own, nonce: 3 }));
    assert!(read_with(&bytes, Some(&own), ALL).is_ok());
    assert_eq!(read_with(&bytes, Some(&other), ALL).unwrap_err(), Damage::Sealed("schema"));
    assert!(read_with(&bytes, None, ALL).is_err());
    assert!(read_with(&bytes_of(&frame), Some(&own), ALL).is_err());
    // Every clear field of the header is part of what is authenticated, whoever makes the checksums right again.
    let header = FrameHeader::from_bytes(bytes.first_chunk().unwrap()).unwrap();
    let moved = [
        FrameHeader { segment: 8, ..header.clone() },
        FrameHeader { number: 1, ..header.clone() },
        FrameHeader { rows: header.rows + 1, ..header.clone() },
        FrameHeader { epoch: 2, ..header.clone() },
        FrameHeader { confirmed: 0, ..header.clone() },
        FrameHeader { time_min: header.time_min - 1, ..header.clone() },
        FrameHeader { time_max: header.time_max + 1, ..header.clone() },
        FrameHeader { group: 1, ..header.clone() },
        FrameHeader { split: true, ..header.clone() },
        FrameHeader { nonce: Some(4), ..header.clone() },
    ];
    for header in moved {
        let changed = [&header.to_bytes()[..], &bytes[FRAME_HEADER..]].concat();
        assert_eq!(read_with(&changed, Some(&own), ALL).unwrap_err(), Damage::Sealed("schema"), "{header:?}");
    }
    // Blocks of the same length that change places: no checksum tells, the places do.
    let many = Batch::concat(&vec![batch; super::encode::WHOLE_ROWS_MAX / 25 + 1]).unwrap();
    let frame = encode(&many, 1).unwrap();
    let bytes = bytes_with(&frame, Some(Crypt { key: &own, nonce: 3 }));
    let again = bytes_with(&frame, Some(Crypt { key: &own, nonce: 4 }));
    let at = header_of(&bytes).payload_at() as usize;
    let swapped = [&bytes[..at], &again[at..]].concat();
    assert!(matches!(read_with(&swapped, Some(&own), ALL), Err(Damage::Sealed("buffer"))));
}

fn header_of(bytes: &[u8]) -> FrameHeader {
    FrameHeader::from_bytes(bytes.first_chunk().unwrap()).unwrap()
}

/// Each byte flipped in turn, with checksums made right again: an encrypted frame is refused or its rows are the same.
#[test]
fn no_change_that_hides_itself_changes_an_encrypted_row() {
    let batch = batch(Signal::Logs, 12, NOW, 9);
    let (own, expected) = (key(1), texts(&batch));
    let mut bytes = bytes_with(&encode(&batch, 1).unwrap(), Some(Crypt { key: &own, nonce: 9 }));
    let clear = header_of(&bytes);
    for i in FRAME_HEADER..bytes.len() {
        bytes[i] ^= 1 << (i % 8);
        let part = |from: u64, len: u64| crc32c::crc32c(&bytes[from as usize..(from + len) as usize]);
        let header = FrameHeader {
            head_crc: part(FRAME_HEADER as u64, u64::from(clear.schema_len + clear.meta_len)),
            bloom_crc: part(clear.bloom_at(), u64::from(clear.bloom_len)),
            payload_crc: part(clear.payload_at(), clear.payload_len),
            ..clear.clone()
        };
        bytes[..FRAME_HEADER].copy_from_slice(&header.to_bytes());
        match read_with(&bytes, Some(&own), ALL) {
            Ok((back, _)) => {
                // The filters are not read here.
                let bloom = clear.bloom_at() as usize..clear.payload_at() as usize;
                assert!(bloom.contains(&i) && texts(&back) == expected, "flip at {i}");
                let (meta, bytes) = open(&bytes, Some(&own)).unwrap();
                assert_eq!(meta.blooms(&bytes[bloom]).unwrap_err(), Damage::Sealed("blooms"), "flip at {i}");
            }
            Err(damage) => assert!(matches!(damage, Damage::Sealed(_)), "{damage} at {i}"),
        }
        bytes[i] ^= 1 << (i % 8);
    }
}

/// Each byte flipped in turn: the frame is refused or its rows are the same, and nothing panics.
#[test]
fn no_flipped_bit_changes_a_row() {
    let metrics = batch(Signal::Metrics, 12, NOW, 3);
    let lists = [Intrinsic::BucketCounts, Intrinsic::ExplicitBounds].map(|id| metrics.items().intrinsic(id).is_some());
    assert_eq!(lists, [true; 2]);
    for batch in [batch(Signal::Spans, 25, NOW, 5), batch(Signal::Logs, 12, NOW, 9), metrics] {
        let expected = texts(&batch);
        let mut bytes = bytes_of(&encode(&batch, 1).unwrap());
        for i in 0..bytes.len() {
            let bit = 1 << (i % 8);
            bytes[i] ^= bit;
            if let Ok((back, _)) = read(&bytes, ALL) {
                assert!(texts(&back) == expected, "flip at {i}");
            }
            bytes[i] ^= bit;
        }
    }
}

proptest! {
    /// Behind the checksums: a directory of any bytes is refused, not believed.
    #[test]
    fn any_meta_is_refused_without_a_panic(signal in 0..3usize, seed in any::<u64>(), flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let frame = encode(&batch(Signal::ALL[signal], 12, NOW, seed), 1).unwrap();
        let bytes = bytes_of(&frame);
        let header = FrameHeader::from_bytes(bytes.first_chunk().unwrap()).unwrap();
        let (schema_len, meta_len) = (header.schema_len as usize, header.meta_len as usize);
        let mut block = bytes[FRAME_HEADER..FRAME_HEADER + schema_len].to_vec();
        let stored = &bytes[FRAME_HEADER + schema_len..FRAME_HEADER + schema_len + meta_len];
        let mut meta = if header.meta_len == header.meta_raw {
            stored.to_vec()
        } else {
            super::buffer::decompress(stored, header.meta_raw as usize).unwrap()
        };
        for (at, byte) in &flips {
            let i = at.index(meta.len());
            meta[i] = *byte;
            let i = at.index(block.len());
            block[i] ^= byte & 3;
        }
        let payload = bytes[header.payload_at() as usize..].to_vec();
        let header = FrameHeader { meta_len: meta.len() as u32, meta_raw: meta.len() as u32, ..header };
        let Ok((columns, _)) = schema::read(&block, &mut Vec::new()) else { return Ok(()) };
        let Ok(meta) = FrameMeta::read(header, &meta, None, &columns, None) else { return Ok(()) };
        let stretches: Vec<(u64, Vec<u8>)> = meta
            .stretches(ALL)
            .unwrap()
            .into_iter()
            .filter_map(|(at, len)| Some((at, payload.get(at as usize..(at + len) as usize)?.to_vec())))
            .collect();
        let _ = meta.rows_of(ALL, &stretches);
    }
}
