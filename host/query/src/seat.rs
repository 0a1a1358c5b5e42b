//! Which partitions of a scan may keep groups in guests: a tenant has so many instances at once.
//!
//! A partition takes its seat before any turn. One that gets none leaves the frames to those that have one, and waits only where
//! none has: whoever waits holds nothing that others need to come to an end.

use std::sync::atomic::{AtomicUsize, Ordering};

use prism_plugin::Held;

use crate::bind::query::Shape;
use crate::error::QueryError;
use crate::scan::Scan;

/// Whether a partition may work.
pub(crate) enum Seat<'s> {
    /// It needs nothing for it.
    Free,
    /// It may keep groups in guests.
    Held(Held, Working<'s>),
    /// Other partitions do.
    Others,
}

/// Counts a partition that works.
pub(crate) struct Working<'s>(&'s AtomicUsize);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Scan {
    /// The right to keep groups in guests, where the plan does.
    pub(crate) fn seat(&self) -> Result<Seat<'_>, QueryError> {
        let Shape::Groups { spec, .. } = &self.plan.shape else { return Ok(Seat::Free) };
        let Some(called) = spec.accumulators.iter().find_map(|a| a.plugin.as_ref()) else { return Ok(Seat::Free) };
        let hold = |wait| called.caller.hold(wait).map_err(|error| QueryError::of_plugin(error, called.pos));
        let held = match hold(false)? {
            Some(held) => held,
            // Those who work already take what is left.
            None if self.working.load(Ordering::Acquire) > 0 => return Ok(Seat::Others),
            None => match hold(true)? {
                Some(held) => held,
                None => return Ok(Seat::Others),
            },
        };
        self.working.fetch_add(1, Ordering::AcqRel);
        Ok(Seat::Held(held, Working(&self.working)))
    }
}
