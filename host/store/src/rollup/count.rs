//! Cells while their rows are counted. What is touched for each row is small and lies together: most of what a cube costs are
//! waits for memory.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use prism_model::sketch::Sketch;

use super::{Durations, Totals};

/// Durations that wait for their sketches: so many that a cell mostly has some dozens of them, 12 bytes each.
const WAITING_MAX: usize = 1 << 17;

/// Service, name, kind or severity, status; texts by number.
pub(super) type CellKey = (u32, u32, i32, i32);

/// The cells, each with a place.
#[derive(Default)]
pub(super) struct Counts {
    minutes: HashMap<i64, u32, RandomState>,
    /// Places by minute: rows come by time, so that they are looked up in a small table.
    places: Vec<HashMap<CellKey, u32, RandomState>>,
    /// The minute of the row before, by its number too.
    last: Option<(i64, u32)>,
    sums: Vec<Sums>,
    sketches: Vec<Sketch>,
    waiting: Waiting,
    /// Bytes of all sums and sketches, about.
    bytes: usize,
}

/// What is known of a cell but for its sketch.
#[derive(Default)]
struct Sums {
    count: u64,
    durations: Option<Longest>,
}

/// The durations of a cell.
struct Longest {
    sum: i128,
    min: i64,
    max: i64,
    exemplar: Option<[u8; 16]>,
}

/// Durations that are in no sketch yet, with the place of the cell of each.
#[derive(Default)]
struct Waiting {
    places: Vec<u32>,
    durations: Vec<f64>,
}

impl Counts {
    /// Counts a row; gives the place of its cell.
    #[inline]
    pub(super) fn add(&mut self, minute: i64, key: CellKey) -> usize {
        let number = match self.last {
            Some((last, number)) if last == minute => number,
            _ => self.minute(minute),
        };
        let next = self.sums.len() as u32;
        let place = *self.places[number as usize].entry(key).or_insert(next);
        if place == next {
            self.sums.push(Sums::default());
            self.sketches.push(Sketch::default());
            self.bytes += size_of::<(i64, CellKey, Totals)>();
        }
        self.sums[place as usize].count += 1;
        place as usize
    }

    fn minute(&mut self, minute: i64) -> u32 {
        let next = self.places.len() as u32;
        let number = *self.minutes.entry(minute).or_insert(next);
        if number == next {
            self.places.push(HashMap::default());
        }
        self.last = Some((minute, number));
        number
    }

    /// Adds how long the row took to the cell at a place.
    #[inline]
    pub(super) fn duration(&mut self, place: usize, nanos: i64, trace: Option<[u8; 16]>) {
        self.sums[place].durations.get_or_insert_default().add(nanos, trace);
        self.waiting.places.push(place as u32);
        self.waiting.durations.push(nanos as f64);
        if self.waiting.places.len() >= WAITING_MAX {
            self.settle();
        }
    }

    /// Brings what waits to its sketches, cell by cell.
    fn settle(&mut self) {
        let Waiting { places, durations } = &mut self.waiting;
        let Some((first, last)) = places.iter().min().zip(places.iter().max()).map(|(a, b)| (*a, *b)) else { return };
        // Places are given in the order of time, so that those of near rows are near.
        let mut ends = vec![0u32; (last - first) as usize + 2];
        places.iter().for_each(|place| ends[(place - first) as usize + 1] += 1);
        for i in 1..ends.len() {
            ends[i] += ends[i - 1];
        }
        let mut sorted = vec![0.0; durations.len()];
        for (place, duration) in places.drain(..).zip(durations.drain(..)) {
            let end = &mut ends[(place - first) as usize];
            sorted[*end as usize] = duration;
            *end += 1;
        }
        let mut from = 0;
        for (sketch, end) in self.sketches[first as usize..=last as usize].iter_mut().zip(ends) {
            let own = &sorted[from..end as usize];
            from = end as usize;
            if !own.is_empty() {
                let before = sketch.bytes();
                sketch.add_all(own);
                self.bytes = self.bytes + sketch.bytes() - before;
            }
        }
    }

    /// How many cells there are.
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// Bytes of the cells in memory, about; those of what waits aside.
    pub(super) fn cell_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let waiting = self.waiting.places.capacity() * size_of::<u32>();
        self.bytes + waiting + self.waiting.durations.capacity() * size_of::<f64>()
    }

    /// The cells in no order, each with its minute.
    pub(super) fn finish(mut self) -> impl Iterator<Item = (i64, CellKey, Totals)> {
        self.settle();
        let Counts { minutes, mut places, mut sums, mut sketches, .. } = self;
        minutes
            .into_iter()
            .flat_map(move |(minute, number)| {
                std::mem::take(&mut places[number as usize]).into_iter().map(move |(key, place)| (minute, key, place))
            })
            .map(move |(minute, key, place)| {
                let Sums { count, durations } = std::mem::take(&mut sums[place as usize]);
                let sketch = std::mem::take(&mut sketches[place as usize]);
                let durations =
                    durations.map(|Longest { sum, min, max, exemplar }| Durations { sum, min, max, exemplar, sketch });
                (minute, key, Totals { count, durations })
            })
    }
}

impl Longest {
    fn add(&mut self, nanos: i64, trace: Option<[u8; 16]>) {
        self.sum += i128::from(nanos);
        self.min = self.min.min(nanos);
        super::keep_longest((&mut self.max, &mut self.exemplar), (nanos, trace));
    }
}

impl Default for Longest {
    fn default() -> Longest {
        Longest { sum: 0, min: i64::MAX, max: i64::MIN, exemplar: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn durations_come_to_their_cells_however_many_wait() {
        let (mut counts, mut expected) = (Counts::default(), BTreeMap::<(i64, CellKey), Vec<i64>>::new());
        let mut random = 1u64;
        for row in 0..WAITING_MAX as u64 + WAITING_MAX as u64 / 2 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (minute, kind) = ((row / 40_000) as i64 - (random >> 62) as i64, (random >> 33) as i32 % 5);
            let (key, nanos) = ((0, 7, kind, 0), (random >> 40) as i64 - 100);
            let cell = counts.add(minute, key);
            let own = expected.entry((minute, key)).or_default();
            // Not every span of a cell is over.
            if random >> 60 > 0 {
                counts.duration(cell, nanos, None);
                own.push(nanos);
            }
        }
        assert_eq!(counts.len(), expected.len());
        let found: BTreeMap<_, _> = counts.finish().map(|(minute, key, totals)| ((minute, key), totals)).collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (cell, durations) in expected {
            let own = found[&cell].durations.as_ref().unwrap();
            let mut sketch = Sketch::default();
            durations.iter().for_each(|nanos| sketch.add(*nanos as f64));
            assert_eq!(own.sketch.values(), sketch.values());
            assert_eq!(own.sum, durations.iter().map(|nanos| i128::from(*nanos)).sum::<i128>());
            let range = (*durations.iter().min().unwrap(), *durations.iter().max().unwrap());
            assert_eq!((own.min, own.max), range);
        }
    }
}
