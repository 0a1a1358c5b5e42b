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
/// Keys that ended are listed for as long, so that whoever looks for the reason of a refusal finds it, and then taken out.
const ENDED_KEPT_MS: i64 = 30 * 86_400_000;

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
    /// When it ends, in unix milliseconds; from then on it opens nothing. `None`: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_unix_ms: Option<i64>,
}

impl KeyRecord {
    /// Whether it opens nothing any more.
    pub(crate) fn ended(&self, now_unix_ms: i64) -> bool {
        self.expires_unix_ms.is_some_and(|at| at <= now_unix_ms)
    }
}

/// All tenants and keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// Tenants by name.
    pub(crate) tenants: BTreeMap<TenantId, Tenant>,
    /// Keys in order of creation, also those that ended of late. Revoked ones are taken out; earlier versions of the document tell of them.
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
    /// A key that would open nothing from its first moment.
    #[error("expected an end that is to come, found one that has passed")]
    Past,
    /// A new key would outlive the old one's bound without a word.
    #[error("key `{0}` has an end: say with --expires when the new one ends")]
    NoEnd(String),
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
            DirectoryError::Exists(_)
            | DirectoryError::NoRole
            | DirectoryError::Past
            | DirectoryError::NoEnd(_)
            | DirectoryError::TooManyKeys => Kind::Fix,
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

    /// Takes a tenant out with all its keys; gives their ids. None is no error.
    pub(crate) fn remove_tenant(&mut self, name: &TenantId) -> Vec<String> {
        self.tenants.remove(name);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.keys).into_iter().partition(|k| k.holder.tenant() == Some(name));
        self.keys = kept;
        gone.into_iter().map(|k| k.id).collect()
    }

    /// Makes a key valid, until `expires_unix_ms` where there is an end.
    ///
    /// # Errors
    /// [`DirectoryError::NoTenant`], [`DirectoryError::NoRole`], [`DirectoryError::Past`], [`DirectoryError::TooManyKeys`]
    pub(crate) fn add_key(
        &mut self,
        key: &Key,
        holder: Holder,
        expires_unix_ms: Option<i64>,
        now_unix_ms: i64,
    ) -> Result<(), DirectoryError> {
        if let Holder::Tenant { name, roles } = &holder {
            if !self.tenants.contains_key(name) {
                return Err(DirectoryError::NoTenant(name.clone()));
            }
            if roles.is_empty() {
                return Err(DirectoryError::NoRole);
            }
        }
        if expires_unix_ms.is_some_and(|at| at <= now_unix_ms) {
            return Err(DirectoryError::Past);
        }
        self.keys.retain(|k| !k.ended(now_unix_ms.saturating_sub(ENDED_KEPT_MS)));
        let of_holder = |k: &&KeyRecord| k.holder.tenant() == holder.tenant() && !k.ended(now_unix_ms);
        if self.keys.iter().filter(of_holder).count() >= KEYS_MAX {
            return Err(DirectoryError::TooManyKeys);
        }
        let (id, sha256) = (key.id().to_owned(), hex::encode(key.hash()));
        self.keys.push(KeyRecord { id, sha256, holder, created_unix_ms: now_unix_ms, expires_unix_ms });
        Ok(())
    }

    /// Puts a new key with the same holder and roles beside a key, which ends at `grace_unix_ms`, or earlier where it does
    /// anyway. The old key as it is now.
    ///
    /// # Errors
    /// [`DirectoryError::NoKey`], [`DirectoryError::NoEnd`] where the old key has an end and the new one would have none, and
    /// those of [`Directory::add_key`].
    pub(crate) fn rotate_key(
        &mut self,
        id: &str,
        key: &Key,
        grace_unix_ms: i64,
        expires_unix_ms: Option<i64>,
        now_unix_ms: i64,
    ) -> Result<KeyRecord, DirectoryError> {
        let old = self.keys.iter_mut().find(|k| k.id == id).ok_or_else(|| no_key(id))?;
        if old.expires_unix_ms.is_some() && expires_unix_ms.is_none() {
            return Err(DirectoryError::NoEnd(old.id.clone()));
        }
        old.expires_unix_ms = Some(old.expires_unix_ms.map_or(grace_unix_ms, |at| at.min(grace_unix_ms)));
        let old = old.clone();
        self.add_key(key, old.holder.clone(), expires_unix_ms, now_unix_ms)?;
        Ok(old)
    }

    /// Makes a key invalid.
    ///
    /// # Errors
    /// [`DirectoryError::NoKey`]
    pub(crate) fn revoke_key(&mut self, id: &str) -> Result<KeyRecord, DirectoryError> {
        match self.keys.iter().position(|k| k.id == id) {
            Some(at) => Ok(self.keys.remove(at)),
            None => Err(no_key(id)),
        }
    }

    /// The keys by hash, also those that ended of late.
    pub(crate) fn by_hash(&self) -> HashMap<KeyHash, KeyRecord> {
        let hash_of = |record: &KeyRecord| hex::decode(&record.sha256).ok().and_then(|hash| hash.try_into().ok());
        self.keys.iter().filter_map(|record| Some((hash_of(record)?, record.clone()))).collect()
    }
}

