//! Erasing a tenant: everything that it left below the data folder and among the objects, but for its tombstone.
//!
//! ```text
//! tombstone -> keys (nothing that they encrypted can be read any more) -> hot, objects, control objects, plugins -> look again
//! ```
//!
//! Each step can be made again, so that an erasure that was cut off is finished by beginning it anew. Servers that run beside it
//! see the tombstone within two seconds and take nothing more; a write that was under way then leaves files that [`Erasure::sweep`]
//! finds. Not here: the tenant's access keys, which the server's directory holds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prism_model::TenantId;

use super::Keyring;
use super::tomb::{Tomb, bury, tombs};
use crate::disk::{Disk, RealDisk, remove_all};
use crate::error::StoreError;
use crate::objects::Objects;

/// Looks for what was written meanwhile before an erasure gives up: each finds what the one before it was too early for.
const ROUNDS_MAX: usize = 8;
/// Folders within folders of objects that are believed; there are five.
const DEPTH_MAX: usize = 16;
/// How long after it a tombstone is looked after all the time; later, with each start.
pub const SWEEP_AGE_MS: i64 = 3_600_000;

/// Where a tenant may have left something.
#[derive(Clone)]
pub struct Erasure {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    keys: Keyring,
    objects: Arc<dyn Objects>,
}

