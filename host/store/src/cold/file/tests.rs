//! Rows of all signals to files and back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt8Array, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt8Type};
use prism_model::samples::{self, texts};
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Signal, Table, TableKind, Value};
use proptest::prelude::*;

use super::*;
use crate::cold::delta::Scalar;
use crate::control::Create;
use crate::disk::RealDisk;
use crate::objects::{LocalObjects, Objects};
use crate::unit::Exact;

const NOW: i64 = 1_800_000_000_000_000_000;

struct Place {
    _dir: tempfile::TempDir,
    objects: Arc<dyn Objects>,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), dir.path(), 1));
    Place { _dir: dir, objects }
}

fn write(place: &Place, signal: Signal, batches: &[Batch], options: &FileOptions) -> FileSummary {
    let mut writer = Writer::begin(place.objects.clone(), "t/x.parquet", signal, options);
    batches.iter().for_each(|b| writer.write(b.clone()).unwrap());
    writer.finish().unwrap()
}

fn open(place: &Place, summary: &FileSummary) -> Arc<ColdFile> {
    ColdFile::open(place.objects.clone(), "t/x.parquet", summary.bytes).unwrap()
}

fn read_all(file: &Arc<ColdFile>) -> Vec<Batch> {
    file.frames(TimeRange::ALL).iter().map(|f| f.read(&|_, _| true).unwrap().0).collect()
}

/// The order of an attribute list carries no meaning: the tail's rows of one owner, sorted.
fn ordered(batch: &Batch) -> Batch {
    let Some(tail) = batch.table(TableKind::Tail) else { return batch.clone() };
    let plain = |i: Intrinsic| cast(tail.intrinsic(i).unwrap(), &DataType::Utf8).unwrap();
    let (keys, values) = (plain(Intrinsic::Key), plain(Intrinsic::Value));
    let of = tail.intrinsic(Intrinsic::Of).unwrap().as_primitive::<UInt8Type>();
    let parents = tail.index(Intrinsic::Parent).unwrap();
    let mut order: Vec<u32> = (0..tail.rows() as u32).collect();
    order.sort_by_key(|&i| {
        let i = i as usize;
        let text = |a: &ArrayRef| a.as_string::<i32>().value(i).to_owned();
        (of.value(i), parents.value(i), text(&keys), text(&values))
    });
    let order = UInt32Array::from(order);
    let columns =
        tail.columns().iter().map(|c| Column { id: c.id.clone(), array: take(&c.array, &order, None).unwrap() });
    let sorted = Table::try_new(TableKind::Tail, tail.rows(), columns.collect()).unwrap();
    let mut tables: Vec<Table> = batch.tables().iter().filter(|t| t.kind() != TableKind::Tail).cloned().collect();
    tables.push(sorted);
    Batch::try_new(batch.signal, batch.origins.clone(), tables).unwrap()
}

fn multiset(batches: &[Batch]) -> Vec<String> {
    let mut all: Vec<String> = batches.iter().flat_map(|b| texts(&ordered(b))).collect();
    all.sort();
    all
}

fn any_signal() -> impl Strategy<Value = Signal> {
    prop_oneof![Just(Signal::Spans), Just(Signal::Logs), Just(Signal::Metrics)]
}

/// Small row groups and pages, so that few rows make several.
fn small(filter: Filter) -> FileOptions {
    FileOptions {
        row_group_rows: 7,
        page_rows: 3,
        filters: BTreeMap::from([("trace_id".into(), filter), ("attr:http:route".into(), filter)]),
        ..FileOptions::default()
    }
}

fn any_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![Just(Filter::Off), Just(Filter::Bloom), Just(Filter::Cuckoo)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// ST-4: cold keeps the multiset of rows, with everything that belongs to them.
    #[test]
    fn rows_read_back_as_they_were(
        signal in any_signal(),
        parts in proptest::collection::vec((0..20usize, any::<u64>()), 1..5),
        filter in any_filter(),
    ) {
        let parts: Vec<Batch> =
            parts.into_iter().map(|(rows, seed)| samples::batch(signal, rows, NOW, seed)).collect();
        let place = place();
        let summary = write(&place, signal, &parts, &small(filter));
        let file = open(&place, &summary);
        let back = read_all(&file);
        prop_assert_eq!(multiset(&back), multiset(&parts));
        prop_assert_eq!(summary.rows, parts.iter().map(|b| b.rows() as u64).sum::<u64>());
        file.verify().unwrap();
    }
}

