//! The commit that changes a Delta table: all of a change or nothing of it, and only where what it builds on still stands.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::Schema;

use super::action::{self, Add, CommitInfo, Known, Line, MetaData, Protocol, Remove, Txn, shard_app};
use super::date::Date;
use super::left::{self, Left, LeftStep};
use super::log::{Log, Names, read_commit};
use super::schema::{self, PARTITION};
use super::stats::{self, ColumnStats};
use super::table::{FileEntry, Table};
use crate::control::Create;
use crate::error::StoreError;

/// How often a commit may be overtaken: each time somebody else got on.
const COMMIT_ATTEMPTS: usize = 100;
/// The id under which it is kept up to when (unix milliseconds) files that no commit names were written and may be deleted.
const SWEPT_APP: &str = "prism-swept";
/// The operation of [`Table::sweep`].
const SWEEP: &str = "VACUUM START";

/// A file that is to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFile {
    /// Below the table's folder: `date=YYYY-MM-DD/…`, of letters, digits and `-_.=/` only.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Smallest event time, unix nanoseconds.
    pub time_min: i64,
    /// Largest event time, included, of the same UTC day.
    pub time_max: i64,
    /// Statistics of columns, none of which holds personal data.
    pub stats: Vec<ColumnStats>,
}

/// Blocks of a shard whose rows come to the table with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnStep {
    /// The shard.
    pub shard: u32,
    /// The last block that is covered before; `None` where none is.
    pub before: Option<u64>,
    /// The last that is covered after it.
    pub last: u64,
}

/// What a commit changes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What Delta calls it: `WRITE`, `OPTIMIZE`, `DELETE`.
    pub operation: &'static str,
    /// Now, unix nanoseconds.
    pub now: i64,
    /// When the first of the new files was begun, unix milliseconds: what [`Table::sweep`] goes by. The same stands in its name.
    pub begun: i64,
    /// The columns of the new files.
    pub columns: Vec<Arc<Schema>>,
    /// New files.
    pub adds: Vec<NewFile>,
    /// Paths of files that go, all of which must stand.
    pub removes: Vec<FileEntry>,
    /// The version at which `removes` stood.
    pub base: Option<u64>,
    /// Whether rows come or go; a compaction's do not.
    pub data_change: bool,
    /// What the new files cover.
    pub steps: Vec<TxnStep>,
    /// What of it they do not have, or have after all.
    pub left: Vec<LeftStep>,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is this version.
    At(u64),
    /// Somebody else did the same or removed a file that was to go: look again. The new files are in no commit.
    Lost,
}

impl Table {
    /// Changes the table by one commit (ST-5): all of the change or nothing of it, and only where what it builds on still stands.
    ///
    /// # Errors
    /// `Retry` where the objects fail: then it is there or not, and its files must stay. As [`Table::pin`] otherwise.
    pub fn commit(&self, change: &Change) -> Result<Committed, StoreError> {
        let names = Names(&self.dir);
        for _ in 0..COMMIT_ATTEMPTS {
            let log = self.log()?;
            if !self.stands(log.as_deref(), change)? {
                return Ok(Committed::Lost);
            }
            let version = log.as_ref().map_or(0, |log| log.version + 1);
            let bytes = action::write(&self.lines(log.as_deref(), change)?)?;
            let name = names.commit(version);
            let io = |e| StoreError::io("committed to a Delta table", e);
            match self.shared.objects.create(&name, bytes.clone().into()).map_err(io)? {
                Create::Created => return Ok(Committed::At(version)),
                // Also where it is ours, and the answer to an earlier try was lost.
                Create::Lost if self.shared.objects.get(&name).map_err(io)? == bytes => {
                    return Ok(Committed::At(version));
                }
                Create::Lost => {}
            }
        }
        Err(StoreError::Table(format!("{COMMIT_ATTEMPTS} commits of others came first")))
    }

