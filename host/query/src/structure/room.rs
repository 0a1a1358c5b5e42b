//! Memory of the work on a part beside its spans: trees, rows that wait for their tests, what was found.

use std::cell::Cell;

use datafusion::execution::memory_pool::MemoryReservation;

use super::Stop;
use super::spread::Share;
use crate::engine::engine_error;
use crate::error::QueryError;

/// What a thread holds for a part, of the query's memory; given back with it.
#[derive(Debug)]
pub(crate) struct Room {
    held: MemoryReservation,
    /// Bytes that stay for as long as the part is worked on.
    kept: Cell<usize>,
}

impl Room {
    /// Nothing yet, of the memory that `beside` is of.
    pub(super) fn beside(beside: &MemoryReservation) -> Room {
        Room { held: beside.new_empty(), kept: Cell::new(0) }
    }

    /// Takes note of bytes that stay.
    ///
    /// # Errors
    /// That the query has no room for them.
    pub(super) fn keep(&self, bytes: usize) -> Result<(), QueryError> {
        self.kept.set(self.kept.get() + bytes);
        self.hold(0)
    }

    /// Takes note of so many bytes beside those that stay, until the next ones are told.
    ///
    /// # Errors
    /// That the query has no room for them.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), QueryError> {
        let bytes = self.kept.get() + bytes;
        if bytes <= self.held.size() {
            return Ok(());
        }
        // A little more: of a trace that grows bytes are told again and again.
        self.held.try_resize(bytes + bytes / 16).map_err(engine_error)
    }

    /// What is left of it when the part is done: what was found, of so many bytes.
    ///
    /// # Errors
    /// That the query has no room for them.
    pub(super) fn done<T>(self, found: T, bytes: usize) -> Result<Held<T>, QueryError> {
        self.held.try_resize(bytes).map_err(engine_error)?;
        Ok(Held { of: found, _held: self.held })
    }
}

/// Something with its share of the query's memory.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) of: T,
    _held: MemoryReservation,
}

/// What was gathered, of which less is looked at where there is no room for it.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) share: Share,
    pub(super) spans: usize,
    /// It is of one trace.
    pub(super) one: bool,
}

impl Found {
    /// There is no room for it.
    pub(super) fn over(self) -> Stop {
        Stop::Over { spans: self.spans, one: self.one }
    }

    /// The work on it met an error, perhaps that there is no room for it.
    pub(super) fn stopped(self, error: QueryError) -> Stop {
        match error {
            QueryError::Memory { .. } => self.over(),
            other => Stop::Query(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};

    use super::*;
    use crate::memory::{OfQuery, Total};

    #[test]
    fn what_a_part_holds_is_the_querys_and_goes_with_it() {
        let total = Total::new(usize::MAX);
        let pool = OfQuery::new(1_000, total.clone()) as Arc<dyn MemoryPool>;
        let spans = MemoryConsumer::new("structure").register(&pool);
        spans.try_resize(100).unwrap();
        let room = Room::beside(&spans);
        room.keep(320).unwrap();
        room.hold(480).unwrap();
        room.hold(16).unwrap();
        assert_eq!(total.used(), 100 + 850, "as much as it ever held");
        let error = room.hold(700).unwrap_err();
        assert!(matches!(error, QueryError::Memory { limit: 1_000 }), "{error}");
        let found = room.done("rows", 60).unwrap();
        assert_eq!((found.of, total.used()), ("rows", 160));
        drop(found);
        assert_eq!(total.used(), 100);
    }
}
