//! What a column is called, and of what type it is.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

/// A fixed column of the OpenTelemetry data model. Which table carries which is in `host/adr/0001-rows.md`.
///
/// A column that would hold only its default (null, zero, false) in a batch is left out of that batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Intrinsic {
    // How rows hang together.
    /// `UInt32`, row of the resources table.
    Resource,
    /// `UInt32`, row of the scopes table.
    Scope,
    /// `UInt32`, row of the metric descriptors table.
    Metric,
    /// `UInt32`, row of the table that this row belongs to (ascending).
    Parent,
    /// `UInt8`, [`crate::TableKind`] that `Parent` counts in; only in the tail.
    Of,

    // Spans, links, logs, exemplars.
    /// 16 bytes.
    TraceId,
    /// 8 bytes.
    SpanId,
    /// 8 bytes, null where the span has no parent.
    ParentId,
    /// Text, null where empty.
    TraceState,
    /// `UInt32`, default 0.
    Flags,
    /// Text; null where empty. Name of a span, event, scope or metric.
    Name,
    /// `Int32`, the enum number as sent, default 0.
    Kind,
    /// `Int64` unix nanoseconds. Start of a span, time of an event, log record or point.
    Time,
    /// `Int64` nanoseconds, end minus start (so that a span without end, `end = 0`, is exact too).
    Duration,
    /// `Int32`, the enum number as sent, default 0.
    Status,
    /// Text, null where empty.
    StatusMessage,
    /// `UInt32`, default 0.
    DroppedAttributes,
    /// `UInt32`, default 0.
    DroppedEvents,
    /// `UInt32`, default 0.
    DroppedLinks,
    /// `Boolean`, default false: the span has started and not ended; its end supersedes this row on read.
    Running,
    /// `Float64`, default 1: how many items this one stands for.
    SamplingWeight,

    // Logs.
    /// `Int64` unix nanoseconds, default 0.
    ObservedTime,
    /// `Int32`, the enum number as sent, default 0.
    Severity,
    /// Text, null where empty.
    SeverityText,
    /// Text, null where empty.
    EventName,
    /// The body where it is text; other bodies are in the siblings below.
    Body,
    /// `Int64` body.
    BodyInt,
    /// `Float64` body.
    BodyDouble,
    /// `Boolean` body.
    BodyBool,
    /// `Binary` body.
    BodyBytes,
    /// Array, map or empty body, as [`crate::Value`] text.
    BodyJson,

    // Metric points. What the point's type does not have is null.
    /// `Int64` unix nanoseconds, default 0: since when the point counts.
    StartTime,
    /// `Int64`: the value of a number point or exemplar that is an integer.
    ValueInt,
    /// `Float64`: the value of a number point or exemplar that is a double.
    ValueDouble,
    /// `Int64`: how many measurements.
    Count,
    /// `Float64`
    Sum,
    /// `Float64`
    Min,
    /// `Float64`
    Max,
    /// List of `Int64`, null where empty: measurements in each bucket of a histogram.
    BucketCounts,
    /// List of `Float64`, null where empty: the bounds between the buckets.
    ExplicitBounds,
    /// `Int32`: of an exponential histogram, whose base is 2^(2^-scale).
    Scale,
    /// `Int64`: measurements within the zero threshold.
    ZeroCount,
    /// `Float64`
    ZeroThreshold,
    /// `Int32`; null where the point has no positive buckets at all.
    PositiveOffset,
    /// List of `Int64`, null where empty.
    PositiveCounts,
    /// `Int32`; null where the point has no negative buckets at all.
    NegativeOffset,
    /// List of `Int64`, null where empty.
    NegativeCounts,
    /// List of `Float64`, null where empty: the quantiles of a summary, 0 to 1.
    Quantiles,
    /// List of `Float64`, as long as the quantiles: the value at each.
    QuantileValues,

    // Metric descriptors.
    /// Text, null where empty.
    Unit,
    /// Text, null where empty.
    Description,
    /// `Int32`, a [`crate::MetricType`].
    Type,
    /// `Int32`, the enum number as sent, default 0.
    Temporality,
    /// `Boolean`, default false.
    Monotonic,

    // Resources and scopes.
    /// Text, null where empty.
    Version,
    /// Text, null where empty.
    SchemaUrl,
    /// Text: the resource's entity references, as [`crate::Value`] text; null where there are none.
    EntityRefs,

    // The tail.
    /// Text: the attribute's key.
    Key,
    /// The attribute's value, as [`crate::Value`] text.
    Value,
}

