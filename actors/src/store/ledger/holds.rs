//! What holds sends back, so that it survives a restart: operators' pauses, and what platforms asked for.

use super::{LEDGER_FILE, LedgerReader, LedgerTransaction};
use crate::model::hold::{Hold, HoldCause, HoldChange, HoldScope, HoldScopeKind};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Made in every ledger, whatever its version: an older host ignores it. `name` is a JSON array of the scope's parts;
/// `until` is NULL for a hold that lasts until it is resumed.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS holds (
  scope  TEXT NOT NULL,
  name   TEXT NOT NULL,
  cause  TEXT NOT NULL,
  until  INTEGER,
  reason TEXT NOT NULL,
  since  INTEGER NOT NULL,
  PRIMARY KEY (scope, name, cause)
) WITHOUT ROWID;
";

pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(TABLES)?)
}

impl LedgerTransaction<'_> {
    /// Records all of these.
    pub fn change_holds(&mut self, changes: &[HoldChange], now: Timestamp) -> Result<(), StoreError> {
        changes.iter().try_for_each(|change| match change {
            HoldChange::Set(hold) => self.set_hold(hold, now),
            HoldChange::Clear(scope, cause) => self.clear_hold(scope, *cause, now).map(drop),
        })
    }

    /// Records a hold, and forgets those that are over. An operator's replaces the one before; a platform's never makes
    /// the one before shorter.
    pub fn set_hold(&mut self, hold: &Hold, now: Timestamp) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached("DELETE FROM holds WHERE until IS NOT NULL AND until <= ?1")?
            .execute([now.as_ms()])?;
        self.transaction
            .prepare_cached(
                "INSERT INTO holds (scope, name, cause, until, reason, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (scope, name, cause) DO UPDATE SET
                   until = CASE WHEN ?7 THEN excluded.until ELSE max(until, excluded.until) END,
                   reason = excluded.reason, since = excluded.since",
            )?
            .execute(params![
                hold.scope.kind().as_str(),
                name_of(&hold.scope),
                hold.cause.as_str(),
                hold.until.map(Timestamp::as_ms),
                hold.reason,
                hold.since.as_ms(),
                hold.cause.is_operator(),
            ])?;
        Ok(())
    }

    /// Ends a hold. Returns whether there was one that was not over.
    pub fn clear_hold(
        &mut self,
        scope: &HoldScope,
        cause: HoldCause,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let ended: Option<Option<i64>> = self
            .transaction
            .prepare_cached(
                "DELETE FROM holds WHERE scope = ?1 AND name = ?2 AND cause = ?3 RETURNING until",
            )?
            .query_row(params![scope.kind().as_str(), name_of(scope), cause.as_str()], |row| row.get(0))
            .optional()?;
        Ok(ended.is_some_and(|until| until.is_none_or(|until| until > now.as_ms())))
    }

    /// Makes due what a platform has sent back because of a limit or of refused credentials, and what therefore waits for
    /// a time of its own. Returns the latest of these times. Only a channel and a chat have such messages.
    pub fn end_waiting(
        &mut self,
        scope: &HoldScope,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (channel, platform_id) = match scope {
            // The channel that takes every type without a table of its own: what other holds cover waits all the same.
            HoldScope::Channel(name) if name.as_str() == "*" => (None, None),
            HoldScope::Channel(name) => (Some(name.as_str()), None),
            HoldScope::Destination(name, platform_id) => (Some(name.as_str()), Some(platform_id.as_str())),
            HoldScope::Tenant(_) | HoldScope::Session(_) | HoldScope::Lane(..) => return Ok(None),
        };
        let waiting = "state = 'retrying' AND error_class IN ('rate_limited', 'unauthorized')
                         AND next_attempt_at > ?1 AND (?2 IS NULL OR channel_type = ?2)
                         AND (?3 IS NULL OR platform_id = ?3)";
        let parameters = params![now.as_ms(), channel, platform_id];
        let latest: Option<i64> = self
            .transaction
            .prepare_cached(&format!("SELECT max(next_attempt_at) FROM deliveries WHERE {waiting}"))?
            .query_row(parameters, |row| row.get(0))?;
        if latest.is_some() {
            self.transaction
                .prepare_cached(&format!("UPDATE deliveries SET next_attempt_at = NULL WHERE {waiting}"))?
                .execute(parameters)?;
        }
        Ok(latest.map(Timestamp::from_ms))
    }
}

