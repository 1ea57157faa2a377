//! Sessions.

use super::access::{Access, Change, Operate};
use super::input::{Body, RequestBody};
use super::problem::Problem;
use actix_web::post;
use actix_web::web::{Json, Path};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(release);
}

/// The body of a change that needs nothing but, perhaps, a reason.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

impl RequestBody for ReasonBody {
    fn when_empty() -> Option<Self> {
        Some(Self::default())
    }
}

/// What a release came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Released {
    /// Whether the session could not be served before.
    released: bool,
}

/// Serve a session again that could not be served
///
/// It is looked at now. If the reason still holds, it is there again at once.
#[utoipa::path(
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, body = Released))
)]
#[post("/sessions/{session_id}/release")]
pub(super) async fn release(
    access: Access<Operate>,
    path: Path<String>,
    body: Body<ReasonBody>,
) -> Result<Json<Released>, Problem> {
    let session = access.session(&path).await?;
    let change = Change {
        action: "session.release",
        target: session.id().to_string(),
        tenant: Some(session.tenant()),
        reason: body.0.reason.as_deref(),
        before: None,
    };
    let made = async { Ok(Released { released: session.relay().release(session.id().clone()).await? }) };
    access.change(change, made).await.map(Json)
}
