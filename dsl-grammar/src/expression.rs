//! Parsed text of an expression -> Ast: precedence, literals, names.
//!
//! From loose to tight: `where` of an aggregate, or, and, not, comparisons, `+ -`, `* / %`, unary minus. Comparisons do not
//! chain, structure does: `a >> b > c`.

use pest::iterators::Pair;

use crate::MAX_LEVELS;
use crate::ast::{Expr, Literal, Pos, Step};
use crate::bounds::{self, too_deep};
use crate::build::{self, Infix, Node};
use crate::error::{DslError, code};
use crate::grammar::{self, Rule};
use crate::lexis;
use crate::names::{Names, Part};
use crate::position::Lines;
use crate::stack::with_room;

/// Reads expressions out of one parsed text.
pub(crate) struct Reader<'a> {
    pub(crate) text: &'a str,
    pub(crate) lines: Lines<'a>,
    pub(crate) names: &'a Names,
}

/// The expression that is the whole of `text`.
pub(crate) fn parse(text: &str, names: &Names) -> Result<Node, DslError> {
    let reader = Reader { text, lines: Lines::new(text), names };
    let pair = grammar::parse(Rule::expression, text)?;
    let inner = pair.into_inner().next().ok_or_else(|| internal("expression"))?;
    reader.expression(inner)
}

/// The field that is the whole of `text`; inside `match` also a span.
pub(crate) fn parse_field(text: &str, names: &Names) -> Result<Expr, DslError> {
    let reader = Reader { text, lines: Lines::new(text), names };
    let pair = grammar::parse(Rule::only_field, text).map_err(|error| match (error.code, &error.hint) {
        (code::SYNTAX, None) => error.hint("an odd name stands in backticks: `` `content-type` ``"),
        _ => error,
    })?;
    let inner = pair.into_inner().next().ok_or_else(|| internal("field"))?;
    reader.field(inner)
}

/// The parser gave another shape than the grammar promises: a fault of this crate, told instead of a panic.
pub(crate) fn internal(what: &str) -> DslError {
    DslError::new(code::SYNTAX, format!("the {what} could not be read"))
        .hint("this is an error in Prism; please report it with the query")
}

/// A piece of the flat row that an expression is.
enum Token<'a> {
    Not(Pos),
    Minus(Pos),
    Operand(Pair<'a, Rule>),
    And,
    Or,
    In { negated: bool, pos: Pos },
    Between { negated: bool, pos: Pos, width: usize },
    Infix { op: Infix, pos: Pos, width: usize },
    Where(Pos),
}

/// How tight an operator binds.
pub(crate) const OR: u8 = 1;
pub(crate) const AND: u8 = 2;
pub(crate) const NOT: u8 = 3;
pub(crate) const COMPARISON: u8 = 4;
pub(crate) const SUM: u8 = 5;
pub(crate) const PRODUCT: u8 = 6;
pub(crate) const MINUS: u8 = 7;

type Tokens<'a> = std::iter::Peekable<std::vec::IntoIter<Token<'a>>>;

impl<'a> Reader<'a> {
    /// Where a pair begins.
    pub(crate) fn pos(&self, pair: &Pair<'_, Rule>) -> Pos {
        self.lines.at(pair.as_span().start())
    }

    /// An `expr` or `wide` of the grammar.
    pub(crate) fn expression(&self, pair: Pair<'a, Rule>) -> Result<Node, DslError> {
        let mut tokens = Vec::new();
        for part in pair.into_inner() {
            tokens.push(self.token(part)?);
        }
        let mut tokens = tokens.into_iter().peekable();
        with_room(|| self.climb(&mut tokens, OR, 0))
    }

