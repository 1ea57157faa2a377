//! What everybody may ask: how the API is described, and which problems there are.

use super::access::Plane;
use super::problem::{Problem, ProblemKind, ProblemType};
use actix_web::http::header::ContentType;
use actix_web::web::{Data, Json, Path};
use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(openapi).service(problems).service(problem);
}

/// The description of the API, as an OpenAPI document
#[utoipa::path(tag = "about", security(()), responses((status = 200, body = Object)))]
#[get("/openapi.json")]
pub(super) async fn openapi(plane: Data<Plane>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(plane.description.json.clone())
}

/// All types of problems.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemTypes {
    /// The types.
    items: Vec<ProblemType>,
}

/// All types of problems
#[utoipa::path(tag = "about", security(()), responses((status = 200, body = ProblemTypes)))]
#[get("/problems")]
pub(super) async fn problems() -> Json<ProblemTypes> {
    Json(ProblemTypes { items: ProblemKind::ALL.iter().map(|kind| *kind.about()).collect() })
}

/// One type of problem
#[utoipa::path(
    tag = "about",
    security(()),
    params(("name" = String, Path, description = "What follows `urn:nanorelay:problem:` in its type.")),
    responses((status = 200, body = ProblemType))
)]
#[get("/problems/{name}")]
pub(super) async fn problem(name: Path<String>) -> Result<Json<ProblemType>, Problem> {
    let found = ProblemKind::ALL.iter().map(|kind| kind.about()).find(|about| about.name == *name);
    found.map(|about| Json(*about)).ok_or_else(|| Problem::not_found("type of problem"))
}
