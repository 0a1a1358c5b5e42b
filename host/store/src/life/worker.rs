//! Moves data in the background: one round after the other over the tenants that are this process's share.
//!
//! ```text
//! beat (which tenants are ours) -> each tenant's signal that is due -> moves -> due again later, or much later after a failure
//! ```
//!
//! One thread of low priority: ingest and queries go first, and memory is that of one step. A tenant or an object store that
//! fails makes others wait for one call of it at most; it is tried again after a time that doubles. Not here: what is moved
//! (`moves`), who else moves (`share`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prism_model::{Signal, TenantId};

use super::left::Leftovers;
use super::metrics::{LifeMetrics, Stage};
use super::moves::Moved;
use super::share::Share;
use super::{Storage, policy};
use crate::cold::columns;
use crate::error::StoreError;

/// The longest wait after failures: what is mended is found soon after.
const BACK_OFF_MAX: Duration = Duration::from_secs(600);
/// Beats in the time after which a mover counts as gone.
const BEATS: u32 = 3;
/// Nice value of the thread: ordinary ones get about nine times the processor's time.
const NICE: i32 = 10;

/// How the background goes. Times are milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerOptions {
    /// Between two passes of a tenant's signal, give or take an eighth.
    pub interval: Duration,
    /// Of this process alone, and of none before it.
    pub id: u64,
}

/// The thread. It ends when it is stopped or dropped, after the step that it is at.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    storage: Arc<Storage>,
    options: WorkerOptions,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    metrics: LifeMetrics,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// When a tenant's signal is looked at again.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Duration,
    failures: u32,
    /// What its last pass found damaged.
    damaged: usize,
}

/// What is to be looked at, and when.
#[derive(Debug, Default)]
struct Plan(HashMap<(TenantId, Signal), Due>);

impl Worker {
    /// Begins. The clock tells unix nanoseconds.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub fn start(
        storage: Arc<Storage>,
        options: WorkerOptions,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> std::io::Result<Worker> {
        let metrics = LifeMetrics::default();
        let shared =
            Arc::new(Shared { storage, options, clock, metrics, stop: Mutex::new(false), stopped: Condvar::new() });
        let working = shared.clone();
        let thread = std::thread::Builder::new().name("prism-storage".to_owned()).spawn(move || working.run())?;
        Ok(Worker { shared, thread: Some(thread) })
    }

    /// What it counted so far.
    pub fn metrics(&self) -> &LifeMetrics {
        &self.shared.metrics
    }

    /// Lets it end, without waiting for that.
    pub fn stop(&self) {
        *self.shared.stop.lock() = true;
        self.shared.stopped.notify_all();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended too, and said so.
            let _ended = thread.join();
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("metrics", &self.shared.metrics).finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self) {
        // Linux means the calling thread by none. Where it is refused the work goes on at the priority that there is.
        let _refused = rustix::process::setpriority_process(None, NICE);
        let began = Instant::now();
        let patience = self.options.interval * BEATS;
        let mut share = Share::new(self.storage.disk.clone(), &self.storage.root, self.options.id, patience);
        let mut plan = Plan::default();
        let mut left = Leftovers::default();
        while !self.is_stopped() {
            self.round(&mut share, &mut plan, &|| began.elapsed());
            self.note_uses();
            match left.sweep(&*self.storage.objects, began.elapsed()) {
                Ok((0, _)) => {}
                Ok((files, bytes)) => tracing::warn!(files, bytes, "what a dead process left half written is removed"),
                Err(error) => tracing::warn!(%error, "what dead processes left half written cannot be looked at"),
            }
            let mut stop = self.stop.lock();
            if !*stop {
                // Looking for what is due costs a listing of the tenants.
                self.stopped.wait_for(&mut stop, self.options.interval / 4);
            }
        }
        share.leave();
    }

    fn is_stopped(&self) -> bool {
        *self.stop.lock()
    }

    fn round(&self, share: &mut Share, plan: &mut Plan, now: &dyn Fn() -> Duration) {
        if let Err(error) = share.beat(now()) {
            tracing::warn!(%error, "other movers cannot be seen: all tenants are moved here too");
        }
        let tenants = match self.storage.tenants() {
            Ok(tenants) => tenants,
            Err(error) => {
                LifeMetrics::add(&self.metrics.rounds_failed, 1);
                return tracing::warn!(%error, cause = ?std::error::Error::source(&error), "tenants cannot be listed");
            }
        };
        plan.0.retain(|(tenant, _), _| tenants.binary_search(tenant).is_ok());
        let (mut unsealed, mut unpromoted) = (0, 0);
        for tenant in tenants.iter().filter(|tenant| share.has(tenant, now())) {
            for signal in Signal::ALL {
                if self.is_stopped() {
                    return;
                }
                if !plan.is_due(tenant, signal, now()) {
                    continue;
                }
                let mut damaged = None;
                let failed = match self.pass(tenant, signal) {
                    Ok(moved) => {
                        damaged = Some(moved.damaged.len());
                        unsealed = moved.unsealed_ms.max(unsealed);
                        unpromoted = moved.unpromoted_ms.max(unpromoted);
                        !moved.failures.is_empty()
                    }
                    Err(()) => true,
                };
                plan.passed(tenant, signal, failed, now(), self.options.interval);
                if let (Some(damaged), Some(due)) = (damaged, plan.0.get_mut(&(tenant.clone(), signal))) {
                    due.damaged = damaged;
                }
            }
        }
        let metrics = &self.metrics;
        metrics.unsealed_ms.store(unsealed, Relaxed);
        metrics.unpromoted_ms.store(unpromoted, Relaxed);
        metrics.backing_off.store(plan.0.values().filter(|due| due.failures > 0).count() as u64, Relaxed);
        metrics.damaged.store(plan.0.values().map(|due| due.damaged as u64).sum(), Relaxed);
        LifeMetrics::add(&metrics.rounds, 1);
    }

