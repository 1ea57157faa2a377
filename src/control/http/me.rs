//! Who the caller is, and what answers.

use super::access::{Access, Read};
use super::caller::{AuthKind, Caller, Scope, tenant_names};
use super::problem::Problem;
use actix_web::get;
use actix_web::web::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(me).service(version);
}

/// The caller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    /// The token's name, `local`, or what the application says.
    name: String,
    /// What the caller may do.
    scopes: Vec<Scope>,
    /// Whose sessions the caller sees; `*` is everybody.
    tenants: Vec<String>,
    /// What a changing request must repeat in the header `X-CSRF-Token`; null when it need not.
    csrf_token: Option<String>,
    /// How the caller was recognised.
    auth: AuthKind,
}

impl Me {
    pub fn of(caller: &Caller) -> Self {
        Self {
            name: caller.name.clone(),
            scopes: caller.scope.contained(),
            tenants: tenant_names(&caller.tenants),
            csrf_token: caller.csrf_token.clone(),
            auth: caller.auth,
        }
    }
}

/// Who the caller is, and what they may do
#[utoipa::path(tag = "host", responses((status = 200, body = Me)))]
#[get("/me")]
pub(super) async fn me(access: Access<Read>) -> Result<Json<Me>, Problem> {
    Ok(Json(Me::of(access.caller())))
}

/// What answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    /// The version of nanorelay.
    version: &'static str,
    /// Since when it runs; RFC 3339 UTC.
    started_at: String,
}

/// The host's version, and since when it runs
#[utoipa::path(tag = "host", responses((status = 200, body = Version)))]
#[get("/version")]
pub(super) async fn version(access: Access<Read>) -> Result<Json<Version>, Problem> {
    let started_at = access.started_at().to_iso();
    Ok(Json(Version { version: env!("CARGO_PKG_VERSION"), started_at }))
}
