//! Formats are stable (`adr/0005`): whole data folders that version 1 wrote, `tests/fixtures/data-v1` and, with a keyring,
//! `data-v1-encrypted`, are read for ever, each row and each answer. What a newer version wrote is refused, what was cut is
//! told, and neither gives fewer rows in silence.
//!
//! `PRISM_WRITE_FIXTURES=1` writes folders that are not there: of a version that comes. Those of released ones are never
//! written again.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::FixedSizeBinaryArray;
use prism_model::samples::{batch, spans};
use prism_model::window::{TimeRange, WINDOW_NANOS, Window};
use prism_model::{Batch, Intrinsic, Signal, TenantId};
use prism_store::disk::RealDisk;
use prism_store::keys::{Keyring, Scheme};
use prism_store::life::{self, Age, Policy, policy};
use prism_store::rollup::Cube;
use prism_store::{Observer, Snapshot, StoreOptions, Tier};
use support::folders::{copied, fixture, is_written, kept, keyring, lines, storage, told_of, write};
use support::rows::texts;
use support::{NOW, tenant};

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const NEWER: &str = "has version 2, this reads up to 1: a newer prism wrote it, run that version here too";

/// The batches of a round: odd ones, and of spans a few that are like those of a shop. All times are of one window, so that
/// rows stay in one file.
fn batches(signal: Signal, now: i64, round: u64) -> Vec<Batch> {
    let one_window = |batch: &Batch| batch.event_times().values().iter().all(|t| Window::of(*t) == Window::of(now));
    let odd = (round * 1_000..).map(|seed| batch(signal, 8, now, seed)).filter(|b| b.rows() > 3 && one_window(b));
    let mut all: Vec<Batch> = odd.take(2).collect();
    if signal == Signal::Spans {
        all.push(spans(20, now, round));
    }
    all
}

/// Everything that there is: three promotions with a checkpoint between them and a compaction behind it, a block, segments
/// that their writer ended, that an observer ended for it, and that nobody has ended yet, with the links of their leases; a
/// policy.
fn write_folder(root: &Path, signals: &[Signal], scheme: Option<Scheme>) {
    std::fs::create_dir_all(root.join("objects")).unwrap();
    if scheme.is_some() {
        std::fs::create_dir_all(root.join("keys")).unwrap();
    }
    let keys = keyring(root);
    let storage = storage(root, keys.clone());
    let mut expected: BTreeMap<Signal, Vec<String>> = BTreeMap::new();
    let mut round = |writer: u64, now: i64, closes: bool| {
        let of = signals.iter().flat_map(|signal| batches(*signal, now, writer).into_iter().map(|b| (*signal, b)));
        let of: Vec<(Signal, Batch)> = of.collect();
        of.iter().for_each(|(signal, b)| expected.entry(*signal).or_default().extend(texts(b)));
        write(root, &keys, writer, now, of, closes);
    };
    let ages = |cold| Policy { cold_after: cold, warm_after: Age::ms(0), ..Policy::default() };
    let moves = |now: i64, policy: Policy| {
        for signal in signals {
            let moved = storage.moves(&tenant(), *signal, &policy, now, false, &|| false);
            assert!(moved.failures.is_empty() && moved.damaged.is_empty(), "{moved:?}");
        }
    };
    for n in 0..6i64 {
        // Compacted when their day is over: the last ones stay as they are.
        let now = NOW + n * HOUR + if n > 3 { 48 * HOUR } else { 0 };
        round(1 + n as u64, now, true);
        moves(now + 20 * MINUTE, ages(Age::ms(0)));
        // What was sealed goes, when nobody reads it.
        moves(now + 30 * MINUTE, ages(Age::ms(0)));
    }
    let last = NOW + 60 * HOUR;
    round(11, last, true);
    moves(last + 20 * MINUTE, ages(Age::NEVER));
    moves(last + 30 * MINUTE, ages(Age::NEVER));
    round(12, last + HOUR, true);
    round(13, last + HOUR + WINDOW_NANOS, false);
    let patience = StoreOptions::default().patience();
    let mut observer = Observer::new(99, patience, keys.clone());
    let looked = [0, 100, 101, 200].map(|at| observer.look(&RealDisk, root, Duration::from_secs(at)).unwrap());
    assert!(looked[3].ended >= signals.len(), "{looked:?}");
    round(14, last + HOUR, false);
    policy::change(root, &tenant(), Policy::default(), |p| {
        p.choices(None).delete_after = Some(Age::ms(90 * 86_400_000));
        p.choices(Some(Signal::Logs)).cold_after = Some(Age::ms(2 * 3_600_000));
    })
    .unwrap();
    for signal in signals {
        let mut rows = expected.remove(signal).unwrap();
        rows.sort_unstable();
        assert!(told(root, *signal).0 == rows, "{signal}");
        std::fs::write(root.join(format!("rows-{signal}.txt")), lines(&rows)).unwrap();
        std::fs::write(root.join(format!("cubes-{signal}.txt")), cubes(&snapshot(root, *signal))).unwrap();
    }
}

