//! Actions: what a commit of the log says, one JSON object a line. What is unknown is ignored, as the protocol asks.

use std::collections::BTreeMap;

use prism_model::window::TimeRange;
use serde::{Deserialize, Serialize};

use super::date::Date;
use super::schema::PARTITION;
use super::stats;
use crate::error::{Damage, StoreError};

/// The highest version of the protocol that is read here, and that is written.
pub(crate) const READER: i32 = 1;
pub(crate) const WRITER: i32 = 2;

/// The tag of Prism's files: `1 <rows> <smallest event time> <largest event time>`. Others carry tags on.
const TAG: &str = "prism";
/// Before the number of a shard in the id of an application: its version is the last block that the table covers.
const SHARD_APP: &str = "prism-shard-";

pub(crate) type Text = BTreeMap<String, String>;
pub(crate) type NullableText = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: i32,
    pub(crate) min_writer_version: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) options: Text,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) format: Format,
    pub(crate) schema_string: String,
    pub(crate) partition_columns: Vec<String>,
    #[serde(default)]
    pub(crate) configuration: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_time: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    /// Relative to the table, percent-encoded: what names the file in the log.
    pub(crate) path: String,
    pub(crate) partition_values: NullableText,
    pub(crate) size: u64,
    /// Unix milliseconds.
    pub(crate) modification_time: i64,
    pub(crate) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<NullableText>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub(crate) path: String,
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_timestamp: Option<i64>,
    pub(crate) data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extended_file_metadata: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition_values: Option<NullableText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<NullableText>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    pub(crate) app_id: String,
    pub(crate) version: i64,
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_updated: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitInfo {
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation_parameters: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine_info: Option<String>,
    /// What writers count, as text; ours says [`ACTIONS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operation_metrics: Option<serde_json::Value>,
}

/// Of a commit of ours: how many lines it has, so that one that was cut between two lines is not read as a shorter one.
const ACTIONS: &str = "prismActions";

/// A line: exactly one of these, or something that is not known here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit_info: Option<CommitInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) add: Option<Add>,
}

/// The lines of a commit.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Line>, StoreError> {
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let lines = lines.map(read_line).collect::<Result<Vec<Line>, Damage>>()?;
    check_count(lines.len(), lines.iter())?;
    Ok(lines)
}

/// A line of a commit.
pub(crate) fn read_line(line: &[u8]) -> Result<Line, Damage> {
    serde_json::from_slice(line).map_err(|_| Damage::Bounds("an action of the Delta log"))
}

/// Refuses a commit of `count` lines, among them these, that was cut.
pub(crate) fn check_count<'a>(count: usize, mut lines: impl Iterator<Item = &'a Line>) -> Result<(), Damage> {
    let info = lines.find_map(|line| line.commit_info.as_ref());
    let told = info.and_then(|info| info.operation_metrics.as_ref()?.get(ACTIONS)?.as_str()?.parse().ok());
    // Earlier versions and others do not tell; but nobody commits nothing.
    if count == 0 || told.is_some_and(|told: usize| told != count) {
        return Err(Damage::Short("a commit of the Delta log"));
    }
    Ok(())
}

/// Notes in the commit how many lines it has.
pub(crate) fn count(lines: &mut [Line]) {
    let count = lines.len().to_string();
    if let Some(info) = lines.iter_mut().find_map(|line| line.commit_info.as_mut()) {
        info.operation_metrics = Some(serde_json::json!({ ACTIONS: count }));
    }
}

/// A commit of these lines.
pub(crate) fn write(lines: &[Line]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).map_err(|e| StoreError::Rows(e.to_string()))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

impl Protocol {
    pub(crate) const OURS: Protocol = Protocol { min_reader_version: READER, min_writer_version: WRITER };

    /// Whether the table may be read here.
    pub(crate) fn check_read(&self) -> Result<(), StoreError> {
        check_version("reader protocol", self.min_reader_version, READER)
    }

    /// Whether it may be written to.
    pub(crate) fn check_write(&self) -> Result<(), StoreError> {
        self.check_read()?;
        check_version("writer protocol", self.min_writer_version, WRITER)
    }
}

fn check_version(what: &'static str, found: i32, known: i32) -> Result<(), StoreError> {
    if found <= known {
        return Ok(());
    }
    Err(Damage::Protocol { what, found: u16::try_from(found).unwrap_or(u16::MAX), known: known as u16 }.into())
}

impl MetaData {
    /// Whether files may be added: what others asked of writers must be what is done here.
    pub(crate) fn check_write(&self) -> Result<(), StoreError> {
        if self.partition_columns != [PARTITION] {
            let found = self.partition_columns.join(", ");
            return Err(StoreError::Table(format!("expected it to be parted by `{PARTITION}`, found `{found}`")));
        }
        if self.format.provider != "parquet" {
            return Err(StoreError::Table(format!("expected format `parquet`, found `{}`", self.format.provider)));
        }
        if self.schema_string.contains("delta.invariants") {
            return Err(StoreError::Table("expected no `delta.invariants`, found some in its schema".into()));
        }
        Ok(())
    }

    /// Whether rows may be taken out.
    pub(crate) fn check_remove(&self) -> Result<(), StoreError> {
        match self.configuration.get("delta.appendOnly") {
            Some(only) if only.eq_ignore_ascii_case("true") => {
                Err(StoreError::Table("expected `delta.appendOnly` to be off, found it on: nothing expires".into()))
            }
            _ => Ok(()),
        }
    }
}

