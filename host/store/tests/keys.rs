//! Encrypted segments through the public interface: nothing readable is on disk, nothing is read that was not written there,
//! keys rotate under load, and an erased tenant leaves nothing.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use prism_model::samples::{self, Random};
use prism_model::window::{TimeRange, WINDOW_NANOS};
use prism_model::{Classify as _, Kind, Signal, TenantId};
use prism_store::disk::{Disk, File, RealDisk};
use prism_store::keys::{Erasure, KeyError, Keyring, Scheme};
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Reader, Store, StoreError, StoreOptions, Surroundings};
use support::disk::SimDisk;
use support::opened::Opened;
use support::{NOW, all, cleared, numbered, numbers, tenant, try_numbers};

fn keyring(root: &Path) -> Keyring {
    Keyring::open(root, &root.join("keys"), Scheme::Local, None)
}

fn open(root: &Path, keys: Keyring, writer: u64) -> Arc<Store> {
    let options = StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() };
    Store::open_in(root, options, Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer, keys })
}

/// Every file below a folder with its bytes; links with their text. Stores may work there: what goes meanwhile is not told.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.unwrap(),
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let kind = match fs::symlink_metadata(&path) {
                Ok(kind) => kind,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => panic!("{}: {e}", path.display()),
            };
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = match kind.is_symlink() {
                true => fs::read_link(&path).map(|text| text.into_os_string().into_encoded_bytes()),
                false => fs::read(&path),
            };
            match bytes {
                Ok(bytes) => found.push((path, bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => panic!("{}: {e}", path.display()),
            }
        }
    }
    found
}

fn segments(root: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = files(root).into_iter().map(|(path, _)| path).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    paths.sort_unstable();
    paths
}

/// Where any of the texts stands, in a file or in its name.
fn needles(root: &Path, texts: &[&str]) -> Vec<String> {
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    let mut found = Vec::new();
    for (path, bytes) in files(root) {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let hits = texts.iter().filter(|text| holds(&bytes, text) || name.contains(**text));
        found.extend(hits.map(|text| format!("{text} in {name}")));
    }
    found
}

#[tokio::test]
async fn ke1_no_key_name_or_value_stands_on_disk_in_the_clear() {
    // Few rows, which are compressed whole, and many, whose columns lie apart; both have what is not compressed at all.
    let texts = ["service.name", "http.request.method", "only.0", "checkout"];
    for (scheme, clear) in [(Scheme::Off, true), (Scheme::Local, false)] {
        let root = tempfile::tempdir().unwrap();
        let keys = Keyring::open(root.path(), &root.path().join("keys"), scheme, None);
        let store = open(root.path(), keys.clone(), 1);
        for batch in [cleared(samples::spans(3, NOW, 1)), numbered(0, &[NOW]), cleared(samples::spans(3_000, NOW, 2))] {
            store.append(&tenant(), batch).await.unwrap();
        }
        assert_eq!(needles(root.path(), &texts[..3]).is_empty(), !clear, "open segments, {scheme:?}");
        store.close().await;
        assert_eq!(needles(root.path(), &texts[..3]).is_empty(), !clear, "closed segments, {scheme:?}");
        assert_eq!(needles(root.path(), &texts).is_empty(), !clear);
        // And it is all there, for whoever has the keys.
        let snapshot = all(&Reader::open(root.path()));
        assert_eq!(snapshot.frames.iter().map(|f| f.rows()).sum::<usize>(), 3_004);
        assert!(snapshot.unreadable.is_empty());
        snapshot.frames.iter().for_each(|f| drop(f.read(&|_, _| true).unwrap()));
    }
}

#[tokio::test]
async fn keys_are_for_their_user_alone() {
    let root = tempfile::tempdir().unwrap();
    let keys = keyring(root.path());
    let store = open(root.path(), keys.clone(), 1);
    store.append(&tenant(), numbered(0, &[NOW])).await.unwrap();
    store.close().await;
    let folder = root.path().join("keys");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.join("acme")), mode(&folder.join("acme/00000000000000000001"))), (0o700, 0o600));
    let key = fs::read_to_string(folder.join("acme/00000000000000000001")).unwrap();
    assert!(!format!("{keys:?} {:?}", keys.versions(&tenant()).unwrap()).contains(&key[key.len() - 40..]));
}

