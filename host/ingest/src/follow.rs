//! What tenants decided, as it was a moment ago: a change counts within a second in every process.
//!
//! What is known is believed for [`FRESH_NANOS`], looked up beside the work for a little longer, and after that waited for. Not
//! here: what is looked at (`chains`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prism_model::TenantId;
use tokio::task::JoinError;

use crate::clocks::Clock;

/// How long what is known is believed to be the latest.
const FRESH_NANOS: i64 = 400_000_000;

/// How long it is used while a look for news runs beside the work. With the time of a look, a change counts within a second.
const USABLE_NANOS: i64 = 800_000_000;

/// Looks for what a tenant decided: whose, now, and what was known before. Blocks on the disk.
type Look<T> = Box<dyn Fn(&TenantId, i64, Option<T>) -> T + Send + Sync>;

/// One kind of decision of all tenants that this process works for.
pub(crate) struct Followed<T> {
    clock: Clock,
    look: Look<T>,
    tenants: Mutex<HashMap<TenantId, Arc<Place<T>>>>,
}

/// That of one tenant.
struct Place<T> {
    /// With when the look began that found it.
    known: Mutex<Option<(i64, T)>>,
    /// Held while somebody looks for news, so that others wait for the answer instead of looking too.
    looking: tokio::sync::Mutex<()>,
    looking_beside: AtomicBool,
}

impl<T> Default for Place<T> {
    fn default() -> Place<T> {
        Place { known: Mutex::default(), looking: tokio::sync::Mutex::default(), looking_beside: AtomicBool::default() }
    }
}

impl<T: Clone + Send + 'static> Followed<T> {
    pub(crate) fn new(
        clock: Clock,
        look: impl Fn(&TenantId, i64, Option<T>) -> T + Send + Sync + 'static,
    ) -> Arc<Followed<T>> {
        Arc::new(Followed { clock, look: Box::new(look), tenants: Mutex::default() })
    }

    /// What the tenant decided, a second ago at most.
    ///
    /// # Errors
    /// The look panicked.
    pub(crate) async fn latest(self: &Arc<Self>, tenant: &TenantId) -> Result<T, JoinError> {
        let place = self.tenants.lock().entry(tenant.clone()).or_default().clone();
        if let Some((known, age)) = self.known(&place) {
            if age < FRESH_NANOS {
                return Ok(known);
            }
            if age < USABLE_NANOS {
                self.look_beside(tenant, &place);
                return Ok(known);
            }
        }
        self.look(tenant, &place).await
    }

    /// What is known, and its age. A clock that was set back makes everything unknown rather than young.
    fn known(&self, place: &Place<T>) -> Option<(T, i64)> {
        let (seen_at, known) = place.known.lock().clone()?;
        let age = (self.clock)().checked_sub(seen_at).filter(|age| *age >= 0)?;
        Some((known, age))
    }

    fn look_beside(self: &Arc<Self>, tenant: &TenantId, place: &Arc<Place<T>>) {
        if place.looking_beside.swap(true, Ordering::AcqRel) {
            return;
        }
        let (followed, tenant, place) = (self.clone(), tenant.clone(), place.clone());
        tokio::spawn(async move {
            // The next use tells its error.
            let _ = followed.look(&tenant, &place).await;
            place.looking_beside.store(false, Ordering::Release);
        });
    }

    async fn look(self: &Arc<Self>, tenant: &TenantId, place: &Arc<Place<T>>) -> Result<T, JoinError> {
        let _looking = place.looking.lock().await;
        if let Some((known, age)) = self.known(place)
            && age < FRESH_NANOS
        {
            return Ok(known);
        }
        let before = place.known.lock().clone().map(|(_, known)| known);
        let (followed, tenant) = (self.clone(), tenant.clone());
        let seen_at = (self.clock)();
        let found = tokio::task::spawn_blocking(move || (followed.look)(&tenant, seen_at, before)).await?;
        *place.known.lock() = Some((seen_at, found.clone()));
        Ok(found)
    }
}
