//! Rows of all signals to files and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, UInt8Type};
use prism_model::samples::{self, texts};
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Signal, Table, TableKind};
use proptest::prelude::*;

use super::*;
use crate::disk::RealDisk;
use crate::objects::{LocalObjects, Objects};

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
        filters: BTreeMap::from([("trace_id".into(), filter), ("attr.http.route".into(), filter)]),
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
fn an_attribute_of_each_frame_is_sorted_by_resource_and_time() {
    let place = place();
    let spans = samples::spans(1_000, NOW, 3);
    let options = FileOptions { row_group_rows: 100, ..FileOptions::default() };
    let summary = write(&place, Signal::Spans, &[spans.clone()], &options);
    let file = open(&place, &summary);
    let back = read_all(&file);
    assert_eq!((back.len(), summary.row_groups), (10, 10));
    assert_eq!(multiset(&back), multiset(&[spans]));
    let mut seen = Vec::new();
    for batch in &back {
        let resources = batch.table(TableKind::Resources).unwrap();
        let services = resources.column(&ColumnId::attr("service.name", AttrType::Str)).unwrap();
        let services = services.as_string::<i32>();
        let times = batch.event_times();
        for row in 0..batch.rows() {
            let resource = batch.items().index(Intrinsic::Resource).map_or(0, |r| r.value(row));
            seen.push((services.value(resource as usize).to_owned(), times.value(row)));
        }
    }
    assert!(seen.is_sorted(), "by service, then time");
}
