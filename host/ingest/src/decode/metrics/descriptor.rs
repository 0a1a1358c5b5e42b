//! Descriptors: what all points of a metric have in common, one row however often it is sent.
//!
//! A `Metric` message holds its points too, so that it is told apart by the bytes of what describes it, not by its own.

use std::hash::BuildHasher;

use arrow::datatypes::Int32Type;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use prism_model::{Intrinsic, Table, TableKind};

use super::super::resource::columns;
use super::super::{Context, Stop, attribute};
use crate::columns::ColumnError;
use crate::columns::attributes::Attributes;
use crate::columns::scalar::{Scalars, false_filled, zero_filled};
use crate::columns::text::Texts;

/// What describes a metric, but for its metadata. Texts are not yet checked to be UTF-8.
#[derive(Default)]
pub(super) struct Descriptor<'a> {
    pub(super) name: &'a [u8],
    pub(super) description: &'a [u8],
    pub(super) unit: &'a [u8],
    /// A [`prism_model::MetricType`].
    pub(super) ty: u8,
    pub(super) temporality: i32,
    pub(super) monotonic: bool,
}

/// The descriptors table while it grows.
pub(super) struct Descriptors {
    /// The bytes of what describes each row, one after the other; what follows the last end is looked for.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    rows: HashTable<u32>,
    hasher: RandomState,
    name: Texts,
    description: Texts,
    unit: Texts,
    ty: Scalars<i32>,
    temporality: Scalars<i32>,
    monotonic: Scalars<bool>,
    attributes: Attributes,
}

impl Descriptors {
    pub(super) fn new(context: &Context) -> Descriptors {
        Descriptors {
            bytes: Vec::new(),
            ends: Vec::new(),
            rows: HashTable::new(),
            hasher: RandomState::default(),
            name: Texts::default(),
            description: Texts::default(),
            unit: Texts::default(),
            ty: Scalars::default(),
            temporality: Scalars::default(),
            monotonic: Scalars::default(),
            attributes: Attributes::new(TableKind::Descriptors, context.columns_max),
        }
    }

    /// The row of a metric with this metadata.
    pub(super) fn intern(
        &mut self,
        descriptor: &Descriptor<'_>,
        metadata: &[&[u8]],
        context: &mut Context,
    ) -> Result<u32, Stop> {
        let start = self.ends.last().map_or(0, |end| *end);
        let bytes = &mut self.bytes;
        bytes.extend([descriptor.ty, u8::from(descriptor.monotonic)]);
        bytes.extend(descriptor.temporality.to_le_bytes());
        for part in [descriptor.name, descriptor.description, descriptor.unit].iter().chain(metadata) {
            // With its length, so that no two descriptors have the same bytes.
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let (ends, bytes, hasher) = (&self.ends, &self.bytes, &self.hasher);
        let of = |row: u32| {
            let start = if row == 0 { 0 } else { ends[row as usize - 1] };
            &bytes[start..ends[row as usize]]
        };
        let hash = hasher.hash_one(&bytes[start..]);
        if let Some(&row) = self.rows.find(hash, |&row| *of(row) == bytes[start..]) {
            self.bytes.truncate(start);
            return Ok(row);
        }
        let row = ends.len() as u32;
        self.rows.insert_unique(hash, row, |&row| hasher.hash_one(of(row)));
        self.ends.push(self.bytes.len());
        self.name.push_unless_empty(row, descriptor.name);
        self.description.push_unless_empty(row, descriptor.description);
        self.unit.push_unless_empty(row, descriptor.unit);
        self.ty.push(row, i32::from(descriptor.ty));
        self.temporality.push_unless(row, descriptor.temporality, 0);
        self.monotonic.push_unless(row, descriptor.monotonic, false);
        self.attributes.start_record();
        for message in metadata {
            attribute::push(&mut self.attributes, TableKind::Descriptors, row, message, context)?;
        }
        Ok(row)
    }

    pub(super) fn finish(self, context: &mut Context) -> Result<Table, ColumnError> {
        let rows = self.ends.len();
        let mut all = columns([
            (Intrinsic::Name, self.name.finish(rows)?),
            (Intrinsic::Unit, self.unit.finish(rows)?),
            (Intrinsic::Description, self.description.finish(rows)?),
            (Intrinsic::Type, zero_filled::<Int32Type>(self.ty, rows)),
            (Intrinsic::Temporality, zero_filled::<Int32Type>(self.temporality, rows)),
            (Intrinsic::Monotonic, false_filled(self.monotonic, rows)),
        ]);
        all.extend(self.attributes.finish(rows, context.request_bytes, &mut context.tail)?);
        Ok(Table::try_new(TableKind::Descriptors, rows, all)?)
    }
}
