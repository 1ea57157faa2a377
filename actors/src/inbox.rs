//! What an application or an operator puts into an agent's inbox, and what became of it.

use crate::limits::Limits;
use crate::model::content::{self, ContentError};
use crate::model::ids::{ChannelType, InvalidId, MessageId, PathComponent, PlatformId, SessionId, ThreadId};
use crate::model::time::Timestamp;
use crate::store::arrivals::{Arrival, ArrivalFile};
pub use crate::store::arrivals::{AttachmentContent, Enqueued};
use crate::store::central::SessionFacts;
use crate::store::inbound::NewInbound;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;

/// The kind of a row that people wrote.
const CHAT_KIND: &str = "chat";

/// A message for an agent.
///
/// ```
/// use nanorelay_actors::inbox::{InboxMessage, MessageOrigin};
///
/// let message = InboxMessage::text("Is the build green?")
///     .id("1795333599.0001")
///     .from(MessageOrigin::chat("slack", "slack:C1").thread("t-1"))
///     .attach("log.txt", b"all green".to_vec());
/// assert_eq!(message.kind, "chat");
/// ```
#[derive(Debug, Clone)]
pub struct InboxMessage {
    /// Its id, as the platform gave it. A message of the same id from the same chat is the same message: it is written
    /// once, however often it is enqueued. `None` = every call writes a new one.
    pub id: Option<String>,
    /// `chat`, `chat-sdk`, `task`, `webhook` or `system`.
    pub kind: String,
    /// A JSON object.
    pub content: String,
    /// Whether it wakes the agent. `false` = context for the next time. Nothing of kind `system` wakes.
    pub wake: bool,
    /// Whether only an agent that has just started takes it.
    pub on_wake: bool,
    /// Not before this instant; `None` = at once.
    pub not_before: Option<Timestamp>,
    /// Where it comes from, which is where the answer goes.
    pub origin: MessageOrigin,
    /// Files that come with it.
    pub attachments: Vec<InboxAttachment>,
}

/// Where a message comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum MessageOrigin {
    /// The chat and thread that the session speaks in.
    #[default]
    Session,
    /// Another one. The agent may answer there when its group has it as a destination.
    Chat {
        /// The kind of platform.
        channel_type: String,
        /// The chat there.
        platform_id: String,
        /// The thread in it.
        thread_id: Option<String>,
    },
}

impl MessageOrigin {
    /// A chat.
    pub fn chat(channel_type: &str, platform_id: &str) -> Self {
        let (channel_type, platform_id) = (channel_type.to_owned(), platform_id.to_owned());
        Self::Chat { channel_type, platform_id, thread_id: None }
    }

    /// A thread of that chat.
    pub fn thread(mut self, thread: &str) -> Self {
        if let Self::Chat { thread_id, .. } = &mut self {
            *thread_id = Some(thread.to_owned());
        }
        self
    }
}

/// A file that comes with a message.
#[derive(Debug, Clone)]
pub struct InboxAttachment {
    /// The name under which the agent finds it: a plain file name.
    pub name: String,
    /// What is in it.
    pub content: AttachmentContent,
}

impl InboxMessage {
    /// A message with that content, a JSON object. It wakes the agent.
    pub fn new(content: impl Into<String>) -> Self {
        Self {
            id: None,
            kind: CHAT_KIND.to_owned(),
            content: content.into(),
            wake: true,
            on_wake: false,
            not_before: None,
            origin: MessageOrigin::Session,
            attachments: Vec::new(),
        }
    }

    /// A text.
    pub fn text(text: &str) -> Self {
        Self::new(json!({ "text": text }).to_string())
    }

    /// Sets the id.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Sets the kind.
    pub fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }

    /// Lets it wake nobody: the agent reads it when it looks the next time.
    pub fn context_only(mut self) -> Self {
        self.wake = false;
        self
    }

    /// Lets the agent take it not before an instant.
    pub fn not_before(mut self, at: Timestamp) -> Self {
        self.not_before = Some(at);
        self
    }

    /// Sets where it comes from.
    pub fn from(mut self, origin: MessageOrigin) -> Self {
        self.origin = origin;
        self
    }

    /// Adds a file.
    pub fn attach(mut self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Self {
        let content = AttachmentContent::Bytes(bytes.into());
        self.attachments.push(InboxAttachment { name: name.to_owned(), content });
        self
    }
}

/// Why a message was not put into an inbox. Nothing of it is there then, unless the error is temporary: see
/// [`EnqueueError::is_temporary`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// `v2.db` has no such session.
    #[error("there is no session {0:?}; `nanorelay sessions create` makes one")]
    NoSuchSession(String),
    /// Nobody answers in this session any longer.
    #[error("session {0} is closed; create a new one for this chat")]
    Closed(SessionId),
    /// The content is not what an agent could read.
    #[error("{0}")]
    Content(ContentError),
    /// An id cannot be used.
    #[error("{what}: {problem}")]
    UnusableId {
        /// Which one.
        what: &'static str,
        /// Why.
        problem: InvalidId,
    },
    /// The message is larger than `[limits]` allows.
    #[error("{0}")]
    TooLarge(String),
    /// A file cannot be attached.
    #[error("attachment {name:?}: {reason}")]
    Attachment {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The session's files cannot be written now: locked, damaged, refused. With an id, the message may be enqueued
    /// again; `nanorelay sessions list --quarantined` says more.
    #[error("session {session} cannot take a message now: {reason}")]
    Unavailable {
        /// The session.
        session: String,
        /// Why.
        reason: String,
    },
    /// The host is about to end.
    #[error("the host is stopping")]
    Stopping,
}

