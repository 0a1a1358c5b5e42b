//! Runs: written in one go from ascending entries, read back in order for merging.

use std::sync::Arc;

use super::manifest::{Part, Run};
use super::page::{self, CAPACITY, Entry, FILL, FileRef, PAGE};
use crate::control::Create;
use crate::error::StoreError;
use crate::objects::{Objects, Upload};

/// Pages that are read or written at once.
const CHUNK_PAGES: u64 = 256;
/// Entries of a part, about: an object of 220 MB.
const PART_ENTRIES: u64 = 16 << 20;
/// Files of one trace in a run; of one in more nothing is kept but that it may be anywhere.
const TRACE_FILES_MAX: usize = 256;
/// The file of a trace that may be anywhere.
pub(crate) const ANYWHERE: FileRef = FileRef { minute: u32::MAX, path: u16::MAX };

/// Writes a run of ascending entries, at most `most` of them; equal ones once.
pub(crate) fn write(
    objects: &Arc<dyn Objects>,
    most: u64,
    mut name: impl FnMut() -> String,
    mut next: impl FnMut() -> Result<Option<Entry>, StoreError>,
) -> Result<Run, StoreError> {
    let mut bits = 0;
    while most >> bits > PART_ENTRIES && bits < 15 {
        bits += 1;
    }
    // A sixteenth more than the mean: parts are even to much less.
    let share = most >> bits;
    let pages = (share + share / 16).div_ceil(FILL).max(1);
    let mut entries = Distinct { next: &mut next, trace: None, files: Vec::new(), ahead: None };
    let mut ahead = entries.take()?;
    let mut parts = Vec::new();
    for number in 0..1usize << bits {
        let mut out = Out::begin(objects, name(), bits, pages)?;
        while let Some(entry) = ahead.filter(|e| page::part(e.trace, bits) == number) {
            out.add(entry)?;
            ahead = entries.take()?;
        }
        parts.push(out.finish()?);
    }
    Ok(Run { bits, parts })
}

/// Each (trace, file) once; a trace in too many files as one that may be anywhere.
struct Distinct<'a, F> {
    next: &'a mut F,
    trace: Option<u64>,
    files: Vec<FileRef>,
    ahead: Option<Entry>,
}

impl<F: FnMut() -> Result<Option<Entry>, StoreError>> Distinct<'_, F> {
    fn take(&mut self) -> Result<Option<Entry>, StoreError> {
        if self.files.is_empty() {
            let first = match self.ahead.take() {
                Some(first) => Some(first),
                None => (self.next)()?,
            };
            let Some(first) = first else { return Ok(None) };
            self.trace = Some(first.trace);
            self.files.push(first.file);
            while let Some(entry) = (self.next)()? {
                if entry.trace != first.trace {
                    self.ahead = Some(entry);
                    break;
                }
                if self.files.last() != Some(&entry.file) && self.files.len() <= TRACE_FILES_MAX {
                    self.files.push(entry.file);
                }
            }
            if self.files.len() > TRACE_FILES_MAX || self.files.last() == Some(&ANYWHERE) {
                self.files = vec![ANYWHERE];
            }
            self.files.reverse();
        }
        Ok(self.trace.zip(self.files.pop()).map(|(trace, file)| Entry { trace, file }))
    }
}

/// A part that is being written, page by page.
struct Out {
    upload: Box<dyn Upload>,
    part: Part,
    bits: u32,
    /// The page that is being filled.
    at: u64,
    page: Vec<Entry>,
    buffer: Vec<u8>,
}

impl Out {
    fn begin(objects: &Arc<dyn Objects>, name: String, bits: u32, pages: u64) -> Result<Out, StoreError> {
        let upload = objects.upload(&name).map_err(failed)?;
        let part = Part { name, entries: 0, pages, behind: 0 };
        Ok(Out { upload, part, bits, at: 0, page: Vec::with_capacity(CAPACITY), buffer: Vec::new() })
    }

    fn add(&mut self, entry: Entry) -> Result<(), StoreError> {
        let home = page::home(entry.trace, self.bits, self.part.pages);
        while self.at < home || self.page.len() == CAPACITY {
            self.turn()?;
        }
        self.page.push(entry);
        self.part.entries += 1;
        self.part.behind = self.part.behind.max(self.at - home);
        Ok(())
    }

    fn turn(&mut self) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(&page::write(&self.page));
        self.page.clear();
        self.at += 1;
        if self.buffer.len() >= CHUNK_PAGES as usize * PAGE {
            self.upload.write(&self.buffer).map_err(failed)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Part, StoreError> {
        while self.at < self.part.pages + self.part.behind {
            self.turn()?;
        }
        self.upload.write(&self.buffer).map_err(failed)?;
        match self.upload.finish().map_err(failed)? {
            Create::Created => Ok(self.part),
            Create::Lost => Err(StoreError::Rows("a run of the trace index has the name of another".into())),
        }
    }
}

/// The entries of a run in order.
pub(crate) struct Stream<'a> {
    objects: &'a Arc<dyn Objects>,
    parts: std::vec::IntoIter<Part>,
    part: Option<(Part, u64)>,
    entries: std::vec::IntoIter<Entry>,
}

impl<'a> Stream<'a> {
    pub(crate) fn of(objects: &'a Arc<dyn Objects>, run: &Run) -> Stream<'a> {
        Stream { objects, parts: run.parts.clone().into_iter(), part: None, entries: Vec::new().into_iter() }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            let (part, at) = match self.part.take() {
                Some(of) => of,
                None => match self.parts.next() {
                    Some(part) => (part, 0),
                    None => return Ok(None),
                },
            };
            let pages = part.pages + part.behind;
            let to = pages.min(at + CHUNK_PAGES);
            if to > at {
                self.entries = read_pages(self.objects, &part.name, at, to)?.into_iter();
            }
            self.part = (to < pages).then_some((part, to));
        }
    }
}

/// The entries in pages `[from, to)` of an object.
fn read_pages(objects: &Arc<dyn Objects>, name: &str, from: u64, to: u64) -> Result<Vec<Entry>, StoreError> {
    let bytes = objects.read(name, from * PAGE as u64..to * PAGE as u64).map_err(reading)?;
    let mut entries = Vec::new();
    for page in bytes.chunks(PAGE) {
        entries.extend(page::read(page)?);
    }
    Ok(entries)
}

/// The files of a trace in a run, by one read; none where the run has no entries.
pub(crate) fn find(objects: &Arc<dyn Objects>, run: &Run, trace: u64) -> Result<(Vec<FileRef>, u64), StoreError> {
    let Some(part) = run.parts.get(page::part(trace, run.bits)).filter(|part| part.entries > 0) else {
        return Ok((Vec::new(), 0));
    };
    let home = page::home(trace, run.bits, part.pages);
    let entries = read_pages(objects, &part.name, home, home + 1 + part.behind)?;
    Ok((entries.into_iter().filter(|e| e.trace == trace).map(|e| e.file).collect(), 1))
}

fn failed(e: std::io::Error) -> StoreError {
    StoreError::io("wrote the trace index", e)
}

fn reading(e: std::io::Error) -> StoreError {
    StoreError::io("read the trace index", e)
}
