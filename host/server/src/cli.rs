//! The commands and flags of `prism`. Not here: what they do (`commands`, `serve`, `doctor`).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use prism_ingest::settings::DuplicateWindow;
use prism_model::{Signal, TenantId};
use prism_store::keys::Scheme;
use prism_store::life::Age;

use crate::access::{Expiry, Role};
use crate::budget::{BytesMax, NanosMax};
use crate::config::{Flags, LogFormat};

/// Server that the commands ask which talk to one.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:4318";

/// A columnar OpenTelemetry store and query platform.
#[derive(Debug, Parser)]
#[command(name = "prism", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Settings that every command shares.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// Configuration file (TOML), named before the command; `prism config print` shows every setting
    // Not global: `plugin bind` has a --config of its own.
    #[arg(long = "config", id = "config_file", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of all data
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How log lines look on standard error
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server: OTLP in, queries out
    Serve(Serve),
    /// Ask a server, in the query language; without a query, one after the other
    Query(Query),
    /// Ask one question after the other, with history and completion
    Shell(Shell),
    /// Show which fields rows have, or the values of one
    Fields(Fields),
    /// Show new rows as they come
    Tail(Tail),
    /// Show a trace as spans over time
    Trace(Trace),
    /// Load recorded OTLP: protobuf or JSON, plain, gzip or zstd
    Ingest(Ingest),
    /// Play recorded OTLP as if it happened now
    Replay(Replay),
    /// Tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Keys of tenants and operators
    #[command(subcommand)]
    Key(KeyCommand),
    /// How tenants' data is encrypted, and the keys that do it
    #[command(subcommand)]
    Encryption(EncryptionCommand),
    /// Plugins, and which tenant's data runs through them
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Where stored rows lie, how long they stay there, and whether they are sound
    #[command(subcommand)]
    Storage(StorageCommand),
    /// Settings, with their documentation, values and sources
    Config {
        /// What to do; prints where nothing is said
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    /// Check that Prism can run here, and say what to do where it cannot
    Doctor,
}

/// `prism serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Configuration file (TOML); `prism config print` shows every setting
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address of OTLP/HTTP and queries; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Address of OTLP/gRPC; empty switches it off
    #[arg(long, value_name = "ADDR")]
    pub(crate) grpc: Option<String>,
    /// Tenant `default` needs no key from this machine
    #[arg(long)]
    pub(crate) dev: bool,
}

/// Which server, with which key.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// Server to ask
    #[arg(long, env = "PRISM_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub(crate) url: String,
    /// Key with the role `query`; a server with --dev needs none from the same machine
    #[arg(long, env = "PRISM_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Authorities (PEM) that may have signed the server's certificate; this machine's by default
    #[arg(long, env = "PRISM_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// `prism query`
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Query as text or JSON, `@FILE`, or `-` for standard input; several words are one query. Without, a prompt on a terminal
    pub(crate) query: Vec<String>,
    /// The server's answer as it is: `--output json`
    #[arg(long, conflicts_with = "output")]
    pub(crate) json: bool,
    /// How the answer is printed
    #[arg(long, short, default_value = "table", value_name = "FORM")]
    pub(crate) output: Output,
    /// Range up to now, such as 15m, 1h or 2d; instead of the query's own
    #[arg(long, value_name = "DURATION")]
    pub(crate) last: Option<String>,
    /// Begin of the range: now, today, yesterday, -1h, '2h ago', 14:00, '2026-11-20 14:00' or RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// End of the range; now where only --from is said, the day's end with `today` and `yesterday`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// A field that no row in the range has is an error instead of a warning
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show what the query would read, and read nothing
    #[arg(long)]
    pub(crate) explain: bool,
    /// Go on where the page before ended: the `cursor` of its answer
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    /// Which server, with which key.
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// `prism shell`
#[derive(Debug, Args)]
pub(crate) struct Shell {
    /// How answers are printed
    #[arg(long, short, default_value = "table", value_name = "FORM")]
    pub(crate) output: Output,
    /// Range of queries that name none, such as 15m or 1h
    #[arg(long, value_name = "DURATION")]
    pub(crate) last: Option<String>,
    /// A field that no row in the range has is an error instead of a warning
    #[arg(long)]
    pub(crate) strict: bool,
    /// Remember nothing of what is asked
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Which server, with which key.
    #[command(flatten)]
    pub(crate) remote: Remote,
}

impl Query {
    /// The shell that it is where no query is named and somebody sits at a terminal.
    pub(crate) fn shell(&self) -> Option<Shell> {
        let alone = self.query.is_empty() && self.from.is_none() && self.to.is_none() && self.cursor.is_none();
        (alone && !self.explain && crate::shell::is_wanted()).then(|| Shell {
            output: if self.json { Output::Json } else { self.output },
            last: self.last.clone(),
            strict: self.strict,
            no_history: false,
            remote: self.remote.clone(),
        })
    }
}

