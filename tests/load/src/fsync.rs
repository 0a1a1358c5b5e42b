//! What the disk alone can do: writes of one size into an allocated file, each made durable, at a fixed pace.
//!
//! An acknowledgement waits for such a write, so its tail is the floor of the server's.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::latency::Latency;

/// The file is written over and over; as large as an extent of a segment.
const FILE_BYTES: usize = 16 << 20;

/// Writes `bytes` bytes every `every` into a file in `dir` until `stop`, and removes the file.
///
/// # Errors
/// The directory cannot be written.
pub fn run(dir: &Path, bytes: usize, every: Duration, stop: &AtomicBool) -> Result<Latency> {
    let path = dir.join(format!("prism-load-fsync-{}", std::process::id()));
    let open = OpenOptions::new().write(true).create_new(true).open(&path);
    let file = open.with_context(|| format!("cannot write in `{}`", dir.display()))?;
    let measured = measure(&file, bytes.clamp(1, FILE_BYTES), every, stop);
    std::fs::remove_file(&path)?;
    measured
}

fn measure(file: &File, bytes: usize, every: Duration, stop: &AtomicBool) -> Result<Latency> {
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let block: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
    let mut latency = Latency::default();
    let mut offset = 0;
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        file.write_all_at(&block, offset)?;
        file.sync_data()?;
        latency.record(begun.elapsed());
        offset = (offset + bytes as u64) % (FILE_BYTES - bytes + 1) as u64;
        std::thread::sleep(every.saturating_sub(begun.elapsed()));
    }
    Ok(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let latency = std::thread::scope(|scope| {
            let writer = scope.spawn(|| run(dir.path(), 4_096, Duration::from_millis(1), &stop));
            while std::fs::read_dir(dir.path()).unwrap().count() == 0 && !writer.is_finished() {
                std::thread::yield_now();
            }
            stop.store(true, Relaxed);
            writer.join().unwrap().unwrap()
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(latency);
    }
}
