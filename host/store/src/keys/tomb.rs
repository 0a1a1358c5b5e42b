//! Tombstones: which tenants were erased. A name that has one is never used again.
//!
//! A tombstone is the first object of the control log `erased/<tenant>`. It is made before anything is removed and stays after
//! everything is: whoever makes a file or an object for a tenant looks for it afterwards, and takes back what it made.

use std::path::Path;
use std::sync::Arc;

use prism_model::TenantId;

use super::KeyError;
use crate::control::{Create, Log};
use crate::disk::Disk;

/// Folder of the tombstones, among the control objects.
const FOLDER: &str = "erased";

/// A tenant that was erased, or is being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tomb {
    pub(super) tenant: TenantId,
    /// When that began; 0 where it cannot be read.
    pub(super) erased_unix_ms: i64,
}

/// The names on all tombstones.
pub(super) fn names(disk: &dyn Disk, root: &Path) -> Result<Vec<TenantId>, KeyError> {
    match disk.list(&root.join("control").join(FOLDER)) {
        Ok(names) => Ok(names.iter().filter_map(|name| name.parse().ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(KeyError::disk("listed erased tenants", e)),
    }
}

/// All tombstones.
pub(super) fn tombs(disk: &Arc<dyn Disk>, root: &Path) -> Result<Vec<Tomb>, KeyError> {
    let read = |tenant: TenantId| -> Result<Tomb, KeyError> {
        let bytes = log(disk, root, &tenant)?.get(1).ok().flatten().unwrap_or_default();
        let text: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let erased_unix_ms = text.get("erased_unix_ms").and_then(serde_json::Value::as_i64).unwrap_or_default();
        Ok(Tomb { tenant, erased_unix_ms })
    };
    names(&**disk, root)?.into_iter().map(read).collect()
}

/// Makes the tombstone; one that stands already stays.
pub(super) fn bury(disk: &Arc<dyn Disk>, root: &Path, tenant: &TenantId, now_unix_ms: i64) -> Result<(), KeyError> {
    let bytes = serde_json::json!({ "erased_unix_ms": now_unix_ms }).to_string();
    let log = log(disk, root, tenant)?;
    let made = log.create(1, bytes.as_bytes()).and_then(|made| match made {
        Create::Created => Ok(()),
        Create::Lost => log.settle(),
    });
    made.map_err(|e| KeyError::disk("made a tombstone", e))
}

fn log(disk: &Arc<dyn Disk>, root: &Path, tenant: &TenantId) -> Result<Log, KeyError> {
    Log::on(disk.clone(), root, &format!("{FOLDER}/{tenant}")).map_err(|e| KeyError::disk("named a tombstone", e))
}
