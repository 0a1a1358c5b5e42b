//! What can go wrong in the store, and what the caller must do about it.

use std::io;

use prism_model::{Classify, Kind};

use crate::disk::is_gone;

/// A failure of the store. Paths stand only in the source chain for logs, never in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk is full, or over its quota.
    #[error("the disk is full: nothing of this batch was kept")]
    Full(#[source] io::Error),
    /// The disk failed in another way.
    #[error("the disk failed while it {doing}")]
    Disk {
        /// What the store did.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A part of the data was moved to a colder tier, or expired, since it was listed: look again.
    #[error("what was to be read has moved on since it was listed: ask again")]
    Vanished(#[source] io::Error),
    /// The object lies in a storage class from which it must be fetched back first.
    #[error(
        "an archived file is needed: restore its object in the bucket (`aws s3api restore-object`), and ask again then"
    )]
    Archived(#[source] io::Error),
    /// The group that the batch was written with failed.
    #[error("writing failed, nothing of this batch was kept: {0}")]
    Group(String),
    /// The batch failed, and could not be made invisible yet: it is not known whether it will be there.
    #[error("writing failed and is not undone yet: it is not known whether this batch was kept")]
    Uncertain,
    /// An earlier failed write could not be made invisible yet.
    #[error("an earlier failed write is not undone yet: nothing is accepted until it is")]
    Undoing,
    /// Too many bytes wait for the disk.
    #[error("more than {limit} bytes wait for the disk (`store.inflight_bytes_max`)")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// One batch is larger than everything that may wait.
    #[error("a batch of {bytes} bytes is larger than {limit} (`store.inflight_bytes_max`)")]
    TooLarge {
        /// Bytes of the batch in memory.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The batch is stored: by another writer, since it was looked for.
    #[error("the batch is stored already")]
    Stored,
    /// Another process was about to store the same batch all the time, or began to and died: a lease later that is decided.
    #[error("the same batch is under way in another process: send it again")]
    UnderWay,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// A key that cannot be had.
    #[error("encryption: {0}")]
    Key(#[from] crate::keys::KeyError),
    /// Bytes on disk that are not what was written.
    #[error("damaged data: {0}")]
    Damaged(#[from] Damage),
    /// Rows that cannot be arranged or stored: a bug.
    #[error("the batch cannot be stored: {0}")]
    Rows(String),
    /// A Delta table that somebody else changed in a way that is not known here. Its blocks stay where they are.
    #[error("the Delta table cannot be used: {0}")]
    Table(String),
    /// A name of a control object, blob or token that is none.
    #[error("expected {expected}, found `{found}`")]
    BadName {
        /// What a name looks like.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A control object whose predecessor does not exist.
    #[error("expected number {expected} for the next object, found {found}")]
    Gap {
        /// The next free number.
        expected: u64,
        /// What came.
        found: u64,
    },
}

/// How bytes on disk differ from what a writer would have written. Carries no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Fewer bytes than promised.
    #[error("{0} ends early")]
    Short(&'static str),
    /// A checksum does not match.
    #[error("checksum of {0} does not match")]
    Checksum(&'static str),
    /// A number that no writer writes.
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
    /// Written by a newer version.
    #[error("{what} has version {found}, this reads up to {known}: a newer prism wrote it, run that version here too")]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The highest version known here.
        known: u16,
    },
    /// A Delta table that another engine raised to a protocol that is not known here.
    #[error(
        "{what} of the Delta table has version {found}, this knows up to {known}: another engine raised it, rows stay in \
         blocks until it is lowered again"
    )]
    Protocol {
        /// `reader protocol` or `writer protocol`.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The highest version known here.
        known: u16,
    },
    /// An encrypted block that its key does not open.
    #[error("{0} does not open with its key: it was changed, moved, or written under another one")]
    Sealed(&'static str),
    /// What must be there is not.
    #[error("{0} is missing, number {1}")]
    Missing(&'static str, u64),
    /// Not the file that it should be.
    #[error("{0} belongs elsewhere")]
    Foreign(&'static str),
    /// Not a Parquet file that Prism wrote.
    #[error("{0} was not written by Prism, or was rewritten")]
    NotOurs(&'static str),
    /// A Parquet file that Parquet's own reader refuses.
    #[error("the Parquet file cannot be read: {0}")]
    Parquet(String),
    /// The columns do not make a batch.
    #[error("the columns make no batch: {0}")]
    Rows(String),
}

impl Damage {
    /// Refuses what a newer Prism wrote, and what none did. Every version from 1 to `known` stays readable (`adr/0005`).
    pub(crate) fn version(what: &'static str, found: u16, known: u16) -> Result<(), Damage> {
        match found {
            0 => Err(Damage::Bounds(what)),
            found if found > known => Err(Damage::Version { what, found, known }),
            _ => Ok(()),
        }
    }
}

impl StoreError {
    /// Sorts an error of the disk: a full one is told apart, since it recovers by itself.
    pub(crate) fn io(doing: &'static str, source: io::Error) -> StoreError {
        if let Some(key) = source.get_ref().and_then(|e| e.downcast_ref::<crate::keys::KeyError>()) {
            return StoreError::Key(key.clone());
        }
        if crate::objects::is_archived(&source) {
            return StoreError::Archived(source);
        }
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full(source)
            }
            _ => StoreError::Disk { doing, source },
        }
    }

    /// Sorts an error of reading what was listed: a name that is not there any more is settled by a new listing.
    pub(crate) fn read(doing: &'static str, source: io::Error) -> StoreError {
        if is_gone(&source) { StoreError::Vanished(source) } else { StoreError::io(doing, source) }
    }
}

impl Classify for StoreError {
    fn kind(&self) -> Kind {
        match self {
            StoreError::Full(_)
            | StoreError::Disk { .. }
            | StoreError::Vanished(_)
            | StoreError::Archived(_)
            | StoreError::Group(_)
            | StoreError::Undoing
            | StoreError::Uncertain
            | StoreError::Table(_)
            | StoreError::Stored
            | StoreError::UnderWay
            | StoreError::Closed => Kind::Retry,
            StoreError::Key(e) => e.kind(),
            StoreError::Busy { .. } => Kind::Wait,
            StoreError::TooLarge { .. } => Kind::TooLarge,
            StoreError::BadName { .. } | StoreError::Gap { .. } => Kind::Fix,
            StoreError::Damaged(_) | StoreError::Rows(_) => Kind::Bug,
        }
    }
}
