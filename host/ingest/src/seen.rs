//! Requests that were stored lately or are under way: what makes the second copy of a request a duplicate instead of more rows.
//!
//! ```text
//! recall (frames of the window, once) -> begin: first | under way (wait for its end) | stored (a duplicate)
//!                                          first -> look (what others wrote since) -> stored, or dropped: then it never was
//! ```
//!
//! Known are the requests of this process, and those in the frames that any process had written when this one first met the
//! tenant: what a client sends again after a crash between fdatasync and acknowledgement is among them. Just before a group is
//! made visible, what others wrote since is looked at, and what they claim at this moment, so that a request that was
//! acknowledged anywhere is known everywhere, and of two copies that are under way in two processes one gives way. Rows are
//! never compared: a request is the same or it is not.
//!
//! How long ago something was is told by the steady clock (`clocks`): a wall clock that jumps makes nothing forgotten.
//!
//! A body is named by 128 bits of xxh3, which keep accidents away (for a thousand million requests: 1 in 10^21) but not
//! intent. The index is each tenant's own, so who makes two bodies collide loses the second of its own.

mod kept;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::{BatchId, Signal, TenantId};
use prism_store::{Followed, Known, Once, Store, Token};
use tokio::sync::{OnceCell, watch};

use crate::clocks::{Clocks, Now};
use crate::metrics::{IngestMetrics, add};
use kept::Kept;
pub(crate) use kept::{Outcome, Stored};

/// How often tenants that have gone quiet are looked through.
const SWEEP_NANOS: i64 = 60_000_000_000;

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The hash of the key within tenant and signal, or of the body.
    pub(crate) id: BatchId,
    /// A hash of the body.
    pub(crate) body: u64,
    /// Whether `id` is of the key.
    pub(crate) by_key: bool,
}

/// Bounds of what is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenBounds {
    /// Nanoseconds for which a request is remembered; 0 for not at all.
    pub(crate) window: i64,
    /// Requests of one tenant and signal.
    pub(crate) tenant_entries: usize,
    /// Requests of all.
    pub(crate) entries: usize,
}

/// The index.
pub(crate) struct Seen {
    bounds: SeenBounds,
    lanes: Mutex<Lanes>,
    metrics: Arc<IngestMetrics>,
}

#[derive(Default)]
struct Lanes {
    of: HashMap<(TenantId, Signal), Lane>,
    /// Requests remembered in all of them.
    entries: usize,
    swept_at: i64,
}

#[derive(Default)]
struct Lane {
    kept: Kept,
    /// Requests that are being stored; who waits for one is woken when its sender is gone.
    under_way: HashMap<BatchId, watch::Receiver<()>>,
    others: Arc<Others>,
}

/// How far the frames of a lane were looked at.
#[derive(Default)]
struct Others {
    recalled: OnceCell<()>,
    followed: Mutex<Followed>,
}

/// What is asked while a group is claimed.
pub(crate) struct Elsewhere {
    pub(crate) seen: Arc<Seen>,
    pub(crate) store: Arc<Store>,
    pub(crate) clocks: Clocks,
}

impl Once for Elsewhere {
    fn known(&self, tenant: &TenantId, signal: Signal, batches: &[BatchId]) -> Vec<Known> {
        let (lane, now) = ((tenant.clone(), signal), self.clocks.now());
        // Where others cannot be looked at the group is written: it would be worse to take nothing. It is counted.
        let under_way = self.seen.look(&self.store, &lane, now, batches).unwrap_or_default();
        let mut lanes = self.seen.lanes.lock();
        let kept = &lanes.lane(&lane).kept;
        let known = |id: &BatchId| match kept.find(id, now.steady, self.seen.bounds.window) {
            Some(_) => Known::Stored,
            None if under_way.contains(id) => Known::UnderWay,
            None => Known::Nothing,
        };
        batches.iter().map(known).collect()
    }
}

/// What is known of a request that wants to begin.
pub(crate) enum Begun {
    /// Nothing: it is the first, until this is dropped.
    First(First),
    /// The same is being stored now: [`UnderWay::ended`], then begin again.
    UnderWay(UnderWay),
    /// The same was stored.
    Stored(Stored),
}

/// The right to store a request. Dropped, the request never was: one that failed may be tried again.
pub(crate) struct First {
    seen: Arc<Seen>,
    lane: (TenantId, Signal),
    identity: Identity,
    at: i64,
    /// Wakes those that wait, by its end.
    _ended: watch::Sender<()>,
}

/// Another copy of a request, which is being stored.
pub(crate) struct UnderWay(watch::Receiver<()>);

impl UnderWay {
    /// Waits for its end, good or bad.
    pub(crate) async fn ended(mut self) {
        // Nothing is ever sent: the only news is that the sender is gone.
        while self.0.changed().await.is_ok() {}
    }
}

impl Seen {
    pub(crate) fn new(bounds: SeenBounds, metrics: Arc<IngestMetrics>) -> Arc<Seen> {
        Arc::new(Seen { bounds, lanes: Mutex::default(), metrics })
    }

