//! Rows in, files of one day each out: what promotion and compaction share. Holds a bounded number of bytes: of rows and of what is
//! counted of them, whatever days they are of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::datatypes::Schema;
use prism_model::{Batch, ColumnId, Signal, TableKind};

use super::ColdEnv;
use super::columns::Used;
use super::delta::{ColumnStats, Date, NewFile, Scalar, Table};
use super::file::{FileSummary, Writer};
use crate::control::Create;
use crate::error::StoreError;
use crate::rollup::{CubeBuilder, CubeLimits};

/// Columns with statistics in the log: fixed ones of numbers, which say nothing about anybody.
const STATS_COLUMNS_MAX: usize = 32;
/// Numbers of rows in a file's own tables: their ranges prune nothing.
const POINTERS: [&str; 3] = ["resource", "scope", "metric"];

/// Files in the making.
pub(super) struct Gather<'a> {
    env: &'a ColdEnv<'a>,
    table: &'a Table,
    signal: Signal,
    /// How the files' names begin, behind the day.
    label: String,
    /// Now, unix nanoseconds.
    now: i64,
    used: Used,
    open: BTreeMap<Date, Open>,
    held: usize,
    parts: usize,
    done: Gathered,
}

struct Open {
    writer: Writer,
    path: String,
    /// Of rows and cube.
    bytes: usize,
    cube: CubeBuilder,
    cube_bytes: usize,
}

/// Files that were written.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) files: Vec<NewFile>,
    pub(super) columns: Vec<Arc<Schema>>,
    pub(super) attributes: BTreeSet<(TableKind, ColumnId)>,
    /// Fingerprints of the traces of each, by path.
    pub(super) traces: HashMap<String, Vec<u64>>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl<'a> Gather<'a> {
    pub(super) fn new(
        env: &'a ColdEnv<'a>,
        table: &'a Table,
        signal: Signal,
        label: String,
        now: i64,
    ) -> Result<Gather<'a>, StoreError> {
        let used = Used::of(table)?;
        let (open, done) = (BTreeMap::new(), Gathered::default());
        Ok(Gather { env, table, signal, label, now, used, open, held: 0, parts: 0, done })
    }

    /// Takes rows of any days.
    pub(super) fn add(&mut self, batch: Batch) -> Result<(), StoreError> {
        let times = batch.event_times();
        let days = times.values().iter().map(|time| Date::of(*time));
        let (first, last) = days.clone().fold((None, None), |(first, last), day| {
            (Some(first.map_or(day, |f: Date| f.min(day))), last.max(Some(day)))
        });
        let Some((first, last)) = first.zip(last) else { return Ok(()) };
        if first == last {
            return self.take(first, batch);
        }
        // Rows that came late: few, of any days.
        let mut of: BTreeMap<Date, Vec<u32>> = BTreeMap::new();
        for (row, day) in days.enumerate() {
            of.entry(day).or_default().push(row as u32);
        }
        for (day, rows) in of {
            let part = batch.select(&UInt32Array::from(rows)).map_err(|e| StoreError::Rows(e.to_string()))?;
            self.take(day, part)?;
        }
        Ok(())
    }

    fn take(&mut self, day: Date, batch: Batch) -> Result<(), StoreError> {
        let bytes = batch.memory_bytes();
        let open = match self.open.entry(day) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let path = format!("date={day}/{}-{}-{}.parquet", self.label, self.parts, self.env.unique(self.now));
                self.parts += 1;
                let name = format!("{}/{path}", self.table.dir());
                let objects = self.env.blocks.objects().clone();
                let writer = Writer::begin(objects, &name, self.signal, &self.env.options.file);
                let writer = writer.known_columns(self.used.last.clone(), Date::of(self.now).days());
                let limits = CubeLimits { entries: self.env.options.cube_entries_max, ..CubeLimits::default() };
                let cube = CubeBuilder::new(self.signal, limits);
                vacant.insert(Open { writer, path, bytes: 0, cube, cube_bytes: 0 })
            }
        };
        open.cube.add(&batch);
        open.writer.write(batch)?;
        // Cells of rows of many days may take as much as these.
        let before = (open.bytes, std::mem::replace(&mut open.cube_bytes, open.cube.memory_bytes()));
        open.bytes = open.bytes + bytes + open.cube_bytes - before.1;
        self.held = self.held + open.bytes - before.0;
        if open.writer.is_full() {
            self.close(day)?;
        }
        while self.held > self.env.options.hold_bytes_max
            && let Some(largest) = self.open.iter().max_by_key(|(_, open)| open.bytes).map(|(day, _)| *day)
        {
            self.close(largest)?;
        }
        Ok(())
    }

    fn close(&mut self, day: Date) -> Result<(), StoreError> {
        let Some(Open { mut writer, path, bytes, cube, .. }) = self.open.remove(&day) else { return Ok(()) };
        self.held -= bytes;
        if let Some(cube) = cube.finish() {
            writer.set_cube(cube.to_bytes()?);
        }
        let written = writer.finish()?;
        if written.created == Create::Lost {
            // Names are unique: somebody has copied a process with its random numbers.
            return Err(StoreError::Rows("a cold file has the name of another".into()));
        }
        let (rows, bytes, time_min, time_max) = (written.rows, written.bytes, written.time_min, written.time_max);
        let FileSummary { columns, schema, attributes, traces, .. } = written;
        let stats = columns.into_iter().filter(in_log).take(STATS_COLUMNS_MAX).collect();
        self.done.traces.insert(path.clone(), traces);
        self.done.attributes.extend(attributes);
        // Files of one table mostly have the same columns.
        if !self.done.columns.contains(&schema) {
            self.done.columns.push(schema);
        }
        (self.done.rows, self.done.bytes) = (self.done.rows + rows, self.done.bytes + bytes);
        self.done.files.push(NewFile { path, bytes, rows, time_min, time_max, stats });
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<Gathered, StoreError> {
        while let Some(day) = self.open.keys().next().copied() {
            self.close(day)?;
        }
        self.used.mark(&self.done.attributes, Date::of(self.now), &mut self.done.columns);
        Ok(self.done)
    }
}

