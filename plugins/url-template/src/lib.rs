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
        let url = &url[..url.find(['?', '#']).unwrap_or(url.len())];
        // Numbers in the name of a host or in a port are none of a request.
        let path = match url.find("://") {
            Some(at) => url[at + 3..].find('/').map_or(url.len(), |slash| at + 3 + slash),
            None => 0,
        };
        out.push_str(&url[..path]);
        for (number, segment) in url[path..].split('/').enumerate() {
            if number > 0 {
                out.push('/');
            }
            out.push_str(self.placeholder(segment).unwrap_or(segment));
        }
    }

    fn placeholder(&self, segment: &str) -> Option<&'static str> {
        if segment.is_empty() || self.config.keep.iter().any(|kept| kept == segment) {
            return None;
        }
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        if digits == segment.len() {
            return Some("{n}");
        }
        if is_uuid(segment) {
            return Some("{uuid}");
        }
        // `facade` and `deadbeef` are words, and so is `cafe1` where it is short.
        let hex = segment.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && digits > 0 && segment.len() >= self.config.hex_digits_min).then_some("{hex}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn template(config: &str, url: &str) -> String {
        let mut out = String::new();
        UrlTemplate::new(serde_json::from_str(config).unwrap()).unwrap().write(url, &mut out);
        out
    }

    #[test]
    fn what_differs_from_request_to_request_is_a_placeholder() {
        for (url, expected) in [
            ("/users/42/orders", "/users/{n}/orders"),
            ("/users/42/", "/users/{n}/"),
            ("/a/550e8400-e29b-41d4-a716-446655440000", "/a/{uuid}"),
            ("/a/550e8400xe29b-41d4-a716-446655440000", "/a/550e8400xe29b-41d4-a716-446655440000"),
            ("/blob/9f8e7d6c5b4a?sig=1#top", "/blob/{hex}"),
            ("/facade/deadbeef/cafe1", "/facade/deadbeef/cafe1"),
            ("https://api2.example.com:8443/v1/7", "https://api2.example.com:8443/v1/{n}"),
            ("https://example.com", "https://example.com"),
            ("", ""),
            ("/grüße/1😀", "/grüße/1😀"),
            ("42", "{n}"),
        ] {
            assert_eq!(template("{}", url), expected);
        }
    }

    #[test]
    fn what_is_an_id_can_be_chosen() {
        assert_eq!(template(r#"{"hex_digits_min": 5}"#, "/cafe1"), "/{hex}");
        assert_eq!(template(r#"{"keep": ["2024"]}"#, "/2024/2025"), "/2024/{n}");
    }
}
