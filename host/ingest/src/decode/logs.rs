//! Log records: an `ExportLogsServiceRequest` to a batch.

use std::borrow::Cow;

use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt32Type};
use prism_model::{Batch, Intrinsic, Limits, Signal, Table, TableKind};

use super::any_value::{self, Wire, check_entry};
use super::envelope::{Envelopes, Items};
use super::report::{Refusal, Warning};
use super::resource::{columns, replace};
use super::{Context, DecodeError, Decoded, Stop, attribute, decode};
use crate::columns::ColumnError;
use crate::columns::attributes::Attributes;
use crate::columns::scalar::{Scalars, nullable, nullable_bools, nullable_ids, zero_filled};
use crate::columns::text::{Blobs, Texts};
use crate::wire::{FIXED32, FIXED64, LEN, Reader, Result as WireResult, VARINT, key, known, merge, utf8};

/// Decodes the bytes of an `ExportLogsServiceRequest`, decompressed.
///
/// A record with a time beyond int64 is refused and counted. Ids are optional in logs: an invalid one (another length, all
/// zero) is left out and its record kept.
///
/// # Errors
/// [`DecodeError`]: the bytes are no such message, or pass one of the limits.
pub fn logs(body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    decode(body, limits, "ExportLogsServiceRequest", |context| walk(body, context), "log records")
}

fn walk(body: &[u8], context: &mut Context) -> Result<Batch, Stop> {
    let mut logs = Logs::new(context);
    let envelopes = Envelopes::walk(body, &mut logs, context)?;
    let mut tables = vec![logs.finish(&envelopes, context)?];
    tables.extend(envelopes.finish(context)?);
    tables.push(std::mem::take(&mut context.tail).finish()?);
    Ok(Batch::try_new(Signal::Logs, Vec::new(), tables)?)
}

const TIME: u32 = key(1, FIXED64);
const SEVERITY: u32 = key(2, VARINT);
const SEVERITY_TEXT: u32 = key(3, LEN);
const BODY: u32 = key(5, LEN);
const ATTRIBUTE: u32 = key(6, LEN);
const DROPPED_ATTRIBUTES: u32 = key(7, VARINT);
const FLAGS: u32 = key(8, FIXED32);
const TRACE_ID: u32 = key(9, LEN);
const SPAN_ID: u32 = key(10, LEN);
const OBSERVED: u32 = key(11, FIXED64);
const EVENT_NAME: u32 = key(12, LEN);
const KNOWN: u32 = known(&[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);

/// The fields of a record, not looked into yet.
#[derive(Default)]
struct Fields<'a> {
    time: u64,
    observed: u64,
    severity: i32,
    severity_text: &'a [u8],
    body: Option<Cow<'a, [u8]>>,
    dropped_attributes: u32,
    flags: u32,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a [u8],
}

/// The table of log records while it grows.
struct Logs<'a> {
    /// Attributes of the record at hand.
    found: Vec<&'a [u8]>,
    rows: u32,
    time: Scalars<i64>,
    observed: Scalars<i64>,
    severity: Scalars<i32>,
    severity_text: Texts,
    event_name: Texts,
    body: Body,
    trace_id: Scalars<[u8; 16]>,
    span_id: Scalars<[u8; 8]>,
    flags: Scalars<u32>,
    dropped_attributes: Scalars<u32>,
    attributes: Attributes,
}

/// The columns of the body, one per type.
#[derive(Default)]
struct Body {
    text: Texts,
    int: Scalars<i64>,
    double: Scalars<f64>,
    bool: Scalars<bool>,
    bytes: Blobs,
    json: Texts,
}

impl<'a> Items<'a> for Logs<'a> {
    #[inline]
    fn push(&mut self, message: &'a [u8], context: &mut Context) -> Result<(), Stop> {
        context.count_item()?;
        self.found.clear();
        let fields = find_fields(message, &mut self.found)?;
        if i64::try_from(fields.time).is_ok() && i64::try_from(fields.observed).is_ok() {
            return self.keep(&fields, context);
        }
        self.check(&fields, context)?;
        context.report.refuse(Refusal::Time);
        Ok(())
    }

    fn rows(&self) -> u32 {
        self.rows
    }
}

#[inline]
fn find_fields<'a>(message: &'a [u8], attributes: &mut Vec<&'a [u8]>) -> WireResult<Fields<'a>> {
    let mut fields = Fields::default();
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTE => attributes.push(reader.bytes()?),
            TIME => fields.time = reader.fixed64()?,
            OBSERVED => fields.observed = reader.fixed64()?,
            SEVERITY => fields.severity = reader.varint()? as i32,
            SEVERITY_TEXT => replace(&mut fields.severity_text, reader.bytes()?)?,
            BODY => merge(&mut fields.body, reader.bytes()?)?,
            DROPPED_ATTRIBUTES => fields.dropped_attributes = reader.varint()? as u32,
            FLAGS => fields.flags = reader.fixed32()?,
            TRACE_ID => fields.trace_id = reader.bytes()?,
            SPAN_ID => fields.span_id = reader.bytes()?,
            EVENT_NAME => replace(&mut fields.event_name, reader.bytes()?)?,
            other => reader.skip(other, KNOWN)?,
        }
    }
    Ok(fields)
}

