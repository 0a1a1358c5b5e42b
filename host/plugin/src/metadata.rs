//! What a plugin says about itself: checked metadata, needs, and its configuration's schema.

use std::collections::HashMap;

use prism_model::TableKind;
use serde_json::Value as Json;

use crate::bindings::base::{Dtype, Place, Role};
use crate::bindings::{aggregator, filter, redactor, scalar};
use crate::error::{Failure, lied};

/// Bytes of a schema or a configuration: they are checked and compiled on each node.
pub(crate) const CONFIG_BYTES_MAX: usize = 64 << 10;
/// Labels, counters, needs: closed sets that become label values of Prism's own metrics, and small indices.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 63;
const DESCRIPTION_BYTES_MAX: usize = 4 << 10;
const NEED_NAME_BYTES_MAX: usize = 1 << 10;
/// Values of a schema whose references are written out, twice what its bytes hold without any, and their depth, which is what
/// the parser reads: whoever checks a configuration follows every reference, on the host's time and stack.
const SCHEMA_VALUES_MAX: usize = 1 << 16;
const SCHEMA_DEPTH_MAX: usize = 128;

/// How a plugin looks at a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Rows with keys and values.
    Rows,
    /// Distinct values only.
    Entries,
}

/// What a plugin says about itself at upload.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Metadata {
    /// `a-z 0-9 -`, at most 63 characters.
    pub name: String,
    /// Printable ASCII, at most 63 characters.
    pub version: String,
    /// For people.
    pub description: String,
    /// JSON Schema of its configuration; references are like `#/$defs/name`, and none leads back to itself.
    pub config_schema: Json,
    /// A configuration that fits the schema.
    pub config_example: Json,
    /// Rows or distinct values.
    pub access: Access,
    /// The same input gives the same output: instances and verdicts may be used again.
    pub deterministic: bool,
    /// Reasons or kinds of finding.
    pub labels: Vec<String>,
    /// What it counts.
    pub counters: Vec<String>,
    #[serde(skip)]
    texts: ConfigTexts,
}

/// The schema and the example as the guest gave them, parsed by [`Metadata::check`].
#[derive(Clone, Debug, Default, PartialEq)]
struct ConfigTexts {
    schema: String,
    example: String,
}

/// What a binding wants to see; see `need` in the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) place: Option<Place>,
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) dtypes: Vec<Dtype>,
    pub(crate) leaves: bool,
}

impl Need {
    /// Whether the need asks for this field.
    pub(crate) fn wants(&self, place: Place, role: Role, name: &str, dtype: Dtype) -> bool {
        self.role == role
            && self.place.is_none_or(|p| p == place)
            && (self.dtypes.is_empty() || self.dtypes.contains(&dtype))
            && glob(self.name.as_bytes(), name.as_bytes())
    }
}

