//! The words of OpenTelemetry that queries use: fixed fields of each signal, names of kinds, states and severities.

use prism_model::{Intrinsic, Signal, TableKind};

/// Names of the span kinds, by number.
pub(crate) const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
/// Names of the span states, by number.
pub(crate) const STATUSES: [&str; 3] = ["unset", "ok", "error"];
/// Names of the types of metrics, by number: those of [`prism_model::MetricType`].
pub(crate) const METRIC_TYPES: [&str; 6] =
    ["unspecified", "gauge", "sum", "histogram", "exponential_histogram", "summary"];
/// Names of the aggregation temporalities, by number.
pub(crate) const TEMPORALITIES: [&str; 3] = ["unspecified", "delta", "cumulative"];
/// Names of the severity ranges: the first stands for the numbers 1 to 4, and so on.
pub(crate) const SEVERITIES: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// The columns of a body.
const BODY: [Intrinsic; Intrinsic::BODY.len()] = {
    let (mut columns, mut at) = ([Intrinsic::Body; Intrinsic::BODY.len()], 0);
    while at < columns.len() {
        columns[at] = Intrinsic::BODY[at].0;
        at += 1;
    }
    columns
};

/// How a fixed field is made of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fixed {
    /// The column as it is; numbers as int.
    Plain(Intrinsic),
    /// A number shown by its name.
    Kind,
    /// A number shown by its name.
    Status,
    /// A number shown by its name.
    MetricType,
    /// A number shown by its name.
    Temporality,
    /// A number; 0 means that none was given.
    Severity,
    /// Event time: of logs the observed time where no other was given.
    Time,
    /// Missing where the span has not ended.
    Duration,
    /// 0 means that none was given.
    ObservedTime,
    /// 0 means that none was given.
    StartTime,
    /// Six typed columns.
    Body,
    /// Two typed columns: ints and doubles.
    Value,
    /// A list of numbers, shown as one.
    List(Intrinsic),
    /// [`prism_model::Value`] text.
    Json(Intrinsic),
}

impl Fixed {
    /// The columns that it reads.
    pub(crate) fn columns(self) -> &'static [Intrinsic] {
        use Intrinsic as I;
        match self {
            Fixed::Plain(i) | Fixed::Json(i) | Fixed::List(i) => {
                INTRINSICS.get(i as usize).map_or(&[], std::slice::from_ref)
            }
            Fixed::Time => &[I::Time, I::ObservedTime],
            Fixed::Kind => &[I::Kind],
            Fixed::Status => &[I::Status],
            Fixed::MetricType => &[I::Type],
            Fixed::Temporality => &[I::Temporality],
            Fixed::Value => &[I::ValueInt, I::ValueDouble],
            Fixed::Severity => &[I::Severity],
            Fixed::Duration => &[I::Duration, I::Running, I::Time],
            Fixed::ObservedTime => &[I::ObservedTime],
            Fixed::StartTime => &[I::StartTime],
            Fixed::Body => &BODY,
        }
    }
}

impl Fixed {
    /// The names of its numbers, where it is a number shown by its name.
    pub(crate) fn number_names(self) -> Option<&'static [&'static str]> {
        match self {
            Fixed::Kind => Some(&KINDS),
            Fixed::Status => Some(&STATUSES),
            Fixed::MetricType => Some(&METRIC_TYPES),
            Fixed::Temporality => Some(&TEMPORALITIES),
            _ => None,
        }
    }
}

static INTRINSICS: [Intrinsic; Intrinsic::ALL.len()] = Intrinsic::ALL;

const COMMON: &[(&str, Fixed)] = &[
    ("time", Fixed::Time),
    ("trace_id", Fixed::Plain(Intrinsic::TraceId)),
    ("span_id", Fixed::Plain(Intrinsic::SpanId)),
    ("flags", Fixed::Plain(Intrinsic::Flags)),
    ("dropped_attributes_count", Fixed::Plain(Intrinsic::DroppedAttributes)),
    ("sampling_weight", Fixed::Plain(Intrinsic::SamplingWeight)),
];

const SPANS: &[(&str, Fixed)] = &[
    ("name", Fixed::Plain(Intrinsic::Name)),
    ("kind", Fixed::Kind),
    ("status", Fixed::Status),
    ("status_message", Fixed::Plain(Intrinsic::StatusMessage)),
    ("duration", Fixed::Duration),
    ("parent_id", Fixed::Plain(Intrinsic::ParentId)),
    ("trace_state", Fixed::Plain(Intrinsic::TraceState)),
    ("running", Fixed::Plain(Intrinsic::Running)),
    ("dropped_events_count", Fixed::Plain(Intrinsic::DroppedEvents)),
    ("dropped_links_count", Fixed::Plain(Intrinsic::DroppedLinks)),
];

