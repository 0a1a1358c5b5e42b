//! Whose turn it is: processes that share storage take one operation at a time, in an order that a seed gives.
//!
//! ```text
//! a process's thread -> operation -> waits here -> its turn: goes on, fails, loses its answer, pauses, dies -> next operation
//! ```
//!
//! Each process runs on one thread, and only one of them runs at any moment: it goes on until its next operation or sleep.
//! So a seed gives the same history each time. Time is simulated: each process has a clock (its runtime's paused one), which
//! operations, pauses and sleeps advance, and the one that is furthest behind goes first, more or less.
//! Not here: what operations do (`disk`, `bucket`), and what processes do (`world`).

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prism_model::samples::Random;

/// Operations of a dead process after which it is said to never end.
const AFTER_DEATH_MAX: u32 = 20_000;
/// Operations of a whole run after which it is said to never end.
const STEPS_MAX: usize = 200_000;
/// Events that are told of a run that failed.
const TOLD: usize = 120;

const MICRO: i64 = 1_000;
const SECOND: i64 = 1_000_000_000;

/// How often what goes wrong: one in so many operations, 0 for never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It fails, and nothing was done (or a part of a write).
    pub error: usize,
    /// It is done, and said to have failed.
    pub lost_reply: usize,
    /// It takes up to 2 s.
    pub slow: usize,
    /// The process stands still for up to 10 minutes.
    pub pause: usize,
    /// The process is killed.
    pub kill: usize,
    /// The process is killed, and what it did not sync is there in any part: its machine lost power.
    pub lose: usize,
    /// The storage loses power, and all processes with it.
    pub crash: usize,
    /// Another process goes on first.
    pub switch: usize,
}

/// What an operation is, which decides how it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing.
    Reads,
    /// Changes something.
    Writes,
}

/// What is to happen to an operation.
pub enum Verdict {
    Go,
    /// Nothing, or a part.
    Fail(io::Error),
    /// It is done; say that it failed.
    LostReply(io::Error),
}

/// How a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Kill,
    /// What it did not sync is there in any part.
    Lose,
    /// The storage is down for a moment; everybody dies.
    Crash,
}

/// What happens to what was not synced when machines lose power.
pub trait Storage: Send + Sync {
    /// All of it.
    fn crash(&self);
    /// What one process wrote.
    fn lose(&self, seat: usize);
}

#[derive(Clone)]
pub struct Turnstile(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    /// The same for all, since it is cheap to look.
    failed: AtomicBool,
}

struct Inner {
    random: Random,
    faults: Faults,
    seats: Vec<Seat>,
    turn: Option<usize>,
    history: Vec<Event>,
    storage: Option<Arc<dyn Storage>>,
    /// Dies at its operation of this number.
    planned: Option<(usize, Death)>,
    failure: Option<String>,
    /// How often storage lost power.
    crashes: u32,
}

struct Seat {
    state: SeatState,
    time: i64,
    turn: Arc<Condvar>,
    life: Option<Arc<Life>>,
    operations: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SeatState {
    /// Not there yet.
    Empty,
    Waiting,
    Running,
    Gone,
}

/// One incarnation of a process.
struct Life {
    number: u32,
    dead: AtomicBool,
    /// Wakes its main future.
    died: tokio::sync::Notify,
    after_death: Mutex<u32>,
    skew: AtomicI64,
}

struct Event {
    seat: usize,
    life: u32,
    time: i64,
    what: String,
    outcome: String,
}

/// A process as its storage sees it.
#[derive(Clone)]
pub struct Process {
    turnstile: Turnstile,
    seat: usize,
    life: Arc<Life>,
    /// Simulated time at which its runtime began, and the runtime's clock then.
    begun: (i64, tokio::time::Instant),
}

impl Turnstile {
    pub fn new(seats: usize, seed: u64, faults: Faults) -> Turnstile {
        let seat = |_| Seat { state: SeatState::Empty, time: 0, turn: Arc::default(), life: None, operations: 0 };
        let inner = Inner {
            random: Random(seed ^ 0x7472_6e73_7469_6c65),
            faults,
            seats: (0..seats).map(seat).collect(),
            turn: None,
            history: Vec::new(),
            storage: None,
            planned: None,
            failure: None,
            crashes: 0,
        };
        Turnstile(Arc::new(Shared { inner: Mutex::new(inner), failed: AtomicBool::new(false) }))
    }