    /// Whether what a change builds on is still so.
    fn stands(&self, log: Option<&Log>, change: &Change) -> Result<bool, StoreError> {
        let Some(log) = log else {
            let first =
                change.steps.iter().all(|s| s.before.is_none()) && change.left.iter().all(|l| l.before.is_empty());
            return Ok(change.removes.is_empty() && first);
        };
        log.protocol.check_write()?;
        log.meta_data.check_write()?;
        let covered = log.covered();
        if change.steps.iter().any(|step| covered.get(&step.shard).copied() != step.before) {
            return Ok(false);
        }
        let left = if change.left.is_empty() { Left::new() } else { log.left() };
        let of = |step: &LeftStep| left.get(&(step.shard, step.seq)).cloned().unwrap_or_default();
        if change.left.iter().any(|step| of(step) != step.before) {
            return Ok(false);
        }
        if !change.adds.is_empty() && log.txn(SWEPT_APP).is_some_and(|swept| change.begun <= swept) {
            return Ok(false);
        }
        if change.removes.is_empty() {
            return Ok(true);
        }
        if change.data_change {
            log.meta_data.check_remove()?;
        }
        let going: HashSet<&str> = change.removes.iter().map(|file| &*file.path).collect();
        for version in change.base.map_or(0, |base| base + 1)..=log.version {
            let lines = match read_commit(&self.shared.objects, &Names(&self.dir), version) {
                // So long ago that it was cleaned up.
                Err(StoreError::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(false);
                }
                lines => lines?,
            };
            let touched = |line: &Line| {
                let path = line.remove.as_ref().map(|r| &r.path).or(line.add.as_ref().map(|a| &a.path));
                path.is_some_and(|path| going.contains(&**path))
            };
            if lines.iter().any(touched) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lines(&self, log: Option<&Log>, change: &Change) -> Result<Vec<Line>, StoreError> {
        let millis = change.now.div_euclid(1_000_000);
        let mut lines = vec![Line {
            commit_info: Some(CommitInfo {
                timestamp: Some(millis),
                operation: Some(change.operation.to_owned()),
                operation_parameters: Some(serde_json::json!({})),
                engine_info: Some(concat!("prism/", env!("CARGO_PKG_VERSION")).to_owned()),
                operation_metrics: None,
            }),
            ..Line::default()
        }];
        let before = log.map(|log| &*log.meta_data.schema_string);
        let grown = schema::grown(before, &change.columns)?;
        if log.is_none() {
            lines.push(Line { protocol: Some(Protocol::OURS), ..Line::default() });
        }
        if let Some(schema_string) = grown {
            let meta_data = match log {
                Some(log) => MetaData { schema_string, ..log.meta_data.clone() },
                None => self.begun(schema_string, change, millis),
            };
            lines.push(Line { meta_data: Some(meta_data), ..Line::default() });
        }
        let txn = |app_id, version| {
            let txn = Txn { app_id, version, last_updated: Some(millis) };
            Line { txn: Some(txn), ..Line::default() }
        };
        lines.extend(change.steps.iter().map(|step| txn(shard_app(step.shard), step.last as i64)));
        lines.extend(change.left.iter().flat_map(left::txns).map(|(app_id, version)| txn(app_id, version)));
        if change.operation == SWEEP {
            lines.push(txn(SWEPT_APP.to_owned(), change.begun));
        }
        lines.extend(change.removes.iter().map(|file| Line {
            remove: Some(Remove {
                path: file.path.clone(),
                deletion_timestamp: Some(millis),
                data_change: change.data_change,
                extended_file_metadata: Some(true),
                partition_values: Some([(PARTITION.to_owned(), Some(file.date.to_string()))].into()),
                size: Some(file.bytes),
                tags: file.rows.map(|rows| Known::to_tags(rows, file.time_min, file.time_max)),
            }),
            ..Line::default()
        }));
        lines.extend(change.adds.iter().map(|file| Line {
            add: Some(Add {
                path: file.path.clone(),
                partition_values: [(PARTITION.to_owned(), Some(Date::of(file.time_min).to_string()))].into(),
                size: file.bytes,
                modification_time: millis,
                data_change: change.data_change,
                stats: Some(stats::to_json(file.rows, &file.stats)),
                tags: Some(Known::to_tags(file.rows, file.time_min, file.time_max)),
            }),
            ..Line::default()
        }));
        action::count(&mut lines);
        Ok(lines)
    }

    /// What a table is called and how it is kept, from its first commit on.
    fn begun(&self, schema_string: String, change: &Change, millis: i64) -> MetaData {
        let columns: std::collections::BTreeSet<&str> =
            change.adds.iter().flat_map(|file| &file.stats).map(|column| &*column.name).collect();
        // A name with a dot, as others may add, would be one inside of a struct.
        let quoted: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
        let configuration =
            [("delta.dataSkippingStatsColumns", quoted.join(",")), ("delta.appendOnly", "false".to_owned())];
        let id = xxhash_rust::xxh3::xxh3_128(format!("{}/{}", self.dir, change.now).as_bytes());
        let hex = format!("{id:032x}");
        MetaData {
            // A UUID of version 8 (RFC 9562): of this table and moment.
            id: format!("{}-{}-8{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]),
            name: Some(format!("{}", self.key.1)),
            description: None,
            format: action::Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
            schema_string,
            partition_columns: vec![PARTITION.to_owned()],
            configuration: configuration.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            created_time: Some(millis),
        }
    }

    /// Forbids every commit of files that were begun at or before `begun` (unix milliseconds) and that no commit names yet: after
    /// it they may be deleted. Gives whether it had to commit.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub fn sweep(&self, now: i64, begun: i64) -> Result<bool, StoreError> {
        let Some(log) = self.log()? else { return Ok(false) };
        if log.txn(SWEPT_APP).is_some_and(|swept| swept >= begun) {
            return Ok(false);
        }
        self.commit(&Change { operation: SWEEP, now, begun, ..Change::default() })?;
        Ok(true)
    }
}
