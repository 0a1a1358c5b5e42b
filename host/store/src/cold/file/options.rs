//! Settings of cold files, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

/// A filter over the values of one column, by row group: says for certain that a value is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// None.
    Off,
    /// Parquet's split-block Bloom filter: other engines use it too.
    Bloom,
    /// A cuckoo filter that only Prism reads: smaller where few false positives are wanted.
    Cuckoo,
}

/// Pages of values for one of numbers.
const VALUE_PAGES: usize = 4;

/// How a cold file is written. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileOptions {
    /// Rows of a file: they are sorted in memory. A million spans are some 50 MB of Parquet.
    pub file_rows_max: usize,
    /// Bytes of a file's rows in memory (as Arrow buffers): what a writer holds at most, and about a row group more.
    pub file_bytes_max: usize,
    /// Rows of a row group: the unit of parallelism, of sorting, and of pruning by time and filters. Smaller ones compress worse: a
    /// row group has each id of a trace once.
    pub row_group_rows: usize,
    /// Bytes in memory of a row group: bounds what a reader of all columns needs at once.
    pub row_group_bytes: usize,
    /// Rows of a page of numbers in a dictionary: what the page index prunes. Pages of values themselves have a quarter of them, since
    /// few rows are read by pages, and these are where their bytes are.
    pub page_rows: usize,
    /// zstd level.
    pub zstd_level: i32,
    /// Filter by stored name of a column of ids or text; `off` where none is named.
    pub filters: BTreeMap<String, Filter>,
    /// False positives of a filter, as a share: a wrong guess costs a read of one column of a row group.
    pub filter_false_positives: f64,
    /// Bytes of the token filter of a row group. Keys with the most values are left out where it would be larger: ids, which
    /// filters by column are for.
    pub token_filter_bytes_max: usize,
    /// Attribute columns of a Delta table (ADR 0001): readers parse all of a footer, whatever they ask for.
    pub attribute_columns_max: usize,
    /// Days without file or query after which a column gives its place up.
    pub column_idle_days: i64,
    /// Stored names of columns whose values stand in no statistics: personal data.
    pub personal: BTreeSet<String>,
}

impl FileOptions {
    /// Rows of a page of values themselves.
    pub(super) fn value_page_rows(&self) -> usize {
        self.page_rows.div_ceil(VALUE_PAGES).max(1)
    }
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions {
            file_rows_max: 1 << 20,
            file_bytes_max: 512 << 20,
            row_group_rows: 128 << 10,
            row_group_bytes: 128 << 20,
            page_rows: 16 << 10,
            zstd_level: 3,
            filters: BTreeMap::from([("trace_id".to_owned(), Filter::Bloom)]),
            filter_false_positives: 0.01,
            token_filter_bytes_max: 64 << 10,
            attribute_columns_max: 1_000,
            column_idle_days: 7,
            personal: BTreeSet::new(),
        }
    }
}

impl FileOptions {
    pub(super) fn filter(&self, name: &str) -> Filter {
        self.filters.get(name).copied().unwrap_or(Filter::Off)
    }

    /// `zstd_level`, within what zstd knows.
    pub(super) fn level(&self) -> i32 {
        self.zstd_level.clamp(1, 22)
    }

    /// `filter_false_positives`, within what filters are built for.
    pub(super) fn false_positives(&self) -> f64 {
        if self.filter_false_positives > 0.0 { self.filter_false_positives.clamp(0.0001, 0.5) } else { 0.01 }
    }
}