const LOGS: &[(&str, Fixed)] = &[
    ("observed_time", Fixed::ObservedTime),
    ("severity", Fixed::Severity),
    ("severity_text", Fixed::Plain(Intrinsic::SeverityText)),
    ("event_name", Fixed::Plain(Intrinsic::EventName)),
    ("body", Fixed::Body),
];

const POINTS: &[(&str, Fixed)] = &[
    ("time", Fixed::Time),
    ("start_time", Fixed::StartTime),
    ("flags", Fixed::Plain(Intrinsic::Flags)),
    ("value", Fixed::Value),
    ("count", Fixed::Plain(Intrinsic::Count)),
    ("sum", Fixed::Plain(Intrinsic::Sum)),
    ("min", Fixed::Plain(Intrinsic::Min)),
    ("max", Fixed::Plain(Intrinsic::Max)),
    ("bucket_counts", Fixed::List(Intrinsic::BucketCounts)),
    ("explicit_bounds", Fixed::List(Intrinsic::ExplicitBounds)),
    ("scale", Fixed::Plain(Intrinsic::Scale)),
    ("zero_count", Fixed::Plain(Intrinsic::ZeroCount)),
    ("zero_threshold", Fixed::Plain(Intrinsic::ZeroThreshold)),
    ("positive_offset", Fixed::Plain(Intrinsic::PositiveOffset)),
    ("positive_counts", Fixed::List(Intrinsic::PositiveCounts)),
    ("negative_offset", Fixed::Plain(Intrinsic::NegativeOffset)),
    ("negative_counts", Fixed::List(Intrinsic::NegativeCounts)),
    ("quantiles", Fixed::List(Intrinsic::Quantiles)),
    ("quantile_values", Fixed::List(Intrinsic::QuantileValues)),
];

const DESCRIPTORS: &[(&str, Fixed)] = &[
    ("name", Fixed::Plain(Intrinsic::Name)),
    ("unit", Fixed::Plain(Intrinsic::Unit)),
    ("description", Fixed::Plain(Intrinsic::Description)),
    ("type", Fixed::MetricType),
    ("temporality", Fixed::Temporality),
    ("monotonic", Fixed::Plain(Intrinsic::Monotonic)),
];

const EXEMPLARS: &[(&str, Fixed)] = &[
    ("time", Fixed::Plain(Intrinsic::Time)),
    ("value", Fixed::Value),
    ("trace_id", Fixed::Plain(Intrinsic::TraceId)),
    ("span_id", Fixed::Plain(Intrinsic::SpanId)),
];

const SCOPES: &[(&str, Fixed)] = &[
    ("name", Fixed::Plain(Intrinsic::Name)),
    ("version", Fixed::Plain(Intrinsic::Version)),
    ("schema_url", Fixed::Plain(Intrinsic::SchemaUrl)),
    ("dropped_attributes_count", Fixed::Plain(Intrinsic::DroppedAttributes)),
];

const RESOURCES: &[(&str, Fixed)] = &[
    ("schema_url", Fixed::Plain(Intrinsic::SchemaUrl)),
    ("dropped_attributes_count", Fixed::Plain(Intrinsic::DroppedAttributes)),
    ("entity_refs", Fixed::Json(Intrinsic::EntityRefs)),
];

const EVENTS: &[(&str, Fixed)] = &[
    ("time", Fixed::Plain(Intrinsic::Time)),
    ("name", Fixed::Plain(Intrinsic::Name)),
    ("dropped_attributes_count", Fixed::Plain(Intrinsic::DroppedAttributes)),
];

const LINKS: &[(&str, Fixed)] = &[
    ("trace_id", Fixed::Plain(Intrinsic::TraceId)),
    ("span_id", Fixed::Plain(Intrinsic::SpanId)),
    ("trace_state", Fixed::Plain(Intrinsic::TraceState)),
    ("flags", Fixed::Plain(Intrinsic::Flags)),
    ("dropped_attributes_count", Fixed::Plain(Intrinsic::DroppedAttributes)),
];

