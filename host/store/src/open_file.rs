//! The file that a thread keeps open while it goes through the frames of a query: they mostly lie one behind the other.
//!
//! Kept no longer than that: a file that is open cannot be removed from NFS by its own node, and its room is not given back.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::disk::File;
use crate::error::StoreError;
use crate::framed::Source;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { wanted: 0, last: None }) };
}

struct Kept {
    /// Guards of this thread that live.
    wanted: usize,
    last: Option<(Arc<dyn Source>, Arc<dyn File>)>,
}

/// While it lives, the file that this thread read a frame from last stays open.
#[derive(Debug)]
pub struct KeepsOpen(PhantomData<*const ()>);

impl KeepsOpen {
    /// Begins, for this thread.
    pub fn here() -> KeepsOpen {
        KEPT.with_borrow_mut(|kept| kept.wanted += 1);
        KeepsOpen(PhantomData)
    }
}

impl Drop for KeepsOpen {
    fn drop(&mut self) {
        // Closed behind the borrow.
        let _closed = KEPT.with_borrow_mut(|kept| {
            kept.wanted -= 1;
            if kept.wanted == 0 { kept.last.take() } else { None }
        });
    }
}

/// What frames of a source are read from.
pub(crate) fn open(source: &Arc<dyn Source>) -> Result<Arc<dyn File>, StoreError> {
    let known = KEPT.with_borrow(|kept| {
        let (last, file) = kept.last.as_ref()?;
        Arc::ptr_eq(last, source).then(|| file.clone())
    });
    if let Some(file) = known {
        return Ok(file);
    }
    let file = source.open()?;
    let _closed =
        KEPT.with_borrow_mut(
            |kept| {
                if kept.wanted == 0 { None } else { kept.last.replace((source.clone(), file.clone())) }
            },
        );
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::disk::{Disk as _, RealDisk};
    use crate::unit::Tier;

    struct Counted(tempfile::TempDir, AtomicUsize);

    impl Source for Counted {
        fn open(&self) -> Result<Arc<dyn File>, StoreError> {
            self.1.fetch_add(1, Relaxed);
            RealDisk.open(&self.0.path().join("file")).map_err(|e| StoreError::read("read a frame", e))
        }
        fn identity(&self) -> u64 {
            0
        }
        fn name(&self) -> String {
            String::new()
        }
        fn tier(&self) -> Tier {
            Tier::Hot
        }
    }

    #[test]
    fn the_last_file_stays_open_as_long_as_somebody_wants_it() {
        let one = || -> Arc<Counted> {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("file"), b"bytes").unwrap();
            Arc::new(Counted(dir, AtomicUsize::new(0)))
        };
        let (a, b) = (one(), one());
        let sources: [Arc<dyn Source>; 2] = [a.clone(), b.clone()];
        let opened = || [a.1.load(Relaxed), b.1.load(Relaxed)];
        let open = |n: usize| open(&sources[n]).map(drop).unwrap();
        (0..2).for_each(|_| open(0));
        assert_eq!(opened(), [2, 0]);
        let outer = KeepsOpen::here();
        {
            let _inner = KeepsOpen::here();
            (0..3).for_each(|_| open(0));
            assert_eq!(opened(), [3, 0]);
            (0..3).for_each(|_| open(1));
            open(0);
            assert_eq!(opened(), [4, 1]);
        }
        open(0);
        // Not on other threads.
        std::thread::scope(|scope| {
            scope.spawn(|| open(0));
        });
        drop(outer);
        assert_eq!(Arc::strong_count(&a), 2, "nothing is kept");
        open(0);
        assert_eq!(opened(), [6, 1]);
    }
}
