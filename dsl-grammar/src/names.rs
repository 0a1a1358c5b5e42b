//! Whose field a dotted name is: scopes, other spans, joined signals.

use crate::ast::{Binding, Expr, Field, Of, Pos, Scope, Source, Step};

/// The names that a query declares before its expressions are read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names {
    /// Names of `match`.
    pub(crate) bindings: Vec<String>,
    /// Joined signals.
    pub(crate) joins: Vec<Source>,
    /// Whether a binding alone stands for its span: inside the `where` of `match`.
    pub(crate) in_match: bool,
}

/// One part of a dotted name.
pub(crate) struct Part {
    pub(crate) text: String,
    /// In backticks: never a scope.
    pub(crate) quoted: bool,
}

impl Names {
    /// The field that `parts` name, or in `match` a span. `parts` is not empty.
    pub(crate) fn resolve(&self, parts: &[Part], path: Vec<Step>, pos: Pos) -> Expr {
        if let [Part { text, quoted: false }] = parts
            && self.in_match
            && path.is_empty()
            && self.bindings.contains(text)
        {
            return Expr::Binding(Binding { name: text.clone(), pos });
        }
        let mut rest = parts;
        let of = match rest {
            [Part { text, quoted: false }, tail @ ..] if !tail.is_empty() => self.of(text).inspect(|_| rest = tail),
            _ => None,
        };
        let scope = match rest {
            [Part { text, quoted: false }, tail @ ..] if !tail.is_empty() => scope(text).inspect(|_| rest = tail),
            _ => None,
        };
        let name: Vec<&str> = rest.iter().map(|part| part.text.as_str()).collect();
        Expr::Field(Field { of, scope, name: name.join("."), path, pos })
    }

    fn of(&self, word: &str) -> Option<Of> {
        match word {
            "parent" => Some(Of::Parent),
            "root" => Some(Of::Root),
            _ if self.bindings.iter().any(|known| known == word) => Some(Of::Binding(word.to_owned())),
            _ => self.joins.iter().find(|source| source.name() == word).map(|source| Of::Joined(*source)),
        }
    }

    /// Whether `word` before a dot would be read as something else than the first part of a key.
    pub(crate) fn claims(&self, word: &str) -> bool {
        self.of(word).is_some() || scope(word).is_some()
    }
}

pub(crate) fn scope(word: &str) -> Option<Scope> {
    Scope::ALL.into_iter().find(|scope| scope.name() == word)
}

/// Whether a binding of `match` may have this name: it must be a bare word that means nothing else before a dot.
pub(crate) fn may_bind(name: &str) -> bool {
    let taken = matches!(name, "parent" | "root" | "plugin") || Source::ALL.iter().any(|source| source.name() == name);
    crate::lexis::is_bare(name) && !name.contains('.') && scope(name).is_none() && !taken
}
