//! The file system as the store uses it: a seam so that tests can fill the disk, tear writes and lose what was not synced.
//!
//! Plain positioned reads and writes, no memory maps: a truncated file on NFS would kill the process by SIGBUS.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// An open file.
pub trait File: Send + Sync {
    /// Writes all bytes at an offset.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes at an offset; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes the content durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Whether nodes see each other's writes to the file only when it is synced or closed.
    fn shows_late(&self) -> bool {
        false
    }
    /// Makes what was written visible to whoever opens the file on another node. Free where nodes see each other's writes at
    /// once, or where there is one node only.
    fn show(&self) -> io::Result<()> {
        if self.shows_late() { self.sync_data() } else { Ok(()) }
    }
    /// Reserves room up to `len` bytes, so that later writes do not run out of disk. A file system that cannot is no error.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Cuts or grows.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// (device and inode folded, length)
    fn identity(&self) -> io::Result<(u64, u64)>;
}

/// A file system.
pub trait Disk: Send + Sync {
    /// A new file; fails where the name exists.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// An existing file, read-only.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// A new folder; `false` where it exists.
    fn create_dir(&self, path: &Path) -> io::Result<bool>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// A symbolic link whose target is any text; fails where the name exists.
    fn symlink(&self, text: &str, path: &Path) -> io::Result<()>;
    /// The text of a symbolic link.
    fn read_link(&self, path: &Path) -> io::Result<String>;
    /// A second name for a file; fails where the name exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a link.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether it is a folder.
    fn is_dir(&self, path: &Path) -> bool;
    /// Keeps a file or folder for this user alone.
    fn keep_private(&self, path: &Path) -> io::Result<()>;
    /// How long ago a file was written last.
    fn age(&self, path: &Path) -> io::Result<Duration>;
    /// Fills a buffer with bytes that nobody can foresee, nor ever had: keys, and names of what is written aside.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;
    /// Whether calls may take long, and so want threads of their own. A simulated disk answers at once and wants every step of
    /// a process on one thread, so that a seed gives the same order of steps each time.
    fn may_block(&self) -> bool {
        true
    }
}

/// Runs work that calls the disk: on a thread that may block, unless the disk never does. `None` where the work panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    disk: &dyn Disk,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let done = if disk.may_block() {
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())
    } else {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| "inline".to_owned())
    };
    done.inspect_err(|error| tracing::error!(error, "work on the disk panicked")).ok()
}

/// The real one.
#[derive(Debug, Default)]
pub struct RealDisk;

struct RealFile(fs::File);

/// File systems of one machine, and those of several that keep their caches the same. All others (NFS, SMB, FUSE) show a write
/// to other nodes when the file is synced or closed.
const COHERENT: [i64; 11] = [
    0xEF53,      // ext4
    0x5846_5342, // XFS
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // ZFS
    0xF2F5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x794C_7630, // overlayfs
    0x00C3_6400, // CephFS
    0x0BD0_0BD0, // Lustre
    0x0116_1970, // GFS2
    0x7461_636F, // OCFS2
];

