//! Names become fields, operators and functions become nodes; what cannot be run is refused with its position.
//!
//! ```text
//! query (clauses) -> value (functions, arithmetic, fields), condition (comparisons) -> words (kinds, states, severities)
//!                    structure (`match`, fields of other spans)
//! ```
//!
//! Not here: which columns a frame has (`field`), how nodes are computed (`eval`).

pub(crate) mod query;
mod value;
mod series;
mod aggregate;
mod plugin;
mod condition;
mod words;
mod join;
mod structure;
mod beside;

use prism_dsl::{Expr, Field as AstField, Let, Of, Pos, Scope};
use prism_model::{Signal, TableKind};

use crate::error::{QueryError, code};
use crate::eval::node::{Level, Node, Unit};
use crate::eval::zone::TimeBin;
use crate::events::Kind;
use crate::field::{Field, From};
use crate::group::{Accumulator, Output};
use crate::joins::OfGroup;
use crate::names::{Fixed, fixed_field, row_fields};
use crate::plugins::Plugins;
use crate::series::functions::Series;
use crate::stack::with_room;

/// A bound expression and what is known of its values.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) node: Node,
    pub(crate) unit: Unit,
    /// It has a value for each event or link, so that it may only stand in a condition.
    pub(crate) child: Option<Level>,
}

impl Bound {
    fn value(node: Node, unit: Unit) -> Bound {
        Bound { node, unit, child: None }
    }
}

/// What a group computes, and what an answer's columns take from it.
#[derive(Debug, Default)]
pub(crate) struct Aggregates {
    /// Distinct accumulators, with the expressions that they were made of.
    pub(crate) accumulators: Vec<Accumulator>,
    sources: Vec<(Option<Expr>, Option<Expr>)>,
    /// What is taken of them: the fields of group expressions, behind the keys.
    pub(crate) outputs: Vec<(usize, Output, Unit)>,
}

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Over rows: fields are columns.
    Row,
    /// Over groups: fields are keys and aggregates.
    Group,
    /// Over bound spans: fields are theirs.
    Spans,
}

/// Binds the expressions of one query.
pub(crate) struct Binder<'q> {
    query: &'q prism_dsl::Query,
    plugins: Plugins,
    signal: Signal,
    /// What is counted as a row.
    level: Level,
    /// Which kind of rows, among those of all kinds.
    kind: Option<Kind>,
    now: i64,
    place: Place,
    /// Nanoseconds that a rate is divided by, and the names of the keys.
    rate_nanos: i64,
    pub(crate) fields: Vec<Field>,
    pub(crate) aggregates: Aggregates,
    key_units: Vec<Unit>,
    /// The key that is a bin of the rows' time.
    bin: Option<(usize, TimeBin)>,
    series: Vec<Series>,
    /// What is asked of each join, with its unit; and of which groups show what of it.
    joined_outputs: Vec<Vec<(Expr, Unit)>>,
    joined_of_groups: Vec<OfGroup>,
    /// Names of `let` and `select` that are being bound: a name does not find itself.
    open_lets: Vec<usize>,
    open_selects: Vec<usize>,
    /// Within the condition of a span of `match`, whatever the rows are.
    of_span: bool,
    depth: usize,
    nodes: usize,
}

/// Where a name without a scope is looked for.
const RECORD_FIRST: [TableKind; 3] = [TableKind::Items, TableKind::Scopes, TableKind::Resources];
/// Nesting of an expression with the names of `let` and `select` written out: the walks over it recurse.
const DEPTH_MAX: usize = 160;
/// Operators and values of a query with the names of `let` and `select` written out: names that each use the one before
/// twice would double with every name.
const NODES_MAX: usize = 20_000;