fn snapshot(root: &Path, signal: Signal) -> Snapshot {
    storage(root, keyring(root)).reader.snapshot(&tenant(), signal, TimeRange::ALL).unwrap()
}

/// The rows that can be read, and why not all of them.
fn told(root: &Path, signal: Signal) -> (Vec<String>, Vec<String>) {
    let storage = storage(root, keyring(root));
    match storage.reader.snapshot(&tenant(), signal, TimeRange::ALL) {
        Ok(snapshot) => told_of(&snapshot),
        Err(e) => (Vec::new(), vec![e.to_string()]),
    }
}

/// What the rollups of blocks and files say.
fn cubes(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for rolled in &snapshot.rolled {
        let (cells, _) = rolled.cells().unwrap().unwrap();
        let cube = cells.cube();
        writeln!(
            out,
            "{} rows {} running {} weighted {}",
            rolled.tier.as_str(),
            cube.rows(),
            cube.running(),
            cube.is_weighted()
        )
        .unwrap();
        for cell in cube.cells() {
            let p50 = cell.durations.and_then(|sketch| sketch.quantile(0.5));
            let (service, name, exemplar) = (cell.service, cell.name, cell.exemplar.map(hex::encode));
            let kinds = (cell.kind, cell.status, cell.severity);
            let durations = (cell.duration_sum, cell.duration_range, p50, exemplar);
            writeln!(out, "  {} {service:?} {name:?} {kinds:?} {} {durations:?}", cell.minute, cell.count).unwrap();
        }
        for edge in cube.edges().into_iter().flatten() {
            writeln!(out, "  {edge:?}").unwrap();
        }
        writeln!(out, "  outside {}", cube.traces_outside()).unwrap();
    }
    out
}

const FOLDERS: [(&str, &[Signal]); 2] = [("data-v1", &Signal::ALL), ("data-v1-encrypted", &[Signal::Spans])];

#[test]
fn data_folders_of_version_1_read() {
    for (name, signals) in FOLDERS {
        if is_written() && !fixture(name).exists() {
            let encrypted = name.ends_with("encrypted").then_some(Scheme::Local);
            write_folder(&fixture(name), signals, encrypted);
        }
        let root = copied(name);
        for signal in signals {
            let snapshot = snapshot(root.path(), *signal);
            let parts = [snapshot.tiers.cold.parts, snapshot.tiers.warm.parts, snapshot.tiers.hot.parts];
            assert!(parts.iter().all(|parts| *parts > 0), "{name} {signal}: {parts:?}");
            let (rows, why) = told_of(&snapshot);
            assert!(why.is_empty(), "{why:?}");
            assert!(rows == kept(name, &format!("rows-{signal}.txt")), "{name} {signal}");
            let known = cubes(&snapshot);
            assert!(known.lines().eq(kept(name, &format!("cubes-{signal}.txt"))), "{name} {signal}: {known}");
            let storage = storage(root.path(), keyring(root.path()));
            let verified = life::verify(&storage, &tenant(), *signal, &mut |_| ()).unwrap();
            assert_eq!(verified.faults, []);
        }
        let policies = policy::read(root.path(), &tenant()).unwrap();
        let ages = Signal::ALL.map(|s| policies.of(s, Policy::default())).map(|p| (p.cold_after, p.delete_after));
        let days = Age::ms(90 * 86_400_000);
        assert_eq!(ages, [1, 2, 1].map(|hours| (Age::ms(hours * 3_600_000), days)));
    }
}

