//! The fields of a data point of each type, found and not looked into.

use prism_model::MetricType;

use super::super::Context;
use super::super::any_value::check_entry;
use super::distribution::{Distribution, Room};
use super::exemplar::{self, ExemplarFields};
use crate::columns::lists::Lists;
use crate::wire::{FIXED64, Fault, LEN, Reader, Result, VARINT, WireError, key, known};

/// The value of a number point or an exemplar.
#[derive(Clone, Copy, Default)]
pub(super) enum Number {
    #[default]
    Absent,
    Int(i64),
    Double(f64),
}

/// The single fields of a point of any type; what its type does not have is as it is here by default.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) start: u64,
    pub(super) time: u64,
    pub(super) flags: u32,
    pub(super) value: Number,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    /// `None` where there is no such message.
    pub(super) positive_offset: Option<i32>,
    pub(super) negative_offset: Option<i32>,
}

/// What repeats in a point, kept from one to the next so that nothing is allocated for each.
#[derive(Default)]
pub(super) struct Repeated<'a> {
    pub(super) attributes: Vec<&'a [u8]>,
    pub(super) exemplars: Vec<ExemplarFields<'a>>,
    /// Attributes of exemplars.
    pub(super) inner: Vec<&'a [u8]>,
}

impl Repeated<'_> {
    fn clear(&mut self) {
        self.attributes.clear();
        self.exemplars.clear();
        self.inner.clear();
    }

    /// Looks into the attributes of a point that is not kept as far as prost would, since they may make the whole request
    /// undecodable.
    #[cold]
    pub(super) fn check(&self, context: &Context) -> Result<()> {
        let mut all = self.attributes.iter().chain(&self.inner);
        all.try_for_each(|message| check_entry(message, context.depth_max))
    }
}

const START: u32 = key(2, FIXED64);
const TIME: u32 = key(3, FIXED64);

/// Reads a point. Its lists are left in the columns, to be kept or forgotten.
#[inline]
pub(super) fn find<'a>(
    ty: MetricType,
    message: &'a [u8],
    repeated: &mut Repeated<'a>,
    lists: &mut Distribution,
) -> Result<Fields> {
    repeated.clear();
    match ty {
        MetricType::Gauge | MetricType::Sum => find_number(message, repeated),
        MetricType::Histogram => find_histogram(message, repeated, lists),
        MetricType::ExponentialHistogram => find_exponential(message, repeated, lists),
        MetricType::Summary => find_summary(message, repeated, lists),
    }
}

#[inline]
fn find_number<'a>(message: &'a [u8], repeated: &mut Repeated<'a>) -> Result<Fields> {
    const AS_DOUBLE: u32 = key(4, FIXED64);
    const EXEMPLAR: u32 = key(5, LEN);
    const AS_INT: u32 = key(6, FIXED64);
    const ATTRIBUTE: u32 = key(7, LEN);
    const FLAGS: u32 = key(8, VARINT);
    const KNOWN: u32 = known(&[2, 3, 4, 5, 6, 7, 8]);
    let mut fields = Fields::default();
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTE => repeated.attributes.push(reader.bytes()?),
            START => fields.start = reader.fixed64()?,
            TIME => fields.time = reader.fixed64()?,
            AS_DOUBLE => fields.value = Number::Double(f64::from_bits(reader.fixed64()?)),
            AS_INT => fields.value = Number::Int(reader.fixed64()? as i64),
            EXEMPLAR => exemplar::find(reader.bytes()?, repeated)?,
            FLAGS => fields.flags = reader.varint()? as u32,
            other => reader.skip(other, KNOWN)?,
        }
    }
    Ok(fields)
}

