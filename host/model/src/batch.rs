//! The tables of one signal that travel together.

use arrow::array::Int64Array;

use crate::column::Intrinsic;
use crate::signal::Signal;
use crate::table::{BadTable, Table, TableKind};

/// What names a request: the hash of its tenant-scoped idempotency key or of its body.
pub type BatchId = [u8; 16];

/// Where a run of rows came from, kept in the same frame as the rows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// The request.
    pub batch_id: BatchId,
    /// First row of the items table that it brought.
    pub first_row: u32,
    /// Rows of the items table that it brought and that were kept.
    pub rows: u32,
    /// Unix nanoseconds at which the request was received.
    pub received_unix_nanos: i64,
    /// What redactors changed in it.
    pub redactions: Vec<Redaction>,
}

/// The redaction record: never the values, only how many of which kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Redaction {
    /// Name of the plugin.
    pub plugin: String,
    /// Its content hash, as hex.
    pub version: String,
    /// The kind of finding, one of the plugin's labels.
    pub label: String,
    /// How many values (distinct ones where the plugin works by value) were changed or cleared.
    pub count: u64,
}

/// The tables of one signal. [`TableKind::Items`] is always there; every index points into its table, and the parents of
/// each child table ascend (in the tail: within [`Intrinsic::Of`], which ascends too).
#[derive(Clone, Debug)]
pub struct Batch {
    /// The signal of the items.
    pub signal: Signal,
    /// Where the rows came from, by ascending first row.
    pub origins: Vec<Origin>,
    tables: Vec<Table>,
}

impl Batch {
    /// A checked batch. Empty tables other than the items are dropped.
    ///
    /// # Errors
    /// [`BadTable`] where an index points outside of its table, or two tables are of one kind.
    pub fn try_new(signal: Signal, origins: Vec<Origin>, mut tables: Vec<Table>) -> Result<Batch, BadTable> {
        tables.retain(|t| t.rows() > 0 || t.kind() == TableKind::Items);
        tables.sort_by_key(Table::kind);
        if let Some(pair) = tables.windows(2).find(|pair| pair[0].kind() == pair[1].kind()) {
            return Err(BadTable::Twice { column: format!("{:?}", pair[0].kind()) });
        }
        if tables.iter().all(|t| t.kind() != TableKind::Items) {
            tables.push(Table::empty(TableKind::Items, 0));
            tables.sort_by_key(Table::kind);
        }
        let batch = Batch { signal, origins, tables };
        batch.check_indices()?;
        Ok(batch)
    }

    /// The items: spans, log records or points.
    pub fn items(&self) -> &Table {
        // `try_new` puts the items in; tables cannot be taken out one by one.
        self.table(TableKind::Items).unwrap_or(&self.tables[0])
    }

    /// How many items.
    pub fn rows(&self) -> usize {
        self.items().rows()
    }

    /// A table; `None` where it has no rows.
    pub fn table(&self, kind: TableKind) -> Option<&Table> {
        self.tables.iter().find(|t| t.kind() == kind)
    }

    /// The tables that have rows (items always), by kind.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Takes the batch apart into its tables, by kind.
    pub fn into_tables(self) -> Vec<Table> {
        self.tables
    }

    /// Bytes of the buffers that the batch holds on to.
    pub fn memory_bytes(&self) -> usize {
        self.tables.iter().map(Table::memory_bytes).sum()
    }

    /// When each item happened, in unix nanoseconds: what windows are cut by and time ranges of queries mean. That is
    /// [`Intrinsic::Time`]; a log record without one counts at its observed time (as the OTLP data model says).
    pub fn event_times(&self) -> Int64Array {
        let column = |id| self.items().intrinsic(id).and_then(|a| a.as_any().downcast_ref::<Int64Array>());
        match (column(Intrinsic::Time), column(Intrinsic::ObservedTime)) {
            (Some(time), Some(observed)) if self.signal == Signal::Logs => {
                let pairs = time.values().iter().zip(observed.values());
                Int64Array::from_iter_values(pairs.map(|(t, o)| if *t == 0 { *o } else { *t }))
            }
            (None, Some(observed)) if self.signal == Signal::Logs => observed.clone(),
            (Some(time), _) => time.clone(),
            (None, _) => Int64Array::from_value(0, self.rows()),
        }
    }

