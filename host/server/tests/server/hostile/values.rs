//! Messages that are well formed and hold what nobody expects: what is accepted reads back as it was sent.

use super::{ALL, Item, SIGNALS, Signal, Told, WAYS, Way, all_shown, attribute, count, send, text};
use crate::harness::{Answer, Server};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value};

/// A value within so many arrays and maps, by turns.
fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::IntValue(1), |inner, level| {
        let value = Some(AnyValue { value: Some(inner) });
        if level % 2 == 0 {
            Value::ArrayValue(ArrayValue { values: value.into_iter().collect() })
        } else {
            Value::KvlistValue(KeyValueList { values: vec![KeyValue { key: "k".into(), value, ..Default::default() }] })
        }
    })
}

/// A request with an attribute of so many arrays within each other.
fn endless(signal: Signal, way: Way, levels: usize) -> Vec<u8> {
    if way == Way::Json {
        let request = signal.request(way, &[Item::new(vec![text("deep", "here")])]);
        let [open, close] = [r#"{"arrayValue":{"values":["#, "]}}"].map(|part| part.repeat(levels));
        let request = String::from_utf8(request).expect("JSON");
        return request.replace(r#"{"stringValue":"here"}"#, &format!("{open}{close}")).into_bytes();
    }
    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend(content);
        out
    }
    // `AnyValue.array_value` within `ArrayValue.values`, and again.
    let array = (0..levels).fold(Vec::new(), |inner, _| field(0x0a, &field(0x2a, &inner)));
    // The same bytes as `AnyValue.bytes_value`, whose tag is then made that of an array.
    let mut request = signal.request(way, &[Item::new(vec![attribute("deep", Value::BytesValue(array.clone()))])]);
    let bytes = field(0x3a, &array);
    let at = request.windows(bytes.len()).position(|w| w == bytes).expect("it is there");
    request[at] = 0x2a;
    request
}

/// Sends an item of its own under this name, which must be taken as a whole, and finds it again.
struct Sender<'s> {
    server: &'s Server,
    signal: Signal,
    way: Way,
    sent: u8,
}

impl Sender<'_> {
    fn item(&mut self, attributes: Vec<KeyValue>) -> Item {
        self.sent += 1;
        let mut item = Item::new(attributes);
        item.name = format!("{:?} {}", self.way, self.sent);
        item.trace_id = vec![self.way as u8 + 1; 16];
        item.trace_id[15] = self.sent;
        item
    }

    fn trace(&self, item: &Item) -> Answer {
        self.server.get(&format!("/v1/traces/{}", hex::encode(&item.trace_id)))
    }

    fn told(&self, item: &Item) -> Told {
        send(self.server, self.signal, self.way, None, &self.signal.request(self.way, std::slice::from_ref(item)))
    }

    fn found(&self, item: &Item) -> i64 {
        let field = if self.signal == Signal::Logs { "body" } else { "name" };
        count(self.server, self.signal, &format!("where {field} = '{}'", item.name))
    }

    /// What is selected of the item.
    fn cell(&self, item: &Item, select: &str) -> serde_json::Value {
        let (table, field) = (self.signal.table(), if self.signal == Signal::Logs { "body" } else { "name" });
        self.server.query(&format!("from {table} last 1h where {field} = '{}' select {select}", item.name)).cell()
    }

    /// Accepted, and found once.
    fn taken(&mut self, attributes: Vec<KeyValue>, what: &str) -> Item {
        let item = self.item(attributes);
        assert_eq!(self.told(&item), ALL, "{:?} {:?}: {what}", self.signal, self.way);
        assert_eq!(self.found(&item), 1, "{:?} {:?}: {what}", self.signal, self.way);
        item
    }

    /// Accepted, found once, and, where the signal reads back whole, with exactly these attributes.
    fn accepted(&mut self, attributes: Vec<KeyValue>, what: &str) -> Item {
        let item = self.taken(attributes, what);
        if self.signal == Signal::Spans {
            let trace = self.trace(&item).json();
            let span = &trace["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
            let sorted = |mut list: Vec<serde_json::Value>| {
                list.sort_by_key(|a| a.to_string());
                list
            };
            let read = span["attributes"].as_array().cloned().unwrap_or_default();
            let (read, sent) = (sorted(read), sorted(all_shown(&item.attributes)));
            // Not by assert_eq: some of them fill a screen.
            let differs = read.iter().zip(&sent).find(|(read, sent)| read != sent);
            assert!(
                read.len() == sent.len() && differs.is_none(),
                "{what}: {} of {}, {differs:?}",
                read.len(),
                sent.len()
            );
        }
        item
    }
}

