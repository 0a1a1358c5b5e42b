//! A disk in memory that fails, fills up, and forgets what was not synced: alone, or shared by simulated processes.
//!
//! Alone ([`SimDisk::new`]) operations that change something fail as planned or by chance. Shared ([`SimDisk::of`]) every
//! operation waits at the [`super::turnstile`], whose verdict it is, and the disk is like one mounted from a server: listings
//! may be a moment old, and an open file that another removed is stale.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prism_model::samples::Random;
use prism_store::disk::{Disk, File};

use super::turnstile::{Effect, Process, Storage, Verdict};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;
/// What an open file says after its name was removed by another client of the server.
const ESTALE: i32 = 116;
/// A writer that is not a simulated process.
const NOBODY: usize = usize::MAX;

#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    process: Option<Process>,
}

struct State {
    nodes: BTreeMap<PathBuf, Node>,
    durable: BTreeSet<PathBuf>,
    /// Names whose removal is not durable.
    removed: BTreeMap<PathBuf, Node>,
    random: Random,
    /// One in so many operations fails; 0 for none.
    fail_one_in: usize,
    /// Operations until the machine dies.
    die_in: Option<u64>,
    capacity: u64,
    inodes: u64,
    /// Names of blocks that were ever there.
    blocks: BTreeSet<String>,
    /// Whether each of the next operations fails.
    plan: VecDeque<bool>,
    /// Called before each sync of a file.
    before_sync: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Listings may be this old, in simulated nanoseconds.
    stale: i64,
    /// What processes saw in folders, and when.
    listed: BTreeMap<(usize, PathBuf), (i64, Vec<String>)>,
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
    names: u32,
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Written and not synced: by whom, where, what.
    dirty: Vec<(usize, usize, Vec<u8>)>,
}

impl Content {
    /// The disk keeps any part of what was not synced.
    fn settle(&mut self, random: &mut Random, keep_all: bool) {
        for (_, at, bytes) in std::mem::take(&mut self.dirty) {
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
        // So is its length, where it was cut.
        if keep_all || (self.live.len() < self.durable.len() && random.one_in(2)) {
            self.durable.resize(self.live.len(), 0);
        }
    }
}

impl SimDisk {
    pub fn new(root: &Path, seed: u64) -> SimDisk {
        let state = State {
            nodes: BTreeMap::from([(root.to_owned(), Node::Dir)]),
            durable: BTreeSet::from([root.to_owned()]),
            ..State::empty(Random(seed))
        };
        SimDisk { state: Arc::new(Mutex::new(state)), process: None }
    }

    /// The same disk as a process sees it.
    pub fn of(&self, process: &Process) -> SimDisk {
        SimDisk { state: self.state.clone(), process: Some(process.clone()) }
    }

    pub fn fail_one_in(&self, n: usize) {
        self.state.lock().fail_one_in = n;
    }

    /// Says of each of the next operations whether it fails.
    pub fn plan(&self, fails: &[bool]) {
        self.state.lock().plan = fails.iter().copied().collect();
    }

    /// Whether all planned operations came.
    pub fn plan_is_done(&self) -> bool {
        self.state.lock().plan.is_empty()
    }

    pub fn before_sync(&self, hook: Option<Arc<dyn Fn() + Send + Sync>>) {
        self.state.lock().before_sync = hook;
    }

    pub fn die_in(&self, operations: u64) {
        self.state.lock().die_in = Some(operations);
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().die_in == Some(0)
    }

    /// Bytes that all files together may have from now on.
    pub fn capacity(&self, bytes: u64) {
        self.state.lock().capacity = bytes;
    }

    /// Listings by processes may be this old from now on, in simulated nanoseconds.
    pub fn stale(&self, nanos: i64) {
        self.state.lock().stale = nanos;
    }

    pub fn used(&self) -> u64 {
        self.state.lock().used(None)
    }

