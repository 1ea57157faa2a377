//! Custom system actions: what an application adds to the five task actions.

use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;

/// An agent's request, as the handler gets it.
#[derive(Debug, Clone)]
pub struct ActionRequest {
    /// The session whose agent asks.
    pub session_id: SessionId,
    /// Its agent group.
    pub agent_group_id: AgentGroupId,
    /// The row's id. The handler may be called again with the same one after a crash.
    pub message_id: MessageId,
    /// The row's whole content, the `action` key included.
    pub content: serde_json::Value,
}

/// What a handled action leaves in the agent's inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionReply {
    /// Rows for `messages_in`, in order.
    pub messages: Vec<ActionMessage>,
}

/// One row for the asking agent's `messages_in`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionMessage {
    /// The row's id. Derive it from the request's message id, so that a repeated call writes no second row.
    pub id: String,
    /// The row's kind: `system` for an answer, `chat` for a notice.
    pub kind: String,
    /// Compact JSON.
    pub content: String,
    /// Whether the row wakes the agent.
    pub wake: bool,
}

/// Why an action was refused, in words for the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ActionRefused(pub String);

/// Handles one kind of system action.
#[async_trait]
pub trait SystemActionHandler: Send + Sync + 'static {
    /// Does what the agent asks for. The returned rows and the action's `delivered` row are written in one
    /// transaction.
    async fn handle(&self, request: ActionRequest) -> Result<ActionReply, ActionRefused>;
}

/// Says whether a session may ask for an action at all. Asked before the action's handler runs.
///
/// The task actions are not asked about: they change nothing but the session's own inbox.
#[async_trait]
pub trait ActionPolicy: Send + Sync + 'static {
    /// `Err` refuses the action; its words are for the agent.
    async fn permits(&self, action: &str, request: &ActionRequest) -> Result<(), ActionRefused>;
}

/// The policy of a host without one.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowEveryAction;

#[async_trait]
impl ActionPolicy for AllowEveryAction {
    async fn permits(&self, _: &str, _: &ActionRequest) -> Result<(), ActionRefused> {
        Ok(())
    }
}

/// The handlers by action name.
#[derive(Clone, Default)]
pub struct SystemActions {
    handlers: HashMap<String, Arc<dyn SystemActionHandler>>,
}

impl SystemActions {
    /// Adds or replaces the handler of `action`.
    pub fn register(&mut self, action: &str, handler: Arc<dyn SystemActionHandler>) {
        self.handlers.insert(action.to_owned(), handler);
    }

    /// The handler of `action`.
    pub fn get(&self, action: &str) -> Option<Arc<dyn SystemActionHandler>> {
        self.handlers.get(action).cloned()
    }
}
