//! What a query would do, without a row being read: scan by scan what it looks for, what is left of each tier after pruning,
//! and what that will cost at most.
//!
//! ```text
//! scan (planned, pruned) -> estimate (bounds by statistics) -> words, JSON
//! ```
//!
//! Not here: planning itself (`bind`, `ran`); a query of several scans explains each as it is planned.

mod estimate;
mod words;

use prism_model::{ColumnId, TableKind};
use prism_store::Found;
use serde_json::{Value as Json, json};

pub(crate) use estimate::{Calibration, Estimate};

use crate::bind::query::{Plan, Shape};
use crate::eval::node::{Node, Unit};
use crate::field::{Field, From};
use crate::group::GroupSpec;
use crate::prune::{self, By};
use crate::scan::Scan;
use crate::show;

/// What a query would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// Its scans, in the order in which they would run.
    pub scans: Vec<ScanExplained>,
    /// Bytes that it reads in any case, compressed.
    pub bytes_least: u64,
    /// Bytes that it reads at most.
    pub bytes_most: u64,
    /// Reads of files and objects at most.
    pub reads_most: u64,
    /// Frames that it evaluates at most.
    pub frames_most: u64,
    /// Rows that it evaluates at most.
    pub rows_most: u64,
    /// More may be read: where what only rows tell, as how long texts are, leaves no room for the spans of traces, frames are read
    /// more often.
    pub may_be_more: bool,
    /// Processor time, about: by how long values took in this process so far.
    pub cpu_nanos: u64,
    /// Bytes that its groups may take in memory, `query.memory_bytes_max`.
    pub memory_bytes_max: u64,
}

/// What one scan would do.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanExplained {
    /// As sentences.
    pub text: Vec<String>,
    /// The same for programs.
    pub json: Json,
}

impl Explained {
    /// Adds a scan.
    pub(crate) fn add(&mut self, scan: &Scan, estimate: &Estimate, found: &[Found; 3], cpu_nanos: u64) {
        self.bytes_least += estimate.least.bytes;
        self.bytes_most += estimate.most.bytes;
        self.reads_most += estimate.most.reads;
        self.frames_most += estimate.frames;
        self.rows_most += estimate.rows;
        self.may_be_more |= !estimate.passes_certain;
        self.cpu_nanos += cpu_nanos;
        self.scans.push(ScanExplained::of(scan, estimate, found));
    }

    /// The plan in words: a line for each step.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for (number, scan) in self.scans.iter().enumerate() {
            if self.scans.len() > 1 {
                lines.push(format!("scan {} of {}", number + 1, self.scans.len()));
            }
            lines.extend(scan.text.iter().cloned());
        }
        lines.push(format!(
            "estimate: at least {} and at most {} bytes in {} reads, {} rows, about {} of processor time, at most {} bytes of \
             memory for groups",
            self.bytes_least,
            self.bytes_most,
            self.reads_most,
            self.rows_most,
            show::duration((self.cpu_nanos / 1_000 * 1_000).min(i64::MAX as u64) as i64),
            self.memory_bytes_max
        ));
        lines.join("\n")
    }

    /// `{"text", "scans": […], "estimate": {…}}`.
    pub fn to_json(&self) -> Json {
        json!({
            "text": self.text(),
            "scans": self.scans.iter().map(|scan| scan.json.clone()).collect::<Vec<_>>(),
            "estimate": {
                "bytes_least": self.bytes_least,
                "bytes_most": self.bytes_most,
                "reads_most": self.reads_most,
                "frames_most": self.frames_most,
                "rows_most": self.rows_most,
                "may_be_more": self.may_be_more,
                "cpu_ns": self.cpu_nanos,
                "memory_bytes_max": self.memory_bytes_max,
            },
        })
    }
}

