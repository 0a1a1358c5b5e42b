//! The whole way in, with a real store and a real plugin: what is acknowledged is there, what is refused is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of their functions")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prism_ingest::bindings::{self, BindError, NewBinding};
use prism_ingest::chains::Clock;
use prism_ingest::json::Format;
use prism_ingest::{Accepted, Chains, IngestError, Pipeline, PipelineOptions, Request};
use prism_model::window::TimeRange;
use prism_model::{Batch, Classify, Kind, Limits, Signal, TenantId};
use prism_plugin::{PluginHost, PluginOptions};
use prism_store::control::Log;
use prism_store::{Store, StoreOptions};
use prost::Message;

const NOW: i64 = 1_790_000_000_000_000_000;

/// A node of its own: store, plugins, pipeline, and a clock that stands still unless moved.
struct Node {
    root: tempfile::TempDir,
    host: Arc<PluginHost>,
    store: Arc<Store>,
    pipeline: Arc<Pipeline>,
    now: Arc<AtomicI64>,
}

fn plugin_host() -> Arc<PluginHost> {
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"));
    PluginHost::new(PluginOptions { cache_dir, instances_max: 16, ..PluginOptions::default() }).unwrap()
}

/// The first-party filter, built once.
fn drop_filter() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/drop-filter");
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        std::fs::read(prism_componentize::build_guest(&manifest, &out).unwrap()).unwrap()
    })
}

/// Drops the spans of a name.
fn drops(name: &str) -> NewBinding {
    let when = serde_json::json!([{ "field": "name", "op": "equals", "value": name }]);
    NewBinding {
        config: Some(serde_json::json!({ "rules": [{ "when": when, "reason": "noise" }] })),
        ..NewBinding::default()
    }
}

impl Node {
    fn new(options: PipelineOptions) -> Node {
        let root = tempfile::tempdir().unwrap();
        let host = plugin_host();
        let now = Arc::new(AtomicI64::new(NOW));
        let store = Store::open(root.path(), StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }).unwrap();
        let chains = Chains::new(root.path().to_owned(), host.clone(), clock(&now));
        let pipeline = Pipeline::new(store.clone(), chains, Limits::default(), options, clock(&now));
        Node { root, host, store, pipeline, now }
    }

    async fn send(&self, body: Vec<u8>) -> Result<Accepted, IngestError> {
        self.pipeline.ingest(&tenant(), Signal::Spans, request(body)).await
    }

    /// All that is stored.
    fn stored(&self) -> Vec<Batch> {
        let snapshot = self.store.reader().snapshot(&tenant(), Signal::Spans, TimeRange::ALL).unwrap();
        assert!(snapshot.unreadable.is_empty());
        snapshot.frames.iter().map(|frame| frame.read(&|_, _| true).unwrap().0).collect()
    }

    fn names(&self) -> Vec<String> {
        let requests = self.stored();
        let spans = requests.iter().map(prism_ingest::encode::traces).flat_map(|r| r.resource_spans);
        let mut names: Vec<String> =
            spans.flat_map(|r| r.scope_spans).flat_map(|s| s.spans).map(|span| span.name).collect();
        names.sort();
        names
    }

    fn pass(&self, millis: i64) {
        self.now.fetch_add(millis * 1_000_000, Ordering::SeqCst);
    }
}

