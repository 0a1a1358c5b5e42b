//! Every setting with its unit, default and reason. The doc comments are what `prism config print` shows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prism_model::TenantId;
use prism_query::{EngineOptions, TenantLimits};
use prism_store::CountOptions;
use prism_store::cold::ColdOptions;
use prism_store::keys::{KeyService, Keyring, Kms, KmsOptions, Scheme};
use prism_store::life::{Age, Policy};
use prism_store::seal::SealOptions;
use serde::{Deserialize, Serialize};

use super::tail::TailSettings;
use crate::budget;

/// A section of the configuration: the struct, its defaults, and its doc comments as text for `prism config print`.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr,)+ }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $name { $($(#[doc = $doc])+ pub(crate) $field: $ty,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            /// Lines of documentation per setting, in order.
            pub(crate) const DOCS: &'static [(&'static str, &'static [&'static str])] =
                &[$((stringify!($field), &[$($doc),+])),+];
        }
    };
}

pub(super) use section;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// Everything. Single values first: TOML wants them before its tables.
    Config {
        /// Folder of all data: a local disk, or a file system that several nodes share.
        data_dir: PathBuf = "prism-data".into(),
        /// Folder of what this node may lose: compiled plugins. Empty: `cache` in `data_dir`; name a local one where that is shared.
        cache_dir: PathBuf = PathBuf::new(),
        /// Address of OTLP/HTTP and of queries. Loopback by default: nothing is open to a network that nobody opened.
        http_addr: String = "127.0.0.1:4318".to_owned(),
        /// Address of OTLP/gRPC; empty switches it off.
        grpc_addr: String = "127.0.0.1:4317".to_owned(),
        /// How long a stop waits for requests that are under way, before it cuts them off. Orchestrators kill after 30 s.
        shutdown_grace_ms: u64 = 20_000,
        /// Who may do what.
        auth: AuthSettings = AuthSettings::default(),
        /// What listeners allow.
        http: HttpSettings = HttpSettings::default(),
        /// TLS 1.3 of every listener. Off where no certificate is named: then only for this machine, or behind a proxy.
        tls: TlsSettings = TlsSettings::default(),
        /// What one request may hold.
        limits: prism_model::Limits = prism_model::Limits::default(),
        /// What waits in memory before it is on disk.
        ingest: prism_ingest::PipelineOptions = prism_ingest::PipelineOptions::default(),
        /// How rows come to disk.
        store: prism_store::StoreOptions = prism_store::StoreOptions::default(),
        /// Who can read what lies on disk and in the bucket.
        encryption: EncryptionSettings = EncryptionSettings::default(),
        /// Where blocks and Delta tables lie: what is sealed leaves the shared file system for them.
        objects: ObjectsSettings = ObjectsSettings::default(),
        /// How long what stays in which tier, and who moves it.
        storage: StorageSettings = StorageSettings::default(),
        /// What queries may use.
        query: QuerySettings = QuerySettings::default(),
        /// Live tails.
        tail: TailSettings = TailSettings::default(),
        /// What guests may use.
        plugin: prism_plugin::PluginOptions = prism_plugin::PluginOptions::default(),
        /// Log lines on standard error.
        log: LogSettings = LogSettings::default(),
        /// Prism's own spans, one for each request and its steps, as parts of the callers' traces.
        telemetry: TelemetrySettings = TelemetrySettings::default(),
    }
}

section! {
    /// Who may do what.
    AuthSettings {
        /// Tenant `default` needs no key from this machine. For a laptop only; the flag `--dev` sets it.
        dev: bool = false,
        /// How old the known tenants and keys may be: a key that was created or revoked elsewhere counts after this time.
        reload_ms: u64 = 1_000,
    }
}

