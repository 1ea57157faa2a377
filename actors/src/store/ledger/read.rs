//! Reading the ledger: what waits, what must be projected, and the operator's lists.

use super::{LEDGER_FILE, keep_plans, mark, state_of};
use crate::model::ids::{MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::report::{DeliveryFilter, DeliveryRecord, DeliveryState};
use crate::store::error::StoreError;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags, Row, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Connections for readers of one ledger. Use it on a blocking thread only.
#[derive(Clone)]
pub struct LedgerReader {
    pool: r2d2::Pool<SqliteConnectionManager>,
    #[cfg(feature = "testing")]
    path: std::path::PathBuf,
}

/// A message that waits in its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDelivery {
    /// The message.
    pub message_id: MessageId,
    /// Its position.
    pub seq: i64,
    /// Queued, sending or retrying.
    pub state: DeliveryState,
    /// Not to be tried before.
    pub next_attempt_at: Option<Timestamp>,
}

/// A message that waits, as another host may have found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDelivery {
    /// The message.
    pub message_id: MessageId,
    /// Its position.
    pub seq: i64,
    /// Its lane.
    pub lane_key: String,
    /// Whether it was never tried and never given up.
    pub is_untouched: bool,
}

/// A settled message of which `inbound.db` does not know yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unprojected {
    /// The message.
    pub message_id: MessageId,
    /// Its position.
    pub seq: i64,
    /// `delivered`, `dead`, or `held` when the agent is still to be told.
    pub state: DeliveryState,
    /// The platform's id.
    pub platform_message_id: Option<String>,
    /// Why it is dead.
    pub error: Option<String>,
    /// Tries made.
    pub attempts: u32,
    /// Whether an outbox folder belongs to it.
    pub has_files: bool,
    /// When it was settled.
    pub settled_at: Timestamp,
}

/// What is left in the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Queued or sending, and due.
    pub due: u64,
    /// Failed for now.
    pub retrying: u64,
    /// Kept back, and sessions in quarantine.
    pub held: u64,
    /// Unknown whether sent.
    pub ambiguous: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// The earliest retry of a message that there is a channel for.
    pub next_retry_at: Option<Timestamp>,
}

