//! The newest directory, as this process knows it.
//!
//! A key counts when it is in a directory that was read within `auth.reload_ms`. A key that is not known is looked for in a
//! directory read anew, so that a key works from the moment at which it was printed; wrong keys cannot make that happen more
//! often than [`UNKNOWN_RELOAD`] allows. The end of a key is looked at by the clock at each use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prism_ingest::Clock;
use prism_store::control::Log;

use super::directory::{Directory, Holder, KeyRecord};
use super::key::{Key, KeyHash};
use super::used::Used;
use crate::error::{Code, Failure, chain};

/// Between two readings for unknown keys: 20 small reads a second at most.
const UNKNOWN_RELOAD: Duration = Duration::from_millis(50);
/// When the directory cannot be read for so long, nobody is let in: who was revoked meanwhile is not known.
const STALE_MAX: Duration = Duration::from_secs(30);

/// Answers whose a key is.
pub(crate) struct Access {
    log: Log,
    dev: bool,
    reload: Duration,
    clock: Clock,
    used: Used,
    known: parking_lot::RwLock<Known>,
    /// Held while one request reads; the others wait for it and find the new directory.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    number: Option<u64>,
    keys: Arc<HashMap<KeyHash, KeyRecord>>,
    /// When a reading last succeeded, and when one was last tried.
    read: Option<Instant>,
    tried: Option<Instant>,
}

impl Access {
    /// Over the control log of tenants and keys; nothing is read yet. The clock tells unix nanoseconds.
    pub(crate) fn new(log: Log, dev: bool, reload: Duration, clock: Clock, used: Used) -> Access {
        let known = Known { number: None, keys: Arc::default(), read: None, tried: None };
        Access { log, dev, reload, clock, used, known: known.into(), reading: tokio::sync::Mutex::default() }
    }

    /// Whether tenant `default` needs no key from this machine.
    pub(crate) fn dev(&self) -> bool {
        self.dev
    }

    /// Whose key it is; `None` where it is nobody's.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] where it has ended, [`Code::Unavailable`] where tenants and keys could not be read for
    /// [`STALE_MAX`].
    pub(crate) async fn holder(&self, key: &Key) -> Result<Option<Holder>, Failure> {
        let hash = key.hash();
        self.refresh(self.reload).await;
        let mut found = self.lookup(&hash)?;
        if found.is_none() {
            self.refresh(UNKNOWN_RELOAD.min(self.reload)).await;
            found = self.lookup(&hash)?;
        }
        Ok(found)
    }

    fn lookup(&self, hash: &KeyHash) -> Result<Option<Holder>, Failure> {
        let known = self.known.read();
        if known.read.is_none_or(|read| read.elapsed() > STALE_MAX.max(self.reload)) {
            return Err(Failure::new(
                Code::Unavailable,
                "keys cannot be checked at the moment: send the same again later",
            ));
        }
        let Some(record) = known.keys.get(hash) else { return Ok(None) };
        let now = (self.clock)();
        if record.ended(now / 1_000_000) {
            // Only who has the whole key is told.
            let ended = Failure::new(Code::Unauthenticated, "the key has expired");
            return Err(ended.hint("create another with `prism key create`"));
        }
        self.used.note(&record.id, now);
        Ok(Some(record.holder.clone()))
    }

    /// Reads the directory unless that was done within `age`.
    async fn refresh(&self, age: Duration) {
        let fresh = || self.known.read().tried.is_some_and(|tried| tried.elapsed() < age);
        if fresh() {
            return;
        }
        let _one_reads = self.reading.lock().await;
        if fresh() {
            return;
        }
        let began = Instant::now();
        let (log, number) = (self.log.clone(), self.known.read().number);
        let result = tokio::task::spawn_blocking(move || read_newer(&log, number)).await;
        let mut known = self.known.write();
        known.tried = Some(began);
        match result.map_err(|e| e.to_string()).and_then(|r| r) {
            Ok(newer) => {
                known.read = Some(began);
                if let Some((number, directory)) = newer {
                    known.number = Some(number);
                    known.keys = Arc::new(directory.by_hash());
                }
            }
            Err(error) => tracing::warn!(error, "tenants and keys could not be read"),
        }
    }
}

/// The directory and its number, where it is another than `number`.
fn read_newer(log: &Log, number: Option<u64>) -> Result<Option<(u64, Directory)>, String> {
    let latest = log.latest_number().map_err(|e| chain(&e))?;
    if latest.is_none() || latest == number {
        return Ok(None);
    }
    super::change::read(log).map(Some).map_err(|e| chain(&e))
}

#[cfg(test)]
mod tests {
    use super::super::change::{change, log};
    use super::*;

    fn key(seed: u8) -> Key {
        Key::generate(|bytes| {
            bytes.fill(seed);
            Ok::<(), ()>(())
        })
        .unwrap_or_else(|()| unreachable!())
    }

    #[tokio::test]
    async fn a_key_works_at_once_and_a_revoked_one_no_longer_after_the_reload() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path()).unwrap();
        // An hour: only a look for an unknown key reads again.
        let access = Access::new(log.clone(), false, Duration::from_secs(3_600), Arc::new(|| 0), Used::new(dir.path()));
        assert_eq!(access.holder(&key(1)).await.unwrap(), None);
        change(&log, |d| d.add_key(&key(1), Holder::Operator, None, 0)).unwrap();
        let began = Instant::now();
        while access.holder(&key(1)).await.unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "found within {UNKNOWN_RELOAD:?}");
        }
        change(&log, |d| d.revoke_key(key(1).id())).unwrap();
        assert_eq!(access.holder(&key(1)).await.unwrap(), Some(Holder::Operator), "known for the time of a reload");
        let access = Access { reload: Duration::ZERO, ..access };
        assert_eq!(access.holder(&key(1)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_key_ends_by_the_clock_and_not_by_a_reload() {
        use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path()).unwrap();
        change(&log, |d| d.add_key(&key(1), Holder::Operator, Some(2_000), 0)).unwrap();
        let now_ms = Arc::new(AtomicI64::new(1_999));
        let clock = now_ms.clone();
        let hour = Duration::from_secs(3_600);
        let access =
            Access::new(log, false, hour, Arc::new(move || clock.load(Relaxed) * 1_000_000), Used::new(dir.path()));
        assert_eq!(access.holder(&key(1)).await.unwrap(), Some(Holder::Operator));
        now_ms.store(2_000, Relaxed);
        let ended = access.holder(&key(1)).await.unwrap_err();
        assert_eq!((ended.code, ended.message.as_ref()), (Code::Unauthenticated, "the key has expired"));
        assert_eq!(access.holder(&key(2)).await.unwrap(), None, "of a key that nobody has no more is told");
    }

    #[tokio::test]
    async fn nobody_is_let_in_when_keys_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path()).unwrap();
        log.create(1, b"no directory").unwrap();
        let access = Access::new(log, false, Duration::ZERO, Arc::new(|| 0), Used::new(dir.path()));
        assert_eq!(access.holder(&key(1)).await.unwrap_err().code, Code::Unavailable);
    }
}
