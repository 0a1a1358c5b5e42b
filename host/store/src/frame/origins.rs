//! The origins of a frame's rows as bytes: always the first buffer of the payload.

use prism_model::{Origin, Redaction};

use super::wire::{Put as _, Take};
use crate::error::Damage;

pub(super) fn encode(origins: &[Origin]) -> Vec<u8> {
    let mut out = Vec::new();
    out.var(origins.len() as u64);
    for origin in origins {
        out.extend_from_slice(&origin.batch_id);
        out.u32(origin.first_row);
        out.u32(origin.rows);
        out.i64(origin.received_unix_nanos);
        out.var(origin.redactions.len() as u64);
        for r in &origin.redactions {
            out.text(r.plugin.as_bytes());
            out.text(r.version.as_bytes());
            out.text(r.label.as_bytes());
            out.var(r.count);
        }
    }
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Origin>, Damage> {
    let mut take = Take::new(bytes, "origins");
    // Each takes 33 bytes at least, so a wrong count cannot ask for more memory than the bytes are worth.
    let count = take.var_max(bytes.len() / 33)?;
    let mut origins = Vec::with_capacity(count);
    for _ in 0..count {
        let batch_id = take.array()?;
        let (first_row, rows, received_unix_nanos) = (take.u32()?, take.u32()?, take.i64()?);
        let redactions = take.var_max(take.left() / 4)?;
        let redactions = (0..redactions)
            .map(|_| {
                Ok(Redaction {
                    plugin: take.string()?.to_owned(),
                    version: take.string()?.to_owned(),
                    label: take.string()?.to_owned(),
                    count: take.var()?,
                })
            })
            .collect::<Result<_, Damage>>()?;
        origins.push(Origin { batch_id, first_row, rows, received_unix_nanos, redactions });
    }
    take.end()?;
    Ok(origins)
}
