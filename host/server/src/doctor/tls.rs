//! The certificate: can be used, does not end soon, and its key is nobody else's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use chrono::DateTime;

use super::Finding;
use crate::config::TlsSettings;
use crate::error::chain;
use crate::tls::Files;

/// Authorities that renew by themselves do so a month before the end: after half of that something is wrong.
const ENDS_SOON_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 86_400;

/// All checks of TLS; none where it is off.
pub(super) fn check(settings: &TlsSettings, now_unix_s: i64) -> Vec<Finding> {
    if !settings.is_on() {
        return Vec::new();
    }
    let subject = "certificate";
    let todo =
        "`tls.cert_file` and `tls.key_file` name a chain and its key in PEM form; the server does not start without";
    match Files::read(settings).and_then(|files| files.load()) {
        Err(error) => vec![Finding::fail(subject, chain(&error), todo)],
        Ok(loaded) => vec![end(loaded.ends_unix_s, now_unix_s), key(&settings.key_file)],
    }
}

fn end(ends_unix_s: Option<i64>, now_unix_s: i64) -> Finding {
    let subject = "certificate";
    let Some(at) = ends_unix_s.and_then(|seconds| DateTime::from_timestamp(seconds, 0)) else {
        return Finding::warn(subject, "does not say when it ends", "use one that does");
    };
    let left = (at.timestamp() - now_unix_s).div_euclid(DAY_SECONDS);
    let date = at.format("%Y-%m-%d");
    let todo = "replace the files: a running server takes them up by itself";
    match left {
        ..0 => Finding::fail(subject, format!("ended on {date}"), todo),
        0..ENDS_SOON_DAYS => Finding::warn(subject, format!("ends on {date}, in {left} days"), todo),
        _ => Finding::ok(subject, format!("ends on {date}, in {left} days")),
    }
}

fn key(path: &Path) -> Finding {
    let subject = "certificate's key";
    match std::fs::metadata(path).map(|m| m.permissions().mode()) {
        Ok(mode) if mode & 0o077 != 0 => {
            let todo = format!("chmod 600 {}", path.display());
            Finding::warn(subject, format!("others of this machine may use it (mode {:03o})", mode & 0o777), todo)
        }
        Ok(_) => Finding::ok(subject, "is Prism's alone"),
        Err(error) => Finding::warn(subject, error, "look at the file"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn ends_are_told_in_time() {
        let of = |days: i64| end(Some(1_900_000_000 + days * DAY_SECONDS), 1_900_000_000);
        assert_eq!(
            [of(-1), of(1), of(13), of(14)].map(|f| f.level),
            [Level::Fail, Level::Warn, Level::Warn, Level::Ok]
        );
        assert_eq!(of(90).found, "ends on 2030-06-15, in 90 days");
    }

    #[test]
    fn files_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let settings = TlsSettings {
            cert_file: dir.path().join("cert.pem"),
            key_file: dir.path().join("key.pem"),
            ..TlsSettings::default()
        };
        assert!(check(&TlsSettings::default(), 0).is_empty());
        let missing = check(&settings, 0);
        assert_eq!((missing.len(), missing[0].level), (1, Level::Fail), "{missing:?}");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&settings.cert_file, made.cert.pem()).unwrap();
        std::fs::write(&settings.key_file, made.signing_key.serialize_pem()).unwrap();
        for (mode, level) in [(0o644, Level::Warn), (0o600, Level::Ok)] {
            std::fs::set_permissions(&settings.key_file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&settings, 0)[1].level, level, "{mode:o}");
        }
    }
}
