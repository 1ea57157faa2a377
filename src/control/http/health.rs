//! Whether the host lives and does its work, and what it counts: for those who watch over it.

use super::access::Plane;
use super::problem::Problem;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use nanorelay_actors::relay::HealthCheck;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// What the OpenMetrics text format is called.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(live).service(ready).service(health).service(metrics);
}

/// That the host lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the host's threads turn
///
/// An answer is all there is to know: a host that does not answer is to be restarted.
#[utoipa::path(tag = "health", security(()), responses((status = 200, body = Live)))]
#[get("/livez")]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Live { status: "ok" })
}

/// Whether the host does its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// `ok` when every check is, else `failing`.
    status: &'static str,
    /// Each thing that must be right.
    checks: Vec<HealthCheck>,
}

/// Whether the host does its work
///
/// The ledger can be written, the registry and the supervisor live, sessions are swept in time, and the host neither ends
/// nor drains.
#[utoipa::path(
    tag = "health",
    security(()),
    responses((status = 200, body = Ready), (status = 503, description = "A check fails.", body = Ready))
)]
#[get("/readyz")]
pub(super) async fn ready(plane: Data<Plane>) -> HttpResponse {
    check(&plane).await
}

/// The same as `/readyz`
#[utoipa::path(
    tag = "health",
    security(()),
    responses((status = 200, body = Ready), (status = 503, description = "A check fails.", body = Ready))
)]
#[get("/healthz")]
pub(super) async fn health(plane: Data<Plane>) -> HttpResponse {
    check(&plane).await
}

async fn check(plane: &Plane) -> HttpResponse {
    let checks = plane.health().await;
    let is_ready = checks.iter().all(|check| check.is_ok);
    let (code, status) =
        if is_ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    HttpResponse::build(code).json(Ready { status, checks })
}

/// What the host counts, in the OpenMetrics text format
///
/// Needs the scope `read` for all tenants, unless `[server] open_metrics` says that everybody may ask.
#[utoipa::path(tag = "health", responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
#[get("/metrics")]
pub(super) async fn metrics(plane: Data<Plane>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let text = plane.open_metrics(&request).await?;
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}
