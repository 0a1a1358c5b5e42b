//! Those cells of a cube that lie in a query's minutes, as rows that stand for many.

use std::ops::Range;
use std::sync::Arc;

use prism_model::window::TimeRange;
use prism_model::{AttrType, Batch, ColumnId, TableKind};
use prism_store::rollup::{self, Cell};

use crate::error::QueryError;
use crate::field::Columns;

/// The cells of a time.
pub(crate) struct Cells {
    known: Arc<rollup::Cells>,
    range: Range<usize>,
    batch: [Batch; 1],
}

impl Cells {
    /// Those of whole minutes within `minutes`.
    pub(crate) fn of(known: Arc<rollup::Cells>, minutes: TimeRange) -> Result<Cells, QueryError> {
        let range = known.within(minutes);
        let batch = [known.rows(range.clone())?];
        Ok(Cells { known, range, batch })
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Their values.
    pub(crate) fn parts(&self) -> &[Batch] {
        &self.batch
    }

    /// The rows that each stands for.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.known.counts()[self.range.clone()]
    }

    /// What else is known of a cell.
    pub(crate) fn get(&self, cell: usize) -> Option<Cell<'_>> {
        self.known.get(self.range.start + cell)
    }
}

impl Columns for Cells {
    fn types(&self, table: TableKind, key: &str) -> Vec<AttrType> {
        let table = self.batch[0].table(table);
        let has = |ty: &AttrType| table.is_some_and(|table| table.column(&ColumnId::attr(key, *ty)).is_some());
        AttrType::ALL.into_iter().filter(has).collect()
    }

    /// Of services alone, which no aggregate over cells asks for one by one.
    fn attributes(&self, _: TableKind) -> Vec<ColumnId> {
        Vec::new()
    }

    fn tail_may_hold(&self, _: &str) -> bool {
        false
    }

    fn negative_durations(&self) -> bool {
        false
    }
}
