//! Blocks of a frame under the data key of its segment: AES-256-GCM.
//!
//! A block is what is read alone: schema, meta, blooms, rollup, each buffer of the payload, or the payload where it is
//! compressed as one. Its stored bytes are the ciphertext and a tag of 16 bytes behind it. The frame's header, which stays
//! clear, is authenticated with each block, so a block opens only in its own frame at its own place.
//!
//! A **nonce** is the frame's number (8 bytes, in its header) and the block's place in the frame (4 bytes). The number is the
//! count of attempts to write a frame under this key, failed ones too: it never goes back, and a key has one writer, in memory
//! once. So no nonce is used twice, whatever is undone, and a frame that is written again elsewhere has another key.
//!
//! Not here: where keys come from (`keys`).

use std::borrow::Cow;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::header::FrameHeader;
use crate::error::{Damage, StoreError};

/// Bytes of a data key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes that encryption adds to a block.
pub(crate) const TAG_BYTES: usize = 16;

/// Bytes of a wrapped data key: nonce, ciphertext, tag.
pub(crate) const WRAPPED_BYTES: usize = 12 + KEY_BYTES + TAG_BYTES;

/// A data key as it stands in a file: encrypted by a version of the tenant's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    pub(crate) version: u64,
    pub(crate) bytes: [u8; WRAPPED_BYTES],
}

/// The key of one segment or one block of the warm tier, whoever reads it.
pub(crate) struct DataKey(LessSafeKey);

impl DataKey {
    /// A key of random bytes.
    pub(crate) fn new(bytes: &[u8; KEY_BYTES]) -> Result<DataKey, Damage> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| Damage::Bounds("data key"))?;
        Ok(DataKey(LessSafeKey::new(key)))
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// What a frame is encrypted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crypt<'a> {
    pub(crate) key: &'a DataKey,
    /// Of the frame: no other one under this key, written or tried, has it.
    pub(crate) nonce: u64,
}

/// A block's place in its frame: the other half of its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Schema,
    Meta,
    Blooms,
    /// A buffer by where it begins in the stored payload. Those that are empty are no blocks.
    Payload(u64),
    /// Of what is no frame, by its kind: a section of a warm block's footer.
    Section(u8),
}

impl Place {
    fn number(self) -> Option<u32> {
        match self {
            Place::Schema => Some(0),
            Place::Meta => Some(1),
            Place::Blooms => Some(2),
            Place::Section(kind) => Some(u32::from(kind)),
            // 3 is kept for the rollup.
            Place::Payload(offset) => u32::try_from(offset).ok()?.checked_add(4),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Place::Schema => "schema",
            Place::Meta => "frame meta",
            Place::Blooms => "blooms",
            Place::Payload(_) => "buffer",
            Place::Section(_) => "section of a block",
        }
    }
}

fn nonce(frame: u64, place: Place) -> Option<Nonce> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&frame.to_le_bytes());
    bytes[8..].copy_from_slice(&place.number()?.to_le_bytes());
    Some(Nonce::assume_unique_for_key(bytes))
}

/// The frame number of what is no frame: counting does not get here.
const NO_FRAME: u64 = u64::MAX;

/// Stores the blocks of one frame, or opens them.
pub(crate) struct Blocks<'a> {
    crypt: Option<Crypt<'a>>,
    /// What all of them are bound to: the header but for what is computed over the stored bytes.
    bound: Cow<'a, [u8]>,
}

impl<'a> Blocks<'a> {
    /// Of a frame that is being written; its checksums need not stand in the header yet.
    pub(crate) fn store(header: &FrameHeader, crypt: Option<Crypt<'a>>) -> Blocks<'a> {
        Blocks { crypt, bound: header.unchecked_bytes().to_vec().into() }
    }

    /// Of a frame that was read; `key` is its segment's. A frame is encrypted where its segment is: a clear one among
    /// encrypted ones was not written by a writer of ours.
    pub(crate) fn open(header: &FrameHeader, key: Option<&'a DataKey>) -> Result<Blocks<'a>, Damage> {
        let crypt = match (header.nonce, key) {
            (Some(nonce), Some(key)) => Some(Crypt { key, nonce }),
            (None, None) => None,
            _ => return Err(Damage::Bounds("encryption flag of a frame")),
        };
        Ok(Blocks { crypt, bound: header.unchecked_bytes().to_vec().into() })
    }

    /// Of the sections of what has this key, bound to what it is called.
    pub(crate) fn sections(key: Option<&'a DataKey>, name: &'a [u8]) -> Blocks<'a> {
        Blocks { crypt: key.map(|key| Crypt { key, nonce: NO_FRAME }), bound: name.into() }
    }

    /// Appends a block as it is stored.
    pub(crate) fn push(&self, place: Place, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), StoreError> {
        let from = out.len();
        out.extend_from_slice(bytes);
        let Some(Crypt { key, nonce: frame }) = self.crypt else { return Ok(()) };
        let failed = || StoreError::Rows(format!("a block of {} bytes cannot be encrypted", bytes.len()));
        let nonce = nonce(frame, place).ok_or_else(failed)?;
        let block = &mut out[from..];
        let tag = key.0.seal_in_place_separate_tag(nonce, Aad::from(&self.bound), block).map_err(|_| failed())?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The bytes of a stored block.
    pub(crate) fn take<'b>(&self, place: Place, stored: &'b [u8]) -> Result<Cow<'b, [u8]>, Damage> {
        let Some(Crypt { key, nonce: frame }) = self.crypt else { return Ok(Cow::Borrowed(stored)) };
        let nonce = nonce(frame, place).ok_or(Damage::Bounds("offset of a buffer"))?;
        let mut bytes = stored.to_vec();
        let len = match key.0.open_in_place(nonce, Aad::from(&self.bound), &mut bytes) {
            Ok(plain) => plain.len(),
            Err(_) => return Err(Damage::Sealed(place.what())),
        };
        bytes.truncate(len);
        Ok(Cow::Owned(bytes))
    }
}
