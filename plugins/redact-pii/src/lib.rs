//! First-party plugin: finds personal data in every text and key, and masks or hashes it.
//!
//! `config` (what the tenant wrote) -> this module (which values, by columns) -> `replace` (what stands in their place).
//! What counts as personal data is decided by `prism-pii`.

mod config;
mod replace;

use prism_pii::{Detectors, Finding, Kind, is_card_number, scan_entries};
use prism_sdk::prelude::*;

pub use config::{Action, Config};
use replace::{Replacement, hash_number};

/// Masks or hashes personal data. It sees each distinct value once and never a row.
#[derive(Debug)]
pub struct RedactPii {
    detectors: Detectors,
    replacement: Replacement,
    keys: bool,
    exclude: Vec<String>,
}

impl Plugin for RedactPii {
    type Config = Config;

    fn describe() -> Description {
        Description::new(
            "redact-pii",
            env!("CARGO_PKG_VERSION"),
            "Finds e-mail addresses, card numbers, IP addresses and tokens in every text, and masks or hashes them",
        )
        .config(include_str!("../config.schema.json"), include_str!("../config.example.json"))
        .labels(&Kind::ALL.map(Kind::as_str))
        .entries()
        .deterministic()
    }

    fn new(config: Config) -> Result<Self, Error> {
        let replacement = match (config.action, config.salt) {
            (Action::Mask, _) => Replacement::Mask,
            (Action::Hash, Some(salt)) if salt.len() >= config::SALT_MIN => Replacement::hash(&salt),
            (Action::Hash, _) => {
                let message =
                    format!("expected a `salt` of at least {} bytes beside \"action\": \"hash\"", config::SALT_MIN);
                return Err(Error::BadConfig(message));
            }
        };
        let detectors = config.detectors.map_or(Detectors::ALL, |kinds| kinds.into_iter().map(Kind::from).collect());
        Ok(RedactPii { detectors, replacement, keys: config.keys, exclude: config.exclude })
    }

    fn needs(&self) -> Vec<Need> {
        // A value answers the first need that fits: excluded attributes come first, and are then left alone.
        let mut needs: Vec<Need> = self.exclude.iter().map(|name| Need::attribute(name)).collect();
        let types = &[Dtype::Utf8, Dtype::Binary, Dtype::Int64, Dtype::Float64];
        needs.push(Need::attribute("*").of(types));
        needs.push(Need::intrinsic("*").of(&[Dtype::Utf8]));
        // Bodies of log records come in every type; other fixed fields that are numbers are times and counts.
        needs.push(Need::intrinsic("body*").of(types));
        if self.keys {
            needs.push(Need::keys("*"));
        }
        needs
    }
}

impl Redactor for RedactPii {
    fn redact(&mut self, batch: &Batch, _call: &Call) -> Result<Vec<Edit>, Error> {
        let scanned = batch.columns().filter(|column| column.need() >= self.exclude.len());
        Ok(scanned.filter_map(|column| self.redact_column(&column)).collect())
    }
}

impl RedactPii {
    fn redact_column(&self, column: &ColumnRef<'_>) -> Option<Edit> {
        match column.values() {
            Values::Utf8(_) => self.redact_bytes(column, false),
            Values::Binary(_) => self.redact_bytes(column, true),
            Values::S64s(numbers) => {
                let mut edits = NumberEdits::new();
                for (entry, &number) in
                    numbers.iter().enumerate().filter(|(_, n)| self.is_card(u64::try_from(**n).ok()))
                {
                    match hash_number(&self.replacement, number as u64) {
                        Some(hash) => edits.replace(entry, Kind::Card as u8, hash),
                        None => edits.clear(entry, Kind::Card as u8),
                    }
                }
                edits.finish(column)
            }
            Values::F64s(numbers) => {
                let mut edits = NumberEdits::new();
                for (entry, &number) in numbers.iter().enumerate().filter(|(_, n)| self.is_card(whole(**n))) {
                    match hash_number(&self.replacement, number as u64) {
                        // 53 bits are what a double holds exactly.
                        Some(hash) => edits.replace(entry, Kind::Card as u8, (hash >> 11) as f64),
                        None => edits.clear(entry, Kind::Card as u8),
                    }
                }
                edits.finish(column)
            }
            _ => None,
        }
    }

    fn is_card(&self, number: Option<u64>) -> bool {
        self.detectors.contains(Kind::Card) && number.is_some_and(is_card_number)
    }

    /// Two steps, so that the result is sized exactly: find everything, then write it.
    fn redact_bytes(&self, column: &ColumnRef<'_>, binary: bool) -> Option<Edit> {
        let texts = column.bytes()?;
        let mut changes: Vec<(usize, Finding)> = Vec::new();
        let (mut entries, mut bytes) = (0, 0);
        scan_entries(texts.data(), texts.offsets()?, self.detectors, |entry, found| {
            let text = texts.get(entry);
            if binary && std::str::from_utf8(text).is_err() {
                return;
            }
            entries += 1;
            bytes += text.len();
            for finding in found {
                bytes = bytes + self.replacement.len(finding.kind) - (finding.end - finding.start);
                changes.push((entry, *finding));
            }
        });
        let mut edits = ByteEdits::with_capacity(entries, bytes);
        for found in changes.chunk_by(|a, b| a.0 == b.0) {
            let (entry, first) = found[0];
            let text = texts.get(entry);
            edits.replace(entry, first.kind as u8, |out| {
                let mut at = 0;
                for (_, finding) in found {
                    out.extend_from_slice(&text[at..finding.start]);
                    self.replacement.write(finding.kind, &text[finding.start..finding.end], out);
                    at = finding.end;
                }
                out.extend_from_slice(&text[at..]);
            });
        }
        edits.finish(column)
    }
}

/// The whole number that a double stands for exactly.
fn whole(number: f64) -> Option<u64> {
    ((0.0..9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

prism_sdk::export_redactor!(RedactPii);

#[cfg(test)]
mod tests;
