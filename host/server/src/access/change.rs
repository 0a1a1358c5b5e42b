//! Changes the stored directory: read, decide, create the next version; again where another process was faster.

use std::path::Path;

use prism_model::{Classify, Kind};
use prism_store::StoreError;
use prism_store::control::{Create, Log};

use super::directory::{Directory, DirectoryError};

/// Name of the control log.
const LOG: &str = "access";
/// Tries against others that change it at the same moment. Each lost try is another's success.
const TRIES_MAX: usize = 64;

/// Why tenants and keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// What was asked for cannot be.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store.
    #[error("tenants and keys cannot be read or changed: {0}")]
    Store(#[from] StoreError),
    /// Others were faster again and again.
    #[error("tenants and keys are changed by others at the moment: try again")]
    Contended,
}

impl Classify for AccessError {
    fn kind(&self) -> Kind {
        match self {
            AccessError::Directory(e) => e.kind(),
            AccessError::Store(e) => e.kind(),
            AccessError::Contended => Kind::Retry,
        }
    }
}

/// The control log of tenants and keys of a data folder.
///
/// # Errors
/// As the store's.
pub(crate) fn log(data_dir: &Path) -> Result<Log, StoreError> {
    Log::open(data_dir, LOG)
}

/// The newest directory with its number; an empty one with 0 where none was stored yet.
///
/// # Errors
/// [`AccessError`]. Blocks on the disk.
pub(crate) fn read(log: &Log) -> Result<(u64, Directory), AccessError> {
    match log.latest()? {
        None => Ok((0, Directory::default())),
        Some((number, bytes)) => Ok((number, Directory::from_bytes(&bytes)?)),
    }
}

/// Changes the directory; `decide` may run several times, each time on the newest. Nothing is stored where it changes
/// nothing. Blocks on the disk.
///
/// # Errors
/// [`AccessError`], above all what `decide` refuses.
pub(crate) fn change<T>(
    log: &Log,
    mut decide: impl FnMut(&mut Directory) -> Result<T, DirectoryError>,
) -> Result<T, AccessError> {
    for _ in 0..TRIES_MAX {
        let (number, before) = read(log)?;
        let mut after = before.clone();
        let result = decide(&mut after)?;
        if after == before || log.create(number + 1, &after.to_bytes())? == Create::Created {
            return Ok(result);
        }
    }
    Err(AccessError::Contended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_5_changes_of_many_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path()).unwrap();
        std::thread::scope(|scope| {
            for i in 0..8 {
                let log = &log;
                scope.spawn(move || change(log, |d| d.create_tenant(&format!("t{i}").parse().unwrap(), i)).unwrap());
            }
        });
        let (number, directory) = read(&log).unwrap();
        assert_eq!((number, directory.tenants.len()), (8, 8));
        let again = change(&log, |d| d.create_tenant(&"t1".parse().unwrap(), 0)).unwrap_err();
        assert_eq!(again.to_string(), "tenant `t1` exists already");
        change(&log, |_| Ok(())).unwrap();
        assert_eq!(read(&log).unwrap().0, 8, "no change, no version");
    }
}