/// The trace ids of rows.
fn ids(batch: &Batch) -> Vec<[u8; 16]> {
    let ids = batch.items().intrinsic(Intrinsic::TraceId).cloned();
    let ids = ids.as_ref().and_then(|ids| ids.as_any().downcast_ref::<FixedSizeBinaryArray>());
    ids.into_iter().flat_map(|ids| ids.iter().flatten()).map(|id| id.try_into().unwrap()).collect()
}

#[test]
fn an_index_of_traces_of_version_1_finds_each_trace_in_all_tiers() {
    for (name, _) in FOLDERS {
        let root = copied(name);
        let frames = |snapshot: &Snapshot| -> Vec<Batch> {
            snapshot.frames.iter().map(|frame| frame.read(&|_, _| true).unwrap().0).collect()
        };
        let mut traces: BTreeMap<[u8; 16], usize> = BTreeMap::new();
        for id in frames(&snapshot(root.path(), Signal::Spans)).iter().flat_map(ids) {
            *traces.entry(id).or_default() += 1;
        }
        assert!(traces.len() > 10);
        let reader = storage(root.path(), keyring(root.path())).reader;
        for (id, spans) in traces {
            let found = reader.trace(&tenant(), Signal::Spans, &id).unwrap();
            assert!(found.unreadable.is_empty() && (1..=4).contains(&found.index_reads), "{found:?}");
            let found = frames(&found).iter().flat_map(ids).filter(|found| *found == id).count();
            assert_eq!(found, spans);
        }
    }
}

/// What was written goes on: the dead are fenced, all grows cold, and other rows come.
#[test]
fn a_data_folder_of_version_1_is_gone_on_with() {
    for (name, signals) in FOLDERS {
        let root = copied(name);
        let keys = keyring(root.path());
        let mut observer = Observer::new(98, StoreOptions::default().patience(), keys.clone());
        for at in 0..300 {
            observer.look(&RealDisk, root.path(), Duration::from_secs(at)).unwrap();
        }
        assert_eq!(std::fs::read_dir(root.path().join("hot/.writers")).unwrap().count(), 0, "all are dead");
        let now = NOW + 100 * HOUR;
        let more: Vec<(Signal, Batch)> = signals.iter().map(|s| (*s, batches(*s, now, 77).remove(0))).collect();
        write(root.path(), &keys, 50, now, more.clone(), true);
        let storage = storage(root.path(), keys);
        for (signal, batch) in more {
            let mut expected = kept(name, &format!("rows-{signal}.txt"));
            expected.extend(texts(&batch));
            expected.sort_unstable();
            for later in [1, 2, 100] {
                let moved = storage.moves(&tenant(), signal, &Policy::default(), now + later * HOUR, false, &|| false);
                assert!(moved.failures.is_empty() && moved.damaged.is_empty(), "{moved:?}");
            }
            let snapshot = snapshot(root.path(), signal);
            assert!(snapshot.frames.iter().all(|frame| frame.tier() == Tier::Cold), "{name} {signal}");
            assert!(told_of(&snapshot) == (expected, Vec::new()), "{name} {signal}");
        }
    }
}

/// Paths of files below a folder whose names end so, ascending.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() && !path.is_symlink() {
                true => folders.push(path),
                false if path.to_str().unwrap().ends_with(end) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// Puts the checksum of `of` behind it.
