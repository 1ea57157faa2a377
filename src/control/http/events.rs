//! What happens, as a stream of server-sent events.

use super::access::{Access, Read};
use super::input::Query;
use super::problem::{Problem, ProblemKind};
use super::selection::own_tenants;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, get};
use futures_util::stream;
use nanorelay_actors::relay::EventStream;
use nanorelay_actors::report::{EventFilter, EventId, EventKind, RelayEvent};
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;
use utoipa_actix_web::service_config::ServiceConfig;

/// After so long without an event a comment is sent, so that nobody in between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When to try again after too many streams.
const TOO_MANY_PAUSE: Duration = Duration::from_secs(10);

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(events);
}

/// Which events to tell.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only of this kind; may be there several times.
    #[serde(default)]
    kind: Vec<EventKind>,
    /// Only of this tenant's sessions.
    tenant: Option<String>,
    /// Only of this session.
    session: Option<String>,
}

/// What happens, while it happens
///
/// Server-sent events: `id` is the event's place, `event` its kind, `data` the event as JSON. With the header
/// `Last-Event-ID` the stream goes on after that event. An event of kind `reset` says that this is not possible any more,
/// one of kind `overflow` that the reader was too slow: load again what is shown. The stream ends when the host stops.
#[utoipa::path(
    tag = "events",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that was heard, such as `7-1234`.")
    ),
    responses((status = 200, content_type = "text/event-stream", body = RelayEvent))
)]
#[get("/events")]
pub(super) async fn events(
    access: Access<Read>,
    query: Query<EventsQuery>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (relay, tenants) = access.lists();
    let query = query.0;
    let tenants = own_tenants(tenants, query.tenant.as_deref());
    let filter = EventFilter { tenants: Some(tenants), kinds: query.kind, session_id: query.session };
    let permit = access.shared().stream_permit().ok_or_else(|| {
        let words = "as many streams of events are open as are allowed";
        Problem::new(ProblemKind::TooManyRequests, words).retry_after(TOO_MANY_PAUSE)
    })?;
    let events = match last_event(&request)? {
        Some(id) => relay.events_after(id, filter),
        None => relay.events(filter),
    };
    let told = Told { events, closing: access.shared().closing(), has_begun: false, _permit: permit };
    let body = stream::unfold(told, |mut told| async move {
        let chunk = told.next().await?;
        Some((Ok::<_, Problem>(chunk), told))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Proxies that collect answers would hold events back.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

fn last_event(request: &HttpRequest) -> Result<Option<EventId>, Problem> {
    let Some(value) = request.headers().get("Last-Event-ID") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|problem| Problem::field("Last-Event-ID", problem))
}

/// One reader.
struct Told {
    events: EventStream,
    closing: watch::Receiver<bool>,
    has_begun: bool,
    /// The right to be one of so many.
    _permit: OwnedSemaphorePermit,
}

impl Told {
    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // The answer's head goes out with its first bytes: the reader knows that it is heard.
            return Some(Bytes::from_static(b": here\n\n"));
        }
        if *self.closing.borrow() {
            return None;
        }
        tokio::select! {
            event = self.events.next() => event.map(|event| Bytes::from(text_of(&event))),
            _ = self.closing.changed() => None,
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(b": still here\n\n")),
        }
    }
}

/// An event as lines. JSON has no line breaks.
fn text_of(event: &RelayEvent) -> String {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.as_str())
}
