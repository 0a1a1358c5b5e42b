//! Objects in a folder: written aside, synced, linked to their name, so that a crash leaves a whole object or none.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Listed, Objects, Upload};
use crate::control::Create;
use crate::disk::{Disk, File, create_dirs, sync_removals};

/// Folder of objects that are being written. Names of objects never begin with a dot.
const TEMP: &str = ".temp";

/// Objects below a folder of a file system.
#[derive(Clone)]
pub struct LocalObjects(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Tells what this process writes aside from what others do.
    writer: u64,
    aside: AtomicU64,
    known: Mutex<HashSet<PathBuf>>,
}

impl LocalObjects {
    /// Objects below `root`, which must exist. `writer` is of this process alone, and of none before it.
    pub fn new(disk: Arc<dyn Disk>, root: &Path, writer: u64) -> LocalObjects {
        let (aside, known) = (AtomicU64::new(0), Mutex::default());
        LocalObjects(Arc::new(Inner { disk, root: root.to_owned(), writer, aside, known }))
    }
}

impl Inner {
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let part_ok = |p: &str| !p.is_empty() && !p.starts_with('.') && !p.contains(['\\', '\0']);
        if name.split('/').all(part_ok) {
            return Ok(self.root.join(name));
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of an object"))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.path(name)?)
    }

    /// Names directly in a folder.
    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let path = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        let mut names = match self.disk.list(&path) {
            Ok(names) => names,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
            Err(e) => return Err(e),
        };
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }
}

/// Bytes of a range of a file of a length.
fn bytes_of(file: &dyn File, len: u64, range: &Range<u64>) -> io::Result<Bytes> {
    if range.end > len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; wanted];
    let n = file.read_at(&mut bytes, range.start)?;
    if n < wanted { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes.into()) }
}

impl Objects for LocalObjects {
    fn create(&self, name: &str, bytes: Bytes) -> io::Result<Create> {
        let mut upload = self.upload(name)?;
        upload.write(&bytes)?;
        upload.finish()
    }

