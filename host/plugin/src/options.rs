//! The bounds within which plugins run on a node. Each has a name in the configuration and a reason.

use std::path::PathBuf;

/// Bounds of the plugin host.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginOptions {
    /// Bytes of an uploaded component. JavaScript and Python guests are 12 to 18 MB.
    pub component_bytes_max: usize,
    /// Milliseconds that compiling a component may take. Cranelift needs 0.5 to 0.8 s for a MB on one core.
    pub compile_ms_max: u64,
    /// Bytes of linear memory of one instance. A call brings at most `call_bytes_max` or one value, which may be as long as
    /// a request body (64 MiB); the guest needs room for it, its answer and its own work.
    pub memory_bytes_max: usize,
    /// Bytes of linear memory of all instances of the node together.
    pub memory_total_bytes_max: usize,
    /// Bytes that one call may return: a value as long as a request body (64 MiB), and its offsets.
    pub output_bytes_max: usize,
    /// Milliseconds of processor time of one call. A call holds at most `call_values_max` values: a healthy one takes a few
    /// milliseconds, an interpreted guest some hundred.
    pub cpu_ms_max: u64,
    /// Milliseconds of wall time of one call, generous: a thread that the system does not run must not fail a redactor.
    pub wall_ms_max: u64,
    /// Instances on the node at once, idle ones included. Each takes address space, not memory, while it is not used.
    pub instances_max: u32,
    /// Idle instances kept for their bindings, at most half of `instances_max`.
    pub idle_instances_max: u32,
    /// Instances that run for one tenant at once, so that its looping guests leave room for others: batches that pass the
    /// chain, calls of its queries, and threads of queries that keep groups in guests, each counted apart.
    pub tenant_instances_max: u32,
    /// Bytes of a memory slot that stay resident between instances: saves page faults for small guests.
    pub resident_bytes_per_slot: usize,
    /// Folder of compiled components, private to the node; none compiles anew in each process.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of compiled components on disk; the least recently used go first.
    pub cache_bytes_max: u64,
    /// Bytes of remembered verdicts of one binding.
    pub verdict_bytes_max: usize,
    /// Rows or values that one call brings: bounds its time and memory, and the copies stay in the processor's cache.
    pub call_values_max: usize,
    /// Bytes of values that one call brings, unless a single value is longer.
    pub call_bytes_max: usize,
    /// How often guests may fail on the same batch before it is refused for good.
    pub failures_max: u32,
}

impl Default for PluginOptions {
    fn default() -> PluginOptions {
        PluginOptions {
            component_bytes_max: 32 << 20,
            compile_ms_max: 60_000,
            memory_bytes_max: 256 << 20,
            memory_total_bytes_max: 2 << 30,
            output_bytes_max: 80 << 20,
            cpu_ms_max: 2_000,
            wall_ms_max: 30_000,
            instances_max: 64,
            idle_instances_max: 32,
            tenant_instances_max: 16,
            resident_bytes_per_slot: 2 << 20,
            cache_dir: None,
            cache_bytes_max: 1 << 30,
            verdict_bytes_max: 8 << 20,
            call_values_max: 16_384,
            call_bytes_max: 4 << 20,
            failures_max: 3,
        }
    }
}
