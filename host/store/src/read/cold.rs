//! What the cold tier adds to a snapshot: the row groups of the table's files at one version.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::rolled::{Cubes, Rolled};
use super::{Ask, Snapshot, Unreadable, moved_on};
use crate::cold::delta::{FileEntry, Pinned};
use crate::cold::file::{ColdFile, ColdFiles};
use crate::error::StoreError;
use crate::unit::Tier;

/// Threads beside this one that read footers at the same time, at most: on S3 one takes some 30 ms and no processor.
const OPENERS: usize = 16;
/// Files for which another thread is worth its while.
const FILES_A_THREAD: usize = 8;

/// Adds the row groups of a table's files that may hold what is asked for.
pub(super) fn add(files: &ColdFiles, ask: &Ask<'_>, pinned: &Pinned, cubes: &Arc<Cubes>, to: &mut Snapshot) {
    to.tiers.cold.pruned += usize::try_from(pinned.outside).unwrap_or(usize::MAX);
    for path in &pinned.elsewhere {
        let reason = "it lies outside of the table".to_owned();
        to.unreadable.push(Unreadable { tier: Tier::Cold, what: format!("file {path}"), reason });
    }
    for (entry, file) in pinned.files.iter().zip(open(files, &pinned.files)) {
        let what = format!("file {}", entry.path);
        match file {
            Ok(file) => {
                let frames = file.frames(ask.range);
                let taken = to.add(Tier::Cold, ask, frames, file.groups());
                if !taken.is_empty() {
                    to.rolled.push(Rolled::file(cubes, file, what, taken));
                }
            }
            // Compacted or expired since, and that longer ago than the grace.
            Err(StoreError::Vanished(_)) => to.vanished(Unreadable { tier: Tier::Cold, what, reason: moved_on() }),
            Err(error) => {
                tracing::error!(file = entry.path, %error, "a file of the table cannot be read");
                to.unreadable.push(Unreadable { tier: Tier::Cold, what, reason: error.to_string() });
            }
        }
    }
}

/// The files of some entries, in their order; footers that are not remembered are read several at a time.
fn open(files: &ColdFiles, entries: &[FileEntry]) -> Vec<Result<Arc<ColdFile>, StoreError>> {
    let next = AtomicUsize::new(0);
    let opened: Mutex<Vec<Option<_>>> = Mutex::new(entries.iter().map(|_| None).collect());
    let work = || {
        while let Some((at, entry)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            entries.get(at).map(|entry| (at, entry))
        } {
            let file = files.open(&entry.name, entry.bytes);
            opened.lock()[at] = Some(file);
        }
    };
    let helpers = OPENERS.min(entries.len() / FILES_A_THREAD);
    std::thread::scope(|scope| {
        (0..helpers).for_each(|_| {
            scope.spawn(work);
        });
        work();
    });
    opened.into_inner().into_iter().flatten().collect()
}
