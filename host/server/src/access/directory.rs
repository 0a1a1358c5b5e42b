//! All tenants and keys, as one document, and how it changes.
//!
//! One document and not one per tenant: a snapshot is consistent (a key's tenant exists), a server sees every change by
//! looking at one place, and 1,000 tenants with 5 keys each are about 1 MB. Nothing here does input or output.

use std::collections::{BTreeMap, HashMap};

use prism_model::{Classify, Kind, TenantId};
use serde::{Deserialize, Serialize};

use super::key::{Key, KeyHash};
use super::role::Roles;

/// Keys of one tenant, and keys of operators. A tenant with more has lost sight of them.
pub(crate) const KEYS_MAX: usize = 100;

/// Whom a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Holder {
    /// A tenant, with roles.
    Tenant {
        /// Whose data.
        name: TenantId,
        /// What with it.
        roles: Roles,
    },
    /// Who runs Prism. Reaches no tenant's data.
    Operator,
}

impl Holder {
    /// The tenant; `None` for operators.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Holder::Tenant { name, .. } => Some(name),
            Holder::Operator => None,
        }
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenant {
    /// When it was created, in unix milliseconds.
    pub(crate) created_unix_ms: i64,
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// The name of the key.
    pub(crate) id: String,
    /// SHA-256 of the key, as hex.
    pub(crate) sha256: String,
    /// Whose it is.
    pub(crate) holder: Holder,
    /// When it was created, in unix milliseconds.
    pub(crate) created_unix_ms: i64,
}

/// All tenants and keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// Tenants by name.
    pub(crate) tenants: BTreeMap<TenantId, Tenant>,
    /// Keys that are valid, in order of creation. Revoked ones are taken out; earlier versions of the document tell of them.
    pub(crate) keys: Vec<KeyRecord>,
}

/// Why the directory does not change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// The tenant is there.
    #[error("tenant `{0}` exists already")]
    Exists(TenantId),
    /// The tenant is not there.
    #[error("there is no tenant `{0}`: create it with `prism tenant create {0}`")]
    NoTenant(TenantId),
    /// The key is not there.
    #[error("there is no key `{0}`")]
    NoKey(String),
    /// A key that opens nothing.
    #[error("expected at least one role of `ingest`, `query`, `admin`")]
    NoRole,
    /// Too many keys.
    #[error("expected at most {KEYS_MAX} keys for one holder: revoke those that are not used")]
    TooManyKeys,
    /// The stored document is not one.
    #[error("the stored list of tenants and keys cannot be read: {0}")]
    Damaged(String),
}

impl Classify for DirectoryError {
    fn kind(&self) -> Kind {
        match self {
            DirectoryError::Exists(_) | DirectoryError::NoRole | DirectoryError::TooManyKeys => Kind::Fix,
            DirectoryError::NoTenant(_) | DirectoryError::NoKey(_) => Kind::NotFound,
            DirectoryError::Damaged(_) => Kind::Retry,
        }
    }
}