/// Whether `name` is of the form `pattern`, in which `*` stands for any run of bytes. Linear in the name for each star.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, n));
            p += 1;
        } else if p < pattern.len() && pattern[p] == name[n] {
            p += 1;
            n += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            p = after_star;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

macro_rules! from_guest {
    ($world:ident) => {
        impl From<$world::exports::prism::plugin::meta::Metadata> for Metadata {
            fn from(m: $world::exports::prism::plugin::meta::Metadata) -> Metadata {
                use $world::exports::prism::plugin::meta::Access as From;
                Metadata {
                    name: m.name,
                    version: m.version,
                    description: m.description,
                    config_schema: Json::Null,
                    config_example: Json::Null,
                    access: match m.access {
                        From::Rows => Access::Rows,
                        From::Entries => Access::Entries,
                    },
                    deterministic: m.deterministic,
                    labels: m.labels,
                    counters: m.counters,
                    texts: ConfigTexts { schema: m.config_schema, example: m.config_example },
                }
            }
        }
        impl From<$world::exports::prism::plugin::meta::Need> for Need {
            fn from(n: $world::exports::prism::plugin::meta::Need) -> Need {
                Need { place: n.place, role: n.role, name: n.name, dtypes: n.dtypes, leaves: n.leaves }
            }
        }
    };
}
from_guest!(filter);
from_guest!(redactor);
from_guest!(scalar);
from_guest!(aggregator);

impl Metadata {
    /// Checks what the guest said, and compiles its schema.
    ///
    /// # Errors
    /// The first rule of the contract that it breaks.
    pub(crate) fn check(&mut self, world: crate::World) -> Result<jsonschema::Validator, String> {
        let simple = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(simple) {
            return Err(format!(
                "expected a name of 1 to {NAME_BYTES_MAX} characters `a-z`, `0-9`, `-`, found `{}`",
                short(&self.name)
            ));
        }
        let printable = |b: u8| (0x20..0x7f).contains(&b);
        if self.version.is_empty() || self.version.len() > NAME_BYTES_MAX || !self.version.bytes().all(printable) {
            return Err(format!(
                "expected a version of 1 to {NAME_BYTES_MAX} printable ASCII characters, found `{}`",
                short(&self.version)
            ));
        }
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(format!(
                "expected a description of at most {DESCRIPTION_BYTES_MAX} bytes, found {}",
                self.description.len()
            ));
        }
        check_names("labels", &self.labels)?;
        check_names("counters", &self.counters)?;
        if world == crate::World::Filter && self.access == Access::Entries {
            return Err("a filter needs access `rows`: it decides about rows".into());
        }
        if world == crate::World::Redactor && self.labels.is_empty() {
            return Err("a redactor needs at least one label: each change names its kind".into());
        }
        self.config_schema = parse("config-schema", &self.texts.schema)?;
        self.config_example = parse("config-example", &self.texts.example)?;
        check_references(&self.config_schema)
            .map_err(|e| format!("config-schema is no JSON Schema that can be used: {e}"))?;
        // `pattern` is matched by an engine whose time is linear, and references are not fetched: the schema is a guest's.
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&self.config_schema)
            .map_err(|e| format!("config-schema is no JSON Schema: {e}"))?;
        check_config(&validator, &self.config_example)
            .map_err(|e| format!("config-example does not fit config-schema: {e}"))?;
        Ok(validator)
    }
}

fn parse(what: &str, text: &str) -> Result<Json, String> {
    if text.len() > CONFIG_BYTES_MAX {
        return Err(format!("expected a {what} of at most {CONFIG_BYTES_MAX} bytes, found {}", text.len()));
    }
    serde_json::from_str(text).map_err(|e| format!("{what} is not JSON: {e}"))
}

fn check_names(what: &str, names: &[String]) -> Result<(), String> {
    if names.len() > NAMES_MAX {
        return Err(format!("expected at most {NAMES_MAX} {what}, found {}", names.len()));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
            return Err(format!(
                "expected {what} of 1 to {NAME_BYTES_MAX} characters `a-z`, `0-9`, `-`, `_`, `.`, found `{}`",
                short(name)
            ));
        }
        if names[..i].contains(name) {
            return Err(format!("`{name}` stands twice in {what}"));
        }
    }
    Ok(())
}

/// Refuses a schema that its references make endless, or much larger than it is.
fn check_references(schema: &Json) -> Result<(), String> {
    let (values, _) = written_out(schema, schema, 0, &mut HashMap::new())?;
    if values > SCHEMA_VALUES_MAX {
        return Err(format!(
            "expected at most {SCHEMA_VALUES_MAX} values with its references written out, found {values}"
        ));
    }
    Ok(())
}

/// How many values a part of a schema has with its references written out, and how deep they are. `known`: the same of
/// targets of references.
fn written_out<'s>(
    schema: &'s Json,
    part: &'s Json,
    depth: usize,
    known: &mut HashMap<&'s str, (usize, usize)>,
) -> Result<(usize, usize), String> {
    let too_deep = || format!("expected at most {SCHEMA_DEPTH_MAX} levels with its references written out");
    if depth > SCHEMA_DEPTH_MAX {
        return Err(too_deep());
    }
    let (mut values, mut height) = (1usize, 0);
    let mut add = |(more, below): (usize, usize)| {
        values = values.saturating_add(more);
        height = height.max(below + 1);
    };
    match part {
        Json::Array(items) => {
            for item in items {
                add(written_out(schema, item, depth + 1, known)?);
            }
        }
        Json::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("$ref", Json::String(to)) => {
                        let target = to.strip_prefix('#').and_then(|pointer| schema.pointer(pointer));
                        let target = target
                            .ok_or_else(|| format!("expected references like `#/$defs/name`, found `{}`", short(to)))?;
                        let of_target = match known.get(to.as_str()) {
                            Some(of_target) => *of_target,
                            None => written_out(schema, target, depth + 1, known)?,
                        };
                        known.insert(to, of_target);
                        add(of_target);
                    }
                    // They change what a reference means.
                    ("$id" | "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef", Json::String(_))
                        if depth > 0 || name != "$id" =>
                    {
                        return Err(format!("expected no `{name}` in it"));
                    }
                    (_, member) => add(written_out(schema, member, depth + 1, known)?),
                }
            }
        }
        _ => {}
    }
    if depth + height > SCHEMA_DEPTH_MAX { Err(too_deep()) } else { Ok((values, height)) }
}

