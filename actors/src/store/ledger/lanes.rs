//! Lanes as the operator sees them: what stands first, and how many wait behind it.

use super::{LedgerReader, LedgerTransaction, state_of};
use crate::model::ids::{MessageId, SessionId};
use crate::model::lane_name;
use crate::model::time::Timestamp;
use crate::report::{DeliveryState, LaneFilter, LaneRecord};
use crate::store::error::StoreError;
use rusqlite::{OptionalExtension, Row, params};

/// What came of the wish to park the first message of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parked {
    /// It is held now. Without that it would have waited until then.
    Held(MessageId, Timestamp),
    /// It is being sent at this moment.
    Sending(MessageId),
    /// Nothing holds the lane up.
    NotBlocked,
}

/// The first of a lane's messages that wait for a retry, or of its others.
struct Head {
    record: LaneRecord,
    lane_key: String,
    channel_type: Option<String>,
    waits_for_retry: bool,
    count: u64,
}

impl LedgerReader {
    /// The lanes that hold something to be sent now or to be tried again, by session. `postpones` says of a channel
    /// type whether its retries let their lane go on.
    pub fn lanes(
        &self,
        filter: &LaneFilter,
        now: Timestamp,
        postpones: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<LaneRecord>, StoreError> {
        let heads: Vec<Head> = self.with(|connection| {
            // SQLite takes the other columns from the row that has the least seq.
            connection
                .prepare(
                    "SELECT session_id, lane, message_id, min(seq), state, attempts, error_class, error,
                       next_attempt_at, channel_type, state = 'retrying' AND next_attempt_at > ?1, count(*),
                       (SELECT min(ended_at) FROM attempts a WHERE a.session_id = d.session_id
                          AND a.message_id = d.message_id), first_due_at
                     FROM deliveries d
                     WHERE state >= 'queued' AND (?2 IS NULL OR session_id = ?2)
                       AND NOT (state = 'queued' AND next_attempt_at IS NOT NULL AND next_attempt_at > ?1)
                     GROUP BY session_id, lane, 11 ORDER BY session_id, lane",
                )?
                .query_map(params![now.as_ms(), filter.session_id], head)?
                .collect()
        })?;
        let mut lanes: Vec<Head> = Vec::new();
        for head in heads {
            let postponed = head.waits_for_retry && head.channel_type.as_deref().is_some_and(postpones);
            match lanes.last_mut() {
                _ if postponed => {}
                Some(lane) if lane.is_same_lane(&head) => lane.join(head),
                _ => lanes.push(head),
            }
        }
        let records =
            lanes.into_iter().map(|lane| LaneRecord { waiting_behind: lane.count - 1, ..lane.record });
        Ok(records.filter(|record| record.is_blocked || !filter.blocked).collect())
    }
}

impl Head {
    fn is_same_lane(&self, other: &Head) -> bool {
        self.record.session_id == other.record.session_id && self.lane_key == other.lane_key
    }

    fn join(&mut self, other: Head) {
        let count = self.count + other.count;
        if other.record.head_seq < self.record.head_seq {
            *self = other;
        }
        self.count = count;
    }
}

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    let state = state_of(row, 4)?;
    let attempts: u32 = row.get(5)?;
    let time = |ms: i64| Timestamp::from_ms(ms).to_iso();
    let first_failure: Option<i64> = row.get(12)?;
    let lane_key: String = row.get(1)?;
    let record = LaneRecord {
        session_id: row.get(0)?,
        lane: lane_name::name_of(&lane_key),
        head_message_id: row.get(2)?,
        head_seq: row.get(3)?,
        state,
        is_blocked: state == DeliveryState::Retrying || state == DeliveryState::Sending && attempts > 1,
        attempts,
        error_class: row.get(6)?,
        error: row.get(7)?,
        next_attempt_at: row.get::<_, Option<i64>>(8)?.map(time),
        since: time(first_failure.map_or_else(|| row.get(13), Ok)?),
        waiting_behind: 0,
    };
    Ok(Head {
        record,
        lane_key,
        channel_type: row.get(9)?,
        waits_for_retry: row.get::<_, Option<bool>>(10)?.unwrap_or(false),
        count: u64::try_from(row.get::<_, i64>(11)?).unwrap_or(0),
    })
}

impl LedgerTransaction<'_> {
    /// Holds the first message of a lane back for an operator, when it waits for a retry.
    pub fn park_head(
        &mut self,
        session: &SessionId,
        lane_key: &str,
        now: Timestamp,
    ) -> Result<Parked, StoreError> {
        let found = self
            .transaction
            .query_row(
                "SELECT message_id, state, next_attempt_at FROM deliveries
                 WHERE session_id = ?1 AND lane = ?2 AND state >= 'queued'
                   AND NOT (state = 'queued' AND next_attempt_at IS NOT NULL AND next_attempt_at > ?3)
                 ORDER BY seq, message_id LIMIT 1",
                params![session.as_str(), lane_key, now.as_ms()],
                |row| Ok((row.get::<_, String>(0)?, state_of(row, 1)?, row.get::<_, Option<i64>>(2)?)),
            )
            .optional()?;
        let Some((message, state, next_attempt_at)) = found else { return Ok(Parked::NotBlocked) };
        let message = MessageId::new(&message).map_err(|error| StoreError::Limit(error.to_string()))?;
        match state {
            DeliveryState::Sending => return Ok(Parked::Sending(message)),
            DeliveryState::Retrying => {}
            _ => return Ok(Parked::NotBlocked),
        }
        let is_told = self.lane_has_held(session, &message)?;
        self.transaction.execute(
            "UPDATE deliveries SET state = 'held', error = 'parked by an operator: ' || coalesce(error, ''),
               next_attempt_at = NULL, projected = ?3, updated_at = ?4
             WHERE session_id = ?1 AND message_id = ?2",
            params![session.as_str(), message.as_str(), is_told, now.as_ms()],
        )?;
        Ok(Parked::Held(message, next_attempt_at.map_or(now, Timestamp::from_ms)))
    }
}
