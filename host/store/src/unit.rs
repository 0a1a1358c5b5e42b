//! What a snapshot is made of, whatever tier it lies in: rows that are read, and left out, together.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use prism_model::window::Window;
use prism_model::{Batch, ColumnId, Origin, Signal, TableKind};

use crate::error::{Damage, StoreError};
use crate::frame::stats::ColumnMeta;

/// Where rows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Segments of the shared file system.
    Hot,
    /// Blocks of sealed segments in the object store.
    Warm,
    /// Parquet files of the tenant's Delta table.
    Cold,
}

impl Tier {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Hot => "hot",
            Tier::Warm => "warm",
            Tier::Cold => "cold",
        }
    }
}

/// A value that rows are looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact<'v> {
    /// An id or a text, by its bytes.
    Bytes(&'v [u8]),
    /// An integer.
    Int(i64),
}

/// What is known about a frame as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameStats {
    /// Items: spans, log records or points.
    pub rows: usize,
    /// Smallest event time ([`Batch::event_times`]), unix nanoseconds.
    pub time_min: i64,
    /// Largest event time, included.
    pub time_max: i64,
    /// Distinct `service.name`s; `None` where there are too many to list.
    pub services: Option<Arc<[Arc<str>]>>,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What a read cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Bytes read.
    pub bytes: u64,
    /// Reads.
    pub reads: u64,
}

impl std::ops::AddAssign for ReadCost {
    fn add_assign(&mut self, more: ReadCost) {
        *self = ReadCost { bytes: self.bytes + more.bytes, reads: self.reads + more.reads };
    }
}

/// Ids by number: a row for each item, null where it has none.
pub type Numbered = DictionaryArray<UInt32Type>;

