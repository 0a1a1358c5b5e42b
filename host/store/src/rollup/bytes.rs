//! A cube as bytes: a version, then columns of numbers, compressed as one.

use std::collections::BTreeMap;
use std::sync::Arc;

use prism_model::Signal;
use prism_model::sketch::Sketch;

use super::{Cube, Durations, EdgeKey, Edges, Key, Totals};
use crate::error::{Damage, StoreError};
use crate::frame::buffer::{compress, decompress};
use crate::frame::wire::{Put as _, Take};

const VERSION: u16 = 1;
/// Bytes of a cube before it was compressed that are believed.
const RAW_BYTES_MAX: u64 = 256 << 20;
/// Sorted columns of small numbers shrink well, and are written once.
const LEVEL: i32 = 3;
/// Values of a sketch that are whole numbers up to this (2^53) are exact as doubles, and take few bytes.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

const WEIGHTED: u8 = 1;
const EDGES: u8 = 2;

impl Cube {
    /// The cube as bytes; equal cubes give equal bytes.
    ///
    /// # Errors
    /// `Bug` where it would be larger than is believed on reading.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let raw = self.raw();
        if raw.len() as u64 > RAW_BYTES_MAX {
            return Err(StoreError::Rows(format!("a rollup of {} bytes", raw.len())));
        }
        let mut out = Vec::new();
        out.u16(VERSION);
        out.u32(raw.len() as u32);
        if !compress(&raw, LEVEL, &mut out)? {
            out.extend_from_slice(&raw);
        }
        Ok(out)
    }

    /// Reads what [`Cube::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Damage`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Cube, Damage> {
        let mut take = Take::new(bytes, "rollup");
        Damage::version("rollup", take.u16()?, VERSION)?;
        let raw = take.u32()?;
        if u64::from(raw) > RAW_BYTES_MAX {
            return Err(Damage::Bounds("rollup"));
        }
        let stored = take.bytes(take.left())?;
        if stored.len() == raw as usize {
            return read(stored);
        }
        read(&decompress(stored, raw as usize)?)
    }

    fn raw(&self) -> Vec<u8> {
        let keys = || self.cells.iter().map(|(key, _)| key);
        let totals = || self.cells.iter().map(|(_, totals)| totals);
        let mut texts = Texts::default();
        for key in keys() {
            texts.add(&key.service);
            texts.add(&key.name);
        }
        for key in self.edges.iter().flat_map(|edges| edges.calls.keys()) {
            texts.add(&key.parent);
            texts.add(&key.child);
        }
        let mut out = Vec::new();
        out.u8(self.signal as u8);
        out.u8(if self.weighted { WEIGHTED } else { 0 } | if self.edges.is_some() { EDGES } else { 0 });
        out.var(self.rows);
        out.var(self.running);
        let numbers = texts.put(&mut out);
        let number = |text: &Option<Arc<str>>| text.as_ref().and_then(|t| numbers.get(t).copied()).unwrap_or(0);
        out.var(self.cells.len() as u64);
        let mut last = 0;
        for key in keys() {
            zigzag(&mut out, key.minute.wrapping_sub(last));
            last = key.minute;
        }
        keys().for_each(|key| out.var(number(&key.service)));
        keys().for_each(|key| out.var(number(&key.name)));
        keys().for_each(|key| zigzag(&mut out, key.kind.into()));
        keys().for_each(|key| zigzag(&mut out, key.status.into()));
        keys().for_each(|key| zigzag(&mut out, key.severity.into()));
        totals().for_each(|totals| out.var(totals.count));
        totals().for_each(|totals| out.u8(u8::from(totals.durations.is_some())));
        let durations = || totals().filter_map(|totals| totals.durations.as_ref());
        durations().for_each(|d| {
            zigzag(&mut out, (d.sum >> 64) as i64);
            out.var(d.sum as u64);
        });
        durations().for_each(|d| zigzag(&mut out, d.min));
        durations().for_each(|d| zigzag(&mut out, d.max));
        durations().for_each(|d| out.u8(u8::from(d.exemplar.is_some())));
        durations().filter_map(|d| d.exemplar.as_ref()).for_each(|id| out.extend_from_slice(id));
        durations().for_each(|d| put_sketch(&d.sketch, &mut out));
        if let Some(edges) = &self.edges {
            out.var(edges.outside);
            out.var(edges.calls.len() as u64);
            for (key, (count, errors)) in &edges.calls {
                zigzag(&mut out, key.minute);
                out.var(number(&key.parent));
                out.var(number(&key.child));
                out.var(*count);
                out.var(*errors);
            }
        }
        out
    }
}

