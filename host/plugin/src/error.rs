//! What can go wrong between a tenant's plugin and the host, and what the caller must do about it.

use prism_model::{Classify, Kind};

/// Why a plugin was refused, could not be bound, or failed.
///
/// Messages name the tenant's own plugin and binding, never paths or other tenants, and never a value that a guest has
/// seen: a guest's own words about data that is not redacted are withheld.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The component breaks a rule of the upload gate.
    #[error("the plugin is refused: {0}")]
    Refused(String),
    /// The component is larger than the limit.
    #[error("expected a component of at most {limit} bytes (setting `component_bytes_max`), found {found}")]
    ComponentTooLarge {
        /// The limit.
        limit: usize,
        /// Its size.
        found: usize,
    },
    /// A binding that cannot be: its name, its plugin, or its configuration.
    #[error("binding `{binding}`: {reason}")]
    BadBinding {
        /// Name of the binding.
        binding: String,
        /// What is expected and what was found.
        reason: String,
    },
    /// A guest failed on this batch, and nothing of the batch was kept. The same batch may be sent again.
    #[error("binding `{binding}`: plugin `{plugin}` failed, so the batch was not stored: {failure}")]
    Failed {
        /// Name of the binding.
        binding: String,
        /// Name of the plugin.
        plugin: String,
        /// How.
        failure: Failure,
    },
    /// Guests failed on this batch again and again: it is refused for good.
    #[error(
        "binding `{binding}`: the batch was refused for good after a plugin failed on it {attempts} times (setting `failures_max`); change or unbind the plugin"
    )]
    GivenUp {
        /// Name of the binding that failed last.
        binding: String,
        /// How often.
        attempts: u32,
    },
    /// A function failed in a query: that query alone has no answer.
    #[error("`plugin.{function}` failed: plugin `{plugin}`, binding `{binding}`: {failure}")]
    Call {
        /// The function, by the name in its signature.
        function: String,
        /// Name of the plugin.
        plugin: String,
        /// Name of the binding.
        binding: String,
        /// How.
        failure: Failure,
    },
    /// The query that called a function is over: its time is, or nobody waits for it.
    #[error("the query ended while a plugin worked for it")]
    Interrupted,
    /// All instances, or all memory, that the tenant or the node may have are in use.
    #[error("plugins are busy: no more than {limit} at once (setting `{setting}`)")]
    Busy {
        /// The limit that was reached: instances, or bytes.
        limit: u64,
        /// Its setting.
        setting: &'static str,
    },
    /// The query's memory does not hold what aggregates gave: why, as whoever has the memory says it.
    #[error(transparent)]
    NoMemory(Box<dyn std::error::Error + Send + Sync>),
    /// The host itself could not go on.
    #[error("plugin host: {0}")]
    Host(String),
}

/// How a guest failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It ran longer than it may.
    #[error("it used more than {limit_ms} ms of processor time (setting `cpu_ms_max`)")]
    CpuTime {
        /// The limit.
        limit_ms: u64,
    },
    /// It did not come back.
    #[error("it did not answer within {limit_ms} ms (setting `wall_ms_max`)")]
    WallTime {
        /// The limit.
        limit_ms: u64,
    },
    /// It wanted more memory than it may have, and then trapped.
    #[error("it wanted more than {limit} bytes of memory (setting `memory_bytes_max`)")]
    Memory {
        /// The limit.
        limit: usize,
    },
    /// It returned more than it may.
    #[error("it returned more than {limit} bytes (setting `output_bytes_max`)")]
    Output {
        /// The limit.
        limit: usize,
    },
    /// The query that it worked for is over. Not the guest's fault.
    #[error("the query ended before it did")]
    Interrupted,
    /// It trapped.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It answered with an error. Its words are left out where it has seen data that is not redacted.
    #[error("it answered with the error `{kind}`{}", text.as_deref().map(|t| format!(": {t}")).unwrap_or_default())]
    Answered {
        /// Which variant of `base.error`.
        kind: &'static str,
        /// What it said, where that may be shown.
        text: Option<String>,
    },
    /// Its answer breaks a rule of the contract.
    #[error("its answer breaks the contract: {0}")]
    Lied(String),
}

impl Classify for PluginError {
    fn kind(&self) -> Kind {
        match self {
            PluginError::Refused(_) | PluginError::BadBinding { .. } | PluginError::GivenUp { .. } => Kind::Fix,
            // The same query would fail again, by the fault of who asks or of whose plugin it is.
            PluginError::Call { .. } | PluginError::Interrupted | PluginError::NoMemory(_) => Kind::Fix,
            PluginError::ComponentTooLarge { .. } => Kind::TooLarge,
            PluginError::Failed { .. } => Kind::Retry,
            PluginError::Busy { .. } => Kind::Wait,
            PluginError::Host(_) => Kind::Bug,
        }
    }
}

/// Shorthand for an answer that breaks the contract.
pub(crate) fn lied(what: impl Into<String>) -> Failure {
    Failure::Lied(what.into())
}
