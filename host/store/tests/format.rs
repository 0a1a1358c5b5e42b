//! Segments that earlier versions wrote still read. `UPDATE=1` writes the fixture of the present version anew: only where the
//! version is raised, never over one that was released.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::Signal;
use prism_model::samples::{batch, texts};
use prism_store::disk::RealDisk;
use prism_store::{Reader, Store, StoreOptions, Surroundings};
use support::{NOW, all, cleared, numbered, tenant};

/// Where the fixture was written, and is put to be read.
const PLACE: &str = "hot/acme/spans/0/6000000/0000000000000001-1-0.seg";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn rows(root: &Path) -> String {
    let snapshot = all(&Reader::open(root));
    assert!(snapshot.unreadable.is_empty(), "{:?}", snapshot.unreadable);
    let rows: Vec<String> = snapshot
        .frames
        .iter()
        .flat_map(|f| texts(&f.read(&|_, _| true).unwrap().0))
        .map(|t| format!("{t}\n"))
        .collect();
    rows.concat()
}

async fn write(root: &Path) {
    let around = Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1 };
    let store = Store::open_in(root, StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
    // Each buffer by itself, as many rows have; then odd ones, compressed whole.
    store.append(&tenant(), numbered(0, &[NOW; 2_000])).await.unwrap();
    let mut odd = 0;
    for seed in 0.. {
        let batch = batch(Signal::Spans, 12, NOW, seed);
        let window = |t: &i64| prism_model::window::Window::of(*t) == prism_model::window::Window::of(NOW);
        if batch.event_times().values().iter().all(window) {
            store.append(&tenant(), cleared(batch)).await.unwrap();
            odd += 1;
        }
        if odd == 4 {
            break;
        }
    }
    store.close().await;
}

#[tokio::test]
async fn a_segment_of_version_1_reads() {
    let root = tempfile::tempdir().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        write(root.path()).await;
        std::fs::create_dir_all(fixture("")).unwrap();
        std::fs::copy(root.path().join(PLACE), fixture("segment-v1.seg")).unwrap();
        std::fs::write(fixture("segment-v1.txt"), rows(root.path())).unwrap();
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join(PLACE).parent().unwrap()).unwrap();
    std::fs::copy(fixture("segment-v1.seg"), root.path().join(PLACE)).unwrap();
    assert!(rows(root.path()) == std::fs::read_to_string(fixture("segment-v1.txt")).unwrap());
}
