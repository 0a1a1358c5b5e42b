//! What functions and aggregates are given and give back: signatures, arguments by type, results.

use crate::bindings::functions::{Arg, Constant, Series, Signature};
use crate::column::{Bits, Bytes, Text, bit};
use crate::{BytesCol, Dtype, Error, Values};

impl Signature {
    /// A function of fixed arguments that never sees a missing value and may differ from call to call.
    ///
    /// `name` is of `a-z 0-9 _`, a letter first; types are `Boolean`, `Int64`, `Float64`, `Utf8` or `Binary`. Durations and
    /// times are ints or numbers, in nanoseconds.
    pub fn new(name: &str, args: &[Dtype], returns: Dtype) -> Signature {
        Signature {
            name: name.to_owned(),
            args: args.to_vec(),
            variadic: false,
            returns,
            handles_nulls: false,
            deterministic: false,
        }
    }

    /// The last argument may stand again.
    pub fn variadic(mut self) -> Signature {
        self.variadic = true;
        self
    }

    /// It sees missing values. Otherwise a function gives a missing value for them, and an aggregate does not see the row.
    pub fn handles_nulls(mut self) -> Signature {
        self.handles_nulls = true;
        self
    }

    /// The same arguments give the same result: the host may call with distinct values only.
    pub fn deterministic(mut self) -> Signature {
        self.deterministic = true;
        self
    }
}

/// Entries of one type.
pub trait Entries<'a>: Copy + std::fmt::Debug {
    /// What an entry is.
    type Item: Copy + std::fmt::Debug;
    /// An entry; something harmless beyond the end.
    fn entry(self, at: usize) -> Self::Item;
}

impl<'a> Entries<'a> for Text<'a> {
    type Item = &'a str;
    fn entry(self, at: usize) -> &'a str {
        self.get(at)
    }
}

impl<'a> Entries<'a> for Bytes<'a> {
    type Item = &'a [u8];
    fn entry(self, at: usize) -> &'a [u8] {
        self.get(at)
    }
}

impl<'a> Entries<'a> for &'a [i64] {
    type Item = i64;
    fn entry(self, at: usize) -> i64 {
        self.get(at).copied().unwrap_or_default()
    }
}

impl<'a> Entries<'a> for &'a [f64] {
    type Item = f64;
    fn entry(self, at: usize) -> f64 {
        self.get(at).copied().unwrap_or_default()
    }
}

/// Booleans, LSB first.
#[derive(Clone, Copy, Debug)]
pub struct Bools<'a>(&'a [u8]);

impl<'a> Entries<'a> for Bools<'a> {
    type Item = bool;
    fn entry(self, at: usize) -> bool {
        bit(self.0, at)
    }
}

#[derive(Clone, Copy, Debug)]
enum Given<'a, E: Entries<'a>> {
    /// The same for all rows.
    One(Option<E::Item>),
    Each(E),
}

/// One argument: a value for each row.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a, E: Entries<'a>> {
    given: Given<'a, E>,
    keys: Option<&'a [u32]>,
    validity: Option<&'a [u8]>,
    rows: usize,
}

impl<'a, E: Entries<'a>> Argument<'a, E> {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The value of a row; `None` where it is missing, which only functions that handle missing values see.
    pub fn get(&self, row: usize) -> Option<E::Item> {
        match self.given {
            Given::One(one) => one,
            Given::Each(_) if self.validity.is_some_and(|bits| !bit(bits, row)) => None,
            Given::Each(entries) => Some(entries.entry(match self.keys {
                Some(keys) => keys.get(row).copied().unwrap_or_default() as usize,
                None => row,
            })),
        }
    }

    /// The values of all rows, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Option<E::Item>> {
        (0..self.rows).map(move |row| self.get(row))
    }

    /// The entries themselves, where each belongs to the row of its number and none is missing: the shortest way to a loop
    /// without branches.
    pub fn plain(&self) -> Option<E> {
        match self.given {
            Given::Each(entries) if self.keys.is_none() && self.validity.is_none() => Some(entries),
            _ => None,
        }
    }
}

/// The arguments of a call.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    rows: usize,
    args: &'a [Arg],
}

macro_rules! typed {
    ($(#[$doc:meta])* $name:ident, $entries:ty, $what:literal, $constant:pat => $one:expr, $values:pat => $each:expr) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// [`Error::BadInput`] where the argument is of another type, which the host never hands over.
        pub fn $name(&self, position: usize) -> Result<Argument<'a, $entries>, Error> {
            let other = || Error::BadInput(format!(concat!("expected ", $what, " as argument {}"), position + 1));
            let (given, keys, validity) = match self.args.get(position) {
                Some(Arg::Constant(Constant::Null)) => (Given::One(None), None, None),
                Some(Arg::Constant($constant)) => (Given::One(Some($one)), None, None),
                Some(Arg::Series(Series { validity, keys, values: $values })) => {
                    (Given::Each($each), keys.as_deref(), validity.as_deref())
                }
                _ => return Err(other()),
            };
            Ok(Argument { given, keys, validity, rows: self.rows })
        }
    };
}

