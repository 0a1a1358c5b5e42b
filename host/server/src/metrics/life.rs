//! The counters of moving data from tier to tier under their names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prism_store::life::{LifeMetrics, Stage, StageMetrics};

use super::exposition::{Exposition, Type};

/// A counter of each stage: its name, its help, its unit's part of what is counted, and where it is.
type OfStage = (&'static str, &'static str, f64, fn(&StageMetrics) -> &AtomicU64);

const OF_STAGE: [OfStage; 5] = [
    ("prism_store_moved_rows_total", "Rows that a stage moved or deleted.", 1.0, |m| &m.rows),
    ("prism_store_moved_bytes_total", "Bytes that a stage moved or deleted.", 1.0, |m| &m.bytes),
    ("prism_store_moved_parts_total", "Segments, blocks or files that a stage made or deleted.", 1.0, |m| &m.parts),
    ("prism_store_moves_failed_total", "Passes of a stage that failed and are tried again.", 1.0, |m| &m.failed),
    ("prism_store_move_seconds_total", "Time of threads in a stage.", 1e9, |m| &m.nanos),
];

/// What moving data counts.
pub(crate) fn expose_life(metrics: &LifeMetrics, text: &mut Exposition) {
    for (name, help, unit, counter) in OF_STAGE {
        text.family(name, Type::Counter, help);
        for stage in Stage::ALL {
            text.sample(&[("stage", stage.as_str())], load(counter(metrics.of(stage))) / unit);
        }
    }
    text.one(
        "prism_store_move_rounds_total",
        Type::Counter,
        "Rounds over the tenants of this process's share.",
        load(&metrics.rounds),
    );
    text.one(
        "prism_store_move_rounds_failed_total",
        Type::Counter,
        "Rounds in which nothing was moved, since tenants or tiers could not be listed.",
        load(&metrics.rounds_failed),
    );
    text.one(
        "prism_store_moves_backing_off",
        Type::Gauge,
        "Tenants' signals that wait after failures.",
        load(&metrics.backing_off),
    );
    text.one(
        "prism_store_damaged",
        Type::Gauge,
        "Segments and blocks that the last pass of each tenant found damaged: `prism storage verify` names them.",
        load(&metrics.damaged),
    );
    text.family("prism_store_lag_seconds", Type::Gauge, "For how long the oldest part of a tier could have gone on.");
    text.sample(&[("tier", "hot")], load(&metrics.unsealed_ms) / 1e3);
    text.sample(&[("tier", "warm")], load(&metrics.unpromoted_ms) / 1e3);
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let mut text = Exposition::default();
        expose_life(&LifeMetrics::default(), &mut text);
        let text = text.finish();
        let types: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        assert_eq!(types.len(), OF_STAGE.len() + 5);
        for line in types {
            let (name, kind) = line.split_once(' ').expect("a type");
            assert!(name.starts_with("prism_store_") && name.ends_with("_total") == (kind == "counter"), "{line}");
        }
        assert!(text.contains("prism_store_moved_rows_total{stage=\"seal\"} 0\n"), "{text}");
    }
}
