//! Memory of queries: each has a bound, and all of the process together have one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};

use crate::error::QueryError;

/// What all queries of the process have taken.
#[derive(Debug)]
pub(crate) struct Total {
    used: AtomicUsize,
    max: usize,
}

impl Total {
    /// So many bytes at most.
    pub(crate) fn new(max: usize) -> Arc<Total> {
        Arc::new(Total { used: AtomicUsize::new(0), max })
    }

    /// Bytes that are taken now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// What one query may take, out of the total.
#[derive(Debug)]
pub(crate) struct OfQuery {
    used: AtomicUsize,
    max: usize,
    total: Arc<Total>,
}

impl OfQuery {
    pub(crate) fn new(max: usize, total: Arc<Total>) -> Arc<OfQuery> {
        Arc::new(OfQuery { used: AtomicUsize::new(0), max, total })
    }
}

impl fmt::Display for OfQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.used.load(Relaxed), self.max)
    }
}

impl MemoryPool for OfQuery {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Relaxed);
        self.total.used.fetch_add(additional, Relaxed);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Relaxed);
        self.total.used.fetch_sub(shrink, Relaxed);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> datafusion::error::Result<()> {
        let refuse = |error: QueryError| Err(DataFusionError::External(Box::new(error)));
        let within = |max: usize| move |used: usize| used.checked_add(additional).filter(|used| *used <= max);
        if self.used.fetch_update(Relaxed, Relaxed, within(self.max)).is_err() {
            return refuse(QueryError::Memory { limit: self.max });
        }
        if self.total.used.fetch_update(Relaxed, Relaxed, within(self.total.max)).is_err() {
            self.used.fetch_sub(additional, Relaxed);
            return refuse(QueryError::MemoryFull { limit: self.total.max });
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.max)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::MemoryConsumer;

    use super::*;
    use crate::engine::engine_error;

    #[test]
    fn a_query_has_its_bound_and_all_have_one() {
        let total = Total::new(100);
        let pool = |max| OfQuery::new(max, total.clone()) as Arc<dyn MemoryPool>;
        let (a, b) = (pool(60), pool(60));
        let (first, second) = (MemoryConsumer::new("a").register(&a), MemoryConsumer::new("b").register(&b));
        first.try_grow(50).unwrap();
        assert!(matches!(engine_error(first.try_grow(20).unwrap_err()), QueryError::Memory { limit: 60 }));
        assert!(matches!(engine_error(second.try_grow(51).unwrap_err()), QueryError::MemoryFull { limit: 100 }));
        second.try_grow(50).unwrap();
        assert_eq!((total.used(), a.reserved(), b.reserved()), (100, 50, 50));
        drop((first, second));
        assert_eq!(total.used(), 0, "what a query took goes with it");
    }
}
