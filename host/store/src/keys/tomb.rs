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

/// The tenants that were erased, or are being.
pub(crate) fn tombs(root: &Path) -> Result<Vec<TenantId>, KeyError> {
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

/// Makes the tombstone; `false` where it stands already.
pub(crate) fn bury(root: &Path, tenant: &TenantId, now_unix_ms: i64) -> Result<bool, KeyError> {
    let failed = |e| KeyError::disk("made a tombstone", e);
    let log = Log::open(root, &format!("{FOLDER}/{tenant}")).map_err(failed)?;
    let bytes = serde_json::json!({ "erased": now_unix_ms }).to_string();
    Ok(log.create(1, bytes.as_bytes()).map_err(failed)? == Create::Created)
}
