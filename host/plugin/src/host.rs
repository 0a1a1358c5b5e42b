//! What a node has one of: engine, compiled components, memory budget, idle instances, and the slots of each tenant.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};
use wasmtime::Engine;

use crate::chain::Chain;
use crate::compile::Compiler;
use crate::engine::{Ticker, engine};
use crate::error::PluginError;
use crate::functions::Functions;
use crate::guest::{Instance, MemoryBudget};
use crate::metadata::Metadata;
use crate::options::PluginOptions;
use crate::signature::Signature;
use crate::slots::{Slot, Slots};
use crate::worlds::{Pre, World};

/// A component that has passed the upload gate.
pub struct Plugin {
    pub(crate) hash: String,
    pub(crate) world: World,
    pub(crate) metadata: Metadata,
    pub(crate) validator: jsonschema::Validator,
    pub(crate) pre: Pre,
    pub(crate) signatures: Vec<Signature>,
}

impl Plugin {
    /// Its content hash: SHA-256 of the component, as hex.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The world that it is for.
    pub fn world(&self) -> World {
        self.world
    }

    /// The functions or aggregates that queries may call; none of a filter or redactor.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// What it says about itself, checked.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("hash", &self.hash)
            .field("world", &self.world)
            .field("name", &self.metadata.name)
            .finish()
    }
}

/// A plugin that is bound to a tenant's data or queries, with its configuration.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Unique within the tenant: 1 to 63 of `a-z 0-9 -`.
    pub name: String,
    /// Content hash of the plugin.
    pub plugin: String,
    /// Its configuration, which fits the plugin's schema.
    #[serde(default = "empty_config")]
    pub config: serde_json::Value,
    /// The signals that it sees; empty for all, and for functions and aggregates, which queries call.
    #[serde(default)]
    pub signals: Vec<Signal>,
}

fn empty_config() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// The plugin host of a process.
pub struct PluginHost {
    pub(crate) options: PluginOptions,
    pub(crate) engine: Engine,
    pub(crate) compiler: Compiler,
    pub(crate) budget: Arc<MemoryBudget>,
    idle: Mutex<VecDeque<(u64, Instance)>>,
    ingesting: Arc<Slots>,
    /// Calls of functions that run, and instances that wait with accumulators for more rows.
    pub(crate) calling: Arc<Slots>,
    pub(crate) holding: Arc<Slots>,
    plugins: Mutex<HashMap<String, Weak<Plugin>>>,
    next_stage: AtomicU64,
    // Last, so that deadlines pass until everything else is gone.
    _ticker: Ticker,
}

impl PluginHost {
    /// A host within these bounds.
    ///
    /// # Errors
    /// [`PluginError::Host`] where the machine cannot give what the bounds ask for.
    pub fn new(options: PluginOptions) -> Result<Arc<PluginHost>, PluginError> {
        let engine = engine(&options)?;
        let compiler = Compiler::new(
            engine.clone(),
            options.cache_dir.clone(),
            options.cache_bytes_max,
            Duration::from_millis(options.compile_ms_max),
        );
        let budget = Arc::new(MemoryBudget { used: AtomicUsize::new(0), max: options.memory_total_bytes_max });
        let ticker = Ticker::start(&engine)?;
        Ok(Arc::new(PluginHost {
            engine,
            compiler,
            budget,
            idle: Mutex::default(),
            ingesting: Slots::new(options.tenant_instances_max),
            calling: Slots::new(options.tenant_instances_max),
            holding: Slots::new(options.tenant_instances_max),
            plugins: Mutex::default(),
            next_stage: AtomicU64::new(0),
            options,
            _ticker: ticker,
        }))
    }

    /// Passes a component through the upload gate. The same bytes give the same plugin as long as somebody holds it.
    ///
    /// # Errors
    /// [`PluginError::ComponentTooLarge`], or [`PluginError::Refused`] with the rule that it breaks (kind fix);
    /// [`PluginError::Busy`] where no instance is free to try it.
    pub fn load(self: &Arc<Self>, component: &[u8]) -> Result<Arc<Plugin>, PluginError> {
        let hash = crate::gate::hash_of(component);
        if let Some(plugin) = self.plugins.lock().get(&hash).and_then(Weak::upgrade) {
            return Ok(plugin);
        }
        let plugin = crate::gate::admit(self, component)?;
        let mut plugins = self.plugins.lock();
        plugins.retain(|_, plugin| plugin.strong_count() > 0);
        plugins.insert(hash, Arc::downgrade(&plugin));
        Ok(plugin)
    }

