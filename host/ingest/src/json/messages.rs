//! The messages of OTLP as tables: the JSON name, number and kind of each field.
//!
//! Source: opentelemetry-proto 1.10, `common`, `resource`, `trace`, `logs` and `metrics` v1. A field that is not here is unknown
//! and stepped over. Fields stand in the order in which clients write them, which is where they are looked for first.

use prism_model::Signal;

use crate::wire::{FIXED32, FIXED64, LEN, VARINT, key};

/// A message.
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    /// Bytes that are kept free for its length while its content is written: as many as it usually takes.
    pub(super) length_bytes: usize,
    /// Whether it is a level of a value: an array or a map.
    pub(super) nests: bool,
}

/// A field of a message.
pub(super) struct Field {
    pub(super) name: &'static str,
    /// Number and wire type, as they stand in front of the value.
    pub(super) key: u32,
    pub(super) kind: Kind,
    pub(super) list: bool,
}

/// What a field holds, by its type in protobuf.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Str,
    /// A trace or span id: bytes, hex in JSON.
    Id,
    Bytes,
    Bool,
    /// An enum: `int32` on the wire. Its names, by number.
    Enum(&'static [&'static str]),
    Int32,
    Sint32,
    Uint32,
    Fixed32,
    Int64,
    Sfixed64,
    Uint64,
    Fixed64,
    Double,
    Message(&'static Message),
}

impl Kind {
    const fn wire_type(self) -> u32 {
        match self {
            Kind::Str | Kind::Id | Kind::Bytes | Kind::Message(_) => LEN,
            Kind::Bool | Kind::Enum(_) | Kind::Int32 | Kind::Sint32 | Kind::Uint32 | Kind::Int64 | Kind::Uint64 => {
                VARINT
            }
            Kind::Fixed32 => FIXED32,
            Kind::Sfixed64 | Kind::Fixed64 | Kind::Double => FIXED64,
        }
    }

    /// Whether a list of them is one field that holds them without keys.
    pub(super) const fn packs(self) -> bool {
        self.wire_type() != LEN
    }

    /// What a value in JSON must be.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Kind::Str => "a string",
            Kind::Id => "hex digits in a string",
            Kind::Bytes => "base64 in a string",
            Kind::Bool => "`true` or `false`",
            Kind::Enum(_) => "an integer (OTLP/JSON has enums as integers, not as names)",
            Kind::Int32 | Kind::Sint32 => "an integer from -2147483648 to 2147483647",
            Kind::Uint32 | Kind::Fixed32 => "an integer from 0 to 4294967295",
            Kind::Int64 | Kind::Sfixed64 => "an integer from -9223372036854775808 to 9223372036854775807",
            Kind::Uint64 | Kind::Fixed64 => "an integer from 0 to 18446744073709551615",
            Kind::Double => "a finite number, `\"NaN\"`, `\"Infinity\"` or `\"-Infinity\"`",
            Kind::Message(_) => "an object",
        }
    }
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, key: key(number, kind.wire_type()), kind, list: false }
}

const fn list(name: &'static str, number: u32, kind: Kind) -> Field {
    let wire_type = if kind.packs() { LEN } else { kind.wire_type() };
    Field { name, key: key(number, wire_type), kind, list: true }
}

/// A message that mostly takes less than 128 bytes.
const fn small(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, length_bytes: 1, nests: false }
}

/// A message that mostly takes between 128 bytes and 16 KiB.
const fn middle(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, length_bytes: 2, nests: false }
}

/// A message that holds most of a request.
const fn large(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, length_bytes: 4, nests: false }
}

/// The request of a signal.
pub(super) fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Spans => &TRACES,
        Signal::Logs => &LOGS,
        Signal::Metrics => &METRICS,
    }
}

use Kind::{
    Bool, Bytes, Double, Enum, Fixed32, Fixed64, Id, Int32, Int64, Message as Of, Sfixed64, Sint32, Str, Uint32, Uint64,
};

const SPAN_KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUS_CODES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
const TEMPORALITIES: &[&str] =
    &["AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"];
const SEVERITIES: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

