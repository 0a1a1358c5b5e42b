//! The log against a naive model of it, races for it, and tables that others wrote to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{Classify as _, Kind, Signal};

use super::action::{self, Add, Line};
use super::arrays;
use super::log::{Names, read_commit};
use super::*;
use crate::control::Create;
use crate::disk::RealDisk;
use crate::objects::{LocalObjects, Objects};

const HOUR: i64 = 3_600_000_000_000;
const DAY: i64 = 24 * HOUR;
/// 2026-11-21T00:00:00Z
const NOON: i64 = 1_795_219_200_000_000_000;

struct Place {
    _root: tempfile::TempDir,
    objects: Arc<dyn Objects>,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), root.path(), 1));
    Place { _root: root, objects }
}

impl Place {
    fn table(&self) -> Table {
        Table::open(self.objects.clone(), &"acme".parse().unwrap(), Signal::Spans)
    }

    fn put(&self, name: &str, text: &str) {
        let name = format!("cold/acme/spans/_delta_log/{name}");
        assert_eq!(self.objects.create(&name, text.to_owned().into()).unwrap(), Create::Created);
    }

    fn names(&self) -> Vec<String> {
        let listed = self.objects.list("cold/acme/spans/_delta_log", "").unwrap();
        listed.into_iter().map(|l| l.name.rsplit('/').next().unwrap().to_owned()).collect()
    }
}

fn file(n: u64, time_min: i64, hours: i64) -> NewFile {
    let time_max = (time_min + hours * HOUR).min(Date::of(time_min).last_nanos());
    let range = Some((Scalar::Int(time_min), Scalar::Int(time_max)));
    NewFile {
        path: format!("date={}/{n:020}.parquet", Date::of(time_min)),
        bytes: 100 + n,
        rows: n,
        time_min,
        time_max,
        stats: vec![ColumnStats { name: "time".into(), nulls: 0, range }],
    }
}

fn columns(extra: &[&str]) -> Vec<Arc<Schema>> {
    let time = Field::new("time", DataType::Int64, false);
    let extra = extra.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    vec![Arc::new(Schema::new([time].into_iter().chain(extra).collect::<Vec<_>>()))]
}

fn write(adds: Vec<NewFile>, steps: Vec<TxnStep>) -> Change {
    let columns = columns(&[]);
    Change { operation: "WRITE", now: NOON, begun: NOON, columns, adds, data_change: true, steps, ..Change::default() }
}

fn paths(pinned: &Pinned) -> Vec<&str> {
    pinned.files.iter().map(|f| &*f.path).collect()
}

