//! `prism storage`: what lies in which tier, for how long, whether it is sound, and moving it on.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use anyhow::bail;
use chrono::DateTime;
use prism_model::{Signal, TenantId};
use prism_store::life::{self, Age, Choices, Policy, Status, Storage, TierStatus, Verified, policy};
use serde_json::json;

use crate::access::{self, DirectoryError};
use crate::app::now_unix_nanos;
use crate::cli::StorageCommand;
use crate::config::{Config, NO_ARCHIVE};
use crate::show::{Align, Grid, Screen, bytes, count, duration, time};
use crate::storage;

/// Runs `prism storage`; what is printed, and whether all is well.
///
/// # Errors
/// In words for the user.
pub(crate) fn run(command: &StorageCommand, config: &Config, screen: &Screen) -> anyhow::Result<(String, bool)> {
    match command {
        StorageCommand::Status { tenant, json } => status(config, tenant.as_ref(), *json, screen),
        StorageCommand::Verify { tenant } => verify(config, tenant.as_ref()),
        StorageCommand::Move { tenant, dry_run } => moves(config, tenant.as_ref(), *dry_run, screen),
        StorageCommand::Policy { tenant, signal, warm_after, cold_after, archive_after, delete_after, reset } => {
            let set = Choices {
                warm_after: *warm_after,
                cold_after: *cold_after,
                archive_after: *archive_after,
                delete_after: *delete_after,
            };
            ages(config, tenant, *signal, set, *reset, screen).map(|text| (text, true))
        }
    }
}

/// One tenant, which must have rows or be known, or all that have rows.
fn tenants(config: &Config, storage: &Storage, tenant: Option<&TenantId>) -> anyhow::Result<Vec<TenantId>> {
    let all = storage.tenants()?;
    match tenant {
        None => Ok(all),
        Some(tenant) if all.contains(tenant) => Ok(vec![tenant.clone()]),
        Some(tenant) => {
            known(config, tenant)?;
            Ok(Vec::new())
        }
    }
}

fn known(config: &Config, tenant: &TenantId) -> anyhow::Result<()> {
    let (_, directory) = access::read(&access::log(&config.data_dir)?)?;
    if !directory.tenants.contains_key(tenant) {
        bail!(DirectoryError::NoTenant(tenant.clone()));
    }
    Ok(())
}

const NOTHING: &str = "nothing is stored\n";

fn status(
    config: &Config,
    tenant: Option<&TenantId>,
    as_json: bool,
    screen: &Screen,
) -> anyhow::Result<(String, bool)> {
    let (storage, now) = (storage::open(config)?, now_unix_nanos());
    let mut found = Vec::new();
    for tenant in tenants(config, &storage, tenant)? {
        let policies = policy::read(&config.data_dir, &tenant)?;
        for signal in Signal::ALL {
            let status = life::status(&storage, &tenant, signal, policies.of(signal, storage.defaults), now)?;
            if status.tiers.iter().any(|t| t.parts + t.leaving > 0) || !status.unreadable.is_empty() {
                found.push((tenant.clone(), status));
            }
        }
    }
    let sound = found.iter().all(|(_, status)| status.unreadable.is_empty());
    if as_json {
        let list: Vec<serde_json::Value> = found.iter().map(|(tenant, status)| status_json(tenant, status)).collect();
        return Ok((format!("{}\n", json!({ "at_unix_nanos": now, "storage": list })), sound));
    }
    if found.is_empty() {
        return Ok((NOTHING.to_owned(), true));
    }
    Ok((status_text(&found, now, screen), sound))
}

fn status_text(found: &[(TenantId, Status)], now: i64, screen: &Screen) -> String {
    let right = |name: &str| (name.to_owned(), Align::Right);
    let left = |name: &str| (name.to_owned(), Align::Left);
    let mut grid = Grid::new([
        left("tenant"),
        left("signal"),
        left("tier"),
        right("rows"),
        right("bytes"),
        right("B/row"),
        right("ratio"),
        right("files"),
        left("oldest"),
        left("newest"),
        right("lag"),
        left("next"),
    ]);
    let mut unreadable = String::new();
    for (tenant, status) in found {
        for tier in status.tiers.iter().filter(|t| t.parts + t.leaving > 0) {
            let at = |nanos: Option<i64>| nanos.map_or_else(String::new, |nanos| shown(nanos, screen));
            let per_row =
                if tier.rows > 0 { format!("{:.1}", tier.bytes as f64 / tier.rows as f64) } else { String::new() };
            let leaving = if tier.leaving > 0 { format!(" +{}", tier.leaving) } else { String::new() };
            grid.push(vec![
                tenant.to_string(),
                status.signal.to_string(),
                tier.tier.as_str().to_owned(),
                count(i64::try_from(tier.rows).unwrap_or(i64::MAX)),
                bytes(tier.bytes),
                per_row,
                tier.compression().map_or_else(String::new, |ratio| format!("{ratio:.1}x")),
                format!("{}{leaving}", tier.parts),
                at(tier.times.map(|(min, _)| min)),
                at(tier.times.map(|(_, max)| max)),
                lag(tier),
                next(status, tier, now),
            ]);
        }
        for what in &status.unreadable {
            let _infallible = writeln!(unreadable, "cannot be read: {tenant} {}: {what}", status.signal);
        }
    }
    let mut text = grid.render(screen);
    text.push_str(
        "ratio: against columns in memory; files +N: N are in the next tier too and go when no query reads them\n",
    );
    text + &unreadable
}

