//! From partial results to the rows of an answer: formulas, `having`, order and limit over groups; columns of the first rows.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array as _, AsArray, BinaryArray, Int64Array, RecordBatch, UInt32Array};
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_128;

use crate::bind::query::{Plan, Shape};
use crate::cursor::After;
use crate::encode;
use crate::error::QueryError;
use crate::eval::builder::ValsBuilder;
use crate::eval::node::Level;
use crate::eval::vals::Scalar;
use crate::eval::{self, Vals};
use crate::first::{ALIKE_MAX, MORE, PLACE_BYTES, parts as parts_of};
use crate::group::Groups;
use crate::ran::Ran;
use crate::series::{Grouped, staged};

/// So many keys are kept before those that are not needed are looked for.
const FIRSTS_MIN: usize = 1_024;

/// The columns of the answer, and their number of rows.
pub(crate) struct Finished {
    pub(crate) rows: usize,
    pub(crate) columns: Vec<Vals>,
    /// What should be known about rows that are in no column.
    pub(crate) warnings: Vec<String>,
    /// The last row, where more follow.
    pub(crate) next: Option<After>,
}

/// Finishes what the partitions of one scan gave, or of several whose plans stand beside each other, and those of the earlier
/// range of a comparison. Blocks on the disk for plain rows.
pub(crate) fn finish(ran: &[Ran], earlier: &[Ran], fill_rows_max: usize) -> Result<Finished, QueryError> {
    let Some(Ran { scan: first, .. }) = ran.first() else { return Err(QueryError::Engine("no scan was run".into())) };
    match &first.plan.shape {
        Shape::Rows => rows(ran),
        Shape::Groups { .. } => groups(&first.plan, ran, earlier, fill_rows_max),
    }
}

/// The rows that a scan found for an answer, frame by frame, ascending: also those of which what they show tells whether they are
/// in it.
pub(crate) fn places(ran: &Ran) -> Vec<(usize, UInt32Array)> {
    let parts: Vec<BinaryArray> = ran.parts.iter().map(|part| part.column(0).as_binary::<i32>().clone()).collect();
    let places = parts.iter().flat_map(|keys| keys.iter().flatten()).filter_map(parts_of).map(|(_, place)| place);
    let mut by_frame: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (frame, row) in places.filter(|place| *place != MORE) {
        by_frame.entry(frame as usize).or_default().push(row);
    }
    let ascending = |(frame, mut rows): (usize, Vec<u32>)| {
        rows.sort_unstable();
        (frame, UInt32Array::from(rows))
    };
    by_frame.into_iter().map(ascending).collect()
}

/// The groups that all partitions of some scans found; `used` bytes of the query's memory are taken already.
pub(crate) fn grouped(
    ran: &[Ran],
    used: &mut usize,
    fill_rows_max: usize,
    warnings: &mut Vec<String>,
) -> Result<Option<Grouped>, QueryError> {
    let Some(Ran { scan: first, .. }) = ran.first() else { return Ok(None) };
    let Shape::Groups { spec, outputs, .. } = &first.plan.shape else {
        return Err(QueryError::Engine("groups of plain rows".into()));
    };
    let joined = || first.joined.iter().map(|joined| joined.get().cloned()).collect();
    if ran.iter().all(|ran| ran.parts.is_empty()) {
        // Only explained: nothing was read, and no guest is asked about it.
        let columns = vec![Vals::nulls(0); spec.keys.len() + outputs.len()];
        return Ok(Some(Grouped { rows: 0, columns, joined: joined() }));
    }
    let limit = first.memory_bytes_max;
    let mut firsts = ran.iter().filter_map(|ran| ran.scan.take_first());
    let mut groups = firsts.next().unwrap_or_else(|| Groups::new(spec));
    let others = firsts.map(|first| first.into_batch(spec)).collect::<Result<Vec<_>, _>>()?;
    for part in ran.iter().flat_map(|ran| &ran.parts).chain(&others) {
        groups.merge(spec, part)?;
        if *used + groups.bytes() > limit {
            return Err(QueryError::Memory { limit });
        }
    }
    *used += groups.bytes();
    warnings.extend(groups.warnings());
    let limit = fill_rows_max;
    let (rows, columns) = groups.finish(spec, outputs, limit)?.ok_or(QueryError::FillRows { limit })?;
    Ok(Some(Grouped { rows, columns, joined: joined() }))
}

