//! Which runs stand: small numbered objects, the latest of which holds.

use std::sync::Arc;

use prism_model::{Signal, TenantId};
use serde::{Deserialize, Serialize};

use crate::control::Create;
use crate::error::{Damage, StoreError};
use crate::objects::Objects;

/// Manifests that are kept behind the latest one, for whoever listed it just before.
const KEPT: usize = 2;
/// The version of manifest and runs that is written here.
const FORMAT: u16 = 1;

/// One object of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its object.
    pub(crate) name: String,
    pub(crate) entries: u64,
    pub(crate) pages: u64,
    /// How many pages behind its own an entry may stand.
    pub(crate) behind: u64,
}

/// Entries by fingerprint, over `2^bits` objects by its upper bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) bits: u32,
    pub(crate) parts: Vec<Part>,
}

/// The index at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u16,
    /// The version of the table up to which its commits are in the runs.
    pub(crate) through: Option<u64>,
    pub(crate) recent: Run,
    pub(crate) base: Run,
    /// Paths of files about which nothing could be learnt: another engine wrote them.
    pub(crate) unindexed: Vec<String>,
    /// There are too many of them to be named: any file may hold any trace.
    #[serde(default)]
    pub(crate) all_unindexed: bool,
}

impl Manifest {
    pub(crate) fn empty() -> Manifest {
        let (recent, base) = (Run::default(), Run::default());
        Manifest { format: FORMAT, through: None, recent, base, unindexed: Vec::new(), all_unindexed: false }
    }
}

impl Run {
    pub(crate) fn entries(&self) -> u64 {
        self.parts.iter().map(|part| part.entries).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| (part.pages + part.behind) * super::page::PAGE as u64).sum()
    }
}

/// The folder of a tenant's signal.
pub(crate) fn folder(tenant: &TenantId, signal: Signal) -> String {
    format!("index/{tenant}/{signal}")
}

fn name(folder: &str, number: u64) -> String {
    format!("{folder}/{number:020}.json")
}

fn numbers(objects: &Arc<dyn Objects>, folder: &str) -> Result<Vec<u64>, StoreError> {
    let listed = objects.list(folder, "").map_err(|e| StoreError::io("listed the trace index", e))?;
    let number = |object: &str| {
        let number = object.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()?;
        (name(folder, number) == object).then_some(number)
    };
    Ok(listed.iter().filter_map(|object| number(&object.name)).collect())
}

/// The number of the latest manifest, whatever is in it; 0 where there is none.
pub(crate) fn latest_number(objects: &Arc<dyn Objects>, folder: &str) -> Result<u64, StoreError> {
    Ok(numbers(objects, folder)?.last().copied().unwrap_or(0))
}

/// The latest manifest and its number; two reads.
pub(crate) fn latest(objects: &Arc<dyn Objects>, folder: &str) -> Result<Option<(u64, Manifest)>, StoreError> {
    let Some(&number) = numbers(objects, folder)?.last() else { return Ok(None) };
    let bytes = objects.get(&name(folder, number)).map_err(|e| StoreError::io("read the trace index", e))?;
    // A newer one may have other fields: its version is read first.
    #[derive(Deserialize)]
    struct Head {
        format: u16,
    }
    let bad = |_| Damage::Bounds("manifest of the trace index");
    let head: Head = serde_json::from_slice(&bytes).map_err(bad)?;
    Damage::version("trace index", head.format, FORMAT)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(bad)?;
    let fits = |run: &Run| run.parts.is_empty() || (run.bits < 16 && run.parts.len() == 1 << run.bits);
    if !fits(&manifest.recent) || !fits(&manifest.base) {
        return Err(Damage::Bounds("parts of the trace index").into());
    }
    Ok(Some((number, manifest)))
}

/// Makes a manifest the one of a number; older ones go.
pub(crate) fn create(
    objects: &Arc<dyn Objects>,
    folder: &str,
    number: u64,
    manifest: &Manifest,
) -> Result<Create, StoreError> {
    let bytes = serde_json::to_vec(manifest).map_err(|e| StoreError::Rows(e.to_string()))?;
    let io = |e| StoreError::io("wrote the trace index", e);
    let created = objects.create(&name(folder, number), bytes.into()).map_err(io)?;
    if created == Create::Created {
        let numbers = numbers(objects, folder)?;
        for old in numbers.iter().rev().skip(1 + KEPT) {
            objects.delete(&name(folder, *old)).map_err(io)?;
        }
    }
    Ok(created)
}
