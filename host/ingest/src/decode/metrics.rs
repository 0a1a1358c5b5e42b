//! Data points: an `ExportMetricsServiceRequest` to a batch.
//!
//! ```text
//! point (the fields of a point) -> distribution (columns of histograms and summaries), exemplar (a table), here (the rest)
//! descriptor (what a metric's points have in common, interned)
//! ```
//!
//! A point is read in two steps: its fields are found, then, if it is to be kept, added to the columns. Only lists of numbers
//! grow while they are read; those of a refused point are forgotten.

mod point;
mod distribution;
mod exemplar;
mod descriptor;

use arrow::datatypes::{Float64Type, Int64Type, UInt32Type};
use prism_model::{Batch, Intrinsic, Limits, MetricType, Signal, Table, TableKind};

use super::any_value::check_entry;
use super::envelope::{Envelopes, Items};
use super::report::{Refusal, Warning};
use super::resource::{Runs, columns, replace};
use super::{Context, DecodeError, Decoded, Stop, attribute, decode};
use crate::columns::ColumnError;
use crate::columns::attributes::Attributes;
use crate::columns::scalar::{Scalars, nullable, zero_filled};
use crate::wire::{LEN, LEN_1, Reader, Result as WireResult, VARINT_2, VARINT_3, key, known, utf8};
use descriptor::{Descriptor, Descriptors};
use distribution::Distribution;
use exemplar::Exemplars;
use point::{Fields, Number, Repeated};

/// Decodes the bytes of an `ExportMetricsServiceRequest`, decompressed.
///
/// A point (or an exemplar of it) with a time beyond int64 or a count beyond int64 is refused and counted; so is none of the
/// others because of it. A metric without points leaves nothing. Points whose buckets and bounds do not match are kept as sent,
/// with a warning, and exemplars with an id of an impossible length without it.
///
/// # Errors
/// [`DecodeError`]: the bytes are no such message, or pass one of the limits.
pub fn metrics(body: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    decode(body, limits, "ExportMetricsServiceRequest", |context| walk(body, context), "data points")
}

fn walk(body: &[u8], context: &mut Context) -> Result<Batch, Stop> {
    let mut points = Points::new(context);
    let envelopes = Envelopes::walk(body, &mut points, context)?;
    let mut tables = points.finish(&envelopes, context)?;
    tables.extend(envelopes.finish(context)?);
    tables.push(std::mem::take(&mut context.tail).finish()?);
    Ok(Batch::try_new(Signal::Metrics, Vec::new(), tables)?)
}

const NAME: u32 = key(1, LEN);
const DESCRIPTION: u32 = key(2, LEN);
const UNIT: u32 = key(3, LEN);
const GAUGE: u32 = key(5, LEN);
const SUM: u32 = key(7, LEN);
const HISTOGRAM: u32 = key(9, LEN);
const EXPONENTIAL_HISTOGRAM: u32 = key(10, LEN);
const SUMMARY: u32 = key(11, LEN);
const METADATA: u32 = key(12, LEN);
const KNOWN: u32 = known(&[1, 2, 3, 5, 7, 9, 10, 11, 12]);

/// The table of points while it grows, and those that hang on it.
struct Points<'a> {
    repeated: Repeated<'a>,
    /// The metric at hand: its metadata, and the messages of its data, which are merged by reading one after the other.
    metadata: Vec<&'a [u8]>,
    data: Vec<&'a [u8]>,
    rows: u32,
    metric_of: Runs,
    time: Scalars<i64>,
    start_time: Scalars<i64>,
    flags: Scalars<u32>,
    value_int: Scalars<i64>,
    value_double: Scalars<f64>,
    distribution: Distribution,
    attributes: Attributes,
    exemplars: Exemplars,
    descriptors: Descriptors,
}

