//! Agent runtimes: what wakes, watches and stops the agents themselves.

use crate::model::ids::{AgentGroupId, SessionId};
use async_trait::async_trait;

/// A session as a runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSession {
    /// The session.
    pub session_id: SessionId,
    /// Its agent group.
    pub agent_group_id: AgentGroupId,
}

/// Whether a session's agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// This runtime cannot know; `sessions.container_status` in `v2.db` is believed instead.
    Unknown,
}

/// Why an agent could not be woken or stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// Wakes, watches and stops agents.
///
/// `wake` of a running agent and `stop` of a stopped one do nothing and succeed.
#[async_trait]
pub trait AgentRuntime: Send + Sync + 'static {
    /// Sees to it that the session's agent runs and looks at its inbox.
    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError>;

    /// Whether the session's agent runs.
    async fn is_running(&self, session: &AgentSession) -> Running;

    /// Ends the session's agent; `reason` is for the log.
    async fn stop(&self, session: &AgentSession, reason: &str) -> Result<(), RuntimeError>;
}

/// The runtime of a host whose agents are started by somebody else: it only records what it would do.
pub struct NoRuntime {
    logger: slog::Logger,
}

impl NoRuntime {
    /// Records to `logger`.
    pub fn new(logger: slog::Logger) -> Self {
        Self { logger }
    }
}

#[async_trait]
impl AgentRuntime for NoRuntime {
    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError> {
        slog::debug!(self.logger, "agent has work"; "session" => %session.session_id,
            "agent_group" => %session.agent_group_id);
        Ok(())
    }

    async fn is_running(&self, _session: &AgentSession) -> Running {
        Running::Unknown
    }

    async fn stop(&self, session: &AgentSession, reason: &str) -> Result<(), RuntimeError> {
        slog::warn!(self.logger, "agent should be stopped"; "session" => %session.session_id,
            "agent_group" => %session.agent_group_id, "reason" => reason);
        Ok(())
    }
}
