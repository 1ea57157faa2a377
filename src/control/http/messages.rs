//! Messages for agents.

use super::access::{Access, Change, Operate};
use super::input::{Body, RequestBody};
use super::problem::{Problem, ProblemKind};
use super::sessions::ReasonBody;
use actix_web::post;
use actix_web::web::{Json, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nanorelay_actors::inbox::{EnqueueError, Enqueued, InboxMessage, MessageOrigin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// The largest request with a message and its files, in bytes. Larger files are sent with the command line.
const MESSAGE_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn register(config: &mut ServiceConfig<'_>) {
    config.service(send).service(rescan);
}

/// A file that comes with a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachmentBody {
    /// Its name.
    name: String,
    /// Its bytes, in base64.
    base64: String,
}

/// Another chat than the session's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginBody {
    /// The kind of platform.
    channel_type: String,
    /// The chat there.
    platform_id: String,
    /// The thread in it.
    #[serde(default)]
    thread_id: Option<String>,
}

/// A message for an agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageBody {
    /// Its id, as its platform gave it: a message with the same one is written once.
    #[serde(default)]
    id: Option<String>,
    /// What is said. Either this or `content`.
    #[serde(default)]
    text: Option<String>,
    /// Who says it, with `text`.
    #[serde(default)]
    sender: Option<String>,
    /// The whole content, a JSON object.
    #[serde(default)]
    content: Option<Value>,
    /// `chat` unless it is there; or `chat-sdk`, `task`, `webhook`, `system`.
    #[serde(default)]
    kind: Option<String>,
    /// The chat it comes from, where the answer goes; the session's own unless it is there.
    #[serde(default)]
    from: Option<OriginBody>,
    /// Whether it wakes nobody: the agent reads it the next time.
    #[serde(default)]
    context_only: bool,
    /// Files.
    #[serde(default)]
    attachments: Vec<AttachmentBody>,
    /// Why, for the audit.
    #[serde(default)]
    reason: Option<String>,
}

impl RequestBody for MessageBody {
    const BYTES_MAX: usize = MESSAGE_BODY_BYTES_MAX;
}

impl MessageBody {
    fn message(&self) -> Result<InboxMessage, Problem> {
        let content = match (&self.text, &self.content) {
            (Some(text), None) => {
                let sender = self.sender.as_deref().unwrap_or("operator");
                json!({ "text": text, "sender": sender, "senderId": sender })
            }
            (None, Some(content)) if content.is_object() => content.clone(),
            (None, Some(_)) => return Err(Problem::field("content", "is not a JSON object")),
            (Some(_), Some(_)) => return Err(Problem::field("text", "cannot be there beside content")),
            (None, None) => return Err(Problem::field("text", "is missing, and so is content")),
        };
        let mut message = InboxMessage::new(content.to_string());
        message.id.clone_from(&self.id);
        if let Some(kind) = &self.kind {
            message.kind.clone_from(kind);
        }
        message.wake = !self.context_only;
        if let Some(from) = &self.from {
            let origin = MessageOrigin::chat(&from.channel_type, &from.platform_id);
            message.origin = match &from.thread_id {
                Some(thread) => origin.thread(thread),
                None => origin,
            };
        }
        for (index, attachment) in self.attachments.iter().enumerate() {
            let bytes = STANDARD
                .decode(&attachment.base64)
                .map_err(|problem| Problem::field(&format!("attachments[{index}].base64"), problem))?;
            message = message.attach(&attachment.name, bytes);
        }
        Ok(message)
    }
}

/// Put a message into a session's inbox
///
/// When this is answered, the message is on the disk. With an `id` it is written once, however often it is sent.
#[utoipa::path(
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session.")),
    request_body = MessageBody,
    responses((status = 200, body = Enqueued))
)]
#[post("/sessions/{session_id}/messages")]
pub(super) async fn send(
    access: Access<Operate>,
    path: Path<String>,
    body: Body<MessageBody>,
) -> Result<Json<Enqueued>, Problem> {
    let session = access.session(&path).await?;
    let message = body.0.message()?;
    let change = Change {
        action: "session.message",
        target: session.id().to_string(),
        tenant: Some(session.tenant()),
        reason: body.0.reason.as_deref(),
        before: None,
    };
    let made = async { session.relay().enqueue(session.id().clone(), message).await.map_err(Problem::from) };
    access.change(change, made).await.map(Json)
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        let kind = match error {
            EnqueueError::NoSuchSession(_) => ProblemKind::NotFound,
            EnqueueError::Closed(_) => ProblemKind::Conflict,
            EnqueueError::Unavailable { .. } | EnqueueError::Stopping => ProblemKind::Unavailable,
            _ => ProblemKind::Refused,
        };
        Problem::new(kind, error.to_string())
    }
}

/// What a look came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rescanned {
    /// Always true: the session is looked at.
    rescanned: bool,
}

/// Look at a session now, whether or not its files tell of a change
#[utoipa::path(
    tag = "sessions",
    params(("session_id" = String, Path, description = "The session.")),
    request_body(content = Option<ReasonBody>),
    responses((status = 200, body = Rescanned))
)]
#[post("/sessions/{session_id}/rescan")]
pub(super) async fn rescan(
    access: Access<Operate>,
    path: Path<String>,
    body: Body<ReasonBody>,
) -> Result<Json<Rescanned>, Problem> {
    let session = access.session(&path).await?;
    let change = Change {
        action: "session.rescan",
        target: session.id().to_string(),
        tenant: Some(session.tenant()),
        reason: body.0.reason.as_deref(),
        before: None,
    };
    let made = async {
        session.relay().rescan(session.id().clone()).await;
        Ok(Rescanned { rescanned: true })
    };
    access.change(change, made).await.map(Json)
}
