//! The lease of a writer: as long as nobody else has answered it, the writer's files are its own to append to.
//!
//! ```text
//! hot/.writers/<writer, 16 hex>/lease.<epoch> -> "<holder, 16 hex> holds" | "<observer, 16 hex> fences"
//! ```
//!
//! A symbolic link is one atomic operation, name and content together, also on NFS. The holder renews by making the next
//! epoch and removing its older ones; an observer (`takeover`) that saw no change for the lease time fences by making the next
//! epoch with a token of its own, and that is for ever: a fenced writer goes on as another incarnation with another id. No
//! clock of the holder's decides anything: what counts is that a listing which began after the fdatasync shows no fence
//! ([`Lease::confirm`]).
//!
//! What NFS does is allowed for: a reply that was lost after the operation was done (the link is read and compared with the own
//! token), and listings that are behind by a bounded time (an observer waits so long between fencing and measuring files).

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

use crate::disk::{Disk, create_dirs};

/// Folder of the writers' leases, in the one of the tenants. No tenant's name begins with a dot.
const WRITERS: &str = ".writers";
const PREFIX: &str = "lease.";
/// Own epochs that could not be removed; with more, nothing is renewed, so that a folder stays small.
const OLD_MAX: usize = 16;

/// Folder of all leases, below the root.
pub(crate) fn writers_dir() -> PathBuf {
    Path::new("hot").join(WRITERS)
}

/// Folder of a writer's lease, below the root.
pub(crate) fn writer_dir(writer: u64) -> PathBuf {
    writers_dir().join(format!("{writer:016x}"))
}

/// The writer of a folder; `None` for one of something else.
pub(crate) fn parse_writer(name: &str) -> Option<u64> {
    let writer = u64::from_str_radix(name, 16).ok()?;
    (format!("{writer:016x}") == name).then_some(writer)
}

pub(crate) fn lease_name(epoch: u64) -> String {
    format!("{PREFIX}{epoch}")
}

/// The epoch of a link; `None` for a name of something else.
pub(crate) fn parse_lease(name: &str) -> Option<u64> {
    let epoch = name.strip_prefix(PREFIX)?.parse().ok()?;
    (lease_name(epoch) == name).then_some(epoch)
}

/// What an observer's link says.
pub(crate) fn fence_token(observer: u64) -> String {
    format!("{observer:016x} fences")
}

/// Whether a link is an observer's.
pub(crate) fn is_fence(text: &str) -> bool {
    text.ends_with(" fences")
}

/// A lease that is held, or was.
pub(crate) struct Lease {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(crate) writer: u64,
    token: String,
    /// Looks that began; one serves everybody who asked before it.
    begun: AtomicU64,
    lost: AtomicBool,
    held: Mutex<Held>,
}

struct Held {
    epoch: u64,
    /// The epoch before: a listing that is behind may still show it, and not the one that followed.
    before: u64,
    /// Own epochs that are not removed yet.
    old: Vec<u64>,
    /// The last look, and what it found.
    looked: u64,
    found: Result<bool, io::ErrorKind>,
}

