//! What an operator does to deliveries.

use super::LedgerTransaction;
use crate::model::ids::SessionId;
use crate::model::message::DeliveryKey;
use crate::model::time::Timestamp;
use crate::report::{DeliveryFilter, DeliveryState};
use crate::store::error::StoreError;
use rusqlite::params;

/// The state of that name; a name that no version wrote means a damaged ledger.
pub fn parse_state(name: &str) -> Result<DeliveryState, StoreError> {
    DeliveryState::from_name(name).ok_or_else(|| StoreError::Corrupt {
        file: super::LEDGER_FILE.to_owned(),
        reason: format!("unknown delivery state {name:?}"),
    })
}

/// The same, inside a rusqlite row callback.
pub fn state_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<DeliveryState> {
    let name: String = row.get(column)?;
    parse_state(&name).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

impl LedgerTransaction<'_> {
    /// Puts a dead, held or ambiguous delivery back into its lane with fresh attempts. Returns whether it was
    /// one.
    pub fn replay(&mut self, key: &DeliveryKey, now: Timestamp) -> Result<bool, StoreError> {
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO releases SELECT session_id, message_id FROM deliveries
                 WHERE session_id = ?1 AND message_id = ?2 AND state = 'held'",
            )?
            .execute(params![key.session_id.as_str(), key.message_id.as_str()])?;
        let changed = self
            .transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 'queued', attempts = 0, first_due_at = ?3,
                   next_attempt_at = NULL, projected = 1, updated_at = ?3
                 WHERE session_id = ?1 AND message_id = ?2 AND state IN ('dead', 'held', 'ambiguous')",
            )?
            .execute(params![key.session_id.as_str(), key.message_id.as_str(), now.as_ms()])?;
        Ok(changed == 1)
    }

    /// Clears the reason why a session cannot be served. Returns whether there was one.
    pub fn release_session(&mut self, session: &SessionId, now: Timestamp) -> Result<bool, StoreError> {
        let changed = self.transaction.execute(
            "UPDATE sessions SET quarantine_reason = NULL, updated_at = ?2
             WHERE session_id = ?1 AND quarantine_reason IS NOT NULL",
            params![session.as_str(), now.as_ms()],
        )?;
        Ok(changed == 1)
    }

    /// Replays every dead, held or ambiguous delivery that matches. Returns the sessions and the count.
    pub fn replay_matching(
        &mut self,
        filter: &DeliveryFilter,
        now: Timestamp,
    ) -> Result<(Vec<SessionId>, usize), StoreError> {
        let mut sessions = std::collections::BTreeSet::new();
        let mut count = 0;
        let states = [DeliveryState::Dead, DeliveryState::Held, DeliveryState::Ambiguous];
        if filter.states.is_empty() || filter.states.contains(&DeliveryState::Held) {
            // What an operator releases is not held back for the same reason again.
            self.transaction.execute(
                "INSERT OR IGNORE INTO releases SELECT session_id, message_id FROM deliveries
                 WHERE state = 'held' AND (?1 IS NULL OR session_id = ?1) AND (?2 IS NULL OR message_id = ?2)",
                params![filter.session_id, filter.message_id],
            )?;
        }
        for state in
            states.into_iter().filter(|state| filter.states.is_empty() || filter.states.contains(state))
        {
            let mut statement = self.transaction.prepare(
                "UPDATE deliveries SET state = 'queued', attempts = 0, first_due_at = ?4,
                   next_attempt_at = NULL, projected = 1, updated_at = ?4
                 WHERE state = ?1 AND (?2 IS NULL OR session_id = ?2) AND (?3 IS NULL OR message_id = ?3)
                 RETURNING session_id",
            )?;
            let rows = statement.query_map(
                params![state.as_str(), filter.session_id, filter.message_id, now.as_ms()],
                |row| row.get::<_, String>(0),
            )?;
            for row in rows {
                count += 1;
                sessions.extend(SessionId::new(&row?).ok());
            }
        }
        Ok((sessions.into_iter().collect(), count))
    }
}
