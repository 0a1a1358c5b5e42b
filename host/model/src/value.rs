//! An OTLP `AnyValue`, and its exact text form.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// An OTLP `AnyValue`.
///
/// Its text form is JSON that people and other engines can read, and from which the value comes back exactly:
/// - an empty value is `null`; an int has neither `.` nor exponent, a double always has one (`1.0`, `1e300`, `-0.0`);
/// - what JSON has no form for is an object with one reserved key: `{"$double":"NaN"}` (also `Infinity`, `-Infinity`),
///   `{"$bytes":"aGk="}`;
/// - a map keeps its order and repeated keys; a key that begins with `$` gets one more `$` in front.
#[derive(Clone, Debug)]
pub enum Value {
    /// An `AnyValue` without a value.
    Null,
    /// `string_value`
    Str(String),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`; the payload of a NaN is not kept by the text form.
    Double(f64),
    /// `bytes_value`
    Bytes(Vec<u8>),
    /// `array_value`
    Array(Vec<Value>),
    /// `kvlist_value`, in order, keys may repeat.
    Map(Vec<(String, Value)>),
}

/// Equal when the text forms are: doubles by bits, every NaN like every other.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Value {
    /// Appends the text form to `out`.
    pub fn write_text(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Str(s) => write_string(s, out),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(i) => push_display(i, out),
            Value::Double(d) => write_double(*d, out),
            Value::Bytes(b) => {
                out.push_str("{\"$bytes\":\"");
                BASE64.encode_string(b, out);
                out.push_str("\"}");
            }
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write_text(out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push('{');
                for (i, (key, item)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_key(key, out);
                    out.push(':');
                    item.write_text(out);
                }
                out.push('}');
            }
        }
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out);
        out
    }

    /// The value of a text form; at most 127 levels deep.
    ///
    /// # Errors
    /// The text is not JSON, holds a number outside of int64 and double, or a reserved key in a form that
    /// [`Value::write_text`] does not write.
    pub fn from_text(text: &str) -> Result<Value, BadValueText> {
        serde_json::from_str(text).map_err(|e| BadValueText(e.to_string()))
    }
}

/// A text that is not the text form of a value.
#[derive(Debug, thiserror::Error)]
#[error("expected the text form of an attribute value: {0}")]
pub struct BadValueText(String);

/// Appends `"…"` with JSON escapes.
pub fn write_string(s: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (i, b) in s.bytes().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.push_str(&s[plain_from..i]);
        plain_from = i + 1;
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                out.push_str("\\u00");
                out.push(char::from(b"0123456789abcdef"[usize::from(b >> 4)]));
                out.push(char::from(b"0123456789abcdef"[usize::from(b & 15)]));
            }
        }
    }
    out.push_str(&s[plain_from..]);
    out.push('"');
}

/// Appends a map key: `"…"`, with one more `$` in front where the key begins with one.
pub fn write_key(key: &str, out: &mut String) {
    if key.starts_with('$') {
        write_string(&format!("${key}"), out);
    } else {
        write_string(key, out);
    }
}

/// Appends a double so that it reads back as the same double and never as an int.
pub fn write_double(d: f64, out: &mut String) {
    if d.is_nan() {
        out.push_str("{\"$double\":\"NaN\"}");
    } else if d.is_infinite() {
        out.push_str(if d > 0.0 { "{\"$double\":\"Infinity\"}" } else { "{\"$double\":\"-Infinity\"}" });
    } else {
        // Debug is the shortest form that reads back, and always has a point or an exponent.
        use fmt::Write as _;
        let _infallible = write!(out, "{d:?}");
    }
}

fn push_display(value: &impl fmt::Display, out: &mut String) {
    use fmt::Write as _;
    let _infallible = write!(out, "{value}");
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(Value::Int(i))
    }

    fn visit_u64<E: serde::de::Error>(self, u: u64) -> Result<Value, E> {
        i64::try_from(u).map(Value::Int).map_err(|_| E::custom(format!("int `{u}` is beyond int64")))
    }

    fn visit_f64<E>(self, d: f64) -> Result<Value, E> {
        Ok(Value::Double(d))
    }

    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::Str(s.to_owned()))
    }

    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(Value::Str(s))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "$double" || key == "$bytes" {
                let special = special(&key, &map.next_value::<String>()?).map_err(A::Error::custom)?;
                if !entries.is_empty() || map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom(format!("reserved key `{key}` beside others")));
                }
                return Ok(special);
            }
            let key = match key.strip_prefix('$') {
                Some(rest) if rest.starts_with('$') => rest.to_owned(),
                Some(_) => return Err(A::Error::custom(format!("unknown reserved key `{key}`"))),
                None => key,
            };
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}

fn special(key: &str, text: &str) -> Result<Value, String> {
    match (key, text) {
        ("$double", "NaN") => Ok(Value::Double(f64::NAN)),
        ("$double", "Infinity") => Ok(Value::Double(f64::INFINITY)),
        ("$double", "-Infinity") => Ok(Value::Double(f64::NEG_INFINITY)),
        ("$bytes", _) => BASE64.decode(text).map(Value::Bytes).map_err(|e| format!("`$bytes` is not base64: {e}")),
        _ => Err(format!("expected `NaN`, `Infinity` or `-Infinity` as `{key}`, found `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            proptest::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
            Just("$".to_owned()),
            Just("$bytes".to_owned()),
            Just("$double".to_owned()),
        ];
        let text = proptest::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter);
        let leaf = prop_oneof![
            Just(Value::Null),
            text.prop_map(Value::Str),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(|b| Value::Double(f64::from_bits(b))),
            prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(1e300), Just(f64::INFINITY)].prop_map(Value::Double),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                proptest::collection::vec((key.clone(), inner), 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_reads_back_exactly(value in any_value()) {
            let text = value.to_text();
            prop_assert_eq!(Value::from_text(&text).unwrap(), value, "{}", text);
        }
    }

    #[test]
    fn text_is_what_people_expect() {
        let value = Value::Map(vec![
            ("a".into(), Value::Array(vec![Value::Int(1), Value::Double(1.0), Value::Null])),
            ("a".into(), Value::Bytes(b"hi".to_vec())),
            ("$x".into(), Value::Str("line\n\"q\" ü".into())),
        ]);
        assert_eq!(value.to_text(), r#"{"a":[1,1.0,null],"a":{"$bytes":"aGk="},"$$x":"line\n\"q\" ü"}"#);
    }

    #[test]
    fn foreign_text_is_refused() {
        for bad in ["", "{", "18446744073709551615", r#"{"$x":1}"#, r#"{"$double":"1"}"#, r#"{"$bytes":"aGk=","b":1}"#]
        {
            assert!(Value::from_text(bad).is_err(), "{bad}");
        }
        assert!(Value::from_text(&"[".repeat(10_000)).is_err());
    }
}
