//! An expression whose names and types are settled, ready to be evaluated over columns.

use std::collections::HashSet;
use std::sync::Arc;

use chrono_tz::Tz;
use prism_model::TableKind;
use regex::Regex;

use super::vals::Scalar;
use super::zone::TimeBin;
use crate::plugins::Called;
use crate::stack::with_room;

/// What one value of a column belongs to. Evaluation stays at the lowest level for as long as it can: a condition on a
/// resource attribute is decided once a resource, not once a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    /// One value for everything.
    One,
    /// A row of the resources table.
    Resource,
    /// A row of the scopes table.
    Scope,
    /// A row of the metric descriptors table.
    Metric,
    /// A row that the query counts.
    Row,
    /// A span event.
    Event,
    /// A span link.
    Link,
    /// An exemplar of a metric point.
    Exemplar,
}

impl Level {
    /// The lowest level at which both have a value a row.
    pub(crate) fn common(self, other: Level) -> Level {
        match (self, other) {
            (a, b) if a == b => a,
            (Level::One, level) | (level, Level::One) => level,
            (child, _) | (_, child) if child.is_child() => child,
            _ => Level::Row,
        }
    }

    /// Whether a row may have many of them.
    pub(crate) fn is_child(self) -> bool {
        matches!(self, Level::Event | Level::Link | Level::Exemplar)
    }

    /// The table whose rows are of this level; `None` for [`Level::One`].
    pub(crate) fn table(self) -> Option<TableKind> {
        Some(match self {
            Level::One => return None,
            Level::Resource => TableKind::Resources,
            Level::Scope => TableKind::Scopes,
            Level::Metric => TableKind::Descriptors,
            Level::Row => TableKind::Items,
            Level::Event => TableKind::Events,
            Level::Link => TableKind::Links,
            Level::Exemplar => TableKind::Exemplars,
        })
    }

    /// The level of a table's rows.
    pub(crate) fn of_table(table: TableKind) -> Level {
        match table {
            TableKind::Resources => Level::Resource,
            TableKind::Scopes => Level::Scope,
            TableKind::Descriptors => Level::Metric,
            // A value in the tail belongs to a row of another table.
            TableKind::Items | TableKind::Tail => Level::Row,
            TableKind::Events => Level::Event,
            TableKind::Links => Level::Link,
            TableKind::Exemplars => Level::Exemplar,
        }
    }
}

/// A bound expression. Depth is bounded by that of the Ast.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Const(Scalar),
    /// A field of the row source, by number.
    Field(usize),
    Compare {
        op: CompareOp,
        left: Box<Node>,
        right: Box<Node>,
    },
    InSet {
        expr: Box<Node>,
        set: Set,
        negated: bool,
    },
    /// A test of text against a pattern that is fixed in the query.
    TextTest {
        expr: Box<Node>,
        test: TextTest,
        negated: bool,
    },
    /// A test of text against another column's.
    TextPair {
        op: TextOp,
        left: Box<Node>,
        right: Box<Node>,
        negated: bool,
    },
    Exists(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// Some event (or link) of the row fulfils the condition.
    Some {
        child: Level,
        condition: Box<Node>,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<Node>,
        right: Box<Node>,
    },
    Negate(Box<Node>),
    /// A step into arrays and maps.
    Path {
        expr: Box<Node>,
        steps: Vec<PathStep>,
    },
    Call {
        function: Function,
        args: Vec<Node>,
    },
    /// A column of rows that are joined by these keys.
    Joined {
        join: usize,
        output: usize,
        keys: Vec<Node>,
    },
    /// The value of the first child of the row that has one.
    First {
        child: Level,
        expr: Box<Node>,
    },
}

impl Node {
    /// Visits every field number.
    pub(crate) fn fields(&self, visit: &mut impl FnMut(usize)) {
        self.each(&mut |node| {
            if let Node::Field(field) = node {
                visit(*field);
            }
        });
    }

