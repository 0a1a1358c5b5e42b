//! Every path x every key x one's own and another's data. The paths are read out of the routers' source, so that a route
//! without a decision here fails.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use crate::harness::{Answer, PROTOBUF, Server, key, must, spans, trace_id, until};

/// Where routes are made.
const ROUTERS: [&str; 2] = [include_str!("../../src/http.rs"), include_str!("../../src/grpc.rs")];

/// Whom a path is open to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Everyone,
    Ingest,
    Query,
    /// And processes of this machine, without a key.
    Operator,
}

/// The decisions.
const DOORS: &[(&str, &str, Door)] = &[
    ("POST", "/v1/traces", Door::Ingest),
    ("POST", "/v1/logs", Door::Ingest),
    ("POST", "/v1/metrics", Door::Ingest),
    ("POST", "/v1/query", Door::Query),
    ("GET", "/v1/query", Door::Query),
    ("POST", "/v1/query/explain", Door::Query),
    ("POST", "/v1/tail", Door::Query),
    ("GET", "/v1/tail", Door::Query),
    ("GET", "/v1/traces/{id}", Door::Query),
    ("GET", "/v1/fields", Door::Query),
    ("GET", "/v1/fields/{name}/values", Door::Query),
    ("GET", "/health", Door::Everyone),
    ("GET", "/ready", Door::Everyone),
    ("GET", "/metrics", Door::Operator),
    ("POST", "/opentelemetry.proto.collector.trace.v1.TraceService/Export", Door::Ingest),
    ("POST", "/opentelemetry.proto.collector.logs.v1.LogsService/Export", Door::Ingest),
    ("POST", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Door::Ingest),
    ("POST", "/grpc.health.v1.Health/Check", Door::Everyone),
];

/// `(method, path)` of every `.route(...)`.
fn routes() -> BTreeSet<(&'static str, &'static str)> {
    let mut routes = BTreeSet::new();
    for call in ROUTERS.iter().flat_map(|source| source.split(".route(").skip(1)) {
        let mut quoted = call.split('"');
        let path = quoted.nth(1).expect("a path");
        let handlers = quoted.next().expect("handlers").split("\n    ").next().expect("a line");
        let methods = [("POST", "post("), ("GET", "get("), ("PUT", "put("), ("DELETE", "delete("), ("PATCH", "patch(")];
        let found: Vec<_> = methods.iter().filter(|(_, maker)| handlers.contains(maker)).collect();
        assert!(!found.is_empty(), "{path}: no method is found in `{handlers}`");
        routes.extend(found.iter().map(|(method, _)| (*method, path)));
    }
    routes
}

#[test]
fn every_route_has_a_decision() {
    let decided: BTreeSet<_> = DOORS.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(routes(), decided, "a route stands in the routers or in the decisions alone");
}

/// Words that stand in the data of tenant `bank` alone, and in its name.
const FOREIGN: [&str; 2] = ["bank", "vault"];
const FOREIGN_TRACE: u64 = 77;
const OWN_TRACE: u64 = 5;

fn foreign() -> ExportTraceServiceRequest {
    let mut request = spans(FOREIGN_TRACE, 3);
    for span in &mut request.resource_spans[0].scope_spans[0].spans {
        span.name = "vault span".to_owned();
        span.attributes[0].key = "vault.attribute".to_owned();
    }
    request
}

/// A folder with tenants `shop`, whose keys are used, and `bank`, whose data must not be seen.
struct House {
    data: tempfile::TempDir,
    bank: String,
    ingest: String,
    query: String,
    admin: String,
    operator: String,
    expired: String,
    revoked: String,
}

