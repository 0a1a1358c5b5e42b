//! What may stand at the cursor: words and functions from the language, fields and values from whoever knows them.

use prism_dsl::Source;
use prism_dsl::complete::{Place, place};
use serde_json::Value;

use super::line::COMMANDS;

/// So many are offered: more is no help.
const OFFERED_MAX: usize = 200;

/// Who knows which fields there are.
pub(super) trait Known {
    /// Names of fields of some rows, the most frequent first.
    fn fields(&self, source: Option<Source>) -> Vec<String>;
    /// Values of a field, the most frequent first.
    fn values(&self, source: Option<Source>, field: &str) -> Vec<Value>;
}

/// Something that may stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What is shown.
    pub(super) shown: String,
    /// What takes the place of what is typed.
    pub(super) text: String,
}

impl Candidate {
    fn word(word: &str) -> Candidate {
        Candidate { shown: word.to_owned(), text: word.to_owned() }
    }
}

/// Where what is typed at the cursor begins, in bytes, and what may stand there instead.
pub(super) fn candidates(text: &str, at: usize, known: &dyn Known) -> (usize, Vec<Candidate>) {
    let before = text.get(..at).unwrap_or(text);
    if let Some(command) = before.strip_prefix('\\') {
        return of_command(command, known);
    }
    let place = place(text, at);
    (place.start, of_place(&place, &text[place.start.max(at).min(text.len())..], known))
}

fn of_place(place: &Place, behind: &str, known: &dyn Known) -> Vec<Candidate> {
    let mut all = Vec::new();
    if let Some(field) = &place.value_of {
        let values = known.values(place.source, field);
        let value = |value: &Value| value_of(value, place.quoted, behind);
        all.extend(values.iter().filter_map(value).filter(|c| begins(&c.shown, &place.typed)));
    }
    if place.quoted && place.value_of.is_some() {
        return cut(all);
    }
    let plain = |word: &&str| begins(word, &place.typed);
    all.extend(place.words.iter().copied().filter(plain).map(Candidate::word));
    let functions = place.functions.iter().filter(|function| begins(function.name, &place.typed));
    all.extend(functions.map(|f| Candidate { shown: f.usage.to_owned(), text: format!("{}(", f.name) }));
    if place.field {
        let fields = known.fields(place.source);
        let mut found: Vec<&String> = fields.iter().filter(|name| begins(name, &place.typed)).collect();
        if found.is_empty() && !place.typed.is_empty() {
            // The end of a long name is what people remember.
            found = fields.iter().filter(|name| name.to_lowercase().contains(&place.typed.to_lowercase())).collect();
        }
        all.extend(found.into_iter().map(|name| field(name, place.quoted)));
    }
    cut(all)
}

fn of_command(command: &str, known: &dyn Known) -> (usize, Vec<Candidate>) {
    let Some((name, rest)) = command.split_once(' ') else {
        let names = COMMANDS.iter().filter(|(name, ..)| begins(name, command));
        let all =
            names.map(|(name, behind, _)| Candidate { shown: format!("\\{name} {behind}"), text: format!("\\{name}") });
        return (0, all.collect());
    };
    let start = name.len() + 2;
    let all = match name {
        "explain" | "tail" => {
            let (inner, all) = candidates(rest, rest.len(), known);
            return (start + inner, all);
        }
        "fields" | "values" => {
            known.fields(None).iter().filter(|name| begins(name, rest)).map(|n| field(n, false)).collect()
        }
        _ => {
            let behind = COMMANDS.iter().find(|(known, ..)| *known == name).map_or("", |(_, behind, _)| behind);
            // Words in small letters stand for themselves.
            let words =
                behind.split('|').filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()));
            words.filter(|word| begins(word, rest)).map(Candidate::word).collect()
        }
    };
    (start, cut(all))
}

fn begins(word: &str, typed: &str) -> bool {
    word.get(..typed.len()).is_some_and(|front| front.eq_ignore_ascii_case(typed))
}

fn cut(mut all: Vec<Candidate>) -> Vec<Candidate> {
    let mut seen = std::collections::HashSet::new();
    all.retain(|candidate| seen.insert(candidate.text.clone()));
    all.truncate(OFFERED_MAX);
    all
}

