//! Chats in the browser: what was said, what a person says, and news while they happen. See [`crate::channels::web`].

mod stream;

use super::access::{Access, Change, Level, Operate, OwnSession, Read};
use super::input::{Body, Query, RequestBody};
use super::problem::{Problem, ProblemKind};
use crate::channels::web::{ChatEntry, EntryState, NewEntry, PagePlace, PageRange, TranscriptPage, WebChats};
use actix_web::http::header::{ContentDisposition, DispositionParam, DispositionType};
use actix_web::web::{Json, Path};
use actix_web::{HttpRequest, HttpResponse, get, post};
use nanorelay_actors::inbox::InboxMessage;
use nanorelay_actors::model::message::Destination;
use nanorelay_actors::relay::{Answer, AnswerError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

/// Entries of a page when nothing is asked for.
const ENTRIES_DEFAULT: u32 = 100;
/// The longest id of what a person says, in bytes.
const ID_BYTES_MAX: usize = 64;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(places).service(messages).service(say).service(answer).service(file).service(events);
}

/// Where chats in the browser are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Places {
    /// The channel types whose sessions have one; none when no channel of kind `web` is configured.
    channel_types: Vec<String>,
}

/// Where chats in the browser are
#[utoipa::path(tag = "chat", responses((status = 200, body = Places)))]
#[get("/chat")]
pub(super) async fn places(access: Access<Read>) -> Json<Places> {
    let (relay, _) = access.lists();
    Json(Places { channel_types: WebChats::of(relay).map(|chats| chats.types()).unwrap_or_default() })
}

/// A session's chat in the browser.
struct Room<'a> {
    session: OwnSession<'a>,
    chats: WebChats,
    chat: Destination,
}

/// The chat of a session of the caller, when it is one in the browser.
async fn room<'a, L: Level>(access: &'a Access<L>, session: &str) -> Result<Room<'a>, Problem> {
    let session = access.session(session).await?;
    let Some(chats) = WebChats::of(session.relay()) else {
        let words = "this host has no channel of kind web";
        return Err(Problem::new(ProblemKind::Conflict, words));
    };
    match session.relay().session_chat(session.id()).await? {
        Some(chat) if chats.serves(&chat.channel_type) => Ok(Room { session, chats, chat }),
        Some(chat) => {
            let words = format!(
                "this session speaks in {} {}, not in the browser",
                chat.channel_type, chat.platform_id
            );
            Err(Problem::new(ProblemKind::Conflict, words))
        }
        None => Err(Problem::new(ProblemKind::Conflict, "this session has no chat of its own")),
    }
}

fn unusable(error: crate::channels::web::ChatsError) -> Problem {
    Problem::new(ProblemKind::Internal, error.to_string())
}

/// Which part of the transcript.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MessagesQuery {
    /// Only entries after this number.
    #[serde(default)]
    after: Option<i64>,
    /// The last entries before this number.
    #[serde(default)]
    before: Option<i64>,
    /// Most entries, 1 to 200; 100 unless it is there.
    #[serde(default)]
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// What was said
///
/// The oldest entry first. Without `after` and `before`, the newest entries; `has_more` says whether there are more in the
/// direction that was asked for.
#[utoipa::path(
    tag = "chat",
    params(("session_id" = String, Path, description = "The session."), MessagesQuery),
    responses((status = 200, body = TranscriptPage))
)]
#[get("/chat/{session_id}/messages")]
pub(super) async fn messages(
    access: Access<Read>,
    path: Path<String>,
    query: Query<MessagesQuery>,
) -> Result<Json<TranscriptPage>, Problem> {
    let room = room(&access, &path).await?;
    let place = match (query.0.after, query.0.before) {
        (Some(_), Some(_)) => return Err(Problem::field("before", "cannot be there beside after")),
        (Some(after), None) => PagePlace::After(after),
        (None, Some(before)) => PagePlace::Before(before),
        (None, None) => PagePlace::Newest,
    };
    let limit = query.0.limit.unwrap_or(ENTRIES_DEFAULT);
    if !(1..=200).contains(&limit) {
        return Err(Problem::field("limit", "must be from 1 to 200"));
    }
    let page = room.chats.page(&room.chat, PageRange { place, limit }).await;
    page.map(Json).map_err(unusable)
}