fn find_histogram<'a>(message: &'a [u8], repeated: &mut Repeated<'a>, lists: &mut Distribution) -> Result<Fields> {
    const COUNT: u32 = key(4, FIXED64);
    const SUM: u32 = key(5, FIXED64);
    const BUCKET_COUNTS: u32 = key(6, LEN);
    const BUCKET_COUNT: u32 = key(6, FIXED64);
    const EXPLICIT_BOUNDS: u32 = key(7, LEN);
    const EXPLICIT_BOUND: u32 = key(7, FIXED64);
    const EXEMPLAR: u32 = key(8, LEN);
    const ATTRIBUTE: u32 = key(9, LEN);
    const FLAGS: u32 = key(10, VARINT);
    const MIN: u32 = key(11, FIXED64);
    const MAX: u32 = key(12, FIXED64);
    const KNOWN: u32 = known(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let mut fields = Fields::default();
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTE => repeated.attributes.push(reader.bytes()?),
            START => fields.start = reader.fixed64()?,
            TIME => fields.time = reader.fixed64()?,
            COUNT => fields.count = reader.fixed64()?,
            SUM => fields.sum = Some(f64::from_bits(reader.fixed64()?)),
            BUCKET_COUNTS => {
                packed_fixed(reader.bytes()?, &mut lists.bucket_counts, &mut lists.room, i64::from_le_bytes)?;
            }
            BUCKET_COUNT => {
                lists.room.take(1, message)?;
                lists.bucket_counts.push(reader.fixed64()? as i64);
            }
            EXPLICIT_BOUNDS => {
                packed_fixed(reader.bytes()?, &mut lists.explicit_bounds, &mut lists.room, f64::from_le_bytes)?;
            }
            EXPLICIT_BOUND => {
                lists.room.take(1, message)?;
                lists.explicit_bounds.push(f64::from_bits(reader.fixed64()?));
            }
            EXEMPLAR => exemplar::find(reader.bytes()?, repeated)?,
            FLAGS => fields.flags = reader.varint()? as u32,
            MIN => fields.min = Some(f64::from_bits(reader.fixed64()?)),
            MAX => fields.max = Some(f64::from_bits(reader.fixed64()?)),
            other => reader.skip(other, KNOWN)?,
        }
    }
    Ok(fields)
}

fn find_exponential<'a>(message: &'a [u8], repeated: &mut Repeated<'a>, lists: &mut Distribution) -> Result<Fields> {
    const ATTRIBUTE: u32 = key(1, LEN);
    const COUNT: u32 = key(4, FIXED64);
    const SUM: u32 = key(5, FIXED64);
    const SCALE: u32 = key(6, VARINT);
    const ZERO_COUNT: u32 = key(7, FIXED64);
    const POSITIVE: u32 = key(8, LEN);
    const NEGATIVE: u32 = key(9, LEN);
    const FLAGS: u32 = key(10, VARINT);
    const EXEMPLAR: u32 = key(11, LEN);
    const MIN: u32 = key(12, FIXED64);
    const MAX: u32 = key(13, FIXED64);
    const ZERO_THRESHOLD: u32 = key(14, FIXED64);
    const KNOWN: u32 = known(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let mut fields = Fields::default();
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTE => repeated.attributes.push(reader.bytes()?),
            START => fields.start = reader.fixed64()?,
            TIME => fields.time = reader.fixed64()?,
            COUNT => fields.count = reader.fixed64()?,
            SUM => fields.sum = Some(f64::from_bits(reader.fixed64()?)),
            SCALE => fields.scale = zigzag(reader.varint()?),
            ZERO_COUNT => fields.zero_count = reader.fixed64()?,
            POSITIVE => {
                let (offset, counts) = (&mut fields.positive_offset, &mut lists.positive_counts);
                find_buckets(reader.bytes()?, offset, counts, &mut lists.room)?;
            }
            NEGATIVE => {
                let (offset, counts) = (&mut fields.negative_offset, &mut lists.negative_counts);
                find_buckets(reader.bytes()?, offset, counts, &mut lists.room)?;
            }
            FLAGS => fields.flags = reader.varint()? as u32,
            EXEMPLAR => exemplar::find(reader.bytes()?, repeated)?,
            MIN => fields.min = Some(f64::from_bits(reader.fixed64()?)),
            MAX => fields.max = Some(f64::from_bits(reader.fixed64()?)),
            ZERO_THRESHOLD => fields.zero_threshold = f64::from_bits(reader.fixed64()?),
            other => reader.skip(other, KNOWN)?,
        }
    }
    Ok(fields)
}

