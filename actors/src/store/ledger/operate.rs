//! What an operator does to deliveries.

use super::LedgerTransaction;
use super::attempt::Effect;
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::model::error::ErrorClass;
use crate::model::ids::SessionId;
use crate::model::message::{DeliveryKey, Lane};
use crate::model::text::bounded;
use crate::model::time::Timestamp;
use crate::report::{DeliveryState, Intervention, ReplayRate, Resolution};
use crate::store::error::StoreError;
use rusqlite::{OptionalExtension, params};
use std::time::Duration;

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
    /// Puts a dead, held or ambiguous delivery back into its lane with fresh attempts, to be sent at `due` or at
    /// once. Returns whether it was one.
    pub fn replay(
        &mut self,
        key: &DeliveryKey,
        due: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        // What an operator releases is not held back for the same reason again.
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO releases SELECT session_id, message_id FROM deliveries
                 WHERE session_id = ?1 AND message_id = ?2 AND state = 'held' AND error_class = ?3",
            )?
            .execute(params![
                key.session_id.as_str(),
                key.message_id.as_str(),
                ErrorClass::AgentBudget.as_str()
            ])?;
        let changed = self
            .transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 'queued', attempts = 0, first_due_at = coalesce(?3, ?4),
                   next_attempt_at = ?3, projected = 1, updated_at = ?4
                 WHERE session_id = ?1 AND message_id = ?2 AND state IN ('dead', 'held', 'ambiguous')",
            )?
            .execute(params![
                key.session_id.as_str(),
                key.message_id.as_str(),
                due.map(Timestamp::as_ms),
                now.as_ms()
            ])?;
        Ok(changed == 1)
    }

    /// Replays several, of which `before` others came first at this rate. Returns how many were put back.
    pub fn replay_many(
        &mut self,
        keys: &[DeliveryKey],
        rate: Option<ReplayRate>,
        before: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut count = 0;
        for key in keys {
            let delay = rate.map_or(Duration::ZERO, |rate| rate.delay_of(before + count));
            let due = Some(now.plus(delay)).filter(|_| !delay.is_zero());
            count += usize::from(self.replay(key, due, now)?);
        }
        Ok(count)
    }

    /// Settles an ambiguous delivery as an operator says. Returns whether it was one.
    pub fn resolve(
        &mut self,
        key: &DeliveryKey,
        resolution: &Resolution,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (session, message) = (key.session_id.as_str(), key.message_id.as_str());
        let changed = match resolution {
            Resolution::Delivered { platform_message_id } => self.transaction.execute(
                "UPDATE deliveries SET state = 'delivered', effect = ?3, platform_message_id = ?4,
                   error_class = NULL, error = NULL, next_attempt_at = NULL, projected = 0, updated_at = ?5
                 WHERE session_id = ?1 AND message_id = ?2 AND state = 'ambiguous'",
                params![session, message, Effect::Delivered.as_str(), platform_message_id, now.as_ms()],
            )?,
            // The error stays: it tells that the message was tried.
            Resolution::NotDelivered => self.transaction.execute(
                "UPDATE deliveries SET state = 'queued', attempts = max(0, attempts - 1), first_due_at = ?3,
                   next_attempt_at = NULL, updated_at = ?3
                 WHERE session_id = ?1 AND message_id = ?2 AND state = 'ambiguous'",
                params![session, message, now.as_ms()],
            )?,
        };
        Ok(changed == 1)
    }

    /// Gives a message up for an operator. Its agent is told. `is_handed_over` says whether it is on its way to another
    /// agent. Returns until when its lane would have waited for it, too.
    pub fn cancel(
        &mut self,
        key: &DeliveryKey,
        reason: &str,
        is_handed_over: &dyn Fn(&DeliveryKey) -> bool,
        now: Timestamp,
    ) -> Result<(Intervention, Option<Timestamp>), StoreError> {
        let (found, waits_until) = self.changeable(key, DeliveryState::is_cancellable, is_handed_over)?;
        if found == Intervention::Done {
            let words = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            self.transaction
                .prepare_cached(
                    "UPDATE deliveries SET state = 'dead', error_class = ?3, error = ?4, next_attempt_at = NULL,
                       projected = 0, updated_at = ?5
                     WHERE session_id = ?1 AND message_id = ?2",
                )?
                .execute(params![
                    key.session_id.as_str(),
                    key.message_id.as_str(),
                    ErrorClass::Cancelled.as_str(),
                    bounded(format!("cancelled by an operator{words}"), ERROR_TEXT_BYTES_MAX),
                    now.as_ms()
                ])?;
        }
        Ok((found, waits_until))
    }

    /// Sends a message not before a time. It leaves its lane and joins it then, like one with a deliver_after; its age
    /// begins then, its attempts stay. See [`LedgerTransaction::cancel`].
    pub fn snooze(
        &mut self,
        key: &DeliveryKey,
        until: Timestamp,
        is_handed_over: &dyn Fn(&DeliveryKey) -> bool,
        now: Timestamp,
    ) -> Result<(Intervention, Option<Timestamp>), StoreError> {
        let waits = |state| matches!(state, DeliveryState::Queued | DeliveryState::Retrying);
        let (found, waits_until) = self.changeable(key, waits, is_handed_over)?;
        if found == Intervention::Done {
            self.transaction.execute(
                "UPDATE deliveries SET state = 'queued', first_due_at = ?3, next_attempt_at = ?3, updated_at = ?4
                 WHERE session_id = ?1 AND message_id = ?2",
                params![key.session_id.as_str(), key.message_id.as_str(), until.as_ms(), now.as_ms()],
            )?;
        }
        Ok((found, waits_until))
    }

    /// Whether an operator may change a message now, and until when its lane waits for it.
    fn changeable(
        &mut self,
        key: &DeliveryKey,
        is_suitable: impl Fn(DeliveryState) -> bool,
        is_handed_over: &dyn Fn(&DeliveryKey) -> bool,
    ) -> Result<(Intervention, Option<Timestamp>), StoreError> {
        let found = self
            .transaction
            .prepare_cached(
                "SELECT state, lane, next_attempt_at FROM deliveries WHERE session_id = ?1 AND message_id = ?2",
            )?
            .query_row(params![key.session_id.as_str(), key.message_id.as_str()], |row| {
                Ok((state_of(row, 0)?, row.get::<_, String>(1)?, row.get::<_, Option<i64>>(2)?))
            })
            .optional()?;
        let Some((state, lane, next_attempt_at)) = found else { return Ok((Intervention::Unknown, None)) };
        let found = match state {
            DeliveryState::Sending => Intervention::InFlight,
            state if !is_suitable(state) => Intervention::Unsuitable(state),
            _ if lane == Lane::System.key() => Intervention::SystemAction,
            _ if is_handed_over(key) => Intervention::InFlight,
            _ => Intervention::Done,
        };
        Ok((found, next_attempt_at.map(Timestamp::from_ms)))
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
}
