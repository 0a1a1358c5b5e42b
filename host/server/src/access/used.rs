//! When a key was last used, to the hour: the modification time of an empty file that bears its id.
//!
//! For people who look for keys that nobody needs; nothing is decided by it. So it is no control object: it is written over,
//! by any process, once an hour for each key, and off the request's way.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;

const HOUR_SECONDS: i64 = 3_600;

/// Notes the use of keys.
#[derive(Debug)]
pub(crate) struct Used {
    dir: PathBuf,
    /// The hour that was noted last, by key: as many as there are keys.
    hours: RwLock<HashMap<String, i64>>,
}

impl Used {
    /// In a data folder; nothing is written yet.
    pub(crate) fn new(data_dir: &Path) -> Used {
        Used { dir: dir(data_dir), hours: RwLock::default() }
    }

    /// A key is used. Returns at once.
    pub(super) fn note(&self, id: &str, now_unix_nanos: i64) {
        let hour = now_unix_nanos / 1_000_000_000 / HOUR_SECONDS;
        if self.hours.read().get(id) == Some(&hour) {
            return;
        }
        self.hours.write().insert(id.to_owned(), hour);
        let path = self.dir.join(id);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = touch(&path, hour) {
                tracing::warn!(%error, "the use of a key could not be noted");
            }
        });
    }
}

/// The hour in which a key was last used, in unix milliseconds; `None` where it was not.
pub(crate) fn last_used_unix_ms(data_dir: &Path, id: &str) -> Option<i64> {
    let noted = fs::metadata(dir(data_dir).join(id)).and_then(|m| m.modified()).ok()?;
    i64::try_from(noted.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Forgets a key that is revoked.
pub(crate) fn forget(data_dir: &Path, id: &str) {
    let _perhaps_never_used = fs::remove_file(dir(data_dir).join(id));
}

fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("control").join("access-used")
}

fn touch(path: &Path, hour: i64) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let at: SystemTime = UNIX_EPOCH + Duration::from_secs((hour * HOUR_SECONDS).max(0).unsigned_abs());
    File::options().create(true).truncate(false).write(true).open(path)?.set_modified(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_of_the_last_use_is_kept() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(last_used_unix_ms(data.path(), "key"), None);
        for hour in [490_000, 490_001] {
            touch(&dir(data.path()).join("key"), hour).unwrap();
            assert_eq!(last_used_unix_ms(data.path(), "key"), Some(hour * 3_600_000));
        }
        forget(data.path(), "key");
        forget(data.path(), "key");
        assert_eq!(last_used_unix_ms(data.path(), "key"), None);
    }

    #[tokio::test]
    async fn a_key_is_noted_once_an_hour() {
        let data = tempfile::tempdir().unwrap();
        let used = Used::new(data.path());
        let noted = || used.hours.read().get("key").copied();
        used.note("key", 3_600_000_000_000 - 1);
        assert_eq!(noted(), Some(0));
        used.note("key", 3_600_000_000_000);
        assert_eq!(noted(), Some(1));
        // What is written goes on beside, and comes to be seen.
        let began = std::time::Instant::now();
        while last_used_unix_ms(data.path(), "key").is_none() {
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::task::yield_now().await;
        }
    }
}