impl House {
    fn new() -> House {
        let data = tempfile::tempdir().expect("a folder");
        for tenant in ["shop", "bank"] {
            must(data.path(), &["tenant", "create", tenant]);
        }
        let of = |roles: &str| key(data.path(), "shop", roles);
        let revoked = of("ingest,query,admin");
        must(data.path(), &["key", "revoke", &revoked]);
        let all = "ingest,query,admin";
        let brief = ["key", "create", "--tenant", "shop", "--role", all, "--expires", "1s"];
        let expired = must(data.path(), &brief).trim().to_owned();
        let operator = must(data.path(), &["key", "create", "--operator"]).trim().to_owned();
        House {
            bank: key(data.path(), "bank", "ingest,query"),
            ingest: of("ingest"),
            query: of("query"),
            admin: of("admin"),
            operator,
            expired,
            revoked,
            data,
        }
    }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// Asks a path; 200, 401, 403 or 404, of gRPC by its status.
fn ask(server: &Server, base: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Answer) {
    let grpc = path.starts_with("/opentelemetry.") || path.starts_with("/grpc.");
    let path = path.replace("{id}", &trace_id(FOREIGN_TRACE)).replace("{name}", "vault.attribute");
    let path = match (method, path.as_str()) {
        ("GET", "/v1/query") => "/v1/query?q=from+spans+last+1h".into(),
        // The spans of `shop`, of which there are none: it ends at once, since it has shown as many rows as it may.
        ("GET", "/v1/tail") => "/v1/tail?q=from+spans+last+1h+limit+0".into(),
        _ => path,
    };
    let body = match (method, path.as_str()) {
        _ if grpc => EMPTY_MESSAGE.to_vec(),
        ("POST", "/v1/query" | "/v1/query/explain") => b"from spans last 1h".to_vec(),
        ("POST", "/v1/tail") => b"from spans last 1h limit 0".to_vec(),
        _ => Vec::new(),
    };
    let kind = if grpc { GRPC } else { PROTOBUF };
    let mut request = server.client.request(method.parse().expect("a method"), format!("{base}{path}")).body(body);
    for (name, value) in headers.iter().chain([&kind]) {
        request = request.header(*name, *value);
    }
    let answer = crate::harness::answer(request.send().expect("an answer"));
    let status = match (grpc, answer.header("grpc-status")) {
        (false, _) | (true, "") => answer.status,
        (true, "16") => 401,
        (true, "7") => 403,
        (true, other) => panic!("{path}: grpc-status {other} {}", answer.header("grpc-message")),
    };
    (status, answer)
}

fn names_nothing_foreign(answer: &Answer, what: &str) {
    let all = format!("{:?} {}", answer.headers, answer.text());
    for word in FOREIGN {
        assert!(!all.contains(word), "{what} tells `{word}`: {all}");
    }
}

#[test]
fn qu_1_every_key_opens_its_doors_and_shows_nothing_of_another_tenant() {
    let house = House::new();
    let server = Server::start(house.data.path(), &[]);
    let sent = server.send("POST", "/v1/traces", &[PROTOBUF, ("x-api-key", &house.bank)], foreign().encode_to_vec());
    assert_eq!(sent.status, 200);
    until("the brief key has ended", || {
        ask(&server, &server.http, "GET", "/v1/fields", &[("x-api-key", &house.expired)]).0 == 401
    });
    let wrong = format!("{}x", &house.query[..house.query.len() - 1]);
    let keys: [(&str, Option<&str>); 8] = [
        ("none", None),
        ("wrong", Some(&wrong)),
        ("expired", Some(&house.expired)),
        ("revoked", Some(&house.revoked)),
        ("ingest", Some(&house.ingest)),
        ("query", Some(&house.query)),
        ("admin", Some(&house.admin)),
        ("operator", Some(&house.operator)),
    ];
    for (method, path, door) in DOORS {
        for (name, key) in keys {
            let expected = match (door, name) {
                (Door::Everyone, _) | (Door::Operator, "none" | "operator") => 200,
                (_, "none" | "wrong" | "expired" | "revoked") => 401,
                (Door::Ingest, "ingest") => 200,
                // Let in, and there is no such trace for this tenant.
                (Door::Query, "query") if path.ends_with("{id}") => 404,
                (Door::Query, "query") => 200,
                _ => 403,
            };
            let value = key.map(|key| format!("Bearer {key}"));
            for headers in [value.as_deref().map(|v| ("authorization", v)), key.map(|key| ("x-api-key", key))] {
                let headers: Vec<_> = headers.into_iter().collect();
                let bases = [&server.http, &server.grpc];
                let on_grpc = path.starts_with("/opentelemetry.") || path.starts_with("/grpc.");
                for base in &bases[..if on_grpc { 2 } else { 1 }] {
                    let (status, answer) = ask(&server, base, method, path, &headers);
                    assert_eq!(status, expected, "{name} {method} {path}: {}", answer.text());
                    // Who runs the node sees what each tenant costs it.
                    if *door != Door::Operator || expected != 200 {
                        names_nothing_foreign(&answer, &format!("{name} {method} {path}"));
                    }
                }
            }
        }
        // From elsewhere, by the word of a proxy, nothing but the open doors is open without a key.
        let (status, _) = ask(&server, &server.http, method, path, &[("x-forwarded-for", "203.0.113.7")]);
        assert_eq!(status, if *door == Door::Everyone { 200 } else { 401 }, "{method} {path} from elsewhere");
    }
}

#[test]
fn qu_1_questions_count_and_name_ones_own_data_only() {
    let house = House::new();
    let server = Server::start(house.data.path(), &[]);
    let send = |key: &str, request: &ExportTraceServiceRequest, more: &[(&str, &str)]| {
        let headers: Vec<_> = [PROTOBUF, ("x-api-key", key)].iter().chain(more).copied().collect();
        let answer = server.send("POST", "/v1/traces", &headers, request.encode_to_vec());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    send(&house.ingest, &spans(OWN_TRACE, 2), &[]);
    let token = send(&house.bank, &foreign(), &[]).header("prism-token").to_owned();
    let count = |key: &str| {
        let text = b"from spans last 1h select count() as n".to_vec();
        server.send("POST", "/v1/query", &[("x-api-key", key)], text).cell()
    };
    // The same idempotency key, and the same bytes, are another batch in another tenant.
    let same = [("idempotency-key", "batch-1")];
    send(&house.bank, &spans(8, 10), &same);
    send(&house.ingest, &spans(9, 20), &same);
    let bytes = spans(10, 100);
    send(&house.bank, &bytes, &[]);
    send(&house.ingest, &bytes, &[]);
    assert_eq!((count(&house.query), count(&house.bank)), (122.into(), 113.into()));

    let shop = ("x-api-key", house.query.as_str());
    for text in [
        "from spans last 1h by service.name, name select count() as n",
        "from spans last 1h where vault.attribute = '/orders'",
        "from spans last 1h where name = 'vault span' select count() as n",
        "from spans last 1h where vault.attribute exists",
        "from spans last 1h by vault.attribute select count() as n",
        "from logs last 1h",
    ] {
        let answer = server.send("POST", "/v1/query", &[shop], text.as_bytes().to_vec());
        assert!(matches!(answer.status, 200 | 400), "{text}: {}", answer.text());
        // What was asked may be repeated; nothing else may stand there.
        let told = answer.text().replace("vault.attribute", "").replace("vault span", "");
        assert!(FOREIGN.iter().all(|word| !told.contains(word)), "{text}: {told}");
        assert!(!told.contains(&trace_id(FOREIGN_TRACE)), "{text}: {told}");
    }
    for path in ["/v1/fields", "/v1/fields/name/values", "/v1/fields/service.name/values"] {
        names_nothing_foreign(&server.send("GET", path, &[shop], Vec::new()), path);
    }
    // Another's trace and a trace that never was are told by the same words.
    let told = |seed: u64| {
        let id = trace_id(seed);
        let answer = server.send("GET", &format!("/v1/traces/{id}"), &[shop], Vec::new());
        (answer.status, answer.text().replace(&id, "ID"))
    };
    assert_eq!(told(FOREIGN_TRACE), told(999));
    assert_eq!(told(FOREIGN_TRACE).0, 404);
    let rows = server.send("GET", &format!("/v1/traces/{}?format=rows", trace_id(FOREIGN_TRACE)), &[shop], Vec::new());
    assert_eq!(rows.json()["rows"].as_array().map(Vec::len), Some(0), "{}", rows.text());
    let waited = server.send("POST", "/v1/query", &[shop, ("prism-token", &token)], b"from spans last 1h".to_vec());
    assert_eq!(waited.status, 503, "another's token names nothing here");
    names_nothing_foreign(&waited, "another's token");
}
