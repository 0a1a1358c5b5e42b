//! What a filter answered, checked like network input, and carried out: rows dropped, columns added.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, UInt32Array, new_null_array};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, is_not_null};
use arrow::datatypes::DataType;
use prism_model::{AttrType, Batch, Column, ColumnId, Intrinsic, Table, TableKind};

use crate::bindings::base::{Dtype, Place, Role};
use crate::bindings::filter::exports::prism::plugin::filtering::{Addition, Verdict};
use crate::error::{Failure, lied};
use crate::returned::{Returned, check_bitmap, written_out};

/// Columns that one verdict may add: each is stored for good.
const ADDITIONS_MAX: usize = 64;
/// Bytes of the key of an added attribute.
const KEY_BYTES_MAX: usize = 1 << 10;

/// A checked verdict.
pub(crate) struct Checked {
    /// Rows that stay; none if all do.
    keep: Option<UInt32Array>,
    /// Rows dropped, by label (none where the plugin has no labels).
    pub(crate) dropped: BTreeMap<Option<u8>, u64>,
    add: Vec<Column>,
    /// Bytes of what is added, written out for each row.
    pub(crate) bytes: usize,
}

/// Checks a verdict about `rows` rows, whose additions may take `bytes_max` together.
///
/// # Errors
/// The first rule that it breaks; then none of it may be used.
pub(crate) fn check(verdict: Verdict, rows: usize, labels: usize, bytes_max: usize) -> Result<Checked, Failure> {
    let mut dropped = BTreeMap::new();
    let keep = match verdict.keep {
        None => None,
        Some(bitmap) => {
            check_bitmap("keep", &bitmap, rows)?;
            let bits = BooleanBuffer::new(Buffer::from_vec(bitmap), 0, rows);
            (bits.count_set_bits() < rows).then(|| UInt32Array::from_iter_values(bits.set_indices().map(|i| i as u32)))
        }
    };
    let drops = keep.as_ref().map_or(0, |k| rows - k.len());
    match verdict.reasons {
        Some(reasons) if reasons.len() != drops => {
            return Err(lied(format!("expected {drops} reasons, found {}", reasons.len())));
        }
        Some(reasons) => {
            for label in reasons {
                if usize::from(label) >= labels {
                    return Err(lied(format!("label {label} of {labels}")));
                }
                *dropped.entry(Some(label)).or_default() += 1;
            }
        }
        None if drops > 0 && labels > 0 => return Err(lied(format!("{drops} rows dropped without reasons"))),
        None if drops > 0 => {
            dropped.insert(None, drops as u64);
        }
        None => {}
    }
    if verdict.add.len() > ADDITIONS_MAX {
        return Err(lied(format!("expected at most {ADDITIONS_MAX} additions, found {}", verdict.add.len())));
    }
    let (mut add, mut bytes): (Vec<Column>, usize) = (Vec::new(), 0);
    for addition in verdict.add {
        let column =
            check_addition(addition, rows, bytes_max.saturating_sub(bytes)).map_err(|failure| match failure {
                Failure::Output { .. } => Failure::Output { limit: bytes_max },
                other => other,
            })?;
        bytes = bytes.saturating_add(written_out(&column.array));
        if add.iter().any(|c| c.id == column.id) {
            return Err(lied(format!("`{}` is added twice", column.id)));
        }
        add.push(column);
    }
    Ok(Checked { keep, dropped, add, bytes })
}

