//! Ending what dead writers left open, so that it can be sealed: no segment stays open because its process is gone.
//!
//! ```text
//! look -> lease unchanged for the lease time -> fence (next epoch) -> listings are behind no more -> end each open segment
//!      -> nothing of the writer is open any more -> its folder goes
//! ```
//!
//! Any number of observers may look at once: each step is a link that exists once. A segment ends where readers end it: behind
//! its last frame that stands. A group that lies in several segments is decided in the first of them, by whoever makes its
//! end link, and the others follow; a writer that takes a group back keeps to the same order (`commit`), so that both agree
//! whether it is there.
//!
//! Time is the observer's own monotonic clock, given by the caller. Not here: the holder's side (`lease`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prism_model::{Signal, TenantId};

use crate::disk::Disk;
use crate::frame::header::SEGMENT_HEADER;
use crate::hot::lease::{fence_token, is_fence, lease_name, parse_lease, parse_writer, writer_dir, writers_dir};
use crate::hot::list::{end_of, marked, names, of_writers, siblings};
use crate::hot::scan::{Entry, NoIndex, SegmentIndex};
use crate::hot::segment::end_link;
use crate::keys::{KeyError, Keyring};
use crate::place::SegmentName;

/// All segments are looked through so often for those of writers that have no lease: files that a writer made after it was
/// fenced and forgotten. Listing the folders of 1,000 tenants takes seconds on a network file system.
const SEARCH_EVERY: Duration = Duration::from_secs(30 * 60);
/// Times that one segment's end is tried while others end it too.
const ATTEMPTS: usize = 8;

/// Times that an observer goes by.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A lease that did not change for so long is a dead writer's (`store.lease_ms`).
    pub lease: Duration,
    /// A listing shows what was done so long ago (`store.listing_stale_ms`).
    pub stale: Duration,
}

/// What one look did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Writers with a lease that is theirs.
    pub alive: usize,
    /// Writers that were fenced by this look.
    pub fenced: usize,
    /// Segments that were ended by this look.
    pub ended: usize,
    /// Writers of which nothing is left, and whose folder was removed.
    pub removed: usize,
    /// Segments of dead writers that are damaged and so left as they are: what was acknowledged must not be cut off.
    pub damaged: usize,
}

/// Watches the leases of all writers below a folder. Blocks on the disk.
pub struct Observer {
    id: u64,
    patience: Patience,
    keys: Keyring,
    writers: BTreeMap<u64, Watched>,
    searched: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    epoch: Option<u64>,
    /// When the epoch was seen first.
    since: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alive,
    /// A fence was seen then.
    Fenced(Duration),
    /// Nothing of it was open then.
    Clean(Duration),
    /// Its own epochs were removed then; a fence stands still, so that the writer cannot take the folder for its own.
    Parted(Duration),
}

impl Observer {
    /// An observer that has seen nothing yet. `id` is of this process alone; `keys` open what it looks
    /// into.
    pub fn new(id: u64, patience: Patience, keys: Keyring) -> Observer {
        Observer { id, patience, keys, writers: BTreeMap::new(), searched: None }
    }

    /// The next look is for files of writers without a lease too, which is done now and then otherwise.
    pub fn search(&mut self) {
        self.searched = None;
    }

    /// Looks at all leases; to be called every few seconds with the time since any fixed moment, by a clock that never goes
    /// back. Fences writers whose lease did not change, ends the segments of fenced ones, forgets those that have none.
    ///
    /// # Errors
    /// Where the disk fails: the next look goes on from there. Writers that can be looked at are, whatever becomes of others.
    pub fn look(&mut self, disk: &dyn Disk, root: &Path, now: Duration) -> io::Result<Looked> {
        let mut looked = Looked::default();
        let mut failed = None;
        let known: BTreeSet<u64> =
            names(disk, &root.join(writers_dir()))?.iter().filter_map(|n| parse_writer(n)).collect();
        self.writers.retain(|writer, _| known.contains(writer));
        for writer in &known {
            if let Err(e) = self.watch(disk, root, *writer, now, &mut looked) {
                failed = Some(e);
            }
        }
        let search = self.searched.is_none_or(|at| now.saturating_sub(at) >= SEARCH_EVERY);
        if let Err(e) = self.sweep(disk, root, &known, search, now, &mut looked) {
            failed = Some(e);
        }
        failed.map_or(Ok(looked), Err)
    }

