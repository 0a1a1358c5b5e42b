//! `prism tenant`, `prism key`: tenants and keys in the data folder.

use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::DateTime;
use prism_ingest::settings::{self, DuplicateWindow, TenantSettings};
use prism_model::TenantId;

use super::now_unix_ms;
use crate::access::{DirectoryError, Holder, Key, Role, change, forget, last_used_unix_ms, log, read};
use crate::budget::{self, BytesMax, NanosMax};
use crate::cli::{KeyCommand, TenantChanges, TenantCommand};
use crate::config::Config;
use crate::show::{Align, Grid, Screen, time};

/// Runs `prism tenant`; returns what is printed.
///
/// # Errors
/// In words for the user.
pub(crate) fn tenant(command: &TenantCommand, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    let log = log(&config.data_dir)?;
    match command {
        TenantCommand::Create { name } => {
            super::erase::refuse_erased(config, name)?;
            change(&log, |directory| directory.create_tenant(name, now_unix_ms()))?;
            // An erasure that began meanwhile did not see it.
            if let Err(erased) = super::erase::refuse_erased(config, name) {
                super::erase::forget_access(config, name)?;
                return Err(erased);
            }
            Ok(format!("tenant `{name}` is created; next: prism key create --tenant {name} --role ingest,query\n"))
        }
        TenantCommand::List => {
            let (_, directory) = read(&log)?;
            if directory.tenants.is_empty() {
                return Ok("no tenants; create one: prism tenant create NAME\n".to_owned());
            }
            let columns = [("tenant", Align::Left), ("keys", Align::Right), ("created", Align::Left)];
            let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
            for (name, tenant) in &directory.tenants {
                let keys = directory.keys.iter().filter(|k| k.holder.tenant() == Some(name)).count();
                grid.push(vec![name.to_string(), keys.to_string(), shown(tenant.created_unix_ms, screen)]);
            }
            Ok(grid.render(screen))
        }
        TenantCommand::Show { name } => {
            let (_, directory) = read(&log)?;
            let Some(tenant) = directory.tenants.get(name) else { bail!(DirectoryError::NoTenant(name.clone())) };
            let keys = directory.keys.iter().filter(|k| k.holder.tenant() == Some(name)).count();
            let bindings = prism_ingest::bindings::list(&config.data_dir, name)?;
            let settings = settings::read(&config.data_dir, name)?;
            let mut grid = Grid::new([("setting".to_owned(), Align::Left), (name.to_string(), Align::Left)]);
            grid.push(vec!["created".to_owned(), shown(tenant.created_unix_ms, screen)]);
            grid.push(vec!["keys".to_owned(), keys.to_string()]);
            grid.push(vec!["plugin bindings".to_owned(), bindings.len().to_string()]);
            grid.push(vec!["encryption".to_owned(), super::encryption::told(name, config)?]);
            for (setting, value) in set(name, &settings, config) {
                grid.push(vec![setting.to_owned(), value]);
            }
            Ok(grid.render(screen))
        }
        TenantCommand::Erase { name, yes, dry_run: _ } => super::erase::run(name, *yes, config, screen),
        TenantCommand::Set { name, changes } => {
            let (_, directory) = read(&log)?;
            if !directory.tenants.contains_key(name) {
                bail!(DirectoryError::NoTenant(name.clone()));
            }
            if let Some(NanosMax(Some(nanos))) = changes.query_time {
                let checked = config.check_query_time(Duration::from_nanos(nanos));
                checked.map_err(|reason| anyhow::anyhow!("--query-time: {reason}"))?;
            }
            let settings = settings::change(&config.data_dir, name, |settings| apply(changes, settings))?;
            let changed =
                [changes.duplicate_window.is_some(), changes.query_bytes.is_some(), changes.query_time.is_some()];
            let told = set(name, &settings, config).into_iter().zip(changed).filter(|(_, changed)| *changed);
            let line = |((setting, value), _)| {
                format!("{setting} of tenant `{name}`: {value}; servers follow within a second\n")
            };
            Ok(told.map(line).collect())
        }
    }
}

fn apply(changes: &TenantChanges, settings: &mut TenantSettings) {
    if let Some(window) = changes.duplicate_window {
        settings.duplicate_window = window;
    }
    if let Some(BytesMax(bytes)) = changes.query_bytes {
        settings.query_bytes_max = bytes;
    }
    if let Some(NanosMax(nanos)) = changes.query_time {
        settings.query_nanos_max = nanos;
    }
}

