//! Tombstones: which tenants were erased. A name that has one is never used again.
//!
//! A tombstone is the first object of the control log `erased/<tenant>`. It is made before anything is removed and stays after
//! everything is: whoever makes a file or an object for a tenant looks for it afterwards, and takes back what it made.

use std::path::Path;

use prism_model::TenantId;

use super::KeyError;
use crate::control::{Create, Log};

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
pub(super) fn names(root: &Path) -> Result<Vec<TenantId>, KeyError> {
    let folder = root.join("control").join(FOLDER);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(KeyError::disk("listed erased tenants", e)),
    };
    let mut tenants = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| KeyError::disk("listed erased tenants", e))?.file_name();
        tenants.extend(name.to_str().and_then(|n| n.parse::<TenantId>().ok()));
    }
    Ok(tenants)
}

/// All tombstones.
pub(super) fn tombs(root: &Path) -> Result<Vec<Tomb>, KeyError> {
    let read = |tenant: TenantId| -> Result<Tomb, KeyError> {
        let bytes = log(root, &tenant)?.get(1).ok().flatten().unwrap_or_default();
        let text: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let erased_unix_ms = text.get("erased_unix_ms").and_then(serde_json::Value::as_i64).unwrap_or_default();
        Ok(Tomb { tenant, erased_unix_ms })
    };
    names(root)?.into_iter().map(read).collect()
}

/// Makes the tombstone; one that stands already stays.
pub(super) fn bury(root: &Path, tenant: &TenantId, now_unix_ms: i64) -> Result<(), KeyError> {
    let bytes = serde_json::json!({ "erased_unix_ms": now_unix_ms }).to_string();
    match log(root, tenant)?.create(1, bytes.as_bytes()) {
        Ok(Create::Created | Create::Lost) => Ok(()),
        Err(e) => Err(KeyError::disk("made a tombstone", e)),
    }
}

fn log(root: &Path, tenant: &TenantId) -> Result<Log, KeyError> {
    Log::open(root, &format!("{FOLDER}/{tenant}")).map_err(|e| KeyError::disk("named a tombstone", e))
}
