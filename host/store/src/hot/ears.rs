//! What this process stored, told to whoever listens: a listener need not look at the disk for it, and knows without a sync of its
//! own that it is durable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};
use tokio::sync::watch;

use crate::place::{SegmentName, Token};

/// Whoever listens, by tenant and signal. Costs a commit nothing where nobody does.
#[derive(Default)]
pub(crate) struct Ears {
    open: AtomicUsize,
    of: Mutex<HashMap<(TenantId, Signal), Ear>>,
}

struct Ear {
    listeners: usize,
    /// The last acknowledged frame of each segment.
    acknowledged: HashMap<SegmentName, u32>,
    bell: watch::Sender<u64>,
}

impl Ears {
    /// A listener more. The number changes with everything that is stored from now on.
    pub(crate) fn open(&self, tenant: &TenantId, signal: Signal) -> watch::Receiver<u64> {
        let mut of = self.of.lock();
        self.open.fetch_add(1, Relaxed);
        let fresh = || Ear { listeners: 0, acknowledged: HashMap::new(), bell: watch::channel(0).0 };
        let ear = of.entry((tenant.clone(), signal)).or_insert_with(fresh);
        ear.listeners += 1;
        ear.bell.subscribe()
    }

    /// A listener less.
    pub(crate) fn close(&self, tenant: &TenantId, signal: Signal) {
        let mut of = self.of.lock();
        let key = (tenant.clone(), signal);
        if let Some(ear) = of.get_mut(&key) {
            self.open.fetch_sub(1, Relaxed);
            ear.listeners -= 1;
            if ear.listeners == 0 {
                of.remove(&key);
            }
        }
    }

    /// A group was acknowledged.
    pub(crate) fn stored(&self, tenant: &TenantId, token: &Token) {
        if self.open.load(Relaxed) == 0 {
            return;
        }
        if let Some(ear) = self.of.lock().get_mut(&(tenant.clone(), token.signal)) {
            for (name, frame) in &token.frames {
                let last = ear.acknowledged.entry(*name).or_default();
                *last = (*last).max(*frame);
            }
            ear.bell.send_modify(|number| *number += 1);
        }
    }

    /// The last frame of each segment that is known to be acknowledged. Those of `done` segments are forgotten.
    pub(crate) fn acknowledged(
        &self,
        tenant: &TenantId,
        signal: Signal,
        done: impl Fn(&SegmentName) -> bool,
    ) -> HashMap<SegmentName, u32> {
        let mut of = self.of.lock();
        let Some(ear) = of.get_mut(&(tenant.clone(), signal)) else { return HashMap::new() };
        ear.acknowledged.retain(|name, _| !done(name));
        ear.acknowledged.clone()
    }
}
