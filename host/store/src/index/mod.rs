//! The index of trace ids: which cold files hold a trace, without a time range.
//!
//! ```text
//! traces of new files -> page (fingerprints by place) -> run (pages of one object) -> manifest (which runs stand, by number)
//! update: a recent run, merged into the base once it is a sixteenth of it     lookup: one page of each
//! ```
//!
//! `index/<tenant>/<signal>/<number, 20 digits>.json` is the manifest, created conditionally (ST-5); runs lie in `runs/`. An entry is
//! 48 bits of the fingerprint (xxh3-64 of the trace id), and of its file the minute of the smallest event time and 16 bits of the
//! hash of its path, by which the Delta log finds it: the index knows no names, and what is in no version any more is found by
//! nobody. A wrong guess (one in 2^48 an entry) costs a look into a file's own filter. Fingerprints are even, so a page's place
//! is computed: two reads with the manifest known, four without.
//!
//! A commit that no manifest covers yet is looked up by its files' own filters, so that a crash between the two loses nothing.
//! Not here: filters in files (`cold::file`), which files a version has (`cold::delta`).

mod page;
mod run;
mod manifest;
mod update;
mod lookup;
#[cfg(test)]
mod tests;

pub use lookup::{Found, TraceFile, Traces};
pub use update::{IndexEnv, IndexReport, RECENT_ENTRIES_MIN, TracesOf, update, vacuum};

/// The fingerprint of a trace id.
pub fn fingerprint(id: &[u8; 16]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id)
}