/// `prism fields`
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// Only fields whose name holds this
    pub(crate) part: Option<String>,
    /// The most frequent values of this field instead
    #[arg(long, value_name = "FIELD", conflicts_with = "part")]
    pub(crate) values: Option<String>,
    /// Only of this signal: spans, logs or metrics
    #[arg(long)]
    pub(crate) signal: Option<Signal>,
    /// Range up to now, such as 15m, 1h or 2d; an hour by default
    #[arg(long, value_name = "DURATION")]
    pub(crate) last: Option<String>,
    /// How they are printed
    #[arg(long, short, default_value = "table", value_name = "FORM")]
    pub(crate) output: FieldsOutput,
    /// Which server, with which key.
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// How fields are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FieldsOutput {
    /// For reading
    Table,
    /// The server's answer as it is
    Json,
}

/// `prism tail`
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Query of plain rows as text or JSON, `@FILE`, or `-` for standard input; `from logs` where nothing is said
    pub(crate) query: Vec<String>,
    /// Begin with the rows of a while before now, such as 5m
    #[arg(long, value_name = "DURATION")]
    pub(crate) last: Option<String>,
    /// How rows are printed
    #[arg(long, short, default_value = "lines", value_name = "FORM")]
    pub(crate) output: TailOutput,
    /// Which server, with which key.
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// How the rows of a tail are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TailOutput {
    /// For reading, one a row
    Lines,
    /// An object a row
    Ndjson,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For reading
    Table,
    /// The server's answer as it is
    Json,
    /// A line of names, then one a row
    Csv,
    /// An object a row
    Ndjson,
}

/// `prism trace`
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Trace id, 32 hexadecimal digits
    pub(crate) id: String,
    /// The server's answer (OTLP/JSON) as it is
    #[arg(long)]
    pub(crate) json: bool,
    /// Which server, with which key.
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// Where recorded OTLP goes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Destination {
    /// Server to send to
    #[arg(long, env = "PRISM_URL", default_value = DEFAULT_URL, value_name = "URL")]
    pub(crate) url: String,
    /// Key with the role `ingest`; a server with --dev needs none from the same machine
    #[arg(long, env = "PRISM_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Authorities (PEM) that may have signed the server's certificate; this machine's by default
    #[arg(long, env = "PRISM_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Write to the data folder (--data-dir) without a server, for the tenant of this name
    #[arg(long, value_name = "TENANT")]
    pub(crate) offline: Option<TenantId>,
}

/// What recorded OTLP is read from, and what happens where some of it cannot be taken.
#[derive(Clone, Debug, Args)]
pub(crate) struct Recordings {
    /// Files, or folders of .json, .jsonl, .ndjson, .pb, .otlp and .binpb files, each also with .gz or .zst
    #[arg(required = true, value_name = "FILE|DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// What protobuf files hold, where neither content nor name tell: spans, logs or metrics
    #[arg(long)]
    pub(crate) signal: Option<Signal>,
    /// Stop at the first request that is not taken
    #[arg(long)]
    pub(crate) strict: bool,
    /// Tell what is not taken and go on with the rest (the default); the exit code is 1 all the same
    #[arg(long, conflicts_with = "strict")]
    pub(crate) keep_going: bool,
    /// Where it goes.
    #[command(flatten)]
    pub(crate) to: Destination,
}

/// `prism ingest`
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// What is loaded; `-` is standard input.
    #[command(flatten)]
    pub(crate) recordings: Recordings,
}

/// `prism replay`
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// What is played.
    #[command(flatten)]
    pub(crate) recordings: Recordings,
    /// Move all times so that the last event happens when it is sent
    #[arg(long)]
    pub(crate) shift_to_now: bool,
    /// How fast: `1x` as recorded, `10x` ten times as fast, `max` without waiting
    #[arg(long, default_value = "1x", value_name = "SPEED")]
    pub(crate) speed: Speed,
    /// Whether recordings keep their distance in time (`all`), or each starts at once (`each`)
    #[arg(long, default_value = "all", value_name = "HOW")]
    pub(crate) align: Align,
}

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// Without waiting.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let times = text.strip_suffix('x').and_then(|times| times.parse().ok());
        // Slower than a thousandth nobody waits for, and faster than a million times is `max`.
        times
            .filter(|times| (0.001..=1e6).contains(times))
            .map(Speed::Times)
            .ok_or_else(|| "expected `max`, or a factor from `0.001x` to `1000000x`".to_owned())
    }
}

/// What recordings of one run are moved by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Align {
    /// One offset: they keep their distance.
    All,
    /// One offset for each file: they start together.
    Each,
}

