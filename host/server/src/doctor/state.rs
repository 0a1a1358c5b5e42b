//! What is stored beside rows: tenants, keys, compiled plugins.

use std::path::Path;

use super::Finding;
use crate::access;
use crate::config::Config;
use crate::error::chain;
use crate::show::bytes;

/// All checks of stored state.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    vec![tenants(config), cache(&config.cache_dir())]
}

fn tenants(config: &Config) -> Finding {
    let subject = "tenants and keys";
    let read =
        access::log(&config.data_dir).map_err(|e| chain(&e)).and_then(|log| access::read(&log).map_err(|e| chain(&e)));
    match read {
        Err(error) => Finding::fail(subject, error, "nobody is let in: restore the newest object in `control/access`"),
        Ok((_, directory)) if directory.tenants.is_empty() && !config.auth.dev => {
            Finding::warn(subject, "none", "create one with `prism tenant create NAME`, or start with --dev")
        }
        Ok((_, directory)) => {
            Finding::ok(subject, format!("{} tenants, {} keys", directory.tenants.len(), directory.keys.len()))
        }
    }
}

fn cache(dir: &Path) -> Finding {
    let subject = "plugin cache";
    let size = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |m| m.len());
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            Finding::ok(subject, format!("{} of compiled plugins", bytes(entries.flatten().map(size).sum())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Finding::ok(subject, "empty"),
        Err(error) => Finding::warn(
            subject,
            format!("cannot be read: {error}"),
            "plugins are compiled anew at each start until it can",
        ),
    }
}
