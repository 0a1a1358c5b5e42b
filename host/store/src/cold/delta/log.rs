//! The log as it stands: the latest checkpoint and the commits after it, read once and then followed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::action::{self, Line, MetaData, Protocol, Txn, app_shard};
use super::checkpoint::{Checkpoint, Group};
use super::left::{self, Left, Told};
use super::news::{self, News};
use super::tail::Tail;
use crate::error::{Damage, StoreError};
use crate::objects::Objects;

/// The folder of the log in its table's.
const FOLDER: &str = "_delta_log";
/// A hint at the latest checkpoint, which saves listing from the beginning. Others trust it, so it is kept.
const HINT: &str = "_last_checkpoint";
/// Bytes of one commit: some 200,000 files with statistics.
const COMMIT_BYTES_MAX: u64 = 256 << 20;

/// The log of a table at a version.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) version: u64,
    pub(crate) checkpoint: Option<Arc<Checkpoint>>,
    pub(crate) protocol: Protocol,
    pub(crate) meta_data: MetaData,
    txns: BTreeMap<String, Txn>,
    /// What became of files after the checkpoint.
    pub(crate) tail: Tail,
}

/// What a table consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Rows, as far as they are known.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Names of the objects of a log.
pub(crate) struct Names<'a>(pub(crate) &'a str);

impl Names<'_> {
    pub(crate) fn folder(&self) -> String {
        format!("{}/{FOLDER}", self.0)
    }

    pub(crate) fn hint(&self) -> String {
        format!("{}/{FOLDER}/{HINT}", self.0)
    }

    pub(crate) fn commit(&self, version: u64) -> String {
        format!("{}/{FOLDER}/{version:020}.json", self.0)
    }

    pub(crate) fn checkpoint(&self, version: u64) -> String {
        format!("{}/{FOLDER}/{version:020}.checkpoint.parquet", self.0)
    }

    /// What comes just before all objects of a version.
    fn before(&self, version: u64) -> String {
        format!("{}/{FOLDER}/{version:020}", self.0)
    }
}

/// What lies in the folder of a log.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Versions of commits, ascending, and their bytes.
    pub(crate) commits: Vec<(u64, u64)>,
    /// Whole checkpoints by version, each with the objects that it consists of.
    pub(crate) checkpoints: BTreeMap<u64, Vec<String>>,
}

impl Listing {
    /// What lies in the folder from a version on.
    pub(crate) fn from(objects: &Arc<dyn Objects>, names: &Names<'_>, version: u64) -> Result<Listing, StoreError> {
        let after = if version == 0 { String::new() } else { names.before(version) };
        let listed = objects.list(&names.folder(), &after).map_err(|e| StoreError::io("listed a Delta log", e))?;
        let mut listing = Listing::default();
        // A checkpoint in parts is whole when all parts are there: by version and their number, the parts in order.
        let mut parts: BTreeMap<(u64, u32), Vec<String>> = BTreeMap::new();
        for object in listed {
            let Some((_, file)) = object.name.rsplit_once('/') else { continue };
            let Some((digits, rest)) = file.split_once('.') else { continue };
            let Some(version) = version_of(digits) else { continue };
            match rest.split('.').collect::<Vec<_>>()[..] {
                ["json"] => listing.commits.push((version, object.bytes)),
                ["checkpoint", "parquet"] => {
                    listing.checkpoints.insert(version, vec![object.name]);
                }
                ["checkpoint", part, of, "parquet"] if part.len() == 10 && of.len() == 10 => {
                    if let Ok(of) = of.parse() {
                        parts.entry((version, of)).or_default().push(object.name);
                    }
                }
                _ => {}
            }
        }
        for ((version, of), names) in parts {
            if names.len() == of as usize {
                listing.checkpoints.entry(version).or_insert(names);
            }
        }
        Ok(listing)
    }
}

