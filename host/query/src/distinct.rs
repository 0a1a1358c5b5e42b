//! Values of all rows of a frame that are only told apart, where its columns tell them: no row is made for them.

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::DataType;
use prism_model::{AttrType, ColumnId, Intrinsic, TableKind};
use prism_store::Frame;

use crate::bind::query::{Plan, Shape};
use crate::cost::add;
use crate::error::QueryError;
use crate::eval::Vals;
use crate::eval::node::{Level, Node};
use crate::eval::vals::Text;
use crate::group::{Accumulator, AccumulatorKind};
use crate::scan::Scan;
use crate::sink::Sink;

/// Adds all rows of a frame to groups by their distinct values; false, and nothing is added, where that does not answer the query.
pub(crate) fn by_values(scan: &Scan, frame: &Frame, sink: &mut Sink) -> Result<bool, QueryError> {
    let Sink::Groups(groups) = sink else { return Ok(false) };
    let Some(asked) = all_asked(&scan.plan, frame) else { return Ok(false) };
    let mut values = Vec::with_capacity(asked.len());
    for column in asked {
        let Some(column) = column else {
            values.push(None);
            continue;
        };
        let Some((array, cost)) = frame.values_of(&column)? else { return Ok(false) };
        scan.counters.read(frame.tier(), cost);
        scan.bytes.read(cost.bytes)?;
        add(&scan.counters.cells, array.len() as u64);
        values.push(Some(match array.data_type() {
            DataType::Utf8 => Vals::of_text(Text::Plain(array.as_string().clone())),
            DataType::FixedSizeBinary(_) => Vals::of_ids(array.as_fixed_size_binary().clone()),
            _ => return Ok(false),
        }));
    }
    add(&scan.counters.rows_matched, frame.rows() as u64);
    groups.add_values(frame.rows(), &values);
    Ok(true)
}

/// Whether columns may answer for all rows of a frame.
pub(crate) fn may_tell(plan: &Plan, frame: &Frame) -> bool {
    all_asked(plan, frame).is_some()
}

/// By accumulator, the column whose distinct values it asks for, and `None` for those that count rows; `None` where some asks for
/// anything else or for what the frame does not tell by value, or none for values.
fn all_asked(plan: &Plan, frame: &Frame) -> Option<Vec<Option<ColumnId>>> {
    let Shape::Groups { spec, .. } = &plan.shape else { return None };
    let plain = plan.level == Level::Row && plan.structure.is_none() && spec.keys.is_empty() && spec.time.is_none();
    let asked: Option<Vec<_>> = spec.accumulators.iter().map(|of| asked(of, plan, frame)).collect();
    let asked = asked.filter(|asked| plain && asked.iter().any(Option::is_some))?;
    // One that does not tell its values would have them all read again.
    asked.iter().flatten().all(|column| frame.tells_values(column)).then_some(asked)
}

/// The column whose distinct values an accumulator asks for, `None` where it counts rows; `None` for any other.
fn asked(accumulator: &Accumulator, plan: &Plan, frame: &Frame) -> Option<Option<ColumnId>> {
    use AccumulatorKind::{Count, Distinct, DistinctExact};
    if accumulator.filter.is_some() || accumulator.plugin.is_some() || accumulator.level != Level::Row {
        return None;
    }
    match (accumulator.kind, &accumulator.arg) {
        (Count, None) => Some(None),
        (Distinct | DistinctExact, Some(Node::Field(field))) => {
            let columns = plan.fields.get(*field)?.plain_columns(frame)?;
            match &columns[..] {
                [(TableKind::Items, column)] if is_kept(column) => Some(Some(column.clone())),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a dictionary may tell the values of a column as rows do.
fn is_kept(column: &ColumnId) -> bool {
    match column {
        ColumnId::Attr { ty, .. } => *ty == AttrType::Str,
        ColumnId::Intrinsic(intrinsic) => *intrinsic == Intrinsic::TraceId,
    }
}
