//! Statistics of a file as its `add` carries them: JSON that every reader of Delta prunes by.

use serde_json::{Map, Value, json};

use super::date::rfc3339_millis;

/// A smallest or largest value.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Of an integer column.
    Int(i64),
    /// Of a double column; NaN and infinities bound nothing and are left out.
    Double(f64),
    /// Of a column of text.
    Text(String),
    /// Of a timestamp column: unix microseconds.
    Micros(i64),
}

/// What is known about one column of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStats {
    /// Its name outside.
    pub name: String,
    /// Rows where it is null.
    pub nulls: u64,
    /// Smallest and largest value, where known and there is any.
    pub range: Option<(Scalar, Scalar)>,
}

/// Bytes of text that a bound may have: Spark cuts at 32 characters. What is longer is left out rather than cut, since a cut
/// largest value has to be raised by rules that readers do not agree on.
const TEXT_BYTES_MAX: usize = 32;

/// `{"numRecords":…,"minValues":{…},"maxValues":{…},"nullCount":{…}}`
pub(crate) fn to_json(rows: u64, columns: &[ColumnStats]) -> String {
    let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
    for column in columns {
        nulls.insert(column.name.clone(), json!(column.nulls));
        let Some((min, max)) = &column.range else { continue };
        let (Some(min), Some(max)) = (bound(min, false), bound(max, true)) else { continue };
        least.insert(column.name.clone(), min);
        most.insert(column.name.clone(), max);
    }
    json!({ "numRecords": rows, "minValues": least, "maxValues": most, "nullCount": nulls }).to_string()
}

fn bound(value: &Scalar, upper: bool) -> Option<Value> {
    match value {
        Scalar::Int(n) => Some(json!(n)),
        Scalar::Double(x) => x.is_finite().then(|| json!(x)),
        Scalar::Text(text) => (text.len() <= TEXT_BYTES_MAX).then(|| json!(text)),
        Scalar::Micros(micros) => Some(json!(rfc3339_millis(*micros, upper))),
    }
}

/// The rows that statistics tell, also those that somebody else wrote.
pub(crate) fn rows_of(stats: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: Option<u64>,
    }
    serde_json::from_str::<Rows>(stats).ok()?.num_records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_bound_their_values_and_leave_out_what_they_cannot() {
        let column = |name: &str, min, max| ColumnStats { name: name.into(), nulls: 1, range: Some((min, max)) };
        let columns = [
            column("time", Scalar::Int(i64::MIN), Scalar::Int(9_007_199_254_740_993)),
            column("timestamp", Scalar::Micros(1_001), Scalar::Micros(1_001)),
            column("value", Scalar::Double(0.5), Scalar::Double(f64::NAN)),
            column("name", Scalar::Text("a".into()), Scalar::Text("z".repeat(33))),
        ];
        let text = to_json(7, &columns);
        assert_eq!(rows_of(&text), Some(7));
        assert_eq!(
            text,
            r#"{"numRecords":7,"minValues":{"time":-9223372036854775808,"timestamp":"1970-01-01T00:00:00.001Z"},"maxValues":{"time":9007199254740993,"timestamp":"1970-01-01T00:00:00.002Z"},"nullCount":{"time":1,"timestamp":1,"value":1,"name":1}}"#
        );
        assert_eq!((rows_of("{}"), rows_of("no"), rows_of(r#"{"numRecords":-1}"#)), (None, None, None));
    }
}
