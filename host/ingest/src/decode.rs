//! OTLP protobuf requests to columns, without building the messages in between.
//!
//! ```text
//! any_value (one value) -> attribute (key and value to a column) -> resource (resources and scopes, interned)
//!                                                                -> envelope (resources hold scopes hold items) -> traces, logs, metrics
//! report (what was rejected or left out)
//! ```
//!
//! A request that prost would refuse is refused here too, and the other way round; the one difference is the depth of values,
//! which is bound by [`Limits::value_depth_max`] instead of prost's 100 levels of messages.

pub(crate) mod any_value;
pub(crate) mod attribute;
pub(crate) mod report;
pub(crate) mod resource;
pub(crate) mod envelope;
mod traces;
mod logs;
mod metrics;

use prism_model::{Batch, Classify, Kind, Limits};

use crate::columns::ColumnError;
use crate::columns::tail::Tail;
use crate::wire::{Fault, WireError};
use report::Report;

pub use logs::logs;
pub use metrics::metrics;
pub use traces::traces;

/// Bytes of a request that 32-bit offsets surely reach, whatever the configured limit: escapes and base64 can make a text
/// form six times as long as the wire form.
pub(crate) const BODY_BYTES_HARD_MAX: usize = 256 << 20;

/// A decoded request.
#[derive(Debug)]
pub struct Decoded {
    /// The rows. Origins are empty: they are the caller's to say.
    pub batch: Batch,
    /// What of the request is not in the batch.
    pub rejected: Rejected,
}

/// What OTLP calls partial success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Items that were refused.
    pub count: u64,
    /// Why, in English; with a count of 0 a warning about items that were kept. Empty where there is nothing to say.
    pub reason: String,
}

/// A request that cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the protobuf message that the path asks for.
    #[error("expected an OTLP {message} in protobuf, found {fault} at byte {at}")]
    Malformed {
        /// The message that the path asks for.
        message: &'static str,
        /// What is wrong.
        fault: Fault,
        /// Where, counted from the start of the decompressed body.
        at: usize,
    },
    /// The same in a part of the request that cannot be pointed at: a text column that is checked as a whole, or a value that
    /// came in pieces.
    #[error("expected an OTLP {message} in protobuf: {fault}")]
    MalformedPart {
        /// The message that the path asks for.
        message: &'static str,
        /// What is wrong.
        fault: Fault,
    },
    /// Arrays and maps inside each other beyond the limit.
    #[error("a value is nested more than {max} levels deep (value_depth_max)")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// More items than one request may hold.
    #[error("the request holds more than {max} items (items_max)")]
    TooManyItems {
        /// The limit.
        max: usize,
    },
    /// More numbers in lists than one request may hold.
    #[error("the request holds more than {max} numbers in buckets, bounds and quantiles (list_values_max)")]
    TooManyNumbers {
        /// The limit.
        max: usize,
    },
    /// More bytes than can be decoded at once.
    #[error("the request holds {found} bytes, more than the {max} that can be decoded at once")]
    TooManyBytes {
        /// Bytes of the body, or of one column.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The decoder made columns that do not fit each other.
    #[error("decoding made columns that do not fit: {0}")]
    Columns(ColumnError),
}

impl Classify for DecodeError {
    fn kind(&self) -> Kind {
        match self {
            DecodeError::Malformed { .. } | DecodeError::MalformedPart { .. } | DecodeError::TooDeep { .. } => {
                Kind::Fix
            }
            DecodeError::TooManyItems { .. }
            | DecodeError::TooManyNumbers { .. }
            | DecodeError::TooManyBytes { .. } => Kind::TooLarge,
            DecodeError::Columns(_) => Kind::Bug,
        }
    }
}

/// What goes wrong inside of a walk; the outermost function knows the body and makes a [`DecodeError`] of it.
#[derive(Debug)]
pub(crate) enum Stop {
    Wire(WireError),
    Columns(ColumnError),
    TooManyItems,
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Stop {
        Stop::Wire(error)
    }
}

impl From<ColumnError> for Stop {
    fn from(error: ColumnError) -> Stop {
        Stop::Columns(error)
    }
}

impl From<prism_model::table::BadTable> for Stop {
    fn from(error: prism_model::table::BadTable) -> Stop {
        Stop::Columns(error.into())
    }
}

impl Stop {
    fn into_error(self, message: &'static str, body: &[u8], limits: &Limits) -> DecodeError {
        match self {
            Stop::Wire(error) if error.fault == Fault::Depth => DecodeError::TooDeep { max: limits.value_depth_max },
            Stop::Wire(error) if error.fault == Fault::Lists => {
                DecodeError::TooManyNumbers { max: limits.list_values_max }
            }
            Stop::Wire(error) => match error.offset_in(body) {
                Some(at) => DecodeError::Malformed { message, fault: error.fault, at },
                None => DecodeError::MalformedPart { message, fault: error.fault },
            },
            Stop::Columns(ColumnError::Utf8) => DecodeError::MalformedPart { message, fault: Fault::Utf8 },
            Stop::Columns(ColumnError::TooLong(found)) => DecodeError::TooManyBytes { found, max: i32::MAX as usize },
            Stop::Columns(error) => DecodeError::Columns(error),
            Stop::TooManyItems => DecodeError::TooManyItems { max: limits.items_max },
        }
    }
}

/// What every part of a walk needs beside its columns.
pub(crate) struct Context {
    pub(crate) tail: Tail,
    pub(crate) report: Report,
    /// Levels of arrays and maps that a value may have.
    pub(crate) depth_max: usize,
    pub(crate) columns_max: usize,
    /// Where the text form of a value is written before it goes to its column.
    pub(crate) scratch: String,
    /// Bytes of the request.
    pub(crate) request_bytes: usize,
    /// Numbers that lists may hold.
    pub(crate) list_values_max: usize,
    items_left: usize,
}

impl Context {
    fn new(body: &[u8], limits: &Limits) -> Context {
        Context {
            tail: Tail::default(),
            report: Report::default(),
            depth_max: limits.value_depth_max,
            columns_max: limits.attribute_columns_max,
            scratch: String::new(),
            request_bytes: body.len(),
            list_values_max: limits.list_values_max,
            // The highest row number says "no row" in places.
            items_left: limits.items_max.min(u32::MAX as usize - 1),
        }
    }

    /// Counts an item, kept or not.
    #[inline(always)]
    pub(crate) fn count_item(&mut self) -> Result<(), Stop> {
        match self.items_left.checked_sub(1) {
            Some(left) => {
                self.items_left = left;
                Ok(())
            }
            None => Err(Stop::TooManyItems),
        }
    }
}

/// Runs a walk over a body within the bounds that hold for every message.
fn decode(
    body: &[u8],
    limits: &Limits,
    message: &'static str,
    walk: impl FnOnce(&mut Context) -> Result<Batch, Stop>,
    items: &'static str,
) -> Result<Decoded, DecodeError> {
    if body.len() > BODY_BYTES_HARD_MAX {
        return Err(DecodeError::TooManyBytes { found: body.len(), max: BODY_BYTES_HARD_MAX });
    }
    let mut context = Context::new(body, limits);
    let batch = walk(&mut context).map_err(|stop| stop.into_error(message, body, limits))?;
    Ok(Decoded { batch, rejected: context.report.into_rejected(items) })
}