    /// One writer's lease.
    fn watch(
        &mut self,
        disk: &dyn Disk,
        root: &Path,
        writer: u64,
        now: Duration,
        looked: &mut Looked,
    ) -> io::Result<()> {
        let dir = root.join(writer_dir(writer));
        let epochs: BTreeSet<u64> = names(disk, &dir)?.iter().filter_map(|n| parse_lease(n)).collect();
        let epoch = epochs.last().copied();
        let watched = self.writers.entry(writer).or_insert(Watched { epoch, since: now, stage: Stage::Alive });
        if watched.stage != Stage::Alive {
            return Ok(());
        }
        for epoch in &epochs {
            match disk.read_link(&dir.join(lease_name(*epoch))) {
                Ok(text) if is_fence(&text) => {
                    watched.stage = Stage::Fenced(now);
                    return Ok(());
                }
                // The holder removes those that others follow.
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if watched.epoch != epoch {
            (watched.epoch, watched.since) = (epoch, now);
        }
        if now.saturating_sub(watched.since) < self.patience.lease {
            looked.alive += 1;
            return Ok(());
        }
        // When it was fenced is told by a later look that sees the fence, whoever made it and whatever the reply was.
        match disk.symlink(&fence_token(self.id), &dir.join(lease_name(epoch.unwrap_or(0) + 1))) {
            Ok(()) => {
                tracing::warn!(writer = format!("{writer:016x}"), epoch, "a writer is dead or stands still: fenced");
                looked.fenced += 1;
                Ok(())
            }
            // Its holder was quicker, or another observer, or the folder is gone.
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Ends what fenced writers have open, and goes on with those that have nothing.
    fn sweep(
        &mut self,
        disk: &dyn Disk,
        root: &Path,
        known: &BTreeSet<u64>,
        search: bool,
        now: Duration,
        looked: &mut Looked,
    ) -> io::Result<()> {
        let stale = self.patience.stale;
        let ripe = |at: Duration| now.saturating_sub(at) >= stale;
        // Fenced ones are swept at each look, others once more before each step by which they are let go.
        let wanted: BTreeSet<u64> = self
            .writers
            .iter()
            .filter(|(_, w)| matches!(w.stage, Stage::Fenced(at) | Stage::Clean(at) | Stage::Parted(at) if ripe(at)))
            .map(|(writer, _)| *writer)
            .collect();
        let mut busy = BTreeSet::new();
        if search || !wanted.is_empty() {
            let unknown = |writer: u64| search && !known.contains(&writer);
            let found = of_writers(disk, root, &|writer| wanted.contains(&writer) || unknown(writer))?;
            for ((tenant, signal), names) in &found {
                let lane = Lane { disk, root, keys: &self.keys, tenant, signal: *signal };
                for name in names {
                    if !wanted.contains(&name.writer) {
                        claim(disk, root, name.writer, self.id)?;
                        continue;
                    }
                    match lane.end(name) {
                        Ok(Ending::Ended) => {
                            busy.insert(name.writer);
                            looked.ended += 1;
                        }
                        Ok(Ending::Was) => {}
                        Ok(Ending::Damaged) => looked.damaged += 1,
                        Err(e) => {
                            busy.insert(name.writer);
                            tracing::warn!(error = %e, segment = name.file_name(), "a segment cannot be ended yet");
                        }
                    }
                }
            }
        }
        if search {
            self.searched = Some(now);
        }
        let mut failed = None;
        for (writer, watched) in &mut self.writers {
            let dir = root.join(writer_dir(*writer));
            let done = match watched.stage {
                Stage::Fenced(_) if wanted.contains(writer) && !busy.contains(writer) => Ok(Stage::Clean(now)),
                Stage::Clean(_) | Stage::Parted(_) if busy.contains(writer) => Ok(Stage::Fenced(now)),
                Stage::Clean(at) if ripe(at) => remove_epochs(disk, &dir, false).map(|()| Stage::Parted(now)),
                Stage::Parted(at) if ripe(at) => {
                    let gone = remove_epochs(disk, &dir, true).and_then(|()| disk.remove_dir(&dir));
                    looked.removed += usize::from(gone.is_ok());
                    // Else another observer was quicker, or the writer woke and left a link: it goes at the next look.
                    gone.map(|()| watched.stage)
                }
                stage => Ok(stage),
            };
            match done {
                Ok(stage) => watched.stage = stage,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Makes a writer that has files and no lease a fenced one. Its folder is made by its holder before its first file, and is
/// removed when it is fenced or done, so that whoever makes it now knows that there is no holder.
fn claim(disk: &dyn Disk, root: &Path, writer: u64, observer: u64) -> io::Result<()> {
    let dir = root.join(writer_dir(writer));
    disk.create_dir(&root.join(writers_dir()))?;
    if !disk.create_dir(&dir)? {
        return Ok(());
    }
    // No holder has epoch 0. Where this fails the folder is empty, and is fenced when the lease time is over.
    disk.symlink(&fence_token(observer), &dir.join(lease_name(0)))
}

/// Removes the holder's epochs, or all.
fn remove_epochs(disk: &dyn Disk, dir: &Path, fences: bool) -> io::Result<()> {
    for name in names(disk, dir)?.iter().filter(|n| parse_lease(n).is_some()) {
        let path = dir.join(name);
        if !fences && disk.read_link(&path).is_ok_and(|text| is_fence(&text)) {
            continue;
        }
        match disk.remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// What became of a segment that is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Ended,
    /// It was ended already, or is gone.
    Was,
    /// Acknowledged rows in it cannot be read: an end link before them would hide that.
    Damaged,
}

/// One tenant's signal, and what it is read by.
struct Lane<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
    keys: &'a Keyring,
    tenant: &'a TenantId,
    signal: Signal,
}

impl Lane<'_> {
    fn path(&self, name: &SegmentName) -> PathBuf {
        self.root.join(name.dir(self.tenant, self.signal)).join(name.file_name())
    }

    fn read(&self, name: &SegmentName) -> Result<SegmentIndex, NoIndex> {
        let path = self.path(name);
        let valid = end_of(self.disk, &path)?;
        SegmentIndex::read(self.disk, &path, &name.header(self.tenant, self.signal), valid, None, self.keys)
    }

    /// Whether it has its end mark at its end, where listings look.
    fn is_marked(&self, name: &SegmentName) -> io::Result<bool> {
        match marked(self.disk, &self.path(name), name, self.tenant, self.signal) {
            Err(NoIndex::Io(e)) => Err(e),
            found => Ok(found.is_ok_and(|mark| mark.is_some())),
        }
    }

    fn make_durable(&self, path: &Path) -> io::Result<()> {
        self.disk.open(path)?.sync_data()?;
        let above = path.ancestors().skip(1).take_while(|dir| dir.starts_with(self.root));
        above.into_iter().try_for_each(|dir| self.disk.sync_dir(dir))
    }

    /// Ends a segment of a fenced writer behind its last frame that stands.
    fn end(&self, name: &SegmentName) -> io::Result<Ending> {
        let path = self.path(name);
        for _ in 0..ATTEMPTS {
            if end_of(self.disk, &path)?.is_some() {
                return Ok(Ending::Was);
            }
            let valid = match self.read(name) {
                // A mark before the end of the file is of a close whose cut was lost with the power: listings do not find it.
                Ok(index) if index.is_closed() && self.is_marked(name)? => return Ok(Ending::Was),
                Ok(index) if index.fault.as_ref().is_some_and(|f| f.lost) => return Ok(Ending::Damaged),
                Ok(index) => match self.standing(name, &index)? {
                    Some(valid) => valid,
                    None => return Ok(Ending::Damaged),
                },
                // It was never begun.
                Err(NoIndex::Absent) => 0,
                Err(NoIndex::Vanished | NoIndex::Locked(KeyError::Erased)) => return Ok(Ending::Was),
                Err(NoIndex::Damaged(_)) => return Ok(Ending::Damaged),
                Err(NoIndex::Locked(e)) => return Err(e.into()),
                Err(NoIndex::Io(e)) => return Err(e),
            };
            // What stands now must stand after lost power too: the writer died perhaps before it synced.
            self.make_durable(&path)?;
            let link = end_link(&path);
            match self.disk.symlink(&valid.to_string(), &link) {
                Ok(()) => {
                    self.disk.sync_dir(link.parent().unwrap_or(Path::new(".")))?;
                    return Ok(Ending::Ended);
                }
                // The writer has woken and taken its last group back, or another observer saw it earlier or later.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Ending::Was),
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other("a segment's end changes all the time"))
    }

    /// Where the last frame that stands ends; `None` where damage hides it.
    fn standing(&self, name: &SegmentName, index: &SegmentIndex) -> io::Result<Option<u64>> {
        let mut valid = SEGMENT_HEADER as u64;
        for frame in &index.frames {
            if frame.end() > index.confirmed {
                match self.whole(name, index, frame)? {
                    Some(true) => {}
                    Some(false) => break,
                    None => return Ok(None),
                }
            }
            valid = frame.end();
        }
        Ok(Some(valid))
    }

    /// Whether all of a group that nothing confirms is there; `None` where damage hides it. Segments before this one in the
    /// group decide first.
    fn whole(&self, name: &SegmentName, index: &SegmentIndex, frame: &Entry) -> io::Result<Option<bool>> {
        for (other, number) in siblings(name, frame) {
            if other == *name {
                if index.frames.len() > number as usize {
                    continue;
                }
                return Ok(Some(false));
            }
            // Each step goes to an earlier name, so this ends.
            if other < *name && self.end(&other)? == Ending::Damaged {
                return Ok(None);
            }
            match self.read(&other) {
                Ok(index) if index.frames.len() > number as usize => {
                    if other > *name {
                        self.make_durable(&self.path(&other))?;
                    }
                }
                Ok(index) if index.fault.as_ref().is_some_and(|f| f.lost) => return Ok(None),
                // It is deleted only where it is ended, and no open segment waits for it: so its name was lost with power.
                Ok(_) | Err(NoIndex::Absent | NoIndex::Vanished) => return Ok(Some(false)),
                Err(NoIndex::Damaged(_)) => return Ok(None),
                Err(NoIndex::Locked(e)) => return Err(e.into()),
                Err(NoIndex::Io(e)) => return Err(e),
            }
        }
        Ok(Some(true))
    }
}