fn groups(plan: &Plan, ran: &[Ran], earlier: &[Ran], fill_rows_max: usize) -> Result<Finished, QueryError> {
    let Shape::Groups { spec, stage, having, .. } = &plan.shape else {
        return Err(QueryError::Engine("groups of plain rows".into()));
    };
    let (mut used, mut warnings) = (0, Vec::new());
    let mut of = |ran: &[Ran]| grouped(ran, &mut used, fill_rows_max, &mut warnings);
    let no_scan = || QueryError::Engine("no scan was run".into());
    let own = of(ran)?.ok_or_else(no_scan)?;
    let earlier = of(earlier)?;
    let rows = staged(stage, spec.keys.len(), plan.range, own, earlier, fill_rows_max)?;
    let len = rows.rows();
    let kept: Vec<u32> = match having {
        Some(having) => eval::mask_at(having, Level::Row, &rows)?.set_indices().map(|i| i as u32).collect(),
        None => (0..len as u32).collect(),
    };
    let keys = plan.order.iter().map(|key| eval::vals_at(&key.node, Level::Row, &rows));
    let keys: Vec<Vals> = keys.collect::<Result<_, _>>()?;
    let (mut encoded, mut order) = (Vec::new(), Vec::new());
    let mut firsts = Firsts::new(plan.limit);
    // Most rows are told by the first key alone.
    let last = last_of(&kept, plan, &keys);
    for row in kept {
        if let Some((ints, last, descending)) = &last
            && beyond(ints.value(row as usize), *last, *descending)
        {
            firsts.seen += 1;
            continue;
        }
        order.clear();
        for (key, vals) in plan.order.iter().zip(&keys) {
            encoded.clear();
            encode::encode(&vals.get(row as usize), &mut encoded);
            encode::order_key(&encoded, key.descending, &mut order);
        }
        if plan.after.as_ref().is_none_or(|after| order > after.key) {
            firsts.offer(&order, row);
        }
    }
    let more = firsts.seen > plan.limit;
    let sorted = firsts.finish();
    let last = sorted.last().filter(|_| more);
    let next = last.map(|(key, _)| After { key: key.clone(), ..After::default() });
    let kept: Vec<u32> = sorted.into_iter().map(|(_, row)| row).collect();
    let kept = UInt32Array::from(kept);
    let columns = plan.columns.iter().map(|c| eval::vals_at(&c.node, Level::Row, &rows)?.take(&kept));
    Ok(Finished { rows: kept.len(), columns: columns.collect::<Result<_, ArrowError>>()?, warnings, next })
}

/// The first key of an order where it is a number that all rows have, its value in the last of the first rows, and whether it
/// descends; `None` where few rows would be told by it.
fn last_of<'k>(rows: &[u32], plan: &Plan, keys: &'k [Vals]) -> Option<(&'k Int64Array, i64, bool)> {
    let (ints, order) = (keys.first()?.int.as_ref()?, plan.order.first()?);
    if plan.after.is_some() || keys.first()?.kinds() > 1 || ints.null_count() > 0 || rows.len() / 4 <= plan.limit {
        return None;
    }
    let mut values: Vec<i64> = rows.iter().map(|row| ints.value(*row as usize)).collect();
    let place = plan.limit.checked_sub(1)?;
    let (_, last, _) = values.select_nth_unstable_by(place, |a, b| if order.descending { b.cmp(a) } else { a.cmp(b) });
    Some((ints, *last, order.descending))
}

