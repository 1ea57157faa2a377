//! What every request below `/v1` passes: who asks, whether a page of this host has sent it, and whether it is a repeat.

use super::access::Plane;
use super::caller::Caller;
use super::idempotency::{self, Answer, Turn};
use super::input;
use super::problem::{Problem, ProblemKind};
use actix_web::body::{BoxBody, MessageBody, to_bytes};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{HttpMessage, ResponseError};
use futures_util::stream;
use nanorelay_actors::clock::{Clock, SystemClock};
use std::sync::Arc;

/// The largest body of any request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Lets those in who are recognised.
pub(super) async fn enter(
    plane: Arc<Plane>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let caller = match plane.recognise(request.request()) {
        Ok(caller) => caller,
        // As an answer, not as an error: errors pass by what adds headers.
        Err(problem) => return Ok(refused(request, &problem)),
    };
    request.extensions_mut().insert(caller.clone());
    if request.method().is_safe() {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    change(&plane, &caller, request, next).await
}

/// Answers a request that may change something. It is answered to its end also when the client goes away meanwhile: a
/// change is never left half made.
async fn change(
    plane: &Plane,
    caller: &Caller,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let key = match idempotency::key_in(request.headers()) {
        Ok(key) => key.map(<[u8]>::to_vec),
        Err(problem) => return Ok(refused(request, &problem)),
    };
    let Some(key) = key else {
        let answering = actix_rt::spawn(async move { Ok(next.call(request).await?.map_into_boxed_body()) });
        return answering.await.unwrap_or_else(|_| Err(panicked().into()));
    };
    let mut request = request;
    let length = input::length_in(request.headers());
    let body = match input::read(request.take_payload(), length, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return Ok(refused(request, &problem)),
    };
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let parts = [request.method().as_str().as_bytes(), path.as_bytes(), &body[..]];
    let claim = match plane.shared.answers.begin(&caller.key(), &key, &parts, SystemClock.now()) {
        Ok(Turn::First(claim)) => claim,
        Ok(Turn::Repeat(answer)) => return Ok(request.into_response(answer.repeated())),
        Err(problem) => return Ok(refused(request, &problem)),
    };
    request.set_payload(payload_of(body));
    let answering = actix_rt::spawn(async move {
        let response = next.call(request).await?;
        let (request, response) = response.into_parts();
        let (response, body) = response.into_parts();
        let body = to_bytes(body).await.map_err(|_| panicked())?;
        let answer = Answer {
            status: response.status(),
            content_type: response.headers().get(CONTENT_TYPE).cloned(),
            body: body.clone(),
        };
        claim.keep(&answer);
        Ok(ServiceResponse::new(request, response.set_body(BoxBody::new(body))))
    });
    answering.await.unwrap_or_else(|_| Err(panicked().into()))
}

/// A body that has arrived, to be read once more.
fn payload_of(body: Bytes) -> Payload {
    Payload::Stream { payload: Box::pin(stream::once(async move { Ok(body) })) }
}

fn panicked() -> Problem {
    Problem::new(ProblemKind::Internal, "the answer could not be made")
}

fn refused(request: ServiceRequest, problem: &Problem) -> ServiceResponse<BoxBody> {
    request.into_response(problem.error_response())
}