impl ScanExplained {
    fn of(scan: &Scan, estimate: &Estimate, found: &[Found; 3]) -> ScanExplained {
        let plan = &scan.plan;
        let field = |number: usize| {
            plan.fields.get(number).map_or((String::new(), Unit::Plain), |field| (field.name.clone(), field.unit()))
        };
        let (from, to) = (show::time(plan.range.from), show::time(plan.range.to));
        let mut text = vec![format!("read {} from {from} to {to}", plan.signal)];
        let mut conditions = Vec::new();
        for condition in &plan.conditions {
            let of_condition = Pruned::of(condition, scan);
            let what = words::of(condition, &field);
            text.push(format!("where {what}: {}", of_condition.text(scan.frames.len())));
            conditions.push(json!({
                "condition": what,
                "prunes_by": of_condition.by(),
                "frames_pruned": of_condition.statistics + of_condition.filters,
            }));
        }
        for condition in plan.structure.iter().flat_map(|ask| &ask.parent) {
            let what = words::of(condition, &field);
            text.push(format!("where {what}: looked for among parents"));
            conditions.push(json!({ "condition": what, "prunes_by": [], "frames_pruned": 0 }));
        }
        let (shape, shape_json) = shape(plan, &field);
        text.extend(shape);
        let mut tiers = serde_json::Map::new();
        for (place, (left, found)) in estimate.tiers.iter().zip(found).enumerate() {
            let all = scan.frames.iter().filter(|frame| frame.tier() as usize == place).count();
            if found.parts == 0 && found.pruned == 0 && all == 0 {
                continue;
            }
            let name = estimate::tier_name(place);
            text.push(format!(
                "{name}: {} {} in the range with {all} frames ({} left out by time); {} frames with {} rows and {} bytes are left",
                found.parts,
                ["segments", "blocks", "files"].get(place).unwrap_or(&"parts"),
                found.pruned,
                left.frames,
                left.rows,
                left.bytes
            ));
            tiers.insert(
                name.to_owned(),
                json!({
                    "parts": found.parts,
                    "frames_outside": found.pruned,
                    "frames": all,
                    "frames_left": left.frames,
                    "rows_left": left.rows,
                    "bytes_left": left.bytes,
                }),
            );
        }
        if estimate.rollups > 0 {
            text.push(format!(
                "rollups of {} blocks, files and segments answer instead of their rows",
                estimate.rollups
            ));
        }
        if estimate.passes > 1 {
            let passes = estimate.passes;
            text.push(format!("the spans of all traces may not fit into memory: each frame is read in up to {passes} passes, each for a share of the traces"));
        }
        if !estimate.passes_certain {
            let more = "long texts beside rows and what is kept from pass to pass are not known before: where they leave no room \
                        for spans, frames are read in more passes, and more bytes and rows than estimated";
            text.push(more.to_owned());
        }
        let columns = columns(scan);
        if !columns.is_empty() {
            let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            text.push(format!("columns: {}", names.join(", ")));
        }
        let shown = |(name, of): &(String, Vec<String>)| json!({ "field": name, "columns": of });
        let json = json!({
            "signal": plan.signal.as_str(),
            "from": from,
            "to": to,
            "conditions": conditions,
            "shape": shape_json,
            "tiers": tiers,
            "rollups": estimate.rollups,
            "passes_most": estimate.passes,
            "columns": columns.iter().map(shown).collect::<Vec<_>>(),
            "frames_total": scan.frames.len() + found.iter().map(|found| found.pruned).sum::<usize>(),
            "estimate": {
                "bytes_least": estimate.least.bytes,
                "bytes_most": estimate.most.bytes,
                "reads_most": estimate.most.reads,
                "frames_most": estimate.frames,
                "rows_most": estimate.rows,
                "may_be_more": !estimate.passes_certain,
            },
        });
        ScanExplained { text, json }
    }
}

/// Frames that one condition alone leaves out.
struct Pruned {
    statistics: usize,
    filters: usize,
    service: bool,
}

impl Pruned {
    fn of(condition: &Node, scan: &Scan) -> Pruned {
        let fields = &scan.plan.fields;
        let is_service = |number: &usize| fields.get(*number).is_some_and(|field| key(field) == Some("service.name"));
        let of = condition.field_set();
        let service = !of.is_empty() && of.iter().all(is_service);
        let mut pruned = Pruned { statistics: 0, filters: 0, service };
        for frame in &scan.frames {
            match prune::told_by(condition, fields, frame) {
                Some(By::Statistics) => pruned.statistics += 1,
                Some(By::Filters) => pruned.filters += 1,
                None => {}
            }
        }
        pruned
    }

