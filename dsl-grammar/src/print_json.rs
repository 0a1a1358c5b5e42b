//! Ast -> JSON documents, whose expressions are strings or trees.

use serde_json::{Map, Value, json};

use crate::ast::{Aggregate, Call, Expr, Literal, PluginCall, Query, Range};
use crate::build::relation_symbol;
use crate::lexis::{write_bytes, write_duration, write_time};
use crate::names::Names;
use crate::print::Printer;
use crate::stack::with_room;

impl Query {
    /// The JSON document, with expressions as strings.
    ///
    /// ```
    /// let query = prism_dsl::parse_text("from logs where severity >= warn limit 5")?;
    /// let document = query.to_json();
    /// assert_eq!(document.to_string(), r#"{"from":"logs","where":"severity >= warn","limit":5}"#);
    /// assert_eq!(prism_dsl::parse_json(document.to_string().as_bytes())?, query);
    /// # Ok::<(), prism_dsl::DslError>(())
    /// ```
    pub fn to_json(&self) -> Value {
        document(self, Form::Strings)
    }

    /// The JSON document, with expressions as trees.
    ///
    /// ```
    /// let query = prism_dsl::parse_text("from logs where severity >= warn")?;
    /// let document = query.to_json_tree();
    /// assert_eq!(
    ///     document.to_string(),
    ///     r#"{"from":"logs","where":{">=":[{"field":"severity"},{"field":"warn"}]}}"#
    /// );
    /// assert_eq!(prism_dsl::parse_json(document.to_string().as_bytes())?, query);
    /// # Ok::<(), prism_dsl::DslError>(())
    /// ```
    pub fn to_json_tree(&self) -> Value {
        document(self, Form::Trees)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Strings,
    Trees,
}

fn document(query: &Query, form: Form) -> Value {
    let names = Names::of_query(query);
    let printer = Printer { names: &names };
    let expression = |expr: &Expr| expression(&printer, expr, form);
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    put("from", json!(query.from.name()));
    match query.range {
        Some(Range::Last(nanos)) => put("range", json!({ "last": write_duration(nanos) })),
        Some(Range::Between { from, to }) => put("range", json!({ "from": write_time(from), "to": write_time(to) })),
        None => {}
    }
    if let Some(matches) = &query.matches {
        let mut object: Map<String, Value> =
            matches.bindings.iter().map(|bind| (bind.name.clone(), expression(&bind.expr))).collect();
        if let Some(condition) = &matches.where_ {
            let inside = Names { in_match: true, ..names.clone() };
            object.insert("where".into(), self::expression(&Printer { names: &inside }, condition, form));
        }
        put("match", Value::Object(object));
    }
    if let Some(condition) = &query.where_ {
        put("where", expression(condition));
    }
    if !query.lets.is_empty() {
        put("let", query.lets.iter().map(|define| (define.name.clone(), expression(&define.expr))).collect());
    }
    if !query.by.is_empty() {
        let group = |expr: &Expr, alias: Option<&str>| match (form, alias) {
            (Form::Strings, alias) => json!(printer.aliased(expr, alias)),
            (Form::Trees, None) => expression(expr),
            (Form::Trees, Some(alias)) => json!({ "as": [tree(&printer, expr), alias] }),
        };
        put("by", query.by.iter().map(|by| group(&by.expr, by.alias.as_deref())).collect());
    }
    if let Some(fill) = query.fill {
        put("fill", json!(fill.name()));
    }
    if !query.select.is_empty() {
        put("select", query.select.iter().map(|column| (column.name.clone(), expression(&column.expr))).collect());
    }
    if let Some(condition) = &query.having {
        put("having", expression(condition));
    }
    if !query.order.is_empty() {
        let key = |expr: &Expr, descending: bool| match (form, descending) {
            (Form::Strings, _) => json!(printer.key(expr, descending)),
            (Form::Trees, false) => expression(expr),
            (Form::Trees, true) => json!({ "desc": [tree(&printer, expr)] }),
        };
        put("order", query.order.iter().map(|order| key(&order.expr, order.descending)).collect());
    }
    if let Some(limit) = query.limit {
        put("limit", json!(limit));
    }
    if let Some(cursor) = &query.cursor {
        put("cursor", json!(cursor));
    }
    if let Some(compare) = query.compare {
        put("compare", json!({ "offset": write_duration(compare.offset) }));
    }
    if !query.joins.is_empty() {
        let joins = query.joins.iter().map(|join| {
            let on: Vec<String> = join.on.iter().map(|key| printer.join_key(key)).collect();
            let on = if let [only] = &on[..] { json!(only) } else { json!(on) };
            let condition = self::expression(&Printer { names: &Names::default() }, &join.where_, form);
            json!({ join.source.name(): condition, "on": on })
        });
        let mut joins: Vec<Value> = joins.collect();
        let only = if joins.len() == 1 { joins.pop() } else { None };
        put("join", only.unwrap_or(Value::Array(joins)));
    }
    if let Some(budget) = query.budget {
        let mut object = Map::new();
        if let Some(bytes) = budget.bytes {
            object.insert("bytes".into(), json!(write_bytes(bytes)));
        }
        if let Some(nanos) = budget.time {
            object.insert("time".into(), json!(write_duration(nanos)));
        }
        put("budget", Value::Object(object));
    }
    if let Some(returned) = &query.return_ {
        put("return", json!(returned));
    }
    if query.dry_run {
        put("dry_run", json!(true));
    }
    Value::Object(out)
}

/// An expression-valued field. There a string is read as text, null as absent and an array not at all, so that literal ones
/// are wrapped.
fn expression(printer: &Printer<'_>, expr: &Expr, form: Form) -> Value {
    match expr {
        _ if form == Form::Strings => json!(printer.text(expr)),
        Expr::Literal(Literal::Str(_) | Literal::Null) | Expr::List(_) => json!({ "expr": printer.text(expr) }),
        _ => tree(printer, expr),
    }
}

fn tree(printer: &Printer<'_>, expr: &Expr) -> Value {
    with_room(|| tree_here(printer, expr))
}

fn tree_here(printer: &Printer<'_>, expr: &Expr) -> Value {
    let one = |expr: &Expr| tree(printer, expr);
    let many = |parts: &[Expr]| -> Value { parts.iter().map(one).collect() };
    let operation = |key: &str, args: Value| json!({ key: args });
    match expr {
        Expr::Literal(literal) => match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => json!(value),
            Literal::Int(value) => json!(value),
            Literal::Float(value) => json!(value),
            Literal::Str(text) => json!(text),
            Literal::Duration(nanos) => json!({ "duration": write_duration(*nanos) }),
            Literal::Bytes(bytes) => json!({ "bytes": write_bytes(*bytes) }),
            Literal::Time(nanos) => json!({ "time": write_time(*nanos) }),
        },
        Expr::List(members) => many(members),
        Expr::Field(field) => {
            let mut text = String::new();
            printer.field(&mut text, field);
            json!({ "field": text })
        }
        Expr::Binding(span) => json!({ "field": span.name }),
        Expr::And(parts) => operation("and", many(parts)),
        Expr::Or(parts) => operation("or", many(parts)),
        Expr::Not(inner) => operation("not", json!([one(inner)])),
        Expr::Neg(inner) => operation("-", json!([one(inner)])),
        Expr::Binary { op, left, right } => operation(op.symbol(), json!([one(left), one(right)])),
        Expr::Relation { op, form, left, right } => {
            operation(&relation_symbol(*op, *form), json!([one(left), one(right)]))
        }
        Expr::In { expr, list, negated } => {
            operation(if *negated { "not in" } else { "in" }, json!([one(expr), many(list)]))
        }
        Expr::Between { expr, low, high, negated } => {
            operation(if *negated { "not between" } else { "between" }, json!([one(expr), one(low), one(high)]))
        }
        Expr::Call(Call { name, args, .. }) => operation(name, many(args)),
        Expr::Aggregate(Aggregate { func, args, where_, exact, .. }) => {
            let call = operation(func, many(args));
            let call = if *exact { operation("exact", json!([call])) } else { call };
            filtered(printer, call, where_.as_deref())
        }
        Expr::Plugin(PluginCall { name, args, where_, .. }) => {
            filtered(printer, operation(&format!("plugin.{name}"), many(args)), where_.as_deref())
        }
    }
}

fn filtered(printer: &Printer<'_>, call: Value, condition: Option<&Expr>) -> Value {
    match condition {
        Some(condition) => json!({ "where": [call, tree(printer, condition)] }),
        None => call,
    }
}
