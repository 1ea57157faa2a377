//! What came of messages over the last hours.

use super::access::{Access, Read};
use super::input::Query;
use super::problem::Problem;
use actix_web::get;
use actix_web::web::Json;
use nanorelay_actors::report::DeliveryHistory;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

/// Minutes that are told when nothing is asked for.
const MINUTES_DEFAULT: u32 = 60;
/// Most minutes: as much as is kept.
const MINUTES_MAX: u32 = 120;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(show);
}

/// Over what time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Minutes up to now, 1 to 120; 60 unless it is there.
    #[param(minimum = 1, maximum = 120)]
    minutes: Option<u32>,
}

/// What came of messages over the last minutes, in steps of ten seconds
///
/// The host keeps it in memory: it begins anew with each start. It is of all tenants, and so are those who may see it.
#[utoipa::path(tag = "overview", params(HistoryQuery), responses((status = 200, body = DeliveryHistory)))]
#[get("/history")]
pub(super) async fn show(
    access: Access<Read>,
    query: Query<HistoryQuery>,
) -> Result<Json<DeliveryHistory>, Problem> {
    let minutes = query.0.minutes.unwrap_or(MINUTES_DEFAULT);
    if !(1..=MINUTES_MAX).contains(&minutes) {
        let words = format!("{minutes} is out of bounds, 1 to {MINUTES_MAX} is allowed");
        return Err(Problem::field("minutes", words));
    }
    Ok(Json(access.host()?.history(minutes)))
}