fn version_of(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// The version that the hint names; anything odd is no hint.
fn hinted(objects: &Arc<dyn Objects>, names: &Names<'_>) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Hint {
        version: u64,
    }
    let bytes = objects.get(&names.hint()).ok()?;
    serde_json::from_slice::<Hint>(&bytes).ok().map(|hint| hint.version)
}

impl Log {
    /// The log as it stands now; `None` where there is no table. `known` is what an earlier call gave.
    ///
    /// # Errors
    /// `Retry` where the disk fails, or where others made it what is not read here; `Bug` where it is damaged.
    pub(crate) fn read(
        objects: &Arc<dyn Objects>,
        names: &Names<'_>,
        known: Option<Arc<Log>>,
    ) -> Result<Option<Arc<Log>>, StoreError> {
        match Log::try_read(objects, names, known) {
            // What was listed was cleaned up since: a newer checkpoint stands in its place.
            Err(StoreError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Log::try_read(objects, names, None)
            }
            done => done,
        }
    }

    fn try_read(
        objects: &Arc<dyn Objects>,
        names: &Names<'_>,
        known: Option<Arc<Log>>,
    ) -> Result<Option<Arc<Log>>, StoreError> {
        let from = match &known {
            Some(log) => log.checkpoint.as_ref().map_or(0, |c| c.version),
            None => hinted(objects, names).unwrap_or(0),
        };
        let mut listing = Listing::from(objects, names, from)?;
        let based = |listing: &Listing| listing.checkpoints.keys().next_back().copied();
        if from > 0 && based(&listing).is_none() {
            listing = Listing::from(objects, names, 0)?;
        }
        let base = based(&listing);
        let known = known.filter(|log| log.checkpoint.as_ref().map(|c| c.version) == base);
        let mut log = match (known, base) {
            (Some(log), _) if listing.commits.last().is_none_or(|(last, _)| *last <= log.version) => {
                return Ok(Some(log));
            }
            (Some(log), _) => Some(Log::clone(&log)),
            (None, Some(version)) => Some(Log::begin(objects, version, &listing.checkpoints[&version])?),
            (None, None) => None,
        };
        let next = log.as_ref().map_or(0, |log| log.version + 1);
        let newer = &listing.commits[listing.commits.partition_point(|(version, _)| *version < next)..];
        if let Some((expected, (found, _))) = (next..).zip(newer).find(|(next, (version, _))| next != version) {
            return Err(StoreError::Table(format!("expected commit {expected} of its log, found {found}")));
        }
        news::read(objects, names, newer, &mut |version, news| {
            match &mut log {
                Some(log) => log.apply(version, news)?,
                None => log = Some(Log::first(news)?),
            }
            Ok(())
        })?;
        Ok(log.map(Arc::new))
    }

    fn begin(objects: &Arc<dyn Objects>, version: u64, parts: &[String]) -> Result<Log, StoreError> {
        let (checkpoint, front) = Checkpoint::open(objects, version, parts)?;
        let (Some(protocol), Some(meta_data)) = (front.protocol, front.meta_data) else {
            return Err(Damage::Short("a checkpoint's protocol or schema").into());
        };
        protocol.check_read()?;
        let txns = front.txns.into_iter().map(|txn| (txn.app_id.clone(), txn)).collect();
        let checkpoint = Some(Arc::new(checkpoint));
        Ok(Log { version, checkpoint, protocol, meta_data, txns, tail: Tail::default() })
    }

    /// The log of a table's first commit.
    pub(crate) fn first(mut news: News) -> Result<Log, StoreError> {
        let protocol = news.front.iter_mut().find_map(|line| line.protocol.take());
        let meta_data = news.front.iter_mut().find_map(|line| line.meta_data.take());
        let (Some(protocol), Some(meta_data)) = (protocol, meta_data) else {
            return Err(StoreError::Table("expected protocol and schema in its first commit".into()));
        };
        protocol.check_read()?;
        let (txns, tail) = (BTreeMap::new(), Tail::default());
        let mut log = Log { version: 0, checkpoint: None, protocol, meta_data, txns, tail };
        log.apply(0, news)?;
        Ok(log)
    }

