//! How many tails there are at once, over all tenants and of each.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::TenantId;

use crate::error::{Code, Failure};

/// Seconds after which a client may ask again: tails are long.
const RETRY_AFTER_S: u32 = 10;

/// The places.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    tenant_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<TenantId, usize>,
    refused: u64,
}

/// The right to a tail; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    tenant: TenantId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.all -= 1;
        if let Some(of) = taken.of.get_mut(&self.tenant) {
            *of -= 1;
            if *of == 0 {
                taken.of.remove(&self.tenant);
            }
        }
    }
}

impl Seats {
    pub(super) fn new(max: usize, tenant_max: usize) -> Arc<Seats> {
        Arc::new(Seats { max, tenant_max, taken: Mutex::default() })
    }

    /// A place.
    ///
    /// # Errors
    /// [`Code::Busy`] where there is none.
    pub(super) fn take(self: &Arc<Seats>, tenant: &TenantId) -> Result<Seat, Failure> {
        let mut taken = self.taken.lock();
        let own = taken.of.get(tenant).copied().unwrap_or(0);
        let full = match () {
            () if own >= self.tenant_max => Some(("this tenant has", self.tenant_max, "tail.tenant_concurrent_max")),
            () if taken.all >= self.max => Some(("this server has", self.max, "tail.concurrent_max")),
            () => None,
        };
        if let Some((who, max, setting)) = full {
            taken.refused += 1;
            let failure = Failure::new(Code::Busy, format!("{who} {max} live tails already (`{setting}`)"));
            return Err(Failure { retry_after_s: RETRY_AFTER_S, ..failure }.hint("end another one, or ask again later"));
        }
        taken.all += 1;
        *taken.of.entry(tenant.clone()).or_default() += 1;
        drop(taken);
        Ok(Seat { seats: self.clone(), tenant: tenant.clone() })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.lock().all
    }

    /// How many were refused.
    pub(super) fn refused(&self) -> u64 {
        self.taken.lock().refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_tenant_and_given_back() {
        let seats = Seats::new(3, 2);
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = seats.take(&a).unwrap();
        let _second = seats.take(&a).unwrap();
        let refused = seats.take(&a).unwrap_err();
        assert!(refused.code == Code::Busy && refused.message.contains("tail.tenant_concurrent_max"), "{refused:?}");
        let third = seats.take(&b).unwrap();
        assert!(seats.take(&b).unwrap_err().message.contains("tail.concurrent_max"));
        drop(first);
        assert!(seats.take(&b).is_ok());
        drop(third);
        assert_eq!((seats.taken(), seats.refused(), seats.taken.lock().of.len()), (1, 2, 1));
    }
}
