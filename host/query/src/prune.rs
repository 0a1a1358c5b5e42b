//! Which frames cannot hold a row that a condition asks for: by statistics, small dictionaries and bloom filters (QU-2).
//!
//! Everything that is not certain counts as possible. Not here: the time range, by which the store leaves frames out.

use std::cmp::Ordering;

use prism_model::{AttrType, ColumnId, Intrinsic, TableKind};
use prism_store::{ColumnMeta, Frame, Range};

use crate::eval::node::{CompareOp, Node, Set, TextOp, TextTest};
use crate::eval::vals::{Scalar, cmp_int_double};
use crate::field::{Field, From};
use crate::names::{Fixed, enum_name};
use crate::stack::with_room;

/// What a condition can be over the rows of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    can_hold: bool,
    can_fail: bool,
}

const UNKNOWN: Fate = Fate { can_hold: true, can_fail: true };
const NEVER: Fate = Fate { can_hold: false, can_fail: true };

/// `false` only where no row of the frame fulfils the condition.
pub(crate) fn may_hold(node: &Node, fields: &[Field], frame: &Frame) -> bool {
    fate(node, fields, &Known { frame, filters: true }).can_hold
}

/// What tells that no row of the frame fulfils the condition; `None` where some row may.
pub(crate) fn told_by(node: &Node, fields: &[Field], frame: &Frame) -> Option<By> {
    let cannot = |filters| !fate(node, fields, &Known { frame, filters }).can_hold;
    if cannot(false) { Some(By::Statistics) } else { cannot(true).then_some(By::Filters) }
}

/// What prunes a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Bounds, small dictionaries, absent columns.
    Statistics,
    /// Filters of trace ids and of values.
    Filters,
}

/// What is known of a frame, with its filters or without.
struct Known<'f> {
    frame: &'f Frame,
    filters: bool,
}

impl Known<'_> {
    fn may_contain_trace(&self, id: &[u8; 16]) -> bool {
        !self.filters || self.frame.may_contain_trace(id)
    }

    fn may_contain_token(&self, key: &str, value: &str) -> bool {
        !self.filters || self.frame.may_contain_token(key, value)
    }
}

impl std::ops::Deref for Known<'_> {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        self.frame
    }
}

fn fate(node: &Node, fields: &[Field], frame: &Known<'_>) -> Fate {
    with_room(|| fate_of(node, fields, frame))
}

fn fate_of(node: &Node, fields: &[Field], frame: &Known<'_>) -> Fate {
    let field_of = |node: &Node| match node {
        Node::Field(f) => fields.get(*f),
        _ => None,
    };
    let of = |can_hold: bool| if can_hold { UNKNOWN } else { NEVER };
    match node {
        Node::And(all) => {
            // Each may hold in other rows, but a part that never holds decides.
            let parts: Vec<Fate> = all.iter().map(|n| fate(n, fields, frame)).collect();
            Fate { can_hold: parts.iter().all(|f| f.can_hold), can_fail: parts.iter().any(|f| f.can_fail) }
        }
        Node::Or(all) => {
            let parts: Vec<Fate> = all.iter().map(|n| fate(n, fields, frame)).collect();
            Fate { can_hold: parts.iter().any(|f| f.can_hold), can_fail: parts.iter().all(|f| f.can_fail) }
        }
        Node::Not(inner) => {
            let inner = fate(inner, fields, frame);
            Fate { can_hold: inner.can_fail, can_fail: inner.can_hold }
        }
        Node::Const(Scalar::Bool(b)) => Fate { can_hold: *b, can_fail: !*b },
        Node::Compare { op, left, right } => match (field_of(left), &**right, field_of(right), &**left) {
            (Some(field), Node::Const(value), _, _) => of(may_compare(field, *op, value, frame)),
            (_, _, Some(field), Node::Const(value)) => of(may_compare(field, op.flipped(), value, frame)),
            _ => UNKNOWN,
        },
        Node::InSet { expr, set, negated } => match field_of(expr) {
            Some(field) if !negated => of(may_be_in(field, set, frame)),
            Some(field) => of(exists(field, frame)),
            None => UNKNOWN,
        },
        Node::TextTest { expr, test, negated } => match field_of(expr) {
            Some(field) => of(may_pass(field, test, *negated, frame)),
            None => UNKNOWN,
        },
        Node::Exists(inner) => field_of(inner).map_or(UNKNOWN, |field| of(exists(field, frame))),
        Node::Some { child, condition } => {
            let there = child.table().is_none_or(|table| frame.table_rows(table) > 0);
            of(there && fate(condition, fields, frame).can_hold)
        }
        _ => UNKNOWN,
    }
}