    /// The chain of a tenant: configurations are checked and each plugin is started once. All filters run before all
    /// redactors, within each in the order of the bindings.
    ///
    /// # Errors
    /// [`PluginError::BadBinding`] for a name that is not well formed or stands twice, a plugin that is not the named one, a
    /// configuration that does not fit the schema or that the plugin refuses.
    pub fn chain(
        self: &Arc<Self>,
        tenant: &TenantId,
        bindings: &[(Binding, Arc<Plugin>)],
    ) -> Result<Chain, PluginError> {
        Chain::try_new(self.clone(), tenant.clone(), bindings)
    }

    /// A number that no other binding of this process has: instances and verdicts never cross it.
    pub(crate) fn stage_number(&self) -> u64 {
        self.next_stage.fetch_add(1, Ordering::Relaxed)
    }

    /// An idle instance of this stage.
    pub(crate) fn take_idle(&self, stage: u64) -> Option<Instance> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|(s, _)| *s == stage)?;
        idle.remove(at).map(|(_, instance)| instance)
    }

    /// Keeps an instance for its stage; the one that was used longest ago makes room.
    pub(crate) fn put_idle(&self, stage: u64, instance: Instance) {
        let max = self.options.idle_instances_max.min(self.options.instances_max / 2) as usize;
        // Idle instances hold at most half of the node's memory: one that has grown beyond its share ends here.
        if instance.memory_bytes() > self.options.memory_total_bytes_max / 2 / max.max(1) {
            return;
        }
        let mut idle = self.idle.lock();
        idle.push_back((stage, instance));
        let over = idle.len().saturating_sub(max);
        // Ended outside of the lock: freeing a slot takes a system call.
        let gone: Vec<_> = idle.drain(..over).collect();
        drop(idle);
        drop(gone);
    }

    /// Ends idle instances: all of them where a slot is needed, or those of a stage that is gone.
    pub(crate) fn end_idle(&self, stage: Option<u64>) {
        let mut gone = Vec::new();
        let mut idle = self.idle.lock();
        let mut kept = VecDeque::with_capacity(idle.len());
        for (s, instance) in idle.drain(..) {
            if stage.is_none_or(|stage| stage == s) { gone.push(instance) } else { kept.push_back((s, instance)) }
        }
        *idle = kept;
        drop(idle);
        drop(gone);
    }

    /// A slot to run one chain for a tenant.
    pub(crate) fn slot(&self, tenant: &TenantId) -> Result<Slot, PluginError> {
        self.ingesting.take(tenant).ok_or_else(|| self.busy())
    }

    /// What a tenant is told that has all that it may have at once.
    pub(crate) fn busy(&self) -> PluginError {
        PluginError::Busy { limit: self.options.tenant_instances_max.into(), setting: "tenant_instances_max" }
    }

    /// The functions that a tenant's queries may call: those of the bindings whose plugins are functions or aggregates. A
    /// binding that cannot be started has an error for whoever calls it, and no other suffers.
    pub fn functions(self: &Arc<Self>, tenant: &TenantId, bindings: &[(Binding, Arc<Plugin>)]) -> Functions {
        Functions::new(self.clone(), tenant.clone(), bindings)
    }

    /// Checks a binding as it will run, whatever its world.
    ///
    /// # Errors
    /// [`PluginError::BadBinding`], as [`PluginHost::chain`].
    pub fn try_binding(
        self: &Arc<Self>,
        tenant: &TenantId,
        binding: &Binding,
        plugin: &Arc<Plugin>,
    ) -> Result<(), PluginError> {
        if plugin.world.is_called() {
            return crate::functions::try_binding(self, binding, plugin);
        }
        self.chain(tenant, &[(binding.clone(), plugin.clone())]).map(|_| ())
    }
}
