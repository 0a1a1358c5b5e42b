//! Writing a checkpoint: the one before, without what was removed since, merged with what was added. A row group at a time, so
//! that memory does not grow with the table.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::action::{Add, Remove};
use super::arrays::{self, Entry};
use super::checkpoint::{Checkpoint, GROUP_FILES, GROUPS_KEY, Group, Groups};
use super::chunks::damaged;
use super::log::{Log, Names, read_commit};
use crate::control::Create;
use crate::error::StoreError;
use crate::objects::{Objects, Upload};

/// What a checkpoint consists of, as the hint tells it.
pub(crate) struct Written {
    /// Actions in it.
    pub(crate) actions: u64,
    /// Files that stand.
    pub(crate) files: u64,
}

/// Writes the checkpoint of a log. Files that were removed before `forget` (unix milliseconds) are in it no longer.
pub(crate) fn write(
    objects: &Arc<dyn Objects>,
    names: &Names<'_>,
    log: &Log,
    forget: i64,
) -> Result<(Create, Written), StoreError> {
    let since = Since::read(objects, names, log)?;
    let mut out = Out::begin(objects, &names.checkpoint(log.version))?;
    let mut written = Written { actions: 0, files: 0 };
    for batch in arrays::front(&log.protocol, &log.meta_data, &log.txns(forget))? {
        written.actions += batch.num_rows() as u64;
        out.write(&batch)?;
    }
    out.flush()?;

    let mut groups = Vec::new();
    let mut adds = Standing::of(log, since.added)?;
    loop {
        let mut group = Vec::with_capacity(GROUP_FILES);
        while group.len() < GROUP_FILES
            && let Some(add) = adds.next()?
        {
            group.push(add);
        }
        if group.is_empty() {
            break;
        }
        written.files += group.len() as u64;
        groups.push(Group::of(&group.iter().map(Entry::of).collect::<Vec<_>>()));
        out.write(&arrays::adds(&group)?)?;
        out.flush()?;
    }
    written.actions += written.files;

    let mut removes = |removes: Vec<Remove>| -> Result<(), StoreError> {
        for part in removes.chunks(GROUP_FILES) {
            written.actions += part.len() as u64;
            out.write(&arrays::removes(part)?)?;
            out.flush()?;
        }
        Ok(())
    };
    let young = |remove: &Remove| remove.deletion_timestamp.is_none_or(|at| at >= forget);
    if let Some(before) = &log.checkpoint {
        before.removes(|mut old| {
            old.retain(|r| young(r) && !log.tail.knows(&r.path));
            removes(old)
        })?;
    }
    removes(since.removed.into_iter().filter(young).collect())?;
    let told = serde_json::to_string(&Groups { version: 1, groups }).map_err(|e| StoreError::Rows(e.to_string()))?;
    Ok((out.finish(told)?, written))
}

/// The whole actions of the commits since the checkpoint before, of which the log keeps a part only.
struct Since {
    /// Files that stand.
    added: Vec<Add>,
    /// Files that went.
    removed: Vec<Remove>,
}

impl Since {
    fn read(objects: &Arc<dyn Objects>, names: &Names<'_>, log: &Log) -> Result<Since, StoreError> {
        let (mut added, mut removed) = (BTreeMap::new(), BTreeMap::new());
        for version in log.checkpoint.as_ref().map_or(0, |c| c.version + 1)..=log.version {
            let mut adds = Vec::new();
            for line in read_commit(objects, names, version)? {
                if let Some(remove) = line.remove {
                    added.remove(&remove.path);
                    removed.insert(remove.path.clone(), remove);
                }
                adds.extend(line.add);
            }
            for add in adds {
                removed.remove(&add.path);
                added.insert(add.path.clone(), add);
            }
        }
        Ok(Since { added: added.into_values().collect(), removed: removed.into_values().collect() })
    }
}

/// The files that stand, by (smallest time, path).
struct Standing<'a> {
    log: &'a Log,
    before: Before<'a>,
    next_before: Option<Add>,
    tail: std::iter::Peekable<std::vec::IntoIter<Add>>,
}

