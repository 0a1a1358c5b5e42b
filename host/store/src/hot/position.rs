//! How far somebody has come in the frames of a tenant's signal: small enough to be given away as text and brought back.

use std::collections::BTreeMap;

use prism_model::window::Window;

use crate::place::SegmentName;

/// Segments of a position that is believed: each writer has some ten, and there are as many writers as processes.
const SEGMENTS_MAX: usize = 4_096;

/// Up to which frame each segment was taken. Nothing of it opens anything: it names files of whichever tenant it is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(pub(crate) BTreeMap<SegmentName, u32>);

/// The place of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub(crate) segment: SegmentName,
    pub(crate) frame: u32,
}

impl Position {
    /// A frame was taken, and with it those before it in its segment.
    pub fn pass(&mut self, place: &Place) {
        let taken = self.0.entry(place.segment).or_default();
        *taken = (*taken).max(place.frame.saturating_add(1));
    }

    /// A frame was not taken, nor those behind it in its segment.
    pub fn back_to(&mut self, place: &Place) {
        if let Some(taken) = self.0.get_mut(&place.segment) {
            *taken = (*taken).min(place.frame);
        }
    }

    /// What another position took is taken too.
    pub fn raise(&mut self, to: &Position) {
        for (name, taken) in &to.0 {
            let of = self.0.entry(*name).or_default();
            *of = (*of).max(*taken);
        }
    }

    /// Whether a frame was taken.
    pub fn passed(&self, place: &Place) -> bool {
        self.0.get(&place.segment).is_some_and(|taken| *taken > place.frame)
    }

    /// Whether a frame was not taken of a segment that is known.
    pub fn awaits(&self, place: &Place) -> bool {
        self.0.get(&place.segment).is_some_and(|taken| *taken <= place.frame)
    }

    /// Forgets segments that another position does not know: they are gone.
    pub fn forget_but(&mut self, known: &Position) {
        self.0.retain(|name, _| known.0.contains_key(name));
    }

    /// Whether it is believed when it is brought back: it names no more segments than one that is real.
    pub fn is_believed(&self) -> bool {
        self.0.len() <= SEGMENTS_MAX
    }

    /// Adds it to some bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writers: Vec<u64> = self.0.keys().map(|name| name.writer).collect();
        writers.sort_unstable();
        writers.dedup();
        put(out, writers.len() as u64);
        writers.iter().for_each(|writer| out.extend(writer.to_le_bytes()));
        put(out, self.0.len() as u64);
        let mut before = 0;
        for (name, taken) in &self.0 {
            before = write_name(name, before, &writers, out);
            put(out, u64::from(*taken));
        }
    }

    /// Reads what [`Position::write`] wrote from the front of some bytes.
    pub fn read(bytes: &mut &[u8]) -> Option<Position> {
        let writers = read_writers(bytes)?;
        let count = usize::try_from(take(bytes)?).ok().filter(|count| *count <= SEGMENTS_MAX)?;
        let (mut position, mut before) = (BTreeMap::new(), 0);
        for _ in 0..count {
            let name = read_name(bytes, &mut before, &writers)?;
            position.insert(name, u32::try_from(take(bytes)?).ok()?);
        }
        (position.len() == count).then_some(Position(position))
    }
}

impl Place {
    /// Adds it to some bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.segment.writer.to_le_bytes());
        write_name(&self.segment, 0, &[self.segment.writer], out);
        put(out, u64::from(self.frame));
    }

    /// Reads what [`Place::write`] wrote from the front of some bytes.
    pub fn read(bytes: &mut &[u8]) -> Option<Place> {
        let (writer, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        let segment = read_name(bytes, &mut 0, &[u64::from_le_bytes(*writer)])?;
        Some(Place { segment, frame: u32::try_from(take(bytes)?).ok()? })
    }
}