/// A field as a query writes it.
fn field(name: &str, quoted: bool) -> Candidate {
    let written = prism_dsl::Expr::Field(prism_dsl::Field::new(name)).to_string();
    let text = match quoted {
        false => written,
        // The backtick before it is there.
        true => written.strip_prefix('`').map_or_else(|| format!("{written}`"), str::to_owned),
    };
    Candidate { shown: name.to_owned(), text }
}

/// A value as a query writes it. What is no text, number or truth value cannot be compared.
fn value_of(value: &Value, quoted: bool, behind: &str) -> Option<Candidate> {
    match value {
        Value::String(text) => {
            let written = prism_dsl::Expr::Literal(prism_dsl::Literal::Str(text.clone())).to_string();
            let inner = written.strip_prefix('\'')?.strip_suffix('\'')?;
            let end = if behind.starts_with('\'') { "" } else { "'" };
            let text = if quoted { format!("{inner}{end}") } else { written.clone() };
            let shown = if quoted { inner.to_owned() } else { written };
            Some(Candidate { shown, text })
        }
        Value::Number(_) | Value::Bool(_) if !quoted => Some(Candidate::word(&value.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Rows;

    impl Known for Rows {
        fn fields(&self, source: Option<Source>) -> Vec<String> {
            let of = if source == Some(Source::Logs) {
                &["body", "severity"][..]
            } else {
                &["duration", "service.name", "a b", "http.route"]
            };
            of.iter().map(|name| (*name).to_owned()).collect()
        }

        fn values(&self, _: Option<Source>, field: &str) -> Vec<Value> {
            match field {
                "service.name" => vec![json!("checkout"), json!("o'neill"), json!("cart")],
                "n" => vec![json!(7), json!(true), json!(null), json!([1])],
                _ => Vec::new(),
            }
        }
    }

    /// The text for each candidate in the place of what is typed at `|`.
    fn at(text: &str) -> Vec<String> {
        let at = text.find('|').unwrap();
        let text = text.replace('|', "");
        let (start, all) = candidates(&text, at, &Rows);
        all.iter().map(|c| format!("{}{}{}", &text[..start], c.text, &text[at..])).collect()
    }

    #[test]
    fn words_functions_and_fields_are_completed() {
        assert_eq!(at("from sp|"), ["from spans"]);
        assert_eq!(at("FROM logs WHERE sev|"), ["FROM logs WHERE severity"]);
        assert_eq!(at("from spans wh| limit 1"), ["from spans where limit 1"]);
        assert_eq!(at("from spans select p9|"), Vec::<String>::new());
        assert_eq!(at("from spans select count_|"), ["from spans select count_distinct("]);
        assert_eq!(at("from spans where a|"), ["from spans where abs(", "from spans where `a b`"]);
        assert_eq!(at("from spans where `a|"), ["from spans where `a b`"]);
        assert_eq!(at("from spans where rout|"), ["from spans where http.route"], "by its end");
        assert_eq!(at("from spans where service.name = 'x' a|"), ["from spans where service.name = 'x' and"]);
    }

    #[test]
    fn values_are_written_as_the_language_does() {
        assert_eq!(
            at("from spans where service.name = 'c|"),
            ["from spans where service.name = 'checkout'", "from spans where service.name = 'cart'"]
        );
        assert_eq!(at("from spans where service.name = 'ch|'"), ["from spans where service.name = 'checkout'"]);
        assert_eq!(
            at("from spans where service.name in ('cart', 'o|"),
            ["from spans where service.name in ('cart', 'o\\'neill'"]
        );
        let unquoted = at("from spans where service.name = |");
        assert_eq!(
            unquoted[..3],
            ["'checkout'", "'o\\'neill'", "'cart'"].map(|v| format!("from spans where service.name = {v}"))
        );
        let numbers = at("from spans where n = |");
        assert_eq!(numbers[..2], ["from spans where n = 7", "from spans where n = true"]);
    }

    #[test]
    fn commands_are_completed() {
        assert_eq!(at("\\f|"), ["\\fields"]);
        assert_eq!(at("\\output c|"), ["\\output csv"]);
        assert_eq!(at("\\last o|"), ["\\last off"]);
        assert_eq!(at("\\values ser|"), ["\\values service.name"]);
        assert_eq!(at("\\explain from lo|"), ["\\explain from logs"]);
        assert_eq!(at("\\nothing x|"), Vec::<String>::new());
        assert!(at("\\|").len() == COMMANDS.len());
    }
}
