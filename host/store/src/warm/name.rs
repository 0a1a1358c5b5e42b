//! What a block is called, and the header that says it again in the object (ST-2).

use prism_model::{Signal, TenantId};

use crate::error::Damage;
use crate::frame::header::{check, seal};
use crate::frame::wire::{Put as _, Take};

/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER: usize = 256;
/// The version of header and tail that is written here.
pub(crate) const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"PRISMBLK";
const SUFFIX: &str = ".blk";

/// A block's place among all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockName {
    pub(crate) tenant: TenantId,
    pub(crate) signal: Signal,
    pub(crate) shard: u32,
    pub(crate) seq: u64,
}

/// Folder of a tenant's signal.
pub(crate) fn signal_folder(tenant: &TenantId, signal: Signal) -> String {
    format!("warm/{tenant}/{signal}")
}

impl BlockName {
    /// The name of its object.
    pub(crate) fn object(&self) -> String {
        let folder = signal_folder(&self.tenant, self.signal);
        format!("{folder}/{}/{:020}{SUFFIX}", self.shard, self.seq)
    }

    /// The name of the copy that is kept of it where frames were damaged when the others came to the table.
    pub(crate) fn left_object(&self) -> String {
        format!("{}/{:020}", self.left_folder(), self.seq)
    }

    /// The folder of such copies of its shard.
    pub(crate) fn left_folder(&self) -> String {
        format!("{}/{}/left", signal_folder(&self.tenant, self.signal), self.shard)
    }

    /// The number in the last part of an object's name; `None` for an object of something else.
    pub(crate) fn parse_seq(object: &str) -> Option<u64> {
        let digits = object.rsplit('/').next()?.strip_suffix(SUFFIX)?;
        let seq = digits.parse().ok()?;
        (format!("{seq:020}") == digits).then_some(seq)
    }

    pub(crate) fn to_header(&self) -> [u8; BLOCK_HEADER] {
        let mut out = Vec::with_capacity(BLOCK_HEADER);
        out.extend_from_slice(MAGIC);
        out.u16(VERSION);
        // No flags yet.
        out.u16(0);
        out.u32(self.shard);
        out.u64(self.seq);
        out.u8(self.signal as u8);
        out.text(self.tenant.as_str().as_bytes());
        // Until byte 252 there is room. The key of an encrypted block stands at its end, where it is listed by.
        let mut fixed = [0; BLOCK_HEADER];
        fixed[..out.len()].copy_from_slice(&out);
        seal(&mut fixed);
        fixed
    }

    pub(crate) fn from_header(bytes: &[u8; BLOCK_HEADER]) -> Result<BlockName, Damage> {
        let mut take = Take::new(check(bytes, "block header")?, "block header");
        if take.array::<8>()? != *MAGIC {
            return Err(Damage::Bounds("block magic"));
        }
        Damage::version("block", take.u16()?, VERSION)?;
        if take.u16()? != 0 {
            return Err(Damage::Bounds("block flags"));
        }
        let (shard, seq) = (take.u32()?, take.u64()?);
        let signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or(Damage::Bounds("signal"))?;
        let tenant = take.string()?.parse().map_err(|_| Damage::Bounds("tenant"))?;
        Ok(BlockName { tenant, signal, shard, seq })
    }

    /// What each frame of the block repeats.
    pub(crate) fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.to_header())
    }
}