#[test]
fn st5_of_many_that_cover_a_block_one_wins() {
    let place = place();
    for last in 1..=4u64 {
        let before = (last > 1).then_some(last - 1);
        let won: usize = std::thread::scope(|scope| {
            let one = |n: u64| {
                let table = place.table();
                let steps = vec![TxnStep { shard: 3, before, last }];
                let change = write(vec![file(last * 10 + n, NOON, 1)], steps);
                scope.spawn(move || usize::from(table.commit(&change).unwrap() != Committed::Lost))
            };
            (0..4).map(one).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
        let pinned = place.table().pin(TimeRange::ALL).unwrap();
        assert_eq!((pinned.covered, pinned.files.len()), (BTreeMap::from([(3, last)]), last as usize));
    }
}

/// What a table should be, the naive way.
#[derive(Default)]
struct Model {
    files: BTreeMap<String, NewFile>,
    covered: BTreeMap<u32, u64>,
}

impl Model {
    fn check(&self, table: &Table, random: &mut Random, seed: u64) {
        for _ in 0..3 {
            let from = NOON + (random.below(80) as i64 - 40) * 6 * HOUR;
            let range = match random.below(4) {
                0 => TimeRange::ALL,
                _ => TimeRange { from, to: from + random.below(48) as i64 * HOUR },
            };
            let pinned = table.pin(range).unwrap();
            let mut wanted: Vec<&NewFile> =
                self.files.values().filter(|f| range.touches(f.time_min, f.time_max)).collect();
            wanted.sort_by_key(|f| (f.time_min, &f.path));
            let wanted_paths: Vec<&str> = wanted.iter().map(|f| &*f.path).collect();
            assert_eq!(paths(&pinned), wanted_paths, "seed {seed}");
            for (found, wanted) in pinned.files.iter().zip(wanted) {
                assert_eq!((found.bytes, found.rows, found.foreign), (wanted.bytes, Some(wanted.rows), false));
                assert_eq!((found.time_min, found.time_max), (wanted.time_min, wanted.time_max));
            }
            assert_eq!(pinned.covered, self.covered, "seed {seed}");
            assert_eq!(pinned.outside as usize + pinned.files.len(), self.files.len(), "seed {seed}");
        }
        let totals = table.totals().unwrap();
        let rows = self.files.values().map(|f| f.rows).sum();
        assert_eq!((totals.files, totals.rows), (self.files.len() as u64, rows), "seed {seed}");
    }
}

#[test]
fn qu2_a_table_is_what_its_commits_make_it_with_checkpoints_and_a_cleaned_log() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let (place, mut model, mut next) = (place(), Model::default(), 0u64);
        let known = place.table();
        for step in 0..40i64 {
            let now = NOON + step * HOUR;
            let stands: Vec<String> = model.files.keys().cloned().collect();
            if random.below(3) == 0 && !stands.is_empty() {
                // A compaction, or an expiry.
                let pinned = known.pin(TimeRange::ALL).unwrap();
                let removes: Vec<FileEntry> = pinned.files.iter().filter(|_| random.below(3) == 0).cloned().collect();
                let (data_change, base) = (random.below(2) == 0, pinned.version);
                let adds = if data_change { Vec::new() } else { vec![file(next, NOON + step * HOUR, 2)] };
                next += 1;
                removes.iter().for_each(|f| drop(model.files.remove(&f.path)));
                adds.iter().for_each(|f| drop(model.files.insert(f.path.clone(), f.clone())));
                let change =
                    Change { operation: "OPTIMIZE", now, begun: now, removes, base, ..write(adds, Vec::new()) };
                assert!(matches!(known.commit(&change), Ok(Committed::At(_))));
            } else {
                let mut adds = Vec::new();
                for _ in 0..random.below(4) {
                    adds.push(file(next, NOON + (random.below(240) as i64 - 120) * HOUR, random.below(9) as i64));
                    next += 1;
                }
                let shard = random.below(3) as u32;
                let before = model.covered.get(&shard).copied();
                let last = before.unwrap_or(0) + 1 + random.below(3) as u64;
                model.covered.insert(shard, last);
                adds.iter().for_each(|f| drop(model.files.insert(f.path.clone(), f.clone())));
                let name = format!("attr:key{}", random.below(9));
                let mut change = write(adds, vec![TxnStep { shard, before, last }]);
                (change.now, change.columns) = (now, columns(&[&name]));
                assert!(matches!(known.commit(&change), Ok(Committed::At(_))));
                assert!(known.columns().unwrap().iter().any(|column| column.name == name));
            }
            if random.below(4) == 0 {
                known.checkpoint(1 + random.below(6) as u64, 2 + random.below(9), now - 5 * HOUR).unwrap();
            }
            if random.below(6) == 0 {
                known.clean_log(now - 8 * HOUR, 5).unwrap();
            }
            model.check(&known, &mut random, seed);
            model.check(&place.table(), &mut random, seed);
        }
        assert!(!place.names().contains(&"00000000000000000000.json".to_owned()), "seed {seed}");
    }
}

#[test]
fn a_checkpoint_comes_with_commits_or_with_files_whichever_is_first() {
    let place = place();
    let table = place.table();
    let commit = |first: usize, files: usize| {
        let adds = (first..first + files).map(|n| file(n as u64, NOON, 1)).collect();
        table.commit(&write(adds, Vec::new())).unwrap();
    };
    let due = || table.checkpoint(3, 10, 0).unwrap();
    commit(0, 9);
    assert_eq!(due(), None);
    commit(9, 1);
    assert_eq!((due(), due()), (Some(1), None));
    commit(10, 25);
    assert_eq!(due(), Some(2), "one that is large at once");
    commit(35, 1);
    commit(36, 1);
    assert_eq!(due(), None);
    // Files that went count as those that came.
    let removes = table.pin(TimeRange::ALL).unwrap().files.into_iter().take(9).collect();
    let change = Change { removes, base: Some(4), ..write(Vec::new(), Vec::new()) };
    assert_eq!(table.commit(&change).unwrap(), Committed::At(5));
    assert_eq!(due(), Some(5));
    assert_eq!(place.table().pin(TimeRange::ALL).unwrap().files.len(), 28);
}

#[test]
fn a_compaction_loses_against_whoever_took_its_files_first() {
    let place = place();
    let table = place.table();
    table.commit(&write((0..4).map(|n| file(n, NOON, 1)).collect(), Vec::new())).unwrap();
    let pinned = table.pin(TimeRange::ALL).unwrap();
    let change = |files: &[FileEntry], add| Change {
        removes: files.to_vec(),
        base: pinned.version,
        ..write(vec![file(add, NOON, 1)], Vec::new())
    };
    let (first, second) = (change(&pinned.files[..2], 10), change(&pinned.files[1..], 11));
    // A promotion between them does not touch it.
    table.commit(&write(vec![file(20, NOON, 1)], Vec::new())).unwrap();
    assert_eq!(place.table().commit(&first).unwrap(), Committed::At(2));
    assert_eq!(table.commit(&second).unwrap(), Committed::Lost);
    // Also where it cannot be told any more.
    table.checkpoint(1, usize::MAX, i64::MAX).unwrap();
    table.commit(&write(vec![file(21, NOON, 1)], Vec::new())).unwrap();
    assert!(table.clean_log(i64::MAX, 100).unwrap() > 0);
    assert_eq!(table.commit(&second).unwrap(), Committed::Lost);
    assert_eq!(table.pin(TimeRange::ALL).unwrap().files.len(), 5);
}

