//! The traces whose spans are looked for, once they are known: sets of ids by the parts of their hashes.

use super::spread::{Hashing, KEPT_PARTS, LEFT_PARTS, Parts};

/// The traces that may match, by the parts in which they were found.
pub(crate) struct Wanted {
    parts: Parts,
    of: Vec<Set>,
}

/// Bytes that the id of a trace takes in a [`Set`], at most: twice as many slots as ids, up to the next power of two.
pub(super) const ID_BYTES_MAX: usize = 4 * size_of::<[u64; 2]>();

/// Trace ids, looked up by hash.
#[derive(Default)]
struct Set {
    /// As many as a power of two; zeros stand for none.
    slots: Vec<[u64; 2]>,
}

impl Set {
    /// For so many ids.
    fn slots(ids: usize) -> usize {
        if ids == 0 { 0 } else { (ids * 2).next_power_of_two() }
    }

    fn bytes_of(ids: usize) -> usize {
        Set::slots(ids) * size_of::<[u64; 2]>()
    }

    fn of(ids: &[[u64; 2]], hashing: &Hashing) -> Set {
        if ids.is_empty() {
            return Set::default();
        }
        let mut slots = vec![[0; 2]; Set::slots(ids.len())];
        let mask = slots.len() - 1;
        for id in ids {
            let mut slot = hashing.of(*id) as usize & mask;
            while slots[slot] != [0; 2] && slots[slot] != *id {
                slot = (slot + 1) & mask;
            }
            slots[slot] = *id;
        }
        Set { slots }
    }

    fn has(&self, id: [u64; 2], hash: u64) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while self.slots[slot] != [0; 2] {
            if self.slots[slot] == id {
                return true;
            }
            slot = (slot + 1) & mask;
        }
        false
    }
}

impl Wanted {
    /// Of each part the traces that may match; those of a smaller share where they would take more than so many bytes.
    pub(crate) fn of(mut parts: Parts, mut ids: Vec<Vec<[u64; 2]>>, bytes_max: usize, hashing: &Hashing) -> Wanted {
        loop {
            let bytes: usize = ids.iter().map(|ids| Set::bytes_of(ids.len())).sum();
            let some = ids.iter().map(Vec::len).sum::<usize>() / LEFT_PARTS * KEPT_PARTS;
            let hashes = ids.iter().flatten().map(|id| hashing.of(*id));
            let first = if bytes > bytes_max { parts.share.first(some, hashes) } else { None };
            let Some(first) = first else { break };
            parts = parts.narrowed(first);
            let mut rest = vec![Vec::new(); parts.len()];
            for id in ids.into_iter().flatten() {
                let hash = hashing.of(id);
                if first.contains(hash) {
                    rest[parts.part(hash)].push(id);
                }
            }
            ids = rest;
        }
        Wanted { parts, of: ids.iter().map(|ids| Set::of(ids, hashing)).collect() }
    }

    /// How they are cut.
    pub(crate) fn parts(&self) -> Parts {
        self.parts
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &[u64; 2]> {
        self.of.iter().flat_map(|set| &set.slots).filter(|id| **id != [0; 2])
    }

    pub(crate) fn len(&self) -> usize {
        self.ids().count()
    }

    pub(crate) fn has(&self, id: [u64; 2], hashing: &Hashing) -> bool {
        self.has_hashed(id, hashing.of(id))
    }

    /// The same of an id whose hash is known.
    pub(crate) fn has_hashed(&self, id: [u64; 2], hash: u64) -> bool {
        self.parts.share.contains(hash) && self.of[self.parts.part(hash)].has(id, hash)
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.of.iter().map(|set| set.slots.capacity() * 16).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::spread::Share;
    use super::*;

    #[test]
    fn wanted_traces_are_of_a_share_that_fits() {
        let hashing = Hashing::default();
        let parts = Parts::of(Share::ALL, 20_000);
        let mut ids = vec![Vec::new(); parts.len()];
        let all: Vec<[u64; 2]> = (1..=1_000).map(|n| [n, n]).collect();
        all.iter().for_each(|id| ids[parts.part(hashing.of(*id))].push(*id));
        let whole = Wanted::of(parts, ids.clone(), 1 << 20, &hashing);
        assert_eq!((whole.parts(), whole.len()), (parts, 1_000));
        let some = Wanted::of(parts, ids.clone(), 4 << 10, &hashing);
        assert!(some.bytes() <= 4 << 10 && some.len() > 20, "{} of {} bytes", some.len(), some.bytes());
        for id in &all {
            let in_share = some.parts().share.contains(hashing.of(*id));
            assert_eq!((whole.has(*id, &hashing), some.has(*id, &hashing)), (true, in_share));
        }
        assert!(Wanted::of(parts, ids, 0, &hashing).len() <= 1, "one trace is always looked at");
    }
}
