//! Rows of one value, and the values of all rows, out of a column's pages: no row is made for them.

use arrow::array::{ArrayRef, UInt32Array};
use memchr::memmem::Finder;
use parquet::basic::{Encoding, Type};
use parquet::column::page::PageReader as _;
use parquet::file::metadata::ColumnChunkMetaData;
use prism_model::{ColumnId, TableKind};

use super::super::find::{self, Sought};
use super::super::picked::Picked;
use super::super::{damaged, pages};
use super::ColdFile;
use crate::cold::schema::Outside;
use crate::error::{Damage, StoreError};
use crate::unit::ReadCost;

impl ColdFile {
    /// See [`Frame::rows_of`].
    pub(super) fn rows_of(
        &self,
        index: usize,
        column: &ColumnId,
        value: &[u8],
    ) -> Result<Option<(UInt32Array, ReadCost)>, StoreError> {
        let path = Outside::Column(TableKind::Items, column.clone()).name();
        let (own, group) = (&self.meta.groups[index], self.parquet.row_group(index));
        let leaf = group.columns().iter().position(|column| *column.column_path().parts() == [path.as_str()]);
        let (Some(leaf), Some(map)) = (leaf, self.map.get(index)) else { return Ok(None) };
        let (chunk, known) = (group.column(leaf), &map[leaf]);
        let locations = self.parquet.offset_index().and_then(|of_group| of_group.get(index)?.get(leaf));
        let Some(locations) = locations.map(|index| index.page_locations()) else { return Ok(None) };
        let mut sought = match (chunk.column_type(), value.first_chunk::<16>()) {
            _ if value.is_empty() || !pages::suits(&chunk.column_descr_ptr()) => return Ok(None),
            (Type::FIXED_LEN_BYTE_ARRAY, Some(id)) if value.len() == id.len() => Sought::Id(id),
            (Type::BYTE_ARRAY, _) => Sought::Text(Box::new(Finder::new(value))),
            _ => return Ok(None),
        };
        let data = self.pages(index, &[leaf], map, std::slice::from_ref(&(0..own.rows)))?;
        let (cost, open) = (data.cost, || find::pages(data.clone(), chunk, own.rows, locations));
        if known.dictionary.is_some() {
            let page = open()?.get_next_page().map_err(damaged)?;
            let number = page.and_then(|page| find::number(&page, chunk.column_type(), value));
            match (number, &sought) {
                (Some(number), _) => sought = Sought::Number(number),
                // Texts that had no room in it stand in the pages themselves.
                (None, Sought::Text(_)) if !only_numbers(chunk) => return Ok(None),
                (None, _) => return Ok(Some((UInt32Array::from(Vec::<u32>::new()), cost))),
            }
        }
        let Some(found) = find::rows(open()?, own.rows, &sought)? else { return Ok(None) };
        if found.perhaps.is_empty() {
            return Ok(Some((found.rows.into(), cost)));
        }
        // Where the bytes stand somewhere among texts, these texts are made and compared.
        let picked = Picked::all_of(found.perhaps);
        let columns = self.columns(index, vec![leaf], data, Some(&picked))?;
        let texts = columns.into_values().next().ok_or(Damage::Bounds("a column"))?;
        Ok(picked.equal(&texts, value).map(|rows| (rows, cost)))
    }

    /// See [`Frame::values_of`]: a dictionary has no value that no row of its chunk has.
    pub(super) fn values_of(
        &self,
        index: usize,
        column: &ColumnId,
    ) -> Result<Option<(ArrayRef, ReadCost)>, StoreError> {
        let path = Outside::Column(TableKind::Items, column.clone()).name();
        let (own, group) = (&self.meta.groups[index], self.parquet.row_group(index));
        let leaf = group.columns().iter().position(|column| *column.column_path().parts() == [path.as_str()]);
        let (Some(leaf), Some(map)) = (leaf, self.map.get(index)) else { return Ok(None) };
        let chunk = group.column(leaf);
        let locations = self.parquet.offset_index().and_then(|of_group| of_group.get(index)?.get(leaf));
        let Some(locations) = locations.map(|index| index.page_locations()) else { return Ok(None) };
        if map[leaf].dictionary.is_none() || !only_numbers(chunk) || !pages::suits(&chunk.column_descr_ptr()) {
            return Ok(None);
        }
        let dictionary = self.pages(index, &[leaf], map, &[])?;
        let cost = dictionary.cost;
        let page = find::pages(dictionary, chunk, own.rows, locations)?.get_next_page().map_err(damaged)?;
        Ok(page.and_then(|page| find::values(&page, chunk)).map(|values| (values, cost)))
    }
}

/// Whether all values of a chunk are told by their numbers in its dictionary.
fn only_numbers(chunk: &ColumnChunkMetaData) -> bool {
    chunk.page_encoding_stats_mask().is_some_and(|of_data| of_data.is_only(Encoding::RLE_DICTIONARY))
}
