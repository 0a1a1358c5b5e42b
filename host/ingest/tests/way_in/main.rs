//! The whole way in, with a real store and a real plugin: what is acknowledged is there, what is refused is not.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of their functions")]

mod back;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prism_ingest::bindings::{self, BindError, NewBinding};
use prism_ingest::clocks::{Clock, Clocks};
use prism_ingest::json::Format;
use prism_ingest::settings::{self, DuplicateWindow};
use prism_ingest::{Accepted, Chains, IngestError, Pipeline, PipelineOptions, Request};
use prism_model::window::TimeRange;
use prism_model::{Batch, Classify, Kind, Limits, Signal, TenantId};
use prism_plugin::{PluginHost, PluginOptions};
use prism_store::control::Log;
use prism_store::{Store, StoreOptions};
use prost::Message;

const NOW: i64 = 1_790_000_000_000_000_000;

/// A node of its own: store, plugins, pipeline, and clocks that stand still unless moved.
struct Node {
    root: Arc<tempfile::TempDir>,
    host: Arc<PluginHost>,
    store: Arc<Store>,
    pipeline: Arc<Pipeline>,
    now: Arc<AtomicI64>,
    /// By how much the wall clock is ahead of that.
    jumped: Arc<AtomicI64>,
}

fn plugin_host() -> Arc<PluginHost> {
    let cache_dir = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"));
    PluginHost::new(PluginOptions { cache_dir, instances_max: 16, ..PluginOptions::default() }).unwrap()
}

fn first_party(name: &str) -> Vec<u8> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    std::fs::read(prism_componentize::build_guest(&manifest, &out).unwrap()).unwrap()
}

