//! Room of the hot tier is given back: segments that a block covers are deleted when no query can still read them.
//!
//! The file goes first, then its end link, then the folder where it is empty; every step may be the last, and the next reclaim
//! goes on. A folder that gets a file at that moment is not empty, and stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::{Signal, TenantId};

use super::{Listed, SealEnv, listing, nanos, shards};
use crate::disk::{Disk, sync_removals};
use crate::error::StoreError;
use crate::hot::list::{self, awaited, names, segments};
use crate::hot::scan::{NoIndex, SegmentIndex};
use crate::hot::segment::end_link;
use crate::place::{END_SUFFIX, SegmentName, parse_window_dir, signal_dir, window_dir};
use crate::warm::{Block, BlockSource};

/// Folder of damaged segments in their shard's: what could be read of them is in a block, their files are kept for repair.
pub(crate) const DAMAGED: &str = "damaged";
/// A block that was made so far in the future was made by a clock that was wrong: its age is unknown, and long enough.
const AHEAD_MS: u64 = 60 * 60_000;

/// What a reclaim did, or in a dry run would do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments that were deleted.
    pub segments: usize,
    /// Their bytes that counted.
    pub bytes: u64,
    /// Folders that were empty and are gone.
    pub folders: usize,
    /// Segments that lost rows, by file name: their files are in their shard's folder `damaged` now.
    pub aside: Vec<String>,
    /// Segments that a block covers and that are needed yet, by queries or by a group that is not decided.
    pub waiting: usize,
    /// Numbers of blocks that took the name of an earlier one, which was promoted and removed: what they cover is left alone.
    pub void: Vec<u64>,
}

/// Deletes the segments of a tenant's signal that blocks cover, `read_grace_ms` after those were made. Blocks on disk and store.
///
/// # Errors
/// `Retry` where disk or store fail. What was deleted before stays deleted.
pub fn reclaim(
    env: &SealEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    now: i64,
    dry_run: bool,
) -> Result<Reclaimed, StoreError> {
    let mut reclaimed = Reclaimed::default();
    for shard in shards(env, tenant, signal)? {
        let dir = env.root.join(signal_dir(tenant, signal)).join(shard.to_string());
        let blocks = Listed::settled(env.blocks.look(tenant, signal, shard, 0)?)?;
        let covered = (env.covered)(tenant, signal, shard)?;
        let mut listed = segments(env.disk, env.root, tenant, signal, &|_, _| true).map_err(listing)?;
        listed.retain(|s| s.name.shard == shard);
        let awaited = awaited(env.disk, env.root, tenant, signal, &listed, env.blocks.keys()).map_err(listing)?;
        let there: HashMap<SegmentName, &list::Listed> = listed.iter().map(|s| (s.name, s)).collect();
        let mut goes: BTreeMap<SegmentName, (u64, bool)> = BTreeMap::new();
        for block in &blocks.blocks {
            let sources = block.sources.iter().filter(|s| there.contains_key(&s.name));
            if !blocks.is_sure(block, covered) {
                reclaimed.waiting += sources.count();
                continue;
            }
            if blocks.is_void(block, covered) {
                if sources.count() > 0 {
                    reclaimed.void.push(block.seq);
                }
                continue;
            }
            for source in sources {
                if aged(block, now, env.options.read_grace_ms) && !awaited.contains(&source.name) {
                    goes.insert(source.name, (source.bytes, source.lost));
                } else {
                    reclaimed.waiting += 1;
                }
            }
        }
        for segment in listed.iter().filter(|s| !awaited.contains(&s.name)) {
            let late = nanos(env.options.seal_delta_ms);
            let over = segment.name.window.end_nanos().saturating_add(late) <= now;
            if over && !goes.contains_key(&segment.name) && holds_nothing(env, tenant, signal, segment)? {
                goes.insert(segment.name, (0, false));
            }
        }
        for (name, (bytes, lost)) in &goes {
            if !dry_run {
                let path = env.root.join(name.dir(tenant, signal)).join(name.file_name());
                remove(env.disk, &dir, &path, name, *lost).map_err(failed)?;
            }
            match lost {
                true => reclaimed.aside.push(name.file_name()),
                false => (reclaimed.segments, reclaimed.bytes) = (reclaimed.segments + 1, reclaimed.bytes + bytes),
            }
        }
        if !dry_run {
            let touched: HashSet<String> = goes.keys().map(|name| window_dir(name.window, name.late)).collect();
            reclaimed.folders += tidy(env, &dir, &touched, now).map_err(failed)?;
        }
    }
    Ok(reclaimed)
}

