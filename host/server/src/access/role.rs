//! The roles of a tenant's key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a tenant's key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Send telemetry. An agent's key needs no more, and a stolen one reads nothing.
    Ingest,
    /// Read telemetry.
    Query,
    /// Bind plugins, create and revoke the tenant's keys. Neither sends nor reads telemetry.
    Admin,
}

impl Role {
    /// Every role.
    pub(crate) const ALL: [Role; 3] = [Role::Ingest, Role::Query, Role::Admin];

    /// The name on the command line and in messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Query => "query",
            Role::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        let found = Role::ALL.into_iter().find(|r| r.as_str() == text);
        found.ok_or_else(|| format!("expected `ingest`, `query` or `admin`, found `{text}`"))
    }
}

/// A set of roles; in JSON a list of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub(crate) struct Roles(u8);

impl Roles {
    /// All of them.
    pub(crate) fn all() -> Roles {
        Role::ALL.into_iter().collect()
    }

    /// Whether the role is in it.
    pub(crate) fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether none is.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        Roles(roles.into_iter().fold(0, |set, role| set | (1 << role as u8)))
    }
}

impl TryFrom<Vec<String>> for Roles {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Roles, String> {
        names.iter().map(|name| name.parse::<Role>()).collect()
    }
}

impl From<Roles> for Vec<String> {
    fn from(roles: Roles) -> Vec<String> {
        Role::ALL.into_iter().filter(|r| roles.has(*r)).map(|r| r.as_str().to_owned()).collect()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Vec::from(*self).join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_back_from_their_names() {
        let roles: Roles = [Role::Admin, Role::Ingest].into_iter().collect();
        assert_eq!(serde_json::to_string(&roles).unwrap(), r#"["ingest","admin"]"#);
        assert_eq!(serde_json::from_str::<Roles>(r#"["admin","ingest"]"#).unwrap(), roles);
        assert!(serde_json::from_str::<Roles>(r#"["root"]"#).is_err());
        assert!(roles.has(Role::Admin) && !roles.has(Role::Query) && !Roles::default().has(Role::Ingest));
    }
}
