//! A request with marks as OTLP/JSON, and where its marks are.
//!
//! Ids are hexadecimal there and times decimal texts, so their marks are written as placeholders of the length of what replaces
//! them.

use serde_json::Value;

use crate::mark::{Form, Kind, Marks, Sites};

/// Decimal digits of a time in nanoseconds, from 2001 to 2286.
pub const TIME_DIGITS: usize = 19;

/// Writes a request, as `serde` gives it, and finds its marks.
pub fn encode(request: &Value, marks: Marks) -> (Vec<u8>, Sites) {
    let mut writer = Writer { out: Vec::new(), sites: Sites::none(marks) };
    writer.value(request);
    (writer.out, writer.sites)
}

struct Writer {
    out: Vec<u8>,
    sites: Sites,
}

impl Writer {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    self.comma(i);
                    self.value(item);
                }
                self.out.push(b']');
            }
            Value::Object(fields) => {
                self.out.push(b'{');
                for (i, (name, field)) in fields.iter().enumerate() {
                    self.comma(i);
                    self.out.extend_from_slice(&escaped(name));
                    self.out.push(b':');
                    self.value(field);
                }
                self.out.push(b'}');
            }
            Value::String(text) => self.text(text),
            other => self.out.extend_from_slice(other.to_string().as_bytes()),
        }
    }

    fn comma(&mut self, i: usize) {
        if i > 0 {
            self.out.push(b',');
        }
    }

    fn text(&mut self, text: &str) {
        let id = hex(text).and_then(|bytes| Kind::of(&bytes));
        let time = text.parse::<u64>().ok().and_then(|time| Kind::of(&time.to_le_bytes()));
        self.out.push(b'"');
        match (id, time) {
            (Some((kind @ (Kind::Trace | Kind::Span), argument)), _) => {
                self.mark(kind, argument, Form::Json);
            }
            (_, Some((Kind::Time, argument))) => self.mark(Kind::Time, argument, Form::Json),
            _ => self.marked_text(text),
        }
        self.out.push(b'"');
    }

    /// A text with marks in it: they are control characters, which JSON would escape.
    fn marked_text(&mut self, text: &str) {
        let (bytes, mut done, mut at) = (text.as_bytes(), 0, 0);
        while at < bytes.len() {
            match Kind::of(&bytes[at..]) {
                Some((kind, argument)) => {
                    self.plain(&text[done..at]);
                    self.mark(kind, argument, Form::Json);
                    at += kind.len(Form::Wire);
                    done = at;
                }
                None => at += 1,
            }
        }
        self.plain(&text[done..]);
    }

    fn plain(&mut self, text: &str) {
        let quoted = escaped(text);
        self.out.extend_from_slice(&quoted[1..quoted.len() - 1]);
    }

    fn mark(&mut self, kind: Kind, argument: usize, form: Form) {
        self.sites.add(self.out.len(), kind, argument, form);
        self.out.resize(self.out.len() + kind.len(form), b'0');
    }
}

fn escaped(text: &str) -> Vec<u8> {
    Value::String(text.to_owned()).to_string().into_bytes()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (text.len().is_multiple_of(2)).then(|| text.as_bytes().chunks(2).map(pair).collect())?
}
