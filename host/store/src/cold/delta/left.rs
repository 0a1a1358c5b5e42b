//! Frames of blocks that the table covers and whose rows it does not have: they were damaged when the rest of their block came.
//!
//! They are told by transactions, which come with the same commit as the rows beside them and stand in checkpoints:
//! `prism-left-<shard>-<block>-<n>` has a version whose bits are the frames from 32 n on. Other engines carry them on.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Txn;

/// Before shard, block and group of frames in the id of an application.
const LEFT_APP: &str = "prism-left-";
/// Frames that one version tells of: a bit each.
const FRAMES: u32 = 32;

/// Numbers of frames that are left, by shard and number of their block.
pub type Left = BTreeMap<(u32, u64), BTreeSet<u32>>;

/// Frames of a block that a commit leaves out of the table, or brings to it after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftStep {
    /// The block's shard.
    pub shard: u32,
    /// Its number.
    pub seq: u64,
    /// Those that are left before: the commit stands on just these.
    pub before: BTreeSet<u32>,
    /// Those that are left after it.
    pub after: BTreeSet<u32>,
}

/// What a log says of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Frames that are left; none where all were settled.
    pub(crate) frames: BTreeSet<u32>,
    /// When that was last changed, unix milliseconds.
    pub(crate) at: i64,
}

fn app(shard: u32, seq: u64, group: u32) -> String {
    format!("{LEFT_APP}{shard}-{seq}-{group}")
}

/// Shard, block and group of an id; `None` where another application made it.
fn parse(id: &str) -> Option<(u32, u64, u32)> {
    let mut parts = id.strip_prefix(LEFT_APP)?.split('-');
    let found = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (app(found.0, found.1, found.2) == id).then_some(found)
}

/// Whether a transaction tells of frames of which none is left any more.
pub(crate) fn is_settled(txn: &Txn) -> bool {
    txn.version == 0 && parse(&txn.app_id).is_some()
}

/// What transactions say of blocks, also of those of which nothing is left any more.
pub(crate) fn told(txns: &BTreeMap<String, Txn>) -> BTreeMap<(u32, u64), Told> {
    let mut told: BTreeMap<(u32, u64), Told> = BTreeMap::new();
    for (id, txn) in txns.range(LEFT_APP.to_owned()..).take_while(|(id, _)| id.starts_with(LEFT_APP)) {
        let Some((shard, seq, group)) = parse(id) else { continue };
        let of = told.entry((shard, seq)).or_default();
        let bits = (0..FRAMES).filter(|bit| txn.version >> bit & 1 == 1);
        of.frames.extend(bits.filter_map(|bit| group.checked_mul(FRAMES)?.checked_add(bit)));
        of.at = of.at.max(txn.last_updated.unwrap_or(i64::MAX));
    }
    told
}

/// The transactions of a step, as ids and versions.
pub(crate) fn txns(step: &LeftStep) -> Vec<(String, i64)> {
    let groups: BTreeSet<u32> = step.before.union(&step.after).map(|frame| frame / FRAMES).collect();
    let bits = |group: u32, of: &BTreeSet<u32>| {
        of.iter().filter(|frame| **frame / FRAMES == group).fold(0, |bits, frame| bits | 1i64 << (frame % FRAMES))
    };
    let changed = |group: &u32| bits(*group, &step.before) != bits(*group, &step.after);
    let txn = |group| (app(step.shard, step.seq, group), bits(group, &step.after));
    groups.into_iter().filter(changed).map(txn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_reads_back_through_steps_and_beside_others() {
        let mut known: BTreeMap<String, Txn> = BTreeMap::new();
        let mut put = |app_id: String, version, at| {
            known.insert(app_id.clone(), Txn { app_id, version, last_updated: Some(at) });
            told(&known)
        };
        for foreign in ["prism-shard-3", "prism-left-", "prism-left-1-2", "prism-left-01-2-0", "spark", "prism-left-x"]
        {
            assert!(put(foreign.to_owned(), 7, 1).is_empty(), "{foreign}");
        }
        let frames = |of: &[u32]| of.iter().copied().collect::<BTreeSet<u32>>();
        let steps = [(&[][..], &[0, 31, 32, 700][..]), (&[0, 31, 32, 700], &[31, 700]), (&[31, 700], &[])];
        for (at, (before, after)) in steps.into_iter().enumerate() {
            let step = LeftStep { shard: 4, seq: 9, before: frames(before), after: frames(after) };
            let txns = txns(&step);
            assert!(txns.len() <= 3);
            for (id, version) in txns {
                put(id, version, at as i64);
            }
            let told = put("prism-swept".into(), 1, 9);
            assert_eq!(told[&(4, 9)], Told { frames: frames(after), at: at as i64 });
        }
        assert_eq!(known.values().filter(|txn| is_settled(txn)).count(), 3);
    }
}