/// A frame, a column or a whole file that is put elsewhere does not open there, whatever checksums say.
#[tokio::test]
async fn ke1_segments_and_frames_open_where_they_were_written_only() {
    let root = tempfile::tempdir().unwrap();
    let keys = keyring(root.path());
    for writer in [1, 2] {
        let store = open(root.path(), keys.clone(), writer);
        for i in 0..3 {
            store.append(&tenant(), numbered(writer as i64 * 100 + i, &[NOW])).await.unwrap();
        }
        store.close().await;
    }
    let paths = segments(&root.path().join("hot"));
    let [one, two] = &paths[..] else { panic!("{paths:?}") };
    let (first, second) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    assert_eq!(first.len(), second.len());
    let read = || {
        let snapshot = all(&Reader::open(root.path()));
        let reasons: Vec<String> = snapshot.unreadable.iter().map(|u| u.reason.clone()).collect();
        (numbers(&snapshot), reasons)
    };
    assert_eq!(read(), (vec![100, 101, 102, 200, 201, 202], vec![]));
    // The other file's frames behind one's own header: their fingerprint tells. With that made right, the key does.
    let mut swapped = first.clone();
    swapped[256..].copy_from_slice(&second[256..]);
    fs::write(one, &swapped).unwrap();
    assert_eq!(read().0, [200, 201, 202]);
    let frames = |bytes: &[u8]| -> Vec<usize> {
        (256..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"PFRM")).collect()
    };
    let reseal = |bytes: &mut [u8], at: usize, fingerprint: &[u8]| {
        bytes[at + 8..at + 16].copy_from_slice(fingerprint);
        let crc = crc32c::crc32c(&bytes[at..at + 156]);
        bytes[at + 156..at + 160].copy_from_slice(&crc.to_le_bytes());
    };
    let own: Vec<u8> = first[256 + 8..256 + 16].to_vec();
    for at in frames(&swapped) {
        reseal(&mut swapped, at, &own);
    }
    fs::write(one, &swapped).unwrap();
    let (rows, reasons) = read();
    assert_eq!(rows, [200, 201, 202]);
    assert!(reasons.iter().any(|r| r.contains("does not open with its key")), "{reasons:?}");
    // With the other's key too: it is bound to the name.
    swapped[112..180].copy_from_slice(&second[112..180]);
    let crc = crc32c::crc32c(&swapped[..252]);
    swapped[252..256].copy_from_slice(&crc.to_le_bytes());
    fs::write(one, &swapped).unwrap();
    let (rows, reasons) = read();
    assert_eq!(rows, [200, 201, 202]);
    assert!(reasons.iter().any(|r| r.contains("was changed or moved")), "{reasons:?}");
}