impl File for RealFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn shows_late(&self) -> bool {
        // What cannot be told is synced: that is right everywhere.
        #[allow(clippy::unnecessary_cast, reason = "its width differs by machine")]
        let coherent = rustix::fs::fstatfs(&self.0).is_ok_and(|of| COHERENT.contains(&(of.f_type as i64)));
        !coherent
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&self.0, FallocateFlags::empty(), offset, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let meta = self.0.metadata()?;
        Ok((meta.ino() ^ meta.dev().rotate_left(48), meta.len()))
    }
}

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::open(path)?)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // Names that are not UTF-8 are none of ours.
        let names = fs::read_dir(path)
            .and_then(|found| found.filter_map(|e| e.map(|e| e.file_name().into_string().ok()).transpose()).collect());
        // Another node removed the folder while it was listed.
        names.map_err(|e| if is_gone(&e) { io::ErrorKind::NotFound.into() } else { e })
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::create_dir(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn symlink(&self, text: &str, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(text, path)
    }

    fn read_link(&self, path: &Path) -> io::Result<String> {
        let target: PathBuf = fs::read_link(path)?;
        target.into_os_string().into_string().map_err(|_| io::Error::other("a link that is not text"))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn keep_private(&self, path: &Path) -> io::Result<()> {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn age(&self, path: &Path) -> io::Result<Duration> {
        // One that was written in the future is new.
        Ok(fs::symlink_metadata(path)?.modified()?.elapsed().unwrap_or_default())
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(|e| io::Error::other(e.to_string()))
    }
}

/// Makes a folder and those above it where they do not exist, and the new names durable.
pub(crate) fn make_dirs(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if disk.is_dir(dir) {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent == dir {
        return Err(io::ErrorKind::NotFound.into());
    }
    make_dirs(disk, parent)?;
    let _there = disk.create_dir(dir)?;
    disk.sync_dir(parent)
}

/// Creates a folder and those above it, down from `root`, which exists; each name is durable when this returns.
pub(crate) fn create_dirs(
    disk: &dyn Disk,
    known: &Mutex<HashSet<PathBuf>>,
    root: &Path,
    below: &Path,
) -> io::Result<()> {
    for made in begin_dirs(disk, known, root, below)? {
        disk.sync_dir(&made.parent)?;
        known.lock().extend(made.known);
    }
    Ok(())
}

/// Whether a name is not there, or an open file has none any more: NFS forgets what another node removed.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Removes a folder with all that is in it, durably. What is gone already is no error, nor is what appears in it meanwhile:
/// then the folder stays. Links are removed, never followed. What cannot be removed keeps nothing else, and is told at the end.
pub(crate) fn remove_all(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let names = match disk.list(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let mut failed = None;
    for name in names {
        let path = folder.join(name);
        let removed = if disk.read_link(&path).is_err() && disk.is_dir(&path) {
            remove_all(disk, &path)
        } else {
            disk.remove(&path).map_err(in_use)
        };
        if let Err(e) = removed
            && e.kind() != io::ErrorKind::NotFound
        {
            failed.get_or_insert(e);
        }
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    match disk.remove_dir(folder) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => return Err(e),
        _ => {}
    }
    sync_removals(disk, folder)
}

/// NFS keeps a file that was removed while a process of this node has it open, under another name that cannot be removed.
fn in_use(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ResourceBusy => {
            let why = "a process of this node has a file open, which NFS keeps until it is closed: try again then";
            io::Error::new(io::ErrorKind::ResourceBusy, why)
        }
        _ => error,
    }
}

/// Makes what was removed from a folder durable; one that is gone itself has its removal in the nearest one above that is there.
pub(crate) fn sync_removals(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    for at in folder.ancestors() {
        match disk.sync_dir(at) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    Ok(())
}

/// A folder whose name may not be durable yet.
pub(crate) struct Made {
    /// What is to be synced.
    pub(crate) parent: PathBuf,
    /// What is to be remembered as durable then.
    pub(crate) known: Option<PathBuf>,
}

/// Creates a folder and those above it, down from `root`, which exists. Their names are durable when the parents of those that
/// are told have been synced.
///
/// A folder that exists may have been made a moment ago by a process that did not sync it yet, so its parent is synced here
/// once too; `known` remembers for which folders that was done (all but the last, which has a new name for each window).
pub(crate) fn begin_dirs(
    disk: &dyn Disk,
    known: &Mutex<HashSet<PathBuf>>,
    root: &Path,
    below: &Path,
) -> io::Result<Vec<Made>> {
    let (mut path, mut made) = (root.to_owned(), Vec::new());
    let depth = below.components().count();
    for (i, part) in below.components().enumerate() {
        let parent = path.clone();
        path.push(part);
        let created = disk.create_dir(&path)?;
        if created || !known.lock().contains(&path) {
            made.push(Made { parent, known: (i + 1 < depth).then(|| path.clone()) });
        }
    }
    Ok(made)
}
