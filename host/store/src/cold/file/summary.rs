//! What is known of a file once it is written: all that its commit needs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use prism_model::{ColumnId, Redaction, TableKind};

use crate::cold::delta::{ColumnStats, Scalar};
use crate::control::Create;

/// A file that was written.
#[derive(Clone, Debug)]
pub struct FileSummary {
    /// `Lost` where there was an object of this name already: then nothing was written.
    pub created: Create,
    /// Rows.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Of those the last ones, which [`super::ColdFile::open`] reads.
    pub footer_bytes: u64,
    /// Row groups.
    pub row_groups: usize,
    /// Smallest event time ([`prism_model::Batch::event_times`]), unix nanoseconds.
    pub time_min: i64,
    /// Largest event time, included.
    pub time_max: i64,
    /// Flat columns with their statistics, in the order of the schema. Lists and maps have none. Bounds are exact values; there are
    /// none for ids, bytes, doubles with a NaN, texts beyond 32 bytes, and columns named as personal.
    pub columns: Vec<ColumnStats>,
    /// The columns with their names outside; the metadata of a field tell the real key where its name does not.
    pub schema: Arc<Schema>,
    /// The attribute columns that have a value in some row: what holds its place among the table's columns.
    pub attributes: Vec<(TableKind, ColumnId)>,
    /// Fingerprints (xxh3-64) of the trace ids of items, links and exemplars; ascending, distinct.
    pub traces: Vec<u64>,
    /// The rollup cube as bytes, where there is one.
    pub cube: Option<Vec<u8>>,
    /// What redactors changed in the rows, summed.
    pub redactions: Vec<Redaction>,
}

/// Statistics of the flat columns over all row groups.
pub(super) fn columns(schema: &Schema, metadata: &ParquetMetaData) -> Vec<ColumnStats> {
    let leaves = metadata.file_metadata().schema_descr();
    let mut out = Vec::new();
    for (leaf, column) in leaves.columns().iter().enumerate() {
        let path = column.path().parts();
        let ([name], Ok(field)) = (path, schema.field_with_name(&path[0])) else { continue };
        let chunks = || metadata.row_groups().iter().map(move |g| g.column(leaf));
        let nulls = chunks().map(|c| c.statistics().and_then(Statistics::null_count_opt)).sum::<Option<u64>>();
        let Some(nulls) = nulls else { continue };
        let mut range: Option<(Scalar, Scalar)> = None;
        let mut known = true;
        for chunk in chunks() {
            let statistics = chunk.statistics();
            let empty = statistics.and_then(Statistics::null_count_opt) == Some(chunk.num_values() as u64);
            match statistics.and_then(|s| bounds(s, field.data_type())) {
                Some(bounds) => {
                    range = Some(match range {
                        None => bounds,
                        Some((min, max)) => (least(min, bounds.0), most(max, bounds.1)),
                    });
                }
                None => known &= empty,
            }
        }
        out.push(ColumnStats { name: name.clone(), nulls, range: range.filter(|_| known) });
    }
    out
}

fn bounds(statistics: &Statistics, data_type: &DataType) -> Option<(Scalar, Scalar)> {
    match (statistics, data_type) {
        (Statistics::Int32(s), DataType::Int32) => {
            Some((Scalar::Int(i64::from(*s.min_opt()?)), Scalar::Int(i64::from(*s.max_opt()?))))
        }
        (Statistics::Int64(s), DataType::Int64) => Some((Scalar::Int(*s.min_opt()?), Scalar::Int(*s.max_opt()?))),
        (Statistics::Int64(s), DataType::Timestamp(..)) => {
            Some((Scalar::Micros(*s.min_opt()?), Scalar::Micros(*s.max_opt()?)))
        }
        (Statistics::Double(s), _) => {
            let (min, max) = (*s.min_opt()?, *s.max_opt()?);
            (!min.is_nan() && !max.is_nan()).then_some((Scalar::Double(min), Scalar::Double(max)))
        }
        (Statistics::ByteArray(s), DataType::Utf8) if s.min_is_exact() && s.max_is_exact() => {
            let text = |b: &parquet::data_type::ByteArray| b.as_utf8().ok().map(|t| Scalar::Text(t.to_owned()));
            Some((text(s.min_opt()?)?, text(s.max_opt()?)?))
        }
        _ => None,
    }
}

fn least(a: Scalar, b: Scalar) -> Scalar {
    if less(&b, &a) { b } else { a }
}

fn most(a: Scalar, b: Scalar) -> Scalar {
    if less(&a, &b) { b } else { a }
}

fn less(a: &Scalar, b: &Scalar) -> bool {
    match (a, b) {
        (Scalar::Int(a), Scalar::Int(b)) | (Scalar::Micros(a), Scalar::Micros(b)) => a < b,
        (Scalar::Double(a), Scalar::Double(b)) => a < b,
        (Scalar::Text(a), Scalar::Text(b)) => a < b,
        _ => false,
    }
}
