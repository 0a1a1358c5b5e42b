//! What can go wrong with a query, and what the caller must do about it.

use prism_dsl::{DslError, Pos};
use prism_model::{Classify, Kind};
use prism_plugin::{Failure, PluginError};
use prism_store::StoreError;

/// A query that could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query is at fault: what was expected, what was found, and where.
    #[error("{}", .0.message)]
    Query(Box<DslError>),
    /// It took longer than it may.
    #[error("the query took longer than {} ms (`{setting}`)", .limit.as_millis())]
    Time {
        /// The limit.
        limit: std::time::Duration,
        /// What raises it.
        setting: &'static str,
    },
    /// It read more than its budget.
    #[error("the query reads more than {limit} bytes (`{setting}`)")]
    Bytes {
        /// The budget.
        limit: u64,
        /// What raises it.
        setting: &'static str,
    },
    /// It would certainly read more than its budget, and was not begun.
    #[error(
        "the query would read at least {least} and at most {most} bytes, which is over its budget of {limit} (`{setting}`)"
    )]
    Estimate {
        /// Bytes that it reads in any case.
        least: u64,
        /// Bytes that it reads at most.
        most: u64,
        /// The budget.
        limit: u64,
        /// What raises it.
        setting: &'static str,
    },
    /// Its groups need more memory than a query may have.
    #[error("the query needs more than {limit} bytes of memory for its groups (`query.memory_bytes_max`)")]
    Memory {
        /// The limit.
        limit: usize,
    },
    /// Bins without rows make it larger than a query may be.
    #[error("the time bins of the query make more than {limit} rows (`query.fill_rows_max`)")]
    FillRows {
        /// The limit.
        limit: usize,
    },
    /// The spans whose structure it asks for need more memory than a query may have.
    #[error(
        "the structure of more than {spans} spans needs more than {limit} bytes of memory (`query.memory_bytes_max`)"
    )]
    Spans {
        /// The limit.
        limit: usize,
        /// How many spans fitted.
        spans: usize,
    },
    /// The rows whose structure it asks for are too many to be told apart.
    #[error("the range holds {rows} rows, and structure is found among {limit} at most")]
    Rows {
        /// The limit.
        limit: u64,
        /// What the range holds.
        rows: u64,
    },
    /// The conditions between bound spans have to compare too many of them.
    #[error("the conditions between spans compare more than {limit} combinations (`query.combinations_max`)")]
    Combinations {
        /// The limit.
        limit: u64,
    },
    /// All queries together have taken the memory that is there for them.
    #[error(
        "the queries that run have taken all {limit} bytes that are there for them (`query.memory_total_bytes_max`)"
    )]
    MemoryFull {
        /// The limit.
        limit: usize,
    },
    /// The rows could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plugin that it calls failed, or could not be asked.
    #[error("{error}")]
    Plugin {
        /// How.
        error: Box<PluginError>,
        /// The call that failed; [`Pos::NONE`] where it was none's fault, or the call has no place.
        pos: Pos,
    },
    /// An invariant of the engine does not hold.
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl QueryError {
    /// An error of the query itself.
    pub(crate) fn at(code: &'static str, pos: Pos, width: usize, message: impl Into<String>) -> QueryError {
        let error = DslError::new(code, message);
        QueryError::Query(Box::new(if pos.line == 0 { error } else { error.at(pos, width) }))
    }

    /// An error of a plugin's call at a place of the query, which is at fault only where the plugin is.
    pub(crate) fn of_plugin(error: PluginError, call: Pos) -> QueryError {
        let pos = if matches!(error, PluginError::Call { .. }) { call } else { Pos::NONE };
        QueryError::Plugin { error: Box::new(error), pos }
    }

    /// Nobody waits for the answer any more, nor sees this.
    pub(crate) fn given_up() -> QueryError {
        QueryError::Engine("the query was given up".into())
    }

    /// With what to do about it.
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> QueryError {
        match self {
            QueryError::Query(error) => QueryError::Query(Box::new((*error).hint(hint))),
            other => other,
        }
    }

    /// With what to do about it, if there is something.
    pub(crate) fn with_hint_if(self, hint: Option<String>) -> QueryError {
        match hint {
            Some(hint) => self.with_hint(hint),
            None => self,
        }
    }

    /// A word for programs, stable: `query_…`.
    pub fn code(&self) -> &'static str {
        match self {
            QueryError::Query(error) => error.code,
            QueryError::Time { .. } => code::TIME,
            QueryError::Bytes { .. } | QueryError::Estimate { .. } => code::BUDGET,
            QueryError::MemoryFull { .. } => code::MEMORY_FULL,
            QueryError::Plugin { error, .. } => match **error {
                PluginError::Busy { .. } => code::PLUGINS_BUSY,
                PluginError::Interrupted => code::TIME,
                _ => code::PLUGIN,
            },
            QueryError::FillRows { .. } => code::FILL_ROWS,
            QueryError::Memory { .. } | QueryError::Spans { .. } | QueryError::Rows { .. } => code::MEMORY,
            QueryError::Combinations { .. } => code::COMBINATIONS,
            QueryError::Store(_) => code::UNREADABLE,
            QueryError::Engine(_) => code::ENGINE,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            QueryError::Query(error) => error.hint.as_deref(),
            QueryError::Time { .. } | QueryError::Bytes { .. } | QueryError::Estimate { .. } => {
                Some("ask for a shorter range, or add a condition on an id or a service; `explain` shows what is read")
            }
            QueryError::Spans { .. } | QueryError::Rows { .. } => {
                Some("ask for a shorter range, or put conditions into `match` that fewer traces fulfil")
            }
            QueryError::Combinations { .. } => Some("tie the spans by `>>` or `>`, or narrow the conditions of each"),
            QueryError::Plugin { error, .. } => match **error {
                // Its own words say what it expects.
                PluginError::Call { failure: Failure::Answered { .. }, .. } => None,
                PluginError::Call { .. } => {
                    Some("the rest of the query works without it; whoever made the plugin can mend it and bind it anew")
                }
                _ => None,
            },
            QueryError::Memory { .. } => Some("group by fewer fields, or by fields with fewer values"),
            QueryError::FillRows { .. } => Some("ask for a shorter range or wider bins, or group by fewer fields"),
            _ => None,
        }
    }

    /// The line at fault, from 1, where it is known.
    pub fn line(&self) -> Option<u32> {
        self.place().map(|(line, _)| line).filter(|line| *line > 0)
    }

    /// The column at fault in characters, from 1, where it is known.
    pub fn column(&self) -> Option<u32> {
        self.place().map(|(_, column)| column).filter(|column| *column > 0)
    }

    fn place(&self) -> Option<(u32, u32)> {
        match self {
            QueryError::Query(error) => Some((error.line, error.column)),
            QueryError::Plugin { pos, .. } => Some((pos.line, pos.column)),
            _ => None,
        }
    }

    /// The error of the language, which can draw its place in the source.
    pub fn dsl(&self) -> Option<&DslError> {
        match self {
            QueryError::Query(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DslError> for QueryError {
    fn from(error: DslError) -> QueryError {
        QueryError::Query(Box::new(error))
    }
}

impl Classify for QueryError {
    fn kind(&self) -> Kind {
        match self {
            QueryError::Query(error) if error.code == prism_dsl::error::code::TOO_LONG => Kind::TooLarge,
            QueryError::Query(_) => Kind::Fix,
            // Over budget: the same query would be over it again.
            QueryError::Time { .. }
            | QueryError::Bytes { .. }
            | QueryError::Estimate { .. }
            | QueryError::Memory { .. }
            | QueryError::FillRows { .. } => Kind::Fix,
            QueryError::Spans { .. } | QueryError::Rows { .. } | QueryError::Combinations { .. } => Kind::Fix,
            // Others end.
            QueryError::MemoryFull { .. } => Kind::Retry,
            QueryError::Store(error) => error.kind(),
            QueryError::Plugin { error, .. } => error.kind(),
            QueryError::Engine(_) => Kind::Bug,
        }
    }
}

impl From<arrow::error::ArrowError> for QueryError {
    fn from(error: arrow::error::ArrowError) -> QueryError {
        match error {
            arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<QueryError>() {
                Ok(own) => *own,
                Err(other) => QueryError::Engine(other.to_string()),
            },
            other => QueryError::Engine(other.to_string()),
        }
    }
}

/// The codes of [`QueryError::code`] beside those of `prism_dsl::error::code`.
pub mod code {
    /// Part of the language that the engine does not run yet.
    pub const UNSUPPORTED: &str = "query_not_supported_yet";
    /// A value that its operator or function cannot take.
    pub const TYPE: &str = "query_type";
    /// A field that no row in the range has, where the query asked for strictness.
    pub const UNKNOWN_FIELD: &str = "query_unknown_field";
    /// A field outside of an aggregate that is no group.
    pub const UNGROUPED: &str = "query_ungrouped_field";
    /// A function that the tenant's plugins do not have.
    pub const UNKNOWN_PLUGIN: &str = "query_unknown_plugin";
    /// A plugin failed.
    pub const PLUGIN: &str = "query_plugin_failed";
    /// All that the tenant's plugins may use is in use.
    pub const PLUGINS_BUSY: &str = "query_plugins_busy";
    /// A regular expression that is none, or too large.
    pub const REGEX: &str = "query_regex";
    /// Took too long.
    pub const TIME: &str = "query_over_time";
    /// Over its own budget.
    pub const BUDGET: &str = "query_over_budget";
    /// Over the memory of a query.
    pub const MEMORY: &str = "query_over_memory";
    /// Over the rows that filling may make.
    pub const FILL_ROWS: &str = "query_over_fill_rows";
    /// Over the combinations of spans that conditions may compare.
    pub const COMBINATIONS: &str = "query_over_combinations";
    /// A query whose rows cannot be told one by one as they arrive.
    pub const TAIL: &str = "query_not_for_tail";
    /// A cursor that is none, or belongs to another query.
    pub const CURSOR: &str = "query_cursor";
    /// No memory is left for queries at the moment.
    pub const MEMORY_FULL: &str = "query_memory_full";
    /// Stored rows could not be read.
    pub const UNREADABLE: &str = "query_unreadable";
    /// A bug.
    pub const ENGINE: &str = "query_engine";
}