    /// The same with something else for each field.
    pub(crate) fn with_fields(&self, field: &impl Fn(usize) -> Node) -> Node {
        let boxed = |node: &Node| Box::new(node.with_fields(field));
        let all = |nodes: &[Node]| nodes.iter().map(|node| node.with_fields(field)).collect();
        match self {
            Node::Const(scalar) => Node::Const(scalar.clone()),
            Node::Field(number) => field(*number),
            Node::Compare { op, left, right } => Node::Compare { op: *op, left: boxed(left), right: boxed(right) },
            Node::InSet { expr, set, negated } => {
                Node::InSet { expr: boxed(expr), set: set.clone(), negated: *negated }
            }
            Node::TextTest { expr, test, negated } => {
                Node::TextTest { expr: boxed(expr), test: test.clone(), negated: *negated }
            }
            Node::TextPair { op, left, right, negated } => {
                Node::TextPair { op: *op, left: boxed(left), right: boxed(right), negated: *negated }
            }
            Node::Exists(inner) => Node::Exists(boxed(inner)),
            Node::And(nodes) => Node::And(all(nodes)),
            Node::Or(nodes) => Node::Or(all(nodes)),
            Node::Not(inner) => Node::Not(boxed(inner)),
            Node::Some { child, condition } => Node::Some { child: *child, condition: boxed(condition) },
            Node::Arithmetic { op, left, right } => {
                Node::Arithmetic { op: *op, left: boxed(left), right: boxed(right) }
            }
            Node::Negate(inner) => Node::Negate(boxed(inner)),
            Node::Path { expr, steps } => Node::Path { expr: boxed(expr), steps: steps.clone() },
            Node::Call { function, args } => Node::Call { function: function.clone(), args: all(args) },
            Node::Joined { join, output, keys } => Node::Joined { join: *join, output: *output, keys: all(keys) },
            Node::First { child, expr } => Node::First { child: *child, expr: boxed(expr) },
        }
    }

    /// The same of a row to which nothing is joined: joined values are missing.
    pub(crate) fn without_joined(&self) -> Node {
        match self {
            Node::Joined { .. } | Node::First { .. } => Node::Const(Scalar::Null),
            Node::Call { function, args } => {
                Node::Call { function: function.clone(), args: args.iter().map(Node::without_joined).collect() }
            }
            Node::And(nodes) => Node::And(nodes.iter().map(Node::without_joined).collect()),
            Node::Or(nodes) => Node::Or(nodes.iter().map(Node::without_joined).collect()),
            Node::Not(inner) => Node::Not(Box::new(inner.without_joined())),
            Node::Negate(inner) => Node::Negate(Box::new(inner.without_joined())),
            Node::Exists(inner) => Node::Exists(Box::new(inner.without_joined())),
            Node::Path { expr, steps } => Node::Path { expr: Box::new(expr.without_joined()), steps: steps.clone() },
            Node::Compare { op, left, right } => Node::Compare {
                op: *op,
                left: Box::new(left.without_joined()),
                right: Box::new(right.without_joined()),
            },
            Node::Arithmetic { op, left, right } => Node::Arithmetic {
                op: *op,
                left: Box::new(left.without_joined()),
                right: Box::new(right.without_joined()),
            },
            Node::InSet { expr, set, negated } => {
                Node::InSet { expr: Box::new(expr.without_joined()), set: set.clone(), negated: *negated }
            }
            Node::TextTest { expr, test, negated } => {
                Node::TextTest { expr: Box::new(expr.without_joined()), test: test.clone(), negated: *negated }
            }
            other => other.clone(),
        }
    }

