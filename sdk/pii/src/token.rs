//! Bearer tokens (RFC 6750) and JSON web tokens.
//!
//! After the word `Bearer`, in any case, the token of RFC 6750: long (16 characters), or with a digit (4 characters). A short
//! one without (`Bearer xyz`) counts where it looks like a header's value: `Bearer` stands at the beginning or behind a
//! colon, equals sign or quote, the token ends the value, and is no word that people write there ("bearer token"). A JSON web
//! token counts anywhere: two base64url parts or more with dots between, the first of which begins with `{"` (`eyJ`).

use crate::edge::word_before;

/// What "bearer ..." goes on with in sentences and challenges.
const WORDS: [&[u8]; 19] = [
    b"token",
    b"tokens",
    b"auth",
    b"authentication",
    b"authorization",
    b"authorisation",
    b"is",
    b"of",
    b"realm",
    b"error",
    b"scheme",
    b"was",
    b"not",
    b"null",
    b"undefined",
    b"none",
    b"invalid",
    b"missing",
    b"only",
];

pub(crate) fn look(text: &[u8], from: usize, to: usize, found: &mut dyn FnMut(usize, usize)) -> usize {
    let mut i = from;
    while i < to {
        let token = match text[i] {
            b'b' | b'B' => after_bearer(text, i),
            b'e' => web_token(text, i),
            _ => None,
        };
        match token {
            Some((start, end)) => {
                found(start, end);
                i = end;
            }
            None => i += 1,
        }
    }
    i
}

fn after_bearer(text: &[u8], at: usize) -> Option<(usize, usize)> {
    if !text.get(at..at + 6)?.eq_ignore_ascii_case(b"bearer") || word_before(text, at) {
        return None;
    }
    let mut start = at + 6;
    let mut assigned = false;
    loop {
        match &text[start..] {
            [b' ' | b'\t' | b'+', ..] => start += 1,
            [b'%', b'2', b'0', ..] => start += 3,
            [b':' | b'=', ..] => {
                assigned = true;
                start += 1;
            }
            _ => break,
        }
    }
    if start == at + 6 {
        return None;
    }
    let run = text[start..].iter().take_while(|b| b.is_ascii_alphanumeric() || b"._~+/=-".contains(b)).count();
    // A full stop behind is the sentence's.
    let len = text[start..start + run].iter().rposition(|b| *b != b'.')? + 1;
    let (token, end) = (&text[start..start + len], start + len);
    let strong = len >= 16 || (len >= 4 && token.iter().any(u8::is_ascii_digit));
    (strong || (!assigned && is_header_value(text, at, end) && !is_word(token))).then_some((start, end))
}

fn is_header_value(text: &[u8], at: usize, end: usize) -> bool {
    let before = text[..at].iter().rev().find(|b| **b != b' ');
    let begins = matches!(before, None | Some(b':' | b'=' | b'"' | b'\'' | b'\n'));
    let after = text[end..].iter().find(|b| **b != b' ');
    let ends = matches!(after, None | Some(b'"' | b'\'' | b',' | b';' | b'}' | b']' | b'\r' | b'\n' | b'\\'));
    begins && ends
}

fn is_word(token: &[u8]) -> bool {
    let bare = token.iter().position(|b| *b == b'=').map_or(token, |at| &token[..at]);
    WORDS.iter().any(|word| bare.eq_ignore_ascii_case(word))
}

fn web_token(text: &[u8], at: usize) -> Option<(usize, usize)> {
    if !text[at..].starts_with(b"eyJ") || word_before(text, at) {
        return None;
    }
    let part = |from: usize| {
        text[from..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'-' || **b == b'_').count()
    };
    let header = at + part(at);
    if header < at + 4 || text.get(header) != Some(&b'.') {
        return None;
    }
    let payload = header + 1 + part(header + 1);
    if payload < header + 3 || text.get(payload) != Some(&b'.') {
        return None;
    }
    // The signature may be empty; an encrypted token has two parts more.
    let mut end = payload + 1 + part(payload + 1);
    for _ in 0..2 {
        if text.get(end) == Some(&b'.') && part(end + 1) > 0 {
            end += 1 + part(end + 1);
        }
    }
    Some((at, end))
}
