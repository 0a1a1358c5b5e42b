//! An answer as an Arrow IPC stream.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, Float64Array, GenericListArray, Int64Array, ListBuilder, PrimitiveBuilder,
    RecordBatch, RecordBatchOptions, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use arrow::ipc::writer::StreamWriter;
use prism_model::Value;

use super::Answer;
use crate::error::QueryError;
use crate::eval::vals::{Scalar, Vals};
use crate::fixed::{DOUBLES, INTS};
use crate::show;

impl Answer {
    /// An Arrow IPC stream of one batch. Times are `Timestamp(ns, UTC)`, durations `Int64` with `unit: ns` in the field's
    /// metadata, ids their hex text, lists of numbers `List`; a column of mixed types is text, each value as its JSON. The stats stand in the schema's
    /// metadata under `stats`.
    ///
    /// # Errors
    /// `Bug` where Arrow refuses.
    pub fn to_arrow_stream(&self) -> Result<Vec<u8>, QueryError> {
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for (i, column) in self.columns.iter().enumerate() {
            let array = self.array(i)?;
            let mut field = Field::new(&column.name, array.data_type().clone(), true);
            let mut about = std::collections::HashMap::from([("type".to_owned(), column.ty.to_owned())]);
            about.extend(column.unit.map(|unit| ("unit".to_owned(), unit.to_owned())));
            field.set_metadata(about);
            fields.push(field);
            arrays.push(array);
        }
        let metadata = std::collections::HashMap::from([("stats".to_owned(), self.stats.to_json().to_string())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let rows = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &rows)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        writer.write(&batch)?;
        writer.finish()?;
        Ok(writer.into_inner()?)
    }

    fn array(&self, column: usize) -> Result<ArrayRef, QueryError> {
        let (vals, unit) = (&self.values[column], self.units[column]);
        let ints = || -> Int64Array {
            let int = |row| match vals.get(row) {
                Scalar::Int(i) => Some(i),
                Scalar::Double(d) if d.is_finite() => match show::whole(d) {
                    Scalar::Int(i) => Some(i),
                    _ => None,
                },
                _ => None,
            };
            (0..self.rows).map(int).collect()
        };
        let texts = |text: &dyn Fn(&Scalar) -> Option<String>| -> StringArray {
            (0..self.rows).map(|row| text(&vals.get(row))).collect()
        };
        Ok(match self.columns[column].ty {
            "time" => {
                let times: TimestampNanosecondArray = ints().iter().collect();
                Arc::new(times.with_timezone("UTC"))
            }
            "duration" | "int" => Arc::new(ints()),
            "double" => Arc::new((0..self.rows).map(|row| vals.number(row)).collect::<Float64Array>()),
            "bool" => match &vals.bool {
                Some(bools) => Arc::new(bools.clone()),
                None => arrow::array::new_null_array(&DataType::Boolean, self.rows),
            },
            "bytes" => match &vals.bytes {
                Some(bytes) => Arc::new(bytes.clone()),
                None => arrow::array::new_null_array(&DataType::Binary, self.rows),
            },
            INTS => Arc::new(lists::<Int64Type>(vals, self.rows, |item| match item {
                Value::Int(i) => Some(*i),
                _ => None,
            })),
            DOUBLES => Arc::new(lists::<Float64Type>(vals, self.rows, |item| match item {
                Value::Double(d) => Some(*d),
                _ => None,
            })),
            "mixed" => Arc::new(texts(&|scalar| (!scalar.is_null()).then(|| show::json(scalar, unit).to_string()))),
            _ => Arc::new(texts(&|scalar| show::scalar_text(scalar, unit))),
        })
    }
}

/// Lists of numbers, of which none is missing.
fn lists<T: ArrowPrimitiveType>(
    vals: &Vals,
    rows: usize,
    number: impl Fn(&Value) -> Option<T::Native>,
) -> GenericListArray<i32> {
    let items = Arc::new(Field::new_list_field(T::DATA_TYPE, false));
    let mut lists = ListBuilder::new(PrimitiveBuilder::<T>::new()).with_field(items);
    for row in 0..rows {
        let value = match vals.get(row) {
            Scalar::Json(text) => Value::from_text(&text).ok(),
            _ => None,
        };
        if let Some(Value::Array(items)) = &value {
            items.iter().filter_map(&number).for_each(|n| lists.values().append_value(n));
        }
        lists.append(value.is_some());
    }
    lists.finish()
}
