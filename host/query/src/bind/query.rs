//! The clauses of a query: plain rows or groups, their columns, order and limit.

use std::collections::HashMap;

use prism_dsl::{By, Expr, Fill, Literal, Order, Pos, Query, Range, Select, Source};
use prism_model::Signal;
use prism_model::window::TimeRange;

use super::series::is_series;
use super::{Binder, Place};
use crate::cursor::After;
use crate::error::QueryError;
use crate::eval::node::{Level, Node, Unit};
use crate::field::Field;
use crate::field::From;
use crate::group::{GroupSpec, Output};
use crate::joins::JoinPlan;
use crate::plugins::Plugins;
use crate::series::Stage;
use crate::structure::ask::{Alternative, Ask, Beside, Target, Told};
use crate::structure::holds_of_nothing;

/// Range of a query that names none.
pub(crate) const RANGE_DEFAULT_NANOS: i64 = 3_600_000_000_000;
/// Rows of an answer where the query names no limit.
pub(crate) const LIMIT_DEFAULT: usize = 100;

/// A column of the answer.
#[derive(Clone, Debug)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) node: Node,
    pub(crate) unit: Unit,
}

/// A key of the order.
#[derive(Clone, Debug)]
pub(crate) struct OrderKey {
    pub(crate) node: Node,
    pub(crate) descending: bool,
}

/// What is computed.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Rows as they are: order and columns are of the rows' fields.
    Rows,
    /// Groups: columns, `having` and order are of the groups' keys and outputs.
    Groups {
        spec: Box<GroupSpec>,
        outputs: Vec<(usize, Output, Unit)>,
        /// What is done with them before `having`, order and columns see them.
        stage: Box<Stage>,
        having: Option<Box<Node>>,
    },
}

/// A query whose names are settled.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) signal: Signal,
    /// What is counted as a row.
    pub(crate) level: Level,
    pub(crate) range: TimeRange,
    /// The query named no range.
    pub(crate) range_is_default: bool,
    pub(crate) fields: Vec<Field>,
    /// Joined by and.
    pub(crate) conditions: Vec<Node>,
    pub(crate) shape: Shape,
    pub(crate) columns: Vec<OutputColumn>,
    pub(crate) order: Vec<OrderKey>,
    pub(crate) limit: usize,
    /// Where the page before ended.
    pub(crate) after: Option<After>,
    /// The time of a stored row, in `fields`.
    pub(crate) time: Node,
    /// The time that the query sees: of a trace that of its start.
    pub(crate) shown_time: Node,
    pub(crate) warnings: Vec<String>,
    /// Rows of other signals beside these.
    pub(crate) joins: Vec<JoinPlan>,
    /// The same query over further kinds of rows, which the answer has beside these: columns, order and groups are alike.
    pub(crate) beside: Vec<Plan>,
    /// What must be found out about the spans of traces before the scan.
    pub(crate) structure: Option<Box<Ask>>,
}

impl Plan {
    /// Every node over rows.
    pub(crate) fn nodes(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        let of_rows = self.conditions.iter().chain([&self.time]);
        match &self.shape {
            Shape::Groups { spec, .. } => Box::new(of_rows.chain(spec.nodes())),
            Shape::Rows => {
                let order = self.order.iter().map(|key| &key.node);
                Box::new(of_rows.chain(self.columns.iter().map(|column| &column.node)).chain(order))
            }
        }
    }
}

impl Plan {
    /// Makes it that of a later page.
    pub(crate) fn turn_to(&mut self, after: &After) {
        self.after = Some(after.clone());
        self.beside.iter_mut().for_each(|beside| beside.turn_to(after));
    }
}

/// Settles a query, or refuses what cannot be run.
///
/// # Errors
/// `Fix`, with position and hint.
pub(crate) fn plan(query: &Query, now: i64, limit_max: usize, plugins: &Plugins) -> Result<Plan, QueryError> {
    if query.matches.is_some() && !matches!(query.from, Source::Spans | Source::Traces) {
        let message =
            format!("expected `from spans` or `from traces` with `match`, found `from {}`", query.from.name());
        return Err(QueryError::at(crate::error::code::TYPE, Pos::NONE, 1, message));
    }
    let signal = match query.from {
        Source::Logs => Signal::Logs,
        Source::Metrics => Signal::Metrics,
        Source::Events => return crate::events::plan(query, now, limit_max, plugins),
        _ => Signal::Spans,
    };
    plan_of(Binder::new(query, signal, now, plugins), limit_max)
}