#[test]
fn row_groups_follow_in_time_and_hold_services_and_their_traces_together() {
    let place = place();
    let spans = samples::spans(1_000, NOW, 3);
    let options = FileOptions { row_group_rows: 100, ..FileOptions::default() };
    let summary = write(&place, Signal::Spans, std::slice::from_ref(&spans), &options);
    let file = open(&place, &summary);
    let back = read_all(&file);
    assert_eq!((back.len(), summary.row_groups), (10, 10));
    assert_eq!(multiset(&back), multiset(&[spans]));
    let mut until = i64::MIN;
    for batch in &back {
        let resources = batch.table(TableKind::Resources).unwrap();
        let services = resources.column(&ColumnId::attr("service.name", AttrType::Str)).unwrap();
        let services = services.as_string::<i32>();
        let times = batch.event_times();
        let traces = batch.items().intrinsic(Intrinsic::TraceId).unwrap().as_fixed_size_binary();
        let (from, to) = times.values().iter().fold((i64::MAX, i64::MIN), |(a, b), t| (a.min(*t), b.max(*t)));
        assert!(until <= from, "row groups follow each other");
        until = to;
        let resource = |row| batch.items().index(Intrinsic::Resource).map_or(0, |r| r.value(row));
        let rows = 0..batch.rows();
        assert!(rows.clone().map(|row| services.value(resource(row) as usize)).is_sorted(), "by service");
        // Runs of one resource and trace: each comes once, and they are in the order of their begins.
        let runs: Vec<Vec<usize>> = rows
            .collect::<Vec<_>>()
            .chunk_by(|a, b| (resource(*a), traces.value(*a)) == (resource(*b), traces.value(*b)))
            .map(<[_]>::to_vec)
            .collect();
        let distinct: BTreeSet<_> = runs.iter().map(|run| (resource(run[0]), traces.value(run[0]))).collect();
        assert_eq!(runs.len(), distinct.len(), "a trace of a resource lies together");
        let begin = |run: &Vec<usize>| run.iter().map(|row| times.value(*row)).min().unwrap();
        for pair in runs.windows(2).filter(|p| resource(p[0][0]) == resource(p[1][0])) {
            assert!(begin(&pair[0]) <= begin(&pair[1]), "traces by their begin");
        }
    }
}

