//! `prism ingest`: recorded OTLP as it is.

use std::time::Instant;

use prism_ingest::recording::Recording;

use super::files::{self, Input, Progress};
use super::send::{self, Outbox, Parcel};
use crate::cli::Ingest;
use crate::config::Config;
use crate::show::Screen;

/// Runs `prism ingest`; returns what is printed, and whether everything was taken.
///
/// # Errors
/// A file that is named does not exist, or nothing more could be sent.
pub(crate) fn run(command: &Ingest, config: &Config, screen: &Screen) -> anyhow::Result<(String, bool)> {
    let began = Instant::now();
    let what = &command.recordings;
    let inputs = files::inputs(&what.paths)?;
    let progress = Progress::of(&inputs);
    let tally = send::all(&what.to, config, what.strict, &progress, |outbox| {
        for input in &inputs.files {
            match input.open(what.signal, &config.limits, &progress) {
                Ok(recording) => {
                    let requests = feed(recording, input, outbox);
                    progress.read(input, requests);
                }
                Err(error) => outbox.unread(&error),
            }
            if outbox.stopped() {
                break;
            }
        }
        Ok(())
    })?;
    Ok((tally.report(inputs.files.len(), inputs.left_out, began.elapsed(), screen), tally.whole()))
}

/// Sends what a recording holds; returns how many requests.
fn feed(recording: Recording, input: &Input, outbox: &Outbox<'_>) -> u64 {
    let unit = recording.unit();
    let mut requests = 0;
    for next in recording {
        let sent = match next {
            Ok(recorded) => {
                requests += 1;
                let place = input.place(unit, recorded.number);
                outbox.send(Parcel { recorded, place })
            }
            Err(broken) => {
                outbox.broken(&input.place(unit, broken.number), &broken.reason);
                !outbox.stopped()
            }
        };
        if !sent {
            break;
        }
    }
    requests
}