/// Settles the clauses of a binder's query.
pub(crate) fn plan_of(mut binder: Binder<'_>, limit_max: usize) -> Result<Plan, QueryError> {
    let query = binder.query;
    let (signal, level) = (binder.signal, binder.level);
    let range = range(query, binder.now);
    let mut warnings = Vec::new();
    let time = prism_dsl::Field::new("time");
    // Of a trace another than that of its row.
    let shown_time = binder.value(&Expr::Field(time.clone()))?.node;
    let time = binder.own_field(&time)?;
    let matching = query.matches.as_ref().map(|of| binder.matching(of)).transpose()?;
    let mut conditions = match &query.where_ {
        None => Vec::new(),
        Some(expr) => match binder.condition(expr)? {
            Node::And(all) => all,
            one => vec![one],
        },
    };
    let limit = match query.limit {
        None => LIMIT_DEFAULT.min(limit_max),
        Some(limit) if limit > limit_max as u64 => {
            warnings.push(format!("`limit` {limit} was lowered to {limit_max} (`query.limit_max`)"));
            limit_max
        }
        Some(limit) => limit as usize,
    };
    let aggregates = |expr: &Expr| has_aggregate(expr, &binder.plugins);
    let grouped = !query.by.is_empty()
        || query.select.iter().any(|s| aggregates(&s.expr))
        || query.order.iter().any(|o| aggregates(&o.expr))
        || query.having.as_ref().is_some_and(aggregates);
    let (shape, columns, order) =
        if grouped { groups(&mut binder, &shown_time, range)? } else { rows(&mut binder, &shown_time)? };
    let mut ask = Ask {
        bindings: Vec::new(),
        parent: Vec::new(),
        alternatives: Vec::new(),
        traces: query.from == Source::Traces,
        returned: Vec::new(),
    };
    let structure = match matching {
        Some(matching) => {
            (ask.bindings, ask.alternatives) = (matching.bindings, matching.alternatives);
            ask.returned = matching.returned;
            Some(Box::new(ask))
        }
        None if ask.traces || binder.fields.iter().any(|field| matches!(field.from, From::Beside(_))) => {
            // Those that look at the row alone tell which traces are read.
            let alone = |node: &&Node| {
                let mut joins = false;
                node.joins(&mut |_| joins = true);
                !joins && node.field_set().iter().all(|field| !matches!(binder.fields[*field].from, From::Beside(_)))
            };
            ask.bindings = vec![conditions.iter().filter(alone).cloned().collect()];
            ask.alternatives = vec![Alternative { bound: vec![0], ..Alternative::default() }];
            if !ask.traces {
                ask.parent = of_parents(&mut binder.fields, &mut conditions);
            }
            Some(Box::new(ask))
        }
        None => None,
    };
    let joins = binder.join_plans()?;
    Ok(Plan {
        signal,
        level,
        range,
        range_is_default: query.range.is_none(),
        fields: binder.fields,
        conditions,
        shape,
        columns,
        order,
        limit,
        after: None,
        time,
        shown_time,
        warnings,
        joins,
        beside: Vec::new(),
        structure,
    })
}

/// Takes the conditions that look at nothing but fields of the row's parent, and do not hold where that is not stored: over the
/// fields of the parent itself. Nothing then has to stand beside the rows for them.
fn of_parents(fields: &mut Vec<Field>, conditions: &mut Vec<Node>) -> Vec<Node> {
    let of_spans = |field: &Field| match &field.from {
        From::Beside(beside) => matches!(beside.told, Told::Field(_)),
        _ => true,
    };
    // Own times are told by trees, in which parents are found otherwise.
    if !fields.iter().all(of_spans) {
        return Vec::new();
    }
    let (of_parents, others): (Vec<Node>, Vec<Node>) = std::mem::take(conditions).into_iter().partition(|condition| {
        let named = condition.field_set();
        let mut joins = false;
        condition.joins(&mut |_| joins = true);
        let alone = !named.is_empty() && named.iter().all(|field| of_parent(fields, *field).is_some());
        alone && !joins && !condition.calls_plugin() && !holds_of_nothing(condition)
    });
    *conditions = others;
    let mut numbers = HashMap::new();
    for number in of_parents.iter().flat_map(Node::field_set) {
        if let Some(inner) = of_parent(fields, number) {
            let inner = Field { name: fields[number].name.clone(), ..inner.clone() };
            numbers.entry(number).or_insert_with(|| {
                fields.push(inner);
                fields.len() - 1
            });
        }
    }
    let own = |field: usize| Node::Field(numbers.get(&field).copied().unwrap_or(field));
    of_parents.iter().map(|condition| condition.with_fields(&own)).collect()
}

