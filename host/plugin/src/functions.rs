//! The functions that a tenant's queries may call, and which of them a name means.
//!
//! `plugin.name`: a binding of that name, where its plugin has one function or one of the same name; else the function of that
//! name, where only one binding has it. `plugin.binding.name` is always right. `-` and `_` are the same in names, and so are
//! small and capital letters.

use std::fmt;
use std::sync::Arc;

use prism_model::TenantId;

use crate::chain::check_binding;
use crate::error::PluginError;
use crate::guest::Bounds;
use crate::host::{Binding, Plugin, PluginHost};
use crate::signature::Signature;
use crate::stage::Stage;
use crate::voice::Speech;
use crate::worlds::World;

/// A binding whose functions can be called.
pub(crate) struct Callable {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) binding: String,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) stage: Stage,
}

impl Callable {
    pub(crate) fn try_new(
        host: &Arc<PluginHost>,
        binding: &Binding,
        plugin: &Arc<Plugin>,
    ) -> Result<Callable, PluginError> {
        check_binding(binding, plugin)?;
        if !binding.signals.is_empty() {
            let reason = "queries call it, whatever signal they are over: expected no signals".to_owned();
            return Err(PluginError::BadBinding { binding: binding.name.clone(), reason });
        }
        let config = binding.config.to_string();
        // Rows of queries have been redacted.
        let stage = Stage::try_new(host, &binding.name, plugin, &config, Bounds::of(&host.options), Speech::Heard)?;
        Ok(Callable { host: host.clone(), binding: binding.name.clone(), plugin: plugin.clone(), stage })
    }

    fn number(&self, function: &str) -> Option<u32> {
        let position = self.plugin.signatures.iter().position(|s| alike(&s.name, function))?;
        u32::try_from(position).ok()
    }
}

impl Drop for Callable {
    fn drop(&mut self) {
        self.host.end_idle(Some(self.stage.number()));
    }
}

/// Starts a binding once, to see that it can be.
pub(crate) fn try_binding(host: &Arc<PluginHost>, binding: &Binding, plugin: &Arc<Plugin>) -> Result<(), PluginError> {
    Callable::try_new(host, binding, plugin).map(|_| ())
}

/// One function or aggregate of a binding. Cheap to clone.
#[derive(Clone)]
pub struct Function {
    pub(crate) callable: Arc<Callable>,
    pub(crate) number: u32,
}

impl Function {
    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.callable.plugin.signatures[self.number as usize]
    }

    /// Whether it aggregates rows; else it gives a value for each.
    pub fn aggregates(&self) -> bool {
        self.callable.plugin.world == World::Aggregator
    }

    /// Name of the binding.
    pub fn binding(&self) -> &str {
        &self.callable.binding
    }

    /// Name of the plugin.
    pub fn plugin(&self) -> &str {
        &self.callable.plugin.metadata.name
    }

    /// Whether both are of one binding, so that one instance may work for both.
    pub fn beside(&self, other: &Function) -> bool {
        Arc::ptr_eq(&self.callable, &other.callable)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.beside(other) && self.number == other.number
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin.{}.{}", self.callable.binding, self.signature())
    }
}

/// Why a name means no function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// The tenant has none of that name.
    Unknown {
        /// Names that it has, as queries may write them.
        known: Vec<String>,
    },
    /// Several bindings have one.
    Ambiguous {
        /// Names that tell them apart.
        names: Vec<String>,
    },
    /// The binding cannot be started.
    Broken {
        /// Its name.
        binding: String,
        /// Why.
        reason: String,
    },
}

/// The functions of one tenant. Made by [`PluginHost::functions`].
pub struct Functions {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) tenant: TenantId,
    callable: Vec<Arc<Callable>>,
    /// Bindings that cannot be started, and why.
    broken: Vec<(String, String)>,
}

impl Functions {
    pub(crate) fn new(host: Arc<PluginHost>, tenant: TenantId, bindings: &[(Binding, Arc<Plugin>)]) -> Functions {
        let (mut callable, mut broken) = (Vec::new(), Vec::new());
        for (binding, plugin) in bindings.iter().filter(|(_, plugin)| plugin.world.is_called()) {
            match Callable::try_new(&host, binding, plugin) {
                Ok(one) => callable.push(Arc::new(one)),
                Err(error) => {
                    tracing::warn!(%tenant, binding = binding.name, %error, "the functions of a binding cannot be called");
                    broken.push((binding.name.clone(), error.to_string()));
                }
            }
        }
        Functions { host, tenant, callable, broken }
    }

    /// The function that stands behind `plugin.` in a query.
    ///
    /// # Errors
    /// [`NotFound`], with what there is.
    pub fn find(&self, name: &str) -> Result<Function, NotFound> {
        let binding = name.split_once('.').map_or(name, |(binding, _)| binding);
        match &self.named(name)[..] {
            [one] => Ok(one.clone()),
            [] => Err(self.not_found(binding)),
            several => {
                let names = several.iter().map(|f| qualified(&f.callable, &f.signature().name)).collect();
                Err(NotFound::Ambiguous { names })
            }
        }
    }

    /// What a name may mean.
    fn named(&self, name: &str) -> Vec<Function> {
        let function = |callable: &Arc<Callable>, number| Function { callable: callable.clone(), number };
        if let Some((binding, of_binding)) = name.split_once('.') {
            let found = self.callable.iter().filter(|c| alike(&c.binding, binding));
            return found.filter_map(|c| Some(function(c, c.number(of_binding)?))).collect();
        }
        for callable in self.callable.iter().filter(|c| alike(&c.binding, name)) {
            let only = || (callable.plugin.signatures.len() == 1).then_some(0);
            if let Some(number) = callable.number(name).or_else(only) {
                return vec![function(callable, number)];
            }
        }
        self.callable.iter().filter_map(|c| Some(function(c, c.number(name)?))).collect()
    }

    fn not_found(&self, name: &str) -> NotFound {
        match self.broken.iter().find(|(binding, _)| alike(binding, name)) {
            Some((binding, reason)) => NotFound::Broken { binding: binding.clone(), reason: reason.clone() },
            None => NotFound::Unknown { known: self.names() },
        }
    }

    /// Every name by which a function can be called, the shortest that means it, in the order of bindings.
    pub fn names(&self) -> Vec<String> {
        let all = self.callable.iter().flat_map(|c| c.plugin.signatures.iter().map(move |s| (c, s)));
        let name = |(callable, signature): (&Arc<Callable>, &Signature)| {
            let is_it = |found: Vec<Function>| match &found[..] {
                [one] => Arc::ptr_eq(&one.callable, callable) && one.signature() == signature,
                _ => false,
            };
            let short = [signature.name.clone(), callable.binding.replace('-', "_")];
            let found = short.into_iter().find(|short| is_it(self.named(short)));
            found.unwrap_or_else(|| qualified(callable, &signature.name))
        };
        all.map(name).collect()
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").field("tenant", &self.tenant).field("names", &self.names()).finish()
    }
}

fn qualified(callable: &Callable, function: &str) -> String {
    format!("{}.{function}", callable.binding.replace('-', "_"))
}

fn alike(a: &str, b: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| plain(a) == plain(b))
}
