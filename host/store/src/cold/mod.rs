//! Cold: sorted Parquet files in one Delta table per tenant and signal, which other engines read without us.
//!
//! ```text
//! warm blocks -> promote -> gather (a file a day) -> Parquet files -> one commit of the Delta log, which is the switch
//!                        -> left (frames that are damaged: kept, told, promoted when they read again)
//!                                                              -> compact (small files into large) -> expire, vacuum
//! ```
//!
//! **Why a row is counted once.** A commit that adds the files of blocks carries the number of the last one in a transaction
//! (`prism-shard-<shard>`), and stands only where that of the version before is the number that the promotion read: of two that
//! promote the same blocks one commits. A reader takes the files of a version, and blocks above the numbers of that version.
//! Files of a commit that was lost, or that a crash left behind, are in no version; `expire::vacuum` removes them, after it
//! forbade by a commit of its own that they come in later.

pub mod schema;
pub mod file;
pub mod delta;
mod options;
pub mod columns;
mod gather;
pub mod left;
pub mod promote;
pub mod compact;
pub mod expire;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prism_model::window::TimeRange;
use prism_model::{ColumnId, Intrinsic, Signal, TableKind, TenantId};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::index::{self, IndexEnv, IndexReport};
use crate::options::nanos;
use crate::warm::Blocks;
use arrow::array::FixedSizeBinaryArray;
use delta::{FileEntry, Table, Tables};
use file::ColdFile;

pub use options::ColdOptions;

/// Objects of the log that one pass removes.
const CLEANED_MAX: usize = 1_000;

/// What passes over the cold tier work with. Nothing here asks a clock: times come as arguments.
pub struct ColdEnv<'a> {
    /// The file system of the hot tier.
    pub disk: &'a dyn Disk,
    /// The data folder, in which `hot` lies.
    pub root: &'a Path,
    /// The blocks, and the objects among which tables and index are.
    pub blocks: &'a Blocks,
    /// The tables, among the same objects.
    pub tables: &'a Tables,
    /// Settings.
    pub options: &'a ColdOptions,
    /// Random, of this process alone: in the names of files.
    pub writer: u64,
    /// Files of this process so far.
    pub named: &'a AtomicU64,
}

impl ColdEnv<'_> {
    /// The end of a name that nobody else gives: when it was begun (unix milliseconds), by whom, its how many-eth.
    fn unique(&self, now: i64) -> String {
        format!("{:x}-{:016x}-{}", millis(now).max(0), self.writer, self.named.fetch_add(1, Relaxed))
    }

    /// After a commit: checkpoint, a shorter log, and the index. What fails here is done by a later pass.
    fn keep_up(
        &self,
        table: &Table,
        tenant: &TenantId,
        signal: Signal,
        now: i64,
        known: &HashMap<String, Vec<u64>>,
    ) -> Result<IndexReport, StoreError> {
        let options = self.options;
        self.checkpoint(table, now)?;
        table.clean_log(now.saturating_sub(nanos(options.log_retention_ms)), CLEANED_MAX)?;
        self.indexed(now, |env| index::update(env, table, tenant, signal, known))
    }

    /// A checkpoint where one is due.
    fn checkpoint(&self, table: &Table, now: i64) -> Result<(), StoreError> {
        let options = self.options;
        // What was removed is known until it was deleted for sure.
        let forget = now.saturating_sub(nanos(options.sweep_after_ms).saturating_mul(2));
        table.checkpoint(options.checkpoint_commits, options.checkpoint_files, forget).map(drop)
    }

    fn indexed<T>(&self, now: i64, work: impl FnOnce(&IndexEnv<'_>) -> T) -> T {
        let objects = self.blocks.objects();
        let traces_of = |file: &FileEntry| {
            let file = ColdFile::open(objects.clone(), &file.name, file.bytes)?;
            traces_of(&file).map(Some)
        };
        let unique = || self.unique(now);
        work(&IndexEnv {
            objects,
            unique: &unique,
            traces_of: &traces_of,
            recent_entries_min: index::RECENT_ENTRIES_MIN,
        })
    }
}

/// Brings the trace index up to the table's version: after a crash, or where it was lost. Blocks on the objects.
///
/// # Errors
/// As [`index::update`].
pub fn reindex(env: &ColdEnv<'_>, tenant: &TenantId, signal: Signal, now: i64) -> Result<IndexReport, StoreError> {
    let table = env.tables.table(tenant, signal);
    env.indexed(now, |index| index::update(index, &table, tenant, signal, &HashMap::new()))
}

/// Fingerprints of the trace ids in a file, from its rows.
fn traces_of(file: &std::sync::Arc<ColdFile>) -> Result<Vec<u64>, StoreError> {
    let mut traces = Vec::new();
    for frame in file.frames(TimeRange::ALL) {
        let ids = |_: TableKind, id: &ColumnId| *id == ColumnId::Intrinsic(Intrinsic::TraceId);
        let (batch, _) = frame.read(&ids)?;
        for table in batch.tables() {
            let column = table.intrinsic(Intrinsic::TraceId);
            let column = column.and_then(|a| a.as_any().downcast_ref::<FixedSizeBinaryArray>());
            let ids = column.into_iter().flat_map(|ids| ids.iter().flatten());
            traces.extend(ids.filter_map(|id| id.try_into().ok()).map(|id: &[u8; 16]| index::fingerprint(id)));
        }
        traces.sort_unstable();
        traces.dedup();
    }
    Ok(traces)
}

fn millis(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000)
}