section! {
    /// What listeners allow, HTTP and gRPC alike.
    HttpSettings {
        /// Open connections of each listener; further ones wait in the backlog of the kernel. A connection holds up to 1 MiB.
        connections_max: usize = 1_024,
        /// Time for the head of a request, and for an idle connection until the next one: slow or silent clients hold no place.
        header_timeout_ms: u64 = 30_000,
        /// Bytes of the head of a request over HTTP/1.1: the longest text form of a query, percent-encoded, and room for headers.
        /// Over HTTP/2 it is 64 KiB.
        head_bytes_max: usize = 256 << 10,
        /// Requests at once on an HTTP/2 connection: exporters have a handful, and each may hold 64 KiB of head.
        streams_max: u32 = 128,
        /// Time after which a silent HTTP/2 client is asked whether it is there, and again until it counts as gone: a connection
        /// that is open at one end only holds no place.
        ping_ms: u64 = 20_000,
        /// Time without a request after which an HTTP/2 connection is told to end: exporters send every minute or oftener.
        idle_timeout_ms: u64 = 300_000,
        /// Time between two pieces of a body.
        body_idle_timeout_ms: u64 = 15_000,
        /// Time for a whole body: 64 MiB at 1.1 MB/s.
        body_timeout_ms: u64 = 60_000,
        /// Time for the answer to a request after its body came: longer than the longest query.
        answer_timeout_ms: u64 = 120_000,
        /// Time between two pieces of an answer that the client takes: who asks and does not read holds no memory.
        send_idle_timeout_ms: u64 = 15_000,
        /// Time for the client to take a whole answer: 64 MiB at 1.1 MB/s.
        send_timeout_ms: u64 = 60_000,
        /// Bytes of request bodies in memory at once, over all connections; beyond it clients are told to wait.
        /// Four requests of the largest size, or some thousand of the usual.
        body_bytes_in_flight_max: usize = 256 << 20,
        /// Bytes of an answer's error message. OTLP asks for a bound on answers, recommends 4 MiB and shortens messages first.
        message_bytes_max: usize = 4_096,
        /// Pages of other origins that a browser lets send telemetry and ask queries.
        cors: CorsSettings = CorsSettings::default(),
    }
}

section! {
    /// Pages of other origins that a browser lets send telemetry and ask queries.
    CorsSettings {
        /// Origins such as `https://app.example.com`, or `https://*.example.com` for every name below it. None by default: a
        /// page's key is everybody's key. `*` is refused: it would open a server without keys to every page.
        allowed_origins: Vec<String> = Vec::new(),
        /// Headers that such pages may send, beside those that need no leave.
        allowed_headers: Vec<String> = ["authorization", "content-encoding", "content-type", "idempotency-key", "last-event-id", "x-api-key"]
            .map(str::to_owned).to_vec(),
        /// Seconds for which a browser remembers the leave. Chromium keeps at most 7,200.
        max_age_s: u32 = 7_200,
    }
}

section! {
    /// TLS 1.3 of every listener.
    TlsSettings {
        /// Certificate and its chain, PEM. Empty: no TLS.
        cert_file: PathBuf = PathBuf::new(),
        /// The certificate's private key, PEM; readable by the user of Prism alone.
        key_file: PathBuf = PathBuf::new(),
        /// Authorities whose certificates clients must show, PEM. Empty: none is asked for.
        client_ca_file: PathBuf = PathBuf::new(),
        /// Time between two looks at the files: a new certificate counts after it, without a restart.
        reload_ms: u64 = 5_000,
        /// Time for a handshake: a slow network needs four round trips.
        handshake_timeout_ms: u64 = 10_000,
        /// Handshakes at once of all listeners; further ones wait within the same time. Each costs about a millisecond of a
        /// processor, so that a fleet that connects anew is through within seconds and leaves something to requests.
        handshakes_max: usize = 256,
    }
}

impl TlsSettings {
    /// Whether connections are secured.
    pub(crate) fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }
}

section! {
    /// Who can read what lies on disk and in the bucket.
    EncryptionSettings {
        /// Of tenants that were told nothing else (`prism encryption set`): `local` (keys in a folder), `kms` (keys that AWS KMS
        /// opens) or `off`. On by default: it costs under 2 % of what keeping spans costs.
        default: Scheme = Scheme::Local,
        /// Folder of the keys. Empty: `keys` in `data_dir`; another disk keeps them apart from what they encrypt. Who loses them
        /// loses the data; servers that share data share them.
        keys_dir: PathBuf = PathBuf::new(),
        /// Key of AWS KMS, by id, ARN or alias, that tenants' keys are made by. Needed where a tenant's are `kms`.
        kms_key: String = String::new(),
        /// Its region. Empty: that of its ARN, else `AWS_REGION`. Credentials are found as for S3.
        kms_region: String = String::new(),
        /// Another endpoint of KMS than AWS's own, such as a private one.
        kms_url: String = String::new(),
    }
}

