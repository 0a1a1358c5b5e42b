//! Rows of one value, the values of all rows, and their numbers, out of a column's pages: no value is made of any row.

use arrow::array::{ArrayRef, UInt32Array};
use memchr::memmem::Finder;
use parquet::basic::Type;
use parquet::column::page::PageReader as _;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use prism_model::{ColumnId, TableKind};

use super::super::find::{self, Sought};
use super::super::page_map::ChunkPages;
use super::super::picked::Picked;
use super::super::rebuild::is_dictionary;
use super::super::{damaged, pages};
use super::ColdFile;
use crate::cold::schema::Outside;
use crate::error::{Damage, StoreError};
use crate::unit::{Exact, Numbered, ReadCost};

/// A column of a row group, and its pages.
struct Flat<'f> {
    leaf: usize,
    chunk: &'f ColumnChunkMetaData,
    /// Of all leaves.
    map: &'f [ChunkPages],
    locations: &'f [PageLocation],
    rows: usize,
}

impl Flat<'_> {
    fn has_dictionary(&self) -> bool {
        self.map[self.leaf].dictionary.is_some()
    }

    /// Whether its dictionary has the values of all rows.
    fn is_by_value(&self) -> bool {
        self.has_dictionary() && is_dictionary(self.chunk)
    }
}

impl ColdFile {
    /// See [`Frame::rows_of`].
    pub(super) fn rows_of(
        &self,
        index: usize,
        column: &ColumnId,
        value: Exact<'_>,
    ) -> Result<Option<(UInt32Array, ReadCost)>, StoreError> {
        let Exact::Bytes(value) = value else { return Ok(None) };
        let Some(flat) = self.flat(index, column) else { return Ok(None) };
        let chunk = flat.chunk;
        let mut sought = match (chunk.column_type(), value.first_chunk::<16>()) {
            _ if value.is_empty() => return Ok(None),
            (Type::FIXED_LEN_BYTE_ARRAY, Some(id)) if value.len() == id.len() => Sought::Id(id),
            (Type::BYTE_ARRAY, _) => Sought::Text(Box::new(Finder::new(value))),
            _ => return Ok(None),
        };
        let data = self.pages(index, &[flat.leaf], flat.map, std::slice::from_ref(&(0..flat.rows)))?;
        let (cost, open) = (data.cost, || find::pages(data.clone(), chunk, flat.rows, flat.locations));
        if flat.has_dictionary() {
            let page = open()?.get_next_page().map_err(damaged)?;
            let number = page.and_then(|page| find::number(&page, chunk.column_type(), value));
            match (number, &sought) {
                (Some(number), _) => sought = Sought::Number(number),
                // Texts that had no room in it stand in the pages themselves.
                (None, Sought::Text(_)) if !is_dictionary(chunk) => return Ok(None),
                (None, _) => return Ok(Some((UInt32Array::from(Vec::<u32>::new()), cost))),
            }
        }
        let Some(found) = find::rows(open()?, flat.rows, &sought)? else { return Ok(None) };
        if found.perhaps.is_empty() {
            return Ok(Some((found.rows.into(), cost)));
        }
        // Where the bytes stand somewhere among texts, these texts are made and compared.
        let picked = Picked::all_of(found.perhaps);
        let columns = self.columns(index, vec![flat.leaf], data, Some(&picked))?;
        let texts = columns.into_values().next().ok_or(Damage::Bounds("a column"))?;
        Ok(picked.equal(&texts, value).map(|rows| (rows, cost)))
    }

    /// See [`Frame::tells_values`].
    pub(super) fn tells_values(&self, index: usize, column: &ColumnId) -> bool {
        self.flat(index, column).is_some_and(|flat| flat.is_by_value())
    }

    /// See [`Frame::values_of`]: a dictionary has no value that no row of its chunk has.
    pub(super) fn values_of(
        &self,
        index: usize,
        column: &ColumnId,
    ) -> Result<Option<(ArrayRef, ReadCost)>, StoreError> {
        let Some(flat) = self.flat(index, column) else { return Ok(None) };
        if !flat.is_by_value() {
            return Ok(None);
        }
        let dictionary = self.pages(index, &[flat.leaf], flat.map, &[])?;
        let cost = dictionary.cost;
        let mut pages = find::pages(dictionary, flat.chunk, flat.rows, flat.locations)?;
        let page = pages.get_next_page().map_err(damaged)?;
        Ok(page.and_then(|page| find::values(&page, flat.chunk)).map(|values| (values, cost)))
    }

    /// See [`Frame::numbers_of`].
    pub(super) fn numbers_of(
        &self,
        index: usize,
        column: &ColumnId,
    ) -> Result<Option<(Numbered, ReadCost)>, StoreError> {
        let Some(flat) = self.flat(index, column) else { return Ok(None) };
        let ids = flat.chunk.column_type() == Type::FIXED_LEN_BYTE_ARRAY;
        if !ids || !flat.is_by_value() {
            return Ok(None);
        }
        let data = self.pages(index, &[flat.leaf], flat.map, std::slice::from_ref(&(0..flat.rows)))?;
        let cost = data.cost;
        let mut pages = find::pages(data, flat.chunk, flat.rows, flat.locations)?;
        let page = pages.get_next_page().map_err(damaged)?;
        let Some(values) = page.and_then(|page| find::values(&page, flat.chunk)) else { return Ok(None) };
        let Some(numbers) = find::numbers(pages, flat.rows)? else { return Ok(None) };
        Ok(Some((Numbered::try_new(numbers, values).map_err(damaged)?, cost)))
    }

    /// A flat column of the items, where the file tells its pages.
    fn flat(&self, index: usize, column: &ColumnId) -> Option<Flat<'_>> {
        let path = Outside::Column(TableKind::Items, column.clone()).name();
        let (map, group) = (self.map.get(index)?, self.parquet.row_group(index));
        let leaf = group.columns().iter().position(|column| *column.column_path().parts() == [path.as_str()])?;
        let chunk = group.column(leaf);
        let locations = self.parquet.offset_index()?.get(index)?.get(leaf)?.page_locations();
        let rows = self.meta.groups[index].rows;
        pages::suits(&chunk.column_descr_ptr()).then_some(Flat { leaf, chunk, map, locations, rows })
    }
}