/// The statistics of the only columns that the field's values come from; `None` where they may come from elsewhere.
fn columns<'f>(field: &Field, frame: &Known<'f>) -> Option<Vec<(TableKind, &'f ColumnMeta)>> {
    let frame = frame.frame;
    let ids = field.plain_columns(frame)?;
    let meta = |table: TableKind, id: &ColumnId| frame.columns(table).iter().find(|c| c.id == *id);
    Some(ids.iter().filter_map(|(table, id)| meta(*table, id).map(|m| (*table, m))).collect())
}

/// Whether some row may have a value at all.
fn exists(field: &Field, frame: &Known<'_>) -> bool {
    match &field.from {
        From::Attribute { .. } => columns(field, frame).is_none_or(|columns| !columns.is_empty()),
        From::Absent(_) => false,
        // An absent fixed column may hold a default that counts as a value.
        _ => true,
    }
}

fn may_compare(field: &Field, op: CompareOp, value: &Scalar, frame: &Known<'_>) -> bool {
    if value.is_null() {
        return false;
    }
    match &field.from {
        From::Absent(_) => false,
        From::Fixed { table: table @ (TableKind::Items | TableKind::Descriptors), fixed } => {
            may_compare_fixed(*table, *fixed, op, value, frame)
        }
        From::Attribute { key, .. } => {
            let Some(columns) = columns(field, frame) else { return true };
            if !columns.iter().any(|(_, meta)| may_compare_column(meta, op, value)) {
                return false;
            }
            match (op, value) {
                (CompareOp::Eq, Scalar::Str(text)) => frame.may_contain_token(key, text),
                _ => true,
            }
        }
        _ => true,
    }
}

fn may_compare_fixed(table: TableKind, fixed: Fixed, op: CompareOp, value: &Scalar, frame: &Known<'_>) -> bool {
    let columns = frame.columns(table);
    let meta = |i: Intrinsic| columns.iter().find(|c| c.id == ColumnId::Intrinsic(i));
    // A column that is null where a row has no such value, and absent where none has.
    let known = |i: Intrinsic| meta(i).is_some_and(|meta| may_compare_column(meta, op, value));
    match fixed {
        Fixed::Time => int_range(op, frame.stats().time_min, frame.stats().time_max, value),
        Fixed::Duration => match meta(Intrinsic::Duration) {
            None => int_range(op, 0, 0, value),
            Some(meta) => may_compare_column(meta, op, value),
        },
        Fixed::Severity => known(Intrinsic::Severity),
        Fixed::StartTime => known(Intrinsic::StartTime),
        Fixed::Value => known(Intrinsic::ValueInt) || known(Intrinsic::ValueDouble),
        Fixed::Plain(
            i @ (Intrinsic::Count | Intrinsic::Sum | Intrinsic::Min | Intrinsic::Max | Intrinsic::ZeroCount),
        ) => known(i),
        Fixed::Kind | Fixed::Status | Fixed::MetricType | Fixed::Temporality => {
            let number = fixed.columns().first().and_then(|i| meta(*i));
            fixed.number_names().is_none_or(|names| may_be_named(number, names, op, value))
        }
        Fixed::Plain(Intrinsic::TraceId) => match (op, value) {
            (CompareOp::Eq, Scalar::Str(text)) => {
                match hex::decode(text).ok().and_then(|id| <[u8; 16]>::try_from(id).ok()) {
                    Some(id) => frame.may_contain_trace(&id),
                    None => false,
                }
            }
            _ => true,
        },
        Fixed::Plain(i) if i.data_type() == arrow::datatypes::DataType::Utf8 => {
            let Some(meta) = meta(i) else { return false };
            if !may_compare_column(meta, op, value) {
                return false;
            }
            let in_filter = matches!(
                i,
                Intrinsic::Name | Intrinsic::SeverityText | Intrinsic::EventName | Intrinsic::StatusMessage
            );
            match (op, value) {
                (CompareOp::Eq, Scalar::Str(text)) if in_filter => frame.may_contain_token(i.name(), text),
                _ => true,
            }
        }
        _ => true,
    }
}

