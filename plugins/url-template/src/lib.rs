//! First-party plugin: paths of URLs without what differs from request to request, `plugin.url_template(url.path)`.
//!
//! `/users/42/orders/9f8e7d6c5b4a` becomes `/users/{n}/orders/{hex}`: what is left is few enough to group by.

use prism_sdk::prelude::*;
use serde::Deserialize;

/// What the tenant wrote, as `config.schema.json` describes it; the host has checked it against that.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Hexadecimal digits from which on a segment with a digit and a letter among them is an id and no word.
    pub hex_digits_min: usize,
    /// Segments that stay as they are.
    pub keep: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config { hex_digits_min: 8, keep: Vec::new() }
    }
}

/// The function.
#[derive(Debug)]
pub struct UrlTemplate {
    config: Config,
}

impl ScalarFunction for UrlTemplate {
    type Config = Config;

    fn describe() -> Description {
        Description::new(
            "url-template",
            env!("CARGO_PKG_VERSION"),
            "In queries: URLs with placeholders for numbers, UUIDs and hexadecimal ids: plugin.url_template(url.path)",
        )
        .config(include_str!("../config.schema.json"), include_str!("../config.example.json"))
        .deterministic()
    }

    fn new(config: Config) -> Result<UrlTemplate, Error> {
        Ok(UrlTemplate { config })
    }

    fn signatures() -> Vec<Signature> {
        vec![Signature::new("url_template", &[Dtype::Utf8], Dtype::Utf8).deterministic()]
    }

    fn eval(&mut self, _function: usize, args: &Args<'_>) -> Result<Series, Error> {
        let urls = args.texts(0)?;
        Ok(Series::texts(args.rows(), |row, out| {
            let Some(url) = urls.get(row) else { return false };
            self.write(url, out);
            true
        }))
    }
}

impl UrlTemplate {
    /// Appends the template of a URL or path: without query and fragment.
    pub fn write(&self, url: &str, out: &mut String) {
        // By bytes, of which all that is looked for is one: searching for characters costs three times as much.
        let position = |from: usize, of: &dyn Fn(u8) -> bool| url.bytes().skip(from).position(of).map(|at| from + at);
        let url = &url[..position(0, &|b| matches!(b, b'?' | b'#')).unwrap_or(url.len())];
        // Numbers in the name of a host or in a port are none of a request.
        let path = match position(0, &|b| matches!(b, b':' | b'/')) {
            Some(at) if url[at.min(url.len())..].starts_with("://") => {
                position(at + 3, &|b| b == b'/').map_or(url.len(), |slash| slash.min(url.len()))
            }
            _ => 0,
        };
        // Of text without placeholders, what is as it was goes on in one piece.
        let (mut copied, mut begin) = (0, path);
        let bytes = url.as_bytes();
        while begin <= bytes.len() {
            let mut shape = Shape::default();
            let mut end = begin;
            while let Some(byte) = bytes.get(end).filter(|byte| **byte != b'/') {
                shape.add(*byte);
                end += 1;
            }
            if let Some(placeholder) = self.placeholder(&url[begin..end], shape) {
                out.push_str(&url[copied..begin]);
                out.push_str(placeholder);
                copied = end;
            }
            begin = end + 1;
        }
        out.push_str(&url[copied..]);
    }

    fn placeholder(&self, segment: &str, shape: Shape) -> Option<&'static str> {
        let found = if shape.digits == segment.len() {
            "{n}"
        } else if shape.dashes == 4 && is_uuid(segment) {
            "{uuid}"
        } else if shape.is_hex(segment.len()) && shape.digits > 0 && segment.len() >= self.config.hex_digits_min {
            // `facade` and `deadbeef` are words, and so is `cafe1` where it is short.
            "{hex}"
        } else {
            return None;
        };
        (!segment.is_empty() && !self.config.keep.iter().any(|kept| kept == segment)).then_some(found)
    }
}

/// What a segment is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    digits: usize,
    letters: usize,
    dashes: usize,
}

impl Shape {
    fn add(&mut self, byte: u8) {
        self.digits += usize::from(byte.is_ascii_digit());
        self.letters += usize::from(matches!(byte, b'a'..=b'f' | b'A'..=b'F'));
        self.dashes += usize::from(byte == b'-');
    }

    /// Whether so many bytes are all hexadecimal digits.
    fn is_hex(self, len: usize) -> bool {
        self.digits + self.letters == len
    }
}

/// 8-4-4-4-12 hexadecimal digits.
fn is_uuid(segment: &str) -> bool {
    segment.len() == 36
        && segment.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

prism_sdk::export_scalar_function!(UrlTemplate);
