//! What one node sees of a shared file system over NFS: answers that were lost after the operation was done, listings that are
//! behind, handles that became stale; and a moment at which the node stands still while others go on.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prism_model::samples::Random;
use prism_store::disk::{Disk, File};

use crate::support::disk::SimDisk;

/// The server, and the time that all nodes share.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

/// From when on a folder listed what.
type Listing = (Duration, Vec<String>);
/// Operations until a node stands still, and what happens meanwhile.
type Pause = (usize, Box<dyn FnOnce() + Send>);

struct Inner {
    disk: SimDisk,
    now: Mutex<Duration>,
    /// What each folder listed from which time on.
    listings: Mutex<HashMap<PathBuf, Vec<Listing>>>,
}

impl Server {
    pub fn new(disk: SimDisk) -> Server {
        Server(Arc::new(Inner { disk, now: Mutex::default(), listings: Mutex::default() }))
    }

    pub fn now(&self) -> Duration {
        *self.0.now.lock()
    }

    pub fn pass(&self, time: Duration) {
        *self.0.now.lock() += time;
    }

    pub fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    fn changed(&self, path: &Path) {
        let Some(dir) = path.parent() else { return };
        let names = self.0.disk.list(dir).unwrap_or_default();
        self.0.listings.lock().entry(dir.to_owned()).or_default().push((self.now(), names));
    }

    /// The listing as it was at a time; as it is where nothing changed since.
    fn listed(&self, dir: &Path, at: Duration) -> io::Result<Vec<String>> {
        let now = self.0.disk.list(dir)?;
        let listings = self.0.listings.lock();
        let Some(of_dir) = listings.get(dir) else { return Ok(now) };
        Ok(of_dir.iter().rev().find(|(time, _)| *time <= at).map(|(_, names)| names.clone()).unwrap_or_default())
    }
}

/// How often what goes wrong: one in so many operations, 0 for never.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub fails: usize,
    pub lost_replies: usize,
    /// Listings are behind by up to this.
    pub behind: Duration,
}

/// A node.
#[derive(Clone)]
pub struct Node(Arc<NodeInner>);

struct NodeInner {
    server: Server,
    random: Mutex<Random>,
    faults: Mutex<Faults>,
    /// What this node made and removed itself: it sees that at once.
    own: Mutex<HashMap<PathBuf, bool>>,
    pauses: Mutex<Option<Pause>>,
}

enum Step {
    Does,
    Fails,
    LosesReply,
}

impl Node {
    pub fn new(server: &Server, seed: u64, faults: Faults) -> Node {
        Node(Arc::new(NodeInner {
            server: server.clone(),
            random: Mutex::new(Random(seed)),
            faults: Mutex::new(faults),
            own: Mutex::default(),
            pauses: Mutex::default(),
        }))
    }

    /// Stands still before the operation of this number from now, while `meanwhile` happens.
    pub fn pause_in(&self, operations: usize, meanwhile: impl FnOnce() + Send + 'static) {
        *self.0.pauses.lock() = Some((operations, Box::new(meanwhile)));
    }

    pub fn faults(&self, faults: Faults) {
        *self.0.faults.lock() = faults;
    }

    pub fn paused(&self) -> bool {
        self.0.pauses.lock().is_none()
    }

