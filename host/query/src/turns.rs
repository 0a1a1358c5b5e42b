//! Who scans next: a bounded number of places for all queries of the process, given away one frame at a time.
//!
//! The place goes to the tenant that has had the least processor time, and there to the query that has had the least: many
//! heavy queries of one tenant wait for each other, not others for them. Who has had the least need not even wait for a frame of
//! another to end: it gets places beside the others at once, of as many again, and keeps them from frame to frame until another
//! who waits has had less. Those that had more then wait until no more are at work than there are places. A tenant that asks
//! little is so served as if it were alone: it may be ahead of the others by some time that it left to them.
//!
//! Not here: how many queries there are at once (`server`), their memory (`memory`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prism_model::TenantId;

/// How often who waits looks whether its query was given up.
const LOOK: Duration = Duration::from_millis(20);
/// Nanoseconds of processor time that a tenant may be ahead for what it left to others: small queries take less, and one that
/// is heavy has its share soon.
const AHEAD: u64 = 500_000_000;

/// The places of a process.
#[derive(Debug)]
pub(crate) struct Turns {
    fair: Mutex<Fair>,
    changed: Condvar,
}

impl Turns {
    /// So many places; 0 for the number of processors.
    pub(crate) fn new(threads: usize) -> Arc<Turns> {
        Arc::new(Turns { fair: Mutex::new(Fair::new(places(threads))), changed: Condvar::new() })
    }

    /// A query that will take turns.
    pub(crate) fn open(self: &Arc<Turns>, tenant: &TenantId) -> Arc<Taker> {
        let query = self.fair.lock().open(tenant);
        Arc::new(Taker { turns: self.clone(), query })
    }

    /// Frames that are worked on now, and those that wait for a place.
    pub(crate) fn now(&self) -> (usize, usize) {
        let fair = self.fair.lock();
        (fair.running, fair.waiting())
    }
}

/// The number of places for a setting.
pub(crate) fn places(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// A query among those that take turns; it leaves them when dropped.
#[derive(Debug)]
pub(crate) struct Taker {
    turns: Arc<Turns>,
    query: u64,
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.turns.fair.lock().close(self.query);
        self.turns.changed.notify_all();
    }
}

impl Taker {
    /// Waits for a place; `None` where `given_up` says so first. Blocks.
    pub(crate) fn take(&self, given_up: &dyn Fn() -> bool) -> Option<Turn<'_>> {
        let mut fair = self.turns.fair.lock();
        let ticket = fair.wait(self.query);
        loop {
            fair.admit();
            if fair.is_admitted(ticket) {
                // Another may have been admitted with this one.
                self.turns.changed.notify_all();
                return Some(Turn { taker: self, began: cpu_nanos() });
            }
            if given_up() {
                fair.leave(self.query, ticket);
                return None;
            }
            self.turns.changed.wait_for(&mut fair, LOOK);
        }
    }

    /// Goes on with a place, where nobody waits to whom it is due, else waits for another; `None` as [`Taker::take`].
    fn again<'t>(&'t self, mut turn: Turn<'t>, given_up: &dyn Fn() -> bool) -> Option<Turn<'t>> {
        let now = cpu_nanos();
        let mut fair = self.turns.fair.lock();
        fair.spend(self.query, now.saturating_sub(turn.began));
        turn.began = now;
        let keeps = fair.keeps(self.query);
        drop(fair);
        if given_up() {
            return None;
        }
        if keeps {
            return Some(turn);
        }
        drop(turn);
        self.take(given_up)
    }
}

/// A thread of a query at work, which takes its turn for each piece.
#[derive(Default)]
pub(crate) struct Place<'t> {
    turn: Option<Turn<'t>>,
}

impl<'t> Place<'t> {
    /// Does a piece when it is the query's turn; gives the processor time that it took too. `None`: given up before.
    pub(crate) fn work<T>(
        &mut self,
        taker: &'t Taker,
        given_up: &dyn Fn() -> bool,
        work: impl FnOnce() -> T,
    ) -> Option<(T, u64)> {
        self.turn = match self.turn.take() {
            Some(turn) => taker.again(turn, given_up),
            None => taker.take(given_up),
        };
        self.turn.as_ref()?;
        let began = cpu_nanos();
        let done = work();
        Some((done, cpu_nanos().saturating_sub(began)))
    }
}

