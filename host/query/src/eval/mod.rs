//! Evaluates bound expressions over columns: two-valued logic, types apart, numbers exact.
//!
//! ```text
//! node (what to compute) + Rows (columns) -> vals, masks
//! ```
//!
//! Not here: where columns come from (`frame`, `finish`), what names mean (`bind`).

pub(crate) mod vals;
pub(crate) mod builder;
pub(crate) mod node;
pub(crate) mod compare;
pub(crate) mod text;
pub(crate) mod arithmetic;
pub(crate) mod zone;
pub(crate) mod function;
pub(crate) mod plugin;

use arrow::array::UInt32Array;
use arrow::buffer::BooleanBuffer;
use arrow::error::ArrowError;

use compare::Side;
use node::{Function, Level, Node};
use vals::Scalar;
pub(crate) use vals::Vals;

use crate::joins::Joined;
use crate::stack::with_room;

/// Something that belongs to the rows of a level.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) level: Level,
    pub(crate) of: T,
}

/// Columns to evaluate over.
pub(crate) trait Rows {
    /// The values of a field, at the lowest level that has them.
    fn field(&self, field: usize) -> Result<At<Vals>, ArrowError>;

    /// How many rows a level has; 1 for [`Level::One`].
    fn len(&self, level: Level) -> usize;

    /// For each row of `to` its row of `from`, which is another level, not [`Level::One`], and such that the common level of
    /// both is `to`.
    fn lift(&self, from: Level, to: Level) -> Result<UInt32Array, ArrowError>;

    /// The rows of a join, where there are any.
    fn joined(&self, _: usize) -> Option<&Joined> {
        None
    }

    /// For each event or link the row that it belongs to.
    fn parents(&self, child: Level) -> Result<UInt32Array, ArrowError> {
        self.lift(Level::Row, child)
    }
}

/// The values of an expression, at the lowest level that has them.
pub(crate) fn vals(node: &Node, rows: &dyn Rows) -> Result<At<Vals>, ArrowError> {
    with_room(|| vals_of(node, rows))
}

fn vals_of(node: &Node, rows: &dyn Rows) -> Result<At<Vals>, ArrowError> {
    match node {
        Node::Const(scalar) => Ok(At { level: Level::One, of: Vals::of_scalar(scalar.clone()) }),
        Node::Field(field) => rows.field(*field),
        Node::Arithmetic { op, left, right } => {
            let (level, args) = args([left.as_ref(), right], rows)?;
            Ok(At { level, of: arithmetic::arithmetic(*op, &args[0], &args[1])? })
        }
        Node::Negate(inner) => {
            let inner = vals(inner, rows)?;
            Ok(At { level: inner.level, of: arithmetic::negate(&inner.of)? })
        }
        Node::Path { expr, steps } => {
            let inner = vals(expr, rows)?;
            Ok(At { level: inner.level, of: text::path(&inner.of, steps) })
        }
        Node::Joined { join, output, keys } => {
            let (level, keys) = args(keys, rows)?;
            let len = rows.len(level);
            let of = rows.joined(*join).map_or_else(|| Ok(Vals::nulls(len)), |of| of.values(*output, &keys, len))?;
            Ok(At { level, of })
        }
        Node::First { child, expr } => {
            let of_children = vals_at(expr, *child, rows)?;
            let parents = rows.parents(*child)?;
            let mut first: Vec<Option<u32>> = vec![None; rows.len(Level::Row)];
            for at in of_children.present().set_indices() {
                first[parents.value(at) as usize].get_or_insert(at as u32);
            }
            Ok(At { level: Level::Row, of: of_children.take(&UInt32Array::from(first))? })
        }
        Node::Call { function: Function::Bucket, args } if matches!(args[..], [_, Node::Const(Scalar::Int(_))]) => {
            bins(args, rows)
        }
        Node::Call { function: function @ (Function::If | Function::Case), args } => choose(function, args, rows),
        Node::Call { function: Function::Plugin(called), args } => plugin::call(called, args, rows),
        Node::Call { function, args: nodes } => {
            let (level, args) = args(nodes, rows)?;
            Ok(At { level, of: function::call(function, &args, rows.len(level))? })
        }
        _ => {
            let mask = mask(node, rows)?;
            Ok(At { level: mask.level, of: Vals::of_mask(mask.of) })
        }
    }
}