fn read(raw: &[u8]) -> Result<Cube, Damage> {
    let mut take = Take::new(raw, "rollup");
    let bad = || Damage::Bounds("rollup");
    let signal = *Signal::ALL.get(usize::from(take.u8()?)).ok_or_else(bad)?;
    let flags = take.u8()?;
    if flags & !(WEIGHTED | EDGES) != 0 {
        return Err(bad());
    }
    let (rows, running) = (take.var()?, take.var()?);
    let count = take.var_max(take.left())?;
    let texts = (0..count).map(|_| take.string().map(Arc::from)).collect::<Result<Vec<Arc<str>>, _>>()?;
    // Each cell takes several bytes, so a wrong count cannot ask for more memory than the bytes are worth.
    let count = take.var_max(take.left() / 7)?;
    let mut minutes = Vec::with_capacity(count);
    let mut last = 0i64;
    for _ in 0..count {
        last = last.wrapping_add(unzigzag(take.var()?));
        minutes.push(last);
    }
    let text = |n: usize| match n {
        0 => Ok(None),
        n => texts.get(n - 1).cloned().map(Some).ok_or_else(bad),
    };
    let column =
        |take: &mut Take<'_>| (0..count).map(|_| text(take.var_max(texts.len())?)).collect::<Result<Vec<_>, _>>();
    let (services, names) = (column(&mut take)?, column(&mut take)?);
    let small = |take: &mut Take<'_>| {
        let one = |_| i32::try_from(unzigzag(take.var()?)).map_err(|_| bad());
        (0..count).map(one).collect::<Result<Vec<_>, _>>()
    };
    let (kinds, states, severities) = (small(&mut take)?, small(&mut take)?, small(&mut take)?);
    let counts = (0..count).map(|_| take.var()).collect::<Result<Vec<_>, _>>()?;
    let timed = (0..count).map(|_| take.u8().map(|b| b == 1)).collect::<Result<Vec<_>, _>>()?;
    let with = timed.iter().filter(|t| **t).count();
    let sums = (0..with)
        .map(|_| Ok(i128::from(unzigzag(take.var()?)) << 64 | i128::from(take.var()?)))
        .collect::<Result<Vec<_>, Damage>>()?;
    let bounds = |take: &mut Take<'_>| (0..with).map(|_| take.var().map(unzigzag)).collect::<Result<Vec<_>, _>>();
    let (mins, maxs) = (bounds(&mut take)?, bounds(&mut take)?);
    let has = (0..with).map(|_| take.u8().map(|b| b == 1)).collect::<Result<Vec<_>, _>>()?;
    let exemplars = has.iter().map(|has| if *has { take.array().map(Some) } else { Ok(None) });
    let exemplars = exemplars.collect::<Result<Vec<Option<[u8; 16]>>, _>>()?;
    let mut durations = Vec::with_capacity(with);
    for (i, exemplar) in exemplars.into_iter().enumerate() {
        let sketch = take_sketch(&mut take)?;
        durations.push(Durations { sum: sums[i], min: mins[i], max: maxs[i], exemplar, sketch });
    }
    let (mut cells, mut durations): (Vec<(Key, Totals)>, _) = (Vec::with_capacity(count), durations.into_iter());
    let mut names = names.into_iter();
    for (i, service) in services.into_iter().enumerate() {
        let name = names.next().flatten();
        let (kind, status, severity) = (kinds[i], states[i], severities[i]);
        let key = Key { minute: minutes[i], service, name, kind, status, severity };
        let durations = if timed[i] { durations.next() } else { None };
        if cells.last().is_some_and(|(before, _)| *before >= key) {
            return Err(bad());
        }
        cells.push((key, Totals { count: counts[i], durations }));
    }
    let counted = counts.iter().try_fold(0u64, |sum, n| sum.checked_add(*n));
    if counted != Some(rows) {
        return Err(bad());
    }
    let edges = if flags & EDGES != 0 {
        let mut edges = Edges { outside: take.var()?, ..Edges::default() };
        for _ in 0..take.var_max(take.left() / 5)? {
            let minute = unzigzag(take.var()?);
            let (parent, child) = (text(take.var_max(texts.len())?)?, text(take.var_max(texts.len())?)?);
            edges.calls.insert(EdgeKey { minute, parent, child }, (take.var()?, take.var()?));
        }
        Some(edges)
    } else {
        None
    };
    take.end()?;
    Ok(Cube { signal, rows, running, weighted: flags & WEIGHTED != 0, cells, edges })
}

/// Texts by their place in order; 0 is kept for none.
#[derive(Default)]
struct Texts(BTreeMap<Arc<str>, u64>);

impl Texts {
    fn add(&mut self, text: &Option<Arc<str>>) {
        if let Some(text) = text.as_ref().filter(|text| !self.0.contains_key(*text)) {
            self.0.insert(text.clone(), 0);
        }
    }

    fn put(mut self, out: &mut Vec<u8>) -> BTreeMap<Arc<str>, u64> {
        out.var(self.0.len() as u64);
        for (i, (text, number)) in self.0.iter_mut().enumerate() {
            out.text(text.as_bytes());
            *number = i as u64 + 1;
        }
        self.0
    }
}

/// Few whole numbers as sorted differences (their count plus one first), everything else behind a 0.
fn put_sketch(sketch: &Sketch, out: &mut Vec<u8>) {
    let mut values = sketch.exact().to_vec();
    let whole = |v: &f64| v.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(v) && v.is_sign_positive();
    if values.len() as u64 != sketch.count() || !values.iter().all(whole) {
        out.u8(0);
        return sketch.write(out);
    }
    values.sort_by(f64::total_cmp);
    out.u8(values.len() as u8 + 1);
    let mut last = 0;
    for value in values {
        out.var(value as u64 - last);
        last = value as u64;
    }
}

fn take_sketch(take: &mut Take<'_>) -> Result<Sketch, Damage> {
    let bad = || Damage::Bounds("sketch of a rollup");
    match take.u8()? {
        0 => {
            let mut rest = take.rest();
            let sketch = Sketch::read(&mut rest).ok_or_else(bad)?;
            take.bytes(take.left() - rest.len())?;
            Ok(sketch)
        }
        n => {
            let (mut sketch, mut value) = (Sketch::default(), 0u64);
            for _ in 1..n {
                value = value.checked_add(take.var()?).ok_or_else(bad)?;
                sketch.add(value as f64);
            }
            Ok(sketch)
        }
    }
}

fn zigzag(out: &mut Vec<u8>, n: i64) {
    out.var(((n << 1) ^ (n >> 63)) as u64);
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}
