//! What may stand at a place of an unfinished text: for whoever completes words while they are typed.
//!
//! The words come from where they are defined: the grammar itself is asked what it waits for, by giving it the text before the
//! place and a sign that no query has. Not here: which fields there are, and their values.

use crate::ast::{Fill, Source};
use crate::bounds;
use crate::functions::{FUNCTIONS, Function, Kind};
use crate::grammar::{Rule, begins_with_value, clause_word, is_operator, is_value, token, waits_for};
use crate::lexis;

/// Stands where no query has anything.
const NOTHING: char = '\u{1}';

/// What may stand at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the word at the place begins, in bytes.
    pub start: usize,
    /// What is typed of it so far; of a string without its quote.
    pub typed: String,
    /// Words of the language: clauses, operators, sources.
    pub words: Vec<&'static str>,
    /// Functions.
    pub functions: Vec<Function>,
    /// A field may stand there.
    pub field: bool,
    /// A value of this field (as it is written) may stand there.
    pub value_of: Option<String>,
    /// The place is inside of a string, whose quote stands before it.
    pub quoted: bool,
    /// Whose rows the query asks for.
    pub source: Option<Source>,
}

/// What may stand at `at` bytes of a text, which lies on a character.
///
/// ```
/// let place = prism_dsl::complete::place("from logs where sev", 19);
/// assert_eq!((place.start, place.typed.as_str(), place.field), (16, "sev", true));
/// let place = prism_dsl::complete::place("from logs where severity_text = 'WA", 35);
/// assert_eq!(place.value_of.as_deref(), Some("severity_text"));
/// ```
pub fn place(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    if before.len() > crate::MAX_BYTES {
        return Place::default();
    }
    let tokens = tokens(before);
    let source = source(&tokens);
    if let Some(start) = open_quote(before) {
        let quote_before: Vec<&str> = tokens_before(&tokens, start);
        let value_of = before[start..].starts_with('\'').then(|| compared(&quote_before)).flatten();
        let field = before[start..].starts_with('`');
        let typed = before[start + 1..].to_owned();
        return Place { start: start + 1, typed, value_of, field, quoted: true, source, ..Place::default() };
    }
    let typed = typed(before);
    let start = before.len() - typed.len();
    let front = &before[..start];
    let expected = expected(front);
    let front_tokens = tokens_before(&tokens, start);
    let mut place = Place { start, typed: typed.to_owned(), source, ..Place::default() };
    let mut add = |word: &'static str| {
        if !place.words.contains(&word) {
            place.words.push(word);
        }
    };
    let value =
        expected.iter().any(|rule| begins_with_value(*rule)) || expected.iter().filter(|r| is_value(**r)).count() > 2;
    for rule in &expected {
        clause_word(*rule).into_iter().for_each(&mut add);
        match rule {
            Rule::word => Source::ALL.iter().for_each(|source| add(source.name())),
            Rule::any_word => Fill::ALL.iter().for_each(|fill| add(fill.name())),
            rule if is_operator(*rule) => {
                lexis::WORD_OPERATORS.iter().for_each(|word| add(word));
            }
            rule => small_word(*rule).into_iter().for_each(&mut add),
        }
    }
    if value {
        ["not", "true", "false", "null"].iter().for_each(|word| add(word));
        let aggregates = front_tokens.iter().rev().find_map(|word| takes_aggregates(word)).unwrap_or(false);
        let fits = |function: &&Function| aggregates || function.kind == Kind::Scalar;
        place.functions = FUNCTIONS.iter().filter(fits).copied().collect();
        place.value_of = compared(&front_tokens);
    }
    // pest names the part of a name that it waits for: of a field behind `on`, elsewhere of a new name.
    let behind_on = front_tokens.iter().rev().find(|token| lexis::is_reserved(token));
    let named = expected.contains(&Rule::part) && behind_on.is_some_and(|word| word.eq_ignore_ascii_case("on"));
    place.field = value || named;
    // A clause stands once.
    let stands = |word: &&'static str| {
        let again = matches!(*word, "from" | "join") || !is_clause(word);
        again || !front_tokens.iter().any(|token| token.eq_ignore_ascii_case(word))
    };
    place.words.retain(stands);
    place
}

