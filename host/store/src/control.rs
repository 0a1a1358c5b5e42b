//! Small shared state: numbered objects and content-addressed bytes, safe across processes.
//!
//! State moves by conditional create only (ST-5): an object is written aside, synced, and linked to its name, which fails
//! where the name exists. So an object is there as a whole or not at all, and of two that create the same number one loses.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, RealDisk, create_dirs, make_dirs, remove_all};
use crate::error::{Damage, StoreError};

/// Bytes of one object: bindings and settings are kilobytes, plugins of Python up to tens of megabytes.
pub const OBJECT_BYTES_MAX: usize = 256 << 20;
/// Folder of what is being written. Names of objects never begin with a dot.
const TEMP: &str = ".temp";
/// A temporary file older than this was left by a process that died. Longer than clocks of nodes, one of which may be set wrongly,
/// are apart: whoever is ahead must not take away what another one writes.
const STALE: Duration = Duration::from_secs(2 * 86_400);

/// A sequence of versions of one thing, each immutable. Blocks on the disk.
#[derive(Clone, Debug)]
pub struct Log {
    shelf: Shelf,
    dir: PathBuf,
}

/// A folder below which objects lie, each written aside first.
#[derive(Clone)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    base: PathBuf,
    /// Nobody but this user may read it: keys.
    private: bool,
    /// Folders whose names are durable.
    known: Arc<Mutex<HashSet<PathBuf>>>,
}

/// How a conditional create ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// The object is there, durably, with these bytes.
    Created,
    /// Another one has the number: read the latest and decide again.
    Lost,
}

impl Log {
    /// The log of a name: parts of `a-z 0-9 . _ -` with `/` between them, such as `tenants/acme/bindings`. It need not exist.
    ///
    /// # Errors
    /// `Fix` where the name is none.
    pub fn open(root: &Path, name: &str) -> Result<Log, StoreError> {
        Log::on(Arc::new(RealDisk), root, name)
    }

    /// As [`Log::open`], on any file system.
    pub(crate) fn on(disk: Arc<dyn Disk>, root: &Path, name: &str) -> Result<Log, StoreError> {
        Shelf::new(disk, root.join("control")).log(name)
    }

    /// Removes the objects before a number, for good: what they said may not be kept. The latest must stay.
    ///
    /// # Errors
    /// `Retry` where the disk fails: then some are left.
    pub fn forget_before(&self, number: u64) -> Result<(), StoreError> {
        let latest = self.latest_number()?.unwrap_or(0);
        let disk = &*self.shelf.disk;
        let work = || -> io::Result<()> {
            for name in disk.list(&self.dir)? {
                if parse_number(&name).is_some_and(|n| n < number.min(latest)) {
                    disk.remove(&self.dir.join(name))?;
                }
            }
            disk.sync_dir(&self.dir)
        };
        match work() {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("removed objects", e)),
            _ => Ok(()),
        }
    }

    /// Removes all objects and the log's folder; what is gone already is no error.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        remove_all(&*self.shelf.disk, &self.dir).map_err(|e| StoreError::io("removed objects", e))
    }

    /// Makes the objects that are there durable: who created one may have died before it came to that, and what others do
    /// because of it would outlive it.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let base = &self.shelf.base;
        let above = base.parent().filter(|above| !above.as_os_str().is_empty());
        let mut folders = self.dir.ancestors().take_while(|folder| folder.starts_with(base)).chain(above);
        let settled = folders.try_for_each(|folder| self.shelf.disk.sync_dir(folder));
        settled.map_err(|e| StoreError::io("made objects durable", e))
    }

    /// The latest object with its number; numbers begin at 1 and have no gaps but where older ones were forgotten.
    ///
    /// # Errors
    /// `Retry` where the disk fails, `Bug` where the object is damaged.
    pub fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let Some(number) = self.latest_number()? else { return Ok(None) };
        Ok(self.get(number)?.map(|bytes| (number, bytes)))
    }

    /// The number of the latest object: what to look at for news.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn latest_number(&self) -> Result<Option<u64>, StoreError> {
        match self.shelf.disk.list(&self.dir) {
            Ok(names) => Ok(names.iter().filter_map(|name| parse_number(name)).max()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("listed control objects", e)),
        }
    }

    /// An object by its number.
    ///
    /// # Errors
    /// `Retry` where the disk fails, `Bug` where the object is damaged.
    pub fn get(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(stored) = self.shelf.read(&self.dir.join(number_name(number)))? else { return Ok(None) };
        let (head, bytes) = stored.split_at_checked(HEAD_BYTES).ok_or(Damage::Short("control object"))?;
        if head != head_of(bytes).as_bytes() {
            return Err(Damage::Checksum("control object").into());
        }
        Ok(Some(bytes.to_vec()))
    }

    /// Creates the object `next`, which must be one more than the latest (1 where there is none).
    ///
    /// # Errors
    /// `Fix` where a number before it is missing or the object is too large, `Retry` where the disk fails: then it is there
    /// or not, which [`Log::latest`] tells.
    pub fn create(&self, next: u64, bytes: &[u8]) -> Result<Create, StoreError> {
        let expected = self.latest_number()?.unwrap_or(0) + 1;
        if next < expected {
            return Ok(Create::Lost);
        }
        if next > expected {
            return Err(StoreError::Gap { expected, found: next });
        }
        let mut stored = head_of(bytes).into_bytes();
        stored.extend_from_slice(bytes);
        self.shelf.publish(&self.dir, &number_name(next), &stored)
    }
}