/// The right to work; given back when dropped.
pub(crate) struct Turn<'t> {
    taker: &'t Taker,
    /// Up to when its time was counted.
    began: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let took = cpu_nanos().saturating_sub(self.began);
        let turns = &self.taker.turns;
        let mut fair = turns.fair.lock();
        fair.done(self.taker.query, took);
        fair.admit();
        drop(fair);
        turns.changed.notify_all();
    }
}

/// The processor time of this thread.
fn cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// The order of turns, without threads or clocks.
#[derive(Debug)]
struct Fair {
    places: usize,
    running: usize,
    tenants: BTreeMap<TenantId, Share>,
    tenant_of: HashMap<u64, TenantId>,
    /// What tenants without queries had, where others have not had much more.
    away: HashMap<TenantId, u64>,
    admitted: Vec<u64>,
    next_query: u64,
    next_ticket: u64,
}

/// What a tenant with queries has had.
#[derive(Debug, Default)]
struct Share {
    used: u64,
    running: usize,
    queries: BTreeMap<u64, OfQuery>,
}

#[derive(Debug, Default)]
struct OfQuery {
    used: u64,
    running: usize,
    waiting: VecDeque<u64>,
}

impl Fair {
    fn new(places: usize) -> Fair {
        Fair {
            places,
            running: 0,
            tenants: BTreeMap::new(),
            tenant_of: HashMap::new(),
            away: HashMap::new(),
            admitted: Vec::new(),
            next_query: 0,
            next_ticket: 0,
        }
    }

    /// The time that those had who had least.
    fn least(&self) -> u64 {
        self.tenants.values().map(|share| share.used).min().unwrap_or(0)
    }

    fn open(&mut self, tenant: &TenantId) -> u64 {
        // Who was away has saved up little: it begins not far before those who had least.
        let ahead = self.least().saturating_sub(AHEAD);
        let used = self.away.remove(tenant).unwrap_or_default().max(ahead);
        let share = self.tenants.entry(tenant.clone()).or_insert_with(|| Share { used, ..Share::default() });
        let query = self.next_query;
        self.next_query += 1;
        let least = share.queries.values().map(|of| of.used).min().unwrap_or(0);
        share.queries.insert(query, OfQuery { used: least, ..OfQuery::default() });
        self.tenant_of.insert(query, tenant.clone());
        query
    }

    fn close(&mut self, query: u64) {
        let Some(tenant) = self.tenant_of.remove(&query) else { return };
        if let Some(share) = self.tenants.get_mut(&tenant) {
            share.queries.remove(&query);
            if share.queries.is_empty() {
                let used = share.used;
                self.tenants.remove(&tenant);
                self.away.insert(tenant, used);
                let ahead = self.least().saturating_sub(AHEAD);
                // Beyond that it makes no difference, nor where nobody is left to be compared with.
                let none = self.tenants.is_empty();
                self.away.retain(|_, used| !none && *used > ahead);
            }
        }
    }

    fn of(&mut self, query: u64) -> Option<&mut Share> {
        self.tenants.get_mut(self.tenant_of.get(&query)?)
    }

