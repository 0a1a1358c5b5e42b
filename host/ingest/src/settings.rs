//! What is decided for one tenant, about its data and its queries: one JSON document in the store's control log, a new number for each change.
//!
//! Not here: plugins (`bindings`), noticing a change while servers run (`follow`), limits of the node (`pipeline`).

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use prism_model::{Classify, Kind, TenantId};
use prism_store::StoreError;
use prism_store::control::{Create, Log};

/// How often an edit starts over because another came first. Each round one of the editors wins.
const EDIT_ATTEMPTS_MAX: usize = 64;

/// What the same request is known by when it comes again within the duplicate window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicateWindow {
    /// Nothing: what comes twice is stored twice.
    Off,
    /// Its header `Idempotency-Key`; a request without one is stored each time.
    Keys,
    /// Its header `Idempotency-Key`, or all bytes of its body where it has none.
    #[default]
    Bodies,
}

impl DuplicateWindow {
    /// Every choice.
    pub const ALL: [DuplicateWindow; 3] = [DuplicateWindow::Off, DuplicateWindow::Keys, DuplicateWindow::Bodies];

    /// The name in commands: `off`, `keys` or `bodies`.
    pub fn as_str(self) -> &'static str {
        match self {
            DuplicateWindow::Off => "off",
            DuplicateWindow::Keys => "keys",
            DuplicateWindow::Bodies => "bodies",
        }
    }

    /// Whether a request is looked for among the earlier ones.
    pub(crate) fn covers(self, has_key: bool) -> bool {
        self == DuplicateWindow::Bodies || (has_key && self == DuplicateWindow::Keys)
    }
}

impl fmt::Display for DuplicateWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DuplicateWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<DuplicateWindow, String> {
        let found = DuplicateWindow::ALL.into_iter().find(|w| w.as_str() == text);
        found.ok_or_else(|| format!("expected `off`, `keys` or `bodies`, found `{text}`"))
    }
}

/// The settings of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// What a request is known by when it comes again.
    pub duplicate_window: DuplicateWindow,
    /// Bytes that one of its queries may read, compressed; `None` for what the configuration says. Not written where it is not
    /// set, nor is the next one: versions that do not know them read the settings of other tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_bytes_max: Option<u64>,
    /// Nanoseconds that one of its queries may take; `None` for what the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_nanos_max: Option<u64>,
}

/// Settings that cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The store cannot be read or written.
    #[error("the settings of tenant `{tenant}` cannot be kept or read: {source}")]
    Store {
        /// Whose settings.
        tenant: TenantId,
        /// Why.
        source: StoreError,
    },
    /// What is stored is none.
    #[error("the settings of tenant `{tenant}` are damaged: {reason}")]
    Damaged {
        /// Whose settings.
        tenant: TenantId,
        /// What is wrong with them.
        reason: String,
    },
    /// Others changed the settings each time just before.
    #[error("the settings of tenant `{tenant}` are being changed by others")]
    Contended {
        /// Whose settings.
        tenant: TenantId,
    },
}

impl Classify for SettingsError {
    fn kind(&self) -> Kind {
        match self {
            SettingsError::Store { source, .. } => source.kind(),
            SettingsError::Damaged { .. } => Kind::Bug,
            SettingsError::Contended { .. } => Kind::Retry,
        }
    }
}

/// The settings of one tenant below a data folder. Blocks on the disk.
pub(crate) struct Document {
    tenant: TenantId,
    log: Log,
}

impl Document {
    pub(crate) fn open(root: &Path, tenant: &TenantId) -> Result<Document, SettingsError> {
        let log = Log::open(root, &format!("tenants/{tenant}/settings"));
        let log = log.map_err(|source| SettingsError::Store { tenant: tenant.clone(), source })?;
        Ok(Document { tenant: tenant.clone(), log })
    }

    fn failed(&self, source: StoreError) -> SettingsError {
        SettingsError::Store { tenant: self.tenant.clone(), source }
    }

    /// The number of the latest change; 0 where there was none.
    pub(crate) fn version(&self) -> Result<u64, SettingsError> {
        Ok(self.log.latest_number().map_err(|e| self.failed(e))?.unwrap_or(0))
    }

    /// The settings after the latest change, and its number.
    pub(crate) fn latest(&self) -> Result<(u64, TenantSettings), SettingsError> {
        let latest = self.log.latest().map_err(|e| self.failed(e))?;
        let Some((version, bytes)) = latest else { return Ok((0, TenantSettings::default())) };
        let settings = serde_json::from_slice(&bytes)
            .map_err(|e| SettingsError::Damaged { tenant: self.tenant.clone(), reason: e.to_string() })?;
        Ok((version, settings))
    }
}

/// The settings of a tenant; defaults where it never set any.
///
/// # Errors
/// [`SettingsError`]: they cannot be read.
pub fn read(root: &Path, tenant: &TenantId) -> Result<TenantSettings, SettingsError> {
    Ok(Document::open(root, tenant)?.latest()?.1)
}

/// Changes the settings of a tenant; every process that works for it knows within a second. `edit` may run several times,
/// each time on the newest; nothing is stored where it changes nothing. Gives the settings after it.
///
/// # Errors
/// [`SettingsError`]: they cannot be read or kept.
pub fn change(
    root: &Path,
    tenant: &TenantId,
    edit: impl Fn(&mut TenantSettings),
) -> Result<TenantSettings, SettingsError> {
    let document = Document::open(root, tenant)?;
    for _ in 0..EDIT_ATTEMPTS_MAX {
        let (version, before) = document.latest()?;
        let mut after = before;
        edit(&mut after);
        let bytes = serde_json::to_vec(&after)
            .map_err(|e| SettingsError::Damaged { tenant: tenant.clone(), reason: e.to_string() })?;
        if after == before
            || document.log.create(version + 1, &bytes).map_err(|e| document.failed(e))? == Create::Created
        {
            return Ok(after);
        }
    }
    Err(SettingsError::Contended { tenant: tenant.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_by_tenant_and_unknown_ones_are_no_guess() {
        let root = tempfile::tempdir().unwrap();
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(read(root.path(), &a).unwrap().duplicate_window, DuplicateWindow::Bodies);
        for choice in DuplicateWindow::ALL {
            assert_eq!(choice.as_str().parse(), Ok(choice));
            let after = change(root.path(), &a, |s| s.duplicate_window = choice).unwrap();
            assert_eq!(after, read(root.path(), &a).unwrap());
        }
        let stored = || {
            let log = Log::open(root.path(), "tenants/a/settings").unwrap();
            String::from_utf8(log.latest().unwrap().unwrap().1).unwrap()
        };
        let budget = (Some(10_000_000_000), Some(5_000_000_000));
        change(root.path(), &a, |s| (s.query_bytes_max, s.query_nanos_max) = budget).unwrap();
        let after = read(root.path(), &a).unwrap();
        assert_eq!((after.query_bytes_max, after.query_nanos_max), budget);
        assert!(stored().contains("query_bytes_max"));
        change(root.path(), &a, |s| (s.query_bytes_max, s.query_nanos_max) = (None, None)).unwrap();
        assert!(!stored().contains("query_"), "older versions read it: {}", stored());
        assert_eq!(read(root.path(), &b).unwrap(), TenantSettings::default());
        let log = Log::open(root.path(), "tenants/a/settings").unwrap();
        let next = log.latest_number().unwrap().unwrap() + 1;
        log.create(next, br#"{"duplicate_window":"off","of_the_future":1}"#).unwrap();
        assert_eq!(read(root.path(), &a).unwrap_err().kind(), Kind::Bug);
    }
}
