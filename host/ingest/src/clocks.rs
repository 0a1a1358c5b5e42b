//! What time it is, and how much of it went by: a wall clock may jump, and what is remembered for half an hour must not be
//! forgotten at once then.

use std::sync::Arc;
use std::time::Instant;

/// Unix nanoseconds now.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The two clocks of a process.
#[derive(Clone)]
pub struct Clocks {
    /// Tells when a request is received.
    pub wall: Clock,
    /// Tells how long ago something was: began as the wall clock did, and goes on evenly, whatever becomes of that.
    pub steady: Clock,
}

/// One moment by both clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) wall: i64,
    pub(crate) steady: i64,
}

impl Clocks {
    /// A wall clock, and from now on a steady one beside it.
    pub fn beside(wall: Clock) -> Clocks {
        let (begun, since) = (wall(), Instant::now());
        let passed = move || i64::try_from(since.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Clocks { wall, steady: Arc::new(move || begun.saturating_add(passed())) }
    }

    /// A clock that tells both: one that never jumps.
    pub fn of_one(clock: Clock) -> Clocks {
        Clocks { wall: clock.clone(), steady: clock }
    }

    pub(crate) fn now(&self) -> Now {
        Now { wall: (self.wall)(), steady: (self.steady)() }
    }
}

impl Now {
    /// When that was by the steady clock which the wall clock of this process, or another's, told as `at`: the latest time that it
    /// may have been, since it is not known whether the clock had jumped by then.
    pub(crate) fn steadied(&self, at: i64) -> i64 {
        let jumped = at.saturating_add(self.steady.saturating_sub(self.wall));
        let (earlier, later) = (at.min(jumped), at.max(jumped));
        // Nothing was received after now.
        if later <= self.steady { later } else { earlier.min(self.steady) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    #[test]
    fn what_was_received_before_and_after_a_jump_is_not_older_than_it_is() {
        let at = |now: Now, minutes: i64| now.steadied(minutes * MINUTE) / MINUTE;
        let plain = Now { wall: 100 * MINUTE, steady: 100 * MINUTE };
        assert_eq!([at(plain, 90), at(plain, 100), at(plain, 300)], [90, 100, 100], "another's clock may be ahead");
        // An hour ahead since: 90 was told before, 155 five minutes ago.
        let ahead = Now { wall: 160 * MINUTE, steady: 100 * MINUTE };
        assert_eq!([at(ahead, 90), at(ahead, 155), at(ahead, 160)], [90, 95, 100]);
        // An hour back since: 90 was told before, 35 five minutes ago, 20 either 20 or 80 minutes ago.
        let back = Now { wall: 40 * MINUTE, steady: 100 * MINUTE };
        assert_eq!([at(back, 90), at(back, 35), at(back, 20)], [90, 95, 80]);
    }

    #[test]
    fn the_steady_clock_goes_on_where_the_wall_clock_jumps() {
        let told = Arc::new(std::sync::atomic::AtomicI64::new(1_000 * MINUTE));
        let wall = told.clone();
        let clocks = Clocks::beside(Arc::new(move || wall.load(std::sync::atomic::Ordering::SeqCst)));
        told.store(0, std::sync::atomic::Ordering::SeqCst);
        let now = clocks.now();
        assert_eq!(now.wall, 0);
        assert!(now.steady >= 1_000 * MINUTE && clocks.now().steady >= now.steady);
    }
}
