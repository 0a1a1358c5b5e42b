//! Files to a configuration of rustls: TLS 1.3 only, computed by ring.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::validity;
use crate::config::TlsSettings;

/// Bytes of one file: chains have a handful of certificates of 2 KiB, bundles of authorities some hundred.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why there is no TLS. Paths are those of the configuration, told to who runs Prism and never to a client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("`{setting}`: `{path}` cannot be read: {error}")]
    Unreadable {
        /// The setting.
        setting: &'static str,
        /// As configured.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{setting}`: expected {expected} in PEM form, found {found}")]
    Pem {
        /// The setting.
        setting: &'static str,
        /// What the file is for.
        expected: &'static str,
        /// What is wrong.
        found: String,
    },
    /// The files do not go together.
    #[error("`tls.cert_file` and `tls.key_file` cannot be used: {0}")]
    Refused(String),
}

/// The bytes of the files.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    certificates: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What the files give.
pub(crate) struct Loaded {
    /// How connections are secured.
    pub(crate) config: Arc<ServerConfig>,
    /// Unix seconds at which the first certificate of the chain ends; `None` where it does not say.
    pub(crate) ends_unix_s: Option<i64>,
}

impl Files {
    /// Reads them. Blocks on the disk.
    ///
    /// # Errors
    /// [`TlsError::Unreadable`]
    pub(crate) fn read(settings: &TlsSettings) -> Result<Files, TlsError> {
        let client_ca = (!settings.client_ca_file.as_os_str().is_empty())
            .then(|| read("tls.client_ca_file", &settings.client_ca_file))
            .transpose()?;
        Ok(Files {
            certificates: read("tls.cert_file", &settings.cert_file)?,
            key: read("tls.key_file", &settings.key_file)?,
            client_ca,
        })
    }

    /// The configuration that they give. The key is checked against the certificate.
    ///
    /// # Errors
    /// [`TlsError`]
    pub(crate) fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let refused = |error: rustls::Error| TlsError::Refused(error.to_string());
        let chain = certificates("tls.cert_file", &self.certificates)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| TlsError::Pem {
            setting: "tls.key_file",
            expected: "a private key",
            found: error.to_string(),
        })?;
        let ends_unix_s = chain.first().and_then(|certificate| validity::ends_unix_s(certificate));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(bytes) => {
                let broken = |found: String| TlsError::Pem {
                    setting: "tls.client_ca_file",
                    expected: "certificates of authorities",
                    found,
                };
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls.client_ca_file", bytes)? {
                    roots.add(certificate).map_err(|error| broken(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| broken(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Loaded { config: Arc::new(config), ends_unix_s })
    }
}

fn certificates(setting: &'static str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let broken = |found: String| TlsError::Pem { setting, expected: "certificates", found };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(broken("none".to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let unreadable = |error| TlsError::Unreadable { setting, path: path.display().to_string(), error };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(certificates: &str, key: &str, client_ca: Option<&str>) -> Files {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Files { certificates: bytes(certificates), key: bytes(key), client_ca: client_ca.map(bytes) }
    }

    #[test]
    fn files_that_do_not_go_together_are_refused_by_name() {
        let new = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (one, other) = (new(), new());
        let (pem, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let loaded = files(&pem, &key, Some(&pem)).load().unwrap_or_else(|e| panic!("{e}"));
        assert!(loaded.ends_unix_s.is_some());
        let check = |files: Files, expected: &str| {
            let error = files.load().err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with(expected), "{error}");
        };
        check(files("", &key, None), "`tls.cert_file`: expected certificates in PEM form, found none");
        check(files(&pem, "", None), "`tls.key_file`: expected a private key in PEM form, found");
        check(files(&pem, &key, Some("")), "`tls.client_ca_file`: expected certificates in PEM form, found none");
        check(
            files(&pem, &other.signing_key.serialize_pem(), None),
            "`tls.cert_file` and `tls.key_file` cannot be used",
        );
        check(files(&pem[..200], &key, None), "`tls.cert_file`: expected certificates in PEM form, found");
    }
}
