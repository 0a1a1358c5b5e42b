//! A wall clock of a server's own, which a test sets as somebody sets a machine's time. Linux; the C compiler that builds need
//! anyway makes the library that answers for the clock (`clock.c`).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The wall clock of the servers that are run by it. Clocks that never go back are not touched.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    shift: PathBuf,
}

impl WallClock {
    /// A clock that is right, with its files in a folder of its own.
    ///
    /// # Errors
    /// There is no C compiler, or the folder cannot be written.
    pub fn new(dir: &Path) -> anyhow::Result<WallClock> {
        let clock = WallClock { library: dir.join("clock.so"), shift: dir.join("shift") };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/clock.c");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&clock.library).arg(source).output();
        let made = made.context("expected a C compiler (`cc`)")?;
        ensure!(made.status.success(), "the library of the clock: {}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(&clock.shift, 0i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// A command that goes by this clock.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", &self.library).env("WALL_CLOCK_SHIFT", &self.shift);
        command
    }

    /// Sets it to so many seconds behind the right time, or before it where they are negative.
    ///
    /// # Errors
    /// The folder is gone.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // In its place, since processes look at this very file.
        let file = OpenOptions::new().write(true).open(&self.shift)?;
        Ok(file.write_all_at(&(seconds * 1_000_000_000).to_ne_bytes(), 0)?)
    }
}
