//! What a binding was before, and the way back: each change of a tenant's bindings is an object of their log, which stays.
//!
//! Going back is a change like any other: running servers follow it, and it can be gone back on.

use std::path::Path;
use std::sync::Arc;

use prism_model::TenantId;
use prism_plugin::{Binding, PluginHost};

use super::{BINDINGS_MAX, BindError, Ledger};

/// Changes that are looked at for a binding's history, the newest first: years of them, a small file each.
const CHANGES_MAX: u64 = 1_000;

/// What a change made of a binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// The number of the change, from 1: later ones are greater, and those of other bindings lie between.
    pub change: u64,
    /// The binding from then on; `None` where it was taken away.
    pub binding: Option<Binding>,
}

/// A binding that went back.
#[derive(Clone, Debug, PartialEq)]
pub struct RolledBack {
    /// As it was; `None` where it was not bound.
    pub from: Option<Binding>,
    /// As it is now.
    pub to: Binding,
    /// The change that had made it so.
    pub change: u64,
}

/// One binding through the changes of all, the newest first.
struct Walk<'l> {
    ledger: &'l Ledger,
    name: &'l str,
    /// The next change to look at; 0 where there is none left.
    at: u64,
    end: u64,
}

impl<'l> Walk<'l> {
    fn new(ledger: &'l Ledger, name: &'l str, version: u64) -> Walk<'l> {
        Walk { ledger, name, at: version, end: version.saturating_sub(CHANGES_MAX) }
    }

    /// The bindings after the next older change that can be read: to one that cannot, nobody goes back.
    fn step(&mut self) -> Result<Option<(u64, Vec<Binding>)>, BindError> {
        while self.at > self.end {
            let change = self.at;
            self.at -= 1;
            let bytes = match self.ledger.log.get(change) {
                Ok(bytes) => bytes,
                Err(prism_store::StoreError::Damaged(_)) => None,
                Err(error) => return Err(self.ledger.failed(error)),
            };
            if let Some(bindings) = bytes.and_then(|bytes| self.ledger.parsed(&bytes).ok()) {
                return Ok(Some((change, bindings)));
            }
        }
        Ok(None)
    }

    /// The states of the binding, each by the change that made it.
    fn versions(mut self) -> Result<Vec<Version>, BindError> {
        let mut versions: Vec<Version> = Vec::new();
        while let Some((change, bindings)) = self.step()? {
            let binding = bindings.into_iter().find(|b| b.name == self.name);
            match versions.last_mut() {
                Some(last) if last.binding == binding => last.change = change,
                _ => versions.push(Version { change, binding }),
            }
        }
        // It begins with its first binding.
        if versions.last().is_some_and(|last| last.binding.is_none()) {
            versions.pop();
        }
        Ok(versions)
    }
}

/// What a binding is and was, the newest first; the first one holds now. Changes of other bindings are left out.
///
/// # Errors
/// [`BindError`]: there never was such a binding, or the changes cannot be read.
pub fn history(root: &Path, tenant: &TenantId, name: &str) -> Result<Vec<Version>, BindError> {
    let ledger = Ledger::open(root, tenant)?;
    let versions = Walk::new(&ledger, name, ledger.version()?).versions()?;
    if versions.is_empty() { Err(no_such_binding(tenant, name)) } else { Ok(versions) }
}

/// Puts a binding back to how it was before its latest change, or to what a change had made of it: its component, its
/// configuration and its signals. One that was taken away is bound again, behind those that stood before it. It passes the
/// gate as if it were bound anew.
///
/// # Errors
/// [`BindError`]: it was never another, no such change bound it, the plugin is refused by this version of Prism, or nothing can
/// be kept.
pub fn rollback(
    root: &Path,
    host: &Arc<PluginHost>,
    tenant: &TenantId,
    name: &str,
    to: Option<u64>,
) -> Result<RolledBack, BindError> {
    let ledger = Ledger::open(root, tenant)?;
    ledger.edit(|version, bindings| {
        let versions = Walk::new(&ledger, name, version).versions()?;
        let name = || name.chars().take(80).collect::<String>();
        let Some((now, former)) = versions.split_first() else { return Err(no_such_binding(tenant, &name())) };
        let is_it = |v: &&Version| match to {
            Some(change) => v.change == change,
            None => v.binding.is_some() && v.binding != now.binding,
        };
        let found = former.iter().find(is_it).and_then(|v| Some((v.change, v.binding.clone()?)));
        let (change, binding) = found.ok_or_else(|| match to {
            Some(change) => BindError::NoSuchChange { tenant: tenant.clone(), name: name(), change },
            None => BindError::NoFormer { tenant: tenant.clone(), name: name() },
        })?;
        let plugin = host.load(&ledger.component(&binding)?)?;
        host.try_binding(tenant, &binding, &plugin)?;
        match bindings.iter().position(|b| b.name == binding.name) {
            Some(at) => bindings[at] = binding.clone(),
            None if bindings.len() >= BINDINGS_MAX => return Err(BindError::TooMany { tenant: tenant.clone() }),
            None => {
                let before = stood_before(&ledger, change, &binding.name)?;
                let behind = bindings.iter().rposition(|b| before.contains(&b.name));
                bindings.insert(behind.map_or(0, |at| at + 1), binding.clone());
            }
        }
        Ok(RolledBack { from: now.binding.clone(), to: binding, change })
    })
}

/// The bindings that stood before one of a name after a change.
fn stood_before(ledger: &Ledger, change: u64, name: &str) -> Result<Vec<String>, BindError> {
    let bytes = ledger.log.get(change).map_err(|e| ledger.failed(e))?.unwrap_or_default();
    Ok(ledger.parsed(&bytes)?.into_iter().map(|b| b.name).take_while(|n| n != name).collect())
}

fn no_such_binding(tenant: &TenantId, name: &str) -> BindError {
    BindError::NoSuchBinding { tenant: tenant.clone(), name: name.chars().take(80).collect() }
}