impl Intrinsic {
    /// Every fixed column, in the order of the enum.
    pub const ALL: [Intrinsic; 59] = {
        use Intrinsic::*;
        [
            Resource,
            Scope,
            Metric,
            Parent,
            Of,
            TraceId,
            SpanId,
            ParentId,
            TraceState,
            Flags,
            Name,
            Kind,
            Time,
            Duration,
            Status,
            StatusMessage,
            DroppedAttributes,
            DroppedEvents,
            DroppedLinks,
            Running,
            SamplingWeight,
            ObservedTime,
            Severity,
            SeverityText,
            EventName,
            Body,
            BodyInt,
            BodyDouble,
            BodyBool,
            BodyBytes,
            BodyJson,
            StartTime,
            ValueInt,
            ValueDouble,
            Count,
            Sum,
            Min,
            Max,
            BucketCounts,
            ExplicitBounds,
            Scale,
            ZeroCount,
            ZeroThreshold,
            PositiveOffset,
            PositiveCounts,
            NegativeOffset,
            NegativeCounts,
            Quantiles,
            QuantileValues,
            Unit,
            Description,
            Type,
            Temporality,
            Monotonic,
            Version,
            SchemaUrl,
            EntityRefs,
            Key,
            Value,
        ]
    };

    /// The columns of which one holds the body of a log record, each with the type that its bodies have.
    pub const BODY: [(Intrinsic, AttrType); 6] = [
        (Intrinsic::Body, AttrType::Str),
        (Intrinsic::BodyInt, AttrType::Int),
        (Intrinsic::BodyDouble, AttrType::Double),
        (Intrinsic::BodyBool, AttrType::Bool),
        (Intrinsic::BodyBytes, AttrType::Bytes),
        (Intrinsic::BodyJson, AttrType::Json),
    ];