    /// Power is lost and comes back: of what was not synced any part is there.
    pub fn crash(&self) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(self.state.lock().after_crash())), process: None }
    }

    /// Changes bytes of the only file whose name ends so.
    pub fn edit(&self, suffix: &str, with: impl FnOnce(&mut Vec<u8>)) {
        let state = self.state.lock();
        let found = state.nodes.iter().find(|(p, _)| p.to_string_lossy().ends_with(suffix));
        let Some((_, Node::File(content))) = found else { panic!("no file `{suffix}`") };
        with(&mut content.lock().live);
    }

    /// Names of blocks that were ever there.
    pub fn blocks(&self) -> Vec<String> {
        self.state.lock().blocks.iter().cloned().collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.state.lock().nodes.keys().map(|p| p.to_string_lossy().into_owned()).collect()
    }

    /// One operation: what it does, and what it leaves behind where it fails.
    fn step<T>(
        &self,
        effect: Effect,
        what: impl FnOnce() -> String,
        does: impl FnOnce(&mut State) -> io::Result<T>,
        fails: impl FnOnce(&mut State),
    ) -> io::Result<T> {
        let Some(process) = &self.process else {
            let mut state = self.state.lock();
            if effect == Effect::Reads {
                return does(&mut state);
            }
            return match state.operation() {
                Ok(()) => does(&mut state),
                Err(e) if state.die_in == Some(0) => Err(e),
                Err(e) => {
                    fails(&mut state);
                    Err(e)
                }
            };
        };
        let verdict = process.comes_to(effect, what)?;
        let mut state = self.state.lock();
        let done = match verdict {
            Verdict::Go => does(&mut state),
            Verdict::Fail(e) => {
                fails(&mut state);
                return Err(e);
            }
            Verdict::LostReply(e) => {
                let _ = does(&mut state);
                return Err(e);
            }
        };
        done.inspect_err(|e| process.ended(e))
    }

    fn seat(&self) -> usize {
        self.process.as_ref().map_or(NOBODY, Process::seat)
    }
}

impl Storage for SimDisk {
    fn crash(&self) {
        let mut state = self.state.lock();
        *state = state.after_crash();
    }

    fn lose(&self, seat: usize) {
        let mut guard = self.state.lock();
        let State { nodes, random, .. } = &mut *guard;
        for node in nodes.values() {
            let Node::File(content) = node else { continue };
            let mut content = content.lock();
            if content.dirty.iter().any(|(by, ..)| *by == seat) {
                content.settle(random, false);
                content.live = content.durable.clone();
            }
        }
    }
}

fn error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

/// A path as the history tells it.
fn short(path: &Path) -> String {
    path.components().skip(2).collect::<PathBuf>().display().to_string()
}

impl State {
    fn empty(random: Random) -> State {
        State {
            nodes: BTreeMap::new(),
            durable: BTreeSet::new(),
            removed: BTreeMap::new(),
            random,
            fail_one_in: 0,
            die_in: None,
            capacity: u64::MAX,
            inodes: 0,
            blocks: BTreeSet::new(),
            plan: VecDeque::new(),
            before_sync: None,
            stale: 0,
            listed: BTreeMap::new(),
        }
    }

    fn after_crash(&mut self) -> State {
        let mut after = State {
            inodes: self.inodes,
            blocks: self.blocks.clone(),
            capacity: self.capacity,
            stale: self.stale,
            ..State::empty(Random(self.random.number()))
        };
        // A name that was removed may be back, where nothing made the removal durable.
        let back: Vec<PathBuf> = self.removed.keys().filter(|_| self.random.one_in(2)).cloned().collect();
        let mut nodes = std::mem::take(&mut self.removed);
        nodes.retain(|path, _| back.contains(path));
        nodes.extend(self.nodes.iter().map(|(p, n)| (p.clone(), n.clone())));
        let mut contents: BTreeMap<u64, Arc<Mutex<Content>>> = BTreeMap::new();
        for (path, node) in &nodes {
            // The root comes first.
            let parent_kept = after.nodes.is_empty() || path.parent().is_some_and(|p| after.nodes.contains_key(p));
            let sure = self.durable.contains(path) || back.contains(path);
            if !parent_kept || (!sure && after.random.one_in(2)) {
                continue;
            }
            let node = match node {
                Node::File(content) => {
                    let mut content = content.lock();
                    let kept = contents.entry(content.inode).or_insert_with(|| {
                        content.settle(&mut after.random, false);
                        let bytes = content.durable.clone();
                        let (inode, live) = (content.inode, bytes.clone());
                        Arc::new(Mutex::new(Content { inode, names: 0, live, durable: bytes, dirty: Vec::new() }))
                    });
                    kept.lock().names += 1;
                    Node::File(kept.clone())
                }
                other => other.clone(),
            };
            after.nodes.insert(path.clone(), node);
            after.durable.insert(path.clone());
        }
        after
    }

    /// Bytes of all files, without one that is locked.
    fn used(&self, but: Option<&Arc<Mutex<Content>>>) -> u64 {
        let len = |n: &Node| match n {
            Node::File(c) if but.is_none_or(|but| !Arc::ptr_eq(c, but)) => c.lock().live.len() as u64,
            _ => 0,
        };
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

    fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        // Paths are ordered by their parts, so all below a folder follow it.
        let below = self.nodes.range(dir.to_owned()..).skip(1).take_while(move |(p, _)| p.starts_with(dir));
        below.map(|(p, _)| p).filter(move |p| p.parent() == Some(dir))
    }

