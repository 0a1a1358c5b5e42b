//! Which plugins a tenant's data runs through and its queries call: one JSON document in the store's control log, a new number for each change.
//!
//! Components are kept beside it by their hash, per tenant, so that erasing a tenant erases them. Neither changes nor components
//! are removed before, which is the way back (`history`). Not here: running them (`prism-plugin`), noticing a change while data
//! comes in (`chains`).

mod history;

use std::path::Path;
use std::sync::Arc;

use prism_model::{Classify, Kind, Signal, TenantId};
use prism_plugin::{Binding, Plugin, PluginError, PluginHost};
use prism_store::StoreError;
use prism_store::control::{Blobs, Create, Log};

pub use history::{RolledBack, Version, history, rollback};

/// Bindings of one tenant: each costs every batch a pass, and more are more likely a loop in a script.
pub const BINDINGS_MAX: usize = 32;

/// How often an edit starts over because another came first. Each round one of the editors wins.
const EDIT_ATTEMPTS_MAX: usize = 64;

/// What the control log holds.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// In the order in which they run within their stage.
    bindings: Vec<Binding>,
}

/// A binding to be made.
#[derive(Clone, Debug, Default)]
pub struct NewBinding {
    /// Its name; the plugin's own where none is given. A binding of this name is replaced where it stands.
    pub name: Option<String>,
    /// Its configuration; where none is given, that of the binding that it replaces, else `{}`.
    pub config: Option<serde_json::Value>,
    /// The signals that it sees; where none are given, those of the binding that it replaces, else all.
    pub signals: Vec<Signal>,
}

/// Bindings that cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The plugin or its configuration is refused.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The store cannot be read or written.
    #[error("the bindings of tenant `{tenant}` cannot be kept or read: {source}")]
    Store {
        /// Whose bindings.
        tenant: TenantId,
        /// Why.
        source: StoreError,
    },
    /// What is stored is no list of bindings.
    #[error("the bindings of tenant `{tenant}` are damaged: {reason}")]
    Damaged {
        /// Whose bindings.
        tenant: TenantId,
        /// What is wrong with them.
        reason: String,
    },
    /// There is no such binding.
    #[error("tenant `{tenant}` has no binding `{name}`")]
    NoSuchBinding {
        /// Whose bindings.
        tenant: TenantId,
        /// The name.
        name: String,
    },
    /// It has no state to go back to.
    #[error("binding `{name}` of tenant `{tenant}` was never another than it is: there is nothing to go back to")]
    NoFormer {
        /// Whose bindings.
        tenant: TenantId,
        /// The name.
        name: String,
    },
    /// It was not bound by that change.
    #[error(
        "binding `{name}` of tenant `{tenant}` has no former state by change {change}: `prism plugin history` shows them"
    )]
    NoSuchChange {
        /// Whose bindings.
        tenant: TenantId,
        /// The name.
        name: String,
        /// The number that was asked for.
        change: u64,
    },
    /// The tenant has no such component, or several whose hashes begin so.
    #[error(
        "expected the hash of a component of tenant `{tenant}` (`prism plugin upload` prints it), or its first digits, found \
         `{hash}`, which {found} of them begin with"
    )]
    NoSuchComponent {
        /// Whose components.
        tenant: TenantId,
        /// What was asked for.
        hash: String,
        /// How many begin so.
        found: usize,
    },
    /// The tenant has as many as it may.
    #[error("tenant `{tenant}` has {BINDINGS_MAX} bindings already, which is the limit")]
    TooMany {
        /// Whose bindings.
        tenant: TenantId,
    },
    /// Others changed the bindings each time just before.
    #[error("the bindings of tenant `{tenant}` are being changed by others")]
    Contended {
        /// Whose bindings.
        tenant: TenantId,
    },
}

