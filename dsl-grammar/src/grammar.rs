//! The pest parser, and its errors in the user's words.

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pair;

pub(crate) use self::parser::Rule;
use crate::bounds;
use crate::error::{DslError, code};
use crate::lexis;
use crate::nearest::did_you_mean;
use crate::position::Lines;
use crate::stack::with_room;

#[allow(missing_docs, unreachable_pub, reason = "the derive writes this module")]
mod parser {
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar.pest"]
    pub struct GrammarParser;
}

/// Parses `text` as one of the entries of the grammar, within the bounds. Errors have their place but no snippet.
pub(crate) fn parse(entry: Rule, text: &str) -> Result<Pair<'_, Rule>, DslError> {
    bounds::text(text)?;
    match with_room(|| parser::GrammarParser::parse(entry, text)) {
        Ok(mut pairs) => pairs.next().ok_or_else(|| DslError::new(code::SYNTAX, "the text is empty")),
        Err(error) => Err(explain(&error, text)),
    }
}

/// Where a text stops being a query, and which rules would go on there; `None` where it is one. Its bounds were checked.
pub(crate) fn waits_for(text: &str) -> Option<(usize, Vec<Rule>)> {
    let error = with_room(|| parser::GrammarParser::parse(Rule::query, text)).err()?;
    let (InputLocation::Pos(at) | InputLocation::Span((at, _))) = error.location;
    match error.variant {
        ErrorVariant::ParsingError { positives, .. } => Some((at, positives)),
        ErrorVariant::CustomError { .. } => None,
    }
}

fn explain(error: &pest::error::Error<Rule>, text: &str) -> DslError {
    let offset = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    let expected: &[Rule] = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives,
        ErrorVariant::CustomError { .. } => &[],
    };
    let found = token(text, offset);
    let message = match (text.trim().is_empty(), found) {
        (true, _) => format!("expected {}, found an empty text", words(expected)),
        (_, "") => format!("expected {}, found the end", words(expected)),
        (_, found) => format!("expected {}, found `{}`", words(expected), lexis::short(found)),
    };
    DslError::new(code::SYNTAX, message)
        .hint_if(hint(expected, found, &text[..offset]))
        .at(Lines::new(text).at(offset), found.chars().count())
}

/// The token that begins at `offset`: a word, a string, a run of operator signs, or one character.
pub(crate) fn token(text: &str, offset: usize) -> &str {
    let rest = text.get(offset..).unwrap_or_default();
    let Some(first) = rest.chars().next() else { return "" };
    let run = |belongs: fn(char) -> bool| rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    let sign = |c: char| "=<>!&|~".contains(c);
    let length = match first {
        c if c.is_alphanumeric() || c == '_' => run(|c| c.is_alphanumeric() || c == '_' || c == '.'),
        '\'' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
        c if sign(c) => run(|c| "=<>!&|~".contains(c)),
        c => c.len_utf8(),
    };
    &rest[..length]
}

pub(crate) fn is_value(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::time
            | Rule::string
            | Rule::number
            | Rule::list
            | Rule::group
            | Rule::call
            | Rule::function
            | Rule::constant
            | Rule::field
            | Rule::sign
            | Rule::not
    )
}

/// Rules that begin with a value: pest names them instead of the many that they could begin with.
pub(crate) fn begins_with_value(rule: Rule) -> bool {
    matches!(rule, Rule::expr | Rule::wide | Rule::key | Rule::column | Rule::group_by)
}

pub(crate) fn is_operator(rule: Rule) -> bool {
    matches!(rule, Rule::symbol | Rule::logic | Rule::verb | Rule::not_verb)
}

/// The clause word that a rule waits for.
pub(crate) fn clause_word(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::last | Rule::kw_last => "last",
        Rule::range | Rule::kw_from => "from",
        Rule::matches | Rule::kw_match => "match",
        Rule::where_ | Rule::kw_where => "where",
        Rule::lets | Rule::kw_let => "let",
        Rule::by | Rule::kw_by => "by",
        Rule::fill | Rule::kw_fill => "fill",
        Rule::select | Rule::kw_select => "select",
        Rule::having | Rule::kw_having => "having",
        Rule::order | Rule::kw_order => "order",
        Rule::limit | Rule::kw_limit => "limit",
        Rule::cursor | Rule::kw_cursor => "cursor",
        Rule::compare | Rule::kw_compare => "compare",
        Rule::join | Rule::kw_join => "join",
        Rule::budget | Rule::kw_budget => "budget",
        Rule::return_ | Rule::kw_return => "return",
        Rule::dry_run | Rule::kw_dry_run => "dry_run",
        _ => return None,
    })
}