    /// A new name in a folder that exists.
    fn insert(&mut self, seat: usize, path: &Path, node: Node) -> io::Result<()> {
        if self.nodes.contains_key(path) {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        if !matches!(self.nodes.get(parent), Some(Node::Dir)) {
            return Err(error(io::ErrorKind::NotFound));
        }
        if self.capacity != u64::MAX && self.used(None) >= self.capacity {
            return Err(error(io::ErrorKind::StorageFull));
        }
        if path.extension().is_some_and(|e| e == "blk") {
            self.blocks.insert(short(path));
        }
        if let Node::File(content) = &node {
            content.lock().names += 1;
        }
        self.nodes.insert(path.to_owned(), node);
        self.listed.remove(&(seat, parent.to_owned()));
        Ok(())
    }

    fn take(&mut self, seat: usize, path: &Path) {
        let Some(node) = self.nodes.remove(path) else { return };
        if let Node::File(content) = &node {
            content.lock().names -= 1;
        }
        if self.durable.remove(path) {
            self.removed.insert(path.to_owned(), node);
        }
        if let Some(parent) = path.parent() {
            self.listed.remove(&(seat, parent.to_owned()));
        }
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    content: Arc<Mutex<Content>>,
}

impl SimFile {
    /// A server says of a file that another client removed that it is stale.
    fn stands(&self) -> io::Result<()> {
        let stale = self.disk.process.is_some() && self.content.lock().names == 0;
        if stale { Err(io::Error::from_raw_os_error(ESTALE)) } else { Ok(()) }
    }

    fn grow(&self, state: &State, to: usize) -> io::Result<()> {
        let mut content = self.content.lock();
        if to > content.live.len() {
            if state.capacity != u64::MAX && state.used(Some(&self.content)) + to as u64 > state.capacity {
                return Err(error(io::ErrorKind::StorageFull));
            }
            content.live.resize(to, 0);
        }
        Ok(())
    }

    fn put(&self, state: &State, bytes: &[u8], at: usize) -> io::Result<()> {
        self.stands()?;
        self.grow(state, at + bytes.len())?;
        let mut content = self.content.lock();
        content.live[at..at + bytes.len()].copy_from_slice(bytes);
        content.dirty.push((self.disk.seat(), at, bytes.to_vec()));
        Ok(())
    }
}

impl File for SimFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = offset as usize;
        self.disk.step(
            Effect::Writes,
            || format!("write {} at {at}, {} bytes", short(&self.path), bytes.len()),
            |state| self.put(state, bytes, at),
            |state| {
                // A failed write may have written a part.
                let part = state.random.below(bytes.len());
                let _ = self.put(state, &bytes[..part], at);
            },
        )
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = buf.len();
        self.disk.step(
            Effect::Reads,
            || format!("read {} at {offset}, {wanted} bytes", short(&self.path)),
            |_| {
                self.stands()?;
                let content = self.content.lock();
                let from = (offset as usize).min(content.live.len());
                let n = buf.len().min(content.live.len() - from);
                buf[..n].copy_from_slice(&content.live[from..from + n]);
                Ok(n)
            },
            |_| {},
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.disk.state.lock().before_sync.clone();
        if let Some(hook) = hook {
            hook();
        }
        self.disk.step(
            Effect::Writes,
            || format!("sync {}", short(&self.path)),
            |state| {
                self.stands()?;
                self.content.lock().settle(&mut state.random, true);
                Ok(())
            },
            // After an error the kernel calls the pages clean although any part of them was lost.
            |state| self.content.lock().settle(&mut state.random, false),
        )
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let to = (offset + len) as usize;
        let what = || format!("reserve {} to {to}", short(&self.path));
        self.disk.step(Effect::Writes, what, |state| self.stands().and_then(|()| self.grow(state, to)), |_| {})
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let cut = |_: &mut State| {
            self.stands()?;
            self.content.lock().live.resize(len as usize, 0);
            Ok(())
        };
        self.disk.step(Effect::Writes, || format!("cut {} to {len}", short(&self.path)), cut, |_| {})
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = |_: &mut State| {
            self.stands()?;
            let content = self.content.lock();
            Ok((content.inode, content.live.len() as u64))
        };
        self.disk.step(Effect::Reads, || format!("stat {}", short(&self.path)), stat, |_| {})
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let create = |state: &mut State| {
            state.inodes += 1;
            let content = Arc::new(Mutex::new(Content { inode: state.inodes, ..Content::default() }));
            state.insert(self.seat(), path, Node::File(content.clone()))?;
            Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), content }) as Arc<dyn File>)
        };
        self.step(Effect::Writes, || format!("create {}", short(path)), create, |_| {})
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let open = |state: &mut State| match state.nodes.get(path) {
            Some(Node::File(content)) => {
                let content = content.clone();
                Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), content }) as Arc<dyn File>)
            }
            _ => Err(error(io::ErrorKind::NotFound)),
        };
        self.step(Effect::Reads, || format!("open {}", short(path)), open, |_| {})
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let list = |state: &mut State| {
            if !matches!(state.nodes.get(path), Some(Node::Dir)) {
                return Err(error(io::ErrorKind::NotFound));
            }
            let name = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
            let names: Vec<String> = state.children(path).map(name).collect();
            let Some(process) = self.process.as_ref().filter(|_| state.stale > 0) else { return Ok(names) };
            let (now, key) = (process.time(), (process.seat(), path.to_owned()));
            match state.listed.get(&key) {
                Some((then, known)) if now - then <= state.stale && process.below(2) == 0 => Ok(known.clone()),
                _ => {
                    state.listed.insert(key, (now, names.clone()));
                    Ok(names)
                }
            }
        };
        self.step(Effect::Reads, || format!("list {}", short(path)), list, |_| {})
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let create = |state: &mut State| match state.insert(self.seat(), path, Node::Dir) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        };
        if self.process.is_none() && self.state.lock().nodes.contains_key(path) {
            // Counted as no operation, since it changes nothing.
            return Ok(false);
        }
        self.step(Effect::Writes, || format!("mkdir {}", short(path)), create, |_| {})
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let sync = |state: &mut State| {
            if !matches!(state.nodes.get(path), Some(Node::Dir)) {
                return Err(error(io::ErrorKind::NotFound));
            }
            let names: Vec<PathBuf> = state.children(path).cloned().collect();
            state.durable.extend(names);
            // With a folder that is gone all goes that was in it.
            let State { nodes, removed, .. } = state;
            let gone = |p: &Path| p.ancestors().any(|a| a.parent() == Some(path) && !nodes.contains_key(a));
            removed.retain(|p, _| p.parent() != Some(path) && !gone(p));
            Ok(())
        };
        self.step(Effect::Writes, || format!("sync names in {}", short(path)), sync, |_| {})
    }

    fn symlink(&self, text: &str, path: &Path) -> io::Result<()> {
        let link = |state: &mut State| state.insert(self.seat(), path, Node::Link(text.to_owned()));
        self.step(Effect::Writes, || format!("symlink {} `{text}`", short(path)), link, |_| {})
    }

    fn read_link(&self, path: &Path) -> io::Result<String> {
        let read = |state: &mut State| match state.nodes.get(path) {
            Some(Node::Link(text)) => Ok(text.clone()),
            Some(_) => Err(error(io::ErrorKind::InvalidInput)),
            None => Err(error(io::ErrorKind::NotFound)),
        };
        self.step(Effect::Reads, || format!("read link {}", short(path)), read, |_| {})
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let link = |state: &mut State| match state.nodes.get(from).cloned() {
            Some(node @ Node::File(_)) => state.insert(self.seat(), to, node),
            _ => Err(error(io::ErrorKind::NotFound)),
        };
        self.step(Effect::Writes, || format!("link {} to {}", short(from), short(to)), link, |_| {})
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = |state: &mut State| match state.nodes.get(path) {
            None | Some(Node::Dir) => Err(error(io::ErrorKind::NotFound)),
            Some(_) => {
                state.take(self.seat(), path);
                Ok(())
            }
        };
        self.step(Effect::Writes, || format!("remove {}", short(path)), remove, |_| {})
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let remove = |state: &mut State| {
            if state.children(path).next().is_some() {
                return Err(error(io::ErrorKind::DirectoryNotEmpty));
            }
            if !matches!(state.nodes.get(path), Some(Node::Dir)) {
                return Err(error(io::ErrorKind::NotFound));
            }
            state.take(self.seat(), path);
            Ok(())
        };
        self.step(Effect::Writes, || format!("rmdir {}", short(path)), remove, |_| {})
    }

    fn is_dir(&self, path: &Path) -> bool {
        let is = |state: &mut State| Ok(matches!(state.nodes.get(path), Some(Node::Dir)));
        // A look that fails says no, as the real one does.
        self.step(Effect::Reads, || format!("stat {}", short(path)), is, |_| {}).unwrap_or(false)
    }

    fn keep_private(&self, path: &Path) -> io::Result<()> {
        self.step(Effect::Writes, || format!("chmod {}", short(path)), |_| Ok(()), |_| {})
    }

    /// Nothing is old.
    fn age(&self, _path: &Path) -> io::Result<Duration> {
        Ok(Duration::ZERO)
    }

    /// The same for the same seed.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        bytes.fill_with(|| state.random.number() as u8);
        Ok(())
    }

    fn may_block(&self) -> bool {
        self.process.is_none()
    }
}
