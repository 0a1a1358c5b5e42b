//! Keys: who can read what lies in segments and blocks.
//!
//! ```text
//! key service (optional) -> tenant key, in versions (record) -> data key of a segment or block (keyring) -> frames (frame/crypt)
//! ```
//!
//! A data key encrypts the frames of one file and stands in that file, wrapped by the newest version of its tenant's key. So
//! reading needs the file and one small key of the tenant; to rotate is to make a new version; and to erase a tenant is to
//! remove its versions, under a tombstone. Which scheme a tenant has is told by its newest version and, before there is any, by the
//! configuration. Not here: how frames are encrypted (`frame/crypt`).

mod error;
mod record;
mod tomb;
mod keyring;
mod kms;
mod erase;

pub use erase::{Erasure, Remains, SWEEP_AGE_MS};
pub use error::KeyError;
pub(crate) use keyring::NewKey;
pub use keyring::{Keyring, VersionStatus};
pub use kms::{Kms, KmsOptions};
pub use record::Scheme;

use prism_model::TenantId;

/// Bytes of a tenant's key.
pub const TENANT_KEY_BYTES: usize = 32;

/// A service that keeps keys which never leave it. Called from threads that may block; each call may fail and be made again.
pub trait KeyService: Send + Sync {
    /// A new key for a tenant, and the form of it that only the service opens.
    ///
    /// # Errors
    /// [`KeyError::Unreachable`] or [`KeyError::Refused`].
    fn generate(&self, tenant: &TenantId) -> Result<([u8; TENANT_KEY_BYTES], Vec<u8>), KeyError>;

    /// The key of the tenant out of that form.
    ///
    /// # Errors
    /// [`KeyError::Unreachable`] or [`KeyError::Refused`].
    fn open(&self, tenant: &TenantId, sealed: &[u8]) -> Result<[u8; TENANT_KEY_BYTES], KeyError>;
}
