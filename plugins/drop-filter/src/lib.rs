//! Drops rows. (Skeleton: drops the route /health.)
use prism_sdk::prelude::*;

/// Configuration.
#[derive(serde::Deserialize)]
pub struct Config {}

/// The plugin.
pub struct DropFilter;

impl Plugin for DropFilter {
    type Config = Config;
    fn describe() -> Description {
        Description::new("drop-filter", env!("CARGO_PKG_VERSION"), "drops rows")
            .labels(&["health-check"])
            .deterministic()
    }
    fn new(_: Config) -> Result<Self, Error> {
        Ok(DropFilter)
    }
    fn needs(&self) -> Vec<Need> {
        vec![Need::attribute("http.route").at(Place::Item).of(&[Dtype::Utf8])]
    }
}

impl Filter for DropFilter {
    fn apply(&mut self, batch: &Batch, _: &Call) -> Result<Verdict, Error> {
        let mut drops = Drops::new(batch.rows());
        for column in batch.columns() {
            let Some(text) = column.text() else { continue };
            let hit: Vec<bool> = text.iter().map(|t| t == "/health").collect();
            column.for_each_row(|row, entry| {
                if hit[entry] {
                    drops.drop(row, 0)
                }
            });
        }
        Ok(drops.into())
    }
}
prism_sdk::export_filter!(DropFilter);