fn lag(tier: &TierStatus) -> String {
    match i64::try_from(tier.lag_ms).unwrap_or(i64::MAX) {
        0 => String::new(),
        ms => duration(ms.saturating_mul(1_000_000)),
    }
}

/// What comes next in a tier, and when.
fn next(status: &Status, tier: &TierStatus, now: i64) -> String {
    let of_tier = |stage: life::Stage| match tier.tier {
        prism_store::Tier::Hot => stage == life::Stage::Seal,
        prism_store::Tier::Warm => stage == life::Stage::Promote,
        prism_store::Tier::Cold => !matches!(stage, life::Stage::Seal | life::Stage::Promote),
    };
    let Some((at, stage)) = status.next.iter().find(|(_, stage)| of_tier(*stage)) else { return String::new() };
    match at.saturating_sub(now) {
        // To the second: nobody waits for less.
        wait if wait > 0 => format!("{} in {}", stage.as_str(), duration((wait / 1_000_000_000 + 1) * 1_000_000_000)),
        _ => format!("{} now", stage.as_str()),
    }
}

fn status_json(tenant: &TenantId, status: &Status) -> serde_json::Value {
    let tiers: serde_json::Map<String, serde_json::Value> = status
        .tiers
        .iter()
        .map(|tier| {
            let of = json!({
                "rows": tier.rows,
                "bytes": tier.bytes,
                "files": tier.parts,
                "files_leaving": tier.leaving,
                "oldest_unix_nanos": tier.times.map(|(min, _)| min),
                "newest_unix_nanos": tier.times.map(|(_, max)| max),
                "compression_ratio": tier.compression(),
                "lag_ms": tier.lag_ms,
            });
            (tier.tier.as_str().to_owned(), of)
        })
        .collect();
    let next: Vec<_> =
        status.next.iter().map(|(at, stage)| json!({ "at_unix_nanos": at, "stage": stage.as_str() })).collect();
    json!({
        "tenant": tenant.as_str(),
        "signal": status.signal.as_str(),
        "policy": status.policy,
        "tiers": tiers,
        "next": next,
        "unreadable": status.unreadable,
    })
}