/// Attributes as attributes of the tail: what a key beyond the cap becomes.
fn loosened(batch: &Batch) -> Batch {
    let mut rows: Vec<(u8, u32, String, String)> = Vec::new();
    let mut tables = Vec::new();
    for table in batch.tables() {
        if table.kind() == TableKind::Tail {
            let plain = |i: Intrinsic| cast(table.intrinsic(i).unwrap(), &DataType::Utf8).unwrap();
            let (keys, values) = (plain(Intrinsic::Key), plain(Intrinsic::Value));
            let of = table.intrinsic(Intrinsic::Of).unwrap().as_primitive::<UInt8Type>();
            for i in 0..table.rows() {
                let text = |a: &ArrayRef| a.as_string::<i32>().value(i).to_owned();
                rows.push((of.value(i), table.index(Intrinsic::Parent).unwrap().value(i), text(&keys), text(&values)));
            }
            continue;
        }
        let mut columns = Vec::new();
        for column in table.columns() {
            let ColumnId::Attr { key, ty } = &column.id else {
                columns.push(column.clone());
                continue;
            };
            if table.kind().is_child() {
                columns.push(column.clone());
                continue;
            }
            let plain = cast(&column.array, &ty.data_type()).unwrap();
            for row in (0..table.rows()).filter(|r| plain.is_valid(*r)) {
                let value = match ty {
                    AttrType::Str => Value::Str(plain.as_string::<i32>().value(row).into()).to_text(),
                    AttrType::Json => plain.as_string::<i32>().value(row).to_owned(),
                    AttrType::Int => Value::Int(plain.as_primitive::<Int64Type>().value(row)).to_text(),
                    AttrType::Double => Value::Double(plain.as_primitive::<Float64Type>().value(row)).to_text(),
                    AttrType::Bool => Value::Bool(plain.as_boolean().value(row)).to_text(),
                    AttrType::Bytes => Value::Bytes(plain.as_binary::<i32>().value(row).to_vec()).to_text(),
                };
                rows.push((table.kind() as u8, row as u32, key.to_string(), value));
            }
        }
        tables.push(Table::try_new(table.kind(), table.rows(), columns).unwrap());
    }
    rows.sort();
    if !rows.is_empty() {
        let columns: [(Intrinsic, ArrayRef); 4] = [
            (Intrinsic::Of, Arc::new(UInt8Array::from_iter_values(rows.iter().map(|r| r.0)))),
            (Intrinsic::Parent, Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.1)))),
            (Intrinsic::Key, Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.2)))),
            (Intrinsic::Value, Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.3)))),
        ];
        let columns = columns.into_iter().map(|(id, array)| Column { id: id.into(), array }).collect();
        tables.push(Table::try_new(TableKind::Tail, rows.len(), columns).unwrap());
    }
    Batch::try_new(batch.signal, batch.origins.clone(), tables).unwrap()
}

fn attributes(batches: &[Batch]) -> BTreeSet<(TableKind, ColumnId)> {
    let flat = |t: &&Table| !t.kind().is_child();
    let columns = batches
        .iter()
        .flat_map(|b| b.tables())
        .filter(flat)
        .flat_map(|t| t.columns().iter().map(move |c| (t.kind(), c)));
    columns.filter(|(_, c)| matches!(c.id, ColumnId::Attr { .. })).map(|(kind, c)| (kind, c.id.clone())).collect()
}

/// All values of text columns with the key that they are asked by, as (key, value).
fn tokens(batch: &Batch) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for table in batch.tables() {
        for column in table.columns() {
            let Some(key) = crate::frame::column::token_key(&column.id) else { continue };
            let plain = cast(&column.array, &DataType::Utf8).unwrap();
            all.extend(plain.as_string::<i32>().iter().flatten().map(|t| (key.to_owned(), t.to_owned())));
        }
        if table.kind() == TableKind::Tail {
            let plain = |i: Intrinsic| cast(table.intrinsic(i).unwrap(), &DataType::Utf8).unwrap();
            let (keys, values) = (plain(Intrinsic::Key), plain(Intrinsic::Value));
            for (key, text) in keys.as_string::<i32>().iter().zip(values.as_string::<i32>()) {
                if let Ok(Value::Str(text)) = Value::from_text(text.unwrap()) {
                    all.push((key.unwrap().to_owned(), text));
                }
            }
        }
    }
    all
}

fn is_text(id: &ColumnId) -> bool {
    matches!(id, ColumnId::Attr { ty: AttrType::Str, .. } | ColumnId::Intrinsic(Intrinsic::Name | Intrinsic::Body))
}

/// The trace ids of the items, by row.
fn of_items(batch: &Batch) -> Vec<Option<[u8; 16]>> {
    let ids = batch.items().intrinsic(Intrinsic::TraceId);
    ids.map_or_else(Vec::new, |ids| {
        ids.as_fixed_size_binary().iter().map(|id| id.map(|id| id.try_into().unwrap())).collect()
    })
}