/// What a person says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SayBody {
    /// The text.
    text: String,
    /// Its id, of letters, digits, `-` and `_`. Saying it again with the same id says it once.
    #[schema(min_length = 1, max_length = 64)]
    id: String,
}

impl RequestBody for SayBody {}

/// Say something to the agent
///
/// It stands in the transcript first, and in the agent's inbox when this has answered. When the inbox cannot take it now, the
/// entry stays `sending`: say it again with the same id.
#[utoipa::path(
    tag = "chat",
    params(("session_id" = String, Path, description = "The session.")),
    request_body = SayBody,
    responses((status = 200, body = ChatEntry))
)]
#[post("/chat/{session_id}/messages")]
pub(super) async fn say(
    access: Access<Operate>,
    path: Path<String>,
    body: Body<SayBody>,
) -> Result<Json<ChatEntry>, Problem> {
    let SayBody { text, id } = body.0;
    if text.trim().is_empty() {
        return Err(Problem::field("text", "is empty"));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_plain) {
        return Err(Problem::field("id", "must be 1 to 64 letters, digits, - and _"));
    }
    let room = room(&access, &path).await?;
    let name = access.caller().name.clone();
    let change = Change {
        action: "chat.say",
        target: room.session.id().to_string(),
        tenant: Some(room.session.tenant()),
        reason: None,
        before: None,
    };
    let made = async {
        let content = json!({ "text": text, "sender": name, "senderId": format!("web:{name}") });
        let entry = NewEntry::of_person(room.chat.clone(), room.session.id().as_str(), &name, &id, &content);
        let (entry, _) = room.chats.add(entry).await.map_err(unusable)?;
        hand_in(&room, entry, &id).await
    };
    let entry = access.change(change, Said::of(made)).await?;
    Ok(Json(entry.0))
}

/// An entry that the audit lists without what it says.
struct Said(ChatEntry);

impl Said {
    async fn of(made: impl Future<Output = Result<ChatEntry, Problem>>) -> Result<Self, Problem> {
        made.await.map(Self)
    }
}

impl Serialize for Said {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "entry": self.0.id }).serialize(serializer)
    }
}

/// Puts an entry into the agent's inbox, and notes what came of it.
async fn hand_in(room: &Room<'_>, mut entry: ChatEntry, id: &str) -> Result<ChatEntry, Problem> {
    if entry.state == EntryState::Sent {
        return Ok(entry);
    }
    let message = InboxMessage::new(entry.content.get()).id(&format!("web-in-{id}"));
    match room.session.relay().enqueue(room.session.id().clone(), message).await {
        Ok(enqueued) => {
            let row = Some((enqueued.message_id, enqueued.seq));
            room.chats.settle(entry.number, EntryState::Sent, row).await.map_err(unusable)?;
            entry.state = EntryState::Sent;
            Ok(entry)
        }
        Err(error) if error.is_temporary() => Err(Problem::new(ProblemKind::Unavailable, error.to_string())),
        Err(error) => {
            let state = EntryState::Failed { error: error.to_string() };
            room.chats.settle(entry.number, state, None).await.map_err(unusable)?;
            Err(Problem::new(ProblemKind::Refused, error.to_string()))
        }
    }
}

/// An answer to a question of the chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerBody {
    /// The question.
    question_id: String,
    /// The value of the chosen option.
    selected_option: String,
}

impl RequestBody for AnswerBody {}

