//! Any Ast, printed as text, document and tree, reads back as itself. Failures print the Ast and a seed that proptest keeps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use prism_dsl::functions::{FUNCTIONS, Function, Kind};
use prism_dsl::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// What a query declares, which decides how a name is read.
#[derive(Debug, Clone, Copy)]
struct Declared {
    spans: bool,
    logs: bool,
}

fn name() -> impl Strategy<Value = String> {
    let odd = "[a-z.`'\\\\ \n\té-]{1,8}";
    prop_oneof![
        4 => "[a-z_][a-z0-9_]{0,5}(\\.[a-z0-9_]{1,4}){0,2}",
        1 => select(vec![
            "a", "b", "a.x", "parent.x", "root.y", "event.name", "attr.z", "logs.count", "resource", "not", "SELECT", "order.id",
            "in.x", "5xx", "content-type", "t", "true", "bin", "trace", "plugin.x", "Ünï.cödé", "a..b", ".", "desc", "time",
        ]).prop_map(str::to_owned),
        1 => odd,
        1 => any::<String>().prop_filter("a name is not empty", |name| !name.is_empty()),
    ]
}

fn field(declared: Declared, other_spans: bool) -> impl Strategy<Value = Field> {
    let mut owners = vec![None, None, None, None, Some(Of::Parent), Some(Of::Root)];
    if declared.spans && other_spans {
        owners.extend([Some(Of::Binding("a".into())), Some(Of::Binding("b".into()))]);
    }
    if declared.logs && other_spans {
        owners.push(Some(Of::Joined(Source::Logs)));
    }
    let step = prop_oneof![any::<String>().prop_map(Step::Key), any::<u32>().prop_map(Step::Index)];
    let scopes: Vec<Option<Scope>> = Scope::ALL.into_iter().map(Some).chain([None; 10]).collect();
    let path = prop_oneof![3 => Just(Vec::new()), 1 => vec(step, 1..3)];
    (select(owners), select(scopes), name(), path).prop_map(|(of, scope, name, path)| Field {
        of,
        scope,
        name,
        path,
        pos: Pos::NONE,
    })
}

fn literal() -> impl Strategy<Value = Expr> {
    prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<i64>().prop_map(Literal::Int),
        (-9i64..9).prop_map(Literal::Int),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Literal::Float),
        any::<String>().prop_map(Literal::Str),
        any::<i64>().prop_map(Literal::Duration),
        (0i64..100).prop_map(|seconds| Literal::Duration(seconds * 500_000_000)),
        any::<u64>().prop_map(Literal::Bytes),
        (0u64..100).prop_map(|kilo| Literal::Bytes(kilo * 1024)),
        any::<i64>().prop_map(Literal::Time),
    ]
    .prop_map(Expr::Literal)
}

/// A chain that lies flat, as the parser makes it.
fn chain(and: bool, parts: Vec<Expr>) -> Expr {
    let flat = parts.into_iter().flat_map(|part| match part {
        Expr::And(inner) if and => inner,
        Expr::Or(inner) if !and => inner,
        other => vec![other],
    });
    if and { Expr::And(flat.collect()) } else { Expr::Or(flat.collect()) }
}

/// A minus, which goes into a number as the parser does it.
fn minus(inner: Expr) -> Expr {
    match inner {
        Expr::Literal(Literal::Int(value)) if value != i64::MIN => Expr::Literal(Literal::Int(-value)),
        Expr::Literal(Literal::Duration(value)) if value != i64::MIN => Expr::Literal(Literal::Duration(-value)),
        Expr::Literal(Literal::Float(value)) => Expr::Literal(Literal::Float(-value)),
        other => Expr::Neg(Box::new(other)),
    }
}

fn functions(kind: Kind) -> Vec<Function> {
    FUNCTIONS.iter().filter(|known| known.kind == kind).copied().collect()
}

/// Arguments as many as the function takes.
fn args_of(known: Function, args: Vec<Expr>) -> Vec<Expr> {
    let most = known.most.unwrap_or(args.len());
    let mut args: Vec<Expr> = args.into_iter().take(most.max(known.least)).collect();
    while args.len() < known.least {
        args.push(Expr::Literal(Literal::Int(1)));
    }
    args
}