fn beyond(value: i64, last: i64, descending: bool) -> bool {
    if descending { value < last } else { value > last }
}

/// The first rows of an order, of any number: keys of others are not kept.
struct Firsts {
    limit: usize,
    seen: usize,
    rows: Vec<(Vec<u8>, u32)>,
    /// None of those behind it is among the first.
    last: Option<(Vec<u8>, u32)>,
}

impl Firsts {
    fn new(limit: usize) -> Firsts {
        Firsts { limit, seen: 0, rows: Vec::new(), last: None }
    }

    fn offer(&mut self, key: &[u8], row: u32) {
        self.seen += 1;
        if self.last.as_ref().is_some_and(|(last, at)| (key, row) > (&last[..], *at)) {
            return;
        }
        self.rows.push((key.to_vec(), row));
        if self.rows.len() >= self.limit.saturating_mul(2).max(FIRSTS_MIN) {
            self.cut();
            self.last = self.rows.iter().max().cloned();
        }
    }

    fn cut(&mut self) {
        if self.rows.len() > self.limit {
            if let Some(last) = self.limit.checked_sub(1) {
                self.rows.select_nth_unstable(last);
            }
            self.rows.truncate(self.limit);
        }
    }

    /// In their order.
    fn finish(mut self) -> Vec<(Vec<u8>, u32)> {
        self.cut();
        self.rows.sort_unstable();
        self.rows
    }
}

fn rows(ran: &[Ran]) -> Result<Finished, QueryError> {
    let Some(first) = ran.first().map(|ran| &ran.scan.plan) else { return Err(QueryError::Engine("no scan".into())) };
    let keys_of = |part: &RecordBatch| part.column(0).as_binary::<i32>().clone();
    let parts: Vec<(usize, BinaryArray)> =
        ran.iter().enumerate().flat_map(|(n, ran)| ran.parts.iter().map(move |part| (n, keys_of(part)))).collect();
    let mut keys: Vec<(&[u8], usize)> =
        parts.iter().flat_map(|(n, keys)| keys.iter().flatten().map(|key| (key, *n))).collect();
    keys.sort_unstable();
    let order = |key: &[u8]| key.len().saturating_sub(PLACE_BYTES);
    let left_out = keep_first_alike(&mut keys, ALIKE_MAX);
    let cut = |at: usize| keys.get(at).map(|(key, _)| &key[..order(key)]);
    // Rows where the page before ended: some of them were given.
    let given =
        first.after.as_ref().map_or(0, |after| keys.partition_point(|(key, _)| key[..order(key)] <= after.key[..]));
    // Which of the rows that are alike in the order come first is told by what they show.
    let last = cut((given + first.limit).saturating_sub(1)).map(<[u8]>::to_vec);
    let wanted = last.as_deref().map_or(keys.len(), |last| keys.partition_point(|(key, _)| &key[..order(key)] <= last));
    let more_behind = keys.len() > wanted;
    let lost = first.limit > 0 && left_out.iter().any(|of| last.as_deref().is_none_or(|last| *of <= last));
    keys.truncate(if first.limit == 0 { 0 } else { wanted });
    // Rows of one frame together, each with its place in the answer.
    let mut by_frame: BTreeMap<(usize, usize), Vec<(u32, usize)>> = BTreeMap::new();
    for (place, (key, scan)) in keys.iter().enumerate() {
        if let Some((_, (frame, row))) = parts_of(key) {
            by_frame.entry((*scan, frame as usize)).or_default().push((row, place));
        }
    }
    let width = first.columns.len();
    let mut cells: Vec<Vec<Option<Scalar>>> = vec![vec![None; width]; keys.len()];
    for ((scan, frame), mut rows) in by_frame {
        rows.sort_unstable();
        let numbers = UInt32Array::from_iter_values(rows.iter().map(|(row, _)| *row));
        let Some(columns) = ran[scan].scan.fetch(frame, &numbers)? else { continue };
        for (c, column) in columns.iter().enumerate() {
            for (at, (_, place)) in rows.iter().enumerate() {
                cells[*place][c] = Some(column.get(at));
            }
        }
    }
    // Rows of a frame that could be filtered and then not be read are missing, which the answer says.
    let read = cells.into_iter().map(|row| row.into_iter().collect::<Option<Vec<Scalar>>>());
    let mut rows: Vec<(&[u8], u128, Vec<Scalar>)> = Vec::with_capacity(keys.len());
    for ((key, _), row) in keys.iter().zip(read) {
        let Some((order, _)) = parts_of(key) else { continue };
        rows.extend(row.map(|row| (order, shown_hash(&row), row)));
    }
    rows.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    if let Some(after) = &first.after {
        let mut alike = 0;
        rows.retain(|(order, hash, _)| match (*order, *hash).cmp(&(&after.key[..], after.hash)) {
            Ordering::Less => false,
            Ordering::Equal => {
                alike += 1;
                alike > after.given
            }
            Ordering::Greater => true,
        });
    }
    let more = rows.len() > first.limit || more_behind || lost;
    rows.truncate(first.limit);
    let next = rows.last().filter(|_| more && !lost).map(|(order, hash, _)| {
        let alike = rows.iter().rev().take_while(|row| (row.0, row.1) == (order, *hash)).count() as u32;
        let before = first.after.as_ref().filter(|after| after.key == *order && after.hash == *hash);
        After { key: order.to_vec(), hash: *hash, given: before.map_or(0, |after| after.given) + alike }
    });
    let columns = (0..width).map(|c| {
        let mut builder = ValsBuilder::new();
        rows.iter().for_each(|(.., row)| builder.push(row[c].clone()));
        builder.finish()
    });
    let alike = "too many rows are alike in the order for all of them, or another page: add a field to `order`";
    let warnings = if lost { vec![alike.to_owned()] } else { Vec::new() };
    Ok(Finished { rows: rows.len(), columns: columns.collect(), warnings, next })
}