impl LedgerReader {
    /// All holds that are not over.
    pub fn holds(&self, now: Timestamp) -> Result<Vec<Hold>, StoreError> {
        let rows: Vec<Result<Hold, StoreError>> = self.with(|connection| {
            connection
                .prepare(
                    "SELECT scope, name, cause, until, reason, since FROM holds
                     WHERE until IS NULL OR until > ?1 ORDER BY since, scope, name, cause",
                )?
                .query_map([now.as_ms()], read_hold)?
                .collect()
        })?;
        rows.into_iter().collect()
    }
}

fn name_of(scope: &HoldScope) -> String {
    serde_json::Value::from(scope.parts()).to_string()
}

fn read_hold(row: &Row<'_>) -> rusqlite::Result<Result<Hold, StoreError>> {
    let (scope, name, cause): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let found = HoldScopeKind::from_name(&scope)
        .zip(serde_json::from_str::<Vec<String>>(&name).ok())
        .and_then(|(kind, parts)| HoldScope::from_parts(kind, &parts).ok())
        .zip(HoldCause::from_name(&cause));
    let Some((scope, cause)) = found else {
        let reason = format!("unknown hold {scope:?} {name:?} {cause:?}");
        return Ok(Err(StoreError::Corrupt { file: LEDGER_FILE.to_owned(), reason }));
    };
    Ok(Ok(Hold {
        scope,
        cause,
        until: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_ms),
        reason: row.get(4)?,
        since: Timestamp::from_ms(row.get(5)?),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger::LedgerWriter;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn later(ms: i64) -> Timestamp {
        Timestamp::from_ms(NOW.as_ms() + ms)
    }

    fn hold(kind: HoldScopeKind, parts: &[&str], cause: HoldCause, until: Option<Timestamp>) -> Hold {
        let scope = HoldScope::from_parts(kind, parts).unwrap();
        Hold { scope, cause, until, reason: "because".to_owned(), since: NOW }
    }

    fn write<T>(
        folder: &tempfile::TempDir,
        write: impl FnOnce(&mut LedgerTransaction<'_>) -> Result<T, StoreError>,
    ) -> T {
        let mut writer = LedgerWriter::open(folder.path()).unwrap();
        let mut transaction = writer.transaction().unwrap();
        let value = write(&mut transaction).unwrap();
        transaction.commit().unwrap();
        value
    }

    #[test]
    fn every_kind_of_hold_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let written = [
            hold(HoldScopeKind::Tenant, &["ac\"me"], HoldCause::Operator, None),
            hold(HoldScopeKind::Channel, &["slack"], HoldCause::Unauthorized, Some(later(9))),
            hold(HoldScopeKind::Destination, &["slack", "slack:C1"], HoldCause::Gone, Some(later(9))),
            hold(HoldScopeKind::Session, &["sess-1"], HoldCause::RateLimit, Some(later(9))),
            hold(HoldScopeKind::Lane, &["sess-1", "slack", "slack:C1", "t"], HoldCause::Operator, None),
        ];
        write(&folder, |ledger| written.iter().try_for_each(|hold| ledger.set_hold(hold, NOW)));
        let reader = LedgerReader::open(folder.path()).unwrap();
        let mut read = reader.holds(NOW).unwrap();
        read.sort_by(|a, b| a.scope.cmp(&b.scope));
        assert_eq!(read, written);
        assert_eq!(reader.holds(later(9)).unwrap().len(), 2, "those that are over are left out");
    }

    #[test]
    fn a_platforms_hold_grows_only_and_an_operators_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let of = |cause, until| hold(HoldScopeKind::Channel, &["slack"], cause, until);
        write(&folder, |ledger| {
            ledger.set_hold(&of(HoldCause::RateLimit, Some(later(1000))), NOW)?;
            ledger.set_hold(&of(HoldCause::RateLimit, Some(later(10))), NOW)?;
            ledger.set_hold(&of(HoldCause::Operator, None), NOW)?;
            ledger.set_hold(&of(HoldCause::Operator, Some(later(10))), NOW)
        });
        let holds = LedgerReader::open(folder.path()).unwrap().holds(NOW).unwrap();
        let until = |cause| holds.iter().find(|hold| hold.cause == cause).unwrap().until;
        assert_eq!(until(HoldCause::RateLimit), Some(later(1000)));
        assert_eq!(until(HoldCause::Operator), Some(later(10)));
        let scope = &holds[0].scope;
        assert!(write(&folder, |ledger| ledger.clear_hold(scope, HoldCause::Operator, NOW)));
        assert!(!write(&folder, |ledger| ledger.clear_hold(scope, HoldCause::Operator, NOW)));
        assert!(!write(&folder, |ledger| ledger.clear_hold(scope, HoldCause::RateLimit, later(1000))));
    }
}