fn compound(inner: BoxedStrategy<Expr>, kind: Kind) -> BoxedStrategy<Expr> {
    let boxed = || inner.clone().prop_map(Box::new);
    let known = functions(kind);
    prop_oneof![
        (any::<bool>(), vec(inner.clone(), 2..4)).prop_map(|(and, parts)| chain(and, parts)),
        boxed().prop_map(Expr::Not),
        inner.clone().prop_map(minus),
        (select(BinaryOp::ALL.to_vec()), boxed(), boxed()).prop_map(|(op, left, right)| Expr::Binary {
            op,
            left,
            right
        }),
        (select(BinaryOp::ALL[..5].to_vec()), boxed(), boxed()).prop_map(|(op, left, right)| Expr::Binary {
            op,
            left,
            right
        }),
        (boxed(), vec(inner.clone(), 1..3), any::<bool>()).prop_map(|(expr, list, negated)| Expr::In {
            expr,
            list,
            negated
        }),
        (boxed(), boxed(), boxed(), any::<bool>()).prop_map(|(expr, low, high, negated)| Expr::Between {
            expr,
            low,
            high,
            negated
        }),
        vec(inner.clone(), 0..3).prop_map(Expr::List),
        (name(), vec(inner.clone(), 0..3)).prop_map(|(name, args)| Expr::Plugin(PluginCall {
            name,
            args,
            where_: None,
            pos: Pos::NONE
        })),
        (select(known), vec(inner.clone(), 0..4)).prop_map(|(known, args)| {
            Expr::Call(Call { name: known.name.into(), args: args_of(known, args), pos: Pos::NONE })
        }),
    ]
    .boxed()
}

/// An expression over single rows.
fn rows(declared: Declared, other_spans: bool) -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![literal(), field(declared, other_spans).prop_map(Expr::Field)];
    leaf.prop_recursive(4, 24, 4, |inner| compound(inner, Kind::Scalar)).boxed()
}

fn aggregate(declared: Declared) -> BoxedStrategy<Expr> {
    let row = rows(declared, true);
    let condition = || of(row.clone().prop_map(Box::new));
    let mut known = functions(Kind::Aggregate);
    known.push(Function { name: "p999", ..prism_dsl::functions::find("p95").unwrap() });
    let call =
        (select(known), vec(row.clone(), 0..3), condition(), any::<bool>()).prop_map(|(known, args, where_, exact)| {
            let args = args_of(known, args);
            Expr::Aggregate(Aggregate { func: known.name.into(), args, where_, exact, pos: Pos::NONE })
        });
    let plugin = (name(), vec(row.clone(), 0..3), condition())
        .prop_map(|(name, args, where_)| Expr::Plugin(PluginCall { name, args, where_, pos: Pos::NONE }));
    prop_oneof![3 => call, 1 => plugin].boxed()
}

/// An expression over groups.
fn groups(declared: Declared) -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![2 => aggregate(declared), 1 => rows(declared, true)];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![compound(inner.clone(), Kind::Scalar), compound(inner, Kind::Series)].boxed()
    })
    .boxed()
}

fn structure(declared: Declared) -> BoxedStrategy<Expr> {
    let span =
        select(vec!["a", "b"]).prop_map(|name| Expr::Binding(Binding { name: name.into(), pos: Pos::NONE })).boxed();
    let forms = select(vec![RelationForm::Plain, RelationForm::Negated, RelationForm::Union]);
    let relation = span.prop_recursive(3, 8, 2, move |inner| {
        (select(RelationOp::ALL.to_vec()), forms.clone(), inner.clone(), inner)
            .prop_map(|(op, form, left, right)| Expr::Relation {
                op,
                form,
                left: Box::new(left),
                right: Box::new(right),
            })
            .boxed()
    });
    let leaf = prop_oneof![relation, rows(declared, true)];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            (any::<bool>(), vec(inner.clone(), 2..4)).prop_map(|(and, parts)| chain(and, parts)),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
        .boxed()
    })
    .boxed()
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        (1i64..).prop_map(Range::Last),
        (any::<i64>(), any::<i64>())
            .prop_filter("not empty", |(from, to)| from != to)
            .prop_map(|(a, b)| Range::Between { from: a.min(b), to: a.max(b) }),
    ]
}

/// Keeps the first of each name.
fn distinct<T>(items: Vec<T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut known = std::collections::BTreeSet::new();
    items.into_iter().filter(|item| known.insert(name(item).to_owned())).collect()
}

