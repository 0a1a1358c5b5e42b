//! From partial results to the rows of an answer: formulas, `having`, order and limit over groups; columns of the first rows.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::error::ArrowError;

use crate::bind::query::Shape;
use crate::encode;
use crate::error::QueryError;
use crate::eval::builder::ValsBuilder;
use crate::eval::node::Level;
use crate::eval::vals::Scalar;
use crate::eval::{self, Vals};
use crate::group::Groups;
use crate::ran::Ran;
use crate::scan::Scan;
use crate::series::{Grouped, staged};
use crate::sink::frame_and_row;

/// The columns of the answer, and their number of rows.
pub(crate) struct Finished {
    pub(crate) rows: usize,
    pub(crate) columns: Vec<Vals>,
}

/// Finishes what the partitions gave, and those of the earlier range of a comparison. Blocks on the disk for plain rows.
pub(crate) fn finish(ran: &Ran, earlier: Option<&Ran>, fill_rows_max: usize) -> Result<Finished, QueryError> {
    match &ran.scan.plan.shape {
        Shape::Rows => rows(&ran.scan, &ran.parts),
        Shape::Groups { .. } => groups(ran, earlier, fill_rows_max),
    }
}

/// The groups that all partitions of a scan found; `used` bytes of the query's memory are taken already.
fn grouped(ran: &Ran, used: &mut usize) -> Result<Grouped, QueryError> {
    let Shape::Groups { spec, outputs, .. } = &ran.scan.plan.shape else {
        return Err(QueryError::Engine("groups of plain rows".into()));
    };
    let limit = ran.scan.memory_bytes_max;
    let mut groups = Groups::new(spec);
    for part in &ran.parts {
        groups.merge(spec, part)?;
        if *used + groups.bytes() > limit {
            return Err(QueryError::Memory { limit });
        }
    }
    *used += groups.bytes();
    let (rows, columns) = groups.finish(spec, outputs);
    Ok(Grouped { rows, columns })
}

fn groups(ran: &Ran, earlier: Option<&Ran>, fill_rows_max: usize) -> Result<Finished, QueryError> {
    let plan = &ran.scan.plan;
    let Shape::Groups { spec, stage, having, .. } = &plan.shape else {
        return Err(QueryError::Engine("groups of plain rows".into()));
    };
    let mut used = 0;
    let own = grouped(ran, &mut used)?;
    let earlier = earlier.map(|earlier| grouped(earlier, &mut used)).transpose()?;
    let rows = staged(stage, spec.keys.len(), plan.range, own, earlier, fill_rows_max)?;
    let len = rows.rows();
    let mut kept: Vec<u32> = match having {
        Some(having) => eval::mask_at(having, Level::Row, &rows)?.set_indices().map(|i| i as u32).collect(),
        None => (0..len as u32).collect(),
    };
    let keys = plan.order.iter().map(|key| eval::vals_at(&key.node, Level::Row, &rows));
    let keys: Vec<Vals> = keys.collect::<Result<_, _>>()?;
    let mut encoded = Vec::new();
    let mut sorted: Vec<(Vec<u8>, u32)> = kept
        .iter()
        .map(|row| {
            let mut out = Vec::with_capacity(keys.len() * 24);
            for (key, vals) in plan.order.iter().zip(&keys) {
                encoded.clear();
                encode::encode(&vals.get(*row as usize), &mut encoded);
                encode::order_key(&encoded, key.descending, &mut out);
            }
            (out, *row)
        })
        .collect();
    if sorted.len() > plan.limit && plan.limit > 0 {
        // Only the first need to be in order.
        sorted.select_nth_unstable(plan.limit - 1);
    }
    sorted.truncate(plan.limit);
    sorted.sort_unstable();
    kept = sorted.into_iter().map(|(_, row)| row).collect();
    let kept = UInt32Array::from(kept);
    let columns = plan.columns.iter().map(|c| eval::vals_at(&c.node, Level::Row, &rows)?.take(&kept));
    Ok(Finished { rows: kept.len(), columns: columns.collect::<Result<_, ArrowError>>()? })
}

fn rows(scan: &Scan, parts: &[RecordBatch]) -> Result<Finished, QueryError> {
    let mut keys: Vec<&[u8]> = parts.iter().flat_map(|p| p.column(0).as_binary::<i32>().iter().flatten()).collect();
    keys.sort_unstable();
    keys.truncate(scan.plan.limit);
    // Rows of one frame together, each with its place in the answer.
    let mut by_frame: BTreeMap<usize, Vec<(u32, usize)>> = BTreeMap::new();
    for (place, key) in keys.iter().enumerate() {
        if let Some((frame, row)) = frame_and_row(key) {
            by_frame.entry(frame).or_default().push((row, place));
        }
    }
    let mut cells: Vec<Vec<Option<Scalar>>> = vec![vec![None; scan.plan.columns.len()]; keys.len()];
    for (frame, mut rows) in by_frame {
        rows.sort_unstable();
        let numbers = UInt32Array::from_iter_values(rows.iter().map(|(row, _)| *row));
        let Some(columns) = scan.fetch(frame, &numbers)? else { continue };
        for (c, column) in columns.iter().enumerate() {
            for (at, (_, place)) in rows.iter().enumerate() {
                cells[*place][c] = Some(column.get(at));
            }
        }
    }
    // Rows of a frame that could be filtered and then not be read are missing, which the answer says.
    let cells: Vec<Vec<Option<Scalar>>> = cells.into_iter().filter(|row| row.iter().all(Option::is_some)).collect();
    let columns = (0..scan.plan.columns.len()).map(|c| {
        let mut builder = ValsBuilder::new();
        cells.iter().for_each(|row| builder.push(row[c].clone().unwrap_or(Scalar::Null)));
        builder.finish()
    });
    Ok(Finished { rows: cells.len(), columns: columns.collect() })
}
