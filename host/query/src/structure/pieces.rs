//! Numbered pieces of work on all threads of a query, each when it is the query's turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::error::QueryError;
use crate::scan::Scan;
use crate::turns::Place;

/// Spans of one piece of work between two looks at the clock, and at whether anybody waits: some part of a millisecond.
pub(crate) const CHECK_SPANS: usize = 1 << 12;

/// Does every piece; gives what they gave, in their order. Each thread has room `R` of its own. Blocks.
///
/// # Errors
/// The first error that a piece met; that the query's time is over, or that it was given up.
pub(crate) fn each<T: Send, R: Default, E: From<QueryError> + Send>(
    scan: &Scan,
    threads: usize,
    pieces: usize,
    work: impl Fn(usize, &mut R) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(pieces));
    let failed: Mutex<Option<E>> = Mutex::new(None);
    let thread = || {
        let (mut room, mut place) = (R::default(), Place::default());
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces || failed.lock().is_some() {
                return;
            }
            let worked = scan.goes_on().and_then(|()| {
                let worked = scan.in_turns(&mut place, || work(piece, &mut room));
                worked.ok_or_else(|| scan.in_time().err().unwrap_or_else(QueryError::given_up))
            });
            match worked.map_err(E::from).flatten() {
                Ok(of_piece) => done.lock().push((piece, of_piece)),
                Err(error) => {
                    failed.lock().get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..threads.min(pieces)).for_each(|_| {
            scope.spawn(thread);
        });
        thread();
    });
    match failed.into_inner() {
        Some(error) => Err(error),
        None => {
            let mut done = done.into_inner();
            done.sort_unstable_by_key(|(piece, _)| *piece);
            Ok(done.into_iter().map(|(_, of_piece)| of_piece).collect())
        }
    }
}
