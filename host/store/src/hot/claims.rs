//! What stands behind the frames of a segment: a group whose writer is about to store it, and looks for others that do.

use std::io;

use prism_model::BatchId;

use super::scan::SegmentIndex;
use crate::disk::File;
use crate::frame::decode::FrameMeta;
use crate::frame::header::{FRAME_HEADER, claimed};

/// What stands behind the frames of an index and is no claim that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclear {
    at: u64,
    head: [u8; FRAME_HEADER],
}

impl SegmentIndex {
    /// The batches that the writer claims behind the frames that were found, as it stands now. Where something else stands there,
    /// the first bytes of that: unless they are a write that a crash cut short, which stays as it is, more frames are to be found.
    pub(crate) fn claims(&self, file: &dyn File, fingerprint: u64) -> io::Result<Result<Vec<BatchId>, Unclear>> {
        let (mut at, mut columns, mut batches) = (self.next, self.columns.clone(), Vec::new());
        for number in self.count().. {
            let mut head = [0; FRAME_HEADER];
            let n = file.read_at(&mut head, at)?;
            if n < FRAME_HEADER || head[..8] == [0; 8] {
                break;
            }
            let unclear = || Unclear { at, head };
            let Ok(header) = claimed(&head) else { return Ok(Err(unclear())) };
            if header.segment != fingerprint || header.number as usize != number {
                return Ok(Err(unclear()));
            }
            // The end behind what is acknowledged: nothing comes now.
            if header.close {
                break;
            }
            let read = |from: u64, len: u64| {
                let mut bytes = vec![0; len as usize];
                let n = file.read_at(&mut bytes, from)?;
                bytes.truncate(n);
                Ok::<_, io::Error>(bytes)
            };
            let (span, payload) = (header.span(), at + header.payload_at());
            let blocks = read(at + FRAME_HEADER as u64, u64::from(header.schema_len) + u64::from(header.meta_len))?;
            let Ok((meta, _)) = FrameMeta::open(header, &blocks, self.key.as_ref(), &mut columns, None) else {
                return Ok(Err(unclear()));
            };
            let (offset, len) = meta.origins_stretch();
            let Ok(origins) = meta.origins_of(&read(payload + offset, len)?) else { return Ok(Err(unclear())) };
            batches.extend(origins.into_iter().map(|origin| origin.batch_id));
            at += span;
        }
        Ok(Ok(batches))
    }
}
