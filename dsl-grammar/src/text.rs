//! The text form of a whole query -> Ast.

use pest::iterators::Pair;

use crate::ast::{
    Bind, Budget, By, Compare, Expr, Fill, Join, JoinKey, Let, Literal, Match, Order, Query, Range, Select, Source,
    default_name,
};
use crate::error::{DslError, code};
use crate::expression::{Reader, internal};
use crate::grammar::{self, Rule};
use crate::lexis;
use crate::names::{Names, may_bind};
use crate::nearest::did_you_mean;
use crate::position::Lines;
use crate::rules;

/// Reads a query's text. The error has its snippet.
pub(crate) fn parse(text: &str) -> Result<Query, DslError> {
    read(text).map_err(|error| error.source(text))
}

fn read(text: &str) -> Result<Query, DslError> {
    let pair = grammar::parse(Rule::query, text)?;
    let names = declared(&pair, text)?;
    let reader = Reader { text, lines: Lines::new(text), names: &names };
    let mut parts = pair.into_inner().filter(|part| !matches!(part.as_rule(), Rule::kw_from | Rule::EOI));
    let word = parts.next().ok_or_else(|| internal("source"))?;
    let from = source(word.as_str()).map_err(|error| error.at(reader.pos(&word), width(&word)))?;
    let mut query = Query::new(from);
    let mut seen: Vec<Rule> = Vec::new();
    let mut returned = (crate::Pos::NONE, 1);
    for clause in parts {
        let rule = clause.as_rule();
        let pos = reader.pos(&clause);
        let word = clause.as_str().split_whitespace().next().unwrap_or_default().to_owned();
        if seen.contains(&rule) && rule != Rule::join {
            let message = format!("the query has two `{}`", word.to_ascii_lowercase());
            return Err(DslError::new(code::DUPLICATE, message).at(pos, word.len()));
        }
        if rule == Rule::where_ && seen.contains(&Rule::select) {
            let message = "the query's `where` stands before `select`";
            let hint =
                "after an aggregate `where` filters that aggregate only: `select count() where status = error as n`";
            return Err(DslError::new(code::SYNTAX, message).hint(hint).at(pos, word.len()));
        }
        if (rule == Rule::range && seen.contains(&Rule::last)) || (rule == Rule::last && seen.contains(&Rule::range)) {
            return Err(DslError::new(code::DUPLICATE, "the query has two ranges").at(pos, word.len()));
        }
        if rule == Rule::return_ {
            returned = (pos, width(&clause));
        }
        seen.push(rule);
        reader.clause(&mut query, clause).map_err(|error| error.at(pos, word.len()))?;
    }
    rules::returned(&query).map_err(|error| error.at(returned.0, returned.1))?;
    Ok(query)
}

/// The source called so.
pub(crate) fn source(word: &str) -> Result<Source, DslError> {
    Source::ALL.into_iter().find(|source| source.name().eq_ignore_ascii_case(word)).ok_or_else(|| {
        let message = format!("expected spans, logs, metrics, traces or events, found `{}`", lexis::short(word));
        let hint = did_you_mean(word, Source::ALL.iter().map(|source| source.name()));
        DslError::new(code::UNKNOWN, message).hint_if(hint)
    })
}

/// The fill called so.
pub(crate) fn fill(word: &str) -> Result<Fill, DslError> {
    Fill::ALL.into_iter().find(|fill| fill.name().eq_ignore_ascii_case(word)).ok_or_else(|| {
        let message = format!("expected none, null, 0 or previous, found `{}`", lexis::short(word));
        let hint = did_you_mean(word, Fill::ALL.iter().map(|fill| fill.name()));
        DslError::new(code::VALUE, message).hint_if(hint)
    })
}

/// Refuses a name that no binding can have.
pub(crate) fn binding(name: &str) -> Result<(), DslError> {
    if may_bind(name) {
        return Ok(());
    }
    let message = format!("a span of `match` cannot be called `{}`", lexis::short(name));
    let hint = "take a plain word such as `a` or `caller` that has no other meaning before a dot";
    Err(DslError::new(code::VALUE, message).hint(hint))
}

