//! What a [`super::SessionActor`] is told.
//!
//! Those that come from the registry are counted by both sides, so that an actor is retired only when nothing
//! is on its way to it.

use crate::inbox::Enqueued;
use crate::model::ids::{AgentGroupId, ChannelType, MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::store::arrivals::Arrival;
use crate::supervise::activity::ActivityToken;
use actix::Message;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::oneshot;

/// From the registry: there may be something to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Look {
    pub reason: LookReason,
    /// When the host heard that the agent may have written.
    pub heard_at: Option<Timestamp>,
    pub _token: ActivityToken,
}

/// Why to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LookReason {
    /// The agent may have written.
    Hint,
    /// Something is due: a task, or a message with a deliver_after.
    Due,
    /// The sweep's turn.
    Sweep,
    /// An operator changed the ledger.
    Reload,
    /// An operator says that the session's trouble is over.
    Release,
}

/// From the registry: take a message for the inbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Accept {
    pub message: InboxArrival,
}

/// A message for a session's inbox.
#[derive(Debug)]
pub(crate) struct InboxArrival {
    /// Who sent it, and what.
    pub origin: ArrivalOrigin,
    /// Where to say how it went.
    pub reply: oneshot::Sender<Result<Enqueued, AcceptError>>,
    pub _token: ActivityToken,
}

/// Who sent a message for the inbox.
#[derive(Debug)]
pub(crate) enum ArrivalOrigin {
    /// Another agent.
    Agent(AgentMessage),
    /// The application, or an operator. It is checked.
    Application(Box<Arrival>),
}

/// A message from one agent to another.
#[derive(Debug)]
pub(crate) struct AgentMessage {
    /// The session that wrote it.
    pub source_session: SessionId,
    /// That session's agent group.
    pub source_group: AgentGroupId,
    /// The row there.
    pub source_message: MessageId,
    /// The row's content.
    pub content: Arc<str>,
    /// Declared attachments.
    pub files: Arc<[String]>,
}

impl InboxArrival {
    /// Tells the sender that it must try again later.
    pub fn refuse(self, reason: &str) {
        // A sender that is gone finds the message again in the ledger.
        let _ = self.reply.send(Err(AcceptError::Unavailable(reason.to_owned())));
    }
}

/// Why a message for the inbox was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Not now: the target's folder cannot be written.
    Unavailable(String),
    /// Never: a file is missing or refused.
    Attachment(String),
}

/// From the registry: end, nothing is left to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

/// From the supervisor: the session rests; its actor may go though it has worked a while ago.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Passivate;

/// From a send: the ledger has news about a message that this session handed to a channel.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Settled {
    pub lane_key: Arc<str>,
    pub message_id: MessageId,
    pub settlement: Settlement,
    pub _token: ActivityToken,
}

/// What a channel knows about a message that it no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Its outcome is recorded.
    Final,
    /// Somebody else dealt with it; the ledger knows more.
    LookAgain,
    /// It is tried again at that time; its lane goes on meanwhile.
    Postponed(Timestamp),
}

/// From a new channel actor: the former one's lanes are gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ChannelRestarted {
    pub account: ChannelType,
    pub _token: ActivityToken,
}

/// Asks for a [`SessionSnapshot`].
#[derive(Message)]
#[rtype(result = "SessionSnapshot")]
pub struct ObserveSession;

/// The state of a session's actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionSnapshot {
    /// The session.
    pub session_id: String,
    /// Messages handed to channels, agents or the task scheduler and not settled.
    pub outstanding: usize,
    /// Messages known to wait, those included.
    pub backlog: u64,
    /// Rows up to this seq have been read.
    pub cursor_seq: i64,
    /// Why the session cannot be served, when it cannot.
    pub trouble: Option<String>,
}
