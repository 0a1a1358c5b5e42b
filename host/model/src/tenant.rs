//! The name of a tenant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A tenant's name: 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit (a DNS label, RFC 1123).
///
/// It is safe as a folder name, an object prefix and a label value, because nothing else can be constructed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = BadTenantName;

    fn from_str(text: &str) -> Result<TenantId, BadTenantName> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let well_formed =
            (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if well_formed { Ok(TenantId(text.into())) } else { Err(BadTenantName(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for TenantId {
    type Error = BadTenantName;

    fn try_from(text: String) -> Result<TenantId, BadTenantName> {
        text.parse()
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> String {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no tenant name.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a tenant name of 1 to 63 characters `a-z`, `0-9`, `-` that begins and ends with a letter or digit, found `{0}`"
)]
pub struct BadTenantName(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for good in ["a", "default", "team-7", &"x".repeat(63)] {
            assert_eq!(good.parse::<TenantId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }
}
