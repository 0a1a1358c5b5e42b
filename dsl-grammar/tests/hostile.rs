//! What a stranger may send: refused or answered, never a panic, an exhausted stack or a long wait. Each test runs on a
//! small stack.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use prism_dsl::error::code;
use prism_dsl::{DslError, MAX_BYTES, MAX_LEVELS, MAX_NESTING, Query, parse_json, parse_text};

/// An eighth of what tokio and the standard library give a thread: callers have used some of it.
const STACK: usize = 256 * 1024;

fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap().join().unwrap();
}

fn code_of(result: Result<Query, DslError>) -> &'static str {
    let error = result.expect_err("the query should be refused");
    // Drawing the error is part of answering.
    assert!(error.to_string().len() < 2_000, "{error}");
    error.code
}

fn nested(open: &str, middle: &str, close: &str, depth: usize) -> String {
    format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
}

fn text(condition: &str) -> Result<Query, DslError> {
    parse_text(&format!("from spans where {condition}"))
}

fn tree(condition: &str) -> Result<Query, DslError> {
    parse_json(format!(r#"{{"from": "spans", "where": {condition}}}"#).as_bytes())
}

#[test]
fn depth_64_works_and_10_000_is_refused() {
    on_small_stack(|| {
        let forms: &[(&str, &str, &str)] = &[
            ("(", "a = 1", ")"),
            ("not ", "a = 1", ""),
            ("not (", "a = 1", ")"),
            ("-", "a", ""),
            ("- (", "a", ")"),
            ("lower(", "a", ")"),
            ("[", "a", "]"),
            ("(a = 1 and (b = 2 or ", "c = 3", "))"),
            ("a + (", "1", ")"),
            ("a in (", "1", ")"),
            ("if(a > 1, ", "1", ", 2)"),
        ];
        for (open, middle, close) in forms {
            let brackets = open.matches(['(', '[']).count().max(1);
            let depth = MAX_NESTING / brackets;
            let query = text(&nested(open, middle, close, depth)).unwrap_or_else(|error| panic!("{open}: {error}"));
            // What the parser accepts, the printers and the drop must bear too.
            assert_eq!(parse_text(&query.to_string()).unwrap(), query);
            assert_eq!(parse_json(query.to_json_tree().to_string().as_bytes()).unwrap(), query);
            let deep = nested(open, middle, close, 10_000);
            let limit = if deep.len() > MAX_BYTES - 100 { code::TOO_LONG } else { code::TOO_DEEP };
            assert_eq!(code_of(text(&deep)), limit, "{open}");
            let within = (MAX_BYTES - 100) / (open.len() + close.len());
            assert_eq!(code_of(text(&nested(open, middle, close, within))), code::TOO_DEEP, "{open}");
        }
    });
}

#[test]
fn nested_filters_are_refused() {
    on_small_stack(|| {
        let filters = "count() where ".repeat(4_000);
        assert!(parse_text(&format!("from spans select {filters} a")).is_err());
        assert!(parse_text(&format!("from spans having {filters} a")).is_err());
        let fits = nested("(count() where ", "a", ")", 3_000);
        assert_eq!(code_of(parse_text(&format!("from spans select {fits}"))), code::TOO_DEEP);
    });
}

#[test]
fn long_chains_are_flat_or_refused() {
    on_small_stack(|| {
        let query = text("a = 1 and ".repeat(5_000).trim_end_matches(" and ")).unwrap();
        assert_eq!(parse_text(&query.to_string()).unwrap(), query);
        assert!(text(&format!("a{}", " or a and not a".repeat(3_000))).is_ok());
        assert!(text(&format!("a = 1{}", " + 1".repeat(MAX_LEVELS - 2))).is_ok());
        for operator in ["+", "-", "*", ">", "=", ">>", "in (1)", "between 1 and"] {
            assert!(text(&format!("a{}", format!(" {operator} 1").repeat(4_000))).is_err(), "{operator}");
        }
    });
}

#[test]
fn json_nesting() {
    on_small_stack(|| {
        for (open, middle, close) in [
            (r#"{"not":["#, "true", "]}"),
            (r#"{"and":[true,{"or":[false,"#, "true", "]}]}"),
            (r#"{"lower":["#, r#"{"field":"a"}"#, "]}"),
            (r#"{"coalesce":[["#, "1", "]]}"),
        ] {
            let operators = open.matches('[').count();
            let query = tree(&nested(open, middle, close, MAX_NESTING / operators)).unwrap();
            assert_eq!(parse_json(query.to_json_tree().to_string().as_bytes()).unwrap(), query);
            let most = (MAX_BYTES - 100) / (open.len() + close.len());
            assert_eq!(code_of(tree(&nested(open, middle, close, most))), code::TOO_DEEP, "{open}");
        }
        assert_eq!(code_of(tree(&nested("[", "", "]", 10_000))), code::TOO_DEEP);
        assert_eq!(code_of(tree(&nested(r#"{"a":"#, "1", "}", 8_000))), code::TOO_DEEP);
        assert_eq!(code_of(parse_json("[".repeat(MAX_BYTES).as_bytes())), code::TOO_DEEP);
        assert_eq!(code_of(tree(&format!("\"{}\"", nested("(", "a", ")", 10_000)))), code::TOO_DEEP);
    });
}

#[test]
fn size_is_checked_first() {
    on_small_stack(|| {
        assert_eq!(code_of(parse_text(&" ".repeat(MAX_BYTES + 1))), code::TOO_LONG);
        assert_eq!(code_of(parse_json(&[0xff; MAX_BYTES + 1])), code::TOO_LONG);
        let pad = |size: usize| format!("from spans{}", " ".repeat(size - "from spans".len()));
        assert!(parse_text(&pad(MAX_BYTES)).is_ok());
        assert_eq!(code_of(parse_text(&pad(MAX_BYTES + 1))), code::TOO_LONG);
    });
}

#[test]
fn bytes_that_are_no_text() {
    on_small_stack(|| {
        assert_eq!(code_of(parse_json(b"\xff\xfe")), code::JSON);
        assert_eq!(code_of(parse_json(b"")), code::JSON);
        assert_eq!(code_of(parse_json(b"{\"from\": \"sp\0ans\"}")), code::JSON);
        assert_eq!(code_of(parse_text("from spans where a = '\0'")), code::SYNTAX);
        assert_eq!(code_of(parse_text("from spans where \0")), code::SYNTAX);
        assert_eq!(code_of(parse_text("\u{feff}from spans")), code::SYNTAX);
        assert!(parse_text("from spans where a = '\\u{0}'").is_ok());
    });
}

/// The worst inputs for a parser that goes back and tries again, and for the search of lines and columns.
#[test]
fn no_input_takes_long() {
    on_small_stack(|| {
        let fill = |unit: &str| format!("from spans where {}", unit.repeat((MAX_BYTES - 20) / unit.len()));
        let inputs = [
            fill("a "),
            fill("a, "),
            fill("a and "),
            fill("é = 'é' and "),
            fill("a.b.c."),
            fill("'"),
            fill("`"),
            fill("\\"),
            fill("1"),
            fill("1e"),
            fill("a["),
            fill("a(b)("),
            fill("()"),
            fill("x(1,2,3) or "),
            fill("coalesce(a, 'é') = b or "),
            fill("not_a_function(a) or "),
            fill("a in (1,2) and "),
            fill("\n"),
            fill("a =\n 1 and "),
            fill(&format!("{} and ", nested("(", "a", ")", MAX_NESTING))),
            fill(&format!("{} and ", nested("coalesce(b, ", "a =", ")", MAX_NESTING))),
            format!("from spans select {}", "count() where a, ".repeat(3_500)),
            format!("from spans {}", "join logs on trace ".repeat(3_000)),
            format!("from spans let {}", (0..5_000).map(|i| format!("v{i} = 1, ")).collect::<String>()),
        ];
        for input in &inputs {
            let start = Instant::now();
            let _ = parse_text(input);
            let document = serde_json::json!({ "from": "spans", "where": input });
            let _ = parse_json(document.to_string().as_bytes());
            // Debug builds on a busy machine: far above what these take (tens of milliseconds), far below quadratic.
            assert!(start.elapsed() < Duration::from_secs(20), "{:?} for {}", start.elapsed(), &input[..60]);
        }
        let keys: String = (0..6_000).map(|i| format!("\"{i}\":1,")).collect();
        assert!(parse_json(format!("{{{keys}\"from\":\"spans\"}}").as_bytes()).is_err());
    });
}