fn verify(config: &Config, tenant: Option<&TenantId>) -> anyhow::Result<(String, bool)> {
    let storage = storage::open(config)?;
    let (mut all, mut faults) = (Verified::default(), Vec::new());
    let mut bar = Bar::new();
    for tenant in tenants(config, &storage, tenant)? {
        for signal in Signal::ALL {
            let of = format!("{tenant} {signal}");
            let verified = life::verify(&storage, &tenant, signal, &mut |n| bar.add(&of, n))?;
            all.frames += verified.frames;
            all.rows += verified.rows;
            all.bytes += verified.bytes;
            faults.extend(verified.faults.into_iter().map(|fault| (of.clone(), fault)));
        }
    }
    bar.clear();
    let mut text = String::new();
    for (of, fault) in &faults {
        let _infallible = writeln!(text, "{of}: {fault}");
    }
    let left = storage.objects.leftovers()?;
    if !left.is_empty() {
        let size = bytes(left.iter().map(|one| one.bytes).sum());
        let _infallible = writeln!(
            text,
            "objects: {} half written, {size}: a write that is under way, or left by a process that died; a server removes it \
             when it has not changed for an hour",
            left.len()
        );
    }
    let rows = count(i64::try_from(all.rows).unwrap_or(i64::MAX));
    let found = match faults.len() {
        0 => "all is sound".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    let _infallible = writeln!(text, "{rows} rows in {} frames, {} read: {found}", all.frames, bytes(all.bytes));
    Ok((text, faults.is_empty()))
}

/// What was read so far, on a terminal.
struct Bar {
    bytes: u64,
    shown: u64,
    on: bool,
}

/// Bytes between two lines of progress.
const BAR_BYTES: u64 = 8 << 20;

impl Bar {
    fn new() -> Bar {
        Bar { bytes: 0, shown: 0, on: std::io::stderr().is_terminal() }
    }

    fn add(&mut self, of: &str, n: u64) {
        self.bytes += n;
        if self.on && self.bytes - self.shown >= BAR_BYTES {
            self.shown = self.bytes;
            eprint!("\r\x1b[K{of}: {} read", bytes(self.bytes));
            let _on_a_terminal = std::io::stderr().flush();
        }
    }

    fn clear(&self) {
        if self.on {
            eprint!("\r\x1b[K");
        }
    }
}

fn moves(config: &Config, tenant: Option<&TenantId>, dry_run: bool, screen: &Screen) -> anyhow::Result<(String, bool)> {
    let storage = storage::open(config)?;
    let columns = [("tenant", Align::Left), ("signal", Align::Left), ("stage", Align::Left)];
    let numbers = [("files", Align::Right), ("rows", Align::Right), ("bytes", Align::Right)];
    let mut grid = Grid::new(columns.into_iter().chain(numbers).map(|(name, align)| (name.to_owned(), align)));
    let (mut any, mut told) = (false, String::new());
    for tenant in tenants(config, &storage, tenant)? {
        let policies = policy::read(&config.data_dir, &tenant)?;
        for signal in Signal::ALL {
            let policy = policies.of(signal, storage.defaults);
            let moved = storage.moves(&tenant, signal, &policy, now_unix_nanos(), dry_run, &|| false);
            for done in moved.done.iter().filter(|done| done.parts > 0) {
                any = true;
                let number = |n: u64| if n > 0 { count(i64::try_from(n).unwrap_or(i64::MAX)) } else { String::new() };
                grid.push(vec![
                    tenant.to_string(),
                    signal.to_string(),
                    done.stage.as_str().to_owned(),
                    number(done.parts),
                    number(done.rows),
                    bytes(done.bytes),
                ]);
            }
            for (what, why) in &moved.damaged {
                let _infallible = writeln!(told, "{tenant} {signal}: {what} is damaged: {why}");
            }
            for (stage, error) in &moved.failures {
                let why = crate::error::chain(error);
                let _infallible = writeln!(told, "{tenant} {signal}: {} failed: {why}", stage.as_str());
            }
        }
    }
    let sound = told.is_empty();
    let mut text = if any { grid.render(screen) } else { "nothing is due\n".to_owned() };
    if dry_run && any {
        text.push_str("nothing was changed: this is what would be done now\n");
    }
    Ok((text + &told, sound))
}

fn ages(
    config: &Config,
    tenant: &TenantId,
    signal: Option<Signal>,
    set: Choices,
    reset: bool,
    screen: &Screen,
) -> anyhow::Result<String> {
    known(config, tenant)?;
    let defaults = config.storage.policy();
    if set.archive_after.is_some_and(|age| age != Age::NEVER) && config.objects.url.is_empty() {
        bail!("{NO_ARCHIVE}");
    }
    let policies = if reset || set != Choices::default() {
        policy::change(&config.data_dir, tenant, defaults, |policies| {
            let of = policies.choices(signal);
            if reset {
                *of = Choices::default();
            }
            of.set(&set);
            policies.signals.retain(|_, choices| *choices != Choices::default());
        })?
    } else {
        policy::read(&config.data_dir, tenant)?
    };
    let mut grid = Grid::new(
        [tenant.as_str(), "warm after", "cold after", "archive after", "delete after"]
            .map(|name| (name.to_owned(), Align::Left)),
    );
    for signal in Signal::ALL {
        let Policy { warm_after, cold_after, archive_after, delete_after } = policies.of(signal, defaults);
        let own = policies.signals.get(signal.as_str()).copied().unwrap_or_default();
        // Where an age is from, unless it is the configuration's.
        let told = |age: Age, own: Option<Age>, all: Option<Age>| match (own, all) {
            (Some(_), _) => format!("{age} (set for {signal})"),
            (None, Some(_)) => format!("{age} (set)"),
            (None, None) => age.to_string(),
        };
        let all = policies.all;
        grid.push(vec![
            signal.to_string(),
            told(warm_after, own.warm_after, all.warm_after),
            told(cold_after, own.cold_after, all.cold_after),
            told(archive_after, own.archive_after, all.archive_after),
            told(delete_after, own.delete_after, all.delete_after),
        ]);
    }
    Ok(grid.render(screen))
}

fn shown(unix_nanos: i64, screen: &Screen) -> String {
    // To the second: what lies where is of minutes and days.
    DateTime::from_timestamp(unix_nanos.div_euclid(1_000_000_000), 0)
        .map_or_else(|| "?".to_owned(), |at| time(&at, &screen.zone))
}
