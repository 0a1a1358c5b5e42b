//! One instance of a guest: how it is called, within which bounds, and what its host functions do.
//!
//! Not here: which instance is used again (`host`), what is in a batch (`view`), whether an answer is right (`edit`,
//! `verdict`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::bindings::{self, base, batches, filter, redactor};
use crate::engine::thread_cpu_time;
use crate::error::{Failure, PluginError};
use crate::metadata::{Metadata, Need};
use crate::options::PluginOptions;
use crate::voice::{Voice, one_line};
use crate::worlds::{Exports, Pre};

/// Bytes that a filter may keep between calls (`memory.save`): some counters and averages.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Bounds of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: usize,
    pub(crate) output_bytes: usize,
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

impl Bounds {
    pub(crate) fn of(options: &PluginOptions) -> Bounds {
        Bounds {
            memory_bytes: options.memory_bytes_max,
            output_bytes: options.output_bytes_max,
            cpu: Duration::from_millis(options.cpu_ms_max),
            wall: Duration::from_millis(options.wall_ms_max),
        }
    }
}

/// Who said no to more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// The guest's own limit.
    Guest,
    /// The node's budget: not the guest's fault.
    Node,
}

/// Linear memory of all instances of the node.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    pub(crate) used: AtomicUsize,
    pub(crate) max: usize,
}

/// What ends a call before its own bounds do: the query that it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    /// The end of the query's time.
    pub(crate) until: Option<Instant>,
    /// Nobody waits for the answer any more.
    pub(crate) stopped: AtomicBool,
}

impl Interrupt {
    pub(crate) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// The host's side of an instance.
pub(crate) struct State {
    bounds: Bounds,
    budget: Arc<MemoryBudget>,
    memory_bytes: usize,
    memory_refused: Option<Refused>,
    cpu_until: Duration,
    wall_until: Instant,
    interrupt: Option<Arc<Interrupt>>,
    passed: Option<Failure>,
    pub(crate) counters: Vec<u64>,
    voice: Arc<Voice>,
    kept: Arc<Mutex<Vec<u8>>>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.memory_bytes, Ordering::Relaxed);
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if self.memory_bytes.saturating_add(more) > self.bounds.memory_bytes {
            self.memory_refused = Some(Refused::Guest);
            return Ok(false);
        }
        if self.budget.used.fetch_add(more, Ordering::Relaxed).saturating_add(more) > self.budget.max {
            self.budget.used.fetch_sub(more, Ordering::Relaxed);
            self.memory_refused = Some(Refused::Node);
            return Ok(false);
        }
        self.memory_bytes += more;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool bounds tables.
        Ok(true)
    }
}

impl bindings::host::Host for State {
    fn log(&mut self, level: bindings::host::Level, message: String) -> wasmtime::Result<()> {
        self.voice.say(level, &message);
        Ok(())
    }

    fn count(&mut self, counter: u32, by: u64) -> wasmtime::Result<()> {
        let Some(sum) = self.counters.get_mut(counter as usize) else {
            self.passed = Some(crate::error::lied(format!("counter {counter} of {}", self.counters.len())));
            return Err(wasmtime::Error::msg("no such counter"));
        };
        *sum = sum.saturating_add(by);
        Ok(())
    }
}

impl bindings::memory::Host for State {
    fn load(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(self.kept.lock().clone())
    }

    fn save(&mut self, state: Vec<u8>) -> wasmtime::Result<()> {
        if state.len() > KEPT_BYTES_MAX {
            self.passed = Some(crate::error::lied(format!(
                "expected at most {KEPT_BYTES_MAX} bytes to keep, found {}",
                state.len()
            )));
            return Err(wasmtime::Error::msg("too much to keep"));
        }
        *self.kept.lock() = state;
        Ok(())
    }
}

impl base::Host for State {}
impl bindings::columns::Host for State {}
impl batches::Host for State {}
impl bindings::functions::Host for State {}

/// What an instance is made with.
pub(crate) struct Birth<'a> {
    pub(crate) pre: &'a Pre,
    pub(crate) bounds: Bounds,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) counters: usize,
    pub(crate) voice: Arc<Voice>,
    pub(crate) kept: Arc<Mutex<Vec<u8>>>,
}

/// What the node has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Slots.
    Instances,
    /// Linear memory.
    Memory,
}

impl Full {
    pub(crate) fn error(self, options: &PluginOptions) -> PluginError {
        match self {
            Full::Instances => PluginError::Busy { limit: options.instances_max.into(), setting: "instances_max" },
            Full::Memory => {
                PluginError::Busy { limit: options.memory_total_bytes_max as u64, setting: "memory_total_bytes_max" }
            }
        }
    }
}

/// Why there is no instance, or no answer.
pub(crate) enum NoAnswer {
    /// The guest's fault.
    Failure(Failure),
    /// The node has nothing left; not the guest's fault.
    Full(Full),
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> NoAnswer {
        NoAnswer::Failure(failure)
    }
}

/// An instance. Dropped after any failure.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) exports: Exports,
}