fn query() -> impl Strategy<Value = Query> {
    (any::<bool>(), any::<bool>()).prop_flat_map(|(spans, logs)| {
        let declared = Declared { spans, logs };
        let row = rows(declared, true);
        let own = rows(declared, false);
        let matches = (own.clone(), own.clone(), of(structure(declared))).prop_map(|(a, b, where_)| Match {
            bindings: vec![Bind { name: "a".into(), expr: a }, Bind { name: "b".into(), expr: b }],
            where_,
        });
        let key = prop_oneof![Just(JoinKey::Trace), Just(JoinKey::Bin), field(declared, true).prop_map(JoinKey::Field)];
        let nothing = Declared { spans: false, logs: false };
        let join = (prop_oneof![Just(Expr::Literal(Literal::Bool(true))), rows(nothing, false)], vec(key, 1..3));
        let head = (
            select(Source::ALL.to_vec()),
            of(range()),
            matches,
            of(row.clone()),
            vec((name(), row.clone()).prop_map(|(name, expr)| Let { name, expr }), 0..3),
            vec((row.clone(), of(name())).prop_map(|(expr, alias)| By { expr, alias }), 0..3),
            of(select(Fill::ALL.to_vec())),
        );
        let tail = (
            vec((groups(declared), of(name())), 0..3),
            of(groups(declared)),
            vec((groups(declared), any::<bool>()).prop_map(|(expr, descending)| Order { expr, descending }), 0..3),
            of(0..i64::MAX as u64),
            of(any::<String>()),
            of((1i64..).prop_map(|offset| Compare { offset })),
            join,
            (of(any::<u64>()), of(1i64..)),
            any::<(bool, bool)>(),
        );
        (head, tail).prop_map(move |(head, tail)| {
            let (from, range, matches, where_, lets, by, fill) = head;
            let (columns, having, order, limit, cursor, compare, (joined, on), (bytes, time), (returns, dry_run)) =
                tail;
            let columns = columns.into_iter().map(|(expr, name)| {
                let name = name.unwrap_or_else(|| default_name(&expr));
                Select { name, expr }
            });
            Query {
                from,
                range,
                matches: spans.then_some(matches),
                where_,
                lets: distinct(lets, |item| &item.name),
                by,
                fill,
                select: distinct(columns.collect(), |item| &item.name),
                having,
                order,
                limit,
                cursor,
                compare,
                joins: if logs { vec![Join { source: Source::Logs, where_: joined, on }] } else { Vec::new() },
                budget: Some(Budget { bytes, time }).filter(|budget| *budget != Budget::default()),
                return_: (spans && returns).then(|| "b".to_owned()),
                dry_run,
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_reads_back(query in query()) {
        let text = query.to_string();
        prop_assume!(text.len() <= MAX_BYTES);
        let read = parse_text(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(read, query, "{}", text);
    }

    #[test]
    fn document_reads_back(query in query()) {
        let text = query.to_json().to_string();
        prop_assume!(text.len() <= MAX_BYTES);
        let read = parse_json(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(read, query, "{}", text);
    }

    #[test]
    fn tree_reads_back(query in query()) {
        let text = query.to_json_tree().to_string();
        prop_assume!(text.len() <= MAX_BYTES);
        let read = parse_json(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(read, query, "{}", text);
    }

    /// Nothing that a stranger sends panics, and every error has a message.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}") {
        if let Err(error) = parse_text(&text) {
            prop_assert!(!error.message.is_empty());
        }
        let _ = parse_text(&format!("from spans where {text}"));
        let _ = parse_json(text.as_bytes());
    }

    /// The same for texts made of the language's own words.
    #[test]
    fn any_words_are_answered(words in vec(select(WORDS.to_vec()), 0..24)) {
        let text = words.join(" ");
        let _ = parse_text(&text);
        if let Ok(query) = parse_text(&format!("from spans {text}")) {
            prop_assert_eq!(parse_text(&query.to_string()).map_err(|error| TestCaseError::fail(error.to_string()))?, query);
        }
        let _ = parse_json(serde_json::json!({ "from": "spans", "where": text, "select": { "x": text } }).to_string().as_bytes());
    }

    /// The reader of JSON accepts exactly what serde_json does, apart from repeated keys and numbers out of range.
    #[test]
    fn json_like_serde(text in "[\\[\\]{}:,\"\\\\u0-9a-f.eE+\\- tr]{0,24}") {
        let document = format!("{{\"from\":\"spans\",\"where\":{{\"coalesce\":[{text}]}}}}");
        let theirs = serde_json::from_str::<serde_json::Value>(&document);
        if let Err(error) = parse_json(document.as_bytes()) {
            let lenient = matches!(error.code, "query_literal" | "query_duplicate");
            prop_assert!(error.code != "query_json" || theirs.is_err(), "{error}\n{document}");
            prop_assert!(theirs.is_ok() || error.code == "query_json" || lenient, "{error}\n{document}");
        } else {
            prop_assert!(theirs.is_ok(), "{document}");
        }
    }
}

const WORDS: &[&str] = &[
    "from",
    "spans",
    "last",
    "1h",
    "where",
    "let",
    "by",
    "select",
    "having",
    "order",
    "limit",
    "5",
    "match",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    "=",
    "!=",
    ">",
    ">>",
    "!~",
    "~",
    "and",
    "or",
    "not",
    "in",
    "between",
    "contains",
    "as",
    "count()",
    "p95(",
    "a",
    "b",
    "a.x",
    "'x'",
    "`q`",
    "-",
    "+",
    "*",
    "200ms",
    "10MB",
    "t'2026-01-01T00:00:00Z'",
    "true",
    "null",
    "desc",
    "join",
    "logs",
    "on",
    "trace",
    "return",
    "compare",
    "1d",
    "budget",
    "fill",
    "previous",
    "exact(",
    "plugin.f(",
    "parent.x",
    "to",
    "1.5",
    "dry_run",
];
