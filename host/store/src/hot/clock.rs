//! Notices that the wall clock jumped: rows come late or early by it, and what is due is due at another time, but nothing that
//! keeps rows goes by it (adr/0003).

use std::time::Duration;

/// Further than clocks are slewed between two looks, and than a look takes.
const JUMP: Duration = Duration::from_secs(10);

/// The last look.
#[derive(Debug, Default)]
pub(super) struct ClockWatch(Option<(i64, Duration)>);

impl ClockWatch {
    /// Compares the wall clock (unix nanoseconds) with a monotonic one since the last look: by how many nanoseconds it jumped,
    /// where it did.
    pub(super) fn look(&mut self, wall: i64, steady: Duration) -> Option<i64> {
        let (wall_before, steady_before) = self.0.replace((wall, steady))?;
        let passed = i64::try_from(steady.saturating_sub(steady_before).as_nanos()).unwrap_or(i64::MAX);
        let by = wall.saturating_sub(wall_before).saturating_sub(passed);
        (by.unsigned_abs() > JUMP.as_nanos() as u64).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_are_noticed_once_and_slewing_is_none() {
        let (mut watch, hour) = (ClockWatch::default(), 3_600_000_000_000);
        let at = Duration::from_secs;
        let looks = [(0, 0), (5, 5), (5 + 9, 10), (7_200, 15), (7_205, 20), (0, 25), (100_000, 100_025)];
        let looks = looks.map(|(wall, steady): (i64, u64)| watch.look(wall * 1_000_000_000, at(steady)));
        assert_eq!(looks.map(|by| by.map(|by| by / hour)), [None, None, None, Some(1), None, Some(-2), None]);
    }
}