    fn token(&self, pair: Pair<'a, Rule>) -> Result<Token<'a>, DslError> {
        let pos = self.pos(&pair);
        let text = pair.as_str();
        Ok(match pair.as_rule() {
            Rule::not => Token::Not(pos),
            Rule::sign => Token::Minus(pos),
            Rule::kw_where => Token::Where(pos),
            Rule::logic if text.eq_ignore_ascii_case("and") => Token::And,
            Rule::logic => Token::Or,
            Rule::symbol => self.operator(text, false, pos, text)?,
            Rule::verb => self.operator(text, false, pos, text)?,
            Rule::not_verb => {
                let verb = pair.clone().into_inner().last().ok_or_else(|| internal("operator"))?;
                self.operator(verb.as_str(), true, pos, text)?
            }
            _ => Token::Operand(pair),
        })
    }

    fn operator(&self, verb: &str, negated: bool, pos: Pos, text: &str) -> Result<Token<'a>, DslError> {
        let width = text.chars().count();
        Ok(match verb.to_ascii_lowercase().as_str() {
            "in" => Token::In { negated, pos },
            "between" => Token::Between { negated, pos, width },
            verb => {
                let symbol = if negated { format!("not {verb}") } else { verb.to_owned() };
                let op = build::infix(&symbol).ok_or_else(|| internal("operator"))?;
                Token::Infix { op, pos, width }
            }
        })
    }

    /// Precedence climbing: an operand and all operators after it that bind at least as tight as `least`. Recursion goes
    /// down with each prefix and each tighter operator, and `depth` counts it.
    fn climb(&self, tokens: &mut Tokens<'a>, least: u8, depth: usize) -> Result<Node, DslError> {
        if depth > MAX_LEVELS {
            return Err(too_deep(MAX_LEVELS, "operators"));
        }
        let mut left = with_room(|| self.prefixed(tokens, depth))?;
        let mut compared = false;
        while let Some(token) = tokens.peek() {
            let power = match token {
                Token::Or => OR,
                Token::And => AND,
                Token::Infix { op: Infix::Binary(op), .. } if op.is_arithmetic() => match op.symbol() {
                    "+" | "-" => SUM,
                    _ => PRODUCT,
                },
                _ => COMPARISON,
            };
            if power < least {
                break;
            }
            let Some(token) = tokens.next() else { break };
            if power == COMPARISON {
                if compared && !matches!(left.expr, Expr::Relation { .. }) {
                    return Err(chained(&token));
                }
                compared = true;
            }
            left = match token {
                Token::Or | Token::And => self.chain(tokens, left, power, depth)?,
                Token::In { negated, pos } => self.in_list(tokens, left, negated, pos)?,
                Token::Between { negated, pos, width } => {
                    let low = self.climb(tokens, SUM, depth + 1)?;
                    if !matches!(tokens.next(), Some(Token::And)) {
                        let error = DslError::new(code::SYNTAX, "expected `and` after the low end of `between`");
                        return Err(error.hint("write it as `duration between 1s and 2s`").at(pos, width));
                    }
                    let high = self.climb(tokens, SUM, depth + 1)?;
                    build::between(left, low, high, negated).map_err(|error| error.at(pos, width))?
                }
                Token::Infix { op, pos, width } => {
                    let right = self.climb(tokens, power + 1, depth + 1)?;
                    build::binary(op, left, right).map_err(|error| error.at(pos, width))?
                }
                Token::Not(pos) | Token::Minus(pos) | Token::Where(pos) => return Err(internal("operator").at(pos, 1)),
                Token::Operand(pair) => return Err(internal("operand").at(self.pos(&pair), 1)),
            };
        }
        Ok(left)
    }

    /// The rest of `left and … and …` (or `or`), collected before it is built: a chain of a thousand is one node.
    fn chain(&self, tokens: &mut Tokens<'a>, left: Node, power: u8, depth: usize) -> Result<Node, DslError> {
        let mut parts = vec![left, self.climb(tokens, power + 1, depth + 1)?];
        let same = |token: &Token<'_>| matches!((token, power), (Token::And, AND) | (Token::Or, OR));
        while tokens.next_if(|token| same(token)).is_some() {
            parts.push(self.climb(tokens, power + 1, depth + 1)?);
        }
        build::logic(power == AND, parts)
    }

