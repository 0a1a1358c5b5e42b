//! What each tenant has decided about its data: its settings, the chain of its plugins and the functions that its queries may
//! call, built anew when bindings change.
//!
//! A change counts within a second in every process: what is known is believed for [`FRESH_NANOS`], looked up beside the work
//! for a little longer, and after that waited for. Fails closed: where the bindings cannot be read or a plugin cannot be
//! loaded, there is no chain, so nothing of the tenant is taken (PL-1); the same where its settings cannot be read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prism_model::{Classify, Kind, TenantId};
use prism_plugin::{Binding, Chain, Functions, Plugin, PluginHost};

use crate::bindings::{BindError, Ledger};
use crate::settings::{Document, SettingsError, TenantSettings};

/// Unix nanoseconds now.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How long a chain is believed to be the latest.
const FRESH_NANOS: i64 = 400_000_000;

/// How long it is used while a look for news runs beside the work. With the time of a look, a change counts within a second.
const USABLE_NANOS: i64 = 800_000_000;

/// How long a chain that cannot be built is not tried again: loading a plugin may cost seconds of compiling.
const RETRY_NANOS: i64 = 5_000_000_000;

/// There is no chain for a tenant now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the tenant's plugins or settings cannot be had now, so nothing is taken: {reason}")]
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

/// Why a look brought nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Bindings(#[from] BindError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// The chains of all tenants that this process takes data of.
pub struct Chains {
    root: PathBuf,
    host: Arc<PluginHost>,
    clock: Clock,
    tenants: Mutex<HashMap<TenantId, Arc<Place>>>,
}

/// The chain of one tenant.
#[derive(Default)]
struct Place {
    known: Mutex<Option<Known>>,
    /// Held while somebody looks for news, so that others wait for the answer instead of looking too.
    looking: tokio::sync::Mutex<()>,
    looking_beside: AtomicBool,
}

#[derive(Clone)]
struct Known {
    /// When the look began that found it.
    seen_at: i64,
    built_at: i64,
    version: u64,
    chain: Result<Arc<Chain>, ChainError>,
    functions: Result<Arc<Functions>, ChainError>,
    settings_version: u64,
    settings: TenantSettings,
}

impl Known {
    fn decided(self) -> Result<Decided, ChainError> {
        Ok(Decided { chain: self.chain?, settings: self.settings })
    }

    fn functions(self) -> Result<Arc<Functions>, ChainError> {
        self.functions
    }
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
        Arc::new(Chains { root, host, clock, tenants: Mutex::default() })
    }

    /// The settings of a tenant, and the chain through which its batch must run now.
    ///
    /// # Errors
    /// [`ChainError`] (kind retry): settings or bindings cannot be read, or a plugin cannot be loaded.
    pub async fn of(self: &Arc<Self>, tenant: &TenantId) -> Result<Decided, ChainError> {
        self.latest(tenant).await?.decided()
    }

    /// The functions that the tenant's queries may call now. A binding that does not start breaks none of the others.
    ///
    /// # Errors
    /// [`ChainError`] (kind retry): bindings cannot be read, or a plugin cannot be loaded.
    pub async fn functions(self: &Arc<Self>, tenant: &TenantId) -> Result<Arc<Functions>, ChainError> {
        self.latest(tenant).await?.functions()
    }

    async fn latest(self: &Arc<Self>, tenant: &TenantId) -> Result<Known, ChainError> {
        let place = self.tenants.lock().entry(tenant.clone()).or_default().clone();
        if let Some((known, age)) = self.known(&place) {
            if age < FRESH_NANOS {
                return Ok(known);
            }
            if age < USABLE_NANOS {
                self.look_beside(tenant, &place);
                return Ok(known);
            }
        }
        self.look(tenant, &place).await
    }

    /// What is known, and its age. A clock that was set back makes everything unknown rather than young.
    fn known(&self, place: &Place) -> Option<(Known, i64)> {
        let known = place.known.lock().clone()?;
        let age = (self.clock)().checked_sub(known.seen_at).filter(|age| *age >= 0)?;
        Some((known, age))
    }

    fn look_beside(self: &Arc<Self>, tenant: &TenantId, place: &Arc<Place>) {
        if place.looking_beside.swap(true, Ordering::AcqRel) {
            return;
        }
        let (chains, tenant, place) = (self.clone(), tenant.clone(), place.clone());
        tokio::spawn(async move {
            // The next use tells its error.
            let _ = chains.look(&tenant, &place).await;
            place.looking_beside.store(false, Ordering::Release);
        });
    }

    async fn look(self: &Arc<Self>, tenant: &TenantId, place: &Arc<Place>) -> Result<Known, ChainError> {
        let _looking = place.looking.lock().await;
        if let Some((known, age)) = self.known(place)
            && age < FRESH_NANOS
        {
            return Ok(known);
        }
        let (chains, tenant, before) = (self.clone(), tenant.clone(), place.known.lock().clone());
        let looked = tokio::task::spawn_blocking(move || chains.look_now(&tenant, before)).await;
        let known = looked.map_err(|_| ChainError::new("looking at the bindings failed inside of Prism"))?;
        *place.known.lock() = Some(known.clone());
        Ok(known)
    }

    fn look_now(&self, tenant: &TenantId, before: Option<Known>) -> Known {
        let now = (self.clock)();
        let look = || -> Result<Known, LookError> {
            let document = Document::open(&self.root, tenant)?;
            let settings_version = document.version()?;
            let (settings_version, settings) = match &before {
                Some(before) if before.settings_version == settings_version => (settings_version, before.settings),
                _ => document.latest()?,
            };
            let ledger = Ledger::open(&self.root, tenant)?;
            let version = ledger.version()?;
            if let Some(before) = before.filter(|b| b.version == version)
                && (before.chain.is_ok() || (0..RETRY_NANOS).contains(&now.wrapping_sub(before.built_at)))
            {
                return Ok(Known { seen_at: now, settings_version, settings, ..before });
            }
            let (version, bindings) = ledger.latest()?;
            let loaded = self.load(&ledger, bindings);
            let functions = match &loaded {
                Ok(loaded) => Ok(Arc::new(self.host.functions(tenant, loaded))),
                Err(e) => Err(ChainError::new(e)),
            };
            let chain = loaded.and_then(|mut loaded| {
                // What queries call stands in no batch's way.
                loaded.retain(|(_, plugin)| !plugin.world().is_called());
                Ok(self.host.chain(tenant, &loaded)?)
            });
            if let Err(e) = &chain {
                tracing::warn!(%tenant, version, error = %e, "the plugins of a tenant cannot be run");
            }
            let chain = chain.map(Arc::new).map_err(ChainError::new);
            Ok(Known { seen_at: now, built_at: now, version, chain, functions, settings_version, settings })
        };
        // An unreadable log is looked at again each time, since it names no version.
        look().unwrap_or_else(|e| Known {
            seen_at: now,
            built_at: now,
            version: u64::MAX,
            chain: Err(ChainError::new(&e)),
            functions: Err(ChainError::new(&e)),
            settings_version: u64::MAX,
            settings: TenantSettings::default(),
        })
    }

    fn load(&self, ledger: &Ledger, bindings: Vec<Binding>) -> Result<Vec<(Binding, Arc<Plugin>)>, BindError> {
        let load = |binding: Binding| -> Result<(Binding, Arc<Plugin>), BindError> {
            let plugin = self.host.load(&ledger.component(&binding)?)?;
            Ok((binding, plugin))
        };
        bindings.into_iter().map(load).collect()
    }
}