    /// Writes down which columns this process's queries named: of all tenants, since whoever moves their rows goes by it.
    fn note_uses(&self) {
        for ((tenant, signal), keys) in self.storage.reader.take_used() {
            let table = self.storage.tables.table(&tenant, signal);
            if let Err(error) = columns::queried(&table, &keys, (self.clock)()) {
                let signal = signal.as_str();
                tracing::warn!(%tenant, signal, %error, "which columns were asked for is not written down");
            }
        }
    }

    /// One pass of a tenant's signal, counted and logged. An error where not even its policy is known.
    fn pass(&self, tenant: &TenantId, signal: Signal) -> Result<Moved, ()> {
        let policy = policy::read(&self.storage.root, tenant).map_err(|error| {
            tracing::error!(%tenant, %error, "nothing of the tenant is moved");
        })?;
        let policy = policy.of(signal, self.storage.defaults);
        let work = || self.storage.moves(tenant, signal, &policy, (self.clock)(), false, &|| self.is_stopped());
        // A panic in here is a bug, and must not take the other tenants with it.
        let moved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|_| {
            tracing::error!(%tenant, signal = signal.as_str(), "moving data panicked");
        })?;
        for done in &moved.done {
            let of = self.metrics.of(done.stage);
            LifeMetrics::add(&of.rows, done.rows);
            LifeMetrics::add(&of.bytes, done.bytes);
            LifeMetrics::add(&of.parts, done.parts);
            LifeMetrics::add(&of.nanos, done.nanos);
            if done.parts > 0 {
                let (stage, rows, bytes, parts) = (done.stage.as_str(), done.rows, done.bytes, done.parts);
                tracing::info!(%tenant, signal = signal.as_str(), stage, rows, bytes, parts, "moved");
            }
        }
        for (what, why) in &moved.damaged {
            tracing::error!(%tenant, signal = signal.as_str(), what, why, "data is damaged: the rest goes on");
        }
        for (stage, error) in &moved.failures {
            LifeMetrics::add(&self.metrics.of(*stage).failed, 1);
            let cause = std::error::Error::source(error);
            let stage = stage.as_str();
            tracing::warn!(%tenant, signal = signal.as_str(), stage, %error, ?cause, "data was not moved, and will be tried again");
        }
        Ok(moved)
    }
}

impl Plan {
    fn is_due(&self, tenant: &TenantId, signal: Signal, now: Duration) -> bool {
        self.0.get(&(tenant.clone(), signal)).is_none_or(|due| due.at <= now)
    }

    fn passed(&mut self, tenant: &TenantId, signal: Signal, failed: bool, now: Duration, interval: Duration) {
        let due = self.0.entry((tenant.clone(), signal)).or_insert(Due { at: now, failures: 0, damaged: 0 });
        due.failures = if failed { due.failures.saturating_add(1) } else { 0 };
        let wait = match due.failures {
            0 => interval,
            n => (interval * (1 << n.min(16))).min(BACK_OFF_MAX.max(interval)),
        };
        // Give or take an eighth, by the tenant and the moment: passes of many do not fall together for long.
        let seed = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let eighths = xxhash_rust::xxh3::xxh3_64_with_seed(tenant.as_str().as_bytes(), seed) % 1_000;
        due.at = now + wait * 7 / 8 + wait / 4_000 * u32::try_from(eighths).unwrap_or(0);
    }
}

/// What went wrong in one stage; the others went on.
pub(crate) type Failure = (Stage, StoreError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_waits_longer_each_time_and_others_do_not() {
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (mut plan, interval, signal) = (Plan::default(), Duration::from_secs(8), Signal::Logs);
        let at = Duration::from_secs;
        assert!(plan.is_due(&a, signal, at(0)));
        let wait = |plan: &mut Plan, tenant: &TenantId, failed, now| {
            plan.passed(tenant, signal, failed, now, interval);
            let due = plan.0[&(tenant.clone(), signal)].at - now;
            assert!(!plan.is_due(tenant, signal, now) && plan.is_due(tenant, signal, now + due));
            due.as_secs()
        };
        assert!((7..=9).contains(&wait(&mut plan, &a, false, at(0))));
        for (failures, expected) in [(1, 16), (2, 32), (3, 64), (4, 128)] {
            let waited = wait(&mut plan, &b, true, at(100));
            assert!((expected * 7 / 8..=expected * 9 / 8).contains(&waited), "{failures}: {waited}");
        }
        for _ in 0..60 {
            wait(&mut plan, &b, true, at(200));
        }
        assert!(wait(&mut plan, &b, true, at(300)) <= 675);
        assert!(wait(&mut plan, &a, false, at(300)) <= 9 && wait(&mut plan, &b, false, at(400)) <= 9);
    }
}
