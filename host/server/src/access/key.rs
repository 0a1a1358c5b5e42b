//! A key: `prism_<id>_<secret>`.
//!
//! The id names the key in lists and logs. The secret holds 256 bits, so that a plain SHA-256 keeps it: nobody tries 2^256
//! inputs, and a slow password hash would cost every request. Only the hash of the whole text is stored.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters of the id: 59 bits, so that ids do not repeat.
const ID_LETTERS: usize = 10;
/// Letters of the secret: 43 letters of 62 are 256 bits.
const SECRET_LETTERS: usize = 43;

/// SHA-256 of a key's text: what is stored, and what keys are looked up by. A lookup by hash tells nothing by its time,
/// because nobody can choose the bits that are compared.
pub(crate) type KeyHash = [u8; 32];

/// A key that is well formed; whether it opens anything is the directory's to say. Has no `Debug`: it must not be logged.
pub(crate) struct Key {
    text: String,
}

impl Key {
    /// A new key from random bytes, which `fill` brings.
    pub(crate) fn generate<E>(mut fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Key, E> {
        let mut text = String::from("prism_");
        push_letters(&mut text, ID_LETTERS, &mut fill)?;
        text.push('_');
        push_letters(&mut text, SECRET_LETTERS, &mut fill)?;
        Ok(Key { text })
    }

    /// The key of a text; `None` where it is none.
    pub(crate) fn parse(text: &str) -> Option<Key> {
        let (id, secret) = text.strip_prefix("prism_")?.split_once('_')?;
        let letters = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_alphanumeric());
        (letters(id, ID_LETTERS) && letters(secret, SECRET_LETTERS)).then(|| Key { text: text.to_owned() })
    }

    /// The name of the key, which is no secret.
    pub(crate) fn id(&self) -> &str {
        &self.text["prism_".len()..][..ID_LETTERS]
    }

    /// The whole key. Shown once, to who created it.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    /// What is stored.
    pub(crate) fn hash(&self) -> KeyHash {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

fn push_letters<E>(
    text: &mut String,
    count: usize,
    fill: &mut impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let end = text.len() + count;
    while text.len() < end {
        let mut bytes = [0u8; 64];
        fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: what is above would make the first letters likelier.
        let letters = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(b % 62)]));
        text.extend(letters.take(end - text.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_its_id_is_not_its_secret() {
        let mut next = 0u8;
        let key = Key::generate(|bytes| {
            bytes.iter_mut().for_each(|b| {
                next = next.wrapping_mul(5).wrapping_add(113);
                *b = next;
            });
            Ok::<(), ()>(())
        })
        .unwrap_or_else(|()| unreachable!());
        assert_eq!(key.reveal().len(), 6 + 10 + 1 + 43);
        let parsed = Key::parse(key.reveal()).unwrap();
        assert_eq!(parsed.hash(), key.hash());
        assert!(key.reveal().starts_with(&format!("prism_{}_", key.id())));
        for bad in ["", "prism_", "prism__", "Prism_aaaaaaaaaa_b", &key.reveal()[1..], &format!("{}x", key.reveal())] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }
}
