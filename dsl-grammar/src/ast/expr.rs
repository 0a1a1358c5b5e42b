//! Expressions of the Ast.

use std::fmt;

use super::Source;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A value.
    Literal(Literal),
    /// `[1, 2, 3]`; in the text of `in` also `(1, 2, 3)`.
    List(Vec<Expr>),
    /// A field, a name of `let` or of `select`. A bare word opposite `status`, `kind` or `severity` is a field here too
    /// (`status = error`, see [`Field::word`]): only the binder knows that it is a value.
    Field(Field),
    /// Two or more, none of them an `And`.
    And(Vec<Expr>),
    /// Two or more, none of them an `Or`.
    Or(Vec<Expr>),
    /// `not x`
    Not(Box<Expr>),
    /// `-x`; never of a literal number or duration, whose sign is in the literal (`i64::MIN` apart).
    Neg(Box<Expr>),
    /// A comparison or arithmetic.
    Binary {
        /// Which.
        op: BinaryOp,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `x in (1, 2)`, `x not in [1, 2]`
    In {
        /// What is looked for.
        expr: Box<Expr>,
        /// Among these; at least one.
        list: Vec<Expr>,
        /// `not in`: a comparison too, so false where `expr` is missing.
        negated: bool,
    },
    /// `x between low and high`, both ends included.
    Between {
        /// What is compared.
        expr: Box<Expr>,
        /// Lowest value inside.
        low: Box<Expr>,
        /// Highest value inside.
        high: Box<Expr>,
        /// `not between`: a comparison too, so false where `expr` is missing.
        negated: bool,
    },
    /// A scalar or series function of [`crate::functions`], also `exists(x)` and `bin(time, 1m)`.
    Call(Call),
    /// An aggregate.
    Aggregate(Aggregate),
    /// `plugin.name(…)`: a function or an aggregate, which only the binder knows.
    Plugin(PluginCall),
    /// A name of `match`, alone; only in [`Match::where_`](super::Match::where_): some span of the trace fits it.
    Binding(Binding),
    /// Structure between spans; only in [`Match::where_`](super::Match::where_). Operands are `Binding` or `Relation`; the spans of a relation are
    /// those of its right side, so `a >> b > c` relates b and c.
    Relation {
        /// Which.
        op: RelationOp,
        /// Plain, negated or union.
        form: RelationForm,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
}

/// A value written in the query.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Always finite.
    Float(f64),
    /// `'text'`
    Str(String),
    /// Nanoseconds: `200ms`.
    Duration(i64),
    /// Bytes: `10MB`, `1KiB`.
    Bytes(u64),
    /// Unix nanoseconds: `t'2026-01-01T00:00:00Z'`.
    Time(i64),
}

/// Operators between two values. Those with `Not` are comparisons, false where an operand is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the name is the meaning")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `=~`, unanchored.
    Match,
    /// `!~`, unanchored.
    NotMatch,
    Contains,
    NotContains,
    IContains,
    NotIContains,
    StartsWith,
    NotStartsWith,
    IStartsWith,
    NotIStartsWith,
    EndsWith,
    NotEndsWith,
    IEndsWith,
    NotIEndsWith,
}

impl BinaryOp {
    /// All of them.
    pub const ALL: [BinaryOp; 25] = {
        use BinaryOp::*;
        [
            Add,
            Sub,
            Mul,
            Div,
            Rem,
            Eq,
            Ne,
            Lt,
            Le,
            Gt,
            Ge,
            Match,
            NotMatch,
            Contains,
            NotContains,
            IContains,
            NotIContains,
            StartsWith,
            NotStartsWith,
            IStartsWith,
            NotIStartsWith,
            EndsWith,
            NotEndsWith,
            IEndsWith,
            NotIEndsWith,
        ]
    };

