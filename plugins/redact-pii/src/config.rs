//! The configuration, as `config.schema.json` describes it.

use prism_pii::Kind;
use serde::Deserialize;

/// A shorter salt could be guessed together with what it hides.
pub(crate) const SALT_MIN: usize = 16;

/// What the tenant wrote; the host has checked it against the schema.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What to look for; everything where absent.
    pub detectors: Option<Vec<Detector>>,
    /// What to do about it.
    pub action: Action,
    /// The key of hashes, needed for them.
    pub salt: Option<String>,
    /// Whether the keys of attributes are looked at too.
    pub keys: bool,
    /// Attributes to leave alone, by name or glob.
    pub exclude: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config { detectors: None, action: Action::Mask, salt: None, keys: true, exclude: Vec::new() }
    }
}

/// What stands in the place of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its kind: `[email]`. Numbers become null.
    Mask,
    /// Its kind and a keyed hash: `[email:8f14e45fceea167a]`; equal values stay equal. Numbers become another number.
    Hash,
}

/// A detector by the name of what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the kinds of prism-pii, which describes them")]
pub enum Detector {
    Email,
    Card,
    Ipv4,
    Ipv6,
    Bearer,
}

impl From<Detector> for Kind {
    fn from(detector: Detector) -> Kind {
        match detector {
            Detector::Email => Kind::Email,
            Detector::Card => Kind::Card,
            Detector::Ipv4 => Kind::Ipv4,
            Detector::Ipv6 => Kind::Ipv6,
            Detector::Bearer => Kind::Bearer,
        }
    }
}
