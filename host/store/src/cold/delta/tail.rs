//! The files that came and went since the checkpoint: as much of each as plans need, in sorted runs that versions of the log share.
//!
//! A commit is a run; runs of about one size are merged. So the next version costs what its commit has and not what the tail has, a
//! path is found in a few searches, and totals are carried along. Whole actions are not kept: they stand in the commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::action::Remove;
use super::arrays::Entry;

/// What the commits after a checkpoint did to files. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    /// Oldest first, each less than half of the one before; the newest that has a path tells what became of it.
    runs: Vec<Arc<Run>>,
    /// What they changed.
    pub(crate) files: i64,
    pub(crate) rows: i64,
    pub(crate) bytes: i64,
}

/// By path, each once.
#[derive(Debug)]
struct Run {
    last: Vec<Last>,
    memory_bytes: usize,
}

/// What a file's last action in a run was.
#[derive(Clone, Debug)]
enum Last {
    Added(Arc<Entry>),
    Removed(Arc<Gone>),
}

/// A removed file.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) path: Box<str>,
    /// When, unix milliseconds.
    pub(crate) at: Option<i64>,
}

impl Last {
    fn path(&self) -> &str {
        match self {
            Last::Added(entry) => &entry.path,
            Last::Removed(gone) => &gone.path,
        }
    }

    fn memory_bytes(&self) -> usize {
        // Beside the value: its pointer here, and the counts of who shares it.
        let own = match self {
            Last::Added(entry) => entry.memory_bytes(),
            Last::Removed(gone) => size_of::<Gone>() + gone.path.len(),
        };
        size_of::<Last>() + 2 * size_of::<usize>() + own
    }
}

impl Run {
    fn of(last: Vec<Last>) -> Arc<Run> {
        let memory_bytes = last.iter().map(Last::memory_bytes).sum();
        Arc::new(Run { last, memory_bytes })
    }

    fn find(&self, path: &str) -> Option<&Last> {
        self.last.binary_search_by(|last| last.path().cmp(path)).ok().map(|at| &self.last[at])
    }

    /// Both as one; of a path that both have, what the newer says.
    fn merged(older: &Run, newer: &Run) -> Arc<Run> {
        let mut both = Vec::with_capacity(older.last.len() + newer.last.len());
        let mut rest = &older.last[..];
        for last in &newer.last {
            let before = rest.partition_point(|old| old.path() < last.path());
            both.extend_from_slice(&rest[..before]);
            let same = rest.get(before).is_some_and(|old| old.path() == last.path());
            rest = &rest[before + usize::from(same)..];
            both.push(last.clone());
        }
        both.extend_from_slice(rest);
        Run::of(both)
    }
}

impl Tail {
    /// Takes a commit in: removed files first, since one that is removed and added by the same commit stands.
    pub(crate) fn apply(&mut self, removes: &[Remove], adds: &[Arc<Entry>]) {
        let mut run: BTreeMap<&str, Last> = BTreeMap::new();
        for remove in removes {
            let before = run.get(&*remove.path).or_else(|| self.find(&remove.path));
            let (files, rows, bytes) = match before {
                Some(Last::Added(entry)) => sizes(entry),
                Some(Last::Removed(_)) => (0, 0, 0),
                // It came with the checkpoint.
                None => (1, signed(remove.rows()), signed(remove.size)),
            };
            (self.files, self.rows, self.bytes) = (self.files - files, self.rows - rows, self.bytes - bytes);
            let gone = Gone { path: remove.path.as_str().into(), at: remove.deletion_timestamp };
            run.insert(&remove.path, Last::Removed(Arc::new(gone)));
        }
        for entry in adds {
            let (files, rows, bytes) = sizes(entry);
            (self.files, self.rows, self.bytes) = (self.files + files, self.rows + rows, self.bytes + bytes);
            if let Some(Last::Added(before)) = run.get(&*entry.path).or_else(|| self.find(&entry.path)) {
                let (files, rows, bytes) = sizes(before);
                (self.files, self.rows, self.bytes) = (self.files - files, self.rows - rows, self.bytes - bytes);
            }
            run.insert(&entry.path, Last::Added(entry.clone()));
        }
        if run.is_empty() {
            return;
        }
        let mut run = Run::of(run.into_values().collect());
        while let Some(before) = self.runs.pop_if(|before| before.last.len() <= 2 * run.last.len()) {
            run = Run::merged(&before, &run);
        }
        self.runs.push(run);
    }

    fn find(&self, path: &str) -> Option<&Last> {
        self.runs.iter().rev().find_map(|run| run.find(path))
    }

