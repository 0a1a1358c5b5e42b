//! The tree form of an expression, JSON -> Ast: an operator or function is the one key of an object, its arguments an array;
//! a plain JSON value is a literal.

use crate::ast::{BinaryOp, Expr, Literal, Pos};
use crate::build::{self, Node};
use crate::document::Document;
use crate::error::{DslError, code};
use crate::expression;
use crate::functions;
use crate::json::{Entry, Json, Kind};
use crate::lexis::{self, short};
use crate::names::Names;
use crate::nearest::did_you_mean;
use crate::stack::with_room;

/// Keys whose value is not an array.
const LEAVES: [&str; 5] = ["field", "duration", "bytes", "time", "expr"];

/// Operators that are not between two operands.
const OPERATORS: [&str; 9] = ["and", "or", "not", "in", "not in", "between", "not between", "where", "exact"];

impl Document<'_> {
    /// The expression at `json`, a tree. Recursion is as deep as the JSON, which its reader bounds.
    pub(crate) fn tree(&self, json: &Json, names: &Names, pointer: &str) -> Result<Node, DslError> {
        let literal = |literal: Literal| Ok(build::leaf(Expr::Literal(literal)));
        match &json.kind {
            Kind::Null => literal(Literal::Null),
            Kind::Bool(value) => literal(Literal::Bool(*value)),
            Kind::Int(value) => literal(Literal::Int(*value)),
            Kind::Float(value) => literal(Literal::Float(*value)),
            Kind::Text(text) => literal(Literal::Str(text.clone())),
            Kind::Array(members) => {
                self.place(json, pointer, build::list(with_room(|| self.trees(members, names, pointer))?))
            }
            Kind::Object(entries) => match &entries[..] {
                [only] => with_room(|| self.operation(only, names, &format!("{pointer}/{}", escape(&only.key)))),
                _ => {
                    let message =
                        format!("expected an object with one key, an operator or function, found {}", entries.len());
                    let hint = r#"a tree looks like {"=": [{"field": "service.name"}, "shop"]}"#;
                    Err(self.error(code::SYNTAX, message, json.at, pointer).hint(hint))
                }
            },
        }
    }

    fn trees(&self, members: &[Json], names: &Names, pointer: &str) -> Result<Vec<Node>, DslError> {
        let each = members.iter().enumerate();
        each.map(|(i, member)| self.tree(member, names, &format!("{pointer}/{i}"))).collect()
    }

    /// Gives an error of `built` the place of `json`.
    fn place<T>(&self, json: &Json, pointer: &str, built: Result<T, DslError>) -> Result<T, DslError> {
        built.map_err(|error| self.at(error, json.at, pointer))
    }

    fn operation(&self, entry: &Entry, names: &Names, pointer: &str) -> Result<Node, DslError> {
        let key = entry.key.to_ascii_lowercase();
        if LEAVES.contains(&key.as_str()) {
            return self.leaf(&key, &entry.value, names, pointer);
        }
        let infix = build::infix(&key);
        let plugin = key.starts_with("plugin.");
        let function = key == "exact" || functions::find(&key).is_some();
        if infix.is_none() && !plugin && !function && !OPERATORS.contains(&key.as_str()) {
            return Err(self.unknown(&entry.key, entry.at, pointer));
        }
        let Kind::Array(members) = &entry.value.kind else {
            let message =
                format!("expected the arguments of `{}` as an array, found {}", short(&entry.key), entry.value.words());
            return Err(self.error(code::SYNTAX, message, entry.value.at, pointer));
        };
        if matches!(key.as_str(), "in" | "not in") {
            return self.in_list(&key, entry, members, names, pointer);
        }
        let mut args = self.trees(members, names, pointer)?;
        let built = match (key.as_str(), args.len()) {
            ("and", _) => build::logic(true, args),
            ("or", _) => build::logic(false, args),
            ("not", 1) => build::not(args.remove(0)),
            ("-", 1) => build::neg(args.remove(0)),
            ("where", 2) => {
                let condition = args.remove(1);
                build::filtered(args.remove(0), condition)
            }
            ("between" | "not between", 3) => {
                let (high, low) = (args.remove(2), args.remove(1));
                build::between(args.remove(0), low, high, key.starts_with("not"))
            }
            (_, 2) if let Some(op) = infix => {
                let right = args.remove(1);
                build::binary(op, args.remove(0), right)
            }
            _ if plugin => build::plugin(entry.key["plugin.".len()..].to_owned(), args, Pos::NONE),
            _ if function => build::call(&key, args, Pos::NONE),
            (_, found) => {
                let wanted = match key.as_str() {
                    "not" => "1 argument",
                    "-" => "1 or 2 arguments",
                    "between" | "not between" => "3 arguments",
                    _ => "2 arguments",
                };
                Err(DslError::new(code::ARGUMENTS, format!("`{key}` expected {wanted}, found {found}")))
            }
        };
        built.map_err(|error| self.at(error, entry.at, pointer))
    }

    fn in_list(
        &self,
        key: &str,
        entry: &Entry,
        members: &[Json],
        names: &Names,
        pointer: &str,
    ) -> Result<Node, DslError> {
        let [expr, list] = members else {
            let message = format!("`{key}` expected 2 arguments, found {}", members.len());
            return Err(self.error(code::ARGUMENTS, message, entry.at, pointer));
        };
        let expr = self.tree(expr, names, &format!("{pointer}/0"))?;
        let inside = format!("{pointer}/1");
        let Kind::Array(list) = &list.kind else {
            let message = format!("expected the list of `{key}` as an array, found {}", list.words());
            return Err(self.error(code::SYNTAX, message, list.at, &inside));
        };
        let list = self.trees(list, names, &inside)?;
        build::in_list(expr, list, key != "in").map_err(|error| self.at(error, entry.at, pointer))
    }

    /// `{"field": "service.name"}` and its like.
    fn leaf(&self, key: &str, value: &Json, names: &Names, pointer: &str) -> Result<Node, DslError> {
        let Kind::Text(text) = &value.kind else {
            let message = format!("expected a string in `{key}`, found {}", value.words());
            return Err(self.error(code::SYNTAX, message, value.at, pointer));
        };
        let literal = |literal: Literal| Ok(build::leaf(Expr::Literal(literal)));
        match key {
            "expr" => self.string(text, pointer, |text| expression::parse(text, names)),
            "field" => self.string(text, pointer, |text| expression::parse_field(text, names)).map(build::leaf),
            "time" => match lexis::time(text) {
                Ok(nanos) => literal(Literal::Time(nanos)),
                Err((message, hint)) => Err(self.error(code::LITERAL, message, value.at, pointer).hint_if(hint)),
            },
            _ => literal(self.quantity(key, text, value.at, pointer)?),
        }
    }

    /// A duration or byte count in a string of its own. `key` says which.
    pub(crate) fn quantity(&self, key: &str, text: &str, at: usize, pointer: &str) -> Result<Literal, DslError> {
        let (token, negative) = text.strip_prefix('-').map_or((text, false), |token| (token, true));
        let digits = token.starts_with(|c: char| c.is_ascii_digit());
        let found = if digits { Some(lexis::number(token, negative)) } else { None };
        match found {
            Some(Ok(found @ Literal::Duration(_))) if key != "bytes" => Ok(found),
            Some(Ok(found @ Literal::Bytes(_))) if key == "bytes" && !negative => Ok(found),
            Some(Err(flaw)) => Err(self.error(code::LITERAL, flaw.message, at, pointer).hint_if(flaw.hint)),
            _ => {
                let (what, like) =
                    if key == "bytes" { ("bytes", "`10MB` or `1GiB`") } else { ("a duration", "`100ms` or `1h`") };
                let message = format!("expected {what} as in {like}, found `{}`", short(text));
                Err(self.error(code::LITERAL, message, at, pointer))
            }
        }
    }

    fn unknown(&self, key: &str, at: usize, pointer: &str) -> DslError {
        let symbols = BinaryOp::ALL.iter().map(|op| op.symbol()).chain(OPERATORS).chain(LEAVES);
        let hint = match key {
            "==" => Some("did you mean `=`?".to_owned()),
            "<>" => Some("did you mean `!=`?".to_owned()),
            "&&" => Some("did you mean `and`?".to_owned()),
            "||" => Some("did you mean `or`?".to_owned()),
            "!" => Some("did you mean `not`?".to_owned()),
            _ => did_you_mean(key, symbols).or_else(|| functions::hint(key)),
        };
        let message = format!("no operator or function is called `{}`", short(key));
        self.error(code::UNKNOWN_FUNCTION, message, at, pointer).hint_if(hint)
    }
}

/// A key as a part of a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
