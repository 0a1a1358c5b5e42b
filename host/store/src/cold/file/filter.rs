//! Filters of a row group that are Prism's own bytes: tokens (`key=value` of texts of all scopes), and cuckoo filters by column.

use std::collections::{BTreeMap, BTreeSet};

use prism_model::Value;

use crate::frame::bloom;

/// Hashes of the tokens of a row group, by key.
#[derive(Default)]
pub(super) struct Tokens(BTreeMap<String, Vec<u64>>);

/// A token filter, and the keys that it says nothing about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenFilter {
    pub(super) bytes: Vec<u8>,
    pub(super) unknown: BTreeSet<String>,
}

impl Tokens {
    /// Values of a key.
    pub(super) fn texts<'a>(&mut self, key: &str, texts: impl Iterator<Item = &'a str>) {
        let seed = bloom::key_seed(key);
        let hashes = texts.map(|t| bloom::token_hash(seed, t));
        match self.0.get_mut(key) {
            Some(of_key) => of_key.extend(hashes),
            None => {
                self.0.insert(key.to_owned(), hashes.collect());
            }
        }
    }

    /// An attribute of the tail, which is a token where it is text.
    pub(super) fn tail(&mut self, key: &str, text: &str) {
        if text.starts_with('"')
            && let Ok(Value::Str(value)) = Value::from_text(text)
        {
            self.texts(key, std::iter::once(value.as_str()));
        }
    }

    /// The filter; where it would be larger than `bytes_max`, without the keys that have the most values.
    pub(super) fn build(self, bytes_max: usize) -> TokenFilter {
        let mut keys: Vec<(String, Vec<u64>)> = self.0.into_iter().collect();
        for (_, hashes) in &mut keys {
            hashes.sort_unstable();
            hashes.dedup();
        }
        keys.sort_by(|a, b| (a.1.len(), &a.0).cmp(&(b.1.len(), &b.0)));
        let mut all: Vec<u64> = Vec::new();
        let mut unknown = BTreeSet::new();
        for (key, hashes) in keys {
            if bloom::filter_bytes(all.len() + hashes.len()) <= bytes_max {
                all.extend(hashes);
            } else {
                unknown.insert(key);
            }
        }
        TokenFilter { bytes: bloom::build(&mut all, bytes_max), unknown }
    }
}

impl TokenFilter {
    /// `None`: nothing is known about this key.
    pub(super) fn may_contain(&self, key: &str, value: &str) -> Option<bool> {
        if self.unknown.contains(key) {
            return None;
        }
        Some(bloom::may_contain(&self.bytes, bloom::token_hash(bloom::key_seed(key), value)))
    }
}
