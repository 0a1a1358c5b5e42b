//! The real disk, with other files than it opens and makes, or that cannot remove some: for tests that count or change what is
//! read and written.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prism_store::disk::{Disk, File, RealDisk};

/// Opens each file as the function gives it; all else is the real disk's.
pub struct Opened<F> {
    open: F,
    remove: fn(&Path) -> io::Result<()>,
}

impl<F> Opened<F> {
    pub fn new(open: F) -> Opened<F> {
        Opened { open, remove: |path| RealDisk.remove(path) }
    }

    /// Removes files so.
    pub fn removing(self, remove: fn(&Path) -> io::Result<()>) -> Opened<F> {
        Opened { remove, ..self }
    }
}

impl<F: Fn(Arc<dyn File>) -> Arc<dyn File> + Send + Sync> Disk for Opened<F> {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok((self.open)(RealDisk.create_new(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok((self.open)(RealDisk.open(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn symlink(&self, text: &str, path: &Path) -> io::Result<()> {
        RealDisk.symlink(text, path)
    }

    fn read_link(&self, path: &Path) -> io::Result<String> {
        RealDisk.read_link(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        (self.remove)(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        RealDisk.is_dir(path)
    }

    fn keep_private(&self, path: &Path) -> io::Result<()> {
        RealDisk.keep_private(path)
    }

    fn age(&self, path: &Path) -> io::Result<Duration> {
        RealDisk.age(path)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        RealDisk.random(bytes)
    }
}