#[tokio::test]
async fn a_lost_or_wrong_key_is_told_and_touches_its_tenant_alone() {
    let root = tempfile::tempdir().unwrap();
    let other: TenantId = "other".parse().unwrap();
    let keys = keyring(root.path());
    let store = open(root.path(), keys.clone(), 1);
    for name in [&tenant(), &other] {
        store.append(name, numbered(1, &[NOW])).await.unwrap();
    }
    assert_eq!(keys.rotate(&tenant(), None).unwrap(), 2);
    store.close().await;
    let store = open(root.path(), keys.clone(), 2);
    store.append(&tenant(), numbered(2, &[NOW])).await.unwrap();
    let at = |version: u64| root.path().join(format!("keys/acme/{version:020}"));
    let read = || {
        let snapshot = all(&Reader::open(root.path()));
        let reason = snapshot.unreadable.first().map(|u| u.reason.clone()).unwrap_or_default();
        (numbers(&snapshot), reason)
    };
    assert_eq!(read(), (vec![1, 2], String::new()));
    let lost = fs::read(at(1)).unwrap();
    fs::remove_file(at(1)).unwrap();
    let (rows, reason) = read();
    assert!(rows == [2] && reason.starts_with("version 1 of the tenant's key is missing"), "{rows:?} {reason}");
    fs::copy(at(2), at(1)).unwrap();
    let (rows, reason) = read();
    assert!(rows == [2] && reason.contains("does not open this"), "{rows:?} {reason}");
    fs::write(at(1), b"no key").unwrap();
    let (rows, reason) = read();
    assert!(rows == [2] && reason == "version 1 of the tenant's key is damaged", "{rows:?} {reason}");
    fs::write(at(1), lost).unwrap();
    assert_eq!(read().0, [1, 2]);
    // The newest one damaged: nothing is taken for this tenant, in words that a client may see, and all for others.
    fs::write(at(2), b"no key").unwrap();
    let fresh = open(root.path(), keyring(root.path()), 3);
    let refused = fresh.append(&tenant(), numbered(3, &[NOW])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Key(KeyError::Damaged { version: 2 })), "{refused}");
    assert!(refused.kind() == Kind::Retry && !refused.to_string().contains('/'), "{refused}");
    fresh.append(&other, numbered(3, &[NOW])).await.unwrap();
    fresh.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_and_tenants_are_switched_on_and_off() {
    let root = tempfile::tempdir().unwrap();
    let keys = keyring(root.path());
    // Another process rotates; this one's segments are small, so that it begins many.
    let elsewhere = keyring(root.path());
    let options = StoreOptions { commit_delay_ms: 0, segment_bytes_max: 1, ..StoreOptions::default() };
    let around = Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: keys.clone() };
    let store = Store::open_in(root.path(), options, around);
    let mut schemes = Vec::new();
    for round in 0..6i64 {
        let appends: Vec<_> = (0..8)
            .map(|i| {
                let store = store.clone();
                tokio::spawn(async move { store.append(&tenant(), numbered(round * 8 + i, &[NOW])).await })
            })
            .collect();
        let scheme = [None, Some(Scheme::Off), None, Some(Scheme::Local)][round as usize % 4];
        let ring = if round % 2 == 0 { keys.clone() } else { elsewhere.clone() };
        schemes.push(tokio::task::spawn_blocking(move || ring.rotate(&tenant(), scheme).unwrap()).await.unwrap());
        for append in appends {
            append.await.unwrap().unwrap();
        }
    }
    store.close().await;
    assert!(schemes.windows(2).all(|w| w[0] < w[1]), "{schemes:?}");
    assert_eq!(numbers(&all(&Reader::open(root.path()))), (0..48).collect::<Vec<i64>>());
    // Each segment says by itself what it is encrypted with.
    let versions: BTreeSet<u64> = segments(&root.path().join("hot"))
        .iter()
        .map(|path| fs::read(path).unwrap())
        .map(|bytes| if bytes[10] & 2 == 0 { 0 } else { u64::from_le_bytes(bytes[112..120].try_into().unwrap()) })
        .collect();
    assert!(versions.len() > 1, "{versions:?}");
}

/// A frame's body as it was handed to the disk: its file, its place, its first bytes.
type Body = (PathBuf, u64, [u8; 16]);

/// Rows stay encrypted on their way from segments to blocks, whether frames are joined or taken over as they stand; a block has
/// a key of its own, under the version of its time.
#[tokio::test]
async fn ke1_sealed_blocks_are_encrypted_and_open_with_their_tenants_keys_alone() {
    let root = tempfile::tempdir().unwrap();
    let keys = keyring(root.path());
    let store = open(root.path(), keys.clone(), 1);
    for batch in [numbered(0, &[NOW; 3]), numbered(3, &[NOW; 4]), numbered(7, &[NOW; 100])] {
        store.append(&tenant(), batch).await.unwrap();
    }
    store.close().await;
    assert_eq!(keys.rotate(&tenant(), None).unwrap(), 2);
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.path().join("objects"), 7));
    fs::create_dir(root.path().join("objects")).unwrap();
    let blocks = Blocks::open(objects.clone(), keys.clone());
    let options = SealOptions { frame_rows: 100, seal_bytes_min: 0, ..SealOptions::default() };
    let covered = |_: &TenantId, _: Signal, _: u32| Ok(0);
    let env = SealEnv { disk: &RealDisk, root: root.path(), blocks: &blocks, options: &options, covered: &covered };
    let later = NOW + 2 * 3_600_000_000_000;
    seal::pass(&env, &tenant(), Signal::Spans, later, false).unwrap();
    let rows = |keys: &Keyring| -> Result<usize, StoreError> {
        let blocks = Blocks::open(objects.clone(), keys.clone());
        let listed = blocks.list(&tenant(), Signal::Spans, 0, 0)?;
        let frames = listed.iter().flat_map(|b| b.frames(TimeRange::ALL)).collect::<Vec<_>>();
        frames.iter().map(|f| Ok(f.read(&|_, _| true)?.0.rows())).sum()
    };
    assert_eq!(rows(&keyring(root.path())).unwrap(), 107);
    assert!(needles(root.path(), &["only.", "row"]).is_empty());
    // The second version opens the block, not the segments; the first one the segments alone.
    let version = |n: u64| root.path().join(format!("keys/acme/{n:020}"));
    let second = fs::read(version(2)).unwrap();
    fs::copy(version(1), version(2)).unwrap();
    let error = rows(&keyring(root.path())).unwrap_err();
    assert!(matches!(error, StoreError::Key(KeyError::Wrong { version: 2 })), "{error}");
    fs::write(version(2), second).unwrap();
    // An erased tenant gets no block any more, and none of its segments is read for one.
    let erasure = Erasure::new(root.path(), keys.clone(), objects.clone());
    erasure.erase(&tenant(), 5).unwrap();
    assert!(!root.path().join("objects/warm/acme").exists() && !root.path().join("hot/acme").exists());
    let nothing = seal::pass(&env, &tenant(), Signal::Spans, later, false).map(|report| report.blocks.len());
    assert!(matches!(nothing, Ok(0) | Err(StoreError::Key(KeyError::Erased))), "{nothing:?}");
    assert!(erasure.remains(&tenant()).unwrap().is_empty());
}