impl LedgerReader {
    /// Connects to a ledger that exists.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join(LEDGER_FILE);
        mark::check(data_dir)?;
        if !path.exists() {
            return Err(StoreError::Missing(path.display().to_string()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let manager = SqliteConnectionManager::file(&path).with_flags(flags).with_init(|connection| {
            connection.execute_batch("PRAGMA busy_timeout=5000; PRAGMA query_only=1;")?;
            keep_plans(connection)
        });
        let pool = r2d2::Pool::builder()
            .max_size(4)
            .min_idle(Some(0))
            // A local file has no connection that could be lost.
            .test_on_check_out(false)
            .connection_timeout(Duration::from_secs(5))
            .build(manager)
            .map_err(pool_error)?;
        Ok(Self {
            pool,
            #[cfg(feature = "testing")]
            path,
        })
    }

    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        #[cfg(feature = "testing")]
        crate::testing::fault::check_at(&self.path, crate::testing::fault::Operation::Read).map_err(
            |errno| StoreError::Io { context: format!("cannot read {LEDGER_FILE}"), source: errno.into() },
        )?;
        let connection = self.pool.get().map_err(pool_error)?;
        read(&connection).map_err(super::damaged)
    }

    /// Looks through the whole file for damage.
    pub fn check(&self) -> Result<(), StoreError> {
        let found: String =
            self.with(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if found == "ok" {
            return Ok(());
        }
        Err(StoreError::Corrupt { file: LEDGER_FILE.to_owned(), reason: found })
    }

    /// The lanes of a session that hold something unsettled, by key.
    pub fn unsettled_lanes(&self, session: &SessionId) -> Result<Vec<String>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT DISTINCT lane FROM deliveries
                     WHERE session_id = ?1 AND state >= 'queued'",
                )?
                .query_map([session.as_str()], |row| row.get(0))?
                .collect()
        })
    }

    /// The messages of a session that wait, and whether they were never tried nor settled before: another host may
    /// have dealt with them.
    pub fn waiting(&self, session: &SessionId) -> Result<Vec<WaitingDelivery>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT message_id, seq, lane, attempts = 0 AND error_class IS NULL FROM deliveries
                     WHERE session_id = ?1 AND lane >= '' AND state >= 'queued' AND state <> 'sending'
                     ORDER BY seq",
                )?
                .query_map([session.as_str()], |row| {
                    Ok(WaitingDelivery {
                        message_id: message_id(row, 0)?,
                        seq: row.get(1)?,
                        lane_key: row.get(2)?,
                        is_untouched: row.get(3)?,
                    })
                })?
                .collect()
        })
    }

    /// How many messages of a session are not settled.
    pub fn backlog(&self, session: &SessionId) -> Result<u64, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT count(*) FROM deliveries
                     WHERE session_id = ?1 AND lane >= '' AND state >= 'queued'",
                )?
                .query_row([session.as_str()], |row| count(row, 0))
        })
    }

    /// The claims of a session that were reset, with the time of the claim.
    pub fn reset_claims(&self, session: &SessionId) -> Result<BTreeMap<String, String>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT message_id, claimed_at FROM claim_resets WHERE session_id = ?1")?
                .query_map([session.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// The first messages of a lane that are due or wait for a retry, in order. Messages whose deliver_after
    /// lies ahead do not hold up the others and are left out; with `postpones`, so are those with a retry ahead.
    pub fn lane_page(
        &self,
        session: &SessionId,
        lane_key: &str,
        limit: usize,
        now: Timestamp,
        postpones: bool,
    ) -> Result<Vec<PendingDelivery>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT message_id, seq, state, next_attempt_at FROM deliveries
                     WHERE session_id = ?1 AND lane = ?2 AND state >= 'queued'
                       AND NOT (next_attempt_at IS NOT NULL AND next_attempt_at > ?3
                                AND (state = 'queued' OR (?5 AND state = 'retrying')))
                     ORDER BY seq, message_id LIMIT ?4",
                )?
                .query_map(
                    params![
                        session.as_str(),
                        lane_key,
                        now.as_ms(),
                        i64::try_from(limit).unwrap_or(i64::MAX),
                        postpones
                    ],
                    |row| {
                        Ok(PendingDelivery {
                            message_id: message_id(row, 0)?,
                            seq: row.get(1)?,
                            state: state_of(row, 2)?,
                            next_attempt_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_ms),
                        })
                    },
                )?
                .collect()
        })
    }

    /// The earliest deliver_after that lies ahead, or retry in a lane that goes on meanwhile. `postpones` says of a
    /// channel type whether its lanes do.
    pub fn next_scheduled(
        &self,
        session: &SessionId,
        now: Timestamp,
        postpones: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT state = 'retrying', coalesce(channel_type, ''), min(next_attempt_at) FROM deliveries
                 WHERE session_id = ?1 AND lane >= '' AND next_attempt_at > ?2
                   AND state >= 'queued' GROUP BY 1, 2",
            )?;
            let mut rows = statement.query(params![session.as_str(), now.as_ms()])?;
            let mut earliest: Option<i64> = None;
            while let Some(row) = rows.next()? {
                let (is_retry, channel_type, at): (bool, String, i64) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                if !is_retry || postpones(&channel_type) {
                    earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
                }
            }
            Ok(earliest.map(Timestamp::from_ms))
        })
    }

    /// Settled messages of which `inbound.db` does not know yet, in order.
    pub fn unprojected(&self, session: &SessionId, limit: usize) -> Result<Vec<Unprojected>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT message_id, seq, state, platform_message_id, error, attempts, has_files, updated_at
                     FROM deliveries WHERE session_id = ?1 AND projected = 0 ORDER BY seq LIMIT ?2",
                )?
                .query_map(params![session.as_str(), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                    Ok(Unprojected {
                        message_id: message_id(row, 0)?,
                        seq: row.get(1)?,
                        state: state_of(row, 2)?,
                        platform_message_id: row.get(3)?,
                        error: row.get(4)?,
                        attempts: row.get(5)?,
                        has_files: row.get(6)?,
                        settled_at: Timestamp::from_ms(row.get(7)?),
                    })
                })?
                .collect()
        })
    }

    /// Sessions with anything unsettled or unprojected, or in quarantine.
    pub fn sessions_with_work(&self) -> Result<Vec<SessionId>, StoreError> {
        let ids: Vec<String> = self.with(|connection| {
            connection
                .prepare(
                    "SELECT DISTINCT session_id FROM deliveries WHERE state >= 'queued'
                     UNION SELECT DISTINCT session_id FROM deliveries WHERE projected = 0
                     UNION SELECT session_id FROM sessions WHERE quarantine_reason IS NOT NULL
                     UNION SELECT session_id FROM inbox_files",
                )?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        Ok(ids.iter().filter_map(|id| SessionId::new(id).ok()).collect())
    }

    /// Sessions in quarantine, with the reason.
    pub fn quarantined(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.with(|connection| {
            connection
                .prepare(
                    "SELECT session_id, quarantine_reason FROM sessions WHERE quarantine_reason IS NOT NULL",
                )?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// What is left, over all sessions. `is_served` says whether there is a channel for a channel type.
    pub fn left(&self, now: Timestamp, is_served: &dyn Fn(&str) -> bool) -> Result<Left, StoreError> {
        self.with(|connection| {
            let mut left = Left::default();
            let mut statement = connection.prepare(
                "SELECT state, next_attempt_at > ?1, count(*), min(next_attempt_at), channel_type FROM deliveries
                 WHERE state IN ('queued','sending','retrying','held','ambiguous')
                   AND state <> 'delivered' GROUP BY 1, 2, 5",
            )?;
            let mut rows = statement.query([now.as_ms()])?;
            while let Some(row) = rows.next()? {
                let ahead = row.get::<_, Option<bool>>(1)?.unwrap_or(false);
                let count = count(row, 2)?;
                match state_of(row, 0)? {
                    DeliveryState::Queued if ahead => left.scheduled += count,
                    DeliveryState::Queued | DeliveryState::Sending => left.due += count,
                    DeliveryState::Held => left.held += count,
                    DeliveryState::Ambiguous => left.ambiguous += count,
                    DeliveryState::Retrying => {
                        left.retrying += count;
                        let channel_type: Option<String> = row.get(4)?;
                        if !channel_type.is_none_or(|name| is_served(&name)) {
                            continue;
                        }
                        let at = row.get::<_, Option<i64>>(3)?.map(Timestamp::from_ms);
                        left.next_retry_at = match (left.next_retry_at, at) {
                            (Some(a), Some(b)) => Some(a.min(b)),
                            (a, b) => a.or(b),
                        };
                    }
                    DeliveryState::Delivered | DeliveryState::Dead => {}
                }
            }
            left.held += connection.query_row(
                "SELECT count(*) FROM sessions WHERE quarantine_reason IS NOT NULL",
                [],
                |row| count(row, 0),
            )?;
            Ok(left)
        })
    }

    /// The operator's list, the most recently changed first.
    pub fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let states = serde_json::to_string(&states).unwrap_or_default();
        let limit = filter.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.with(|connection| {
            connection
                .prepare(
                    "SELECT session_id, message_id, seq, kind, state, attempts, error_class, error, channel_type,
                            platform_id, thread_id, platform_message_id, next_attempt_at, updated_at
                     FROM deliveries
                     WHERE (?1 = '[]' OR state IN (SELECT value FROM json_each(?1)))
                       AND (?2 IS NULL OR session_id = ?2) AND (?3 IS NULL OR message_id = ?3)
                       AND (?4 IS NULL OR channel_type = ?4) AND (?5 IS NULL OR error_class = ?5)
                     ORDER BY updated_at DESC, session_id, seq DESC",
                )?
                .query_map(
                    params![
                        states,
                        filter.session_id,
                        filter.message_id,
                        filter.channel_type,
                        filter.error_class
                    ],
                    |row| Ok((delivery_record(row)?, Timestamp::from_ms(row.get(13)?))),
                )?
                .filter(|row| row.as_ref().is_ok_and(|(record, at)| filter.matches(record, *at)) || row.is_err())
                .map(|row| row.map(|(record, _)| record))
                .take(limit)
                .collect()
        })
    }
}

pub(super) fn delivery_record(row: &Row<'_>) -> rusqlite::Result<DeliveryRecord> {
    let time = |ms: i64| Timestamp::from_ms(ms).to_iso();
    Ok(DeliveryRecord {
        session_id: row.get(0)?,
        message_id: row.get(1)?,
        seq: row.get(2)?,
        kind: row.get(3)?,
        state: state_of(row, 4)?,
        attempts: row.get(5)?,
        error_class: row.get(6)?,
        error: row.get(7)?,
        channel_type: row.get(8)?,
        platform_id: row.get(9)?,
        thread_id: row.get(10)?,
        platform_message_id: row.get(11)?,
        next_attempt_at: row.get::<_, Option<i64>>(12)?.map(time),
        updated_at: time(row.get(13)?),
    })
}

/// A count; SQLite has signed numbers only.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn message_id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    let text: String = row.get(column)?;
    MessageId::new(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn pool_error(error: r2d2::Error) -> StoreError {
    StoreError::Busy(format!("{LEDGER_FILE} ({error})"))
}