impl Config {
    /// The keys of all tenants. Asks nothing of KMS yet.
    ///
    /// # Errors
    /// In words for the user.
    pub(crate) fn keyring(&self) -> anyhow::Result<Keyring> {
        let settings = &self.encryption;
        let beside = self.data_dir.join("keys");
        let folder = if settings.keys_dir.as_os_str().is_empty() { &beside } else { &settings.keys_dir };
        let (key, region, url) = (settings.kms_key.clone(), settings.kms_region.clone(), settings.kms_url.clone());
        let service = match key.is_empty() {
            true => None,
            false => {
                let kms = Kms::open(&KmsOptions { key, region, url }).map_err(anyhow::Error::msg)?;
                Some(Arc::new(kms) as Arc<dyn KeyService>)
            }
        };
        Ok(Keyring::open(&self.data_dir, folder, settings.default, service))
    }
}

section! {
    /// Log lines on standard error.
    LogSettings {
        /// `auto` (text on a terminal, else JSON), `text` or `json`.
        format: LogFormat = LogFormat::Auto,
        /// Which lines: a level, or a list such as `info,prism_store=debug`.
        filter: String = "info".to_owned(),
    }
}

section! {
    /// Prism's own spans, one for each request and its steps, as parts of the callers' traces. Off until one of the first two is set.
    TelemetrySettings {
        /// Base URL of what takes them by OTLP/HTTP, such as `http://collector:4318`; `/v1/traces` is added.
        endpoint: String = String::new(),
        /// A tenant of this Prism that takes them instead, through its own plugins. Its readers see routes, tenants and times.
        to_self: String = String::new(),
        /// File with headers for the endpoint, `name: value` a line, above all its key. Read at the start.
        headers_file: PathBuf = PathBuf::new(),
        /// Share of requests without a `traceparent` that begin a trace, 0 to 1. One with a `traceparent` is its sender's choice.
        sample_ratio: f64 = 1.0,
        /// Members of the callers' `baggage` that become attributes of the spans. None by default: it may hold anything.
        baggage_keys: Vec<String> = Vec::new(),
        /// Spans that wait for export, about 1 KiB each; further ones are dropped and counted, since no request waits for them.
        queue_spans_max: usize = 4_096,
    }
}

section! {
    /// Where blocks and Delta tables lie.
    ObjectsSettings {
        /// Empty: the folder `objects` in `data_dir`. Or a bucket: `s3://BUCKET` or `s3://BUCKET/PREFIX`, which must honour
        /// conditional creates, as Amazon S3, MinIO and Cloudflare R2 do; `prism doctor` tries it.
        url: String = String::new(),
        /// Region of the bucket. Empty: `AWS_REGION` of the environment.
        region: String = String::new(),
        /// Address of a store that speaks S3 and is not Amazon's, such as `http://minio:9000`.
        endpoint: String = String::new(),
        /// File with `aws_access_key_id` and `aws_secret_access_key`, as AWS's tools write it. Empty: `AWS_ACCESS_KEY_ID` and
        /// `AWS_SECRET_ACCESS_KEY` of the environment, or else the machine's own role.
        credentials_file: PathBuf = PathBuf::new(),
        /// Time for one request and its answer: a block's part of 16 MiB at 1 MB/s, and a slow start.
        timeout_ms: u64 = 30_000,
        /// How often a request that failed for the store's reasons is made again, at growing distances.
        retries: usize = 5,
        /// Storage class of archived files: `GLACIER_IR` is read as ever; from `GLACIER` and `DEEP_ARCHIVE` a file must be fetched
        /// back first, and a query that needs it says so.
        archive_class: String = "GLACIER_IR".to_owned(),
    }
}

section! {
    /// How long what stays in which tier, and who moves it. `prism storage policy` sets the ages of one tenant.
    StorageSettings {
        /// Whether this server moves data in the background. Several share the tenants among them. Where it is off everywhere,
        /// `prism storage move` must be run.
        worker: bool = true,
        /// Time between two looks at a tenant's signal for what is due. Also how soon a changed age counts.
        interval_ms: u64 = 30_000,
        /// Age at which the last rows of a window leave the shared file system, after its end; most leave half a minute after it.
        warm_after: Age = Policy::default().warm_after,
        /// Age at which blocks become files of the Delta table, which other engines read too: hourly ones are large enough.
        cold_after: Age = Policy::default().cold_after,
        /// Age at which files go to the archive's storage class (`objects.archive_class`), whole days at a time; objects must be in a
        /// bucket.
        archive_after: Age = Policy::default().archive_after,
        /// Age at which rows are deleted, in whole days. `never` by default: what is deleted cannot be brought back.
        delete_after: Age = Policy::default().delete_after,
        /// Bytes of a window below which its segments wait for more, up to `warm_after`: a block costs requests.
        seal_bytes_min: u64 = SealOptions::default().seal_bytes_min,
        /// Bytes of segments after which a block takes no further one.
        block_bytes_max: u64 = SealOptions::default().block_bytes_max,
        /// Entries of a block's rollup; one that would have more is left out, and rows answer.
        cube_entries_max: usize = SealOptions::default().cube_entries_max,
        /// How long what moved on stays where it was, for queries that listed it: twice the longest query.
        read_grace_ms: u64 = SealOptions::default().read_grace_ms,
    }
}