/// Of sorted rows leaves as many of each place in the order as a partition keeps of it; gives the places of which there were more.
///
/// Each partition keeps those that lie first of its own, so that together they have those that lie first of all, whichever rows
/// each came to: what is left does not depend on who was faster.
fn keep_first_alike<'k>(keys: &mut Vec<(&'k [u8], usize)>, most: usize) -> Vec<&'k [u8]> {
    let (mut seen, mut last, mut more) = (0, None, Vec::new());
    keys.retain(|(key, _)| {
        let Some((of, place)) = parts_of(key) else { return false };
        seen = if last == Some(of) { seen + 1 } else { 1 };
        last = Some(of);
        let stays = seen <= most && place != MORE;
        if !stays {
            more.push(of);
        }
        stays
    });
    more.dedup();
    more
}

/// What a row shows, as a number: rows of one number cannot be told apart.
fn shown_hash(row: &[Scalar]) -> u128 {
    let mut bytes = Vec::new();
    for value in row {
        let begin = bytes.len();
        encode::encode(value, &mut bytes);
        bytes.extend(((bytes.len() - begin) as u64).to_le_bytes());
    }
    xxh3_128(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Firsts;

    proptest! {
        #[test]
        fn the_first_are_those_of_all(
            keys in proptest::collection::vec(0u16..500, 0..5_000), limit in prop_oneof![0usize..5, 0usize..3_000],
        ) {
            let mut firsts = Firsts::new(limit);
            let all = || keys.iter().enumerate().map(|(row, key)| (key.to_be_bytes().to_vec(), row as u32));
            all().for_each(|(key, row)| firsts.offer(&key, row));
            let mut sorted: Vec<_> = all().collect();
            sorted.sort();
            sorted.truncate(limit);
            prop_assert_eq!(firsts.seen, keys.len());
            prop_assert_eq!(firsts.finish(), sorted);
        }
    }
}