    /// How it is written in text and as a key of the tree form.
    pub fn symbol(self) -> &'static str {
        use BinaryOp::*;
        match self {
            Add => "+",
            Sub => "-",
            Mul => "*",
            Div => "/",
            Rem => "%",
            Eq => "=",
            Ne => "!=",
            Lt => "<",
            Le => "<=",
            Gt => ">",
            Ge => ">=",
            Match => "=~",
            NotMatch => "!~",
            Contains => "contains",
            NotContains => "not contains",
            IContains => "icontains",
            NotIContains => "not icontains",
            StartsWith => "starts_with",
            NotStartsWith => "not starts_with",
            IStartsWith => "istarts_with",
            NotIStartsWith => "not istarts_with",
            EndsWith => "ends_with",
            NotEndsWith => "not ends_with",
            IEndsWith => "iends_with",
            NotIEndsWith => "not iends_with",
        }
    }

    /// `+ - * / %`, which give a value; the others give true or false.
    pub fn is_arithmetic(self) -> bool {
        use BinaryOp::*;
        matches!(self, Add | Sub | Mul | Div | Rem)
    }

    /// The operator that this one negates: `Contains` for `NotContains`, `Eq` for `Ne`. `None` where it negates none.
    pub fn negates(self) -> Option<BinaryOp> {
        use BinaryOp::*;
        match self {
            Ne => Some(Eq),
            NotMatch => Some(Match),
            NotContains => Some(Contains),
            NotIContains => Some(IContains),
            NotStartsWith => Some(StartsWith),
            NotIStartsWith => Some(IStartsWith),
            NotEndsWith => Some(EndsWith),
            NotIEndsWith => Some(IEndsWith),
            _ => None,
        }
    }
}

/// Structure between spans `a` and `b`, named after what b is to a.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationOp {
    /// `a >> b`: b is below a.
    Descendant,
    /// `a << b`: b is above a.
    Ancestor,
    /// `a > b`: b's parent is a.
    Child,
    /// `a < b`: b is a's parent.
    Parent,
    /// `a ~ b`: both have the same parent id, not empty.
    Sibling,
}

impl RelationOp {
    /// All of them.
    pub const ALL: [RelationOp; 5] =
        [RelationOp::Descendant, RelationOp::Ancestor, RelationOp::Child, RelationOp::Parent, RelationOp::Sibling];

    /// The plain operator; negated it has `!` before it, as a union `&`.
    pub fn symbol(self) -> &'static str {
        match self {
            RelationOp::Descendant => ">>",
            RelationOp::Ancestor => "<<",
            RelationOp::Child => ">",
            RelationOp::Parent => "<",
            RelationOp::Sibling => "~",
        }
    }
}

/// Which spans a relation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationForm {
    /// `a >> b`: the b that have such an a.
    Plain,
    /// `a !>> b`: the b that have no such a, in any trace.
    Negated,
    /// `a &>> b`: both sides.
    Union,
}

/// A field: `service.name`, `resource.host.name`, `parent.duration`, `a.attr.x['y']`.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Whose field: another span's or a joined signal's; `None` for the row's own.
    pub of: Option<Of>,
    /// Where it must be looked for; `None`: record, then scope, then resource.
    pub scope: Option<Scope>,
    /// The key, exactly; not empty.
    pub name: String,
    /// Steps into a map or array: `x['y'][0]`.
    pub path: Vec<Step>,
    /// Where it was written.
    pub pos: Pos,
}

impl Field {
    /// An unscoped field of the row.
    pub fn new(name: impl Into<String>) -> Self {
        Field { of: None, scope: None, name: name.into(), path: Vec::new(), pos: Pos::NONE }
    }

    /// The name where nothing but a name was written: a name of `let` or `select`, or a word such as `error` in
    /// `status = error`.
    pub fn word(&self) -> Option<&str> {
        (self.of.is_none() && self.scope.is_none() && self.path.is_empty()).then_some(self.name.as_str())
    }
}

/// Whose field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Of {
    /// `parent.x`: the stored parent span's.
    Parent,
    /// `root.x`: the trace's span without parent id.
    Root,
    /// `a.x`: the span bound to `a` by `match`.
    Binding(String),
    /// `logs.count`: of the rows joined by [`Query::joins`](super::Query::joins).
    Joined(Source),
}

