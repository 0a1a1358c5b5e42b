//! The index against a naive map, with merges, removed files, crashes between commit and index, and damage.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use prism_model::samples::Random;
use prism_model::window::TimeRange;
use prism_model::{Signal, TenantId};

use super::page::{CAPACITY, Entry, FileRef, PAGE, home, kept};
use super::run::{self, Stream};
use super::*;
use crate::cold::delta::{Change, Committed, FileEntry, NewFile, Table};
use crate::disk::RealDisk;
use crate::error::StoreError;
use crate::objects::{LocalObjects, Objects};

const HOUR: i64 = 3_600_000_000_000;

struct Place {
    _root: tempfile::TempDir,
    objects: Arc<dyn Objects>,
    tenant: TenantId,
    names: Cell<u64>,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().unwrap();
        let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), root.path(), 1));
        Place { _root: root, objects, tenant: "acme".parse().unwrap(), names: Cell::new(0) }
    }

    fn table(&self) -> Table {
        Table::open(self.objects.clone(), &self.tenant, Signal::Spans)
    }

    fn traces(&self) -> Traces {
        Traces::open(self.objects.clone(), &self.tenant, Signal::Spans)
    }

    fn unique(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("{:x}-test", self.names.get())
    }

    fn update(&self, model: &Model, known: &HashMap<String, Vec<u64>>) -> IndexReport {
        let unique = || self.unique();
        let traces_of = |file: &FileEntry| Ok(Some(model.prints(&file.path)));
        let env = IndexEnv { objects: &self.objects, unique: &unique, traces_of: &traces_of, recent_entries_min: 300 };
        update(&env, &self.table(), &self.tenant, Signal::Spans, known).unwrap()
    }
}

/// Which traces each file that stands has.
#[derive(Default)]
struct Model(BTreeMap<String, BTreeSet<[u8; 16]>>);

impl Model {
    fn prints(&self, path: &str) -> Vec<u64> {
        let mut prints: Vec<u64> = self.0.get(path).into_iter().flatten().map(fingerprint).collect();
        prints.sort_unstable();
        prints
    }

    fn check(&self, place: &Place, traces: &Traces, random: &mut Random, indexed: bool, seed: u64) {
        let known: Vec<&[u8; 16]> = self.0.values().flatten().collect();
        for n in 0..20u64 {
            let id = match known.get(random.below(known.len())) {
                Some(id) if n % 4 > 0 => **id,
                _ => u128::from(random.number()).to_le_bytes(),
            };
            let found = traces.lookup(&place.table(), &id).unwrap();
            let files: BTreeSet<&str> = found.files.iter().map(|f| &*f.file.path).collect();
            let wanted = self.0.iter().filter(|(_, ids)| ids.contains(&id)).map(|(path, _)| &**path);
            let wanted: BTreeSet<&str> = wanted.collect();
            if indexed {
                assert_eq!(files, wanted, "seed {seed}");
                assert!(found.reads <= if n == 0 { 4 } else { 2 }, "seed {seed}: {} reads", found.reads);
                assert!(found.files.iter().all(|f| f.indexed));
            } else {
                assert!(files.is_superset(&wanted), "seed {seed}");
            }
        }
    }
}

fn file(n: u64, random: &mut Random) -> NewFile {
    let time_min = 1_795_219_200_000_000_000 + random.below(600) as i64 * HOUR;
    let path = format!("date={}/{n}.parquet", crate::cold::delta::Date::of(time_min));
    NewFile { path, bytes: 1, rows: 1, time_min, time_max: time_min + 1, stats: Vec::new() }
}

#[test]
fn qu2_a_trace_is_found_in_the_files_that_have_it_and_in_no_other() {
    let mut merged = 0;
    for seed in 0..3 {
        let mut random = Random(seed);
        let (place, mut model, mut next) = (Place::new(), Model::default(), 0);
        let ids: Vec<[u8; 16]> = (0..300u32).map(|_| u128::from(random.number()).to_le_bytes()).collect();
        let traces = place.traces();
        for _ in 0..16 {
            let table = place.table();
            let pinned = table.pin(TimeRange::ALL).unwrap();
            let removes: Vec<FileEntry> = pinned.files.iter().filter(|_| random.one_in(12)).cloned().collect();
            let adds: Vec<NewFile> = (0..random.below(5)).map(|n| file(next + n as u64, &mut random)).collect();
            next += 5;
            for add in &adds {
                let of = (0..random.below(60)).map(|_| ids[random.below(ids.len())]).collect();
                model.0.insert(add.path.clone(), of);
            }
            let change = Change { operation: "OPTIMIZE", base: pinned.version, removes, adds, ..Change::default() };
            assert!(matches!(table.commit(&change).unwrap(), Committed::At(_)));
            if random.one_in(5) {
                table.checkpoint(1, usize::MAX, i64::MAX).unwrap();
                // Clocks of commits stand still here, so that all of the log is old.
                table.clean_log(i64::MAX, 100).unwrap();
            }
            // Some commits are not indexed by who made them.
            let behind = random.one_in(3);
            if !behind {
                let known = change.adds.iter().filter(|_| random.one_in(2));
                let known = known.map(|f| (f.path.clone(), model.prints(&f.path))).collect();
                let report = place.update(&model, &known);
                assert_eq!(report.through, table.pin(TimeRange::ALL).unwrap().version);
                merged += usize::from(report.merged);
            }
            for gone in &change.removes {
                model.0.remove(&gone.path);
            }
            model.check(&place, &traces, &mut random, !behind, seed);
            model.check(&place, &place.traces(), &mut random, false, seed);
        }
    }
    assert!(merged > 3);
}

