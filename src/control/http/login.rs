//! Logging in to the dashboard with a token, and out.

use super::access::{Access, Plane, Read};
use super::caller::AuthKind;
use super::headers;
use super::input::{Body, RequestBody};
use super::me::Me;
use super::problem::{Problem, ProblemKind};
use actix_web::http::header::SET_COOKIE;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, post};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// For everybody.
pub(super) fn register_public(config: &mut ServiceConfig<'_>) {
    config.service(login);
}

/// For callers that are recognised.
pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(logout);
}

/// Who logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginBody {
    /// The token, `nr_…`.
    token: String,
}

impl RequestBody for LoginBody {
    const BYTES_MAX: usize = 4096;
}

/// Log in with a token
///
/// The answer sets a cookie that stands for the token, for 12 hours or until the token is revoked. Changes with the cookie
/// need the answer's `csrf_token` in the header `X-CSRF-Token`.
#[utoipa::path(tag = "login", security(()), request_body = LoginBody, responses((status = 200, body = Me)))]
#[post("/v1/login")]
pub(super) async fn login(
    plane: Data<Plane>,
    request: HttpRequest,
    body: Body<LoginBody>,
) -> Result<HttpResponse, Problem> {
    headers::check_same_site(&request)?;
    let (caller, value) = plane.log_in(&request, &body.0.token)?;
    let path = request.path().strip_suffix("v1/login").unwrap_or("/");
    let cookie = plane.shared.logins.cookie(&request, &value, path);
    Ok(HttpResponse::Ok().insert_header((SET_COOKIE, cookie)).json(Me::of(&caller)))
}

/// Log out
#[utoipa::path(tag = "login", responses((status = 204)))]
#[post("/logout")]
pub(super) async fn logout(access: Access<Read>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if access.caller().auth != AuthKind::Cookie {
        return Err(Problem::new(ProblemKind::Conflict, "nobody has logged in with a cookie"));
    }
    let logins = &access.shared().logins;
    logins.end(&request);
    let path = request.path().strip_suffix("v1/logout").unwrap_or("/");
    let cookie = logins.cookie(&request, "", path);
    Ok(HttpResponse::NoContent().insert_header((SET_COOKIE, cookie)).finish())
}
