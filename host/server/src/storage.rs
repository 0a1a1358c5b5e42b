//! The tiers of the data folder as the configuration has them: where objects are, and how rows go through them.
//!
//! Not here: what is stored where (`prism-store`), what the commands print (`commands/storage`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use prism_store::cold::delta::Tables;
use prism_store::disk::RealDisk;
use prism_store::keys::Keyring;
use prism_store::life::{Archive, Storage, Worker, WorkerOptions};
use prism_store::objects::{LocalObjects, S3Objects, S3Options};
use prism_store::warm::Blocks;
use prism_store::{CountOptions, Counter, Objects, Reader};

use crate::app::now_unix_nanos;
use crate::config::Config;

/// Opens the objects: the bucket where one is set, else a folder. Blocks on the disk.
///
/// # Errors
/// In words for the user: what is wrong with `objects`.
pub(crate) fn objects(config: &Config) -> anyhow::Result<Arc<dyn Objects>> {
    among(config, bucket(config)?.as_ref())
}

/// The bucket that was opened, or the folder.
fn among(config: &Config, bucket: Option<&S3Objects>) -> anyhow::Result<Arc<dyn Objects>> {
    let folder = config.data_dir.join("objects");
    if let Some(bucket) = bucket {
        // Rows in both would be found in one only.
        if let Some(tier) = ["warm", "cold"].map(|tier| folder.join(tier)).iter().find(|tier| tier.exists()) {
            bail!(
                "`objects.url` names a bucket, and there are objects in `{}`: copy that folder to the bucket (`aws s3 sync`), \
                 then move it away",
                tier.display()
            );
        }
        return Ok(Arc::new(bucket.clone()));
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder of objects `{}` cannot be made", folder.display()))?;
    Ok(Arc::new(LocalObjects::new(Arc::new(RealDisk), &folder, random()?)))
}

/// The bucket, where objects are in one.
fn bucket(config: &Config) -> anyhow::Result<Option<S3Objects>> {
    let settings = &config.objects;
    if settings.url.is_empty() {
        return Ok(None);
    }
    let options = S3Options {
        url: settings.url.clone(),
        region: settings.region.clone(),
        endpoint: settings.endpoint.clone(),
        credentials: credentials(&settings.credentials_file)?,
        timeout_ms: settings.timeout_ms,
        retries: settings.retries,
    };
    let opened = S3Objects::open(&options, random()?);
    Ok(Some(opened.with_context(|| format!("`{}` (`objects.url`) cannot be used", settings.url))?))
}

/// Access key and secret of a file as AWS's tools write it, whatever its profile; `None` where no file is named.
fn credentials(file: &Path) -> anyhow::Result<Option<(String, String)>> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let at = file.display();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("`{at}` (`objects.credentials_file`) cannot be read"))?;
    let value = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next();
        found.with_context(|| format!("expected `{name} = ...` in `{at}` (`objects.credentials_file`), found none"))
    };
    Ok(Some((value("aws_access_key_id")?, value("aws_secret_access_key")?)))
}

/// Opens all tiers.
///
/// # Errors
/// As [`objects`].
pub(crate) fn open(config: &Config) -> anyhow::Result<Arc<Storage>> {
    let bucket = bucket(config)?;
    let (objects, keys, root) = (among(config, bucket.as_ref())?, config.keyring()?, &config.data_dir);
    Ok(Arc::new(Storage {
        disk: Arc::new(RealDisk),
        root: root.clone(),
        blocks: Blocks::open(objects.clone(), keys.clone()),
        tables: Tables::new(objects.clone()),
        reader: reader(config, objects.clone(), keys.clone(), root),
        keys,
        seal: config.storage.seal_options(&config.store),
        cold: config.storage.cold_options(&config.ingest),
        writer: random()?,
        named: Default::default(),
        archive: bucket.map(|objects| Archive { objects, class: config.objects.archive_class.clone() }),
        defaults: config.storage.policy(),
        objects,
    }))
}

/// What queries read.
fn reader(config: &Config, objects: Arc<dyn Objects>, keys: Keyring, root: &Path) -> Reader {
    let grace = Duration::from_millis(config.storage.read_grace_ms);
    Reader::open_with(Arc::new(RealDisk), objects, root, keys, grace)
}

/// Begins to move data in the background, where that is on.
///
/// # Errors
/// Where there is no thread or no randomness to be had.
pub(crate) fn work(config: &Config, storage: &Arc<Storage>) -> anyhow::Result<Option<Worker>> {
    if !config.storage.worker {
        return Ok(None);
    }
    let options = WorkerOptions { interval: Duration::from_millis(config.storage.interval_ms), id: random()? };
    let worker = Worker::start(storage.clone(), options, Arc::new(now_unix_nanos));
    Ok(Some(worker.context("no thread can be begun that moves data")?))
}

/// Begins to count in the background what queries ask of the hot tier, where that is on.
///
/// # Errors
/// Where there is no thread to be had.
pub(crate) fn count(config: &Config, storage: &Storage) -> anyhow::Result<Option<Counter>> {
    let bytes_max = config.query.hot_rollup_bytes_max;
    let counter =
        (bytes_max > 0).then(|| Counter::start(&storage.reader, CountOptions { bytes_max, ..CountOptions::default() }));
    counter.transpose().context("no thread can be begun that makes rollups")
}

/// What tells this process from every other.
fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random numbers: {e}"))?;
    Ok(u64::from_le_bytes(bytes))
}