impl Classify for BindError {
    fn kind(&self) -> Kind {
        match self {
            BindError::Plugin(e) => e.kind(),
            BindError::Store { source, .. } => source.kind(),
            BindError::Damaged { .. } => Kind::Bug,
            BindError::NoSuchBinding { .. } | BindError::NoSuchComponent { .. } => Kind::NotFound,
            BindError::NoFormer { .. } | BindError::NoSuchChange { .. } => Kind::NotFound,
            BindError::TooMany { .. } => Kind::Fix,
            BindError::Contended { .. } => Kind::Retry,
        }
    }
}

/// The bindings of one tenant below a data folder. Blocks on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    tenant: TenantId,
    log: Log,
    components: Blobs,
}

impl Ledger {
    pub(crate) fn open(root: &Path, tenant: &TenantId) -> Result<Ledger, BindError> {
        let failed = |source| BindError::Store { tenant: tenant.clone(), source };
        Ok(Ledger {
            tenant: tenant.clone(),
            log: Log::open(root, &format!("tenants/{tenant}/bindings")).map_err(failed)?,
            components: Blobs::open(root, &format!("tenants/{tenant}/plugins")).map_err(failed)?,
        })
    }

    fn failed(&self, source: StoreError) -> BindError {
        BindError::Store { tenant: self.tenant.clone(), source }
    }

    /// The number of the latest change; 0 where there was none.
    pub(crate) fn version(&self) -> Result<u64, BindError> {
        Ok(self.log.latest_number().map_err(|e| self.failed(e))?.unwrap_or(0))
    }

    /// The bindings after the latest change, and its number.
    pub(crate) fn latest(&self) -> Result<(u64, Vec<Binding>), BindError> {
        let Some((version, bytes)) = self.log.latest().map_err(|e| self.failed(e))? else { return Ok((0, Vec::new())) };
        Ok((version, self.parsed(&bytes)?))
    }

    fn parsed(&self, bytes: &[u8]) -> Result<Vec<Binding>, BindError> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|e| BindError::Damaged { tenant: self.tenant.clone(), reason: e.to_string() })?;
        Ok(document.bindings)
    }

    /// The component of a binding.
    pub(crate) fn component(&self, binding: &Binding) -> Result<Vec<u8>, BindError> {
        let found = self.components.get(&binding.plugin).map_err(|e| self.failed(e))?;
        found.ok_or_else(|| BindError::Damaged {
            tenant: self.tenant.clone(),
            reason: format!("the component of binding `{}` is missing", binding.name),
        })
    }

    /// Applies a change to whatever the latest bindings are, with their number, until no other comes between.
    fn edit<T>(&self, change: impl Fn(u64, &mut Vec<Binding>) -> Result<T, BindError>) -> Result<T, BindError> {
        for _ in 0..EDIT_ATTEMPTS_MAX {
            let (version, mut bindings) = self.latest()?;
            let result = change(version, &mut bindings)?;
            let bytes = serde_json::to_vec(&Document { bindings })
                .map_err(|e| BindError::Damaged { tenant: self.tenant.clone(), reason: e.to_string() })?;
            if self.log.create(version + 1, &bytes).map_err(|e| self.failed(e))? == Create::Created {
                return Ok(result);
            }
        }
        Err(BindError::Contended { tenant: self.tenant.clone() })
    }
}

/// The bindings of a tenant, in the order in which they run within their stage.
///
/// # Errors
/// [`BindError`]: they cannot be read.
pub fn list(root: &Path, tenant: &TenantId) -> Result<Vec<Binding>, BindError> {
    Ok(Ledger::open(root, tenant)?.latest()?.1)
}

/// The component of a binding.
///
/// # Errors
/// [`BindError`]: it cannot be read.
pub fn component(root: &Path, tenant: &TenantId, binding: &Binding) -> Result<Vec<u8>, BindError> {
    Ledger::open(root, tenant)?.component(binding)
}

