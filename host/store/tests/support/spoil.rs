//! Blocks of which a byte changes where they lie, and that are mended from a copy that was kept elsewhere.

use std::time::Duration;

use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};
use prism_store::Tier;

use super::tiers::Step;
use super::try_numbers;
use super::world::{Node, ROOT};

/// Bytes of a block's header, which frames follow.
const HEADER: usize = 256;
/// Bytes of its tail, and where in that it stands from where on the footer is.
const TAIL: usize = 64;
const LISTED_AT: usize = 12;

impl Node {
    /// A byte among the frames of some block changes. What the frame says of itself may be all that changes, which nobody reads.
    pub fn spoils(&self, (tenant, signal): &(TenantId, Signal), random: &mut Random) {
        let folder = format!("warm/{tenant}/{}/", signal.as_str());
        let blocks = self.stored().into_iter().filter(|name| name.starts_with(&folder) && name.ends_with(".blk"));
        let whole: Vec<String> = blocks.filter(|name| !self.world.spoiled.lock().contains_key(name)).collect();
        if whole.is_empty() {
            return;
        }
        let name = &whole[random.below(whole.len())];
        let mut at = 0;
        self.edit(name, |bytes| {
            let good = bytes.clone();
            let listed = bytes.len() - TAIL + LISTED_AT;
            let listed = u64::from_le_bytes(bytes[listed..listed + 8].try_into().unwrap()) as usize;
            at = HEADER + random.below(listed - HEADER);
            bytes[at] ^= 1 << random.below(8);
            self.world.spoiled.lock().insert(name.clone(), good);
        });
        self.process.note(&format!("byte {at} of {name} changes"));
    }

    /// All blocks are as they were written, and so are the copies that are kept of them.
    pub fn mends(&self) {
        let spoiled = self.world.spoiled.lock().clone();
        let there = self.stored();
        for (name, good) in spoiled {
            let (shard, number) = name.strip_suffix(".blk").and_then(|name| name.rsplit_once('/')).unwrap();
            for place in [format!("{shard}/left/{number}"), name.clone()] {
                if there.contains(&place) {
                    self.edit(&place, |bytes| bytes.clone_from(&good));
                    self.process.note(&format!("{place} is mended"));
                }
            }
        }
    }

    /// While blocks are damaged no step fails, all other rows move on, and a snapshot names each damaged one once: mended, they
    /// are all there, in the snapshots that were taken before too.
    pub async fn keeps_what_is_damaged(&self) {
        let (tiers, mut random) = (self.tiers(), Random(self.world.seed));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        for lane in self.world.model.lanes() {
            self.must("sealing", tiers.takes(Step::Seal, &lane));
            self.spoils(&lane, &mut random);
        }
        for _ in 0..if self.world.varied.hours { 40 } else { 3 } {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            for lane in self.world.model.lanes() {
                for step in Step::ALL {
                    self.must(&format!("{step:?} beside what is damaged"), tiers.takes(step, &lane));
                }
            }
        }
        let reader = self.reader();
        let mut taken = Vec::new();
        for lane in self.world.model.lanes() {
            let snapshot = reader.snapshot(&lane.0, lane.1, TimeRange::ALL).unwrap();
            if let Some(told) = snapshot.unreadable.first() {
                self.world.turnstile.fail(&format!("only frames are damaged, and this cannot be read: {told:?}"));
            }
            let readable = |frame: &&prism_store::Frame| frame.read(&|_, _| true).is_ok();
            let warm = snapshot.frames.iter().filter(|frame| frame.tier() == Tier::Warm);
            if let Some(stays) = warm.clone().find(readable) {
                self.world.turnstile.fail(&format!("{stays:?} is not damaged, and stays warm"));
            }
            self.process.note(&format!("{} frames of {} are damaged", warm.count(), lane.0));
            taken.push((lane, snapshot));
        }
        self.mends();
        for ((tenant, signal), snapshot) in taken {
            let before = self.world.model.before(&tenant, signal, self.process.time());
            let found = try_numbers(&snapshot.frames).map_err(|e| e.to_string());
            if let Err(wrong) = found.and_then(|found| self.world.model.check(&before, &found, 0, true)) {
                self.world.turnstile.fail(&format!("mended: {wrong}"));
            }
        }
    }

    /// No copy of a block is left.
    pub fn has_no_copies_left(&self) {
        if let Some(left) = self.stored().into_iter().find(|name| name.contains("/left/")) {
            self.world.turnstile.fail(&format!("`{left}` is left although all rows moved on"));
        }
    }

    /// Names of all objects.
    fn stored(&self) -> Vec<String> {
        let folder = format!("{ROOT}/objects/");
        match &self.world.bucket {
            Some(bucket) => bucket.names(),
            None => {
                let names = self.world.disk.names().into_iter();
                names.filter_map(|name| name.strip_prefix(&folder).map(str::to_owned)).collect()
            }
        }
    }

    fn edit(&self, name: &str, with: impl FnOnce(&mut Vec<u8>)) {
        match &self.world.bucket {
            Some(bucket) => bucket.edit(name, with),
            None => self.world.disk.edit(&format!("{ROOT}/objects/{name}"), with),
        }
    }
}
