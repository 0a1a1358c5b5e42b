//! `prism tenant erase`: a tenant goes, with everything that is its own.

use std::path::Path;

use anyhow::{Context as _, bail};
use prism_model::TenantId;
use prism_store::keys::{Erasure, Remains};

use super::now_unix_ms;
use crate::access::{DirectoryError, change, forget, log, read};
use crate::config::Config;
use crate::show::{Align, Grid, Screen};

/// Runs it; returns what is printed. Changes nothing unless `yes`.
///
/// # Errors
/// In words for the user.
pub(crate) fn run(name: &TenantId, yes: bool, config: &Config, screen: &Screen) -> anyhow::Result<String> {
    let erasure = erasure(config)?;
    let (_, directory) = read(&log(&config.data_dir)?)?;
    let erased = erasure.is_erased(name)?;
    let keys = directory.keys.iter().filter(|k| k.holder.tenant() == Some(name)).count();
    if !yes {
        if !directory.tenants.contains_key(name) && !erased {
            bail!(DirectoryError::NoTenant(name.clone()));
        }
        let table = shown(&erasure.remains(name)?, keys, screen);
        return Ok(format!("{table}nothing is changed; `prism tenant erase {name} --yes` removes this for good\n"));
    }
    if !directory.tenants.contains_key(name) && !erased {
        bail!(DirectoryError::NoTenant(name.clone()));
    }
    // The tombstone comes first, with the data; then nobody can make the tenant or a key for it again.
    let gone = erasure.erase(name, now_unix_ms()).context("the tenant is erased in part: run this again")?;
    forget_access(config, name).context("the tenant is erased in part: run this again")?;
    let table = shown(&gone, keys, screen);
    Ok(format!("{table}tenant `{name}` is erased; servers refuse it within two seconds\n"))
}

/// Takes a tenant and its access keys out of the directory, and out of its history.
pub(crate) fn forget_access(config: &Config, name: &TenantId) -> anyhow::Result<()> {
    let log = log(&config.data_dir)?;
    let ids = change(&log, |directory| Ok(directory.remove_tenant(name)))?;
    ids.iter().for_each(|id| forget(&config.data_dir, id));
    if let Some(latest) = log.latest_number()? {
        log.forget_before(latest)?;
    }
    Ok(())
}

/// Refuses the name of a tenant that was erased.
///
/// # Errors
/// That it was.
pub(crate) fn refuse_erased(config: &Config, name: &TenantId) -> anyhow::Result<()> {
    if erasure(config)?.is_erased(name)? {
        bail!("tenant `{name}` was erased: its name is not used again");
    }
    Ok(())
}

/// What erases below the data folder and among the objects of a configuration.
///
/// # Errors
/// In words for the user.
pub(crate) fn erasure(config: &Config) -> anyhow::Result<Erasure> {
    let root: &Path = &config.data_dir;
    Ok(Erasure::new(root, config.keyring()?, crate::storage::objects(config)?))
}

fn shown(remains: &[Remains], keys: usize, screen: &Screen) -> String {
    let columns = [("place", Align::Left), ("files", Align::Right), ("bytes", Align::Right)];
    let mut grid = Grid::new(columns.map(|(name, align)| (name.to_owned(), align)));
    for r in remains {
        grid.push(vec![r.place.clone(), r.files.to_string(), r.bytes.to_string()]);
    }
    grid.push(vec!["access keys".to_owned(), keys.to_string(), String::new()]);
    grid.render(screen)
}
