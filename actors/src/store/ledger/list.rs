//! The operator's list of sessions.

use super::LedgerReader;
use crate::model::time::Timestamp;
use crate::report::{SessionFilter, SessionRecord};
use crate::store::error::StoreError;
use rusqlite::params;

impl LedgerReader {
    /// The sessions that match, by id.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        self.with(|connection| {
            connection
                .prepare(
                    "SELECT session_id, agent_group_id, quarantine_reason, updated_at,
                       (SELECT count(*) FROM deliveries d WHERE d.session_id = s.session_id
                          AND d.state IN ('queued','sending','retrying'))
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
