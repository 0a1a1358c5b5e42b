//! The detectors against plain regular expressions and the standard library's parsers, on random text.

use std::net::{Ipv4Addr, Ipv6Addr};

use prism_pii::{Detectors, Finding, Kind, scan, scan_entries};
use proptest::prelude::*;
use regex::Regex;

fn only(text: &str, kind: Kind) -> Vec<Finding> {
    scan(text, Detectors::NONE.with(kind)).collect()
}

/// Text of pieces that often come near to something: random characters alone hardly ever would.
fn nearly(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(pieces), 0..14).prop_map(|pieces| pieces.concat())
}

/// What may stand around a finding without being part of it.
fn edges() -> impl Strategy<Value = (String, String)> {
    let before = ["", " ", "\"", "<", "(", "=", "用户", "，", "long text before it, more than a block ", "\n", "key: "];
    let after = ["", " ", "\"", ">", ")", ",", ";", "。", " and more than a block of text behind it", "\n"];
    let pick = |from: &'static [&'static str]| proptest::sample::select(from).prop_map(str::to_owned);
    (pick(Box::leak(Box::new(before))), pick(Box::leak(Box::new(after))))
}

fn luhn_digit(digits: &str) -> char {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 2 } else { 1 })
        .map(|d| if d > 9 { d - 9 } else { d })
        .sum();
    char::from(b'0' + ((10 - sum % 10) % 10) as u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn emails_are_what_the_expression_finds(
        text in nearly(&["a", "Z9", ".", "@", "-", "_", "+", "'", "com", "x.y", "b@c.de", " ", "1", "é", "中", "<", "=", ":"])
    ) {
        // Letters beyond ASCII widen an address; the expression sees the ASCII part of it.
        let oracle = Regex::new(r"[A-Za-z0-9_][A-Za-z0-9._%+'-]*@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}").unwrap();
        let found = only(&text, Kind::Email);
        for m in oracle.find_iter(&text) {
            prop_assert!(found.iter().any(|f| f.start <= m.start() && f.end >= m.end()), "{text:?} lacks {m:?}: {found:?}");
        }
        if text.is_ascii() {
            for f in &found {
                prop_assert!(oracle.is_match(&text[f.start..f.end]), "{text:?} has {f:?}");
            }
        }
        found.iter().for_each(|f| assert!(text.is_char_boundary(f.start) && text.is_char_boundary(f.end)));
    }

    #[test]
    fn ipv4_addresses_are_what_the_parser_takes(
        text in nearly(&["1", "0", "25", "255", "256", "10", ".", ".", ".", ".1.2.3", " ", "a", "-", "/", ":", "中"])
    ) {
        let run = Regex::new(r"[0-9A-Za-z.]+").unwrap();
        let suffix = Regex::new("^-[a-z]").unwrap();
        let found = only(&text, Kind::Ipv4);
        for f in &found {
            prop_assert!(text[f.start..f.end].parse::<Ipv4Addr>().is_ok(), "{text:?} has {f:?}");
        }
        for m in run.find_iter(&text) {
            let network = m.as_str().ends_with(".0.0.0");
            let suffix = suffix.is_match(&text[m.end()..]);
            if m.as_str().parse::<Ipv4Addr>().is_ok() && !network && !suffix {
                prop_assert!(found.iter().any(|f| (f.start, f.end) == (m.start(), m.end())), "{text:?} lacks {m:?}: {found:?}");
            }
        }
    }

    #[test]
    fn every_ipv6_address_is_found_in_every_form(
        groups in any::<[u16; 8]>(),
        first in prop_oneof![0x2000u16..=0x3fff, 0xfc00u16..=0xfdff, 0xfe80u16..=0xfebf, 0xff00u16..=0xff3f],
        zeros in (1usize..8, 0usize..8),
        form in 0..4,
        (before, after) in edges(),
    ) {
        let mut groups = groups;
        groups[0] = first;
        let end = (zeros.0 + zeros.1).min(8);
        groups[zeros.0..end].fill(0);
        let address = Ipv6Addr::from(groups);
        let written = match form {
            0 => address.to_string(),
            1 => address.to_string().to_uppercase(),
            2 => groups.map(|g| format!("{g:x}")).join(":"),
            _ => groups.map(|g| format!("{g:04X}")).join(":"),
        };
        let text = format!("{before}{written}{after}");
        let found = only(&text, Kind::Ipv6);
        let expected = Finding { kind: Kind::Ipv6, start: before.len(), end: before.len() + written.len() };
        prop_assert_eq!(found, [expected], "{}", text);
    }

    #[test]
    fn what_is_called_ipv6_parses(
        text in nearly(&["2001", "fe80", "::", ":", ":0", "db8", "1", "ffff", "::ffff:", "1.2.3.4", "64:ff9b", "%eth0", " ", "g", "."])
    ) {
        for f in only(&text, Kind::Ipv6) {
            let address = text[f.start..f.end].split('%').next().unwrap();
            prop_assert!(address.parse::<Ipv6Addr>().is_ok(), "{text:?} has {address:?}");
        }
    }

    #[test]
    fn every_card_is_found_in_every_style(
        issuer in proptest::sample::select(vec![
            ("4", 13), ("4", 16), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15),
            ("6011", 16), ("65", 16), ("644", 16), ("36", 14), ("305", 14), ("3528", 16), ("62", 16), ("62", 19), ("5018", 16),
        ]),
        fill in "[0-9]{19}",
        separator in proptest::sample::select(vec!["", " ", "-"]),
        (before, after) in edges(),
    ) {
        let (prefix, len) = issuer;
        let mut number = format!("{prefix}{}", &fill[..len - prefix.len() - 1]);
        number.push(luhn_digit(&number));
        let cuts: &[usize] = if len <= 15 { &[4, 10] } else { &[4, 8, 12, 16] };
        let mut written = String::new();
        for (i, c) in number.chars().enumerate() {
            if cuts.contains(&i) {
                written.push_str(separator);
            }
            written.push(c);
        }
        let text = format!("{before}{written}{after}");
        let expected = Finding { kind: Kind::Card, start: before.len(), end: before.len() + written.len() };
        prop_assert_eq!(only(&text, Kind::Card), [expected], "{}", &text);
        // One digit off, and the check digit is wrong.
        let last = text.bytes().rposition(|b| b.is_ascii_digit()).unwrap();
        let other = (text.as_bytes()[last] - b'0' + 1) % 10;
        let off = format!("{}{other}{}", &text[..last], &text[last + 1..]);
        let shorter = only(&off, Kind::Card).iter().any(|f| f.start == before.len() && f.end == last + 1);
        prop_assert!(!shorter, "{}", off);
    }

    #[test]
    fn cards_are_what_the_expression_and_the_check_digit_say(
        text in nearly(&["4", "41", "4111", "1111", "111111", "5500", "0000", "0004", "37", " ", "-", "-", " ", "x", ".", "_"])
    ) {
        let shape = Regex::new(r"^\d{4,6}(?:[ -]\d{4,6})*[ -]\d{1,19}$|^\d+$").unwrap();
        for f in only(&text, Kind::Card) {
            let number: String = text[f.start..f.end].chars().filter(char::is_ascii_digit).collect();
            prop_assert!(shape.is_match(&text[f.start..f.end]) && (13..=19).contains(&number.len()), "{text:?} has {f:?}");
            prop_assert_eq!(luhn_digit(&number[..number.len() - 1]), number.chars().last().unwrap());
        }
    }

    #[test]
    fn tokens_are_what_the_expression_finds(
        text in nearly(&[" Bearer", "bearer ", " ", "abc123", "eyJhbGci", ".", "xyz", "token", "\"", ":", "-_ ", "é", "%20"])
    ) {
        let long = Regex::new(r"(?i)\bbearer +([a-z0-9][a-z0-9._~+/=-]{15,})").unwrap();
        let jwt = Regex::new(r"(?:^|[^A-Za-z0-9])(eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{2,}\.)").unwrap();
        let found = only(&text, Kind::Bearer);
        for c in long.captures_iter(&text).chain(jwt.captures_iter(&text)) {
            let m = c.get(1).unwrap();
            // Without the dots at the end, which are the sentence's.
            let end = m.start() + m.as_str().trim_end_matches('.').len();
            if end - m.start() >= 16 {
                prop_assert!(found.iter().any(|f| f.start <= m.start() && f.end >= end), "{text:?} lacks {m:?}: {found:?}");
            }
        }
    }

    #[test]
    fn findings_are_in_order_apart_and_whole(
        text in nearly(&["a@b.de", "@", "4111111111111111", "1.2.3.4", "2001:db8::1", "Bearer ", "abc123", "eyJa.bc.d", " ", "é", "中", ":", ".", "x"]),
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        for text in [text.as_bytes(), &bytes] {
            let found: Vec<Finding> = scan(text, Detectors::ALL).collect();
            prop_assert!(found.iter().all(|f| f.start < f.end && f.end <= text.len()));
            prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start), "{found:?}");
        }
        let found: Vec<Finding> = scan(&text, Detectors::ALL).collect();
        prop_assert!(found.iter().all(|f| text.is_char_boundary(f.start) && text.is_char_boundary(f.end)), "{text:?} {found:?}");
    }

    #[test]
    fn masking_leaves_nothing_to_find(
        text in nearly(&["a@b.de ", "@ ", "4111111111111111 ", "1.2.3.4 ", "2001:db8::1,", "Bearer ", "abc123 ", " ", "é", ":", "x ", "- ", "5 "]),
    ) {
        let (mut masked, mut at) = (String::new(), 0);
        for f in scan(&text, Detectors::ALL) {
            masked += &text[at..f.start];
            masked += &format!("[{}]", f.kind.as_str());
            at = f.end;
        }
        masked += &text[at..];
        prop_assert_eq!(scan(&masked, Detectors::ALL).count(), 0, "{} -> {}", text, masked);
    }

    #[test]
    fn columns_give_what_texts_give(
        texts in proptest::collection::vec(nearly(&["a@b.de", "@", "4111", "1111", "1.2.3.4", "::1", "Bearer abc123", " ", "plain words"]), 0..20),
    ) {
        let mut offsets = vec![0];
        texts.iter().for_each(|t| offsets.push(offsets.last().unwrap() + t.len() as u32));
        let mut found = Vec::new();
        scan_entries(texts.concat().as_bytes(), &offsets, Detectors::ALL, |entry, f| found.push((entry, f.to_vec())));
        let expected: Vec<_> =
            texts.iter().map(|t| scan(t, Detectors::ALL).collect::<Vec<_>>()).enumerate().filter(|(_, f)| !f.is_empty()).collect();
        prop_assert_eq!(found, expected);
    }
}
