//! The caller's context as W3C defines it: `traceparent`, `tracestate`, `baggage`. What is not well formed is not there.
//!
//! Sources: <https://www.w3.org/TR/trace-context-2/>, <https://www.w3.org/TR/baggage/>.

use http::HeaderMap;

/// Bytes of `tracestate` that must be handed on; longer ones are left out as a whole.
const TRACE_STATE_BYTES_MAX: usize = 512;
/// Members of it, by the specification.
const TRACE_STATE_MEMBERS_MAX: usize = 32;
/// Bytes of `baggage` that are looked at, by the specification.
const BAGGAGE_BYTES_MAX: usize = 8_192;
/// Members of it.
const BAGGAGE_MEMBERS_MAX: usize = 64;
/// Bytes of a member's value that are kept: an attribute and not a document.
const BAGGAGE_VALUE_BYTES_MAX: usize = 256;

/// The span that the caller was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) sampled: bool,
}

/// The caller's span; `None` begins a new trace. Allocates nothing.
pub(super) fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut all = headers.get_all("traceparent").iter();
    let text = all.next()?.as_bytes();
    // Two of them say nothing.
    if all.next().is_some() {
        return None;
    }
    let (fields, rest) = text.split_first_chunk::<55>()?;
    let well_formed = fields[2] == b'-' && fields[35] == b'-' && fields[52] == b'-';
    let mut version = [0];
    hex(&fields[..2], &mut version)?;
    // A later version may have more behind a dash; version 00 has not, and ff is none.
    let ends = match version[0] {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    let (mut trace_id, mut span_id, mut flags) = ([0; 16], [0; 8], [0]);
    hex(&fields[3..35], &mut trace_id)?;
    hex(&fields[36..52], &mut span_id)?;
    hex(&fields[53..55], &mut flags)?;
    let valid = well_formed && ends && trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some(Parent { trace_id, span_id, sampled: flags[0] & 1 == 1 })
}

/// Lower-case digits only, as the specification wants.
fn hex(digits: &[u8], out: &mut [u8]) -> Option<()> {
    let lower = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(digits, out).is_ok()).then_some(())
}

/// `tracestate` in one line; empty where there is none, or one that breaks the rules.
pub(super) fn trace_state(headers: &HeaderMap) -> String {
    let mut members = Vec::new();
    for value in headers.get_all("tracestate") {
        let Ok(text) = value.to_str() else { return String::new() };
        members.extend(text.split(',').map(str::trim).filter(|member| !member.is_empty()));
    }
    let key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(&b);
    let value = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    let well_formed = |member: &&str| {
        member.split_once('=').is_some_and(|(k, v)| {
            (1..=256).contains(&k.len()) && k.bytes().all(key) && (1..=256).contains(&v.len()) && v.bytes().all(value)
        })
    };
    let line = members.join(",");
    let keeps_the_rules = members.len() <= TRACE_STATE_MEMBERS_MAX && members.iter().all(well_formed);
    if keeps_the_rules && line.len() <= TRACE_STATE_BYTES_MAX { line } else { String::new() }
}

/// The members of `baggage` that are allowed, with their values as text.
pub(super) fn baggage(headers: &HeaderMap, allowed: &[String]) -> Vec<(String, String)> {
    if allowed.is_empty() {
        return Vec::new();
    }
    let (mut found, mut bytes, mut members): (Vec<(String, String)>, usize, usize) = (Vec::new(), 0, 0);
    for value in headers.get_all("baggage") {
        bytes += value.len();
        let Some(text) = value.to_str().ok().filter(|_| bytes <= BAGGAGE_BYTES_MAX) else { return found };
        for member in text.split(',') {
            members += 1;
            if members > BAGGAGE_MEMBERS_MAX {
                return found;
            }
            let pair = member.split(';').next().unwrap_or_default();
            let Some((key, value)) = pair.split_once('=') else { continue };
            let (key, value) = (key.trim(), value.trim());
            let wanted = allowed.iter().any(|name| name == key) && found.iter().all(|(name, _)| name != key);
            if let Some(value) = percent_decoded(value).filter(|_| wanted) {
                let kept = crate::error::within(&value, BAGGAGE_VALUE_BYTES_MAX).to_owned();
                found.push((key.to_owned(), kept));
            }
        }
    }
    found
}

/// The text of a value; `None` where it is none.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_parent_is_what_the_specification_calls_one() {
        let check = |text: &str| parent(&headers(&[("traceparent", text)]));
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = check(&format!("00-{trace}-{span}-01")).unwrap();
        assert_eq!(
            (hex::encode(good.trace_id), hex::encode(good.span_id), good.sampled),
            (trace.into(), span.into(), true)
        );
        assert!(!check(&format!("00-{trace}-{span}-02")).unwrap().sampled);
        assert!(check(&format!("cc-{trace}-{span}-01-what-comes-later")).is_some());
        for bad in [
            String::new(),
            format!("ff-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01-more"),
            format!("cc-{trace}-{span}-01.more"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{span}-1"),
            format!("00_{trace}-{span}-01"),
            format!("00-{trace}-{span}-0g"),
        ] {
            assert_eq!(check(&bad), None, "{bad}");
        }
        let one = format!("00-{trace}-{span}-01");
        assert_eq!(parent(&headers(&[("traceparent", &one), ("traceparent", &one)])), None);
    }

    #[test]
    fn a_trace_state_is_whole_or_not_there() {
        let check =
            |lines: &[&str]| trace_state(&headers(&lines.iter().map(|line| ("tracestate", *line)).collect::<Vec<_>>()));
        assert_eq!(check(&["a=1, b@c=x y ", "", "d=2"]), "a=1,b@c=x y,d=2");
        let many: Vec<String> = (0..33).map(|i| format!("k{i}=1")).collect();
        for bad in ["a", "A=1", "a=", "=1", "a=b=c", &many.join(","), &format!("a={}", "x".repeat(257))] {
            assert_eq!(check(&[bad]), "", "{bad}");
        }
    }

    #[test]
    fn only_allowed_members_of_baggage_are_read_and_within_bounds() {
        let allowed = ["plan".to_owned(), "user.id".to_owned()];
        let check = |text: &str| baggage(&headers(&[("baggage", text)]), &allowed);
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            check("plan = gold;ttl=3, secret=x,user.id=%C3%BC%20"),
            [pair("plan", "gold"), pair("user.id", "ü ")]
        );
        assert_eq!(check("plan=a,plan=b"), [pair("plan", "a")]);
        assert_eq!(check("plan=%f,user.id=%ff,plan"), []);
        assert_eq!(check(&format!("plan={}", "x".repeat(300)))[0].1.len(), 256);
        assert_eq!(check(&format!("x={},plan=a", "x".repeat(9_000))), []);
        assert_eq!(check(&format!("{}plan=a", "x=1,".repeat(64))), []);
        assert_eq!(baggage(&headers(&[("baggage", "plan=a")]), &[]), []);
    }
}
