//! The same spans in two stores: moved to the Delta table, and as they were just appended.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prism_model::{Cleared, Signal, TenantId};
use prism_query::{Engine, EngineOptions};
use prism_store::cold::delta::Tables;
use prism_store::cold::{ColdEnv, ColdOptions, promote};
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::objects::LocalObjects;
use prism_store::seal::{self, SealEnv, SealOptions};
use prism_store::warm::Blocks;
use prism_store::{CountOptions, Reader, Store, StoreOptions, Surroundings};

use crate::spans;

/// 2026-01-01T13:00:00Z
pub(crate) const NOW: i64 = 1_767_272_400_000_000_000;
/// The time that the spans are spread over, which ends at [`NOW`].
const HOUR: i64 = 3_600_000_000_000;
/// Spans of a request.
const BATCH: usize = 8_000;

pub(crate) fn tenant() -> Result<TenantId, Box<dyn Error>> {
    Ok("acme".parse()?)
}

/// How many requests hold so many spans.
pub(crate) fn batches(spans: usize) -> u64 {
    spans.div_ceil(BATCH) as u64
}

/// An engine over one of the stores, on one thread, and its reader, which counts what is asked for again, as a server does.
pub(crate) fn engine(folder: &Path, tier: &str) -> (Engine, Reader) {
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    let reader = Reader::open(&folder.join(tier));
    reader.keep_counts(CountOptions::default());
    (Engine::new(reader.clone(), options), reader)
}

pub(crate) async fn make(folder: &Path, spans: usize) -> Result<(), Box<dyn Error>> {
    for tier in ["hot", "cold"] {
        append(&folder.join(tier), spans).await?;
    }
    let (root, tenant) = (folder.join("cold"), tenant()?);
    std::fs::create_dir_all(root.join("objects"))?;
    let objects = Arc::new(LocalObjects::new(Arc::new(RealDisk), &root.join("objects"), 1));
    let (blocks, tables) = (Blocks::open(objects.clone(), Keyring::default()), Tables::new(objects));
    let (options, named) = (ColdOptions::default(), AtomicU64::new(0));
    let later = NOW + 3 * HOUR;
    let covered = |t: &TenantId, signal, shard| Ok(tables.table(t, signal).covered(shard)?.unwrap_or(0));
    let seal =
        SealEnv { disk: &RealDisk, root: &root, blocks: &blocks, options: &SealOptions::default(), covered: &covered };
    seal::pass(&seal, &tenant, Signal::Spans, later, false)?;
    let cold = ColdEnv {
        disk: &RealDisk,
        root: &root,
        blocks: &blocks,
        tables: &tables,
        options: &options,
        writer: 1,
        named: &named,
    };
    let report = promote::pass(&cold, &tenant, Signal::Spans, later, false)?;
    if report.rows != spans as u64 {
        return Err(format!("expected {spans} spans in the table, found {}", report.rows).into());
    }
    println!("{} spans in {} files, {:.1} B each", report.rows, report.files, report.bytes as f64 / report.rows as f64);
    std::fs::write(folder.join("spans"), spans.to_string())?;
    Ok(())
}

async fn append(root: &Path, spans: usize) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(root)?;
    let clock = Arc::new(|| NOW);
    let around = Surroundings { disk: Arc::new(RealDisk), clock, writer: 1, keys: Keyring::default() };
    let store = Store::open_in(root, StoreOptions { commit_delay_ms: 0, ..StoreOptions::default() }, around);
    let (batches, tenant) = (batches(spans), tenant()?);
    let length = HOUR / batches.max(1) as i64;
    for n in 0..batches {
        let rows = BATCH.min(spans - n as usize * BATCH);
        let batch = spans::batch(rows, NOW - HOUR + n as i64 * length, length - 20_000_000, n)?;
        #[expect(clippy::disallowed_methods, reason = "made here, with nothing to redact")]
        store.append(&tenant, Cleared::by_plugin_chain(batch)).await?;
    }
    store.close().await;
    Ok(())
}