fn traces(batch: &Batch) -> Vec<[u8; 16]> {
    let columns = batch.tables().iter().filter_map(|t| t.intrinsic(Intrinsic::TraceId));
    columns
        .flat_map(|a| a.as_fixed_size_binary().iter().flatten().map(|id| id.try_into().unwrap()).collect::<Vec<_>>())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Keys beyond the cap, and retired ones, are in the typed tail: nothing is lost.
    #[test]
    fn keys_without_a_column_are_in_the_tail(
        signal in any_signal(),
        parts in proptest::collection::vec((0..20usize, any::<u64>()), 1..4),
        max in 0..4usize,
    ) {
        let parts: Vec<Batch> =
            parts.into_iter().map(|(rows, seed)| samples::batch(signal, rows, NOW, seed)).collect();
        let place = place();
        let options = FileOptions { attribute_columns_max: max, ..small(Filter::Bloom) };
        let summary = write(&place, signal, &parts, &options);
        let back = read_all(&open(&place, &summary));
        let columns = attributes(&back);
        prop_assert!(columns.len() <= max);
        prop_assert_eq!(summary.attributes.iter().cloned().collect::<BTreeSet<_>>(), columns);
        let same = |batches: &[Batch]| multiset(&batches.iter().map(loosened).collect::<Vec<_>>());
        prop_assert_eq!(same(&back), same(&parts));
    }

    /// QU-2: statistics and filters never say that something is not there which is.
    #[test]
    fn pruning_loses_no_row(
        signal in any_signal(),
        parts in proptest::collection::vec((1..20usize, any::<u64>()), 1..4),
        filter in any_filter(),
        token_bytes in prop_oneof![Just(0usize), Just(32), Just(64 << 10)],
        max in prop_oneof![Just(1usize), Just(1_000)],
    ) {
        let parts: Vec<Batch> =
            parts.into_iter().map(|(rows, seed)| samples::batch(signal, rows, NOW, seed)).collect();
        let place = place();
        let options = FileOptions { token_filter_bytes_max: token_bytes, attribute_columns_max: max, ..small(filter) };
        let summary = write(&place, signal, &parts, &options);
        let file = open(&place, &summary);
        let mut fingerprints = BTreeSet::new();
        for frame in file.frames(TimeRange::ALL) {
            let (batch, _) = frame.read(&|_, _| true).unwrap();
            for (key, value) in tokens(&batch) {
                prop_assert!(frame.may_contain_token(&key, &value), "{} = {}", key, value);
            }
            for id in traces(&batch) {
                prop_assert!(frame.may_contain_trace(&id) && file.may_contain_trace(&id));
                fingerprints.insert(crate::frame::bloom::trace_hash(&id));
            }
            let times = batch.event_times();
            let stats = frame.stats();
            prop_assert_eq!(times.values().iter().min(), Some(&stats.time_min));
            prop_assert_eq!(times.values().iter().max(), Some(&stats.time_max));
            prop_assert_eq!((batch.rows(), batch.event_times().len()), (stats.rows, stats.rows));
            for table in batch.tables() {
                prop_assert_eq!(frame.table_rows(table.kind()), table.rows());
                let known = frame.columns(table.kind());
                prop_assert!(table.columns().len() <= known.len());
                for column in table.columns() {
                    let meta = known.iter().find(|m| m.id == column.id).unwrap();
                    let own = meta::measure(&column.id, &column.array, None).unwrap();
                    prop_assert_eq!(meta.null_count, own.null_count);
                    if !rows::is_index(&column.id) && column.id != Intrinsic::Value.into() {
                        prop_assert_eq!(&meta.range, &own.range, "{}", column.id);
                    }
                    if let Some(values) = &meta.dictionary {
                        let plain = cast(&column.array, &DataType::Utf8).unwrap();
                        prop_assert!(plain.as_string::<i32>().iter().flatten().all(|t| values.iter().any(|v| &**v == t)));
                    }
                }
            }
        }
        prop_assert_eq!(summary.traces, fingerprints.into_iter().collect::<Vec<_>>());
    }

    /// What is asked for is what a read of everything gives, whatever else is left out.
    #[test]
    fn a_read_gives_the_wanted_columns_as_a_read_of_all_does(
        signal in any_signal(), part in (1..20usize, any::<u64>()), seed in any::<u64>(),
    ) {
        let place = place();
        let summary = write(&place, signal, &[samples::batch(signal, part.0, NOW, part.1)], &small(Filter::Off));
        for frame in open(&place, &summary).frames(TimeRange::ALL) {
            let all = frame.read(&|_, _| true).unwrap().0;
            let want = |table: TableKind, id: &ColumnId| {
                let hash = xxhash_rust::xxh3::xxh3_64_with_seed(format!("{table:?}{id}").as_bytes(), seed);
                hash.is_multiple_of(3)
            };
            let some = frame.read(&want).unwrap().0;
            for table in some.tables() {
                let whole = all.table(table.kind()).unwrap();
                prop_assert_eq!(table.rows(), whole.rows());
                let is_child = table.intrinsic(Intrinsic::Parent).is_some();
                let held = |id: &ColumnId| {
                    let pointed = rows::INTERNED.iter().find(|(_, pointer)| *id == (*pointer).into());
                    match pointed {
                        Some((kind, _)) => some.table(*kind).is_some_and(|t| !t.columns().is_empty()),
                        None => is_child && rows::is_index(id),
                    }
                };
                let wanted = whole.columns().iter().filter(|c| held(&c.id) || want(table.kind(), &c.id));
                for column in wanted {
                    let own = table.column(&column.id);
                    // A table with one row needs no row numbers.
                    prop_assert!(own.is_some_and(|a| a == &column.array), "{:?} {}", table.kind(), column.id);
                }
            }
            // Left out is what nothing is asked of.
            let left_out = all.tables().iter().filter(|table| some.table(table.kind()).is_none());
            for table in left_out.filter(|table| table.kind() != TableKind::Tail) {
                prop_assert!(table.columns().iter().all(|c| !want(table.kind(), &c.id)), "{:?}", table.kind());
            }
        }
    }

    /// Damaged and cut files are errors or give the same rows: nothing wrong, no panic.
    #[test]
    fn damage_is_found(seed in any::<u64>(), at in any::<u64>(), bit in 0..8u32, cut in any::<bool>()) {
        let place = place();
        let batch = samples::batch(Signal::Spans, 15, NOW, seed);
        let summary = write(&place, Signal::Spans, std::slice::from_ref(&batch), &small(Filter::Bloom));
        let mut bytes = place.objects.get("t/x.parquet").unwrap().to_vec();
        let at = (at % bytes.len() as u64) as usize;
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        let len = bytes.len() as u64;
        place.objects.create("t/y.parquet", bytes.into()).unwrap();
        let Ok(file) = ColdFile::open(place.objects.clone(), "t/y.parquet", len) else { return Ok(()) };
        prop_assert!(!cut, "a cut file opens");
        let _ = file.verify();
        let mut back = Vec::new();
        let ids: BTreeSet<[u8; 16]> = of_items(&batch).into_iter().flatten().collect();
        for frame in file.frames(TimeRange::ALL) {
            for id in traces(&batch) {
                let _ = frame.may_contain_trace(&id);
            }
            let _ = frame.may_contain_token("http.route", "a");
            let rows = frame.rows() as u32;
            let few = |row: u32| Ok(frame.read_rows(&|_, _| true, &UInt32Array::from(vec![row]))?.0);
            let of_trace = |id: &[u8; 16]| Ok(frame.rows_of(&Intrinsic::TraceId.into(), Exact::Bytes(id))?.map_or(0, |(rows, _)| rows.len()));
            let read = (|| {
                let alone: Vec<Batch> = (0..rows).map(few).collect::<Result<_, StoreError>>()?;
                let found: usize = ids.iter().map(of_trace).sum::<Result<_, StoreError>>()?;
                Ok((frame.read(&|_, _| true)?.0, alone, found))
            })();
            match read {
                Ok((all, alone, found)) => {
                    prop_assert_eq!(multiset(&alone), multiset(std::slice::from_ref(&all)));
                    prop_assert_eq!(found, of_items(&all).iter().flatten().count());
                    back.push(all);
                }
                Err(e) => {
                    prop_assert!(matches!(e, StoreError::Damaged(_)), "{e}");
                    return Ok(());
                }
            }
        }
        prop_assert_eq!(multiset(&back), multiset(&[batch]));
        prop_assert_eq!(summary.bytes, len);
    }
}

