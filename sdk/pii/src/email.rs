//! E-mail addresses.
//!
//! The local part is of letters (also beyond ASCII, see `edge`), digits and `._%+-'`; the domain of two labels or more, the
//! last of which begins with two letters. What RFC 5321 allows besides (quotes, `=`, `/` ...) ends an address here: in URLs
//! and code those are separators. `%40` stands for `@`, as in the query of a URL. `git@github.com` is an address too;
//! `user@localhost` and pictures for fine screens (`icon@2x.png`) are not.

use crate::edge::{hex_byte, is_name_letter, wide_at, wide_before};

/// RFC 5321, 4.5.3.1.1, in characters.
const LOCAL_MAX: usize = 64;
/// RFC 5321, 4.5.3.1.2, in bytes.
const DOMAIN_MAX: usize = 255;

pub(crate) fn look(text: &[u8], from: usize, to: usize, found: &mut dyn FnMut(usize, usize)) -> usize {
    let mut i = from;
    while i < to {
        let sign = match text[i] {
            b'@' => 1,
            b'%' if text[i + 1..].starts_with(b"40") => 3,
            _ => {
                i += 1;
                continue;
            }
        };
        match (local_before(text, i), domain_at(text, i + sign)) {
            (Some(start), Some(end)) => {
                found(start, end);
                i = end;
            }
            _ => i += sign,
        }
    }
    i
}

/// Where the local part begins that ends before `at`.
fn local_before(text: &[u8], at: usize) -> Option<usize> {
    let mut start = at;
    for _ in 0..LOCAL_MAX {
        let Some(before) = start.checked_sub(1) else { break };
        match text[before] {
            byte if byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte) => start = before,
            0x80.. => match wide_before(text, start).filter(|c| is_name_letter(*c)) {
                Some(c) => start -= c.len_utf8(),
                None => break,
            },
            _ => break,
        }
    }
    // An encoded separator, as `%3D` in `?to%3Djoe%40example.com`, ends the local part.
    let separates = |b: u8| (0x20..0x7f).contains(&b) && !b.is_ascii_alphanumeric() && !b"._+-'".contains(&b);
    let encoded = |i: &usize| text[*i] == b'%' && hex_byte(text, i + 1).is_some_and(separates);
    if let Some(last) = (start..at.saturating_sub(3)).rev().find(encoded) {
        start = last + 3;
    }
    // So does a quote or dash before the name.
    let skip = text[start..at].iter().position(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)?;
    Some(start + skip)
}

/// Where the domain ends that begins at `at`.
fn domain_at(text: &[u8], at: usize) -> Option<usize> {
    let (mut end, mut i, mut labels) = (None, at, 0);
    while i - at <= DOMAIN_MAX {
        let label = i;
        // As long as there were only letters.
        let (mut letters, mut letters_end, mut only_letters) = (0, i, true);
        loop {
            let len = match text.get(i) {
                Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'-' => 1,
                Some(0x80..) => wide_at(text, i).filter(|c| is_name_letter(*c)).map_or(0, char::len_utf8),
                _ => 0,
            };
            if len == 0 || i - at > DOMAIN_MAX {
                break;
            }
            only_letters &= text[i].is_ascii_alphabetic() || text[i] >= 0x80;
            i += len;
            if only_letters {
                letters += 1;
                letters_end = i;
            }
        }
        if i == label {
            break;
        }
        if labels > 0 && letters >= 2 {
            end = Some(letters_end);
        }
        labels += 1;
        if text.get(i) != Some(&b'.') {
            break;
        }
        i += 1;
    }
    end.filter(|&end| !is_picture(&text[at..end]))
}

/// Whether the "domain" is the density and type of a picture: `2x.png`.
fn is_picture(domain: &[u8]) -> bool {
    matches!(domain, [b'1'..=b'9', b'x', b'.', ext @ ..]
        if [&b"png"[..], b"jpg", b"jpeg", b"gif", b"webp", b"svg", b"avif", b"heic"].contains(&ext))
}