/// Whether a text waits for more: a bracket or quote is open, or the grammar finds its end too early. What is wrong elsewhere, or
/// empty, waits for nothing.
///
/// ```
/// use prism_dsl::complete::is_unfinished;
/// assert!(is_unfinished("from logs where") && is_unfinished("from logs by (a") && is_unfinished("from logs where a = 'x"));
/// assert!(!is_unfinished("from logs") && !is_unfinished("form logs where") && !is_unfinished(" "));
/// ```
pub fn is_unfinished(text: &str) -> bool {
    if text.trim().is_empty() || text.len() > crate::MAX_BYTES {
        return false;
    }
    if text.trim_start().starts_with('{') {
        return is_open_document(text);
    }
    if open_quote(text).is_some() {
        return true;
    }
    match bounds::begun(text) {
        Ok(open) if !open.is_empty() => true,
        Ok(_) => waits_for(text).is_some_and(|(at, _)| text.get(at..).is_some_and(|rest| rest.trim().is_empty())),
        Err(_) => false,
    }
}

/// Whether a bracket or string of a JSON document is open.
fn is_open_document(text: &str) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0i64, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            _ => {}
        }
    }
    quoted || depth > 0
}

/// The rules that the grammar waits for behind a text, where nothing in it is wrong.
fn expected(front: &str) -> Vec<Rule> {
    if bounds::begun(front).is_err() {
        return Vec::new();
    }
    let text = format!("{front}{NOTHING}");
    match waits_for(&text) {
        Some((at, rules)) if text.get(at..).is_some_and(|rest| rest.trim_start().starts_with(NOTHING)) => rules,
        _ => Vec::new(),
    }
}

fn small_word(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::kw_as => "as",
        Rule::kw_to => "to",
        Rule::kw_on => "on",
        Rule::kw_asc => "asc",
        Rule::kw_desc => "desc",
        _ => return None,
    })
}

fn is_clause(word: &str) -> bool {
    !lexis::WORD_OPERATORS.contains(&word) && lexis::is_reserved(word) && !matches!(word, "as" | "to" | "on")
}

/// Whether aggregates may stand behind a clause's word; `None` for other words.
fn takes_aggregates(word: &str) -> Option<bool> {
    let is = |of: &[&str]| of.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is(&["select", "having", "order"]) {
        return Some(true);
    }
    is(&["where", "let", "by", "match", "join", "on"]).then_some(false)
}

/// The word that is being typed at the end of a text: letters, digits, `_` and dots.
fn typed(before: &str) -> &str {
    let letter = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let start = before.char_indices().rev().take_while(|(_, c)| letter(*c)).last().map_or(before.len(), |(at, _)| at);
    let word = &before[start..];
    // A number is typed to its end by hand.
    if word.starts_with(|c: char| c.is_ascii_digit() || c == '.') { "" } else { word }
}

/// Where the quote begins that is open at the end of a text.
fn open_quote(text: &str) -> Option<usize> {
    let (mut open, mut escaped) = (None::<(usize, char)>, false);
    for (at, c) in text.char_indices() {
        match open {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some((_, quote)) if c == quote => open = None,
            Some(_) => {}
            None if c == '\'' || c == '`' => open = Some((at, c)),
            None => {}
        }
    }
    open.map(|(at, _)| at)
}

/// The tokens of a text with their places.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let found = token(text, at);
        let length = found.len().clamp(c.len_utf8(), text.len() - at);
        tokens.push((at, &text[at..at + length]));
        at += length;
    }
    tokens
}

fn tokens_before<'t>(tokens: &[(usize, &'t str)], end: usize) -> Vec<&'t str> {
    tokens.iter().take_while(|(at, token)| at + token.len() <= end).map(|(_, token)| *token).collect()
}

fn source(tokens: &[(usize, &str)]) -> Option<Source> {
    let (_, word) = tokens.get(1).filter(|_| tokens[0].1.eq_ignore_ascii_case("from"))?;
    Source::ALL.into_iter().find(|source| source.name().eq_ignore_ascii_case(word))
}

