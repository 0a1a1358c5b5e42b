//! Files and folders to recordings, and how far reading them has come.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prism_ingest::recording::{About, Recording};
use prism_model::{Limits, Signal};

use crate::show::{bytes, clean};

/// Levels of folders inside folders that are looked into: a link to a folder above would be followed for ever.
const FOLDER_DEPTH_MAX: usize = 32;

/// Names of recordings in a folder, without `.gz` and `.zst`. A file that is named itself may be called anything.
const EXTENSIONS: [&str; 6] = ["json", "jsonl", "ndjson", "pb", "otlp", "binpb"];

/// A file to read.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// As it is shown, and in front of the line in errors.
    pub(super) name: String,
    /// `None` for standard input.
    path: Option<PathBuf>,
    bytes: u64,
}

/// What there is to read.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) files: Vec<Input>,
    /// Files in folders whose names are of something else.
    pub(super) left_out: u64,
}

/// The files, and those in folders, by name.
pub(super) fn inputs(paths: &[PathBuf]) -> anyhow::Result<Inputs> {
    let mut inputs = Inputs::default();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.files.push(Input { name: "standard input".into(), path: None, bytes: 0 });
        } else if path.is_dir() {
            folder(path, FOLDER_DEPTH_MAX, &mut inputs)?;
        } else {
            inputs.files.push(file(path)?);
        }
    }
    if inputs.files.is_empty() {
        bail!("expected recordings, found none: in folders files named {} (also with .gz or .zst) are read", names());
    }
    Ok(inputs)
}

fn names() -> String {
    EXTENSIONS.map(|extension| format!(".{extension}")).join(", ")
}

fn file(path: &Path) -> anyhow::Result<Input> {
    let about = std::fs::metadata(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    Ok(Input { name: clean(&path.display().to_string()), path: Some(path.to_owned()), bytes: about.len() })
}

fn folder(dir: &Path, depth: usize, inputs: &mut Inputs) -> anyhow::Result<()> {
    let read = || format!("the folder `{}` cannot be read", dir.display());
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(read)? {
        inside.push(entry.with_context(read)?.path());
    }
    inside.sort();
    for path in inside {
        if path.is_dir() {
            if depth > 0 {
                folder(&path, depth - 1, inputs)?;
            }
        } else if is_recording(&path) {
            inputs.files.push(file(&path)?);
        } else {
            inputs.left_out += 1;
        }
    }
    Ok(())
}

fn is_recording(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    plain.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}

impl Input {
    /// Opens it as a recording; `progress` sees what is read.
    pub(super) fn open(
        &self,
        signal: Option<Signal>,
        limits: &Limits,
        progress: &Progress,
    ) -> anyhow::Result<Recording> {
        let cannot = || format!("`{}` cannot be read", self.name);
        let bytes: Box<dyn Read + Send> = match &self.path {
            None => Box::new(std::io::stdin()),
            Some(path) => Box::new(File::open(path).with_context(cannot)?),
        };
        let name = self.path.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let about = About { name, signal, limits: limits.clone() };
        Recording::open(progress.bar.wrap_read(bytes), about).with_context(cannot)
    }

    /// Whether it can be read more than once.
    pub(super) fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// A place in it, as `file:line`.
    pub(super) fn place(&self, unit: &str, number: u64) -> String {
        match unit {
            "" => self.name.clone(),
            "line" => format!("{}:{number}", self.name),
            unit => format!("{}: {unit} {number}", self.name),
        }
    }
}

/// How far it has come: a bar on a terminal, else a line a file.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Progress over the bytes of all files.
    pub(super) fn of(inputs: &Inputs) -> Progress {
        let length = inputs.files.iter().all(Input::is_file).then(|| inputs.files.iter().map(|f| f.bytes).sum());
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let template = match length {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {msg}, {eta} left",
            None => "{spinner} {bytes} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar }
    }

    /// None at all, for a look ahead.
    pub(super) fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden() }
    }

    /// Says how many items are through.
    pub(super) fn items(&self, items: u64) {
        let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{items} items, {:.0} items/s", items as f64 / seconds));
    }

    /// Says that a file is read.
    pub(super) fn read(&self, input: &Input, requests: u64) {
        if self.bar.is_hidden() {
            let size = if input.is_file() { format!(", {}", bytes(input.bytes)) } else { String::new() };
            eprintln!("read {}: {requests} requests{size}", input.name);
        }
    }

    /// A line above the bar.
    pub(super) fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