impl<'a> Items<'a> for Points<'a> {
    /// Adds the points of a `Metric`.
    fn push(&mut self, message: &'a [u8], context: &mut Context) -> Result<(), Stop> {
        self.metadata.clear();
        self.data.clear();
        let mut ty = None;
        let mut descriptor = Descriptor::default();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            let data_of = match field {
                NAME => {
                    replace(&mut descriptor.name, reader.bytes()?)?;
                    continue;
                }
                DESCRIPTION => {
                    replace(&mut descriptor.description, reader.bytes()?)?;
                    continue;
                }
                UNIT => {
                    replace(&mut descriptor.unit, reader.bytes()?)?;
                    continue;
                }
                METADATA => {
                    self.metadata.push(reader.bytes()?);
                    continue;
                }
                GAUGE => MetricType::Gauge,
                SUM => MetricType::Sum,
                HISTOGRAM => MetricType::Histogram,
                EXPONENTIAL_HISTOGRAM => MetricType::ExponentialHistogram,
                SUMMARY => MetricType::Summary,
                other => {
                    reader.skip(other, KNOWN)?;
                    continue;
                }
            };
            // Data of another type than before replaces it.
            if let Some(before) = ty.replace(data_of).filter(|before| *before != data_of) {
                self.check_data(before, context)?;
                self.data.clear();
            }
            self.data.push(reader.bytes()?);
        }
        let before = self.rows;
        if let Some(ty) = ty {
            descriptor.ty = ty as u8;
            let data = std::mem::take(&mut self.data);
            for message in &data {
                self.data(ty, message, &mut descriptor, context)?;
            }
            self.data = data;
        }
        if self.rows > before {
            let row = self.descriptors.intern(&descriptor, &self.metadata, context)?;
            self.metric_of.push(row, self.rows - before);
        } else {
            [descriptor.name, descriptor.description, descriptor.unit]
                .into_iter()
                .try_for_each(|t| utf8(t).map(drop))?;
            self.metadata.iter().try_for_each(|entry| check_entry(entry, context.depth_max))?;
        }
        Ok(())
    }

    fn rows(&self) -> u32 {
        self.rows
    }
}

