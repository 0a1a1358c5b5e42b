//! How long what stays where: defaults of the node, and what is set for a tenant, as a whole or for one signal.
//!
//! ```text
//! node's defaults <- tenant <- tenant's signal = the ages in force
//! ```
//!
//! What is set for a tenant is one JSON document in its control log `tenants/<tenant>/storage`, a new number for each change, so
//! that every process goes by it at its next pass. Not here: what happens at these ages (`moves`).

use std::collections::BTreeMap;
use std::path::Path;

use prism_model::{Classify, Kind, Signal, TenantId};

use super::age::Age;
use crate::control::{Create, Log};
use crate::error::StoreError;

/// How often an edit starts over because another came first. Each round one of the editors wins.
const EDIT_ATTEMPTS_MAX: usize = 64;

/// The ages in force for one tenant's signal. Each counts from the end of the rows' window; for rows that came late, from their
/// arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// When the last rows of a window are sealed, so that they go from the shared file system to the object store. What is
    /// there half a minute after the window's end goes then.
    pub warm_after: Age,
    /// When blocks become files of the Delta table, which other engines read too.
    pub cold_after: Age,
    /// When files go to a storage class from which they have to be fetched before they can be read.
    pub archive_after: Age,
    /// When rows are deleted.
    pub delete_after: Age,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            warm_after: Age::ms(30 * 60_000),
            cold_after: Age::ms(3_600_000),
            archive_after: Age::NEVER,
            // What is deleted cannot be brought back, so nothing is until somebody says when.
            delete_after: Age::NEVER,
        }
    }
}

impl Policy {
    /// Refuses ages that cannot be kept together.
    ///
    /// # Errors
    /// Which two, in words for who set them.
    pub fn check(&self) -> Result<(), String> {
        if self.warm_after == Age::NEVER {
            return Err(
                "expected an age for `warm_after`, found `never`: the shared file system would grow for ever".into()
            );
        }
        let order = [
            ("cold_after", self.cold_after, "warm_after", self.warm_after),
            ("archive_after", self.archive_after, "cold_after", self.cold_after),
            ("delete_after", self.delete_after, "cold_after", self.cold_after),
        ];
        for (later, age, earlier, than) in order {
            if age < than {
                return Err(format!("expected `{later}` to be at least `{earlier}` ({than}), found `{age}`"));
            }
        }
        if self.archive_after != Age::NEVER && self.delete_after < self.archive_after {
            let (delete, archive) = (self.delete_after, self.archive_after);
            return Err(format!(
                "expected `delete_after` to be at least `archive_after` ({archive}), found `{delete}`"
            ));
        }
        Ok(())
    }
}

/// Ages that are set, and those that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Choices {
    /// As [`Policy::warm_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_after: Option<Age>,
    /// As [`Policy::cold_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_after: Option<Age>,
    /// As [`Policy::archive_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_after: Option<Age>,
    /// As [`Policy::delete_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_after: Option<Age>,
}

impl Choices {
    fn over(&self, below: Policy) -> Policy {
        Policy {
            warm_after: self.warm_after.unwrap_or(below.warm_after),
            cold_after: self.cold_after.unwrap_or(below.cold_after),
            archive_after: self.archive_after.unwrap_or(below.archive_after),
            delete_after: self.delete_after.unwrap_or(below.delete_after),
        }
    }

    /// Takes over what `other` sets.
    pub fn set(&mut self, other: &Choices) {
        self.warm_after = other.warm_after.or(self.warm_after);
        self.cold_after = other.cold_after.or(self.cold_after);
        self.archive_after = other.archive_after.or(self.archive_after);
        self.delete_after = other.delete_after.or(self.delete_after);
    }
}

/// What is set for a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// For every signal.
    pub all: Choices,
    /// For a signal (`spans`, `logs`, `metrics`), over that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, Choices>,
}

impl Policies {
    /// The ages in force.
    pub fn of(&self, signal: Signal, defaults: Policy) -> Policy {
        let own = self.signals.get(signal.as_str()).copied().unwrap_or_default();
        own.over(self.all.over(defaults))
    }

    /// What is set for a signal, or for all.
    pub fn choices(&mut self, signal: Option<Signal>) -> &mut Choices {
        match signal {
            Some(signal) => self.signals.entry(signal.as_str().to_owned()).or_default(),
            None => &mut self.all,
        }
    }
}

/// Ages that cannot be read or set.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The store cannot be read or written.
    #[error("how long data of tenant `{tenant}` is kept cannot be read or set: {source}")]
    Store {
        /// Whose.
        tenant: TenantId,
        /// Why.
        source: StoreError,
    },
    /// What is stored is none.
    #[error("how long data of tenant `{tenant}` is kept is damaged: {reason}")]
    Damaged {
        /// Whose.
        tenant: TenantId,
        /// What is wrong.
        reason: String,
    },
    /// Ages that do not go together.
    #[error("of {signal}: {reason}")]
    Invalid {
        /// For which signal.
        signal: Signal,
        /// Which do not.
        reason: String,
    },
    /// Others changed it each time just before.
    #[error("how long data of tenant `{tenant}` is kept is being changed by others")]
    Contended {
        /// Whose.
        tenant: TenantId,
    },
}