/// What `prism tenant set` sets, in the order of its flags, with the value that holds.
fn set(tenant: &TenantId, settings: &TenantSettings, config: &Config) -> [(&'static str, String); 3] {
    let limits = budget::limits(settings);
    [
        ("duplicate window", told(settings.duplicate_window, config)),
        ("query bytes", budget::bytes_told(tenant, limits, config)),
        ("query time", budget::time_told(tenant, limits, config)),
    ]
}

/// The choice in words.
fn told(window: DuplicateWindow, config: &Config) -> String {
    let minutes = config.ingest.duplicate_window_ms as f64 / 60_000.0;
    match window {
        _ if minutes == 0.0 => format!("{window}, but switched off for all (`ingest.duplicate_window_ms`)"),
        DuplicateWindow::Off => "off: a request that comes again is stored again".to_owned(),
        DuplicateWindow::Keys => format!("keys: the same Idempotency-Key within {minutes} min is stored once"),
        DuplicateWindow::Bodies => {
            format!(
                "bodies: the same Idempotency-Key, or body where there is none, within {minutes} min is stored once"
            )
        }
    }
}

/// Runs `prism key`; returns what is printed.
///
/// # Errors
/// In words for the user.
pub(crate) fn key(command: &KeyCommand, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    let log = log(&config.data_dir)?;
    match command {
        KeyCommand::Create { tenant, role, operator: _, expires } => {
            let (key, holder) = (new_key()?, holder(tenant.as_ref(), role));
            let now = now_unix_ms();
            let expires = expires.map(|when| when.unix_ms(now));
            change(&log, |directory| directory.add_key(&key, holder.clone(), expires, now))?;
            Ok(reveal(&key))
        }
        KeyCommand::Rotate { id, grace, expires } => {
            let (key, id) = (new_key()?, id_of(id));
            let now = now_unix_ms();
            let (grace, expires) = (grace.unix_ms(now), expires.map(|when| when.unix_ms(now)));
            let old = change(&log, |directory| directory.rotate_key(&id, &key, grace, expires, now))
                .context("nothing is changed")?;
            eprintln!("key `{id}` ends {}", old.expires_unix_ms.map_or_else(String::new, |at| shown(at, screen)));
            Ok(reveal(&key))
        }
        KeyCommand::List { tenant } => {
            let (_, directory) = read(&log)?;
            let columns = ["key", "holder", "roles", "created", "last used", "ends"];
            let mut grid = Grid::new(columns.map(|name| (name.to_owned(), Align::Left)));
            let now = now_unix_ms();
            let wanted = |holder: &Holder| tenant.is_none() || holder.tenant() == tenant.as_ref();
            let mut records = directory.keys.iter().filter(|record| wanted(&record.holder)).peekable();
            if records.peek().is_none() {
                return Ok("no keys; create one: prism key create --tenant NAME --role ingest,query\n".to_owned());
            }
            for record in records {
                let (name, roles) = match &record.holder {
                    Holder::Tenant { name, roles } => (name.to_string(), roles.to_string()),
                    Holder::Operator => ("(operator)".to_owned(), String::new()),
                };
                let ends = record.expires_unix_ms.map_or_else(String::new, |at| shown(at, screen));
                let ends = if record.ended(now) { format!("{ends} (has ended)") } else { ends };
                // To the hour: it is not known better.
                let used = last_used_unix_ms(&config.data_dir, &record.id);
                let used = used.map_or_else(|| "never".to_owned(), |at| shown(at, screen));
                grid.push(vec![record.id.clone(), name, roles, shown(record.created_unix_ms, screen), used, ends]);
            }
            Ok(grid.render(screen))
        }
        KeyCommand::Revoke { id } => {
            let id = id_of(id);
            let record = change(&log, |directory| directory.revoke_key(&id)).context("nothing is revoked")?;
            forget(&config.data_dir, &id);
            let of = record.holder.tenant().map_or_else(|| "an operator".to_owned(), |name| format!("tenant `{name}`"));
            Ok(format!("key `{id}` of {of} is revoked; servers refuse it within `auth.reload_ms`\n"))
        }
    }
}

fn new_key() -> anyhow::Result<Key> {
    Key::generate(getrandom::fill).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))
}

/// The key alone on standard output, so that a script can take it; people see the rest.
fn reveal(key: &Key) -> String {
    eprintln!(
        "this key is shown once and stored as a hash: keep it, and send it as `Authorization: Bearer` or `x-api-key`"
    );
    format!("{}\n", key.reveal())
}

/// A whole key names itself too.
fn id_of(text: &str) -> String {
    Key::parse(text).map_or_else(|| text.to_owned(), |key| key.id().to_owned())
}

/// clap has seen to it that there is a tenant where it is not an operator's.
fn holder(tenant: Option<&TenantId>, roles: &[Role]) -> Holder {
    match tenant {
        Some(name) => Holder::Tenant { name: name.clone(), roles: roles.iter().copied().collect() },
        None => Holder::Operator,
    }
}

fn shown(unix_ms: i64, screen: &Screen) -> String {
    DateTime::from_timestamp_millis(unix_ms).map_or_else(|| "?".to_owned(), |at| time(&at, &screen.zone))
}
