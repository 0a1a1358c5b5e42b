//! Batches that are to be written only where nobody else does: asked once for each group, when it is claimed.

use prism_model::{BatchId, Signal, TenantId};

use crate::error::StoreError;
use crate::hot::commit::Item;

/// Who knows which batches others have.
pub trait Once: Send + Sync {
    /// What others have of each of these batches. Called on a thread that may block, when the group that they are in is claimed
    /// and before anybody can see it. What others have must be looked for from then on ([`crate::Store::follow`]): what was
    /// found before tells of what is stored, not of what is not.
    fn known(&self, tenant: &TenantId, signal: Signal, batches: &[BatchId]) -> Vec<Known>;
}

/// What others have of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing that is known.
    Nothing,
    /// It is stored.
    Stored,
    /// Another writer is about to store it, or to give way.
    UnderWay,
}

/// Asks for the items that are to be written once; `None` where all of them may be.
pub(crate) fn known(tenant: &TenantId, signal: Signal, items: &[Item]) -> Option<Vec<Known>> {
    let once = items.iter().find_map(|item| item.once.as_ref())?;
    let ids =
        items.iter().map(|item| Some(item.batch.batch().origins.first()?.batch_id)).collect::<Option<Vec<_>>>()?;
    let mut known = once.known(tenant, signal, &ids);
    known.resize(items.len(), Known::Nothing);
    for (item, known) in items.iter().zip(&mut known) {
        if item.once.is_none() {
            *known = Known::Nothing;
        }
    }
    known.iter().any(|known| *known != Known::Nothing).then_some(known)
}

/// Answers the items that are stored, and gives those that are to be written and those that wait for others.
pub(crate) fn sort(items: Vec<Item>, known: Vec<Known>) -> (Vec<Item>, Vec<Item>) {
    let (mut left, mut waiting) = (Vec::new(), Vec::new());
    for (item, known) in items.into_iter().zip(known) {
        match known {
            Known::Nothing => left.push(item),
            Known::UnderWay => waiting.push(item),
            // A client that has gone does not want its answer.
            Known::Stored => drop(item.reply.send(Err(StoreError::Stored))),
        }
    }
    (left, waiting)
}
