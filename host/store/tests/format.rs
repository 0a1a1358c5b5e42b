//! Segments that earlier versions wrote still read, with each kind of column. `PRISM_WRITE_FIXTURES=1` writes the fixtures that
//! are not there. Whole folders are read in `stable.rs`.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{FixedSizeBinaryArray, Float64Builder, Int64Array, Int64Builder, ListBuilder};
use arrow::datatypes::{DataType, Field};
use prism_model::samples::{batch, texts};
use prism_model::window::{TimeRange, Window};
use prism_model::{Batch, Column, Intrinsic, Signal, Table, TableKind};
use prism_store::disk::RealDisk;
use prism_store::keys::{Keyring, Scheme};
use prism_store::{Reader, Store, StoreOptions, Surroundings};
use support::{NOW, cleared, numbered, tenant};

/// Where a fixture was written, and is put to be read.
fn place(signal: Signal) -> String {
    format!("hot/acme/{signal}/0/6000000/0000000000000001-1-0.seg")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn rows(root: &Path, signal: Signal) -> String {
    let snapshot = Reader::open(root).snapshot(&tenant(), signal, TimeRange::ALL).unwrap();
    assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
    let rows: Vec<String> = snapshot
        .frames
        .iter()
        .flat_map(|f| texts(&f.read(&|_, _| true).unwrap().0))
        .map(|t| format!("{t}\n"))
        .collect();
    rows.concat()
}

/// Odd batches whose rows are all of one window.
fn odd(signal: Signal) -> impl Iterator<Item = Batch> {
    let one_window = |batch: &Batch| batch.event_times().values().iter().all(|t| Window::of(*t) == Window::of(NOW));
    (0..).map(move |seed| batch(signal, 12, NOW, seed)).filter(one_window)
}

/// Points with a list each, every seventh with none.
fn points(rows: usize) -> Batch {
    let mut counts = ListBuilder::new(Int64Builder::new()).with_field(Field::new("item", DataType::Int64, false));
    let mut bounds = ListBuilder::new(Float64Builder::new()).with_field(Field::new("item", DataType::Float64, false));
    for row in 0..rows {
        counts.values().extend((0..row % 3).map(|i| Some((row * i) as i64)));
        bounds.values().extend((0..row % 3).map(|i| Some(i as f64 / 2.0)));
        counts.append(!row.is_multiple_of(7));
        bounds.append(!row.is_multiple_of(7));
    }
    let columns = vec![
        Column { id: Intrinsic::Time.into(), array: Arc::new(Int64Array::from_value(NOW, rows)) },
        Column { id: Intrinsic::BucketCounts.into(), array: Arc::new(counts.finish()) },
        Column { id: Intrinsic::ExplicitBounds.into(), array: Arc::new(bounds.finish()) },
    ];
    let items = Table::try_new(TableKind::Items, rows, columns).unwrap();
    Batch::try_new(Signal::Metrics, Vec::new(), vec![items]).unwrap()
}

async fn write(root: &Path, signal: Signal, keys: Keyring) {
    let around = Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys };
    let store = Store::open_in(root, StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
    // Each buffer by itself, as many rows have; then odd ones, compressed whole.
    let many = match signal {
        Signal::Spans => numbered(0, &[NOW; 2_000]),
        _ => cleared(points(2_000)),
    };
    store.append(&tenant(), many).await.unwrap();
    for batch in odd(signal).take(4) {
        store.append(&tenant(), cleared(batch)).await.unwrap();
    }
    store.close().await;
}

/// A segment of version 1 with spans, and one with metrics, whose columns hold lists.
#[tokio::test]
async fn segments_of_version_1_read() {
    for (signal, name) in [(Signal::Spans, "segment-v1"), (Signal::Metrics, "segment-v1-metrics")] {
        let (segment, text) = (fixture(&format!("{name}.seg")), fixture(&format!("{name}.txt")));
        let root = tempfile::tempdir().unwrap();
        if std::env::var_os("PRISM_WRITE_FIXTURES").is_some() && !segment.exists() {
            write(root.path(), signal, Keyring::default()).await;
            std::fs::create_dir_all(fixture("")).unwrap();
            std::fs::copy(root.path().join(place(signal)), &segment).unwrap();
            std::fs::write(&text, rows(root.path(), signal)).unwrap();
        }
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join(place(signal));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(segment, place).unwrap();
        assert!(rows(root.path(), signal) == std::fs::read_to_string(text).unwrap(), "{name}");
    }
}

/// A segment with a frame of version 2, whose trace ids are kept by value.
#[tokio::test]
async fn segments_with_frames_of_version_2_read() {
    let (segment, text) = (fixture("segment-v2.seg"), fixture("segment-v2.txt"));
    if std::env::var_os("PRISM_WRITE_FIXTURES").is_some() && !segment.exists() {
        let root = tempfile::tempdir().unwrap();
        let around =
            Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: Keyring::default() };
        let store = Store::open_in(root.path(), StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
        store.append(&tenant(), cleared(traced(2_000))).await.unwrap();
        store.close().await;
        std::fs::copy(root.path().join(place(Signal::Spans)), &segment).unwrap();
        std::fs::write(&text, rows(root.path(), Signal::Spans)).unwrap();
    }
    let version = std::fs::read(&segment).unwrap()[256 + 4..256 + 6].to_vec();
    assert_eq!(version, [2, 0]);
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join(place(Signal::Spans));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(segment, place).unwrap();
    assert!(rows(root.path(), Signal::Spans) == std::fs::read_to_string(text).unwrap());
}

/// Spans of which every seventh has no trace, and ten of the others one.
fn traced(rows: usize) -> Batch {
    let ids =
        (0..rows as u128).map(|row| (!row.is_multiple_of(7)).then(|| (row / 10 * 0x9e37_79b9_7f4a_7c15).to_be_bytes()));
    let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16).unwrap();
    let columns = vec![
        Column { id: Intrinsic::Time.into(), array: Arc::new(Int64Array::from_value(NOW, rows)) },
        Column { id: Intrinsic::TraceId.into(), array: Arc::new(ids) },
    ];
    let items = Table::try_new(TableKind::Items, rows, columns).unwrap();
    Batch::try_new(Signal::Spans, Vec::new(), vec![items]).unwrap()
}

/// The spans of version 1 encrypted: the segment, and the key that it was written with.
#[tokio::test]
async fn encrypted_segments_of_version_1_read() {
    let (segment, key) = (fixture("segment-v1-encrypted.seg"), fixture("segment-v1-encrypted.key"));
    let key_at = |root: &Path| root.join("keys/acme/00000000000000000001");
    let root = tempfile::tempdir().unwrap();
    if std::env::var_os("PRISM_WRITE_FIXTURES").is_some() && !segment.exists() {
        let keys = Keyring::open(root.path(), &root.path().join("keys"), Scheme::Local, None);
        write(root.path(), Signal::Spans, keys).await;
        std::fs::copy(root.path().join(place(Signal::Spans)), &segment).unwrap();
        std::fs::copy(key_at(root.path()), &key).unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    for (from, to) in [(segment, root.path().join(place(Signal::Spans))), (key, key_at(root.path()))] {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
    let clear = std::fs::read_to_string(fixture("segment-v1.txt")).unwrap();
    assert!(rows(root.path(), Signal::Spans) == clear);
}
