//! Functions.
/// The quantile of a name such as `p95`.
pub fn percentile(name: &str) -> Option<f64> {
    let digits = name.strip_prefix('p')?;
    let plain = (2..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { format!("0.{digits}").parse().ok() } else { None }
}