    fn wait(&mut self, query: u64) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(of) = self.of(query).and_then(|share| share.queries.get_mut(&query)) {
            of.waiting.push_back(ticket);
        }
        ticket
    }

    fn waiting(&self) -> usize {
        self.tenants.values().flat_map(|share| share.queries.values()).map(|of| of.waiting.len()).sum()
    }

    /// Who waited goes without a turn, also one that was admitted just now.
    fn leave(&mut self, query: u64, ticket: u64) {
        if let Some(at) = self.admitted.iter().position(|admitted| *admitted == ticket) {
            self.admitted.swap_remove(at);
            self.done(query, 0);
        }
        if let Some(of) = self.of(query).and_then(|share| share.queries.get_mut(&query)) {
            of.waiting.retain(|waiting| *waiting != ticket);
        }
    }

    /// Takes note of an admitted ticket, once.
    fn is_admitted(&mut self, ticket: u64) -> bool {
        let at = self.admitted.iter().position(|admitted| *admitted == ticket);
        at.map(|at| self.admitted.swap_remove(at)).is_some()
    }

    /// Gives away the places that are free.
    fn admit(&mut self) {
        while let Some(ticket) = self.next() {
            self.admitted.push(ticket);
        }
    }

    fn next(&mut self) -> Option<u64> {
        if self.running >= self.places * 2 {
            return None;
        }
        let beside = self.running >= self.places;
        let at_work = |share: &&Share| share.running > 0;
        let least = self.tenants.values().filter(at_work).map(|share| share.used).min().unwrap_or(u64::MAX);
        let places = self.places;
        let waits = |share: &&mut Share| {
            let due = !beside || (share.running < places && share.used <= least);
            due && share.waits()
        };
        let share = self.tenants.values_mut().filter(waits).min_by_key(|share| (share.used, share.running))?;
        let waiting = share.queries.values_mut().filter(|of| !of.waiting.is_empty());
        let of = waiting.min_by_key(|of| (of.used, of.running))?;
        let ticket = of.waiting.pop_front()?;
        of.running += 1;
        share.running += 1;
        self.running += 1;
        Some(ticket)
    }

    /// Whether who is at work on a query may go on: nobody waits who has had less, and places are not taken twice.
    fn keeps(&self, query: u64) -> bool {
        let Some(share) = self.tenant_of.get(&query).and_then(|own| self.tenants.get(own)) else { return false };
        let twice = self.running > self.places;
        let goes_before = |other: &Share| other.used < share.used && (other.waits() || (twice && other.running > 0));
        if self.tenants.values().any(goes_before) {
            return false;
        }
        let used = share.queries.get(&query).map_or(0, |of| of.used);
        !share.queries.values().any(|of| !of.waiting.is_empty() && of.used < used)
    }

    /// Counts the processor time of a query.
    fn spend(&mut self, query: u64, took: u64) {
        if let Some(share) = self.of(query) {
            share.used += took;
            if let Some(of) = share.queries.get_mut(&query) {
                of.used += took;
            }
        }
    }

    fn done(&mut self, query: u64, took: u64) {
        self.spend(query, took);
        self.running -= 1;
        if let Some(share) = self.of(query) {
            share.running -= 1;
            if let Some(of) = share.queries.get_mut(&query) {
                of.running -= 1;
            }
        }
    }
}

