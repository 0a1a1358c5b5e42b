//! A batch as a guest sees it: whole Arrow buffers, only of what was asked for, and the way back from each entry.
//!
//! ```text
//! sources -> entries (values, cut into calls) \
//! batch + sources -> rows (tables with keys)   -> View -> borrowed WIT batch
//! ```

use std::sync::Arc;

use arrow::buffer::{Buffer, ScalarBuffer};
use prism_model::Signal;

use crate::bindings::base::{self, Dtype, Place, Role};
use crate::bindings::{batches, columns};

/// What a call shows.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) fields: Vec<Field>,
    pub(crate) tables: Vec<ViewTable>,
}

/// See `field` in the contract.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) need: u32,
    pub(crate) place: Option<Place>,
    pub(crate) role: Role,
    pub(crate) name: Arc<str>,
    pub(crate) dtype: Dtype,
}

/// See `table` in the contract.
pub(crate) struct ViewTable {
    pub(crate) kind: batches::TableKind,
    pub(crate) of: Place,
    pub(crate) rows: usize,
    pub(crate) parents: Option<ScalarBuffer<u32>>,
    pub(crate) columns: Vec<ViewColumn>,
}

/// See `column` in the contract.
pub(crate) struct ViewColumn {
    pub(crate) field: u32,
    pub(crate) validity: Option<Buffer>,
    pub(crate) keys: Option<ScalarBuffer<u32>>,
    pub(crate) values: Values,
    /// How many entries the values have.
    pub(crate) entries: usize,
    /// Where the entries come from, ascending; empty where they cannot be edited.
    pub(crate) back: Vec<Segment>,
}

/// Entries from `start` on stand for entries of a source.
pub(crate) struct Segment {
    pub(crate) start: u32,
    pub(crate) source: u32,
    pub(crate) map: Map,
}

/// Which entries of the source.
pub(crate) enum Map {
    /// These and the following.
    Run(u32),
    /// These.
    List(Vec<u32>),
}

impl ViewColumn {
    /// The source and entry behind an entry of the column.
    pub(crate) fn origin(&self, entry: u32) -> Option<(u32, u32)> {
        let segment = &self.back[self.back.partition_point(|s| s.start <= entry).checked_sub(1)?];
        let within = entry - segment.start;
        match &segment.map {
            Map::Run(first) => Some((segment.source, first + within)),
            Map::List(list) => Some((segment.source, *list.get(within as usize)?)),
        }
    }
}

/// The values of a column, in Arrow buffers.
pub(crate) enum Values {
    Bools(Buffer),
    I32(ScalarBuffer<i32>),
    U32(ScalarBuffer<u32>),
    I64(ScalarBuffer<i64>),
    F64(ScalarBuffer<f64>),
    Utf8(ScalarBuffer<u32>, Buffer),
    Binary(ScalarBuffer<u32>, Buffer),
    Fixed(u32, Buffer),
}

impl Values {
    pub(crate) fn lower(&self) -> columns::ValuesParam<'_> {
        use columns::ValuesParam as P;
        let bytes = |offsets, data| columns::BytesColParam { offsets, data };
        match self {
            Values::Bools(bits) => P::Bools(bits),
            Values::I32(v) => P::S32s(v),
            Values::U32(v) => P::U32s(v),
            Values::I64(v) => P::S64s(v),
            Values::F64(v) => P::F64s(v),
            Values::Utf8(offsets, data) => P::Utf8(bytes(offsets, data)),
            Values::Binary(offsets, data) => P::Binary(bytes(offsets, data)),
            Values::Fixed(width, data) => P::Fixed(columns::FixedColParam { width: *width, data }),
        }
    }
}

impl View {
    /// Calls `then` with the borrowed form.
    pub(crate) fn with<R>(&self, signal: Signal, then: impl FnOnce(batches::Batch<'_>) -> R) -> R {
        let fields: Vec<batches::FieldParam<'_>> = self
            .fields
            .iter()
            .map(|f| batches::FieldParam { need: f.need, place: f.place, role: f.role, name: &f.name, dtype: f.dtype })
            .collect();
        let columns: Vec<Vec<batches::Column<'_>>> = self
            .tables
            .iter()
            .map(|t| {
                t.columns
                    .iter()
                    .map(|c| batches::Column {
                        field: c.field,
                        validity: c.validity.as_deref(),
                        keys: c.keys.as_deref(),
                        values: c.values.lower(),
                    })
                    .collect()
            })
            .collect();
        let tables: Vec<batches::Table<'_>> = self
            .tables
            .iter()
            .zip(&columns)
            .map(|(t, columns)| batches::Table {
                kind: t.kind,
                of: t.of,
                rows: t.rows as u32,
                parents: t.parents.as_deref(),
                columns,
            })
            .collect();
        let signal = match signal {
            Signal::Spans => base::Signal::Spans,
            Signal::Logs => base::Signal::Logs,
            Signal::Metrics => base::Signal::Metrics,
        };
        then(batches::Batch { signal, fields: &fields, tables: &tables })
    }

    pub(crate) fn field(&mut self, field: Field) -> u32 {
        self.fields.push(field);
        self.fields.len() as u32 - 1
    }
}