fn no_key(id: &str) -> DirectoryError {
    DirectoryError::NoKey(id.chars().take(80).collect())
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
        directory.add_key(&key(1), holder("shop", &[Role::Ingest]), None, 6).unwrap();
        directory.add_key(&key(2), Holder::Operator, None, 7).unwrap();
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
        let refused = directory.add_key(&key(1), holder("shop", &[Role::Query]), None, 0).unwrap_err();
        assert_eq!(refused.kind(), Kind::NotFound);
        directory.create_tenant(&"shop".parse().unwrap(), 0).unwrap();
        assert!(directory.create_tenant(&"shop".parse().unwrap(), 0).is_err());
        assert!(directory.add_key(&key(1), holder("shop", &[]), None, 0).is_err());
        for _ in 0..KEYS_MAX {
            directory.add_key(&key(1), holder("shop", &[Role::Query]), None, 0).unwrap();
        }
        assert!(directory.add_key(&key(1), holder("shop", &[Role::Query]), None, 0).is_err());
        directory.add_key(&key(3), Holder::Operator, None, 0).unwrap();
        assert_eq!(directory.revoke_key(key(3).id()).unwrap().holder, Holder::Operator);
        assert!(directory.revoke_key(key(3).id()).is_err());
        assert!(!directory.by_hash().contains_key(&key(3).hash()));
    }

    #[test]
    fn keys_end_and_hand_over() {
        let mut directory = Directory::default();
        directory.create_tenant(&"shop".parse().unwrap(), 0).unwrap();
        let shop = || holder("shop", &[Role::Ingest]);
        assert!(matches!(directory.add_key(&key(1), shop(), Some(5), 5), Err(DirectoryError::Past)));
        directory.add_key(&key(1), shop(), None, 5).unwrap();
        let old = directory.rotate_key(key(1).id(), &key(2), 100, Some(1_000), 50).unwrap();
        assert_eq!((old.ended(99), old.ended(100), directory.keys.len()), (false, true, 2));
        assert_eq!((&directory.keys[1].holder, directory.keys[1].expires_unix_ms), (&shop(), Some(1_000)));
        let endless = directory.rotate_key(key(2).id(), &key(3), 100, None, 60);
        assert!(matches!(endless, Err(DirectoryError::NoEnd(_))), "no key outlives a bound without a word");
        let again = directory.rotate_key(key(1).id(), &key(3), 500, Some(2_000), 60).unwrap();
        assert_eq!(again.expires_unix_ms, Some(100), "an end is never put off");
        assert!(matches!(directory.rotate_key("none", &key(3), 1, None, 0), Err(DirectoryError::NoKey(_))));
        assert_eq!(Directory::from_bytes(&directory.to_bytes()).unwrap(), directory);
        // Ended keys take no place, and go after their time.
        for _ in 0..KEYS_MAX {
            directory.add_key(&key(4), shop(), Some(3_000), 2_500).unwrap();
        }
        assert!(directory.add_key(&key(4), shop(), None, 2_500).is_err());
        directory.add_key(&key(4), shop(), None, 3_000 + ENDED_KEPT_MS).unwrap();
        assert_eq!(directory.keys.len(), 1);
    }

    #[test]
    fn documents_without_ends_are_read() {
        let text = r#"{"tenants":{},"keys":[{"id":"a","sha256":"00","holder":"operator","created_unix_ms":1}]}"#;
        assert_eq!(Directory::from_bytes(text.as_bytes()).unwrap().keys[0].expires_unix_ms, None);
    }
}
