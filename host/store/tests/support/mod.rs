//! A disk in memory that fails, fills up, and forgets what was not synced; and batches whose rows can be counted.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type};
use parking_lot::Mutex;
use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, Cleared, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind, TenantId};
use prism_store::disk::{Disk, File};
use prism_store::{Reader, Snapshot};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

struct State {
    nodes: BTreeMap<PathBuf, Node>,
    durable: BTreeSet<PathBuf>,
    random: Random,
    /// One in so many operations fails; 0 for none.
    pub fail_one_in: usize,
    /// Operations until the machine dies.
    die_in: Option<u64>,
    capacity: u64,
    inodes: u64,
    /// Whether each of the next operations fails.
    plan: std::collections::VecDeque<bool>,
    /// Called before each sync of a file.
    before_sync: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for State {
    fn default() -> State {
        State {
            nodes: BTreeMap::new(),
            durable: BTreeSet::new(),
            random: Random(0),
            fail_one_in: 0,
            die_in: None,
            capacity: u64::MAX,
            inodes: 0,
            plan: std::collections::VecDeque::new(),
            before_sync: None,
        }
    }
}

#[derive(Clone)]
enum Node {
    Dir,
    Link(String),
    File(Arc<Mutex<Content>>),
}

#[derive(Default)]
struct Content {
    inode: u64,
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Written and not synced.
    dirty: Vec<(usize, Vec<u8>)>,
}

impl Content {
    /// The disk keeps any part of what was not synced.
    fn settle(&mut self, random: &mut Random, keep_all: bool) {
        for (at, bytes) in std::mem::take(&mut self.dirty) {
            let mut from = at;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (sector, after) = rest.split_at((SECTOR - from % SECTOR).min(rest.len()));
                rest = after;
                if keep_all || random.one_in(2) {
                    if self.durable.len() < from + sector.len() {
                        self.durable.resize(from + sector.len(), 0);
                    }
                    self.durable[from..from + sector.len()].copy_from_slice(sector);
                }
                from += sector.len();
            }
        }
    }
}

impl SimDisk {
    pub fn new(root: &Path, seed: u64) -> SimDisk {
        let disk = SimDisk::default();
        {
            let mut state = disk.0.lock();
            state.random = Random(seed);
            state.nodes.insert(root.to_owned(), Node::Dir);
            state.durable.insert(root.to_owned());
        }
        disk
    }

    pub fn fail_one_in(&self, n: usize) {
        self.0.lock().fail_one_in = n;
    }

    /// Says of each of the next operations whether it fails.
    pub fn plan(&self, fails: &[bool]) {
        self.0.lock().plan = fails.iter().copied().collect();
    }

    /// Whether all planned operations came.
    pub fn plan_is_done(&self) -> bool {
        self.0.lock().plan.is_empty()
    }

    pub fn before_sync(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        self.0.lock().before_sync = hook;
    }

    pub fn die_in(&self, operations: u64) {
        self.0.lock().die_in = Some(operations);
    }

    pub fn is_dead(&self) -> bool {
        self.0.lock().die_in == Some(0)
    }

    /// Bytes that all files together may have from now on.
    pub fn capacity(&self, bytes: u64) {
        self.0.lock().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// Power is lost and comes back: of what was not synced any part is there.
    pub fn crash(&self) -> SimDisk {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let mut after = State { random: state.random.clone(), inodes: state.inodes, ..State::default() };
        for (path, node) in &state.nodes {
            let parent_kept = path.parent().is_none_or(|p| after.nodes.contains_key(p) || !state.nodes.contains_key(p));
            if !parent_kept || (!state.durable.contains(path) && after.random.one_in(2)) {
                continue;
            }
            let node = match node {
                Node::File(content) => {
                    let mut content = content.lock();
                    content.settle(&mut after.random, false);
                    let bytes = content.durable.clone();
                    let kept = Content { inode: content.inode, live: bytes.clone(), durable: bytes, dirty: Vec::new() };
                    Node::File(Arc::new(Mutex::new(kept)))
                }
                other => other.clone(),
            };
            after.nodes.insert(path.clone(), node);
            after.durable.insert(path.clone());
        }
        SimDisk(Arc::new(Mutex::new(after)))
    }

    /// Changes bytes of the only file whose name ends so.
    pub fn edit(&self, suffix: &str, with: impl FnOnce(&mut Vec<u8>)) {
        let state = self.0.lock();
        let found = state.nodes.iter().find(|(p, _)| p.to_string_lossy().ends_with(suffix));
        let Some((_, Node::File(content))) = found else { panic!("no file `{suffix}`") };
        with(&mut content.lock().live);
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().nodes.keys().map(|p| p.to_string_lossy().into_owned()).collect()
    }
}

fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

impl State {
    fn used(&self) -> u64 {
        let len = |n: &Node| if let Node::File(c) = n { c.lock().live.len() as u64 } else { 0 };
        self.nodes.values().map(len).sum()
    }