/// Keeps a component for a tenant, so that it can be bound by its hash. It passes the upload gate; nothing runs it yet.
///
/// # Errors
/// [`BindError`]: the plugin is refused, or nothing can be kept.
pub fn upload(
    root: &Path,
    host: &Arc<PluginHost>,
    tenant: &TenantId,
    component: &[u8],
) -> Result<Arc<Plugin>, BindError> {
    let plugin = host.load(component)?;
    let ledger = Ledger::open(root, tenant)?;
    ledger.components.put(plugin.hash(), component).map_err(|e| ledger.failed(e))?;
    Ok(plugin)
}

/// A component that was uploaded or bound for a tenant, by its hash or the first digits of it.
///
/// # Errors
/// [`BindError`]: there is none, there are several, or it cannot be read.
pub fn uploaded(root: &Path, tenant: &TenantId, hash: &str) -> Result<Vec<u8>, BindError> {
    let ledger = Ledger::open(root, tenant)?;
    let found = ledger.components.beginning_with(hash).map_err(|e| ledger.failed(e))?;
    let component = match &found[..] {
        [one] => ledger.components.get(one).map_err(|e| ledger.failed(e))?,
        _ => None,
    };
    component.ok_or_else(|| BindError::NoSuchComponent {
        tenant: tenant.clone(),
        hash: hash.chars().take(80).collect(),
        found: found.len(),
    })
}

/// A binding that was made, and what stood there before.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// As it is now.
    pub binding: Binding,
    /// The one that it replaced.
    pub before: Option<Binding>,
}

/// Binds a component: it passes the upload gate, its configuration is checked, it is kept, and every process that takes the
/// tenant's data runs it within a second.
///
/// # Errors
/// [`BindError`]: the plugin or its configuration is refused, or nothing can be kept.
pub fn bind(
    root: &Path,
    host: &Arc<PluginHost>,
    tenant: &TenantId,
    component: &[u8],
    new: NewBinding,
) -> Result<Bound, BindError> {
    let plugin = host.load(component)?;
    let ledger = Ledger::open(root, tenant)?;
    let name = new.name.unwrap_or_else(|| plugin.metadata().name.clone());
    ledger.edit(|_, bindings| {
        let at = bindings.iter().position(|b| b.name == name);
        let before = at.map(|at| bindings[at].clone());
        // A newer version of a plugin must not lose what the older one was told.
        let (config, signals) = before.as_ref().map(|b| (b.config.clone(), b.signals.clone())).unzip();
        let none = || serde_json::Value::Object(serde_json::Map::new());
        let binding = Binding {
            name: name.clone(),
            plugin: plugin.hash().to_owned(),
            config: new.config.clone().or(config).unwrap_or_else(none),
            signals: if new.signals.is_empty() { signals.unwrap_or_default() } else { new.signals.clone() },
        };
        // Alone, since the others may be broken: this may be the change that mends them.
        host.try_binding(tenant, &binding, &plugin)?;
        // The component first: a binding must never point to nothing.
        ledger.components.put(&binding.plugin, component).map_err(|e| ledger.failed(e))?;
        match at {
            Some(at) => bindings[at] = binding.clone(),
            None if bindings.len() >= BINDINGS_MAX => return Err(BindError::TooMany { tenant: tenant.clone() }),
            None => bindings.push(binding.clone()),
        }
        Ok(Bound { binding, before })
    })
}

/// Takes a binding away. Its component stays, for a way back.
///
/// # Errors
/// [`BindError`]: there is no such binding, or nothing can be kept.
pub fn unbind(root: &Path, tenant: &TenantId, name: &str) -> Result<Binding, BindError> {
    Ledger::open(root, tenant)?.edit(|_, bindings| match bindings.iter().position(|b| b.name == name) {
        Some(at) => Ok(bindings.remove(at)),
        None => Err(BindError::NoSuchBinding { tenant: tenant.clone(), name: name.chars().take(80).collect() }),
    })
}
