//! An object store far away: every call is one operation at the turnstile, durable when it succeeds.
//!
//! It answers errors, slowly, and sometimes not: what it was asked for is done then all the same. Listings are never stale.
//! Not here: objects in a folder, which are [`prism_store::objects::LocalObjects`] on a simulated disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prism_store::control::Create;
use prism_store::objects::{Listed, Objects, Upload};

use super::turnstile::{Effect, Process, Verdict};

/// A bucket, shared by all processes of a world.
#[derive(Clone, Default)]
pub struct Bucket(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Bytes>,
    /// Names of blocks that were ever there.
    blocks: BTreeSet<String>,
}

/// The bucket as one process sees it.
#[derive(Clone)]
pub struct SimObjects {
    bucket: Bucket,
    process: Process,
}

impl Bucket {
    pub fn of(&self, process: &Process) -> SimObjects {
        SimObjects { bucket: self.clone(), process: process.clone() }
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().objects.keys().cloned().collect()
    }

    /// Changes an object that is there.
    pub fn edit(&self, name: &str, with: impl FnOnce(&mut Vec<u8>)) {
        let mut kept = self.0.lock();
        let mut bytes = kept.objects[name].to_vec();
        with(&mut bytes);
        kept.objects.insert(name.to_owned(), bytes.into());
    }

    /// Names of blocks that were ever there.
    pub fn blocks(&self) -> Vec<String> {
        self.0.lock().blocks.iter().cloned().collect()
    }
}

impl SimObjects {
    /// One call; blocks that it made are remembered.
    fn call<T>(
        &self,
        effect: Effect,
        what: String,
        does: impl FnOnce(&mut BTreeMap<String, Bytes>) -> io::Result<T>,
    ) -> io::Result<T> {
        let does = |kept: &mut Kept| {
            let done = does(&mut kept.objects);
            kept.blocks.extend(kept.objects.keys().filter(|name| name.ends_with(".blk")).cloned());
            done
        };
        match self.process.comes_to(effect, || what)? {
            Verdict::Go => does(&mut self.bucket.0.lock()).inspect_err(|e| self.process.ended(e)),
            Verdict::Fail(e) => Err(e),
            Verdict::LostReply(e) => {
                let _ = does(&mut self.bucket.0.lock());
                Err(e)
            }
        }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn put(objects: &mut BTreeMap<String, Bytes>, name: &str, bytes: Bytes) -> Create {
    if objects.contains_key(name) {
        return Create::Lost;
    }
    objects.insert(name.to_owned(), bytes);
    Create::Created
}

impl Objects for SimObjects {
    fn create(&self, name: &str, bytes: Bytes) -> io::Result<Create> {
        let what = format!("put {name}, {} bytes", bytes.len());
        self.call(Effect::Writes, what, |objects| Ok(put(objects, name, bytes)))
    }

    fn upload(&self, name: &str) -> io::Result<Box<dyn Upload>> {
        self.call(Effect::Writes, format!("begin {name}"), |_| Ok(()))?;
        Ok(Box::new(Parts { objects: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let len = |objects: &mut BTreeMap<String, Bytes>| objects.get(name).map(|b| b.len() as u64).ok_or_else(missing);
        self.call(Effect::Reads, format!("head {name}"), len)
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let get = |objects: &mut BTreeMap<String, Bytes>| {
            let bytes = objects.get(name).ok_or_else(missing)?;
            if range.start > range.end || range.end > bytes.len() as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(bytes.slice(range.start as usize..range.end as usize))
        };
        self.call(Effect::Reads, format!("get {name} {range:?}"), get)
    }

    fn read_end(&self, name: &str, bytes: u64) -> io::Result<(Bytes, u64)> {
        let get = |objects: &mut BTreeMap<String, Bytes>| {
            let all = objects.get(name).ok_or_else(missing)?;
            let len = all.len() as u64;
            Ok((all.slice(len.saturating_sub(bytes) as usize..), len))
        };
        self.call(Effect::Reads, format!("get {name}, last {bytes} bytes"), get)
    }

    fn list(&self, folder: &str, after: &str) -> io::Result<Vec<Listed>> {
        let list = |objects: &mut BTreeMap<String, Bytes>| {
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let direct = |name: &str| name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'));
            let listed = |(name, bytes): (&String, &Bytes)| Listed { name: name.clone(), bytes: bytes.len() as u64 };
            Ok(objects.iter().filter(|(n, _)| direct(n) && n.as_str() > after).map(listed).collect())
        };
        self.call(Effect::Reads, format!("list {folder} after `{after}`"), list)
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let list = |objects: &mut BTreeMap<String, Bytes>| {
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let part = |name: &String| Some(name.strip_prefix(&prefix)?.split_once('/')?.0.to_owned());
            let mut folders: Vec<String> = objects.keys().filter_map(part).collect();
            folders.dedup();
            Ok(folders)
        };
        self.call(Effect::Reads, format!("folders of {folder}"), list)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let delete = |objects: &mut BTreeMap<String, Bytes>| {
            objects.remove(name);
            Ok(())
        };
        self.call(Effect::Writes, format!("delete {name}"), delete)
    }
}

/// An object whose parts were sent, and which is not there before it is completed.
struct Parts {
    objects: SimObjects,
    name: String,
    bytes: Vec<u8>,
}

impl Upload for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let what = format!("part of {}, {} bytes", self.name, bytes.len());
        self.objects.call(Effect::Writes, what, |_| Ok(()))?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<Create> {
        let Parts { objects, name, bytes } = *self;
        objects.call(Effect::Writes, format!("complete {name}, {} bytes", bytes.len()), |all| {
            Ok(put(all, &name, bytes.into()))
        })
    }
}