    /// Takes a commit in.
    pub(crate) fn apply(&mut self, version: u64, news: News) -> Result<(), StoreError> {
        for line in news.front {
            if let Some(protocol) = line.protocol {
                protocol.check_read()?;
                self.protocol = protocol;
            }
            if let Some(meta_data) = line.meta_data {
                self.meta_data = meta_data;
            }
            if let Some(txn) = line.txn {
                self.txns.insert(txn.app_id.clone(), txn);
            }
        }
        self.tail.apply(&news.removes, &news.adds);
        self.version = version;
        Ok(())
    }

    /// The transactions that a checkpoint keeps: those that tell of nothing any more since before `forget` (unix milliseconds)
    /// are not among them.
    pub(crate) fn txns(&self, forget: i64) -> Vec<Txn> {
        let over = |txn: &Txn| left::is_settled(txn) && txn.last_updated.is_some_and(|at| at < forget);
        self.txns.values().filter(|txn| !over(txn)).cloned().collect()
    }

    /// Frames of covered blocks whose rows the table does not have.
    pub(crate) fn left(&self) -> Left {
        let some = self.left_told().into_iter().filter(|(_, told)| !told.frames.is_empty());
        some.map(|(block, told)| (block, told.frames)).collect()
    }

    /// The same, with when that was committed, and with blocks of which nothing is left any more.
    pub(crate) fn left_told(&self) -> BTreeMap<(u32, u64), Told> {
        left::told(&self.txns)
    }

    pub(crate) fn txn(&self, app: &str) -> Option<i64> {
        self.txns.get(app).map(|txn| txn.version)
    }

    /// When a transaction was committed, unix milliseconds.
    pub(crate) fn updated(&self, app: &str) -> Option<i64> {
        self.txns.get(app)?.last_updated
    }

    /// The last block of each shard whose rows are in the table's files.
    pub(crate) fn covered(&self) -> BTreeMap<u32, u64> {
        let shard = |txn: &Txn| Some((app_shard(&txn.app_id)?, u64::try_from(txn.version).ok()?));
        self.txns.values().filter_map(shard).collect()
    }

    /// What stands in it: of files that others removed, the rows may be counted on.
    pub(crate) fn totals(&self) -> Totals {
        let groups = || self.checkpoint.iter().flat_map(|c| c.groups());
        let sum = |of: fn(&Group) -> u64, after: i64| groups().map(of).sum::<u64>().saturating_add_signed(after);
        Totals {
            files: sum(|g| g.files, self.tail.files),
            rows: sum(|g| g.rows, self.tail.rows),
            bytes: sum(|g| g.bytes, self.tail.bytes),
        }
    }

    /// What it holds in memory, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let checkpoint = self.checkpoint.as_ref().map_or(0, |c| c.memory_bytes());
        self.tail.memory_bytes() + self.meta_data.schema_string.len() + checkpoint
    }
}

/// The lines of a commit.
pub(crate) fn read_commit(
    objects: &Arc<dyn Objects>,
    names: &Names<'_>,
    version: u64,
) -> Result<Vec<Line>, StoreError> {
    action::read(&commit_bytes(objects, names, version)?)
}

/// The bytes of a commit.
pub(crate) fn commit_bytes(objects: &Arc<dyn Objects>, names: &Names<'_>, version: u64) -> Result<Bytes, StoreError> {
    let name = names.commit(version);
    let io = |e| StoreError::io("read a commit of a Delta log", e);
    let bytes = objects.len(&name).map_err(io)?;
    if bytes > COMMIT_BYTES_MAX {
        let what = format!("expected at most {COMMIT_BYTES_MAX} bytes in commit {version}, found {bytes}");
        return Err(StoreError::Table(what));
    }
    objects.read(&name, 0..bytes).map_err(io)
}
