//! The configuration, as `config.schema.json` describes it.

use std::fmt;

use prism_sdk::Signal;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// What the tenant wrote; the host has checked it against the schema.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Tried in order; for each row the first whose conditions all hold decides, and the others are not asked.
    pub rules: Vec<Rule>,
}

/// What to do with the rows for which all conditions hold.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Only rows of this signal.
    pub signal: Option<SignalName>,
    /// All must hold.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Keeps one in so many, whole traces together; 1 keeps all. Drops all where absent.
    pub keep_one_in: Option<u32>,
    /// A name for what is dropped; `rule-1` and so on where absent.
    pub reason: Option<String>,
}

/// The signals by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the signals of OpenTelemetry")]
pub enum SignalName {
    Spans,
    Logs,
    Metrics,
}

impl From<SignalName> for Signal {
    fn from(name: SignalName) -> Signal {
        match name {
            SignalName::Spans => Signal::Spans,
            SignalName::Logs => Signal::Logs,
            SignalName::Metrics => Signal::Metrics,
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// A fixed field (`name`, `status`, `body` ..., in rules for metrics also `unit`, `type`, `value` ...) or an attribute, as in queries: `resource.`, `scope.` or `attr.` in front
    /// say where it is, else it is looked for in the record, its scope and its resource.
    pub field: String,
    /// Says where the field is, for names that themselves begin with `resource.` or the like.
    pub scope: Option<Scope>,
    /// How to compare.
    pub op: Op,
    /// With what; absent for `exists`, a list for `in`.
    pub value: Option<Scalar>,
}

/// Where a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The record's attributes.
    Attr,
    /// The resource's attributes.
    Resource,
    /// The instrumentation scope's attributes.
    #[serde(rename = "scope")]
    Instrumentation,
    /// The record's fixed fields.
    Intrinsic,
}

/// A comparison. As in queries, one with a missing field is false, `not_equals` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "their names say it")]
pub enum Op {
    Equals,
    NotEquals,
    StartsWith,
    EndsWith,
    Contains,
    Exists,
    Greater,
    Less,
    In,
}

/// A JSON text, number, boolean, or list of such.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the types of JSON")]
pub enum Scalar {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Scalar>),
}

// By hand: what serde derives for untagged enums takes a copy of everything first, and many times the code.
impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, number, boolean or list")
    }

    fn visit_bool<E>(self, b: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Scalar, E> {
        Ok(Scalar::Int(i))
    }

    fn visit_u64<E>(self, u: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(u).map_or(Scalar::Float(u as f64), Scalar::Int))
    }

    fn visit_f64<E>(self, f: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(f))
    }

    fn visit_str<E>(self, s: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(s.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Scalar::List(items))
    }
}
