//! A look at a segment that grows reads what was added since the look before, however much stands in it.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod support;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{Int64Array, StringArray};
use prism_model::{AttrType, Batch, BatchId, Cleared, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind};
use prism_store::disk::{Disk, File, RealDisk};
use prism_store::{Followed, Store, StoreOptions, Stored, Surroundings};
use support::opened::Opened;
use support::{NOW, cleared, tenant};

const GRACE: Duration = Duration::from_secs(120);
/// Headers of so many frames of so many columns take more memory than is kept of all segments together.
const FRAMES: u128 = 500;
const COLUMNS: usize = 400;
/// What a look reads of a segment besides what is new: its length, its newest header, and what follows in the same read.
const LOOK_BYTES_MAX: u64 = 64 << 10;

/// Counts what is read.
struct CountedFile(Arc<dyn File>, Arc<AtomicU64>);

impl File for CountedFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.0.read_at(buf, offset)?;
        self.1.fetch_add(n as u64, Relaxed);
        Ok(n)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.reserve(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.identity()
    }
}

/// One row with many columns, each with a text that no other frame has.
fn wide(number: u128) -> Cleared {
    let text = |column: usize| Arc::new(StringArray::from(vec![format!("value {number} of {column}")]));
    let column = |n: usize| Column { id: ColumnId::attr(format!("attribute.{n}"), AttrType::Str), array: text(n) };
    let mut items = vec![Column { id: Intrinsic::Time.into(), array: Arc::new(Int64Array::from(vec![NOW])) }];
    items.extend((0..COLUMNS).map(column));
    let table = Table::try_new(TableKind::Items, 1, items).unwrap();
    let origin = Origin {
        batch_id: number.to_le_bytes(),
        first_row: 0,
        rows: 1,
        received_unix_nanos: NOW,
        redactions: Vec::new(),
    };
    cleared(Batch::try_new(Signal::Spans, vec![origin], vec![table]).unwrap())
}

fn open(root: &Path, disk: Arc<dyn Disk>, writer: u64) -> Arc<Store> {
    let options = StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() };
    Store::open_in(root, options, Surroundings { disk, clock: Arc::new(|| NOW), writer, keys: Default::default() })
}

#[tokio::test]
async fn a_look_at_a_segment_that_grows_reads_what_is_new() {
    let root = tempfile::tempdir().unwrap();
    let busy = open(root.path(), Arc::new(RealDisk), 1);
    let read = Arc::new(AtomicU64::new(0));
    let counted = read.clone();
    let counting = move |file| Arc::new(CountedFile(file, counted.clone())) as Arc<dyn File>;
    let other = open(root.path(), Arc::new(Opened::new(counting)), 2);
    let mut listener = other.listen(&tenant(), Signal::Spans, GRACE);
    let (mut quick, mut slow) = (Followed::default(), Followed::default());
    let follow = |followed: &mut Followed, asked_for: u128| -> BTreeSet<u128> {
        let mut ids = BTreeSet::new();
        let visit = &mut |stored: Stored| ids.extend([u128::from_le_bytes(stored.origin.batch_id)]);
        let asked = |id: &BatchId| u128::from_le_bytes(*id) == asked_for;
        let others = other.follow(&tenant(), Signal::Spans, 0, &asked, followed, visit).unwrap();
        assert_eq!(others, Default::default());
        ids
    };
    let mut told = 0;
    let mut half = BTreeSet::new();
    for number in 0..FRAMES {
        busy.append(&tenant(), wide(number)).await.unwrap();
        if number % 50 == 49 {
            told += listener.look().unwrap().frames.len();
            follow(&mut quick, number);
        }
        if number == FRAMES / 2 {
            half = follow(&mut slow, number);
        }
    }
    assert_eq!((told as u128, half.len() as u128), (FRAMES, FRAMES / 2 + 1));
    for number in FRAMES..FRAMES + 5 {
        busy.append(&tenant(), wide(number)).await.unwrap();
        let before = read.load(Relaxed);
        let news = listener.look().unwrap();
        let heard = read.load(Relaxed);
        let ids = follow(&mut quick, number);
        let [listening, following] = [heard - before, read.load(Relaxed) - heard];
        assert_eq!((news.frames.len(), news.gap_since, news.unread), (1, None, 0));
        assert!(ids.contains(&number), "{ids:?}");
        let new = news.frames[0].frame.stats().bytes;
        assert!(
            listening < 2 * new + LOOK_BYTES_MAX && following < 3 * new + LOOK_BYTES_MAX,
            "{listening} {following} {new}"
        );
    }
    // Who is further behind than what is remembered is told all of it once, and reads no more than that.
    let before = read.load(Relaxed);
    let rest = follow(&mut slow, FRAMES + 4);
    assert_eq!(Vec::from_iter(rest), Vec::from_iter(FRAMES / 2 + 1..FRAMES + 5));
    let (late, whole) = (read.load(Relaxed) - before, std::fs::metadata(only_segment(root.path())).unwrap().len());
    assert!(late < whole * 3 / 4, "{late} of {whole}");
    assert_eq!(follow(&mut Followed::default(), FRAMES + 4).len() as u128, FRAMES + 5);
}

/// The one segment below a folder.
fn only_segment(root: &Path) -> std::path::PathBuf {
    let mut folders = vec![root.join("hot/acme")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    assert_eq!(found.len(), 1);
    found.remove(0)
}
