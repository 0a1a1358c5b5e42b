//! The JSON document of a whole query -> Ast. Each expression in it is a string in the grammar of text, or a tree.

use crate::ast::{
    Bind, Budget, By, Compare, Expr, Join, JoinKey, Let, Literal, Match, Order, Query, Range, Select, Source,
    default_name,
};
use crate::error::{DslError, code};
use crate::expression::{self, Reader, internal};
use crate::grammar::{self, Rule};
use crate::json::{self, Entry, Json, Kind};
use crate::lexis::{self, short};
use crate::names::Names;
use crate::nearest::did_you_mean;
use crate::position::Lines;
use crate::rules;
use crate::text;
use crate::tree::escape;

/// Keys of a query, in the order of the documentation.
const KEYS: [&str; 17] = [
    "from", "range", "match", "where", "let", "by", "fill", "select", "having", "order", "limit", "cursor", "compare",
    "join", "budget", "return", "dry_run",
];

/// Reads a query's document. The error has its snippet.
pub(crate) fn parse(bytes: &[u8]) -> Result<Query, DslError> {
    crate::bounds::size(bytes.len())?;
    let text = std::str::from_utf8(bytes).map_err(|error| {
        DslError::new(code::JSON, format!("expected UTF-8, found another byte after {}", error.valid_up_to()))
    })?;
    let document = Document { text };
    json::parse(text).and_then(|json| document.query(&json)).map_err(|error| error.source(text))
}

/// The text of a document, for errors.
pub(crate) struct Document<'a> {
    text: &'a str,
}

type Entries<'j> = &'j [Entry];

