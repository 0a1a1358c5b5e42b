//! What becomes a placeholder, and what stays.
#![allow(clippy::unwrap_used, reason = "only tests")]

use prism_sdk::ScalarFunction as _;
use url_template::UrlTemplate;

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
        ("/grüße/1/😀?ü=1", "/grüße/{n}/😀"),
        ("https://example.com?a=/1/2", "https://example.com"),
        ("mailto:7", "mailto:7"),
        ("7/8//9", "{n}/{n}//{n}"),
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
