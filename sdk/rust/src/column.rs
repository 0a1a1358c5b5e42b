//! The layouts of values, in comfortable clothes: bitmaps, and bytes or text behind offsets.

/// Bit `i` of a bitmap, LSB first; false beyond its end.
pub fn bit(bits: &[u8], i: usize) -> bool {
    bits.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
}

/// A bitmap of known length, LSB first, as validity and `keep` are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// `len` bits of one value; the bits beyond in the last byte are 0.
    pub fn filled(len: usize, value: bool) -> Bits {
        let mut bytes = vec![if value { 0xff } else { 0 }; len.div_ceil(8)];
        if let Some(last) = bytes.last_mut().filter(|_| value && !len.is_multiple_of(8)) {
            *last = (1 << (len % 8)) - 1;
        }
        Bits { bytes, len }
    }

    /// Sets one bit; nothing happens beyond the end.
    pub fn set(&mut self, i: usize, value: bool) {
        if i < self.len {
            let mask = 1 << (i % 8);
            if value {
                self.bytes[i / 8] |= mask;
            } else {
                self.bytes[i / 8] &= !mask;
            }
        }
    }

    /// One bit; false beyond the end.
    pub fn get(&self, i: usize) -> bool {
        i < self.len && bit(&self.bytes, i)
    }

    /// The bytes, as results hold them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Entries of bytes, one behind the other in one buffer.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    offsets: Offsets<'a>,
    data: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Offsets<'a> {
    List(&'a [u32]),
    /// All of one width, in bytes.
    Width(usize),
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(offsets: &'a [u32], data: &'a [u8]) -> Bytes<'a> {
        Bytes { offsets: Offsets::List(offsets), data }
    }

    pub(crate) fn fixed(width: u32, data: &'a [u8]) -> Bytes<'a> {
        Bytes { offsets: Offsets::Width((width as usize).max(1)), data }
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        match self.offsets {
            Offsets::List(offsets) => offsets.len().saturating_sub(1),
            Offsets::Width(width) => self.data.len() / width,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry; empty beyond the end.
    pub fn get(&self, entry: usize) -> &'a [u8] {
        let range = match self.offsets {
            Offsets::List(offsets) => match offsets.get(entry..entry + 2) {
                Some(&[from, to]) => from as usize..to as usize,
                _ => 0..0,
            },
            Offsets::Width(width) => entry * width..(entry + 1) * width,
        };
        self.data.get(range).unwrap_or_default()
    }

    /// All entries in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.len()).map(move |i| self.get(i))
    }

    /// All bytes of all entries, one behind the other: to search them in one go.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Where entries begin in [`Bytes::data`] and the last ends; `None` where all are of one width.
    pub fn offsets(&self) -> Option<&'a [u32]> {
        match self.offsets {
            Offsets::List(offsets) => Some(offsets),
            Offsets::Width(_) => None,
        }
    }
}

/// Entries of text. Checked to be UTF-8 once for the whole column, not for each entry.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    offsets: &'a [u32],
    data: &'a str,
}

impl<'a> Text<'a> {
    /// `None` where the bytes are no UTF-8, which the host never hands over.
    pub(crate) fn new(offsets: &'a [u32], data: &'a [u8]) -> Option<Text<'a>> {
        Some(Text { offsets, data: std::str::from_utf8(data).ok()? })
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An entry; empty beyond the end.
    pub fn get(&self, entry: usize) -> &'a str {
        match self.offsets.get(entry..entry + 2) {
            Some(&[from, to]) => self.data.get(from as usize..to as usize).unwrap_or_default(),
            _ => "",
        }
    }

    /// All entries in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a str> {
        (0..self.len()).map(move |i| self.get(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_beyond_the_end_stay_zero() {
        assert_eq!(Bits::filled(11, true).into_bytes(), [0xff, 0b111]);
        assert_eq!(Bits::filled(16, true).into_bytes(), [0xff, 0xff]);
        assert!(Bits::filled(0, true).into_bytes().is_empty());
        let mut bits = Bits::filled(3, false);
        bits.set(2, true);
        bits.set(3, true);
        assert!(bits.get(2) && !bits.get(3) && !bits.get(99));
        assert_eq!(bits.into_bytes(), [0b100]);
    }

    #[test]
    fn entries_beyond_the_end_are_empty() {
        let text = Text::new(&[0, 1, 3], "aäx".as_bytes()).unwrap();
        assert_eq!((text.get(0), text.get(1), text.get(2), text.len()), ("a", "ä", "", 2));
        let bytes = Bytes::new(&[0, 2, 2], b"ab");
        assert_eq!(bytes.iter().collect::<Vec<_>>(), [b"ab" as &[u8], b""]);
        let fixed = Bytes::fixed(2, b"abcd");
        assert_eq!((fixed.get(1), fixed.get(2), fixed.len()), (b"cd" as &[u8], b"" as &[u8], 2));
        assert!(Bytes::new(&[], b"").is_empty() && Bytes::fixed(0, b"").is_empty());
    }
}