/// What a file's name gives is told: not ours, of another version, gone.
#[test]
fn foreign_files_and_versions_are_told() {
    let place = place();
    let open = |name: &str, bytes: Vec<u8>| {
        let len = bytes.len() as u64;
        place.objects.create(name, bytes.into()).unwrap();
        ColdFile::open(place.objects.clone(), name, len).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let ours = "damaged data: the file was not written by Prism, or was rewritten";
    assert_eq!(open("a/empty", vec![]), ours);
    assert_eq!(open("a/text", b"id,name\n1,x\n".repeat(100)), ours);
    let column: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let rows = arrow::record_batch::RecordBatch::try_from_iter([("a", column)]).unwrap();
    let mut foreign = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut foreign, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    assert_eq!(open("a/foreign", foreign), ours);
    let summary = write(&place, Signal::Logs, &[samples::batch(Signal::Logs, 5, NOW, 1)], &FileOptions::default());
    let bytes = place.objects.get("t/x.parquet").unwrap();
    let footer = u32::from_le_bytes(*bytes[bytes.len() - 8..].first_chunk().unwrap()) as usize;
    let trailer = bytes.len() - 8 - footer - meta::TRAILER;
    for version in [0u8, 2] {
        let mut other = bytes.to_vec();
        other[trailer + 8] = version;
        let crc = crc32c::crc32c(&other[trailer..trailer + meta::TRAILER - 4]);
        other[trailer + meta::TRAILER - 4..trailer + meta::TRAILER].copy_from_slice(&crc.to_le_bytes());
        let told = open(&format!("a/v{version}"), other);
        let why = match version {
            0 => "is out of bounds",
            _ => "has version 2, this reads up to 1: a newer prism wrote it, run that version here too",
        };
        assert_eq!(told, format!("damaged data: the cold file {why}"));
    }
    // A length that the log got wrong, either way.
    for len in [summary.bytes - 1, summary.bytes + 1, 0] {
        assert!(ColdFile::open(place.objects.clone(), "t/x.parquet", len).is_err(), "{len}");
    }
    assert!(matches!(ColdFile::open(place.objects.clone(), "t/none", 10), Err(StoreError::Vanished(_))));
}

#[test]
fn an_object_of_the_name_is_left_as_it_is() {
    let place = place();
    let batch = samples::batch(Signal::Logs, 9, NOW, 4);
    let first = write(&place, Signal::Logs, std::slice::from_ref(&batch), &FileOptions::default());
    let second = write(&place, Signal::Logs, &[], &FileOptions::default());
    assert_eq!((first.created, second.created), (Create::Created, Create::Lost));
    assert_eq!(multiset(&read_all(&open(&place, &first))), multiset(&[batch]));
}

#[test]
fn a_file_says_what_redactors_did_and_keeps_its_cube() {
    let place = place();
    let parts: Vec<Batch> = (0..3).map(|seed| samples::batch(Signal::Spans, 20, NOW, seed)).collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for r in parts.iter().flat_map(|b| &b.origins).flat_map(|o| &o.redactions) {
        let sum = expected.entry(r.label.clone()).or_default();
        *sum = sum.saturating_add(r.count);
    }
    let mut writer = Writer::begin(place.objects.clone(), "t/x.parquet", Signal::Spans, &small(Filter::Bloom));
    parts.iter().for_each(|b| writer.write(b.clone()).unwrap());
    writer.set_cube(b"a cube".to_vec());
    let summary = writer.finish().unwrap();
    let file = open(&place, &summary);
    assert_eq!(file.cube().unwrap().unwrap(), &b"a cube"[..]);
    let sums =
        |all: &[prism_model::Redaction]| all.iter().map(|r| (r.label.clone(), r.count)).collect::<BTreeMap<_, _>>();
    assert!(!expected.is_empty());
    assert_eq!(sums(&summary.redactions), expected);
    let back: Vec<_> = read_all(&file).into_iter().flat_map(|b| b.origins).flat_map(|o| o.redactions).collect();
    assert_eq!((sums(&back), back.len()), (expected.clone(), expected.len()));
}

#[test]
fn columns_named_as_personal_stand_in_no_statistics() {
    let place = place();
    let personal = BTreeSet::from(["attr:enduser:id".to_owned(), "duration".to_owned()]);
    let options = FileOptions { personal, ..FileOptions::default() };
    let summary = write(&place, Signal::Spans, &[samples::spans(500, NOW, 1)], &options);
    let range = |name: &str| summary.columns.iter().find(|c| c.name == name).and_then(|c| c.range.clone());
    assert_eq!((range("attr:enduser:id"), range("duration")), (None, None));
    assert!(range("attr:url:path").is_some() && range("time").is_some());
    let file = open(&place, &summary);
    for frame in file.frames(TimeRange::ALL) {
        for id in [ColumnId::attr("enduser.id", AttrType::Str), Intrinsic::Duration.into()] {
            let meta = frame.columns(TableKind::Items).iter().find(|c| c.id == id).unwrap();
            assert_eq!((&meta.range, &meta.dictionary), (&None, &None));
        }
    }
    let bytes = place.objects.get("t/x.parquet").unwrap();
    let end = &bytes[bytes.len() - summary.footer_bytes as usize..];
    assert!(!end.windows(4).any(|w| w == b"u-12"), "a value of the column stands in the footer");
}

/// Statistics that the Delta log gets are those of the rows.
#[test]
fn the_summary_bounds_its_rows() {
    let place = place();
    let spans = samples::spans(2_000, NOW, 5);
    let options = FileOptions { row_group_rows: 300, page_rows: 100, ..FileOptions::default() };
    let summary = write(&place, Signal::Spans, std::slice::from_ref(&spans), &options);
    let of = |name: &str| summary.columns.iter().find(|c| c.name == name).unwrap();
    let durations = spans.items().intrinsic(Intrinsic::Duration).unwrap().as_primitive::<Int64Type>().values();
    let (min, max) = (*durations.iter().min().unwrap(), *durations.iter().max().unwrap());
    assert_eq!(of("duration").range, Some((Scalar::Int(min), Scalar::Int(max))));
    let mut methods = (0..5).map(|i| format!("http.request.method-{i}"));
    let (min, max) = (methods.clone().next().unwrap(), methods.next_back().unwrap());
    assert_eq!(of("attr:http:request:method").range, Some((Scalar::Text(min), Scalar::Text(max))));
    let text = |s: &str| Scalar::Text(s.into());
    assert_eq!(of("resource:service:name").range, Some((text("shop-service-0"), text("shop-service-7"))));
    let times = spans.event_times();
    let (min, max) = (*times.values().iter().min().unwrap(), *times.values().iter().max().unwrap());
    assert_eq!((summary.time_min, summary.time_max), (min, max));
    assert_eq!(
        of("timestamp").range,
        Some((Scalar::Micros(min.div_euclid(1_000)), Scalar::Micros(max.div_euclid(1_000))))
    );
    assert_eq!(of("parent_id").nulls as usize, spans.items().intrinsic(Intrinsic::ParentId).unwrap().null_count());
    assert_eq!(of("span_id").range, None);
}

/// Dictionaries of thousands of values, whose numbers are wider than a byte, over several pages.
#[test]
fn large_row_groups_read_back() {
    let place = place();
    let parts = [samples::spans(4_000, NOW, 8), samples::spans(3_000, NOW + 1_000, 9)];
    let options = FileOptions { page_rows: 1_500, ..FileOptions::default() };
    let summary = write(&place, Signal::Spans, &parts, &options);
    let file = open(&place, &summary);
    assert_eq!(summary.row_groups, 1);
    assert_eq!(multiset(&read_all(&file)), multiset(&parts));
    let trace = ColumnId::from(Intrinsic::TraceId);
    let (ids, cost) = file.frames(TimeRange::ALL)[0].read(&|_, id| *id == trace).unwrap();
    assert!(ids.items().column(&trace).is_some() && ids.items().columns().len() <= 3);
    assert!(cost.bytes < summary.bytes / 4, "{} bytes of {} for one column", cost.bytes, summary.bytes);
    // Few rows cost the pages that hold them.
    for row in [3, 5_000] {
        let rows = UInt32Array::from(vec![row]);
        let (_, few) = file.frames(TimeRange::ALL)[0].read_rows(&|_, id| *id == trace, &rows).unwrap();
        assert!(few.bytes < cost.bytes, "{} bytes of {} for row {row}", few.bytes, cost.bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Rows that are read alone are those that all rows have at their places, with everything that belongs to them.
    #[test]
    fn few_rows_read_alone_are_as_among_all(
        signal in any_signal(),
        (rows, seed) in (1..1_500usize, any::<u64>()),
        picks in proptest::collection::vec(any::<u32>(), 1..9),
    ) {
        let part = samples::batch(signal, rows, NOW, seed);
        let place = place();
        let options = FileOptions { page_rows: 100, ..FileOptions::default() };
        let file = open(&place, &write(&place, signal, &[part], &options));
        for frame in file.frames(TimeRange::ALL) {
            let mut picks: Vec<u32> = picks.iter().map(|pick| pick % frame.rows() as u32).collect();
            picks.sort_unstable();
            picks.dedup();
            let picks = UInt32Array::from(picks);
            let few = frame.read_rows(&|_, _| true, &picks).unwrap().0;
            let all = frame.read(&|_, _| true).unwrap().0;
            prop_assert_eq!(few.rows(), picks.len());
            prop_assert_eq!(texts(&ordered(&few)), texts(&ordered(&all.select(&picks).unwrap())));
            let ids = of_items(&all);
            let distinct = ids.iter().flatten().copied().chain([[7; 16]]).collect::<BTreeSet<[u8; 16]>>();
            for id in distinct.into_iter().filter(|_| signal == Signal::Spans) {
                let rows = (0..ids.len() as u32).filter(|row| ids[*row as usize] == Some(id));
                let found = frame.rows_of(&Intrinsic::TraceId.into(), Exact::Bytes(&id)).unwrap().map(|(rows, _)| rows.values().to_vec());
                prop_assert_eq!(found, Some(rows.collect::<Vec<u32>>()));
            }
            for column in [Intrinsic::TraceId, Intrinsic::SpanId, Intrinsic::ParentId] {
                let Some((numbers, _)) = frame.numbers_of(&column.into()).unwrap() else { continue };
                let values: BTreeSet<_> = numbers.values().as_fixed_size_binary().iter().collect();
                prop_assert_eq!(values.len(), numbers.values().len(), "each once");
                let expected = all.items().intrinsic(column).unwrap();
                prop_assert_eq!(&cast(&numbers, expected.data_type()).unwrap(), expected, "{:?}", column);
            }
            let plain = |id: &ColumnId| cast(all.items().column(id)?, &DataType::Utf8).ok();
            for column in frame.columns(TableKind::Items).iter().filter(|column| is_text(&column.id)) {
                let Some(texts) = plain(&column.id) else { continue };
                let texts: Vec<Option<&str>> = texts.as_string::<i32>().iter().collect();
                let distinct: BTreeSet<&str> = texts.iter().flatten().copied().filter(|text| !text.is_empty()).collect();
                for text in distinct.into_iter().take(40).chain(["none has this"]) {
                    let rows = (0..texts.len() as u32).filter(|row| texts[*row as usize] == Some(text));
                    let found = frame.rows_of(&column.id, Exact::Bytes(text.as_bytes())).unwrap().map(|(rows, _)| rows.values().to_vec());
                    prop_assert_eq!(found, Some(rows.collect::<Vec<u32>>()), "{} = {:?}", column.id, text);
                }
                let distinct: BTreeSet<&str> = texts.iter().flatten().copied().collect();
                if let Some((values, _)) = frame.values_of(&column.id).unwrap() {
                    let mut values: Vec<&str> = values.as_string::<i32>().iter().flatten().collect();
                    values.sort_unstable();
                    prop_assert_eq!(values, distinct.into_iter().collect::<Vec<_>>(), "{}", column.id);
                }
            }
            let past = UInt32Array::from(vec![frame.rows() as u32]);
            prop_assert!(frame.read_rows(&|_, _| true, &past).is_err());
        }
    }
}