fn check_addition(addition: Addition, rows: usize, bytes_max: usize) -> Result<Column, Failure> {
    let field = addition.field;
    if !matches!(field.place, None | Some(Place::Item)) {
        return Err(lied("columns can be added to items only"));
    }
    let returned = Returned { validity: addition.validity, keys: addition.keys, values: addition.values };
    let array = returned.check(rows, field.dtype, bytes_max)?;
    let ty = match field.dtype {
        Dtype::Utf8 => AttrType::Str,
        Dtype::Binary => AttrType::Bytes,
        Dtype::Int64 => AttrType::Int,
        Dtype::Float64 => AttrType::Double,
        _ => AttrType::Bool,
    };
    match field.role {
        Role::Attribute if field.name.len() > KEY_BYTES_MAX => {
            Err(lied(format!("expected a key of at most {KEY_BYTES_MAX} bytes, found {}", field.name.len())))
        }
        Role::Attribute => Ok(Column { id: ColumnId::attr(field.name, ty), array }),
        Role::Intrinsic if field.name == Intrinsic::SamplingWeight.name() => {
            let Some(weights) = array.as_any().downcast_ref::<Float64Array>() else {
                return Err(lied("expected float64 weights"));
            };
            if let Some(bad) = weights.iter().flatten().find(|w| !w.is_finite() || *w <= 0.0) {
                return Err(lied(format!("expected weights above 0, found {bad}")));
            }
            Ok(Column { id: Intrinsic::SamplingWeight.into(), array })
        }
        _ => Err(lied("only attributes and `sampling_weight` can be added")),
    }
}

impl Checked {
    /// The batch with the verdict carried out.
    ///
    /// # Errors
    /// Arrow's or the model's: a bug.
    pub(crate) fn carry_out(self, batch: Batch) -> Result<Batch, String> {
        let batch = if self.add.is_empty() { batch } else { add_columns(batch, self.add)? };
        match self.keep {
            Some(rows) => batch.select(&rows).map_err(|e| e.to_string()),
            None => Ok(batch),
        }
    }
}

fn add_columns(batch: Batch, add: Vec<Column>) -> Result<Batch, String> {
    let (signal, origins) = (batch.signal, batch.origins.clone());
    let mut tables = batch.into_tables();
    for table in tables.iter_mut().filter(|t| t.kind() == TableKind::Items) {
        let rows = table.rows();
        let mut columns = std::mem::replace(table, Table::empty(TableKind::Items, 0)).into_columns();
        for column in &add {
            add_column(&mut columns, column)?;
        }
        columns.retain(|c| c.array.is_empty() || c.array.logical_null_count() < c.array.len());
        *table = Table::try_new(TableKind::Items, rows, columns).map_err(|e| e.to_string())?;
    }
    Batch::try_new(signal, origins, tables).map_err(|e| e.to_string())
}

/// Where the addition is valid it takes the place of every attribute of its key, of whatever type.
fn add_column(columns: &mut Vec<Column>, add: &Column) -> Result<(), String> {
    let valid = is_not_null(&add.array).map_err(|e| e.to_string())?;
    let mut new = add.array.clone();
    if add.id == ColumnId::Intrinsic(Intrinsic::SamplingWeight) {
        // A row's weight is never null.
        let ones: ArrayRef = Arc::new(Float64Array::from_value(1.0, new.len()));
        new = zip(&valid, &new, &ones).map_err(|e| e.to_string())?;
    }
    let same_key = |id: &ColumnId| match (id, &add.id) {
        (ColumnId::Attr { key: a, .. }, ColumnId::Attr { key: b, .. }) => a == b,
        (a, b) => a == b,
    };
    for column in columns.iter_mut().filter(|c| same_key(&c.id)) {
        let plain = match column.array.data_type() {
            DataType::Dictionary(..) => cast(&column.array, &DataType::Utf8).map_err(|e| e.to_string())?,
            _ => column.array.clone(),
        };
        if column.id == add.id {
            let added = cast(&add.array, &add.id.data_type()).map_err(|e| e.to_string())?;
            new = zip(&valid, &added, &plain).map_err(|e| e.to_string())?;
        } else {
            let nulls = new_null_array(plain.data_type(), plain.len());
            column.array = zip(&valid, &nulls, &plain).map_err(|e| e.to_string())?;
        }
    }
    columns.retain(|c| c.id != add.id);
    columns.push(Column { id: add.id.clone(), array: new });
    Ok(())
}
