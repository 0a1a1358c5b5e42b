//! The bytes of a terminal as keys.

use std::io;

/// Bytes of what is pasted at once, at most: as long as the longest query.
const PASTED_BYTES_MAX: usize = prism_dsl::MAX_BYTES;
/// Bytes of a sequence that is believed.
const SEQUENCE_MAX: usize = 16;

/// A key, or what stands for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    /// Alt-Enter: another line, whether the query is finished or not.
    Newline,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Up,
    Down,
    Home,
    End,
    CutToEnd,
    CutToStart,
    CutWord,
    Paste(String),
    Search,
    Clear,
    Interrupt,
    /// Ctrl-D
    Leave,
    Escape,
    /// Anything else.
    Other,
}

/// Reads a key. `byte` gives the next byte, or none where nothing was typed for a moment; then this gives none too, unless a key
/// has begun.
///
/// # Errors
/// Those of `byte`.
pub(super) fn read(byte: &mut dyn FnMut() -> io::Result<Option<u8>>) -> io::Result<Option<Key>> {
    let Some(first) = byte()? else { return Ok(None) };
    Ok(Some(match first {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        0x7f | 0x08 => Key::Backspace,
        0x01 => Key::Home,
        0x05 => Key::End,
        0x02 => Key::Left,
        0x06 => Key::Right,
        0x0b => Key::CutToEnd,
        0x15 => Key::CutToStart,
        0x17 => Key::CutWord,
        0x0c => Key::Clear,
        0x12 => Key::Search,
        0x10 => Key::Up,
        0x0e => Key::Down,
        0x03 => Key::Interrupt,
        0x04 => Key::Leave,
        0x1b => escaped(byte)?,
        control if control < 0x20 => Key::Other,
        first => char_of(first, byte)?,
    }))
}

fn char_of(first: u8, byte: &mut dyn FnMut() -> io::Result<Option<u8>>) -> io::Result<Key> {
    let length = match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    let mut bytes = vec![first];
    while bytes.len() < length {
        match byte()? {
            Some(next) => bytes.push(next),
            None => break,
        }
    }
    let read = std::str::from_utf8(&bytes).ok().and_then(|text| text.chars().next());
    Ok(read.filter(|c| !c.is_control()).map_or(Key::Other, Key::Char))
}

fn escaped(byte: &mut dyn FnMut() -> io::Result<Option<u8>>) -> io::Result<Key> {
    let introducer = match byte()? {
        None => return Ok(Key::Escape),
        Some(b'\r' | b'\n') => return Ok(Key::Newline),
        Some(b'b') => return Ok(Key::WordLeft),
        Some(b'f') => return Ok(Key::WordRight),
        Some(0x7f) => return Ok(Key::CutWord),
        Some(introducer @ (b'[' | b'O')) => introducer,
        Some(_) => return Ok(Key::Other),
    };
    let mut sequence = Vec::new();
    while let Some(next) = byte()? {
        sequence.push(next);
        // The last byte of a sequence is a letter or `~`; `O` has one byte.
        if (0x40..=0x7e).contains(&next) || introducer == b'O' || sequence.len() >= SEQUENCE_MAX {
            break;
        }
    }
    Ok(match &*sequence {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"C" => Key::Right,
        b"D" => Key::Left,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        b"3~" => Key::Delete,
        b"1;5D" | b"1;3D" => Key::WordLeft,
        b"1;5C" | b"1;3C" => Key::WordRight,
        b"200~" => pasted(byte)?,
        _ => Key::Other,
    })
}

/// What the terminal says is pasted: line ends in it are no Enter, and nothing in it is a key.
fn pasted(byte: &mut dyn FnMut() -> io::Result<Option<u8>>) -> io::Result<Key> {
    const END: &[u8] = b"\x1b[201~";
    let mut bytes = Vec::new();
    while let Some(next) = byte()? {
        bytes.push(next);
        if bytes.ends_with(END) {
            bytes.truncate(bytes.len() - END.len());
            break;
        }
        if bytes.len() > PASTED_BYTES_MAX + END.len() {
            bytes.drain(..bytes.len() - END.len());
        }
    }
    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace('\r', "\n").replace('\t', "    ");
    Ok(Key::Paste(text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut bytes = bytes.iter().copied();
        let mut next = || Ok(bytes.next());
        std::iter::from_fn(|| read(&mut next).unwrap()).collect()
    }

    #[test]
    fn bytes_are_keys() {
        assert_eq!(
            keys("aü\r\t\u{7f}".as_bytes()),
            [Key::Char('a'), Key::Char('ü'), Key::Enter, Key::Tab, Key::Backspace]
        );
        assert_eq!(
            keys(b"\x1b[A\x1b[1;5D\x1bOH\x1b\r\x1b"),
            [Key::Up, Key::WordLeft, Key::Home, Key::Newline, Key::Escape]
        );
        assert_eq!(keys(b"\x03\x04\x12"), [Key::Interrupt, Key::Leave, Key::Search]);
        assert_eq!(keys(b"\x1b[200~a\r\nb\x1b[A\tc\x1b[201~d"), [Key::Paste("a\nb[A    c".into()), Key::Char('d')]);
    }

    #[test]
    fn odd_bytes_are_no_keys_and_end() {
        for bytes in [
            &b"\xff"[..],
            b"\xe2\x82",
            b"\x1b[999999999999999999999",
            b"\x1b[200~never ended",
            b"\x00",
            b"\x1bO",
            b"\xc2\x85",
        ] {
            assert!(keys(bytes).iter().all(|key| !matches!(key, Key::Char('\u{0}'..='\u{1f}'))), "{bytes:?}");
        }
    }
}
