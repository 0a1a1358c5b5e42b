//! A Parquet file among the objects, of which only the wanted stretches are read, each in one go.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, buf::Reader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Damage, StoreError};
use crate::objects::Objects;

/// Bytes read from the end at first: the footer of a checkpoint of 200,000 files.
const FOOTER_BYTES: u64 = 256 << 10;
/// Footers beyond this are no checkpoint's: a row group of 4,096 files takes about 4 KB.
const FOOTER_BYTES_MAX: u64 = 256 << 20;
/// Stretches with less between them are read in one go: a request costs more than the bytes.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// An opened Parquet file.
pub(crate) struct ParquetObject {
    objects: Arc<dyn Objects>,
    name: String,
    len: u64,
    meta: ArrowReaderMetadata,
    /// Bytes of its footer, which is what it takes in memory, about.
    pub(crate) footer_bytes: usize,
}

impl ParquetObject {
    pub(crate) fn open(objects: &Arc<dyn Objects>, name: &str) -> Result<ParquetObject, StoreError> {
        let io = |e| StoreError::io("read a checkpoint", e);
        let (end, len) = objects.read_end(name, FOOTER_BYTES).map_err(io)?;
        let Some(tail) = end.len().checked_sub(8).map(|at| end.slice(at..)) else {
            return Err(Damage::Short("checkpoint").into());
        };
        if &tail[4..] != b"PAR1" {
            return Err(Damage::Checksum("end of a checkpoint").into());
        }
        let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
        if footer + 8 > len || footer > FOOTER_BYTES_MAX {
            return Err(Damage::Bounds("length of a checkpoint's footer").into());
        }
        let bytes = match end.len().checked_sub(footer as usize + 8) {
            Some(at) => end.slice(at..end.len() - 8),
            None => objects.read(name, len - 8 - footer..len - 8).map_err(io)?,
        };
        let meta = guarded(|| {
            let meta = ParquetMetaDataReader::decode_metadata(&bytes).map_err(damaged)?;
            // The types are Parquet's own, whatever the writer's were in its memory.
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            ArrowReaderMetadata::try_new(Arc::new(meta), options).map_err(damaged)
        })?;
        Ok(ParquetObject { objects: objects.clone(), name: name.to_owned(), len, meta, footer_bytes: bytes.len() })
    }

    pub(crate) fn meta(&self) -> &ParquetMetaData {
        self.meta.metadata()
    }

    /// The rows of a row group, `columns` (by path) of them.
    pub(crate) fn group(
        &self,
        group: usize,
        columns: &[&str],
        mut each: impl FnMut(&arrow::array::RecordBatch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let schema = self.meta.parquet_schema();
        let mask = ProjectionMask::columns(schema, columns.iter().copied());
        let mut stretches: Vec<Range<u64>> = Vec::new();
        for (leaf, column) in self.meta().row_group(group).columns().iter().enumerate() {
            if mask.leaf_included(leaf) {
                let at = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
                let place = u64::try_from(at).ok().zip(u64::try_from(column.compressed_size()).ok());
                let end = place.and_then(|(at, bytes)| at.checked_add(bytes)).filter(|end| *end <= self.len);
                let (Some((at, _)), Some(end)) = (place, end) else {
                    return Err(Damage::Bounds("column of a checkpoint").into());
                };
                stretches.push(at..end);
            }
        }
        let held = self.held(stretches)?;
        guarded(|| {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(held, self.meta.clone())
                .with_row_groups(vec![group])
                .with_projection(mask)
                .build()
                .map_err(damaged)?;
            for batch in reader {
                each(&batch.map_err(|e| StoreError::from(Damage::Rows(e.to_string())))?)?;
            }
            Ok(())
        })
    }

    fn held(&self, mut stretches: Vec<Range<u64>>) -> Result<Held, StoreError> {
        stretches.sort_by_key(|s| s.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for stretch in stretches {
            match joined.last_mut().filter(|last| stretch.start <= last.end + GAP_BYTES_MAX) {
                Some(last) => last.end = last.end.max(stretch.end),
                None => joined.push(stretch),
            }
        }
        let read = |s: Range<u64>| Ok((s.start, self.objects.read(&self.name, s)?));
        let held: io::Result<Vec<(u64, Bytes)>> = joined.into_iter().map(read).collect();
        Ok(Held { held: held.map_err(|e| StoreError::io("read a checkpoint", e))?, len: self.len })
    }
}

/// The decoder panics on some bytes that no writer writes (pages have no checksum that it would look at): those are damaged.
fn guarded<T>(decode: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode));
    caught.unwrap_or_else(|_| Err(Damage::Bounds("a page of a checkpoint").into()))
}

pub(crate) fn damaged(e: ParquetError) -> StoreError {
    Damage::Rows(e.to_string()).into()
}

/// Stretches of a file in memory.
struct Held {
    held: Vec<(u64, Bytes)>,
    len: u64,
}

impl Held {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let within = |(at, bytes): &&(u64, Bytes)| (*at..*at + bytes.len() as u64).contains(&start);
        let (at, bytes) = self.held.iter().find(within).ok_or_else(outside)?;
        Ok(bytes.slice((start - at) as usize..))
    }
}

fn outside() -> ParquetError {
    ParquetError::EOF("a page lies outside of its column".into())
}

impl Length for Held {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Held {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Reader<Bytes>, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if bytes.len() < length { Err(outside()) } else { Ok(bytes.slice(..length)) }
    }
}
