//! Log records as a shop of some size would send them.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};

use super::{Dice, INSTANCES, METHODS, REGIONS, ROUTES, TRACE_ROWS, TRACE_SPANS, resource, scope, text, whole};
use crate::mark::{Kind, Marks};

/// The log records of one request. Three of four belong to a span.
pub fn logs(variant: u64, rows: usize, marks: &mut Marks) -> ExportLogsServiceRequest {
    let mut dice = Dice(variant);
    let mut by_instance: Vec<Vec<LogRecord>> = vec![Vec::new(); INSTANCES];
    for row in 0..rows {
        let trace = row / TRACE_SPANS;
        let (severity_number, severity_text) =
            [(9, "INFO"), (9, "INFO"), (5, "DEBUG"), (13, "WARN"), (17, "ERROR")][dice.below(5) as usize];
        let traced = row % 4 > 0;
        let method = dice.pick(&METHODS);
        let route = dice.pick(&ROUTES);
        let path = route.replace("{id}", &Kind::Digits.text(trace));
        let body = match dice.below(30) {
            0 => format!("confirmation for order {} sent to user-{0}@example.com", Kind::Digits.text(trace)),
            n => format!("{method} {path} answered in {}.{n} ms to 203.0.113.{}", dice.below(900), dice.below(254) + 1),
        };
        let time = marks.time(dice.below(5_000_000_000));
        by_instance[trace % INSTANCES].push(LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: time,
            severity_number,
            severity_text: severity_text.into(),
            body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
            attributes: vec![
                text("http.request.method", method),
                text("http.route", route),
                text("user.id", format!("u-{}", Kind::Digits.text(trace))),
                text(
                    "request.id",
                    format!("{}{}", Kind::Hex.text(TRACE_ROWS + row), Kind::Hex.text(2 * TRACE_ROWS + row)),
                ),
                text("logger.name", dice.pick(&["http.access", "orders", "cache"])),
                text("cloud.availability_zone", dice.pick(&REGIONS)),
                whole("thread.id", dice.below(32)),
                whole("http.response.status_code", [200, 200, 404, 504][dice.below(4) as usize]),
            ],
            flags: u32::from(traced),
            trace_id: if traced { Kind::Trace.bytes16(trace) } else { Vec::new() },
            span_id: if traced { Kind::Span.bytes8(row) } else { Vec::new() },
            ..Default::default()
        });
    }
    let resource_logs = by_instance.into_iter().enumerate().filter(|(_, records)| !records.is_empty());
    ExportLogsServiceRequest {
        resource_logs: resource_logs
            .map(|(instance, log_records)| ResourceLogs {
                resource: Some(resource(instance)),
                scope_logs: vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: String::new() }],
                schema_url: String::new(),
            })
            .collect(),
    }
}
