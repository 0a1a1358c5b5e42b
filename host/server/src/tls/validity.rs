//! When a certificate ends: `notAfter` of X.509, found by a walk over the DER.
//!
//! Source: RFC 5280, section 4.1; ITU-T X.690.

use chrono::NaiveDateTime;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, the version; left out in version 1.
const VERSION: u8 = 0xa0;

/// Unix seconds at which a certificate ends; `None` where the bytes are no certificate.
pub(super) fn ends_unix_s(certificate: &[u8]) -> Option<i64> {
    let (signed, _) = take(certificate, SEQUENCE)?;
    let (signed, _) = take(signed, SEQUENCE)?;
    let rest = take(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = take(rest, INTEGER)?;
    let (_algorithm, rest) = take(rest, SEQUENCE)?;
    let (_issuer, rest) = take(rest, SEQUENCE)?;
    let (validity, _) = take(rest, SEQUENCE)?;
    let (_, _not_before, not_after) = element(validity)?;
    time(not_after)
}

fn time(bytes: &[u8]) -> Option<i64> {
    let (tag, text, _) = element(bytes)?;
    let text = std::str::from_utf8(text).ok()?;
    let whole = match tag {
        GENERALIZED_TIME => text.to_owned(),
        // Two digits of the year: 50 and above are of the last century.
        UTC_TIME if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        _ => return None,
    };
    Some(NaiveDateTime::parse_from_str(&whole, "%Y%m%d%H%M%SZ").ok()?.and_utc().timestamp())
}

/// The content of an element of this tag, and what follows it.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match *first {
        short @ ..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
            (digits.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_found() {
        let of = |year| {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 3, 1);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
        };
        // The first is written as UTCTime, the second as GeneralizedTime.
        assert_eq!(ends_unix_s(&of(2030)), Some(1_898_553_600));
        assert_eq!(ends_unix_s(&of(2080)), Some(3_476_476_800));
        let certificate = of(2030);
        for end in 0..certificate.len() {
            assert_eq!(ends_unix_s(&certificate[..end]), None, "cut at {end}");
        }
        assert_eq!(ends_unix_s(b"\x30\x84\xff\xff\xff\xff"), None);
    }
}