    pub fn storage(&self, storage: Arc<dyn Storage>) {
        self.0.inner.lock().storage = Some(storage);
    }

    /// From now on.
    pub fn faults(&self, faults: Faults) {
        self.0.inner.lock().faults = faults;
    }

    /// The first process dies when it comes to its operation of this number (from 0 on).
    pub fn plan_death(&self, operation: usize, death: Death) {
        self.0.inner.lock().planned = Some((operation, death));
    }

    /// Operations of the first process so far.
    pub fn operations(&self) -> usize {
        self.0.inner.lock().seats[0].operations
    }

    /// How often storage lost power so far.
    pub fn crashes(&self) -> u32 {
        self.0.inner.lock().crashes
    }

    /// Takes a seat and waits for the first turn, which comes when all seats are taken.
    pub fn sit(&self, seat: usize) {
        WHERE.with(|w| *w.borrow_mut() = Some(self.clone()));
        let mut inner = self.0.inner.lock();
        inner.seats[seat].state = SeatState::Waiting;
        if inner.seats.iter().all(|s| s.state != SeatState::Empty) {
            inner.next(None);
        }
        self.wait(&mut inner, seat);
    }

    /// Gives the seat up.
    pub fn leave(&self, seat: usize) {
        WHERE.with(|w| *w.borrow_mut() = None);
        let mut inner = self.0.inner.lock();
        inner.seats[seat].state = SeatState::Gone;
        inner.seats[seat].life = None;
        inner.next(None);
    }

    /// A new incarnation in a seat, some time after the last one. Called within the runtime that it will run on.
    pub fn born(&self, seat: usize, down: Duration, skew: i64) -> Process {
        let mut inner = self.0.inner.lock();
        let number = inner.seats[seat].life.as_ref().map_or(0, |l| l.number + 1);
        let life = Arc::new(Life {
            number,
            dead: AtomicBool::new(self.0.failed.load(SeqCst)),
            died: tokio::sync::Notify::new(),
            after_death: Mutex::new(0),
            skew: AtomicI64::new(skew),
        });
        inner.seats[seat].life = Some(life.clone());
        inner.seats[seat].time += down.as_nanos() as i64;
        let begun = (inner.seats[seat].time, tokio::time::Instant::now());
        inner.note(seat, "begins", "");
        Process { turnstile: self.clone(), seat, life, begun }
    }

    /// Something was found wrong: everything ends.
    pub fn fail(&self, why: &str) {
        let mut inner = self.0.inner.lock();
        inner.failure.get_or_insert_with(|| why.to_owned());
        self.0.failed.store(true, SeqCst);
        for seat in &inner.seats {
            if let Some(life) = &seat.life {
                life.dead.store(true, SeqCst);
                life.died.notify_one();
            }
        }
    }

    /// What was found wrong.
    pub fn failure(&self) -> Option<String> {
        self.0.inner.lock().failure.clone()
    }

    /// The last events, or all.
    pub fn told(&self, all: bool) -> String {
        let inner = self.0.inner.lock();
        let from = if all { 0 } else { inner.history.len().saturating_sub(TOLD) };
        let line = |e: &Event| {
            format!("{:>12.6} p{}.{} {} {}\n", e.time as f64 / SECOND as f64, e.seat, e.life, e.what, e.outcome)
        };
        inner.history[from..].iter().map(line).collect()
    }

    /// How many events there were.
    pub fn steps(&self) -> usize {
        self.0.inner.lock().history.len()
    }