/// Gives the window's number: the next one is near it.
fn write_name(name: &SegmentName, before: i64, writers: &[u64], out: &mut Vec<u8>) -> i64 {
    let window = name.window.number();
    put(out, u64::from(name.shard));
    let ahead = window.wrapping_sub(before);
    put(out, ((ahead << 1) ^ (ahead >> 63)) as u64);
    put(out, writers.binary_search(&name.writer).unwrap_or(0) as u64 * 2 + u64::from(name.late));
    put(out, name.epoch);
    put(out, u64::from(name.file));
    window
}

fn read_name(bytes: &mut &[u8], before: &mut i64, writers: &[u64]) -> Option<SegmentName> {
    let shard = u32::try_from(take(bytes)?).ok()?;
    let zigzag = take(bytes)?;
    *before = before.wrapping_add((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
    let writer = take(bytes)?;
    let (late, writer) = (writer & 1 == 1, writers.get(usize::try_from(writer >> 1).ok()?)?);
    let epoch = take(bytes)?;
    let file = u32::try_from(take(bytes)?).ok()?;
    Some(SegmentName { shard, window: Window::from_number(*before), late, writer: *writer, epoch, file })
}

fn read_writers(bytes: &mut &[u8]) -> Option<Vec<u64>> {
    let count = usize::try_from(take(bytes)?).ok().filter(|count| *count <= SEGMENTS_MAX)?;
    let mut writers = Vec::new();
    for _ in 0..count {
        let (writer, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        writers.push(u64::from_le_bytes(*writer));
    }
    Some(writers)
}

/// A number in as many groups of seven bits as it needs.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(writer: u64, window: i64, late: bool, file: u32) -> SegmentName {
        SegmentName { shard: 0, window: Window::from_number(window), late, writer, epoch: 1, file }
    }

    #[test]
    fn positions_read_back_and_take_little() {
        let names = [name(7, 5_938_123, false, 1), name(u64::MAX, 5_938_124, true, 70_000), name(7, -3, false, 0)];
        let position = Position(names.iter().zip([3, 0, u32::MAX]).map(|(name, taken)| (*name, taken)).collect());
        let mut bytes = Vec::new();
        position.write(&mut bytes);
        assert!(bytes.len() < 64, "{}", bytes.len());
        for cut in 0..bytes.len() {
            assert!(Position::read(&mut &bytes[..cut]).is_none(), "{cut}");
        }
        let place = Place { segment: names[1], frame: 9 };
        place.write(&mut bytes);
        let mut rest = &bytes[..];
        assert_eq!(Position::read(&mut rest), Some(position));
        assert_eq!((Place::read(&mut rest), rest.len()), (Some(place), 0));
        // Counts that nothing follows are not believed.
        assert!(Position::read(&mut &[255, 255, 255, 255, 15][..]).is_none());
        assert!(Position::read(&mut &[0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1][..]).is_none());
    }

    #[test]
    fn what_was_passed_is_known() {
        let place = |frame| Place { segment: name(1, 2, false, 3), frame };
        let mut position = Position::default();
        position.pass(&place(4));
        assert!(position.passed(&place(4)) && position.passed(&place(0)) && !position.passed(&place(5)));
        position.pass(&place(1));
        assert!(position.passed(&place(4)));
        position.back_to(&place(2));
        assert!(position.passed(&place(1)) && !position.passed(&place(2)));
        let mut further = Position::default();
        further.pass(&Place { segment: name(2, 2, false, 3), frame: 0 });
        position.raise(&further);
        assert!(position.passed(&place(1)) && position.passed(&Place { segment: name(2, 2, false, 3), frame: 0 }));
        further.pass(&place(7));
        position.raise(&further);
        further.back_to(&place(0));
        position.raise(&further);
        assert!(
            position.passed(&place(7)) && !position.passed(&place(8)) && position.awaits(&place(8)),
            "it never goes back"
        );
        position.forget_but(&Position::default());
        assert!(!position.passed(&place(0)) && !position.awaits(&place(0)));
    }
}
