//! Who changed what, and why.

use super::access::{Access, Admin};
use super::input::Query;
use super::page::{Cursor, Limit, Page};
use super::problem::Problem;
use actix_web::get;
use actix_web::web::Json;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::{AuditFilter, AuditRecord};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(list);
}

/// Which changes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Only those of this one.
    who: Option<String>,
    /// Only those of this kind, such as `pause`.
    action: Option<String>,
    /// Only those that began at or after this time, RFC 3339.
    since: Option<String>,
    /// Records of a page, 1 to 500; 50 unless it is there.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Where the page begins: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Who changed what, and why
///
/// The newest first. For callers of all tenants.
#[utoipa::path(tag = "host", params(AuditQuery), responses((status = 200, body = Page<AuditRecord>)))]
#[get("/audit")]
pub(super) async fn list(
    access: Access<Admin>,
    query: Query<AuditQuery>,
) -> Result<Json<Page<AuditRecord>>, Problem> {
    let query = query.0;
    let since =
        query.since.map(|since| Timestamp::parse(&since).map_err(|error| Problem::field("since", error)));
    let filter = AuditFilter {
        who: query.who,
        action: query.action,
        since_ms: since.transpose()?.map(Timestamp::as_ms),
        before_id: query.cursor.map(|cursor| cursor.position()).transpose()?,
        limit: Some(query.limit.to_ask_for()),
    };
    let records = access.host()?.audit(filter).await?;
    Ok(Json(Page::of(records, query.limit, |record| record.id)))
}
