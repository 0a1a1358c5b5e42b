//! Many tenants in one process: files, bytes and open segments stay bounded, and windows end.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use prism_model::window::{TimeRange, WINDOW_NANOS, Window};
use prism_model::{Signal, TenantId};
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::{Store, StoreOptions, Surroundings};
use support::{NOW, all, numbered, numbered_of, numbers, tenant};

const SECOND: i64 = 1_000_000_000;

/// Each segment, and whether it has its end mark.
fn segments(dir: &Path) -> BTreeMap<PathBuf, bool> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.extension().is_some_and(|e| e == "seg") {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes.len() >= 416 && bytes[bytes.len() - 160..].starts_with(b"PFRM"));
        }
    }
    found
}

fn disk_bytes(of: &BTreeMap<PathBuf, bool>) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    of.keys().map(|path| std::fs::metadata(path).unwrap().blocks() * 512).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lanes_keep_few_segments_open_and_little_of_the_disk() {
    const TENANTS: usize = 200;
    const OPEN_MAX: usize = 100;
    let root = tempfile::tempdir().unwrap();
    let options = StoreOptions { commit_delay_ms: 0, segments_open_total_max: OPEN_MAX, ..StoreOptions::default() };
    let parallel = options.syncs_parallel;
    let around =
        Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: Keyring::default() };
    let store = Store::open_in(root.path(), options, around);
    let mut open_most = 0;
    for round in 0..2 {
        let mut appends = tokio::task::JoinSet::new();
        for n in 0..TENANTS as i64 {
            for signal in Signal::ALL {
                let store = store.clone();
                let tenant: TenantId = format!("tenant-{n}").parse().unwrap();
                appends.spawn(async move {
                    let rows = numbered_of(signal, round * 100, &[NOW; 20]);
                    store.append(&tenant, rows).await.unwrap();
                });
            }
        }
        while let Some(done) = appends.join_next().await {
            done.unwrap();
            open_most = open_most.max(store.metrics().segments_open.load(Relaxed));
        }
    }
    // A group that is being written may open one more than may be.
    assert!(open_most <= (OPEN_MAX + parallel) as u64, "{open_most} segments were open");
    let written = segments(&root.path().join("hot"));
    // Twice each lane, where it was closed for another in between.
    assert!((3 * TENANTS..=6 * TENANTS).contains(&written.len()), "{} files", written.len());
    let open = written.values().filter(|ended| !**ended).count();
    assert!(open <= OPEN_MAX + parallel, "{open} segments are open");
    // An open segment has an extent of 16 KiB and its header; the others what they hold.
    let bytes = disk_bytes(&written);
    let most = open as u64 * (24 << 10) + (written.len() - open) as u64 * (16 << 10);
    assert!(bytes <= most, "{bytes} bytes of the disk for {} files, {open} of them open", written.len());
    for n in [0, 57, TENANTS - 1] {
        for signal in Signal::ALL {
            let tenant: TenantId = format!("tenant-{n}").parse().unwrap();
            let snapshot = store.reader().snapshot(&tenant, signal, TimeRange::ALL).unwrap();
            assert_eq!(numbers(&snapshot), (0..20).chain(100..120).collect::<Vec<_>>());
        }
    }
    store.close().await;
    let ended = segments(&root.path().join("hot"));
    assert!(ended.len() == written.len() && ended.values().all(|ended| *ended));
    assert!(disk_bytes(&ended) <= bytes);
    assert!(std::fs::read_dir(root.path().join("hot/.writers")).unwrap().next().is_none(), "the lease was given up");
}

#[tokio::test(start_paused = true)]
async fn a_windows_segment_is_closed_a_little_after_it_and_what_comes_later_goes_to_another() {
    let root = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(NOW));
    let clock = {
        let now = now.clone();
        Arc::new(move || now.load(Relaxed))
    };
    let around = Surroundings { disk: Arc::new(RealDisk), clock, writer: 1, keys: Keyring::default() };
    // None is closed for want of rows here.
    let options = StoreOptions { commit_delay_ms: 0, segment_idle_ms: 86_400_000, ..StoreOptions::default() };
    let store = Store::open_in(root.path(), options, around);
    let dir = root.path().join("hot/acme/spans/0");
    let found = || -> Vec<(String, bool)> {
        let short = |path: &Path| {
            let window = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let number = window.trim_start_matches("late-").parse::<i64>().unwrap() - Window::of(NOW).number();
            let file = path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap();
            format!("{}{number}:{file}", if window.starts_with("late") { "late " } else { "" })
        };
        segments(&dir).into_iter().map(|(path, ended)| (short(&path), ended)).collect()
    };
    let state = |of: &[(&str, bool)]| of.iter().map(|(name, ended)| ((*name).to_owned(), *ended)).collect::<Vec<_>>();
    // In its window, and late by a day.
    store.append(&tenant(), numbered(0, &[NOW, NOW - 86_400 * SECOND])).await.unwrap();
    let end = Window::of(NOW).end_nanos();
    now.store(end + 29 * SECOND, Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(found(), state(&[("0:0", false), ("late 0:1", false)]));
    // A lane that has nothing to do closes by itself.
    now.store(end + 30 * SECOND, Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(found(), state(&[("0:0", true), ("late 0:1", true)]));
    // Later rows of the window go to one more file, as long as the window takes rows.
    for row in [10, 11] {
        store.append(&tenant(), numbered(row, &[NOW])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    assert_eq!(found(), state(&[("0:0", true), ("0:2", false), ("late 0:1", true)]));
    // One that is busy with another window does it too: no row has to come for it.
    let next = NOW + 6 * WINDOW_NANOS;
    now.store(end + (30 * 60 + 29) * SECOND, Relaxed);
    for row in 20..30 {
        store.append(&tenant(), numbered(row, &[next])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(found()[1], ("0:2".into(), false));
    now.store(end + (30 * 60 + 30) * SECOND, Relaxed);
    for row in 30..40 {
        store.append(&tenant(), numbered(row, &[next])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(found()[1], ("0:2".into(), true));
    assert_eq!(numbers(&all(&store.reader())), [0, 1, 10, 11].into_iter().chain(20..40).collect::<Vec<_>>());
    store.close().await;
}