/// Numbers shown as names: the few between the bounds are tried one by one.
fn may_be_named(meta: Option<&ColumnMeta>, names: &[&str], op: CompareOp, value: &Scalar) -> bool {
    let Scalar::Str(text) = value else { return false };
    let (min, max) = match meta.map(|m| &m.range) {
        None => (0, 0),
        Some(Some(Range::Int { min, max })) if max.saturating_sub(*min) < 16 => (*min, *max),
        Some(_) => return true,
    };
    // A column without some of its values holds its default there.
    let numbers = (min..=max).chain(meta.filter(|m| m.null_count > 0).map(|_| 0));
    numbers.filter_map(|n| i32::try_from(n).ok()).any(|n| op.holds(Some(enum_name(names, n).as_str().cmp(text))))
}

fn int_range(op: CompareOp, min: i64, max: i64, value: &Scalar) -> bool {
    let order = |bound: i64| match value {
        Scalar::Int(i) => Some(bound.cmp(i)),
        Scalar::Double(d) => cmp_int_double(bound, *d),
        _ => None,
    };
    match value {
        Scalar::Int(_) | Scalar::Double(_) => between(op, order(min), order(max)),
        _ => false,
    }
}

/// Whether some value between two bounds may fulfil the operator; `None` for a bound that is not ordered with the value.
fn between(op: CompareOp, low: Option<Ordering>, high: Option<Ordering>) -> bool {
    let (Some(low), Some(high)) = (low, high) else { return op == CompareOp::Ne };
    match op {
        CompareOp::Eq => low != Ordering::Greater && high != Ordering::Less,
        CompareOp::Ne => low != Ordering::Equal || high != Ordering::Equal,
        CompareOp::Lt => low == Ordering::Less,
        CompareOp::Le => low != Ordering::Greater,
        CompareOp::Gt => high == Ordering::Greater,
        CompareOp::Ge => high != Ordering::Less,
    }
}

fn may_compare_column(meta: &ColumnMeta, op: CompareOp, value: &Scalar) -> bool {
    let ty = match &meta.id {
        ColumnId::Attr { ty, .. } => *ty,
        ColumnId::Intrinsic(i) => match i.data_type() {
            arrow::datatypes::DataType::Utf8 => AttrType::Str,
            arrow::datatypes::DataType::Int64 | arrow::datatypes::DataType::Int32 => AttrType::Int,
            arrow::datatypes::DataType::Float64 => AttrType::Double,
            _ => return true,
        },
    };
    match (ty, value) {
        (AttrType::Str, Scalar::Str(text)) => {
            if let Some(dictionary) = &meta.dictionary {
                return dictionary.iter().any(|v| op.holds(Some((**v).cmp(text))));
            }
            let Some(Range::Text(range)) = &meta.range else { return true };
            let low = (*range.min).cmp(text);
            let high = range.max.as_ref().map_or(Ordering::Greater, |max| (**max).cmp(text));
            // A cut bound is no value of the column, so that equality of both says nothing.
            (op == CompareOp::Ne && !range.exact) || between(op, Some(low), Some(high))
        }
        // Ids are compared with text by their hex form.
        (AttrType::Str, Scalar::Id(_)) => true,
        (AttrType::Int, Scalar::Int(_) | Scalar::Double(_)) => match &meta.range {
            Some(Range::Int { min, max }) => int_range(op, *min, *max, value),
            _ => true,
        },
        (AttrType::Double, Scalar::Int(_) | Scalar::Double(_)) => match &meta.range {
            Some(Range::Double { min, max }) => {
                let order = |bound: f64| match value {
                    Scalar::Int(i) => cmp_int_double(*i, bound).map(Ordering::reverse),
                    Scalar::Double(d) => bound.partial_cmp(d),
                    _ => None,
                };
                between(op, order(*min), order(*max))
            }
            _ => true,
        },
        (AttrType::Bool, Scalar::Bool(b)) => match &meta.range {
            Some(Range::Bool { any_true, any_false }) => {
                (*any_true && op.holds(Some(true.cmp(b)))) || (*any_false && op.holds(Some(false.cmp(b))))
            }
            _ => true,
        },
        (AttrType::Bytes, Scalar::Bytes(_)) | (AttrType::Json, Scalar::Json(_)) => true,
        _ => false,
    }
}

