//! Storage that fails, fills up, and forgets what was not synced; and batches whose rows can be counted.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

pub mod moto;
pub mod packages;
pub mod objects;
pub mod rows;
pub mod folders;
pub mod turnstile;
pub mod disk;
pub mod opened;
pub mod bucket;
pub mod model;
pub mod world;
pub mod tiers;
pub mod again;
pub mod spoil;

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type};
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Cleared, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind, TenantId};
use prism_store::{Frame, Reader, Snapshot, StoreError};

/// A time within a window, as the tests' clock says.
pub const NOW: i64 = 6_000_000 * 300_000_000_000 + 100_000_000_000;

pub fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

/// Spans numbered from `first` on, at these times.
pub fn numbered(first: i64, times: &[i64]) -> Cleared {
    numbered_of(Signal::Spans, first, times)
}

/// Items of a signal, numbered from `first` on, at these times. Points have their number in a list too, and a metric.
pub fn numbered_of(signal: Signal, first: i64, times: &[i64]) -> Cleared {
    numbered_at(signal, first, times, NOW)
}

/// The same, received at a time.
pub fn numbered_at(signal: Signal, first: i64, times: &[i64], received_unix_nanos: i64) -> Cleared {
    let n = times.len();
    let mut items = vec![
        Column { id: Intrinsic::Time.into(), array: Arc::new(Int64Array::from(times.to_vec())) },
        Column {
            id: ColumnId::attr("row", AttrType::Int),
            array: Arc::new(Int64Array::from_iter_values(first..first + n as i64)),
        },
        // Not every frame of a segment has the same columns.
        Column {
            id: ColumnId::attr(format!("only.{}", first % 7), AttrType::Int),
            array: Arc::new(Int64Array::from_value(first, n)),
        },
    ];
    let mut tables = Vec::new();
    if signal == Signal::Metrics {
        let DataType::List(item) = Intrinsic::BucketCounts.data_type() else { unreachable!("a list") };
        let counts = Arc::new(Int64Array::from_iter_values(first..first + n as i64));
        let lists = ListArray::new(item, OffsetBuffer::from_lengths(vec![1; n]), counts, None);
        items.push(Column { id: Intrinsic::BucketCounts.into(), array: Arc::new(lists) });
        let name = Arc::new(StringArray::from(vec![format!("metric-{}", first % 5)]));
        let name = Column { id: Intrinsic::Name.into(), array: name };
        tables.push(Table::try_new(TableKind::Descriptors, 1, vec![name]).unwrap());
    }
    tables.push(Table::try_new(TableKind::Items, n, items).unwrap());
    let origin = Origin {
        batch_id: (first as u128).to_le_bytes(),
        first_row: 0,
        rows: n as u32,
        received_unix_nanos,
        redactions: Vec::new(),
    };
    #[expect(clippy::disallowed_methods, reason = "these tests are of what comes behind the plugin chain")]
    Cleared::by_plugin_chain(Batch::try_new(signal, vec![origin], tables).unwrap())
}

pub fn cleared(batch: Batch) -> Cleared {
    #[expect(clippy::disallowed_methods, reason = "these tests are of what comes behind the plugin chain")]
    Cleared::by_plugin_chain(batch)
}

/// The numbers of all rows of a snapshot, ascending.
pub fn numbers(snapshot: &Snapshot) -> Vec<i64> {
    try_numbers(&snapshot.frames).unwrap()
}

/// The numbers of all rows of frames, ascending.
///
/// # Errors
/// Of the first frame that cannot be read.
pub fn try_numbers(frames: &[Frame]) -> Result<Vec<i64>, StoreError> {
    let mut out = Vec::new();
    for frame in frames {
        let (batch, _) = frame.read(&|_, _| true)?;
        assert_eq!(batch.rows(), frame.rows());
        for time in batch.event_times().values() {
            assert!((frame.stats().time_min..=frame.stats().time_max).contains(time));
        }
        let rows = batch.items().column(&ColumnId::attr("row", AttrType::Int)).unwrap();
        let rows = rows.as_primitive::<Int64Type>().values();
        if let Some(lists) = batch.items().intrinsic(Intrinsic::BucketCounts) {
            assert_eq!(lists.as_list::<i32>().values().as_primitive::<Int64Type>().values(), rows);
        }
        out.extend(rows);
    }
    out.sort_unstable();
    Ok(out)
}

pub fn all(reader: &Reader) -> Snapshot {
    all_of(reader, Signal::Spans)
}

pub fn all_of(reader: &Reader, signal: Signal) -> Snapshot {
    reader.snapshot(&tenant(), signal, TimeRange::ALL).unwrap()
}