/// Buckets of one width for all rows, as bins of time are.
fn bins(args: &[Node], rows: &dyn Rows) -> Result<At<Vals>, ArrowError> {
    let [arg, Node::Const(Scalar::Int(width))] = args else { return Ok(At { level: Level::One, of: Vals::nulls(1) }) };
    let At { level, of } = vals(arg, rows)?;
    let of = match (&of.int, of.kinds()) {
        (Some(ints), 1) => Vals::of_ints(arithmetic::bins(ints, *width)),
        _ => arithmetic::bucket(&of, &Vals::of_scalar(Scalar::Int(*width)).repeat(of.len)?)?,
    };
    Ok(At { level, of })
}

/// The values of an expression, one for each row of the level.
pub(crate) fn vals_at(node: &Node, level: Level, rows: &dyn Rows) -> Result<Vals, ArrowError> {
    lift_vals(vals(node, rows)?, level, rows)
}

/// Where an expression is true, at the lowest level that can tell.
pub(crate) fn mask(node: &Node, rows: &dyn Rows) -> Result<At<BooleanBuffer>, ArrowError> {
    with_room(|| mask_of(node, rows))
}

fn mask_of(node: &Node, rows: &dyn Rows) -> Result<At<BooleanBuffer>, ArrowError> {
    match node {
        Node::Compare { op, left, right } => {
            let (a, b) = (vals(left, rows)?, vals(right, rows)?);
            let level = a.level.common(b.level);
            let side = |v: At<Vals>| -> Result<(Vals, bool), ArrowError> {
                let one = v.level == Level::One;
                Ok((if one { v.of } else { lift_vals(v, level, rows)? }, one))
            };
            let ((a, a_one), (b, b_one)) = (side(a)?, side(b)?);
            let of =
                compare::compare(*op, Side { vals: &a, one: a_one }, Side { vals: &b, one: b_one }, rows.len(level))?;
            Ok(At { level, of })
        }
        Node::InSet { expr, set, negated } => {
            let inner = vals(expr, rows)?;
            Ok(At { level: inner.level, of: compare::in_set(&inner.of, set, *negated) })
        }
        Node::TextTest { expr, test, negated } => {
            let inner = vals(expr, rows)?;
            Ok(At { level: inner.level, of: text::test(&inner.of, test, *negated)? })
        }
        Node::TextPair { op, left, right, negated } => {
            let (level, args) = args([left.as_ref(), right], rows)?;
            Ok(At { level, of: text::test_pair(*op, &args[0], &args[1], *negated)? })
        }
        Node::Exists(inner) => {
            let inner = vals(inner, rows)?;
            Ok(At { level: inner.level, of: inner.of.present() })
        }
        Node::And(all) => fold(all, rows, |a, b| a & b),
        Node::Or(all) => fold(all, rows, |a, b| a | b),
        Node::Not(inner) => {
            let inner = mask(inner, rows)?;
            Ok(At { level: inner.level, of: !&inner.of })
        }
        Node::Some { child, condition } => {
            let inner = lift_mask(mask(condition, rows)?, *child, rows)?;
            let parents = rows.parents(*child)?;
            let mut some = vec![false; rows.len(Level::Row)];
            inner.set_indices().for_each(|i| some[parents.value(i) as usize] = true);
            Ok(At { level: Level::Row, of: BooleanBuffer::from(some) })
        }
        _ => {
            let inner = vals(node, rows)?;
            Ok(At { level: inner.level, of: inner.of.truth() })
        }
    }
}

