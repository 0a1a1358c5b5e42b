//! How many queries run at once, over all tenants and of each. What does not run waits, for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prism_model::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::QuerySettings;
use crate::error::{Code, Failure};

/// Queries of a tenant that wait, for each that may run: what comes after is refused at once.
const WAITING_FOR_EACH: usize = 8;

/// The seats.
#[derive(Debug)]
pub(crate) struct Seats {
    all: Arc<Semaphore>,
    tenants: Mutex<HashMap<TenantId, Own>>,
    tenant_max: usize,
    wait: Duration,
}

/// A tenant's seats, and how many of its queries run or wait.
#[derive(Debug)]
struct Own {
    seats: Arc<Semaphore>,
    here: usize,
}

/// The right to run a query; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _here: Here,
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Counts a query among its tenant's; the last one takes the tenant's entry with it.
#[derive(Debug)]
struct Here {
    seats: Arc<Seats>,
    tenant: TenantId,
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut tenants = self.seats.tenants.lock();
        if let Some(own) = tenants.get_mut(&self.tenant) {
            own.here -= 1;
            if own.here == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

impl Seats {
    /// Seats as configured.
    pub(crate) fn new(settings: &QuerySettings) -> Arc<Seats> {
        Arc::new(Seats {
            all: Arc::new(Semaphore::new(settings.concurrent_max)),
            tenants: Mutex::default(),
            tenant_max: settings.tenant_concurrent_max,
            wait: Duration::from_millis(settings.wait_max_ms),
        })
    }

    /// Waits for a seat.
    ///
    /// # Errors
    /// [`Code::Busy`] where none is free in time, or too many of the tenant's queries wait.
    pub(crate) async fn take(self: &Arc<Seats>, tenant: &TenantId) -> Result<Seat, Failure> {
        let busy = || {
            let message =
                "too many queries run (`query.concurrent_max`, `query.tenant_concurrent_max`): ask again later";
            Failure::new(Code::Busy, message)
        };
        let (seats, here) = self.enter(tenant).ok_or_else(busy)?;
        let wait = async {
            // The tenant's own seat first: who waits for it must not hold one of all.
            let own = seats.acquire_owned().await.ok()?;
            let all = self.all.clone().acquire_owned().await.ok()?;
            Some(Seat { _here: here, _own: own, _all: all })
        };
        tokio::time::timeout(self.wait, wait).await.ok().flatten().ok_or_else(busy)
    }

    fn enter(self: &Arc<Seats>, tenant: &TenantId) -> Option<(Arc<Semaphore>, Here)> {
        let mut tenants = self.tenants.lock();
        let fresh = || Own { seats: Arc::new(Semaphore::new(self.tenant_max)), here: 0 };
        let own = tenants.entry(tenant.clone()).or_insert_with(fresh);
        if own.here >= self.tenant_max * (1 + WAITING_FOR_EACH) {
            return None;
        }
        own.here += 1;
        Some((own.seats.clone(), Here { seats: self.clone(), tenant: tenant.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_tenant_does_not_keep_others_out() {
        let settings =
            QuerySettings { concurrent_max: 3, tenant_concurrent_max: 2, wait_max_ms: 0, ..QuerySettings::default() };
        let seats = Seats::new(&settings);
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = seats.take(&a).await.unwrap();
        let _second = seats.take(&a).await.unwrap();
        assert_eq!(seats.take(&a).await.unwrap_err().code, Code::Busy, "the tenant's are taken");
        let third = seats.take(&b).await.unwrap();
        assert_eq!(seats.take(&b).await.unwrap_err().code, Code::Busy, "all are taken");
        drop(first);
        assert!(seats.take(&b).await.is_ok());
        drop(third);
        assert_eq!(seats.tenants.lock().len(), 1, "nothing is kept of tenants without queries");
    }
}
