//! Spans: an `ExportTraceServiceRequest` to a batch.
//!
//! A span is read in two steps: its fields are found, then, if it is to be kept, added to the columns. So a refused span leaves
//! no trace in them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, UInt32Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};
use prism_model::{Batch, Intrinsic, Limits, Signal, Table, TableKind};

use super::any_value::check_entry;
use super::envelope::{Envelopes, Items};
use super::report::{Refusal, Warning};
use super::resource::{columns, replace};
use super::{Context, DecodeError, Decoded, Stop, attribute, decode};
use crate::columns::ColumnError;
use crate::columns::attributes::Attributes;
use crate::columns::scalar::{Scalars, nullable_ids, zero_filled};
use crate::columns::text::Texts;
use crate::wire::{
    FIXED32, FIXED32_6, FIXED64, FIXED64_1, LEN, LEN_1, LEN_2, LEN_3, LEN_4, Reader, Result as WireResult, VARINT,
    VARINT_3, VARINT_4, VARINT_5, key, known, utf8,
};

/// Decodes the bytes of an `ExportTraceServiceRequest`, decompressed.
///
/// A span without a valid trace or span id, with a parent id of an impossible length, or with a time beyond int64 is refused
/// and counted; so is none of the others because of it. A parent id of 8 zero bytes says the same as none and is kept as none.
///
/// # Errors
/// [`DecodeError`]: the bytes are no such message, or pass one of the limits.
pub fn traces(body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    decode(body, limits, "ExportTraceServiceRequest", |context| walk(body, context), "spans")
}

fn walk(body: &[u8], context: &mut Context) -> Result<Batch, Stop> {
    let mut spans = Spans::new(context);
    let envelopes = Envelopes::walk(body, &mut spans, context)?;
    let mut tables = spans.finish(&envelopes, context)?;
    tables.extend(envelopes.finish(context)?);
    tables.push(std::mem::take(&mut context.tail).finish()?);
    Ok(Batch::try_new(Signal::Spans, Vec::new(), tables)?)
}

const TRACE_ID: u32 = key(1, LEN);
const SPAN_ID: u32 = key(2, LEN);
const TRACE_STATE: u32 = key(3, LEN);
const PARENT_ID: u32 = key(4, LEN);
const NAME: u32 = key(5, LEN);
const KIND: u32 = key(6, VARINT);
const START: u32 = key(7, FIXED64);
const END: u32 = key(8, FIXED64);
const ATTRIBUTE: u32 = key(9, LEN);
const DROPPED_ATTRIBUTES: u32 = key(10, VARINT);
const EVENT: u32 = key(11, LEN);
const DROPPED_EVENTS: u32 = key(12, VARINT);
const LINK: u32 = key(13, LEN);
const DROPPED_LINKS: u32 = key(14, VARINT);
const STATUS: u32 = key(15, LEN);
const FLAGS: u32 = key(16, FIXED32);
const KNOWN: u32 = known(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// The fields of a span, not looked into yet.
#[derive(Default)]
struct Fields<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
    parent_id: &'a [u8],
    name: &'a [u8],
    kind: i32,
    start: u64,
    end: u64,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
    status_message: &'a [u8],
    status: i32,
    flags: u32,
}

struct EventFields<'a> {
    time: u64,
    name: &'a [u8],
    dropped_attributes: u32,
    attributes: Range<usize>,
}

struct LinkFields<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
    flags: u32,
    dropped_attributes: u32,
    attributes: Range<usize>,
}

/// What repeats in a span, kept from one to the next so that nothing is allocated for each.
#[derive(Default)]
struct Repeated<'a> {
    attributes: Vec<&'a [u8]>,
    events: Vec<EventFields<'a>>,
    links: Vec<LinkFields<'a>>,
    /// Attributes of events and links.
    inner: Vec<&'a [u8]>,
}

/// The tables of spans, events and links while they grow.
struct Spans<'a> {
    repeated: Repeated<'a>,
    trace_id: Vec<[u8; 16]>,
    span_id: Vec<[u8; 8]>,
    parent_id: Scalars<[u8; 8]>,
    trace_state: Texts,
    flags: Scalars<u32>,
    name: Texts,
    kind: Scalars<i32>,
    time: Scalars<i64>,
    duration: Scalars<i64>,
    status: Scalars<i32>,
    status_message: Texts,
    dropped_attributes: Scalars<u32>,
    dropped_events: Scalars<u32>,
    dropped_links: Scalars<u32>,
    attributes: Attributes,
    events: Events,
    links: Links,
}