    fn upload(&self, name: &str) -> io::Result<Box<dyn Upload>> {
        let inner = &self.0;
        let target = inner.path(name)?;
        create_dirs(&*inner.disk, &inner.known, &inner.root, Path::new(TEMP))?;
        let aside = format!("{:016x}-{}", inner.writer, inner.aside.fetch_add(1, Relaxed));
        let aside = inner.root.join(TEMP).join(aside);
        let file = inner.disk.create_new(&aside)?;
        let below = Path::new(name).parent().unwrap_or(Path::new("")).to_owned();
        Ok(Box::new(Writing { inner: inner.clone(), aside, target, below, file, len: 0 }))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.0.open(name)?.identity()?.1)
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let file = self.0.open(name)?;
        bytes_of(&*file, file.identity()?.1, &range)
    }

    fn read_ranges(&self, name: &str, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        let file = self.0.open(name)?;
        let len = file.identity()?.1;
        ranges.iter().map(|range| bytes_of(&*file, len, range)).collect()
    }

    /// A read of a page cache takes some microseconds, as long as to copy this.
    fn gap_bytes(&self) -> u64 {
        16 << 10
    }

    fn list(&self, folder: &str, after: &str) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for name in self.0.names(folder)? {
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if name.as_str() <= after {
                continue;
            }
            if self.0.disk.is_dir(&self.0.path(&name)?) {
                continue;
            }
            // What was removed meanwhile is not there.
            match self.len(&name) {
                Ok(bytes) => listed.push(Listed { name, bytes }),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(listed)
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let at = if folder.is_empty() { self.0.root.clone() } else { self.0.path(folder)? };
        let mut folders = self.0.names(folder)?;
        folders.retain(|name| self.0.disk.is_dir(&at.join(name)));
        Ok(folders)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match self.0.disk.remove(&self.0.path(name)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn leftovers(&self) -> io::Result<Vec<Listed>> {
        let aside = self.0.root.join(TEMP);
        let mut names = match self.0.disk.list(&aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        names.sort_unstable();
        let mut left = Vec::new();
        for name in names {
            match self.0.disk.open(&aside.join(&name)).and_then(|file| file.identity()) {
                Ok((_, bytes)) => left.push(Listed { name, bytes }),
                // Finished meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(left)
    }

    fn remove_leftover(&self, name: &str) -> io::Result<()> {
        if name.contains('/') || name.starts_with('.') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of a leftover"));
        }
        match self.0.disk.remove(&self.0.root.join(TEMP).join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound};
        let path = self.0.path(folder)?;
        match self.0.disk.remove_dir(&path) {
            Err(e) if !matches!(e.kind(), NotFound | DirectoryNotEmpty | NotADirectory) => return Err(e),
            _ => {}
        }
        sync_removals(&*self.0.disk, &path)
    }
}

/// A file aside.
struct Writing {
    inner: Arc<Inner>,
    aside: PathBuf,
    target: PathBuf,
    below: PathBuf,
    file: Arc<dyn File>,
    len: u64,
}

impl Upload for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<Create> {
        self.file.sync_data()?;
        create_dirs(&*self.inner.disk, &self.inner.known, &self.inner.root, &self.below)?;
        if let Err(e) = self.inner.disk.link(&self.aside, &self.target) {
            // The reply may have been lost after it was done, as NFS does: then the file is the one that was written aside.
            let there = self.inner.disk.open(&self.target).and_then(|file| file.identity());
            match there {
                Ok((inode, _)) if inode == self.file.identity()?.0 => {}
                _ if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Create::Lost),
                _ => return Err(e),
            }
        }
        self.inner.disk.sync_dir(self.target.parent().unwrap_or(Path::new(".")))?;
        Ok(Create::Created)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // What stays after a crash is swept by `life/left.rs`.
        let _ = self.inner.disk.remove(&self.aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn objects_are_created_once_listed_in_order_and_read_by_range() {
        let root = tempfile::tempdir().unwrap();
        let objects = LocalObjects::new(Arc::new(RealDisk), root.path(), 7);
        assert!(objects.list("a/b", "").unwrap().is_empty() && objects.folders("").unwrap().is_empty());
        for n in [3, 1, 2] {
            assert_eq!(objects.create(&format!("a/b/{n}"), vec![n; 10].into()).unwrap(), Create::Created);
        }
        assert_eq!(objects.create("a/b/1", Bytes::new()).unwrap(), Create::Lost);
        assert_eq!(objects.get("a/b/1").unwrap(), vec![1; 10]);
        assert_eq!(objects.read_end("a/b/2", 4).unwrap(), (Bytes::from(vec![2; 4]), 10));
        assert_eq!(objects.read("a/b/2", 5..11).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let listed = |after| -> Vec<String> {
            objects
                .list("a/b", after)
                .unwrap()
                .into_iter()
                .inspect(|l| assert_eq!(l.bytes, 10))
                .map(|l| l.name)
                .collect()
        };
        assert_eq!(
            (listed(""), listed("a/b/2")),
            (vec!["a/b/1".into(), "a/b/2".into(), "a/b/3".into()], vec!["a/b/3".into()])
        );
        assert_eq!((objects.folders("").unwrap(), objects.folders("a").unwrap()), (vec!["a".into()], vec!["b".into()]));
        assert!(objects.list("a", "").unwrap().is_empty());
        objects.delete("a/b/1").unwrap();
        objects.delete("a/b/1").unwrap();
        assert_eq!(objects.get("a/b/1").unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(objects.upload("a/b/9").unwrap());
        assert!(RealDisk.list(&root.path().join(TEMP)).unwrap().is_empty());
        for bad in ["", "/", "../a", "a//b", ".temp/x", "a/.hidden"] {
            assert!(objects.get(bad).is_err(), "{bad}");
        }
    }
}
