//! Files whose age has come go to the archive's storage class, a whole day at a time.
//!
//! A day that is done is remembered by an empty object `_archived/<date>` in the table's folder, which other engines pass over,
//! so that no file is written again and again. What is joined or comes later into such a day stays where it is. Not here: what a
//! query says that needs a file which must be fetched back first (`read`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::Storage;
use crate::cold::delta::FileEntry;
use crate::error::StoreError;
use crate::objects::S3Objects;

/// Days that one pass moves: their bytes come here and go back.
const DAYS_MAX: usize = 1;
/// Folder of days that are done, in the table's.
const DONE: &str = "_archived";

/// Where archived files go.
pub struct Archive {
    /// The bucket, which is that of [`Storage::objects`].
    pub objects: S3Objects,
    /// Its storage class.
    pub class: String,
}

/// Moves files that are all older than `cutoff` (unix nanoseconds of event time). Gives how many, their rows and bytes.
///
/// # Errors
/// `Retry` where the objects fail: what was moved before stays moved, and is moved again.
pub(super) fn pass(
    storage: &Storage,
    archive: &Archive,
    tenant: &TenantId,
    signal: Signal,
    cutoff: i64,
    dry_run: bool,
) -> Result<(u64, u64, u64), StoreError> {
    let failed = |e| StoreError::io("archived files", e);
    let table = storage.tables.table(tenant, signal);
    let done_in = format!("{}/{DONE}", table.dir());
    let mut days: BTreeMap<String, Vec<FileEntry>> = BTreeMap::new();
    for file in table.pin(TimeRange { from: i64::MIN, to: cutoff })?.files {
        if file.date.last_nanos() < cutoff {
            days.entry(file.date.to_string()).or_default().push(file);
        }
    }
    for done in storage.objects.list(&done_in, "").map_err(failed)? {
        days.remove(done.name.rsplit('/').next().unwrap_or_default());
    }
    let (mut files, mut rows, mut bytes) = (0, 0, 0);
    for (day, of_day) in days.into_iter().take(if dry_run { usize::MAX } else { DAYS_MAX }) {
        for file in &of_day {
            if !dry_run {
                archive.objects.set_class(&file.name, &archive.class).map_err(failed)?;
            }
            files += 1;
            rows += file.rows.unwrap_or(0);
            bytes += file.bytes;
        }
        if !dry_run {
            // Lost is as good: somebody else did the same.
            let _done = storage.objects.create(&format!("{done_in}/{day}"), Bytes::new()).map_err(failed)?;
        }
    }
    Ok((files, rows, bytes))
}
