//! Objects: immutable bytes under a name, in a folder or a bucket. What the colder tiers are made of.
//!
//! State moves by [`Objects::create`] only, which succeeds for one of many (ST-5). All calls block: they are made from threads
//! that may. Not here: what the objects mean.

mod local;
mod s3;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::control::Create;
use crate::disk::File;

pub use local::LocalObjects;
pub use s3::{Archived, S3Objects, S3Options, is_archived};

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its whole name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// Objects by name: parts with `/` between them, none of which begins with a dot. Every call may fail with an error that goes
/// away; `NotFound` means that there is no such object.
pub trait Objects: Send + Sync {
    /// Creates an object where there is none of its name. It is there, whole and durable, when this gives `Created`; after an
    /// error it is there or not. `Lost`: there is one already (also one's own, where an earlier answer was lost).
    fn create(&self, name: &str, bytes: Bytes) -> io::Result<Create>;

    /// Puts an object in place of the one of its name, where there is any. For hints only, which readers do without: nobody
    /// learns who was last, and for a moment there may be none.
    fn replace(&self, name: &str, bytes: Bytes) -> io::Result<()> {
        self.delete(name)?;
        self.create(name, bytes).map(|_other_hint_or_ours| ())
    }

    /// Begins an object that is too large to be in memory. Nobody sees it before it is finished.
    fn upload(&self, name: &str) -> io::Result<Box<dyn Upload>>;

    /// Its length.
    fn len(&self, name: &str) -> io::Result<u64>;

    /// Bytes of a range, which lies within the object: `UnexpectedEof` where it does not.
    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes>;

    /// Bytes of several ranges, in their order.
    fn read_ranges(&self, name: &str, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        ranges.iter().map(|range| self.read(name, range.clone())).collect()
    }

    /// Up to so many last bytes, and the object's length: what a footer is read with.
    fn read_end(&self, name: &str, bytes: u64) -> io::Result<(Bytes, u64)> {
        let len = self.len(name)?;
        Ok((self.read(name, len.saturating_sub(bytes)..len)?, len))
    }

    /// So many unwanted bytes between two ranges are read with them rather than skipped: a request of their own takes as long. On
    /// S3 that is some 30 ms, and 128 KiB a millisecond or two.
    fn gap_bytes(&self) -> u64 {
        128 << 10
    }

    /// All of it.
    fn get(&self, name: &str) -> io::Result<Bytes> {
        self.read(name, 0..self.len(name)?)
    }

    /// The objects directly in a folder whose names come after `after` (whole names; empty for all), ascending. A folder without
    /// objects is empty, not missing.
    fn list(&self, folder: &str, after: &str) -> io::Result<Vec<Listed>>;

    /// Names (the last part) of the folders directly in a folder, ascending.
    fn folders(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Removes an object; none is no error.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// What is being written, or was left half written by a process that died: nobody's rows. Names that only
    /// [`Objects::remove_leftover`] knows. Empty where the store itself drops what was not finished.
    fn leftovers(&self) -> io::Result<Vec<Listed>> {
        Ok(Vec::new())
    }

    /// Removes one of them; none is no error. Whoever is still writing it fails, and begins again.
    fn remove_leftover(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    /// Removes an empty folder, where folders are something by themselves; none, or one that is not empty, is no error. What was
    /// deleted in it before does not come back after this.
    fn remove_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }
}

/// An object that is being written. Dropped before it is finished, it never was.
pub trait Upload: Send {
    /// Adds bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes it visible, whole and durable, as [`Objects::create`] does.
    fn finish(self: Box<Self>) -> io::Result<Create>;
}

/// An object as a file that is read at offsets.
pub struct ObjectFile {
    objects: Arc<dyn Objects>,
    name: String,
    len: u64,
    identity: u64,
}

impl ObjectFile {
    /// An object of a known length. Names are never used twice, so the name tells it from every other.
    pub fn new(objects: Arc<dyn Objects>, name: String, len: u64) -> ObjectFile {
        let identity = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
        ObjectFile { objects, name, len, identity }
    }
}

impl File for ObjectFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = offset.min(self.len);
        let to = offset.saturating_add(buf.len() as u64).min(self.len);
        let bytes = self.objects.read(&self.name, from..to)?;
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((self.identity, self.len))
    }

    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(immutable())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(immutable())
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(immutable())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(immutable())
    }
}

fn immutable() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "objects do not change")
}