/// The rows of a frame in their tier. What each method promises is told at [`Frame`].
pub(crate) trait Unit: Send + Sync {
    fn tier(&self) -> Tier;
    fn name(&self) -> String;
    fn signal(&self) -> Signal;
    fn window(&self) -> Window;
    fn stats(&self) -> &FrameStats;
    fn table_rows(&self, table: TableKind) -> usize;
    fn columns(&self, table: TableKind) -> &[ColumnMeta];
    fn may_contain_trace(&self, id: &[u8; 16]) -> bool;
    fn may_contain_token(&self, key: &str, value: &str) -> bool;
    fn read(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<(Batch, ReadCost), StoreError>;
    fn cost(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost;
    fn cost_apart(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        self.cost(want)
    }

    fn origins(&self) -> Result<Vec<Origin>, StoreError>;

    fn rows_of(&self, _column: &ColumnId, _value: Exact<'_>) -> Result<Option<(UInt32Array, ReadCost)>, StoreError> {
        Ok(None)
    }

    fn tells_values(&self, _column: &ColumnId) -> bool {
        false
    }

    fn values_of(&self, _column: &ColumnId) -> Result<Option<(ArrayRef, ReadCost)>, StoreError> {
        Ok(None)
    }

    fn numbers_of(&self, _column: &ColumnId) -> Result<Option<(Numbered, ReadCost)>, StoreError> {
        Ok(None)
    }

    /// Whether [`Unit::read_rows`] costs less than all rows do.
    fn skips(&self) -> bool {
        false
    }

    fn read_rows(
        &self,
        want: &dyn Fn(TableKind, &ColumnId) -> bool,
        rows: &UInt32Array,
    ) -> Result<(Batch, ReadCost), StoreError> {
        let (whole, cost) = self.read(want)?;
        let picked = whole.select(rows).map_err(|_| Damage::Bounds("rows of a frame"))?;
        Ok((picked, cost))
    }
}

/// Rows that lie together: a frame of a segment or block, or a row group of a Parquet file. Cheap to clone; nothing is read
/// until asked for.
#[derive(Clone)]
pub struct Frame(Arc<dyn Unit>);

impl Frame {
    pub(crate) fn new(unit: impl Unit + 'static) -> Frame {
        Frame(Arc::new(unit))
    }

    /// Where the rows lie.
    pub fn tier(&self) -> Tier {
        self.0.tier()
    }

    /// A name that is unique among a tenant's frames of a signal and safe to show to it.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// The signal of the items.
    pub fn signal(&self) -> Signal {
        self.0.signal()
    }

    /// The window that the rows were written to; those that came late are of other times.
    pub fn window(&self) -> Window {
        self.0.window()
    }

    /// What is known without a read.
    pub fn stats(&self) -> &FrameStats {
        self.0.stats()
    }

    /// How many items.
    pub fn rows(&self) -> usize {
        self.0.stats().rows
    }

    /// Rows of a table; 0 where it is absent.
    pub fn table_rows(&self, table: TableKind) -> usize {
        self.0.table_rows(table)
    }

    /// The columns of a table with their statistics; empty where it is absent. Nothing is read.
    pub fn columns(&self, table: TableKind) -> &[ColumnMeta] {
        self.0.columns(table)
    }

    /// `false` only where no span, log record, link or exemplar here has this trace id (QU-2). Reads the filter once.
    pub fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        self.0.may_contain_trace(id)
    }

    /// `false` only where no string attribute of any scope here has this key and exactly this value, nor one of the columns
    /// `name`, `severity_text`, `event_name`, `status_message` under its name as key (QU-2). Reads the filter once.
    pub fn may_contain_token(&self, key: &str, value: &str) -> bool {
        self.0.may_contain_token(key, value)
    }

    /// The wanted columns; indices that hold tables together come always. Tables keep their number of rows even where no
    /// column of theirs is wanted. Blocks on the disk.
    ///
    /// # Errors
    /// `Retry` where the disk fails, `Bug` where bytes are not what was written: then nothing of the frame is returned.
    pub fn read(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> Result<(Batch, ReadCost), StoreError> {
        self.0.read(want)
    }

    /// What [`Frame::read`] of these columns would cost. Nothing is read.
    pub fn cost(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        self.0.cost(want)
    }

    /// The same where the columns are read apart, for few rows or for their values alone: at most so many reads.
    pub fn cost_apart(&self, want: &dyn Fn(TableKind, &ColumnId) -> bool) -> ReadCost {
        self.0.cost_apart(want)
    }

    /// Whether rows can be left out while they are read, so that few cost less than all.
    pub fn skips(&self) -> bool {
        self.0.skips()
    }

    /// As [`Frame::read`], of some rows only: a batch of these alone, with what belongs to them. `rows` ascend and are not none.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// As [`Frame::read`].
    pub fn read_rows(
        &self,
        want: &dyn Fn(TableKind, &ColumnId) -> bool,
        rows: &UInt32Array,
    ) -> Result<(Batch, ReadCost), StoreError> {
        self.0.read_rows(want, rows)
    }

    /// The items that have exactly a value in a column, ascending, where they are found for less than it costs
    /// to read the column, and what that cost; `None` where they are not. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Frame::read`].
    pub fn rows_of(&self, column: &ColumnId, value: Exact<'_>) -> Result<Option<(UInt32Array, ReadCost)>, StoreError> {
        self.0.rows_of(column, value)
    }

    /// Whether [`Frame::values_of`] has an answer, unless bytes are damaged. Nothing is read.
    pub fn tells_values(&self, column: &ColumnId) -> bool {
        self.0.tells_values(column)
    }

    /// The values (texts or ids) that items have in a column, each at least once, where they are known for less than it costs to make
    /// rows of the column, and what that cost; `None` where they are not. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Frame::read`].
    pub fn values_of(&self, column: &ColumnId) -> Result<Option<(ArrayRef, ReadCost)>, StoreError> {
        self.0.values_of(column)
    }

    /// The ids that the items have in a column as numbers of a dictionary, where they are stored so, and what that cost: an id that many
    /// rows have is then looked at once. An id stands in the dictionary once. `None` where it costs no less than the column. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// As [`Frame::read`].
    pub fn numbers_of(&self, column: &ColumnId) -> Result<Option<(Numbered, ReadCost)>, StoreError> {
        self.0.numbers_of(column)
    }

    /// Where the rows came from, without any column.
    pub(crate) fn origins(&self) -> Result<Vec<Origin>, StoreError> {
        self.0.origins()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("name", &self.name()).field("stats", &self.0.stats()).finish_non_exhaustive()
    }
}
