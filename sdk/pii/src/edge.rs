//! What may stand beside a finding, and the few character classes that the detectors share.

/// Whether an ASCII letter or digit stands before `at`. The letter of an escape does not count: in text that holds JSON,
/// a new line is `\n`.
pub(crate) fn word_before(text: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| text[i]);
    match before(1) {
        Some(b'n' | b'r' | b't') if before(2) == Some(b'\\') => false,
        Some(byte) => byte.is_ascii_alphanumeric(),
        None => false,
    }
}

/// Whether an ASCII letter or digit stands at `at`.
pub(crate) fn word_at(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether a digit stands at `at`.
pub(crate) fn digit_at(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

/// The value of two hex digits at `at`.
pub(crate) fn hex_byte(text: &[u8], at: usize) -> Option<u8> {
    let digit = |i: usize| char::from(*text.get(i)?).to_digit(16);
    Some((digit(at)? << 4 | digit(at + 1)?) as u8)
}

/// Whether the character is a letter as names in e-mail addresses have them beyond ASCII: of a script with case (Latin,
/// Greek, Cyrillic ...), or an accent on one. Scripts without case are often written without spaces, so that the words
/// beside an address cannot be told from it.
pub(crate) fn is_name_letter(c: char) -> bool {
    !c.is_ascii() && (c.is_lowercase() || c.is_uppercase() || ('\u{300}'..='\u{36f}').contains(&c))
}

/// The character that ends before `at`, where it is beyond ASCII and whole.
pub(crate) fn wide_before(text: &[u8], at: usize) -> Option<char> {
    let from = (at.saturating_sub(4)..at).rev().find(|&i| text[i] & 0xc0 != 0x80)?;
    let mut chars = std::str::from_utf8(&text[from..at]).ok()?.chars();
    chars.next().filter(|c| !c.is_ascii() && chars.next().is_none())
}

/// The character that begins at `at`, where it is beyond ASCII and whole.
pub(crate) fn wide_at(text: &[u8], at: usize) -> Option<char> {
    let len = match text.get(at)? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    std::str::from_utf8(text.get(at..at + len)?).ok()?.chars().next()
}
