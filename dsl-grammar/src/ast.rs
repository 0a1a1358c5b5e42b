//! The Ast: what a query says, whichever of its three forms it was written in.
//!
//! It knows no columns and no types: whether `http.route` exists, and what `status = error` compares, is for the binder.
//! Every value here came through the checks of the parser, so depth is at most [`crate::MAX_LEVELS`] operators and a
//! recursive walk is safe.

mod expr;

pub use expr::*;

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

impl Compare {
    /// What the names of the earlier columns end with: `@-1d`.
    ///
    /// ```
    /// let query = prism_dsl::parse_text("from spans select count() as n compare 24h")?;
    /// assert_eq!(query.compare.map(|compare| compare.suffix()).as_deref(), Some("@-1d"));
    /// # Ok::<(), prism_dsl::DslError>(())
    /// ```
    pub fn suffix(&self) -> String {
        format!("@-{}", crate::lexis::write_duration(self.offset))
    }
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