impl Classify for PolicyError {
    fn kind(&self) -> Kind {
        match self {
            PolicyError::Store { source, .. } => source.kind(),
            PolicyError::Damaged { .. } => Kind::Bug,
            PolicyError::Invalid { .. } => Kind::Fix,
            PolicyError::Contended { .. } => Kind::Retry,
        }
    }
}

fn log_of(root: &Path, tenant: &TenantId) -> Result<Log, PolicyError> {
    let log = Log::open(root, &format!("tenants/{tenant}/storage"));
    log.map_err(|source| PolicyError::Store { tenant: tenant.clone(), source })
}

fn latest(log: &Log, tenant: &TenantId) -> Result<(u64, Policies), PolicyError> {
    let latest = log.latest().map_err(|source| PolicyError::Store { tenant: tenant.clone(), source })?;
    let Some((version, bytes)) = latest else { return Ok((0, Policies::default())) };
    let policies = serde_json::from_slice(&bytes)
        .map_err(|e| PolicyError::Damaged { tenant: tenant.clone(), reason: e.to_string() })?;
    Ok((version, policies))
}

/// What is set for a tenant; nothing where it never was. Blocks on the disk.
///
/// # Errors
/// [`PolicyError`]: it cannot be read.
pub fn read(root: &Path, tenant: &TenantId) -> Result<Policies, PolicyError> {
    Ok(latest(&log_of(root, tenant)?, tenant)?.1)
}

/// Changes what is set for a tenant; every process goes by it at its next pass. `edit` may run several times, each time on the
/// newest; nothing is stored where it changes nothing. Gives what is set after it. Blocks on the disk.
///
/// # Errors
/// [`PolicyError`]: it cannot be read or kept, or ages would not go together for a signal.
pub fn change(
    root: &Path,
    tenant: &TenantId,
    defaults: Policy,
    edit: impl Fn(&mut Policies),
) -> Result<Policies, PolicyError> {
    let log = log_of(root, tenant)?;
    for _ in 0..EDIT_ATTEMPTS_MAX {
        let (version, before) = latest(&log, tenant)?;
        let mut after = before.clone();
        edit(&mut after);
        for signal in Signal::ALL {
            after.of(signal, defaults).check().map_err(|reason| PolicyError::Invalid { signal, reason })?;
        }
        if after == before {
            return Ok(after);
        }
        let bytes = serde_json::to_vec(&after)
            .map_err(|e| PolicyError::Damaged { tenant: tenant.clone(), reason: e.to_string() })?;
        let created = log.create(version + 1, &bytes);
        let created = created.map_err(|source| PolicyError::Store { tenant: tenant.clone(), source })?;
        if created == Create::Created {
            return Ok(after);
        }
    }
    Err(PolicyError::Contended { tenant: tenant.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_signals_ages_go_over_the_tenants_and_those_over_the_nodes() {
        let root = tempfile::tempdir().unwrap();
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let defaults = Policy { delete_after: Age::ms(30 * DAY), ..Policy::default() };
        let set = |edit: &dyn Fn(&mut Policies)| change(root.path(), &a, defaults, edit);
        set(&|p| p.choices(None).delete_after = Some(Age::ms(90 * DAY))).unwrap();
        set(&|p| p.choices(Some(Signal::Logs)).delete_after = Some(Age::ms(7 * DAY))).unwrap();
        let ages =
            |tenant| Signal::ALL.map(|s| read(root.path(), tenant).unwrap().of(s, defaults).delete_after.to_string());
        assert_eq!(Signal::ALL, [Signal::Spans, Signal::Logs, Signal::Metrics]);
        assert_eq!((ages(&a), ages(&b)), (["90d", "7d", "90d"].map(str::to_owned), ["30d"; 3].map(str::to_owned)));
        let refused = set(&|p| p.choices(Some(Signal::Logs)).archive_after = Some(Age::ms(8 * DAY))).unwrap_err();
        assert_eq!(
            (refused.to_string(), refused.kind()),
            ("of logs: expected `delete_after` to be at least `archive_after` (8d), found `7d`".to_owned(), Kind::Fix)
        );
        assert_eq!(ages(&a)[1], "7d", "nothing is changed");
    }

    #[test]
    fn ages_that_cannot_be_kept_are_refused_and_unknown_ones_are_no_guess() {
        let with = |edit: fn(&mut Policy)| {
            let mut policy = Policy::default();
            edit(&mut policy);
            policy.check()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|p| p.archive_after = Age::ms(DAY)), Ok(()));
        assert_eq!(with(|p| p.cold_after = Age::NEVER), Ok(()));
        for edit in [
            |p: &mut Policy| p.warm_after = Age::NEVER,
            |p: &mut Policy| p.warm_after = Age::ms(2 * 3_600_000),
            |p: &mut Policy| p.delete_after = Age::ms(60_000),
            |p: &mut Policy| (p.cold_after, p.delete_after) = (Age::NEVER, Age::ms(DAY)),
            |p: &mut Policy| (p.archive_after, p.delete_after) = (Age::ms(2 * DAY), Age::ms(DAY)),
        ] {
            assert!(with(edit).is_err());
        }
        let root = tempfile::tempdir().unwrap();
        let tenant: TenantId = "a".parse().unwrap();
        log_of(root.path(), &tenant).unwrap().create(1, br#"{"all":{},"of_the_future":1}"#).unwrap();
        assert_eq!(read(root.path(), &tenant).unwrap_err().kind(), Kind::Bug);
    }
}
