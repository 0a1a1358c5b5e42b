//! Numbers over time as a line of blocks, and counts by bucket as bars.

use serde_json::Value;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Cells of a line at most; more values share one, which shows the greatest.
const WIDTH_MAX: usize = 120;

/// The values from the least to the greatest as heights; a gap where there is none. Empty where no value is there.
pub(crate) fn sparkline(values: &[Option<f64>], width: usize) -> String {
    let width = width.clamp(1, WIDTH_MAX).min(values.len().max(1));
    let greatest = |cell: usize| {
        let (from, to) = (cell * values.len() / width, (cell + 1) * values.len() / width);
        let of = values.get(from..to.max(from + 1)).unwrap_or_default().iter().flatten().copied();
        of.filter(|v| v.is_finite()).reduce(f64::max)
    };
    let cells: Vec<Option<f64>> = (0..width).map(greatest).collect();
    let there = || cells.iter().flatten().copied();
    let (Some(high), Some(low)) = (there().reduce(f64::max), there().reduce(f64::min)) else { return String::new() };
    // From nothing where values are counts, so that small changes of large numbers do not look like falls.
    let low = low.min(0.0);
    let block = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        BLOCKS[((share * 7.0).round() as usize).min(7)]
    };
    cells.iter().map(|cell| cell.map_or(' ', block)).collect()
}

/// A value of `histogram()` as counts: a list of lists or objects of which each ends with, or names, its count.
pub(crate) fn counts(value: &Value) -> Option<Vec<f64>> {
    let of = |bucket: &Value| match bucket {
        Value::Object(map) => map.get("count").and_then(Value::as_f64),
        Value::Array(list) => list.last().and_then(Value::as_f64),
        _ => None,
    };
    let buckets = value.as_array().filter(|list| !list.is_empty())?;
    buckets.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn heights_go_from_nothing_to_the_greatest() {
        let line = |values: &[f64]| sparkline(&values.iter().copied().map(Some).collect::<Vec<_>>(), 80);
        assert_eq!(line(&[0.0, 7.0, 14.0]), "▁▅█");
        assert_eq!(line(&[5.0, 5.0]), "██");
        assert_eq!(line(&[-1.0, 1.0]), "▁█");
        assert_eq!(sparkline(&[Some(1.0), None, Some(f64::NAN), Some(2.0)], 80), "▅  █");
        assert_eq!(sparkline(&[None], 80), "");
        assert_eq!(sparkline(&[], 80), "");
        assert_eq!(sparkline(&[Some(1.0); 1000], 10).chars().count(), 10);
    }

    #[test]
    fn counts_are_found_in_buckets() {
        assert_eq!(counts(&json!([{"from": 0, "count": 3}, {"from": 1, "count": 5}])), Some(vec![3.0, 5.0]));
        assert_eq!(counts(&json!([[0, 10, 3]])), Some(vec![3.0]));
        assert_eq!(counts(&json!([])), None);
        assert_eq!(counts(&json!([1, 2])), None);
        assert_eq!(counts(&json!("x")), None);
    }
}