impl Lease {
    /// Takes the lease of a writer that nobody knows yet. `None` where its id is known: one that was fenced before it began.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
        root: &Path,
        known: &Mutex<HashSet<PathBuf>>,
        writer: u64,
    ) -> io::Result<Option<Lease>> {
        // The folder of leases is made by whoever comes first. Nothing below it has to survive lost power: then no holder does.
        create_dirs(&**disk, known, root, &writers_dir())?;
        let dir = root.join(writer_dir(writer));
        if !disk.create_dir(&dir)? {
            return Ok(None);
        }
        let token = format!("{writer:016x} holds");
        let lease = Lease {
            disk: disk.clone(),
            dir,
            writer,
            token,
            begun: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            held: Mutex::new(Held { epoch: 1, before: 1, old: Vec::new(), looked: 0, found: Ok(true) }),
        };
        Ok(lease.make(1)?.then_some(lease))
    }

    /// Whether another's epoch was seen: nothing of this writer is acknowledged any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }

    /// Shows observers that the holder lives; to be called several times in a lease time. `false` where it was fenced.
    ///
    /// # Errors
    /// Where the disk fails: the lease is as it was.
    pub(crate) fn renew(&self) -> io::Result<bool> {
        let mut held = self.held.lock();
        if self.is_lost() {
            return Ok(false);
        }
        self.tidy(&mut held);
        if held.old.len() > OLD_MAX {
            return Err(io::Error::other("older epochs of the lease cannot be removed"));
        }
        let next = held.epoch + 1;
        // The next epoch counts only beside the one before: a folder that was emptied meanwhile gives no lease back.
        if !self.make(next)? || !self.look(&held)? {
            self.lost.store(true, SeqCst);
            return Ok(false);
        }
        let before = held.epoch;
        held.old.push(before);
        (held.before, held.epoch) = (before, next);
        self.tidy(&mut held);
        Ok(true)
    }

    /// Whether nobody fenced this writer until now: what was synced before the call may be acknowledged. One look serves all
    /// that ask before it begins. Blocks on the disk.
    ///
    /// # Errors
    /// Where the disk fails: it is not known.
    pub(crate) fn confirm(&self) -> io::Result<bool> {
        let wanted = self.begun.load(SeqCst) + 1;
        let mut held = self.held.lock();
        if self.is_lost() {
            return Ok(false);
        }
        if held.looked < wanted {
            let number = self.begun.fetch_add(1, SeqCst) + 1;
            let found = self.look(&held);
            (held.looked, held.found) = (number, found.as_ref().map(|own| *own).map_err(io::Error::kind));
            if !found? {
                self.lost.store(true, SeqCst);
            }
        }
        held.found.map_err(io::Error::from)
    }

    /// Gives the lease up: all files of the writer are ended. Where this fails observers find nothing to end, and remove it.
    pub(crate) fn release(&self) {
        let mut held = self.held.lock();
        if self.lost.swap(true, SeqCst) {
            return;
        }
        let last = held.epoch;
        held.old.push(last);
        self.tidy(&mut held);
        // Not where an observer has fenced it just now: its link stands there.
        let _ = self.disk.remove_dir(&self.dir);
    }

    /// Makes an epoch; `false` where it, or the folder, is another's.
    fn make(&self, epoch: u64) -> io::Result<bool> {
        let path = self.dir.join(lease_name(epoch));
        let Err(failed) = self.disk.symlink(&self.token, &path) else { return Ok(true) };
        // The reply may have been lost after it was done.
        match self.disk.read_link(&path) {
            Ok(text) => Ok(text == self.token),
            Err(_) if failed.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(_) => Err(failed),
        }
    }

    /// Whether the folder shows an own epoch and none of another holder.
    fn look(&self, held: &Held) -> io::Result<bool> {
        let names = match self.disk.list(&self.dir) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let mut own = false;
        for epoch in names.iter().filter_map(|name| parse_lease(name)) {
            if epoch == held.epoch || epoch == held.before {
                own = true;
            } else if !held.old.contains(&epoch) {
                match self.disk.read_link(&self.dir.join(lease_name(epoch))) {
                    Ok(text) if text == self.token => {}
                    Ok(_) => return Ok(false),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(own)
    }

    /// Removes own epochs that others follow.
    fn tidy(&self, held: &mut Held) {
        let gone = |e: &u64| match self.disk.remove(&self.dir.join(lease_name(*e))) {
            Ok(()) => true,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        held.old.retain(|e| !gone(e));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn begin(root: &Path, writer: u64) -> Option<Lease> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Lease::begin(&disk, root, &Mutex::default(), writer).unwrap()
    }

    #[test]
    fn a_lease_is_renewed_in_a_small_folder_until_another_answers() {
        let root = tempfile::tempdir().unwrap();
        let lease = begin(root.path(), 7).unwrap();
        assert!(begin(root.path(), 7).is_none(), "an id is taken once");
        for _ in 0..50 {
            assert!(lease.renew().unwrap() && lease.confirm().unwrap());
        }
        let dir = root.path().join(writer_dir(7));
        assert_eq!(RealDisk.list(&dir).unwrap(), ["lease.51"]);
        RealDisk.symlink(&fence_token(9), &dir.join("lease.52")).unwrap();
        assert!(!lease.confirm().unwrap() && lease.is_lost() && !lease.renew().unwrap());
        lease.release();
        let mut left = RealDisk.list(&dir).unwrap();
        left.sort();
        assert_eq!(left, ["lease.51", "lease.52"], "what is fenced is left to observers");
    }

    #[test]
    fn a_renewal_meets_a_fence_and_an_emptied_folder() {
        let root = tempfile::tempdir().unwrap();
        let fenced = begin(root.path(), 1).unwrap();
        RealDisk.symlink(&fence_token(9), &root.path().join(writer_dir(1)).join("lease.2")).unwrap();
        assert!(!fenced.renew().unwrap() && !fenced.confirm().unwrap());
        // As takeover leaves it just before it removes the folder.
        let emptied = begin(root.path(), 2).unwrap();
        RealDisk.remove(&root.path().join(writer_dir(2)).join("lease.1")).unwrap();
        assert!(!emptied.renew().unwrap() && !emptied.confirm().unwrap());
        let gone = begin(root.path(), 3).unwrap();
        gone.release();
        assert!(!RealDisk.is_dir(&root.path().join(writer_dir(3))));
        let removed = begin(root.path(), 4).unwrap();
        RealDisk.remove(&root.path().join(writer_dir(4)).join("lease.1")).unwrap();
        RealDisk.remove_dir(&root.path().join(writer_dir(4))).unwrap();
        assert!(!removed.confirm().unwrap() && !removed.renew().unwrap());
    }
}