impl Share {
    /// Whether anything of it waits for a place.
    fn waits(&self) -> bool {
        self.queries.values().any(|of| !of.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    /// Runs queries that each have frames of one length, by a clock of its own; gives who worked when, as (from, query).
    struct Simulated {
        fair: Fair,
        now: u64,
        /// End, query, frame length.
        running: Vec<(u64, u64, u64)>,
        left: BTreeMap<u64, (usize, u64)>,
        tickets: HashMap<u64, u64>,
        log: Vec<(u64, u64)>,
    }

    impl Simulated {
        fn new(places: usize) -> Simulated {
            Simulated {
                fair: Fair::new(places),
                now: 0,
                running: Vec::new(),
                left: BTreeMap::new(),
                tickets: HashMap::new(),
                log: Vec::new(),
            }
        }

        /// A query of so many frames, at work with so many threads.
        fn query(&mut self, of: &str, frames: usize, nanos: u64, threads: usize) -> u64 {
            let query = self.fair.open(&tenant(of));
            self.left.insert(query, (frames, nanos));
            for _ in 0..threads.min(frames) {
                self.ask(query);
            }
            query
        }

        fn ask(&mut self, query: u64) {
            let Some((frames, _)) = self.left.get_mut(&query) else { return };
            if *frames == 0 {
                return;
            }
            *frames -= 1;
            let ticket = self.fair.wait(query);
            self.tickets.insert(ticket, query);
        }

        fn admit(&mut self) {
            self.fair.admit();
            for ticket in std::mem::take(&mut self.fair.admitted) {
                let query = self.tickets[&ticket];
                let nanos = self.left[&query].1;
                self.running.push((self.now + nanos, query, nanos));
                self.log.push((self.now, query));
            }
        }

        /// Goes on until a query has ended; gives when.
        fn until(&mut self, query: u64) -> u64 {
            loop {
                self.admit();
                self.running.sort_unstable();
                if self.running.is_empty() {
                    panic!("nothing runs, and query {query} has not ended");
                }
                let (end, of, nanos) = self.running.remove(0);
                self.now = end;
                self.fair.spend(of, nanos);
                if self.left[&of].0 > 0 && self.fair.keeps(of) {
                    self.left.entry(of).and_modify(|(frames, _)| *frames -= 1);
                    self.running.push((self.now + nanos, of, nanos));
                    self.log.push((self.now, of));
                    continue;
                }
                self.fair.done(of, 0);
                self.ask(of);
                let over = self.left[&query].0 == 0 && !self.running.iter().any(|(_, of, _)| *of == query);
                if over
                    && self.fair.tenants.values().all(|s| s.queries.get(&query).is_none_or(|q| q.waiting.is_empty()))
                {
                    self.fair.close(query);
                    return self.now;
                }
            }
        }
    }

    #[test]
    fn a_small_query_does_not_wait_for_anothers_many() {
        let mut all = Simulated::new(2);
        for _ in 0..8 {
            all.query("heavy", 10_000, 20_000_000, 2);
        }
        let mut took = Vec::new();
        for _ in 0..100 {
            let began = all.now;
            let small = all.query("light", 4, 5_000_000, 2);
            took.push(all.until(small) - began);
        }
        took.sort_unstable();
        // Alone it takes two times 5 ms on two threads. While it is ahead of the others it need not even wait for their frames.
        assert!(took[20] == 10_000_000 && took[95] <= 15_000_000, "p20 {}, p95 {}", took[20], took[95]);
    }

    #[test]
    fn tenants_share_by_time_and_not_by_queries() {
        let mut all = Simulated::new(2);
        for _ in 0..7 {
            all.query("many", 100_000, 3_000_000, 2);
        }
        let one = all.query("one", 1_000, 7_000_000, 2);
        let end = all.until(one);
        let of_one = 1_000 * 7_000_000;
        // Two places: half of both is one.
        assert!(end <= of_one * 21 / 20, "{end} for {of_one} of work");
    }

    #[test]
    fn a_tenant_alone_has_all_places_and_its_short_query_comes_through() {
        let mut all = Simulated::new(4);
        let long = all.query("a", 4_000, 1_000_000, 4);
        let short = all.query("a", 10, 1_000_000, 4);
        assert!(all.until(short) <= 6_000_000);
        assert!(all.until(long) <= 1_010 * 1_000_000);
        assert!(all.log.iter().filter(|(from, _)| *from == 0).count() == 4, "no more than its places");
    }

    #[test]
    fn who_was_away_has_saved_little_up() {
        let mut all = Simulated::new(1);
        let _busy = all.query("a", 100_000, 1_000_000, 1);
        let before = all.query("a", 1_000, 1_000_000, 1);
        all.until(before);
        let later = all.query("b", 1_000, 1_000_000, 1);
        let share = all.log.len();
        all.until(later);
        // Half a second ahead, then as much as the other.
        let of_a = all.log[share..].iter().filter(|(_, query)| *query != later).count();
        assert!((450..=550).contains(&of_a), "{of_a}");
    }

    #[test]
    fn who_gives_up_leaves_no_place_taken() {
        let turns = Turns::new(1);
        let (a, b) = (turns.open(&tenant("a")), turns.open(&tenant("a")));
        let turn = a.take(&|| false).unwrap();
        assert!(b.take(&|| true).is_none(), "the place is taken, and the query given up");
        assert_eq!(turns.now(), (1, 0));
        drop(turn);
        assert!(b.take(&|| true).is_some(), "a free place is taken without asking");
        assert_eq!(turns.now(), (0, 0));
        let beside = (a.take(&|| false).unwrap(), turns.open(&tenant("c")));
        assert!(beside.1.take(&|| true).is_some(), "another tenant works beside");
        drop(beside);
        drop((a, b));
        assert!(turns.fair.lock().tenants.is_empty() && turns.fair.lock().tenant_of.is_empty());
    }
}
