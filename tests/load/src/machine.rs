//! Time of processors: of the server, of this program, of the whole machine. Linux only: reads `/proc`.

use anyhow::{Context, Result};
use serde::Serialize;

/// `/proc` counts in hundredths of a second on every Linux, whatever the kernel's own tick (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// What the machine is.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Logical processors.
    pub cores: usize,
    /// Their model.
    pub model: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned()),
            memory_bytes: field_kib("/proc/meminfo", "MemTotal:").unwrap_or_default() * 1024,
        }
    }
}

/// Counters at one moment.
pub struct Reading {
    server: Option<u64>,
    own: u64,
    machine: Ticks,
}

struct Ticks {
    total: u64,
    idle: u64,
    stolen: u64,
}

/// Processor time between two readings, in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// Of the server, all threads, user and system.
    pub server_seconds: Option<f64>,
    /// Of this program.
    pub own_seconds: f64,
    /// Share of all cores' time that was not idle, from 0 to 1.
    pub machine_busy: f64,
    /// Share that other machines on the same hardware took.
    pub machine_stolen: f64,
}

impl Reading {
    /// The counters now; the server's if its process id is given.
    ///
    /// # Errors
    /// There is no such process, or no `/proc`.
    pub fn now(server: Option<u32>) -> Result<Reading> {
        Ok(Reading {
            server: server.map(|pid| process_ticks(&pid.to_string())).transpose()?,
            own: process_ticks("self")?,
            machine: Ticks::now()?,
        })
    }

    /// What passed since `earlier`.
    pub fn since(&self, earlier: &Reading) -> Cpu {
        let seconds = |now: u64, then: u64| now.saturating_sub(then) as f64 / TICKS_PER_SECOND;
        let total = self.machine.total.saturating_sub(earlier.machine.total).max(1) as f64;
        let idle = self.machine.idle.saturating_sub(earlier.machine.idle) as f64;
        let stolen = self.machine.stolen.saturating_sub(earlier.machine.stolen) as f64;
        Cpu {
            server_seconds: self.server.zip(earlier.server).map(|(now, then)| seconds(now, then)),
            own_seconds: seconds(self.own, earlier.own),
            machine_busy: 1.0 - idle / total,
            machine_stolen: stolen / total,
        }
    }
}

impl Ticks {
    fn now() -> Result<Ticks> {
        let stat = std::fs::read_to_string("/proc/stat").context("cannot read `/proc/stat`")?;
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("unexpected `/proc/stat`")?;
        // user nice system idle iowait irq softirq steal; what follows is counted in user already.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        let at = |n: usize| ticks.get(n).copied().unwrap_or_default();
        Ok(Ticks { total: ticks.iter().sum(), idle: at(3) + at(4), stolen: at(7) })
    }
}

/// The most memory that a process ever held, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Option<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmHWM:").map(|kib| kib * 1024)
}

fn process_ticks(pid: &str) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process `{pid}`"))?;
    ticks_of(&stat).with_context(|| format!("unexpected `/proc/{pid}/stat`"))
}

/// User and system time. The name of the process, in parentheses, may hold blanks and parentheses itself.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn field_kib(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_after_a_name_with_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 4 0 100";
        assert_eq!(ticks_of(stat), Some(281));
    }

    #[test]
    fn own_time_passes() {
        let before = Reading::now(Some(std::process::id())).unwrap();
        let begun = std::time::Instant::now();
        let mut x = 1u64;
        while begun.elapsed().as_millis() < 60 {
            x = std::hint::black_box(crate::mark::mix(x));
        }
        let cpu = Reading::now(Some(std::process::id())).unwrap().since(&before);
        assert!(cpu.own_seconds > 0.0 && cpu.server_seconds == Some(cpu.own_seconds));
        assert!((0.0..=1.0).contains(&cpu.machine_busy));
        assert!(peak_resident_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
