//! Recorded input that is not part of the repository.

use std::io::Read as _;
use std::path::PathBuf;

/// The folder of recorded input: `PRISM_SHARED_DATA`, else `shared/data` beside a folder above. `None`, with the reason
/// printed, where it is missing: the test is then skipped.
pub fn data() -> Option<PathBuf> {
    let named = std::env::var_os("PRISM_SHARED_DATA").map(PathBuf::from);
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let found = named.or_else(|| here.ancestors().map(|a| a.join("shared").join("data")).find(|d| d.is_dir()));
    if found.is_none() {
        skip("no folder of recorded input (PRISM_SHARED_DATA)");
    }
    found
}

/// Says why a test does not run here.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
}

/// The lines of a `.jsonl` or `.jsonl.gz` file of `data`.
///
/// # Errors
/// The file cannot be read.
pub fn lines(file: &str) -> anyhow::Result<Vec<String>> {
    let Some(data) = data() else { return Ok(Vec::new()) };
    let bytes = std::fs::read(data.join(file))?;
    let mut text = String::new();
    if file.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect())
}