impl<'a> Items<'a> for Spans<'a> {
    #[inline]
    fn push(&mut self, message: &'a [u8], context: &mut Context) -> Result<(), Stop> {
        context.count_item()?;
        self.repeated.attributes.clear();
        self.repeated.events.clear();
        self.repeated.links.clear();
        self.repeated.inner.clear();
        let fields = find_fields(message, &mut self.repeated)?;
        match self.accept(&fields) {
            Ok((trace_id, span_id)) => self.keep(&fields, trace_id, span_id, context),
            Err(why) => {
                self.check(&fields, context)?;
                context.report.refuse(why);
                Ok(())
            }
        }
    }

    fn rows(&self) -> u32 {
        self.trace_id.len() as u32
    }
}

#[inline]
fn find_fields<'a>(message: &'a [u8], repeated: &mut Repeated<'a>) -> WireResult<Fields<'a>> {
    let mut fields = Fields::default();
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTE => repeated.attributes.push(reader.bytes()?),
            TRACE_ID => fields.trace_id = reader.bytes()?,
            SPAN_ID => fields.span_id = reader.bytes()?,
            TRACE_STATE => replace(&mut fields.trace_state, reader.bytes()?)?,
            PARENT_ID => fields.parent_id = reader.bytes()?,
            NAME => replace(&mut fields.name, reader.bytes()?)?,
            KIND => fields.kind = reader.varint()? as i32,
            START => fields.start = reader.fixed64()?,
            END => fields.end = reader.fixed64()?,
            DROPPED_ATTRIBUTES => fields.dropped_attributes = reader.varint()? as u32,
            EVENT => find_event(reader.bytes()?, repeated)?,
            DROPPED_EVENTS => fields.dropped_events = reader.varint()? as u32,
            LINK => find_link(reader.bytes()?, repeated)?,
            DROPPED_LINKS => fields.dropped_links = reader.varint()? as u32,
            STATUS => find_status(reader.bytes()?, &mut fields)?,
            FLAGS => fields.flags = reader.fixed32()?,
            other => reader.skip(other, KNOWN)?,
        }
    }
    Ok(fields)
}

/// Several status messages are merged by reading one after the other, since all of their fields are single values.
fn find_status<'a>(message: &'a [u8], fields: &mut Fields<'a>) -> WireResult<()> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            LEN_2 => replace(&mut fields.status_message, reader.bytes()?)?,
            VARINT_3 => fields.status = reader.varint()? as i32,
            other => reader.skip(other, known(&[2, 3]))?,
        }
    }
    Ok(())
}

fn find_event<'a>(message: &'a [u8], repeated: &mut Repeated<'a>) -> WireResult<()> {
    let start = repeated.inner.len();
    let mut event = EventFields { time: 0, name: &[], dropped_attributes: 0, attributes: start..start };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            FIXED64_1 => event.time = reader.fixed64()?,
            LEN_2 => replace(&mut event.name, reader.bytes()?)?,
            LEN_3 => repeated.inner.push(reader.bytes()?),
            VARINT_4 => event.dropped_attributes = reader.varint()? as u32,
            other => reader.skip(other, known(&[1, 2, 3, 4]))?,
        }
    }
    event.attributes.end = repeated.inner.len();
    repeated.events.push(event);
    Ok(())
}

fn find_link<'a>(message: &'a [u8], repeated: &mut Repeated<'a>) -> WireResult<()> {
    let start = repeated.inner.len();
    let mut link = LinkFields {
        trace_id: &[],
        span_id: &[],
        trace_state: &[],
        flags: 0,
        dropped_attributes: 0,
        attributes: start..start,
    };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            LEN_1 => link.trace_id = reader.bytes()?,
            LEN_2 => link.span_id = reader.bytes()?,
            LEN_3 => replace(&mut link.trace_state, reader.bytes()?)?,
            LEN_4 => repeated.inner.push(reader.bytes()?),
            VARINT_5 => link.dropped_attributes = reader.varint()? as u32,
            FIXED32_6 => link.flags = reader.fixed32()?,
            other => reader.skip(other, known(&[1, 2, 3, 4, 5, 6]))?,
        }
    }
    link.attributes.end = repeated.inner.len();
    repeated.links.push(link);
    Ok(())
}

