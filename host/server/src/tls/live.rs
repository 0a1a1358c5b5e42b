//! The certificate in force. Files that change are taken up without a restart; connections that are open stay as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::sync::{Semaphore, watch};

use super::certificate::{Files, Loaded, TlsError};
use crate::config::TlsSettings;
use crate::metrics::{Exposition, Type};

/// TLS as it is now.
pub(crate) struct Tls {
    settings: TlsSettings,
    now: RwLock<Loaded>,
    /// Handshakes that may be under way; each costs a signature.
    pub(super) handshakes: Semaphore,
    pub(super) handshakes_failed: AtomicU64,
    reloads: AtomicU64,
    /// Whether the files are not those of the certificate in force, because they cannot be used.
    broken: AtomicBool,
}

impl Tls {
    /// TLS as configured; `None` where no certificate is named. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError`]
    pub(crate) fn open(settings: &TlsSettings) -> Result<Option<Arc<Tls>>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Tls {
            now: RwLock::new(Files::read(settings)?.load()?),
            handshakes: Semaphore::new(settings.handshakes_max.min(Semaphore::MAX_PERMITS)),
            handshakes_failed: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            settings: settings.clone(),
        })))
    }

    /// What the next connection is secured with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.now.read().config.clone()
    }

    /// Time for a handshake.
    pub(super) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.handshake_timeout_ms)
    }

    /// Looks at the files again and again until `stop` holds true.
    pub(crate) async fn watch(self: Arc<Tls>, mut stop: watch::Receiver<bool>) {
        // What was last looked at, so that a broken file is told once and not every time.
        let mut seen: Option<Result<Files, String>> = None;
        let pause = Duration::from_millis(self.settings.reload_ms);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => {}
            }
            let settings = self.settings.clone();
            let read = tokio::task::spawn_blocking(move || Files::read(&settings)).await;
            let found = read.map_err(|e| e.to_string()).and_then(|files| files.map_err(|e| e.to_string()));
            if seen.as_ref() == Some(&found) {
                continue;
            }
            match found.as_ref().map_err(Clone::clone).and_then(|files| files.load().map_err(|e| e.to_string())) {
                Ok(loaded) => {
                    // The first look finds the files of the start, unless they changed meanwhile.
                    if seen.is_some() {
                        tracing::info!(ends_unix_s = loaded.ends_unix_s, "the certificate was read anew");
                        self.reloads.fetch_add(1, Relaxed);
                    }
                    *self.now.write() = loaded;
                    self.broken.store(false, Relaxed);
                }
                Err(error) => {
                    tracing::error!(
                        error,
                        "the certificate cannot be read anew: the one that was read before stays in force"
                    );
                    self.broken.store(true, Relaxed);
                }
            }
            seen = Some(found);
        }
    }

    /// What is counted.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        let of = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        if let Some(ends) = self.now.read().ends_unix_s {
            let help = "Unix time at which the certificate in force ends.";
            text.one("prism_server_tls_certificate_end_seconds", Type::Gauge, help, ends as f64);
        }
        text.one(
            "prism_server_tls_files_broken",
            Type::Gauge,
            "1 where the files of the certificate cannot be used and an earlier one stays in force.",
            f64::from(u8::from(self.broken.load(Relaxed))),
        );
        text.one(
            "prism_server_tls_reloads_total",
            Type::Counter,
            "Times that a changed certificate was taken up.",
            of(&self.reloads),
        );
        text.one(
            "prism_server_tls_handshakes_failed_total",
            Type::Counter,
            "Connections that ended before they were secured.",
            of(&self.handshakes_failed),
        );
    }
}
