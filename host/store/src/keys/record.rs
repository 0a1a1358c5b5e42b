//! What stands in a version of a tenant's key.

use serde::{Deserialize, Serialize};

use super::TENANT_KEY_BYTES;

/// How a tenant's segments and blocks are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Not at all.
    Off,
    /// With keys in a folder beside the data: a disk or bucket that gets lost without the folder tells nothing.
    #[default]
    Local,
    /// With keys that AWS KMS opens: the folder holds what KMS alone can decrypt.
    Kms,
}

impl Scheme {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Off => "off",
            Scheme::Local => "local",
            Scheme::Kms => "kms",
        }
    }
}

impl std::str::FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Scheme, String> {
        let all = [Scheme::Off, Scheme::Local, Scheme::Kms];
        let found = all.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| format!("expected `off`, `local` or `kms`, found `{text}`"))
    }
}

/// One version. Created conditionally, never changed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) scheme: Scheme,
    /// Unix milliseconds.
    pub(super) created: i64,
    /// The key as hexadecimal digits (`local`), or what the service opens (`kms`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) key: String,
}

impl Record {
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
        serde_json::from_slice(bytes).ok()
    }

    /// The key of a local record.
    pub(super) fn local_key(&self) -> Option<[u8; TENANT_KEY_BYTES]> {
        hex::decode(&self.key).ok()?.try_into().ok()
    }

    /// What the service opens.
    pub(super) fn sealed(&self) -> Option<Vec<u8>> {
        hex::decode(&self.key).ok().filter(|sealed| !sealed.is_empty())
    }
}
