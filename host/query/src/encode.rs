//! Values as bytes whose order is theirs: the form of group keys, of least and greatest values, and of the order of rows.
//!
//! Types follow each other: false and true, numbers (exactly, across int and double), ids, text, bytes, arrays and maps.

use crate::eval::vals::Scalar;

const BOOL: u8 = 1;
const NUMBER: u8 = 2;
/// The kind of an id; its bytes follow.
pub(crate) const ID: u8 = 3;
/// The kind of a text; its bytes follow.
pub(crate) const STR: u8 = 4;
const BYTES: u8 = 5;
const JSON: u8 = 6;

/// Appends a value; a missing one is empty.
pub(crate) fn encode(scalar: &Scalar, out: &mut Vec<u8>) {
    match scalar {
        Scalar::Null => {}
        Scalar::Bool(b) => out.extend([BOOL, u8::from(*b)]),
        Scalar::Int(i) => int(*i, out),
        Scalar::Double(d) => {
            // One NaN, one zero: they are one group.
            let d = if d.is_nan() { f64::NAN } else { *d + 0.0 };
            number(d, 0, 1, out);
        }
        Scalar::Id(id) => tagged(ID, id, out),
        Scalar::Str(s) => tagged(STR, s.as_bytes(), out),
        Scalar::Bytes(b) => tagged(BYTES, b, out),
        Scalar::Json(t) => tagged(JSON, t.as_bytes(), out),
    }
}

/// Appends an int.
pub(crate) fn int(i: i64, out: &mut Vec<u8>) {
    let nearest = i as f64;
    // What the double lost; 2^63 itself fits in i128.
    let lost = i128::from(i) - nearest as i128;
    number(nearest, lost as i64, 0, out);
}

/// Appends an id.
pub(crate) fn id(id: &[u8], out: &mut Vec<u8>) {
    tagged(ID, id, out);
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn number(nearest: f64, lost: i64, ty: u8, out: &mut Vec<u8>) {
    let bits = nearest.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    out.push(NUMBER);
    out.extend(ordered.to_be_bytes());
    out.extend((lost as u64 ^ 1 << 63).to_be_bytes());
    out.push(ty);
}

/// The value of some bytes; what [`encode`] does not write is missing.
pub(crate) fn decode(bytes: &[u8]) -> Scalar {
    let Some((tag, rest)) = bytes.split_first() else { return Scalar::Null };
    let text = || String::from_utf8_lossy(rest).into_owned();
    match (*tag, rest.len()) {
        (BOOL, 1) => Scalar::Bool(rest[0] != 0),
        (NUMBER, 17) => decode_number(rest),
        (ID, _) => Scalar::Id(rest.to_vec()),
        (STR, _) => Scalar::Str(text()),
        (BYTES, _) => Scalar::Bytes(rest.to_vec()),
        (JSON, _) => Scalar::Json(text()),
        _ => Scalar::Null,
    }
}

fn decode_number(rest: &[u8]) -> Scalar {
    let word = |from: usize| rest[from..].first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
    let ordered = word(0);
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    let nearest = f64::from_bits(bits);
    if rest[16] == 1 {
        return Scalar::Double(nearest);
    }
    let lost = (word(8) ^ 1 << 63) as i64;
    i64::try_from(nearest as i128 + i128::from(lost)).map_or(Scalar::Null, Scalar::Int)
}

/// Appends one key of an order of several: missing values come last either way.
pub(crate) fn order_key(encoded: &[u8], descending: bool, out: &mut Vec<u8>) {
    if encoded.is_empty() {
        out.push(1);
        return;
    }
    out.push(0);
    let flip = if descending { 0xff } else { 0 };
    for byte in encoded {
        out.push(byte ^ flip);
        if *byte == 0 {
            // So that the end sorts before everything that goes on.
            out.push(0xff ^ flip);
        }
    }
    out.extend([flip, flip]);
}

/// The first value of a row's place in an order, which [`order_key`] wrote.
pub(crate) fn first_of_order(key: &[u8], descending: bool) -> Scalar {
    let Some((0, rest)) = key.split_first().map(|(tag, rest)| (*tag, rest)) else { return Scalar::Null };
    let flip = if descending { 0xff } else { 0 };
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(byte) = rest.get(at).map(|byte| byte ^ flip) {
        // A zero is followed by what tells it from the end.
        match (byte, rest.get(at + 1).map(|byte| byte ^ flip)) {
            (0, Some(0xff)) => at += 1,
            (0, _) => break,
            _ => {}
        }
        value.push(byte);
        at += 1;
    }
    decode(&value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::eval::vals::cmp_int_double;

    fn bytes(scalar: &Scalar) -> Vec<u8> {
        let mut out = Vec::new();
        encode(scalar, &mut out);
        out
    }

    fn odd_int() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), -3i64..3, Just(i64::MAX), Just(i64::MIN), (1i64 << 53) - 2..(1i64 << 53) + 3]
    }

    fn odd_double() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            (-3i64..3).prop_map(|i| i as f64 / 2.0),
            odd_int().prop_map(|i| i as f64),
            Just(f64::INFINITY)
        ]
    }

    proptest! {
        #[test]
        fn numbers_are_in_their_exact_order(a in odd_int(), b in odd_int(), x in odd_double(), y in odd_double()) {
            let (ab, bb) = (bytes(&Scalar::Int(a)), bytes(&Scalar::Int(b)));
            prop_assert_eq!(ab.cmp(&bb), a.cmp(&b));
            prop_assert!(matches!(decode(&ab), Scalar::Int(back) if back == a));
            if let (Some(order), false) = (cmp_int_double(a, x), x.is_nan()) {
                let found = ab.cmp(&bytes(&Scalar::Double(x)));
                prop_assert!(found == order || order.is_eq(), "{} {} {:?}", a, x, found);
            }
            if let Some(order) = x.partial_cmp(&y) {
                prop_assert_eq!(bytes(&Scalar::Double(x)).cmp(&bytes(&Scalar::Double(y))), order);
            }
        }

        #[test]
        fn keys_of_an_order_do_not_run_into_each_other(a: Vec<u8>, b: Vec<u8>, desc: bool, x in 0u8..2, y in 0u8..2) {
            let key = |v: &[u8], n: u8| {
                let mut out = Vec::new();
                order_key(&bytes(&Scalar::Bytes(v.to_vec())), desc, &mut out);
                order_key(&[n], false, &mut out);
                out
            };
            let expected = if desc { b.cmp(&a) } else { a.cmp(&b) }.then(x.cmp(&y));
            prop_assert_eq!(key(&a, x).cmp(&key(&b, y)), expected);
            let first = first_of_order(&key(&a, x), desc);
            prop_assert!(matches!(&first, Scalar::Bytes(back) if *back == a), "{:?}", first);
        }
    }
}