    /// Visits the number of every join.
    pub(crate) fn joins(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Node::Const(_) | Node::Field(_) => {}
            Node::Joined { join, .. } => visit(*join),
            Node::Compare { left, right, .. }
            | Node::TextPair { left, right, .. }
            | Node::Arithmetic { left, right, .. } => {
                left.joins(visit);
                right.joins(visit);
            }
            Node::InSet { expr, .. }
            | Node::TextTest { expr, .. }
            | Node::Exists(expr)
            | Node::Not(expr)
            | Node::Negate(expr)
            | Node::Path { expr, .. }
            | Node::First { expr, .. }
            | Node::Some { condition: expr, .. } => expr.joins(visit),
            Node::And(all) | Node::Or(all) | Node::Call { args: all, .. } => all.iter().for_each(|n| n.joins(visit)),
        }
    }

    /// Visits this node and every part of it.
    fn each(&self, visit: &mut impl FnMut(&Node)) {
        with_room(|| self.each_part(visit));
    }

    fn each_part(&self, visit: &mut impl FnMut(&Node)) {
        visit(self);
        match self {
            Node::Const(_) | Node::Field(_) => {}
            Node::Compare { left, right, .. }
            | Node::TextPair { left, right, .. }
            | Node::Arithmetic { left, right, .. } => {
                left.each(visit);
                right.each(visit);
            }
            Node::InSet { expr, .. }
            | Node::TextTest { expr, .. }
            | Node::Exists(expr)
            | Node::Not(expr)
            | Node::Negate(expr)
            | Node::Path { expr, .. }
            | Node::First { expr, .. }
            | Node::Some { condition: expr, .. } => expr.each(visit),
            Node::And(all) | Node::Or(all) | Node::Call { args: all, .. } | Node::Joined { keys: all, .. } => {
                all.iter().for_each(|n| n.each(visit));
            }
        }
    }

    /// Who calls plugins in it.
    pub(crate) fn plugin_calls(&self, visit: &mut impl FnMut(&Arc<Called>)) {
        self.each(&mut |node| {
            if let Node::Call { function: Function::Plugin(called), .. } = node {
                visit(called);
            }
        });
    }

    /// Whether it calls a plugin: that is dear, may fail, and is known by its answers alone.
    pub(crate) fn calls_plugin(&self) -> bool {
        let mut calls = false;
        self.plugin_calls(&mut |_| calls = true);
        calls
    }

    /// The numbers of all fields.
    pub(crate) fn field_set(&self) -> HashSet<usize> {
        let mut set = HashSet::new();
        self.fields(&mut |f| {
            set.insert(f);
        });
        set
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl CompareOp {
    /// Whether two values in this order fulfil it. `None`: not ordered (NaN), of which only `!=` is true.
    pub(crate) fn holds(self, order: Option<std::cmp::Ordering>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match (self, order) {
            (CompareOp::Ne, order) => order != Some(Equal),
            (_, None) => false,
            (CompareOp::Eq, Some(order)) => order == Equal,
            (CompareOp::Lt, Some(order)) => order == Less,
            (CompareOp::Le, Some(order)) => order != Greater,
            (CompareOp::Gt, Some(order)) => order == Greater,
            (CompareOp::Ge, Some(order)) => order != Less,
        }
    }

    /// The operator with its operands swapped.
    pub(crate) fn flipped(self) -> CompareOp {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            same => same,
        }
    }
}

/// Constants of an `in`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) strs: HashSet<String>,
    pub(crate) ints: HashSet<i64>,
    pub(crate) doubles: Vec<f64>,
    pub(crate) bools: Vec<bool>,
    /// Ids, from texts of their hex form.
    pub(crate) ids: HashSet<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TextOp {
    Contains,
    IContains,
    StartsWith,
    IStartsWith,
    EndsWith,
    IEndsWith,
}

#[derive(Clone, Debug)]
pub(crate) enum TextTest {
    /// Lower case already where the operator ignores case.
    Op(TextOp, String),
    /// An element to look for in arrays; text contains text only.
    Element(Scalar),
    Regex(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ArithmeticOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PathStep {
    Key(String),
    Index(u32),
}

/// What a value looks like as text: `text(duration)` is `1.5s`, not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Unit {
    #[default]
    Plain,
    /// Nanoseconds.
    Duration,
    /// Unix nanoseconds.
    Time,
}

/// Scalar functions. Arguments are as many as the grammar lets through.
#[derive(Clone, Debug)]
pub(crate) enum Function {
    /// Condition, then, else.
    If,
    /// Condition, value, condition, value, …, else.
    Case,
    Coalesce,
    Lower,
    Upper,
    Length,
    Substr,
    Replace,
    Split,
    Extract(Regex, usize),
    Text(Unit),
    Number,
    Bool,
    Abs,
    Floor,
    Ceil,
    Round,
    Log2,
    Log10,
    Sqrt,
    Pow,
    /// Value, width: the multiple of the width at or below the value.
    Bucket,
    /// The identity of a series, of the parts that its tables have.
    Identity,
    /// The start of the bin of a time in a named zone; in UTC it is a bucket.
    Bin(TimeBin),
    /// In UTC, or in a named zone.
    Hour(Option<Tz>),
    /// In UTC, or in a named zone.
    Weekday(Option<Tz>),
    /// The tenant's own.
    Plugin(Arc<Called>),
}
