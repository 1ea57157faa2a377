//! The ledger's tables.

use crate::store::error::StoreError;
use rusqlite::Connection;

/// Version of the tables below, kept in `user_version`.
const SCHEMA_VERSION: i64 = 1;

/// Times are milliseconds since 1970. `lane` is [`crate::model::message::Lane::key`].
///
/// `deliveries.projected` is 0 from the moment a delivery is settled until the session's `inbound.db` says so
/// too. `next_attempt_at` is a retry's time or, for a queued message, its deliver_after.
/// Of the names of all states, `queued`, `retrying` and `sending` are the last in the alphabet, so `state >= 'queued'` says
/// that a message is not settled. A list of the three would be made into a table of its own whenever the row is changed.
/// `sessions.low_water_seq`: rows at or below it that are not in `deliveries` were settled (imported, pruned).
const TABLES: &str = "
CREATE TABLE host (
  key   TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sessions (
  session_id        TEXT PRIMARY KEY,
  agent_group_id    TEXT NOT NULL,
  cursor_seq        INTEGER NOT NULL,
  cursor_rowid      INTEGER NOT NULL,
  low_water_seq     INTEGER NOT NULL,
  quarantine_reason TEXT,
  updated_at        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE deliveries (
  session_id          TEXT NOT NULL,
  message_id          TEXT NOT NULL,
  seq                 INTEGER NOT NULL,
  kind                TEXT NOT NULL,
  lane                TEXT NOT NULL,
  channel_type        TEXT,
  platform_id         TEXT,
  thread_id           TEXT,
  has_files           INTEGER NOT NULL DEFAULT 0,
  state               TEXT NOT NULL,
  effect              TEXT,
  attempts            INTEGER NOT NULL DEFAULT 0,
  first_due_at        INTEGER NOT NULL,
  next_attempt_at     INTEGER,
  error_class         TEXT,
  error               TEXT,
  platform_message_id TEXT,
  projected           INTEGER NOT NULL DEFAULT 1,
  updated_at          INTEGER NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
CREATE INDEX deliveries_unprojected ON deliveries(session_id) WHERE projected = 0;
CREATE INDEX deliveries_noteworthy ON deliveries(state, updated_at) WHERE state <> 'delivered';
CREATE TABLE attempts (
  session_id  TEXT NOT NULL,
  message_id  TEXT NOT NULL,
  ended_at    INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  error_class TEXT NOT NULL,
  error       TEXT NOT NULL,
  PRIMARY KEY (session_id, message_id, ended_at, attempt)
) WITHOUT ROWID;
CREATE TABLE claim_resets (
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  claimed_at TEXT NOT NULL,
  PRIMARY KEY (session_id, message_id)
) WITHOUT ROWID;
INSERT INTO host VALUES ('incarnation', 0);
";

/// Questions about a session add `lane >= ''`, which is always so: without it, all rows of the session are looked at, also
/// those that were delivered long ago.
///
/// Made in every ledger, whatever its version; an older one has another index for the same purpose.
const INDEXES: &str = "
DROP INDEX IF EXISTS deliveries_unsettled;
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries(session_id, lane, seq) WHERE state >= 'queued';
";

/// Creates the tables in an empty file, or checks that the file has them.
pub(super) fn create_or_check(connection: &Connection) -> Result<(), StoreError> {
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(super::damaged)?;
    match version {
        SCHEMA_VERSION => {}
        0 => {
            connection
                .execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"))?;
        }
        other => {
            return Err(StoreError::Schema {
                file: super::LEDGER_FILE.to_owned(),
                reason: format!(
                    "version {other} was written by a newer nanorelay; this one knows {SCHEMA_VERSION}"
                ),
            });
        }
    }
    connection.execute_batch(INDEXES)?;
    // Tables that came later: they are made when they are missing, so that the version stays.
    super::agents::create(connection)?;
    super::audit::create(connection)?;
    super::edits::create(connection)?;
    super::holds::create(connection)?;
    super::inbox_files::create(connection)?;
    super::parts::create(connection)?;
    super::pages::create(connection)?;
    super::rest_marks::create(connection)?;
    super::task_runs::create(connection)
}
