//! What is found and what is not, as text before and after masking.

use prism_pii::{Detectors, Kind, scan, scan_entries};

fn mask(text: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    for finding in scan(text, Detectors::ALL) {
        out.push_str(&text[at..finding.start]);
        out.push_str(&format!("[{}]", finding.kind.as_str()));
        at = finding.end;
    }
    out + &text[at..]
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(mask(text), expected, "{text}");
    // Where a text stands must not matter: blocks of the first pass end anywhere.
    for before in [1, 7, 31, 32, 33, 63] {
        let pad = " ".repeat(before);
        assert_eq!(mask(&format!("{pad}{text}{pad}")), format!("{pad}{expected}{pad}"), "{text} after {before}");
    }
    assert_eq!(mask(expected), expected, "masking twice changes more: {text}");
}

#[track_caller]
fn clean(text: &str) {
    check(text, text);
}

#[test]
fn addresses_of_people_are_found_wherever_they_stand() {
    check("joe@example.com", "[email]");
    check("mail from <Joe.Doe+news@mail.example.co.uk>, thanks", "mail from <[email]>, thanks");
    check(r#"{"user":"joe_doe@example.org","n":1}"#, r#"{"user":"[email]","n":1}"#);
    check("https://x.example/?to=joe@example.com&n=1", "https://x.example/?to=[email]&n=1");
    check("https://x.example/?to=joe%40example.com&n=1", "https://x.example/?to=[email]&n=1");
    check("q%3Djoe%2Bnews%40example.com", "q%3D[email]");
    check("mailto:o'brien@example.ie.", "mailto:[email].");
    check("'joe@example.com'", "'[email]'");
    check("https://user:secret@example.com/x", "https://user:[email]/x");
    check("joe@example.com,ann@example.org;x@y.io", "[email],[email];[email]");
    check("joe@example.com1", "[email]1");
    check("joe@example.com-internal", "[email]-internal");
    check("über josé@müller.de schrieb", "über [email] schrieb");
    check("jose\u{301}@example.com", "[email]");
    check("иван@пример.рф!", "[email]!");
    check("联系joe@example.com吧", "联系[email]吧");
    check("电话：joe@example.com。", "电话：[email]。");
    check(r"line\njoe@example.com", r"line\[email]");
}

#[test]
fn other_at_signs_are_not_addresses() {
    clean("user@localhost");
    clean("@example.com");
    clean("joe@");
    clean("joe @ example.com");
    clean("lodash@4.17.21");
    clean("@angular/core@17.0.1");
    clean("icon@2x.png");
    clean("image@sha256:4bf92f3577b34da6a3ce929d0e0e4736");
    clean("@Override public void run()");
    clean("100%40");
    clean("5%400.5");
}

#[test]
fn cards_are_found_in_the_ways_people_write_them() {
    check("4111111111111111", "[card]");
    check("card 4111 1111 1111 1111 exp 12/29", "card [card] exp 12/29");
    check("card=5500-0000-0000-0004;", "card=[card];");
    check("amex 3782 822463 10005", "amex [card]");
    check("378282246310005", "[card]");
    check("4222222222222", "[card]");
    check("6304000000000000", "[card]");
    check("3530111333300000 6011111111111117", "[card] [card]");
    check("2223003122003222", "[card]");
    check("6200000000000005 30569309025904", "[card] [card]");
    check("2024-01-02 4111 1111 1111 1111 123", "2024-01-02 [card] 123");
    check("12 4111-1111-1111-1111", "12 [card]");
    check(r#"{"pan":"4111111111111111"}"#, r#"{"pan":"[card]"}"#);
    check("卡号4111111111111111，", "卡号[card]，");
    check(r"x\n4111111111111111\n", r"x\n[card]\n");
    check("4111111111111111,5500000000000004", "[card],[card]");
}

#[test]
fn other_numbers_are_not_cards() {
    clean("4111111111111112");
    clean("order 4111 1111 1111 1112");
    clean("1700000000000000000");
    clean("1732100000123 1732100000123456");
    clean("0.4111111111111111");
    clean("4111111111111111.25");
    clean("a4111111111111111");
    clean("4111111111111111f");
    clean("41111111111111111111");
    clean("4111  1111  1111  1111");
    clean("4111-1111 1111-1111");
    clean("41 11 11 11 11 11 11 11");
    clean("4bf92f3577b34da6a3ce929d0e0e4736");
    clean("00000000000000000000");
    clean("9999999999999995");
    clean("f47ac10b-58cc-4372-a567-0e02b2c3d479");
    clean("2024-01-02 12:30:45.123456789");
    clean(&"-".repeat(200));
    clean(&"4 ".repeat(200));
}

#[test]
fn a_number_is_a_card_by_the_same_rule() {
    assert!(prism_pii::is_card_number(4_111_111_111_111_111));
    for not in [0, 41, 4_111_111_111_111_112, 1_700_000_000_000_000_000, u64::MAX] {
        assert!(!prism_pii::is_card_number(not), "{not}");
    }
}

#[test]
fn ipv4_addresses_are_found_whole() {
    check("192.0.2.7", "[ipv4]");
    check("http://192.0.2.7:8080/x", "http://[ipv4]:8080/x");
    check("10.0.0.0/8", "10.0.0.0/8");
    check("10.1.0.0/16", "[ipv4]/16");
    check("localhost/127.0.0.1:5432", "localhost/[ipv4]:5432");
    check("10.0.0.1-10.0.0.9", "[ipv4]-[ipv4]");
    check("from 255.255.255.255.", "from [ipv4].");
    check("IP地址192.168.1.1。", "IP地址[ipv4]。");
    check("[\"10.0.0.1\",\"10.0.0.2\"]", "[\"[ipv4]\",\"[ipv4]\"]");
    check("1.2.3.4.in-addr.arpa", "[ipv4].in-addr.arpa");
    check("peer_10.2.3.4_5", "peer_[ipv4]_5");
    check("1.2.3.4@example.com", "[email]");
}

#[test]
fn versions_and_decimals_are_not_ipv4() {
    clean("1.2.3.4.5");
    clean("1.3.6.1.4.1.311");
    clean("v1.2.3.4");
    clean("version 1.2.3.4");
    clean("\"version\": \"1.2.3.4\"");
    clean("1.2.3.4-beta");
    clean("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/119.0.0.0 Safari/537.36");
    clean("Chrome/91.0.4472.124");
    clean("256.1.1.1");
    clean("1.2.3");
    clean("01.2.3.4");
    clean("1.2.3.4567");
    clean("1.2.3.4a");
    clean("3.14 2.71 1.41");
    clean("0.0.0.0");
}

#[test]
fn ipv6_addresses_are_found_in_every_form() {
    check("2001:db8::1", "[ipv6]");
    check("2001:0DB8:0000:0000:0000:0000:0000:0001", "[ipv6]");
    check("[2001:db8::1]:443", "[[ipv6]]:443");
    check("2001:db8::/32", "[ipv6]/32");
    check("fe80::1%eth0", "[ipv6]");
    check("[fe80::1%25en0]", "[[ipv6]]");
    check("::1", "[ipv6]");
    check("0:0:0:0:0:0:0:1", "[ipv6]");
    check("::ffff:192.0.2.1", "[ipv6]");
    check("::ffff:c000:201", "[ipv6]");
    check("64:ff9b::192.0.2.33", "[ipv6]");
    check("addr:2001:db8::1", "addr:[ipv6]");
    check("src:2001:db8::1: refused", "src:[ipv6]: refused");
    check("12:30:45:2001:db8::1", "12:30:45:[ipv6]");
    check("fd12:3456:789a::1,ff02::fb", "[ipv6],[ipv6]");
    check("地址2001:db8::1。", "地址[ipv6]。");
    check("2001:db8:1:2:3:4:5:6:8080", "[ipv6]:8080");
}

#[test]
fn colons_in_code_and_times_are_not_ipv6() {
    clean("std::vec::Vec<u8>");
    clean("std::vec");
    clean("a::b");
    clean("a::b::c");
    clean("dead::beef");
    clean("cafe::f00d::add");
    clean("core::f64::consts");
    clean("::f64");
    clean("::std::fmt");
    clean("abc::def");
    clean("x[::2]");
    clean("12:30:45");
    clean("2024-01-02T12:30:45.123Z");
    clean("00:1b:44:11:3a:b7");
    clean("02:00:5e:ff:fe:00:53:af");
    clean("MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48");
    clean("2001:db8::1::2");
    clean("2001:db8::12345");
    clean("2001:db8::1xyz");
    clean("::");
    clean(":::1");
    clean("key: value: other:");
    clean(&":".repeat(100));
    clean(&"a:".repeat(100));
}

#[test]
fn tokens_are_found_and_the_word_bearer_stays() {
    check("Bearer xyz", "Bearer [bearer]");
    check("Authorization: Bearer abc123", "Authorization: Bearer [bearer]");
    check("authorization: bearer  mF_9.B5f-4.1JqM", "authorization: bearer  [bearer]");
    check(r#"{"Authorization":"Bearer abcdefgh"}"#, r#"{"Authorization":"Bearer [bearer]"}"#);
    check("header=Bearer%20abcdef0123456789&x", "header=Bearer%20[bearer]&x");
    check("sent Bearer ABCDEFGHIJKLMNOPQRSTUVWXYZ.", "sent Bearer [bearer].");
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    check(&format!("token={jwt}&x=1"), "token=[bearer]&x=1");
    check(&format!("Bearer {jwt}"), "Bearer [bearer]");
    check("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "[bearer]");
    check("eyJhIjoxfQ.aa.bb.cc.dd", "[bearer]");
}

#[test]
fn talk_about_tokens_is_not_a_token() {
    clean("invalid bearer token");
    clean("Bearer token");
    clean("Bearer authentication failed");
    clean("the bearer of bad news");
    clean("Bearer realm=\"example\", error=\"invalid_token\"");
    clean("forbearer abcdef0123456789");
    clean("bearer");
    clean("Bearer ");
    clean("eyJust a word");
    clean("eyJabc.");
    clean("heyJabc.defg.hij");
}

#[test]
fn findings_that_overlap_are_one() {
    check("4111111111111111@example.com", "[email]");
    check("a@b.example.com@c.example.com", "[email]");
    check("::ffff:10.1.2.3", "[ipv6]");
}

#[test]
fn only_what_is_enabled_is_found() {
    let text = "joe@example.com 4111111111111111 192.0.2.7 2001:db8::1 Bearer abc123";
    for kind in Kind::ALL {
        let found: Vec<_> = scan(text, Detectors::NONE.with(kind)).map(|f| f.kind).collect();
        assert_eq!(found, [kind]);
    }
    assert_eq!(scan(text, Detectors::NONE).count(), 0);
    assert_eq!(scan(text, Kind::ALL.into_iter().collect()).count(), 5);
}

#[test]
fn bytes_that_are_no_text_are_borne() {
    for bytes in [
        &b"\xff\xfe@\xff.com"[..],
        b"joe@example.com\xff",
        b"\xe4joe@example.com",
        b"\x80\x80\x80@a.bc",
        b"a@\xf0\x9f.de",
    ] {
        scan(bytes, Detectors::ALL).for_each(|f| assert!(f.start < f.end && f.end <= bytes.len()));
    }
    assert_eq!(scan(b"\xe4joe@example.com", Detectors::ALL).map(|f| (f.start, f.end)).collect::<Vec<_>>(), [(1, 16)]);
}

#[test]
fn entries_of_a_column_are_scanned_like_texts() {
    let texts = [
        "",
        "plain",
        "joe@example.com",
        "",
        "4111",
        "1111 1111 1111 ",
        "x",
        "192.0.2.7",
        "joe@",
        "example.com",
        "GET /",
        &"long ".repeat(100),
        &format!("{}ann@example.org{}", "y ".repeat(100), " z".repeat(50)),
        "::1",
        "",
        "Bearer",
        " abc123",
    ];
    let mut offsets = vec![0];
    let data: String = texts.concat();
    texts.iter().for_each(|t| offsets.push(offsets.last().unwrap() + t.len() as u32));
    let mut found = Vec::new();
    scan_entries(data.as_bytes(), &offsets, Detectors::ALL, |entry, findings| found.push((entry, findings.to_vec())));
    let expected: Vec<_> = texts
        .iter()
        .map(|t| scan(*t, Detectors::ALL).collect::<Vec<_>>())
        .enumerate()
        .filter(|(_, f)| !f.is_empty())
        .collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), 4);
    scan_entries(b"", &[0], Detectors::ALL, |_, _| panic!("nothing to find"));
    scan_entries(b"", &[], Detectors::ALL, |_, _| panic!("nothing to find"));
}
