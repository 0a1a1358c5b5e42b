//! How much of the node one tenant may have at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prism_model::TenantId;

/// Between two looks at whether somebody still waits.
const LOOK: Duration = Duration::from_millis(20);

/// So many of something for each tenant at once.
pub(crate) struct Slots {
    max: u32,
    taken: Mutex<HashMap<TenantId, u32>>,
    freed: Condvar,
}

impl Slots {
    pub(crate) fn new(max: u32) -> Arc<Slots> {
        Arc::new(Slots { max, taken: Mutex::default(), freed: Condvar::new() })
    }

    /// One, if there is one left.
    pub(crate) fn take(self: &Arc<Self>, tenant: &TenantId) -> Option<Slot> {
        self.wait(tenant, &|| true)
    }

    /// One, as soon as there is one; `None` once nobody waits any more.
    pub(crate) fn wait(self: &Arc<Self>, tenant: &TenantId, over: &dyn Fn() -> bool) -> Option<Slot> {
        let mut taken = self.taken.lock();
        loop {
            let count = taken.entry(tenant.clone()).or_default();
            if *count < self.max {
                *count += 1;
                return Some(Slot { of: self.clone(), tenant: tenant.clone() });
            }
            if over() {
                return None;
            }
            let _timed_out = self.freed.wait_for(&mut taken, LOOK);
        }
    }
}

/// A tenant's right to one of them; given back on drop.
pub(crate) struct Slot {
    of: Arc<Slots>,
    tenant: TenantId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock();
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
        self.of.freed.notify_all();
    }
}
