//! Which attributes queries named since somebody last took note: kept in memory, a little of it, and taken by the background,
//! which writes it down with the table's schema, so that a column that is asked for keeps its place (`cold/schema/retire`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};

/// Attribute keys by whose they are.
pub type Used = BTreeMap<(TenantId, Signal), BTreeSet<Arc<str>>>;

/// Keys that are remembered, over all tenants: what comes beyond is remembered when these were taken, and asked for again.
const KEYS_MAX: usize = 16_384;

#[derive(Default)]
pub(super) struct Uses(Mutex<(Used, usize)>);

impl Uses {
    pub(super) fn note<'k>(&self, tenant: &TenantId, signal: Signal, keys: impl Iterator<Item = &'k Arc<str>>) {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return;
        }
        let (used, count) = &mut *self.0.lock();
        let known = used.entry((tenant.clone(), signal)).or_default();
        for key in keys {
            if *count < KEYS_MAX && !known.contains(key) {
                known.insert(key.clone());
                *count += 1;
            }
        }
    }

    pub(super) fn take(&self) -> Used {
        std::mem::take(&mut *self.0.lock()).0
    }
}