impl Document<'_> {
    /// An error at the byte `at`, in the part `pointer`.
    pub(crate) fn error(&self, code: &'static str, message: impl Into<String>, at: usize, pointer: &str) -> DslError {
        self.at(DslError::new(code, message), at, pointer)
    }

    /// Gives an error the place `at`, unless it has one.
    pub(crate) fn at(&self, error: DslError, at: usize, pointer: &str) -> DslError {
        let width = token_width(self.text, at);
        error.within(pointer).at(Lines::new(self.text).at(at), width)
    }

    /// What `read` makes of a string of the document; its errors count lines and columns inside that string.
    pub(crate) fn string<T>(
        &self,
        text: &str,
        pointer: &str,
        read: impl FnOnce(&str) -> Result<T, DslError>,
    ) -> Result<T, DslError> {
        read(text).map_err(|error| error.at(Lines::new(text).at(0), text.chars().count()).within(pointer).source(text))
    }

    fn expected(&self, what: &str, found: &Json, pointer: &str) -> DslError {
        self.error(code::VALUE, format!("expected {what}, found {}", found.words()), found.at, pointer)
    }

    fn entries<'j>(&self, json: &'j Json, what: &str, pointer: &str) -> Result<Entries<'j>, DslError> {
        match &json.kind {
            Kind::Object(entries) => Ok(entries),
            _ => Err(self.expected(what, json, pointer)),
        }
    }

    fn text<'j>(&self, json: &'j Json, what: &str, pointer: &str) -> Result<&'j str, DslError> {
        match &json.kind {
            Kind::Text(text) => Ok(text),
            _ => Err(self.expected(what, json, pointer)),
        }
    }

    /// The items of an array; anything else counts as the only one.
    fn items<'j>(&self, json: &'j Json, pointer: &str) -> Vec<(&'j Json, String)> {
        match &json.kind {
            Kind::Array(items) => items.iter().enumerate().map(|(i, item)| (item, format!("{pointer}/{i}"))).collect(),
            _ => vec![(json, pointer.to_owned())],
        }
    }

    fn unknown_key(&self, entry: &Entry, known: &[&str], pointer: &str) -> DslError {
        let message = format!("no key is called `{}` here", short(&entry.key));
        let hint = did_you_mean(&entry.key, known.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("keys are {}", known.join(", ")));
        self.error(code::UNKNOWN, message, entry.at, &format!("{pointer}/{}", escape(&entry.key))).hint(hint)
    }

    fn query(&self, json: &Json) -> Result<Query, DslError> {
        let entries = self.entries(json, "a query as an object", "")?;
        let find = |key: &str| entries.iter().find(|entry| entry.key == key && !matches!(entry.value.kind, Kind::Null));
        let Some(from) = find("from") else {
            let hint = r#"say which rows: {"from": "spans", …}"#;
            // An unknown key is the likelier fault: `form`.
            return Err(match entries.iter().find(|entry| !KEYS.contains(&entry.key.as_str())) {
                Some(entry) => self.unknown_key(entry, &KEYS, ""),
                None => self.error(code::SYNTAX, "expected a key `from`, found none", json.at, "").hint(hint),
            });
        };
        let word = self.text(&from.value, "spans, logs, metrics, traces or events as a string", "/from")?;
        let mut query = Query::new(text::source(word).map_err(|error| self.at(error, from.value.at, "/from"))?);
        let names = self.declared(find("match"), find("join"))?;
        for entry in entries {
            if !KEYS.contains(&entry.key.as_str()) {
                return Err(self.unknown_key(entry, &KEYS, ""));
            }
            if !matches!(entry.value.kind, Kind::Null) {
                self.clause(&mut query, entry, &names)?;
            }
        }
        if let Some(entry) = find("return") {
            rules::returned(&query).map_err(|error| self.at(error, entry.value.at, "/return"))?;
        }
        Ok(query)
    }

    /// The names that `match` and `join` declare.
    fn declared(&self, matches: Option<&Entry>, join: Option<&Entry>) -> Result<Names, DslError> {
        let mut names = Names::default();
        if let Some(entry) = matches {
            for bind in self.entries(&entry.value, "an object of named spans", "/match")? {
                if bind.key != "where" {
                    let pointer = format!("/match/{}", escape(&bind.key));
                    text::binding(&bind.key).map_err(|error| self.at(error, bind.at, &pointer))?;
                    names.bindings.push(bind.key.clone());
                }
            }
            if names.bindings.is_empty() {
                let hint = r#"name spans: {"a": "service.name = 'shop'", "where": …}"#;
                let message = "expected at least one named span, found none";
                return Err(self.error(code::VALUE, message, entry.value.at, "/match").hint(hint));
            }
        }
        if let Some(entry) = join {
            for (item, pointer) in self.items(&entry.value, "/join") {
                for part in self.entries(item, "a join as an object", &pointer)?.iter().filter(|part| part.key != "on")
                {
                    let pointer = format!("{pointer}/{}", escape(&part.key));
                    let source = text::joined(&part.key, &names.joins);
                    names.joins.push(source.map_err(|error| self.at(error, part.at, &pointer))?);
                }
            }
        }
        Ok(names)
    }

    fn clause(&self, query: &mut Query, entry: &Entry, names: &Names) -> Result<(), DslError> {
        let value = &entry.value;
        let pointer = &format!("/{}", escape(&entry.key));
        match entry.key.as_str() {
            "range" => query.range = Some(self.range(value, pointer)?),
            "match" => query.matches = Some(self.matches(value, names, pointer)?),
            "where" => query.where_ = Some(self.rows_only(value, names, pointer, "`where`")?),
            "let" => {
                for define in self.entries(value, "an object of names and expressions", pointer)? {
                    let name = self.key(define, pointer)?;
                    let expr =
                        self.rows_only(&define.value, names, &format!("{pointer}/{}", escape(&name)), "`let`")?;
                    query.lets.push(Let { name, expr });
                }
            }
            "by" => {
                for (item, pointer) in self.items(value, pointer) {
                    for (expr, alias) in self.aliased(item, names, &pointer)? {
                        rules::rows_only(&expr, "`by`").map_err(|error| self.of_item(error, item, &pointer))?;
                        query.by.push(By { expr, alias });
                    }
                }
            }
            "fill" => {
                let word = match &value.kind {
                    Kind::Int(0) => "0",
                    _ => self.text(value, "none, null, 0 or previous", pointer)?,
                };
                query.fill = Some(text::fill(word).map_err(|error| self.at(error, value.at, pointer))?);
            }
            "select" => query.select = self.select(value, names, pointer)?,
            "having" => query.having = Some(self.expression(value, names, pointer)?),
            "order" => {
                for (item, pointer) in self.items(value, pointer) {
                    query.order.extend(self.order(item, names, &pointer)?);
                }
            }
            "limit" => match value.kind {
                Kind::Int(rows) if rows >= 0 => query.limit = Some(rows.unsigned_abs()),
                Kind::Int(rows) => {
                    let message = format!("expected a whole number of rows, found `{rows}`");
                    return Err(self.error(code::VALUE, message, value.at, pointer).hint("a limit is 0 or more"));
                }
                _ => return Err(self.expected("a whole number of rows", value, pointer)),
            },
            "cursor" => query.cursor = Some(self.text(value, "a cursor as a string", pointer)?.to_owned()),
            "compare" => query.compare = Some(self.compare(value, pointer)?),
            "join" => {
                for (item, pointer) in self.items(value, pointer) {
                    query.joins.push(self.join(item, names, &pointer)?);
                }
            }
            "budget" => query.budget = Some(self.budget(value, pointer)?).filter(|budget| *budget != Budget::default()),
            "return" => query.return_ = Some(self.text(value, "the name of a span of `match`", pointer)?.to_owned()),
            "dry_run" => match value.kind {
                Kind::Bool(dry_run) => query.dry_run = dry_run,
                _ => return Err(self.expected("true or false", value, pointer)),
            },
            _ => {}
        }
        Ok(())
    }

    /// The key of an object of names.
    fn key(&self, entry: &Entry, pointer: &str) -> Result<String, DslError> {
        if entry.key.is_empty() {
            return Err(self.error(
                code::SYNTAX,
                "expected a name, found an empty key",
                entry.at,
                &format!("{pointer}/"),
            ));
        }
        Ok(entry.key.clone())
    }

    /// An expression-valued field: a string is text, anything else a tree.
    fn expression(&self, json: &Json, names: &Names, pointer: &str) -> Result<Expr, DslError> {
        match &json.kind {
            Kind::Text(text) => self.string(text, pointer, |text| expression::parse(text, names).map(|node| node.expr)),
            Kind::Array(_) => {
                let hint = r#"write a string in the expression grammar, or a tree: {"=": [{"field": "name"}, "x"]}"#;
                Err(self.expected("an expression", json, pointer).hint(hint))
            }
            _ => Ok(self.tree(json, names, pointer)?.expr),
        }
    }

    /// An expression over single rows.
    fn rows_only(&self, json: &Json, names: &Names, pointer: &str, place: &str) -> Result<Expr, DslError> {
        let expr = self.expression(json, names, pointer)?;
        rules::rows_only(&expr, place).map_err(|error| self.of_item(error, json, pointer))?;
        Ok(expr)
    }

    /// Gives an error about a finished expression its place: inside the string, or in the document.
    fn of_item(&self, error: DslError, item: &Json, pointer: &str) -> DslError {
        match &item.kind {
            Kind::Text(text) => error.within(pointer).source(text),
            _ => self.at(error, item.at, pointer),
        }
    }

    /// `"expression as name"`, which may be several with commas between, or a tree, or `{"as": [tree, "name"]}`.
    fn aliased(&self, item: &Json, names: &Names, pointer: &str) -> Result<Vec<(Expr, Option<String>)>, DslError> {
        if let Kind::Text(text) = &item.kind {
            return self.string(text, pointer, |text| {
                let reader = Reader { text, lines: Lines::new(text), names };
                let parsed = grammar::parse(Rule::columns, text)?;
                let columns = parsed.into_inner().filter(|part| part.as_rule() == Rule::column);
                columns.map(|column| reader.named_column(column)).collect()
            });
        }
        if let Kind::Object(entries) = &item.kind
            && let [only] = &entries[..]
            && only.key.eq_ignore_ascii_case("as")
        {
            let pointer = format!("{pointer}/as");
            if let Kind::Array(args) = &only.value.kind
                && let [expr, Json { kind: Kind::Text(name), .. }] = &args[..]
                && !name.is_empty()
            {
                let expr = self.tree(expr, names, &format!("{pointer}/0"))?.expr;
                return Ok(vec![(expr, Some(name.clone()))]);
            }
            let message = r#"expected {"as": [expression, "name"]}"#;
            return Err(self.error(code::SYNTAX, message, only.at, &pointer));
        }
        Ok(vec![(self.expression(item, names, pointer)?, None)])
    }

    fn select(&self, value: &Json, names: &Names, pointer: &str) -> Result<Vec<Select>, DslError> {
        let mut select: Vec<Select> = Vec::new();
        if let Kind::Object(entries) = &value.kind {
            for entry in entries {
                let name = self.key(entry, pointer)?;
                let expr = self.expression(&entry.value, names, &format!("{pointer}/{}", escape(&name)))?;
                select.push(Select { name, expr });
            }
            return Ok(select);
        }
        if !matches!(value.kind, Kind::Array(_) | Kind::Text(_)) {
            return Err(self.expected("an object of names and expressions", value, pointer));
        }
        for (item, pointer) in self.items(value, pointer) {
            for (expr, alias) in self.aliased(item, names, &pointer)? {
                let name = alias.unwrap_or_else(|| default_name(&expr));
                rules::distinct(&name, "columns", select.iter().map(|known| known.name.as_str()))
                    .map_err(|error| self.at(error, item.at, &pointer))?;
                select.push(Select { name, expr });
            }
        }
        Ok(select)
    }

    /// `"p95 desc"`, which may be several with commas between, or a tree, or `{"desc": [tree]}`.
    fn order(&self, item: &Json, names: &Names, pointer: &str) -> Result<Vec<Order>, DslError> {
        if let Kind::Text(text) = &item.kind {
            return self.string(text, pointer, |text| {
                let reader = Reader { text, lines: Lines::new(text), names };
                let parsed = grammar::parse(Rule::keys, text)?;
                parsed.into_inner().filter(|part| part.as_rule() == Rule::key).map(|key| reader.key(key)).collect()
            });
        }
        if let Kind::Object(entries) = &item.kind
            && let [Entry { key, value: Json { kind: Kind::Array(args), .. }, .. }] = &entries[..]
            && let [expr] = &args[..]
            && (key.eq_ignore_ascii_case("asc") || key.eq_ignore_ascii_case("desc"))
        {
            let expr = self.tree(expr, names, &format!("{pointer}/{key}/0"))?.expr;
            return Ok(vec![Order { expr, descending: key.eq_ignore_ascii_case("desc") }]);
        }
        Ok(vec![Order { expr: self.expression(item, names, pointer)?, descending: false }])
    }

    fn range(&self, value: &Json, pointer: &str) -> Result<Range, DslError> {
        const SHAPE: &str = r#"{"last": "1h"} or {"from": …, "to": …}"#;
        let entries = self.entries(value, &format!("a range as {SHAPE}"), pointer)?;
        let (mut last, mut from, mut to) = (None, None, None);
        for entry in entries {
            let inside = format!("{pointer}/{}", escape(&entry.key));
            match entry.key.as_str() {
                "last" => last = Some(self.duration(&entry.value, &inside)?),
                "from" => from = Some(self.instant(&entry.value, &inside)?),
                "to" => to = Some(self.instant(&entry.value, &inside)?),
                _ => return Err(self.unknown_key(entry, &["last", "from", "to"], pointer)),
            }
        }
        let range = match (last, from, to) {
            (Some(nanos), None, None) => Range::Last(nanos),
            (None, Some(from), Some(to)) => Range::Between { from, to },
            _ => return Err(self.error(code::VALUE, format!("expected a range as {SHAPE}"), value.at, pointer)),
        };
        rules::range(range).map_err(|error| self.at(error, value.at, pointer))
    }

    fn duration(&self, json: &Json, pointer: &str) -> Result<i64, DslError> {
        let text = self.text(json, "a duration as a string", pointer)?;
        match self.quantity("duration", text, json.at, pointer)? {
            Literal::Duration(nanos) if nanos > 0 => Ok(nanos),
            _ => Err(self.error(
                code::VALUE,
                format!("expected a duration above 0, found `{}`", short(text)),
                json.at,
                pointer,
            )),
        }
    }

    /// RFC 3339, or unix nanoseconds as a number or, for clients whose numbers are doubles, as a string of digits.
    fn instant(&self, json: &Json, pointer: &str) -> Result<i64, DslError> {
        match &json.kind {
            Kind::Int(nanos) => Ok(*nanos),
            Kind::Text(text) => match text.parse() {
                Ok(nanos) => Ok(nanos),
                Err(_) => lexis::time(text)
                    .map_err(|(message, hint)| self.error(code::LITERAL, message, json.at, pointer).hint_if(hint)),
            },
            _ => Err(self.expected("a time in RFC 3339 or unix nanoseconds", json, pointer)),
        }
    }

    fn matches(&self, value: &Json, names: &Names, pointer: &str) -> Result<Match, DslError> {
        let mut matches = Match { bindings: Vec::new(), where_: None };
        for entry in self.entries(value, "an object of named spans", pointer)? {
            let inside = format!("{pointer}/{}", escape(&entry.key));
            if entry.key == "where" {
                let names = Names { in_match: true, ..names.clone() };
                matches.where_ = Some(self.rows_only(&entry.value, &names, &inside, "`match`")?);
            } else {
                let expr = self.rows_only(&entry.value, names, &inside, "`match`")?;
                rules::own_fields(&expr).map_err(|error| self.of_item(error, &entry.value, &inside))?;
                matches.bindings.push(Bind { name: entry.key.clone(), expr });
            }
        }
        Ok(matches)
    }

    fn compare(&self, value: &Json, pointer: &str) -> Result<Compare, DslError> {
        let entries = self.entries(value, r#"{"offset": "1d"}"#, pointer)?;
        for entry in entries {
            if entry.key != "offset" {
                return Err(self.unknown_key(entry, &["offset"], pointer));
            }
        }
        match entries {
            [offset] => Ok(Compare { offset: self.duration(&offset.value, &format!("{pointer}/offset"))? }),
            _ => Err(self.error(code::VALUE, r#"expected {"offset": "1d"}"#, value.at, pointer)),
        }
    }

    fn join(&self, item: &Json, names: &Names, pointer: &str) -> Result<Join, DslError> {
        let mut found: Option<(Source, Expr)> = None;
        let mut on = Vec::new();
        for entry in self.entries(item, "a join as an object", pointer)? {
            let inside = format!("{pointer}/{}", escape(&entry.key));
            if entry.key == "on" {
                for (key, pointer) in self.items(&entry.value, &inside) {
                    let text = self.text(key, "trace, bin or a field as a string", &pointer)?;
                    let field = self.string(text, &pointer, |text| expression::parse_field(text, names))?;
                    let key: Option<JoinKey> = text::join_key(text, field);
                    on.push(key.ok_or_else(|| internal("field").within(&pointer))?);
                }
                continue;
            }
            let source = text::source(&entry.key).map_err(|error| self.at(error, entry.at, &inside))?;
            if found.is_some() {
                let error = self.error(code::VALUE, "expected one signal in a join, found two", entry.at, &inside);
                return Err(error.hint("several joins stand in an array"));
            }
            found = Some((source, self.rows_only(&entry.value, &Names::default(), &inside, "`join`")?));
        }
        match (found, on.is_empty()) {
            (Some((source, where_)), false) => Ok(Join { source, where_, on }),
            _ => {
                let message = r#"expected a join as {"logs": "severity >= error", "on": "trace"}"#;
                Err(self.error(code::VALUE, message, item.at, pointer))
            }
        }
    }

    fn budget(&self, value: &Json, pointer: &str) -> Result<Budget, DslError> {
        let mut budget = Budget::default();
        for entry in self.entries(value, r#"{"bytes": "10GB", "time": "10s"}"#, pointer)? {
            let inside = format!("{pointer}/{}", escape(&entry.key));
            match (entry.key.as_str(), &entry.value.kind) {
                ("time", _) => budget.time = Some(self.duration(&entry.value, &inside)?),
                ("bytes", Kind::Int(bytes)) if *bytes >= 0 => budget.bytes = Some(bytes.unsigned_abs()),
                ("bytes", Kind::Text(text)) => {
                    if let Literal::Bytes(bytes) = self.quantity("bytes", text, entry.value.at, &inside)? {
                        budget.bytes = Some(bytes);
                    }
                }
                ("bytes", _) => {
                    return Err(self.expected("bytes as in `10GB` or a whole number", &entry.value, &inside));
                }
                _ => return Err(self.unknown_key(entry, &["bytes", "time"], pointer)),
            }
        }
        Ok(budget)
    }
}

/// How many characters the JSON token at `at` has: what a caret underlines.
fn token_width(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let mut escaped = false;
    match rest.chars().next() {
        Some('"') => {
            let closing = rest.chars().skip(1).position(|c| {
                let closes = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                closes || c == '\n'
            });
            closing.map_or(1, |inside| inside + 2)
        }
        Some('{' | '[') | None => 1,
        Some(_) => rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "+-.".contains(*c)).count(),
    }
}
