//! Runs of recurring messages: the next one is inserted when the last one ended, well or not.

use super::next_seq;
use crate::model::ids::MessageId;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{bounded, cell, prepare_either, sql_limit};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// Well, or cancelled.
    Completed,
    /// Not well. The series goes on all the same.
    Failed,
}

/// A finished run that has no successor yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecurringRun {
    /// The run's id.
    pub id: MessageId,
    /// `task`, or another kind.
    pub kind: String,
    /// Its series.
    pub series_id: String,
    /// Cron expression, as the agent wrote it.
    pub recurrence: String,
    /// When the run was due; `None` when the row holds no readable time.
    pub process_after: Option<Timestamp>,
    /// How it ended.
    pub status: RunStatus,
    /// Its content; `None` when it is not text or too large to be read. The successor gets it in any case.
    pub content: Option<String>,
    /// Where it answers to.
    pub platform_id: Option<String>,
    /// The kind of platform.
    pub channel_type: Option<String>,
    /// The thread.
    pub thread_id: Option<String>,
}

/// The next run of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Its id. Derive it from the series and the time, so that one run never exists twice.
    pub id: MessageId,
    /// When it is due.
    pub process_after: Timestamp,
    /// Whether it waits for the series to be resumed.
    pub paused: bool,
}

/// What became of the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextRun {
    /// It was inserted.
    Inserted {
        /// Its sequence number.
        seq: i64,
    },
    /// The series goes on already: this run exists, or another one waits.
    AlreadyThere,
    /// The finished run has no recurrence any more: the series was cancelled or went on.
    SeriesEnded,
}

/// Runs with a recurrence; `series` is the text of the last column. Rows whose id or expression is unusable are left out
/// here, so that they take no place within a limit.
macro_rules! recurring_runs {
    ($series:expr, $which:literal) => {
        concat!(
            "SELECT id, ",
            bounded!("kind"),
            ", ",
            bounded!("recurrence"),
            ", ",
            bounded!("process_after"),
            ", status, CASE WHEN typeof(content) = 'text' AND octet_length(content) <= 4194304 THEN content END, ",
            bounded!("platform_id"),
            ", ",
            bounded!("channel_type"),
            ", ",
            bounded!("thread_id"),
            ", ",
            $series,
            " FROM messages_in WHERE recurrence IS NOT NULL
                AND typeof(id) = 'text' AND octet_length(id) BETWEEN 1 AND 1024
                AND typeof(recurrence) = 'text' AND octet_length(recurrence) <= 1024 AND ",
            $which
        )
    };
}

macro_rules! finished {
    ($series:expr) => {
        recurring_runs!($series, "status IN ('completed','failed') ORDER BY rowid LIMIT ?1")
    };
}

macro_rules! pending {
    ($series:expr) => {
        recurring_runs!($series, "status = 'pending' AND id = ?1")
    };
}

/// Those of `ids` that are pending runs with a recurrence. How they end is not known here.
pub fn pending_recurring(conn: &Connection, ids: &[MessageId]) -> Result<Vec<RecurringRun>, StoreError> {
    let mut statement = prepare_either(conn, pending!(bounded!("series_id")), pending!("NULL"))?;
    let mut runs = Vec::new();
    for id in ids {
        runs.extend(statement.query_row([id.as_str()], read_run).optional()?.flatten());
    }
    Ok(runs)
}

/// At most `limit` finished runs that have a recurrence and no successor yet, the oldest first.
///
/// Every one must end in [`insert_next_run`] or [`clear_recurrence`], or it is found again.
pub fn completed_recurring(conn: &Connection, limit: usize) -> Result<Vec<RecurringRun>, StoreError> {
    // In files of the seed every task is a series of its own.
    let mut statement = prepare_either(conn, finished!(bounded!("series_id")), finished!("NULL"))?;
    let runs = statement.query_map([sql_limit(limit)], read_run)?.collect::<Result<Vec<_>, _>>()?;
    Ok(runs.into_iter().flatten().collect())
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<Option<RecurringRun>> {
    let owned = |index| Ok::<_, rusqlite::Error>(cell(row, index)?.text().map(str::to_owned));
    let Some(id) = cell(row, 0)?.text().and_then(|text| MessageId::new(text).ok()) else {
        return Ok(None);
    };
    let Some(recurrence) = owned(2)? else {
        return Ok(None);
    };
    let failed = cell(row, 4)?.text() == Some("failed");
    Ok(Some(RecurringRun {
        kind: owned(1)?.unwrap_or_default(),
        series_id: owned(9)?.unwrap_or_else(|| id.as_str().to_owned()),
        recurrence,
        process_after: cell(row, 3)?.text().and_then(|text| Timestamp::parse(text).ok()),
        status: if failed { RunStatus::Failed } else { RunStatus::Completed },
        content: owned(5)?,
        platform_id: owned(6)?,
        channel_type: owned(7)?,
        thread_id: owned(8)?,
        id,
    }))
}

/// Inserts the successor of the finished run `old_id`, with the same series, content and route, and clears the
/// old run's recurrence: both in the caller's transaction, so that a series can never fork.
pub fn insert_next_run(
    tx: &Transaction<'_>,
    old_id: &MessageId,
    run: &NewRun,
    now: Timestamp,
) -> Result<NextRun, StoreError> {
    let seq = next_seq(tx)?;
    // A host that died between its two steps left a live successor beside an uncleared run: NOT EXISTS heals it.
    let mut statement = tx.prepare_cached(
        "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, recurrence, series_id, tries,
           trigger, platform_id, channel_type, thread_id, content, source_session_id, on_wake)
         SELECT :id, :seq, kind, :timestamp, :status, :process_after, recurrence, coalesce(series_id, id), 0,
           trigger, platform_id, channel_type, thread_id, content, source_session_id, 0
         FROM messages_in AS old
         WHERE old.id = :old_id AND old.recurrence IS NOT NULL AND NOT EXISTS (
           SELECT 1 FROM messages_in AS live
           WHERE live.status IN ('pending','paused') AND live.recurrence IS NOT NULL
             AND live.series_id = coalesce(old.series_id, old.id) AND live.id <> old.id)
         ON CONFLICT(id) DO NOTHING",
    )?;
    let inserted = statement.execute(named_params! {
        ":id": run.id.as_str(),
        ":seq": seq,
        ":timestamp": now.to_iso(),
        ":status": if run.paused { "paused" } else { "pending" },
        ":process_after": run.process_after.to_iso(),
        ":old_id": old_id.as_str(),
    })?;
    let recurred = clear_recurrence(tx, old_id)?;
    Ok(match (inserted, recurred) {
        (0, false) => NextRun::SeriesEnded,
        (0, true) => NextRun::AlreadyThere,
        _ => NextRun::Inserted { seq },
    })
}

/// Lets a series end with the finished run `id`, for example because its expression is invalid. Returns whether
/// it had a recurrence.
pub fn clear_recurrence(tx: &Transaction<'_>, id: &MessageId) -> Result<bool, StoreError> {
    let mut statement = tx.prepare_cached(
        "UPDATE messages_in SET recurrence = NULL WHERE id = ?1 AND recurrence IS NOT NULL",
    )?;
    Ok(statement.execute([id.as_str()])? > 0)
}

#[cfg(test)]
mod tests;
