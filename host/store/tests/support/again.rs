//! Batches that are sent again after an answer that was lost: who asks, while a group is claimed, what others have of it.
//!
//! As requests are recognised on the way in, without its index by time: what is known is what frames tell.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use prism_model::{BatchId, Signal, TenantId};
use prism_store::warm::Blocks;
use prism_store::{Followed, Known, Once, READ_GRACE, Store, StoreOptions, Stored};

use super::world::Node;

/// How far back it is looked for the same batch, in nanoseconds.
const WINDOW: i64 = 30 * 60_000_000_000;
/// Looks until it is written all the same.
const LOOKS: usize = 6;

/// A store, and what it knows of batches that are stored.
#[derive(Clone)]
pub struct Remembers {
    pub store: Arc<Store>,
    lanes: Vec<((TenantId, Signal), Arc<Seen>)>,
}

/// What is known of a tenant's signal.
struct Seen {
    store: Weak<Store>,
    node: Node,
    inner: Mutex<(Followed, BTreeSet<BatchId>)>,
}

impl Remembers {
    /// Opens a store that follows others.
    pub fn open(node: &Node, options: &StoreOptions, lanes: &[(TenantId, Signal)]) -> Remembers {
        let store = node.store(options);
        store.follow_blocks(Blocks::open(node.objects(), node.keys.clone()), READ_GRACE);
        let seen = || Seen { store: Arc::downgrade(&store), node: node.clone(), inner: Mutex::default() };
        let lanes = lanes.iter().map(|lane| (lane.clone(), Arc::new(seen()))).collect();
        Remembers { store, lanes }
    }

    /// Who is asked about a tenant's signal.
    pub fn once(&self, lane: &(TenantId, Signal)) -> Option<Arc<dyn Once>> {
        let (_, seen) = self.lanes.iter().find(|(of, _)| of == lane)?;
        Some(seen.clone())
    }
}

impl Once for Seen {
    fn known(&self, tenant: &TenantId, signal: Signal, batches: &[BatchId]) -> Vec<Known> {
        let mut inner = self.inner.lock();
        let (followed, known) = &mut *inner;
        let asked_for = |id: &BatchId| batches.contains(id);
        let since = self.node.now() - WINDOW;
        let looked = self.store.upgrade().and_then(|store| {
            (0..LOOKS).find_map(|_| {
                let visit = &mut |stored: Stored| known.extend([stored.origin.batch_id]);
                let looked = store.follow(tenant, signal, since, &asked_for, followed, visit);
                looked.ok().filter(|others| others.unread == 0)
            })
        });
        if looked.is_none() {
            for id in batches {
                let first = i64::try_from(u128::from_le_bytes(*id)).unwrap_or(0);
                self.node.world.model.may_be_twice(&(tenant.clone(), signal), first);
            }
        }
        let under_way = looked.unwrap_or_default().under_way;
        let what = |id: &BatchId| match known.contains(id) {
            true => Known::Stored,
            false if under_way.contains(id) => Known::UnderWay,
            false => Known::Nothing,
        };
        batches.iter().map(what).collect()
    }
}
