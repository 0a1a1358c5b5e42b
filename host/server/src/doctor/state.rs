//! What is stored beside rows: tenants, keys, bindings of plugins, compiled plugins.

use std::path::Path;

use prism_ingest::settings::DuplicateWindow;
use prism_model::TenantId;
use prism_query::TenantLimits;

use super::Finding;
use crate::access;
use crate::budget;
use crate::config::Config;
use crate::error::chain;
use crate::show::bytes;

/// All checks of stored state.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let subject = "tenants and keys";
    let read =
        access::log(&config.data_dir).map_err(|e| chain(&e)).and_then(|log| access::read(&log).map_err(|e| chain(&e)));
    let mut findings = Vec::new();
    match read {
        Err(error) => {
            findings.push(Finding::fail(
                subject,
                error,
                "nobody is let in: restore the newest object in `control/access`",
            ));
        }
        Ok((_, directory)) => {
            let found =
                format!("{} and {}", many(directory.tenants.len(), "tenant"), many(directory.keys.len(), "key"));
            findings.push(if directory.tenants.is_empty() && !config.auth.dev {
                Finding::warn(subject, "none", "create one with `prism tenant create NAME`, or start with --dev")
            } else {
                Finding::ok(subject, found)
            });
            findings.push(bindings(directory.tenants.keys(), &config.data_dir));
            findings.push(settings(directory.tenants.keys(), &config.data_dir));
        }
    }
    findings.push(cache(&config.cache_dir()));
    findings
}

fn many(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// Data of a tenant whose bindings cannot be read is not taken.
fn bindings<'t>(tenants: impl Iterator<Item = &'t TenantId>, data_dir: &Path) -> Finding {
    let subject = "plugin bindings";
    let mut bound = 0;
    for tenant in tenants {
        match prism_ingest::bindings::list(data_dir, tenant) {
            Ok(bindings) => bound += bindings.len(),
            Err(error) => {
                let todo = format!(
                    "nothing of tenant `{tenant}` is taken: restore the newest object in `control/tenants/{tenant}`"
                );
                return Finding::fail(subject, chain(&error), todo);
            }
        }
    }
    Finding::ok(subject, many(bound, "binding"))
}

/// Data of a tenant whose settings cannot be read is not taken either, and its queries have no budget to go by.
fn settings<'t>(tenants: impl Iterator<Item = &'t TenantId>, data_dir: &Path) -> Finding {
    let subject = "tenants' settings";
    let mut own = Vec::new();
    for tenant in tenants {
        match prism_ingest::settings::read(data_dir, tenant) {
            Ok(settings) => {
                let (window, limits) = (settings.duplicate_window, budget::limits(&settings));
                if window != DuplicateWindow::default() {
                    own.push(format!("duplicate window of `{tenant}` {window}"));
                }
                if limits != TenantLimits::default() {
                    own.push(format!("a budget for queries of `{tenant}`"));
                }
            }
            Err(error) => {
                let todo = format!(
                    "nothing of tenant `{tenant}` is taken, nor are its queries answered: restore the newest object in \
                     `control/tenants/{tenant}/settings`"
                );
                return Finding::fail(subject, chain(&error), todo);
            }
        }
    }
    Finding::ok(subject, if own.is_empty() { "defaults".to_owned() } else { own.join(", ") })
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