/// The field whose value stands behind some tokens: before a comparison, or before `in (` and values.
fn compared(tokens: &[&str]) -> Option<String> {
    let mut rest = tokens;
    // Values of a list before this one.
    while let [front @ .., last] = rest {
        if *last == "," || last.starts_with('\'') || last.starts_with(|c: char| c.is_ascii_digit()) {
            rest = front;
        } else {
            break;
        }
    }
    let listed = rest.len() < tokens.len();
    let (front, operator) = match rest {
        [front @ .., operator, "(" | "["] if operator.eq_ignore_ascii_case("in") => (front, "in"),
        [front @ .., operator] if !listed => (front, *operator),
        _ => return None,
    };
    let compares = ["=", "!=", "in", "contains", "icontains", "starts_with", "istarts_with", "ends_with", "iends_with"];
    if !compares.iter().any(|known| known.eq_ignore_ascii_case(operator)) {
        return None;
    }
    let front = match front {
        [front @ .., not] if not.eq_ignore_ascii_case("not") => front,
        front => front,
    };
    // `attr.` and a name in backticks are several tokens.
    let mut parts = front.iter().rev();
    let last = parts.next()?;
    let name = |word: &str| word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !lexis::is_reserved(word);
    match () {
        () if last.starts_with('`') => {
            let scope = parts.next().filter(|word| word.ends_with('.') && name(word)).copied().unwrap_or_default();
            Some(format!("{scope}{last}"))
        }
        () => name(last).then(|| (*last).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Completes at `|`.
    fn at(text: &str) -> Place {
        let at = text.find('|').unwrap();
        place(&text.replace('|', ""), at)
    }

    fn words(text: &str) -> String {
        at(text).words.join(" ")
    }

    #[test]
    fn clauses_come_from_the_grammar_and_stand_once() {
        assert_eq!(words("|"), "from");
        assert_eq!(words("from |"), "spans logs metrics traces events");
        assert_eq!(words("from lo|"), "spans logs metrics traces events", "the reader of the list knows what is typed");
        let clauses = words("from logs | where x");
        for word in ["last", "where", "by", "select", "order", "limit", "match", "join", "budget", "dry_run"] {
            assert!(clauses.split(' ').any(|known| known == word), "{word} in {clauses}");
        }
        let behind = words("from logs where a = 1 |");
        assert!(behind.contains("and") && behind.contains("select") && !behind.contains("where"), "{behind}");
        assert!(words("from spans select count() |").contains("as"));
        assert!(words("from spans order duration |").contains("desc"));
        assert_eq!(words("from spans fill |"), "none null 0 previous");
        assert_eq!(words("from nonsense ) |"), "", "what is wrong before is for the error to tell");
    }

    #[test]
    fn values_are_fields_and_functions_that_fit() {
        let place = at("from spans where dur|");
        assert!(place.field && place.typed == "dur" && place.source == Some(Source::Spans));
        let names = |place: &Place| place.functions.iter().map(|f| f.name).collect::<Vec<_>>();
        assert!(names(&place).contains(&"coalesce") && !names(&place).contains(&"count"));
        let place = at("from spans by service.name select co|");
        assert!(names(&place).contains(&"count") && names(&place).contains(&"moving_avg"));
        assert!(at("from spans where a = 1 and http.re|").field);
        assert!(!at("from spans limit |").field && !at("from spans last 1|").field);
        assert!(at("from spans where `a b|").field && at("from spans where `a b|").quoted);
        assert!(at("from spans join logs on |").field);
        assert!(!at("from spans select count() as |").field && !at("from spans let |").field);
    }

    #[test]
    fn values_of_a_field_stand_behind_its_comparison() {
        let of = |text: &str| at(text).value_of;
        assert_eq!(of("from spans where service.name = 'ch|").as_deref(), Some("service.name"));
        assert_eq!(of("from spans where kind != |").as_deref(), Some("kind"));
        assert_eq!(of("from spans where a = 1 and b in ('x', 'y', '|").as_deref(), Some("b"));
        assert_eq!(of("from spans where b not in (|").as_deref(), Some("b"));
        assert_eq!(of("from spans where attr.`a b` = '|").as_deref(), Some("attr.`a b`"));
        assert_eq!(of("from spans where body icontains '|").as_deref(), Some("body"));
        for none in
            ["from spans where '|", "from spans where a > '|", "from spans where (a, '|", "from spans where f(x) = '|"]
        {
            assert_eq!(of(none), None, "{none}");
        }
        let place = at("from spans where service.name = 'ch|");
        assert_eq!((place.typed.as_str(), place.start, place.quoted), ("ch", 33, true));
    }

    #[test]
    fn nothing_that_is_typed_panics() {
        let text = "from späns where `ä` = 'ö\\' and ☃ in ('x', \"\u{1}\") select count() as `n";
        for (at, _) in text.char_indices() {
            let _ = (place(text, at), is_unfinished(&text[..at]), place(&text[at..], text.len() - at));
        }
        let _ = (place("x", 99), place("ä", 1), place(&"(".repeat(70_000), 70_000));
        assert_eq!(place(&"(".repeat(1_000), 1_000).words, Vec::<&str>::new());
    }
}
