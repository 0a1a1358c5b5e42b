//! Marks in an encoded request, and what is written over them for each request that is sent: ids, times, texts with ids.
//!
//! Encoding a span costs microseconds; writing over its marks costs tens of nanoseconds. Each mark has the length of what
//! replaces it, so that no protobuf length changes.

use crate::json::TIME_DIGITS;

/// Begins each mark. Control characters, so that a mark is valid text and occurs nowhere else.
const MAGIC: [u8; 4] = [0x01, 0x1f, 0x02, 0x1e];
/// Arguments have 21 bits: a mark holds them in three bytes below 0x80, which keeps it valid text.
const ARGUMENTS_MAX: usize = 1 << 21;
/// Users are one of so many.
const USERS: u64 = 100_000;

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// 16 bytes: a trace id.
    Trace = 1,
    /// 8 bytes: a span id.
    Span = 2,
    /// 8 bytes: nanoseconds, little-endian.
    Time = 3,
    /// 16 hexadecimal digits.
    Hex = 4,
    /// 8 decimal digits: one of `USERS`.
    Digits = 5,
}

/// What stands at a mark's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// As protobuf has it: ids and times as bytes.
    Wire,
    /// As JSON has it: ids in hexadecimal, times in decimal digits.
    Json,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Trace, Kind::Span, Kind::Time, Kind::Hex, Kind::Digits];

    /// Marks with equal arguments get equal values in one request, and others in the next.
    fn mark(self, argument: usize) -> [u8; 8] {
        assert!(argument < ARGUMENTS_MAX, "a request has fewer marks than {ARGUMENTS_MAX}");
        let seven = |shift: usize| (argument >> shift & 0x7f) as u8;
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, self as u8, seven(14), seven(7), seven(0)]
    }

    /// Bytes of what replaces the mark.
    pub fn len(self, form: Form) -> usize {
        match (self, form) {
            (Kind::Trace, Form::Json) => 32,
            (Kind::Time, Form::Json) => TIME_DIGITS,
            (Kind::Trace | Kind::Hex, _) | (Kind::Span, Form::Json) => 16,
            (Kind::Span | Kind::Time, Form::Wire) | (Kind::Digits, _) => 8,
        }
    }

    /// The mark at the start of `bytes`, and its argument.
    pub fn of(bytes: &[u8]) -> Option<(Kind, usize)> {
        let mark = bytes.get(..8).filter(|mark| mark.starts_with(&MAGIC))?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == mark[4])?;
        Some((kind, usize::from(mark[5]) << 14 | usize::from(mark[6]) << 7 | usize::from(mark[7])))
    }

    /// The mark as bytes, for a span id.
    pub fn bytes8(self, argument: usize) -> Vec<u8> {
        self.mark(argument).to_vec()
    }

    /// The mark as bytes, for a trace id.
    pub fn bytes16(self, argument: usize) -> Vec<u8> {
        [self.mark(argument), [b'~'; 8]].concat()
    }

    /// The mark as a part of a text.
    pub fn text(self, argument: usize) -> String {
        let mut text: String = self.mark(argument).iter().map(|b| char::from(*b)).collect();
        text.extend(std::iter::repeat_n('~', self.len(Form::Wire) - 8));
        text
    }
}

/// The times that a request's marks stand for.
#[derive(Default)]
pub struct Marks {
    nanos_before_now: Vec<u64>,
}

impl Marks {
    /// A mark for the time that is so many nanoseconds before the request is sent.
    pub fn time(&mut self, nanos_before_now: u64) -> u64 {
        self.nanos_before_now.push(nanos_before_now);
        u64::from_le_bytes(Kind::Time.mark(self.nanos_before_now.len() - 1))
    }
}

/// Where the marks of an encoded request are.
pub struct Sites {
    sites: Vec<Site>,
    nanos_before_now: Vec<u64>,
}

struct Site {
    offset: u32,
    kind: Kind,
    form: Form,
    argument: u32,
}