/// Remembers what is written, also what fails.
struct Watched {
    disk: SimDisk,
    bodies: Arc<Mutex<Vec<Body>>>,
}

struct WatchedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    bodies: Arc<Mutex<Vec<Body>>>,
}

impl File for WatchedFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let header = [b"PFRM", b"PCLM"].iter().any(|magic| bytes.starts_with(*magic));
        let frame = self.path.extension().is_some_and(|e| e == "seg") && offset >= 256 && !header;
        if let Some(first) = bytes.first_chunk::<16>().filter(|first| frame && **first != [0; 16]) {
            self.bodies.lock().push((self.path.clone(), offset, *first));
        }
        self.file.write_all_at(bytes, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        self.file.identity()
    }
}

impl Disk for Watched {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.disk.create_new(path)?;
        Ok(Arc::new(WatchedFile { file, path: path.to_owned(), bodies: self.bodies.clone() }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.open(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        self.disk.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn symlink(&self, text: &str, path: &Path) -> io::Result<()> {
        self.disk.symlink(text, path)
    }
    fn read_link(&self, path: &Path) -> io::Result<String> {
        self.disk.read_link(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn is_dir(&self, path: &Path) -> bool {
        self.disk.is_dir(path)
    }
    fn keep_private(&self, path: &Path) -> io::Result<()> {
        self.disk.keep_private(path)
    }
    fn age(&self, path: &Path) -> io::Result<std::time::Duration> {
        self.disk.age(path)
    }
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.random(bytes)
    }
    fn may_block(&self) -> bool {
        self.disk.may_block()
    }
}

/// Over failing writes and syncs, groups that are taken back and sent again, and restarts: no two bodies that were ever handed
/// to the disk under one key have the same nonce. Frames begin alike (so many columns, these numbers), and what is encrypted
/// twice with one nonce begins alike then too.
#[test]
fn ke1_no_nonce_is_used_twice_under_a_key() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut bodies_seen, mut places_again) = (0, 0);
    for seed in 0..40 {
        runtime.block_on(async {
            let keys_of = tempfile::tempdir().unwrap();
            let keys = keyring(keys_of.path());
            let mut random = Random(seed);
            let mut disk = SimDisk::new(Path::new("/data"), seed);
            let bodies: Arc<Mutex<Vec<Body>>> = Arc::default();
            let mut next = 0;
            for writer in 0..2 {
                let watched = Watched { disk: disk.clone(), bodies: bodies.clone() };
                let options = StoreOptions { commit_delay_ms: 0, frame_rows: 4, ..StoreOptions::default() };
                let (disk_of, clock) = (Arc::new(watched), Arc::new(|| NOW));
                let around = Surroundings { disk: disk_of, clock, writer, keys: keys.clone() };
                let store = Store::open_in(Path::new("/data"), options, around);
                for _ in 0..16 {
                    disk.fail_one_in(if random.one_in(2) { 6 } else { 0 });
                    let times: Vec<i64> = (0..9).map(|i| NOW - (i % 2) * WINDOW_NANOS * 4).collect();
                    // What is refused is sent again, as clients do.
                    for _attempt in 0..1 + random.below(3) {
                        if store.append(&tenant(), numbered(next, &times)).await.is_ok() {
                            break;
                        }
                    }
                    next += 9;
                }
                disk.fail_one_in(0);
                disk = disk.crash();
            }
            let (mut begins, mut places) = (HashSet::new(), BTreeMap::new());
            for (path, offset, first) in bodies.lock().iter() {
                assert!(begins.insert((path.clone(), *first)), "seed {seed}: {path:?} has a nonce twice, at {offset}");
                *places.entry((path.clone(), *offset)).or_insert(0) += 1;
            }
            bodies_seen += begins.len();
            places_again += places.values().filter(|n| **n > 1).count();
        });
    }
    assert!(bodies_seen > 1_000 && places_again > 20, "{bodies_seen} bodies, {places_again} places used again");
}

/// An append that comes while, or after, its tenant is erased by another process leaves nothing, and others do not notice.
#[tokio::test(flavor = "multi_thread")]
async fn ke2_erasing_under_load_leaves_the_tombstone_alone() {
    let root = tempfile::tempdir().unwrap();
    let (gone, stays): (TenantId, TenantId) = ("needle-tenant".parse().unwrap(), tenant());
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.path().join("objects"), 7));
    fs::create_dir(root.path().join("objects")).unwrap();
    for tier in ["warm", "cold", "index"] {
        for name in [&gone, &stays] {
            objects.create(&format!("{tier}/{name}/spans/0/1.x"), b"NEEDLE".to_vec().into()).unwrap();
        }
    }
    for log in ["settings", "bindings"] {
        for name in [&gone, &stays] {
            let log = prism_store::control::Log::open(root.path(), &format!("tenants/{name}/{log}")).unwrap();
            log.create(1, b"NEEDLE").unwrap();
        }
    }
    let stores: Vec<_> = (1..=2).map(|writer| open(root.path(), keyring(root.path()), writer)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = stores
        .iter()
        .flat_map(|store| [(store.clone(), gone.clone()), (store.clone(), stays.clone())])
        .map(|(store, name)| {
            let (stop, of) = (stop.clone(), name.clone());
            let task = tokio::spawn(async move {
                let (mut kept, mut refused) = (0, None);
                while !stop.load(Relaxed) && refused.is_none() {
                    // Windows that nobody has open yet, so that segments and folders are made all the time.
                    let at = NOW - (kept % 7) * WINDOW_NANOS;
                    match store.append(&name, numbered(kept, &[at])).await {
                        Ok(_) => kept += 1,
                        Err(e) => refused = Some(e),
                    }
                }
                (kept, refused)
            });
            (of, task)
        })
        .collect();
    while needles(root.path(), &["needle-tenant"]).len() < 12 {
        tokio::task::yield_now().await;
    }
    let erasure = Erasure::new(root.path(), keyring(root.path()), objects.clone());
    let before = erasure.remains(&gone).unwrap();
    let places: Vec<&str> = before.iter().map(|r| r.place.as_str()).collect();
    assert_eq!(places, ["keys", "hot", "control", "objects/cold", "objects/index", "objects/warm"]);
    let (again, name) = (erasure.clone(), gone.clone());
    tokio::task::spawn_blocking(move || again.erase(&name, 5).unwrap()).await.unwrap();
    // Both writers of the tenant end by being refused; the load of the other one goes on until then.
    let (of_gone, of_others): (Vec<_>, Vec<_>) = load.into_iter().partition(|(name, _)| *name == gone);
    for (_, task) in of_gone {
        let error = task.await.unwrap().1.unwrap();
        assert!(matches!(error, StoreError::Key(KeyError::Erased)) && error.kind() == Kind::Forbidden, "{error}");
    }
    stop.store(true, Relaxed);
    let mut kept_of_others = 0;
    for (_, task) in of_others {
        let (kept, refused) = task.await.unwrap();
        assert!(refused.is_none(), "{refused:?}");
        kept_of_others += kept;
    }
    assert!(kept_of_others > 0);
    for store in &stores {
        let late = store.append(&gone, numbered(0, &[NOW])).await.unwrap_err();
        assert!(matches!(late, StoreError::Key(KeyError::Erased)), "{late}");
        store.close().await;
    }
    erasure.sweep(6, i64::MAX).unwrap();
    assert_eq!(
        needles(root.path(), &["needle-tenant"]),
        ["needle-tenant in control/erased/needle-tenant/00000000000000000001"]
    );
    assert!(erasure.remains(&gone).unwrap().is_empty() && erasure.is_erased(&gone).unwrap());
    // Erasing again changes nothing, a new key is refused, and everybody else has everything.
    assert!(erasure.erase(&gone, 9).unwrap().is_empty());
    assert!(matches!(keyring(root.path()).rotate(&gone, None), Err(KeyError::Erased)));
    let snapshot = all(&Reader::open(root.path()));
    assert_eq!(try_numbers(&snapshot.frames).unwrap().len() as i64, kept_of_others);
    assert!(objects.get("warm/acme/spans/0/1.x").is_ok() && !root.path().join("hot/needle-tenant").exists());
    assert!(snapshot.unreadable.is_empty() && gone != stays);
    let none = Reader::open(root.path()).snapshot(&gone, Signal::Spans, TimeRange::ALL).unwrap();
    assert!(none.frames.is_empty());
}

/// An erasure that died after any of its steps is finished by beginning it anew, and by the sweep of a server alike.
#[tokio::test]
async fn ke2_an_erasure_that_was_cut_off_is_finished() {
    for by_sweep in [false, true] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("objects")).unwrap();
        let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.path().join("objects"), 7));
        let store = open(root.path(), keyring(root.path()), 1);
        store.append(&tenant(), numbered(0, &[NOW])).await.unwrap();
        store.close().await;
        objects.create("warm/acme/spans/0/1.x", b"NEEDLE".to_vec().into()).unwrap();
        let erasure = Erasure::new(root.path(), keyring(root.path()), objects);
        // It died behind its first step: the tombstone stands, everything else too.
        let log = prism_store::control::Log::open(root.path(), "erased/acme").unwrap();
        log.create(1, br#"{"erased_unix_ms":5}"#).unwrap();
        assert_eq!(erasure.sweep(1_000, 10).unwrap(), 0, "too long ago for this sweep");
        assert!(!erasure.remains(&tenant()).unwrap().is_empty());
        if by_sweep {
            assert_eq!(erasure.sweep(1_000, i64::MAX).unwrap(), 1);
        } else {
            assert!(!erasure.erase(&tenant(), 9).unwrap().is_empty());
        }
        assert_eq!(needles(root.path(), &["acme", "NEEDLE"]), ["acme in control/erased/acme/00000000000000000001"]);
    }
}