fn clock(now: &Arc<AtomicI64>) -> Clock {
    let now = now.clone();
    Arc::new(move || now.load(Ordering::SeqCst))
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn request(body: Vec<u8>) -> Request {
    Request { body: Bytes::from(body), format: Format::Protobuf, content_encoding: None, idempotency_key: None }
}

fn spans(names: &[&str]) -> Vec<u8> {
    let span = |name: &&str| Span {
        trace_id: vec![7; 16],
        span_id: vec![9; 8],
        name: (*name).to_owned(),
        start_time_unix_nano: NOW as u64,
        end_time_unix_nano: NOW as u64 + 5,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: names.iter().map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
        .encode_to_vec()
}

#[tokio::test]
async fn st_1_what_is_acknowledged_is_there_with_its_origin() {
    let node = Node::new(PipelineOptions::default());
    let accepted = node.send(spans(&["a", "b"])).await.unwrap();
    assert_eq!((accepted.stored, accepted.rejected, accepted.dropped, &*accepted.reason), (2, 0, 0, ""));
    let token = accepted.token.parse().unwrap();
    assert!(node.store.reader().sees(&tenant(), &token).unwrap());
    assert_eq!(node.names(), ["a", "b"]);
    let origin = &node.stored()[0].origins[0];
    assert_eq!((origin.rows, origin.received_unix_nanos), (2, NOW));

    let packed = zstd::bulk::compress(&spans(&["c"]), 1).unwrap();
    let compressed = Request { content_encoding: Some("zstd".into()), ..request(packed) };
    node.pipeline.ingest(&tenant(), Signal::Spans, compressed).await.unwrap();
    assert_eq!(node.names(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_request_in_json_is_stored_as_one_in_protobuf() {
    let node = Node::new(PipelineOptions::default());
    let json = |text: &str| Request { format: Format::Json, ..request(text.as_bytes().to_vec()) };
    let span = |name: &str, id: &str| {
        format!(r#"{{"traceId":"{id}","spanId":"09","name":"{name}","startTimeUnixNano":"{NOW}"}}"#)
            .replace("09", &"09".repeat(8))
    };
    let spans = [span("a", &"07".repeat(16)), span("b", "no hex")].join(",");
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    let accepted = node.pipeline.ingest(&tenant(), Signal::Spans, json(&body)).await.unwrap();
    assert_eq!((accepted.stored, accepted.rejected), (1, 1));
    assert_eq!(node.names(), ["a"]);
    for broken in ["", "{", r#"{"resourceSpans":{}}"#] {
        let error = node.pipeline.ingest(&tenant(), Signal::Spans, json(broken)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Fix);
    }
    assert_eq!(node.names(), ["a"]);
}

#[tokio::test]
async fn requests_without_items_succeed_and_broken_ones_store_nothing() {
    let node = Node::new(PipelineOptions::default());
    let nothing = node.send(Vec::new()).await.unwrap();
    assert_eq!((nothing.stored, &*nothing.token), (0, ""));
    let error = node.send(b"not protobuf".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fix);
    assert!(node.stored().is_empty());
}

#[tokio::test]
async fn a_tenant_with_too_much_under_way_is_told_to_wait() {
    let node = Node::new(PipelineOptions { tenant_requests_max: 1, requests_max: 2, ..PipelineOptions::default() });
    // The first is under way once it was polled, and polled first.
    let (first, second) = tokio::join!(node.send(spans(&["a"])), node.send(spans(&["b"])));
    assert_eq!(first.unwrap().stored, 1);
    let error = second.unwrap_err();
    assert_eq!((error.kind(), error.retry_after_seconds()), (Kind::Wait, Some(1)));
    let others = ["x", "y", "z"].map(|name| name.parse::<TenantId>().unwrap());
    let send = |tenant| node.pipeline.ingest(tenant, Signal::Spans, request(spans(&["c"])));
    let (a, b, c) = tokio::join!(send(&others[0]), send(&others[1]), send(&others[2]));
    assert_eq!((a.unwrap().stored, b.unwrap().stored), (1, 1));
    assert_eq!(c.unwrap_err().kind(), Kind::Retry);
    assert_eq!(node.send(spans(&["b"])).await.unwrap().stored, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_counts_within_a_second_in_every_process() {
    let node = Node::new(PipelineOptions::default());
    assert_eq!(node.send(spans(&["noise", "a"])).await.unwrap().stored, 2);
    // Another process binds; this one learns of it by looking.
    let bound = bindings::bind(node.root.path(), &plugin_host(), &tenant(), drop_filter(), drops("noise")).unwrap();
    node.pass(1_000);
    let accepted = node.send(spans(&["noise", "b"])).await.unwrap();
    assert_eq!((accepted.stored, accepted.dropped), (1, 1));
    assert_eq!(node.names(), ["a", "b", "noise"]);
    let dropped = node.pipeline.metrics().dropped.counts();
    assert_eq!(dropped.into_iter().collect::<Vec<_>>(), [((bound.name.clone(), "noise".to_owned()), 1)]);

    bindings::unbind(node.root.path(), &tenant(), &bound.name).unwrap();
    node.pass(1_000);
    assert_eq!(node.send(spans(&["noise"])).await.unwrap().stored, 1);
    let gone = bindings::unbind(node.root.path(), &tenant(), &bound.name).unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
}

#[tokio::test]
async fn pl_1_bindings_that_cannot_be_read_refuse_the_batch() {
    let node = Node::new(PipelineOptions::default());
    node.send(spans(&["a"])).await.unwrap();
    let log = Log::open(node.root.path(), "tenants/acme/bindings").unwrap();
    log.create(1, b"no json").unwrap();
    node.pass(1_000);
    let error = node.send(spans(&["b"])).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after_seconds()), (Kind::Retry, Some(2)));
    // A binding whose component is gone is no reason to let rows through either.
    let lost = format!(r#"{{"bindings":[{{"name":"x","plugin":"{}"}}]}}"#, "0".repeat(64));
    log.create(2, lost.as_bytes()).unwrap();
    node.pass(1_000);
    assert_eq!(node.send(spans(&["b"])).await.unwrap_err().kind(), Kind::Retry);
    let other: TenantId = "other".parse().unwrap();
    let accepted = node.pipeline.ingest(&other, Signal::Spans, request(spans(&["c"]))).await.unwrap();
    assert_eq!(accepted.stored, 1, "PL-3: one tenant's plugins are not another's matter");
    assert_eq!(node.names(), ["a"]);
    log.create(3, br#"{"bindings":[]}"#).unwrap();
    node.pass(1_000);
    assert_eq!(node.send(spans(&["b"])).await.unwrap().stored, 1);
}

#[test]
fn st_5_bindings_made_at_the_same_time_are_all_kept() {
    let root = tempfile::tempdir().unwrap();
    let host = plugin_host();
    let names: Vec<String> = (0..6).map(|i| format!("filter-{i}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let (host, root) = (&host, root.path());
            scope.spawn(move || {
                let new = NewBinding { name: Some(name.clone()), ..drops("x") };
                bindings::bind(root, host, &tenant(), drop_filter(), new).unwrap();
            });
        }
    });
    let mut kept: Vec<String> = bindings::list(root.path(), &tenant()).unwrap().into_iter().map(|b| b.name).collect();
    kept.sort();
    assert_eq!(kept, names);
    // One more of a name replaces; a wrong configuration and a foreign file are refused and change nothing.
    let again = NewBinding { name: Some(names[0].clone()), signals: vec![Signal::Logs], ..drops("y") };
    bindings::bind(root.path(), &host, &tenant(), drop_filter(), again).unwrap();
    let wrong = NewBinding { config: Some(serde_json::json!({ "rules": 7 })), ..NewBinding::default() };
    let refused = bindings::bind(root.path(), &host, &tenant(), drop_filter(), wrong).unwrap_err();
    assert!(matches!(&refused, BindError::Plugin(e) if e.kind() == Kind::Fix), "{refused}");
    assert!(bindings::bind(root.path(), &host, &tenant(), b"no component", NewBinding::default()).is_err());
    let now = bindings::list(root.path(), &tenant()).unwrap();
    assert_eq!(now.len(), 6);
    assert_eq!(now.iter().find(|b| b.name == names[0]).unwrap().signals, [Signal::Logs]);
}

/// PL-1, also in the middle: the first-party filter is bound while requests come in; none slips past it after a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_looked_for_beside_the_work() {
    let node = Node::new(PipelineOptions::default());
    node.send(spans(&["noise"])).await.unwrap();
    bindings::bind(node.root.path(), &node.host, &tenant(), drop_filter(), drops("noise")).unwrap();
    // Within the time in which what is known is believed, either answer is right; a second later only one is.
    node.pass(500);
    node.send(spans(&["noise"])).await.unwrap();
    node.pass(500);
    assert_eq!(node.send(spans(&["noise"])).await.unwrap().dropped, 1);
}