/// What makes a request differ from all others.
#[derive(Clone, Copy)]
pub struct Stamp {
    /// Of the run.
    pub seed: u64,
    /// Of the request, below 2^40.
    pub number: u64,
    /// When it is sent, nanoseconds since 1970.
    pub now_unix_nanos: u64,
}

impl Sites {
    /// No places yet.
    pub fn none(marks: Marks) -> Sites {
        Sites { sites: Vec::new(), nanos_before_now: marks.nanos_before_now }
    }

    /// A mark's place.
    pub fn add(&mut self, offset: usize, kind: Kind, argument: usize, form: Form) {
        self.sites.push(Site { offset: offset as u32, kind, form, argument: argument as u32 });
    }

    /// Finds all marks in `encoded`, a protobuf message.
    pub fn find(encoded: &[u8], marks: Marks) -> Sites {
        let mut sites = Sites::none(marks);
        let mut at = 0;
        while at < encoded.len() {
            match Kind::of(&encoded[at..]) {
                Some((kind, argument)) => {
                    sites.add(at, kind, argument, Form::Wire);
                    at += kind.len(Form::Wire);
                }
                None => at += 1,
            }
        }
        sites
    }

    /// Writes over the marks, or over what an earlier stamp wrote there.
    pub fn stamp(&self, encoded: &mut [u8], stamp: Stamp) {
        for Site { offset, kind, form, argument } in &self.sites {
            let place = &mut encoded[*offset as usize..][..kind.len(*form)];
            // One to one, and so is `mix`: ids never meet within a run.
            let own = mix(stamp.seed ^ (stamp.number << 24 | (*kind as u64) << 21 | u64::from(*argument)));
            let time = || stamp.now_unix_nanos.saturating_sub(self.nanos_before_now[*argument as usize]);
            match (kind, form) {
                (Kind::Trace, Form::Wire) => {
                    place[..8].copy_from_slice(&own.to_le_bytes());
                    place[8..].copy_from_slice(&mix(!own).to_le_bytes());
                }
                (Kind::Trace, Form::Json) => {
                    hex(own.swap_bytes(), &mut place[..16]);
                    hex(mix(!own).swap_bytes(), &mut place[16..]);
                }
                (Kind::Span, Form::Wire) => place.copy_from_slice(&own.to_le_bytes()),
                (Kind::Span, Form::Json) => hex(own.swap_bytes(), place),
                (Kind::Time, Form::Wire) => place.copy_from_slice(&time().to_le_bytes()),
                (Kind::Time, Form::Json) => digits(time(), place),
                (Kind::Hex, _) => hex(own, place),
                (Kind::Digits, _) => digits(own % USERS, place),
            }
        }
    }
}

fn hex(value: u64, place: &mut [u8]) {
    for (byte, pair) in value.to_be_bytes().iter().zip(place.chunks_exact_mut(2)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}

fn digits(mut value: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Spreads numbers over all 64 bits, one to one (the last step of splitmix64).
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_values_of_their_own_length() {
        let encoded = format!("<{}|{}|{}>", Kind::Hex.text(7), Kind::Digits.text(7), Kind::Hex.text(7)).into_bytes();
        let sites = Sites::find(&encoded, Marks::default());
        let stamped = |number| {
            let mut bytes = encoded.clone();
            sites.stamp(&mut bytes, Stamp { seed: 1, number, now_unix_nanos: 0 });
            String::from_utf8(bytes).unwrap()
        };
        let text = stamped(1);
        let parts: Vec<_> = text.trim_matches(['<', '>']).split('|').collect();
        assert!(parts[0].len() == 16 && parts[0].bytes().all(|b| b.is_ascii_hexdigit()));
        assert!(parts[1].len() == 8 && parts[1].bytes().all(|b| b.is_ascii_digit()));
        assert_eq!(parts[0], parts[2], "one argument, one value");
        assert_ne!(text, stamped(2));
        // A stamp goes over an earlier one just as well.
        let mut twice = stamped(1).into_bytes();
        sites.stamp(&mut twice, Stamp { seed: 1, number: 2, now_unix_nanos: 0 });
        assert_eq!(twice, stamped(2).into_bytes());
    }
}
