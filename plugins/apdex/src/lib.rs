//! First-party plugin: the Apdex of durations, `plugin.apdex(duration, 300ms)`.
//!
//! Of n values, those up to the threshold count whole, those up to a multiple of it half, the others not at all; the sum is
//! divided by n (<https://www.apdex.org>). 1 is all well, 0 is nothing well.

use prism_sdk::prelude::*;
use serde::Deserialize;

/// What the tenant wrote, as `config.schema.json` describes it; the host has checked it against that.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Up to how many times the threshold a value counts half; 4 by the standard.
    pub tolerated: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config { tolerated: 4.0 }
    }
}

/// The aggregate.
#[derive(Debug)]
pub struct Apdex {
    tolerated: f64,
}

/// What a call fixes: up to where values count whole, and half.
#[derive(Debug)]
pub struct Bounds {
    satisfied: f64,
    tolerated: f64,
}

/// The values of a group, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    satisfied: u64,
    tolerated: u64,
    all: u64,
}

impl Counts {
    fn add(&mut self, value: f64, bounds: &Bounds) {
        self.satisfied += u64::from(value <= bounds.satisfied);
        self.tolerated += u64::from(value > bounds.satisfied && value <= bounds.tolerated);
        // What is no number is no duration.
        self.all += u64::from(!value.is_nan());
    }
}

impl Aggregator for Apdex {
    type Config = Config;
    type Call = Bounds;
    type Group = Counts;

    fn describe() -> Description {
        Description::new(
            "apdex",
            env!("CARGO_PKG_VERSION"),
            "In queries: how many values are within a threshold, from 0 to 1: plugin.apdex(duration, 300ms)",
        )
        .config(include_str!("../config.schema.json"), include_str!("../config.example.json"))
        .deterministic()
    }

    fn new(config: Config) -> Result<Apdex, Error> {
        Ok(Apdex { tolerated: config.tolerated })
    }

    fn signatures() -> Vec<Signature> {
        vec![Signature::new("apdex", &[Dtype::Float64, Dtype::Float64], Dtype::Float64).deterministic()]
    }

    fn call(&self, _function: usize, constants: &[Constant]) -> Result<Bounds, Error> {
        match constants.get(1) {
            Some(Constant::Float(satisfied)) if *satisfied > 0.0 => {
                Ok(Bounds { satisfied: *satisfied, tolerated: satisfied * self.tolerated })
            }
            _ => Err(Error::BadInput("expected a fixed threshold above 0, such as 300ms, as argument 2".to_owned())),
        }
    }

    fn update(bounds: &Bounds, groups: &mut [Counts], rows: &Rows<'_>) -> Result<(), Error> {
        let values = rows.numbers(0)?;
        match values.plain() {
            Some(values) => rows.each(|group, row| groups[group].add(values[row], bounds)),
            None => rows.each(|group, row| {
                if let Some(value) = values.get(row) {
                    groups[group].add(value, bounds);
                }
            }),
        }
        Ok(())
    }

    fn merge(_bounds: &Bounds, group: &mut Counts, state: &[u8]) -> Result<(), Error> {
        let (words, []) = state.as_chunks::<8>() else { return Err(not_a_state()) };
        let [satisfied, tolerated, all] = words else { return Err(not_a_state()) };
        group.satisfied += u64::from_le_bytes(*satisfied);
        group.tolerated += u64::from_le_bytes(*tolerated);
        group.all += u64::from_le_bytes(*all);
        Ok(())
    }

    fn state(_bounds: &Bounds, group: &Counts, out: &mut Vec<u8>) {
        [group.satisfied, group.tolerated, group.all].iter().for_each(|n| out.extend(n.to_le_bytes()));
    }

    fn finish(_bounds: &Bounds, groups: &[Counts]) -> Result<Series, Error> {
        Ok(Series::numbers(groups.iter().map(|group| {
            (group.all > 0).then(|| (group.satisfied as f64 + group.tolerated as f64 / 2.0) / group.all as f64)
        })))
    }
}

fn not_a_state() -> Error {
    Error::BadInput("expected the state of an apdex".to_owned())
}

prism_sdk::export_aggregator!(Apdex);
