//! The one wasmtime engine of a process: which Wasm is allowed, how memory is pooled, and the clock of deadlines.
//!
//! Not here: what a guest is given and asked (`guest`), compiled forms on disk (`compile`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::error::PluginError;
use crate::options::PluginOptions;

/// How often running guests are looked at. A deadline is late by at most this; each look costs a call into the host.
const TICK: Duration = Duration::from_millis(5);

/// Stack of a guest; the rest of a thread's stack (2 MiB) is the host's.
const GUEST_STACK_BYTES: usize = 512 << 10;

/// Tables (function pointers) of a guest; Python guests have about 10,000 entries.
const TABLE_ELEMENTS_MAX: usize = 40_000;

/// Core instances, memories and tables of one component. Guests built with wit-component have one memory, a shim and a fixup.
const CORE_INSTANCES_MAX: u32 = 8;

/// The engine of this node.
///
/// # Errors
/// The machine cannot give the address space, or a bound is beyond what wasmtime takes.
pub(crate) fn engine(options: &PluginOptions) -> Result<Engine, PluginError> {
    let mut pool = PoolingAllocationConfig::new();
    let slots = options.instances_max;
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .total_memories(slots)
        .max_memories_per_component(1)
        .total_tables(slots.saturating_mul(2))
        .max_tables_per_component(4)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(options.memory_bytes_max)
        .max_unused_warm_slots(options.idle_instances_max)
        .linear_memory_keep_resident(options.resident_bytes_per_slot)
        .table_keep_resident(64 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .wasm_backtrace_max_frames(None)
        // The closed set of features: what rustc, TinyGo, jco and componentize-py emit, all of it deterministic. Threads,
        // garbage collection, exceptions, stack switching and async are not even compiled in.
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_extended_const(true)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    Engine::new(&config).map_err(|e| PluginError::Host(format!("the Wasm engine does not start: {e:#}")))
}

/// The thread that makes deadlines pass; it ends when this is dropped.
pub(crate) struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(engine: &Engine) -> Result<Ticker, PluginError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (engine, stopped) = (engine.weak(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("prism-plugin-epoch".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::park_timeout(TICK);
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(|e| PluginError::Host(format!("no thread for deadlines: {e}")))?;
        Ok(Ticker { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The host may be dropped by its own ticker's last `upgrade`; a thread cannot join itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ended = thread.join();
            }
        }
    }
}

/// Processor time that this thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}