/// Removes the blocks of a shard up to the number `through`, which the Delta table covered longer than the read grace ago, as
/// far as their segments are gone. In ascending order and never the newest one: so a number is not free again for a sealer that
/// was about to take it, unless newer blocks tell that it was taken before. Gives how many. Blocks on disk and store.
///
/// # Errors
/// `Retry` where disk or store fail. What was removed before stays removed.
pub fn retire(
    env: &SealEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    shard: u32,
    through: u64,
) -> Result<usize, StoreError> {
    let listed = Listed::settled(env.blocks.look(tenant, signal, shard, 0)?)?;
    // One that cannot be read does not tell whether its segments are gone, and those behind it wait.
    let first_damaged = listed.unread.first().map_or(u64::MAX, |(seq, _)| *seq);
    let goes =
        |block: &&Arc<Block>| block.seq <= through && block.seq < first_damaged && Some(block.seq) != listed.newest();
    let mut removed = 0;
    for block in listed.blocks.iter().take_while(goes) {
        if !gone(env.disk, env.root, block).map_err(listing)? {
            break;
        }
        env.blocks.objects().delete(&block.object()).map_err(|e| StoreError::io("removed a block", e))?;
        removed += 1;
    }
    Ok(removed)
}

/// Whether all segments of a block are gone, durably: a removal that nobody synced may be undone by a crash, and its rows
/// would be back. Blocks may be deleted then. Blocks on the disk.
///
/// # Errors
/// Where the disk fails.
pub fn gone(disk: &dyn Disk, root: &Path, block: &Block) -> io::Result<bool> {
    let mut folders: BTreeMap<PathBuf, Vec<&BlockSource>> = BTreeMap::new();
    for source in &block.sources {
        folders.entry(root.join(source.name.dir(block.tenant(), block.signal()))).or_default().push(source);
    }
    for (folder, sources) in folders {
        let there: HashSet<String> = names(disk, &folder)?.into_iter().collect();
        if sources.iter().any(|s| there.contains(&s.file_name())) {
            return Ok(false);
        }
        // Where nothing is left of the folders above either, there is nothing to come back.
        sync_removals(disk, &folder)?;
    }
    Ok(true)
}

/// Whether every query that listed the segments before the block was there has ended.
fn aged(block: &Block, now: i64, grace_ms: u64) -> bool {
    let grace_over = block.created.saturating_add(nanos(grace_ms)) <= now;
    grace_over || block.created > now.saturating_add(nanos(AHEAD_MS))
}

/// Whether a segment was ended without any frame, and none was lost.
fn holds_nothing(
    env: &SealEnv<'_>,
    tenant: &TenantId,
    signal: Signal,
    segment: &list::Listed,
) -> Result<bool, StoreError> {
    let Some(valid) = segment.ended else { return Ok(false) };
    let path = env.root.join(segment.name.dir(tenant, signal)).join(segment.name.file_name());
    let header = segment.name.header(tenant, signal);
    match SegmentIndex::read(env.disk, &path, &header, Some(valid), None, env.blocks.keys()) {
        Ok(index) => Ok(index.frames.is_empty() && index.fault.is_none()),
        // It was never begun: a crash tore its header.
        Err(NoIndex::Absent) => Ok(true),
        Err(NoIndex::Io(e)) => Err(StoreError::io("read a segment", e)),
        Err(_) => Ok(false),
    }
}

/// Removes a segment, or puts it aside, and its end link.
fn remove(disk: &dyn Disk, shard_dir: &Path, path: &Path, name: &SegmentName, lost: bool) -> io::Result<()> {
    let link = end_link(path);
    if lost {
        let aside_dir = shard_dir.join(DAMAGED);
        if disk.create_dir(&aside_dir)? {
            disk.sync_dir(shard_dir)?;
        }
        let aside = aside_dir.join(format!("{}-{}", window_dir(name.window, name.late), name.file_name()));
        unless_there(disk.link(path, &aside))?;
        match disk.read_link(&link) {
            Ok(valid) => unless_there(disk.symlink(&valid, &end_link(&aside)))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        disk.sync_dir(&aside_dir)?;
    }
    unless_gone(disk.remove(path))?;
    unless_gone(disk.remove(&link))
}

/// Makes removals durable, removes end links without a segment, and folders without anything whose window is over.
fn tidy(env: &SealEnv<'_>, shard_dir: &Path, touched: &HashSet<String>, now: i64) -> io::Result<usize> {
    let disk = env.disk;
    let mut removed = 0;
    for name in names(disk, shard_dir)? {
        let Some((window, _)) = parse_window_dir(&name) else { continue };
        let folder = shard_dir.join(&name);
        let over = window.end_nanos().saturating_add(nanos(env.options.seal_after_ms)) <= now;
        if !over && !touched.contains(&name) {
            continue;
        }
        let files: BTreeSet<String> = names(disk, &folder)?.into_iter().collect();
        let mut left = files.len();
        for link in files.iter().filter(|f| f.strip_suffix(END_SUFFIX).is_some_and(|of| !files.contains(of))) {
            unless_gone(disk.remove(&folder.join(link)))?;
            left -= 1;
        }
        if touched.contains(&name) || left < files.len() {
            // Gone is the folder only where another process tidied it.
            unless_gone(disk.sync_dir(&folder))?;
        }
        if left == 0 && over {
            match disk.remove_dir(&folder) {
                Ok(()) => removed += 1,
                // A writer made a file in it just now.
                Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
    }
    if removed > 0 {
        disk.sync_dir(shard_dir)?;
    }
    Ok(removed)
}

fn unless_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn failed(e: io::Error) -> StoreError {
    StoreError::io("removed sealed segments", e)
}
