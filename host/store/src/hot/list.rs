//! Which segments a tenant's signal has, and which of them are ended.
//!
//! Ended is a segment with its end mark, or with an `.end` link: nothing is added to it any more, and what lies below its
//! valid length stands. Folders are listed and files opened anew: only that shows what other nodes did.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use prism_model::window::Window;
use prism_model::{Signal, TenantId};

use crate::disk::Disk;
use crate::frame::schema::Sibling;
use crate::hot::scan::{Entry, NoIndex, SegmentIndex, end_mark};
use crate::hot::segment::end_link;
use crate::keys::Keyring;
use crate::place::{END_SUFFIX, SegmentName, parse_window_dir, signal_dir};

/// A segment in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: SegmentName,
    /// Its valid length where it is ended.
    pub(crate) ended: Option<u64>,
}

/// The segments of the wanted windows (told whether they are of late rows), in order of shard, window, writer and file.
/// Blocks on the disk.
///
/// # Errors
/// Where the disk fails. What vanishes meanwhile is not there.
pub(crate) fn segments(
    disk: &dyn Disk,
    root: &Path,
    tenant: &TenantId,
    signal: Signal,
    wanted: &dyn Fn(Window, bool) -> bool,
) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    for folder in folders(disk, root, tenant, signal, wanted)? {
        let files: BTreeSet<String> = names(disk, &folder.path)?.into_iter().collect();
        for file in &files {
            let Some(name) = folder.segment(file) else { continue };
            let path = folder.path.join(file);
            let linked = files.contains(&format!("{file}{END_SUFFIX}"));
            let valid = if linked { end_of(disk, &path)? } else { None };
            let ended = match valid {
                Some(valid) => Some(valid),
                None => match marked(disk, &path, &name, tenant, signal) {
                    Ok(valid) => valid,
                    Err(NoIndex::Io(e)) => return Err(e),
                    // Only its opening can have failed otherwise: it is gone.
                    Err(_) => continue,
                },
            };
            found.push(Listed { name, ended });
        }
    }
    found.sort_unstable_by_key(|s| s.name);
    Ok(found)
}

/// Segments that must stay although they are ended and sealed: a group lies in them and in another segment that is not ended
/// and confirms nothing yet, so that whether it stands there is decided here.
///
/// # Errors
/// Where the disk fails.
pub(crate) fn awaited(
    disk: &dyn Disk,
    root: &Path,
    tenant: &TenantId,
    signal: Signal,
    listed: &[Listed],
    keys: &Keyring,
) -> io::Result<BTreeSet<SegmentName>> {
    let mut awaited = BTreeSet::new();
    for segment in listed.iter().filter(|s| s.ended.is_none()) {
        let name = &segment.name;
        let path = root.join(name.dir(tenant, signal)).join(name.file_name());
        match SegmentIndex::read(disk, &path, &name.header(tenant, signal), None, None, keys) {
            Ok(index) => {
                let open = index.frames.iter().filter(|f| f.end() > index.confirmed);
                awaited.extend(open.flat_map(|f| siblings(name, f).map(|(name, _)| name)));
            }
            Err(NoIndex::Io(e)) => return Err(e),
            Err(NoIndex::Locked(e)) => return Err(e.into()),
            Err(NoIndex::Absent | NoIndex::Vanished | NoIndex::Damaged(_)) => {}
        }
    }
    Ok(awaited)
}

/// The last frames of a frame's group in each of its segments, in order; none where the group is that frame alone.
pub(crate) fn siblings<'a>(name: &'a SegmentName, of: &'a Entry) -> impl Iterator<Item = (SegmentName, u32)> + 'a {
    let segment =
        |s: &Sibling| SegmentName { window: Window::from_number(s.window), late: s.late, file: s.file, ..*name };
    of.siblings.iter().map(move |s| (segment(s), s.frame))
}

/// Names in a folder that may not exist.
pub(crate) fn names(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        listed => listed,
    }
}

/// The length of a segment's end link. One that is no number ends the segment at once: it was meant to.
pub(crate) fn end_of(disk: &dyn Disk, path: &Path) -> io::Result<Option<u64>> {
    match disk.read_link(&end_link(path)) {
        Ok(text) => Ok(Some(text.parse().unwrap_or(0))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The valid length of a segment that its writer ended by its mark.
pub(crate) fn marked(
    disk: &dyn Disk,
    path: &Path,
    name: &SegmentName,
    tenant: &TenantId,
    signal: Signal,
) -> Result<Option<u64>, NoIndex> {
    let file = disk.open(path)?;
    let (_, len) = file.identity()?;
    let mark = end_mark(&*file, len, name.header(tenant, signal).fingerprint())?;
    Ok(mark.map(|mark| mark.confirmed))
}

/// The segments of all tenants that belong to the wanted writers and have no end link, by tenant and signal.
///
/// # Errors
/// Where the disk fails.
pub(crate) fn of_writers(
    disk: &dyn Disk,
    root: &Path,
    wanted: &dyn Fn(u64) -> bool,
) -> io::Result<BTreeMap<(TenantId, Signal), Vec<SegmentName>>> {
    let mut found: BTreeMap<_, Vec<SegmentName>> = BTreeMap::new();
    for tenant in names(disk, &root.join("hot"))? {
        let Ok(tenant) = tenant.parse::<TenantId>() else { continue };
        for signal in Signal::ALL {
            for folder in folders(disk, root, &tenant, signal, &|_, _| true)? {
                let files: BTreeSet<String> = names(disk, &folder.path)?.into_iter().collect();
                let open = files.iter().filter(|file| !files.contains(&format!("{file}{END_SUFFIX}")));
                let open = open.filter_map(|file| folder.segment(file)).filter(|name| wanted(name.writer));
                let mut open = open.peekable();
                if open.peek().is_some() {
                    found.entry((tenant.clone(), signal)).or_default().extend(open);
                }
            }
        }
    }
    found.values_mut().for_each(|names| names.sort_unstable());
    Ok(found)
}

/// A window's folder.
struct Folder {
    path: PathBuf,
    shard: u32,
    window: Window,
    late: bool,
}

impl Folder {
    fn segment(&self, file: &str) -> Option<SegmentName> {
        SegmentName::parse(self.shard, self.window, self.late, file)
    }
}

fn folders(
    disk: &dyn Disk,
    root: &Path,
    tenant: &TenantId,
    signal: Signal,
    wanted: &dyn Fn(Window, bool) -> bool,
) -> io::Result<Vec<Folder>> {
    let dir = root.join(signal_dir(tenant, signal));
    let mut folders = Vec::new();
    for shard_name in names(disk, &dir)? {
        let Ok(shard) = shard_name.parse::<u32>() else { continue };
        let shard_dir = dir.join(&shard_name);
        for name in names(disk, &shard_dir)? {
            if let Some((window, late)) = parse_window_dir(&name).filter(|(window, late)| wanted(*window, *late)) {
                folders.push(Folder { path: shard_dir.join(&name), shard, window, late });
            }
        }
    }
    Ok(folders)
}