/// The first-party filter, built once.
fn drop_filter() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| first_party("drop-filter"))
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
        Node::on(Arc::new(tempfile::tempdir().unwrap()), options)
    }

    /// Another process on the same folder.
    fn on(root: Arc<tempfile::TempDir>, options: PipelineOptions) -> Node {
        let host = plugin_host();
        let now = Arc::new(AtomicI64::new(NOW));
        let store = Store::open(root.path(), StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }).unwrap();
        let chains = Chains::new(root.path().to_owned(), host.clone(), clock(&now));
        let jumped = Arc::<AtomicI64>::default();
        let (steady, ahead) = (clock(&now), clock(&jumped));
        let wall: Clock = Arc::new(move || steady() + ahead());
        let clocks = Clocks { wall, steady: clock(&now) };
        let pipeline = Pipeline::new(store.clone(), chains, Limits::default(), options, clocks);
        Node { root, host, store, pipeline, now, jumped }
    }

    async fn send(&self, body: Vec<u8>) -> Result<Accepted, IngestError> {
        self.take(request(body)).await
    }

    async fn take(&self, request: Request) -> Result<Accepted, IngestError> {
        self.pipeline.ingest(&tenant(), Signal::Spans, request).await
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

    fn jump(&self, millis: i64) {
        self.jumped.fetch_add(millis * 1_000_000, Ordering::SeqCst);
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

fn keyed(key: &str, body: Vec<u8>) -> Request {
    Request { idempotency_key: Some(key.to_owned()), ..request(body) }
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
    let bound = bound.binding;
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

/// The counts of duplicates: by key, by key with another body, by body.
fn duplicates(node: &Node) -> [u64; 3] {
    let counts = &node.pipeline.metrics().spans;
    [&counts.duplicates_by_key, &counts.duplicates_by_key_of_other_body, &counts.duplicates_by_body]
        .map(|counter| counter.load(Ordering::Relaxed))
}

#[tokio::test]
async fn st_1_the_same_request_again_is_stored_once_and_answered_as_the_first_was() {
    let node = Node::new(PipelineOptions::default());
    let first = node.send(spans(&["a", "b"])).await.unwrap();
    node.pass(12_000);
    let again = node.send(spans(&["a", "b"])).await.unwrap();
    assert_eq!((again.duplicate, again.stored, again.rejected, &again.token), (true, 0, 0, &first.token));
    assert!(
        again.reason.starts_with("this request was stored already, 12 s ago with the same body"),
        "{}",
        again.reason
    );
    // A client that tries again may compress anew.
    let packed = zstd::bulk::compress(&spans(&["a", "b"]), 1).unwrap();
    let packed = Request { content_encoding: Some("zstd".into()), ..request(packed) };
    assert!(node.take(packed).await.unwrap().duplicate);
    assert_eq!(node.names(), ["a", "b"]);
    assert_eq!(duplicates(&node), [0, 0, 2]);
    assert!(node.pipeline.metrics().spans.duplicate_bytes.load(Ordering::Relaxed) > 0);

    let other: TenantId = "other".parse().unwrap();
    let theirs = node.pipeline.ingest(&other, Signal::Spans, request(spans(&["a", "b"]))).await.unwrap();
    assert!(!theirs.duplicate, "another tenant's");
    node.pass(30 * 60_000);
    assert!(!node.send(spans(&["a", "b"])).await.unwrap().duplicate, "the window is over");
    assert_eq!(node.names(), ["a", "a", "b", "b"]);
}

#[tokio::test]
async fn a_key_is_what_counts_and_another_body_under_it_is_told() {
    let node = Node::new(PipelineOptions::default());
    node.take(keyed("1", spans(&["a"]))).await.unwrap();
    assert!(!node.take(keyed("2", spans(&["a"]))).await.unwrap().duplicate, "equal by intent");
    assert!(!node.send(spans(&["a"])).await.unwrap().duplicate, "a key and none are two requests");
    let same = node.take(keyed("1", spans(&["a"]))).await.unwrap();
    assert!(same.duplicate && same.reason.contains("under the same `Idempotency-Key`"), "{}", same.reason);
    let other = node.take(keyed("1", spans(&["b"]))).await.unwrap();
    assert!(other.duplicate && other.reason.contains("with another body"), "{}", other.reason);
    assert_eq!(node.names(), ["a", "a", "a"]);
    assert_eq!(duplicates(&node), [1, 1, 0]);
}

#[tokio::test]
async fn what_was_rejected_or_dropped_is_said_again_and_what_failed_is_not_remembered() {
    let node = Node::new(PipelineOptions::default());
    let mut broken = ExportTraceServiceRequest::decode(&*spans(&["a", "b"])).unwrap();
    broken.resource_spans[0].scope_spans[0].spans[0].trace_id = vec![0; 16];
    let first = node.send(broken.encode_to_vec()).await.unwrap();
    let again = node.send(broken.encode_to_vec()).await.unwrap();
    assert_eq!((first.rejected, again.rejected, again.duplicate), (1, 1, true));
    assert!(again.reason.ends_with(&first.reason), "{}", again.reason);

    bindings::bind(node.root.path(), &node.host, &tenant(), drop_filter(), drops("noise")).unwrap();
    node.pass(1_000);
    assert_eq!(node.send(spans(&["noise"])).await.unwrap().dropped, 1);
    let again = node.send(spans(&["noise"])).await.unwrap();
    assert!(again.duplicate && again.token.is_empty(), "nothing was stored, and that is known");

    for _ in 0..2 {
        assert_eq!(node.send(b"not protobuf".to_vec()).await.unwrap_err().kind(), Kind::Fix);
        assert!(!node.send(Vec::new()).await.unwrap().duplicate, "nothing to tell apart");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_1_copies_at_the_same_time_are_stored_once_and_all_answered() {
    let node = Node::new(PipelineOptions { tenant_workers: 1, ..PipelineOptions::default() });
    for round in 0..10 {
        let name = format!("span {round}");
        let copies: Vec<_> = (0..8)
            .map(|_| {
                let (pipeline, body) = (node.pipeline.clone(), spans(&[&name]));
                let request = if round % 2 == 0 { request(body) } else { keyed(&name, body) };
                tokio::spawn(async move { pipeline.ingest(&tenant(), Signal::Spans, request).await.unwrap() })
            })
            .collect();
        let mut answers = Vec::new();
        for copy in copies {
            answers.push(copy.await.unwrap());
        }
        assert_eq!(answers.iter().filter(|a| !a.duplicate).count(), 1);
        assert!(answers.iter().all(|a| a.token == answers[0].token && !a.token.is_empty()));
    }
    assert_eq!(node.names().len(), 10);
}

#[tokio::test]
async fn st_1_a_restarted_or_another_process_knows_what_the_frames_of_the_window_tell() {
    let node = Node::new(PipelineOptions::default());
    node.send(spans(&["old"])).await.unwrap();
    node.pass(29 * 60_000);
    node.send(spans(&["a"])).await.unwrap();
    node.take(keyed("k", spans(&["b"]))).await.unwrap();
    // Beyond 2,000 rows a frame is compressed by buffer.
    let many: Vec<&str> = vec!["c"; 3_000];
    node.send(spans(&many)).await.unwrap();
    let Node { root, store, now, .. } = node;
    drop(store);

    let next = Node::on(root, PipelineOptions::default());
    next.now.store(now.load(Ordering::SeqCst) + 60_000_000_000, Ordering::SeqCst);
    for request in [request(spans(&["a"])), keyed("k", spans(&["b"])), request(spans(&many))] {
        let again = next.take(request).await.unwrap();
        assert!(again.duplicate && again.reason.contains("no longer known"), "{}", again.reason);
    }
    assert!(!next.send(spans(&["old"])).await.unwrap().duplicate, "30 minutes ago");
    assert!(!next.send(spans(&["new"])).await.unwrap().duplicate);
    assert_eq!(next.names().len(), 3_005);
}

/// What is known of requests lasts as long where the wall clock jumps, also of those that another process stored.
#[tokio::test]
async fn st_1_a_request_that_comes_again_across_a_jump_of_the_clock_is_stored_once() {
    for minutes in [60, -60] {
        let node = Node::new(PipelineOptions::default());
        let other = Node::on(node.root.clone(), PipelineOptions::default());
        let again = async |node: &Node, name: &str| node.send(spans(&[name])).await.unwrap().duplicate;
        assert!(!again(&node, "own").await && !again(&other, "met").await && again(&node, "met").await);
        assert!(!again(&other, "not met").await);
        node.pass(20 * 60_000);
        node.jump(minutes * 60_000);
        for name in ["own", "met", "not met"] {
            assert!(again(&node, name).await, "{name}, {minutes} minutes");
        }
        assert!(!again(&node, "since").await && again(&node, "since").await);
        if minutes > 0 {
            assert!(again(&other, "since").await, "received an hour ahead of this clock");
        }
        node.pass(10 * 60_000);
        assert!(!again(&node, "own").await, "half an hour is over, by any clock");
        assert!(again(&node, "since").await);
    }
}

#[tokio::test]
async fn st_1_what_one_process_acknowledged_another_that_runs_beside_it_knows() {
    let a = Node::new(PipelineOptions::default());
    let b = Node::on(a.root.clone(), PipelineOptions::default());
    // Both have met the tenant: what follows is not known from then.
    a.send(spans(&["0"])).await.unwrap();
    b.send(spans(&["1"])).await.unwrap();
    for round in 2..6 {
        let name = round.to_string();
        let (first, second) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let stored = first.send(spans(&[&name])).await.unwrap();
        assert!(!stored.duplicate && second.send(spans(&[&format!("{name}+")])).await.is_ok());
        let again = second.send(spans(&[&name])).await.unwrap();
        assert!(again.duplicate, "{name}");
        assert_eq!(again.token, stored.token, "answered as the first was");
        assert!(second.send(spans(&[&name])).await.unwrap().duplicate);
    }
    // A third that has only just begun, and one of the two that begins anew.
    for late in
        [Node::on(a.root.clone(), PipelineOptions::default()), Node::on(a.root.clone(), PipelineOptions::default())]
    {
        assert!(late.send(spans(&["5"])).await.unwrap().duplicate);
        assert!(late.take(keyed("k", spans(&["9"]))).await.is_ok());
    }
    assert!(b.take(keyed("k", spans(&["9"]))).await.unwrap().duplicate);
    let counts = b.pipeline.metrics().spans.duplicates_by_body.load(Ordering::SeqCst);
    assert_eq!(counts, 4);
    assert_eq!(a.names(), ["0", "1", "2", "2+", "3", "3+", "4", "4+", "5", "5+", "9"]);
}

#[tokio::test]
async fn a_tenant_chooses_what_counts_as_the_same_within_a_second() {
    let node = Node::new(PipelineOptions::default());
    let choose = |window| {
        settings::change(node.root.path(), &tenant(), |s| s.duplicate_window = window).unwrap();
        node.pass(1_000);
    };
    node.send(spans(&["a"])).await.unwrap();
    node.take(keyed("k", spans(&["b"]))).await.unwrap();
    choose(DuplicateWindow::Keys);
    assert!(!node.send(spans(&["a"])).await.unwrap().duplicate);
    assert!(node.take(keyed("k", spans(&["b"]))).await.unwrap().duplicate);
    choose(DuplicateWindow::Off);
    assert!(!node.take(keyed("k", spans(&["b"]))).await.unwrap().duplicate);
    choose(DuplicateWindow::Bodies);
    assert!(node.send(spans(&["a"])).await.unwrap().duplicate);
    Log::open(node.root.path(), "tenants/acme/settings").unwrap().create(4, b"no json").unwrap();
    node.pass(1_000);
    assert_eq!(node.send(spans(&["c"])).await.unwrap_err().kind(), Kind::Retry, "not known is not the default");
}

/// PL-1, also in the middle: the first-party filter is bound while requests come in; none slips past it after a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_looked_for_beside_the_work() {
    let node = Node::new(PipelineOptions::default());
    node.send(spans(&["noise"])).await.unwrap();
    bindings::bind(node.root.path(), &node.host, &tenant(), drop_filter(), drops("noise")).unwrap();
    // Within the time in which what is known is believed, either answer is right; a second later only one is.
    node.pass(500);
    node.send(spans(&["noise", "a"])).await.unwrap();
    node.pass(500);
    assert_eq!(node.send(spans(&["noise", "b"])).await.unwrap().dropped, 1);
}

/// An address in every place of a metric that holds text.
fn metrics_with(secret: &str) -> Vec<u8> {
    let text = |key: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(format!("of {secret}"))) }),
        key_strindex: 0,
    };
    // A repeated key goes to the tail; a list is looked into.
    let list = ArrayValue { values: vec![AnyValue { value: Some(Value::StringValue(secret.to_owned())) }] };
    let list = AnyValue { value: Some(Value::ArrayValue(list)) };
    let list = KeyValue { key: "list".to_owned(), value: Some(list), key_strindex: 0 };
    // As they read back: by key.
    let attributes = || vec![text(secret), list.clone(), text("plain"), text("twice"), text("twice")];
    let time = NOW as u64;
    let exemplar = Exemplar { filtered_attributes: attributes(), time_unix_nano: time, ..Exemplar::default() };
    let number = NumberDataPoint {
        attributes: attributes(),
        time_unix_nano: time,
        exemplars: vec![exemplar.clone()],
        value: Some(number_data_point::Value::AsDouble(0.5)),
        ..NumberDataPoint::default()
    };
    let histogram = HistogramDataPoint {
        attributes: attributes(),
        time_unix_nano: time,
        count: 3,
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.5],
        exemplars: vec![exemplar],
        ..HistogramDataPoint::default()
    };
    let metric = |name: &str, data| Metric {
        name: name.to_owned(),
        description: format!("asked for by {secret}"),
        unit: secret.to_owned(),
        metadata: attributes(),
        data: Some(data),
    };
    let metrics = vec![
        metric("kept", metric::Data::Gauge(Gauge { data_points: vec![number.clone()] })),
        metric("noise", metric::Data::Gauge(Gauge { data_points: vec![number; 2] })),
        metric(
            &format!("requests of {secret}"),
            metric::Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
        ),
    ];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource = Some(Resource { attributes: attributes(), ..Resource::default() });
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }],
    }
    .encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn pl_1_metrics_are_dropped_by_name_and_redacted_wherever_they_hold_text() {
    let node = Node::new(PipelineOptions::default());
    let tenant = tenant();
    let send = |secret| node.pipeline.ingest(&tenant, Signal::Metrics, request(metrics_with(secret)));
    let stored = || {
        let snapshot = node.store.reader().snapshot(&tenant, Signal::Metrics, TimeRange::ALL).unwrap();
        assert!(snapshot.unreadable.is_empty());
        snapshot.frames.iter().map(|frame| frame.read(&|_, _| true).unwrap().0).collect::<Vec<Batch>>()
    };
    assert_eq!(send("joe@example.com").await.unwrap().stored, 4);
    let all = prism_ingest::encode::metrics(&stored()[0]);
    assert_eq!(all, ExportMetricsServiceRequest::decode(&*metrics_with("joe@example.com")).unwrap(), "nothing is lost");

    bindings::bind(node.root.path(), &node.host, &tenant, drop_filter(), drops("noise")).unwrap();
    bindings::bind(node.root.path(), &node.host, &tenant, &first_party("redact-pii"), NewBinding::default()).unwrap();
    node.pass(1_000);
    let accepted = send("ann@example.com").await.unwrap();
    assert_eq!((accepted.stored, accepted.dropped), (2, 2));
    let frames = stored();
    let redacted = prism_ingest::encode::metrics(frames.last().unwrap());
    let expected = ExportMetricsServiceRequest::decode(&*metrics_with("[email]")).unwrap();
    let points = |request: &ExportMetricsServiceRequest| {
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        metrics.iter().filter(|m| m.name != "noise").map(|m| format!("{m:?}")).collect::<Vec<_>>()
    };
    assert_eq!(points(&redacted), points(&expected));
    assert_eq!(redacted.resource_metrics[0].resource, expected.resource_metrics[0].resource);
    assert!(!format!("{redacted:?}").contains("example.com"));
}