    /// Whether it tells what became of a path: then the checkpoint does not.
    pub(crate) fn knows(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// Whether a file came and still stands.
    pub(crate) fn stands(&self, path: &str) -> bool {
        matches!(self.find(path), Some(Last::Added(_)))
    }

    fn last(&self) -> impl Iterator<Item = (usize, &Last)> {
        self.runs.iter().enumerate().flat_map(|(at, run)| run.last.iter().map(move |last| (at, last)))
    }

    fn newer(&self, at: usize, path: &str) -> bool {
        self.runs[at + 1..].iter().any(|run| run.find(path).is_some())
    }

    /// The files that came, still stand, and are wanted, in no order.
    pub(crate) fn added(&self, wanted: impl Fn(&Entry) -> bool) -> impl Iterator<Item = &Entry> {
        self.last().filter_map(move |(at, last)| match last {
            Last::Added(entry) if wanted(entry) && !self.newer(at, &entry.path) => Some(&**entry),
            _ => None,
        })
    }

    /// The files that went and did not come back, in no order.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &Gone> {
        self.last().filter_map(move |(at, last)| match last {
            Last::Removed(gone) if !self.newer(at, &gone.path) => Some(&**gone),
            _ => None,
        })
    }

    /// Files that it tells about, those of several runs in each.
    pub(crate) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.last.len()).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.memory_bytes).sum()
    }
}

/// One file, its rows and bytes.
fn sizes(entry: &Entry) -> (i64, i64, i64) {
    (1, signed(entry.known.rows), signed(Some(entry.bytes)))
}

fn signed(count: Option<u64>) -> i64 {
    i64::try_from(count.unwrap_or(0)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use prism_model::samples::Random;

    use super::super::action::{Add, Known};
    use super::*;

    fn add(n: usize, bytes: u64) -> Add {
        Add {
            path: format!("{n}"),
            partition_values: BTreeMap::new(),
            size: bytes,
            modification_time: 0,
            data_change: true,
            stats: None,
            tags: Some(Known::to_tags(bytes * 2, n as i64, n as i64)),
        }
    }

    fn remove(n: usize) -> Remove {
        Remove {
            path: format!("{n}"),
            deletion_timestamp: Some(n as i64),
            data_change: true,
            extended_file_metadata: None,
            partition_values: None,
            size: Some(1),
            tags: Some(Known::to_tags(2, 0, 0)),
        }
    }

    #[test]
    fn runs_tell_what_a_map_of_all_actions_tells_and_older_versions_stay() {
        for seed in 0..20 {
            let r = &mut Random(seed);
            let (mut tail, mut model) = (Tail::default(), BTreeMap::<String, Option<u64>>::new());
            let mut checkpointed = 0i64;
            for _ in 0..60 {
                let removes: Vec<Remove> = (0..r.below(4)).map(|_| remove(r.below(40))).collect();
                let mut adds: Vec<Add> = (0..r.below(6)).map(|_| add(r.below(40), r.number() % 1_000)).collect();
                // A commit names a file once.
                adds.sort_by(|a, b| a.path.cmp(&b.path));
                adds.dedup_by(|a, b| a.path == b.path);
                let before = tail.clone();
                let stood: Vec<String> = before.added(|_| true).map(|e| e.path.to_string()).collect();
                let entries: Vec<Arc<Entry>> = adds.iter().map(|add| Arc::new(Entry::of(add))).collect();
                tail.apply(&removes, &entries);
                for remove in &removes {
                    checkpointed -= i64::from(model.insert(remove.path.clone(), None).is_none());
                }
                model.extend(adds.iter().map(|add| (add.path.clone(), Some(add.size))));
                assert_eq!(stood, before.added(|_| true).map(|e| e.path.to_string()).collect::<Vec<_>>());
            }
            let mut added: Vec<(String, u64)> = tail.added(|_| true).map(|e| (e.path.to_string(), e.bytes)).collect();
            added.sort();
            let expected: Vec<_> = model.iter().filter_map(|(p, b)| Some((p.clone(), (*b)?))).collect();
            assert_eq!(added, expected, "seed {seed}");
            let mut removed: Vec<&str> = tail.removed().map(|gone| &*gone.path).collect();
            removed.sort_unstable();
            let gone: Vec<&str> = model.iter().filter(|(_, b)| b.is_none()).map(|(p, _)| &**p).collect();
            assert_eq!(removed, gone, "seed {seed}");
            let bytes: u64 = expected.iter().map(|(_, bytes)| bytes).sum();
            let told = (tail.files, tail.rows, tail.bytes);
            let bytes = bytes as i64;
            assert_eq!(told, (expected.len() as i64 + checkpointed, 2 * (bytes + checkpointed), bytes + checkpointed));
            for n in 0..41 {
                let path = format!("{n}");
                assert_eq!(tail.knows(&path), model.contains_key(&path));
                assert_eq!(tail.stands(&path), model.get(&path).is_some_and(Option::is_some));
            }
            assert!(tail.runs.len() <= 6 && tail.memory_bytes() > 0, "seed {seed}: {} runs", tail.runs.len());
        }
    }
}
