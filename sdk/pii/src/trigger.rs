//! The pass over all bytes: which blocks of text hold a byte at which a detector should look closely.
//!
//! A trigger is a necessary condition on a byte and the next few. It does not decide: most triggers in numbers come to
//! nothing.

use crate::lanes::{LANES, Lanes};

/// Bytes that one step looks at.
pub(crate) const BLOCK: usize = 64;
/// Bytes behind a block that its triggers look at too: a card number has 13 digits or more.
const AHEAD: usize = LANES;
/// What one step reads.
const WINDOW: usize = BLOCK + AHEAD;

/// An `@`, or `%` as in `%40`.
pub(crate) const EMAIL: u8 = 1;
/// A digit, and twelve more digits, spaces and dashes.
pub(crate) const CARD: u8 = 2;
/// Digit, dot, digit, and another dot within reach.
pub(crate) const IPV4: u8 = 4;
/// Two colons within six bytes.
pub(crate) const IPV6: u8 = 8;
/// `bea` in any case, or `J` as in `eyJ`.
pub(crate) const TOKEN: u8 = 16;

/// The triggers in the block of `text` that begins at `at`.
#[inline]
pub(crate) fn triggers(text: &[u8], at: usize) -> u8 {
    if let Some(window) = text.get(at..at + WINDOW).and_then(|w| w.try_into().ok()) {
        return block(window);
    }
    // The end of the text: zeros behind it trigger nothing.
    let mut window = [0; WINDOW];
    let rest = text.get(at..).unwrap_or_default();
    let len = rest.len().min(WINDOW);
    window[..len].copy_from_slice(&rest[..len]);
    block(&window)
}

#[inline]
fn block(w: &[u8; WINDOW]) -> u8 {
    let none = Lanes::load(&[0; LANES]);
    let (mut email, mut token, mut digit, mut colon) = (none, none, none, none);
    for at in (0..BLOCK).step_by(LANES) {
        let here = load(w, at);
        email = email.or(here.eq(b'@')).or(here.eq(b'%'));
        digit = digit.or(here.from(b'0', 10));
        colon = colon.or(here.eq(b':'));
        let bearer = here.lower().eq(b'b').and(load(w, at + 1).lower().eq(b'e')).and(load(w, at + 2).lower().eq(b'a'));
        token = token.or(bearer).or(load(w, at + 2).eq(b'J'));
    }
    let mut found = 0;
    if email.bits() != 0 {
        found |= EMAIL;
    }
    if token.bits() != 0 {
        found |= TOKEN;
    }
    // Many blocks have neither digit nor colon.
    if digit.bits() != 0 {
        found |= numbers(w);
    }
    if colon.bits() != 0 {
        let colon = Bits::of(w, |lanes| lanes.eq(b':'));
        let near = colon.next(1) | colon.next(2) | colon.next(3) | colon.next(4) | colon.next(5);
        if colon.block & near != 0 {
            found |= IPV6;
        }
    }
    found
}

fn numbers(w: &[u8; WINDOW]) -> u8 {
    let digit = Bits::of(w, |lanes| lanes.from(b'0', 10));
    let dot = Bits::of(w, |lanes| lanes.eq(b'.'));
    let mut found = 0;
    if digit.block & dot.next(1) & digit.next(2) & (dot.next(3) | dot.next(4) | dot.next(5)) != 0 {
        found |= IPV4;
    }
    // All card numbers begin with four digits: few blocks go on from here.
    let four_digits = digit.block & digit.next(1) & digit.next(2) & digit.next(3);
    if four_digits != 0 {
        let other = Bits::of(w, |lanes| lanes.eq(b' ').or(lanes.eq(b'-')));
        let run = Bits { block: digit.block | other.block, ahead: digit.ahead | other.ahead };
        if (4..13).fold(four_digits, |all, i| all & run.next(i)) != 0 {
            found |= CARD;
        }
    }
    found
}

/// A bit for each byte of the window. Not one number of 128 bits: guests shift those by calls.
#[derive(Clone, Copy)]
struct Bits {
    block: u64,
    ahead: u64,
}

impl Bits {
    #[inline(always)]
    fn of(w: &[u8; WINDOW], of: impl Fn(Lanes) -> Lanes) -> Bits {
        let bits = |at| u64::from(of(load(w, at)).bits());
        let block = bits(0) | bits(LANES) << 16 | bits(2 * LANES) << 32 | bits(3 * LANES) << 48;
        Bits { block, ahead: bits(BLOCK) }
    }

    /// For each byte of the block the bit of the byte `n` behind it; `n` from 1 to 16.
    #[inline(always)]
    fn next(self, n: u32) -> u64 {
        self.block >> n | self.ahead << (64 - n)
    }
}

#[inline(always)]
fn load(w: &[u8; WINDOW], at: usize) -> Lanes {
    match w[at..].first_chunk() {
        Some(chunk) => Lanes::load(chunk),
        None => Lanes::load(&[0; LANES]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Triggers of a text, wherever it begins in a block.
    fn everywhere(text: &str) -> u8 {
        let alone = triggers(text.as_bytes(), 0);
        for before in 0..70 {
            let padded = format!("{}{text}{}", "x".repeat(before), "x".repeat(90));
            let all = (0..padded.len()).step_by(BLOCK).fold(0, |all, at| all | triggers(padded.as_bytes(), at));
            assert_eq!(all, alone, "{text} after {before}");
        }
        alone
    }

    #[test]
    fn each_kind_triggers_wherever_it_stands() {
        assert_eq!(everywhere("@"), EMAIL);
        assert_eq!(everywhere("%40"), EMAIL);
        assert_eq!(everywhere("4222222222222"), CARD);
        assert_eq!(everywhere("3782 822463 10005"), CARD);
        assert_eq!(everywhere("1.2.3.4"), IPV4);
        assert_eq!(everywhere("100.200.1.4"), IPV4);
        assert_eq!(everywhere("::"), IPV6);
        assert_eq!(everywhere("2001:db8:0:0:1"), IPV6);
        assert_eq!(everywhere("Bearer"), TOKEN);
        assert_eq!(everywhere("bEAR"), TOKEN);
        assert_eq!(everywhere("eyJ"), TOKEN);
    }

    #[test]
    fn ordinary_text_triggers_nothing() {
        for text in ["", "GET /api/v1/users", "frontend", "3.14159", "http://localhost/x", "12:34", "2024-01-02"] {
            assert_eq!(everywhere(text), 0, "{text}");
        }
    }
}
