//! Where a rule looks: the name as the tenant wrote it -> needs, in the order in which a row's value is looked for.

use prism_sdk::{Need, Place, Role};

use crate::config::{Scope, SignalName};

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

/// What besides rules for metrics may ask of a point by its fixed name. In other rules these are names of attributes, as
/// `type` and `count` often are.
const POINT_INTRINSICS: [&str; 14] = [
    "unit",
    "description",
    "type",
    "temporality",
    "monotonic",
    "value",
    "start_time",
    "count",
    "sum",
    "min",
    "max",
    "scale",
    "zero_count",
    "zero_threshold",
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

/// Whether a name stands for a fixed field that only points have, in a rule for this signal (any signal where `None`).
pub(crate) fn is_of_points(name: &str, scope: Option<Scope>, signal: Option<SignalName>) -> bool {
    let fixed = match scope {
        None => signal == Some(SignalName::Metrics),
        Some(scope) => scope == Scope::Intrinsic,
    };
    fixed && POINT_INTRINSICS.contains(&name)
}

/// The needs that answer a name, those to look at first in front. The first that a row has a value for is taken.
pub(crate) fn resolve(
    name: &str,
    scope: Option<Scope>,
    signal: Option<SignalName>,
    needs: &mut Needs,
) -> Result<Vec<usize>, String> {
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
        _ if is_of_points(name, scope, signal) => vec![(Place::Item, Role::Intrinsic)],
        Some(Scope::Intrinsic) if !INTRINSICS.contains(&name) => {
            let known = [&INTRINSICS[..], &POINT_INTRINSICS[..]].concat().join(", ");
            return Err(format!("unknown fixed field `{name}`: expected one of {known}"));
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