/// `prism tenant`
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant
    Create {
        /// 1 to 63 of a-z, 0-9 and -
        name: TenantId,
    },
    /// List tenants
    List,
    /// Show what a tenant has and has set
    Show {
        /// Which
        name: TenantId,
    },
    /// Change what a tenant has set, within a second on every server
    Set {
        /// Which
        name: TenantId,
        /// To what.
        #[command(flatten)]
        changes: TenantChanges,
    },
    /// Erase a tenant: its keys, data in every tier, settings, plugins and access keys, for good and beside running servers.
    /// Its name is never used again
    Erase {
        /// Which
        name: TenantId,
        /// Do it; without, nothing is changed
        #[arg(long, required_unless_present = "dry_run")]
        yes: bool,
        /// Show what would go
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
    },
}

/// What `prism tenant set` changes: one or more.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct TenantChanges {
    /// What a request that comes again within half an hour is known by, so that it is not stored twice: `bodies` (its
    /// Idempotency-Key, else its whole body; the default), `keys` (its Idempotency-Key alone) or `off`
    #[arg(long, value_name = "off|keys|bodies")]
    pub(crate) duplicate_window: Option<DuplicateWindow>,
    /// Bytes that one of its queries may read, compressed, such as `10GB`; `default` for what the configuration says
    /// (`query.tenants`, else `query.bytes_max`)
    #[arg(long, value_name = "BYTES|default")]
    pub(crate) query_bytes: Option<BytesMax>,
    /// Time that one of its queries may take, such as `10s`; `default` for what the configuration says (`query.tenants`, else
    /// `query.time_max_ms`)
    #[arg(long, value_name = "TIME|default")]
    pub(crate) query_time: Option<NanosMax>,
}

/// `prism encryption`
#[derive(Debug, Subcommand)]
pub(crate) enum EncryptionCommand {
    /// Show how tenants are encrypted, with the versions of their keys
    Status {
        /// Only this tenant
        tenant: Option<TenantId>,
    },
    /// Make a new version of a tenant's key; what is written from now on uses it, on every server within two seconds. Older
    /// versions stay for what they encrypted
    Rotate {
        /// Whose
        tenant: TenantId,
    },
    /// Change how a tenant is encrypted from now on
    Set {
        /// Whose
        tenant: TenantId,
        /// `off`, `local` (keys in a folder) or `kms` (keys that AWS KMS opens)
        scheme: Scheme,
    },
}

/// `prism key`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create a key; it is printed once, and only its hash is stored
    Create {
        /// Whose data the key reaches
        #[arg(long, required_unless_present = "operator", value_name = "NAME")]
        tenant: Option<TenantId>,
        /// What it allows: ingest, query, admin
        #[arg(long, value_delimiter = ',', required_unless_present = "operator", value_name = "ROLES")]
        role: Vec<Role>,
        /// A key of who runs Prism: reads /metrics, reaches no tenant's data
        #[arg(long, conflicts_with_all = ["tenant", "role"])]
        operator: bool,
        /// When it ends: after a time such as 90d or 12h, or at one such as 2027-01-31T00:00:00Z; never by default
        #[arg(long, value_name = "WHEN")]
        expires: Option<Expiry>,
    },
    /// Put a new key beside an old one, which ends after a grace; both work until then
    Rotate {
        /// The old key's id in `prism key list`: the part between the underscores
        id: String,
        /// When the old key ends
        #[arg(long, value_name = "WHEN", default_value = "24h")]
        grace: Expiry,
        /// When the new key ends; must be said where the old one has an end
        #[arg(long, value_name = "WHEN")]
        expires: Option<Expiry>,
    },
    /// List keys with their last use (to the hour) and their end, never their secrets
    List {
        /// Only this tenant's
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
    },
    /// Make a key invalid, within a second on every server
    Revoke {
        /// The id in `prism key list`: the part between the underscores
        id: String,
    },
}

/// `prism plugin`
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List bundled plugins, and the bindings of a tenant
    List {
        /// Whose bindings
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
    },
    /// Check a component and keep it for a tenant, so that it can be bound by the hash that is printed. Nothing runs it yet
    Upload {
        /// A component file
        file: String,
        /// Whose
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
    },
    /// Run a tenant's data through a plugin, or make its functions known to the tenant's queries, within a second on every
    /// server
    Bind {
        /// Name of a bundled plugin, hash of an uploaded one (12 digits or more), or a component file
        plugin: String,
        /// Whose data
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
        /// Name of the binding, unique for the tenant; the plugin's by default. An existing binding of this name is replaced
        #[arg(long)]
        name: Option<String>,
        /// Configuration as JSON, or `@FILE`; by default that of the binding that is replaced, else `{}`
        #[arg(long, value_name = "JSON")]
        config: Option<String>,
        /// Which signals of the data: spans, logs, metrics; by default those of the binding that is replaced, else all
        #[arg(long, value_delimiter = ',')]
        signals: Vec<Signal>,
    },
    /// Take a binding away, within a second on every server
    Unbind {
        /// Name of the binding
        name: String,
        /// Whose
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
    },
    /// Show what a binding is and was, newest first
    History {
        /// Name of the binding, also of one that was taken away
        name: String,
        /// Whose
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
    },
    /// Put a binding back to what it was before its latest change, plugin, configuration and signals, within a second on every
    /// server. Once more goes forward again
    Rollback {
        /// Name of the binding, also of one that was taken away
        name: String,
        /// Whose
        #[arg(long, value_name = "NAME")]
        tenant: TenantId,
        /// To what this change made of it, by its number in `prism plugin history`
        #[arg(long, value_name = "CHANGE")]
        to: Option<u64>,
    },
}

