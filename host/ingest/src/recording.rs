//! Recorded OTLP: the bytes of a file to the requests in it, told apart by what they hold.
//!
//! ```text
//! bytes -> content (gzip, zstd or neither; text or protobuf) -> frames (messages) | lines, documents (JSON) -> Recorded
//! times (a request's times, all moved by one offset)
//! ```
//!
//! A recording is read from front to back with the memory of its largest request. Not here: which files there are, and where
//! requests go (`prism-server`). This is for tools; requests that come in take the way of `pipeline`.

mod content;
mod frames;
mod times;

use std::io::{self, BufRead, Read};

use prism_model::{Limits, Signal};

use crate::json;
use content::Shape;
use frames::Framing;

pub use times::{Shift, Span, items, shift, span};

/// What is known of a recording beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The name of its file: `traces`, `logs` or `metrics` in it settles what the content leaves open, and `.jsonl` says that
    /// each line is a request.
    pub name: String,
    /// What protobuf in it is, where that is known.
    pub signal: Option<Signal>,
    /// Bounds of a request.
    pub limits: Limits,
}

/// A request of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Which line, counted from 1, or which message; 0 where the whole file is one request.
    pub number: u64,
    /// What it holds.
    pub signal: Signal,
    /// The request in protobuf.
    pub body: Vec<u8>,
}

/// A part of a recording that is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which line or message, as in [`Recorded::number`].
    pub number: u64,
    /// What was expected and found.
    pub reason: String,
}

/// The requests of a recording, in order. A line that is no request is told as [`Broken`] and the next one is read; where the
/// place of the next message is not known, a broken one is the last.
pub struct Recording {
    about: About,
    bytes: Box<dyn BufRead + Send>,
    shape: Shape,
    number: u64,
    /// Of the same line or document: an object may be a request of several signals.
    ready: Vec<Recorded>,
    ended: bool,
}

impl Recording {
    /// Looks at how a recording begins.
    ///
    /// # Errors
    /// It cannot be read, or what it is packed with is broken.
    pub fn open(bytes: impl Read + Send + 'static, about: About) -> io::Result<Recording> {
        let (bytes, shape) = content::open(Box::new(bytes), &about)?;
        Ok(Recording { about, bytes, shape, number: 0, ready: Vec::new(), ended: false })
    }

    /// What a place in it is called: `line` or `message`; empty where it is one request.
    pub fn unit(&self) -> &'static str {
        match self.shape {
            Shape::Lines => "line",
            Shape::Messages(Framing::Single) | Shape::Document => "",
            Shape::Messages(_) => "message",
        }
    }

    fn read(&mut self) -> Option<Result<(), Broken>> {
        let max = self.about.limits.body_bytes_max;
        let read = match self.shape {
            Shape::Lines => content::line(&mut self.bytes, max),
            Shape::Document | Shape::Messages(Framing::Single) => content::rest(&mut self.bytes, max),
            Shape::Messages(framing) => frames::next(&mut self.bytes, framing, max),
        };
        self.ended |= !matches!(self.shape, Shape::Lines | Shape::Messages(Framing::Fixed | Framing::Varint));
        self.number += u64::from(!self.ended);
        let text = matches!(self.shape, Shape::Lines | Shape::Document);
        let result = match read {
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Ok(Some(bytes)) if text && bytes.trim_ascii().is_empty() => return Some(Ok(())),
            Ok(Some(bytes)) if text => self.json(&bytes),
            Ok(Some(bytes)) => self.protobuf(bytes),
            Err(fault) => {
                self.ended |= !fault.goes_on;
                Err(fault.reason)
            }
        };
        Some(result.map_err(|reason| Broken { number: self.number, reason }))
    }

    fn json(&mut self, text: &[u8]) -> Result<(), String> {
        let signals = json::signals(text);
        if signals.is_empty() {
            // JSON that is broken says where; an object of something else says what is missing.
            return match json::recorded_to_protobuf(Signal::Spans, text, &self.about.limits) {
                Err(error) => Err(error.to_string()),
                Ok(_) => {
                    Err("expected `resourceSpans`, `resourceLogs` or `resourceMetrics`, found none of them".into())
                }
            };
        }
        for signal in signals {
            let body = json::recorded_to_protobuf(signal, text, &self.about.limits).map_err(|e| e.to_string())?;
            self.ready.push(Recorded { number: self.number, signal, body });
        }
        self.ready.reverse();
        Ok(())
    }

    fn protobuf(&mut self, body: Vec<u8>) -> Result<(), String> {
        let signal = match self.about.signal {
            Some(signal) => signal,
            None => content::signal(&body, &self.about)?,
        };
        // What the first one is all are, so that a request without items is of its signal too.
        self.about.signal = Some(signal);
        self.ready.push(Recorded { number: self.number, signal, body });
        Ok(())
    }
}

impl Iterator for Recording {
    type Item = Result<Recorded, Broken>;

    fn next(&mut self) -> Option<Result<Recorded, Broken>> {
        loop {
            if let Some(ready) = self.ready.pop() {
                return Some(Ok(ready));
            }
            if self.ended {
                return None;
            }
            if let Err(broken) = self.read()? {
                self.ready.clear();
                return Some(Err(broken));
            }
        }
    }
}