/// The fixed fields of a table by their names in queries.
pub(crate) fn fixed_fields(signal: Signal, table: TableKind) -> impl Iterator<Item = (&'static str, Fixed)> {
    let (own, common): (&[_], &[_]) = match (table, signal) {
        (TableKind::Items, Signal::Spans) => (SPANS, COMMON),
        (TableKind::Items, Signal::Logs) => (LOGS, COMMON),
        (TableKind::Items, Signal::Metrics) => (POINTS, &[]),
        (TableKind::Descriptors, Signal::Metrics) => (DESCRIPTORS, &[]),
        (TableKind::Exemplars, _) => (EXEMPLARS, &[]),
        (TableKind::Scopes, _) => (SCOPES, &[]),
        (TableKind::Resources, _) => (RESOURCES, &[]),
        (TableKind::Events, _) => (EVENTS, &[]),
        (TableKind::Links, _) => (LINKS, &[]),
        _ => (&[], &[]),
    };
    own.iter().chain(common).copied()
}

/// The fixed fields that a name without a scope may mean, each with its table: the row's own, and what its metric says.
pub(crate) fn row_fields(signal: Signal) -> impl Iterator<Item = (&'static str, TableKind, Fixed)> {
    [TableKind::Items, TableKind::Descriptors]
        .into_iter()
        .flat_map(move |table| fixed_fields(signal, table).map(move |(name, fixed)| (name, table, fixed)))
}

/// A fixed field of a table.
pub(crate) fn fixed_field(signal: Signal, table: TableKind, name: &str) -> Option<Fixed> {
    fixed_fields(signal, table).find(|(known, _)| *known == name).map(|(_, fixed)| fixed)
}

/// The severity numbers of a name such as `warn` or `error2`, both included.
pub(crate) fn severity_range(name: &str) -> Option<(i64, i64)> {
    let lower = name.to_ascii_lowercase();
    let (word, digit) = match lower.strip_suffix(['2', '3', '4']) {
        Some(word) => (word, lower.bytes().last().map(|b| i64::from(b - b'1'))),
        None => (lower.as_str(), None),
    };
    let word = if word == "warning" { "warn" } else { word };
    let first = SEVERITIES.iter().position(|s| *s == word)? as i64 * 4 + 1;
    Some(digit.map_or((first, first + 3), |d| (first + d, first + d)))
}

/// The name of a number in a list of names.
pub(crate) fn enum_name(names: &[&str], number: i32) -> String {
    let known = usize::try_from(number).ok().and_then(|n| names.get(n));
    known.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// The candidate that differs least from a word, if a typing error explains the difference.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(80).collect();
    let allowed = (word.len() / 4).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > allowed + 8 {
            continue;
        }
        let letters: Vec<char> = candidate.to_lowercase().chars().take(80).collect();
        // A word that lacks the front part of a name (`status_code` for `http.response.status_code`) is near too.
        let tail =
            word.len() >= 4 && candidate.to_lowercase().ends_with(&format!(".{}", word.iter().collect::<String>()));
        let distance = if tail { 1 } else { edits(&word, &letters) };
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn edits(a: &[char], b: &[char]) -> usize {
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left_above = above[0];
        above[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let diagonal = left_above + usize::from(x != y);
            left_above = above[j + 1];
            above[j + 1] = diagonal.min(above[j] + 1).min(left_above + 1);
        }
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_by_name_are_ranges_of_numbers() {
        assert_eq!(severity_range("WARN"), Some((13, 16)));
        assert_eq!(severity_range("error2"), Some((18, 18)));
        assert_eq!(severity_range("warning"), Some((13, 16)));
        assert_eq!(severity_range("loud"), None);
        assert_eq!(enum_name(&KINDS, 2), "server");
        assert_eq!(enum_name(&KINDS, -7), "-7");
    }

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["http.route", "http.response.status_code", "service.name"];
        assert_eq!(nearest("http.ruote", known), Some("http.route"));
        assert_eq!(nearest("status_code", known), None);
        assert_eq!(nearest("response.status_code", known), Some("http.response.status_code"));
        assert_eq!(nearest("zebra", known), None);
    }

    #[test]
    fn types_of_metrics_have_the_names_of_the_model() {
        for ty in prism_model::MetricType::ALL {
            assert_eq!(METRIC_TYPES[ty as usize], ty.as_str());
        }
        assert_eq!(METRIC_TYPES.len(), prism_model::MetricType::ALL.len() + 1);
    }

    #[test]
    fn every_fixed_field_reads_its_columns() {
        assert_eq!(Fixed::Plain(Intrinsic::Time).columns(), [Intrinsic::Time]);
        for i in Intrinsic::ALL {
            assert_eq!(Fixed::Plain(i).columns(), [i]);
        }
    }
}
