//! The data folder: can be written, has room, syncs, creates conditionally, and what it is mounted on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Finding;
use crate::show::{bytes, duration};

/// Below this a busy node is full within minutes.
const FREE_WARN: u64 = 5 << 30;
/// Below this segments and compiled plugins do not fit.
const FREE_FAIL: u64 = 256 << 20;
/// Acknowledgements wait for one; ingest aims at 500 ms.
const SYNC_WARN: Duration = Duration::from_millis(50);
/// No device syncs faster: the file system does not sync.
const SYNC_NOT_REAL: Duration = Duration::from_micros(5);
/// Readers and leases of a shared folder compare times.
const SKEW_WARN: Duration = Duration::from_secs(2);

/// A folder in the data folder that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_for_the_user = fs::remove_dir_all(&self.0);
    }
}

/// All checks of the folder; only the first where it cannot be written.
pub(super) fn check(data_dir: &Path) -> Vec<Finding> {
    let scratch = match scratch(data_dir) {
        Ok(scratch) => scratch,
        Err(error) => {
            let found = format!("`{}` cannot be written: {error}", data_dir.display());
            let todo = "give the user that runs Prism write access, or name another folder with --data-dir";
            return vec![Finding::fail("data folder", found, todo)];
        }
    };
    let at = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let mut findings = vec![Finding::ok("data folder", format!("`{}` can be written", at.display()))];
    findings.push(space(&at));
    findings.push(sync(&scratch.0));
    findings.push(conditional_create(&scratch.0));
    findings.push(clock(&scratch.0));
    if let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") {
        findings.extend(mount_of(&at, &mounts).map(|mount| judge_mount(&mount)));
    }
    findings
}

fn scratch(data_dir: &Path) -> io::Result<Scratch> {
    fs::create_dir_all(data_dir)?;
    let dir = data_dir.join(format!(".doctor-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let scratch = Scratch(dir);
    fs::write(scratch.0.join("probe"), b"probe")?;
    Ok(scratch)
}

fn space(dir: &Path) -> Finding {
    let subject = "free space";
    match rustix::fs::statvfs(dir) {
        Err(error) => Finding::warn(subject, format!("cannot be read: {error}"), "watch it by other means"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let inodes_gone = stat.f_files > 0 && stat.f_favail == 0;
            match free {
                _ if inodes_gone => {
                    Finding::fail(subject, "no file can be created: inodes are used up", "remove files")
                }
                ..FREE_FAIL => Finding::fail(subject, bytes(free), "free some: nothing is accepted on a full disk"),
                FREE_FAIL..FREE_WARN => Finding::warn(subject, bytes(free), "free some, or use a larger disk"),
                _ => Finding::ok(subject, bytes(free)),
            }
        }
    }
}

fn sync(dir: &Path) -> Finding {
    let subject = "sync";
    let measured = || -> io::Result<Duration> {
        let mut file = File::create(dir.join("sync"))?;
        let mut took = Vec::new();
        for _ in 0..5 {
            file.write_all(&[7; 4_096])?;
            let began = Instant::now();
            file.sync_data()?;
            took.push(began.elapsed());
        }
        took.sort();
        Ok(took[took.len() / 2])
    };
    match measured() {
        Err(error) => Finding::fail(subject, format!("fdatasync fails: {error}"), "use a file system that syncs"),
        Ok(took) => {
            let shown = format!("fdatasync takes {}", duration(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX)));
            if took > SYNC_WARN {
                Finding::warn(subject, shown, "every acknowledgement waits for one: a faster disk makes ingest faster")
            } else if took < SYNC_NOT_REAL {
                Finding::warn(subject, shown, "no device is that fast: this folder does not survive a power cut")
            } else {
                Finding::ok(subject, shown)
            }
        }
    }
}

/// Tenants, keys, bindings and leases all rest on this.
fn conditional_create(dir: &Path) -> Finding {
    let subject = "conditional create";
    let probe = || -> io::Result<bool> {
        let create = || OpenOptions::new().write(true).create_new(true).open(dir.join("once"));
        create()?;
        let refused = matches!(create(), Err(error) if error.kind() == io::ErrorKind::AlreadyExists);
        let (from, to) = (dir.join("once"), dir.join("link"));
        fs::hard_link(&from, &to)?;
        let link_refused =
            matches!(fs::hard_link(&from, &to), Err(error) if error.kind() == io::ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink("holder", dir.join("lease"))?;
        let lease = std::os::unix::fs::symlink("other", dir.join("lease"));
        let lease_refused = matches!(lease, Err(error) if error.kind() == io::ErrorKind::AlreadyExists);
        Ok(refused && link_refused && lease_refused)
    };
    match probe() {
        Ok(true) => Finding::ok(subject, "files, hard links and symbolic links are created once"),
        Ok(false) => Finding::fail(subject, "a second creation is not refused", "use a POSIX file system or NFS 4"),
        Err(error) => {
            Finding::fail(subject, format!("fails: {error}"), "use a file system with hard and symbolic links")
        }
    }
}

fn clock(dir: &Path) -> Finding {
    let subject = "clock";
    let skew = || -> io::Result<Duration> {
        fs::write(dir.join("clock"), b"now")?;
        let written = fs::metadata(dir.join("clock"))?.modified()?;
        let now = SystemTime::now();
        Ok(now.duration_since(written).unwrap_or_else(|ahead| ahead.duration()))
    };
    match skew() {
        Ok(skew) if skew <= SKEW_WARN => Finding::ok(subject, "agrees with that of the data folder"),
        Ok(skew) => {
            let found = format!("differs by {} s from that of the data folder", skew.as_secs());
            Finding::warn(subject, found, "synchronise both by NTP")
        }
        Err(error) => {
            Finding::warn(subject, format!("cannot be compared with the data folder's: {error}"), "check it by hand")
        }
    }
}

/// A mount: its type and options.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    kind: String,
    options: String,
}

/// The mount that a folder lies on: that of the longest mount point above it (proc(5), mountinfo). Options of the mount and
/// of its file system together.
fn mount_of(dir: &Path, mounts: &str) -> Option<Mount> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let point = left.get(4)?.replace("\\040", " ");
        let options = format!("{},{}", left.get(5)?, right.get(2).unwrap_or(&""));
        Some((point, Mount { kind: (*right.first()?).to_owned(), options }))
    };
    let above = mounts.lines().filter_map(parse).filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, mount)| mount)
}