/// What plans need of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// `None` where whoever wrote it did not tell.
    pub(crate) rows: Option<u64>,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    /// Whether Prism wrote it.
    pub(crate) ours: bool,
}

impl Known {
    /// From an `add`, whoever wrote it: of another's file the day of its partition is known at most.
    pub(crate) fn of(tag: Option<&str>, date: Option<&str>, stats: impl FnOnce() -> Option<u64>) -> Known {
        if let Some(known) = tag.and_then(Known::from_tag) {
            return known;
        }
        let day = date.and_then(|d| d.parse::<Date>().ok());
        let (time_min, time_max) =
            day.map_or((TimeRange::ALL.from, TimeRange::ALL.to), |d| (d.first_nanos(), d.last_nanos()));
        Known { rows: stats(), time_min, time_max, ours: false }
    }

    pub(crate) fn from_tag(tag: &str) -> Option<Known> {
        let mut parts = tag.split(' ');
        (parts.next()? == "1").then_some(())?;
        let (rows, time_min, time_max) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (time_min <= time_max).then_some(Known { rows: Some(rows), time_min, time_max, ours: true })
    }

    pub(crate) fn to_tags(rows: u64, time_min: i64, time_max: i64) -> NullableText {
        NullableText::from([(TAG.to_owned(), Some(format!("1 {rows} {time_min} {time_max}")))])
    }
}

/// The name of Prism's tag, and of the partition: what the columns of a checkpoint are asked for.
pub(crate) fn is_tag(key: &str) -> bool {
    key == TAG
}

impl Add {
    pub(crate) fn known(&self) -> Known {
        let tag = self.tags.as_ref().and_then(|tags| tags.get(TAG)?.as_deref());
        let date = self.partition_values.get(PARTITION).and_then(Option::as_deref);
        Known::of(tag, date, || self.stats.as_deref().and_then(stats::rows_of))
    }
}

impl Remove {
    /// The rows that went, where Prism took them out.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.known()?.rows
    }

    /// What its tag says; `None` where it was another's file, or whoever removed it left the tag out.
    pub(crate) fn known(&self) -> Option<Known> {
        Known::from_tag(self.tags.as_ref()?.get(TAG)?.as_deref()?)
    }
}

/// The id under which a shard's last covered block is kept.
pub(crate) fn shard_app(shard: u32) -> String {
    format!("{SHARD_APP}{shard}")
}

/// The shard of an id; `None` where another application made it.
pub(crate) fn app_shard(id: &str) -> Option<u32> {
    let shard = id.strip_prefix(SHARD_APP)?.parse().ok()?;
    (shard_app(shard) == id).then_some(shard)
}

/// Where a file of the log lies below its table; `None` where it lies elsewhere (absolute paths of others' clones).
pub(crate) fn place_of(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            bytes.push(b);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    let place = String::from_utf8(bytes).ok()?;
    let inside = !place.contains("://") && place.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    inside.then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_read_and_what_is_unknown_is_ignored() {
        let text = br#"{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE","operationMetrics":{"a":"1"},"isBlindAppend":true}}
{"add":{"path":"date=2026-11-21/part-0%20a.snappy.parquet","partitionValues":{"date":"2026-11-21"},"size":5,"modificationTime":3,"dataChange":false,"stats":"{\"numRecords\":4,\"tightBounds\":true}","clusteringProvider":"x"}}
{"cdc":{"path":"x"}}

{"domainMetadata":{"domain":"d","configuration":"","removed":false}}
"#;
        let lines = read(text).unwrap();
        assert_eq!(lines.len(), 4);
        let add = lines[1].add.as_ref().unwrap();
        let day: Date = "2026-11-21".parse().unwrap();
        let known = Known { rows: Some(4), time_min: day.first_nanos(), time_max: day.last_nanos(), ours: false };
        assert_eq!(add.known(), known);
        assert_eq!(place_of(&add.path).as_deref(), Some("date=2026-11-21/part-0 a.snappy.parquet"));
        assert_eq!(read(&write(&lines).unwrap()).unwrap(), lines);
        assert!(read(b"{\"add\":{\"path\":3}}").is_err() && read(b"no").is_err());
    }

    #[test]
    fn files_elsewhere_have_no_place_here() {
        for bad in ["s3://bucket/x", "/abs", "../x", "a//b", "a/./b", "%2e%2e/x", "%zz", "%e"] {
            assert_eq!(place_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_and_shards_read_back() {
        let tags = Known::to_tags(3, -5, 9);
        let known = Known { rows: Some(3), time_min: -5, time_max: 9, ours: true };
        assert_eq!(Known::of(tags[TAG].as_deref(), None, || None), known);
        for odd in ["", "2 3 4 5", "1 3 9 -5", "1 3"] {
            assert!(!Known::of(Some(odd), None, || None).ours, "{odd}");
        }
        assert_eq!(app_shard(&shard_app(7)), Some(7));
        assert_eq!((app_shard("prism-shard-07"), app_shard("spark")), (None, None));
        let newer = Protocol { min_reader_version: 3, min_writer_version: 7 };
        assert_eq!(
            newer.check_read().unwrap_err().to_string(),
            "damaged data: reader protocol of the Delta table has version 3, this knows up to 1: another engine raised it, rows stay in blocks until it is lowered again"
        );
    }
}
