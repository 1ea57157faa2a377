//! Who asks, and what they may do.

use nanorelay_actors::model::ids::TenantName;
use nanorelay_actors::model::tenant::TenantSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// What somebody may do. Each contains the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look.
    Read,
    /// Change what is delivered, and when: replay, cancel, pause, resume, write to agents.
    Operate,
    /// See who changed what, drain.
    Admin,
}

impl Scope {
    /// All scopes, the weakest first.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Operate, Scope::Admin];

    /// The scope as text, as in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Operate => "operate",
            Scope::Admin => "admin",
        }
    }

    /// The scope of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    /// This one and those that it contains.
    pub fn contained(self) -> Vec<Scope> {
        Self::ALL.into_iter().filter(|scope| *scope <= self).collect()
    }
}

/// How somebody was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// There are no tokens, and the request came from this machine.
    Local,
    /// By a token in the header `Authorization`.
    Token,
    /// By the cookie of a login.
    Cookie,
    /// By the application that embeds the host.
    Application,
}

/// Somebody who was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// A token's name, `local`, or what the application says. The audit lists it.
    pub name: String,
    /// What they may do.
    pub scope: Scope,
    /// Whose sessions they may see and change.
    pub tenants: TenantSet,
    /// How they were recognised.
    pub auth: AuthKind,
    /// What a changing request must repeat in the header `X-CSRF-Token`; only with a cookie.
    pub(super) csrf_token: Option<String>,
}

impl Caller {
    /// Somebody whom the application that embeds the host has recognised. Such callers are not asked for a CSRF token: if
    /// the application recognises them by a cookie, it must make sure by itself that its pages have sent the request.
    pub fn of_application(name: impl Into<String>, scope: Scope, tenants: TenantSet) -> Self {
        Self { name: name.into(), scope, tenants, auth: AuthKind::Application, csrf_token: None }
    }

    /// Everybody on this machine, where there are no tokens.
    pub(super) fn local() -> Self {
        Self {
            name: "local".to_owned(),
            scope: Scope::Admin,
            tenants: TenantSet::All,
            auth: AuthKind::Local,
            csrf_token: None,
        }
    }

    /// One text for this caller alone: who shares it shares answers for repeats.
    pub(super) fn key(&self) -> String {
        format!("{:?}/{}/{}/{:?}", self.auth, self.name, self.scope.as_str(), self.tenants)
    }
}

/// The tenants that names stand for; `*` is everybody.
pub fn tenant_set(names: &[String]) -> Result<TenantSet, nanorelay_actors::model::ids::InvalidId> {
    if names.iter().any(|name| name == "*") {
        return Ok(TenantSet::All);
    }
    let names: Result<BTreeSet<_>, _> = names.iter().map(|name| TenantName::new(name)).collect();
    Ok(TenantSet::Only(names?))
}

/// The names of a set of tenants; `*` alone is everybody.
pub fn tenant_names(tenants: &TenantSet) -> Vec<String> {
    match tenants {
        TenantSet::All => vec!["*".to_owned()],
        TenantSet::Only(names) => names.iter().map(ToString::to_string).collect(),
    }
}
