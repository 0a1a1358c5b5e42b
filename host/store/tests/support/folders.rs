//! Data folders that are kept as fixtures, and copies of them to be read, spoilt or gone on with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prism_model::{Batch, Signal};
use prism_store::cold::ColdOptions;
use prism_store::cold::delta::Tables;
use prism_store::disk::RealDisk;
use prism_store::keys::{Keyring, Scheme};
use prism_store::life::{Policy, Storage};
use prism_store::objects::LocalObjects;
use prism_store::seal::SealOptions;
use prism_store::warm::Blocks;
use prism_store::{Objects, Reader, Snapshot, Store, StoreOptions, Surroundings};

use super::rows::texts;
use super::{cleared, tenant};

/// Where a fixture lies.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Whether fixtures that are not there are to be written.
pub fn is_written() -> bool {
    std::env::var_os("PRISM_WRITE_FIXTURES").is_some()
}

/// A folder with its links.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&from, &to),
            kind if kind.is_symlink() => std::os::unix::fs::symlink(std::fs::read_link(&from).unwrap(), &to).unwrap(),
            _ => drop(std::fs::copy(&from, &to).unwrap()),
        }
    }
}

/// A copy of a fixture, to be read or spoilt.
pub fn copied(name: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    copy(&fixture(name), root.path());
    root
}

/// The keys of a data folder, where it has any.
pub fn keyring(root: &Path) -> Keyring {
    match root.join("keys").exists() {
        true => Keyring::open(root, &root.join("keys"), Scheme::Local, None),
        false => Keyring::default(),
    }
}

/// A data folder as it is moved on.
pub fn storage(root: &Path, keys: Keyring) -> Storage {
    let disk = Arc::new(RealDisk);
    let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), &root.join("objects"), 7));
    Storage {
        disk: disk.clone(),
        root: root.to_owned(),
        blocks: Blocks::open(objects.clone(), keys.clone()),
        tables: Tables::new(objects.clone()),
        reader: Reader::open_with(disk, objects.clone(), root, keys.clone(), Duration::from_secs(120)),
        keys,
        seal: SealOptions { seal_bytes_min: 0, ..SealOptions::default() },
        cold: ColdOptions { checkpoint_commits: 4, ..ColdOptions::default() },
        writer: 7,
        named: Default::default(),
        archive: None,
        defaults: Policy::default(),
        objects,
    }
}

/// Appends, and goes without a word unless it closes.
pub fn write(root: &Path, keys: &Keyring, writer: u64, now: i64, of: Vec<(Signal, Batch)>, closes: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let around =
            Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(move || now), writer, keys: keys.clone() };
        let store = Store::open_in(root, StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
        for (_, batch) in of {
            store.append(&tenant(), cleared(batch)).await.unwrap();
        }
        if closes {
            store.close().await;
        }
        std::mem::forget(store);
    });
    runtime.shutdown_background();
}

/// Rows as a text that is kept.
pub fn lines(rows: &[String]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The rows that can be read, ascending, and why not all of them.
pub fn told_of(snapshot: &Snapshot) -> (Vec<String>, Vec<String>) {
    let mut rows = Vec::new();
    let mut why: Vec<String> = snapshot.unreadable.iter().map(|u| u.reason.clone()).collect();
    for frame in &snapshot.frames {
        match frame.read(&|_, _| true) {
            Ok((batch, _)) => rows.extend(texts(&batch)),
            Err(e) => why.push(e.to_string()),
        }
    }
    rows.sort_unstable();
    (rows, why)
}

/// The lines of a text that a fixture keeps.
pub fn kept(name: &str, text: &str) -> Vec<String> {
    let text = std::fs::read_to_string(fixture(name).join(text)).unwrap();
    text.lines().map(str::to_owned).collect()
}
