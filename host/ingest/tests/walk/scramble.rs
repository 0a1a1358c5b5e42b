//! Other bytes for the same messages, and bytes for messages that nobody sends: shuffled, repeated, split and unknown fields.

/// Which fields of a message are messages themselves.
#[derive(Clone, Copy)]
pub(crate) struct Shape(&'static [(u32, Shape)]);

const NONE: Shape = Shape(&[]);
// Values contain values; two levels are enough to get everywhere.
const FLAT_VALUE: Shape = NONE;
const FLAT_KV: Shape = Shape(&[(2, FLAT_VALUE)]);
const VALUE: Shape = Shape(&[(5, Shape(&[(1, FLAT_VALUE)])), (6, Shape(&[(1, FLAT_KV)]))]);
const KV: Shape = Shape(&[(2, VALUE)]);
const RESOURCE: Shape = Shape(&[(1, KV), (3, NONE)]);
const SCOPE: Shape = Shape(&[(3, KV)]);
const EVENT: Shape = Shape(&[(3, KV)]);
const LINK: Shape = Shape(&[(4, KV)]);
const SPAN: Shape = Shape(&[(9, KV), (11, EVENT), (13, LINK), (15, NONE)]);
const RECORD: Shape = Shape(&[(5, VALUE), (6, KV)]);
/// An `ExportTraceServiceRequest`.
pub(crate) const TRACES: Shape = Shape(&[(1, Shape(&[(1, RESOURCE), (2, Shape(&[(1, SCOPE), (2, SPAN)]))]))]);
/// An `ExportLogsServiceRequest`.
pub(crate) const LOGS: Shape = Shape(&[(1, Shape(&[(1, RESOURCE), (2, Shape(&[(1, SCOPE), (2, RECORD)]))]))]);

const EXEMPLAR: Shape = Shape(&[(7, KV)]);
const NUMBERS: Shape = Shape(&[(1, Shape(&[(5, EXEMPLAR), (7, KV)]))]);
const HISTOGRAMS: Shape = Shape(&[(1, Shape(&[(8, EXEMPLAR), (9, KV)]))]);
const BUCKETS: Shape = NONE;
const EXPONENTIALS: Shape = Shape(&[(1, Shape(&[(1, KV), (8, BUCKETS), (9, BUCKETS), (11, EXEMPLAR)]))]);
const SUMMARIES: Shape = Shape(&[(1, Shape(&[(6, NONE), (7, KV)]))]);
const METRIC: Shape =
    Shape(&[(5, NUMBERS), (7, NUMBERS), (9, HISTOGRAMS), (10, EXPONENTIALS), (11, SUMMARIES), (12, KV)]);
/// An `ExportMetricsServiceRequest`.
pub(crate) const METRICS: Shape = Shape(&[(1, Shape(&[(1, RESOURCE), (2, Shape(&[(1, SCOPE), (2, METRIC)]))]))]);

/// A small generator of numbers, so that a failing case replays from its seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// Writes a well-formed message in another way; what it means may change, but prost can read it.
pub(crate) fn scramble(message: &[u8], shape: Shape, dice: &mut Dice) -> Vec<u8> {
    let mut fields = split(message);
    for _ in 0..fields.len() / 3 {
        let (a, b) = (dice.roll(fields.len()), dice.roll(fields.len()));
        fields.swap(a, b);
    }
    if !fields.is_empty() && dice.roll(3) == 0 {
        let again = fields[dice.roll(fields.len())];
        fields.push(again);
    }
    let mut out = Vec::new();
    for (key, value) in fields {
        if dice.roll(12) == 0 {
            unknown(&mut out, dice);
        }
        let inner = shape.0.iter().find(|(field, _)| *field == key >> 3 && key & 7 == 2);
        let Some((_, inner)) = inner else {
            varint(u64::from(key), dice, &mut out);
            if key & 7 == 2 {
                varint(value.len() as u64, dice, &mut out);
            }
            out.extend_from_slice(value);
            continue;
        };
        let value = scramble(value, *inner, dice);
        let parts = if dice.roll(6) == 0 { cut(&value, dice) } else { vec![&*value] };
        for part in parts {
            varint(u64::from(key), dice, &mut out);
            varint(part.len() as u64, dice, &mut out);
            out.extend_from_slice(part);
        }
    }
    out
}

/// Key and value (without its length) of each field.
fn split(mut message: &[u8]) -> Vec<(u32, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = take_varint(&mut message) as u32;
        let start = message;
        let length = match key & 7 {
            0 => {
                take_varint(&mut message);
                start.len() - message.len()
            }
            1 => 8,
            2 => {
                let length = take_varint(&mut message) as usize;
                fields.push((key, &message[..length]));
                message = &message[length..];
                continue;
            }
            5 => 4,
            _ => unreachable!("prost writes no groups"),
        };
        fields.push((key, &start[..length]));
        message = &start[length..];
    }
    fields
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    prost::encoding::decode_varint(bytes).unwrap()
}

/// Two messages that merge to one.
fn cut<'a>(message: &'a [u8], dice: &mut Dice) -> Vec<&'a [u8]> {
    let mut ends = vec![0];
    let mut rest = message;
    while !rest.is_empty() {
        let key = take_varint(&mut rest);
        match key & 7 {
            0 => drop(take_varint(&mut rest)),
            1 => rest = &rest[8..],
            2 => {
                let length = take_varint(&mut rest) as usize;
                rest = &rest[length..];
            }
            5 => rest = &rest[4..],
            // A group that `unknown` wrote: cutting there would cut it in two.
            _ => return vec![message],
        }
        ends.push(message.len() - rest.len());
    }
    let at = ends[dice.roll(ends.len())];
    vec![&message[..at], &message[at..]]
}

fn unknown(out: &mut Vec<u8>, dice: &mut Dice) {
    let field = [17, 100, 5_000, (1 << 29) - 1][dice.roll(4)];
    match dice.roll(5) {
        0 => out.extend(key(field, 0).into_iter().chain([0xff, 0x01])),
        1 => out.extend(key(field, 1).into_iter().chain([7; 8])),
        2 => out.extend(key(field, 2).into_iter().chain([3, 1, 2, 3])),
        3 => out.extend(key(field, 5).into_iter().chain([7; 4])),
        _ => out.extend(key(field, 3).into_iter().chain([0x08, 0x01]).chain(key(field, 4))),
    }
}

fn key(field: u32, wire_type: u32) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(field << 3 | wire_type), &mut out);
    out
}

/// A varint, now and then longer than it need be.
fn varint(value: u64, dice: &mut Dice, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, out);
    if dice.roll(25) == 0 && value < 1 << 49 {
        if let Some(last) = out.last_mut() {
            *last |= 0x80;
        }
        out.push(0);
    }
}
