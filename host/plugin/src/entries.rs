//! The view of a plugin with access `entries`: values of many columns joined into one column for each (need, type), cut into
//! calls by number and bytes.

use arrow::buffer::Buffer;

use crate::bindings::base::{Dtype, Place};
use crate::bindings::batches;
use crate::metadata::Need;
use crate::source::{Entries, Source};
use crate::view::{Field, Map, Segment, Values, View, ViewColumn, ViewTable};

/// Collects values into the columns of one call, one column for each (need, type).
pub(crate) struct EntriesBuilder {
    columns: Vec<EntriesColumn>,
    values: usize,
    bytes: usize,
    values_max: usize,
    bytes_max: usize,
}

struct EntriesColumn {
    need: u32,
    dtype: Dtype,
    len: u32,
    offsets: Vec<u32>,
    data: Vec<u8>,
    ints: Vec<i64>,
    doubles: Vec<f64>,
    back: Vec<Segment>,
}

impl EntriesBuilder {
    pub(crate) fn new(values_max: usize, bytes_max: usize) -> EntriesBuilder {
        EntriesBuilder { columns: Vec::new(), values: 0, bytes: 0, values_max, bytes_max }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values == 0
    }

    fn column(&mut self, need: u32, dtype: Dtype) -> &mut EntriesColumn {
        let at = match self.columns.iter().rposition(|c| c.need == need && c.dtype == dtype) {
            Some(at) => at,
            None => {
                self.columns.push(EntriesColumn {
                    need,
                    dtype,
                    len: 0,
                    offsets: vec![0],
                    data: Vec::new(),
                    ints: Vec::new(),
                    doubles: Vec::new(),
                    back: Vec::new(),
                });
                self.columns.len() - 1
            }
        };
        &mut self.columns[at]
    }

    /// Appends entries `from..` of a source as far as there is room, and returns where it stopped. A value that is longer
    /// than a call may be gets a call for itself.
    pub(crate) fn append(&mut self, number: u32, source: &Source, from: usize) -> usize {
        let len = source.entries.len();
        let room = self.values_max.saturating_sub(self.values).min(len - from);
        let (end, bytes) = match &source.entries {
            Entries::Text(a) => {
                run_within(a.value_offsets(), from, room, self.bytes_max.saturating_sub(self.bytes), self.is_empty())
            }
            Entries::Bytes(a) => {
                run_within(a.value_offsets(), from, room, self.bytes_max.saturating_sub(self.bytes), self.is_empty())
            }
            Entries::Ints(_) | Entries::Doubles(_) => (from + room, room * 8),
        };
        if end == from {
            return from;
        }
        let column = self.column(source.need, source.entries.dtype());
        column.back.push(Segment { start: column.len, source: number, map: Map::Run(from as u32) });
        match &source.entries {
            Entries::Text(a) => column.append_bytes(&a.value_offsets()[from..=end], a.value_data()),
            Entries::Bytes(a) => column.append_bytes(&a.value_offsets()[from..=end], a.value_data()),
            Entries::Ints(a) => column.ints.extend_from_slice(&a.values()[from..end]),
            Entries::Doubles(a) => column.doubles.extend_from_slice(&a.values()[from..end]),
        }
        column.len += (end - from) as u32;
        self.values += end - from;
        self.bytes += bytes;
        end
    }

    /// Appends one text entry of a source; false where there is no room.
    pub(crate) fn append_text(&mut self, number: u32, source: &Source, entry: usize, text: &str) -> bool {
        if !self.is_empty() && (self.values == self.values_max || self.bytes + text.len() > self.bytes_max) {
            return false;
        }
        let column = self.column(source.need, Dtype::Utf8);
        column.data.extend_from_slice(text.as_bytes());
        column.offsets.push(column.data.len() as u32);
        match column.back.last_mut() {
            Some(Segment { source, map: Map::List(list), .. }) if *source == number => list.push(entry as u32),
            _ => column.back.push(Segment { start: column.len, source: number, map: Map::List(vec![entry as u32]) }),
        }
        column.len += 1;
        self.values += 1;
        self.bytes += text.len();
        true
    }

    /// The view with the one table `entries`.
    pub(crate) fn finish(self, needs: &[Need]) -> View {
        let mut view = View::default();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in self.columns {
            let need = &needs[column.need as usize];
            let field = view.field(Field {
                need: column.need,
                place: need.place,
                role: need.role,
                name: need.name.as_str().into(),
                dtype: column.dtype,
            });
            let values = match column.dtype {
                Dtype::Int64 => Values::I64(column.ints.into()),
                Dtype::Float64 => Values::F64(column.doubles.into()),
                Dtype::Binary => Values::Binary(column.offsets.into(), Buffer::from_vec(column.data)),
                _ => Values::Utf8(column.offsets.into(), Buffer::from_vec(column.data)),
            };
            columns.push(ViewColumn {
                field,
                validity: None,
                keys: None,
                values,
                entries: column.len as usize,
                back: column.back,
            });
        }
        view.tables.push(ViewTable {
            kind: batches::TableKind::Entries,
            of: Place::Item,
            rows: 0,
            parents: None,
            columns,
        });
        view
    }
}

impl EntriesColumn {
    fn append_bytes(&mut self, offsets: &[i32], data: &[u8]) {
        let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        // Wrapping, because the run may stand anywhere in either buffer.
        let shift = (self.data.len() as u32).wrapping_sub(first as u32);
        self.data.extend_from_slice(&data[first..last]);
        self.offsets.extend(offsets[1..].iter().map(|&o| (o as u32).wrapping_add(shift)));
    }
}

/// The longest run from `from` of at most `room` values and `bytes` bytes; at least one value if `at_least_one`.
fn run_within(offsets: &[i32], from: usize, room: usize, bytes: usize, at_least_one: bool) -> (usize, usize) {
    let start = offsets[from] as usize;
    let fit = offsets[from + 1..=from + room].partition_point(|&o| o as usize - start <= bytes);
    let end = from + if fit == 0 && at_least_one && room > 0 { 1 } else { fit };
    (end, offsets[end] as usize - start)
}