/// Where an expression is true, one bit for each row of the level.
pub(crate) fn mask_at(node: &Node, level: Level, rows: &dyn Rows) -> Result<BooleanBuffer, ArrowError> {
    lift_mask(mask(node, rows)?, level, rows)
}

fn fold(
    all: &[Node],
    rows: &dyn Rows,
    join: impl Fn(&BooleanBuffer, &BooleanBuffer) -> BooleanBuffer,
) -> Result<At<BooleanBuffer>, ArrowError> {
    // The empty `and` is true; a binder never makes the empty `or`.
    let mut out: Option<At<BooleanBuffer>> = None;
    for node in all {
        let next = mask(node, rows)?;
        out = Some(match out {
            None => next,
            Some(so_far) => {
                let level = so_far.level.common(next.level);
                let of = join(&lift_mask(so_far, level, rows)?, &lift_mask(next, level, rows)?);
                At { level, of }
            }
        });
    }
    Ok(out.unwrap_or(At { level: Level::One, of: BooleanBuffer::new_set(1) }))
}

fn args<'a>(nodes: impl IntoIterator<Item = &'a Node>, rows: &dyn Rows) -> Result<(Level, Vec<Vals>), ArrowError> {
    let all: Vec<At<Vals>> = nodes.into_iter().map(|n| vals(n, rows)).collect::<Result<_, _>>()?;
    let level = all.iter().fold(Level::One, |level, v| level.common(v.level));
    let all = all.into_iter().map(|v| lift_vals(v, level, rows)).collect::<Result<_, _>>()?;
    Ok((level, all))
}

/// `if` and `case`: conditions and values in turn, then the value for the rest.
fn choose(function: &Function, nodes: &[Node], rows: &dyn Rows) -> Result<At<Vals>, ArrowError> {
    let pairs = match function {
        Function::If => 1,
        _ => nodes.len() / 2,
    };
    let (conditions, values): (Vec<&Node>, Vec<&Node>) = {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        for (i, node) in nodes.iter().enumerate() {
            if i < pairs * 2 && i % 2 == 0 { conditions.push(node) } else { values.push(node) }
        }
        (conditions, values)
    };
    let masks: Vec<At<BooleanBuffer>> = conditions.into_iter().map(|n| mask(n, rows)).collect::<Result<_, _>>()?;
    let (mut level, values) = args(values, rows)?;
    let values_level = level;
    level = masks.iter().fold(level, |level, m| level.common(m.level));
    let masks: Vec<BooleanBuffer> = masks.into_iter().map(|m| lift_mask(m, level, rows)).collect::<Result<_, _>>()?;
    let values: Vec<Vals> = values
        .into_iter()
        .map(|of| lift_vals(At { level: values_level, of }, level, rows))
        .collect::<Result<_, _>>()?;
    Ok(At { level, of: function::choose(&masks, &values, rows.len(level))? })
}

fn lift_vals(from: At<Vals>, to: Level, rows: &dyn Rows) -> Result<Vals, ArrowError> {
    if from.level == to {
        Ok(from.of)
    } else if from.level == Level::One {
        from.of.repeat(rows.len(to))
    } else {
        from.of.take(&rows.lift(from.level, to)?)
    }
}

/// A mask of one level as one of another that has it.
pub(crate) fn lift_mask(from: At<BooleanBuffer>, to: Level, rows: &dyn Rows) -> Result<BooleanBuffer, ArrowError> {
    if from.level == to {
        return Ok(from.of);
    }
    let len = rows.len(to);
    // Mostly a condition on a resource holds for all of a frame's resources, or for none.
    match from.of.count_set_bits() {
        0 => return Ok(BooleanBuffer::new_unset(len)),
        set if set == from.of.len() => return Ok(BooleanBuffer::new_set(len)),
        _ => {}
    }
    let index = rows.lift(from.level, to)?;
    let index = index.values();
    Ok(BooleanBuffer::collect_bool(len, |i| from.of.value(index[i] as usize)))
}