fn may_be_in(field: &Field, set: &Set, frame: &Known<'_>) -> bool {
    let eq = |value: Scalar| may_compare(field, CompareOp::Eq, &value, frame);
    if let (From::Fixed { fixed: Fixed::Plain(Intrinsic::TraceId), .. }, true) = (&field.from, set.strs.is_empty()) {
        return set.ids.iter().any(|id| id.first_chunk::<16>().is_some_and(|id| frame.may_contain_trace(id)));
    }
    // A long list costs more than it saves.
    if set.strs.len() + set.ints.len() > 64 {
        return exists(field, frame);
    }
    set.strs.iter().any(|s| eq(Scalar::Str(s.clone())))
        || set.ints.iter().any(|i| eq(Scalar::Int(*i)))
        || set.doubles.iter().any(|d| eq(Scalar::Double(*d)))
        || set.bools.iter().any(|b| eq(Scalar::Bool(*b)))
}

fn may_pass(field: &Field, test: &TextTest, negated: bool, frame: &Known<'_>) -> bool {
    let passes = |text: &str| match test {
        TextTest::Regex(regex) => regex.is_match(text),
        TextTest::Op(op, needle) => match op {
            TextOp::Contains => text.contains(needle),
            TextOp::StartsWith => text.starts_with(needle),
            TextOp::EndsWith => text.ends_with(needle),
            TextOp::IContains => text.to_lowercase().contains(needle),
            TextOp::IStartsWith => text.to_lowercase().starts_with(needle),
            TextOp::IEndsWith => text.to_lowercase().ends_with(needle),
        },
        TextTest::Element(_) => true,
    };
    if matches!(field.from, From::Fixed { .. }) && field.plain_columns(frame.frame).is_none() {
        return true;
    }
    let Some(columns) = columns(field, frame) else { return true };
    columns.iter().any(|(_, meta)| {
        let text = match &meta.id {
            ColumnId::Attr { ty: AttrType::Str, .. } => true,
            // Membership in arrays.
            ColumnId::Attr { ty: AttrType::Json, .. } => return true,
            ColumnId::Attr { .. } => false,
            ColumnId::Intrinsic(i) if i.data_type() == arrow::datatypes::DataType::Utf8 => true,
            // Ids are searched in their hex form.
            ColumnId::Intrinsic(_) => return true,
        };
        text && match (&meta.dictionary, test, &meta.range) {
            (Some(values), ..) => values.iter().any(|v| passes(v) != negated),
            (None, TextTest::Op(TextOp::StartsWith, front), Some(Range::Text(range))) if !negated => {
                let (min, max) = (&*range.min, range.max.as_deref());
                // Texts with this front stand together, from the front itself on.
                max.is_none_or(|max| max >= front.as_str()) && (min <= front.as_str() || min.starts_with(front))
            }
            _ => true,
        }
    })
}