impl<'a> Spans<'a> {
    fn new(context: &Context) -> Spans<'a> {
        Spans {
            repeated: Repeated::default(),
            trace_id: Vec::new(),
            span_id: Vec::new(),
            parent_id: Scalars::default(),
            trace_state: Texts::default(),
            flags: Scalars::default(),
            name: Texts::default(),
            kind: Scalars::default(),
            time: Scalars::default(),
            duration: Scalars::default(),
            status: Scalars::default(),
            status_message: Texts::default(),
            dropped_attributes: Scalars::default(),
            dropped_events: Scalars::default(),
            dropped_links: Scalars::default(),
            attributes: Attributes::new(TableKind::Items, context.columns_max),
            events: Events::new(context),
            links: Links::new(context),
        }
    }

    #[inline]
    fn accept(&self, fields: &Fields<'_>) -> Result<([u8; 16], [u8; 8]), Refusal> {
        let trace_id =
            <[u8; 16]>::try_from(fields.trace_id).ok().filter(|id| *id != [0; 16]).ok_or(Refusal::TraceId)?;
        let span_id = <[u8; 8]>::try_from(fields.span_id).ok().filter(|id| *id != [0; 8]).ok_or(Refusal::SpanId)?;
        if !matches!(fields.parent_id.len(), 0 | 8) {
            return Err(Refusal::ParentId);
        }
        let fits = |time: u64| i64::try_from(time).is_ok();
        if !fits(fields.start) || !fits(fields.end) || !self.repeated.events.iter().all(|e| fits(e.time)) {
            return Err(Refusal::Time);
        }
        Ok((trace_id, span_id))
    }

    #[inline]
    fn keep(
        &mut self,
        fields: &Fields<'a>,
        trace_id: [u8; 16],
        span_id: [u8; 8],
        context: &mut Context,
    ) -> Result<(), Stop> {
        let row = self.rows();
        self.trace_id.push(trace_id);
        self.span_id.push(span_id);
        if let Ok(id) = <[u8; 8]>::try_from(fields.parent_id) {
            self.parent_id.push_unless(row, id, [0; 8]);
        }
        self.trace_state.push_unless_empty(row, fields.trace_state);
        self.flags.push_unless(row, fields.flags, 0);
        self.name.push_unless_empty(row, fields.name);
        self.kind.push_unless(row, fields.kind, 0);
        self.time.push_unless(row, fields.start as i64, 0);
        self.duration.push_unless(row, fields.end.wrapping_sub(fields.start) as i64, 0);
        self.status.push_unless(row, fields.status, 0);
        self.status_message.push_unless_empty(row, fields.status_message);
        self.dropped_attributes.push_unless(row, fields.dropped_attributes, 0);
        self.dropped_events.push_unless(row, fields.dropped_events, 0);
        self.dropped_links.push_unless(row, fields.dropped_links, 0);
        self.attributes.start_record();
        for message in &self.repeated.attributes {
            attribute::push(&mut self.attributes, TableKind::Items, row, message, context)?;
        }
        for event in &self.repeated.events {
            self.events.push(row, event, &self.repeated.inner, context)?;
        }
        for link in &self.repeated.links {
            self.links.push(row, link, &self.repeated.inner, context)?;
        }
        Ok(())
    }

    /// Looks into a refused span as far as prost would, since it may make the whole request undecodable.
    #[cold]
    fn check(&self, fields: &Fields<'_>, context: &Context) -> WireResult<()> {
        let events = self.repeated.events.iter().map(|e| e.name);
        let links = self.repeated.links.iter().map(|l| l.trace_state);
        for text in events.chain(links).chain([fields.trace_state, fields.name, fields.status_message]) {
            utf8(text)?;
        }
        let attributes = self.repeated.attributes.iter().chain(&self.repeated.inner);
        attributes.into_iter().try_for_each(|message| check_entry(message, context.depth_max))
    }

    fn finish(self, envelopes: &Envelopes<'a>, context: &mut Context) -> Result<Vec<Table>, ColumnError> {
        let rows = self.trace_id.len();
        let mut all = columns([
            (Intrinsic::Resource, envelopes.resource_of.finish()),
            (Intrinsic::Scope, envelopes.scope_of.finish()),
            (Intrinsic::TraceId, ids(self.trace_id)),
            (Intrinsic::SpanId, ids(self.span_id)),
            (Intrinsic::ParentId, nullable_ids(self.parent_id, rows)),
            (Intrinsic::TraceState, self.trace_state.finish(rows)?),
            (Intrinsic::Flags, zero_filled::<UInt32Type>(self.flags, rows)),
            (Intrinsic::Name, self.name.finish(rows)?),
            (Intrinsic::Kind, zero_filled::<Int32Type>(self.kind, rows)),
            (Intrinsic::Time, zero_filled::<Int64Type>(self.time, rows)),
            (Intrinsic::Duration, zero_filled::<Int64Type>(self.duration, rows)),
            (Intrinsic::Status, zero_filled::<Int32Type>(self.status, rows)),
            (Intrinsic::StatusMessage, self.status_message.finish(rows)?),
            (Intrinsic::DroppedAttributes, zero_filled::<UInt32Type>(self.dropped_attributes, rows)),
            (Intrinsic::DroppedEvents, zero_filled::<UInt32Type>(self.dropped_events, rows)),
            (Intrinsic::DroppedLinks, zero_filled::<UInt32Type>(self.dropped_links, rows)),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        let spans = Table::try_new(TableKind::Items, rows, all)?;
        Ok(vec![spans, self.events.finish(context)?, self.links.finish(context)?])
    }
}

fn ids<const N: usize>(ids: Vec<[u8; N]>) -> Option<ArrayRef> {
    if ids.is_empty() {
        return None;
    }
    Some(Arc::new(FixedSizeBinaryArray::new(N as i32, Buffer::from_vec(ids.into_flattened()), None)))
}

/// The events table while it grows.
struct Events {
    parent: Vec<u32>,
    time: Scalars<i64>,
    name: Texts,
    dropped_attributes: Scalars<u32>,
    attributes: Attributes,
}

impl Events {
    fn new(context: &Context) -> Events {
        Events {
            parent: Vec::new(),
            time: Scalars::default(),
            name: Texts::default(),
            dropped_attributes: Scalars::default(),
            attributes: Attributes::new(TableKind::Events, context.columns_max),
        }
    }

    fn push(
        &mut self,
        parent: u32,
        event: &EventFields<'_>,
        inner: &[&[u8]],
        context: &mut Context,
    ) -> Result<(), Stop> {
        let row = self.parent.len() as u32;
        self.parent.push(parent);
        self.time.push_unless(row, event.time as i64, 0);
        self.name.push_unless_empty(row, event.name);
        self.dropped_attributes.push_unless(row, event.dropped_attributes, 0);
        self.attributes.start_record();
        for message in &inner[event.attributes.clone()] {
            attribute::push(&mut self.attributes, TableKind::Events, row, message, context)?;
        }
        Ok(())
    }

    fn finish(self, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.parent.len();
        let parent: ArrayRef = Arc::new(UInt32Array::from(self.parent));
        let mut all = columns([
            (Intrinsic::Parent, Some(parent)),
            (Intrinsic::Time, zero_filled::<Int64Type>(self.time, rows)),
            (Intrinsic::Name, self.name.finish(rows)?),
            (Intrinsic::DroppedAttributes, zero_filled::<UInt32Type>(self.dropped_attributes, rows)),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Events, rows, all)?)
    }
}

/// The links table while it grows.
struct Links {
    parent: Vec<u32>,
    trace_id: Scalars<[u8; 16]>,
    span_id: Scalars<[u8; 8]>,
    trace_state: Texts,
    flags: Scalars<u32>,
    dropped_attributes: Scalars<u32>,
    attributes: Attributes,
}

impl Links {
    fn new(context: &Context) -> Links {
        Links {
            parent: Vec::new(),
            trace_id: Scalars::default(),
            span_id: Scalars::default(),
            trace_state: Texts::default(),
            flags: Scalars::default(),
            dropped_attributes: Scalars::default(),
            attributes: Attributes::new(TableKind::Links, context.columns_max),
        }
    }

    fn push(&mut self, parent: u32, link: &LinkFields<'_>, inner: &[&[u8]], context: &mut Context) -> Result<(), Stop> {
        let row = self.parent.len() as u32;
        self.parent.push(parent);
        match <[u8; 16]>::try_from(link.trace_id) {
            Ok(id) => self.trace_id.push(row, id),
            Err(_) if link.trace_id.is_empty() => {}
            Err(_) => context.report.warn(Warning::IdLength),
        }
        match <[u8; 8]>::try_from(link.span_id) {
            Ok(id) => self.span_id.push(row, id),
            Err(_) if link.span_id.is_empty() => {}
            Err(_) => context.report.warn(Warning::IdLength),
        }
        self.trace_state.push_unless_empty(row, link.trace_state);
        self.flags.push_unless(row, link.flags, 0);
        self.dropped_attributes.push_unless(row, link.dropped_attributes, 0);
        self.attributes.start_record();
        for message in &inner[link.attributes.clone()] {
            attribute::push(&mut self.attributes, TableKind::Links, row, message, context)?;
        }
        Ok(())
    }

    fn finish(self, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.parent.len();
        let parent: ArrayRef = Arc::new(UInt32Array::from(self.parent));
        let mut all = columns([
            (Intrinsic::Parent, Some(parent)),
            (Intrinsic::TraceId, nullable_ids(self.trace_id, rows)),
            (Intrinsic::SpanId, nullable_ids(self.span_id, rows)),
            (Intrinsic::TraceState, self.trace_state.finish(rows)?),
            (Intrinsic::Flags, zero_filled::<UInt32Type>(self.flags, rows)),
            (Intrinsic::DroppedAttributes, zero_filled::<UInt32Type>(self.dropped_attributes, rows)),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Links, rows, all)?)
    }
}