#[test]
fn a_run_holds_millions_evenly_and_gives_them_back_in_order() {
    let place = Place::new();
    let mut random = Random(5);
    let count = 60_000u64;
    let file = FileRef { minute: 7, path: 9 };
    let mut entries: Vec<Entry> = (0..count).map(|_| Entry { trace: kept(random.number()), file }).collect();
    entries.sort_unstable();
    entries.dedup();
    let mut next = entries.iter();
    let run = run::write(&place.objects, count, || place.unique(), || Ok(next.next().copied())).unwrap();
    assert_eq!(run.entries(), entries.len() as u64);
    // Bytes of a trace in a file.
    assert!(run.bytes() / run.entries() <= 15, "{}", run.bytes());
    assert!(run.parts[0].behind <= 2, "{:?}", run.parts);
    let mut stream = Stream::of(&place.objects, &run);
    for entry in &entries {
        assert_eq!(stream.next().unwrap(), Some(*entry));
    }
    assert_eq!(stream.next().unwrap(), None);
    for entry in entries.iter().step_by(997) {
        assert_eq!(run::find(&place.objects, &run, entry.trace).unwrap(), (vec![file], 1));
    }
}

#[test]
fn a_trace_in_very_many_files_may_be_anywhere_and_costs_no_one_else() {
    let place = Place::new();
    let entry = |trace, n| Entry { trace, file: FileRef { minute: n, path: 0 } };
    let heavy = 1 << 40;
    let mut entries: Vec<Entry> = (0..5_000).map(|n| entry(heavy, n)).collect();
    entries.extend((0..256).map(|n| entry(heavy + 1, n)));
    entries.push(entry((1 << 48) - 1, 3));
    let mut next = entries.iter();
    let run = run::write(&place.objects, 10, || place.unique(), || Ok(next.next().copied())).unwrap();
    assert_eq!(run::find(&place.objects, &run, heavy).unwrap().0, [run::ANYWHERE]);
    assert_eq!(run::find(&place.objects, &run, heavy + 1).unwrap().0.len(), 256);
    assert_eq!(run::find(&place.objects, &run, (1 << 48) - 1).unwrap().0.len(), 1);
    assert_eq!(home((1 << 48) - 1, 0, 7), 6);
    const { assert!(CAPACITY * 12 + 8 <= PAGE) };
}

#[test]
fn a_damaged_index_answers_by_the_files_own_filters_and_is_made_anew() {
    let place = Place::new();
    let mut random = Random(1);
    let mut model = Model::default();
    let add = file(0, &mut random);
    let id = [7; 16];
    model.0.insert(add.path.clone(), [id].into());
    place.table().commit(&Change { operation: "WRITE", adds: vec![add], ..Change::default() }).unwrap();
    place.update(&model, &HashMap::new());
    let name = place.objects.list("index/acme/spans/runs", "").unwrap()[0].name.clone();
    let whole = place.objects.get(&name).unwrap();
    for at in [0, 5, 9, 4_000] {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        place.objects.replace(&name, bytes.into()).unwrap();
        let found = place.traces().lookup(&place.table(), &id).unwrap();
        assert_eq!((found.files.len(), found.files[0].indexed), (1, false), "flip at {at}");
    }
    place.objects.delete(&name).unwrap();
    assert_eq!(place.traces().lookup(&place.table(), &id).unwrap().files.len(), 1);
    place.objects.replace("index/acme/spans/00000000000000000001.json", "{".into()).unwrap();
    assert_eq!(place.traces().lookup(&place.table(), &id).unwrap().files.len(), 1);
    place.update(&model, &HashMap::new());
    let found = place.traces().lookup(&place.table(), &id).unwrap();
    assert!(found.files[0].indexed && found.reads <= 4);
    let newer =
        r#"{"format":2,"through":0,"recent":{"bits":0,"parts":[]},"base":{"bits":0,"parts":[]},"unindexed":[]}"#;
    place.objects.create("index/acme/spans/00000000000000000009.json", newer.into()).unwrap();
    assert!(!place.traces().lookup(&place.table(), &id).unwrap().files[0].indexed);
}

#[test]
fn runs_that_nobody_names_go_and_an_update_under_way_loses() {
    let place = Place::new();
    let mut random = Random(1);
    let model = Model::default();
    for n in 0..3 {
        let adds = vec![file(n, &mut random)];
        place.table().commit(&Change { operation: "WRITE", adds, ..Change::default() }).unwrap();
        place.update(&model, &HashMap::new());
    }
    let runs = || place.objects.list("index/acme/spans/runs", "").unwrap().len();
    let unique = || place.unique();
    let none = |_: &FileEntry| -> Result<Option<Vec<u64>>, StoreError> { Ok(None) };
    let env = IndexEnv { objects: &place.objects, unique: &unique, traces_of: &none, recent_entries_min: 1 };
    assert_eq!(runs(), 3);
    assert_eq!(vacuum(&env, &place.tenant, Signal::Spans, 2).unwrap(), 1);
    assert_eq!(vacuum(&env, &place.tenant, Signal::Spans, 100).unwrap(), 1);
    assert_eq!((vacuum(&env, &place.tenant, Signal::Spans, 100).unwrap(), runs()), (0, 1));
}