impl<'a> Logs<'a> {
    fn new(context: &Context) -> Logs<'a> {
        Logs {
            found: Vec::new(),
            rows: 0,
            time: Scalars::default(),
            observed: Scalars::default(),
            severity: Scalars::default(),
            severity_text: Texts::default(),
            event_name: Texts::default(),
            body: Body::default(),
            trace_id: Scalars::default(),
            span_id: Scalars::default(),
            flags: Scalars::default(),
            dropped_attributes: Scalars::default(),
            attributes: Attributes::new(TableKind::Items, context.columns_max),
        }
    }

    #[inline]
    fn keep(&mut self, fields: &Fields<'a>, context: &mut Context) -> Result<(), Stop> {
        let row = self.rows;
        self.rows += 1;
        self.time.push_unless(row, fields.time as i64, 0);
        self.observed.push_unless(row, fields.observed as i64, 0);
        self.severity.push_unless(row, fields.severity, 0);
        self.severity_text.push_unless_empty(row, fields.severity_text);
        self.event_name.push_unless_empty(row, fields.event_name);
        if let Some(body) = &fields.body {
            self.body.push(row, &any_value::parse(body, context.depth_max)?, context)?;
        }
        match <[u8; 16]>::try_from(fields.trace_id) {
            Ok(id) => self.trace_id.push_unless(row, id, [0; 16]),
            Err(_) if fields.trace_id.is_empty() => {}
            Err(_) => context.report.warn(Warning::IdLength),
        }
        match <[u8; 8]>::try_from(fields.span_id) {
            Ok(id) => self.span_id.push_unless(row, id, [0; 8]),
            Err(_) if fields.span_id.is_empty() => {}
            Err(_) => context.report.warn(Warning::IdLength),
        }
        self.flags.push_unless(row, fields.flags, 0);
        self.dropped_attributes.push_unless(row, fields.dropped_attributes, 0);
        self.attributes.start_record();
        for message in &self.found {
            attribute::push(&mut self.attributes, TableKind::Items, row, message, context)?;
        }
        Ok(())
    }

    /// Looks into a refused record as far as prost would, since it may make the whole request undecodable.
    #[cold]
    fn check(&self, fields: &Fields<'_>, context: &Context) -> WireResult<()> {
        utf8(fields.severity_text)?;
        utf8(fields.event_name)?;
        if let Some(body) = &fields.body {
            any_value::check(body, context.depth_max)?;
        }
        self.found.iter().try_for_each(|message| check_entry(message, context.depth_max))
    }

    fn finish(self, envelopes: &Envelopes<'a>, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.rows as usize;
        let body = self.body;
        let mut all = columns([
            (Intrinsic::Resource, envelopes.resource_of.finish()),
            (Intrinsic::Scope, envelopes.scope_of.finish()),
            (Intrinsic::Time, zero_filled::<Int64Type>(self.time, rows)),
            (Intrinsic::ObservedTime, zero_filled::<Int64Type>(self.observed, rows)),
            (Intrinsic::Severity, zero_filled::<Int32Type>(self.severity, rows)),
            (Intrinsic::SeverityText, self.severity_text.finish(rows)?),
            (Intrinsic::EventName, self.event_name.finish(rows)?),
            (Intrinsic::Body, body.text.finish(rows)?),
            (Intrinsic::BodyInt, nullable::<Int64Type>(body.int, rows)),
            (Intrinsic::BodyDouble, nullable::<Float64Type>(body.double, rows)),
            (Intrinsic::BodyBool, nullable_bools(body.bool, rows)),
            (Intrinsic::BodyBytes, body.bytes.finish(rows)?),
            (Intrinsic::BodyJson, body.json.finish(rows)?),
            (Intrinsic::TraceId, nullable_ids(self.trace_id, rows)),
            (Intrinsic::SpanId, nullable_ids(self.span_id, rows)),
            (Intrinsic::Flags, zero_filled::<UInt32Type>(self.flags, rows)),
            (Intrinsic::DroppedAttributes, zero_filled::<UInt32Type>(self.dropped_attributes, rows)),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Items, rows, all)?)
    }
}

impl Body {
    #[inline]
    fn push(&mut self, row: u32, value: &Wire<'_>, context: &mut Context) -> Result<(), Stop> {
        match value {
            Wire::Str(text) => self.text.push(row, text),
            Wire::Int(value) => self.int.push(row, *value),
            Wire::Double(value) => self.double.push(row, *value),
            Wire::Bool(value) => self.bool.push(row, *value),
            Wire::Bytes(value) => self.bytes.push(row, value),
            Wire::Null | Wire::StringIndex | Wire::Array(_) | Wire::Map(_) => {
                context.scratch.clear();
                let references = any_value::write_text(value, context.depth_max, &mut context.scratch)?;
                for _ in 0..references {
                    context.report.warn(Warning::StringTable);
                }
                self.json.push(row, context.scratch.as_bytes());
            }
        }
        Ok(())
    }
}