/// Bytes by their SHA-256. Blocks on the disk.
#[derive(Clone, Debug)]
pub struct Blobs {
    shelf: Shelf,
    dir: PathBuf,
}

impl Blobs {
    /// The blobs of a kind, such as `plugins`. Names as for [`Log::open`].
    ///
    /// # Errors
    /// `Fix` where the name is none.
    pub fn open(root: &Path, name: &str) -> Result<Blobs, StoreError> {
        let shelf = Shelf::new(Arc::new(RealDisk), root.join("blobs"));
        Ok(Blobs { dir: checked(&shelf.base, name)?, shelf })
    }

    /// Keeps bytes under their hash (64 lower-case hex digits), durably; keeping them again does nothing.
    ///
    /// # Errors
    /// `Fix` where the hash is not theirs, `Retry` where the disk fails.
    pub fn put(&self, hash: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(hash)?;
        if sha256(bytes) != hash {
            return Err(StoreError::BadName { expected: "the SHA-256 of the bytes", found: hash.to_owned() });
        }
        if path.exists() {
            return Ok(());
        }
        let dir = path.parent().unwrap_or(&self.dir);
        self.shelf.publish(dir, hash, bytes).map(|_created_or_there| ())
    }

    /// The bytes of a hash; `None` where there are none.
    ///
    /// # Errors
    /// `Fix` where the hash is none, `Bug` where the bytes are no longer its, `Retry` where the disk fails.
    pub fn get(&self, hash: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(bytes) = self.shelf.read(&self.path(hash)?)? else { return Ok(None) };
        if sha256(&bytes) == hash { Ok(Some(bytes)) } else { Err(Damage::Checksum("blob").into()) }
    }

    /// The hashes that are kept and begin with these digits, sorted: people type the first ones.
    ///
    /// # Errors
    /// `Fix` where they are not 8 to 64 lower-case hex digits, `Retry` where the disk fails.
    pub fn beginning_with(&self, digits: &str) -> Result<Vec<String>, StoreError> {
        if !(8..=64).contains(&digits.len()) || !digits.bytes().all(is_hex) {
            let found = digits.chars().take(80).collect();
            return Err(StoreError::BadName { expected: "8 to 64 lower-case hex digits", found });
        }
        let mut names = match self.shelf.disk.list(&self.dir.join(&digits[..2])) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(StoreError::io("listed blobs", e)),
        };
        names.retain(|name| name.starts_with(digits) && self.path(name).is_ok());
        names.sort_unstable();
        Ok(names)
    }

    fn path(&self, hash: &str) -> Result<PathBuf, StoreError> {
        if hash.len() != 64 || !hash.bytes().all(is_hex) {
            let found = hash.chars().take(80).collect();
            return Err(StoreError::BadName { expected: "64 lower-case hex digits", found });
        }
        Ok(self.dir.join(&hash[..2]).join(hash))
    }
}