/// The signal of a join.
pub(crate) fn joined(word: &str, known: &[Source]) -> Result<Source, DslError> {
    let found = source(word)?;
    if !matches!(found, Source::Spans | Source::Logs | Source::Metrics) {
        let message = format!("expected spans, logs or metrics to join, found `{}`", found.name());
        return Err(DslError::new(code::VALUE, message));
    }
    if known.contains(&found) {
        return Err(DslError::new(code::DUPLICATE, format!("the query joins {} twice", found.name())));
    }
    Ok(found)
}

fn width(pair: &Pair<'_, Rule>) -> usize {
    pair.as_str().chars().count()
}

/// The names that `match` and `join` declare, wherever they stand, since any expression may use them.
fn declared(query: &Pair<'_, Rule>, text: &str) -> Result<Names, DslError> {
    let mut names = Names::default();
    let nothing = Names::default();
    let reader = Reader { text, lines: Lines::new(text), names: &nothing };
    for clause in query.clone().into_inner() {
        match clause.as_rule() {
            Rule::matches => {
                for bind in clause.into_inner().filter(|part| part.as_rule() == Rule::bind) {
                    let pair = bind.into_inner().next().ok_or_else(|| internal("name"))?;
                    let (pos, width) = (reader.pos(&pair), width(&pair));
                    let name = reader.name(pair)?;
                    binding(&name)
                        .and_then(|()| rules::distinct(&name, "spans", names.bindings.iter().map(String::as_str)))
                        .map_err(|error| error.at(pos, width))?;
                    names.bindings.push(name);
                }
            }
            Rule::join => {
                for word in clause.into_inner().filter(|part| part.as_rule() == Rule::word) {
                    let found = joined(word.as_str(), &names.joins);
                    names.joins.push(found.map_err(|error| error.at(reader.pos(&word), width(&word)))?);
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

impl<'a> Reader<'a> {
    fn clause(&self, query: &mut Query, clause: Pair<'a, Rule>) -> Result<(), DslError> {
        let rule = clause.as_rule();
        let parts = || clause.clone().into_inner().filter(|part| !is_word(part.as_rule()));
        let only = || parts().next().ok_or_else(|| internal("clause"));
        match rule {
            Rule::last => query.range = Some(rules::range(Range::Last(self.duration(&only()?)?))?),
            Rule::range => {
                let ends: Vec<i64> = parts().map(|part| self.instant(part)).collect::<Result<_, _>>()?;
                let [from, to] = ends[..] else { return Err(internal("range")) };
                query.range = Some(rules::range(Range::Between { from, to })?);
            }
            Rule::matches => query.matches = Some(self.matches(clause)?),
            Rule::where_ => query.where_ = Some(self.rows_only(only()?, "`where`")?),
            Rule::lets => {
                for define in parts() {
                    let (name, expr, pos, width) = self.named(define, "`let`")?;
                    rules::distinct(&name, "calculated fields", query.lets.iter().map(|known| known.name.as_str()))
                        .map_err(|error| error.at(pos, width))?;
                    query.lets.push(Let { name, expr });
                }
            }
            Rule::by => {
                for group in parts() {
                    let mut inner = group.into_inner().filter(|part| !is_word(part.as_rule()));
                    let expr = self.rows_only(inner.next().ok_or_else(|| internal("group"))?, "`by`")?;
                    let alias = inner.next().map(|name| self.name(name)).transpose()?;
                    query.by.push(By { expr, alias });
                }
            }
            Rule::fill => {
                let word = only()?;
                query.fill = Some(fill(word.as_str()).map_err(|error| error.at(self.pos(&word), width(&word)))?);
            }
            Rule::select => {
                for column in parts() {
                    let (pos, width) = (self.pos(&column), width(&column));
                    let select = self.column(column)?;
                    rules::distinct(&select.name, "columns", query.select.iter().map(|known| known.name.as_str()))
                        .map_err(|error| error.at(pos, width))?;
                    query.select.push(select);
                }
            }
            Rule::having => query.having = Some(self.expression(only()?)?.expr),
            Rule::order => {
                for key in parts() {
                    query.order.push(self.key(key)?);
                }
            }
            Rule::limit => query.limit = Some(self.limit(parts().collect())?),
            Rule::cursor => query.cursor = Some(self.quoted(&only()?)?),
            Rule::compare => query.compare = Some(Compare { offset: self.duration(&only()?)? }),
            Rule::join => query.joins.push(self.join(clause)?),
            Rule::budget => {
                let mut budget = Budget::default();
                for cost in parts() {
                    self.cost(&mut budget, cost)?;
                }
                query.budget = Some(budget);
            }
            Rule::return_ => query.return_ = Some(self.name(only()?)?),
            Rule::dry_run => query.dry_run = true,
            _ => return Err(internal("clause")),
        }
        Ok(())
    }

    /// An expression over single rows.
    fn rows_only(&self, pair: Pair<'a, Rule>, place: &str) -> Result<Expr, DslError> {
        let expr = self.expression(pair)?.expr;
        rules::rows_only(&expr, place)?;
        Ok(expr)
    }

    /// A `bind` or `define`, and where its name stands.
    fn named(&self, pair: Pair<'a, Rule>, place: &str) -> Result<(String, Expr, crate::Pos, usize), DslError> {
        let mut inner = pair.into_inner().filter(|part| matches!(part.as_rule(), Rule::name | Rule::expr));
        let (Some(name), Some(expr)) = (inner.next(), inner.next()) else { return Err(internal("definition")) };
        let (pos, width) = (self.pos(&name), width(&name));
        Ok((self.name(name)?, self.rows_only(expr, place)?, pos, width))
    }

    fn matches(&self, clause: Pair<'a, Rule>) -> Result<Match, DslError> {
        let mut matches = Match { bindings: Vec::new(), where_: None };
        for part in clause.into_inner() {
            match part.as_rule() {
                Rule::bind => {
                    let (name, expr, ..) = self.named(part, "`match`")?;
                    rules::own_fields(&expr)?;
                    matches.bindings.push(Bind { name, expr });
                }
                Rule::expr => {
                    let names = Names { in_match: true, ..self.names.clone() };
                    let reader = Reader { text: self.text, lines: Lines::new(self.text), names: &names };
                    let expr = reader.expression(part)?.expr;
                    rules::rows_only(&expr, "`match`")?;
                    matches.where_ = Some(expr);
                }
                _ => {}
            }
        }
        Ok(matches)
    }

    fn column(&self, column: Pair<'a, Rule>) -> Result<Select, DslError> {
        let (expr, name) = self.named_column(column)?;
        Ok(Select { name: name.unwrap_or_else(|| default_name(&expr)), expr })
    }

    /// A `column` of the grammar: an expression and maybe a name.
    pub(crate) fn named_column(&self, column: Pair<'a, Rule>) -> Result<(Expr, Option<String>), DslError> {
        let mut inner = column.into_inner().filter(|part| !is_word(part.as_rule()));
        let expr = self.expression(inner.next().ok_or_else(|| internal("column"))?)?.expr;
        let name = inner.next().map(|name| self.name(name)).transpose()?;
        Ok((expr, name))
    }

    /// A `key` of the grammar: an expression and maybe a direction.
    pub(crate) fn key(&self, key: Pair<'a, Rule>) -> Result<Order, DslError> {
        let mut inner = key.into_inner();
        let expr = self.expression(inner.next().ok_or_else(|| internal("order"))?)?.expr;
        let descending = inner.next().is_some_and(|word| word.as_rule() == Rule::kw_desc);
        Ok(Order { expr, descending })
    }

    fn limit(&self, parts: Vec<Pair<'a, Rule>>) -> Result<u64, DslError> {
        let error = |pair: &Pair<'a, Rule>, found: String| {
            DslError::new(code::VALUE, format!("expected a whole number of rows, found `{found}`"))
                .at(self.pos(pair), width(pair))
        };
        match &parts[..] {
            [number] => match self.number(number, false)? {
                Literal::Int(rows) if rows >= 0 => Ok(rows.unsigned_abs()),
                _ => Err(error(number, number.as_str().to_owned())),
            },
            [sign, number] => Err(error(sign, format!("-{}", number.as_str())).hint("a limit is 0 or more")),
            _ => Err(internal("limit")),
        }
    }

    fn duration(&self, pair: &Pair<'a, Rule>) -> Result<i64, DslError> {
        match self.number(pair, false)? {
            Literal::Duration(nanos) if nanos > 0 => Ok(nanos),
            _ => Err(DslError::new(
                code::VALUE,
                format!("expected a duration above 0, found `{}`", lexis::short(pair.as_str())),
            )
            .hint("write it as `90s`, `15m`, `1h` or `7d`")
            .at(self.pos(pair), width(pair))),
        }
    }

    fn instant(&self, pair: Pair<'a, Rule>) -> Result<i64, DslError> {
        let (pos, width) = (self.pos(&pair), width(&pair));
        let inner: Vec<Pair<'a, Rule>> = pair.into_inner().collect();
        let error = || {
            DslError::new(code::VALUE, "expected a time")
                .hint("write it as `t'2026-01-01T00:00:00Z'` or as unix nanoseconds")
                .at(pos, width)
        };
        match &inner[..] {
            [time] if time.as_rule() == Rule::time => self.time(time),
            [string] if string.as_rule() == Rule::string => {
                let text = self.quoted(string)?;
                lexis::time(&text)
                    .map_err(|(message, hint)| DslError::new(code::LITERAL, message).hint_if(hint).at(pos, width))
            }
            [.., number] => match self.number(number, inner.len() > 1)? {
                Literal::Int(nanos) => Ok(nanos),
                _ => Err(error()),
            },
            [] => Err(error()),
        }
    }

    fn cost(&self, budget: &mut Budget, cost: Pair<'a, Rule>) -> Result<(), DslError> {
        let (pos, width) = (self.pos(&cost), width(&cost));
        let mut word = None;
        for part in cost.into_inner() {
            if part.as_rule() != Rule::number {
                word = Some(part.as_rule());
                continue;
            }
            let twice = || Err(DslError::new(code::DUPLICATE, "the budget names the same cost twice").at(pos, width));
            match (self.number(&part, false)?, word) {
                (Literal::Bytes(bytes), None | Some(Rule::kw_bytes)) => {
                    if budget.bytes.replace(bytes).is_some() {
                        return twice();
                    }
                }
                (Literal::Int(bytes), Some(Rule::kw_bytes)) if bytes >= 0 => {
                    if budget.bytes.replace(bytes.unsigned_abs()).is_some() {
                        return twice();
                    }
                }
                (Literal::Duration(nanos), None | Some(Rule::kw_time)) if nanos > 0 => {
                    if budget.time.replace(nanos).is_some() {
                        return twice();
                    }
                }
                _ => {
                    return Err(DslError::new(code::VALUE, "expected bytes or a time above 0")
                        .hint("write it as `budget bytes 10GB, time 10s`")
                        .at(pos, width));
                }
            }
        }
        Ok(())
    }

    fn join(&self, clause: Pair<'a, Rule>) -> Result<Join, DslError> {
        let mut join = Join { source: Source::Logs, where_: Expr::Literal(Literal::Bool(true)), on: Vec::new() };
        for part in clause.into_inner() {
            match part.as_rule() {
                Rule::word => join.source = source(part.as_str())?,
                Rule::expr => {
                    // The condition sees the joined signal's own rows, so that its fields need no prefix.
                    let names = Names::default();
                    let reader = Reader { text: self.text, lines: Lines::new(self.text), names: &names };
                    join.where_ = reader.rows_only(part, "`join`")?;
                }
                Rule::field => {
                    let (pos, width) = (self.pos(&part), width(&part));
                    let word = part.as_str();
                    let key = join_key(word, self.field(part)?);
                    join.on.push(key.ok_or_else(|| internal("field").at(pos, width))?);
                }
                _ => {}
            }
        }
        Ok(join)
    }
}

/// What rows are joined on: `trace`, `bin` or a field, which in backticks may have those names. `text` is as written.
pub(crate) fn join_key(text: &str, expr: Expr) -> Option<JoinKey> {
    match (text.trim().to_ascii_lowercase().as_str(), expr) {
        ("trace", _) => Some(JoinKey::Trace),
        ("bin", _) => Some(JoinKey::Bin),
        (_, Expr::Field(field)) => Some(JoinKey::Field(field)),
        _ => None,
    }
}

/// Words and signs that only hold a clause together.
fn is_word(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::kw_from
            | Rule::kw_last
            | Rule::kw_to
            | Rule::kw_match
            | Rule::kw_where
            | Rule::kw_let
            | Rule::kw_by
            | Rule::kw_as
            | Rule::kw_fill
            | Rule::kw_select
            | Rule::kw_having
            | Rule::kw_order
            | Rule::kw_limit
            | Rule::kw_cursor
            | Rule::kw_compare
            | Rule::kw_offset
            | Rule::kw_join
            | Rule::kw_on
            | Rule::kw_budget
            | Rule::kw_return
            | Rule::kw_dry_run
            | Rule::comma
            | Rule::colon
            | Rule::equals
            | Rule::close
            | Rule::close_list
    )
}
