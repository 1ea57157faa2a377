//! What waits, since when, and what fails: for alerts and for whoever looks at a host.

use super::LedgerReader;
use super::read::count;
use crate::limits::STANDING_ROWS_MAX;
use crate::model::time::Timestamp;
use crate::report::{BusySession, FailingRecord, OldestUndelivered, StateCounts};
use crate::store::error::StoreError;
use rusqlite::{Connection, OptionalExtension};

/// The ledger's part of [`crate::report::Standing`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerStanding {
    /// Messages by state.
    pub counts: StateCounts,
    /// The message that waits longest.
    pub oldest: Option<OldestUndelivered>,
    /// What fails.
    pub failing: Vec<FailingRecord>,
    /// Who has most to send.
    pub busiest: Vec<BusySession>,
    /// Sessions that cannot be served.
    pub quarantined: u64,
}

impl LedgerReader {
    /// How things stand. Costs time with every message that is not delivered, none with those that are.
    pub fn standing(&self, now: Timestamp) -> Result<LedgerStanding, StoreError> {
        self.with(|connection| {
            Ok(LedgerStanding {
                counts: counts(connection)?,
                oldest: oldest(connection, now)?,
                failing: failing(connection)?,
                busiest: busiest(connection)?,
                quarantined: connection.query_row(
                    "SELECT count(*) FROM sessions WHERE quarantine_reason IS NOT NULL",
                    [],
                    |row| count(row, 0),
                )?,
            })
        })
    }
}

fn counts(connection: &Connection) -> rusqlite::Result<StateCounts> {
    let mut counts = StateCounts::default();
    let mut statement = connection
        .prepare_cached("SELECT state, count(*) FROM deliveries WHERE state <> 'delivered' GROUP BY state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let place = match row.get_ref(0)?.as_str()? {
            "queued" => &mut counts.queued,
            "sending" => &mut counts.sending,
            "retrying" => &mut counts.retrying,
            "dead" => &mut counts.dead,
            "ambiguous" => &mut counts.ambiguous,
            "held" => &mut counts.held,
            _ => continue,
        };
        *place = count(row, 1)?;
    }
    Ok(counts)
}

fn oldest(connection: &Connection, now: Timestamp) -> rusqlite::Result<Option<OldestUndelivered>> {
    connection
        .prepare_cached(
            "SELECT session_id, message_id, first_due_at FROM deliveries
             WHERE state >= 'queued' AND first_due_at <= ?1
             ORDER BY first_due_at LIMIT 1",
        )?
        .query_row([now.as_ms()], |row| {
            let since = Timestamp::from_ms(row.get(2)?);
            Ok(OldestUndelivered {
                session_id: row.get(0)?,
                message_id: row.get(1)?,
                since_ms: since.as_ms(),
                since: since.to_iso(),
            })
        })
        .optional()
}

fn failing(connection: &Connection) -> rusqlite::Result<Vec<FailingRecord>> {
    connection
        .prepare_cached(
            "SELECT channel_type, coalesce(error_class, ''), count(*), max(updated_at) FROM deliveries
             WHERE state = 'retrying' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ?1",
        )?
        .query_map([STANDING_ROWS_MAX], |row| {
            Ok(FailingRecord {
                channel: row.get(0)?,
                error_class: row.get(1)?,
                count: count(row, 2)?,
                last_at: Timestamp::from_ms(row.get(3)?).to_iso(),
            })
        })?
        .collect()
}

fn busiest(connection: &Connection) -> rusqlite::Result<Vec<BusySession>> {
    connection
        .prepare_cached(
            "SELECT session_id, count(*) FROM deliveries WHERE state >= 'queued'
             GROUP BY session_id ORDER BY 2 DESC, 1 LIMIT ?1",
        )?
        .query_map([STANDING_ROWS_MAX], |row| {
            Ok(BusySession { session_id: row.get(0)?, waiting: count(row, 1)? })
        })?
        .collect()
}
