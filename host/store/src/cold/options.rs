//! Settings of the cold tier, each with its reason.

use super::file::FileOptions;

/// How rows come to cold, are joined there, and leave. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColdOptions {
    /// How a file is written.
    pub file: FileOptions,
    /// Bytes of rows that wait for their files at once (as Arrow buffers), and of their rollups, over the days that they are of. Sorting and writing one
    /// file needs about as much as that file again.
    pub hold_bytes_max: usize,
    /// Rows of one commit: what a crash has to do again. At least one block.
    pub commit_rows_max: u64,
    /// A file below this is small; files of a day are joined up to about this, but not beyond `file.file_rows_max`.
    pub compact_bytes_target: u64,
    /// So many small files of a day are joined.
    pub compact_files_min: usize,
    /// Commits between checkpoints: what a reader reads one by one.
    pub checkpoint_commits: u64,
    /// Files that came or went between checkpoints: the first plan of a process parses what is said of each, some 12 us, and a
    /// checkpoint of 1,000,000 files takes seconds to write.
    pub checkpoint_files: usize,
    /// Commits that a checkpoint stands for are kept so long, for engines that look at older versions.
    pub log_retention_ms: u64,
    /// What was removed from the table, or never came into it, is deleted after so long: queries of other engines have ended by then.
    pub sweep_after_ms: u64,
    /// Blocks stay so long after the commit that has their rows: twice the longest query.
    pub read_grace_ms: u64,
    /// Entries of a file's rollup; one that would have more is left out, and rows answer.
    pub cube_entries_max: usize,
}

impl Default for ColdOptions {
    fn default() -> ColdOptions {
        ColdOptions {
            file: FileOptions::default(),
            hold_bytes_max: 512 << 20,
            commit_rows_max: 16 << 20,
            compact_bytes_target: 128 << 20,
            compact_files_min: 4,
            checkpoint_commits: 10,
            checkpoint_files: 10_000,
            log_retention_ms: 24 * 3_600_000,
            sweep_after_ms: 24 * 3_600_000,
            read_grace_ms: 120_000,
            cube_entries_max: 200_000,
        }
    }
}