/// Answer a question of the agent
///
/// As `POST /v1/questions/{id}/answer`; the answer stands in the transcript, too.
#[utoipa::path(
    tag = "chat",
    params(("session_id" = String, Path, description = "The session.")),
    request_body = AnswerBody,
    responses((status = 200, body = ChatEntry))
)]
#[post("/chat/{session_id}/answers")]
pub(super) async fn answer(
    access: Access<Operate>,
    path: Path<String>,
    body: Body<AnswerBody>,
) -> Result<Json<ChatEntry>, Problem> {
    let room = room(&access, &path).await?;
    let relay = room.session.relay();
    let AnswerBody { question_id, selected_option } = body.0;
    let waiting = relay.questions().await?.questions;
    let question = waiting
        .into_iter()
        .find(|question| {
            question.question_id == question_id && question.session_id == room.session.id().as_str()
        })
        .ok_or_else(|| {
            Problem::new(ProblemKind::Conflict, "this question does not wait for an answer any more")
        })?;
    let name = access.caller().name.clone();
    let change = Change {
        action: "question.answer",
        target: format!("{} {question_id}", room.session.id()),
        tenant: Some(room.session.tenant()),
        reason: None,
        before: None,
    };
    let made = async {
        let given = Answer {
            question_id: question_id.clone(),
            selected_option: selected_option.clone(),
            user_id: name.clone(),
        };
        relay.answer(given).await.map_err(|error| refused(&error))?;
        let content = json!({
            "type": "question_response", "questionId": question_id, "selectedOption": selected_option, "userId": name,
        });
        let id = format!("answer/{question_id}/{}", question.message_id);
        let session = room.session.id().as_str();
        let mut entry = NewEntry::of_person(room.chat.clone(), session, &name, &id, &content);
        entry.state = EntryState::Sent;
        room.chats.add(entry).await.map(|(entry, _)| entry).map_err(unusable)
    };
    access.change(change, Said::of(made)).await.map(|said| Json(said.0))
}

fn refused(error: &AnswerError) -> Problem {
    let kind = match error {
        AnswerError::NoSuchQuestion(_) => ProblemKind::Conflict,
        AnswerError::NotAnOption { .. } => ProblemKind::Refused,
        AnswerError::Enqueue(error) if error.is_temporary() => ProblemKind::Unavailable,
        AnswerError::Enqueue(_) => ProblemKind::Refused,
        AnswerError::Operation(_) => ProblemKind::Internal,
    };
    Problem::new(kind, error.to_string())
}

/// A file of an entry
///
/// Always as a download: it is an agent's, and no browser must show it as a page of this host.
#[utoipa::path(
    tag = "chat",
    params(
        ("session_id" = String, Path, description = "The session."),
        ("number" = i64, Path, description = "The entry's number."),
        ("position" = u32, Path, description = "The file's place in the entry, from 0.")
    ),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>))
)]
#[get("/chat/{session_id}/files/{number}/{position}")]
pub(super) async fn file(
    access: Access<Read>,
    path: Path<(String, i64, u32)>,
) -> Result<HttpResponse, Problem> {
    let (session, number, position) = path.into_inner();
    let room = room(&access, &session).await?;
    let found = room.chats.file(&room.chat, number, position).await.map_err(unusable)?;
    let (name, bytes) = found.ok_or_else(|| Problem::not_found("file"))?;
    let disposition = ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::Filename(name)],
    };
    Ok(HttpResponse::Ok().insert_header(disposition).content_type("application/octet-stream").body(bytes))
}

/// Where the news begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only entries after this number; the header `Last-Event-ID` counts more.
    #[serde(default)]
    after: Option<i64>,
}

/// What is said, while it is said
///
/// Server-sent events of the kind `entry`, each with the entry's number as its id and the entry as its data.
#[utoipa::path(
    tag = "chat",
    params(("session_id" = String, Path, description = "The session."), EventsQuery),
    responses((status = 200, content_type = "text/event-stream", body = String))
)]
#[get("/chat/{session_id}/events")]
pub(super) async fn events(
    access: Access<Read>,
    request: HttpRequest,
    path: Path<String>,
    query: Query<EventsQuery>,
) -> Result<HttpResponse, Problem> {
    let room = room(&access, &path).await?;
    let last = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = last.or(query.0.after).unwrap_or_default();
    let entries = stream::entries(room.chats, room.chat, after, access.shared().closing());
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(entries))
}