/// `prism storage`: works on the data folder and its objects, with servers beside it or without
#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Show what lies in which tier: rows, bytes, files, compression, how far it lags, and what comes next
    Status {
        /// Whose; all tenants by default
        tenant: Option<TenantId>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything again and check it: hashes, statistics against rows, numbers, what each tier says of the others. The exit
    /// code is 1 where something is wrong
    Verify {
        /// Whose; all tenants by default
        tenant: Option<TenantId>,
    },
    /// Move what is due to its next tier once, as servers do in the background
    Move {
        /// Whose; all tenants by default
        tenant: Option<TenantId>,
        /// Show what would be moved now, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how long a tenant's data stays where, or change it; servers follow at their next pass
    Policy {
        /// Whose
        tenant: TenantId,
        /// For this signal (spans, logs or metrics) alone; all by default
        #[arg(long)]
        signal: Option<Signal>,
        /// When the last rows of a 5-minute window leave the shared file system, after its end; half a minute for most of them
        #[arg(long, value_name = "AGE")]
        warm_after: Option<Age>,
        /// When sealed blocks become files of the Delta table, which other engines read too
        #[arg(long, value_name = "AGE")]
        cold_after: Option<Age>,
        /// When files go to the archive's storage class, from which they must be fetched before they can be read; or `never`
        #[arg(long, value_name = "AGE")]
        archive_after: Option<Age>,
        /// When rows are deleted, in whole days; or `never`
        #[arg(long, value_name = "AGE")]
        delete_after: Option<Age>,
        /// Forget what is set here: the configuration's ages hold again
        #[arg(long, conflicts_with_all = ["warm_after", "cold_after", "archive_after", "delete_after"])]
        reset: bool,
    },
}

/// `prism config`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with its documentation, value and source, as a file that Prism reads
    Print,
}

impl Cli {
    /// The settings that flags set.
    pub(crate) fn flags(&self) -> Flags {
        let text = |value: &str| toml::Value::String(value.to_owned());
        let mut set = Vec::new();
        if let Some(dir) = &self.shared.data_dir {
            set.push(("data_dir", text(&dir.to_string_lossy())));
        }
        if let Some(format) = self.shared.log_format {
            let name = match format {
                LogFormat::Auto => "auto",
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            };
            set.push(("log.format", text(name)));
        }
        let mut file = self.shared.config.clone();
        if let Command::Serve(serve) = &self.command {
            file = serve.config.clone().or(file);
            set.extend(serve.http.iter().map(|addr| ("http_addr", text(addr))));
            set.extend(serve.grpc.iter().map(|addr| ("grpc_addr", text(addr))));
            if serve.dev {
                set.push(("auth.dev", toml::Value::Boolean(true)));
            }
        }
        Flags { file, set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn commands_are_consistent_and_flags_become_settings() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["prism", "serve", "--dev", "--http", "0.0.0.0:0", "--grpc", "", "--data-dir", "/d"]);
        let names: Vec<&str> = cli.flags().set.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["data_dir", "http_addr", "grpc_addr", "auth.dev"]);
        let loaded = crate::config::load(&cli.flags(), std::iter::empty()).unwrap();
        assert!(loaded.config.auth.dev && loaded.config.grpc_addr.is_empty());
    }

    #[test]
    fn operators_have_no_tenant() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["prism", "key", "create"], args].concat()).is_ok();
        assert!(parse(&["--operator"]));
        assert!(parse(&["--tenant", "shop", "--role", "ingest,query"]));
        assert!(parse(&["--operator", "--expires", "90d"]) && !parse(&["--operator", "--expires", "soon"]));
        for bad in
            [&["--operator", "--tenant", "shop"][..], &["--tenant", "shop"], &[], &["--tenant", "A", "--role", "query"]]
        {
            assert!(!parse(bad), "{bad:?}");
        }
        assert!(!parse(&["--tenant", "shop", "--role", "root"]));
    }
}
