//! What the bytes of a recording are: packed or not, text or protobuf, lines or one document, of which signal.

use std::io::{self, BufRead, BufReader, Read};

use prism_model::{Limits, Signal};

use super::About;
use super::frames::{self, Framing};
use crate::{decode, json};

/// Bytes that are looked at to tell what a recording is.
const WINDOW_BYTES: usize = 1 << 20;

/// How requests lie in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// JSON, a request a line.
    Lines,
    /// JSON, one request.
    Document,
    /// Protobuf.
    Messages(Framing),
}

/// A part that could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: String,
    /// Whether what follows can be read.
    pub(super) goes_on: bool,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault { reason: format!("the recording cannot be read on: {error}"), goes_on: false }
    }
}

/// The unpacked bytes and their shape.
pub(super) fn open(bytes: Box<dyn Read + Send>, about: &About) -> io::Result<(Box<dyn BufRead + Send>, Shape)> {
    let (magic, bytes) = peek(bytes, 4)?;
    let unpacked: Box<dyn Read + Send> = match *magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(bytes))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(bytes)?),
        _ => bytes,
    };
    let (window, bytes) = peek(unpacked, WINDOW_BYTES)?;
    let whole = window.len() < WINDOW_BYTES;
    let shape = if !is_text(&window) {
        Shape::Messages(frames::framing(&window, whole, about.limits.body_bytes_max))
    } else if is_lines(&window, whole, &about.name) {
        Shape::Lines
    } else {
        Shape::Document
    };
    Ok((Box::new(BufReader::new(bytes)), shape))
}

/// The first bytes, and all of them again.
fn peek(mut bytes: Box<dyn Read + Send>, n: usize) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut first = Vec::new();
    bytes.by_ref().take(n as u64).read_to_end(&mut first)?;
    let again = io::Cursor::new(first.clone()).chain(bytes);
    Ok((first, Box::new(again)))
}

/// JSON has no control characters but white space, and an OTLP request in protobuf is hardly without: its messages begin with
/// such bytes.
fn is_text(window: &[u8]) -> bool {
    let utf8 = match std::str::from_utf8(window) {
        Ok(_) => true,
        // The window may end inside of a character.
        Err(e) => e.error_len().is_none(),
    };
    utf8 && !window.iter().any(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r'))
}

fn is_lines(window: &[u8], whole: bool, name: &str) -> bool {
    let plain = name.trim_end_matches(".gz").trim_end_matches(".zst");
    if plain.ends_with(".jsonl") || plain.ends_with(".ndjson") {
        return true;
    }
    let mut lines = window.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let Some(first) = lines.next() else { return true };
    match lines.next() {
        Some(_) => json::is_value(first),
        // One line: a document as much as a line, unless it goes on beyond the window.
        None => !whole || json::is_value(first),
    }
}

/// The next line without its end, or `None` at the end.
pub(super) fn line(bytes: &mut Box<dyn BufRead + Send>, max: usize) -> Result<Option<Vec<u8>>, Fault> {
    let mut line = Vec::new();
    // One more than a line may have, and its end.
    let n = bytes.by_ref().take(max as u64 + 2).read_until(b'\n', &mut line)?;
    if n == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if n > max + 1 {
        drop(line);
        bytes.skip_until(b'\n')?;
        return Err(Fault { reason: too_large(max), goes_on: true });
    }
    if line.len() > max {
        return Err(Fault { reason: too_large(max), goes_on: true });
    }
    Ok(Some(line))
}

/// All that is left.
pub(super) fn rest(bytes: &mut Box<dyn BufRead + Send>, max: usize) -> Result<Option<Vec<u8>>, Fault> {
    let mut all = Vec::new();
    bytes.by_ref().take(max as u64 + 1).read_to_end(&mut all)?;
    if all.len() > max {
        return Err(Fault { reason: too_large(max), goes_on: false });
    }
    Ok(Some(all))
}

pub(super) fn too_large(max: usize) -> String {
    format!("expected a request of at most {max} bytes (limits.body_bytes_max), found more")
}

/// What a request in protobuf holds: the one signal as which it can be read and has items, else the one that its file is named
/// after.
pub(super) fn signal(body: &[u8], about: &About) -> Result<Signal, String> {
    let fitting: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| fits(*signal, body, &about.limits)).collect();
    if let [signal] = *fitting {
        return Ok(signal);
    }
    let name = about.name.to_ascii_lowercase();
    let called = |signal: Signal| match signal {
        Signal::Spans => name.contains("trace") || name.contains("span"),
        Signal::Logs => name.contains("log"),
        Signal::Metrics => name.contains("metric"),
    };
    let named: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| called(*signal)).collect();
    match (&*named, &*fitting) {
        ([signal], _) => Ok(*signal),
        (_, []) => Err("expected an OTLP request in protobuf or JSON, found neither; --signal says which it is".into()),
        _ => {
            Err("the request may be of several signals, and the name of its file is of none: --signal says which it is"
                .into())
        }
    }
}

fn fits(signal: Signal, body: &[u8], limits: &Limits) -> bool {
    let decoded = match signal {
        Signal::Spans => decode::traces(body, limits),
        Signal::Logs => decode::logs(body, limits),
        Signal::Metrics => decode::metrics(body, limits),
    };
    decoded.is_ok_and(|decoded| decoded.batch.rows() > 0)
}
