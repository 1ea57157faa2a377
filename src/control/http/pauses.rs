//! What holds sends back: list, pause, resume.

use super::access::{Access, Change, Operate, Read};
use super::input::{Body, Query, RequestBody};
use super::page::{Cursor, Limit, Page};
use super::problem::Problem;
use super::selection::time_ahead;
use actix_web::web::Json;
use actix_web::{get, post};
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::hold::{HoldScope, HoldScopeKind};
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::relay::{Relay, Resume};
use nanorelay_actors::report::HoldRecord;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list).service(pause).service(resume);
}

/// Which pauses to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PausesQuery {
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// What holds sends back
///
/// Operators' pauses, and what platforms have asked for, the oldest first. A caller of some tenants sees what concerns
/// these, and what concerns whole channels.
#[utoipa::path(tag = "pauses", params(PausesQuery), responses((status = 200, body = Page<HoldRecord>)))]
#[get("/pauses")]
pub(super) async fn list(
    access: Access<Read>,
    query: Query<PausesQuery>,
) -> Result<Json<Page<HoldRecord>>, Problem> {
    let (relay, tenants) = access.lists();
    let after = query.0.cursor.map(|cursor| cursor.position()).transpose()?;
    let mut holds = Vec::new();
    for hold in relay.holds() {
        if concerns(relay, tenants, &hold).await? {
            holds.push(hold);
        }
    }
    let position = |hold: &HoldRecord| {
        (
            hold.since.clone(),
            hold.scope.as_str().to_owned(),
            hold.name.clone(),
            hold.cause.as_str().to_owned(),
        )
    };
    Ok(Json(Page::of_all(holds, query.0.limit, after, position)))
}

/// Whether a hold is one of these tenants, or of a channel.
async fn concerns(relay: &Relay, tenants: &TenantSet, hold: &HoldRecord) -> Result<bool, Problem> {
    if tenants.is_all() {
        return Ok(true);
    }
    Ok(match HoldScope::from_parts(hold.scope, &hold.name) {
        Ok(HoldScope::Tenant(tenant)) => tenants.contains(&tenant),
        Ok(HoldScope::Session(session) | HoldScope::Lane(session, _)) => {
            relay.session_tenant(&session).await?.is_some_and(|tenant| tenants.contains(&tenant))
        }
        Ok(HoldScope::Channel(_)) => true,
        Ok(HoldScope::Destination(..)) | Err(_) => false,
    })
}

/// What is to be paused, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseBody {
    /// The kind of what is paused.
    scope: HoldScopeKind,
    /// Its name, in parts: of a tenant its name; of a channel its type; of a destination its channel type and platform id;
    /// of a session its id; of a lane its session, channel type, platform id and, when it has one, thread id.
    #[schema(min_items = 1, max_items = 4)]
    name: Vec<String>,
    /// When the pause ends by itself, RFC 3339. Without it and `for`, when it is resumed.
    #[serde(default)]
    until: Option<String>,
    /// How long the pause lasts, as `30m` or `2h`.
    #[serde(default, rename = "for")]
    duration: Option<String>,
    /// Why, for those who list it.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for PauseBody {}

fn scope_of(kind: HoldScopeKind, name: &[String]) -> Result<HoldScope, Problem> {
    HoldScope::from_parts(kind, name).map_err(|problem| Problem::field("name", problem))
}

/// The operator's pause of a scope, as it is.
fn pause_of(relay: &Relay, scope: &HoldScope) -> Option<HoldRecord> {
    let (kind, parts) = (scope.kind(), scope.parts());
    relay
        .holds()
        .into_iter()
        .find(|hold| hold.scope == kind && hold.name == parts && hold.cause.is_operator())
}

/// Send nothing of a scope
///
/// Sends on their way finish; what waits spends no attempts. A second pause of the same scope replaces the first.
#[utoipa::path(tag = "pauses", request_body = PauseBody, responses((status = 200, body = HoldRecord)))]
#[post("/pauses")]
pub(super) async fn pause(
    access: Access<Operate>,
    body: Body<PauseBody>,
) -> Result<Json<HoldRecord>, Problem> {
    let body = body.0;
    let scope = scope_of(body.scope, &body.name)?;
    let until = time_ahead(body.until.as_deref(), body.duration.as_deref(), SystemClock.now())?;
    let (relay, tenant) = access.scope(&scope).await?;
    let change = Change {
        action: "pause",
        target: scope.to_string(),
        tenant: tenant.as_ref(),
        reason: body.reason.as_deref(),
        before: pause_of(relay, &scope).map(|hold| json!(hold)),
    };
    let made = async {
        relay.pause(scope.clone(), until, body.reason.as_deref().unwrap_or_default()).await?;
        pause_of(relay, &scope).ok_or_else(|| Problem::not_found("pause any more"))
    };
    access.change(change, made).await.map(Json)
}

/// What is to be resumed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeBody {
    /// The kind of what is resumed.
    scope: HoldScopeKind,
    /// Its name, in parts, as for a pause.
    #[schema(min_items = 1, max_items = 4)]
    name: Vec<String>,
    /// Whether to forget what the platform asked for, too: a limit, refused credentials, a destination that is gone.
    #[serde(default)]
    platform: bool,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for ResumeBody {}

/// How much was ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resumed {
    /// Holds of the scope that were ended; 0 when nothing was held back.
    resumed: usize,
}

/// End what holds a scope back
#[utoipa::path(tag = "pauses", request_body = ResumeBody, responses((status = 200, body = Resumed)))]
#[post("/pauses/resume")]
pub(super) async fn resume(
    access: Access<Operate>,
    body: Body<ResumeBody>,
) -> Result<Json<Resumed>, Problem> {
    let body = body.0;
    let scope = scope_of(body.scope, &body.name)?;
    let (relay, tenant) = access.scope(&scope).await?;
    let change = Change {
        action: "resume",
        target: scope.to_string(),
        tenant: tenant.as_ref(),
        reason: body.reason.as_deref(),
        before: pause_of(relay, &scope).map(|hold| json!(hold)),
    };
    let which = if body.platform { Resume::Everything } else { Resume::Pause };
    let made = async { Ok(Resumed { resumed: relay.resume(scope.clone(), which).await? }) };
    access.change(change, made).await.map(Json)
}
