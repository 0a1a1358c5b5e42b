//! The functions of the language: names, kinds, how many arguments. What they compute is for the engine.

/// Where a function may stand and what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One row's values to one value; stands anywhere.
    Scalar,
    /// Rows of a group to one value; stands in `select`, `having`, `order`.
    Aggregate,
    /// A column over the bins of the answer to a column; stands where aggregates do, around them.
    Series,
}

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Lower case.
    pub name: &'static str,
    /// Scalar, aggregate or series.
    pub kind: Kind,
    /// Fewest arguments.
    pub least: usize,
    /// Most arguments; `None` without bound.
    pub most: Option<usize>,
    /// The call, as documentation writes it.
    pub usage: &'static str,
    /// One line.
    pub doc: &'static str,
}

const fn function(
    kind: Kind,
    name: &'static str,
    least: usize,
    most: Option<usize>,
    usage: &'static str,
    doc: &'static str,
) -> Function {
    Function { name, kind, least, most, usage, doc }
}

/// All functions apart from the quantiles `p50`, `p95`, `p999` … ([`percentile`]) and `exact(…)`, which is part of the
/// aggregate inside it.
#[rustfmt::skip]
pub const FUNCTIONS: &[Function] = &{
    use Kind::{Aggregate, Scalar, Series};
    [
        function(Scalar, "exists", 1, Some(1), "exists(x)", "whether the row has x"),
        function(Scalar, "bin", 2, Some(3), "bin(time, 1m, 'Europe/Berlin')", "start of the time bin, aligned to the epoch in UTC or a named zone"),
        function(Scalar, "if", 3, Some(3), "if(condition, then, else)", "one of two values"),
        function(Scalar, "case", 2, None, "case(condition, value, …, else)", "value of the first condition that holds"),
        function(Scalar, "coalesce", 1, None, "coalesce(x, y, …)", "first that is not missing"),
        function(Scalar, "lower", 1, Some(1), "lower(x)", "text in lower case"),
        function(Scalar, "upper", 1, Some(1), "upper(x)", "text in upper case"),
        function(Scalar, "length", 1, Some(1), "length(x)", "characters of a text, members of a list"),
        function(Scalar, "substr", 2, Some(3), "substr(x, start, length)", "part of a text, start from 1"),
        function(Scalar, "replace", 3, Some(3), "replace(x, 'a', 'b')", "text with every 'a' replaced"),
        function(Scalar, "split", 2, Some(3), "split(x, separator, index)", "parts of a text, or one of them"),
        function(Scalar, "extract", 2, Some(3), "extract(x, regex, group)", "what a regular expression captured"),
        function(Scalar, "text", 1, Some(1), "text(x)", "as text"),
        function(Scalar, "number", 1, Some(1), "number(x)", "as a number, null where it is none"),
        function(Scalar, "bool", 1, Some(1), "bool(x)", "as a truth value, null where it is none"),
        function(Scalar, "abs", 1, Some(1), "abs(x)", "without sign"),
        function(Scalar, "floor", 1, Some(1), "floor(x)", "next whole number below"),
        function(Scalar, "ceil", 1, Some(1), "ceil(x)", "next whole number above"),
        function(Scalar, "round", 1, Some(2), "round(x, digits)", "nearest number with so many digits"),
        function(Scalar, "log2", 1, Some(1), "log2(x)", "logarithm to base 2"),
        function(Scalar, "log10", 1, Some(1), "log10(x)", "logarithm to base 10"),
        function(Scalar, "sqrt", 1, Some(1), "sqrt(x)", "square root"),
        function(Scalar, "pow", 2, Some(2), "pow(x, y)", "x to the power of y"),
        function(Scalar, "mod", 2, Some(2), "mod(x, y)", "remainder, as `x % y`"),
        function(Scalar, "bucket", 2, Some(2), "bucket(x, width)", "lower edge of the bucket that x falls in"),
        function(Scalar, "now", 0, Some(0), "now()", "time of the query"),
        function(Scalar, "hour", 1, Some(2), "hour(time, 'Europe/Berlin')", "hour of the day, 0 to 23"),
        function(Scalar, "weekday", 1, Some(2), "weekday(time, 'Europe/Berlin')", "day of the week, 1 (Monday) to 7"),
        function(Aggregate, "count", 0, Some(1), "count(x)", "rows, or rows that have x"),
        function(Aggregate, "count_distinct", 1, Some(1), "count_distinct(x)", "different values, within 2 %"),
        function(Aggregate, "sum", 1, Some(1), "sum(x)", "sum, 0 of nothing"),
        function(Aggregate, "avg", 1, Some(1), "avg(x)", "mean"),
        function(Aggregate, "min", 1, Some(1), "min(x)", "least value"),
        function(Aggregate, "max", 1, Some(1), "max(x)", "greatest value"),
        function(Aggregate, "quantile", 2, Some(2), "quantile(x, 0.95)", "quantile, within 1 %; also p50(x), p95(x), p999(x)"),
        function(Aggregate, "stddev", 1, Some(1), "stddev(x)", "standard deviation of the sample"),
        function(Aggregate, "first", 1, Some(1), "first(x)", "earliest value"),
        function(Aggregate, "last", 1, Some(1), "last(x)", "latest value"),
        function(Aggregate, "top", 1, Some(2), "top(x, 10)", "most frequent values"),
        function(Aggregate, "histogram", 1, Some(2), "histogram(x, 20)", "counts by bucket"),
        function(Aggregate, "heatmap", 1, Some(2), "heatmap(x, 20)", "counts by buckets that all groups share"),
        function(Aggregate, "concurrency", 0, Some(0), "concurrency()", "most rows at one moment of the bin"),
        function(Aggregate, "rate", 0, Some(1), "rate(x)", "per second of the bin or range"),
        function(Aggregate, "increase", 1, Some(1), "increase(x)", "growth of a counter, resets counted from 0"),
        function(Aggregate, "exemplars", 1, Some(2), "exemplars(x, 3)", "trace ids beside typical values"),
        function(Series, "moving_avg", 2, Some(2), "moving_avg(x, 5)", "mean of this bin and those before it, n in all"),
        function(Series, "ewma", 2, Some(2), "ewma(x, 0.3)", "exponentially weighted mean"),
        function(Series, "diff", 1, Some(1), "diff(x)", "change from the bin before"),
        function(Series, "cumsum", 1, Some(1), "cumsum(x)", "sum of all bins so far"),
        function(Series, "zscore", 2, Some(2), "zscore(x, 20)", "distance from the mean of the n bins before in their standard deviations"),
        function(Series, "shift", 2, Some(2), "shift(x, 1h)", "value so much earlier"),
    ]
};