impl<'a> Points<'a> {
    fn new(context: &Context) -> Points<'a> {
        Points {
            repeated: Repeated::default(),
            metadata: Vec::new(),
            data: Vec::new(),
            rows: 0,
            metric_of: Runs::default(),
            time: Scalars::default(),
            start_time: Scalars::default(),
            flags: Scalars::default(),
            value_int: Scalars::default(),
            value_double: Scalars::default(),
            distribution: Distribution::new(context),
            attributes: Attributes::new(TableKind::Items, context.columns_max),
            exemplars: Exemplars::new(context),
            descriptors: Descriptors::new(context),
        }
    }

    /// Walks a `Gauge`, `Sum`, `Histogram`, `ExponentialHistogram` or `Summary`, which hold their points alike.
    fn data(
        &mut self,
        ty: MetricType,
        message: &'a [u8],
        descriptor: &mut Descriptor<'a>,
        context: &mut Context,
    ) -> Result<(), Stop> {
        let known = data_known(ty);
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next()? {
            match field {
                LEN_1 => self.point(ty, reader.bytes()?, context)?,
                VARINT_2 if has(known, 2) => descriptor.temporality = reader.varint()? as i32,
                VARINT_3 if has(known, 3) => descriptor.monotonic = reader.varint()? != 0,
                other => reader.skip(other, known)?,
            }
        }
        Ok(())
    }

    #[inline]
    fn point(&mut self, ty: MetricType, message: &'a [u8], context: &mut Context) -> Result<(), Stop> {
        context.count_item()?;
        let fields = point::find(ty, message, &mut self.repeated, &mut self.distribution)?;
        match self.refusal(&fields) {
            None => self.keep(ty, &fields, context),
            Some(why) => {
                self.repeated.check(context)?;
                self.distribution.forget();
                context.report.refuse(why);
                Ok(())
            }
        }
    }

    #[inline]
    fn refusal(&self, fields: &Fields) -> Option<Refusal> {
        let fits = |n: u64| i64::try_from(n).is_ok();
        if !fits(fields.time) || !fits(fields.start) || !self.repeated.exemplars.iter().all(|e| fits(e.time)) {
            return Some(Refusal::Time);
        }
        let counts = fits(fields.count) && fits(fields.zero_count) && self.distribution.counts_fit();
        (!counts).then_some(Refusal::Count)
    }

    #[inline]
    fn keep(&mut self, ty: MetricType, fields: &Fields, context: &mut Context) -> Result<(), Stop> {
        let row = self.rows;
        self.rows += 1;
        self.time.push_unless(row, fields.time as i64, 0);
        self.start_time.push_unless(row, fields.start as i64, 0);
        self.flags.push_unless(row, fields.flags, 0);
        match fields.value {
            Number::Absent => {}
            Number::Int(value) => self.value_int.push(row, value),
            Number::Double(value) => self.value_double.push(row, value),
        }
        if !matches!(ty, MetricType::Gauge | MetricType::Sum) && !self.distribution.keep(ty, row, fields) {
            context.report.warn(Warning::Buckets);
        }
        self.attributes.start_record();
        for message in &self.repeated.attributes {
            attribute::push(&mut self.attributes, TableKind::Items, row, message, context)?;
        }
        for exemplar in &self.repeated.exemplars {
            self.exemplars.push(row, exemplar, &self.repeated.inner, context)?;
        }
        Ok(())
    }

    /// Refuses data that is not kept, where prost would.
    #[cold]
    fn check_data(&mut self, ty: MetricType, context: &Context) -> WireResult<()> {
        let known = data_known(ty);
        for message in &self.data {
            let mut reader = Reader::new(message);
            while let Some(field) = reader.next()? {
                match field {
                    LEN_1 => {
                        let found = point::find(ty, reader.bytes()?, &mut self.repeated, &mut self.distribution);
                        self.distribution.forget();
                        found?;
                        self.repeated.check(context)?;
                    }
                    VARINT_2 if has(known, 2) => drop(reader.varint()?),
                    VARINT_3 if has(known, 3) => drop(reader.varint()?),
                    other => reader.skip(other, known)?,
                }
            }
        }
        Ok(())
    }

    fn finish(self, envelopes: &Envelopes<'a>, context: &mut Context) -> Result<Vec<Table>, ColumnError> {
        let rows = self.rows as usize;
        let mut all = columns([
            (Intrinsic::Resource, envelopes.resource_of.finish()),
            (Intrinsic::Scope, envelopes.scope_of.finish()),
            (Intrinsic::Metric, self.metric_of.finish()),
            (Intrinsic::Time, zero_filled::<Int64Type>(self.time, rows)),
            (Intrinsic::StartTime, zero_filled::<Int64Type>(self.start_time, rows)),
            (Intrinsic::Flags, zero_filled::<UInt32Type>(self.flags, rows)),
            (Intrinsic::ValueInt, nullable::<Int64Type>(self.value_int, rows)),
            (Intrinsic::ValueDouble, nullable::<Float64Type>(self.value_double, rows)),
        ]);
        all.extend(self.distribution.finish(rows)?);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        let points = Table::try_new(TableKind::Items, rows, all)?;
        Ok(vec![self.descriptors.finish(context)?, points, self.exemplars.finish(context)?])
    }
}

/// The fields of the message that holds the points: 1 the points, 2 their temporality, 3 whether they only grow.
fn data_known(ty: MetricType) -> u32 {
    match ty {
        MetricType::Gauge | MetricType::Summary => known(&[1]),
        MetricType::Histogram | MetricType::ExponentialHistogram => known(&[1, 2]),
        MetricType::Sum => known(&[1, 2, 3]),
    }
}

fn has(known: u32, field: u32) -> bool {
    known >> field & 1 == 1
}
