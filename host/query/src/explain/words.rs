//! Bound expressions in words, near to how a query writes them.

use crate::eval::node::{ArithmeticOp, CompareOp, Function, Node, PathStep, Set, TextOp, TextTest, Unit};
use crate::eval::vals::Scalar;
use crate::show;
use crate::stack::with_room;

/// Values of a list that are shown; the others are counted.
const LISTED_MAX: usize = 8;
/// Characters of a text that are shown.
const TEXT_MAX: usize = 80;

/// A node in words; `name` gives the name and unit of a field.
pub(crate) fn of(node: &Node, name: &dyn Fn(usize) -> (String, Unit)) -> String {
    with_room(|| words(node, name))
}

fn words(node: &Node, name: &dyn Fn(usize) -> (String, Unit)) -> String {
    let of = |node: &Node| of(node, name);
    // Constants are shown as what they are compared with is measured.
    let beside = |node: &Node, other: &Node| match (node, other) {
        (Node::Const(value), Node::Field(field)) => constant(value, name(*field).1),
        _ => of(node),
    };
    let list = |nodes: &[Node], by: &str| nodes.iter().map(&of).collect::<Vec<_>>().join(by);
    let not = |negated: &bool| if *negated { "not " } else { "" };
    match node {
        Node::Const(value) => constant(value, Unit::Plain),
        Node::Field(field) => name(*field).0,
        Node::Compare { op, left, right } => {
            format!("{} {} {}", beside(left, right), compare(*op), beside(right, left))
        }
        Node::InSet { expr, set, negated } => format!("{} {}in ({})", of(expr), not(negated), values(set)),
        Node::TextTest { expr, test, negated } => match test {
            TextTest::Regex(regex) => {
                format!("{} {} '{}'", of(expr), if *negated { "!~" } else { "=~" }, cut(regex.as_str()))
            }
            TextTest::Op(op, text) => format!("{}{} {} '{}'", not(negated), of(expr), text_op(*op), cut(text)),
            TextTest::Element(value) => {
                format!("{}{} contains {}", not(negated), of(expr), constant(value, Unit::Plain))
            }
        },
        Node::TextPair { op, left, right, negated } => {
            format!("{}{} {} {}", not(negated), of(left), text_op(*op), of(right))
        }
        Node::Exists(inner) => format!("exists({})", of(inner)),
        Node::And(all) => format!("({})", list(all, " and ")),
        Node::Or(all) => format!("({})", list(all, " or ")),
        Node::Not(inner) => format!("not ({})", of(inner)),
        Node::Some { condition, .. } => format!("some of them has {}", of(condition)),
        Node::Arithmetic { op, left, right } => format!("({} {} {})", of(left), arithmetic(*op), of(right)),
        Node::Negate(inner) => format!("-{}", of(inner)),
        Node::Path { expr, steps } => {
            let step = |step: &PathStep| match step {
                PathStep::Key(key) => format!("['{}']", cut(key)),
                PathStep::Index(index) => format!("[{index}]"),
            };
            format!("{}{}", of(expr), steps.iter().map(step).collect::<String>())
        }
        Node::Call { function: Function::Bucket, args } => match (args.first(), args.get(1)) {
            (Some(of_what @ Node::Field(field)), Some(Node::Const(width))) if name(*field).1 == Unit::Time => {
                format!("bin({}, {})", of(of_what), constant(width, Unit::Duration))
            }
            _ => format!("bucket({})", list(args, ", ")),
        },
        Node::Call { function: Function::Plugin(called), args } => {
            format!("plugin.{}({})", called.function.signature().name, list(args, ", "))
        }
        Node::Call { function, args } => format!("{}({})", function_name(function), list(args, ", ")),
        Node::Joined { join, output, keys } => {
            format!("value {} of join {} by {}", output + 1, join + 1, list(keys, ", "))
        }
        Node::First { expr, .. } => format!("the first of them that has {}", of(expr)),
    }
}

fn function_name(function: &Function) -> String {
    // The names of the variants are those of the language.
    let debug = format!("{function:?}");
    let end = debug.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(debug.len());
    debug[..end].to_ascii_lowercase()
}

fn constant(value: &Scalar, unit: Unit) -> String {
    match value {
        Scalar::Null => "null".to_owned(),
        Scalar::Str(text) => format!("'{}'", cut(text)),
        Scalar::Json(text) => cut(text),
        Scalar::Int(time) if unit == Unit::Time => format!("t'{}'", show::time(*time)),
        other => show::scalar_text(other, unit).unwrap_or_default(),
    }
}

fn values(set: &Set) -> String {
    let mut texts: Vec<String> = set.strs.iter().map(|text| format!("'{}'", cut(text))).collect();
    texts.sort_unstable();
    let mut ints: Vec<i64> = set.ints.iter().copied().collect();
    ints.sort_unstable();
    let mut all = texts;
    all.extend(ints.iter().map(i64::to_string));
    all.extend(set.doubles.iter().map(f64::to_string));
    all.extend(set.bools.iter().map(bool::to_string));
    let mut ids: Vec<String> = set.ids.iter().map(hex::encode).collect();
    ids.sort_unstable();
    // Ids stand among the texts, too.
    all.extend(ids.into_iter().filter(|id| !set.strs.contains(id)));
    let more = all.len().saturating_sub(LISTED_MAX);
    all.truncate(LISTED_MAX);
    if more > 0 {
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn compare(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => "=",
        CompareOp::Ne => "!=",
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
    }
}

fn text_op(op: TextOp) -> &'static str {
    match op {
        TextOp::Contains => "contains",
        TextOp::IContains => "icontains",
        TextOp::StartsWith => "starts_with",
        TextOp::IStartsWith => "istarts_with",
        TextOp::EndsWith => "ends_with",
        TextOp::IEndsWith => "iends_with",
    }
}

fn arithmetic(op: ArithmeticOp) -> &'static str {
    match op {
        ArithmeticOp::Add => "+",
        ArithmeticOp::Sub => "-",
        ArithmeticOp::Mul => "*",
        ArithmeticOp::Div => "/",
        ArithmeticOp::Rem => "%",
    }
}