    fn prefixed(&self, tokens: &mut Tokens<'a>, depth: usize) -> Result<Node, DslError> {
        match tokens.next() {
            Some(Token::Not(pos)) => {
                let inner = self.climb(tokens, NOT, depth + 1).map_err(|error| error.at(pos, 3))?;
                build::not(inner).map_err(|error| error.at(pos, 3))
            }
            Some(Token::Minus(pos)) => {
                // The least whole number has no positive twin, so its sign must be read with it.
                if let Some(Token::Operand(pair)) = tokens.next_if(|token| is_number(token)) {
                    let literal = self.number(&pair, true)?;
                    let bytes = matches!(literal, Literal::Bytes(_));
                    let leaf = build::leaf(Expr::Literal(literal));
                    return if bytes { build::neg(leaf) } else { Ok(leaf) };
                }
                let inner = self.climb(tokens, MINUS, depth + 1).map_err(|error| error.at(pos, 1))?;
                build::neg(inner).map_err(|error| error.at(pos, 1))
            }
            Some(Token::Operand(pair)) => {
                let operand = self.operand(pair)?;
                match tokens.next_if(|token| matches!(token, Token::Where(_))) {
                    Some(Token::Where(pos)) => {
                        let condition = self.climb(tokens, OR, depth + 1)?;
                        build::filtered(operand, condition).map_err(|error| error.at(pos, "where".len()))
                    }
                    _ => Ok(operand),
                }
            }
            _ => Err(internal("expression")),
        }
    }

    fn in_list(&self, tokens: &mut Tokens<'a>, left: Node, negated: bool, pos: Pos) -> Result<Node, DslError> {
        let list = match tokens.next() {
            Some(Token::Operand(pair)) if matches!(pair.as_rule(), Rule::group | Rule::list) => self.members(pair)?,
            _ => {
                return Err(DslError::new(code::SYNTAX, "expected a list after `in`")
                    .hint("write it as `x in (1, 2)`; whether a list field has a value is `tags contains 'x'`")
                    .at(pos, 2));
            }
        };
        build::in_list(left, list, negated).map_err(|error| error.at(pos, 2))
    }

    /// What stands between brackets.
    fn members(&self, pair: Pair<'a, Rule>) -> Result<Vec<Node>, DslError> {
        let inner = pair.into_inner().filter(|part| part.as_rule() == Rule::wide);
        inner.map(|part| self.expression(part)).collect()
    }

