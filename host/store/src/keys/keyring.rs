//! Tenants' keys in versions, and the data keys that they wrap.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prism_model::TenantId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tokio::time::Instant;

use super::record::{Record, Scheme};
use super::{KeyError, KeyService, TENANT_KEY_BYTES};
use crate::cache::Cache;
use crate::control::{Create, Log, Shelf};
use crate::disk::{Disk, RealDisk};
use crate::frame::crypt::{DataKey, KEY_BYTES, TAG_BYTES, WRAPPED_BYTES, WrappedKey};

/// How long it takes at most until a rotation or an erasure by another process is noticed.
const REFRESH: Duration = Duration::from_secs(2);
/// How long a key that a service opened is used without asking again: until then taking the permission away has no effect.
const SERVICE_TTL: Duration = Duration::from_secs(300);
/// How long an answer of a service that failed stands: a query over a thousand segments must not wait a thousand times.
const FAILED_TTL: Duration = Duration::from_secs(1);
/// Bytes of remembered tenant keys: about 4,000.
const CACHE_BYTES: usize = 1 << 20;
/// Bytes that one of them takes, about.
const ENTRY_BYTES: usize = 256;
/// Attempts to create a version while others create some too.
const CREATE_ATTEMPTS: usize = 16;

/// The keys of all tenants. Cheap to clone. Every call may block on the disk or the key service.
///
/// [`Keyring::default`] has none: nothing is encrypted, and what is encrypted cannot be read.
#[derive(Clone, Default)]
pub struct Keyring(Option<Arc<Inner>>);

struct Inner {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    folder: PathBuf,
    shelf: Shelf,
    /// Of tenants without any version.
    default: Scheme,
    service: Option<Arc<dyn KeyService>>,
    newest: Mutex<HashMap<TenantId, Newest>>,
    opened: Cache<(TenantId, u64), (Arc<TenantKey>, Option<Instant>)>,
    failed: Mutex<HashMap<(TenantId, u64), (KeyError, Instant)>>,
    erased: Mutex<(HashSet<TenantId>, Option<Instant>)>,
}

/// The newest version of a tenant's key.
#[derive(Clone, Copy)]
struct Newest {
    version: u64,
    scheme: Scheme,
    seen: Instant,
}

/// A tenant's key, opened.
struct TenantKey(LessSafeKey);

/// A data key that was made just now, and the form of it that is stored.
pub(crate) type NewKey = (Arc<DataKey>, WrappedKey);

/// A version of a tenant's key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VersionStatus {
    /// Its number.
    pub version: u64,
    /// How what is written under it is encrypted.
    pub scheme: Scheme,
    /// Unix milliseconds.
    pub created: i64,
}

impl Keyring {
    /// The keys in `folder`; tombstones of erased tenants lie in the control objects of `root`. The folder is made with the
    /// first key, for this user alone.
    pub fn open(root: &Path, folder: &Path, default: Scheme, service: Option<Arc<dyn KeyService>>) -> Keyring {
        Keyring::open_in(Arc::new(RealDisk), root, folder, default, service)
    }

    /// Keys on any file system: the seam for tests.
    pub fn open_in(
        disk: Arc<dyn Disk>,
        root: &Path,
        folder: &Path,
        default: Scheme,
        service: Option<Arc<dyn KeyService>>,
    ) -> Keyring {
        Keyring(Some(Arc::new(Inner {
            root: root.to_owned(),
            folder: folder.to_owned(),
            shelf: Shelf::private(disk.clone(), folder.to_owned()),
            disk,
            default,
            service,
            newest: Mutex::default(),
            opened: Cache::new(CACHE_BYTES),
            failed: Mutex::default(),
            erased: Mutex::default(),
        })))
    }

    /// The keys that lie beside the data of `root`, for reading it: tenants without a key stay without.
    pub fn beside(root: &Path) -> Keyring {
        Keyring::open(root, &root.join("keys"), Scheme::Off, None)
    }

