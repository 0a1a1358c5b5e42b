//! How values are spread: counts by buckets of equal width, as `histogram` and `heatmap` show them.

use prism_model::Value;

use crate::eval::node::Unit;
use crate::eval::vals::Scalar;
use crate::show;

/// The values of a group, ascending, and how often each is there.
pub(super) type Values = Vec<(f64, u64)>;

/// The least and greatest finite value; `None` where there is none.
fn bounds(of: &[(f64, u64)]) -> Option<(f64, f64)> {
    let finite = || of.iter().map(|(value, _)| *value).filter(|value| value.is_finite());
    finite().next().zip(finite().next_back())
}

/// For each group `n` buckets between its own least and greatest values.
pub(super) fn histograms(groups: &[Values], n: usize, unit: Unit) -> Vec<Scalar> {
    groups.iter().map(|of| bounds(of).map_or(Scalar::Null, |bounds| counted(of, bounds, n, unit))).collect()
}

/// For each group the same `n` buckets, between the least and greatest values of all.
pub(super) fn heatmap(groups: &[Values], n: usize, unit: Unit) -> Vec<Scalar> {
    let all = groups.iter().filter_map(|of| bounds(of));
    let all = all.reduce(|(least, greatest), (low, high)| (least.min(low), greatest.max(high)));
    let of_group = |of: &Values| match all {
        Some(all) if !of.is_empty() => counted(of, all, n, unit),
        _ => Scalar::Null,
    };
    groups.iter().map(of_group).collect()
}

/// `[{"from": …, "to": …, "count": …}, …]`: a bucket holds its lower end, the last its upper end too. Infinities count at the ends.
fn counted(of: &[(f64, u64)], (low, high): (f64, f64), n: usize, unit: Unit) -> Scalar {
    let n = if low < high { n } else { 1 };
    let width = high - low;
    let edge = |i: usize| match (i as f64, n as f64) {
        _ if i == 0 => low,
        _ if i == n => high,
        // The nearest double to where it lies, unless the way there is wider than doubles are.
        (at, all) if (width * all).is_finite() => low + width * at / all,
        (at, all) => low * (1.0 - at / all) + high * (at / all),
    };
    let edges: Vec<f64> = (0..=n).map(edge).collect();
    let mut counts = vec![0u64; n];
    for (value, count) in of {
        // Told by the edges that are shown: a value at one is in the bucket that begins there.
        counts[edges[1..n].partition_point(|edge| edge <= value)] += count;
    }
    let shown = |edge: f64| match unit {
        Unit::Duration => Value::Int(edge.round() as i64),
        Unit::Time => Value::Str(show::time(edge.round() as i64)),
        Unit::Plain => Value::Double(edge),
    };
    let item = |(i, count): (usize, &u64)| {
        let count = Value::Int(i64::try_from(*count).unwrap_or(i64::MAX));
        let (from, to) = (shown(edges[i]), shown(edges[i + 1]));
        Value::Map(vec![("from".into(), from), ("to".into(), to), ("count".into(), count)])
    };
    Scalar::Json(Value::Array(counts.iter().enumerate().map(item).collect()).to_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_an_edge_is_in_the_bucket_that_begins_there() {
        let values: Values = (0..=100).map(|n| (f64::from(n), 1)).collect();
        let Scalar::Json(text) = counted(&values, (0.0, 100.0), 100, Unit::Plain) else { panic!("expected buckets") };
        let Ok(Value::Array(buckets)) = Value::from_text(&text) else { panic!("expected buckets, found {text}") };
        let of = |i: usize| match &buckets[i] {
            Value::Map(entries) => entries.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(),
            other => panic!("expected a bucket, found {other:?}"),
        };
        for i in 0..100 {
            let (from, count) = (i as f64, 1 + i64::from(i == 99));
            assert_eq!(of(i), [Value::Double(from), Value::Double(from + 1.0), Value::Int(count)]);
        }
        let widest = [(f64::NEG_INFINITY, 1), (f64::MIN, 1), (0.0, 1), (f64::MAX, 1)];
        let Scalar::Json(text) = counted(&widest, (f64::MIN, f64::MAX), 2, Unit::Plain) else { panic!("buckets") };
        assert!(text.matches("\"count\":2").count() == 2, "{text}");
    }
}