    fn step(&self, changes: bool) -> Step {
        let due = {
            let mut pauses = self.0.pauses.lock();
            match &mut *pauses {
                Some((0, _)) => pauses.take(),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some((_, meanwhile)) = due {
            meanwhile();
        }
        let faults = *self.0.faults.lock();
        let mut random = self.0.random.lock();
        if faults.fails > 0 && random.one_in(faults.fails) {
            return Step::Fails;
        }
        if changes && faults.lost_replies > 0 && random.one_in(faults.lost_replies) {
            return Step::LosesReply;
        }
        Step::Does
    }

    /// An operation that makes or removes a name.
    fn change<T>(&self, path: &Path, made: bool, act: impl FnOnce(&SimDisk) -> io::Result<T>) -> io::Result<T> {
        let step = self.step(true);
        if let Step::Fails = step {
            return Err(io::Error::other("the node's network"));
        }
        let done = act(&self.0.server.0.disk)?;
        self.0.server.changed(path);
        self.0.own.lock().insert(path.to_owned(), made);
        match step {
            // The client sent it again, or gave up.
            Step::LosesReply if made && self.0.random.lock().one_in(2) => Err(io::ErrorKind::AlreadyExists.into()),
            Step::LosesReply => Err(io::Error::other("the answer was lost")),
            _ => Ok(done),
        }
    }
}

struct NodeFile {
    node: Node,
    file: Arc<dyn File>,
    path: PathBuf,
    inode: u64,
}

impl NodeFile {
    fn step(&self) -> io::Result<()> {
        if let Step::Fails = self.node.step(false) {
            return Err(io::Error::other("the node's network"));
        }
        // The server knows a file by what is linked.
        let there = self.node.0.server.0.disk.open(&self.path).and_then(|f| f.identity());
        match there {
            Ok((inode, _)) if inode == self.inode => Ok(()),
            _ => Err(io::Error::from_raw_os_error(116)), // ESTALE
        }
    }
}

impl File for NodeFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.step()?;
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step()?;
        self.file.read_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step()?;
        self.file.sync_data()
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.step()?;
        self.file.reserve(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.file.set_len(len)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.step()?;
        self.file.identity()
    }
}

impl Node {
    fn file(&self, path: &Path, file: Arc<dyn File>) -> io::Result<Arc<dyn File>> {
        let (inode, _) = file.identity()?;
        Ok(Arc::new(NodeFile { node: self.clone(), file, path: path.to_owned(), inode }))
    }

    fn reads(&self) -> io::Result<&SimDisk> {
        match self.step(false) {
            Step::Fails => Err(io::Error::other("the node's network")),
            _ => Ok(&self.0.server.0.disk),
        }
    }
}

impl Disk for Node {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.change(path, true, |disk| disk.create_new(path))?;
        self.file(path, file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.reads()?.open(path)?;
        self.file(path, file)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.reads()?;
        let behind = self.0.faults.lock().behind;
        let back = behind.mul_f64(self.0.random.lock().below(100) as f64 / 100.0);
        let now = self.0.server.now();
        let mut names = self.0.server.listed(path, now.saturating_sub(back))?;
        for (own, made) in self.0.own.lock().iter().filter(|(own, _)| own.parent() == Some(path)) {
            let name = own.file_name().unwrap().to_string_lossy().into_owned();
            let there = self.0.server.0.disk.list(path)?.contains(&name);
            names.retain(|n| *n != name);
            // Somebody else may have removed it since.
            if *made && there {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        if self.0.server.0.disk.is_dir(path) {
            return self.reads().map(|_| false);
        }
        match self.change(path, true, |disk| disk.create_dir(path)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            done => done,
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.reads()?.sync_dir(path)
    }

    fn symlink(&self, text: &str, path: &Path) -> io::Result<()> {
        if !path.parent().is_some_and(|dir| self.0.server.0.disk.is_dir(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(path, true, |disk| disk.symlink(text, path))
    }

    fn read_link(&self, path: &Path) -> io::Result<String> {
        self.reads()?.read_link(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(to, true, |disk| disk.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(path, false, |disk| disk.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(path, false, |disk| disk.remove_dir(path))
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.0.server.0.disk.is_dir(path)
    }

    fn keep_private(&self, path: &Path) -> io::Result<()> {
        self.0.server.0.disk.keep_private(path)
    }

    fn age(&self, path: &Path) -> io::Result<std::time::Duration> {
        self.0.server.0.disk.age(path)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.server.0.disk.random(bytes)
    }

    fn may_block(&self) -> bool {
        false
    }
}
