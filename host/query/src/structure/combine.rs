//! Combinations of bound spans that are tested together: conditions and relations between several of them.
//!
//! Spans that lie as they must are put together one combination after another, in the order in which `relate` has them, and
//! tests are computed over many combinations at once. Of each row a few are tried first, then more of those that are left.

use arrow::buffer::BooleanBuffer;

use super::ask::{Alternative, BINDINGS_MAX, Beside, Edge, Target, Test};
use super::beside::Tuples;
use super::relate::{Relating, lies};
use super::solve::{Bounds, Matched};
use super::span::NONE;
use super::tree::Tree;
use crate::error::QueryError;
use crate::eval;
use crate::eval::node::Level;
use crate::field::{Field, From};

/// Combinations that are tested at once.
pub(super) const TESTED: usize = 16_384;
/// Combinations of a row that are tried first.
pub(super) const FIRST: usize = 4;

/// Combinations of spans that wait for their tests.
pub(crate) struct Combining<'s> {
    way: &'s Alternative,
    /// How the tested bindings are led to, after the returned one: by an edge, or as any span of the trace.
    steps: Vec<Step>,
    /// Bindings whose places are kept, and the places by combination.
    columns: Vec<usize>,
    places: Vec<Vec<u32>>,
    /// By combination: how the tested relations came out, in the order of the tests.
    lies: Vec<Vec<bool>>,
    edges: Vec<Edge>,
    /// By combination: the row that it is of.
    owners: Vec<u32>,
    rows: Vec<Owner>,
}

/// A row that may match.
struct Owner {
    /// Its number in the part.
    at: usize,
    place: u32,
    fixed: Vec<(Target, u32)>,
    matched: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// By number.
    Edge(usize),
    /// By number among those that stand alone.
    Alone(usize),
}

