//! Builds values one by one, whatever their types.

use arrow::array::{BinaryBuilder, BooleanBuilder, FixedSizeBinaryArray, Float64Builder, Int64Builder, StringBuilder};

use super::vals::{Scalar, Text, Vals};
use crate::encode;

/// Builds values one by one.
pub(crate) struct ValsBuilder {
    len: usize,
    str: StringBuilder,
    int: Int64Builder,
    double: Float64Builder,
    bool: BooleanBuilder,
    bytes: BinaryBuilder,
    id: Vec<Option<Vec<u8>>>,
    id_bytes: Option<usize>,
    json: StringBuilder,
}

/// A builder that lags behind by missing values only, so that types that never occur cost nothing.
macro_rules! catch_up {
    ($builder:expr, $len:expr) => {
        (arrow::array::ArrayBuilder::len(&$builder)..$len).for_each(|_| $builder.append_null())
    };
}

impl ValsBuilder {
    pub(crate) fn new() -> ValsBuilder {
        ValsBuilder {
            len: 0,
            str: StringBuilder::new(),
            int: Int64Builder::new(),
            double: Float64Builder::new(),
            bool: BooleanBuilder::new(),
            bytes: BinaryBuilder::new(),
            id: Vec::new(),
            id_bytes: None,
            json: StringBuilder::new(),
        }
    }

    pub(crate) fn push(&mut self, scalar: Scalar) {
        match scalar {
            Scalar::Null => {}
            Scalar::Bool(b) => {
                catch_up!(self.bool, self.len);
                self.bool.append_value(b);
            }
            Scalar::Int(i) => {
                catch_up!(self.int, self.len);
                self.int.append_value(i);
            }
            Scalar::Double(d) => {
                catch_up!(self.double, self.len);
                self.double.append_value(d);
            }
            Scalar::Str(s) => {
                catch_up!(self.str, self.len);
                self.str.append_value(s);
            }
            Scalar::Bytes(b) => {
                catch_up!(self.bytes, self.len);
                self.bytes.append_value(b);
            }
            Scalar::Id(id) if self.id_bytes.is_none_or(|bytes| bytes == id.len()) => {
                self.id_bytes = Some(id.len());
                self.id.resize(self.len, None);
                self.id.push(Some(id));
            }
            Scalar::Id(id) => {
                catch_up!(self.str, self.len);
                self.str.append_value(hex::encode(id));
            }
            Scalar::Json(text) => {
                catch_up!(self.json, self.len);
                self.json.append_value(text);
            }
        }
        self.len += 1;
    }

    /// The same of a value that [`encode::encode`] wrote.
    pub(crate) fn push_encoded(&mut self, bytes: &[u8]) {
        // Most keys of groups are texts.
        let text =
            bytes.split_first().filter(|(tag, _)| **tag == encode::STR).map(|(_, text)| std::str::from_utf8(text));
        let Some(Ok(text)) = text else { return self.push(encode::decode(bytes)) };
        catch_up!(self.str, self.len);
        self.str.append_value(text);
        self.len += 1;
    }

    pub(crate) fn finish(mut self) -> Vals {
        use arrow::array::ArrayBuilder as _;
        let len = self.len;
        macro_rules! part {
            ($builder:expr) => {
                (!$builder.is_empty()).then(|| {
                    catch_up!($builder, len);
                    $builder.finish()
                })
            };
        }
        let id = self.id_bytes.map(|width| {
            self.id.resize(len, None);
            // Every id has the width of the first, which is what the builder checks.
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(self.id.into_iter(), width as i32)
                .unwrap_or_else(|_| FixedSizeBinaryArray::new_null(width as i32, len))
        });
        Vals {
            len,
            str: part!(self.str).map(Text::Plain),
            int: part!(self.int),
            double: part!(self.double),
            bool: part!(self.bool),
            bytes: part!(self.bytes),
            id,
            json: part!(self.json).map(Text::Plain),
        }
    }
}
