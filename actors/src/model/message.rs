//! A row of `messages_out` as it was read, and where it is to go.

use super::ids::{AgentGroupId, ChannelType, MessageId, PlatformId, SessionId, ThreadId};
use std::sync::Arc;

/// One row of `messages_out`, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRow {
    /// The row's id.
    pub id: MessageId,
    /// Position in the session's order. A row without a seq gets the one of the row before it.
    pub seq: i64,
    /// Id of the `messages_in` row that this one answers, as the agent wrote it.
    pub in_reply_to: Option<String>,
    /// Earliest time of delivery, as the agent wrote it; see [`super::time::Timestamp::parse`].
    pub deliver_after: Option<String>,
    /// `chat`, `chat-sdk`, `system` or something unknown.
    pub kind: Arc<str>,
    /// Target channel type; `agent` for a message to another agent.
    pub channel_type: Option<String>,
    /// Target chat, or the target agent group.
    pub platform_id: Option<String>,
    /// Target thread.
    pub thread_id: Option<String>,
    /// The content (JSON text), or why it cannot be read.
    pub content: Result<Arc<str>, RowFault>,
}

/// Why a row cannot be used. Such a row is dead; later rows go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// The content is larger than the limit.
    #[error("content has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Size found.
        bytes: u64,
        /// Size allowed.
        limit: u64,
    },
    /// A column other than the content is larger than an id may be.
    #[error("column {column} has {bytes} bytes, the limit is {limit}")]
    ColumnTooLong {
        /// Name of the column.
        column: &'static str,
        /// Size found.
        bytes: u64,
        /// Size allowed.
        limit: u64,
    },
    /// A column holds a blob, a number or bytes that are not UTF-8.
    #[error("column {column} is not text")]
    NotText {
        /// Name of the column.
        column: &'static str,
    },
}

/// Where a channel message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The kind of platform.
    pub channel_type: ChannelType,
    /// The chat.
    pub platform_id: PlatformId,
    /// The thread in that chat.
    pub thread_id: Option<ThreadId>,
}

/// A queue within one session. Messages of one lane leave in seq order; lanes do not wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// All system actions of a session.
    System,
    /// Messages to one other agent group.
    Agent(AgentGroupId),
    /// Messages to one chat and thread.
    Channel(Destination),
    /// Messages that can go nowhere; they only wait to be recorded as dead.
    Nowhere,
}

/// Separates the parts of a lane's key. A control character: ids from NanoClaw never hold one, and one that
/// does can only merge lanes of its own session.
pub(crate) const KEY_SEPARATOR: char = '\u{1f}';

impl Lane {
    /// The lane as one text, unique within its session: the form in which the ledger keeps it.
    pub fn key(&self) -> String {
        match self {
            Lane::System => "system".to_owned(),
            Lane::Nowhere => "nowhere".to_owned(),
            Lane::Agent(group) => format!("agent{KEY_SEPARATOR}{group}"),
            Lane::Channel(destination) => {
                let thread = destination.thread_id.as_ref().map_or("", ThreadId::as_str);
                let Destination { channel_type, platform_id, .. } = destination;
                format!(
                    "channel{KEY_SEPARATOR}{channel_type}{KEY_SEPARATOR}{platform_id}{KEY_SEPARATOR}{thread}"
                )
            }
        }
    }
}

/// A message of one session: the key of everything that is recorded about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryKey {
    /// The session that wrote it.
    pub session_id: SessionId,
    /// Its id there. Two sessions may use the same one.
    pub message_id: MessageId,
}
