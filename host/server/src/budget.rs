//! Budgets of tenants' queries: as people type them, which of them holds, and as they are shown.
//!
//! ```text
//! the query's own, which can only lower it < prism tenant set, else query.tenants, else query.bytes_max and query.time_max_ms
//! ```

use std::str::FromStr;
use std::time::Duration;

use prism_dsl::{Budget, Expr, Literal, Query, Source};
use prism_ingest::settings::TenantSettings;
use prism_model::TenantId;
use prism_query::TenantLimits;

use crate::config::Config;

/// What takes a tenant's own limit back.
const DEFAULT: &str = "default";

/// Bytes that a query may read, or `default` for what the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BytesMax(pub(crate) Option<u64>);

/// Nanoseconds that a query may take, or `default` for what the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NanosMax(pub(crate) Option<u64>);

impl FromStr for BytesMax {
    type Err = String;

    fn from_str(text: &str) -> Result<BytesMax, String> {
        let given = || parsed("bytes", text)?.bytes.filter(|bytes| *bytes > 0);
        let expected = || format!("expected bytes above 0 such as `10GB` or `512MiB`, or `{DEFAULT}`, found `{text}`");
        if text == DEFAULT { Ok(BytesMax(None)) } else { given().map(Some).map(BytesMax).ok_or_else(expected) }
    }
}

impl FromStr for NanosMax {
    type Err = String;

    fn from_str(text: &str) -> Result<NanosMax, String> {
        let given = || u64::try_from(parsed("time", text)?.time?).ok().filter(|nanos| *nanos > 0);
        let expected = || format!("expected a time above 0 such as `10s` or `1m30s`, or `{DEFAULT}`, found `{text}`");
        if text == DEFAULT { Ok(NanosMax(None)) } else { given().map(Some).map(NanosMax).ok_or_else(expected) }
    }
}

/// One cost in the words of the language.
fn parsed(cost: &str, text: &str) -> Option<Budget> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    if plain { read(&format!("{cost} {text}")) } else { None }
}

/// A budget in the words of the language, such as `bytes 10GB time 10s`, and nothing else.
fn read(text: &str) -> Option<Budget> {
    let mut query = prism_dsl::parse_text(&format!("from spans budget {text}")).ok()?;
    query.budget.take().filter(|_| query == Query::new(Source::Spans))
}

/// An entry of `query.tenants`.
pub(crate) fn of_entry(entry: &str) -> Option<(TenantId, TenantLimits)> {
    let (tenant, budget) = entry.split_once(':')?;
    let budget = read(budget)?;
    let time_max = budget.time.and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
    Some((tenant.trim().parse().ok()?, TenantLimits { bytes_max: budget.bytes, time_max }))
}

/// What was set for a tenant, in the words of the engine.
pub(crate) fn limits(settings: &TenantSettings) -> TenantLimits {
    let time_max = settings.query_nanos_max.map(Duration::from_nanos);
    TenantLimits { bytes_max: settings.query_bytes_max, time_max }
}

/// The bytes that a tenant's query may read, and what says so.
pub(crate) fn bytes_told(tenant: &TenantId, set: TenantLimits, config: &Config) -> String {
    let options = config.query.engine_options();
    let configured = options.tenants.get(tenant).and_then(|limits| limits.bytes_max);
    match (set.bytes_max, configured, options.bytes_max) {
        (Some(bytes), ..) => format!("{} (set for the tenant)", bytes_text(bytes)),
        (None, Some(bytes), _) => format!("{} (`query.tenants`)", bytes_text(bytes)),
        (None, None, Some(bytes)) => format!("{} (`query.bytes_max`)", bytes_text(bytes)),
        (None, None, None) => "any (`query.bytes_max`)".to_owned(),
    }
}

/// The time that a tenant's query may take, and what says so.
pub(crate) fn time_told(tenant: &TenantId, set: TenantLimits, config: &Config) -> String {
    let options = config.query.engine_options();
    let configured = options.tenants.get(tenant).and_then(|limits| limits.time_max);
    match (set.time_max, configured) {
        (Some(time), _) => format!("{} (set for the tenant)", time_text(time)),
        (None, Some(time)) => format!("{} (`query.tenants`)", time_text(time)),
        (None, None) => format!("{} (`query.time_max_ms`)", time_text(options.time_max)),
    }
}

fn bytes_text(bytes: u64) -> String {
    Expr::Literal(Literal::Bytes(bytes)).to_string()
}

/// Exactly, as it would be typed.
pub(crate) fn time_text(time: Duration) -> String {
    let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    Expr::Literal(Literal::Duration(nanos)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_typed_as_budgets_are() {
        let bytes = |text: &str| text.parse::<BytesMax>().map(|max| max.0);
        assert_eq!(bytes("10GB"), Ok(Some(10_000_000_000)));
        assert_eq!((bytes("1024"), bytes("default")), (Ok(Some(1024)), Ok(None)));
        let nanos = |text: &str| text.parse::<NanosMax>().map(|max| max.0);
        assert_eq!((nanos("1m30s"), nanos("default")), (Ok(Some(90_000_000_000)), Ok(None)));
        for bad in ["", "0", "0B", "10s", "-1GB", "10GB time 1s", "ten", "10GB dry_run"] {
            assert!(bytes(bad).unwrap_err().starts_with("expected bytes above 0 such as `10GB`"), "{bad}");
        }
        for bad in ["", "0s", "10GB", "-1s", "10", "1s, bytes 1", "soon"] {
            assert!(nanos(bad).unwrap_err().starts_with("expected a time above 0 such as `10s`"), "{bad}");
        }
    }

    #[test]
    fn the_tenants_own_goes_before_the_configuration() {
        let acme: TenantId = "acme".parse().unwrap();
        let told = |set: TenantLimits, config: &Config| {
            format!("{}, {}", bytes_told(&acme, set, config), time_told(&acme, set, config))
        };
        let mut config = Config::default();
        let nothing = TenantLimits::default();
        assert_eq!(told(nothing, &config), "any (`query.bytes_max`), 30s (`query.time_max_ms`)");
        config.query.bytes_max = 1 << 30;
        assert_eq!(told(nothing, &config), "1GiB (`query.bytes_max`), 30s (`query.time_max_ms`)");
        config.query.tenants = vec!["acme: bytes 10GB time 10s".to_owned(), "other: bytes 1".to_owned()];
        assert_eq!(told(nothing, &config), "10GB (`query.tenants`), 10s (`query.tenants`)");
        let set = TenantLimits { bytes_max: Some(1_500), time_max: Some(Duration::from_millis(1_500)) };
        assert_eq!(told(set, &config), "1500B (set for the tenant), 1500ms (set for the tenant)");
        for bad in ["acme", "acme:", "acme: 10XB", "A: bytes 1", "acme: bytes 1 limit 3"] {
            assert_eq!(of_entry(bad), None, "{bad}");
        }
    }
}
