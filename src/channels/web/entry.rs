//! What stands in a transcript.

use super::super::payload::{FileFacts, content_on_one_line};
use nanorelay_actors::channel::adapter::Delivery;
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::model::message::Destination;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// Most entries of one page.
pub const PAGE_ENTRIES_MAX: u32 = 200;
/// A page ends early when its contents have so many bytes; it has one entry at least.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;
/// What an id of an entry begins with; its number follows.
pub(super) const ID_START: &str = "web-";

/// Who wrote an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// The agent of a session.
    Agent,
    /// A person in a browser.
    Person,
}

impl Author {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Author::Agent => "agent",
            Author::Person => "person",
        }
    }
}

/// What became of an entry. Those of agents are always `sent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EntryState {
    /// It stands in the transcript; whether the agent has it is not known yet.
    Sending,
    /// It has arrived.
    Sent,
    /// It was refused.
    Failed {
        /// Why, in words.
        error: String,
    },
}

/// One entry of a chat.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChatEntry {
    /// Its position: later entries have higher numbers.
    pub number: i64,
    /// Its id on this platform, by which an agent edits it or reacts to it.
    pub id: String,
    /// When it was written; RFC 3339 UTC.
    pub at: String,
    /// Who wrote it.
    pub author: Author,
    /// The session of the agent that wrote it, or that it is for.
    pub session_id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The entry that it changes or reacts to, when it is one of this chat.
    pub target: Option<i64>,
    /// Its content, a JSON object as `messages_out.content` has it.
    #[schema(value_type = Object)]
    pub content: Box<RawValue>,
    /// Its files.
    pub files: Vec<EntryFile>,
    /// What became of it.
    #[serde(flatten)]
    pub state: EntryState,
}

/// A file of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EntryFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// An entry to be written.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The chat.
    pub chat: Destination,
    /// Who wrote it.
    pub author: Author,
    /// The session of the agent that wrote it, or that it is for.
    pub session_id: String,
    /// The person's name.
    pub name: Option<String>,
    /// The same for each try to write it, and for no other entry.
    pub key: Arc<str>,
    /// The row that its agent knows it by: id and seq.
    pub row: Option<(String, i64)>,
    /// A JSON object, on one line.
    pub content: Box<RawValue>,
    /// Its files with their bytes.
    pub(in crate::channels) files: Vec<(FileFacts, Vec<u8>)>,
    /// Whether it still has to be handed to its agent.
    pub state: EntryState,
}

impl NewEntry {
    /// What a person says to the agent of a session. `id` is the browser's own: the same id is the same entry.
    pub fn of_person(
        chat: Destination,
        session_id: &str,
        name: &str,
        id: &str,
        content: &serde_json::Value,
    ) -> Self {
        Self {
            chat,
            author: Author::Person,
            session_id: session_id.to_owned(),
            name: Some(name.to_owned()),
            key: format!("person/{session_id}/{id}").into(),
            row: None,
            // The text of a JSON value is JSON.
            content: RawValue::from_string(content.to_string()).unwrap_or_default(),
            files: Vec::new(),
            state: EntryState::Sending,
        }
    }

    pub(super) fn of_delivery(
        delivery: &Delivery,
        files: Vec<(FileFacts, Vec<u8>)>,
    ) -> Result<Self, SendError> {
        Ok(Self {
            chat: delivery.destination.clone(),
            author: Author::Agent,
            session_id: delivery.session_id.to_string(),
            name: None,
            key: format!("agent/{}", delivery.idempotency_key).into(),
            row: Some((delivery.message_id.to_string(), delivery.seq)),
            content: content_on_one_line(&delivery.content)?,
            files,
            state: EntryState::Sent,
        })
    }
}

/// Which part of a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRange {
    /// Where it begins or ends.
    pub place: PagePlace,
    /// Most entries; at most `PAGE_ENTRIES_MAX` are given.
    pub limit: u32,
}

/// Where a page begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePlace {
    /// The newest entries.
    Newest,
    /// Those after this number.
    After(i64),
    /// The last ones before this number.
    Before(i64),
}

/// A part of a transcript.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TranscriptPage {
    /// The oldest first.
    pub items: Vec<ChatEntry>,
    /// Whether there is more in the direction of reading.
    pub has_more: bool,
}