    fn check_indices(&self) -> Result<(), BadTable> {
        let rows_of = |kind| self.table(kind).map_or(0, Table::rows);
        let interned = [
            (Intrinsic::Resource, TableKind::Resources),
            (Intrinsic::Scope, TableKind::Scopes),
            (Intrinsic::Metric, TableKind::Descriptors),
        ];
        for (column, target) in interned {
            check_index(self.items(), column, rows_of(target))?;
        }
        check_parents(self.table(TableKind::Events), rows_of(TableKind::Items))?;
        check_parents(self.table(TableKind::Links), rows_of(TableKind::Items))?;
        check_parents(self.table(TableKind::Exemplars), rows_of(TableKind::Items))?;
        let Some(tail) = self.table(TableKind::Tail) else { return Ok(()) };
        let of = tail.intrinsic(Intrinsic::Of).and_then(|a| a.as_any().downcast_ref::<arrow::array::UInt8Array>());
        let missing = || BadTable::Dangling { column: "tail".into(), row: 0, rows: 0 };
        let (Some(of), Some(parents)) = (of, tail.index(Intrinsic::Parent)) else { return Err(missing()) };
        let mut previous = (0u8, 0u32);
        for (&of, &row) in of.values().iter().zip(parents.values()) {
            let rows = TableKind::from_u8(of).filter(|k| *k != TableKind::Tail).map_or(0, rows_of);
            if row as usize >= rows || (of, row) < previous {
                return Err(BadTable::Dangling { column: "tail.parent".into(), row, rows });
            }
            previous = (of, row);
        }
        Ok(())
    }
}

fn check_index(table: &Table, column: Intrinsic, rows: usize) -> Result<(), BadTable> {
    let Some(index) = table.index(column) else {
        // Absent means row 0 of a table that must then have one, or no such table at all (metrics descriptors of spans).
        return Ok(());
    };
    match index.values().iter().find(|&&row| row as usize >= rows) {
        Some(&row) => Err(BadTable::Dangling { column: column.name().into(), row, rows }),
        None => Ok(()),
    }
}

fn check_parents(table: Option<&Table>, rows: usize) -> Result<(), BadTable> {
    let Some(table) = table else { return Ok(()) };
    let dangling = |row| BadTable::Dangling { column: format!("{:?}.parent", table.kind()), row, rows };
    let parents = table.index(Intrinsic::Parent).ok_or_else(|| dangling(0))?;
    let mut previous = 0;
    for &row in parents.values() {
        if row as usize >= rows || row < previous {
            return Err(dangling(row));
        }
        previous = row;
    }
    Ok(())
}

/// A batch that the tenant's whole plugin chain has seen: the only kind that the store appends.
///
/// Only the plugin chain makes one ([`Cleared::by_plugin_chain`] is forbidden elsewhere by clippy): that is how "no row
/// reaches disk unredacted" (PL-1) is kept by the compiler rather than by care.
#[derive(Clone, Debug)]
pub struct Cleared(Batch);

impl Cleared {
    /// For `prism-plugin`'s chain alone, when every bound plugin has run.
    pub fn by_plugin_chain(batch: Batch) -> Cleared {
        Cleared(batch)
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        &self.0
    }

    /// The batch.
    pub fn into_batch(self) -> Batch {
        self.0
    }

    /// The rows of all batches, which are of one signal, in their order.
    ///
    /// # Errors
    /// [`crate::reshape::ReshapeError`] where there is no batch, or a text column would pass 2 GiB.
    pub fn joined(batches: Vec<Cleared>) -> Result<Cleared, crate::reshape::ReshapeError> {
        let batches: Vec<Batch> = batches.into_iter().map(Cleared::into_batch).collect();
        Batch::concat(&batches).map(Cleared)
    }

    /// The same rows in another arrangement. The function may reorder, split and join rows; it must not add any, which the
    /// count checks.
    ///
    /// # Panics
    /// When the number of rows differs: the caller has a bug that would lose or invent rows.
    pub fn rearranged(self, by: impl FnOnce(Batch) -> Vec<Batch>) -> Vec<Cleared> {
        let rows = self.0.rows();
        let parts = by(self.0);
        assert_eq!(rows, parts.iter().map(Batch::rows).sum::<usize>(), "rearranging must keep every row");
        parts.into_iter().map(Cleared).collect()
    }
}
