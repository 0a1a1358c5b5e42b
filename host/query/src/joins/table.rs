//! The groups of a joined signal, by their keys.

use std::collections::HashMap;

use arrow::array::{Array, UInt32Array};
use arrow::error::ArrowError;
use datafusion::execution::memory_pool::MemoryReservation;
use prism_store::Frame;

use crate::bind::query::Shape;
use crate::encode;
use crate::error::QueryError;
use crate::eval::node::Level;
use crate::eval::vals::Scalar;
use crate::eval::{self, Vals};
use crate::finish::grouped;
use crate::ran::Ran;
use crate::series::staged;
use crate::types;

/// Groups of joined rows, each under its keys.
#[derive(Debug)]
pub(crate) struct Joined {
    rows: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    columns: Vec<Vals>,
    types: Vec<Option<&'static str>>,
    /// The trace ids, where they are the only key.
    traces: Option<Vec<[u8; 16]>>,
    /// Its share of the query's memory.
    _memory: MemoryReservation,
}

impl Joined {
    /// The groups that a scan found. `trace`: the only key is the trace id.
    ///
    /// # Errors
    /// `Fix` where they need more memory than the query has left.
    pub(crate) fn of(
        ran: &Ran,
        trace: bool,
        memory: MemoryReservation,
        fill_rows_max: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Joined, QueryError> {
        let plan = &ran.scan.plan;
        let bug = || QueryError::Engine("a join without groups".into());
        let Shape::Groups { spec, stage, .. } = &plan.shape else { return Err(bug()) };
        let limit = ran.scan.memory_bytes_max;
        let mut used = 0;
        let groups = grouped(std::slice::from_ref(ran), &mut used, fill_rows_max, warnings)?.ok_or_else(bug)?;
        // Keys, their table and the columns, beside the groups that they were made of.
        memory.try_resize(used.saturating_mul(2)).map_err(|_| QueryError::Memory { limit })?;
        let keys = spec.keys.len();
        let found = staged(stage, keys, plan.range, groups, None, fill_rows_max)?;
        let values = |column: &crate::bind::query::OutputColumn| eval::vals_at(&column.node, Level::Row, &found);
        let all: Vec<Vals> = plan.columns.iter().map(values).collect::<Result<_, ArrowError>>()?;
        let (of_keys, columns) = all.split_at(keys);
        let ty =
            |column: &crate::bind::query::OutputColumn| types::of_column(plan, &ran.scan.frames, &[], &column.node);
        let mut rows: HashMap<Box<[u8]>, u32, _> = HashMap::default();
        let mut key = Vec::new();
        for row in 0..found.rows() {
            if put_all(of_keys, row, &mut key) {
                rows.insert(key.as_slice().into(), row as u32);
            }
        }
        Ok(Joined {
            traces: trace.then(|| rows.keys().filter_map(|key| key.last_chunk::<16>().copied()).collect()),
            rows,
            columns: columns.to_vec(),
            types: plan.columns.iter().skip(keys).map(ty).collect(),
            _memory: memory,
        })
    }

    /// A column's values under some keys; missing where nothing has them.
    pub(crate) fn values(&self, output: usize, keys: &[Vals], len: usize) -> Result<Vals, ArrowError> {
        let mut key = Vec::new();
        let mut row_of =
            |row: usize| put_all(keys, row, &mut key).then(|| self.rows.get(key.as_slice()).copied()).flatten();
        let rows: UInt32Array = (0..len).map(&mut row_of).collect();
        self.columns.get(output).map_or_else(|| Ok(Vals::nulls(len)), |column| column.take(&rows))
    }

    /// The type of a column, where it is known without a value.
    pub(crate) fn type_of(&self, output: usize) -> Option<&'static str> {
        self.types.get(output).copied().flatten()
    }

    /// Whether a frame may have rows that something is joined to (QU-2).
    pub(crate) fn may_touch(&self, frame: &Frame) -> bool {
        self.traces.as_ref().is_none_or(|traces| traces.iter().any(|id| frame.may_contain_trace(id)))
    }
}

/// Writes the keys of a row one after the other; `false` where one is missing, which nothing is joined to.
fn put_all(keys: &[Vals], row: usize, out: &mut Vec<u8>) -> bool {
    out.clear();
    keys.iter().all(|key| put(key, row, out))
}

fn put(key: &Vals, row: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend([0; 4]);
    match (&key.id, key.kinds()) {
        (Some(ids), 1) if ids.is_valid(row) => encode::id(ids.value(row), out),
        (Some(_), 1) => {}
        _ => match key.get(row) {
            // Numbers are equal across int and double.
            Scalar::Double(d) if d.fract() == 0.0 && d.abs() < 9e15 => encode::int(d as i64, out),
            other => encode::encode(&other, out),
        },
    }
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    len > 0
}