    /// Counts an operation that changes something; `Err` where it fails.
    fn operation(&mut self) -> io::Result<()> {
        match &mut self.die_in {
            Some(0) => return Err(io::Error::other("the machine is off")),
            Some(left) => *left -= 1,
            None => {}
        }
        if self.plan.pop_front() == Some(true) {
            return Err(io::Error::other("planned"));
        }
        if self.fail_one_in > 0 && self.random.one_in(self.fail_one_in) {
            return Err(io::Error::other("injected"));
        }
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    content: Arc<Mutex<Content>>,
}

impl SimFile {
    fn grow(&self, state: &State, content: &mut Content, to: usize) -> io::Result<()> {
        if to > content.live.len() {
            // `used` locks every file, this one too: its length is known.
            let others: u64 = state
                .nodes
                .values()
                .filter_map(|n| match n {
                    Node::File(c) if !Arc::ptr_eq(c, &self.content) => Some(c.lock().live.len() as u64),
                    _ => None,
                })
                .sum();
            if others + to as u64 > state.capacity {
                return Err(error(io::ErrorKind::StorageFull));
            }
            content.live.resize(to, 0);
        }
        Ok(())
    }

    fn put(&self, state: &State, bytes: &[u8], at: usize) -> io::Result<()> {
        let mut content = self.content.lock();
        self.grow(state, &mut content, at + bytes.len())?;
        content.live[at..at + bytes.len()].copy_from_slice(bytes);
        content.dirty.push((at, bytes.to_vec()));
        Ok(())
    }
}

impl File for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if let Err(e) = state.operation() {
            // A failed write may have written a part.
            let part = state.random.below(bytes.len());
            if state.die_in != Some(0) {
                self.put(&state, &bytes[..part], offset as usize)?;
            }
            return Err(e);
        }
        self.put(&state, bytes, offset as usize)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.lock();
        let from = (offset as usize).min(content.live.len());
        let n = buf.len().min(content.live.len() - from);
        buf[..n].copy_from_slice(&content.live[from..from + n]);
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.disk.0.lock().before_sync.clone();
        if let Some(hook) = hook {
            hook();
        }
        let mut state = self.disk.0.lock();
        let failed = state.operation();
        if state.die_in == Some(0) && failed.is_err() {
            return failed;
        }
        // After an error the kernel calls the pages clean although any part of them was lost.
        self.content.lock().settle(&mut state.random, failed.is_ok());
        failed
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operation()?;
        self.grow(&state, &mut self.content.lock(), (offset + len) as usize)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.0.lock().operation()?;
        let mut content = self.content.lock();
        content.live.resize(len as usize, 0);
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let content = self.content.lock();
        Ok((content.inode, content.live.len() as u64))
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        state.operation()?;
        if state.nodes.contains_key(path) {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        state.inodes += 1;
        let content = Arc::new(Mutex::new(Content { inode: state.inodes, ..Content::default() }));
        state.nodes.insert(path.to_owned(), Node::File(content.clone()));
        Ok(Arc::new(SimFile { disk: self.clone(), content }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match self.0.lock().nodes.get(path) {
            Some(Node::File(content)) => Ok(Arc::new(SimFile { disk: self.clone(), content: content.clone() })),
            _ => Err(error(io::ErrorKind::NotFound)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        if !state.nodes.contains_key(path) {
            return Err(error(io::ErrorKind::NotFound));
        }
        let children = state.nodes.keys().filter(|p| p.parent() == Some(path));
        Ok(children.map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.0.lock();
        if state.nodes.contains_key(path) {
            return Ok(false);
        }
        state.operation()?;
        state.nodes.insert(path.to_owned(), Node::Dir);
        Ok(true)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut guard = self.0.lock();
        guard.operation()?;
        let state = &mut *guard;
        state.durable.extend(state.nodes.keys().filter(|p| p.parent() == Some(path)).cloned());
        Ok(())
    }

    fn symlink(&self, text: &str, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operation()?;
        if state.nodes.contains_key(path) {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        state.nodes.insert(path.to_owned(), Node::Link(text.to_owned()));
        Ok(())
    }

    fn read_link(&self, path: &Path) -> io::Result<String> {
        match self.0.lock().nodes.get(path) {
            Some(Node::Link(text)) => Ok(text.clone()),
            _ => Err(error(io::ErrorKind::NotFound)),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operation()?;
        let Some(Node::File(content)) = state.nodes.get(from).cloned() else {
            return Err(error(io::ErrorKind::NotFound));
        };
        if state.nodes.contains_key(to) {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        state.nodes.insert(to.to_owned(), Node::File(content));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operation()?;
        match state.nodes.get(path) {
            None | Some(Node::Dir) => Err(error(io::ErrorKind::NotFound)),
            Some(_) => {
                state.nodes.remove(path);
                Ok(())
            }
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operation()?;
        if state.nodes.keys().any(|p| p.parent() == Some(path)) {
            return Err(error(io::ErrorKind::DirectoryNotEmpty));
        }
        state.nodes.remove(path).map(drop).ok_or_else(|| error(io::ErrorKind::NotFound))
    }

    fn is_dir(&self, path: &Path) -> bool {
        matches!(self.0.lock().nodes.get(path), Some(Node::Dir))
    }
}

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
        received_unix_nanos: NOW,
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
    let mut out = Vec::new();
    for frame in &snapshot.frames {
        let (batch, _) = frame.read(&|_, _| true).unwrap();
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
    out
}

pub fn all(reader: &Reader) -> Snapshot {
    all_of(reader, Signal::Spans)
}

pub fn all_of(reader: &Reader, signal: Signal) -> Snapshot {
    reader.snapshot(&tenant(), signal, TimeRange::ALL).unwrap()
}
