//! Log records to an `ExportLogsServiceRequest`.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prism_model::{Batch, Intrinsic, TableKind};

use super::group::group;
use super::read::{Attributes, Cells, body};

/// The log records of a batch.
pub fn logs(batch: &Batch) -> ExportLogsServiceRequest {
    let record = record_reader(batch);
    let resource_logs = group(batch, record)
        .into_iter()
        .map(|by_resource| ResourceLogs {
            resource: by_resource.resource,
            schema_url: by_resource.schema_url,
            scope_logs: by_resource
                .scopes
                .into_iter()
                .map(|s| ScopeLogs { scope: s.scope, schema_url: s.schema_url, log_records: s.items })
                .collect(),
        })
        .collect();
    ExportLogsServiceRequest { resource_logs }
}

fn record_reader(batch: &Batch) -> impl Fn(usize) -> LogRecord {
    let cells = Cells(batch.items());
    let attributes = Attributes::new(batch, TableKind::Items);
    let (time, observed) = (cells.i64(Intrinsic::Time), cells.i64(Intrinsic::ObservedTime));
    let (severity, severity_text) = (cells.i32(Intrinsic::Severity), cells.text(Intrinsic::SeverityText));
    let (event_name, flags) = (cells.text(Intrinsic::EventName), cells.u32(Intrinsic::Flags));
    let (trace_id, span_id) = (cells.id(Intrinsic::TraceId), cells.id(Intrinsic::SpanId));
    let dropped = cells.u32(Intrinsic::DroppedAttributes);
    move |row| LogRecord {
        time_unix_nano: time(row) as u64,
        observed_time_unix_nano: observed(row) as u64,
        severity_number: severity(row),
        severity_text: severity_text.string(row),
        body: body(batch.items(), row),
        attributes: attributes.of(row),
        dropped_attributes_count: dropped(row),
        flags: flags(row),
        trace_id: trace_id(row),
        span_id: span_id(row),
        event_name: event_name.string(row),
    }
}
