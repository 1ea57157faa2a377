//! Forgetting what was settled long ago.
//!
//! Pruning a row raises its session's low-water mark in the same transaction: a row that is read again from
//! `outbound.db` is then known to be one that may have been sent. Rows at the session's cursor stay, because a row
//! without a seq takes the cursor's.

use super::{LedgerReader, LedgerTransaction, state_of};
use crate::limits::AGENT_CHAIN_WINDOW;
use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::store::error::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A settled message that `inbound.db` knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledRow {
    /// The session.
    pub session_id: String,
    /// The message.
    pub message_id: String,
    /// `delivered`, `dead`, `held` or `ambiguous`.
    pub state: DeliveryState,
    /// When it was settled.
    pub settled_at: Timestamp,
}

/// A part of the ledger, in the order of its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledPage {
    /// Its settled rows.
    pub rows: Vec<SettledRow>,
    /// How many rows of any state were looked at.
    pub looked_at: usize,
    /// The key of the last row; where the next page begins. None at the end.
    pub next: Option<(String, String)>,
}

/// How large the ledger is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerSize {
    /// What its rows and indexes take, in bytes.
    pub used_bytes: u64,
    /// What is free for new ones, in bytes.
    pub free_bytes: u64,
}

impl LedgerReader {
    /// Looks at most `limit` rows after a key.
    pub fn settled_page(
        &self,
        after: Option<&(String, String)>,
        limit: usize,
    ) -> Result<SettledPage, StoreError> {
        let (session, message) = after.map_or(("", ""), |(session, message)| (session, message));
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT session_id, message_id, state, updated_at, projected FROM deliveries
                 WHERE (session_id, message_id) > (?1, ?2) ORDER BY session_id, message_id LIMIT ?3",
            )?;
            let mut rows =
                statement.query(params![session, message, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let mut page = SettledPage::default();
            while let Some(row) = rows.next()? {
                page.looked_at += 1;
                let settled = settled_row(row)?;
                page.next = Some((settled.session_id.clone(), settled.message_id.clone()));
                if row.get(4)? && is_settled(settled.state) {
                    page.rows.push(settled);
                }
            }
            if page.looked_at < limit {
                page.next = None;
            }
            Ok(page)
        })
    }

    /// The dead, held and ambiguous messages of a session that changed longest ago.
    pub fn oldest_dead(&self, session: &str, limit: usize) -> Result<Vec<SettledRow>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT session_id, message_id, state, updated_at FROM deliveries
                     WHERE session_id = ?1 AND state IN ('dead','held','ambiguous') AND projected = 1
                     ORDER BY updated_at LIMIT ?2",
                )?
                .query_map(params![session, i64::try_from(limit).unwrap_or(i64::MAX)], settled_row)?
                .collect()
        })
    }

    /// How large the ledger is.
    pub fn size(&self) -> Result<LedgerSize, StoreError> {
        self.with(size)
    }
}

fn size(connection: &Connection) -> rusqlite::Result<LedgerSize> {
    let number = |name: &str| -> rusqlite::Result<u64> {
        let value: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
        Ok(u64::try_from(value).unwrap_or(0))
    };
    let (pages, free, page_bytes) = (number("page_count")?, number("freelist_count")?, number("page_size")?);
    Ok(LedgerSize { used_bytes: pages.saturating_sub(free) * page_bytes, free_bytes: free * page_bytes })
}

fn settled_row(row: &Row<'_>) -> rusqlite::Result<SettledRow> {
    Ok(SettledRow {
        session_id: row.get(0)?,
        message_id: row.get(1)?,
        state: state_of(row, 2)?,
        settled_at: Timestamp::from_ms(row.get(3)?),
    })
}

fn is_settled(state: DeliveryState) -> bool {
    state == DeliveryState::Delivered || state.is_replayable()
}

impl LedgerTransaction<'_> {
    /// Forgets settled messages, and what was tried for them. One that has changed since it was looked at stays, and
    /// so does one at its session's cursor. Returns how many went.
    pub fn prune(&mut self, rows: &[SettledRow]) -> Result<usize, StoreError> {
        let mut pruned = 0;
        for row in rows {
            pruned += usize::from(self.prune_one(row)?);
        }
        Ok(pruned)
    }

    fn prune_one(&mut self, row: &SettledRow) -> Result<bool, StoreError> {
        let (session, message) = (row.session_id.as_str(), row.message_id.as_str());
        // A row without a usable id has no seq of its own. It is dead whenever it is read.
        let deleted: Option<(i64, bool)> = self
            .transaction
            .prepare_cached(
                "DELETE FROM deliveries
                 WHERE session_id = ?1 AND message_id = ?2 AND state = ?3 AND updated_at = ?4 AND projected = 1
                   AND (seq < (SELECT cursor_seq FROM sessions WHERE session_id = ?1)
                        OR (lane = 'nowhere' AND seq = 9223372036854775807))
                 RETURNING seq, seq < 9223372036854775807",
            )?
            .query_row(params![session, message, row.state.as_str(), row.settled_at.as_ms()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((seq, has_seq)) = deleted else { return Ok(false) };
        for companion in [
            "DELETE FROM attempts WHERE session_id = ?1 AND message_id = ?2",
            "DELETE FROM edits WHERE session_id = ?1 AND message_id = ?2",
            "DELETE FROM releases WHERE session_id = ?1 AND message_id = ?2",
            "DELETE FROM parts WHERE session_id = ?1 AND message_id = ?2",
        ] {
            self.transaction.prepare_cached(companion)?.execute(params![session, message])?;
        }
        if has_seq {
            self.transaction
                .prepare_cached(
                    "UPDATE sessions SET low_water_seq = max(low_water_seq, ?2) WHERE session_id = ?1",
                )?
                .execute(params![session, seq])?;
        }
        Ok(true)
    }

    /// Forgets messages between agents that are too old to matter, at most `limit`. Returns how many went.
    pub fn prune_agent_messages(&mut self, limit: usize, now: Timestamp) -> Result<usize, StoreError> {
        let window_ms = i64::try_from(AGENT_CHAIN_WINDOW.as_millis()).unwrap_or(i64::MAX);
        let pruned = self.transaction.execute(
            "DELETE FROM agent_messages WHERE (target_session, inbox_id) IN
               (SELECT target_session, inbox_id FROM agent_messages WHERE routed_at <= ?1
                ORDER BY routed_at LIMIT ?2)",
            params![now.as_ms().saturating_sub(window_ms), i64::try_from(limit).unwrap_or(i64::MAX)],
        )?;
        Ok(pruned)
    }

    /// Gives at most `pages` free pages back to the file system. Returns how large the ledger is then.
    pub fn give_back(&mut self, pages: u32) -> Result<LedgerSize, StoreError> {
        let mut statement = self.transaction.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        // Each step frees a page.
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        Ok(size(self.transaction)?)
    }

    /// Up to where a session's rows were settled, whether the ledger still knows them or not.
    pub fn low_water_seq(&mut self, session: &SessionId) -> Result<Option<i64>, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT low_water_seq FROM sessions WHERE session_id = ?1 AND cursor_seq >= 0")?;
        Ok(statement.query_row([session.as_str()], |row| row.get(0)).optional()?)
    }
}
