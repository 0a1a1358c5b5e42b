//! Which of several processes moves a tenant's data: each tenant has one among those that show that they live.
//!
//! ```text
//! hot/.movers/<id, 16 hex>.<beat>: an empty link; a mover makes the next beat and removes the one before
//! ```
//!
//! This spares work and nothing else: every step may be done by any number of processes at once. So a mover that is believed to
//! live for a little too long delays its tenants, and two that both believe to be the one lose some conditional creates.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prism_model::TenantId;

use crate::disk::Disk;

/// Folder of the beats, below the root. No tenant's name begins with a dot.
const MOVERS: &str = "hot/.movers";

/// One mover, and what it knows of the others.
pub(crate) struct Share {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: u64,
    beat: u64,
    /// A mover whose beat did not change for so long is gone.
    patience: Duration,
    others: BTreeMap<u64, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    beat: u64,
    since: Duration,
}

impl Share {
    /// A mover with an id of its own, which nobody knows of before its first beat.
    pub(crate) fn new(disk: Arc<dyn Disk>, root: &Path, id: u64, patience: Duration) -> Share {
        Share { disk, dir: root.join(MOVERS), id, beat: 0, patience, others: BTreeMap::new() }
    }

    /// Shows that this one lives, and looks at the others. `now` is the time since any fixed moment, by a clock that never goes
    /// back.
    pub(crate) fn beat(&mut self, now: Duration) -> io::Result<()> {
        // Nothing was written yet where the one above is missing.
        if let Some(above) = self.dir.parent() {
            let _there = self.disk.create_dir(above)?;
        }
        let _there = self.disk.create_dir(&self.dir)?;
        let next = self.beat + 1;
        match self.disk.symlink("beats", &self.path(self.id, next)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let mut listed: BTreeMap<u64, u64> = BTreeMap::new();
        for (id, beat) in self.disk.list(&self.dir)?.iter().filter_map(|name| parse(name)) {
            if id == self.id && beat != next {
                // What cannot be removed now is at the next beat.
                let _ = self.disk.remove(&self.path(id, beat));
            }
            let latest = listed.entry(id).or_default();
            *latest = beat.max(*latest);
        }
        self.beat = next;
        self.others.retain(|id, _| listed.contains_key(id));
        for (id, beat) in listed.into_iter().filter(|(id, _)| *id != self.id) {
            let seen = self.others.entry(id).or_insert(Seen { beat, since: now });
            if seen.beat != beat {
                *seen = Seen { beat, since: now };
            } else if now.saturating_sub(seen.since) > self.patience * 10 {
                let _ = self.disk.remove(&self.path(id, beat));
            }
        }
        Ok(())
    }

    /// Whether this one moves the data of a tenant.
    pub(crate) fn has(&self, tenant: &TenantId, now: Duration) -> bool {
        let weight = |id: u64| (xxhash_rust::xxh3::xxh3_64_with_seed(tenant.as_str().as_bytes(), id), id);
        let own = weight(self.id);
        let alive = self.others.iter().filter(|(_, seen)| now.saturating_sub(seen.since) <= self.patience);
        alive.map(|(id, _)| weight(*id)).all(|other| other < own)
    }

    /// This one does nothing any more.
    pub(crate) fn leave(&self) {
        // What stays is removed by others.
        let _ = self.disk.remove(&self.path(self.id, self.beat));
    }

    fn path(&self, id: u64, beat: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}.{beat}"))
    }
}

fn parse(name: &str) -> Option<(u64, u64)> {
    let (id, beat) = name.split_once('.')?;
    let (id, beat) = (u64::from_str_radix(id, 16).ok()?, beat.parse().ok()?);
    (format!("{id:016x}.{beat}") == name).then_some((id, beat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn each_tenant_has_one_mover_and_those_of_one_that_is_gone_go_to_others() {
        let root = tempfile::tempdir().unwrap();
        let patience = Duration::from_secs(10);
        let mut movers = [1, 2, 3].map(|id| Share::new(Arc::new(RealDisk), root.path(), id, patience));
        let tenants: Vec<TenantId> = (0..60).map(|n| format!("t{n}").parse().unwrap()).collect();
        let at = Duration::from_secs;
        for second in 0..2 {
            movers.iter_mut().for_each(|m| m.beat(at(second)).unwrap());
        }
        let of = |movers: &[Share], now| -> Vec<Vec<bool>> {
            tenants.iter().map(|t| movers.iter().map(|m| m.has(t, now)).collect()).collect()
        };
        let shares = of(&movers, at(2));
        assert!(shares.iter().all(|has| has.iter().filter(|has| **has).count() == 1), "{shares:?}");
        for mover in 0..3 {
            assert!(shares.iter().filter(|has| has[mover]).count() > 5, "a share of the work");
        }
        // The third stands still.
        for second in [8, 14, 20] {
            movers[..2].iter_mut().for_each(|m| m.beat(at(second)).unwrap());
        }
        let shares = of(&movers[..2], at(20));
        assert!(shares.iter().all(|has| has.iter().filter(|has| **has).count() == 1), "{shares:?}");
        movers[1].leave();
        movers[0].beat(at(21)).unwrap();
        assert!(tenants.iter().all(|t| movers[0].has(t, at(21))));
        for second in [30, 200] {
            movers[0].beat(at(second)).unwrap();
        }
        assert_eq!(std::fs::read_dir(root.path().join(MOVERS)).unwrap().count(), 1, "what is left behind goes");
    }
}