    fn wait(&self, inner: &mut parking_lot::MutexGuard<'_, Inner>, seat: usize) {
        let turn = inner.seats[seat].turn.clone();
        while inner.turn != Some(seat) {
            turn.wait(inner);
        }
        inner.seats[seat].state = SeatState::Running;
    }
}

impl Inner {
    /// Gives the turn to a seat that waits; `from` would like to go on.
    fn next(&mut self, from: Option<usize>) {
        let waiting = || self.seats.iter().enumerate().filter(|(_, s)| s.state == SeatState::Waiting);
        let Some(first) = waiting().map(|(_, s)| s.time).min() else {
            self.turn = None;
            return;
        };
        // Two machines do not take exactly the same time for the same: a few milliseconds decide nothing.
        let near: Vec<usize> = waiting().filter(|(_, s)| s.time <= first + 20_000 * MICRO).map(|(i, _)| i).collect();
        let stays = from.filter(|f| near.contains(f) && !one_in(&mut self.random, self.faults.switch));
        let seat = stays.unwrap_or_else(|| near[self.random.below(near.len())]);
        self.turn = Some(seat);
        if from != Some(seat) {
            self.seats[seat].turn.notify_one();
        }
    }

    fn note(&mut self, seat: usize, what: &str, outcome: &str) {
        let s = &self.seats[seat];
        let life = s.life.as_ref().map_or(0, |l| l.number);
        self.history.push(Event { seat, life, time: s.time, what: what.to_owned(), outcome: outcome.to_owned() });
    }

    fn kill(&mut self, seat: usize, death: Death) {
        let storage = self.storage.clone();
        match (death, storage) {
            (Death::Crash, Some(storage)) => {
                self.crashes += 1;
                storage.crash();
                for seat in 0..self.seats.len() {
                    self.bury(seat);
                }
            }
            (Death::Lose, Some(storage)) => storage.lose(seat),
            _ => {}
        }
        self.bury(seat);
    }

    fn bury(&self, seat: usize) {
        if let Some(life) = &self.seats[seat].life {
            life.dead.store(true, SeqCst);
            life.died.notify_one();
        }
    }
}

fn one_in(random: &mut Random, n: usize) -> bool {
    n > 0 && random.one_in(n)
}

fn gone() -> io::Error {
    io::Error::other("the process is gone")
}

impl Process {
    pub fn is_dead(&self) -> bool {
        self.life.dead.load(SeqCst)
    }

    /// Comes back when the process is dead.
    pub async fn died(&self) {
        self.life.died.notified().await;
    }

    /// Whether it is the same incarnation of the same process.
    pub fn is(&self, other: &Process) -> bool {
        Arc::ptr_eq(&self.life, &other.life)
    }

    pub fn seat(&self) -> usize {
        self.seat
    }

    /// Which incarnation of its seat it is.
    pub fn life(&self) -> u32 {
        self.life.number
    }

    /// Simulated nanoseconds since the run began, by a clock that is never wrong.
    pub fn time(&self) -> i64 {
        self.begun.0 + (tokio::time::Instant::now() - self.begun.1).as_nanos() as i64
    }

    /// What its wall clock says it is off by.
    pub fn skew(&self) -> i64 {
        self.life.skew.load(SeqCst)
    }

    /// Its wall clock jumps.
    pub fn jump(&self, skew: i64) {
        self.life.skew.store(skew, SeqCst);
        self.turnstile.0.inner.lock().note(self.seat, "clock jumps", &format!("{} ms", skew / 1_000_000));
    }

    /// Says what the process does in the history.
    pub fn note(&self, what: &str) {
        if !self.is_dead() {
            self.turnstile.0.inner.lock().note(self.seat, what, "");
        }
    }

