//! What a query gives: columns, rows, and what they cost.

mod arrow;

use prism_store::{ReadCost, Tier};
use serde_json::{Map, Value as Json, json};

use crate::eval::node::Unit;
use crate::eval::vals::{Scalar, Vals};
use crate::explain::Explained;
use crate::fixed::{DOUBLES, INTS};
use crate::show;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, unique in the answer.
    pub name: String,
    /// `string`, `int`, `double`, `bool`, `bytes`, `json`, `id`, `int[]` and `double[]` (lists of numbers), `time` (RFC
    /// 3339), `duration` (integer nanoseconds),
    /// `mixed` (each row shows its own type), `null` (no row has a value, and nothing tells which it would have).
    pub ty: &'static str,
    /// `ns` for durations.
    pub unit: Option<&'static str>,
}

/// A part of the data that could not be read: the answer lacks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which part, by a name that is safe to show.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Partial {
    pub(crate) fn of_unreadable(of: &prism_store::Unreadable) -> Partial {
        Partial { what: of.what.clone(), why: of.reason.clone() }
    }
}

/// What was found and read in a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Segments, blocks or files that the range touches.
    pub parts: u64,
    /// Frames of which anything was evaluated.
    pub frames_read: u64,
    /// Bytes read of them, compressed.
    pub bytes_read: u64,
    /// Reads of files or objects for them.
    pub reads: u64,
}

/// The tiers as [`Stats::tiers`] has them.
pub const TIERS: [Tier; 3] = [Tier::Hot, Tier::Warm, Tier::Cold];

/// What an answer cost, and what should be known about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Range that was asked, unix nanoseconds, half open.
    pub from: i64,
    /// End of it, excluded.
    pub to: i64,
    /// Rows of the frames that were read.
    pub rows_scanned: u64,
    /// Rows that fulfilled all conditions.
    pub rows_matched: u64,
    /// Bytes read, compressed.
    pub bytes_read: u64,
    /// Reads of files.
    pub reads: u64,
    /// Frames that the range touches.
    pub frames_total: u64,
    /// Frames left out by time, statistics and filters.
    pub frames_pruned: u64,
    /// Frames of which anything was evaluated.
    pub frames_read: u64,
    /// Reads of the index of traces, for a trace by id.
    pub index_reads: u64,
    /// Rollups that answered instead of the rows of their blocks or files.
    pub rollups_read: u64,
    /// Rows that fulfilled all conditions by what rollups tell.
    pub rows_from_rollups: u64,
    /// How often frames were gone over for the structure of traces: 0 where it was not asked for, more than once for each scan
    /// where the spans of all traces do not fit into `query.memory_bytes_max`.
    pub structure_passes: u64,
    /// What of it lay where, hot to cold.
    pub tiers: [TierStats; 3],
    /// Wall time, nanoseconds.
    pub elapsed_nanos: u64,
    /// Of it, taking the snapshot and binding names to its columns; 0 for a trace by id.
    pub bind_nanos: u64,
    /// Of it, reading, filtering and grouping frames.
    pub scan_nanos: u64,
    /// Of it, joining what the threads found.
    pub finish_nanos: u64,
    /// Time that threads worked on it, nanoseconds.
    pub cpu_nanos: u64,
    /// Time in guests of plugins, copies into and out of them included, nanoseconds, all threads together.
    pub plugin_nanos: u64,
    /// Calls of them.
    pub plugin_calls: u64,
    /// All rows before this time, unix nanoseconds, that were acknowledged are in the answer.
    pub complete_through: i64,
    /// The names of `match` whose spans are the rows; empty without `match`.
    pub returned: Vec<String>,
    /// What the asker should know: unknown fields, clamped limits.
    pub warnings: Vec<String>,
    /// Parts that could not be read; empty for a whole answer.
    pub partial: Vec<Partial>,
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// How many rows.
    pub rows: usize,
    /// What it cost.
    pub stats: Stats,
    /// Of a dry run: what the query would do. It has no rows then.
    pub explained: Option<Explained>,
    /// Where more rows follow: what the next page is asked by, as the query's `cursor`.
    pub cursor: Option<String>,
    pub(crate) values: Vec<Vals>,
    pub(crate) units: Vec<Unit>,
}

/// A column that was computed.
pub(crate) struct AnswerColumn {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// Its type where no row has a value.
    pub(crate) expected: Option<&'static str>,
    pub(crate) values: Vals,
}

impl Answer {
    pub(crate) fn new(of: Vec<AnswerColumn>, rows: usize, stats: Stats) -> Answer {
        let mut answer = Answer {
            columns: Vec::new(),
            rows,
            stats,
            explained: None,
            cursor: None,
            values: Vec::new(),
            units: Vec::new(),
        };
        for AnswerColumn { name, unit, expected, values } in of {
            let ty = match (type_of(&values, unit), expected) {
                ("null", expected) => expected.unwrap_or("null"),
                // Lists of numbers go through the text form of arrays.
                ("json", Some(list @ (INTS | DOUBLES))) => list,
                (known, _) => known,
            };
            answer.columns.push(Column { name, ty, unit: (unit == Unit::Duration).then_some("ns") });
            answer.units.push(unit);
            answer.values.push(values);
        }
        answer
    }

    /// Makes it the answer of a dry run.
    pub(crate) fn explain(&mut self, explained: Explained) {
        self.rows = 0;
        self.values.iter_mut().for_each(|values| *values = Vals::nulls(0));
        self.explained = Some(explained);
    }

    /// A cell as JSON: times RFC 3339 with nanoseconds, ids lower-case hex, ints beyond 2^53, NaN and infinities as strings.
    pub fn cell(&self, row: usize, column: usize) -> Json {
        match (self.values.get(column), self.units.get(column)) {
            (Some(vals), Some(unit)) if row < vals.len => show::json(&vals.get(row), *unit),
            _ => Json::Null,
        }
    }