impl<'a> Args<'a> {
    /// What the host handed over; for tests too.
    pub fn new(rows: usize, args: &'a [Arg]) -> Args<'a> {
        Args { rows, args }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    typed!(
        /// Text.
        texts, Text<'a>, "text", Constant::Text(text) => text.as_str(),
        Values::Utf8(v) => Text::new(&v.offsets, &v.data).ok_or_else(|| Error::BadInput("expected text".to_owned()))?
    );
    typed!(
        /// Numbers; ints of the query are among them.
        numbers, &'a [f64], "numbers", Constant::Float(n) => *n, Values::F64s(v) => v.as_slice()
    );
    typed!(
        /// Ints.
        ints, &'a [i64], "ints", Constant::Int(n) => *n, Values::S64s(v) => v.as_slice()
    );
    typed!(
        /// Booleans.
        booleans, Bools<'a>, "booleans", Constant::Boolean(b) => *b, Values::Bools(v) => Bools(v)
    );
    typed!(
        /// Bytes.
        binaries, Bytes<'a>, "bytes", Constant::Bytes(bytes) => bytes.as_slice(),
        Values::Binary(v) => Bytes::new(&v.offsets, &v.data)
    );
}

/// What every result needs to know about its missing values.
fn collect<T: Default>(values: impl ExactSizeIterator<Item = Option<T>>, mut push: impl FnMut(T)) -> Option<Vec<u8>> {
    let rows = values.len();
    let mut missing: Option<Bits> = None;
    for (row, value) in values.enumerate() {
        if value.is_none() {
            missing.get_or_insert_with(|| Bits::filled(rows, true)).set(row, false);
        }
        push(value.unwrap_or_default());
    }
    missing.map(Bits::into_bytes)
}

/// Results, one for each row; `None` is a missing value.
impl Series {
    /// Numbers.
    pub fn numbers(values: impl ExactSizeIterator<Item = Option<f64>>) -> Series {
        let mut all = Vec::with_capacity(values.len());
        let validity = collect(values, |value| all.push(value));
        Series { validity, keys: None, values: Values::F64s(all) }
    }

    /// Ints.
    pub fn ints(values: impl ExactSizeIterator<Item = Option<i64>>) -> Series {
        let mut all = Vec::with_capacity(values.len());
        let validity = collect(values, |value| all.push(value));
        Series { validity, keys: None, values: Values::S64s(all) }
    }

    /// Booleans.
    pub fn booleans(values: impl ExactSizeIterator<Item = Option<bool>>) -> Series {
        let (mut all, mut row) = (Bits::filled(values.len(), false), 0);
        let validity = collect(values, |value| {
            all.set(row, value);
            row += 1;
        });
        Series { validity, keys: None, values: Values::Bools(all.into_bytes()) }
    }

    /// Bytes.
    pub fn binaries(values: impl ExactSizeIterator<Item = Option<Vec<u8>>>) -> Series {
        let mut all = BytesCol { offsets: Vec::with_capacity(values.len() + 1), data: Vec::new() };
        all.offsets.push(0);
        let validity = collect(values, |value| {
            all.data.extend_from_slice(&value);
            all.offsets.push(all.data.len() as u32);
        });
        Series { validity, keys: None, values: Values::Binary(all) }
    }

    /// Text, written by `write` for each row at the end of the buffer; `false` makes it a missing value.
    ///
    /// ```
    /// use prism_sdk::{Series, Values};
    /// let words = ["a", "", "bc"];
    /// let upper = Series::texts(3, |row, out| {
    ///     out.push_str(&words[row].to_uppercase());
    ///     !words[row].is_empty()
    /// });
    /// assert_eq!(upper.validity, Some(vec![0b101]));
    /// assert!(matches!(upper.values, Values::Utf8(text) if text.data == b"ABC"));
    /// ```
    pub fn texts(rows: usize, mut write: impl FnMut(usize, &mut String) -> bool) -> Series {
        // Most texts that are made are short.
        let (mut offsets, mut data) = (Vec::with_capacity(rows + 1), String::with_capacity(rows * 16));
        let mut missing: Option<Bits> = None;
        offsets.push(0);
        for row in 0..rows {
            let from = data.len();
            if !write(row, &mut data) {
                data.truncate(from);
                missing.get_or_insert_with(|| Bits::filled(rows, true)).set(row, false);
            }
            offsets.push(data.len() as u32);
        }
        let values = Values::Utf8(BytesCol { offsets, data: data.into_bytes() });
        Series { validity: missing.map(Bits::into_bytes), keys: None, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_constants_columns_and_dictionaries() {
        let words = Values::Utf8(BytesCol { offsets: vec![0, 1, 3], data: b"abc".to_vec() });
        let args = [
            Arg::Constant(Constant::Float(0.5)),
            Arg::Series(Series { validity: Some(vec![0b101]), keys: Some(vec![1, 0, 0]), values: words }),
            Arg::Series(Series { validity: None, keys: None, values: Values::S64s(vec![7, 8, 9]) }),
            Arg::Constant(Constant::Null),
        ];
        let args = Args::new(3, &args);
        assert_eq!(args.numbers(0).unwrap().iter().collect::<Vec<_>>(), [Some(0.5); 3]);
        let texts = args.texts(1).unwrap();
        assert_eq!(texts.iter().collect::<Vec<_>>(), [Some("bc"), None, Some("a")]);
        assert!(texts.plain().is_none());
        assert_eq!(args.ints(2).unwrap().plain(), Some(&[7i64, 8, 9][..]));
        assert_eq!(args.booleans(3).unwrap().get(1), None);
        assert!(matches!(args.texts(0), Err(Error::BadInput(why)) if why == "expected text as argument 1"));
        assert!(args.ints(9).is_err());
    }

    #[test]
    fn results_say_what_is_missing() {
        let none = Series::numbers([1.0, 2.0].map(Some).into_iter());
        assert!(none.validity.is_none());
        let some = Series::booleans([Some(true), None, Some(true)].into_iter());
        assert_eq!(some.validity, Some(vec![0b101]));
        assert!(matches!(some.values, Values::Bools(bits) if bits == [0b101]));
        let bytes = Series::binaries([None, Some(vec![1, 2])].into_iter());
        assert!(matches!(bytes.values, Values::Binary(v) if v.offsets == [0, 0, 2]));
        assert!(matches!(Series::ints([Some(3)].into_iter()).values, Values::S64s(v) if v == [3]));
    }
}
