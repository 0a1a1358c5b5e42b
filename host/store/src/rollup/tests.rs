//! A cube tells what the rows tell, however they were cut and in whatever order cubes are merged (QU-4).

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt32Type};
use prism_model::samples::{Random, batch, spans};
use prism_model::{AttrType, Batch, ColumnId, Intrinsic, Signal, TableKind};
use proptest::prelude::*;

use super::{Cube, CubeBuilder, CubeLimits};
use crate::error::Damage;

const NOW: i64 = 1_800_000_000_000_000_000;

fn cube(signal: Signal, batches: &[Batch]) -> Option<Cube> {
    let mut builder = CubeBuilder::new(signal, CubeLimits::default());
    batches.iter().for_each(|b| builder.add(b));
    builder.finish()
}

/// A row by what its cell is called, and its duration; `None` for a mark of a running span.
type Row = Option<((i64, Option<String>, Option<String>, i32, i32, i32), i64)>;

/// The rows one by one, read the slow way.
fn rows(batch: &Batch) -> Vec<Row> {
    let items = batch.items();
    let text = |array: &arrow::array::ArrayRef, row: usize| {
        let plain = arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8).unwrap();
        let plain = plain.as_string::<i32>();
        plain.is_valid(row).then(|| plain.value(row).to_owned())
    };
    let int = |id, row: usize| {
        let column = items.intrinsic(id).map(|a| a.as_primitive::<Int32Type>().clone());
        column.filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row))
    };
    let of = |table: TableKind, index: Intrinsic, column: &ColumnId, row: usize| {
        let at = items.intrinsic(index).map_or(0, |a| a.as_primitive::<UInt32Type>().value(row));
        batch.table(table).and_then(|t| text(t.column(column)?, at as usize))
    };
    let service = ColumnId::attr("service.name", AttrType::Str);
    let times = batch.event_times();
    let row = |row: usize| {
        let running = items.intrinsic(Intrinsic::Running).map(|a| a.as_boolean().clone());
        if running.is_some_and(|r| r.is_valid(row) && r.value(row)) {
            return None;
        }
        let minute = times.value(row).div_euclid(60_000_000_000);
        let service = of(TableKind::Resources, Intrinsic::Resource, &service, row);
        let key = match batch.signal {
            Signal::Spans => {
                let name = items.intrinsic(Intrinsic::Name).and_then(|a| text(a, row));
                (minute, service, name, int(Intrinsic::Kind, row), int(Intrinsic::Status, row), 0)
            }
            Signal::Logs => (minute, service, None, 0, 0, int(Intrinsic::Severity, row)),
            Signal::Metrics => {
                let name = of(TableKind::Descriptors, Intrinsic::Metric, &Intrinsic::Name.into(), row);
                (minute, service, name, 0, 0, 0)
            }
        };
        let durations = items.intrinsic(Intrinsic::Duration).map(|a| a.as_primitive::<Int64Type>().clone());
        Some((key, durations.map_or(0, |d| d.value(row))))
    };
    (0..batch.rows()).map(row).collect()
}

/// Resources whose `service.name` is sent twice have one in the tail.
fn service_in_tail(batch: &Batch) -> bool {
    super::build::service_in_tail(batch)
}

fn check(cube: &Cube, batches: &[Batch]) {
    let all: Vec<Row> = batches.iter().flat_map(rows).collect();
    let mut expected: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (key, duration) in all.iter().flatten() {
        expected.entry(key.clone()).or_default().push(*duration);
    }
    assert_eq!(cube.running() as usize, all.iter().filter(|r| r.is_none()).count());
    assert_eq!(cube.rows() as usize, all.iter().flatten().count());
    let mut found = 0;
    for cell in cube.cells() {
        let owned = |t: Option<&str>| t.map(str::to_owned);
        let (service, name) = (owned(cell.service), owned(cell.name));
        let durations = &expected[&(cell.minute, service, name, cell.kind, cell.status, cell.severity)];
        assert_eq!(cell.count as usize, durations.len());
        if cube.signal() == Signal::Spans {
            assert_eq!(cell.duration_sum, durations.iter().map(|d| i128::from(*d)).sum::<i128>());
            let range = (*durations.iter().min().unwrap(), *durations.iter().max().unwrap());
            assert_eq!(cell.duration_range, Some(range));
            // The same sketch as of the rows: the same quantiles, to the last bit.
            let mut sketch = prism_model::sketch::Sketch::default();
            durations.iter().for_each(|d| sketch.add(*d as f64));
            for q in [0.0, 0.5, 0.95, 1.0] {
                assert_eq!(cell.durations.unwrap().quantile(q), sketch.quantile(q));
            }
        }
        found += 1;
    }
    assert_eq!(found, expected.len());
}