/// Where a field is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `attr.x`: the record's attributes.
    Attr,
    /// `scope.x`: the instrumentation scope's name, version, attributes.
    Scope,
    /// `resource.x`: the resource's attributes.
    Resource,
    /// `event.x`: some event of the span.
    Event,
    /// `link.x`: some link of the span.
    Link,
    /// `exemplar.x`: some exemplar of the metric point. Rows that are no points have it as the front of a key.
    Exemplar,
    /// `metadata.x`: the metadata of the metric. Rows that are no points have it as the front of a key.
    Metadata,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 7] =
        [Scope::Attr, Scope::Scope, Scope::Resource, Scope::Event, Scope::Link, Scope::Exemplar, Scope::Metadata];

    /// The word before the dot.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Attr => "attr",
            Scope::Scope => "scope",
            Scope::Resource => "resource",
            Scope::Event => "event",
            Scope::Link => "link",
            Scope::Exemplar => "exemplar",
            Scope::Metadata => "metadata",
        }
    }
}

/// A step into a structured value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `['key']` of a map.
    Key(String),
    /// `[0]` of an array, from 0.
    Index(u32),
}

/// A call of a scalar or series function.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// As in [`crate::functions`], lower case.
    pub name: String,
    /// As many as the function takes.
    pub args: Vec<Expr>,
    /// Where the name was written.
    pub pos: Pos,
}

/// A call of an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// As in [`crate::functions`], lower case; quantiles keep the name they were given (`p95`), see
    /// [`Aggregate::percentile`].
    pub func: String,
    /// As many as the aggregate takes; free of aggregates.
    pub args: Vec<Expr>,
    /// Which of the group's rows it sees; free of aggregates.
    pub where_: Option<Box<Expr>>,
    /// `exact(…)` around it: no sketch.
    pub exact: bool,
    /// Where the name was written.
    pub pos: Pos,
}

impl Aggregate {
    /// The quantile between 0 and 1 that a name such as `p95` or `p999` asks for; `None` for other aggregates.
    pub fn percentile(&self) -> Option<f64> {
        crate::functions::percentile(&self.func)
    }
}

/// A call of a tenant's plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginCall {
    /// What stands after `plugin.`, as written.
    pub name: String,
    /// Any number.
    pub args: Vec<Expr>,
    /// Which rows it sees, if it is an aggregate.
    pub where_: Option<Box<Expr>>,
    /// Where the name was written.
    pub pos: Pos,
}

/// A name of `match`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The name.
    pub name: String,
    /// Where it was written.
    pub pos: Pos,
}

/// Where something was written: from 1, columns in characters; 0 where it is not known. In a JSON document it counts inside
/// the expression's string. It takes no part in equality.
#[derive(Clone, Copy, Default)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl Pos {
    /// Not known: the tree form, or an Ast made by a program.
    pub const NONE: Pos = Pos { line: 0, column: 0 };
}

impl PartialEq for Pos {
    fn eq(&self, _: &Pos) -> bool {
        true
    }
}

impl Eq for Pos {}

impl fmt::Debug for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl Expr {
    /// Calls `visit` with this expression and everything inside it, an operator before its operands.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        match self {
            Expr::Literal(_) | Expr::Field(_) | Expr::Binding(_) => {}
            Expr::List(parts) | Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| part.walk(visit)),
            Expr::Not(inner) | Expr::Neg(inner) => inner.walk(visit),
            Expr::Binary { left, right, .. } | Expr::Relation { left, right, .. } => {
                left.walk(visit);
                right.walk(visit);
            }
            Expr::In { expr, list, .. } => {
                expr.walk(visit);
                list.iter().for_each(|part| part.walk(visit));
            }
            Expr::Between { expr, low, high, .. } => {
                expr.walk(visit);
                low.walk(visit);
                high.walk(visit);
            }
            Expr::Call(Call { args, .. }) => args.iter().for_each(|arg| arg.walk(visit)),
            Expr::Aggregate(Aggregate { args, where_, .. }) | Expr::Plugin(PluginCall { args, where_, .. }) => {
                args.iter().for_each(|arg| arg.walk(visit));
                if let Some(condition) = where_ {
                    condition.walk(visit);
                }
            }
        }
    }
}
