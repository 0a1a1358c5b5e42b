//! What processes that died left half written among the objects goes, when it has not changed for so long that nobody writes it.
//!
//! Age is what this process has seen of it, by its own monotonic clock: no file's time is asked, since clocks of nodes differ.
//! Not here: files of the Delta table that no commit names (`cold/expire`), uploads in parts to a bucket (which ends them by a
//! lifecycle rule of its own).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crate::objects::Objects;

/// The largest object takes minutes to write. A writer that stood still for longer finds its file gone, and begins again.
const SAFE: Duration = Duration::from_secs(3_600);

/// What was seen, its length, and since when it has that.
#[derive(Debug, Default)]
pub(super) struct Leftovers(HashMap<String, (u64, Duration)>);

impl Leftovers {
    /// Looks at them, and removes those that did not change for an hour; gives how many, and their bytes. `now` is the time since
    /// any fixed moment, by a clock that never goes back.
    pub(super) fn sweep(&mut self, objects: &dyn Objects, now: Duration) -> io::Result<(usize, u64)> {
        let listed = objects.leftovers()?;
        self.0.retain(|name, _| listed.iter().any(|left| left.name == *name));
        let (mut removed, mut bytes) = (0, 0);
        for left in listed {
            let seen = self.0.entry(left.name.clone()).or_insert((left.bytes, now));
            if seen.0 != left.bytes {
                *seen = (left.bytes, now);
            } else if now.saturating_sub(seen.1) >= SAFE {
                objects.remove_leftover(&left.name)?;
                (removed, bytes) = (removed + 1, bytes + left.bytes);
            }
        }
        Ok((removed, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::RealDisk;
    use crate::objects::LocalObjects;

    #[test]
    fn what_nobody_writes_any_more_goes_and_what_grows_stays() {
        let root = tempfile::tempdir().unwrap();
        let objects = LocalObjects::new(Arc::new(RealDisk), root.path(), 7);
        let mut grows = objects.upload("a/grows").unwrap();
        let mut died = objects.upload("a/died").unwrap();
        died.write(b"half").unwrap();
        std::mem::forget(died);
        let (mut left, at) = (Leftovers::default(), |minutes: u64| Duration::from_secs(60 * minutes));
        let mut swept = Vec::new();
        for minutes in [0, 30, 59, 60, 90, 119] {
            grows.write(b"more").unwrap();
            swept.push(left.sweep(&objects, at(minutes)).unwrap());
        }
        assert_eq!(swept, [(0, 0), (0, 0), (0, 0), (1, 4), (0, 0), (0, 0)]);
        assert_eq!(objects.leftovers().unwrap().iter().map(|l| l.bytes).collect::<Vec<_>>(), [24]);
        // It stood still, and is told so.
        assert_eq!(left.sweep(&objects, at(179)).unwrap(), (1, 24));
        assert!(grows.finish().is_err() && objects.get("a/grows").is_err());
        assert!(objects.remove_leftover("../a").is_err() && objects.leftovers().unwrap().is_empty());
    }
}