    fn operand(&self, pair: Pair<'a, Rule>) -> Result<Node, DslError> {
        let pos = self.pos(&pair);
        let width = pair.as_str().chars().count();
        let literal = |literal: Literal| Ok(build::leaf(Expr::Literal(literal)));
        match pair.as_rule() {
            Rule::constant => literal(match pair.as_str().to_ascii_lowercase().as_str() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                _ => Literal::Null,
            }),
            Rule::number => literal(self.number(&pair, false)?),
            Rule::string => literal(Literal::Str(self.quoted(&pair)?)),
            Rule::time => literal(Literal::Time(self.time(&pair)?)),
            Rule::field => self.field(pair).map(build::leaf),
            Rule::list => build::list(self.members(pair)?).map_err(|error| error.at(pos, width)),
            Rule::group => {
                let mut members = self.members(pair)?;
                match (members.pop(), members.is_empty()) {
                    (Some(only), true) => Ok(only),
                    (None, _) => {
                        Err(DslError::new(code::SYNTAX, "expected a value in brackets, found none").at(pos, width))
                    }
                    (Some(_), false) => Err(DslError::new(code::SYNTAX, "a list in `()` stands only after `in`")
                        .hint("write a list as `[1, 2]`")
                        .at(pos, width)),
                }
            }
            Rule::call => self.call(pair),
            _ => Err(internal("value").at(pos, width)),
        }
    }

    fn call(&self, pair: Pair<'a, Rule>) -> Result<Node, DslError> {
        let pos = self.pos(&pair);
        let mut name = Vec::new();
        let mut width = 1;
        let mut args = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::function => {
                    width = part.as_str().chars().count();
                    name = self.parts(part)?;
                }
                Rule::wide => args.push(self.expression(part)?),
                _ => {}
            }
        }
        let plugin =
            name.len() > 1 && name.first().is_some_and(|part| !part.quoted && part.text.eq_ignore_ascii_case("plugin"));
        let text: Vec<&str> = name.iter().skip(usize::from(plugin)).map(|part| part.text.as_str()).collect();
        let text = text.join(".");
        let built = if plugin { build::plugin(text, args, pos) } else { build::call(&text, args, pos) };
        built.map_err(|error| error.at(pos, width))
    }

    /// A `field` of the grammar.
    pub(crate) fn field(&self, pair: Pair<'a, Rule>) -> Result<Expr, DslError> {
        let pos = self.pos(&pair);
        let mut path = Vec::new();
        let mut parts = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::step => {
                    let inner = part.into_inner().next().ok_or_else(|| internal("path"))?;
                    path.push(match inner.as_rule() {
                        Rule::string => Step::Key(self.quoted(&inner)?),
                        _ => Step::Index(inner.as_str().parse().map_err(|_| {
                            DslError::new(code::LITERAL, "expected an index that fits 32 bits")
                                .at(self.pos(&inner), inner.as_str().len())
                        })?),
                    });
                }
                _ => parts.push(self.part(part)?),
            }
        }
        Ok(self.names.resolve(&parts, path, pos))
    }

    /// A `name` of the grammar: an alias, a binding.
    pub(crate) fn name(&self, pair: Pair<'a, Rule>) -> Result<String, DslError> {
        let parts = self.parts(pair)?;
        let text: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
        Ok(text.join("."))
    }

    fn parts(&self, pair: Pair<'a, Rule>) -> Result<Vec<Part>, DslError> {
        pair.into_inner().filter(|part| part.as_rule() == Rule::part).map(|part| self.part(part)).collect()
    }

    fn part(&self, pair: Pair<'a, Rule>) -> Result<Part, DslError> {
        let inner = pair.into_inner().next().ok_or_else(|| internal("name"))?;
        if inner.as_rule() == Rule::bare {
            return Ok(Part { text: inner.as_str().to_owned(), quoted: false });
        }
        let text = self.quoted(&inner)?;
        if text.is_empty() {
            return Err(
                DslError::new(code::SYNTAX, "expected a name between backticks, found none").at(self.pos(&inner), 2)
            );
        }
        Ok(Part { text, quoted: true })
    }

    /// A string or a name in backticks.
    pub(crate) fn quoted(&self, pair: &Pair<'a, Rule>) -> Result<String, DslError> {
        let start = pair.as_span().start();
        lexis::unquote(pair.as_str()).map_err(|flaw| bounds::flaw(flaw, self.text, start, &self.lines))
    }

    /// A `number` of the grammar, which may turn out to be a duration or bytes.
    pub(crate) fn number(&self, pair: &Pair<'a, Rule>, negative: bool) -> Result<Literal, DslError> {
        let start = pair.as_span().start();
        lexis::number(pair.as_str(), negative).map_err(|flaw| bounds::flaw(flaw, self.text, start, &self.lines))
    }

    /// A `time` of the grammar.
    pub(crate) fn time(&self, pair: &Pair<'a, Rule>) -> Result<i64, DslError> {
        let string = pair.clone().into_inner().next().ok_or_else(|| internal("time"))?;
        let text = self.quoted(&string)?;
        let width = string.as_str().chars().count();
        let error = |(message, hint)| DslError::new(code::LITERAL, message).hint_if(hint).at(self.pos(&string), width);
        lexis::time(&text).map_err(error)
    }
}

fn is_number(token: &Token<'_>) -> bool {
    matches!(token, Token::Operand(pair) if pair.as_rule() == Rule::number)
}

fn chained(token: &Token<'_>) -> DslError {
    let error = DslError::new(code::SYNTAX, "comparisons do not chain").hint("write `a < b and b < c`");
    match token {
        Token::In { pos, .. } => error.at(*pos, 2),
        Token::Between { pos, width, .. } | Token::Infix { pos, width, .. } => error.at(*pos, *width),
        _ => error,
    }
}
