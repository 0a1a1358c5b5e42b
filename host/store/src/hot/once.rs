//! Batches that are to be written only where nobody else did: asked once for each group, just before it is written.

use prism_model::{BatchId, Signal, TenantId};

use crate::error::StoreError;
use crate::hot::commit::Item;

/// Who knows which batches are stored.
pub trait Once: Send + Sync {
    /// Which of these batches are stored already, by whomever. Called on a thread that may block, with the ids of a group that
    /// is about to be written.
    fn stored(&self, tenant: &TenantId, signal: Signal, batches: &[BatchId]) -> Vec<bool>;
}

/// Answers the items that are stored already, and gives the others.
pub(crate) fn unstored(tenant: &TenantId, signal: Signal, items: Vec<Item>) -> Vec<Item> {
    let Some(once) = items.iter().find_map(|item| item.once.clone()) else { return items };
    let ids: Vec<BatchId> =
        items.iter().filter_map(|item| Some(item.batch.batch().origins.first()?.batch_id)).collect();
    if ids.len() != items.len() {
        return items;
    }
    let stored = once.stored(tenant, signal, &ids);
    let mut left = Vec::with_capacity(items.len());
    for (i, item) in items.into_iter().enumerate() {
        if item.once.is_some() && stored.get(i).copied().unwrap_or(false) {
            // A client that has gone does not want its answer.
            drop(item.reply.send(Err(StoreError::Stored)));
        } else {
            left.push(item);
        }
    }
    left
}