fn is_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// `prism object 1 <xxh3-64 as hex>\n`: people can still read what follows.
const HEAD_BYTES: usize = 32;

fn head_of(bytes: &[u8]) -> String {
    format!("prism object 1 {:016x}\n", xxhash_rust::xxh3::xxh3_64(bytes))
}

fn number_name(number: u64) -> String {
    format!("{number:020}")
}

fn parse_number(name: &str) -> Option<u64> {
    let number = name.parse().ok()?;
    (number_name(number) == name).then_some(number)
}

fn checked(base: &Path, name: &str) -> Result<PathBuf, StoreError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let part_ok = |p: &str| !p.is_empty() && p.len() <= 100 && !p.starts_with('.') && p.bytes().all(plain);
    if name.len() > 400 || !name.split('/').all(part_ok) {
        let found = name.chars().take(80).collect();
        return Err(StoreError::BadName { expected: "parts of `a-z`, `0-9`, `.`, `_`, `-` with `/` between", found });
    }
    Ok(base.join(name))
}

impl Shelf {
    fn new(disk: Arc<dyn Disk>, base: PathBuf) -> Shelf {
        Shelf { disk, base, private: false, known: Arc::default() }
    }

    /// A folder that nobody but this user may read.
    pub(crate) fn private(disk: Arc<dyn Disk>, base: PathBuf) -> Shelf {
        Shelf { private: true, ..Shelf::new(disk, base) }
    }

    /// A log below it; names as for [`Log::open`].
    pub(crate) fn log(&self, name: &str) -> Result<Log, StoreError> {
        Ok(Log { dir: checked(&self.base, name)?, shelf: self.clone() })
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || -> io::Result<Vec<u8>> {
            let file = self.disk.open(path)?;
            let len = file.identity()?.1;
            if len > (OBJECT_BYTES_MAX + HEAD_BYTES) as u64 {
                return Err(io::Error::other("an object is too large"));
            }
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read an object", e)),
        }
    }

