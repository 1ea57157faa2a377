//! Sessions at rest, as they were: a host that starts need not look at those whose files have not changed since.

use super::{LedgerReader, LedgerTransaction};
use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::session_dir::FileIdentity;
use rusqlite::{Connection, Row, params};
use std::collections::HashMap;

/// Made in every ledger, whatever its version: an older host ignores it. A mark that is out of date does no harm: its
/// files have changed.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS rest_marks (
  session_id TEXT PRIMARY KEY,
  outbound   BLOB,
  inbound    BLOB,
  heartbeat  INTEGER,
  due_at     INTEGER,
  tasks      INTEGER NOT NULL
) WITHOUT ROWID;
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLE)?)
}

/// A session in which nothing is to be done before one of its files changes, or before its next task is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestMark {
    /// `outbound.db`, all of which was read; `None` when there was none.
    pub outbound: Option<FileIdentity>,
    /// `inbound.db`; `None` when there was none.
    pub inbound: Option<FileIdentity>,
    /// The agent's last sign of life.
    pub heartbeat: Option<Timestamp>,
    /// When the next task is due.
    pub due_at: Option<Timestamp>,
    /// Tasks that have still to run.
    pub tasks: usize,
}

impl LedgerTransaction<'_> {
    /// Keeps marks for the next start.
    pub fn save_rest_marks(&mut self, marks: &[(SessionId, RestMark)]) -> Result<(), StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("INSERT OR REPLACE INTO rest_marks VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for (session, mark) in marks {
            statement.execute(params![
                session.as_str(),
                mark.outbound.map(FileIdentity::to_bytes),
                mark.inbound.map(FileIdentity::to_bytes),
                mark.heartbeat.map(Timestamp::as_ms),
                mark.due_at.map(Timestamp::as_ms),
                i64::try_from(mark.tasks).unwrap_or(i64::MAX),
            ])?;
        }
        Ok(())
    }
}

impl LedgerReader {
    /// The marks that were kept.
    pub fn rest_marks(&self) -> Result<HashMap<SessionId, RestMark>, StoreError> {
        self.with(|connection| {
            connection
                .prepare("SELECT session_id, outbound, inbound, heartbeat, due_at, tasks FROM rest_marks")?
                .query_map([], read_mark)?
                .filter_map(Result::transpose)
                .collect()
        })
    }
}

fn read_mark(row: &Row<'_>) -> rusqlite::Result<Option<(SessionId, RestMark)>> {
    let file = |column| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 32]>>(column)?.map(FileIdentity::from_bytes))
    };
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_ms));
    let mark = RestMark {
        outbound: file(1)?,
        inbound: file(2)?,
        heartbeat: time(3)?,
        due_at: time(4)?,
        tasks: usize::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
    };
    Ok(SessionId::new(&row.get::<_, String>(0)?).ok().map(|session| (session, mark)))
}
