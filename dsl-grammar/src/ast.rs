//! The Ast: what a query says, whichever of its three forms it was written in.
//!
//! It knows no columns and no types: whether `http.route` exists, and what `status = error` compares, is for the binder.
//! Every value here came through the checks of the parser, so depth is at most [`crate::MAX_LEVELS`] operators and a
//! recursive walk is safe.

use std::fmt;

/// One query. Absent clauses are `None` or empty; no default is filled in here, that is for the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Which rows: `from spans`.
    pub from: Source,
    /// Which time; `None` leaves the choice to the engine.
    pub range: Option<Range>,
    /// Named spans and the structure between them: `match (a: …, b: … where a >> b)`.
    pub matches: Option<Match>,
    /// Which rows are kept; free of aggregates and series functions.
    pub where_: Option<Expr>,
    /// Calculated fields in the order given; a later one may use an earlier one. Names are distinct.
    pub lets: Vec<Let>,
    /// Groups, in the order of the answer's columns.
    pub by: Vec<By>,
    /// What empty bins show.
    pub fill: Option<Fill>,
    /// Columns of the answer, in order; empty lets the engine choose. Names are distinct.
    pub select: Vec<Select>,
    /// Which groups are kept; may use names of `select` and aggregates.
    pub having: Option<Expr>,
    /// Order of the rows, most significant first; may use names of `select` and aggregates.
    pub order: Vec<Order>,
    /// How many rows; the engine clamps it.
    pub limit: Option<u64>,
    /// Where the previous page ended, as the engine gave it.
    pub cursor: Option<String>,
    /// The same columns over an earlier range.
    pub compare: Option<Compare>,
    /// Other signals beside the rows: `logs.count`.
    pub joins: Vec<Join>,
    /// What the query may cost.
    pub budget: Option<Budget>,
    /// The binding of `matches` whose spans are the rows; `None` means the right side of the last structure operator.
    pub return_: Option<String>,
    /// Plan and estimate only.
    pub dry_run: bool,
}

impl Query {
    /// A query for all rows of `from`, with every clause absent.
    pub fn new(from: Source) -> Self {
        Query {
            from,
            range: None,
            matches: None,
            where_: None,
            lets: Vec::new(),
            by: Vec::new(),
            fill: None,
            select: Vec::new(),
            having: None,
            order: Vec::new(),
            limit: None,
            cursor: None,
            compare: None,
            joins: Vec::new(),
            budget: None,
            return_: None,
            dry_run: false,
        }
    }
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A span.
    Spans,
    /// A log record.
    Logs,
    /// A metric data point.
    Metrics,
    /// A trace: root, duration, span and error counts.
    Traces,
    /// An envelope row for each span, span event, log record and metric point.
    Events,
}

impl Source {
    /// All of them, in the order of the documentation.
    pub const ALL: [Source; 5] = [Source::Spans, Source::Logs, Source::Metrics, Source::Traces, Source::Events];

    /// The word in the language.
    pub fn name(self) -> &'static str {
        match self {
            Source::Spans => "spans",
            Source::Logs => "logs",
            Source::Metrics => "metrics",
            Source::Traces => "traces",
            Source::Events => "events",
        }
    }
}

/// A time range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The last so many nanoseconds before the query's now; above 0.
    Last(i64),
    /// Unix nanoseconds, half open: `[from, to)`, with `from < to`.
    Between {
        /// First nanosecond inside.
        from: i64,
        /// First nanosecond after.
        to: i64,
    },
}

/// Named spans of one trace, and what holds between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// At least one; names are distinct.
    pub bindings: Vec<Bind>,
    /// Structure ([`Expr::Relation`] over [`Expr::Binding`]) and conditions between the bound spans
    /// (`b.time - a.time < 200ms`), joined by and, or, not. `None`: the trace has a span for each binding.
    pub where_: Option<Expr>,
}

/// One named span of a [`Match`].
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// By which the span's fields are reached: `a.name`.
    pub name: String,
    /// Which spans it may be.
    pub expr: Expr,
}

/// A calculated field.
#[derive(Debug, Clone, PartialEq)]
pub struct Let {
    /// Its name, unscoped; it hides an attribute of the same name.
    pub name: String,
    /// Free of aggregates and series functions.
    pub expr: Expr,
}

/// A group.
#[derive(Debug, Clone, PartialEq)]
pub struct By {
    /// Free of aggregates and series functions.
    pub expr: Expr,
    /// The column's name, if one was given.
    pub alias: Option<String>,
}

impl By {
    /// The column's name: the alias, else the expression as text.
    pub fn name(&self) -> String {
        self.alias.clone().unwrap_or_else(|| default_name(&self.expr))
    }
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// The column's name. Where the text form gave none it is [`default_name`] of the expression.
    pub name: String,
    /// A row's value, or with aggregates a group's.
    pub expr: Expr,
}

/// The name that an unnamed column gets: a field's own name without quotes, else the expression as text.
pub fn default_name(expr: &Expr) -> String {
    match expr {
        Expr::Field(Field { of: None, scope: None, name, path, .. }) if path.is_empty() => name.clone(),
        other => crate::print::expr_to_text(other),
    }
}

/// One key of the order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// A name of `select` or `by`, a field, or an aggregate.
    pub expr: Expr,
    /// Greatest first.
    pub descending: bool,
}

/// What a bin without rows shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// No row.
    None,
    /// A row of nulls.
    Null,
    /// A row of zeros.
    Zero,
    /// The values of the bin before.
    Previous,
}

impl Fill {
    /// All of them.
    pub const ALL: [Fill; 4] = [Fill::None, Fill::Null, Fill::Zero, Fill::Previous];

    /// The word in the language.
    pub fn name(self) -> &'static str {
        match self {
            Fill::None => "none",
            Fill::Null => "null",
            Fill::Zero => "0",
            Fill::Previous => "previous",
        }
    }
}

/// The same columns over an earlier range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compare {
    /// How much earlier, nanoseconds, above 0.
    pub offset: i64,
}

/// Rows of another signal beside the query's.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// Which signal: spans, logs or metrics. Its columns are `logs.count`, `logs.first.body` … ([`Of::Joined`]).
    pub source: Source,
    /// Which of its rows; `true` for all.
    pub where_: Expr,
    /// What they have in common; at least one.
    pub on: Vec<JoinKey>,
}

/// What joined rows have in common.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinKey {
    /// The trace id.
    Trace,
    /// The time bin of the query's `by`.
    Bin,
    /// A field.
    Field(Field),
}

/// What a query may cost before it is refused or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Bytes read.
    pub bytes: Option<u64>,
    /// Nanoseconds of wall time, above 0.
    pub time: Option<i64>,
}

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
    /// A name of `match`, alone; only in [`Match::where_`]: some span of the trace fits it.
    Binding(Binding),
    /// Structure between spans; only in [`Match::where_`]. Operands are `Binding` or `Relation`; the spans of a relation are
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
    /// `logs.count`: of the rows joined by [`Query::joins`].
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
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 5] = [Scope::Attr, Scope::Scope, Scope::Resource, Scope::Event, Scope::Link];

    /// The word before the dot.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Attr => "attr",
            Scope::Scope => "scope",
            Scope::Resource => "resource",
            Scope::Event => "event",
            Scope::Link => "link",
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
