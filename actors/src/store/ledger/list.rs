//! The operator's lists of sessions, and of what was tried for one message.

use super::LedgerReader;
use super::read::delivery_record;
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::message::DeliveryKey;
use crate::model::time::Timestamp;
use crate::report::{
    AttemptRecord, DeliveryDetails, DeliveryFilter, DeliveryRecord, SessionFilter, SessionRecord,
};
use crate::store::error::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

impl LedgerReader {
    /// One delivery with everything that was tried; `None` when the ledger does not know it.
    pub fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryDetails>, StoreError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT session_id, message_id, seq, kind, state, attempts, error_class, error, channel_type,
                            platform_id, thread_id, platform_message_id, next_attempt_at, updated_at
                     FROM deliveries WHERE session_id = ?1 AND message_id = ?2",
                )?
                .query_row(params![key.session_id.as_str(), key.message_id.as_str()], delivery_record)
                .optional()?;
            let Some(record) = found else { return Ok(None) };
            Ok(Some(DeliveryDetails { record, failed_attempts: failed_attempts(connection, key)? }))
        })
    }

    /// The deliveries that match and can be replayed, in the order in which they should be.
    pub fn replayable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
        let mut records = self.deliveries(filter)?;
        in_replay_order(&mut records);
        Ok(records)
    }

    /// How many messages of each session wait to be sent.
    pub fn waiting_by_session(&self) -> Result<HashMap<String, u64>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT session_id, count(*) FROM deliveries
                     WHERE state >= 'queued' GROUP BY session_id",
                )?
                .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
                .collect()
        })
    }

    /// The agent group of a session that a relay has read or tried to read.
    pub fn agent_group_of(&self, session: &SessionId) -> Result<Option<AgentGroupId>, StoreError> {
        let group: Option<String> = self.with(|connection| {
            connection
                .prepare_cached("SELECT agent_group_id FROM sessions WHERE session_id = ?1")?
                .query_row([session.as_str()], |row| row.get(0))
                .optional()
        })?;
        Ok(group.and_then(|group| AgentGroupId::new(&group).ok()))
    }

    /// The sessions that match, by id.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        self.with(|connection| {
            connection
                .prepare(
                    "SELECT session_id, agent_group_id, quarantine_reason, updated_at,
                       (SELECT count(*) FROM deliveries d WHERE d.session_id = s.session_id
                          AND d.lane >= '' AND d.state >= 'queued')
                     FROM sessions s
                     WHERE (NOT ?1 OR quarantine_reason IS NOT NULL) ORDER BY session_id",
                )?
                .query_map(params![filter.quarantined], |row| {
                    Ok(SessionRecord {
                        session_id: row.get(0)?,
                        agent_group_id: row.get(1)?,
                        quarantine_reason: row.get(2)?,
                        updated_at: Timestamp::from_ms(row.get(3)?).to_iso(),
                        waiting: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
                    })
                })?
                .collect()
        })
    }
}

fn failed_attempts(connection: &Connection, key: &DeliveryKey) -> rusqlite::Result<Vec<AttemptRecord>> {
    connection
        .prepare_cached(
            "SELECT attempt, ended_at, error_class, error FROM attempts
             WHERE session_id = ?1 AND message_id = ?2 ORDER BY ended_at, attempt",
        )?
        .query_map(params![key.session_id.as_str(), key.message_id.as_str()], |row| {
            Ok(AttemptRecord {
                attempt: row.get(0)?,
                ended_at: Timestamp::from_ms(row.get(1)?).to_iso(),
                error_class: row.get(2)?,
                error: row.get(3)?,
            })
        })?
        .collect()
}

/// The keys of listed deliveries. One that is no key cannot be in the ledger.
pub fn keys_of(records: &[DeliveryRecord]) -> Vec<DeliveryKey> {
    let key = |record: &DeliveryRecord| {
        let session_id = SessionId::new(&record.session_id).ok()?;
        Some(DeliveryKey { session_id, message_id: MessageId::new(&record.message_id).ok()? })
    };
    records.iter().filter_map(key).collect()
}

/// Keeps those that can be replayed, in the order in which they should be: in each lane as the agent wrote them, and no
/// session after another's thousands.
pub fn in_replay_order(records: &mut Vec<DeliveryRecord>) {
    records.retain(|record| record.state.is_replayable());
    records.sort_by(|a, b| (a.seq, &a.session_id).cmp(&(b.seq, &b.session_id)));
}
