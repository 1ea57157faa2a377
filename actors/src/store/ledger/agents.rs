//! Messages between agents: how many went from one session to one agent, and how long their chains are.
//!
//! All of it is the host's own record. Nothing that an agent can write decides how often it may write.

use super::LedgerTransaction;
use crate::limits::{AGENT_CHAIN_WINDOW, AGENT_RATE_WINDOW};
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use rusqlite::{Connection, OptionalExtension, params};

/// Made in every ledger, whatever its version: an older host ignores them.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS agent_messages (
  target_session TEXT NOT NULL,
  inbox_id       TEXT NOT NULL,
  target_group   TEXT NOT NULL,
  source_session TEXT NOT NULL,
  source_group   TEXT NOT NULL,
  hop            INTEGER NOT NULL,
  routed_at      INTEGER NOT NULL,
  PRIMARY KEY (target_session, inbox_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS agent_messages_rate ON agent_messages(source_session, target_group, routed_at);
CREATE INDEX IF NOT EXISTS agent_messages_age ON agent_messages(routed_at);
CREATE TABLE IF NOT EXISTS releases (
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLES)?)
}

/// A message that one agent wants to send to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRequest {
    /// The session that wrote it.
    pub source: SessionId,
    /// The row there.
    pub message: MessageId,
    /// The group that it is for.
    pub target: AgentGroupId,
    /// The row in the source's inbox that it says to answer.
    pub in_reply_to: Option<String>,
}

/// What is known of a message that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentArrival {
    /// Where it arrived.
    pub target_session: SessionId,
    /// Its id there.
    pub inbox_id: String,
    /// That session's group.
    pub target_group: AgentGroupId,
    /// Who wrote it.
    pub source_session: SessionId,
    /// The writer's group.
    pub source_group: AgentGroupId,
    /// The row there.
    pub source_message: MessageId,
    /// Its place in the chain.
    pub hop: u32,
}

/// Whether a message to another agent may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentBudget {
    /// It may; this is its place in the chain, 1 for the first.
    Allowed {
        /// See there.
        hop: u32,
    },
    /// It must wait for an operator.
    Exceeded(String),
}

impl LedgerTransaction<'_> {
    /// Whether a message to another agent is within the limits. One that an operator has released always is, and
    /// begins a new chain.
    pub fn agent_budget(
        &mut self,
        request: &AgentRequest,
        per_minute_max: usize,
        hops_max: u32,
        now: Timestamp,
    ) -> Result<AgentBudget, StoreError> {
        if self.is_released(&request.source, &request.message)? {
            return Ok(AgentBudget::Allowed { hop: 1 });
        }
        let since = now.as_ms().saturating_sub(milliseconds(AGENT_RATE_WINDOW));
        let sent: i64 = self
            .transaction
            .prepare_cached(
                "SELECT count(*) FROM agent_messages
                 WHERE source_session = ?1 AND target_group = ?2 AND routed_at > ?3",
            )?
            .query_row(params![request.source.as_str(), request.target.as_str(), since], |row| row.get(0))?;
        if usize::try_from(sent).unwrap_or(0) >= per_minute_max {
            let reason = format!(
                "more than {per_minute_max} messages to agent group {:?} within a minute",
                request.target
            );
            return Ok(AgentBudget::Exceeded(reason));
        }
        let hop = self.cause_of(request, now)?.saturating_add(1);
        if hop > hops_max {
            let reason = format!("a chain of more than {hops_max} messages between agents");
            return Ok(AgentBudget::Exceeded(reason));
        }
        Ok(AgentBudget::Allowed { hop })
    }

    /// The place in its chain of the message that caused this one: the one that is answered, else the last one
    /// from the target, else the last one from any agent.
    fn cause_of(&mut self, request: &AgentRequest, now: Timestamp) -> Result<u32, StoreError> {
        let since = now.as_ms().saturating_sub(milliseconds(AGENT_CHAIN_WINDOW));
        let hop = self
            .transaction
            .prepare_cached(
                "SELECT hop FROM agent_messages WHERE target_session = ?1 AND routed_at > ?2
                 ORDER BY inbox_id IS ?3 DESC, source_group = ?4 DESC, routed_at DESC, hop DESC LIMIT 1",
            )?
            .query_row(
                params![request.source.as_str(), since, request.in_reply_to, request.target.as_str()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(hop.unwrap_or(0))
    }

    fn is_released(&mut self, session: &SessionId, message: &MessageId) -> Result<bool, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT 1 FROM releases WHERE session_id = ?1 AND message_id = ?2")?;
        Ok(statement.exists(params![session.as_str(), message.as_str()])?)
    }

    /// Records that a message has arrived, and forgets those that are too old to matter.
    pub fn note_agent_arrival(&mut self, arrival: &AgentArrival, now: Timestamp) -> Result<(), StoreError> {
        let AgentArrival { target_session, inbox_id, target_group, source_session, source_group, .. } =
            arrival;
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO agent_messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                target_session.as_str(),
                inbox_id,
                target_group.as_str(),
                source_session.as_str(),
                source_group.as_str(),
                arrival.hop,
                now.as_ms(),
            ])?;
        self.transaction
            .prepare_cached("DELETE FROM releases WHERE session_id = ?1 AND message_id = ?2")?
            .execute(params![source_session.as_str(), arrival.source_message.as_str()])?;
        let too_old = now.as_ms().saturating_sub(milliseconds(AGENT_CHAIN_WINDOW));
        self.transaction
            .prepare_cached("DELETE FROM agent_messages WHERE routed_at <= ?1")?
            .execute([too_old])?;
        Ok(())
    }
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
