//! What the rows of a partition become: groups, or the first rows of an order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, BinaryArray, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;

use crate::bind::query::{Plan, Shape};
use crate::encode;
use crate::error::QueryError;
use crate::eval::node::{Level, Node};
use crate::eval::{self, Rows};
use crate::first::First;
use crate::frame::FrameRows;
use crate::group::{Groups, Many};
use crate::scan::Scan;

/// What the rows become.
pub(crate) enum Sink {
    Groups(Groups),
    First(First),
}

impl Sink {
    pub(crate) fn new(plan: &Plan) -> Sink {
        match &plan.shape {
            Shape::Groups { spec, .. } => Sink::Groups(Groups::new(spec)),
            Shape::Rows => Sink::First(First::new(plan.limit, plan.after.as_ref().map(|after| after.key.clone()))),
        }
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Sink::Groups(groups) => groups.bytes(),
            Sink::First(first) => first.bytes(),
        }
    }

    /// What is evaluated for each row.
    pub(crate) fn nodes<'p>(&self, plan: &'p Plan) -> Box<dyn Iterator<Item = &'p Node> + 'p> {
        match &plan.shape {
            Shape::Groups { spec, .. } => Box::new(spec.nodes()),
            Shape::Rows => Box::new(plan.order.iter().map(|key| &key.node)),
        }
    }

    /// Adds the rows of a frame; `selection` are their numbers in it.
    pub(crate) fn add(
        &mut self,
        scan: &Scan,
        number: usize,
        rows: &FrameRows<'_>,
        selection: Option<&UInt32Array>,
    ) -> Result<(), QueryError> {
        match (self, &scan.plan.shape) {
            (Sink::Groups(groups), Shape::Groups { spec, .. }) => Ok(groups.add(spec, rows, None)?),
            (Sink::First(kept), _) if !kept.is_closed() => {
                let keys = scan.plan.order.iter().map(|key| eval::vals_at(&key.node, Level::Row, rows));
                let keys: Vec<eval::Vals> = keys.collect::<Result<_, _>>()?;
                let firsts = keys.first().and_then(|k| k.int.as_ref());
                let descending = scan.plan.order.first().is_some_and(|key| key.descending);
                let worse = |a: i64, b: i64| if descending { a < b } else { a > b };
                let mut key = Vec::with_capacity(keys.len() * 24 + 8);
                for at in 0..rows.len(Level::Row) {
                    let first = firsts.filter(|f| f.is_valid(at)).map(|f| f.value(at));
                    // Most rows are told by the first key alone: by what another partition found, or this one.
                    let bound = scan.bound.as_ref().map(|b| b.time.load(Ordering::Relaxed));
                    let own = kept.worst();
                    if first.is_some_and(|first| bound.into_iter().chain(own).any(|best| worse(first, best))) {
                        continue;
                    }
                    let row = selection.map_or(at as u32, |s| s.value(at));
                    row_key(&scan.plan, &keys, at, &mut key);
                    kept.add(&key, first, (number as u32, row));
                    if let (Some(bound), Some(worst)) = (&scan.bound, kept.worst()) {
                        // The last of this partition's first rows bounds those of all.
                        if bound.descending {
                            bound.time.fetch_max(worst, Ordering::Relaxed);
                        } else {
                            bound.time.fetch_min(worst, Ordering::Relaxed);
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Adds rows that each stand for many.
    pub(crate) fn add_many(&mut self, plan: &Plan, rows: &FrameRows<'_>, many: &Many<'_>) -> Result<(), QueryError> {
        match (self, &plan.shape) {
            (Sink::Groups(groups), Shape::Groups { spec, .. }) => Ok(groups.add(spec, rows, Some(many))?),
            _ => Err(QueryError::Engine("plain rows of a rollup".into())),
        }
    }

    /// The form in which they go on.
    pub(crate) fn into_batch(self, plan: &Plan, schema: SchemaRef) -> Result<RecordBatch, QueryError> {
        match (self, &plan.shape) {
            (Sink::Groups(groups), Shape::Groups { spec, .. }) => Ok(groups.into_batch(spec)?),
            (Sink::First(first), _) => {
                let keys = BinaryArray::from_iter_values(first.into_keys());
                Ok(RecordBatch::try_new(schema, vec![Arc::new(keys)])?)
            }
            (Sink::Groups(_), Shape::Rows) => Err(QueryError::Engine("groups of plain rows".into())),
        }
    }
}

/// The order of a row as bytes.
fn row_key(plan: &Plan, keys: &[eval::Vals], at: usize, out: &mut Vec<u8>) {
    out.clear();
    let mut encoded = Vec::new();
    for (key, vals) in plan.order.iter().zip(keys) {
        encoded.clear();
        encode::encode(&vals.get(at), &mut encoded);
        encode::order_key(&encoded, key.descending, out);
    }
}
