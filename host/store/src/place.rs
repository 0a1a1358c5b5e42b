//! Where a segment lies below the root, and the token that names a frame.
//!
//! `hot/<tenant>/<signal>/<shard>/<window>/<writer>-<epoch>-<file>.seg`, for rows that came too late `late-<window>`: one
//! listing of the shard tells which windows have late segments, whose rows may be of any time.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use prism_model::window::Window;
use prism_model::{Signal, TenantId};

use crate::error::StoreError;
use crate::frame::header::SegmentHeader;

/// The only shard there is until placement is.
pub(crate) const SHARD: u32 = 0;
/// Behind a segment's name: a link whose text is the valid length; bytes after it do not exist.
pub(crate) const END_SUFFIX: &str = ".end";

/// Folder of a tenant's signal, below the root.
pub(crate) fn signal_dir(tenant: &TenantId, signal: Signal) -> PathBuf {
    PathBuf::from("hot").join(tenant.as_str()).join(signal.as_str())
}

/// A window's folder in its shard's.
pub(crate) fn window_dir(window: Window, late: bool) -> String {
    if late { format!("late-{}", window.number()) } else { window.number().to_string() }
}

/// The window of a folder, and whether it is of late rows; `None` for a folder of something else.
pub(crate) fn parse_window_dir(name: &str) -> Option<(Window, bool)> {
    let (number, late) = match name.strip_prefix("late-") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let window = Window::from_number(number.parse().ok()?);
    (window_dir(window, late) == name).then_some((window, late))
}

/// What tells the segments of one tenant and signal apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) shard: u32,
    pub(crate) window: Window,
    pub(crate) late: bool,
    pub(crate) writer: u64,
    pub(crate) epoch: u64,
    pub(crate) file: u32,
}

impl SegmentName {
    pub(crate) fn file_name(&self) -> String {
        format!("{:016x}-{}-{}.seg", self.writer, self.epoch, self.file)
    }

    pub(crate) fn parse(shard: u32, window: Window, late: bool, file_name: &str) -> Option<SegmentName> {
        let mut parts = file_name.strip_suffix(".seg")?.splitn(3, '-');
        let writer = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (epoch, file) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let name = SegmentName { shard, window, late, writer, epoch, file };
        (name.file_name() == file_name).then_some(name)
    }

    /// Folder, below the root.
    pub(crate) fn dir(&self, tenant: &TenantId, signal: Signal) -> PathBuf {
        signal_dir(tenant, signal).join(self.shard.to_string()).join(window_dir(self.window, self.late))
    }

    pub(crate) fn header(&self, tenant: &TenantId, signal: Signal) -> SegmentHeader {
        SegmentHeader {
            tenant: tenant.clone(),
            signal,
            shard: self.shard,
            window: self.window,
            late: self.late,
            writer: self.writer,
            epoch: self.epoch,
            file: self.file,
        }
    }
}

/// Names the frames that a batch went to: a reader given it can tell whether it sees the batch.
///
/// Prints as a short text of `a-z 0-9 . _ -` and reads back from it. It names no tenant: the reader is told which one asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub(crate) signal: Signal,
    /// The last frame in each segment.
    pub(crate) frames: Vec<(SegmentName, u32)>,
}

/// Segments of one token: 30 minutes of lateness and 10 of the future are 9 windows, and one is late.
const TOKEN_FRAMES_MAX: usize = 64;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signal.as_str())?;
        for (s, frame) in &self.frames {
            let late = if s.late { "late" } else { "at" };
            let window = s.window.number();
            write!(f, "_{}.{late}.{window}.{:016x}.{}.{}.{frame}", s.shard, s.writer, s.epoch, s.file)?;
        }
        Ok(())
    }
}

impl FromStr for Token {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Token, StoreError> {
        let bad = || StoreError::BadName {
            expected: "a token from an acknowledgement",
            found: text.chars().take(80).collect(),
        };
        let mut parts = text.split('_');
        let signal = parts.next().and_then(|s| s.parse().ok()).ok_or_else(bad)?;
        let mut frames = Vec::new();
        for part in parts {
            if frames.len() == TOKEN_FRAMES_MAX {
                return Err(bad());
            }
            frames.push(parse_frame(part).ok_or_else(bad)?);
        }
        Ok(Token { signal, frames })
    }
}

fn parse_frame(text: &str) -> Option<(SegmentName, u32)> {
    let mut parts = text.split('.');
    let mut next = || parts.next();
    let name = SegmentName {
        shard: next()?.parse().ok()?,
        late: match next()? {
            "late" => true,
            "at" => false,
            _ => return None,
        },
        window: Window::from_number(next()?.parse().ok()?),
        writer: u64::from_str_radix(next()?, 16).ok()?,
        epoch: next()?.parse().ok()?,
        file: next()?.parse().ok()?,
    };
    let frame = next()?.parse().ok()?;
    next().is_none().then_some((name, frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_names_read_back_and_foreign_ones_are_refused() {
        let name = |late, window| SegmentName {
            shard: 0,
            window: Window::from_number(window),
            late,
            writer: 0xabc,
            epoch: 1,
            file: 7,
        };
        for frames in [vec![], vec![(name(false, 5_938_123), 3)], vec![(name(true, -4), 0), (name(false, 1), u32::MAX)]]
        {
            let token = Token { signal: Signal::Logs, frames };
            assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        }
        for bad in
            ["", "x", "logs_", "logs_0.at.1.zz.1.1.1", "logs_0.at.1.1.1.1.1.1", "logs_../../etc", "logs_0.at.1.1.1.1"]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        let segment = name(true, 12);
        assert_eq!(SegmentName::parse(0, segment.window, true, &segment.file_name()), Some(segment));
        assert_eq!(SegmentName::parse(0, segment.window, true, "abc-1-7.seg"), None);
        assert_eq!(parse_window_dir("late-12"), Some((segment.window, true)));
        for bad in ["late-", "+12", "012", "x", "12.tmp"] {
            assert_eq!(parse_window_dir(bad), None, "{bad}");
        }
    }
}
