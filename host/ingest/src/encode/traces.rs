//! Spans to an `ExportTraceServiceRequest`.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prism_model::{Batch, Intrinsic, Table, TableKind};

use super::group::group;
use super::read::{Attributes, Cells, children};

/// The spans of a batch with all that belongs to them.
pub fn traces(batch: &Batch) -> ExportTraceServiceRequest {
    let mut events = children(batch, TableKind::Events, event_reader);
    let mut links = children(batch, TableKind::Links, link_reader);
    let span = span_reader(batch);
    let groups = group(batch, |row| {
        let mut span = span(row);
        span.events = std::mem::take(&mut events[row]);
        span.links = std::mem::take(&mut links[row]);
        span
    });
    let resource_spans = groups
        .into_iter()
        .map(|by_resource| ResourceSpans {
            resource: by_resource.resource,
            schema_url: by_resource.schema_url,
            scope_spans: by_resource
                .scopes
                .into_iter()
                .map(|s| ScopeSpans { scope: s.scope, schema_url: s.schema_url, spans: s.items })
                .collect(),
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }
}

fn span_reader(batch: &Batch) -> impl Fn(usize) -> Span {
    let cells = Cells(batch.items());
    let attributes = Attributes::new(batch, TableKind::Items);
    let (trace_id, span_id, parent_id) =
        (cells.id(Intrinsic::TraceId), cells.id(Intrinsic::SpanId), cells.id(Intrinsic::ParentId));
    let (trace_state, name) = (cells.text(Intrinsic::TraceState), cells.text(Intrinsic::Name));
    let (flags, kind) = (cells.u32(Intrinsic::Flags), cells.i32(Intrinsic::Kind));
    let (time, duration) = (cells.i64(Intrinsic::Time), cells.i64(Intrinsic::Duration));
    let (status, message) = (cells.i32(Intrinsic::Status), cells.text(Intrinsic::StatusMessage));
    let dropped =
        [Intrinsic::DroppedAttributes, Intrinsic::DroppedEvents, Intrinsic::DroppedLinks].map(|id| cells.u32(id));
    move |row| Span {
        trace_id: trace_id(row),
        span_id: span_id(row),
        trace_state: trace_state.string(row),
        parent_span_id: parent_id(row),
        flags: flags(row),
        name: name.string(row),
        kind: kind(row),
        start_time_unix_nano: time(row) as u64,
        end_time_unix_nano: time(row).wrapping_add(duration(row)) as u64,
        attributes: attributes.of(row),
        dropped_attributes_count: dropped[0](row),
        events: Vec::new(),
        dropped_events_count: dropped[1](row),
        links: Vec::new(),
        dropped_links_count: dropped[2](row),
        status: Some(Status { message: message.string(row), code: status(row) }).filter(|s| *s != Status::default()),
    }
}

fn event_reader<'a>(batch: &'a Batch, table: &'a Table) -> impl Fn(usize) -> Event + use<'a> {
    let cells = Cells(table);
    let attributes = Attributes::new(batch, TableKind::Events);
    let (time, name) = (cells.i64(Intrinsic::Time), cells.text(Intrinsic::Name));
    let dropped = cells.u32(Intrinsic::DroppedAttributes);
    move |row| Event {
        time_unix_nano: time(row) as u64,
        name: name.string(row),
        attributes: attributes.of(row),
        dropped_attributes_count: dropped(row),
    }
}

fn link_reader<'a>(batch: &'a Batch, table: &'a Table) -> impl Fn(usize) -> Link + use<'a> {
    let cells = Cells(table);
    let attributes = Attributes::new(batch, TableKind::Links);
    let (trace_id, span_id) = (cells.id(Intrinsic::TraceId), cells.id(Intrinsic::SpanId));
    let (trace_state, flags) = (cells.text(Intrinsic::TraceState), cells.u32(Intrinsic::Flags));
    let dropped = cells.u32(Intrinsic::DroppedAttributes);
    move |row| Link {
        trace_id: trace_id(row),
        span_id: span_id(row),
        trace_state: trace_state.string(row),
        attributes: attributes.of(row),
        dropped_attributes_count: dropped(row),
        flags: flags(row),
    }
}
