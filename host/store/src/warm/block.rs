//! A block as it was listed: its frames, what it covers, its cube.

use std::io;
use std::sync::Arc;

use prism_model::window::{TimeRange, Window};
use prism_model::{Signal, TenantId};
use xxhash_rust::xxh3::Xxh3;

use super::footer::{CUBE, Directory, INDEX, Place, SOURCES, Section, TAIL, Tail, take_frames, take_sources};
use super::name::{BLOCK_HEADER, BlockName};
use crate::disk::File;
use crate::error::{Damage, StoreError};
use crate::frame::crypt::{Blocks, DataKey};
use crate::framed::{Filters, Framed, Source};
use crate::keys::Keyring;
use crate::objects::{ObjectFile, Objects};
use crate::place::SegmentName;
use crate::rollup::Cube;
use crate::unit::{Frame, Tier};

/// Bytes of the one read that lists most blocks: index and sources of some 50 frames of 80 columns.
const END_BYTES: u64 = 256 << 10;
/// Bytes of one read while everything is read again.
const VERIFY_BYTES: u64 = 4 << 20;

/// A sealed segment that a block covers: all of its rows that stood are in the block, and in no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSource {
    pub(crate) name: SegmentName,
    /// Its valid length.
    pub bytes: u64,
    /// Its items.
    pub rows: u64,
    /// Its frames.
    pub frames: u32,
    /// xxh3-128 of its frames' hashes in order.
    pub hash: u128,
    /// Acknowledged rows of it were damaged and are not in the block: its file is kept aside.
    pub lost: bool,
}

impl BlockSource {
    /// The segment's file name: unique in its window, and safe to show to its tenant.
    pub fn file_name(&self) -> String {
        self.name.file_name()
    }

    /// The window that it was written for, and whether by rows that came too late for their own.
    pub fn window(&self) -> (Window, bool) {
        (self.name.window, self.name.late)
    }
}

/// A block, listed. What stands here was read from its end and checked; frames are read when they are asked for.
pub struct Block {
    /// Its number in its shard: gap-free, ascending in the order of sealing.
    pub seq: u64,
    /// Its shard.
    pub shard: u32,
    /// When it was sealed by its sealer's clock, unix nanoseconds.
    pub created: i64,
    /// The segments that it covers.
    pub sources: Vec<BlockSource>,
    /// Items: spans, log records or points.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Smallest event time, unix nanoseconds.
    pub time_min: i64,
    /// Largest event time, included.
    pub time_max: i64,
    /// Its frames: how many.
    pub frames: usize,
    places: Vec<Place>,
    cube: Option<Section>,
    key: Option<Arc<DataKey>>,
    /// Of the object, but for its tail.
    pub(crate) hash: u128,
    /// The hash of the block before it, as that was when this one was made; 0 where there was none.
    pub(crate) previous: u128,
    name: BlockName,
    object: String,
    source: Arc<dyn Source>,
    objects: Arc<dyn Objects>,
    filters: Arc<Filters>,
}

impl Block {
    /// Lists a block that lies in this object: one read of its end, a second where its footer is longer.
    pub(super) fn read(
        objects: &Arc<dyn Objects>,
        keys: &Keyring,
        name: BlockName,
        object: String,
        filters: &Arc<Filters>,
    ) -> Result<Block, StoreError> {
        let (mut end, len) = objects.read_end(&object, END_BYTES).map_err(failed)?;
        let tail = match end.last_chunk::<TAIL>().ok_or(Damage::Short("block")).and_then(|t| Tail::from_bytes(t, len)) {
            Ok(tail) => tail,
            Err(damage) => return Err(judge(&**objects, &name, &object, damage)?.into()),
        };
        if len - tail.listed_at > end.len() as u64 {
            end = objects.read(&object, tail.listed_at..len).map_err(failed)?;
        }
        let begin = len - end.len() as u64;
        let directory_at = len - TAIL as u64 - u64::from(tail.directory_len);
        let part = |at: u64, n: u64| -> Result<&[u8], Damage> {
            let from = at.checked_sub(begin).ok_or(Damage::Bounds("section of a block"))? as usize;
            end.get(from..from + n as usize).ok_or(Damage::Short("block"))
        };
        let directory = part(directory_at, u64::from(tail.directory_len))?;
        if crc32c::crc32c(directory) != tail.directory_crc {
            return Err(Damage::Checksum("block directory").into());
        }
        let directory = Directory::from_bytes(directory, directory_at, tail.encrypted)?;
        // ST-2: a block holds one tenant and signal, and says which.
        if directory.name != name {
            return Err(Damage::Foreign("block").into());
        }
        let header = name.to_header();
        let key = directory.key.as_ref().map(|w| keys.open_key(&name.tenant, w, &header)).transpose()?;
        let blocks = Blocks::sections(key.as_deref(), &header);
        let section = |kind| -> Result<Vec<u8>, Damage> {
            let section = directory.section(kind).ok_or(Damage::Short("block directory"))?;
            section.unpack(part(section.at, section.stored)?, &blocks)
        };
        let sources = take_sources(&section(SOURCES)?, name.shard)?;
        let places = take_frames(&section(INDEX)?, name.fingerprint(), directory_at, key.as_ref())?;
        let rows = places.iter().map(|p| u64::from(p.meta.header.rows)).sum::<u64>();
        let signals = places.iter().all(|p| p.meta.signal == name.signal);
        if rows != directory.rows || rows != sources.iter().map(|s| s.rows).sum::<u64>() || !signals {
            return Err(Damage::Bounds("rows of a block").into());
        }
        let file = Arc::new(ObjectFile::new(objects.clone(), object.clone(), len));
        let source = BlockFile { name: format!("{}-{}.blk", name.shard, name.seq), file };
        Ok(Block {
            seq: name.seq,
            shard: name.shard,
            created: directory.created,
            sources,
            rows,
            bytes: len,
            time_min: directory.time_min,
            time_max: directory.time_max,
            frames: places.len(),
            places,
            cube: directory.section(CUBE),
            key,
            hash: tail.hash,
            previous: directory.previous,
            name,
            object,
            source: Arc::new(source),
            objects: objects.clone(),
            filters: filters.clone(),
        })
    }

