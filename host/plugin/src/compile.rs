//! Compiled components on disk: keyed by the component's hash and everything that compiled code depends on, bounded by bytes,
//! loaded by mmap.
//!
//! Compiled code is trusted by the processor, so the folder must be this user's alone, and each file is checked against the
//! hash that stands beside it before it is mapped. Whatever is wrong with the cache, the component is compiled anew.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::PluginError;

/// Compiled components of a node.
pub(crate) struct Compiler {
    engine: Engine,
    folder: Option<PathBuf>,
    bytes_max: u64,
    time_max: Duration,
    /// One compilation at a time: an upload must not take the cores from ingest.
    one: Arc<Mutex<()>>,
}

impl Compiler {
    /// A compiler with its folder, which is created; without one, or where it is not private, nothing is kept.
    pub(crate) fn new(engine: Engine, folder: Option<PathBuf>, bytes_max: u64, time_max: Duration) -> Compiler {
        let folder = folder.filter(|folder| match private_folder(folder) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "compiled plugins are not kept: the cache folder cannot be used");
                false
            }
        });
        Compiler { engine, folder, bytes_max, time_max, one: Arc::default() }
    }

    /// The compiled form of a component, from disk or made now.
    ///
    /// # Errors
    /// The component is not valid within the closed set of features, or takes too long.
    pub(crate) fn compile(&self, hash: &str, component: &[u8]) -> Result<Component, PluginError> {
        let path = self.folder.as_ref().map(|folder| folder.join(self.file_name(hash)));
        if let Some(compiled) = path.as_deref().and_then(|path| self.load(path)) {
            return Ok(compiled);
        }
        let compiled = self.compile_in_time(component)?;
        if let Some(path) = path
            && let Err(error) = self.keep(&path, &compiled)
        {
            tracing::warn!(%error, "a compiled plugin could not be kept");
        }
        Ok(compiled)
    }

    /// The component's hash, and a hash of wasmtime's version, its settings and the processor's features.
    fn file_name(&self, hash: &str) -> String {
        let mut hasher = Fold(Sha256::new());
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        let environment = hex::encode(&hasher.0.finalize()[..8]);
        format!("{hash}-{environment}.cwasm")
    }

    fn load(&self, path: &Path) -> Option<Component> {
        let expected = fs::read_to_string(path.with_extension("sha256")).ok()?;
        let meta = fs::symlink_metadata(path).ok()?;
        if !meta.is_file() || meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::getuid().as_raw() {
            return None;
        }
        let found = hash_of_file(path).ok()?;
        if found != expected.trim() {
            tracing::warn!("a compiled plugin on disk is damaged and will be made anew");
            return None;
        }
        // SAFETY: the file is what `keep` wrote: it lies in a folder that only this user can change, it is this user's
        // alone, and its content has the hash that was written beside it; files are replaced by rename and never changed in
        // place, so the mapping stays what it is. wasmtime refuses files of other versions and settings by itself.
        #[expect(unsafe_code, reason = "compiled code can only be loaded by trusting it")]
        let loaded = unsafe { Component::deserialize_file(&self.engine, path) };
        match loaded {
            Ok(component) => {
                // The time of last use, by which files are evicted.
                let _best_effort =
                    fs::File::options().write(true).open(path).and_then(|f| f.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                tracing::warn!(%error, "a compiled plugin on disk does not load and will be made anew");
                None
            }
        }
    }

    /// Cranelift cannot be interrupted: it runs in a thread of its own, which is left behind when it takes too long, and
    /// keeps others from compiling until it has ended.
    fn compile_in_time(&self, component: &[u8]) -> Result<Component, PluginError> {
        let (engine, bytes, one) = (self.engine.clone(), component.to_vec(), self.one.clone());
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("prism-plugin-compile".into())
            .stack_size(16 << 20)
            .spawn(move || {
                let _turn = one.lock();
                let _gone = send.send(Component::from_binary(&engine, &bytes));
            })
            .map_err(|e| PluginError::Host(format!("no thread to compile: {e}")))?;
        match receive.recv_timeout(self.time_max) {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => Err(PluginError::Refused(format!("it is not a valid component: {error:#}"))),
            Err(_) => Err(PluginError::Refused(format!(
                "it did not compile within {} ms (setting `compile_ms_max`)",
                self.time_max.as_millis()
            ))),
        }
    }

    fn keep(&self, path: &Path, compiled: &Component) -> io::Result<()> {
        let bytes = compiled.serialize().map_err(|e| io::Error::other(e.to_string()))?;
        if bytes.len() as u64 > self.bytes_max {
            return Ok(());
        }
        self.make_room(path, bytes.len() as u64)?;
        let hash = hex::encode(Sha256::digest(&bytes));
        write_whole(&path.with_extension("sha256"), hash.as_bytes())?;
        write_whole(path, &bytes)
    }

    /// Removes the files that were used longest ago until `bytes` more fit.
    fn make_room(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if entry.path().extension().is_some_and(|e| e == "cwasm") && entry.path() != path {
                files.push((meta.modified()?, meta.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, old) in files {
            if total + bytes <= self.bytes_max {
                break;
            }
            fs::remove_file(&old)?;
            let _also = fs::remove_file(old.with_extension("sha256"));
            total -= len;
        }
        Ok(())
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let meta = fs::symlink_metadata(folder)?;
    if !meta.is_dir() || meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::other("expected a folder of this user with mode 0700"));
    }
    Ok(())
}

fn hash_of_file(path: &Path) -> io::Result<String> {
    // Read whole: the pages stay in the system's cache and are what the mapping will show.
    Ok(hex::encode(Sha256::digest(fs::read(path)?)))
}

/// Writes a file of its own name first, so that readers see the old one or the whole new one.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let _left_behind = fs::remove_file(&temporary);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// A hasher whose result is the same in every process.
struct Fold(Sha256);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