/// Several messages of buckets are merged by reading one after the other: the last offset counts, the counts add up to a list.
fn find_buckets(message: &[u8], offset: &mut Option<i32>, counts: &mut Lists<i64>, room: &mut Room) -> Result<()> {
    const OFFSET: u32 = key(1, VARINT);
    const COUNTS: u32 = key(2, LEN);
    const COUNT: u32 = key(2, VARINT);
    let offset = offset.get_or_insert(0);
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            OFFSET => *offset = zigzag(reader.varint()?),
            COUNTS => {
                let bytes = reader.bytes()?;
                // Each varint has one byte without the mark that more follow.
                room.take(bytes.iter().filter(|byte| **byte < 0x80).count(), bytes)?;
                let mut packed = Reader::new(bytes);
                while !packed.is_at_end() {
                    counts.push(packed.varint()? as i64);
                }
            }
            COUNT => {
                room.take(1, message)?;
                counts.push(reader.varint()? as i64);
            }
            other => reader.skip(other, known(&[1, 2]))?,
        }
    }
    Ok(())
}

fn find_summary<'a>(message: &'a [u8], repeated: &mut Repeated<'a>, lists: &mut Distribution) -> Result<Fields> {
    const COUNT: u32 = key(4, FIXED64);
    const SUM: u32 = key(5, FIXED64);
    const QUANTILE: u32 = key(6, LEN);
    const ATTRIBUTE: u32 = key(7, LEN);
    const FLAGS: u32 = key(8, VARINT);
    const KNOWN: u32 = known(&[2, 3, 4, 5, 6, 7, 8]);
    // Not optional here: a sum that is left out is 0.
    let mut fields = Fields { sum: Some(0.0), ..Fields::default() };
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            ATTRIBUTE => repeated.attributes.push(reader.bytes()?),
            START => fields.start = reader.fixed64()?,
            TIME => fields.time = reader.fixed64()?,
            COUNT => fields.count = reader.fixed64()?,
            SUM => fields.sum = Some(f64::from_bits(reader.fixed64()?)),
            QUANTILE => find_quantile(reader.bytes()?, lists)?,
            FLAGS => fields.flags = reader.varint()? as u32,
            other => reader.skip(other, KNOWN)?,
        }
    }
    Ok(fields)
}

fn find_quantile(message: &[u8], lists: &mut Distribution) -> Result<()> {
    const QUANTILE: u32 = key(1, FIXED64);
    const VALUE: u32 = key(2, FIXED64);
    let (mut quantile, mut value) = (0.0, 0.0);
    let mut reader = Reader::new(message);
    while let Some(key) = reader.next()? {
        match key {
            QUANTILE => quantile = f64::from_bits(reader.fixed64()?),
            VALUE => value = f64::from_bits(reader.fixed64()?),
            other => reader.skip(other, known(&[1, 2]))?,
        }
    }
    lists.room.take(2, message)?;
    lists.quantiles.push(quantile);
    lists.quantile_values.push(value);
    Ok(())
}

/// Values of 8 bytes each, one after the other.
fn packed_fixed<T: Copy>(
    bytes: &[u8],
    into: &mut Lists<T>,
    room: &mut Room,
    read: impl Fn([u8; 8]) -> T,
) -> Result<()> {
    let (values, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(WireError::at(Fault::Truncated, rest));
    }
    room.take(values.len(), bytes)?;
    into.extend(values.iter().map(|value| read(*value)));
    Ok(())
}

/// A `sint32` from its varint.
fn zigzag(varint: u64) -> i32 {
    let n = varint as u32;
    (n >> 1) as i32 ^ -((n & 1) as i32)
}
