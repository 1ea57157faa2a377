//! Agent runtimes: what wakes, watches and stops the agents themselves.

pub(crate) mod care;
pub mod command;
mod host;
pub mod keeper;
pub mod launch;
mod launched;

pub use host::{AgentHost, AgentStatuses};
pub use launched::{AgentLauncher, LaunchedRuntime, Run};

use crate::model::ids::{AgentGroupId, SessionId};
use crate::model::time::Timestamp;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    Yes {
        /// Since when, if that is known. What the session's files say of an earlier time is its predecessor's.
        since: Option<Timestamp>,
    },
    /// It does not.
    No,
    /// This runtime cannot know; `sessions.container_status` in `v2.db` is believed instead.
    Unknown,
}

/// Why an agent could not be woken or stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// What an agent does, as a runtime lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    /// It waits for a place.
    Waiting,
    /// It runs.
    Running,
    /// It was told to end.
    Stopping,
    /// It failed and is not started again before a time.
    BackingOff,
    /// A former host's agent, which is ending.
    Leaving,
}

impl AgentState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing-off",
            Self::Leaving => "leaving",
        }
    }
}

/// An agent that runs, wants to, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentRecord {
    /// Its session.
    pub session_id: String,
    /// Its agent group.
    pub agent_group_id: String,
    /// What it does.
    pub state: AgentState,
    /// Its process, where it has one of this machine.
    pub process_id: Option<i32>,
    /// Since when it runs, as ISO time.
    pub since: Option<String>,
    /// Before when it is not started again, as ISO time.
    pub not_before: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Why it is being stopped, or how it failed the last time.
    pub reason: Option<String>,
}

/// Wakes, watches and stops agents.
///
/// `wake` of a running agent and `stop` of a stopped one do nothing and succeed. None of the calls waits for an agent:
/// a runtime tells its [`AgentHost`] when one has started or ended.
#[async_trait]
pub trait AgentRuntime: Send + Sync + 'static {
    /// Begins to work for a relay: called once, before everything else, inside the actix system of the relay. An error
    /// keeps the relay from starting.
    async fn attach(&self, host: AgentHost) -> Result<(), RuntimeError> {
        let _ = host;
        Ok(())
    }

    /// Sees to it that the session's agent runs and looks at its inbox. Where there is no place for it now, it runs
    /// once there is one.
    async fn wake(&self, session: &AgentSession) -> Result<(), RuntimeError>;

    /// Whether the session's agent runs.
    async fn is_running(&self, session: &AgentSession) -> Running;

    /// Ends the session's agent; `reason` is for the log.
    async fn stop(&self, session: &AgentSession, reason: &str) -> Result<(), RuntimeError>;

    /// All agents that run, want to, or failed, in no order. Nothing when the agents are somebody else's.
    async fn agents(&self) -> Vec<AgentRecord> {
        Vec::new()
    }

    /// Ends all agents within `deadline`: the relay shuts down. None is woken afterwards.
    async fn shutdown(&self, deadline: Duration) {
        let _ = deadline;
    }
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
