//! What stands in the place of a finding: its kind, or its kind and a keyed hash.

use prism_pii::Kind;

/// What to write.
#[derive(Clone, Debug)]
pub(crate) enum Replacement {
    /// `[email]`
    Mask,
    /// `[email:8f14e45fceea167a]`, by this key.
    Hash([u64; 2]),
}

/// Hex digits of a hash.
const HASH_LEN: usize = 16;

impl Replacement {
    pub(crate) fn hash(salt: &str) -> Replacement {
        // The key must be of 16 bytes, the salt is of any length.
        let half = |key: u64| siphash([key, 0], salt.as_bytes());
        Replacement::Hash([half(1), half(2)])
    }

    /// How many bytes [`Replacement::write`] writes.
    pub(crate) fn len(&self, kind: Kind) -> usize {
        let kind = kind.as_str().len() + 2;
        match self {
            Replacement::Mask => kind,
            Replacement::Hash(_) => kind + 1 + HASH_LEN,
        }
    }

    pub(crate) fn write(&self, kind: Kind, found: &[u8], out: &mut Vec<u8>) {
        out.push(b'[');
        out.extend_from_slice(kind.as_str().as_bytes());
        if let Replacement::Hash(key) = self {
            let hash = siphash(*key, found);
            out.push(b':');
            out.extend((0..HASH_LEN).map(|i| b"0123456789abcdef"[(hash >> (60 - 4 * i) & 15) as usize]));
        }
        out.push(b']');
    }
}

/// The number in the place of a card number: negative, as no card number is. `None` where the number is cleared.
pub(crate) fn hash_number(replacement: &Replacement, number: u64) -> Option<i64> {
    match replacement {
        Replacement::Mask => None,
        Replacement::Hash(key) => Some((siphash(*key, &number.to_le_bytes()) | 1 << 63) as i64),
    }
}

/// SipHash-2-4 (Aumasson, Bernstein 2012): who does not know the key cannot find a value by trying.
fn siphash(key: [u64; 2], data: &[u8]) -> u64 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
    let [k0, k1] = key;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut word = |w: u64| {
        v[3] ^= w;
        round(&mut v);
        round(&mut v);
        v[0] ^= w;
    };
    let (words, rest) = data.as_chunks::<8>();
    words.iter().for_each(|w| word(u64::from_le_bytes(*w)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = data.len() as u8;
    word(u64::from_le_bytes(last));
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v.iter().fold(0, |hash, v| hash ^ v)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the reference implementation: key 00..0f, input 00, 0001, 000102 ...
    #[test]
    fn siphash_gives_the_published_values() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(key, &input[..1]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(siphash(key, &input), 0xa129_ca61_49be_45e5);
    }
}
