//! A store whose rows move to colder tiers when a test says so, as a server moves them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prism_model::{Batch, Signal};
use prism_query::{Engine, EngineOptions};
use prism_store::cold::delta::Tables;
use prism_store::cold::{ColdEnv, ColdOptions, compact, promote};
use prism_store::disk::{Disk, RealDisk};
use prism_store::keys::Keyring;
use prism_store::objects::{LocalObjects, Objects};
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Reader, Store, StoreOptions, Surroundings};

use crate::support::{NOW, cleared, tenant};

/// When all windows of the tests are over, and late rows due.
const LATER: i64 = NOW + 7_200_000_000_000;

pub struct Moved {
    root: tempfile::TempDir,
    disk: Arc<dyn Disk>,
    objects: Arc<dyn Objects>,
    blocks: Blocks,
    writers: Cell<u64>,
    named: Cell<u64>,
    /// Attribute columns that files may have.
    pub columns_max: Cell<usize>,
}

impl Moved {
    pub fn new() -> Moved {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("objects")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(disk.clone(), &root.path().join("objects"), 1));
        let blocks = Blocks::open(objects.clone(), Keyring::default());
        Moved { root, disk, objects, blocks, writers: Cell::new(0), named: Cell::new(0), columns_max: Cell::new(1_000) }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn reader(&self) -> Reader {
        Reader::open_on(self.disk.clone(), self.root())
    }

    pub fn engine(&self) -> Engine {
        Engine::new(self.reader(), EngineOptions::default())
    }

    /// Writes a batch to segments of its own, which are ended.
    pub async fn add(&self, batch: Batch) {
        let store = self.store();
        store.append(&tenant(), cleared(batch)).await.unwrap();
        store.close().await;
    }

    /// Another process, which writes to segments of its own.
    pub fn store(&self) -> Arc<Store> {
        self.writers.set(self.writers.get() + 1);
        let writer = self.writers.get();
        let around =
            Surroundings { disk: self.disk.clone(), clock: Arc::new(|| NOW), writer, keys: Keyring::default() };
        let options = StoreOptions { commit_delay_ms: 0, frame_rows: 64, ..StoreOptions::default() };
        Store::open_in(self.root(), options, around)
    }

    /// All segments become a block, and go.
    pub fn seal(&self, signal: Signal) {
        let options = SealOptions { frame_rows: 50, seal_bytes_min: 0, ..SealOptions::default() };
        let covered = |_: &_, _, _| Ok(0);
        let env = SealEnv {
            disk: &*self.disk,
            root: self.root(),
            blocks: &self.blocks,
            options: &options,
            covered: &covered,
        };
        let report = seal::pass(&env, &tenant(), signal, LATER, false).unwrap();
        assert!(!report.blocks.is_empty(), "{report:?}");
    }

    /// All blocks come to the table.
    pub fn promote(&self, signal: Signal) {
        let report = self.cold(|env| promote::pass(env, &tenant(), signal, LATER, false).unwrap());
        assert!(report.later.is_none(), "{report:?}");
    }

    /// The table's small files are joined.
    pub fn compact(&self, signal: Signal) {
        let report = self.cold(|env| compact::pass(env, &tenant(), signal, LATER, usize::MAX, false).unwrap());
        assert!(report.later.is_none() && report.files > 0, "{report:?}");
    }

    /// What other engines joined is taken back; gives how many files.
    pub fn take_back(&self, signal: Signal) -> usize {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
        Tables::new(self.objects.clone()).table(&tenant(), signal).take_back(now, 0).unwrap()
    }

    /// The files that other engines wrote.
    pub fn foreign(&self, signal: Signal) -> Vec<String> {
        Tables::new(self.objects.clone()).table(&tenant(), signal).foreign().unwrap()
    }

    fn cold<T>(&self, does: impl FnOnce(&ColdEnv<'_>) -> T) -> T {
        let tables = Tables::new(self.objects.clone());
        // Few enough that a test comes past both.
        let mut options = ColdOptions { checkpoint_commits: 2, compact_files_min: 2, ..ColdOptions::default() };
        options.file.attribute_columns_max = self.columns_max.get();
        let named = AtomicU64::new(self.named.get());
        let done = does(&ColdEnv {
            disk: &*self.disk,
            root: self.root(),
            blocks: &self.blocks,
            tables: &tables,
            options: &options,
            writer: self.writers.get(),
            named: &named,
        });
        self.named.set(named.into_inner());
        done
    }
}
