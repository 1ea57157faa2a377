//! Which parts of a message the platform has, when an adapter sends it in several.

use super::{LedgerReader, LedgerTransaction};
use crate::limits::PARTS_PER_MESSAGE_MAX;
use crate::model::message::DeliveryKey;
use crate::model::part::SentPart;
use crate::store::error::StoreError;
use rusqlite::{Connection, params};

/// Made in every ledger, whatever its version: an older host ignores it.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS parts (
  session_id          TEXT NOT NULL,
  message_id          TEXT NOT NULL,
  part                INTEGER NOT NULL,
  end                 INTEGER NOT NULL,
  platform_message_id TEXT,
  PRIMARY KEY (session_id, message_id, part)
) WITHOUT ROWID;
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLE)?)
}

impl LedgerTransaction<'_> {
    /// Records that the platform has accepted one more part of a message. Returns whether there was room for it.
    pub fn add_part(&mut self, key: &DeliveryKey, part: &SentPart) -> Result<bool, StoreError> {
        let added = self
            .transaction
            .prepare_cached(
                "INSERT INTO parts
                 SELECT ?1, ?2, number, ?3, ?4
                 FROM (SELECT coalesce(max(part), 0) + 1 AS number FROM parts
                       WHERE session_id = ?1 AND message_id = ?2)
                 WHERE number <= ?5",
            )?
            .execute(params![
                key.session_id.as_str(),
                key.message_id.as_str(),
                i64::try_from(part.end).unwrap_or(i64::MAX),
                part.platform_message_id,
                PARTS_PER_MESSAGE_MAX,
            ])?;
        Ok(added == 1)
    }
}

impl LedgerReader {
    /// The parts of a message that the platform has, in order.
    pub fn sent_parts(&self, key: &DeliveryKey) -> Result<Vec<SentPart>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT end, platform_message_id FROM parts
                     WHERE session_id = ?1 AND message_id = ?2 ORDER BY part",
                )?
                .query_map(params![key.session_id.as_str(), key.message_id.as_str()], |row| {
                    let end = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
                    Ok(SentPart { end, platform_message_id: row.get(1)? })
                })?
                .collect()
        })
    }
}
