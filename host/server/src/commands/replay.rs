//! `prism replay`: recorded OTLP at the pace at which it happened, moved to now.
//!
//! Recordings are read twice: once for when they begin and end, then to send each request when its last event is due. So the
//! last event of all happens when it is sent, and none lies in the future.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use prism_ingest::recording::{self, Recorded, Recording, Shift, Span};

use super::files::{self, Input, Inputs, Progress};
use super::send::{self, Outbox, Parcel};
use crate::cli::{Align, Replay, Speed};
use crate::config::Config;
use crate::show::Screen;

/// Longest sleep at once, so that a replay that is stopped ends soon.
const NAP_MAX: Duration = Duration::from_millis(200);

/// Runs `prism replay`; returns what is printed, and whether everything was taken.
///
/// # Errors
/// A file that is named does not exist, no request has a time, or nothing more could be sent.
pub(crate) fn run(command: &Replay, config: &Config, screen: &Screen) -> anyhow::Result<(String, bool)> {
    let began = Instant::now();
    let what = &command.recordings;
    let inputs = files::inputs(&what.paths)?;
    if !inputs.files.iter().all(Input::is_file) {
        bail!("expected files: recordings are read twice, first for when they begin and end, and `-` cannot be");
    }
    let spans = inputs.files.iter().map(|input| look_ahead(input, command, config)).collect::<Vec<_>>();
    let Some(all) = spans.iter().flatten().copied().reduce(Span::and) else {
        bail!("expected requests with times, found none; `prism ingest` tells what is wrong with them");
    };
    let start = u64::try_from(crate::app::now_unix_nanos()).unwrap_or(0);
    let tracks = inputs.files.iter().zip(&spans).map(|(input, span)| {
        let span = match command.align {
            Align::All => all,
            Align::Each => span.unwrap_or(all),
        };
        Track::new(input, Schedule::new(span, start, command))
    });
    let tracks = tracks.collect();
    let progress = Progress::of(&inputs);
    let tally = send::all(&what.to, config, what.strict, &progress, |outbox| {
        play(tracks, command, config, outbox, &progress);
        Ok(())
    })?;
    let Inputs { files, left_out } = &inputs;
    Ok((tally.report(files.len(), *left_out, began.elapsed(), screen), tally.whole()))
}

/// From the request that is due first to the one that is due last: when the last event of each was. What cannot be read is told
/// when it is read again.
fn look_ahead(input: &Input, command: &Replay, config: &Config) -> Option<Span> {
    let recording = input.open(command.recordings.signal, &config.limits, &Progress::hidden()).ok()?;
    let due = recording.flatten().filter_map(|recorded| due(&recorded));
    due.map(|due| Span { first: due, last: due }).reduce(Span::and)
}

/// When a request was whole: its last event.
fn due(recorded: &Recorded) -> Option<u64> {
    recording::span(recorded.signal, &recorded.body).ok().flatten().map(|span| span.last)
}

/// When requests of a recording are sent, and how far their times are moved.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Schedule {
    first: u64,
    speed: Speed,
    shift: Option<Shift>,
}

impl Schedule {
    fn new(span: Span, start_unix_nanos: u64, command: &Replay) -> Schedule {
        let mut schedule = Schedule { first: span.first, speed: command.speed, shift: None };
        if command.shift_to_now {
            let ends =
                start_unix_nanos.saturating_add(u64::try_from(schedule.after(span.last).as_nanos()).unwrap_or(0));
            // Both are times within int64, so that their difference is too.
            schedule.shift = Some(Shift((ends as i64).saturating_sub(span.last as i64)));
        }
        schedule
    }

    /// How long after the start a request with this last event is sent.
    fn after(&self, due: u64) -> Duration {
        let recorded = Duration::from_nanos(due.saturating_sub(self.first));
        match self.speed {
            Speed::Max => Duration::ZERO,
            Speed::Times(times) => recorded.div_f64(times),
        }
    }
}

/// A recording while it is played.
struct Track<'a> {
    input: &'a Input,
    schedule: Schedule,
    recording: Option<Recording>,
    unit: &'static str,
    next: Option<Recorded>,
    /// When the next one is sent; never before the one in front of it.
    after: Duration,
    requests: u64,
}