#[test]
fn files_that_may_be_swept_come_into_no_commit() {
    let place = place();
    let table = place.table();
    assert!(!table.sweep(NOON, NOON).unwrap());
    table.commit(&write(vec![file(0, NOON, 1)], Vec::new())).unwrap();
    assert!(table.sweep(NOON, 500).unwrap() && !table.sweep(NOON, 500).unwrap() && !table.sweep(NOON, 499).unwrap());
    let begun = |begun| Change { begun, ..write(vec![file(begun as u64, NOON, 1)], Vec::new()) };
    assert_eq!(table.commit(&begun(500)).unwrap(), Committed::Lost);
    assert!(matches!(table.commit(&begun(501)).unwrap(), Committed::At(2)));
}

/// What Spark would have written beside ours.
fn theirs(path: &str) -> Add {
    Add {
        path: path.into(),
        partition_values: [("date".to_owned(), Some("2026-11-21".to_owned()))].into(),
        size: 9,
        modification_time: 1,
        data_change: false,
        stats: Some(r#"{"numRecords":5}"#.into()),
        tags: None,
    }
}

#[test]
fn commits_of_others_are_honoured() {
    let place = place();
    let table = place.table();
    table.commit(&write(vec![file(0, NOON, 1), file(1, NOON - DAY, 1)], Vec::new())).unwrap();
    let pinned = table.pin(TimeRange::ALL).unwrap();
    let gone = &pinned.files[1].path;
    let mut text = format!(r#"{{"remove":{{"path":"{gone}","dataChange":false,"deletionTimestamp":1}}}}"#);
    for path in ["date=2026-11-21/part-0%20x.snappy.parquet", "s3://elsewhere/x.parquet"] {
        let line = Line { add: Some(theirs(path)), ..Line::default() };
        text = format!("{text}\n{}", serde_json::to_string(&line).unwrap());
    }
    place.put("00000000000000000001.json", &text);
    let check = |table: &Table, range, files: &[(&str, bool)], elsewhere: usize| {
        let pinned = table.pin(range).unwrap();
        let found: Vec<(&str, bool)> = pinned.files.iter().map(|f| (&*f.name, f.foreign)).collect();
        assert_eq!((found, pinned.elsewhere.len()), (files.to_vec(), elsewhere));
    };
    let ours = "cold/acme/spans/date=2026-11-20/00000000000000000001.parquet";
    let foreign = ("cold/acme/spans/date=2026-11-21/part-0 x.snappy.parquet", true);
    let day = TimeRange { from: NOON + 9 * HOUR, to: NOON + 10 * HOUR };
    for _ in 0..2 {
        for table in [&table, &place.table()] {
            check(table, TimeRange::ALL, &[(ours, false), foreign], 1);
            check(table, day, &[foreign], 1);
            assert_eq!(table.totals().unwrap().rows, 1 + 5 + 5);
        }
        table.checkpoint(1, usize::MAX, 0).unwrap();
    }
}

#[test]
fn a_checkpoint_of_others_in_parts_is_read_and_followed_by_one_of_ours() {
    let place = place();
    let table = place.table();
    table.commit(&write((0..3).map(|n| file(n, NOON + n as i64 * HOUR, 1)).collect(), Vec::new())).unwrap();
    let log = table.log().unwrap().unwrap();
    let lines = read_commit(&place.objects, &Names(table.dir()), 0).unwrap();
    let mut adds: Vec<Add> = lines.into_iter().filter_map(|line| line.add).collect();
    adds.push(theirs("date=2026-11-21/x"));
    let front = arrays::front(&log.protocol, &log.meta_data, &log.txns(i64::MIN)).unwrap();
    for (part, batches) in [vec![arrays::adds(&adds[..2]).unwrap()], front, vec![arrays::adds(&adds[2..]).unwrap()]]
        .into_iter()
        .enumerate()
    {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, arrays::schema(), None).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
        let name = format!("00000000000000000000.checkpoint.{:010}.0000000003.parquet", part + 1);
        let name = format!("cold/acme/spans/_delta_log/{name}");
        // A checkpoint of which parts are missing is none.
        assert_eq!(place.table().pin(TimeRange::ALL).unwrap().files.len(), 3);
        place.objects.create(&name, bytes.into()).unwrap();
    }
    place.objects.delete("cold/acme/spans/_delta_log/00000000000000000000.json").unwrap();
    for found in [place.table(), table.clone()] {
        assert_eq!(found.pin(TimeRange::ALL).unwrap().files.len(), 4);
        assert_eq!(found.pin(TimeRange { from: NOON - DAY, to: NOON }).unwrap().files.len(), 0);
    }
    table.commit(&write(vec![file(7, NOON - DAY, 1)], Vec::new())).unwrap();
    assert_eq!(table.checkpoint(1_000, usize::MAX, 0).unwrap(), Some(1));
    let fresh = place.table();
    assert_eq!(fresh.pin(TimeRange::ALL).unwrap().files.len(), 5);
    assert!(fresh.log().unwrap().unwrap().checkpoint.as_ref().unwrap().sorted);
}

#[test]
fn tables_that_cannot_be_used_say_why_and_nothing_is_written() {
    let first = |protocol: &str, partition: &str, schema: &str| {
        let schema = serde_json::to_string(schema).unwrap();
        format!(
            r#"{{"protocol":{protocol}}}
{{"metaData":{{"id":"i","format":{{"provider":"parquet"}},"schemaString":{schema},"partitionColumns":["{partition}"],"configuration":{{}}}}}}"#
        )
    };
    let known = r#"{"minReaderVersion":1,"minWriterVersion":2}"#;
    let newer =
        r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":[]}"#;
    let writer = r#"{"minReaderVersion":1,"minWriterVersion":4}"#;
    let plain = r#"{"type":"struct","fields":[]}"#;
    let other = r#"{"type":"struct","fields":[{"name":"TIME","type":"string"}]}"#;
    for (text, reads, why) in [
        (
            first(newer, "date", plain),
            false,
            "damaged data: reader protocol of the Delta table has version 3, this knows up to 1: another engine raised it, rows stay in blocks until it is lowered again",
        ),
        (
            first(writer, "date", plain),
            true,
            "damaged data: writer protocol of the Delta table has version 4, this knows up to 2: another engine raised it, rows stay in blocks until it is lowered again",
        ),
        (
            first(known, "day", plain),
            true,
            "the Delta table cannot be used: expected it to be parted by `date`, found `day`",
        ),
        (
            first(known, "date", other),
            true,
            "the Delta table cannot be used: expected type `long` of column `time`, found `string`",
        ),
        ("{}".to_owned(), false, "the Delta table cannot be used: expected protocol and schema in its first commit"),
        ("no".to_owned(), false, "damaged data: an action of the Delta log is out of bounds"),
    ] {
        let place = place();
        place.put("00000000000000000000.json", &text);
        let table = place.table();
        assert_eq!(table.pin(TimeRange::ALL).is_ok(), reads, "{why}");
        let refused = table.commit(&write(vec![file(1, NOON, 1)], Vec::new())).unwrap_err();
        assert_eq!(refused.to_string(), why);
        assert!(matches!(refused.kind(), Kind::Retry | Kind::Bug));
        assert_eq!(place.names().len(), 1);
    }
    let place = place();
    let table = place.table();
    for n in 0..3 {
        table.commit(&write(vec![file(n, NOON, 1)], Vec::new())).unwrap();
    }
    place.objects.delete(&Names(table.dir()).commit(1)).unwrap();
    assert_eq!(
        place.table().pin(TimeRange::ALL).unwrap_err().to_string(),
        "the Delta table cannot be used: expected commit 1 of its log, found 2"
    );
}

#[test]
fn no_byte_of_a_checkpoint_can_be_changed_so_that_it_panics() {
    let place = place();
    let table = place.table();
    table.commit(&write((0..3).map(|n| file(n, NOON, 1)).collect(), Vec::new())).unwrap();
    table.checkpoint(1, usize::MAX, 0).unwrap();
    let name = Names(table.dir()).checkpoint(0);
    let whole = place.objects.get(&name).unwrap();
    let mut random = Random(7);
    for _ in 0..400 {
        let mut bytes = whole.to_vec();
        match random.below(3) {
            0 => bytes.truncate(random.below(whole.len())),
            _ => bytes[random.below(whole.len())] ^= 1 << random.below(8),
        }
        place.objects.replace(&name, bytes.into()).unwrap();
        // An error or, where the flipped bit says nothing, an answer.
        let _ = place.table().pin(TimeRange::ALL);
    }
    place.objects.replace(&name, whole).unwrap();
    assert_eq!(paths(&place.table().pin(TimeRange::ALL).unwrap()).len(), 3);
    assert!(action::read(b"").is_err());
}