/// A file that is still open on NFS stays, and is told; everything else goes, and it too when the erasure is begun anew.
#[tokio::test]
async fn ke2_what_cannot_be_removed_keeps_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("objects")).unwrap();
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.path().join("objects"), 7));
    let store = open(root.path(), keyring(root.path()), 1);
    for window in 0..3 {
        store.append(&tenant(), numbered(window, &[NOW - window * WINDOW_NANOS])).await.unwrap();
    }
    store.close().await;
    objects.create("warm/acme/spans/0/1.x", b"NEEDLE".to_vec().into()).unwrap();
    let open = segments(root.path()).remove(0);
    fs::rename(&open, open.with_file_name(".nfs0001")).unwrap();
    let busy =
        Opened::new(|file| file).removing(|path| match path.file_name().is_some_and(|name| name == ".nfs0001") {
            true => Err(io::ErrorKind::ResourceBusy.into()),
            false => RealDisk.remove(path),
        });
    let erasure = Erasure::open_in(Arc::new(busy), root.path(), keyring(root.path()), objects.clone());
    let error = erasure.erase(&tenant(), 9).unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.kind() == Kind::Retry && why.contains("until it is closed"), "{error}: {why}");
    let left: Vec<_> = erasure.remains(&tenant()).unwrap().into_iter().map(|r| (r.place, r.files)).collect();
    assert_eq!(left, [("hot".to_owned(), 1)]);
    Erasure::new(root.path(), keyring(root.path()), objects).erase(&tenant(), 9).unwrap();
    assert!(erasure.remains(&tenant()).unwrap().is_empty());
}