/// What a tenant has in one place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Remains {
    /// Which place, such as `hot`; for objects the first part of their names.
    pub place: String,
    /// Files or objects.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Erasure {
    /// Of the tenants below `root` and among these objects.
    pub fn new(root: &Path, keys: Keyring, objects: Arc<dyn Objects>) -> Erasure {
        Erasure::open_in(Arc::new(RealDisk), root, keys, objects)
    }

    /// Of the tenants on any file system: the seam for tests.
    pub fn open_in(disk: Arc<dyn Disk>, root: &Path, keys: Keyring, objects: Arc<dyn Objects>) -> Erasure {
        Erasure { disk, root: root.to_owned(), keys, objects }
    }

    /// What the tenant has, place by place; places without anything are left out. Changes nothing.
    ///
    /// # Errors
    /// `Retry` where a folder or the objects cannot be listed.
    pub fn remains(&self, tenant: &TenantId) -> Result<Vec<Remains>, StoreError> {
        let mut remains = Vec::new();
        for (place, folder) in self.folders(tenant) {
            let mut found = Remains { place: place.to_owned(), files: 0, bytes: 0 };
            count(&*self.disk, &folder, &mut found).map_err(|e| StoreError::io("looked for what a tenant left", e))?;
            remains.push(found);
        }
        for top in self.tops()? {
            let mut found = Remains { place: format!("objects/{top}"), files: 0, bytes: 0 };
            self.each_object(&format!("{top}/{tenant}"), 0, false, &mut |object| {
                found.files += 1;
                found.bytes += object.bytes;
                Ok(())
            })?;
            remains.push(found);
        }
        remains.retain(|r| r.files > 0);
        Ok(remains)
    }

    /// Erases a tenant; gives what went. It is gone, for good, when this returns `Ok`, and its name is never used again.
    ///
    /// # Errors
    /// `Retry` where something cannot be listed or removed: then some of it is gone, and this is to be called again.
    pub fn erase(&self, tenant: &TenantId, now_unix_ms: i64) -> Result<Vec<Remains>, StoreError> {
        bury(&self.disk, &self.root, tenant, now_unix_ms)?;
        let mut gone: Vec<Remains> = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let found = self.remains(tenant)?;
            let empty = found.is_empty();
            for one in found {
                match gone.iter_mut().find(|g| g.place == one.place) {
                    Some(known) => (known.files, known.bytes) = (known.files + one.files, known.bytes + one.bytes),
                    None => gone.push(one),
                }
            }
            self.remove(tenant)?;
            if empty {
                return Ok(gone);
            }
        }
        Err(StoreError::io("erased a tenant", io::Error::other("something is written for it all the time")))
    }

    /// Removes what erased tenants have since got again by writes that were under way; `age_max_ms` leaves out those that were
    /// erased longer ago. Gives how many tenants had something.
    ///
    /// # Errors
    /// `Retry` where something cannot be listed or removed.
    pub fn sweep(&self, now_unix_ms: i64, age_max_ms: i64) -> Result<usize, StoreError> {
        let mut swept = 0;
        for Tomb { tenant, erased_unix_ms } in tombs(&self.disk, &self.root)? {
            if now_unix_ms.saturating_sub(erased_unix_ms) > age_max_ms {
                continue;
            }
            let found = self.remains(&tenant)?;
            self.remove(&tenant)?;
            if !found.is_empty() {
                tracing::warn!(%tenant, ?found, "an erased tenant had something again");
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Whether the tenant was erased, or is being.
    ///
    /// # Errors
    /// `Retry` where the tombstones cannot be listed.
    pub fn is_erased(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        Ok(tombs(&self.disk, &self.root)?.iter().any(|tomb| tomb.tenant == *tenant))
    }

    /// Folders that are the tenant's alone, keys first: without them the rest is noise already.
    fn folders(&self, tenant: &TenantId) -> Vec<(&'static str, PathBuf)> {
        let below = |name: &str| self.root.join(name).join(tenant.as_str());
        let keys = self.keys.folder_of(tenant).map(|folder| ("keys", folder));
        let own = [
            ("hot", below("hot")),
            ("control", self.root.join("control/tenants").join(tenant.as_str())),
            ("blobs", self.root.join("blobs/tenants").join(tenant.as_str())),
        ];
        keys.into_iter().chain(own).collect()
    }

    /// First parts of objects' names: tiers, and the index. A tenant's name is the second.
    fn tops(&self) -> Result<Vec<String>, StoreError> {
        self.objects.folders("").map_err(|e| StoreError::io("listed objects", e))
    }

    fn remove(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("removed what a tenant left", e);
        self.keys.forget(tenant)?;
        // One that cannot be removed keeps no other.
        let mut done = Ok(());
        for (_, folder) in self.folders(tenant) {
            done = done.and(remove_all(&*self.disk, &folder).map_err(failed));
        }
        for top in self.tops()? {
            let folder = format!("{top}/{tenant}");
            done = done.and(self.each_object(&folder, 0, true, &mut |object| self.objects.delete(&object.name)));
        }
        done
    }

    /// Visits the objects in a folder and below. `tidy`: folders that are empty afterwards go.
    fn each_object(
        &self,
        folder: &str,
        depth: usize,
        tidy: bool,
        visit: &mut dyn FnMut(&crate::objects::Listed) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("listed what a tenant left", e);
        for object in self.objects.list(folder, "").map_err(failed)? {
            visit(&object).map_err(failed)?;
        }
        for name in self.objects.folders(folder).map_err(failed)? {
            if depth < DEPTH_MAX {
                self.each_object(&format!("{folder}/{name}"), depth + 1, tidy, visit)?;
            }
        }
        if tidy { self.objects.remove_folder(folder).map_err(failed) } else { Ok(()) }
    }
}

/// Files below a folder, with their bytes. A link is counted, never followed.
fn count(disk: &dyn Disk, folder: &Path, found: &mut Remains) -> io::Result<()> {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let names = match disk.list(folder) {
        Err(e) if gone(&e) => return Ok(()),
        names => names?,
    };
    for path in names.iter().map(|name| folder.join(name)) {
        if disk.read_link(&path).is_ok() {
            found.files += 1;
        } else if disk.is_dir(&path) {
            count(disk, &path, found)?;
        } else {
            match disk.open(&path).and_then(|file| file.identity()) {
                Ok((_, bytes)) => (found.files, found.bytes) = (found.files + 1, found.bytes + bytes),
                Err(e) if gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
