//! Where a rule looks: the name as the tenant wrote it -> needs, in the order in which a row's value is looked for.

use prism_sdk::{Need, Place, Role};

use crate::config::Scope;

/// What rules may ask of a record by its fixed name; the query language has the same. Columns of body siblings are found by
/// the name `body`.
const INTRINSICS: [&str; 18] = [
    "name",
    "kind",
    "status",
    "status_message",
    "duration",
    "time",
    "observed_time",
    "severity",
    "severity_text",
    "event_name",
    "body",
    "trace_id",
    "span_id",
    "parent_id",
    "trace_state",
    "flags",
    "running",
    "sampling_weight",
];

/// The needs of all rules, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs(Vec<(Place, Role, String)>);

impl Needs {
    /// The position of a need; adds it where it is new.
    pub(crate) fn of(&mut self, place: Place, role: Role, name: &str) -> usize {
        let found = self.0.iter().position(|(p, r, n)| (*p, *r, n.as_str()) == (place, role, name));
        found.unwrap_or_else(|| {
            self.0.push((place, role, name.to_owned()));
            self.0.len() - 1
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn list(&self) -> Vec<Need> {
        let need = |(place, role, name): &(Place, Role, String)| match role {
            // The siblings of a body are asked for with it.
            Role::Intrinsic if name == "body" => Need::intrinsic("body*").at(*place),
            Role::Intrinsic => Need::intrinsic(name).at(*place).without_leaves(),
            _ => Need::attribute(name).at(*place),
        };
        self.0.iter().map(need).collect()
    }
}

/// The needs that answer a name, those to look at first in front. The first that a row has a value for is taken.
pub(crate) fn resolve(name: &str, scope: Option<Scope>, needs: &mut Needs) -> Result<Vec<usize>, String> {
    if name.contains('*') {
        return Err(format!("expected the name of one field, found `{name}`"));
    }
    let (scope, name) = match (scope, name.split_once('.')) {
        (None, Some(("attr", rest))) => (Some(Scope::Attr), rest),
        (None, Some(("resource", rest))) => (Some(Scope::Resource), rest),
        (None, Some(("scope", rest))) => (Some(Scope::Instrumentation), rest),
        (scope, _) => (scope, name),
    };
    let attribute = |place| (place, Role::Attribute);
    let places = match scope {
        Some(Scope::Intrinsic) if !INTRINSICS.contains(&name) => {
            return Err(format!("unknown fixed field `{name}`: expected one of {}", INTRINSICS.join(", ")));
        }
        Some(Scope::Intrinsic) => vec![(Place::Item, Role::Intrinsic)],
        None if INTRINSICS.contains(&name) => vec![(Place::Item, Role::Intrinsic)],
        // The name and version of the scope are fixed fields.
        Some(Scope::Instrumentation) if ["name", "version"].contains(&name) => {
            vec![(Place::Instrumentation, Role::Intrinsic)]
        }
        Some(Scope::Attr) => vec![attribute(Place::Item)],
        Some(Scope::Resource) => vec![attribute(Place::Resource)],
        Some(Scope::Instrumentation) => vec![attribute(Place::Instrumentation)],
        None => vec![attribute(Place::Item), attribute(Place::Instrumentation), attribute(Place::Resource)],
    };
    Ok(places.into_iter().map(|(place, role)| needs.of(place, role, name)).collect())
}
