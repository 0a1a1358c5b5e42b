//! A segment's file as what frames are read from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, File};
use crate::error::{Damage, StoreError};
use crate::framed::Source;
use crate::unit::Tier;

/// A segment's file: opened anew for each read, and known again by its inode.
pub(crate) struct HotFile {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
}

impl Source for HotFile {
    fn open(&self) -> Result<Arc<dyn File>, StoreError> {
        let failed = |e| StoreError::read("read a frame", e);
        let file = self.disk.open(&self.path).map_err(failed)?;
        if file.identity().map_err(failed)?.0 == self.inode { Ok(file) } else { Err(Damage::Foreign("frame").into()) }
    }

    fn identity(&self) -> u64 {
        self.inode
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn tier(&self) -> Tier {
        Tier::Hot
    }
}