    /// Whether anything is remembered at all.
    pub(crate) fn is_on(&self) -> bool {
        self.bounds.window > 0
    }

    /// Reads once what the frames of the window tell, also those of other processes and of one that crashed. Where they cannot
    /// be read the request goes on (it would be worse to take nothing), which is counted; the next one tries again.
    pub(crate) async fn recall(self: &Arc<Self>, store: &Arc<Store>, tenant: &TenantId, signal: Signal, now: Now) {
        let others = {
            let mut lanes = self.lanes.lock();
            self.sweep(&mut lanes, now.steady);
            lanes.lane(&(tenant.clone(), signal)).others.clone()
        };
        if others.recalled.initialized() {
            return;
        }
        let read = others.recalled.get_or_try_init(|| async {
            let (seen, store, lane) = (self.clone(), store.clone(), (tenant.clone(), signal));
            let look = move || seen.look(&store, &lane, now, &[]).map(drop);
            tokio::task::spawn_blocking(look).await.unwrap_or(Err(()))
        });
        let _counted_and_logged = read.await;
    }

    /// Learns what the frames of a lane tell since the look before. Gives those of `asked_for` that others are about to store, or
    /// may take back.
    fn look(
        &self,
        store: &Store,
        lane: &(TenantId, Signal),
        now: Now,
        asked_for: &[BatchId],
    ) -> Result<Vec<BatchId>, ()> {
        let others = self.lanes.lock().lane(lane).others.clone();
        // One look at a time: the next one goes on where it ended.
        let mut followed = others.followed.lock();
        let mut found: HashMap<BatchId, (i64, Token)> = HashMap::new();
        // By what clocks told that have jumped since, or jump back again.
        let since = now.wall.min(now.steady).saturating_sub(self.bounds.window);
        let visit = &mut |stored: prism_store::Stored| {
            let received = now.steadied(stored.origin.received_unix_nanos);
            let known = found.entry(stored.origin.batch_id).or_insert_with(|| (received, stored.token));
            known.0 = received.max(known.0);
        };
        let asked_for = |id: &BatchId| asked_for.contains(id);
        let read = store.follow(&lane.0, lane.1, since, &asked_for, &mut followed, visit);
        let lost = read.as_ref().map_or(1, |others| others.unread as u64);
        add(&self.metrics.duplicate_window_unread, lost);
        let others = read.map_err(|error| {
            tracing::warn!(tenant = %lane.0, signal = lane.1.as_str(), %error, "stored requests cannot be recalled");
        })?;
        let mut found: Vec<(i64, BatchId, Token)> =
            found.into_iter().map(|(id, (at, token))| (at, id, token)).collect();
        found.sort_unstable_by_key(|(at, id, _)| (*at, *id));
        let mut lanes = self.lanes.lock();
        for (at, id, token) in found {
            // One that this process has stored itself, where an earlier look failed, tells more.
            if lanes.lane(lane).kept.find(&id, now.steady, self.bounds.window).is_none() {
                let outcome = Outcome { token: token.to_string().into(), ..Outcome::default() };
                self.keep(&mut lanes, lane, id, Stored { at, body: None, outcome: Arc::new(outcome) });
            }
        }
        Ok(others.under_way)
    }

    /// What is known of a request at a time of the steady clock. Whoever gets [`Begun::First`] has to store it.
    pub(crate) fn begin(self: &Arc<Self>, tenant: &TenantId, signal: Signal, identity: Identity, now: i64) -> Begun {
        let key = (tenant.clone(), signal);
        let mut lanes = self.lanes.lock();
        let lane = lanes.lane(&key);
        let expired = lane.kept.expire(now, self.bounds.window);
        if let Some(stored) = lane.kept.find(&identity.id, now, self.bounds.window) {
            let stored = stored.clone();
            lanes.entries -= expired;
            return Begun::Stored(stored);
        }
        let begun = if let Some(under_way) = lane.under_way.get(&identity.id) {
            Begun::UnderWay(UnderWay(under_way.clone()))
        } else {
            let (ended, end) = watch::channel(());
            lane.under_way.insert(identity.id, end);
            Begun::First(First { seen: self.clone(), lane: key, identity, at: now, _ended: ended })
        };
        lanes.entries -= expired;
        begun
    }

    /// Remembers a request, and forgets older ones where there are too many: the lane's own, or those of the largest lane.
    fn keep(&self, lanes: &mut Lanes, key: &(TenantId, Signal), id: BatchId, stored: Stored) {
        let lane = lanes.lane(key);
        let before = lane.kept.len();
        lane.kept.insert(id, stored);
        let own = lane.kept.len();
        lanes.entries += own - before;
        if own > self.bounds.tenant_entries {
            self.evict(lanes, key);
        }
        while lanes.entries > self.bounds.entries {
            let largest = lanes.of.iter().max_by_key(|(_, lane)| lane.kept.len()).map(|(key, _)| key.clone());
            let Some(largest) = largest else { break };
            self.evict(lanes, &largest);
        }
        self.metrics.duplicate_window_entries.store(lanes.entries as u64, std::sync::atomic::Ordering::Relaxed);
    }