/// What the rules wait for, as a list in words.
fn words(expected: &[Rule]) -> String {
    let mut list: Vec<String> = Vec::new();
    let mut add = |word: &str| {
        if !list.iter().any(|known| known == word) {
            list.push(word.to_owned());
        }
    };
    let values = expected.iter().filter(|rule| is_value(**rule)).count();
    match expected {
        _ if values > 2 || expected.iter().any(|rule| begins_with_value(*rule)) => add("a value"),
        _ if expected.contains(&Rule::instant) => add("a time"),
        _ if expected.contains(&Rule::cost) => add("bytes or a time, as in `10GB`"),
        _ if expected.contains(&Rule::number) => add("a number"),
        _ if expected.contains(&Rule::string) => add("a string"),
        _ if expected.contains(&Rule::field) => add("a field"),
        _ => {}
    }
    if expected.iter().any(|rule| is_operator(*rule)) {
        add("an operator");
    }
    let clauses: Vec<&str> = expected.iter().filter_map(|rule| clause_word(*rule)).collect();
    for rule in expected {
        match rule {
            Rule::name | Rule::bind | Rule::define | Rule::part | Rule::bare | Rule::quoted if values == 0 => {
                add("a name")
            }
            Rule::word => add("spans, logs, metrics, traces or events"),
            Rule::any_word => add("none, null, 0 or previous"),
            Rule::comma => add("`,`"),
            Rule::colon => add("`:`"),
            Rule::equals => add("`=`"),
            Rule::close => add("`)`"),
            Rule::close_list => add("`]`"),
            Rule::kw_as => add("`as`"),
            Rule::kw_to => add("`to`"),
            Rule::kw_on => add("`on`"),
            Rule::kw_asc | Rule::kw_desc => add("`desc`"),
            _ => {}
        }
    }
    match clauses.as_slice() {
        many if many.len() > 3 => add("a clause"),
        few => few.iter().for_each(|word| add(&format!("`{word}`"))),
    }
    if expected.contains(&Rule::EOI) {
        add("the end");
    }
    match list.split_last() {
        // Only the reserved words are refused without a rule to name.
        None => "a name".into(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// What somebody who wrote `found` after `before` may have meant.
fn hint(expected: &[Rule], found: &str, before: &str) -> Option<String> {
    let before = before.trim_end();
    let operator = expected.iter().any(|rule| is_operator(*rule));
    let clauses = expected.iter().any(|rule| clause_word(*rule).is_some());
    let say = |hint: &str| Some(hint.to_owned());
    if found.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        // What a reserved word stands in the way of is a value or a name, which pest does not always list then.
        if lexis::is_reserved(found) && !operator && !clauses && !expected.contains(&Rule::word) {
            return Some(format!(
                "`{found}` is a word of the language; a field of that name is written `` `{found}` ``"
            ));
        }
        return (operator || clauses).then(|| other_language(found)).flatten().or_else(|| {
            let operators = lexis::WORD_OPERATORS.iter().copied().filter(|_| operator);
            let clauses = expected.iter().filter_map(|rule| clause_word(*rule));
            let small = [(Rule::kw_as, "as"), (Rule::kw_desc, "desc"), (Rule::kw_to, "to"), (Rule::kw_on, "on")];
            let small = small.iter().filter(|(rule, _)| expected.contains(rule)).map(|(_, word)| *word);
            did_you_mean(found, operators.chain(clauses).chain(small))
        });
    }
    match found {
        _ if found.starts_with("&&") => say("write `and`"),
        _ if found.starts_with('|') => say("write `or`"),
        _ if found.starts_with('=') && before.ends_with('=') => say("write `=` once"),
        "=" if before.ends_with('!') || before.ends_with('<') || before.ends_with('>') => {
            say("write the operator without a space")
        }
        _ if found.starts_with('>') && before.ends_with('<') => say("write `!=`"),
        "~" if before.ends_with('=') => say("write `=~` without a space"),
        _ if found.starts_with('!') => say("write `not`"),
        "." if before.ends_with(|c: char| c.is_alphanumeric()) => {
            say("a name that begins with a digit stands in backticks")
        }
        "{" | "}" => say("spans are named without braces: `match (a: status = error, b: kind = client where a >> b)`"),
        ";" => say("a query ends without `;`"),
        "$" | "@" | "#" | "?" | "\\" => say("an odd name stands in backticks, text in single quotes"),
        _ if found.starts_with('\'') && operator => say("a name with odd letters stands in backticks, not in quotes"),
        "(" if operator => say("a function's name is a plain word: `count(…)`, `plugin.name(…)`"),
        _ => None,
    }
}

/// Words that mean something in SQL and its relatives.
fn other_language(word: &str) -> Option<String> {
    Some(match word.to_ascii_lowercase().as_str() {
        "group" => "groups are written `by service.name`".into(),
        "sort" | "orderby" => "order is written `order n desc`".into(),
        "filter" => "conditions are written `where …`".into(),
        "like" | "ilike" | "rlike" | "matches" | "regexp" => {
            format!("write `contains`, `starts_with` or, for a regular expression, `=~` instead of `{word}`")
        }
        "descending" => "write `desc`".into(),
        "ascending" => "write `asc`".into(),
        "is" => "write `exists(x)` or `not exists(x)`".into(),
        "since" | "past" => "time is written `last 1h`".into(),
        "offset" | "page" => "pages are fetched by `cursor`".into(),
        "top" => "write `order n desc limit 10`".into(),
        _ => return None,
    })
}
