//! Peak memory of sealing, promoting and compacting, by how much there is: it is to stay where it is while that grows.
//!
//! ```text
//! cargo run --release -p prism-store --example cold_memory -- FOLDER MB...
//! ```
//! For each amount (MB of rows in memory, at least 128; each row some 4 KB in 30 attributes) a folder of its own is filled in many small
//! parts, which become as many small cold files and are then joined; each step is a process of its own, so that its peak is
//! its own.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::{FixedSizeBinaryArray, Int64Array, StringArray};
use prism_model::samples::Random;
use prism_model::{AttrType, Batch, Cleared, Column, ColumnId, Intrinsic, Origin, Signal, Table, TableKind, TenantId};
use prism_store::cold::delta::Tables;
use prism_store::cold::{ColdEnv, ColdOptions, compact, promote};
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::objects::LocalObjects;
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{Store, StoreOptions, Surroundings};

const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-21T00:00:00Z
const BEGIN: i64 = 1_795_219_200_000_000_000;
/// Rows of a request.
const BATCH: usize = 500;
/// Attributes of a row, and the bytes of each.
const ATTRIBUTES: usize = 30;
const VALUE: usize = 130;
/// Bytes of rows in memory that one part has: each is sealed, promoted and so a cold file by itself.
const PART: usize = 32 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [folder, "fill", part] => fill(Path::new(folder), part.parse()?).await?,
        [folder, step @ ("seal" | "promote" | "compact")] => moves(Path::new(folder), step)?,
        [folder, ref amounts @ ..] if !amounts.is_empty() => {
            for amount in amounts {
                all(&Path::new(folder).join(amount), amount.parse::<usize>()? << 20)?;
            }
            return Ok(());
        }
        _ => return Err("expected `FOLDER MB...`".into()),
    }
    println!("{}", peak());
    Ok(())
}

/// All steps of an amount, each in a process of its own. Gives nothing; tells the largest peak of each.
fn all(folder: &Path, bytes: usize) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder.join("objects"))?;
    let run = |arguments: &[&str]| -> Result<u64, Box<dyn Error>> {
        let output = Command::new(std::env::current_exe()?).arg(folder).args(arguments).output()?;
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        told.parse().map_err(|_| format!("{arguments:?}: {told} {}", String::from_utf8_lossy(&output.stderr)).into())
    };
    let (mut filled, mut sealed, mut promoted) = (0, 0, 0);
    let parts = bytes.div_ceil(PART);
    for part in 0..parts {
        filled = filled.max(run(&["fill", &part.to_string()])?);
        // Every other part waits for the next one: what is sealed and promoted together is more than one.
        if part % 8 != 7 {
            sealed = sealed.max(run(&["seal"])?);
            promoted = promoted.max(run(&["promote"])?);
        }
    }
    sealed = sealed.max(run(&["seal"])?);
    promoted = promoted.max(run(&["promote"])?);
    let compacted = run(&["compact"])?;
    println!(
        "{} MB of rows in {parts} parts: peak memory filling {filled} MB, sealing {sealed} MB, promoting {promoted} MB, \
         compacting {compacted} MB",
        bytes >> 20
    );
    Ok(())
}

/// One part: requests within an hour of one day.
async fn fill(root: &Path, part: usize) -> Result<(), Box<dyn Error>> {
    let begin = BEGIN + (part as i64 % 20) * HOUR;
    let (clock, writer) = (Arc::new(move || begin + HOUR / 4), part as u64 + 1);
    let around = Surroundings { disk: Arc::new(RealDisk), clock, writer, keys: Keyring::default() };
    let store = Store::open_in(root, StoreOptions::default(), around);
    let tenant: TenantId = "acme".parse()?;
    let requests = PART / (BATCH * ATTRIBUTES * VALUE);
    for n in 0..requests {
        let at = begin + n as i64 * (HOUR / 4) / requests as i64;
        #[expect(clippy::disallowed_methods, reason = "made here, with nothing to redact")]
        let batch = Cleared::by_plugin_chain(rows(at, (part * requests + n) as u64)?);
        store.append(&tenant, batch).await?;
    }
    store.close().await;
    Ok(())
}

/// Wide spans whose values never repeat.
fn rows(at: i64, seed: u64) -> Result<Batch, Box<dyn Error>> {
    let mut random = Random(seed);
    let ids: Vec<[u8; 16]> = (0..BATCH).map(|_| u128::from(random.number()).to_le_bytes()).collect();
    let times = Int64Array::from_iter_values((0..BATCH as i64).map(|n| at + n * 1_000_000));
    let mut items = vec![
        Column { id: Intrinsic::Time.into(), array: Arc::new(times) },
        Column {
            id: Intrinsic::TraceId.into(),
            array: Arc::new(FixedSizeBinaryArray::try_from_iter(ids.into_iter())?),
        },
    ];
    for attribute in 0..ATTRIBUTES {
        let text = |_| (0..VALUE / 16).map(|_| format!("{:016x}", random.number())).collect::<String>();
        let values = StringArray::from_iter_values((0..BATCH).map(text));
        items.push(Column { id: ColumnId::attr(format!("wide.{attribute}"), AttrType::Str), array: Arc::new(values) });
    }
    let origin = Origin {
        batch_id: u128::from(seed).to_le_bytes(),
        first_row: 0,
        rows: BATCH as u32,
        received_unix_nanos: at,
        redactions: Vec::new(),
    };
    Ok(Batch::try_new(Signal::Spans, vec![origin], vec![Table::try_new(TableKind::Items, BATCH, items)?])?)
}

fn moves(root: &Path, step: &str) -> Result<(), Box<dyn Error>> {
    let (tenant, signal, now) = ("acme".parse::<TenantId>()?, Signal::Spans, BEGIN + 100 * HOUR);
    // No id is used twice in one folder.
    let writer = u64::from(std::process::id());
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.join("objects"), writer));
    let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
    let (options, named, disk) = (ColdOptions::default(), AtomicU64::new(0), &RealDisk);
    let env = ColdEnv { disk, root, blocks: &blocks, tables: &tables, options: &options, writer, named: &named };
    match step {
        "seal" => {
            let covered = |t: &TenantId, signal, shard| Ok(tables.table(t, signal).covered(shard)?.unwrap_or(0));
            let options = SealOptions::default();
            let seal = SealEnv { disk, root, blocks: &blocks, options: &options, covered: &covered };
            drop(seal::pass(&seal, &tenant, signal, now, false)?);
        }
        "promote" => drop(promote::pass(&env, &tenant, signal, now, false)?),
        _ => {
            let report = compact::pass(&env, &tenant, signal, now, usize::MAX, false)?;
            if report.files_before < 2 {
                return Err(format!("nothing to compact: {report:?}").into());
            }
        }
    }
    Ok(())
}

/// MB of memory that this process had at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) >> 10
}
