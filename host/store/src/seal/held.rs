//! What a block may cover whose footer cannot be read: unknown, and not sealed again until it is.
//!
//! ```text
//! warm/<tenant>/<signal>/<shard>/held/<seq, 20 digits>: the segments that no readable block covered when the damage was found
//! ```
//!
//! A block covers segments that were there before it. So whoever finds it damaged writes down, once and for all that come after,
//! which segments are there and in no other block: what it covers and is not deleted yet is among them. Those are held: they
//! are neither sealed nor deleted, and queries read them where they are. All others go on. When the block can be read again (it
//! was restored) it tells itself; when it was removed (it is lost for good) nothing is held for it, and what was held is
//! sealed. No clock is asked.

use std::collections::HashSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::SealEnv;
use crate::control::Create;
use crate::error::{Damage, StoreError};
use crate::objects::Objects;
use crate::place::{SegmentName, parse_window_dir, window_dir};
use crate::warm::name::BlockName;

/// The version of the record that is written here.
const FORMAT: u16 = 1;

/// What is held for a block.
#[derive(Serialize, Deserialize)]
struct Held {
    format: u16,
    /// `<window>/<file name>` each.
    segments: Vec<String>,
}

fn object(block: &BlockName) -> String {
    let whole = block.object();
    let folder = whole.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/held/{:020}", block.seq)
}

/// Whether a block was found damaged once: where it is gone now, somebody removed it.
pub(crate) fn was_damaged(objects: &dyn Objects, block: &BlockName) -> Result<bool, StoreError> {
    match objects.len(&object(block)) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

/// The segments that are held for a damaged block. `there`: those that stand now and that no readable block covers, which are
/// listed after the block was; they are written down where nobody did before, unless it is a dry run.
pub(super) fn held(
    env: &SealEnv<'_>,
    block: &BlockName,
    there: &[SegmentName],
    dry_run: bool,
) -> Result<HashSet<SegmentName>, StoreError> {
    let (objects, name) = (&**env.blocks.objects(), object(block));
    let told = |bytes: &[u8]| -> Result<HashSet<SegmentName>, StoreError> {
        let held: Held = serde_json::from_slice(bytes).map_err(|_| Damage::Bounds("what is held for a block"))?;
        Damage::version("what is held for a block", held.format, FORMAT)?;
        let parsed = held.segments.iter().map(|text| parse(block.shard, text));
        parsed.collect::<Option<_>>().ok_or_else(|| Damage::Bounds("what is held for a block").into())
    };
    match objects.get(&name) {
        Ok(bytes) => return told(&bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    if dry_run {
        return Ok(there.iter().copied().collect());
    }
    let text = |segment: &SegmentName| format!("{}/{}", window_dir(segment.window, segment.late), segment.file_name());
    let held = Held { format: FORMAT, segments: there.iter().map(text).collect() };
    let bytes = serde_json::to_vec(&held).map_err(|e| StoreError::Rows(e.to_string()))?;
    match objects.create(&name, bytes.into()).map_err(failed)? {
        Create::Created => {
            tracing::error!(
                block = block.object(),
                segments = there.len(),
                "a block is damaged: what it may cover is held"
            );
            Ok(there.iter().copied().collect())
        }
        Create::Lost => told(&objects.get(&name).map_err(failed)?),
    }
}

fn parse(shard: u32, text: &str) -> Option<SegmentName> {
    let (window, file) = text.split_once('/')?;
    let (window, late) = parse_window_dir(window)?;
    SegmentName::parse(shard, window, late, file)
}

fn failed(e: io::Error) -> StoreError {
    StoreError::io("looked for what is held for a damaged block", e)
}