/// Checks a configuration against the plugin's schema.
///
/// # Errors
/// The first place that does not fit, as JSON pointer and expectation. All of them are not even gathered: schema and
/// configuration, each small, could have as many as their product.
pub(crate) fn check_config(validator: &jsonschema::Validator, config: &Json) -> Result<(), String> {
    validator.validate(config).map_err(|error| {
        let at = error.instance_path().to_string();
        format!("at `{}`: {}", if at.is_empty() { "/" } else { &at }, short(&error.to_string()))
    })
}

/// Checks what `init` returned.
pub(crate) fn check_needs(needs: &[Need]) -> Result<(), Failure> {
    if needs.len() > NAMES_MAX {
        return Err(lied(format!("expected at most {NAMES_MAX} needs, found {}", needs.len())));
    }
    for need in needs {
        if need.name.len() > NEED_NAME_BYTES_MAX {
            return Err(lied(format!(
                "expected a need's name of at most {NEED_NAME_BYTES_MAX} bytes, found {}",
                need.name.len()
            )));
        }
        if need.role == Role::LeafPath {
            return Err(lied("role leaf-path cannot be asked for; set `leaves`"));
        }
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

/// The place of a table's attributes and fixed fields.
pub(crate) fn place_of(kind: TableKind) -> Option<Place> {
    match kind {
        TableKind::Resources => Some(Place::Resource),
        TableKind::Scopes => Some(Place::Instrumentation),
        // A metric's name and unit are fields of its points.
        TableKind::Descriptors | TableKind::Items => Some(Place::Item),
        TableKind::Events => Some(Place::Event),
        TableKind::Links => Some(Place::Link),
        TableKind::Exemplars => Some(Place::Exemplar),
        TableKind::Tail => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_that_references_make_large_or_endless_are_refused() {
        let refused = |schema: &Json| check_references(schema).unwrap_err();
        let twice =
            |to: usize| json!({ "allOf": [{ "$ref": format!("#/$defs/{to}") }, { "$ref": format!("#/$defs/{to}") }] });
        let levels = |count: usize| {
            let mut defs: serde_json::Map<_, _> = (1..count).map(|n| (n.to_string(), twice(n - 1))).collect();
            defs.insert("0".to_owned(), json!({ "type": "string" }));
            json!({ "$defs": defs, "$ref": format!("#/$defs/{}", count - 1) })
        };
        assert_eq!(check_references(&levels(8)), Ok(()));
        assert!(refused(&levels(32)).contains("expected at most 65536 values"), "two to the power of 31");
        let chain = |count: usize| {
            let mut defs: serde_json::Map<_, _> =
                (1..count).map(|n| (format!("{n:04}"), json!({ "$ref": format!("#/$defs/{:04}", n - 1) }))).collect();
            defs.insert("0000".to_owned(), json!(true));
            json!({ "$defs": defs })
        };
        assert_eq!(check_references(&chain(100)), Ok(()));
        assert!(refused(&chain(1_000)).contains("at most 128 levels"));
        for (schema, words) in [
            (json!({ "$ref": "#" }), "at most 128 levels"),
            (json!({ "items": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }] } }), "at most 128 levels"),
            (json!({ "$ref": "http://127.0.0.1:1/schema" }), "expected references like `#/$defs/name`"),
            (json!({ "$ref": "#name" }), "expected references like `#/$defs/name`"),
            (json!({ "not": { "$id": "other" } }), "expected no `$id`"),
        ] {
            assert!(refused(&schema).contains(words), "{schema}: {}", refused(&schema));
        }
        assert_eq!(check_references(&json!({ "$id": "own", "properties": { "$ref": { "type": "string" } } })), Ok(()));
    }

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, name, yes) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("http.*", "http.route", true),
            ("http.*", "http", false),
            ("*.id", "user.id", true),
            ("*id*", "gadget", false),
            ("*id*", "side", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("a**", "a", true),
            ("a.b", "axb", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), yes, "{pattern} {name}");
        }
    }
}