fn judge_mount(mount: &Mount) -> Finding {
    let (subject, kind) = ("mount", mount.kind.as_str());
    match kind {
        "tmpfs" | "ramfs" => Finding::warn(subject, kind, "memory: everything is lost with the machine; use a disk"),
        "overlay" | "aufs" => Finding::warn(
            subject,
            kind,
            "a container's own layer: everything is lost with the container; mount a volume",
        ),
        "nfs" => Finding::warn(subject, kind, "mount it as NFS 4.1: version 3 has no exact create"),
        "nfs4" => {
            let missing: Vec<&str> = ["lookupcache=positive", "acdirmin=1", "acdirmax=1"]
                .into_iter()
                .filter(|option| !mount.options.split(',').any(|o| o == *option))
                .collect();
            if missing.is_empty() {
                Finding::ok(subject, "nfs4, with the options that readers need")
            } else {
                let todo = format!("mount with `{}`: else rows of other nodes are seen late", missing.join(","));
                Finding::warn(subject, kind, todo)
            }
        }
        _ if kind.starts_with("fuse") || kind == "9p" || kind == "cifs" || kind == "virtiofs" => Finding::warn(
            subject,
            kind,
            "check that it syncs and creates conditionally across machines; prefer a disk or NFS 4",
        ),
        _ => Finding::ok(subject, kind),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 0:40 / /data rw,relatime - nfs4 fs:/ rw,vers=4.1,lookupcache=positive,acdirmin=1,acdirmax=1\n\
31 22 0:41 / /data/fast rw - tmpfs tmpfs rw,size=10k\n\
broken line\n";

    #[test]
    fn the_nearest_mount_counts() {
        let kind = |dir: &str| mount_of(Path::new(dir), MOUNTS).unwrap().kind;
        assert_eq!(
            [kind("/home"), kind("/data/x"), kind("/data/fast"), kind("/database")],
            ["ext4", "nfs4", "tmpfs", "ext4"]
        );
        assert_eq!(mount_of(Path::new("/"), ""), None);
    }

    #[test]
    fn mounts_that_lose_or_hide_rows_are_told() {
        let level =
            |kind: &str, options: &str| judge_mount(&Mount { kind: kind.into(), options: options.into() }).level;
        assert_eq!(level("ext4", "rw"), Level::Ok);
        assert_eq!(level("tmpfs", "rw"), Level::Warn);
        assert_eq!(level("nfs4", "rw"), Level::Warn);
        assert_eq!(judge_mount(&mount_of(Path::new("/data"), MOUNTS).unwrap()).level, Level::Ok);
    }

    #[test]
    fn a_good_folder_has_no_failure_and_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let findings = check(&dir.path().join("new"));
        // Space and speed are the machine's.
        let failed = findings.iter().any(|f| f.level == Level::Fail && f.subject != "free space");
        assert!(!failed && findings.len() >= 5, "{findings:?}");
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_is_one_failure() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        let findings = check(&dir.path().join("file"));
        assert_eq!((findings.len(), findings[0].level), (1, Level::Fail));
    }
}
