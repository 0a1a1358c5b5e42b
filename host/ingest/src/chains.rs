//! What each tenant has decided about its data: its settings, the chain of its plugins and the functions that its queries may
//! call, built anew when bindings change.
//!
//! A change counts within a second in every process (`follow`). Fails closed: where the bindings cannot be read or a plugin
//! cannot be loaded, there is no chain, so nothing of the tenant is taken (PL-1); the same where its settings cannot be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::{Classify, Kind, TenantId};
use prism_plugin::{Binding, Chain, Functions, Plugin, PluginHost};

use crate::bindings::{BindError, Ledger};
use crate::clocks::Clock;
use crate::follow::Followed;
use crate::settings::{Document, SettingsError, TenantSettings};

/// How long a chain that cannot be built is not tried again: loading a plugin may cost seconds of compiling.
const RETRY_NANOS: i64 = 5_000_000_000;

/// What a tenant decided cannot be had now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the tenant's plugins or settings cannot be had now, and nothing is done without them: {reason}")]
pub struct ChainError {
    reason: String,
}

impl Classify for ChainError {
    /// Whatever it is, nothing is wrong with the batch: the same may be sent again once the plugins work.
    fn kind(&self) -> Kind {
        Kind::Retry
    }
}

impl ChainError {
    fn new(e: impl std::fmt::Display) -> ChainError {
        ChainError { reason: e.to_string() }
    }
}

/// What all tenants decided that this process works for.
pub struct Chains {
    bindings: Arc<Followed<Bound>>,
    /// Apart from the plugins, which a query that calls none need not wait for.
    settings: Arc<Followed<Set>>,
}

/// The bindings of a tenant, ready to be run.
#[derive(Clone)]
struct Bound {
    built_at: i64,
    version: u64,
    chain: Result<Arc<Chain>, ChainError>,
    functions: Result<Arc<Functions>, ChainError>,
}

/// The settings of a tenant.
#[derive(Clone)]
struct Set {
    version: u64,
    settings: Result<TenantSettings, ChainError>,
}

/// What a tenant has decided.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The plugins that its batches run through.
    pub chain: Arc<Chain>,
    /// Its settings.
    pub settings: TenantSettings,
}

impl Chains {
    /// Chains from the bindings below a data folder.
    pub fn new(root: PathBuf, host: Arc<PluginHost>, clock: Clock) -> Arc<Chains> {
        let below = root.clone();
        let bindings = Followed::new(clock.clone(), move |tenant: &TenantId, now, before| {
            // An unreadable log is looked at again each time, since it names no version.
            look_at_bindings(&below, &host, tenant, now, before).unwrap_or_else(|e| Bound {
                built_at: now,
                version: u64::MAX,
                chain: Err(ChainError::new(&e)),
                functions: Err(ChainError::new(&e)),
            })
        });
        let settings = Followed::new(clock, move |tenant: &TenantId, _now, before| {
            look_at_settings(&root, tenant, before)
                .unwrap_or_else(|e| Set { version: u64::MAX, settings: Err(ChainError::new(e)) })
        });
        Arc::new(Chains { bindings, settings })
    }

    /// The settings of a tenant, and the chain through which its batch must run now.
    ///
    /// # Errors
    /// [`ChainError`] (kind retry): settings or bindings cannot be read, or a plugin cannot be loaded.
    pub async fn of(&self, tenant: &TenantId) -> Result<Decided, ChainError> {
        let (chain, settings) = tokio::join!(self.bound(tenant), self.settings(tenant));
        Ok(Decided { chain: chain?.chain?, settings: settings? })
    }

    /// The settings of a tenant now. No plugin is loaded for them.
    ///
    /// # Errors
    /// [`ChainError`] (kind retry): they cannot be read.
    pub async fn settings(&self, tenant: &TenantId) -> Result<TenantSettings, ChainError> {
        let looked = self.settings.latest(tenant).await;
        looked.map_err(|_| ChainError::new("looking at the settings failed inside of Prism"))?.settings
    }

    /// The functions that the tenant's queries may call now. A binding that does not start breaks none of the others.
    ///
    /// # Errors
    /// [`ChainError`] (kind retry): bindings cannot be read, or a plugin cannot be loaded.
    pub async fn functions(&self, tenant: &TenantId) -> Result<Arc<Functions>, ChainError> {
        self.bound(tenant).await?.functions
    }

