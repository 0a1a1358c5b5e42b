//! The thread that makes the rollups of segments which queries ask for: one for a reader, of low priority, so that what comes in
//! and what is asked go first.

use std::thread::JoinHandle;

use super::{CountOptions, Reader};

/// Nice value of the thread: ordinary ones get about nine times the processor's time.
const NICE: i32 = 10;

/// The thread. It ends when it is stopped or dropped, after the step that it is at.
#[derive(Debug)]
pub struct Counter {
    reader: Reader,
    thread: Option<JoinHandle<()>>,
}

impl Counter {
    /// Begins.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub fn start(reader: &Reader, options: CountOptions) -> std::io::Result<Counter> {
        reader.keep_counts(options);
        let counted = reader.0.hot.counted.clone();
        let work = move || {
            // Linux means the calling thread by none. Where it is refused the work goes on at the priority that there is.
            let _refused = rustix::process::setpriority_process(None, NICE);
            while counted.wait() {
                counted.step();
            }
        };
        let thread = std::thread::Builder::new().name("prism-rollups".to_owned()).spawn(work)?;
        Ok(Counter { reader: reader.clone(), thread: Some(thread) })
    }

    /// Lets it end, without waiting for that.
    pub fn stop(&self) {
        self.reader.0.hot.counted.stop();
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended too, and said so.
            let _ended = thread.join();
        }
    }
}
