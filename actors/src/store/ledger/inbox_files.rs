//! Attachments on their way into an inbox: written down before they are copied, until their row is there too.
//!
//! A host that dies in between leaves files that no row names. The next one finds them here and removes them.

use super::{LedgerReader, LedgerTransaction};
use crate::model::ids::{MessageId, PathComponent, SessionId};
use crate::store::error::StoreError;
use rusqlite::{Connection, params};

/// Made in every ledger, whatever its version: an older host ignores it.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS inbox_files (
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  folder     TEXT NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLE)?)
}

/// A message whose attachments are being copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxFiles {
    /// The row that will name them.
    pub message_id: MessageId,
    /// Their folder in `inbox/`.
    pub folder: PathComponent,
}

impl LedgerTransaction<'_> {
    /// Takes note that attachments are about to be copied.
    pub fn expect_inbox_files(
        &mut self,
        session: &SessionId,
        files: &[InboxFiles],
    ) -> Result<(), StoreError> {
        let mut statement =
            self.transaction.prepare_cached("INSERT OR REPLACE INTO inbox_files VALUES (?1, ?2, ?3)")?;
        for InboxFiles { message_id, folder } in files {
            statement.execute(params![session.as_str(), message_id.as_str(), folder.as_str()])?;
        }
        Ok(())
    }

    /// Takes note that they have their row, or are gone.
    pub fn forget_inbox_files(
        &mut self,
        session: &SessionId,
        files: &[InboxFiles],
    ) -> Result<(), StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("DELETE FROM inbox_files WHERE session_id = ?1 AND message_id = ?2")?;
        for InboxFiles { message_id, .. } in files {
            statement.execute(params![session.as_str(), message_id.as_str()])?;
        }
        Ok(())
    }
}

impl LedgerReader {
    /// Attachments of a session that may have no row.
    pub fn inbox_files(&self, session: &SessionId) -> Result<Vec<InboxFiles>, StoreError> {
        let rows: Vec<(String, String)> = self.with(|connection| {
            connection
                .prepare_cached("SELECT message_id, folder FROM inbox_files WHERE session_id = ?1")?
                .query_map([session.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        let files = |(message_id, folder): (String, String)| {
            Some(InboxFiles {
                message_id: MessageId::new(&message_id).ok()?,
                folder: PathComponent::new(&folder).ok()?,
            })
        };
        Ok(rows.into_iter().filter_map(files).collect())
    }
}
