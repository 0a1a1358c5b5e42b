//! Masks personal data in every text. (Skeleton: `[email]` only.)
use prism_sdk::prelude::*;

/// Configuration.
#[derive(serde::Deserialize)]
pub struct Config {}

/// The plugin.
pub struct RedactPii;

impl Plugin for RedactPii {
    type Config = Config;
    fn describe() -> Description {
        Description::new("redact-pii", env!("CARGO_PKG_VERSION"), "masks personal data")
            .labels(&["email"])
            .entries()
            .deterministic()
    }
    fn new(_: Config) -> Result<Self, Error> {
        Ok(RedactPii)
    }
    fn needs(&self) -> Vec<Need> {
        vec![Need::attribute("*").of(&[Dtype::Utf8]), Need::intrinsic("*").of(&[Dtype::Utf8]), Need::keys("*")]
    }
}

impl Redactor for RedactPii {
    fn redact(&mut self, batch: &Batch, _: &Call) -> Result<Vec<Edit>, Error> {
        Ok(batch
            .columns()
            .filter_map(|column| {
                let mut edits = ByteEdits::new();
                for (entry, text) in column.text()?.iter().enumerate().filter(|(_, t)| t.contains('@')) {
                    let _ = text;
                    edits.replace(entry, 0, |out| out.extend_from_slice(b"[email]"));
                }
                edits.finish(&column)
            })
            .collect())
    }
}
prism_sdk::export_redactor!(RedactPii);
