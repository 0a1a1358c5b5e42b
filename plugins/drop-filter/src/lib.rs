//! First-party plugin: drops what is not worth keeping, or keeps one in so many.
//!
//! `config` (rules as the tenant writes them) -> `field` (where a rule looks, and by which needs) -> `condition` (which
//! distinct values hold, then which rows) -> this module (the first rule that holds decides) -> `sample` (one in so many,
//! whole traces together).

mod config;
mod field;
mod condition;
mod sample;

use prism_sdk::prelude::*;

use condition::Test;
pub use config::{Condition, Config, Op, Rule, Scalar};
use field::Needs;
use sample::Sampler;

/// Why rows are dropped, for the dashboards: a rule may name one, else it is called by its position.
const REASONS: [&str; 10] =
    ["health-check", "static-asset", "bot", "debug", "noise", "duplicate", "internal", "test", "cost", "sampled"];
/// The schema says so too.
const RULES_MAX: usize = 32;
/// The host takes no more than 64; each unqualified name asks for three, and sampling for three in all.
const NEEDS_MAX: usize = 64;

/// Drops or samples rows by rules.
#[derive(Debug)]
pub struct DropFilter {
    rules: Vec<Prepared>,
    needs: Needs,
    sampler: Option<Sampler>,
}

#[derive(Debug)]
struct Prepared {
    signal: Option<Signal>,
    when: Vec<Test>,
    /// 0: drop all.
    keep_one_in: u32,
    label: u8,
}

impl Plugin for DropFilter {
    type Config = Config;

    fn describe() -> Description {
        let rules: Vec<String> = (1..=RULES_MAX).map(|n| format!("rule-{n}")).collect();
        let labels: Vec<&str> = REASONS.into_iter().chain(rules.iter().map(String::as_str)).collect();
        Description::new(
            "drop-filter",
            env!("CARGO_PKG_VERSION"),
            "Drops spans, log records and data points by rules, or keeps one in so many, whole traces together",
        )
        .config(include_str!("../config.schema.json"), include_str!("../config.example.json"))
        .labels(&labels)
        .deterministic()
    }

    fn new(config: Config) -> Result<Self, Error> {
        if config.rules.len() > RULES_MAX {
            return Err(Error::BadConfig(format!("expected at most {RULES_MAX} rules, found {}", config.rules.len())));
        }
        let mut needs = Needs::default();
        let mut rules = Vec::with_capacity(config.rules.len());
        for (rule, position) in config.rules.into_iter().zip(1..) {
            let in_rule = |message: String| Error::BadConfig(format!("rule {position}: {message}"));
            rules.push(prepare(rule, position, &mut needs).map_err(in_rule)?);
        }
        let samples = rules.iter().any(|rule: &Prepared| rule.keep_one_in > 1);
        let sampler = samples.then(|| Sampler::new(&mut needs));
        if needs.len() > NEEDS_MAX {
            let message =
                "the rules look at too many fields: say the `scope` of each, or bind the plugin twice".to_owned();
            return Err(Error::BadConfig(message));
        }
        Ok(DropFilter { rules, needs, sampler })
    }

    fn needs(&self) -> Vec<Need> {
        self.needs.list()
    }
}

fn prepare(rule: Rule, position: u8, needs: &mut Needs) -> Result<Prepared, String> {
    let keep_one_in = match rule.keep_one_in {
        Some(0) => return Err("expected `keep_one_in` of 1 or more, found 0".to_owned()),
        Some(n) => n,
        None if rule.when.is_empty() => {
            return Err("without conditions it would drop everything: expected `when` or `keep_one_in`".to_owned());
        }
        None => 0,
    };
    let label = match &rule.reason {
        Some(reason) => REASONS
            .iter()
            .position(|r| r == reason)
            .ok_or_else(|| format!("unknown reason `{reason}`: expected one of {}", REASONS.join(", ")))?
            as u8,
        None => REASONS.len() as u8 + position - 1,
    };
    let when =
        rule.when.into_iter().map(|condition| Test::new(condition, rule.signal, needs)).collect::<Result<_, _>>()?;
    Ok(Prepared { signal: rule.signal.map(Signal::from), when, keep_one_in, label })
}

impl Filter for DropFilter {
    fn apply(&mut self, batch: &Batch, _call: &Call) -> Result<Verdict, Error> {
        let rows = batch.rows();
        let mut drops = Drops::new(rows);
        // What no rule has decided yet.
        let mut open = vec![true; rows];
        let mut sampled = self.sampler.as_ref().map(|sampler| sampler.batch(batch));
        for rule in &self.rules {
            if rule.signal.is_some_and(|signal| signal != batch.signal) {
                continue;
            }
            let mut holds = open.clone();
            for test in &rule.when {
                // Later conditions look only at rows that are left.
                if !holds.contains(&true) {
                    break;
                }
                test.narrow(batch, &mut holds);
            }
            for row in (0..rows).filter(|&row| holds[row]) {
                open[row] = false;
                let keep = match &mut sampled {
                    _ if rule.keep_one_in == 0 => false,
                    Some(sampled) if rule.keep_one_in > 1 => sampled.keep(row, rule.keep_one_in),
                    _ => true,
                };
                if !keep {
                    drops.drop(row, rule.label);
                }
            }
        }
        let mut verdict = Verdict::from(drops);
        verdict.add.extend(sampled.and_then(sample::Sampled::finish));
        Ok(verdict)
    }
}

prism_sdk::export_filter!(DropFilter);

#[cfg(test)]
mod tests;