    /// Comes to an operation: waits for its turn, and says what becomes of it.
    ///
    /// # Errors
    /// Where the process is dead: then, and always after.
    pub fn comes_to(&self, effect: Effect, what: impl FnOnce() -> String) -> io::Result<Verdict> {
        if self.is_dead() {
            let mut after = self.life.after_death.lock();
            *after += 1;
            assert!(*after < AFTER_DEATH_MAX, "a process does not end although its storage is gone");
            return Err(gone());
        }
        // Not under the lock: a panic tells the turnstile.
        assert!(self.turnstile.steps() < STEPS_MAX, "no end after {STEPS_MAX} operations");
        let mut inner = self.turnstile.0.inner.lock();
        // Most operations take up to a millisecond.
        let mut takes = inner.random.below(1_000) as i64 * MICRO;
        let mut why = "";
        let faults = inner.faults.clone();
        if one_in(&mut inner.random, faults.slow) {
            takes += inner.random.below(2_000_000) as i64 * MICRO;
            why = "slow, ";
        }
        if one_in(&mut inner.random, faults.pause) {
            // As often a little as very long.
            let most = [2, 20, 200, 600][inner.random.below(4)];
            takes += inner.random.below(most * 1_000_000) as i64 * MICRO;
            why = "paused, ";
        }
        advance(takes);
        inner.seats[self.seat].time = self.time();
        inner.seats[self.seat].state = SeatState::Waiting;
        inner.next(Some(self.seat));
        self.turnstile.wait(&mut inner, self.seat);
        let inner = &mut *inner;
        let what = what();
        let number = inner.seats[self.seat].operations;
        inner.seats[self.seat].operations += 1;
        if self.is_dead() {
            inner.note(self.seat, &what, "never came: the process died");
            return Err(gone());
        }
        let death = match inner.planned {
            Some((at, death)) if self.seat == 0 && at == number => Some(death),
            _ if one_in(&mut inner.random, faults.kill) => Some(Death::Kill),
            _ if one_in(&mut inner.random, faults.lose) => Some(Death::Lose),
            _ if one_in(&mut inner.random, faults.crash) => Some(Death::Crash),
            _ => None,
        };
        if let Some(death) = death {
            inner.note(self.seat, &what, &format!("{why}dies before: {death:?}"));
            inner.kill(self.seat, death);
            return Err(gone());
        }
        let injected = || io::Error::other("injected");
        let (verdict, outcome) = if one_in(&mut inner.random, faults.error) {
            (Verdict::Fail(injected()), "fails")
        } else if effect == Effect::Writes && one_in(&mut inner.random, faults.lost_reply) {
            (Verdict::LostReply(injected()), "is done, its answer lost")
        } else {
            (Verdict::Go, "")
        };
        inner.note(self.seat, &what, &format!("{why}{outcome}"));
        Ok(verdict)
    }

    /// Adds to the last event how it ended by itself.
    pub fn ended(&self, error: &io::Error) {
        let mut inner = self.turnstile.0.inner.lock();
        if let Some(event) = inner.history.last_mut() {
            event.outcome += &format!("-> {error}");
        }
    }

    /// A seeded choice by whoever has the turn.
    pub fn below(&self, n: usize) -> usize {
        self.turnstile.0.inner.lock().random.below(n)
    }

    /// Nothing to do before the next timer: lets others go on. Called by the runtime before it sleeps.
    pub fn sleeps(&self) {
        if self.is_dead() {
            self.life.died.notify_one();
            return;
        }
        let mut inner = self.turnstile.0.inner.lock();
        inner.seats[self.seat].time = self.time();
        inner.seats[self.seat].state = SeatState::Waiting;
        inner.next(Some(self.seat));
        self.turnstile.wait(&mut inner, self.seat);
    }
}

/// The runtime's paused clock goes forward.
fn advance(nanos: i64) {
    let mut advance = std::pin::pin!(tokio::time::advance(Duration::from_nanos(nanos as u64)));
    // The first poll moves the clock; what follows only lets other tasks run.
    let _ = advance.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}

thread_local! {
    /// Where this thread sits.
    static WHERE: RefCell<Option<Turnstile>> = const { RefCell::new(None) };
}

/// Panics of simulated processes fail their run, also where the code under test catches them.
pub fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match WHERE.with(|w| w.borrow().clone()) {
            Some(turnstile) => turnstile.fail(&info.to_string()),
            None => before(info),
        }));
    });
}
