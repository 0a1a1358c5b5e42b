//! Looks for new frames of a tenant's signal, for all of its tails: at once where this process stored some, else a few times a second.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prism_model::Classify as _;
use prism_store::{Listener, News, StoreError};
use tokio::sync::watch;

use super::Counts;
use super::ring::{Event, Found, Ring};
use crate::app::now_unix_nanos;
use crate::error::Failure;

/// Between two looks at what other processes store: a tail shows it within this time, and a look costs tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same where no other process writes: a look lists one folder.
const LOOK_ALONE: Duration = Duration::from_millis(250);
/// Between two looks at the least: commits of a busy tenant come in dozens a second.
const LOOK_GAP: Duration = Duration::from_millis(20);
/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Looks may fail for so long before tails are told to come back later.
const FAILING_MAX: Duration = Duration::from_secs(30);

/// A tenant's signal that is followed.
pub(super) struct Followed {
    /// Held while one looks.
    pub(super) listener: Mutex<Listener>,
    pub(super) ring: Mutex<Ring>,
    /// Rings when there is something new, and when following has ended.
    bell: watch::Sender<u64>,
    fault: Mutex<Option<Failure>>,
    counts: Arc<Counts>,
}

impl Followed {
    /// Begins to follow; ends when nobody holds it any more.
    pub(super) fn begin(listener: Listener, frames_max: usize, counts: Arc<Counts>) -> Arc<Followed> {
        counts.following.fetch_add(1, Relaxed);
        let stored = listener.bell();
        let followed = Arc::new(Followed {
            listener: Mutex::new(listener),
            ring: Mutex::new(Ring::new(frames_max.max(1))),
            bell: watch::channel(0).0,
            fault: Mutex::default(),
            counts,
        });
        tokio::spawn(follow(Arc::downgrade(&followed), stored));
        followed
    }

    /// Rings when there is something new.
    pub(super) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Why it is not followed any more.
    pub(super) fn fault(&self) -> Option<Failure> {
        self.fault.lock().clone()
    }

    /// Looks once, as `listener` of this one; gives how many segments cannot be read yet. Blocks on the disk.
    pub(super) fn look(&self, listener: &mut Listener) -> Result<usize, StoreError> {
        self.counts.looks.fetch_add(1, Relaxed);
        let news = listener.look()?;
        let unread = news.unread;
        self.tell(news);
        Ok(unread)
    }

    /// Puts what was found where tails find it.
    fn tell(&self, news: News) {
        let now = Instant::now();
        let mut ring = self.ring.lock();
        ring.age(now);
        if news.frames.is_empty() && news.gap_since.is_none() {
            return;
        }
        if let Some(since) = news.gap_since {
            ring.push(Event::Gap(since, now_unix_nanos()), now);
        }
        news.frames.into_iter().for_each(|placed| ring.push(Event::Frame(Found::new(placed)), now));
        drop(ring);
        self.bell.send_modify(|number| *number += 1);
    }

    fn end(&self, failure: Failure) {
        *self.fault.lock() = Some(failure);
        self.bell.send_modify(|number| *number += 1);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.counts.following.fetch_sub(1, Relaxed);
    }
}

async fn follow(followed: Weak<Followed>, mut stored: watch::Receiver<u64>) {
    let mut wait = LOOK_EVERY;
    let mut failing: Option<Instant> = None;
    loop {
        let began = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            rung = stored.changed(), if failing.is_none() => {
                if rung.is_err() {
                    return;
                }
                let since = began.elapsed();
                if since < LOOK_GAP {
                    tokio::time::sleep(LOOK_GAP - since).await;
                }
            }
        }
        let Some(this) = followed.upgrade() else { return };
        let looked = tokio::task::spawn_blocking(move || {
            let mut listener = this.listener.lock();
            let looked = this.look(&mut listener).map(|_| listener.is_alone());
            drop(listener);
            looked
        });
        match looked.await {
            Ok(Ok(alone)) => {
                failing = None;
                wait = if alone { LOOK_ALONE } else { LOOK_EVERY };
            }
            Ok(Err(error)) => {
                let since = *failing.get_or_insert_with(Instant::now);
                let passing = matches!(error.kind(), prism_model::Kind::Retry | prism_model::Kind::Wait);
                tracing::warn!(%error, "new rows cannot be looked for");
                if !passing || since.elapsed() >= FAILING_MAX {
                    followed.upgrade().iter().for_each(|this| this.end(Failure::of(&error)));
                    return;
                }
                wait = LOOK_AGAIN;
            }
            Err(panic) => {
                let inner = panic.to_string();
                let failure = Failure::new(crate::error::Code::Bug, "looking for new rows failed").inner(inner);
                followed.upgrade().iter().for_each(|this| this.end(failure.clone()));
                return;
            }
        }
    }
}
