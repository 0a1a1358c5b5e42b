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

/// `[{"from": …, "to": …, "count": …}, …]`: the last bucket holds its upper end too. Infinities count at the ends.
fn counted(of: &[(f64, u64)], (low, high): (f64, f64), n: usize, unit: Unit) -> Scalar {
    let n = if low < high { n } else { 1 };
    // Halves, since the width of all doubles is none.
    let part = |value: f64| (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    let mut counts = vec![0u64; n];
    for (value, count) in of {
        let at = if n == 1 { 0.0 } else { (part(*value) * n as f64).floor().clamp(0.0, n as f64 - 1.0) };
        counts[at as usize] += count;
    }
    let edge = |i: usize| match i {
        0 => low,
        i if i == n => high,
        i => low * (1.0 - i as f64 / n as f64) + high * (i as f64 / n as f64),
    };
    let shown = |edge: f64| match unit {
        Unit::Duration => Value::Int(edge.round() as i64),
        Unit::Time => Value::Str(show::time(edge.round() as i64)),
        Unit::Plain => Value::Double(edge),
    };
    let item = |(i, count): (usize, &u64)| {
        let count = Value::Int(i64::try_from(*count).unwrap_or(i64::MAX));
        Value::Map(vec![("from".into(), shown(edge(i))), ("to".into(), shown(edge(i + 1))), ("count".into(), count)])
    };
    Scalar::Json(Value::Array(counts.iter().enumerate().map(item).collect()).to_text())
}