impl<'q> Binder<'q> {
    pub(crate) fn new(query: &'q prism_dsl::Query, signal: Signal, now: i64, plugins: &Plugins) -> Binder<'q> {
        Binder {
            query,
            plugins: plugins.clone(),
            signal,
            level: Level::Row,
            kind: None,
            now,
            place: Place::Row,
            rate_nanos: 1_000_000_000,
            fields: Vec::new(),
            aggregates: Aggregates::default(),
            key_units: Vec::new(),
            bin: None,
            series: Vec::new(),
            joined_outputs: Vec::new(),
            joined_of_groups: Vec::new(),
            open_lets: Vec::new(),
            open_selects: Vec::new(),
            of_span: false,
            depth: 0,
            nodes: 0,
        }
    }

    /// A binder of one kind of rows of the envelope.
    pub(crate) fn of_kind(query: &'q prism_dsl::Query, kind: Kind, now: i64, plugins: &Plugins) -> Binder<'q> {
        Binder { level: kind.level(), kind: Some(kind), ..Binder::new(query, kind.signal(), now, plugins) }
    }

    /// A field of the rows, made known once.
    fn row_field(&mut self, field: Field) -> Bound {
        let (unit, child) = (field.unit(), field.child().filter(|child| *child != self.level));
        let number = self.fields.iter().position(|f| f.from == field.from).unwrap_or_else(|| {
            self.fields.push(field);
            self.fields.len() - 1
        });
        Bound { node: Node::Field(number), unit, child }
    }

    /// A field whose values are lists of numbers.
    fn list(&self, bound: &Bound) -> Option<&Field> {
        let Node::Field(number) = bound.node else { return None };
        self.fields.get(number).filter(|f| self.place == Place::Row && f.is_list())
    }

    /// Lists of numbers are shown, counted, searched and stepped into, but are no values to compute with.
    fn refuse_list(&self, bound: &Bound, expr: &Expr) -> Result<(), QueryError> {
        let Some(list) = self.list(bound) else { return Ok(()) };
        let (pos, width) = condition::position(expr);
        let name = &list.name;
        let message = format!("expected one value, found `{name}`, a list of numbers");
        Err(QueryError::at(code::TYPE, pos, width, message)
            .with_hint(format!("write `{name}[0]`, `length({name})` or `{name} contains 0`")))
    }

    /// The name of a field in this signal, without `let` and `select`.
    fn settle(&self, field: &AstField) -> Result<Field, QueryError> {
        self.refuse_other_rows(field)?;
        match self.beside(field)? {
            Some(beside) => Ok(beside),
            None => self.settle_own(field),
        }
    }

    /// The same, of the stored row, as a node.
    fn own_field(&mut self, field: &AstField) -> Result<Node, QueryError> {
        let settled = self.settle_own(field)?;
        Ok(self.row_field(settled).node)
    }

    /// A field of the stored row itself.
    fn settle_own(&self, field: &AstField) -> Result<Field, QueryError> {
        let name = shown(field);
        if let Some(kind) = self.kind
            && let Some(from) = self.settle_in_envelope(kind, field)
        {
            return Ok(Field { name, from });
        }
        let attribute = |tables: &[TableKind], key: &str| From::Attribute { tables: tables.to_vec(), key: key.into() };
        let scoped = |table: TableKind| {
            if let Some(key) = field.name.strip_prefix("attr.").filter(|k| !k.is_empty()) {
                return attribute(&[table], key);
            }
            match (fixed_field(self.signal, table, &field.name), field.name.strip_prefix("trace_state.")) {
                (Some(fixed), _) => From::Fixed { table, fixed },
                (None, Some(key)) if table == TableKind::Links => From::TraceState { table, key: key.to_owned() },
                (None, _) => attribute(&[table], &field.name),
            }
        };
        let of_points = self.signal == Signal::Metrics;
        let from = match field.scope {
            Some(Scope::Attr) => attribute(&[TableKind::Items], &field.name),
            Some(Scope::Scope) => scoped(TableKind::Scopes),
            Some(Scope::Resource) => scoped(TableKind::Resources),
            Some(scope @ (Scope::Event | Scope::Link)) => {
                if self.signal != Signal::Spans {
                    let message = format!("expected a field of {}, found `{name}`", self.signal);
                    return Err(QueryError::at(code::TYPE, field.pos, name.chars().count(), message)
                        .with_hint("only spans have events and links"));
                }
                scoped(if scope == Scope::Event { TableKind::Events } else { TableKind::Links })
            }
            Some(Scope::Exemplar) if of_points => scoped(TableKind::Exemplars),
            Some(Scope::Metadata) if of_points => attribute(&[TableKind::Descriptors], &field.name),
            // Where rows have neither, it is the front of a key.
            Some(scope @ (Scope::Exemplar | Scope::Metadata)) => {
                attribute(&RECORD_FIRST, &format!("{}.{}", scope.name(), field.name))
            }
            None => {
                if let Some((_, table, fixed)) = row_fields(self.signal).find(|(known, ..)| *known == field.name) {
                    From::Fixed { table, fixed }
                } else if let Some(path) = self.body_path(&field.name) {
                    From::Body { path: path.to_owned() }
                } else if let Some(key) =
                    field.name.strip_prefix("trace_state.").filter(|_| self.signal == Signal::Spans)
                {
                    From::TraceState { table: TableKind::Items, key: key.to_owned() }
                } else {
                    attribute(&RECORD_FIRST, &field.name)
                }
            }
        };
        Ok(Field { name, from })
    }

    /// What a field means in rows of one kind where it means something else than among rows of one signal.
    fn settle_in_envelope(&self, kind: Kind, field: &AstField) -> Option<From> {
        let attribute = |tables: Vec<TableKind>| From::Attribute { tables, key: field.name.as_str().into() };
        // Missing, whichever type it would have.
        let absent = || From::Absent(Fixed::Body);
        match (field.scope, kind) {
            (None, _) => kind.fixed(&field.name).or_else(|| {
                let body = field.name.starts_with("body.") && kind != Kind::Log;
                let state = field.name.starts_with("trace_state.") && kind != Kind::Span;
                let own = || attribute(vec![TableKind::Events, TableKind::Scopes, TableKind::Resources]);
                if body || state { Some(absent()) } else { (kind == Kind::SpanEvent).then(own) }
            }),
            (Some(Scope::Attr), _) => Some(attribute(vec![kind.table()])),
            (Some(Scope::Event), Kind::Log | Kind::Metric) => Some(absent()),
            (Some(Scope::Link), Kind::SpanEvent | Kind::Log | Kind::Metric) => Some(absent()),
            (Some(Scope::Exemplar | Scope::Metadata), Kind::Span | Kind::SpanEvent | Kind::Log) => Some(absent()),
            _ => None,
        }
    }

    fn body_path<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix("body.").filter(|path| self.signal == Signal::Logs && !path.is_empty())
    }

    /// Fields of other rows than the query's own need joins.
    fn refuse_other_rows(&self, field: &AstField) -> Result<(), QueryError> {
        let what = match &field.of {
            None | Some(Of::Parent | Of::Root | Of::Binding(_)) => return Ok(()),
            Some(Of::Joined(source)) => format!("fields of joined {}", source.name()),
        };
        Err(unsupported(&what, field.pos, shown(field).chars().count()))
    }

    fn let_of(&self, word: &str) -> Option<(usize, &'q Let)> {
        let query = self.query;
        // A later `let` may use an earlier one, and none uses itself.
        let visible = self.open_lets.last().copied().unwrap_or(query.lets.len());
        query.lets[..visible].iter().enumerate().rev().find(|(_, l)| l.name == word)
    }

    /// Binds a part of an expression within the bounds.
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, QueryError>) -> Result<T, QueryError> {
        self.nodes += 1;
        if self.depth >= DEPTH_MAX || self.nodes > NODES_MAX {
            let message = format!(
                "the query is larger than {DEPTH_MAX} levels or {NODES_MAX} operators once the names of `let` and `select` are written out"
            );
            return Err(QueryError::at(prism_dsl::error::code::TOO_DEEP, Pos::NONE, 1, message));
        }
        self.depth += 1;
        let out = with_room(|| f(self));
        self.depth -= 1;
        out
    }
}

/// A field as the query writes it.
pub(crate) fn shown(field: &AstField) -> String {
    prism_dsl::expr_to_text(&Expr::Field(field.clone()))
}

/// The error for what the language has and the engine does not run yet.
pub(crate) fn unsupported(what: &str, pos: Pos, width: usize) -> QueryError {
    let message = format!("{what} {} not supported yet", if what.contains("fields of") { "are" } else { "is" });
    let hint = "spans, logs and metrics can be filtered, grouped and aggregated; structure, joins, comparisons, the growth of \
                counters and quantiles of histograms are still to come";
    QueryError::at(code::UNSUPPORTED, pos, width, message).with_hint(hint)
}