/// Also metadata without a column of its own, which a guest sees among the leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_sees_what_a_metric_says_at_each_of_its_points() {
    let node = Node::new(PipelineOptions::default());
    let config = serde_json::json!({ "rules": [{ "when": [{ "field": "attr.tags", "op": "exists" }] }] });
    let binding = NewBinding { config: Some(config), ..NewBinding::default() };
    bindings::bind(node.root.path(), &node.host, &tenant(), drop_filter(), binding).unwrap();
    let tags = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }] };
    let tags = AnyValue { value: Some(Value::ArrayValue(tags)) };
    let tags = KeyValue { key: "tags".to_owned(), value: Some(tags), key_strindex: 0 };
    let point = NumberDataPoint { time_unix_nano: NOW as u64, ..NumberDataPoint::default() };
    let metric = |name: &str, points, metadata| Metric {
        name: name.to_owned(),
        metadata,
        data: Some(metric::Data::Gauge(Gauge { data_points: vec![point.clone(); points] })),
        ..Metric::default()
    };
    let metrics = vec![metric("a", 2, vec![]), metric("b", 3, vec![tags]), metric("c", 1, vec![])];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    let body = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    let accepted = node.pipeline.ingest(&tenant(), Signal::Metrics, request(body)).await.unwrap();
    assert_eq!((accepted.stored, accepted.dropped), (3, 3));
}
