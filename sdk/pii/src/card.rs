//! Payment card numbers.
//!
//! 13 to 19 digits in one run, or in groups with one space or one dash between them (always the same) of which each but
//! the last has 4 to 6 digits; the first digits are those of an issuer, with a length that this issuer uses, and the check
//! digit (Luhn) is right. One in about 60 random numbers of 16 digits passes; times in ns, µs and ms, which begin with 1, do
//! not, nor do numbers within words or fractions.

use crate::edge::{digit_at, word_at, word_before};

/// First four digits from, to; lengths from, to. Of the issuers' own publications; UnionPay's 81 is left out, for it is
/// young, and would let twice as many other numbers pass.
const ISSUERS: [(u16, u16, usize, usize); 21] = [
    (2200, 2204, 16, 19), // Mir
    (2221, 2720, 16, 16), // Mastercard
    (3000, 3059, 14, 19), // Diners Club
    (3095, 3095, 14, 19), // Diners Club
    (3400, 3499, 15, 15), // American Express
    (3528, 3589, 16, 19), // JCB
    (3600, 3699, 14, 19), // Diners Club
    (3700, 3799, 15, 15), // American Express
    (3800, 3999, 14, 19), // Diners Club
    (4000, 4999, 13, 19), // Visa
    (5018, 5020, 13, 19), // Maestro, Dankort
    (5038, 5038, 13, 19), // Maestro
    (5061, 5061, 16, 19), // Verve
    (5085, 5089, 16, 16), // RuPay
    (5100, 5599, 16, 16), // Mastercard
    (5893, 5893, 13, 19), // Maestro
    (6011, 6011, 16, 19), // Discover
    (6200, 6299, 16, 19), // UnionPay
    (6304, 6304, 13, 19), // Maestro
    (6440, 6599, 16, 19), // Discover, RuPay
    (6759, 6763, 13, 19), // Maestro
];

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
/// 4-4-4-4-3 is the longest in use.
const GROUPS_MAX: usize = 5;

/// Whether a number, as attributes may hold it, is that of a card.
pub fn is_card_number(number: u64) -> bool {
    let mut digits = [0u8; 20];
    let (mut rest, mut at) = (number, digits.len());
    while rest > 0 {
        at -= 1;
        digits[at] = (rest % 10) as u8;
        rest /= 10;
    }
    is_card(&digits[at..])
}

pub(crate) fn look(text: &[u8], from: usize, to: usize, found: &mut dyn FnMut(usize, usize)) -> usize {
    let mut i = from;
    while i < to {
        if !text[i].is_ascii_digit() {
            i += 1;
        } else if let Some(end) = card_at(text, i) {
            found(i, end);
            i = end;
        } else {
            i += text[i..].iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len() - i);
        }
    }
    i
}

/// Where the card number ends that begins at `at`, a digit.
fn card_at(text: &[u8], at: usize) -> Option<usize> {
    // A part of a longer number or word, or the fraction of a decimal.
    let fraction = at >= 2 && text[at - 1] == b'.' && text[at - 2].is_ascii_digit();
    if fraction || word_before(text, at) {
        return None;
    }
    let mut digits = [0u8; DIGITS_MAX];
    // How many digits, and which byte, each group ends with.
    let mut ends = [(0, 0); GROUPS_MAX];
    let (mut count, mut groups, mut i) = (0, 0, at);
    let mut separator = None;
    while groups < GROUPS_MAX {
        let group = i;
        while digit_at(text, i) && count < DIGITS_MAX {
            digits[count] = text[i] - b'0';
            (count, i) = (count + 1, i + 1);
        }
        if digit_at(text, i) {
            break;
        }
        ends[groups] = (count, i);
        groups += 1;
        let next = text.get(i).copied().filter(|b| matches!(b, b' ' | b'-') && separator.is_none_or(|s| s == *b));
        if next.is_none() || !digit_at(text, i + 1) || !(4..=6).contains(&(i - group)) {
            break;
        }
        separator = next;
        i += 1;
    }
    // The longest first: what follows in the same style may be the date or the check code.
    ends[..groups].iter().rev().find_map(|&(count, end)| {
        let decimal = text.get(end) == Some(&b'.') && digit_at(text, end + 1);
        (count >= DIGITS_MIN && !decimal && !word_at(text, end) && is_card(&digits[..count])).then_some(end)
    })
}

fn is_card(digits: &[u8]) -> bool {
    let Some(first) = digits.get(..4) else { return false };
    let first = first.iter().fold(0, |n, d| n * 10 + u16::from(*d));
    ISSUERS.iter().any(|&(from, to, min, max)| (from..=to).contains(&first) && (min..=max).contains(&digits.len()))
        && luhn(digits)
}

/// ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| {
            u32::from(if i % 2 == 0 {
                d
            } else if d > 4 {
                d * 2 - 9
            } else {
                d * 2
            })
        })
        .sum();
    sum.is_multiple_of(10)
}