    /// The name of its object.
    pub fn object(&self) -> String {
        self.object.clone()
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.name.tenant
    }

    /// Of what.
    pub fn signal(&self) -> Signal {
        self.name.signal
    }

    /// The frames that may hold rows of a range, in the order of their windows. Nothing is read.
    pub fn frames(&self, range: TimeRange) -> Vec<Frame> {
        let touched = |p: &&Place| range.touches(p.meta.header.time_min, p.meta.header.time_max);
        let frame = |p: &Place| Framed::frame(&self.source, &self.filters, p.at, p.window, p.meta.clone());
        self.places.iter().filter(touched).map(frame).collect()
    }

    /// One of its frames, by its number from 0 on. Nothing is read.
    pub fn frame(&self, number: u32) -> Option<Frame> {
        let p = self.places.get(number as usize)?;
        Some(Framed::frame(&self.source, &self.filters, p.at, p.window, p.meta.clone()))
    }

    /// Its rollup; `None` where it has none: then rows answer. Blocks on the store.
    ///
    /// # Errors
    /// `Retry` where the store fails, `Bug` where the bytes are damaged or of a newer version.
    pub fn cube(&self) -> Result<Option<Cube>, StoreError> {
        Ok(self.cube_bytes()?.map(|bytes| Cube::from_bytes(&bytes)).transpose()?)
    }

    /// The bytes of its cube; `None` where it has none. Blocks on the store.
    ///
    /// # Errors
    /// `Retry` where the store fails, `Bug` where the bytes are damaged.
    pub fn cube_bytes(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(section) = self.cube else { return Ok(None) };
        let range = section.at..section.at + section.stored;
        let stored = self.objects.read(&self.object(), range).map_err(failed)?;
        let header = self.name.to_header();
        Ok(Some(section.unpack(&stored, &Blocks::sections(self.key.as_deref(), &header))?))
    }

    /// Bytes of its cube as they are stored; `None` where it has none. Nothing is read.
    pub fn cube_len(&self) -> Option<u64> {
        self.cube.map(|section| section.stored)
    }

    /// Reads the whole object again and checks its hash, and that its header is its own. Blocks on the store.
    ///
    /// # Errors
    /// `Retry` where the store fails, `Bug` where a byte is not what was written.
    pub fn verify(&self) -> Result<(), StoreError> {
        let (object, end) = (self.object(), self.bytes - TAIL as u64);
        let (mut hash, mut at) = (Xxh3::new(), 0);
        while at < end {
            let to = end.min(at + VERIFY_BYTES);
            let bytes = self.objects.read(&object, at..to).map_err(failed)?;
            if at == 0 {
                let header = bytes.first_chunk::<BLOCK_HEADER>().ok_or(Damage::Short("block header"))?;
                if BlockName::from_header(header)? != self.name {
                    return Err(Damage::Foreign("block").into());
                }
            }
            hash.update(&bytes);
            at = to;
        }
        if hash.digest128() == self.hash { Ok(()) } else { Err(Damage::Checksum("block").into()) }
    }

    /// Where its frames end and its footer begins.
    #[cfg(test)]
    pub(super) fn places_end(&self) -> u64 {
        self.places.last().map_or(0, |p| p.at + p.meta.header.span())
    }

    /// Bytes in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let places: usize = self.places.iter().map(|p| p.meta.memory_bytes() + size_of::<Place>()).sum();
        size_of::<Block>() + places + self.sources.len() * size_of::<BlockSource>()
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("name", &self.name).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Tells a block that was cut from an object that never was one, by its beginning.
fn judge(objects: &dyn Objects, name: &BlockName, object: &str, damage: Damage) -> Result<Damage, StoreError> {
    if matches!(damage, Damage::Version { .. }) {
        return Ok(damage);
    }
    let head = match objects.read(object, 0..BLOCK_HEADER as u64) {
        Ok(head) => head,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Damage::Short("block")),
        Err(e) => return Err(failed(e)),
    };
    let header = head.first_chunk().ok_or(Damage::Short("block")).and_then(BlockName::from_header);
    Ok(match header {
        Ok(found) if found == *name => Damage::Short("block"),
        Ok(_) => Damage::Foreign("block"),
        Err(damage @ Damage::Version { .. }) => damage,
        Err(_) => damage,
    })
}

fn failed(e: io::Error) -> StoreError {
    StoreError::read("read a block", e)
}

/// A block's object, in which frames lie.
struct BlockFile {
    name: String,
    file: Arc<ObjectFile>,
}

impl Source for BlockFile {
    fn open(&self) -> Result<Arc<dyn File>, StoreError> {
        Ok(self.file.clone())
    }

    fn identity(&self) -> u64 {
        self.file.identity().map_or(0, |(identity, _)| identity)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn tier(&self) -> Tier {
        Tier::Warm
    }
}
