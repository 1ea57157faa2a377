//! Messages between agents: how many went from one session to one agent, and how long their chains are.
//!
//! All of it is the host's own record. Nothing that an agent can write decides how often it may write.

use super::LedgerTransaction;
use crate::limits::{AGENT_CHAIN_WINDOW, AGENT_RATE_WINDOW};
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
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
    /// It joins its lane at that time; the lane goes on without it.
    Postponed(Timestamp),
    /// It is not tried again before that time.
    NotYet(Timestamp),
    /// It does not wait to be sent any more.
    Settled,
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
        if let Some(other) = self.changed_meanwhile(request, now)? {
            return Ok(other);
        }
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

    /// What an operator has made of the message since it was handed out. One that the ledger does not know may go.
    fn changed_meanwhile(
        &mut self,
        request: &AgentRequest,
        now: Timestamp,
    ) -> Result<Option<AgentBudget>, StoreError> {
        let found = self
            .transaction
            .prepare_cached(
                "SELECT state, next_attempt_at FROM deliveries WHERE session_id = ?1 AND message_id = ?2",
            )?
            .query_row(params![request.source.as_str(), request.message.as_str()], |row| {
                Ok((super::state_of(row, 0)?, row.get::<_, Option<i64>>(1)?.map(Timestamp::from_ms)))
            })
            .optional()?;
        Ok(match found {
            Some((DeliveryState::Queued, Some(at))) if at > now => Some(AgentBudget::Postponed(at)),
            Some((DeliveryState::Retrying, Some(at))) if at > now => Some(AgentBudget::NotYet(at)),
            Some((DeliveryState::Queued | DeliveryState::Retrying | DeliveryState::Sending, _)) | None => {
                None
            }
            Some(_) => Some(AgentBudget::Settled),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger::LedgerWriter;

    const MINUTE_MS: i64 = 60_000;

    struct Fixture {
        _folder: tempfile::TempDir,
        writer: LedgerWriter,
    }

    fn session(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(1_776_000_000_000 + ms)
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let writer = LedgerWriter::open(folder.path()).unwrap();
            Self { _folder: folder, writer }
        }

        /// A message from `from` to `to`; sessions and groups have the same names here. Its place in the chain, when it
        /// may go; it then arrives.
        fn send(&mut self, from: &str, to: &str, answers: Option<&str>, now_ms: i64) -> Option<u32> {
            let id = format!("{from}-{to}-{now_ms}");
            let request = AgentRequest {
                source: session(from),
                message: MessageId::new(&id).unwrap(),
                target: AgentGroupId::new(to).unwrap(),
                in_reply_to: answers.map(str::to_owned),
            };
            let mut transaction = self.writer.transaction().unwrap();
            let AgentBudget::Allowed { hop } = transaction.agent_budget(&request, 3, 4, at(now_ms)).unwrap()
            else {
                return None;
            };
            let arrival = AgentArrival {
                target_session: session(to),
                inbox_id: id,
                target_group: request.target,
                source_session: request.source,
                source_group: AgentGroupId::new(from).unwrap(),
                source_message: request.message,
                hop,
            };
            transaction.note_agent_arrival(&arrival, at(now_ms)).unwrap();
            transaction.commit().unwrap();
            Some(hop)
        }
    }

    #[test]
    fn a_ring_of_agents_is_a_chain_like_a_pair() {
        let mut ledger = Fixture::new();
        assert_eq!(ledger.send("a", "b", None, 1), Some(1));
        assert_eq!(ledger.send("b", "c", None, 2), Some(2));
        assert_eq!(ledger.send("c", "a", None, 3), Some(3));
        assert_eq!(ledger.send("a", "b", None, 4), Some(4));
        assert_eq!(ledger.send("b", "c", None, 5), None, "the fifth is one too many");
        let later = 11 * MINUTE_MS;
        assert_eq!(ledger.send("b", "c", None, later), Some(1), "an old chain is forgotten");
    }

    #[test]
    fn an_agent_with_many_clients_answers_each_in_its_own_chain() {
        let mut ledger = Fixture::new();
        assert_eq!(ledger.send("old", "helper", None, 1), Some(1));
        assert_eq!(ledger.send("helper", "old", None, 2), Some(2));
        assert_eq!(ledger.send("old", "helper", None, 3), Some(3));
        assert_eq!(ledger.send("new", "helper", None, 4), Some(1));
        assert_eq!(ledger.send("helper", "old", None, 5), Some(4), "the chain with this client");
        assert_eq!(ledger.send("helper", "new", None, 6), Some(2));
        assert_eq!(ledger.send("helper", "third", Some("old-helper-1"), 7), Some(2), "what is answered");
        assert_eq!(
            ledger.send("helper", "fourth", Some("invented"), 8),
            Some(2),
            "the last one that arrived"
        );
    }

    #[test]
    fn so_many_messages_a_minute_go_to_one_agent() {
        let mut ledger = Fixture::new();
        let sent = |ledger: &mut Fixture, to: &str, from_ms: i64| {
            (from_ms..from_ms + 5).filter(|ms| ledger.send("a", to, None, *ms).is_some()).count()
        };
        assert_eq!(sent(&mut ledger, "b", 1), 3);
        assert_eq!(sent(&mut ledger, "c", 1), 3, "each agent has its own count");
        assert_eq!(sent(&mut ledger, "b", MINUTE_MS + 10), 3);
    }
}