fn seal(bytes: &mut [u8]) {
    let at = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..at]);
    bytes[at..].copy_from_slice(&crc.to_le_bytes());
}

fn spans_folder(root: &Path, of: &str) -> PathBuf {
    let tenant: TenantId = tenant();
    root.join(of).join(tenant.as_str()).join("spans")
}

/// A file of a newer version is refused with what to do; the rest is there.
#[test]
fn what_a_newer_version_wrote_is_refused() {
    let all = kept("data-v1", "rows-spans.txt");
    let raise = |of: &str, end: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let root = copied("data-v1");
        let path = match end {
            ".parquet" => cold_file(root.path()),
            end => files(&spans_folder(root.path(), of), end).pop().unwrap(),
        };
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        (told(root.path(), Signal::Spans), root)
    };
    let part = |(rows, why): &(Vec<String>, Vec<String>), what: &str| {
        assert!(
            why.iter().any(|why| *why == format!("damaged data: {what} {NEWER}") || *why == format!("{what} {NEWER}")),
            "{what}: {why:?}"
        );
        assert!(rows.len() < all.len() && !rows.is_empty() && rows.iter().all(|row| all.binary_search(row).is_ok()));
    };
    let (found, _) = raise("hot", ".seg", &|bytes| {
        bytes[8] += 1;
        seal(&mut bytes[..256]);
    });
    part(&found, "segment");
    let (found, _) = raise("hot", ".seg", &|bytes| {
        bytes[256 + 4] = 3;
        seal(&mut bytes[256..256 + 160]);
    });
    assert!(found.1.iter().any(|why| why.contains("frame has version 3, this reads up to 2")), "{:?}", found.1);
    let (found, _) = raise("objects/warm", ".blk", &|bytes| {
        let tail = bytes.len() - 64;
        bytes[tail + 8] += 1;
        seal(&mut bytes[tail..]);
    });
    part(&found, "block");
    let (found, _) = raise("objects/cold", ".parquet", &|bytes| {
        let at = bytes.windows(8).rposition(|w| w == b"PRISMCLD").unwrap();
        bytes[at + 8] += 1;
        seal(&mut bytes[at..at + 32]);
    });
    part(&found, "the cold file");
    // All of the table, since what its files mean may have changed.
    let (found, _) = raise("objects/cold", ".json", &|bytes| {
        *bytes = br#"{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}"#.to_vec();
    });
    let told_by = "damaged data: reader protocol of the Delta table has version 2, this knows up to 1";
    assert!(found.1.iter().any(|why| why.starts_with(told_by)), "{:?}", found.1);
    // An index is not needed: traces are found without, and it is left alone.
    let (found, root) = raise("objects/index", ".json", &|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(r#""format":1"#));
        *bytes = text.replace(r#""format":1,"#, r#""format":2,"runs":[],"#).into_bytes();
    });
    assert_eq!(found, (all.clone(), Vec::new()));
    let storage = storage(root.path(), Keyring::default());
    let batch = spans(20, NOW, 1);
    for id in ids(&batch) {
        let found = storage.reader.trace(&tenant(), Signal::Spans, &id).unwrap();
        let there =
            found.frames.iter().flat_map(|f| ids(&f.read(&|_, _| true).unwrap().0)).filter(|i| *i == id).count();
        assert_eq!(there, ids(&batch).iter().filter(|i| **i == id).count());
    }
    let manifests = || files(&spans_folder(root.path(), "objects/index"), ".json");
    let before = manifests();
    let moved = storage.moves(&tenant(), Signal::Spans, &Policy::default(), NOW + 200 * HOUR, false, &|| false);
    assert!(moved.failures.is_empty(), "{:?}", moved.failures);
    assert_eq!(manifests(), before);
}