    fn by(&self) -> Vec<&'static str> {
        let statistics = if self.service { "service" } else { "statistics" };
        let parts = [(self.statistics, statistics), (self.filters, "filters")];
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, by)| by).collect()
    }

    fn text(&self, all: usize) -> String {
        match self.by().as_slice() {
            [] => "prunes nothing".to_owned(),
            by => format!("prunes {} of {all} frames by {}", self.statistics + self.filters, by.join(" and ")),
        }
    }
}

fn key(field: &Field) -> Option<&str> {
    match &field.from {
        From::Attribute { key, .. } => Some(key),
        _ => None,
    }
}

/// Groups or rows, in words and as JSON.
fn shape(plan: &Plan, field: &dyn Fn(usize) -> (String, Unit)) -> (Vec<String>, Json) {
    let mut text = Vec::new();
    let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
    match &plan.shape {
        Shape::Rows => {
            let order: Vec<String> = plan
                .order
                .iter()
                .map(|key| format!("{}{}", words::of(&key.node, field), if key.descending { " desc" } else { "" }))
                .collect();
            text.push(format!("take the first {} rows by {}", plan.limit, order.join(", ")));
            text.push(format!("show {}", names.join(", ")));
            let shape = json!({ "rows": { "order": order, "limit": plan.limit } });
            (text, shape)
        }
        Shape::Groups { spec, .. } => {
            let keys: Vec<String> = spec.keys.iter().map(|key| words::of(key, field)).collect();
            let aggregates = aggregates(spec, field);
            text.push(match keys.is_empty() {
                true => format!("aggregate all rows: {}", aggregates.join(", ")),
                false if aggregates.is_empty() => format!("group by {}", keys.join(", ")),
                false => format!("group by {}: {}", keys.join(", "), aggregates.join(", ")),
            });
            text.push(format!("show {}, {} groups at most", names.join(", "), plan.limit));
            let shape = json!({ "groups": { "by": keys, "aggregates": aggregates, "limit": plan.limit } });
            (text, shape)
        }
    }
}

fn aggregates(spec: &GroupSpec, field: &dyn Fn(usize) -> (String, Unit)) -> Vec<String> {
    let of = |accumulator: &crate::group::Accumulator| {
        let mut words = match &accumulator.plugin {
            Some(called) => {
                let args: Vec<String> = accumulator.beside.iter().map(|arg| words::of(arg, field)).collect();
                format!("plugin.{}({})", called.function.signature().name, args.join(", "))
            }
            None => format!("{:?}", accumulator.kind).to_ascii_lowercase(),
        };
        if let Some(arg) = &accumulator.arg {
            words.push_str(&format!("({})", words::of(arg, field)));
        }
        if let Some(filter) = &accumulator.filter {
            words.push_str(&format!(" where {}", words::of(filter, field)));
        }
        words
    };
    spec.accumulators.iter().map(of).collect()
}

/// The fields of a plan, each with the stored columns that it is read from in any frame.
fn columns(scan: &Scan) -> Vec<(String, Vec<String>)> {
    let mut out = Vec::new();
    for field in &scan.plan.fields {
        let mut of = std::collections::BTreeSet::new();
        for frame in &scan.frames {
            field.wanted(frame, &mut |table: TableKind, id: ColumnId| {
                if frame.columns(table).iter().any(|column| column.id == id) {
                    of.insert(format!("{}: {id}", table_name(table)));
                }
            });
        }
        out.push((field.name.clone(), of.into_iter().collect()));
    }
    out
}

fn table_name(table: TableKind) -> &'static str {
    match table {
        TableKind::Items => "rows",
        TableKind::Scopes => "scopes",
        TableKind::Resources => "resources",
        TableKind::Descriptors => "metrics",
        TableKind::Events => "events",
        TableKind::Links => "links",
        TableKind::Exemplars => "exemplars",
        TableKind::Tail => "tail",
    }
}