/// The function called `name`, whatever its case; quantile names such as `p95` count as aggregates.
///
/// ```
/// use prism_dsl::functions::{Kind, find};
/// assert_eq!(find("Count").map(|f| f.kind), Some(Kind::Aggregate));
/// assert_eq!(find("p95").map(|f| f.kind), Some(Kind::Aggregate));
/// assert_eq!(find("cuont"), None);
/// ```
pub fn find(name: &str) -> Option<Function> {
    let known = FUNCTIONS.iter().find(|known| known.name.eq_ignore_ascii_case(name)).copied();
    known.or_else(|| percentile(name).map(|_| PERCENTILE))
}

const PERCENTILE: Function = Function {
    name: "p95",
    kind: Kind::Aggregate,
    least: 1,
    most: Some(1),
    usage: "p95(x)",
    doc: "quantile, within 1 %: p50, p95, p999 …",
};

/// Most digits of a quantile's name; more say nothing at an error of 1 %.
const PERCENTILE_DIGITS_MAX: usize = 6;

/// The quantile between 0 and 1 in a name such as `p05`, `p95` or `p999`: its digits stand behind `0.`. One digit is
/// refused, since `p5` could be 0.05 or 0.5, and so is a needless 0 at the end, since `p100` could be 1.
///
/// ```
/// use prism_dsl::functions::percentile;
/// assert_eq!(percentile("p999"), Some(0.999));
/// assert_eq!(percentile("P05"), Some(0.05));
/// assert_eq!(percentile("p5"), None);
/// assert_eq!(percentile("p100"), None);
/// ```
pub fn percentile(name: &str) -> Option<f64> {
    let digits = percentile_digits(name)?;
    let clear = digits.len() == 2 || (digits.len() > 2 && !digits.ends_with('0'));
    if clear && digits.len() <= PERCENTILE_DIGITS_MAX { format!("0.{digits}").parse().ok() } else { None }
}

/// The digits of a name that looks like a quantile's.
fn percentile_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix(['p', 'P'])?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

/// What somebody who wrote the unknown name `name` may have meant.
pub(crate) fn hint(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some(digits) = percentile_digits(&lower) {
        return Some(match digits {
            "0" => "write `min(x)`".into(),
            "100" => "write `max(x)`".into(),
            _ if digits.len() == 1 => format!("write `p0{digits}` for 0.0{digits} or `p{digits}0` for 0.{digits}"),
            _ => "write `quantile(x, q)` with q from 0 to 1".into(),
        });
    }
    // Words of other query languages, whose distance in letters says nothing.
    let other = match lower.as_str() {
        "average" | "mean" => "avg",
        "median" => "p50",
        "percentile" | "quantile_over_time" | "approx_percentile" => "quantile",
        "distinct" | "uniq" | "approx_distinct" | "countdistinct" => "count_distinct",
        "count_over_time" => "count",
        "len" | "strlen" => "length",
        "substring" => "substr",
        "regexp_extract" | "capture" => "extract",
        "to_string" | "str" | "string" => "text",
        "to_number" | "int" | "float" | "double" => "number",
        "time_bucket" | "date_trunc" | "date_bin" => "bin",
        "topk" => "top",
        "stdev" | "stddev_samp" => "stddev",
        "lag" => "shift",
        _ => "",
    };
    if !other.is_empty() {
        return Some(format!("did you mean `{other}`?"));
    }
    crate::nearest::did_you_mean(name, FUNCTIONS.iter().map(|known| known.name).chain(["exact", "p50", "p95", "p99"]))
}