proptest! {
    #[test]
    fn qu4_a_cube_equals_its_rows_in_any_order(
        signal in 0..3usize,
        seeds in proptest::collection::vec(any::<u64>(), 1..5),
        order in any::<u64>(),
    ) {
        let signal = Signal::ALL[signal];
        let batches: Vec<Batch> = seeds.iter().map(|s| batch(signal, 30, NOW, *s)).collect();
        if batches.iter().any(service_in_tail) {
            prop_assert!(cube(signal, &batches).is_none());
            return Ok(());
        }
        let whole = cube(signal, &batches).unwrap();
        check(&whole, &batches);
        // Merged in any order, from bytes: but for traces that lie in several, the same bytes.
        let mut parts: Vec<Cube> = batches.iter().map(|b| cube(signal, std::slice::from_ref(b)).unwrap()).collect();
        let mut random = Random(order);
        let mut merged = Cube::empty(signal);
        let mut straight = Cube::empty(signal);
        parts.iter().for_each(|p| straight.merge(p));
        while !parts.is_empty() {
            let part = parts.swap_remove(random.below(parts.len()));
            merged.merge(&Cube::from_bytes(&part.to_bytes().unwrap()).unwrap());
        }
        prop_assert!(merged.to_bytes().unwrap() == straight.to_bytes().unwrap());
        check(&merged, &batches);
        let back = Cube::from_bytes(&whole.to_bytes().unwrap()).unwrap();
        prop_assert!(back.to_bytes().unwrap() == whole.to_bytes().unwrap());
        check(&back, &batches);
    }

    #[test]
    fn damaged_bytes_are_refused_or_a_cube(seed in any::<u64>(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let mut bytes = cube(Signal::Spans, &[spans(50, NOW, seed)]).unwrap().to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // No checksum of its own: whoever holds the bytes has one. It must not panic, and not believe any length.
        if let Ok(cube) = Cube::from_bytes(&bytes) {
            let _ = cube.cells().count();
        }
        bytes.truncate(at);
        prop_assert!(Cube::from_bytes(&bytes).is_err());
    }
}

#[test]
fn newer_versions_are_named() {
    let mut bytes = Cube::empty(Signal::Logs).to_bytes().unwrap();
    bytes[0] = 7;
    assert_eq!(Cube::from_bytes(&bytes), Err(Damage::Version { what: "rollup", found: 7, known: 1 }));
}

#[test]
fn weights_are_told_and_not_counted() {
    let (mut weighted, mut rows) = (0, 0);
    for seed in 0..60 {
        let one = batch(Signal::Spans, 20, NOW, seed);
        let weights = one.items().intrinsic(Intrinsic::SamplingWeight).map(|a| a.as_primitive::<Float64Type>().clone());
        let any = weights.is_some_and(|w| w.iter().flatten().any(|w| w != 1.0));
        let Some(cube) = cube(Signal::Spans, std::slice::from_ref(&one)) else { continue };
        assert_eq!(cube.is_weighted(), any);
        assert_eq!(cube.rows() + cube.running(), one.rows() as u64);
        (weighted, rows) = (weighted + usize::from(any), rows + 1);
    }
    assert!(weighted > 5 && weighted < rows, "{weighted} of {rows}");
}

#[test]
fn too_many_entries_make_no_cube() {
    let many = [spans(2_000, NOW, 1)];
    let with = |entries| {
        let mut builder = CubeBuilder::new(Signal::Spans, CubeLimits { entries, edge_spans: 5_000 });
        many.iter().for_each(|b| builder.add(b));
        builder.finish().map(|c| c.entries())
    };
    let entries = with(100_000).unwrap();
    assert_eq!((with(entries), with(entries - 1), with(0)), (Some(entries), None, None));
    // Without room for the spans there are no calls, and the cells stay.
    let mut builder = CubeBuilder::new(Signal::Spans, CubeLimits { entries: 100_000, edge_spans: 100 });
    many.iter().for_each(|b| builder.add(b));
    let cube = builder.finish().unwrap();
    assert!(cube.edges().is_none() && cube.rows() == 2_000);
    let back = Cube::from_bytes(&cube.to_bytes().unwrap()).unwrap();
    assert!(back.to_bytes().unwrap() == cube.to_bytes().unwrap());
}

/// Calls by the slow way: every span against every other of its trace.
#[test]
fn calls_between_services_are_those_of_whole_traces() {
    let whole = spans(3_000, NOW, 3);
    // Rows in another order, in two batches, and some traces cut by leaving rows out.
    let mut random = Random(4);
    let picked: Vec<u32> = (0..3_000).filter(|_| !random.one_in(60)).collect();
    let half = picked.len() / 2;
    let parts = [&picked[half..], &picked[..half]].map(|rows| whole.select(&UInt32Array::from(rows.to_vec())).unwrap());
    let cube = cube(Signal::Spans, &parts).unwrap();
    let items = whole.items();
    let ids = |id| items.intrinsic(id).unwrap().as_fixed_size_binary();
    let (traces, own, parents) = (ids(Intrinsic::TraceId), ids(Intrinsic::SpanId), ids(Intrinsic::ParentId));
    let resource = items.intrinsic(Intrinsic::Resource).unwrap().as_primitive::<UInt32Type>();
    let status = items.intrinsic(Intrinsic::Status).unwrap().as_primitive::<Int32Type>();
    let services = whole.table(TableKind::Resources).unwrap();
    let services = services.column(&ColumnId::attr("service.name", AttrType::Str)).unwrap().as_string::<i32>();
    let times = whole.event_times();
    let mut by_trace: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    picked.iter().for_each(|row| by_trace.entry(traces.value(*row as usize)).or_default().push(*row as usize));
    let (mut expected, mut outside, mut inside) = (BTreeMap::new(), 0, BTreeSet::new());
    for (trace, rows) in &by_trace {
        let parent =
            |row: usize| parents.is_valid(row).then(|| rows.iter().find(|r| own.value(**r) == parents.value(row)));
        let rooted = rows.iter().any(|row| parents.is_null(*row));
        if !rooted || rows.iter().any(|row| parent(*row) == Some(None)) {
            outside += 1;
            continue;
        }
        inside.insert(*trace);
        for row in rows {
            let Some(Some(caller)) = parent(*row) else { continue };
            let (from, to) = (resource.value(*caller) as usize, resource.value(*row) as usize);
            if from != to {
                let minute = times.value(*row).div_euclid(60_000_000_000);
                let calls: &mut (u64, u64) = expected
                    .entry((minute, services.value(from).to_owned(), services.value(to).to_owned()))
                    .or_default();
                *calls = (calls.0 + 1, calls.1 + u64::from(status.value(*row) == 2));
            }
        }
    }
    let found: BTreeMap<_, _> = cube
        .edges()
        .unwrap()
        .map(|e| ((e.minute, e.parent.unwrap().to_owned(), e.child.unwrap().to_owned()), (e.count, e.errors)))
        .collect();
    assert_eq!((found, cube.traces_outside()), (expected.clone(), outside));
    assert!(!expected.is_empty() && outside > 10 && inside.len() > 100, "{} {outside}", inside.len());
}

#[test]
fn the_exemplar_is_of_the_longest() {
    let one = spans(500, NOW, 8);
    let cube = cube(Signal::Spans, std::slice::from_ref(&one)).unwrap();
    let traces = one.items().intrinsic(Intrinsic::TraceId).unwrap().as_fixed_size_binary();
    let durations = one.items().intrinsic(Intrinsic::Duration).unwrap().as_primitive::<Int64Type>();
    for cell in cube.cells() {
        let (_, longest) = cell.duration_range.unwrap();
        let of = (0..500).filter(|row| durations.value(*row) == longest).map(|row| traces.value(row)).min().unwrap();
        assert_eq!(&cell.exemplar.unwrap()[..], of);
    }
}