#[test]
fn a_rollup_of_a_newer_version_is_refused() {
    let root = copied("data-v1");
    for signal in Signal::ALL {
        for block in storage(root.path(), Keyring::default()).blocks.list(&tenant(), signal, 0, 0).unwrap() {
            let mut bytes = block.cube_bytes().unwrap().unwrap();
            assert!(Cube::from_bytes(&bytes).is_ok());
            for cut in 0..bytes.len() {
                assert!(Cube::from_bytes(&bytes[..cut]).is_err(), "{cut}");
            }
            bytes[0] += 1;
            assert_eq!(Cube::from_bytes(&bytes).unwrap_err().to_string(), format!("rollup {NEWER}"));
        }
    }
}

/// The last file of the table.
fn cold_file(root: &Path) -> PathBuf {
    let pinned = storage(root, Keyring::default()).tables.table(&tenant(), Signal::Spans).pin(TimeRange::ALL).unwrap();
    root.join("objects").join(&pinned.files.last().unwrap().name)
}

/// Chooses a file of a data folder.
type Which<'a> = &'a dyn Fn(&Path) -> PathBuf;

/// A file that was cut, wherever, is told; rows are missing only where that is said.
#[test]
fn qu2_what_is_cut_is_told() {
    let log = |end: &'static str| move |root: &Path| files(&spans_folder(root, "objects/cold"), end).pop().unwrap();
    let block = |root: &Path| files(&spans_folder(root, "objects/warm"), ".blk").pop().unwrap();
    let (commit, checkpoint) = (log(".json"), log(".checkpoint.parquet"));
    let whiches: [(&str, &str, Which<'_>); 5] = [
        ("data-v1", "block", &block),
        ("data-v1-encrypted", "block", &block),
        ("data-v1", "cold file", &cold_file),
        ("data-v1", "checkpoint", &checkpoint),
        ("data-v1", "commit", &commit),
    ];
    for (name, what, which) in whiches {
        let root = copied(name);
        let all = kept(name, "rows-spans.txt");
        let path = which(root.path());
        let whole = std::fs::read(&path).unwrap();
        // Some of the middle, and each byte of the ends, where what matters most stands.
        let len = whole.len();
        let stride = (len / 25).max(1);
        let lines =
            whole.iter().enumerate().filter(|(_, byte)| what == "commit" && **byte == b'\n').map(|(at, _)| at + 1);
        let cuts = (0..len).step_by(stride).chain(len.saturating_sub(70)..len).chain(lines).filter(|cut| *cut < len);
        for cut in cuts {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (rows, unread) = told(root.path(), Signal::Spans);
            assert!(rows.iter().all(|row| all.binary_search(row).is_ok()), "{what} cut at {cut}: rows of nobody");
            // Of a commit only the end of its last line is not needed.
            let told = !unread.is_empty() || (what == "commit" && cut + 1 == len && rows == all);
            assert!(told, "{name}: {what} cut at {cut} of {len}: {} of {} rows", rows.len(), all.len());
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(told(root.path(), Signal::Spans) == (all, Vec::new()), "mended");
    }
}

/// A trace is found where index or runs were cut: by the filters of files.
#[test]
fn qu2_an_index_of_traces_that_is_cut_hides_no_trace() {
    let root = copied("data-v1");
    let batch = spans(20, NOW, 1);
    let id = ids(&batch)[0];
    let expected = ids(&batch).iter().filter(|i| **i == id).count();
    let mut paths: Vec<PathBuf> =
        files(&spans_folder(root.path(), "objects/index"), ".json").into_iter().rev().take(1).collect();
    paths.extend(files(&spans_folder(root.path(), "objects/index").join("runs"), ""));
    assert!(paths.len() > 1);
    for path in paths {
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..whole.len()).step_by((whole.len() / 40).max(1)).chain([whole.len() - 1]) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let reader = storage(root.path(), Keyring::default()).reader;
            let found = reader.trace(&tenant(), Signal::Spans, &id).unwrap();
            let there = found.frames.iter().flat_map(|f| ids(&f.read(&|_, _| true).unwrap().0)).filter(|i| *i == id);
            assert_eq!((there.count(), found.unreadable.len()), (expected, 0), "{} cut at {cut}", path.display());
        }
        std::fs::write(&path, &whole).unwrap();
    }
}
