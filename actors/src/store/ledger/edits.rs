//! What an agent changed about a message before it was sent.
//!
//! The message's own row stays as it is in `outbound.db`. The change is kept here, because whoever sends the message
//! may have its content in memory already: the attempt asks the ledger, in the transaction in which it begins.

use super::{Admission, Effect, LedgerTransaction};
use crate::limits::{MERGED_EDIT_BYTES_MAX, MERGED_EDITS_PER_SESSION_MAX};
use crate::model::error::ErrorClass;
use crate::model::ids::SessionId;
use crate::model::message::Lane;
use crate::model::revision::{Change, Revision};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

/// Made in every ledger, whatever its version: an older host ignores it.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS edits (
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  edit_id    TEXT NOT NULL,
  content    TEXT NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLES)?)
}

/// What became of a row that changes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    /// The other one is sent with the new content.
    Edited,
    /// The other one is dead: it is not sent at all.
    Cancelled,
    /// The other one is not waiting any more, or may have been sent: the row goes out like any other.
    No,
}

impl LedgerTransaction<'_> {
    /// Carries out the change that a new row asks for, when the message that it names still waits in the same lane and
    /// was surely not sent. The row itself is settled then.
    pub(super) fn merge(
        &mut self,
        session: &SessionId,
        admission: &Admission,
        now: Timestamp,
    ) -> Result<Merged, StoreError> {
        let (Some(revision), Lane::Channel(_)) = (&admission.revision, &admission.lane) else {
            return Ok(Merged::No);
        };
        let Some(target) = self.waiting_target(session, admission, revision)? else { return Ok(Merged::No) };
        let merged = match &revision.change {
            Change::Edit(content) => {
                if content.len() > MERGED_EDIT_BYTES_MAX || !self.has_room_for_edit(session)? {
                    return Ok(Merged::No);
                }
                self.transaction.execute(
                    "INSERT INTO edits VALUES (?1, ?2, ?3, ?4) ON CONFLICT(session_id, message_id)
                     DO UPDATE SET edit_id = excluded.edit_id, content = excluded.content",
                    params![session.as_str(), target, admission.message_id.as_str(), &**content],
                )?;
                Merged::Edited
            }
            Change::Delete => {
                self.transaction.execute(
                    "UPDATE deliveries SET state = 'dead', error_class = ?3, error = ?4, next_attempt_at = NULL,
                       projected = 0, updated_at = ?5 WHERE session_id = ?1 AND message_id = ?2",
                    params![
                        session.as_str(),
                        target,
                        ErrorClass::Cancelled.as_str(),
                        "deleted by the agent before it was sent",
                        now.as_ms()
                    ],
                )?;
                Merged::Cancelled
            }
        };
        self.transaction.execute(
            "UPDATE deliveries SET state = 'delivered', effect = ?3, projected = 0, updated_at = ?4
             WHERE session_id = ?1 AND message_id = ?2",
            params![session.as_str(), admission.message_id.as_str(), Effect::Merged.as_str(), now.as_ms()],
        )?;
        Ok(merged)
    }

    /// Whether one more edit of a session may be kept; forgets those that have been sent.
    fn has_room_for_edit(&mut self, session: &SessionId) -> Result<bool, StoreError> {
        if self.count_edits(session)? < MERGED_EDITS_PER_SESSION_MAX {
            return Ok(true);
        }
        self.transaction.execute(
            "DELETE FROM edits WHERE session_id = ?1 AND message_id IN
               (SELECT e.message_id FROM edits e JOIN deliveries d
                  ON d.session_id = e.session_id AND d.message_id = e.message_id
                WHERE e.session_id = ?1 AND d.state = 'delivered')",
            [session.as_str()],
        )?;
        Ok(self.count_edits(session)? < MERGED_EDITS_PER_SESSION_MAX)
    }

    fn count_edits(&mut self, session: &SessionId) -> Result<i64, StoreError> {
        let mut statement =
            self.transaction.prepare_cached("SELECT count(*) FROM edits WHERE session_id = ?1")?;
        Ok(statement.query_row([session.as_str()], |row| row.get(0))?)
    }

    /// The message that a revision names, by its id or by its seq. One of which an attempt, or a part, may have arrived is
    /// none.
    fn waiting_target(
        &mut self,
        session: &SessionId,
        admission: &Admission,
        revision: &Revision,
    ) -> Result<Option<String>, StoreError> {
        // Two statements: each is one look at an index, however long the lane is.
        let by_id =
            "SELECT message_id FROM deliveries d WHERE session_id = ?1 AND message_id = ?3 AND lane = ?2";
        let by_seq = "SELECT message_id FROM deliveries d WHERE session_id = ?1 AND lane = ?2 AND seq = ?3
                        AND state >= 'queued'";
        let found = self.waiting(by_id, session, admission, &revision.message_id)?;
        match (found, revision.seq) {
            (None, Some(seq)) => self.waiting(by_seq, session, admission, &seq),
            (found, _) => Ok(found),
        }
    }

    fn waiting(
        &mut self,
        named: &str,
        session: &SessionId,
        admission: &Admission,
        name: &dyn ToSql,
    ) -> Result<Option<String>, StoreError> {
        let sql = format!(
            "{named} AND state IN ('queued','retrying') AND kind = 'chat' AND seq <= ?4 AND message_id <> ?5
               AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.session_id = d.session_id
                                 AND a.message_id = d.message_id AND a.error_class = 'ambiguous')
               AND NOT EXISTS (SELECT 1 FROM parts p WHERE p.session_id = d.session_id
                                 AND p.message_id = d.message_id)"
        );
        let mut statement = self.transaction.prepare_cached(&sql)?;
        let (lane, edit) = (admission.lane.key(), admission.message_id.as_str());
        let found = statement
            .query_row(params![session.as_str(), lane, name, admission.seq, edit], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    /// Forgets changes of messages that are delivered, at most `limit`. Returns how many went.
    pub fn prune_edits(&mut self, limit: usize) -> Result<usize, StoreError> {
        let pruned = self.transaction.execute(
            "DELETE FROM edits WHERE (session_id, message_id) IN
               (SELECT e.session_id, e.message_id FROM edits e JOIN deliveries d
                  ON d.session_id = e.session_id AND d.message_id = e.message_id
                WHERE d.state = 'delivered' LIMIT ?1)",
            [i64::try_from(limit).unwrap_or(i64::MAX)],
        )?;
        Ok(pruned)
    }
}
