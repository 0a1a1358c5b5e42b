//! IPv4 and IPv6 addresses.
//!
//! **IPv4**: four numbers up to 255 without leading zeros. Not part of a longer dotted or written name (`1.2.3.4.5`,
//! `v1.2.3.4`, `host.1.2.3.4`), not after the word "version", not before a dash and a letter (`1.2.3.4-beta`), and not
//! `x.0.0.0`, which is a network or a browser's version and never a host.
//!
//! **IPv6**: every form of RFC 4291, also with dotted end, and the zone of a link-local address. `::` is common in code, and
//! `a::b`, `dead::beef` or `::f64` are well-formed addresses; so one counts only if it lies in space that IANA has given
//! out: its first group has four digits and is in 2000-3fff (global), 5f00, fc00-fdff (local), fe80-febf (link) or ff00-ff3f
//! (multicast), or it begins with `64:ff9b:`, or is the loopback `::1` or maps an IPv4 address (`::ffff:192.0.2.1`), however
//! they are written. No word or identifier begins like that. Times (`12:30:45`) and hardware addresses have neither `::`
//! nor eight groups of which the first has four digits.

use crate::edge::{digit_at, word_at, word_before};

/// A hex address has 39 characters; the run before a colon is not searched further back than that.
const BACK_MAX: usize = 40;
/// Names of interfaces have at most 15 bytes on Linux, 256 on Windows, where they are numbers in fact.
const ZONE_MAX: usize = 32;

pub(crate) fn look_v4(text: &[u8], from: usize, to: usize, found: &mut dyn FnMut(usize, usize)) -> usize {
    let mut i = from;
    while i < to {
        if !(text[i].is_ascii_digit() && text.get(i + 1) == Some(&b'.') && digit_at(text, i + 2)) {
            i += 1;
            continue;
        }
        let digits = text[..=i].iter().rev().take(4).take_while(|b| b.is_ascii_digit()).count();
        let start = i + 1 - digits;
        match v4_alone(text, start) {
            Some(end) => {
                found(start, end);
                i = end;
            }
            None => i += 1,
        }
    }
    i
}

/// Where the address ends that begins at `at`, if what is around it lets it be one.
fn v4_alone(text: &[u8], at: usize) -> Option<usize> {
    let (end, octets) = v4_at(text, at)?;
    let dotted = at >= 2 && text[at - 1] == b'.' && text[at - 2].is_ascii_alphanumeric();
    let suffix = text.get(end) == Some(&b'-') && text.get(end + 1).is_some_and(u8::is_ascii_alphabetic);
    let network = octets[1..] == [0, 0, 0];
    (!dotted && !suffix && !network && !word_before(text, at) && !after_version(text, at)).then_some(end)
}

/// Four numbers with dots between, behind which no number goes on.
fn v4_at(text: &[u8], at: usize) -> Option<(usize, [u8; 4])> {
    let (mut i, mut octets) = (at, [0; 4]);
    for (n, octet) in octets.iter_mut().enumerate() {
        if n > 0 {
            if text.get(i) != Some(&b'.') {
                return None;
            }
            i += 1;
        }
        let digits = text.get(i..).unwrap_or_default().iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        let value = text[i..i + digits].iter().fold(0u16, |v, b| v * 10 + u16::from(b - b'0'));
        if !(1..=3).contains(&digits) || (digits > 1 && text[i] == b'0') {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
        i += digits;
    }
    let goes_on = text.get(i) == Some(&b'.') && digit_at(text, i + 1);
    (!goes_on && !word_at(text, i)).then_some((i, octets))
}

fn after_version(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(12)..at];
    let word = before.iter().rposition(|b| !b" =:\"'".contains(b)).map_or(0, |last| last + 1);
    word < before.len() && word >= 7 && before[word - 7..word].eq_ignore_ascii_case(b"version")
}

