//! The chain that a batch runs through: all filters, then all redactors; and the only place that makes a [`Cleared`] batch.
//!
//! ```text
//! Batch -> stage (filter) ... -> stage (redactor) ... -> tidy -> Cleared
//! ```
//!
//! Fails closed: whatever goes wrong in a guest, nothing of the batch comes out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::{Batch, BatchId, Cleared, Redaction, Signal, TenantId};

use crate::error::{Failure, PluginError};
use crate::guest::Bounds;
use crate::host::{Binding, Plugin, PluginHost};
use crate::metadata::{CONFIG_BYTES_MAX, check_config};
pub(crate) use crate::stage::{Ran, Stage, Stopped};
use crate::voice::Speech;
use crate::worlds::World;

/// Batches that failed and may come again, remembered by id. A client that retries does so within minutes.
const FAILED_BATCHES_MAX: usize = 4_096;

/// What a call is told besides the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Time of receipt, unix nanoseconds.
    pub now_unix_nanos: i64,
    /// For guests that want randomness; the same for a repeated request.
    pub seed: u64,
    /// The request.
    pub batch_id: BatchId,
}

/// A batch that has passed, and what happened to it.
#[derive(Debug)]
pub struct Passed {
    /// What may be stored.
    pub cleared: Cleared,
    /// Items that filters dropped.
    pub dropped: Vec<Dropped>,
    /// What guests counted.
    pub counted: Vec<Counted>,
    /// Values that redactors changed or cleared (distinct ones where they work by value).
    pub redacted: u64,
    /// Time spent in guests, copies into and out of them included, in nanoseconds.
    pub guest_nanos: u64,
    /// Calls of guests.
    pub guest_calls: u64,
    /// Values whose verdict was remembered.
    pub cache_hits: u64,
    /// Values that might have been remembered and were not.
    pub cache_misses: u64,
}

/// Items that a filter dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Name of the binding.
    pub binding: String,
    /// The reason, one of the plugin's labels; empty where it has none.
    pub label: String,
    /// How many.
    pub count: u64,
}

/// What a guest counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Name of the binding.
    pub binding: String,
    /// One of the plugin's counters.
    pub counter: String,
    /// How much since the last batch.
    pub by: u64,
}

/// The plugins of one tenant, in order. Made by [`PluginHost::chain`]; may be used by many threads at once.
pub struct Chain {
    host: Arc<PluginHost>,
    tenant: TenantId,
    stages: Vec<Bound>,
    failed: Mutex<FailedBatches>,
}

struct Bound {
    binding: Binding,
    plugin: Arc<Plugin>,
    stage: Stage,
}

#[derive(Default)]
struct FailedBatches {
    attempts: HashMap<BatchId, u32>,
    order: VecDeque<BatchId>,
}

impl FailedBatches {
    fn fail(&mut self, id: BatchId) -> u32 {
        let attempts = self.attempts.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            0
        });
        *attempts += 1;
        let attempts = *attempts;
        if self.order.len() > FAILED_BATCHES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.attempts.remove(&oldest);
        }
        attempts
    }
}

impl Chain {
    pub(crate) fn try_new(
        host: Arc<PluginHost>,
        tenant: TenantId,
        bindings: &[(Binding, Arc<Plugin>)],
    ) -> Result<Chain, PluginError> {
        let redacts = bindings.iter().any(|(_, plugin)| plugin.world == World::Redactor);
        let bounds = Bounds::of(&host.options);
        let mut stages: Vec<Bound> = Vec::with_capacity(bindings.len());
        for (i, (binding, plugin)) in bindings.iter().enumerate() {
            check_binding(binding, plugin)?;
            if plugin.world.is_called() {
                return Err(bad(binding, "queries call it: no data runs through it"));
            }
            if bindings[..i].iter().any(|(other, _)| other.name == binding.name) {
                return Err(bad(binding, "a binding of this name stands twice"));
            }
            let speech = if redacts { Speech::Withheld } else { Speech::Heard };
            let stage = Stage::try_new(&host, &binding.name, plugin, &binding.config.to_string(), bounds, speech)?;
            stages.push(Bound { binding: binding.clone(), plugin: plugin.clone(), stage });
        }
        // Stable: within a world the order of the bindings stays.
        stages.sort_by_key(|b| b.plugin.world == World::Redactor);
        Ok(Chain { host, tenant, stages, failed: Mutex::default() })
    }

    /// Whether no plugin sees this signal: then [`Chain::run`] only hands the batch on.
    pub fn is_empty(&self, signal: Signal) -> bool {
        !self.stages.iter().any(|b| sees(&b.binding, signal))
    }

