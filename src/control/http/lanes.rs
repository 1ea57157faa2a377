//! Lanes: which wait, and how to let one go on.

use super::access::{Access, Change, Operate, Read};
use super::input::{Body, Query, RequestBody};
use super::page::{Cursor, Limit, Page};
use super::problem::Problem;
use super::selection::own_tenants;
use actix_web::web::Json;
use actix_web::{get, post};
use nanorelay_actors::report::{LaneFilter, LaneRecord};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list).service(unblock);
}

/// Which lanes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LanesQuery {
    /// Only those that wait for a message that has failed.
    #[serde(default)]
    blocked: bool,
    /// Only of this session.
    session: Option<String>,
    /// Only of this tenant.
    tenant: Option<String>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Lanes that hold something to be sent, by session
#[utoipa::path(tag = "lanes", params(LanesQuery), responses((status = 200, body = Page<LaneRecord>)))]
#[get("/lanes")]
pub(super) async fn list(
    access: Access<Read>,
    query: Query<LanesQuery>,
) -> Result<Json<Page<LaneRecord>>, Problem> {
    let (relay, tenants) = access.lists();
    let query = query.0;
    let tenants = own_tenants(tenants, query.tenant.as_deref());
    let after: Option<(String, String)> = query.cursor.map(|cursor| cursor.position()).transpose()?;
    let filter = LaneFilter { blocked: query.blocked, session_id: query.session };
    let lanes = relay.lanes_of(filter, tenants).await?;
    let position = |lane: &LaneRecord| (lane.session_id.clone(), lane.lane.clone());
    Ok(Json(Page::of_all(lanes, query.limit, after, position)))
}

/// The lane that is to go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnblockBody {
    /// Its session.
    session_id: String,
    /// Its name, as it is listed.
    lane: String,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for UnblockBody {}

/// What it came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Unblocked {
    /// Whether a message held the lane up; it is `held` now, until it is replayed.
    unblocked: bool,
}

/// Park the message that holds up a lane, so that the ones behind it go on
#[utoipa::path(tag = "lanes", request_body = UnblockBody, responses((status = 200, body = Unblocked)))]
#[post("/lanes/unblock")]
pub(super) async fn unblock(
    access: Access<Operate>,
    body: Body<UnblockBody>,
) -> Result<Json<Unblocked>, Problem> {
    let body = body.0;
    let session = access.session(&body.session_id).await?;
    let change = Change {
        action: "lane.unblock",
        target: format!("{} {}", session.id(), body.lane),
        tenant: Some(session.tenant()),
        reason: body.reason.as_deref(),
        before: None,
    };
    let made = async {
        let unblocked = session.relay().unblock_lane(session.id().clone(), &body.lane).await?;
        Ok(Unblocked { unblocked })
    };
    access.change(change, made).await.map(Json)
}