    /// `{"columns": […], "rows": [[…]], "stats": {…}}`, where more rows follow with `"cursor"`, of a dry run with `"explain": {…}`.
    pub fn to_json(&self) -> String {
        let rows: Vec<Json> = (0..self.rows)
            .map(|row| Json::Array((0..self.columns.len()).map(|c| self.cell(row, c)).collect()))
            .collect();
        let mut answer = json!({ "columns": self.columns_json(), "rows": rows, "stats": self.stats.to_json() });
        if let Some(cursor) = &self.cursor {
            answer["cursor"] = cursor.as_str().into();
        }
        if let Some(explained) = &self.explained {
            answer["explain"] = explained.to_json();
        }
        answer.to_string()
    }

    /// A line for the columns, one object a row, and a last line for the stats:
    /// `{"columns": […]}`, `{"name": value, …}` …, `{"stats": {…}}`.
    pub fn to_ndjson(&self) -> String {
        let mut out = String::new();
        let mut line = |json: Json| {
            out.push_str(&json.to_string());
            out.push('\n');
        };
        line(json!({ "columns": self.columns_json() }));
        for row in 0..self.rows {
            let cells = self.columns.iter().enumerate().map(|(c, column)| (column.name.clone(), self.cell(row, c)));
            line(Json::Object(cells.collect()));
        }
        if let Some(cursor) = &self.cursor {
            line(json!({ "cursor": cursor }));
        }
        if let Some(explained) = &self.explained {
            line(json!({ "explain": explained.to_json() }));
        }
        line(json!({ "stats": self.stats.to_json() }));
        out
    }

    fn columns_json(&self) -> Json {
        let column = |c: &Column| {
            let mut out = Map::new();
            out.insert("name".into(), c.name.clone().into());
            out.insert("type".into(), c.ty.into());
            if let Some(unit) = c.unit {
                out.insert("unit".into(), unit.into());
            }
            Json::Object(out)
        };
        Json::Array(self.columns.iter().map(column).collect())
    }
}

impl Stats {
    /// The stats as they stand in an answer.
    pub fn to_json(&self) -> Json {
        let mut json = self.numbers_json();
        if let Some(object) = json.as_object_mut().filter(|_| !self.returned.is_empty()) {
            object.insert("returned".into(), self.returned.clone().into());
        }
        if let Some(object) = json.as_object_mut().filter(|_| self.structure_passes > 0) {
            object.insert("structure_passes".into(), self.structure_passes.into());
        }
        json
    }

    fn numbers_json(&self) -> Json {
        let partial: Vec<Json> = self.partial.iter().map(|p| json!({ "what": p.what, "why": p.why })).collect();
        json!({
            "from": show::time(self.from),
            "to": show::time(self.to),
            "rows_scanned": self.rows_scanned,
            "rows_matched": self.rows_matched,
            "bytes_read": self.bytes_read,
            "reads": self.reads,
            "frames_total": self.frames_total,
            "frames_pruned": self.frames_pruned,
            "frames_read": self.frames_read,
            "index_reads": self.index_reads,
            "rollups_read": self.rollups_read,
            "rows_from_rollups": self.rows_from_rollups,
            "tiers": self.tiers_json(),
            "elapsed_ns": self.elapsed_nanos,
            "cpu_ns": self.cpu_nanos,
            "plugin_ns": self.plugin_nanos,
            "plugin_calls": self.plugin_calls,
            "complete_through": show::time(self.complete_through),
            "warnings": self.warnings,
            "partial": partial,
        })
    }
}

impl Stats {
    /// Counts a read.
    pub(crate) fn read(&mut self, tier: Tier, cost: ReadCost) {
        let of_tier = &mut self.tiers[tier as usize];
        (self.bytes_read, of_tier.bytes_read) = (self.bytes_read + cost.bytes, of_tier.bytes_read + cost.bytes);
        (self.reads, of_tier.reads) = (self.reads + cost.reads, of_tier.reads + cost.reads);
    }

    /// `{"hot": {…}, …}`: the tiers in which there is anything.
    fn tiers_json(&self) -> Json {
        let tier = |(tier, of): (Tier, &TierStats)| {
            let cost = json!({
                "parts": of.parts, "frames_read": of.frames_read, "bytes_read": of.bytes_read, "reads": of.reads,
            });
            (tier.as_str().to_owned(), cost)
        };
        let found = TIERS.into_iter().zip(&self.tiers).filter(|(_, of)| **of != TierStats::default());
        Json::Object(found.map(tier).collect())
    }
}

/// The type of a column, by what its rows hold.
fn type_of(vals: &Vals, unit: Unit) -> &'static str {
    let mut ty = "null";
    for row in 0..vals.len {
        let here = match (vals.get(row), unit) {
            (Scalar::Null, _) => continue,
            (Scalar::Int(_) | Scalar::Double(_), Unit::Time) => "time",
            (Scalar::Int(_) | Scalar::Double(_), Unit::Duration) => "duration",
            (Scalar::Int(_), _) => "int",
            (Scalar::Double(_), _) => "double",
            (Scalar::Bool(_), _) => "bool",
            (Scalar::Str(_), _) => "string",
            (Scalar::Bytes(_), _) => "bytes",
            (Scalar::Id(_), _) => "id",
            (Scalar::Json(_), _) => "json",
        };
        match ty {
            "null" => ty = here,
            same if same == here => {}
            _ => return "mixed",
        }
    }
    match (ty, unit) {
        ("null", Unit::Time) => "time",
        ("null", Unit::Duration) => "duration",
        _ => ty,
    }
}