impl Directory {
    /// The directory of stored bytes.
    ///
    /// # Errors
    /// [`DirectoryError::Damaged`]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Directory, DirectoryError> {
        serde_json::from_slice(bytes).map_err(|e| DirectoryError::Damaged(e.to_string()))
    }

    /// The bytes to store.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Adds a tenant.
    ///
    /// # Errors
    /// [`DirectoryError::Exists`]
    pub(crate) fn create_tenant(&mut self, name: &TenantId, now_unix_ms: i64) -> Result<(), DirectoryError> {
        if self.tenants.contains_key(name) {
            return Err(DirectoryError::Exists(name.clone()));
        }
        self.tenants.insert(name.clone(), Tenant { created_unix_ms: now_unix_ms });
        Ok(())
    }

    /// Makes a key valid.
    ///
    /// # Errors
    /// [`DirectoryError::NoTenant`], [`DirectoryError::NoRole`], [`DirectoryError::TooManyKeys`]
    pub(crate) fn add_key(&mut self, key: &Key, holder: Holder, now_unix_ms: i64) -> Result<(), DirectoryError> {
        if let Holder::Tenant { name, roles } = &holder {
            if !self.tenants.contains_key(name) {
                return Err(DirectoryError::NoTenant(name.clone()));
            }
            if roles.is_empty() {
                return Err(DirectoryError::NoRole);
            }
        }
        if self.keys.iter().filter(|k| k.holder.tenant() == holder.tenant()).count() >= KEYS_MAX {
            return Err(DirectoryError::TooManyKeys);
        }
        let (id, sha256) = (key.id().to_owned(), hex::encode(key.hash()));
        self.keys.push(KeyRecord { id, sha256, holder, created_unix_ms: now_unix_ms });
        Ok(())
    }

    /// Makes a key invalid.
    ///
    /// # Errors
    /// [`DirectoryError::NoKey`]
    pub(crate) fn revoke_key(&mut self, id: &str) -> Result<KeyRecord, DirectoryError> {
        match self.keys.iter().position(|k| k.id == id) {
            Some(at) => Ok(self.keys.remove(at)),
            None => Err(DirectoryError::NoKey(id.chars().take(80).collect())),
        }
    }

    /// The valid keys by hash.
    pub(crate) fn by_hash(&self) -> HashMap<KeyHash, KeyRecord> {
        let hash_of = |record: &KeyRecord| hex::decode(&record.sha256).ok().and_then(|hash| hash.try_into().ok());
        self.keys.iter().filter_map(|record| Some((hash_of(record)?, record.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::role::Role;
    use super::*;

    fn key(seed: u8) -> Key {
        Key::generate(|bytes| {
            bytes.fill(seed);
            Ok::<(), ()>(())
        })
        .unwrap_or_else(|()| unreachable!())
    }

    fn holder(name: &str, roles: &[Role]) -> Holder {
        Holder::Tenant { name: name.parse().unwrap(), roles: roles.iter().copied().collect() }
    }

    #[test]
    fn the_document_holds_the_hash_and_never_the_key() {
        let mut directory = Directory::default();
        directory.create_tenant(&"shop".parse().unwrap(), 5).unwrap();
        directory.add_key(&key(1), holder("shop", &[Role::Ingest]), 6).unwrap();
        directory.add_key(&key(2), Holder::Operator, 7).unwrap();
        let text = String::from_utf8(directory.to_bytes()).unwrap();
        assert!(!text.contains(&key(1).reveal()[17..]), "{text}");
        assert!(text.contains(&hex::encode(key(1).hash())), "{text}");
        assert_eq!(Directory::from_bytes(text.as_bytes()).unwrap(), directory);
        assert_eq!(directory.by_hash()[&key(1).hash()].holder, holder("shop", &[Role::Ingest]));
        assert!(Directory::from_bytes(b"{").is_err());
    }

    #[test]
    fn keys_need_a_tenant_and_a_role_and_are_bounded() {
        let mut directory = Directory::default();
        let refused = directory.add_key(&key(1), holder("shop", &[Role::Query]), 0).unwrap_err();
        assert_eq!(refused.kind(), Kind::NotFound);
        directory.create_tenant(&"shop".parse().unwrap(), 0).unwrap();
        assert!(directory.create_tenant(&"shop".parse().unwrap(), 0).is_err());
        assert!(directory.add_key(&key(1), holder("shop", &[]), 0).is_err());
        for _ in 0..KEYS_MAX {
            directory.add_key(&key(1), holder("shop", &[Role::Query]), 0).unwrap();
        }
        assert!(directory.add_key(&key(1), holder("shop", &[Role::Query]), 0).is_err());
        directory.add_key(&key(3), Holder::Operator, 0).unwrap();
        assert_eq!(directory.revoke_key(key(3).id()).unwrap().holder, Holder::Operator);
        assert!(directory.revoke_key(key(3).id()).is_err());
        assert!(!directory.by_hash().contains_key(&key(3).hash()));
    }
}
