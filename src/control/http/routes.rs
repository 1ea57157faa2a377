//! Which handler answers what.

use super::access::Plane;
use super::headers;
use super::problem::{Problem, ProblemKind};
use super::{
    about, audit, chat, dashboard, deliveries, entrance, events, health, history, host, lanes, login, me,
    messages, parties, pauses, questions, session_lists, sessions, tasks,
};
use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, PathConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use std::sync::Arc;
use utoipa_actix_web::service_config::ServiceConfig;

/// What everybody may ask.
pub(super) fn public(config: &mut ServiceConfig<'_>) {
    about::register(config);
    health::register(config);
    login::register_public(config);
}

/// What is under `/v1`, for callers that are recognised.
pub(super) fn api(config: &mut ServiceConfig<'_>) {
    me::register(config);
    login::register(config);
    host::register(config);
    parties::register(config);
    pauses::register(config);
    sessions::register(config);
    session_lists::register(config);
    messages::register(config);
    deliveries::register(config);
    lanes::register(config);
    tasks::register(config);
    questions::register(config);
    events::register(config);
    history::register(config);
    audit::register(config);
    chat::register(config);
}

/// Mounts everything on an application or a scope.
pub(super) fn mount(plane: &Arc<Plane>, config: &mut web::ServiceConfig) {
    let entrance = {
        let plane = Arc::clone(plane);
        move |request: ServiceRequest, next: Next<BoxBody>| entrance::enter(Arc::clone(&plane), request, next)
    };
    let api_scope = web::scope("/v1")
        .configure(|config| api(&mut ServiceConfig::new(config)))
        .default_service(web::to(unknown_in_api))
        .wrap(from_fn(entrance));
    let all = web::scope("")
        .app_data(Data::from(Arc::clone(plane)))
        .app_data(PathConfig::default().error_handler(|error, _| Problem::field("path", error).into()))
        .configure(|config| public(&mut ServiceConfig::new(config)))
        .service(api_scope)
        .configure(|config| {
            if plane.has_dashboard {
                dashboard::mount(config)
            }
        })
        .default_service(web::to(unknown_at_top))
        .wrap(from_fn(headers::finish));
    config.service(all);
}

/// A path or a method that nothing answers; `path` starts where the control plane is mounted.
fn unknown(plane: &Plane, request: &HttpRequest, path: &str) -> HttpResponse {
    let methods = plane.description.methods_of(path);
    let problem = match methods.is_empty() {
        true => Problem::not_found("path"),
        false => {
            let words = format!("{} is not allowed here", request.method());
            Problem::new(ProblemKind::MethodNotAllowed, words).allow(&methods.join(", "))
        }
    };
    problem.error_response()
}

async fn unknown_at_top(plane: Data<Plane>, request: HttpRequest) -> HttpResponse {
    unknown(&plane, &request, request.match_info().unprocessed())
}

async fn unknown_in_api(plane: Data<Plane>, request: HttpRequest) -> HttpResponse {
    unknown(&plane, &request, &format!("/v1{}", request.match_info().unprocessed()))
}