impl EnqueueError {
    /// Whether the same call may succeed later. The message may then be there already, whole: the host may have ended
    /// before it could answer. With the same id it is written once.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Stopping)
    }
}

/// A new id for a message that has none.
fn new_id(now: Timestamp) -> String {
    format!("in-{}-{:08x}", now.as_ms(), fastrand::u32(..))
}

/// Checks a message for a session, and makes it what the store writes.
pub(crate) fn check(
    message: InboxMessage,
    session: &SessionFacts,
    limits: &Limits,
    now: Timestamp,
) -> Result<Arrival, EnqueueError> {
    let size = message.content.len() as u64;
    if size > limits.content_bytes_max {
        let limit = limits.content_bytes_max;
        return Err(EnqueueError::TooLarge(format!("the content has {size} bytes, the limit is {limit}")));
    }
    let has_files = !message.attachments.is_empty();
    let content = content::for_inbox(&message.content, has_files).map_err(EnqueueError::Content)?;
    let files = check_attachments(message.attachments, limits)?;
    let unusable = |what| move |problem| EnqueueError::UnusableId { what, problem };
    let id = message.id.unwrap_or_else(|| new_id(now));
    let id = MessageId::new(&id).map_err(unusable("the message's id"))?;
    // The same rule as for ids: text of a bounded length.
    MessageId::new(&message.kind).map_err(unusable("the kind"))?;
    let (channel_type, platform_id, thread_id) = match message.origin {
        MessageOrigin::Session => (
            session.own_chat.as_ref().map(|(channel_type, _)| channel_type.to_string()),
            session.own_chat.as_ref().map(|(_, platform_id)| platform_id.to_string()),
            session.thread_id.as_ref().map(ToString::to_string),
        ),
        MessageOrigin::Chat { channel_type, platform_id, thread_id } => {
            ChannelType::new(&channel_type).map_err(unusable("the channel type"))?;
            PlatformId::new(&platform_id).map_err(unusable("the chat's id"))?;
            thread_id.as_deref().map(ThreadId::new).transpose().map_err(unusable("the thread's id"))?;
            (Some(channel_type), Some(platform_id), thread_id)
        }
    };
    let row = NewInbound {
        id,
        kind: message.kind,
        process_after: message.not_before,
        recurrence: None,
        series_id: None,
        trigger: message.wake,
        on_wake: message.on_wake,
        platform_id,
        channel_type,
        thread_id,
        content,
        source_session_id: None,
    };
    Ok(Arrival { row, files })
}

fn check_attachments(
    attachments: Vec<InboxAttachment>,
    limits: &Limits,
) -> Result<Vec<ArrivalFile>, EnqueueError> {
    let mut sizes = Vec::with_capacity(attachments.len());
    for InboxAttachment { name, content } in &attachments {
        let refused =
            |error: io::Error| EnqueueError::Attachment { name: name.clone(), reason: error.to_string() };
        if let AttachmentContent::File(file) = content
            && !file.metadata().map_err(refused)?.is_file()
        {
            let reason = "is not a plain file".to_owned();
            return Err(EnqueueError::Attachment { name: name.clone(), reason });
        }
        sizes.push((name.as_str(), content.size().map_err(refused)?));
    }
    check_sizes(&sizes, limits)?;
    let sizes: Vec<u64> = sizes.into_iter().map(|(_, size)| size).collect();
    let checked = attachments.into_iter().zip(sizes).map(|(attachment, size)| {
        let InboxAttachment { name, content } = attachment;
        let component = PathComponent::new(&name)
            .map_err(|problem| EnqueueError::Attachment { name, reason: problem.to_string() })?;
        Ok(ArrivalFile { name: component, size, content })
    });
    checked.collect()
}

/// Whether attachments of these names and sizes are within the limits, and have a name each.
pub fn check_sizes(attachments: &[(&str, u64)], limits: &Limits) -> Result<(), EnqueueError> {
    let Limits { attachments_max, attachment_bytes_max, attachments_total_bytes_max, .. } = *limits;
    let count = attachments.len();
    if count > attachments_max {
        return Err(EnqueueError::TooLarge(format!("{count} attachments, the limit is {attachments_max}")));
    }
    let (mut names, mut total) = (HashSet::new(), 0_u64);
    for (name, size) in attachments {
        limits.check_attachment_name(name).map_err(EnqueueError::TooLarge)?;
        if !names.insert(name) {
            let reason = "another attachment has this name".to_owned();
            return Err(EnqueueError::Attachment { name: (*name).to_owned(), reason });
        }
        total = total.saturating_add(*size);
        if *size > attachment_bytes_max {
            let words = format!("attachment {name:?} has {size} bytes, the limit is {attachment_bytes_max}");
            return Err(EnqueueError::TooLarge(words));
        }
    }
    if total > attachments_total_bytes_max {
        let limit = attachments_total_bytes_max;
        return Err(EnqueueError::TooLarge(format!(
            "the attachments have {total} bytes, the limit is {limit}"
        )));
    }
    Ok(())
}