    /// Runs every stage. Works for as long as the guests do (bounded by `cpu_ms_max` and `wall_ms_max` a call): call it where
    /// blocking is allowed.
    ///
    /// # Errors
    /// [`PluginError::Failed`] (kind retry) where a guest failed; [`PluginError::GivenUp`] (kind fix) once guests have failed
    /// on the same batch id `failures_max` times; [`PluginError::Busy`] (kind wait) where no instance is free. In every case
    /// nothing of the batch comes out.
    pub fn run(&self, batch: Batch, call: &Call) -> Result<Passed, PluginError> {
        let signal = batch.signal;
        let stages: Vec<&Bound> = self.stages.iter().filter(|b| sees(&b.binding, signal)).collect();
        if stages.is_empty() {
            return Ok(passed(batch));
        }
        let max = self.host.options.failures_max;
        let attempts = self.failed.lock().attempts.get(&call.batch_id).copied().unwrap_or(0);
        if attempts >= max {
            return Err(PluginError::GivenUp { binding: stages[0].binding.name.clone(), attempts });
        }
        let _slot = self.host.slot(&self.tenant)?;
        let mut out = Outcome::default();
        let mut batch = batch;
        let redacts = stages.iter().any(|b| b.plugin.world == World::Redactor);
        for bound in stages {
            let ran = bound.stage.try_run(&self.host, &bound.plugin, batch, call);
            batch = match ran {
                Ok(ran) => out.note(bound, ran),
                Err(stopped) => return Err(self.refuse(bound, stopped, call.batch_id)),
            };
        }
        if redacts {
            batch = crate::apply::tidy(batch).map_err(PluginError::Host)?;
        }
        if let Some(origin) = batch.origins.first_mut() {
            origin.redactions.append(&mut out.redactions);
        }
        let passed = passed(batch);
        Ok(Passed {
            dropped: out.dropped,
            counted: out.counted,
            redacted: out.redacted,
            guest_nanos: out.guest_nanos,
            guest_calls: out.guest_calls,
            cache_hits: out.cache_hits,
            cache_misses: out.cache_misses,
            ..passed
        })
    }

    fn refuse(&self, bound: &Bound, stopped: Stopped, id: BatchId) -> PluginError {
        let binding = bound.binding.name.clone();
        match stopped {
            Stopped::Failure(failure) => {
                let attempts = self.failed.lock().fail(id);
                tracing::warn!(tenant = %self.tenant, binding, attempts, %failure, "a plugin failed; the batch is refused");
                if attempts >= self.host.options.failures_max {
                    return PluginError::GivenUp { binding, attempts };
                }
                PluginError::Failed { binding, plugin: bound.plugin.metadata.name.clone(), failure }
            }
            Stopped::Full(full) => full.error(&self.host.options),
            Stopped::Bug(what) => PluginError::Host(what),
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for bound in &self.stages {
            self.host.end_idle(Some(bound.stage.number()));
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bindings = self.stages.iter().map(|b| &b.binding.name);
        f.debug_struct("Chain").field("tenant", &self.tenant).field("bindings", &bindings.collect::<Vec<_>>()).finish()
    }
}

/// What the stages said, while they run.
#[derive(Default)]
struct Outcome {
    dropped: Vec<Dropped>,
    counted: Vec<Counted>,
    redactions: Vec<Redaction>,
    redacted: u64,
    guest_nanos: u64,
    guest_calls: u64,
    cache_hits: u64,
    cache_misses: u64,
}

impl Outcome {
    fn note(&mut self, bound: &Bound, ran: Ran) -> Batch {
        let (binding, metadata) = (&bound.binding.name, &bound.plugin.metadata);
        for (label, count) in ran.dropped {
            let label = label.and_then(|l| metadata.labels.get(usize::from(l))).cloned().unwrap_or_default();
            self.dropped.push(Dropped { binding: binding.clone(), label, count });
        }
        for (counter, by) in metadata.counters.iter().zip(ran.counted).filter(|(_, by)| *by > 0) {
            self.counted.push(Counted { binding: binding.clone(), counter: counter.clone(), by });
        }
        for (label, count) in ran.redacted {
            let Some(label) = metadata.labels.get(usize::from(label)).cloned() else { continue };
            self.redacted += count;
            let (plugin, version) = (metadata.name.clone(), bound.plugin.hash.clone());
            self.redactions.push(Redaction { plugin, version, label, count });
        }
        self.guest_nanos += ran.guest_nanos;
        self.guest_calls += ran.guest_calls;
        self.cache_hits += ran.cache_hits;
        self.cache_misses += ran.cache_misses;
        ran.batch
    }
}

fn passed(batch: Batch) -> Passed {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the plugin chain: every stage that sees the signal has run (PL-1)"
    )]
    let cleared = Cleared::by_plugin_chain(batch);
    Passed {
        cleared,
        dropped: Vec::new(),
        counted: Vec::new(),
        redacted: 0,
        guest_nanos: 0,
        guest_calls: 0,
        cache_hits: 0,
        cache_misses: 0,
    }
}

fn sees(binding: &Binding, signal: Signal) -> bool {
    binding.signals.is_empty() || binding.signals.contains(&signal)
}

pub(crate) fn bad(binding: &Binding, reason: impl Into<String>) -> PluginError {
    PluginError::BadBinding { binding: binding.name.clone(), reason: reason.into() }
}

pub(crate) fn check_binding(binding: &Binding, plugin: &Plugin) -> Result<(), PluginError> {
    let simple = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=63).contains(&binding.name.len()) || !binding.name.bytes().all(simple) {
        let name = binding.name.chars().take(80).collect();
        let reason = "expected a name of 1 to 63 characters `a-z`, `0-9`, `-`".into();
        return Err(PluginError::BadBinding { binding: name, reason });
    }
    if binding.plugin != plugin.hash {
        return Err(bad(binding, format!("expected plugin `{}`, found `{}`", binding.plugin, plugin.hash)));
    }
    let size = binding.config.to_string().len();
    if size > CONFIG_BYTES_MAX {
        return Err(bad(
            binding,
            format!("expected a configuration of at most {CONFIG_BYTES_MAX} bytes, found {size}"),
        ));
    }
    check_config(&plugin.validator, &binding.config)
        .map_err(|e| bad(binding, format!("the configuration does not fit: {e}")))
}

/// The labels of one stage with their counts.
pub(crate) type ByLabel<K> = BTreeMap<K, u64>;

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Failure(failure)
    }
}