impl Instance {
    /// A fresh instance; its start code runs under the bounds of a call.
    pub(crate) fn new(birth: Birth<'_>) -> Result<Instance, NoAnswer> {
        let mut store = Store::new(
            birth.pre.engine(),
            State {
                bounds: birth.bounds,
                budget: birth.budget,
                memory_bytes: 0,
                memory_refused: None,
                cpu_until: Duration::MAX,
                wall_until: Instant::now(),
                interrupt: None,
                passed: None,
                counters: vec![0; birth.counters],
                voice: birth.voice,
                kept: birth.kept,
            },
        );
        store.limiter(|state| state);
        store.set_hostcall_fuel(birth.bounds.output_bytes);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            if state.interrupt.as_ref().is_some_and(|interrupt| interrupt.is_over()) {
                state.passed = Some(Failure::Interrupted);
                return Ok(UpdateDeadline::Interrupt);
            }
            if thread_cpu_time() > state.cpu_until {
                state.passed = Some(Failure::CpuTime { limit_ms: state.bounds.cpu.as_millis() as u64 });
                return Ok(UpdateDeadline::Interrupt);
            }
            if Instant::now() > state.wall_until {
                state.passed = Some(Failure::WallTime { limit_ms: state.bounds.wall.as_millis() as u64 });
                return Ok(UpdateDeadline::Interrupt);
            }
            Ok(UpdateDeadline::Continue(1))
        });
        arm(&mut store);
        match birth.pre.instantiate(&mut store) {
            Ok(exports) => Ok(Instance { store, exports }),
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() => Err(NoAnswer::Full(Full::Instances)),
            Err(error) => Err(failure_of(&mut store, &error)),
        }
    }

    /// `meta.describe`, not yet checked.
    pub(crate) fn describe(&mut self) -> Result<Metadata, NoAnswer> {
        arm(&mut self.store);
        let answer = self.exports.describe(&mut self.store);
        answer.map_err(|e| failure_of(&mut self.store, &e))
    }

    /// `meta.init`, needs not yet checked.
    pub(crate) fn init(&mut self, config: &str) -> Result<Vec<Need>, NoAnswer> {
        arm(&mut self.store);
        let answer = self.exports.init(&mut self.store, config);
        // Nothing but the configuration has been seen: the guest's words may be shown.
        answer.map_err(|e| failure_of(&mut self.store, &e))?.map_err(|e| answered(e, true).into())
    }

    /// `filtering.apply`, not yet checked.
    pub(crate) fn apply(
        &mut self,
        batch: batches::Batch<'_>,
        call: batches::Call<'_>,
    ) -> Result<filter::exports::prism::plugin::filtering::Verdict, NoAnswer> {
        arm(&mut self.store);
        let Exports::Filter(exports) = &self.exports else { return Err(crate::error::lied("not a filter").into()) };
        let answer = exports.prism_plugin_filtering().call_apply(&mut self.store, batch, call);
        answer.map_err(|e| failure_of(&mut self.store, &e))?.map_err(|e| answered(e, false).into())
    }

    /// `redacting.redact`, not yet checked.
    pub(crate) fn redact(
        &mut self,
        batch: batches::Batch<'_>,
        call: batches::Call<'_>,
    ) -> Result<Vec<redactor::exports::prism::plugin::redacting::Edit>, NoAnswer> {
        arm(&mut self.store);
        let Exports::Redactor(exports) = &self.exports else { return Err(crate::error::lied("not a redactor").into()) };
        let answer = exports.prism_plugin_redacting().call_redact(&mut self.store, batch, call);
        answer.map_err(|e| failure_of(&mut self.store, &e))?.map_err(|e| answered(e, false).into())
    }

    /// What else ends its calls from now on.
    pub(crate) fn interrupted_by(&mut self, interrupt: Option<Arc<Interrupt>>) {
        self.store.data_mut().interrupt = interrupt;
    }

    /// Bytes of its linear memory, which never shrinks.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes
    }

    /// Takes what the guest has counted since the last time.
    pub(crate) fn take_counters(&mut self) -> Vec<u64> {
        let counters = &mut self.store.data_mut().counters;
        let taken = counters.clone();
        counters.fill(0);
        taken
    }
}

/// Starts the clocks of a call.
pub(crate) fn arm(store: &mut Store<State>) {
    let state = store.data_mut();
    state.cpu_until = thread_cpu_time() + state.bounds.cpu;
    state.wall_until = Instant::now() + state.bounds.wall;
    state.passed = None;
    // What an earlier call was refused explains nothing that this one does.
    state.memory_refused = None;
    store.set_epoch_deadline(1);
}

pub(crate) fn failure_of(store: &mut Store<State>, error: &wasmtime::Error) -> NoAnswer {
    let state = store.data_mut();
    if let Some(failure) = state.passed.take() {
        return failure.into();
    }
    match state.memory_refused {
        Some(Refused::Guest) => return Failure::Memory { limit: state.bounds.memory_bytes }.into(),
        Some(Refused::Node) => return NoAnswer::Full(Full::Memory),
        None => {}
    }
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => Failure::Trap(trap.to_string()).into(),
        // What wasmtime says of lists and strings that do not lift names lengths and positions, never content.
        None if error.root_cause().to_string().contains("fuel") => {
            Failure::Output { limit: state.bounds.output_bytes }.into()
        }
        None => Failure::Lied(error.root_cause().to_string()).into(),
    }
}

pub(crate) fn answered(error: base::Error, may_show: bool) -> Failure {
    let (kind, text) = match error {
        base::Error::BadConfig(text) => ("bad-config", text),
        base::Error::BadInput(text) => ("bad-input", text),
        base::Error::Unsupported(text) => ("unsupported", text),
        base::Error::Retryable(text) => ("retryable", text),
        base::Error::Internal(text) => ("internal", text),
    };
    Failure::Answered { kind, text: may_show.then(|| one_line(&text)) }
}

/// What [`crate::error`] makes of a guest that failed at upload or when it is bound.
pub(crate) fn to_refusal(no_answer: NoAnswer, what: &str, options: &PluginOptions) -> PluginError {
    match no_answer {
        NoAnswer::Failure(failure) => PluginError::Refused(format!("{what}: {failure}")),
        NoAnswer::Full(full) => full.error(options),
    }
}