    async fn bound(&self, tenant: &TenantId) -> Result<Bound, ChainError> {
        let looked = self.bindings.latest(tenant).await;
        looked.map_err(|_| ChainError::new("looking at the bindings failed inside of Prism"))
    }
}

fn look_at_settings(root: &Path, tenant: &TenantId, before: Option<Set>) -> Result<Set, SettingsError> {
    let document = Document::open(root, tenant)?;
    let version = document.version()?;
    if let Some(before) = before.filter(|before| before.version == version) {
        return Ok(before);
    }
    let (version, settings) = document.latest()?;
    Ok(Set { version, settings: Ok(settings) })
}

fn look_at_bindings(
    root: &Path,
    host: &Arc<PluginHost>,
    tenant: &TenantId,
    now: i64,
    before: Option<Bound>,
) -> Result<Bound, BindError> {
    let ledger = Ledger::open(root, tenant)?;
    let version = ledger.version()?;
    let stays = |before: &Bound| {
        let tried_lately = (0..RETRY_NANOS).contains(&now.wrapping_sub(before.built_at));
        before.version == version && (before.chain.is_ok() || tried_lately)
    };
    if let Some(before) = before.filter(stays) {
        return Ok(before);
    }
    let (version, bindings) = ledger.latest()?;
    let loaded = load(host, &ledger, bindings);
    let functions = match &loaded {
        Ok(loaded) => Ok(Arc::new(host.functions(tenant, loaded))),
        Err(e) => Err(ChainError::new(e)),
    };
    let chain = loaded.and_then(|mut loaded| {
        // What queries call stands in no batch's way.
        loaded.retain(|(_, plugin)| !plugin.world().is_called());
        Ok(host.chain(tenant, &loaded)?)
    });
    if let Err(e) = &chain {
        tracing::warn!(%tenant, version, error = %e, "the plugins of a tenant cannot be run");
    }
    let chain = chain.map(Arc::new).map_err(ChainError::new);
    Ok(Bound { built_at: now, version, chain, functions })
}

fn load(
    host: &Arc<PluginHost>,
    ledger: &Ledger,
    bindings: Vec<Binding>,
) -> Result<Vec<(Binding, Arc<Plugin>)>, BindError> {
    let load = |binding: Binding| -> Result<(Binding, Arc<Plugin>), BindError> {
        let plugin = host.load(&ledger.component(&binding)?)?;
        Ok((binding, plugin))
    };
    bindings.into_iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use prism_plugin::PluginOptions;
    use prism_store::control::Log;

    use super::*;
    use crate::settings;

    #[tokio::test]
    async fn settings_are_known_within_a_second_whatever_the_plugins_are() {
        let root = tempfile::tempdir().unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let host = PluginHost::new(PluginOptions { cache_dir: None, ..PluginOptions::default() }).unwrap();
        let now = Arc::new(AtomicI64::new(0));
        let clock = now.clone();
        let chains = Chains::new(root.path().to_owned(), host, Arc::new(move || clock.load(Ordering::SeqCst)));
        Log::open(root.path(), "tenants/acme/bindings").unwrap().create(1, b"no json").unwrap();
        assert_eq!(chains.settings(&tenant).await.unwrap(), TenantSettings::default());
        settings::change(root.path(), &tenant, |s| s.query_bytes_max = Some(7)).unwrap();
        now.fetch_add(1_000_000_000, Ordering::SeqCst);
        assert_eq!(chains.settings(&tenant).await.unwrap().query_bytes_max, Some(7));
        assert_eq!(chains.of(&tenant).await.unwrap_err().kind(), Kind::Retry);
        assert_eq!(chains.functions(&tenant).await.unwrap_err().kind(), Kind::Retry);
        // A clock that was set back makes nothing young.
        settings::change(root.path(), &tenant, |s| s.query_bytes_max = None).unwrap();
        now.fetch_sub(3_600_000_000_000, Ordering::SeqCst);
        assert_eq!(chains.settings(&tenant).await.unwrap().query_bytes_max, None);
        Log::open(root.path(), "tenants/acme/settings").unwrap().create(3, b"no json").unwrap();
        now.fetch_add(1_000_000_000, Ordering::SeqCst);
        assert!(chains.settings(&tenant).await.is_err(), "not known is not the default");
    }
}