    /// The stored name: lower case, without a dot, so that it never equals an attribute's.
    pub fn name(self) -> &'static str {
        use Intrinsic::*;
        match self {
            Resource => "resource",
            Scope => "scope",
            Metric => "metric",
            Parent => "parent",
            Of => "of",
            TraceId => "trace_id",
            SpanId => "span_id",
            ParentId => "parent_id",
            TraceState => "trace_state",
            Flags => "flags",
            Name => "name",
            Kind => "kind",
            Time => "time",
            Duration => "duration",
            Status => "status",
            StatusMessage => "status_message",
            DroppedAttributes => "dropped_attributes_count",
            DroppedEvents => "dropped_events_count",
            DroppedLinks => "dropped_links_count",
            Running => "running",
            SamplingWeight => "sampling_weight",
            ObservedTime => "observed_time",
            Severity => "severity",
            SeverityText => "severity_text",
            EventName => "event_name",
            Body => "body",
            BodyInt => "body@int",
            BodyDouble => "body@double",
            BodyBool => "body@bool",
            BodyBytes => "body@bytes",
            BodyJson => "body@json",
            StartTime => "start_time",
            ValueInt => "value@int",
            ValueDouble => "value@double",
            Count => "count",
            Sum => "sum",
            Min => "min",
            Max => "max",
            BucketCounts => "bucket_counts",
            ExplicitBounds => "explicit_bounds",
            Scale => "scale",
            ZeroCount => "zero_count",
            ZeroThreshold => "zero_threshold",
            PositiveOffset => "positive_offset",
            PositiveCounts => "positive_counts",
            NegativeOffset => "negative_offset",
            NegativeCounts => "negative_counts",
            Quantiles => "quantiles",
            QuantileValues => "quantile_values",
            Unit => "unit",
            Description => "description",
            Type => "type",
            Temporality => "temporality",
            Monotonic => "monotonic",
            Version => "version",
            SchemaUrl => "schema_url",
            EntityRefs => "entity_refs",
            Key => "key",
            Value => "value",
        }
    }

    /// The Arrow type. Text may also arrive as `Dictionary(UInt32, Utf8)`: see [`is_text`].
    pub fn data_type(self) -> DataType {
        use Intrinsic::*;
        match self {
            Resource | Scope | Metric | Parent | Flags | DroppedAttributes | DroppedEvents | DroppedLinks => {
                DataType::UInt32
            }
            Of => DataType::UInt8,
            TraceId => DataType::FixedSizeBinary(16),
            SpanId | ParentId => DataType::FixedSizeBinary(8),
            Time | Duration | ObservedTime | BodyInt | StartTime | ValueInt | Count | ZeroCount => DataType::Int64,
            Kind | Status | Severity | Scale | PositiveOffset | NegativeOffset | Type | Temporality => DataType::Int32,
            Running | BodyBool | Monotonic => DataType::Boolean,
            SamplingWeight | BodyDouble | ValueDouble | Sum | Min | Max | ZeroThreshold => DataType::Float64,
            BucketCounts | PositiveCounts | NegativeCounts => list_of(DataType::Int64),
            ExplicitBounds | Quantiles | QuantileValues => list_of(DataType::Float64),
            BodyBytes => DataType::Binary,
            TraceState | Name | StatusMessage | SeverityText | EventName | Body | BodyJson | Version | SchemaUrl
            | EntityRefs | Unit | Description | Key | Value => DataType::Utf8,
        }
    }
}

/// The type of a list column: its values are never null.
pub fn list_of(values: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", values, false)))
}

/// The type of an attribute column. Types are kept apart: a key that arrives with two types is two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttrType {
    /// `Utf8` or `Dictionary(UInt32, Utf8)`.
    Str,
    /// `Int64`.
    Int,
    /// `Float64`.
    Double,
    /// `Boolean`.
    Bool,
    /// `Binary`.
    Bytes,
    /// `Utf8` or `Dictionary(UInt32, Utf8)` holding [`crate::Value`] text: arrays, maps and empty values.
    Json,
}

impl AttrType {
    /// Every type, in the order in which siblings are listed.
    pub const ALL: [AttrType; 6] =
        [AttrType::Str, AttrType::Int, AttrType::Double, AttrType::Bool, AttrType::Bytes, AttrType::Json];

    /// The plain Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            AttrType::Str | AttrType::Json => DataType::Utf8,
            AttrType::Int => DataType::Int64,
            AttrType::Double => DataType::Float64,
            AttrType::Bool => DataType::Boolean,
            AttrType::Bytes => DataType::Binary,
        }
    }

    /// What stands behind the `@` of a stored name; text has none.
    pub fn suffix(self) -> &'static str {
        match self {
            AttrType::Str => "",
            AttrType::Int => "@int",
            AttrType::Double => "@double",
            AttrType::Bool => "@bool",
            AttrType::Bytes => "@bytes",
            AttrType::Json => "@json",
        }
    }

    /// The name shown to users (`/v1/fields`).
    pub fn as_str(self) -> &'static str {
        match self {
            AttrType::Str => "string",
            AttrType::Int => "int",
            AttrType::Double => "double",
            AttrType::Bool => "bool",
            AttrType::Bytes => "bytes",
            AttrType::Json => "json",
        }
    }
}