impl<'s> Combining<'s> {
    pub(super) fn new(way: &'s Alternative, targets: &[Target], fields: &[Field]) -> Combining<'s> {
        let mut columns = Vec::new();
        for test in &way.tests {
            test.conditions(&mut |node| node.fields(&mut |field| columns.extend(bound(fields, field))));
        }
        let mut tested = columns.clone();
        let mut edges = Vec::new();
        for test in &way.tests {
            test.edges(&mut |edge| {
                tested.extend([edge.from, edge.to]);
                edges.push(edge);
            });
        }
        let wanted = targets.iter().filter_map(|target| match target {
            Target::Bound(binding) => Some(*binding),
            _ => None,
        });
        columns.extend(wanted.filter(|binding| way.bound.contains(binding)));
        columns.sort_unstable();
        columns.dedup();
        // What leads to a tested binding is walked too.
        for edge in way.edges.iter().rev() {
            if tested.contains(&edge.to) {
                tested.push(edge.from);
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        let alone = way.alone.iter().enumerate().filter(|(_, binding)| tested.contains(binding));
        steps.extend(alone.map(|(number, _)| Step::Alone(number)));
        let edges_in = way.edges.iter().enumerate().filter(|(_, edge)| tested.contains(&edge.to));
        steps.extend(edges_in.map(|(number, _)| Step::Edge(number)));
        Combining {
            way,
            steps,
            places: vec![Vec::new(); columns.len()],
            columns,
            lies: vec![Vec::new(); edges.len()],
            edges,
            owners: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// A row that may match, by its number.
    pub(super) fn own(&mut self, at: usize, place: u32, fixed: Vec<(Target, u32)>) -> u32 {
        self.rows.push(Owner { at, place, fixed, matched: false });
        self.rows.len() as u32 - 1
    }

    pub(super) fn is_matched(&self, owner: u32) -> bool {
        self.rows[owner as usize].matched
    }

    /// Bytes in memory, about, of the rows that may match and of the combinations that are tested at once.
    pub(super) fn bytes(&self) -> usize {
        let fixed = self.rows.first().map_or(0, |row| row.fixed.capacity() * size_of::<(Target, u32)>());
        let places = self.places.iter().map(Vec::capacity).sum::<usize>() + self.owners.capacity();
        self.rows.capacity() * size_of::<Owner>()
            + self.rows.len() * fixed
            + places * size_of::<u32>()
            + self.lies.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Bytes of a row's way through the steps, about.
    pub(super) fn position_bytes(&self) -> usize {
        // A list has room for four at least.
        self.steps.len().next_power_of_two().max(4) * size_of::<u32>()
    }

    /// Forgets the rows of before where nothing waits for them.
    pub(super) fn settle(&mut self) {
        if self.owners.is_empty() {
            self.rows.clear();
        }
    }

    /// Tests what waits.
    pub(super) fn test(
        &mut self,
        tuples: &Tuples<'_>,
        matched: &mut Matched,
        bounds: &Bounds<'_>,
    ) -> Result<(), QueryError> {
        if self.owners.is_empty() {
            return Ok(());
        }
        bounds.scan.goes_on()?;
        bounds.combine(self.owners.len())?;
        let rows = tuples.of(&self.columns, &self.places, self.owners.len());
        let mut mask = BooleanBuffer::new_set(self.owners.len());
        let mut edge = 0;
        for test in &self.way.tests {
            mask = &mask & &outcome(test, &rows, &self.lies, &mut edge)?;
        }
        for at in mask.set_indices() {
            let row = &mut self.rows[self.owners[at] as usize];
            // A row matches once, as the first combination that fits says.
            if row.matched || matched.has(row.at) {
                continue;
            }
            row.matched = true;
            matched.set(row.at);
            for (target, places) in &mut matched.to {
                let to = match target {
                    Target::Bound(binding) => {
                        self.columns.iter().position(|known| known == binding).map_or(NONE, |c| self.places[c][at])
                    }
                    other => row.fixed.iter().find(|(known, _)| known == other).map_or(NONE, |(_, place)| *place),
                };
                places[row.at] = to;
            }
        }
        self.places.iter_mut().for_each(Vec::clear);
        self.lies.iter_mut().for_each(Vec::clear);
        self.owners.clear();
        Ok(())
    }
}

/// The binding whose field it is.
fn bound(fields: &[Field], field: usize) -> Option<usize> {
    match fields.get(field).map(|field| &field.from) {
        Some(From::Beside(Beside { target: Target::Bound(binding), .. })) => Some(*binding),
        _ => None,
    }
}

/// Where the tests hold.
fn outcome(
    test: &Test,
    rows: &dyn eval::Rows,
    lies: &[Vec<bool>],
    edge: &mut usize,
) -> Result<BooleanBuffer, QueryError> {
    let len = rows.len(Level::Row);
    Ok(match test {
        Test::Condition(node) => eval::mask_at(node, Level::Row, rows)?,
        Test::Lies(_) => {
            *edge += 1;
            BooleanBuffer::from(lies[*edge - 1].as_slice())
        }
        Test::Not(inner) => !&outcome(inner, rows, lies, edge)?,
        Test::All(all) => {
            let mut mask = BooleanBuffer::new_set(len);
            for inner in all {
                mask = &mask & &outcome(inner, rows, lies, edge)?;
            }
            mask
        }
        Test::Any(all) => {
            let mut mask = BooleanBuffer::new_unset(len);
            for inner in all {
                mask = &mask | &outcome(inner, rows, lies, edge)?;
            }
            mask
        }
    })
}

/// A row whose combinations are not all walked.
pub(super) struct Waiting {
    pub(super) owner: u32,
    pub(super) node: u32,
    /// What each step came to: a node, or of a binding that stands alone a position by start.
    pub(super) position: Vec<u32>,
}

/// The combinations of the returned rows of one trace, in order.
pub(super) struct Walk<'w, P> {
    pub(super) way: &'w Alternative,
    pub(super) tree: &'w Tree,
    pub(super) relating: &'w Relating,
    pub(super) place: &'w P,
}

impl<P: Fn(u32, usize) -> u32> Walk<'_, P> {
    /// Adds the next combinations of a row, so many at most. Whether those were all.
    pub(super) fn more(&self, to: &mut Combining<'_>, row: &mut Waiting, picked: &mut Vec<u32>, most: usize) -> bool {
        picked.clear();
        picked.resize(BINDINGS_MAX, NONE);
        picked[self.way.returned] = row.node;
        let steps = to.steps.len();
        if row.position.is_empty() {
            if steps == 0 {
                self.add(to, row.owner, picked);
                return true;
            }
            row.position.push(NONE);
        }
        for (step, position) in to.steps.iter().zip(&row.position) {
            match step {
                Step::Edge(number) => picked[self.way.edges[*number].to] = *position,
                // At no position yet there is no node.
                Step::Alone(number) => picked[self.way.alone[*number]] = self.relating.alone(*number, *position),
            }
        }
        let mut added = 0;
        // The last step always moves on: what it came to before was added.
        while let Some(depth) = row.position.len().checked_sub(1) {
            if added == most {
                return false;
            }
            let (step, previous) = (to.steps[depth], row.position[depth]);
            let (binding, node, position) = match step {
                Step::Edge(number) => {
                    let edge = self.way.edges[number];
                    let node = self.relating.next(number, edge, picked[edge.from], previous, self.tree);
                    (edge.to, node, node)
                }
                Step::Alone(number) => {
                    let position = if previous == NONE { 0 } else { previous + 1 };
                    (self.way.alone[number], self.relating.alone(number, position), position)
                }
            };
            picked[binding] = node;
            if node == NONE {
                row.position.pop();
                continue;
            }
            row.position[depth] = position;
            if depth + 1 < steps {
                row.position.push(NONE);
            } else {
                self.add(to, row.owner, picked);
                added += 1;
            }
        }
        true
    }

    fn add(&self, to: &mut Combining<'_>, owner: u32, picked: &[u32]) {
        let mut all = [NONE; BINDINGS_MAX];
        all.copy_from_slice(picked);
        self.relating.pick(self.way, &mut all);
        for (column, binding) in to.columns.iter().enumerate() {
            let place = match all[*binding] {
                _ if *binding == self.way.returned => to.rows[owner as usize].place,
                NONE => NONE,
                node => (self.place)(node, *binding),
            };
            to.places[column].push(place);
        }
        for (at, edge) in to.edges.iter().enumerate() {
            let (a, b) = (all[edge.from], all[edge.to]);
            to.lies[at].push(a != NONE && b != NONE && lies(self.tree, a, b, edge.way));
        }
        to.owners.push(owner);
    }
}
