//! Rows as text, the same in whatever tier they were read.

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, UInt8Type};
use prism_model::{Batch, Column, Intrinsic, Table, TableKind, samples};

/// The order of an attribute list carries no meaning: the tail's rows of one owner, sorted.
fn ordered(batch: &Batch) -> Batch {
    let Some(tail) = batch.table(TableKind::Tail) else { return batch.clone() };
    let plain = |i: Intrinsic| cast(tail.intrinsic(i).unwrap(), &DataType::Utf8).unwrap();
    let (keys, values) = (plain(Intrinsic::Key), plain(Intrinsic::Value));
    let of = tail.intrinsic(Intrinsic::Of).unwrap().as_primitive::<UInt8Type>();
    let parents = tail.index(Intrinsic::Parent).unwrap();
    let mut order: Vec<u32> = (0..tail.rows() as u32).collect();
    order.sort_by_key(|&i| {
        let i = i as usize;
        let text = |a: &ArrayRef| a.as_string::<i32>().value(i).to_owned();
        (of.value(i), parents.value(i), text(&keys), text(&values))
    });
    let order = UInt32Array::from(order);
    let columns =
        tail.columns().iter().map(|c| Column { id: c.id.clone(), array: take(&c.array, &order, None).unwrap() });
    let sorted = Table::try_new(TableKind::Tail, tail.rows(), columns.collect()).unwrap();
    let mut tables: Vec<Table> = batch.tables().iter().filter(|t| t.kind() != TableKind::Tail).cloned().collect();
    tables.push(sorted);
    Batch::try_new(batch.signal, batch.origins.clone(), tables).unwrap()
}

/// Each row as text.
pub fn texts(batch: &Batch) -> Vec<String> {
    samples::texts(&ordered(batch))
}