/// The files of the checkpoint before.
enum Before<'a> {
    /// None, or all of another's in memory, which does not sort them.
    Sorted(std::vec::IntoIter<Add>),
    Groups {
        checkpoint: &'a Checkpoint,
        next: usize,
        group: std::vec::IntoIter<Add>,
    },
}

fn place(add: &Add) -> (i64, &str) {
    (add.known().time_min, &add.path)
}

impl<'a> Standing<'a> {
    fn of(log: &'a Log, added: Vec<Add>) -> Result<Standing<'a>, StoreError> {
        let sorted = |mut adds: Vec<Add>| {
            adds.sort_by_cached_key(|add| (add.known().time_min, add.path.clone()));
            adds.into_iter()
        };
        let before = match log.checkpoint.as_deref() {
            None => Before::Sorted(Vec::new().into_iter()),
            Some(checkpoint) if checkpoint.sorted => {
                Before::Groups { checkpoint, next: 0, group: Vec::new().into_iter() }
            }
            Some(checkpoint) => {
                let mut all = Vec::new();
                for group in 0..checkpoint.groups().count() {
                    all.append(&mut checkpoint.adds(group)?);
                }
                Before::Sorted(sorted(all))
            }
        };
        let tail = sorted(added).peekable();
        let mut standing = Standing { log, before, next_before: None, tail };
        standing.next_before = standing.advance()?;
        Ok(standing)
    }

    fn next(&mut self) -> Result<Option<Add>, StoreError> {
        let tail_first = match (&self.next_before, self.tail.peek()) {
            (Some(before), Some(tail)) => place(tail) < place(before),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if tail_first {
            return Ok(self.tail.next());
        }
        let next = self.advance()?;
        Ok(std::mem::replace(&mut self.next_before, next))
    }

    /// The next file of the checkpoint before that nothing since removed or added anew.
    fn advance(&mut self) -> Result<Option<Add>, StoreError> {
        loop {
            let add = match &mut self.before {
                Before::Sorted(adds) => adds.next(),
                Before::Groups { checkpoint, next, group } => match group.next() {
                    Some(add) => Some(add),
                    None if *next == checkpoint.groups().count() => None,
                    None => {
                        *group = checkpoint.adds(*next)?.into_iter();
                        *next += 1;
                        continue;
                    }
                },
            };
            if add.as_ref().is_none_or(|add| !self.log.tail.knows(&add.path)) {
                return Ok(add);
            }
        }
    }
}

/// The Parquet file that is being written.
struct Out(ArrowWriter<BufWriter<Sink>>);

struct Sink(Box<dyn Upload>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out {
    fn begin(objects: &Arc<dyn Objects>, name: &str) -> Result<Out, StoreError> {
        let upload = objects.upload(name).map_err(|e| StoreError::io("wrote a checkpoint", e))?;
        let level = ZstdLevel::try_new(1).map_err(damaged)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(None)
            // Plans use the times in the key-value metadata; what stands in each footer entry would be read by nobody.
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let sink = BufWriter::with_capacity(1 << 20, Sink(upload));
        ArrowWriter::try_new_with_options(sink, arrays::schema(), options).map(Out).map_err(failed)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        self.0.write(batch).map_err(failed)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.0.flush().map_err(failed)
    }

    fn finish(mut self, told: String) -> Result<Create, StoreError> {
        self.0.append_key_value_metadata(KeyValue::new(GROUPS_KEY.to_owned(), told));
        let io = |e| StoreError::io("wrote a checkpoint", e);
        let buffered = self.0.into_inner().map_err(failed)?;
        let sink = buffered.into_inner().map_err(|e| io(e.into_error()))?;
        sink.0.finish().map_err(io)
    }
}

/// An error of the disk comes back as one.
fn failed(e: parquet::errors::ParquetError) -> StoreError {
    match e {
        parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => StoreError::io("wrote a checkpoint", *io),
            Err(other) => StoreError::Rows(other.to_string()),
        },
        other => StoreError::Rows(other.to_string()),
    }
}