    /// A data key for something new of a tenant; `None` where it is not encrypted. `name` tells that thing from every other one:
    /// the key opens nothing else.
    pub(crate) fn data_key(&self, tenant: &TenantId, name: &[u8]) -> Result<Option<NewKey>, KeyError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        inner.admit(tenant)?;
        let newest = inner.newest(tenant)?;
        if newest.scheme == Scheme::Off {
            return Ok(None);
        }
        let mut key = [0; KEY_BYTES];
        let mut nonce = [0; NONCE_LEN];
        inner.random(&mut key)?;
        inner.random(&mut nonce)?;
        let wrapped = inner.tenant_key(tenant, newest.version)?.wrap(tenant, newest.version, name, &key, nonce)?;
        Ok(Some((Arc::new(data_key(&key, newest.version)?), wrapped)))
    }

    /// The data key of something that was written before under this name.
    pub(crate) fn open_key(
        &self,
        tenant: &TenantId,
        wrapped: &WrappedKey,
        name: &[u8],
    ) -> Result<Arc<DataKey>, KeyError> {
        let version = wrapped.version;
        let inner = self.0.as_ref().ok_or(KeyError::Missing { version })?;
        inner.admit(tenant)?;
        let key = inner.tenant_key(tenant, version)?.unwrap(tenant, wrapped, name)?;
        Ok(Arc::new(data_key(&key, version)?))
    }

    /// Refuses what belongs to an erased tenant. `fresh`: looks, instead of believing for two seconds what was seen.
    ///
    /// # Errors
    /// [`KeyError::Erased`], or [`KeyError::Disk`] where it cannot be known.
    pub fn admit(&self, tenant: &TenantId, fresh: bool) -> Result<(), KeyError> {
        let Some(inner) = &self.0 else { return Ok(()) };
        if fresh {
            inner.erased.lock().1 = None;
        }
        inner.admit(tenant)
    }

    /// A new version of a tenant's key, which everything written from now on uses: at once here, within two seconds in other
    /// processes. `scheme` also changes how; without, it stays as it is. Gives the version.
    ///
    /// # Errors
    /// [`KeyError`] where the folder or the service fails: then there is a new version or not.
    pub fn rotate(&self, tenant: &TenantId, scheme: Option<Scheme>) -> Result<u64, KeyError> {
        let inner = self.0.as_ref().ok_or(KeyError::Missing { version: 0 })?;
        inner.admit(tenant)?;
        let now = match scheme {
            Some(scheme) => scheme,
            None => inner.look(tenant)?.map_or(inner.default, |n| n.scheme),
        };
        for _ in 0..CREATE_ATTEMPTS {
            let next = inner.latest(tenant)?.unwrap_or(0) + 1;
            if inner.create(tenant, next, now)? {
                return Ok(next);
            }
        }
        Err(KeyError::disk("others make new versions all the time", std::io::Error::other("lost each time")))
    }

    /// The versions that there are, ascending.
    ///
    /// # Errors
    /// [`KeyError::Disk`].
    pub fn versions(&self, tenant: &TenantId) -> Result<Vec<VersionStatus>, KeyError> {
        let Some(inner) = &self.0 else { return Ok(Vec::new()) };
        let mut versions = Vec::new();
        for version in 1..=inner.latest(tenant)?.unwrap_or(0) {
            match inner.record(tenant, version) {
                Ok(Record { scheme, created, .. }) => versions.push(VersionStatus { version, scheme, created }),
                Err(KeyError::Missing { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(versions)
    }

    /// Removes all keys of a tenant: nothing that they encrypted can ever be read again, here from now on, in other processes
    /// within two seconds. Doing it again does nothing.
    ///
    /// # Errors
    /// [`KeyError::Disk`]: then some may be left.
    pub(crate) fn forget(&self, tenant: &TenantId) -> Result<(), KeyError> {
        let Some(inner) = &self.0 else { return Ok(()) };
        inner.newest.lock().remove(tenant);
        inner.opened.clear();
        inner.log(tenant)?.remove().map_err(|e| KeyError::disk("removed keys", e))
    }

    /// Folder of the keys of a tenant.
    pub(crate) fn folder_of(&self, tenant: &TenantId) -> Option<PathBuf> {
        self.0.as_ref().map(|inner| inner.folder.join(tenant.as_str()))
    }
}

impl Inner {
    fn random(&self, bytes: &mut [u8]) -> Result<(), KeyError> {
        self.disk.random(bytes).map_err(|e| KeyError::disk("found no randomness", e))
    }

    fn log(&self, tenant: &TenantId) -> Result<Log, KeyError> {
        self.shelf.log(tenant.as_str()).map_err(|e| KeyError::disk("named the folder of keys", e))
    }

    fn latest(&self, tenant: &TenantId) -> Result<Option<u64>, KeyError> {
        self.log(tenant)?.latest_number().map_err(|e| KeyError::disk("listed keys", e))
    }

    fn record(&self, tenant: &TenantId, version: u64) -> Result<Record, KeyError> {
        match self.log(tenant)?.get(version) {
            Ok(Some(bytes)) => Record::parse(&bytes).ok_or(KeyError::Damaged { version }),
            Ok(None) => Err(KeyError::Missing { version }),
            Err(crate::StoreError::Damaged(_)) => Err(KeyError::Damaged { version }),
            Err(e) => Err(KeyError::disk("read a key", e)),
        }
    }

    fn admit(&self, tenant: &TenantId) -> Result<(), KeyError> {
        let mut erased = self.erased.lock();
        if erased.1.is_none_or(|seen| seen.elapsed() >= REFRESH) {
            erased.0 = super::tomb::names(&*self.disk, &self.root)?.into_iter().collect();
            erased.1 = Some(Instant::now());
        }
        if erased.0.contains(tenant) { Err(KeyError::Erased) } else { Ok(()) }
    }

    /// The newest version as it stands on disk.
    fn look(&self, tenant: &TenantId) -> Result<Option<Newest>, KeyError> {
        let Some(version) = self.latest(tenant)? else { return Ok(None) };
        let known = self.newest.lock().get(tenant).copied();
        let scheme = match known.filter(|n| n.version == version) {
            Some(known) => known.scheme,
            None => self.record(tenant, version)?.scheme,
        };
        Ok(Some(Newest { version, scheme, seen: Instant::now() }))
    }

    /// The version that is written with; the first is made where there is none.
    fn newest(&self, tenant: &TenantId) -> Result<Newest, KeyError> {
        if let Some(newest) = self.newest.lock().get(tenant).filter(|n| n.seen.elapsed() < REFRESH) {
            return Ok(*newest);
        }
        let known = self.newest.lock().get(tenant).map(|newest| newest.version);
        let newest = match self.look(tenant)? {
            // Another process made it: what is written under it must not outlive it in a loss of power.
            Some(newest) if known != Some(newest.version) => {
                self.log(tenant)?.settle().map_err(|e| KeyError::disk("made a key durable", e))?;
                newest
            }
            Some(newest) => newest,
            None if self.default == Scheme::Off => Newest { version: 0, scheme: Scheme::Off, seen: Instant::now() },
            None => {
                if !self.create(tenant, 1, self.default)? {
                    self.log(tenant)?.settle().map_err(|e| KeyError::disk("made a key durable", e))?;
                }
                self.look(tenant)?.ok_or(KeyError::Missing { version: 1 })?
            }
        };
        self.newest.lock().insert(tenant.clone(), newest);
        Ok(newest)
    }

    /// Makes a version; `false` where somebody else has made it.
    fn create(&self, tenant: &TenantId, version: u64, scheme: Scheme) -> Result<bool, KeyError> {
        let key = match scheme {
            Scheme::Off => String::new(),
            Scheme::Local => {
                let mut key = [0; TENANT_KEY_BYTES];
                self.random(&mut key)?;
                hex::encode(key)
            }
            Scheme::Kms => hex::encode(self.service.as_ref().ok_or(KeyError::NoService)?.generate(tenant)?.1),
        };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let log = self.log(tenant)?;
        let made = log.create(version, &Record { scheme, created, key }.bytes());
        if made.map_err(|e| KeyError::disk("made a key", e))? == Create::Lost {
            return Ok(false);
        }
        // An erasure that began before this version was there did not see it.
        self.erased.lock().1 = None;
        match self.admit(tenant) {
            Ok(()) => {}
            Err(KeyError::Erased) => {
                log.remove().map_err(|e| KeyError::disk("removed keys", e))?;
                return Err(KeyError::Erased);
            }
            // Not known: nothing may go for that. Where the tenant was erased, the next look for what it left finds this one.
            Err(e) => return Err(e),
        }
        self.newest.lock().insert(tenant.clone(), Newest { version, scheme, seen: Instant::now() });
        Ok(true)
    }

    fn tenant_key(&self, tenant: &TenantId, version: u64) -> Result<Arc<TenantKey>, KeyError> {
        let name = (tenant.clone(), version);
        if let Some((key, until)) = self.opened.get(&name)
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(key);
        }
        if let Some((error, at)) = self.failed.lock().get(&name)
            && at.elapsed() < FAILED_TTL
        {
            return Err(error.clone());
        }
        match self.open_tenant_key(tenant, version) {
            Ok((key, until)) => {
                self.opened.put(name, (key.clone(), until), ENTRY_BYTES);
                Ok(key)
            }
            Err(error) => {
                tracing::error!(%tenant, version, %error, cause = ?std::error::Error::source(&error), "a key cannot be had");
                let mut failed = self.failed.lock();
                failed.retain(|_, (_, at)| at.elapsed() < FAILED_TTL);
                failed.insert(name, (error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    fn open_tenant_key(&self, tenant: &TenantId, version: u64) -> Result<(Arc<TenantKey>, Option<Instant>), KeyError> {
        let record = self.record(tenant, version)?;
        let damaged = || KeyError::Damaged { version };
        let (key, until) = match record.scheme {
            Scheme::Off => return Err(KeyError::Wrong { version }),
            Scheme::Local => (record.local_key().ok_or_else(damaged)?, None),
            Scheme::Kms => {
                let service = self.service.as_ref().ok_or(KeyError::NoService)?;
                let key = service.open(tenant, &record.sealed().ok_or_else(damaged)?)?;
                (key, Some(Instant::now() + SERVICE_TTL))
            }
        };
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| damaged())?;
        Ok((Arc::new(TenantKey(LessSafeKey::new(key))), until))
    }
}

impl TenantKey {
    /// Nonces are random: 2^32 data keys under one version keep the chance of the same one twice below 2^-32 (NIST SP 800-38D),
    /// which is 3,000 segments a second for 16 days; more than a thousand times what a tenant makes.
    fn wrap(
        &self,
        tenant: &TenantId,
        version: u64,
        name: &[u8],
        key: &[u8; KEY_BYTES],
        nonce: [u8; NONCE_LEN],
    ) -> Result<WrappedKey, KeyError> {
        let mut bytes = [0; WRAPPED_BYTES];
        bytes[..NONCE_LEN].copy_from_slice(&nonce);
        let (body, room) = bytes[NONCE_LEN..].split_at_mut(KEY_BYTES);
        body.copy_from_slice(key);
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(bound(tenant, version, name)));
        let tag = self.0.seal_in_place_separate_tag(nonce, aad, body).map_err(|_| KeyError::Damaged { version })?;
        room[..TAG_BYTES].copy_from_slice(tag.as_ref());
        Ok(WrappedKey { version, bytes })
    }

    fn unwrap(&self, tenant: &TenantId, wrapped: &WrappedKey, name: &[u8]) -> Result<[u8; KEY_BYTES], KeyError> {
        let wrong = || KeyError::Wrong { version: wrapped.version };
        let (nonce, body) = wrapped.bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut body = body.to_vec();
        let aad = Aad::from(bound(tenant, wrapped.version, name));
        let plain = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut body).map_err(|_| wrong())?;
        plain.first_chunk::<KEY_BYTES>().copied().ok_or_else(wrong)
    }
}

/// What a wrapped key is bound to. The parts have no zeros of their own but the last, so none runs into another.
fn bound(tenant: &TenantId, version: u64, name: &[u8]) -> Vec<u8> {
    [b"prism data key\0", tenant.as_str().as_bytes(), b"\0", &version.to_le_bytes(), name].concat()
}

fn data_key(key: &[u8; KEY_BYTES], version: u64) -> Result<DataKey, KeyError> {
    DataKey::new(key).map_err(|_| KeyError::Damaged { version })
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}