static ANY_VALUE: Message = small(
    "AnyValue",
    &[
        one("stringValue", 1, Str),
        one("intValue", 3, Int64),
        one("boolValue", 2, Bool),
        one("doubleValue", 4, Double),
        one("arrayValue", 5, Of(&ARRAY_VALUE)),
        one("kvlistValue", 6, Of(&KEY_VALUE_LIST)),
        one("bytesValue", 7, Bytes),
        one("stringValueStrindex", 8, Int32),
    ],
);
static ARRAY_VALUE: Message = Message { nests: true, ..small("ArrayValue", &[list("values", 1, Of(&ANY_VALUE))]) };
static KEY_VALUE_LIST: Message = Message { nests: true, ..small("KeyValueList", &[list("values", 1, Of(&KEY_VALUE))]) };
static KEY_VALUE: Message =
    small("KeyValue", &[one("key", 1, Str), one("value", 2, Of(&ANY_VALUE)), one("keyStrindex", 3, Int32)]);
static SCOPE: Message = small(
    "InstrumentationScope",
    &[
        one("name", 1, Str),
        one("version", 2, Str),
        list("attributes", 3, Of(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Uint32),
    ],
);
static ENTITY_REF: Message = small(
    "EntityRef",
    &[one("schemaUrl", 1, Str), one("type", 2, Str), list("idKeys", 3, Str), list("descriptionKeys", 4, Str)],
);
static RESOURCE: Message = middle(
    "Resource",
    &[
        list("attributes", 1, Of(&KEY_VALUE)),
        one("droppedAttributesCount", 2, Uint32),
        list("entityRefs", 3, Of(&ENTITY_REF)),
    ],
);

static TRACES: Message = large("ExportTraceServiceRequest", &[list("resourceSpans", 1, Of(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = large(
    "ResourceSpans",
    &[one("resource", 1, Of(&RESOURCE)), list("scopeSpans", 2, Of(&SCOPE_SPANS)), one("schemaUrl", 3, Str)],
);
static SCOPE_SPANS: Message =
    large("ScopeSpans", &[one("scope", 1, Of(&SCOPE)), list("spans", 2, Of(&SPAN)), one("schemaUrl", 3, Str)]);
static SPAN: Message = middle(
    "Span",
    &[
        one("traceId", 1, Id),
        one("spanId", 2, Id),
        one("traceState", 3, Str),
        one("parentSpanId", 4, Id),
        one("flags", 16, Fixed32),
        one("name", 5, Str),
        one("kind", 6, Enum(SPAN_KINDS)),
        one("startTimeUnixNano", 7, Fixed64),
        one("endTimeUnixNano", 8, Fixed64),
        list("attributes", 9, Of(&KEY_VALUE)),
        one("droppedAttributesCount", 10, Uint32),
        list("events", 11, Of(&EVENT)),
        one("droppedEventsCount", 12, Uint32),
        list("links", 13, Of(&LINK)),
        one("droppedLinksCount", 14, Uint32),
        one("status", 15, Of(&STATUS)),
    ],
);
static EVENT: Message = small(
    "Event",
    &[
        one("timeUnixNano", 1, Fixed64),
        one("name", 2, Str),
        list("attributes", 3, Of(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Uint32),
    ],
);
static LINK: Message = small(
    "Link",
    &[
        one("traceId", 1, Id),
        one("spanId", 2, Id),
        one("traceState", 3, Str),
        list("attributes", 4, Of(&KEY_VALUE)),
        one("droppedAttributesCount", 5, Uint32),
        one("flags", 6, Fixed32),
    ],
);
static STATUS: Message = small("Status", &[one("message", 2, Str), one("code", 3, Enum(STATUS_CODES))]);

static LOGS: Message = large("ExportLogsServiceRequest", &[list("resourceLogs", 1, Of(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = large(
    "ResourceLogs",
    &[one("resource", 1, Of(&RESOURCE)), list("scopeLogs", 2, Of(&SCOPE_LOGS)), one("schemaUrl", 3, Str)],
);
static SCOPE_LOGS: Message = large(
    "ScopeLogs",
    &[one("scope", 1, Of(&SCOPE)), list("logRecords", 2, Of(&LOG_RECORD)), one("schemaUrl", 3, Str)],
);
static LOG_RECORD: Message = middle(
    "LogRecord",
    &[
        one("timeUnixNano", 1, Fixed64),
        one("observedTimeUnixNano", 11, Fixed64),
        one("severityNumber", 2, Enum(SEVERITIES)),
        one("severityText", 3, Str),
        one("body", 5, Of(&ANY_VALUE)),
        list("attributes", 6, Of(&KEY_VALUE)),
        one("droppedAttributesCount", 7, Uint32),
        one("flags", 8, Fixed32),
        one("traceId", 9, Id),
        one("spanId", 10, Id),
        one("eventName", 12, Str),
    ],
);

static METRICS: Message = large("ExportMetricsServiceRequest", &[list("resourceMetrics", 1, Of(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = large(
    "ResourceMetrics",
    &[one("resource", 1, Of(&RESOURCE)), list("scopeMetrics", 2, Of(&SCOPE_METRICS)), one("schemaUrl", 3, Str)],
);
static SCOPE_METRICS: Message =
    large("ScopeMetrics", &[one("scope", 1, Of(&SCOPE)), list("metrics", 2, Of(&METRIC)), one("schemaUrl", 3, Str)]);
static METRIC: Message = middle(
    "Metric",
    &[
        one("name", 1, Str),
        one("description", 2, Str),
        one("unit", 3, Str),
        one("gauge", 5, Of(&GAUGE)),
        one("sum", 7, Of(&SUM)),
        one("histogram", 9, Of(&HISTOGRAM)),
        one("exponentialHistogram", 10, Of(&EXPONENTIAL_HISTOGRAM)),
        one("summary", 11, Of(&SUMMARY)),
        list("metadata", 12, Of(&KEY_VALUE)),
    ],
);
static GAUGE: Message = middle("Gauge", &[list("dataPoints", 1, Of(&NUMBER_POINT))]);
static SUM: Message = middle(
    "Sum",
    &[
        list("dataPoints", 1, Of(&NUMBER_POINT)),
        one("aggregationTemporality", 2, Enum(TEMPORALITIES)),
        one("isMonotonic", 3, Bool),
    ],
);
static HISTOGRAM: Message = middle(
    "Histogram",
    &[list("dataPoints", 1, Of(&HISTOGRAM_POINT)), one("aggregationTemporality", 2, Enum(TEMPORALITIES))],
);
static EXPONENTIAL_HISTOGRAM: Message = middle(
    "ExponentialHistogram",
    &[list("dataPoints", 1, Of(&EXPONENTIAL_HISTOGRAM_POINT)), one("aggregationTemporality", 2, Enum(TEMPORALITIES))],
);
static SUMMARY: Message = middle("Summary", &[list("dataPoints", 1, Of(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = middle(
    "NumberDataPoint",
    &[
        list("attributes", 7, Of(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("asDouble", 4, Double),
        one("asInt", 6, Sfixed64),
        list("exemplars", 5, Of(&EXEMPLAR)),
        one("flags", 8, Uint32),
    ],
);
static HISTOGRAM_POINT: Message = middle(
    "HistogramDataPoint",
    &[
        list("attributes", 9, Of(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        list("bucketCounts", 6, Fixed64),
        list("explicitBounds", 7, Double),
        list("exemplars", 8, Of(&EXEMPLAR)),
        one("flags", 10, Uint32),
        one("min", 11, Double),
        one("max", 12, Double),
    ],
);
static EXPONENTIAL_HISTOGRAM_POINT: Message = middle(
    "ExponentialHistogramDataPoint",
    &[
        list("attributes", 1, Of(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        one("scale", 6, Sint32),
        one("zeroCount", 7, Fixed64),
        one("positive", 8, Of(&BUCKETS)),
        one("negative", 9, Of(&BUCKETS)),
        one("flags", 10, Uint32),
        list("exemplars", 11, Of(&EXEMPLAR)),
        one("min", 12, Double),
        one("max", 13, Double),
        one("zeroThreshold", 14, Double),
    ],
);
static BUCKETS: Message = small("Buckets", &[one("offset", 1, Sint32), list("bucketCounts", 2, Uint64)]);
static SUMMARY_POINT: Message = middle(
    "SummaryDataPoint",
    &[
        list("attributes", 7, Of(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        list("quantileValues", 6, Of(&VALUE_AT_QUANTILE)),
        one("flags", 8, Uint32),
    ],
);
static VALUE_AT_QUANTILE: Message = small("ValueAtQuantile", &[one("quantile", 1, Double), one("value", 2, Double)]);
static EXEMPLAR: Message = small(
    "Exemplar",
    &[
        list("filteredAttributes", 7, Of(&KEY_VALUE)),
        one("timeUnixNano", 2, Fixed64),
        one("asDouble", 3, Double),
        one("asInt", 6, Sfixed64),
        one("spanId", 4, Id),
        one("traceId", 5, Id),
    ],
);
