//! Writes a block: frames as they come, then the footer. Memory holds one frame and the footer.

use prism_model::window::Window;
use xxhash_rust::xxh3::Xxh3;

use super::block::BlockSource;
use super::footer::{CUBE, Directory, INDEX, SOURCES, Section, Tail, put_frame, put_sources};
use super::name::{BLOCK_HEADER, BlockName};
use crate::control::Create;
use crate::error::StoreError;
use crate::frame::crypt::{Blocks, Crypt};
use crate::frame::encode::{Encoded, Position};
use crate::frame::header::{ALIGN, FRAME_HEADER, FrameHeader};
use crate::frame::schema::{SegmentSchema, Siblings};
use crate::keys::{Keyring, NewKey};
use crate::objects::{Objects, Upload};

/// A block that is being written. Dropped before it is finished, it never was.
pub(crate) struct BlockWriter {
    name: BlockName,
    created: i64,
    previous: u128,
    fingerprint: u64,
    /// Of frames and footer, and its form that is stored. Another attempt at a block of this name has another one.
    key: Option<NewKey>,
    upload: Box<dyn Upload>,
    hash: Xxh3,
    at: u64,
    schema: SegmentSchema,
    frames: u32,
    index: Vec<u8>,
    rows: u64,
    times: (i64, i64),
}

/// What became of a block, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) created: Create,
    pub(crate) bytes: u64,
    pub(crate) frames: u32,
    pub(crate) rows: u64,
    pub(crate) hash: u128,
}

impl BlockWriter {
    /// Begins the block of this name; `created` in unix nanoseconds. `previous`: the hash of the block before it, 0 where there
    /// is none.
    pub(crate) fn begin(
        objects: &dyn Objects,
        keys: &Keyring,
        name: BlockName,
        created: i64,
        previous: u128,
    ) -> Result<BlockWriter, StoreError> {
        let key = keys.data_key(&name.tenant, &name.to_header())?;
        let upload = objects.upload(&name.object()).map_err(failed)?;
        let (fingerprint, header) = (name.fingerprint(), name.to_header());
        let mut writer = BlockWriter {
            name,
            created,
            previous,
            fingerprint,
            key,
            upload,
            hash: Xxh3::new(),
            at: 0,
            schema: SegmentSchema::default(),
            frames: 0,
            index: Vec::new(),
            rows: 0,
            times: (i64::MAX, i64::MIN),
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Adds a frame of rows that were written to a window.
    pub(crate) fn frame(&mut self, frame: &Encoded, window: Window) -> Result<(), StoreError> {
        let (block, new) = self.schema.block(&frame.columns, &Siblings::new());
        let at = Position {
            segment: self.fingerprint,
            number: self.frames,
            epoch: 0,
            confirmed: self.at,
            schema_base: self.schema.len(),
            group: 0,
            split: false,
            crypt: self.key.as_ref().map(|(key, _)| Crypt { key, nonce: u64::from(self.frames) }),
        };
        let (head, mut body) = frame.place(&block, &at)?;
        let header = FrameHeader::from_bytes(&head)?;
        put_frame(&mut self.index, self.at, window, &head, &block, &frame.raw_meta()?);
        self.schema.define(new);
        self.frames += 1;
        self.rows += u64::from(frame.rows);
        self.times = (self.times.0.min(frame.time_min), self.times.1.max(frame.time_max));
        body.resize(header.span() as usize - FRAME_HEADER, 0);
        self.put(&head)?;
        self.put(&body)
    }

    /// Writes the footer; the block is there, whole and durable, when this says `Created`. `sources` are all that its rows came
    /// from, and hold no others.
    pub(crate) fn finish(mut self, sources: &[BlockSource], cube: Option<Vec<u8>>) -> Result<Written, StoreError> {
        debug_assert!(self.at.is_multiple_of(ALIGN) && self.at >= BLOCK_HEADER as u64);
        let mut sections = Vec::with_capacity(3);
        if let Some(cube) = cube {
            sections.push(self.section(CUBE, cube)?);
        }
        let listed_at = self.at;
        sections.push(self.section(SOURCES, put_sources(sources))?);
        let index = std::mem::take(&mut self.index);
        sections.push(self.section(INDEX, index)?);
        let directory = Directory {
            name: self.name.clone(),
            created: self.created,
            previous: self.previous,
            rows: self.rows,
            time_min: self.times.0,
            time_max: self.times.1,
            sections,
            key: self.key.as_ref().map(|(_, wrapped)| wrapped.clone()),
        };
        let directory = directory.to_bytes();
        self.put(&directory)?;
        let hash = self.hash.digest128();
        let tail = Tail {
            listed_at,
            directory_len: directory.len() as u32,
            directory_crc: crc32c::crc32c(&directory),
            encrypted: self.key.is_some(),
            hash,
        };
        self.put(&tail.to_bytes())?;
        let (bytes, frames, rows) = (self.at, self.frames, self.rows);
        let created = self.upload.finish().map_err(failed)?;
        Ok(Written { created, bytes, frames, rows, hash })
    }

    fn section(&mut self, kind: u8, raw: Vec<u8>) -> Result<Section, StoreError> {
        let name = self.name.to_header();
        let blocks = Blocks::sections(self.key.as_ref().map(|(key, _)| &**key), &name);
        let (section, stored) = Section::pack(kind, self.at, raw, &blocks)?;
        self.put(&stored)?;
        Ok(section)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        self.upload.write(bytes).map_err(failed)
    }
}

fn failed(e: std::io::Error) -> StoreError {
    StoreError::io("wrote a block", e)
}
