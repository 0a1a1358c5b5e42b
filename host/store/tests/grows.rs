//! A reader that asked for a file's length before its writer made the file longer (ST-1).

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prism_store::disk::{File, RealDisk};
use prism_store::{Reader, Store, StoreOptions, Surroundings};
use support::opened::Opened;
use support::{NOW, all, numbered, numbers, tenant};

/// A file that is said to be of this length when that is asked for the first time.
struct EarlyFile {
    file: Arc<dyn File>,
    len: u64,
    asked: AtomicBool,
}

impl File for EarlyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
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
        let (inode, len) = self.file.identity()?;
        Ok((inode, if self.asked.swap(true, Relaxed) { len } else { len.min(self.len) }))
    }
}

#[tokio::test]
async fn st1_a_file_that_grows_while_it_is_read_is_not_damaged() {
    let root = tempfile::tempdir().unwrap();
    let around =
        Surroundings { disk: Arc::new(RealDisk), clock: Arc::new(|| NOW), writer: 1, keys: Default::default() };
    let store = Store::open_in(root.path(), StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
    for i in 0..5 {
        store.append(&tenant(), numbered(i * 10, &[NOW; 10])).await.unwrap();
    }
    let bytes = store.metrics().bytes_written.load(Relaxed);
    let mut most = 0;
    for len in 0..bytes + 1_000 {
        let early = move |file| Arc::new(EarlyFile { file, len, asked: AtomicBool::new(false) }) as Arc<dyn File>;
        let snapshot = all(&Reader::open_on(Arc::new(Opened::new(early)), root.path()));
        assert!(snapshot.unreadable.is_empty(), "{len} bytes: {:?}", snapshot.unreadable);
        let found = numbers(&snapshot);
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>(), "{len} bytes");
        most = most.max(found.len());
    }
    assert_eq!(most, 50);
    store.close().await;
}
