//! The audit: who changed what, by which way, and why. A change is noted before it is made and once more at its end, so
//! that a host that dies in between has not made one that nobody can see.

use super::{LedgerReader, LedgerTransaction};
use crate::model::time::Timestamp;
use crate::report::{AuditEnd, AuditEntry, AuditFilter, AuditOutcome, AuditRecord, AuditVia};
use crate::store::error::StoreError;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde_json::Value;

/// Made in every ledger, whatever its version: an older host ignores it. `before` and `after` are JSON. Numbers are never
/// used again.
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      INTEGER NOT NULL,
  who     TEXT NOT NULL,
  via     TEXT NOT NULL,
  action  TEXT NOT NULL,
  target  TEXT NOT NULL,
  tenant  TEXT,
  reason  TEXT,
  before  TEXT,
  after   TEXT,
  outcome TEXT NOT NULL,
  error   TEXT
);
";

/// Changes listed when no limit is asked for.
const LIST_MAX: u32 = 10_000;

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLE)?)
}

impl LedgerTransaction<'_> {
    /// Notes that a change is about to be made. Returns its number.
    pub fn begin_audit(&mut self, entry: &AuditEntry, now: Timestamp) -> Result<i64, StoreError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO audit (at, who, via, action, target, tenant, reason, before, outcome)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'begun')",
            )?
            .execute(params![
                now.as_ms(),
                entry.who,
                entry.via.as_str(),
                entry.action,
                entry.target,
                entry.tenant,
                entry.reason,
                entry.before.as_ref().map(Value::to_string),
            ])?;
        Ok(self.transaction.last_insert_rowid())
    }

    /// Notes how a change ended.
    pub fn end_audit(&mut self, id: i64, end: &AuditEnd) -> Result<(), StoreError> {
        let (outcome, after, error) = match end {
            AuditEnd::Done { after } => (AuditOutcome::Done, after.as_ref().map(Value::to_string), None),
            AuditEnd::Failed(error) => (AuditOutcome::Failed, None, Some(error)),
        };
        self.transaction
            .prepare_cached("UPDATE audit SET outcome = ?2, after = ?3, error = ?4 WHERE id = ?1")?
            .execute(params![id, outcome.as_str(), after, error])?;
        Ok(())
    }

    /// Forgets changes that began before an instant, and the oldest ones above `rows_max`, at most `limit` of them.
    /// Returns how many went.
    pub fn prune_audit(
        &mut self,
        before: Timestamp,
        rows_max: u64,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let pruned = self.transaction.execute(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?3)
               AND (at < ?1 OR id <= (SELECT max(id) FROM audit) - ?2)",
            params![
                before.as_ms(),
                i64::try_from(rows_max).unwrap_or(i64::MAX),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ],
        )?;
        Ok(pruned)
    }
}

impl LedgerReader {
    /// The changes that match, the newest first.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, at, who, via, action, target, tenant, reason, before, after, outcome, error
                     FROM audit
                     WHERE id < ?1 AND at >= ?2 AND (?3 IS NULL OR who = ?3) AND (?4 IS NULL OR action = ?4)
                     ORDER BY id DESC LIMIT ?5",
                )?
                .query_map(
                    params![
                        filter.before_id.unwrap_or(i64::MAX),
                        filter.since_ms.unwrap_or(i64::MIN),
                        filter.who,
                        filter.action,
                        filter.limit.unwrap_or(LIST_MAX),
                    ],
                    read_record,
                )?
                .collect()
        })
    }
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    let (via, outcome): (String, String) = (row.get(3)?, row.get(10)?);
    Ok(AuditRecord {
        id: row.get(0)?,
        at: Timestamp::from_ms(row.get(1)?).to_iso(),
        who: row.get(2)?,
        via: AuditVia::ALL.into_iter().find(|known| known.as_str() == via).ok_or_else(|| unknown(3, &via))?,
        action: row.get(4)?,
        target: row.get(5)?,
        tenant: row.get(6)?,
        reason: row.get(7)?,
        before: detail(row, 8)?,
        after: detail(row, 9)?,
        outcome: AuditOutcome::ALL
            .into_iter()
            .find(|known| known.as_str() == outcome)
            .ok_or_else(|| unknown(10, &outcome))?,
        error: row.get(11)?,
    })
}

fn detail(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn unknown(column: usize, found: &str) -> rusqlite::Error {
    let problem = format!("{found:?} is unknown to this version");
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, problem.into())
}
