//! Why a key is not to be had. Messages are for the tenant; what the disk or the service said stands in the source, for logs.

use std::io;
use std::sync::Arc;

use prism_model::{Classify, Kind};

/// A key that cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The version is gone.
    #[error("version {version} of the tenant's key is missing: what it encrypted cannot be read")]
    Missing {
        /// The version that is asked for.
        version: u64,
    },
    /// The version is not the key that this was encrypted with.
    #[error(
        "version {version} of the tenant's key does not open this: it is another key, or the file was changed or moved"
    )]
    Wrong {
        /// The version that was tried.
        version: u64,
    },
    /// What stands where the version should is none.
    #[error("version {version} of the tenant's key is damaged")]
    Damaged {
        /// The damaged version.
        version: u64,
    },
    /// The tenant was erased, and its keys with it.
    #[error("the tenant was erased")]
    Erased,
    /// The key is in a service, and none is configured here.
    #[error("the tenant's key is kept by a key service, and none is configured (`encryption.kms_key`)")]
    NoService,
    /// The service does not answer.
    #[error("the key service does not answer")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The service answers that it will not.
    #[error("the key service refused")]
    Refused(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The folder of keys cannot be read or written.
    #[error("the keys cannot be reached: {doing}")]
    Disk {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl KeyError {
    pub(crate) fn disk(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> KeyError {
        KeyError::Disk { doing, source: Arc::new(source) }
    }
}

impl Classify for KeyError {
    fn kind(&self) -> Kind {
        match self {
            KeyError::Erased => Kind::Forbidden,
            // An operator brings the key or the service back: the client loses nothing if it waits.
            _ => Kind::Retry,
        }
    }
}

/// Through calls that know of files only; [`crate::StoreError::io`] finds it again.
impl From<KeyError> for io::Error {
    fn from(e: KeyError) -> io::Error {
        io::Error::other(e)
    }
}
