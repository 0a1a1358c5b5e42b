//! Traces beside typical values: an even sample of the rows, which does not depend on the order in which they come, and of it
//! the middle of as many equal parts.

use prism_model::Value;

use super::kept::{Kept, KeptRows, Number, id, int, word};
use super::{Accumulator, GroupSpec, Output};
use crate::eval::node::Unit;
use crate::eval::vals::Scalar;
use crate::show;

/// Rows that a sample keeps, so that a quarter is told from a half whatever the number of rows.
const SAMPLE: usize = 128;

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Rows with the least hashes are the sample.
    hash: u64,
    value: Number,
    time: i64,
    trace: [u8; 16],
    span: [u8; 8],
}

/// Of each group a sample of its rows.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Vec<Vec<Row>>);

fn reduce(rows: &mut Vec<Row>) {
    rows.sort_unstable_by(|a, b| {
        a.hash.cmp(&b.hash).then_with(|| a.value.order(b.value)).then_with(|| (a.trace, a.span).cmp(&(b.trace, b.span)))
    });
    rows.truncate(SAMPLE);
}

fn push(rows: &mut Vec<Row>, row: Row) {
    rows.push(row);
    if rows.len() >= 2 * SAMPLE {
        reduce(rows);
    }
}

impl Kept for Exemplars {
    fn grow(&mut self, groups: usize) {
        self.0.resize(groups, Vec::new());
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|rows| rows.capacity() * size_of::<Row>() + 24).sum()
    }

    fn add(&mut self, rows: &KeptRows<'_>) {
        let Some(arg) = rows.arg else { return };
        rows.each(true, |group, row| {
            let (Some(value), Some(trace)) = (Number::of(arg, row), id::<16>(rows.beside(0), row)) else { return };
            if trace == [0; 16] {
                return;
            }
            let span = id::<8>(rows.beside(1), row).unwrap_or_default();
            // An exemplar has a time of its own.
            let own = rows.beside(2).and_then(|times| int(times, row)).filter(|time| *time != 0);
            let time = own.or_else(|| rows.time(row)).unwrap_or(0);
            let mut bytes = Vec::with_capacity(48);
            bytes.extend(trace);
            bytes.extend(span);
            bytes.extend(time.to_le_bytes());
            value.write(&mut bytes);
            push(&mut self.0[group], Row { hash: xxhash_rust::xxh3::xxh3_64(&bytes), value, time, trace, span });
        });
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        let mut rows = self.0[group].clone();
        reduce(&mut rows);
        for row in rows {
            out.extend(row.hash.to_le_bytes());
            row.value.write(out);
            out.extend(row.time.to_le_bytes());
            out.extend(row.trace);
            out.extend(row.span);
        }
    }

    fn merge(&mut self, group: usize, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let (hash, value) = (word(&mut bytes)?, Number::read(&mut bytes)?);
            let time = word(&mut bytes)? as i64;
            let (trace, rest) = bytes.split_first_chunk::<16>()?;
            let (span, rest) = rest.split_first_chunk::<8>()?;
            bytes = rest;
            push(&mut self.0[group], Row { hash, value, time, trace: *trace, span: *span });
        }
        Some(())
    }

    fn outputs(&self, output: Output, of: &Accumulator, _: &GroupSpec) -> Vec<Scalar> {
        let Output::Exemplars(n) = output else { return vec![Scalar::Null; self.0.len()] };
        self.0.iter().map(|rows| typical(rows, n, of.unit)).collect()
    }
}

/// `[{"value": …, "trace_id": …, "span_id": …, "time": …}, …]`, least value first.
fn typical(rows: &[Row], n: usize, unit: Unit) -> Scalar {
    let mut rows = rows.to_vec();
    reduce(&mut rows);
    if rows.is_empty() {
        return Scalar::Null;
    }
    rows.sort_by(|a, b| a.value.order(b.value).then_with(|| a.hash.cmp(&b.hash)));
    let n = n.min(rows.len());
    let item = |i: usize| {
        let row = &rows[(2 * i + 1) * rows.len() / (2 * n)];
        let value = match (row.value, unit) {
            (Number::Int(int), Unit::Time) => Value::Str(show::time(int)),
            (Number::Int(int), _) => Value::Int(int),
            (Number::Double(double), _) => Value::Double(double),
        };
        let mut entries = vec![("value".into(), value), ("trace_id".into(), Value::Str(hex::encode(row.trace)))];
        if row.span != [0; 8] {
            entries.push(("span_id".into(), Value::Str(hex::encode(row.span))));
        }
        entries.push(("time".into(), Value::Str(show::time(row.time))));
        Value::Map(entries)
    };
    Scalar::Json(Value::Array((0..n).map(item).collect()).to_text())
}