/// Why files cannot be archived.
pub(crate) const NO_ARCHIVE: &str =
    "`archive_after` needs objects in a bucket (`objects.url`): a folder has no archive, expected `never`";

impl StorageSettings {
    /// The ages for whom nothing else is set.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            warm_after: self.warm_after,
            cold_after: self.cold_after,
            archive_after: self.archive_after,
            delete_after: self.delete_after,
        }
    }

    /// How blocks become files.
    pub(crate) fn cold_options(&self, ingest: &prism_ingest::PipelineOptions) -> ColdOptions {
        ColdOptions {
            // Blocks tell which requests are stored.
            read_grace_ms: self.read_grace_ms.max(ingest.duplicate_window_ms),
            cube_entries_max: self.cube_entries_max,
            ..ColdOptions::default()
        }
    }

    /// How segments become blocks.
    pub(crate) fn seal_options(&self, store: &prism_store::StoreOptions) -> SealOptions {
        SealOptions {
            seal_after_ms: store.seal_after_ms,
            seal_bytes_min: self.seal_bytes_min,
            block_bytes_max: self.block_bytes_max,
            frame_rows: store.frame_rows,
            zstd_level: store.zstd_level,
            cube_entries_max: self.cube_entries_max,
            read_grace_ms: self.read_grace_ms,
            ..SealOptions::default()
        }
    }
}

section! {
    /// What queries may use.
    QuerySettings {
        /// Rows of an answer; a larger limit is lowered to this, with a warning. An answer is built in memory.
        limit_max: usize = EngineOptions::default().limit_max,
        /// Time of a query, in milliseconds; its own budget can only lower it.
        time_max_ms: u64 = EngineOptions::default().time_max.as_millis() as u64,
        /// Bytes that a query may read, compressed; its own budget can only lower it. 0 for any.
        bytes_max: u64 = EngineOptions::default().bytes_max.unwrap_or(0),
        /// Bytes that the groups of one query may take.
        memory_bytes_max: usize = EngineOptions::default().memory_bytes_max,
        /// Bytes that the groups of all queries may take together; a query that comes too many is told to ask again later.
        memory_total_bytes_max: usize = EngineOptions::default().memory_total_bytes_max,
        /// Other limits for some tenants, each as a budget: `["acme: bytes 10GB time 10s"]`. What `prism tenant set` says while
        /// servers run goes before them.
        tenants: Vec<String> = Vec::new(),
        /// Bytes of memory for rollups of rows that are not sealed yet, which this server makes in the background once queries
        /// that they answer are asked again; 0 for none: then rows answer. What is sealed has rollups of its own.
        hot_rollup_bytes_max: usize = CountOptions::default().bytes_max,
        /// Rows that `fill` and functions over bins may make of one query's groups, before having, order and limit.
        fill_rows_max: usize = EngineOptions::default().fill_rows_max,
        /// Frames that all queries work on at once; 0 for the number of processors. Tenants take turns by the processor time
        /// that they had, and one of which nothing runs gets a place beside the others, so that at worst twice as many run.
        threads: usize = EngineOptions::default().threads,
        /// How long before the range of `from events` a span may have begun whose events are in it, in milliseconds: events lie
        /// with their span. More finds those of longer spans, and looks at more frames.
        span_time_max_ms: u64 = EngineOptions::default().span_time_max.as_millis() as u64,
        /// Traces that one side of a join names to the other at most, so that only rows of theirs are looked at. Beyond them
        /// all rows of the other side are: a list of traces takes 50 bytes each.
        join_traces_max: usize = EngineOptions::default().join_traces_max,
        /// How long before and behind its range a query looks for other spans of the traces that it asks for: parents, roots,
        /// spans of `match`. As long as a window, so that mostly one more of them is read on each side.
        trace_slack_ms: u64 = EngineOptions::default().trace_slack.as_millis() as u64,
        /// Combinations of spans that conditions between spans of a `match` may compare: some seconds of a processor.
        combinations_max: u64 = EngineOptions::default().combinations_max,
        /// Queries at once, over all tenants. They take turns (`threads`), so more at once make none of them faster.
        concurrent_max: usize = 8,
        /// Queries of one tenant at once: half, so that one tenant's dashboard does not keep the others waiting.
        tenant_concurrent_max: usize = 4,
        /// How long a query waits for its turn before it is refused with "wait".
        wait_max_ms: u64 = 5_000,
    }
}