/// Which column of a table: a fixed one, or an attribute by its exact key and type. The table says the scope: an attribute
/// column of the resources table is a resource attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ColumnId {
    /// A fixed column.
    Intrinsic(Intrinsic),
    /// An attribute column.
    Attr {
        /// The key as sent: any text, case-sensitive.
        key: Arc<str>,
        /// The type.
        ty: AttrType,
    },
}

impl ColumnId {
    /// An attribute column.
    pub fn attr(key: impl Into<Arc<str>>, ty: AttrType) -> ColumnId {
        ColumnId::Attr { key: key.into(), ty }
    }

    /// The plain Arrow type; text may also be dictionary-encoded.
    pub fn data_type(&self) -> DataType {
        match self {
            ColumnId::Intrinsic(i) => i.data_type(),
            ColumnId::Attr { ty, .. } => ty.data_type(),
        }
    }

    /// Whether the column holds text, plain or dictionary-encoded (also [`crate::Value`] text).
    pub fn is_text(&self) -> bool {
        self.data_type() == DataType::Utf8
    }
}

impl From<Intrinsic> for ColumnId {
    fn from(i: Intrinsic) -> ColumnId {
        ColumnId::Intrinsic(i)
    }
}

impl fmt::Display for ColumnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnId::Intrinsic(i) => f.write_str(i.name()),
            ColumnId::Attr { key, ty } => write!(f, "{key}{}", ty.suffix()),
        }
    }
}

/// The name of an attribute column for engines that ignore case or refuse characters (Delta, Parquet readers): unique under
/// case folding, at most 127 bytes, of `a-z 0-9 _ : @ ~` only.
///
/// A key of `a-z 0-9 _ .` and at most 100 bytes stays as it is, but for `:` in place of `.`: engines that push conditions down to a
/// scan (DuckDB, ClickHouse) take a dot in a name for a struct's, and find no such column. Any other key is mapped to that alphabet
/// and gets `~` and 16 hex digits of the key's hash. The real key stands in the table's metadata.
pub fn portable_name(prefix: &str, key: &str, ty: AttrType) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    if key.len() <= 100 && !key.is_empty() && key.chars().all(plain) {
        return format!("{prefix}:{}{}", key.replace('.', ":"), ty.suffix());
    }
    let readable: String =
        key.chars().take(60).map(|c| c.to_ascii_lowercase()).map(|c| if plain(c) { c } else { '_' }).collect();
    let readable = readable.replace('.', ":");
    format!("{prefix}:{readable}~{:016x}{}", xxhash_rust::xxh3::xxh3_64(key.as_bytes()), ty.suffix())
}

/// Whether `data_type` is one of the two layouts of text.
pub fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 => true,
        DataType::Dictionary(k, v) => **k == DataType::UInt32 && **v == DataType::Utf8,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_names_differ_when_case_is_ignored() {
        let name = |k: &str| portable_name("attr", k, AttrType::Str);
        assert_eq!(name("http.route"), "attr:http:route");
        assert_eq!(portable_name("resource", "k8s.pod.uid", AttrType::Int), "resource:k8s:pod:uid@int");
        assert_ne!(name("userId"), name("userid"));
        assert_ne!(name("userId").to_lowercase(), name("UserID").to_lowercase());
        assert!(
            name("a key, with = odd ; characters")
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:~@".contains(c))
        );
        assert!(name(&"k".repeat(65_536)).len() <= 127);
        assert_ne!(name(""), name("_"));
        assert_ne!(name("a.b"), name("a:b"));
    }

    #[test]
    fn fixed_columns_have_distinct_names_without_dots_and_colons() {
        let names: std::collections::BTreeSet<_> = Intrinsic::ALL.iter().map(|i| i.name()).collect();
        assert_eq!(names.len(), Intrinsic::ALL.len());
        assert!(names.iter().all(|n| !n.contains(['.', ':'])));
    }
}