pub(crate) fn look_v6(text: &[u8], from: usize, to: usize, found: &mut dyn FnMut(usize, usize)) -> usize {
    let mut i = from;
    while i < to {
        let near = text[i] == b':' && text[i + 1..].iter().take(5).any(|b| *b == b':');
        if !near {
            i += 1;
            continue;
        }
        // The run of hex digits and colons around it. Blocks end anywhere: it may begin before this one.
        let of_address = |b: &&u8| b.is_ascii_hexdigit() || **b == b':';
        let start = i - text[..i].iter().rev().take(BACK_MAX).take_while(of_address).count();
        let end = i + text[i..].iter().take_while(of_address).count();
        let mut at = start;
        while at < end {
            let begins = at == start || text[at - 1] == b':';
            match begins.then(|| v6_alone(text, at)).flatten() {
                Some(end) => {
                    found(at, end);
                    at = end;
                }
                None => at += 1,
            }
        }
        i = at.max(end);
    }
    i
}

/// Where the address ends that begins at `at`, if what is around it lets it be one.
fn v6_alone(text: &[u8], at: usize) -> Option<usize> {
    let compressed_first = text[at] == b':';
    if word_before(text, at) || (compressed_first && at > 0 && text[at - 1] == b':') {
        return None;
    }
    let (end, groups) = v6_at(text, at)?;
    let four_digits = text[at..].iter().take_while(|b| b.is_ascii_hexdigit()).count() == 4;
    let given_out = four_digits
        && matches!(groups[0], 0x2000..=0x3fff | 0x5f00 | 0xfc00..=0xfdff | 0xfe80..=0xfebf | 0xff00..=0xff3f);
    let translated = groups[..2] == [0x64, 0xff9b];
    let loopback = groups == [0, 0, 0, 0, 0, 0, 0, 1];
    let mapped = groups[..6] == [0, 0, 0, 0, 0, 0xffff];
    if !(given_out || translated || loopback || mapped) {
        return None;
    }
    // `2001:db8::1::2` is no address, nor is `2001:db8::1x`.
    if word_at(text, end) || text[end..].starts_with(b"::") {
        return None;
    }
    let has_zone = matches!(groups[0], 0xfe80..=0xfebf | 0xff00..=0xff3f);
    Some(if has_zone { zone_end(text, end) } else { end })
}

/// The longest address that begins at `at`, and its groups.
fn v6_at(text: &[u8], at: usize) -> Option<(usize, [u16; 8])> {
    let (mut groups, mut count, mut gap, mut i) = ([0u16; 8], 0, None, at);
    if text[i..].starts_with(b"::") {
        gap = Some(0);
        i += 2;
    }
    while count < 8 {
        let digits = text[i..].iter().take(5).take_while(|b| b.is_ascii_hexdigit()).count();
        if digits == 0 {
            break;
        }
        let dotted = if count <= 6 { v4_at(text, i) } else { None };
        if let Some((end, [a, b, c, d])) = dotted {
            (groups[count], groups[count + 1]) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            (count, i) = (count + 2, end);
            break;
        }
        if digits > 4 {
            return None;
        }
        groups[count] =
            text[i..i + digits].iter().fold(0, |v, b| v << 4 | char::from(*b).to_digit(16).unwrap_or(0) as u16);
        (count, i) = (count + 1, i + digits);
        match (&text[i..], gap) {
            _ if count == 8 => break,
            ([b':', b':', ..], None) => {
                gap = Some(count);
                i += 2;
            }
            ([b':', next, ..], _) if next.is_ascii_hexdigit() => i += 1,
            _ => break,
        }
    }
    match gap {
        None => (count == 8).then_some((i, groups)),
        Some(gap) if count < 8 => {
            groups.copy_within(gap..count, 8 - (count - gap));
            groups[gap..8 - (count - gap)].fill(0);
            Some((i, groups))
        }
        Some(_) => None,
    }
}

fn zone_end(text: &[u8], at: usize) -> usize {
    if text.get(at) != Some(&b'%') {
        return at;
    }
    let of_zone = |b: &&u8| b.is_ascii_alphanumeric() || b"_.~-".contains(b);
    let zone = &text[at + 1..];
    let len = zone.iter().take(ZONE_MAX).take_while(of_zone).count();
    match zone[..len].iter().rposition(|b| *b != b'.') {
        Some(last) => at + 2 + last,
        None => at,
    }
}