impl<'a> Track<'a> {
    fn new(input: &'a Input, schedule: Schedule) -> Track<'a> {
        Track { input, schedule, recording: None, unit: "", next: None, after: Duration::ZERO, requests: 0 }
    }

    fn open(&mut self, command: &Replay, config: &Config, outbox: &Outbox<'_>, progress: &Progress) {
        match self.input.open(command.recordings.signal, &config.limits, progress) {
            Ok(recording) => {
                self.unit = recording.unit();
                self.recording = Some(recording);
                self.advance(outbox, progress);
            }
            Err(error) => outbox.unread(&error),
        }
    }

    /// Reads the next request.
    fn advance(&mut self, outbox: &Outbox<'_>, progress: &Progress) {
        self.next = None;
        let Some(recording) = &mut self.recording else { return };
        for next in recording {
            match next {
                Ok(recorded) => {
                    if let Some(due) = due(&recorded) {
                        self.after = self.after.max(self.schedule.after(due));
                    }
                    self.next = Some(recorded);
                    self.requests += 1;
                    return;
                }
                Err(broken) => outbox.broken(&self.input.place(self.unit, broken.number), &broken.reason),
            }
        }
        self.recording = None;
        progress.read(self.input, self.requests);
    }
}

/// Sends what is due next, of whichever recording, until there is nothing more.
fn play(mut tracks: Vec<Track<'_>>, command: &Replay, config: &Config, outbox: &Outbox<'_>, progress: &Progress) {
    for track in &mut tracks {
        track.open(command, config, outbox, progress);
    }
    let started = Instant::now();
    loop {
        let ready = tracks.iter_mut().filter(|track| track.next.is_some());
        let Some(track) = ready.min_by_key(|track| track.after) else { return };
        while let Some(left) = track.after.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            if outbox.stopped() {
                return;
            }
            thread::sleep(left.min(NAP_MAX));
        }
        let Some(mut recorded) = track.next.take() else { return };
        let place = track.input.place(track.unit, recorded.number);
        let moved = match track.schedule.shift {
            Some(by) => recording::shift(recorded.signal, &recorded.body, by),
            None => Ok(recorded.body),
        };
        match moved {
            Ok(body) => {
                recorded.body = body;
                if !outbox.send(Parcel { recorded, place }) {
                    return;
                }
            }
            Err(error) => outbox.broken(&place, &error.to_string()),
        }
        if outbox.stopped() {
            return;
        }
        track.advance(outbox, progress);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn schedule(args: &[&str], span: Span, start: u64) -> Schedule {
        let cli = Cli::try_parse_from([&["prism", "replay", "x.pb"], args].concat()).unwrap();
        let Command::Replay(command) = cli.command else { panic!("a replay") };
        Schedule::new(span, start, &command)
    }

    #[test]
    fn the_last_event_happens_when_it_is_sent() {
        let second = 1_000_000_000;
        let span = Span { first: 100 * second, last: 160 * second };
        let start = 5_000 * second;
        for (speed, seconds) in [("1x", 60.0), ("10x", 6.0), ("0.5x", 120.0), ("max", 0.0)] {
            let schedule = schedule(&["--shift-to-now", "--speed", speed], span, start);
            let after = schedule.after(span.last);
            assert_eq!(after, Duration::from_secs_f64(seconds), "{speed}");
            assert_eq!(schedule.after(span.first), Duration::ZERO);
            let moved = span.last.checked_add_signed(schedule.shift.unwrap().0).unwrap();
            assert_eq!(u128::from(moved), u128::from(start) + after.as_nanos(), "{speed}");
        }
        assert_eq!(schedule(&[], span, start).shift, None);
    }

    #[test]
    fn speeds_are_factors_or_max() {
        for (text, speed) in
            [("max", Some(Speed::Max)), ("2.5x", Some(Speed::Times(2.5))), ("1x", Some(Speed::Times(1.0)))]
        {
            assert_eq!(text.parse().ok(), speed, "{text}");
        }
        for text in ["", "x", "1", "-1x", "0x", "NaNx", "infx", "1e9x", "MAX"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
