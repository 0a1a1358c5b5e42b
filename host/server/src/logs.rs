//! Structured log lines on standard error. Never personal data: events carry routes, codes and counts, no values of clients.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts the log. A second call changes nothing.
///
/// # Errors
/// The filter is none.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter: EnvFilter = EnvFilter::builder().parse(filter).map_err(|e| {
        format!("`log.filter`: expected a level or a list such as `info,prism_store=debug`, found `{filter}` ({e})")
    })?;
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already_started = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    };
    Ok(())
}