    /// Writes aside, syncs, links to the name, syncs the folder, which lies below this one.
    fn publish(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<Create, StoreError> {
        if bytes.len() > OBJECT_BYTES_MAX + HEAD_BYTES {
            return Err(StoreError::TooLarge { bytes: bytes.len(), limit: OBJECT_BYTES_MAX });
        }
        let disk = &*self.disk;
        let work = || -> io::Result<Create> {
            let temp = self.base.join(TEMP);
            for folder in [&*temp, dir] {
                self.make(folder)?;
            }
            sweep(disk, &temp);
            let mut random = [0; 16];
            disk.random(&mut random)?;
            let aside = temp.join(hex::encode(random));
            let linked = self.write_synced(&aside, bytes).and_then(|inode| {
                let target = dir.join(name);
                let Err(e) = disk.link(&aside, &target) else { return Ok(Create::Created) };
                // The reply may have been lost after it was done, as NFS does.
                match disk.open(&target).and_then(|file| file.identity()) {
                    Ok((there, _)) if there == inode => Ok(Create::Created),
                    _ if e.kind() == io::ErrorKind::AlreadyExists => Ok(Create::Lost),
                    _ => Err(e),
                }
            });
            // What stays is swept later.
            let _ = disk.remove(&aside);
            let linked = linked?;
            disk.sync_dir(dir)?;
            Ok(linked)
        };
        work().map_err(|e| StoreError::io("created an object", e))
    }

    /// Makes a folder below this one, with those between.
    fn make(&self, folder: &Path) -> io::Result<()> {
        let above = self.base.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_dirs(&*self.disk, above)?;
        let below = folder.strip_prefix(above).unwrap_or(folder);
        create_dirs(&*self.disk, &self.known, above, below)?;
        if self.private { self.disk.keep_private(folder) } else { Ok(()) }
    }

    /// Gives which file it is.
    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<u64> {
        let file = self.disk.create_new(path)?;
        if self.private {
            self.disk.keep_private(path)?;
        }
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        Ok(file.identity()?.0)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Removes what processes that died left behind. Best effort: it is only room on the disk.
fn sweep(disk: &dyn Disk, temp: &Path) {
    for path in disk.list(temp).into_iter().flatten().map(|name| temp.join(name)) {
        if disk.age(&path).is_ok_and(|age| age > STALE) {
            let _ = disk.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn st5_of_many_that_create_a_number_one_wins_and_all_agree() {
        let root = tempfile::tempdir().unwrap();
        let log = Log::open(root.path(), "tenants/acme/bindings").unwrap();
        assert!(log.latest().unwrap().is_none());
        for number in 1..=5u64 {
            let results: Vec<Create> = std::thread::scope(|scope| {
                let one = |i: u64| {
                    let log = log.clone();
                    scope.spawn(move || log.create(number, format!("{number} by {i}").as_bytes()).unwrap())
                };
                (0..8).map(one).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(results.iter().filter(|r| **r == Create::Created).count(), 1);
            let winner = results.iter().position(|r| *r == Create::Created).unwrap();
            assert_eq!(log.latest().unwrap(), Some((number, format!("{number} by {winner}").into_bytes())));
        }
        assert!(matches!(log.create(9, b""), Err(StoreError::Gap { expected: 6, found: 9 })));
        assert_eq!(fs::read_dir(root.path().join("control/.temp")).unwrap().count(), 0);
    }

    #[test]
    fn damaged_objects_and_blobs_are_not_returned() {
        let root = tempfile::tempdir().unwrap();
        let log = Log::open(root.path(), "a").unwrap();
        log.create(1, b"{\"x\":1}").unwrap();
        let path = root.path().join("control/a/00000000000000000001");
        let mut bytes = fs::read(&path).unwrap();
        for i in 0..bytes.len() {
            bytes[i] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert!(log.latest().is_err(), "flip at {i}");
            bytes[i] ^= 4;
        }
        let blobs = Blobs::open(root.path(), "plugins").unwrap();
        let hash = sha256(b"guest");
        blobs.put(&hash, b"guest").unwrap();
        blobs.put(&hash, b"guest").unwrap();
        assert_eq!(blobs.get(&hash).unwrap().as_deref(), Some(&b"guest"[..]));
        assert!(blobs.put(&hash, b"other").is_err());
        assert!(blobs.get(&"0".repeat(64)).unwrap().is_none());
        assert_eq!(blobs.beginning_with(&hash[..8]).unwrap(), [hash.as_str()]);
        assert_eq!(blobs.beginning_with(&hash).unwrap(), [hash.as_str()]);
        assert!(blobs.beginning_with("00000000").unwrap().is_empty());
        assert!(blobs.beginning_with(&hash[..7]).is_err() && blobs.beginning_with("../../../").is_err());
        fs::write(root.path().join("blobs/plugins").join(&hash[..2]).join(&hash), b"guesu").unwrap();
        assert!(blobs.get(&hash).is_err());
    }

    #[test]
    fn what_another_writes_is_not_swept_by_a_clock_that_is_a_day_ahead() {
        let root = tempfile::tempdir().unwrap();
        let log = Log::open(root.path(), "a").unwrap();
        log.create(1, b"").unwrap();
        let aside = root.path().join("control/.temp/aside");
        let written = |ago: u64| {
            let file = fs::File::create(&aside).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(ago)).unwrap();
        };
        written(26 * 3_600);
        log.create(2, b"").unwrap();
        assert!(aside.exists());
        written(3 * 86_400);
        log.create(3, b"").unwrap();
        assert!(!aside.exists(), "who wrote it is gone");
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in ["", "/", "a//b", "../a", "a/..", ".temp", "A", "a b", "ü", &"x".repeat(101)] {
            assert!(Log::open(Path::new("/nowhere"), bad).is_err(), "{bad}");
        }
        let blobs = Blobs::open(Path::new("/nowhere"), "plugins").unwrap();
        for bad in ["", "../../etc/passwd", &"G".repeat(64), &"A".repeat(64)] {
            assert!(blobs.get(bad).is_err(), "{bad}");
        }
    }
}