    fn evict(&self, lanes: &mut Lanes, key: &(TenantId, Signal)) {
        if lanes.lane(key).kept.evict() {
            lanes.entries -= 1;
            add(&self.metrics.duplicate_window_evicted, 1);
        }
    }

    /// Forgets what is out of the window of tenants that send nothing any more, and the tenants.
    fn sweep(&self, lanes: &mut Lanes, now: i64) {
        if (0..SWEEP_NANOS).contains(&now.saturating_sub(lanes.swept_at)) {
            return;
        }
        lanes.swept_at = now;
        let mut expired = 0;
        lanes.of.retain(|_, lane| {
            expired += lane.kept.expire(now, self.bounds.window);
            // One that is being recalled is in use though it is empty.
            lane.kept.len() + lane.under_way.len() > 0 || Arc::strong_count(&lane.others) > 1
        });
        lanes.entries -= expired;
        self.metrics.duplicate_window_entries.store(lanes.entries as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Lanes {
    fn lane(&mut self, key: &(TenantId, Signal)) -> &mut Lane {
        self.of.entry(key.clone()).or_default()
    }
}

impl First {
    /// Of which request.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The request is durable: from now on the same is a duplicate.
    pub(crate) fn stored(self, outcome: Outcome) {
        let stored = Stored { at: self.at, body: Some(self.identity.body), outcome: Arc::new(outcome) };
        self.seen.keep(&mut self.seen.lanes.lock(), &self.lane, self.identity.id, stored);
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.seen.lanes.lock().lane(&self.lane).under_way.remove(&self.identity.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    const MINUTE: i64 = 60_000_000_000;

    fn seen(tenant_entries: usize, entries: usize) -> Arc<Seen> {
        Seen::new(SeenBounds { window: 30 * MINUTE, tenant_entries, entries }, Arc::default())
    }

    fn identity(n: u8) -> Identity {
        Identity { id: [n; 16], body: n.into(), by_key: false }
    }

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn store(seen: &Arc<Seen>, name: &str, n: u8, now: i64) -> bool {
        match seen.begin(&tenant(name), Signal::Logs, identity(n), now) {
            Begun::First(first) => {
                first.stored(Outcome { rejected: Some(n.into()), ..Outcome::default() });
                true
            }
            Begun::Stored(_) => false,
            Begun::UnderWay(_) => panic!("nothing is under way"),
        }
    }

    #[test]
    fn a_request_is_a_duplicate_for_its_tenant_and_signal_until_the_window_ends() {
        let seen = seen(9, 9);
        assert!(store(&seen, "a", 1, 0));
        assert!(!store(&seen, "a", 1, 29 * MINUTE));
        assert!(store(&seen, "b", 1, 0), "another tenant's");
        assert!(matches!(seen.begin(&tenant("a"), Signal::Spans, identity(1), 0), Begun::First(_)), "another signal");
        let Begun::Stored(stored) = seen.begin(&tenant("a"), Signal::Logs, identity(1), 1) else { panic!() };
        assert_eq!((stored.at, stored.body, stored.outcome.rejected), (0, Some(1), Some(1)));
        assert!(store(&seen, "a", 1, 30 * MINUTE), "a duplicate does not lengthen the window");
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_early_is_counted() {
        let seen = seen(3, 4);
        for n in 0..5 {
            assert!(store(&seen, "a", n, 0));
        }
        assert!(!store(&seen, "a", 2, 0) && store(&seen, "a", 1, 0), "the oldest are forgotten");
        assert_eq!(seen.metrics.duplicate_window_evicted.load(Relaxed), 3);
        for n in 0..2 {
            assert!(store(&seen, "b", n, 0));
        }
        assert_eq!(seen.metrics.duplicate_window_entries.load(Relaxed), 4);
        assert!(!store(&seen, "b", 0, 0), "the largest gives way, not who comes later");
        seen.sweep(&mut seen.lanes.lock(), 31 * MINUTE);
        assert_eq!(seen.metrics.duplicate_window_entries.load(Relaxed), 0);
        assert!(seen.lanes.lock().of.is_empty(), "nothing is kept of tenants that are gone");
    }

    #[tokio::test]
    async fn who_comes_while_the_first_is_under_way_waits_and_is_tried_itself_where_it_fails() {
        let seen = seen(9, 9);
        let begin = || seen.begin(&tenant("a"), Signal::Logs, identity(1), 0);
        let Begun::First(first) = begin() else { panic!() };
        let (Begun::UnderWay(second), Begun::UnderWay(third)) = (begin(), begin()) else { panic!() };
        drop(first);
        second.ended().await;
        let Begun::First(second) = begin() else { panic!("a failed one is not remembered") };
        third.ended().await;
        let Begun::UnderWay(third) = begin() else { panic!() };
        second.stored(Outcome::default());
        third.ended().await;
        assert!(matches!(begin(), Begun::Stored(_)));
    }
}
