//! `prism encryption`: how tenants are encrypted, and the versions of their keys.

use anyhow::bail;
use chrono::DateTime;
use prism_model::TenantId;
use prism_store::keys::{Scheme, VersionStatus};

use crate::access::{DirectoryError, log, read};
use crate::cli::EncryptionCommand;
use crate::config::Config;
use crate::show::{Align, Grid, Screen, time};

/// Runs it; returns what is printed.
///
/// # Errors
/// In words for the user.
pub(crate) fn run(command: &EncryptionCommand, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    match command {
        EncryptionCommand::Status { tenant } => status(tenant.as_ref(), config, screen),
        EncryptionCommand::Rotate { tenant } => {
            must_exist(tenant, config)?;
            let keys = config.keyring()?;
            if newest(&keys.versions(tenant)?).map_or(config.encryption.default, |v| v.scheme) == Scheme::Off {
                bail!("tenant `{tenant}` is not encrypted: `prism encryption set {tenant} local` changes that");
            }
            let version = keys.rotate(tenant, None)?;
            Ok(format!("tenant `{tenant}` has version {version} of its key; servers use it within two seconds\n"))
        }
        EncryptionCommand::Set { tenant, scheme } => {
            must_exist(tenant, config)?;
            let version = config.keyring()?.rotate(tenant, Some(*scheme))?;
            let scheme = scheme.as_str();
            Ok(format!(
                "tenant `{tenant}` is encrypted `{scheme}` from version {version} on; what is there stays as it is, servers \
                 follow within two seconds\n"
            ))
        }
    }
}

/// How a tenant is encrypted, in words.
///
/// # Errors
/// Where the keys cannot be read.
pub(crate) fn told(tenant: &TenantId, config: &Config) -> anyhow::Result<String> {
    Ok(match newest(&config.keyring()?.versions(tenant)?) {
        Some(VersionStatus { version, scheme, .. }) => format!("{}, version {version} of its key", scheme.as_str()),
        None => format!("{} (`encryption.default`), no key yet", config.encryption.default.as_str()),
    })
}

fn status(tenant: Option<&TenantId>, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    let (_, directory) = read(&log(&config.data_dir)?)?;
    if let Some(name) = tenant {
        must_exist(name, config)?;
    }
    let keys = config.keyring()?;
    let columns =
        [("tenant", Align::Left), ("version", Align::Right), ("encryption", Align::Left), ("created", Align::Left)];
    let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
    for name in directory.tenants.keys().filter(|name| tenant.is_none_or(|t| t == *name)) {
        let versions = keys.versions(name)?;
        if versions.is_empty() {
            let default = format!("{} (`encryption.default`)", config.encryption.default.as_str());
            grid.push(vec![name.to_string(), String::new(), default, String::new()]);
        }
        for v in versions {
            let created = DateTime::from_timestamp_millis(v.created);
            let created = created.map_or_else(|| "?".to_owned(), |at| time(&at, &screen.zone));
            grid.push(vec![name.to_string(), v.version.to_string(), v.scheme.as_str().to_owned(), created]);
        }
    }
    Ok(grid.render(screen))
}

fn newest(versions: &[VersionStatus]) -> Option<VersionStatus> {
    versions.last().cloned()
}

fn must_exist(tenant: &TenantId, config: &Config) -> anyhow::Result<()> {
    super::erase::refuse_erased(config, tenant)?;
    let (_, directory) = read(&log(&config.data_dir)?)?;
    if !directory.tenants.contains_key(tenant) {
        bail!(DirectoryError::NoTenant(tenant.clone()));
    }
    Ok(())
}
