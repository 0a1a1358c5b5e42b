//! Exemplars: measurements that stand for those of a point, each perhaps with the span it was made in.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::{Float64Type, Int64Type};
use prism_model::{Intrinsic, Table, TableKind};

use super::super::report::Warning;
use super::super::resource::columns;
use super::super::{Context, Stop, attribute};
use super::point::{Number, Repeated};
use crate::columns::ColumnError;
use crate::columns::attributes::Attributes;
use crate::columns::scalar::{Scalars, nullable, nullable_ids, zero_filled};
use crate::wire::{FIXED64, LEN, Reader, Result as WireResult, key, known};

const TIME: u32 = key(2, FIXED64);
const AS_DOUBLE: u32 = key(3, FIXED64);
const SPAN_ID: u32 = key(4, LEN);
const TRACE_ID: u32 = key(5, LEN);
const AS_INT: u32 = key(6, FIXED64);
const ATTRIBUTE: u32 = key(7, LEN);
const KNOWN: u32 = known(&[2, 3, 4, 5, 6, 7]);

/// The fields of an exemplar, not looked into yet.
pub(super) struct ExemplarFields<'a> {
    pub(super) time: u64,
    value: Number,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    attributes: Range<usize>,
}

pub(super) fn find<'a>(message: &'a [u8], repeated: &mut Repeated<'a>) -> WireResult<()> {
    let start = repeated.inner.len();
    let mut exemplar =
        ExemplarFields { time: 0, value: Number::Absent, trace_id: &[], span_id: &[], attributes: start..start };
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            TIME => exemplar.time = reader.fixed64()?,
            AS_DOUBLE => exemplar.value = Number::Double(f64::from_bits(reader.fixed64()?)),
            SPAN_ID => exemplar.span_id = reader.bytes()?,
            TRACE_ID => exemplar.trace_id = reader.bytes()?,
            AS_INT => exemplar.value = Number::Int(reader.fixed64()? as i64),
            ATTRIBUTE => repeated.inner.push(reader.bytes()?),
            other => reader.skip(other, KNOWN)?,
        }
    }
    exemplar.attributes.end = repeated.inner.len();
    repeated.exemplars.push(exemplar);
    Ok(())
}

/// The exemplars table while it grows.
pub(super) struct Exemplars {
    parent: Vec<u32>,
    time: Scalars<i64>,
    value_int: Scalars<i64>,
    value_double: Scalars<f64>,
    trace_id: Scalars<[u8; 16]>,
    span_id: Scalars<[u8; 8]>,
    attributes: Attributes,
}

impl Exemplars {
    pub(super) fn new(context: &Context) -> Exemplars {
        Exemplars {
            parent: Vec::new(),
            time: Scalars::default(),
            value_int: Scalars::default(),
            value_double: Scalars::default(),
            trace_id: Scalars::default(),
            span_id: Scalars::default(),
            attributes: Attributes::new(TableKind::Exemplars, context.columns_max),
        }
    }

    /// Adds an exemplar of a point, whose filtered attributes are among `inner`.
    pub(super) fn push(
        &mut self,
        parent: u32,
        exemplar: &ExemplarFields<'_>,
        inner: &[&[u8]],
        context: &mut Context,
    ) -> Result<(), Stop> {
        let row = self.parent.len() as u32;
        self.parent.push(parent);
        self.time.push_unless(row, exemplar.time as i64, 0);
        match exemplar.value {
            Number::Absent => {}
            Number::Int(value) => self.value_int.push(row, value),
            Number::Double(value) => self.value_double.push(row, value),
        }
        match <[u8; 16]>::try_from(exemplar.trace_id) {
            Ok(id) => self.trace_id.push(row, id),
            Err(_) if exemplar.trace_id.is_empty() => {}
            Err(_) => context.report.warn(Warning::IdLength),
        }
        match <[u8; 8]>::try_from(exemplar.span_id) {
            Ok(id) => self.span_id.push(row, id),
            Err(_) if exemplar.span_id.is_empty() => {}
            Err(_) => context.report.warn(Warning::IdLength),
        }
        self.attributes.start_record();
        for message in &inner[exemplar.attributes.clone()] {
            attribute::push(&mut self.attributes, TableKind::Exemplars, row, message, context)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.parent.len();
        let parent: ArrayRef = Arc::new(UInt32Array::from(self.parent));
        let mut all = columns([
            (Intrinsic::Parent, Some(parent)),
            (Intrinsic::Time, zero_filled::<Int64Type>(self.time, rows)),
            (Intrinsic::ValueInt, nullable::<Int64Type>(self.value_int, rows)),
            (Intrinsic::ValueDouble, nullable::<Float64Type>(self.value_double, rows)),
            (Intrinsic::TraceId, nullable_ids(self.trace_id, rows)),
            (Intrinsic::SpanId, nullable_ids(self.span_id, rows)),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Exemplars, rows, all)?)
    }
}