fn in_log(column: &ColumnStats) -> bool {
    let numbers = column.range.as_ref().is_none_or(|(min, _)| !matches!(min, Scalar::Text(_)));
    let fixed = !column.name.contains(':') && !POINTERS.contains(&&*column.name);
    fixed && numbers && column.range.is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use prism_model::samples::spans;

    use super::*;
    use crate::cold::ColdOptions;
    use crate::cold::delta::Tables;
    use crate::disk::RealDisk;
    use crate::keys::Keyring;
    use crate::objects::{LocalObjects, Objects};
    use crate::warm::Blocks;

    const DAY: i64 = 24 * 3_600_000_000_000;

    /// Rows of many days, and what is counted of them: all of it is held within the bound, and each row comes to a file.
    #[test]
    fn rows_of_many_days_and_their_rollups_are_held_within_the_bound() {
        let root = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(LocalObjects::new(Arc::new(RealDisk), root.path(), 1));
        let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
        let options = ColdOptions { hold_bytes_max: 3 << 20, ..ColdOptions::default() };
        let (disk, writer, named) = (&RealDisk, 1, AtomicU64::new(0));
        let env = ColdEnv {
            disk,
            root: root.path(),
            blocks: &blocks,
            tables: &tables,
            options: &options,
            writer,
            named: &named,
        };
        let table = tables.table(&"acme".parse().unwrap(), Signal::Spans);
        let mut gather = Gather::new(&env, &table, Signal::Spans, "test".into(), 0).unwrap();
        let (mut rollups, mut rows) = (0, 0);
        for n in 0..120 {
            let batch = spans(100, 100 * DAY + n % 40 * DAY, n as u64);
            rows += batch.rows() as u64;
            gather.add(batch).unwrap();
            let of_rollups: usize = gather.open.values().map(|open| open.cube.memory_bytes()).sum();
            let all: usize = gather.open.values().map(|open| open.writer.bytes()).sum::<usize>() + of_rollups;
            assert_eq!(gather.held, all);
            assert!(all <= options.hold_bytes_max, "{all}");
            rollups = rollups.max(of_rollups);
        }
        assert!(rollups > options.hold_bytes_max / 8, "they matter: {rollups}");
        let gathered = gather.finish().unwrap();
        assert_eq!((gathered.rows, gathered.files.iter().map(|file| file.rows).sum()), (rows, rows));
        assert!(gathered.files.len() > 40 && gathered.columns.len() < gathered.files.len());
    }
}
