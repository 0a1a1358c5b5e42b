//! How many requests may be under way, and how many of them at once may cost processor time and memory.
//!
//! ```text
//! enter (counted per tenant and node, refused where full) -> a turn and a worker -> room for the columns -> leave
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::{IngestMetrics, add, subtract};

/// Bounds of what is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) tenant_requests: usize,
    pub(crate) tenant_bytes: usize,
    pub(crate) node_requests: usize,
    pub(crate) node_bytes: usize,
    /// Requests of one tenant that are worked on at once.
    pub(crate) tenant_turns: usize,
}

/// Which bound a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Its tenant's.
    Tenant,
    /// The node's.
    Node,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

impl Load {
    fn with(self, bytes: usize) -> Load {
        Load { requests: self.requests + 1, bytes: self.bytes + bytes }
    }

    fn without(self, bytes: usize) -> Load {
        Load { requests: self.requests - 1, bytes: self.bytes - bytes }
    }

    /// Whether one more of these bytes fits. One alone always does, so that no limit makes a request impossible.
    fn fits(self, bytes: usize, requests_max: usize, bytes_max: usize) -> bool {
        self.requests == 0 || (self.requests < requests_max && self.bytes.saturating_add(bytes) <= bytes_max)
    }
}

/// The requests under way.
pub(crate) struct Queue {
    bounds: Bounds,
    loads: Mutex<Loads>,
    metrics: Arc<IngestMetrics>,
}

#[derive(Default)]
struct Loads {
    node: Load,
    /// Tenants that have something under way, with the turns that they may take.
    tenants: HashMap<TenantId, (Load, Arc<Semaphore>)>,
}

/// A request's place among those under way; given back when dropped.
pub(crate) struct Place {
    queue: Arc<Queue>,
    tenant: TenantId,
    bytes: usize,
    turns: Arc<Semaphore>,
}

impl Queue {
    pub(crate) fn new(bounds: Bounds, metrics: Arc<IngestMetrics>) -> Arc<Queue> {
        Arc::new(Queue { bounds, loads: Mutex::default(), metrics })
    }

    /// Takes a place for a body of these bytes.
    pub(crate) fn enter(self: &Arc<Self>, tenant: &TenantId, bytes: usize) -> Result<Place, Full> {
        let bounds = &self.bounds;
        let mut loads = self.loads.lock();
        let entry = loads.tenants.get(tenant).cloned();
        let (of_tenant, turns) =
            entry.unwrap_or_else(|| (Load::default(), Arc::new(Semaphore::new(bounds.tenant_turns))));
        if !of_tenant.fits(bytes, bounds.tenant_requests, bounds.tenant_bytes) {
            add(&self.metrics.refused_tenant_full, 1);
            return Err(Full::Tenant);
        }
        if !loads.node.fits(bytes, bounds.node_requests, bounds.node_bytes) {
            add(&self.metrics.refused_node_full, 1);
            return Err(Full::Node);
        }
        loads.node = loads.node.with(bytes);
        loads.tenants.insert(tenant.clone(), (of_tenant.with(bytes), turns.clone()));
        drop(loads);
        add(&self.metrics.queued_requests, 1);
        add(&self.metrics.queued_bytes, bytes as u64);
        Ok(Place { queue: self.clone(), tenant: tenant.clone(), bytes, turns })
    }
}

impl Place {
    /// Waits for one of the tenant's turns. `None` only if the semaphore were closed, which it is not.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().acquire_owned().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut loads = self.queue.loads.lock();
        loads.node = loads.node.without(self.bytes);
        let left = loads.tenants.get_mut(&self.tenant).map(|(load, _)| {
            *load = load.without(self.bytes);
            load.requests
        });
        if left == Some(0) {
            loads.tenants.remove(&self.tenant);
        }
        drop(loads);
        subtract(&self.queue.metrics.queued_requests, 1);
        subtract(&self.queue.metrics.queued_bytes, self.bytes as u64);
    }
}

/// Memory that columns may take between decoding and disk, counted in KiB because a semaphore counts to 32 bits.
pub(crate) struct Room {
    kib: Arc<Semaphore>,
    kib_max: u32,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Room {
        let kib_max = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1);
        let permits = (kib_max as usize).min(Semaphore::MAX_PERMITS);
        Room { kib: Arc::new(Semaphore::new(permits)), kib_max }
    }

    /// Waits for room. What is larger than all of it gets all of it. `None` only if the semaphore were closed, which it is not.
    pub(crate) async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.kib_max);
        self.kib.clone().acquire_many_owned(kib).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn a_full_tenant_leaves_room_for_others_until_the_node_is_full() {
        let bounds =
            Bounds { tenant_requests: 3, tenant_bytes: 100, node_requests: 5, node_bytes: 250, tenant_turns: 2 };
        let metrics = Arc::new(IngestMetrics::default());
        let queue = Queue::new(bounds, metrics.clone());
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let places: Vec<Place> = (0..3).map(|_| queue.enter(&a, 10).unwrap_or_else(|_| panic!())).collect();
        assert_eq!(queue.enter(&a, 1).err(), Some(Full::Tenant), "by requests");
        let large = queue.enter(&b, 90).unwrap_or_else(|_| panic!());
        assert_eq!(queue.enter(&b, 11).err(), Some(Full::Tenant), "by bytes");
        assert_eq!(queue.enter(&c, 131).err(), Some(Full::Node), "by bytes");
        let last = queue.enter(&c, 1).unwrap_or_else(|_| panic!());
        assert_eq!(queue.enter(&b, 1).err(), Some(Full::Node), "by requests");
        assert_eq!((metrics.queued_requests.load(Relaxed), metrics.queued_bytes.load(Relaxed)), (5, 121));
        drop((places, large, last));
        assert_eq!((metrics.queued_requests.load(Relaxed), metrics.queued_bytes.load(Relaxed)), (0, 0));
        assert!(queue.loads.lock().tenants.is_empty());
        assert!(queue.enter(&a, 1_000).is_ok(), "one alone is never impossible");
    }
    #[tokio::test]
    async fn pl_3_a_tenant_whose_work_never_ends_takes_no_turns_of_others() {
        let bounds =
            Bounds { tenant_requests: 9, tenant_bytes: 99, node_requests: 99, node_bytes: 999, tenant_turns: 2 };
        let queue = Queue::new(bounds, Arc::default());
        let enter = |name| queue.enter(&tenant(name), 1).unwrap_or_else(|_| panic!());
        let (first, second, third, other) = (enter("a"), enter("a"), enter("a"), enter("b"));
        let (_turn, ended) = (first.turn().await, second.turn().await);
        assert!(other.turn().await.is_some());
        assert_eq!(third.turns.available_permits(), 0);
        drop(ended);
        assert!(third.turn().await.is_some());
    }
}