fn each(mut check: impl FnMut(Sender<'_>)) {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::dev(dir.path());
    for signal in SIGNALS {
        for way in WAYS {
            check(Sender { server: &server, signal, way, sent: 0 });
        }
    }
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn odd_attributes_read_back_as_they_were_sent() {
    each(|mut sender| {
        let deep = sender.taken(vec![attribute("deep", nested(64))], "64 levels");
        if sender.signal == Signal::Spans {
            // Deeper than the test's reader of JSON goes.
            assert_eq!(sender.trace(&deep).text().matches("Value\":{\"values\":[").count(), 64);
        }
        let deeper = sender.item(vec![attribute("deep", nested(65))]);
        assert_eq!((sender.told(&deeper), sender.found(&deeper)), (Told::Invalid, 0), "65 levels");
        let deepest = endless(sender.signal, sender.way, 5_000);
        let told = send(sender.server, sender.signal, sender.way, None, &deepest);
        assert_eq!(
            told,
            Told::Invalid,
            "5,000 levels, written as bytes because the test's own stack does not hold them"
        );

        let many: Vec<_> = (0..10_000).map(|i| text(&format!("k{i}"), &i.to_string())).collect();
        let item = sender.accepted(many, "10,000 attributes");
        assert_eq!([sender.cell(&item, "attr.k0"), sender.cell(&item, "attr.k9999")], ["0", "9999"]);
        let item = sender.accepted(vec![text("userid", "1"), text("userId", "2"), text("USERID", "3")], "keys by case");
        assert_eq!(["userid", "userId", "USERID"].map(|k| sender.cell(&item, &format!("attr.{k}"))), ["1", "2", "3"]);
        sender.accepted(vec![text("twice", "1"), text("twice", "2"), text("twice", "1")], "duplicate keys");
        sender.accepted(vec![text("type", "1"), attribute("type", Value::IntValue(1))], "a key of two types");

        let long = "k".repeat(64 << 10);
        sender.accepted(vec![text(&long, "v"), text("v", &long)], "a key and a value of 64 KiB");
        let fields = sender.server.get(&format!("/v1/fields?last=1h&signal={}", sender.signal.table())).text();
        assert!(fields.contains(&long), "the long key is listed");
        for key in
            ["", " ", "a b", "a,b", "a\"b", "a`b", "a\nb", "\0", "ключ", "🔑", ".", "a.", "__proto__", "name", "../x"]
        {
            sender.accepted(vec![text(key, "v")], key);
        }
    });
}

#[test]
fn odd_values_read_back_as_they_were_sent() {
    each(|mut sender| {
        let values = [
            ("double.nan", Value::DoubleValue(f64::NAN)),
            ("double.infinity", Value::DoubleValue(f64::INFINITY)),
            ("double.less", Value::DoubleValue(f64::NEG_INFINITY)),
            ("double.zero", Value::DoubleValue(-0.0)),
            ("double.least", Value::DoubleValue(f64::from_bits(1))),
            ("int.least", Value::IntValue(i64::MIN)),
            ("int.most", Value::IntValue(i64::MAX)),
            ("text.none", Value::StringValue(String::new())),
            ("text.zero", Value::StringValue("a\0b\u{202e}\u{feff}".into())),
            ("bytes.none", Value::BytesValue(Vec::new())),
            ("bytes.all", Value::BytesValue((0..=255).collect())),
            ("array.none", Value::ArrayValue(ArrayValue::default())),
            ("map.none", Value::KvlistValue(KeyValueList::default())),
        ];
        let mut attributes: Vec<_> = values.iter().map(|(key, value)| attribute(key, value.clone())).collect();
        attributes.push(KeyValue { key: "nothing".into(), value: Some(AnyValue::default()), ..Default::default() });
        let item = sender.accepted(attributes, "values at the edges");
        assert_eq!(sender.cell(&item, "attr.int.least"), i64::MIN.to_string());
        assert_eq!(sender.cell(&item, "attr.int.most"), i64::MAX.to_string());
        assert_eq!(sender.cell(&item, "attr.double.nan"), "NaN");
        assert_eq!(sender.cell(&item, "attr.text.zero"), "a\0b\u{202e}\u{feff}");

        let mut bytes = sender.signal.request(sender.way, &[sender.item(vec![text("the-key", "the-value")])]);
        for word in [&b"the-key"[..], b"the-value"] {
            let at = bytes.windows(word.len()).position(|w| w == word).expect("it was sent");
            let kept = std::mem::replace(&mut bytes[at], 0xff);
            let told = send(sender.server, sender.signal, sender.way, None, &bytes);
            assert_eq!(told, Told::Invalid, "{:?}: no UTF-8 in {word:?}", sender.signal);
            bytes[at] = kept;
        }
    });
}

#[test]
fn times_and_ids_that_cannot_be_are_rejected_one_by_one() {
    each(|mut sender| {
        let rejected = Told::Taken { rejected: 1 };
        for (time, told) in [
            (0, ALL),
            (1, ALL),
            // The last second of the year 2261.
            (9_214_646_399_000_000_000, ALL),
            (i64::MAX as u64 + 1, rejected),
            (u64::MAX, rejected),
        ] {
            let mut item = sender.item(Vec::new());
            item.time = time;
            assert_eq!(sender.told(&item), told, "{:?} {:?}: time {time}", sender.signal, sender.way);
            assert_eq!(
                sender.found(&item),
                i64::from(told == ALL),
                "{:?} {:?}: time {time}",
                sender.signal,
                sender.way
            );
        }
        for (trace_bytes, span_bytes, fill) in
            [(0, 8, 7), (15, 8, 7), (17, 8, 7), (16, 0, 7), (16, 7, 7), (16, 9, 7), (16, 8, 0)]
        {
            let mut item = sender.item(Vec::new());
            (item.trace_id, item.span_id) = (vec![fill; trace_bytes], vec![fill; span_bytes]);
            let what = format!("{:?} {:?}: ids of {trace_bytes} and {span_bytes} bytes", sender.signal, sender.way);
            match sender.signal {
                // Spans are nothing without ids; a broken one hurts no other span of its request.
                Signal::Spans => {
                    let good = sender.item(Vec::new());
                    let both = sender.signal.request(sender.way, &[item.clone(), good.clone()]);
                    assert_eq!(send(sender.server, sender.signal, sender.way, None, &both), rejected, "{what}");
                    assert_eq!((sender.found(&item), sender.found(&good)), (0, 1), "{what}");
                }
                // Log records are kept without them, points have none.
                Signal::Logs | Signal::Metrics => {
                    let told = sender.told(&item);
                    assert!(matches!(told, Told::Taken { rejected: 0 } | Told::Warned), "{what}: {told:?}");
                    assert_eq!(sender.found(&item), 1, "{what}");
                }
            }
        }
    });
}