impl QuerySettings {
    /// The limits by tenant.
    fn tenant_limits(&self) -> Result<HashMap<TenantId, TenantLimits>, String> {
        let expected = |entry: &String| {
            format!(
                "`query.tenants`: expected a tenant and its budget such as `acme: bytes 10GB time 10s`, found `{entry}`"
            )
        };
        self.tenants.iter().map(|entry| budget::of_entry(entry).ok_or_else(|| expected(entry))).collect()
    }

    /// The bounds in the words of the engine.
    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            limit_max: self.limit_max,
            bytes_max: Some(self.bytes_max).filter(|bytes| *bytes > 0),
            memory_total_bytes_max: self.memory_total_bytes_max,
            // They were checked when the configuration was read.
            tenants: self.tenant_limits().unwrap_or_default(),
            time_max: Duration::from_millis(self.time_max_ms),
            memory_bytes_max: self.memory_bytes_max,
            fill_rows_max: self.fill_rows_max,
            threads: self.threads,
            span_time_max: Duration::from_millis(self.span_time_max_ms),
            join_traces_max: self.join_traces_max,
            trace_slack: Duration::from_millis(self.trace_slack_ms),
            combinations_max: self.combinations_max,
        }
    }
}

impl Config {
    /// Folder of what this node may lose.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        if self.cache_dir.as_os_str().is_empty() { self.data_dir.join("cache") } else { self.cache_dir.clone() }
    }

    /// The bounds of guests, with the node's cache.
    pub(crate) fn plugin_options(&self) -> prism_plugin::PluginOptions {
        prism_plugin::PluginOptions { cache_dir: Some(self.cache_dir().join("compiled")), ..self.plugin.clone() }
    }

    /// Refuses values that cannot work, with the setting's name and what was expected.
    pub(crate) fn check(&self) -> Result<(), String> {
        let address = |setting: &str, text: &str| match text.parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("`{setting}`: expected ADDRESS:PORT such as `127.0.0.1:4318`, found `{text}`")),
        };
        address("http_addr", &self.http_addr)?;
        if !self.grpc_addr.is_empty() {
            address("grpc_addr", &self.grpc_addr)?;
        }
        let positive: [(&str, u64); 28] = [
            ("auth.reload_ms", self.auth.reload_ms),
            ("http.connections_max", self.http.connections_max as u64),
            ("http.header_timeout_ms", self.http.header_timeout_ms),
            ("http.body_idle_timeout_ms", self.http.body_idle_timeout_ms),
            ("http.body_timeout_ms", self.http.body_timeout_ms),
            ("http.answer_timeout_ms", self.http.answer_timeout_ms),
            ("http.streams_max", self.http.streams_max.into()),
            ("http.ping_ms", self.http.ping_ms),
            ("http.idle_timeout_ms", self.http.idle_timeout_ms),
            ("http.send_idle_timeout_ms", self.http.send_idle_timeout_ms),
            ("http.send_timeout_ms", self.http.send_timeout_ms),
            ("tls.reload_ms", self.tls.reload_ms),
            ("tls.handshake_timeout_ms", self.tls.handshake_timeout_ms),
            ("tls.handshakes_max", self.tls.handshakes_max as u64),
            ("http.message_bytes_max", self.http.message_bytes_max as u64),
            ("objects.timeout_ms", self.objects.timeout_ms),
            ("storage.interval_ms", self.storage.interval_ms),
            ("storage.block_bytes_max", self.storage.block_bytes_max),
            ("query.time_max_ms", self.query.time_max_ms),
            ("query.concurrent_max", self.query.concurrent_max as u64),
            ("query.tenant_concurrent_max", self.query.tenant_concurrent_max as u64),
            ("tail.concurrent_max", self.tail.concurrent_max as u64),
            ("tail.tenant_concurrent_max", self.tail.tenant_concurrent_max as u64),
            ("tail.heartbeat_ms", self.tail.heartbeat_ms),
            ("tail.frames_kept", self.tail.frames_kept as u64),
            ("limits.body_bytes_max", self.limits.body_bytes_max as u64),
            ("limits.items_max", self.limits.items_max as u64),
            ("limits.list_values_max", self.limits.list_values_max as u64),
        ];
        if let Some((setting, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("`{setting}`: expected a number above 0, found `0`"));
        }
        if self.encryption.default == Scheme::Kms && self.encryption.kms_key.is_empty() {
            return Err(
                "`encryption.kms_key`: expected a key, because `encryption.default` is `kms`, found none".to_owned()
            );
        }
        self.check_http()?;
        self.check_tls()?;
        self.check_storage()?;
        if !self.telemetry.to_self.is_empty() && !self.telemetry.endpoint.is_empty() {
            return Err("expected `telemetry.to_self` or `telemetry.endpoint`, found both".to_owned());
        }
        if !(0.0..=1.0).contains(&self.telemetry.sample_ratio) {
            let found = self.telemetry.sample_ratio;
            return Err(format!("`telemetry.sample_ratio`: expected 0.0 to 1.0, found `{found}`"));
        }
        if self.limits.items_max > u32::MAX as usize {
            return Err(format!(
                "`limits.items_max`: expected at most {}, found `{}`",
                u32::MAX,
                self.limits.items_max
            ));
        }
        if self.http.body_bytes_in_flight_max < self.limits.body_bytes_max {
            return Err(format!(
                "`http.body_bytes_in_flight_max`: expected at least `limits.body_bytes_max` ({}), found `{}`",
                self.limits.body_bytes_max, self.http.body_bytes_in_flight_max
            ));
        }
        Ok(())
    }

    fn check_http(&self) -> Result<(), String> {
        let (head, message) = (self.http.head_bytes_max, self.http.message_bytes_max);
        if head < HEAD_BYTES_MIN {
            return Err(format!("`http.head_bytes_max`: expected at least {HEAD_BYTES_MIN}, found `{head}`"));
        }
        if message > MESSAGE_BYTES_MAX {
            return Err(format!("`http.message_bytes_max`: expected at most {MESSAGE_BYTES_MAX}, found `{message}`"));
        }
        crate::http::cors::Cors::new(&self.http.cors).map(|_| ())
    }

    fn check_storage(&self) -> Result<(), String> {
        let policy = self.storage.policy().check();
        policy.map_err(|reason| format!("`storage`: {reason}"))?;
        let (grace, query) = (self.storage.read_grace_ms, self.query.time_max_ms);
        if grace < query {
            return Err(format!(
                "`storage.read_grace_ms`: expected at least `query.time_max_ms` ({query}), found `{grace}`"
            ));
        }
        for (tenant, limits) in self.query.tenant_limits()? {
            let grace = self.check_query_time(limits.time_max.unwrap_or_default());
            grace.map_err(|reason| format!("`query.tenants`: `{tenant}`: {reason}"))?;
        }
        let url = &self.objects.url;
        if !url.is_empty() && url.strip_prefix("s3://").is_none_or(str::is_empty) {
            return Err(format!("`objects.url`: expected nothing, or `s3://BUCKET/PREFIX`, found `{url}`"));
        }
        if url.is_empty() && self.storage.archive_after != Age::NEVER {
            return Err(format!("`storage`: {NO_ARCHIVE}"));
        }
        Ok(())
    }

    /// A query must not outlive what it listed.
    pub(crate) fn check_query_time(&self, time: Duration) -> Result<(), String> {
        let grace = Duration::from_millis(self.storage.read_grace_ms);
        if time <= grace {
            return Ok(());
        }
        let [grace, found] = [grace, time].map(budget::time_text);
        Err(format!("expected a time of at most `storage.read_grace_ms` ({grace}), found `{found}`"))
    }

    fn check_tls(&self) -> Result<(), String> {
        let set = |path: &PathBuf| !path.as_os_str().is_empty();
        let (cert, key, client_ca) = (&self.tls.cert_file, &self.tls.key_file, &self.tls.client_ca_file);
        if set(cert) == set(key) && (set(cert) || !set(client_ca)) {
            return Ok(());
        }
        let missing = if set(cert) { "tls.key_file" } else { "tls.cert_file" };
        Err(format!("`{missing}`: expected a file, because another setting of `tls` names one, found none"))
    }
}

/// hyper takes no less.
const HEAD_BYTES_MIN: usize = 8 << 10;
/// OTLP recommends 4 MiB for a whole answer, and a message may stand in it twice.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