/// The field of the parent itself that a field of a row's parent is.
fn of_parent(fields: &[Field], field: usize) -> Option<&Field> {
    match &fields.get(field)?.from {
        From::Beside(Beside { target: Target::Parent, told: Told::Field(inner) }) => Some(inner.as_ref()),
        _ => None,
    }
}

fn range(query: &Query, now: i64) -> TimeRange {
    match query.range {
        None => TimeRange { from: now.saturating_sub(RANGE_DEFAULT_NANOS), to: now },
        Some(Range::Last(nanos)) => TimeRange { from: now.saturating_sub(nanos), to: now },
        Some(Range::Between { from, to }) => TimeRange { from, to },
    }
}

type Clauses = (Shape, Vec<OutputColumn>, Vec<OrderKey>);

/// The columns of rows where the query names none.
fn default_columns(binder: &Binder<'_>) -> &'static [&'static str] {
    if binder.kind.is_some() {
        return &["time", "signal", "service.name", "name", "body", "trace_id", "span_id"];
    }
    match binder.query.from {
        Source::Traces => &[
            "time",
            "root.service.name",
            "root.name",
            "duration",
            "span_count",
            "error_count",
            "service_count",
            "trace_id",
        ],
        Source::Logs => &["time", "service.name", "severity_text", "body", "trace_id"],
        Source::Metrics => &["time", "service.name", "name", "type", "value", "count", "sum", "unit"],
        _ => &["time", "service.name", "name", "duration", "status", "trace_id", "span_id"],
    }
}

fn rows(binder: &mut Binder<'_>, time: &Node) -> Result<Clauses, QueryError> {
    let query = binder.query;
    let mut columns = Vec::new();
    for select in &query.select {
        let bound = binder.own_value(&select.expr)?;
        columns.push(OutputColumn { name: select.name.clone(), node: bound.node, unit: bound.unit });
    }
    if query.select.is_empty() {
        for name in default_columns(binder) {
            let field = match name.strip_prefix("root.") {
                Some(of_root) => prism_dsl::Field { of: Some(prism_dsl::Of::Root), ..prism_dsl::Field::new(of_root) },
                None => prism_dsl::Field::new(*name),
            };
            let bound = binder.own_value(&Expr::Field(field))?;
            columns.push(OutputColumn { name: (*name).to_owned(), node: bound.node, unit: bound.unit });
        }
        // A calculated field that nothing else shows was asked for to be seen.
        for definition in &query.lets {
            let bound = binder.own_value(&Expr::Field(prism_dsl::Field::new(&definition.name)))?;
            columns.push(OutputColumn { name: definition.name.clone(), node: bound.node, unit: bound.unit });
        }
    }
    let of_bins = [(query.fill.is_some_and(|fill| fill != Fill::None), "fill"), (query.compare.is_some(), "compare")];
    if let Some((_, clause)) = of_bins.iter().find(|(there, _)| *there) {
        let message = format!("expected groups for `{clause}`, found plain rows");
        return Err(QueryError::at(crate::error::code::TYPE, Pos::NONE, 1, message)
            .with_hint("select an aggregate such as `count()`, or add `by bin(time, 1m)`"));
    }
    if let Some(having) = &query.having {
        let message = "expected groups for `having`, found plain rows";
        let (pos, width) = super::condition::position(having);
        return Err(QueryError::at(crate::error::code::TYPE, pos, width, message)
            .with_hint("use `where` for rows, or add `by` or an aggregate"));
    }
    let mut order = Vec::new();
    for Order { expr, descending } in &query.order {
        // A column's name means the column.
        let named = match expr {
            Expr::Field(field) => field.word().and_then(|word| query.select.iter().position(|s| s.name == word)),
            _ => None,
        };
        let node = match named {
            Some(column) => columns[column].node.clone(),
            None => binder.own_value(expr)?.node,
        };
        order.push(OrderKey { node, descending: *descending });
    }
    // The newest rows, and of equal ones in any other order too.
    order.push(OrderKey { node: time.clone(), descending: true });
    Ok((Shape::Rows, columns, order))
}

fn groups(binder: &mut Binder<'_>, time: &Node, range: TimeRange) -> Result<Clauses, QueryError> {
    let query = binder.query;
    let mut keys = Vec::new();
    for by in &query.by {
        let bound = binder.own_value(&by.expr)?;
        keys.push(bound.node);
        binder.key_units.push(bound.unit);
    }
    binder.bin = binder.time_bin(&keys, time)?;
    binder.rate_nanos = bin_width(query).unwrap_or_else(|| range.to.saturating_sub(range.from)).max(1);
    binder.place = Place::Group;
    let mut columns = Vec::new();
    let selected = |by: &By| query.select.iter().any(|s| s.expr == by.expr || is_word(&s.expr, &by.name()));
    for (i, by) in query.by.iter().enumerate().filter(|(_, by)| !selected(by)) {
        columns.push(OutputColumn { name: by.name(), node: Node::Field(i), unit: binder.key_units[i] });
    }
    for (i, Select { name, expr }) in query.select.iter().enumerate() {
        binder.open_selects.push(i);
        let bound = binder.own_value(expr)?;
        binder.open_selects.pop();
        columns.push(OutputColumn { name: name.clone(), node: bound.node, unit: bound.unit });
    }
    let having = query.having.as_ref().map(|having| binder.condition(having)).transpose()?;
    let mut order = Vec::new();
    for Order { expr, descending } in &query.order {
        order.push(OrderKey { node: binder.own_value(expr)?.node, descending: *descending });
    }
    if order.is_empty() {
        order = default_order(binder, query, &columns);
    }
    // Ties are told apart by the groups themselves, so that the answer is the same each time.
    order.extend((0..keys.len()).map(|key| OrderKey { node: Node::Field(key), descending: false }));
    let columns = binder.with_twins(columns);
    let stage = Box::new(binder.stage());
    let aggregates = std::mem::take(&mut binder.aggregates);
    let spec = GroupSpec {
        keys,
        time: aggregates.accumulators.iter().any(|a| a.kind.by_time()).then(|| time.clone()),
        range,
        now: binder.now,
        bin: binder.bin,
        later: 0,
        accumulators: aggregates.accumulators,
    };
    Ok((
        Shape::Groups { spec: Box::new(spec), outputs: aggregates.outputs, stage, having: having.map(Box::new) },
        columns,
        order,
    ))
}

/// Bins in the order of time; other groups by the first aggregate, greatest first.
fn default_order(binder: &Binder<'_>, query: &Query, columns: &[OutputColumn]) -> Vec<OrderKey> {
    if bin_width(query).is_some() {
        let is_bin = |by: &By| time_bin(query, &by.expr).is_some();
        let bins = query.by.iter().enumerate().filter(|(_, by)| is_bin(by));
        return bins.map(|(key, _)| OrderKey { node: Node::Field(key), descending: false }).collect();
    }
    let keys = binder.query.by.len();
    let first = columns.iter().find(|c| c.node.field_set().iter().any(|f| *f >= keys));
    first.map(|c| OrderKey { node: c.node.clone(), descending: true }).into_iter().collect()
}

/// The width of the first time bin among the groups.
fn bin_width(query: &Query) -> Option<i64> {
    query.by.iter().find_map(|by| time_bin(query, &by.expr))
}

/// The first time bin among the groups.
pub(super) fn bin_expr(query: &Query) -> Option<&Expr> {
    let of_time = |by: &&By| time_bin(query, &by.expr).is_some();
    query.by.iter().find(of_time).map(|by| written_out(query, &by.expr))
}

/// An expression, or what `let` says that it is.
pub(super) fn written_out<'q>(query: &'q Query, expr: &'q Expr) -> &'q Expr {
    let mut expr = expr;
    for definition in query.lets.iter().rev() {
        if is_word(expr, &definition.name) {
            expr = &definition.expr;
        }
    }
    expr
}

/// The width of a time bin, also of one that `let` gave a name.
fn time_bin(query: &Query, expr: &Expr) -> Option<i64> {
    match written_out(query, expr) {
        Expr::Call(call) if call.name == "bin" => match call.args.get(1) {
            Some(Expr::Literal(Literal::Duration(width))) => Some(*width),
            _ => None,
        },
        _ => None,
    }
}

fn is_word(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Field(field) if field.word() == Some(name))
}

/// Whether an expression holds an aggregate or a function over bins anywhere.
fn has_aggregate(expr: &Expr, plugins: &Plugins) -> bool {
    let mut found = false;
    expr.walk(&mut |part| {
        found |= match part {
            Expr::Aggregate(_) => true,
            Expr::Call(call) => is_series(&call.name),
            Expr::Plugin(call) => plugins.aggregates(call),
            _ => false,
        };
    });
    found
}
