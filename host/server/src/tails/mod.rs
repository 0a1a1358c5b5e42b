//! Live tails: new rows that match a query, to each of its readers once, for as long as they read.
//!
//! ```text
//! follow (one for all tails of a tenant's signal: looks when something was stored, or now and then) -> ring (the newest frames)
//!   -> reader (one a tail: its place, its query, its rows) -> lines (NDJSON or server-sent events)
//! ```
//!
//! A tail holds no row that its client has not room for: rows stay on the disk, and a tail holds its place. One that begins with
//! what was stored before catches up in steps, from where the rows lie, until it has come up with the ring; from then on a
//! client that falls behind the ring is told how many rows it was not shown. Nothing here waits for a client, and no ingest waits
//! for this.
//!
//! Not here: what is new (`prism-store`), which rows match (`prism-query`), who may ask (`http`).

mod ring;
mod follow;
mod seats;
mod begin;
mod reader;
mod lines;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prism_model::{Signal, TenantId};
use prism_store::{Reader as Rows, Store};

pub(crate) use begin::{Asked, Begin};
pub(crate) use lines::Form;
pub(crate) use reader::{Ended, Reader, Said};
pub(crate) use seats::Seat;

use self::follow::Followed;
use self::seats::Seats;
use crate::config::TailSettings;
use crate::error::Failure;
use crate::metrics::{Exposition, Type};

/// Everything that is followed by tails of this process.
pub(crate) struct Tails {
    store: Arc<Store>,
    rows: Rows,
    settings: TailSettings,
    grace: Duration,
    seats: Arc<Seats>,
    followed: Mutex<HashMap<(TenantId, Signal), Weak<Followed>>>,
    counts: Arc<Counts>,
}

/// What tails did.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    rows: AtomicU64,
    frames: AtomicU64,
    skipped: AtomicU64,
    gaps: AtomicU64,
    looks: AtomicU64,
    following: AtomicU64,
}

impl Tails {
    /// Over what `store` writes and `rows` reads. `grace`: how long sealed segments stay, `storage.read_grace_ms`.
    pub(crate) fn new(store: Arc<Store>, rows: Rows, settings: TailSettings, grace: Duration) -> Tails {
        let seats = Seats::new(settings.concurrent_max, settings.tenant_concurrent_max);
        Tails { store, rows, settings, grace, seats, followed: Mutex::default(), counts: Arc::default() }
    }

    /// A place among the tails; given back when dropped.
    ///
    /// # Errors
    /// `Busy` where the tenant or the server has as many as it may.
    pub(crate) fn seat(&self, tenant: &TenantId) -> Result<Seat, Failure> {
        self.seats.take(tenant)
    }

    /// What all tails of a tenant's signal follow; begun by the first and ended with the last.
    fn follow(&self, tenant: &TenantId, signal: Signal) -> Arc<Followed> {
        let mut followed = self.followed.lock();
        followed.retain(|_, followed| followed.strong_count() > 0);
        let key = (tenant.clone(), signal);
        if let Some(there) = followed.get(&key).and_then(Weak::upgrade).filter(|there| there.fault().is_none()) {
            return there;
        }
        let listener = self.store.listen(tenant, signal, self.grace);
        let begun = Followed::begin(listener, self.settings.frames_kept, self.counts.clone());
        followed.insert(key, Arc::downgrade(&begun));
        begun
    }

    /// What is counted.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        let of = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        text.one("prism_server_tails", Type::Gauge, "Open live tails.", self.seats.taken() as f64);
        text.one(
            "prism_server_tail_signals",
            Type::Gauge,
            "Signals of tenants that are followed for tails.",
            of(&self.counts.following),
        );
        for (name, help, counter) in [
            ("prism_server_tail_rows_total", "Rows that tails showed.", &self.counts.rows),
            ("prism_server_tail_frames_total", "Frames that tails looked for rows in.", &self.counts.frames),
            ("prism_server_tail_looks_total", "Looks for new frames.", &self.counts.looks),
            (
                "prism_server_tail_rows_skipped_total",
                "Rows that tails did not look at, because their clients read too slowly.",
                &self.counts.skipped,
            ),
            (
                "prism_server_tail_gaps_total",
                "Times that a tail could not tell whether rows are missing.",
                &self.counts.gaps,
            ),
        ] {
            text.one(name, Type::Counter, help, of(counter));
        }
        let refused = self.seats.refused() as f64;
        text.one("prism_server_tails_refused_total", Type::Counter, "Tails refused because of their number.", refused);
    }
}
