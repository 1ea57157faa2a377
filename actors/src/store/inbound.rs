//! Reads and writes `inbound.db`: what the host tells an agent.
//!
//! Only the host should write this file, but the container could: everything read here is checked like the
//! agent's own words. Writers take a transaction, so that a caller can make several changes one;
//! they expect the current schema, see [`upgrade`]. Readers work on files of the seed as well.

mod claims;
mod due;
mod projection;
mod recurrence;
mod routing;
mod runs;
mod schema;
mod task_list;
mod tasks;

pub use claims::{LivePage, apply_ack, live_ids, pending_among, reset_claim};
pub use due::{DueWork, NextDue, due_work, is_quiet, next_due};
pub use projection::{
    DeliveredPage, DeliveredRow, ProjectedStatus, Projection, delivered_among, delivered_page,
    delivered_status, project,
};
pub use recurrence::{
    NewRun, NextRun, RecurringRun, RunStatus, clear_recurrence, completed_recurring, insert_next_run,
    pending_recurring,
};
pub use routing::{last_peer_session, reply_source, write_destinations, write_session_routing};
pub use runs::{OverduePage, move_missed_run, overdue_recurring, runs_among, series_run};
pub use schema::{create_schema, create_tables, needs_upgrade, upgrade};
pub use task_list::{LiveTasks, TaskQuery, TaskRow, live_tasks, run_series_now};
pub use tasks::{
    NewTask, TaskUpdate, cancel_series, count_live_tasks, insert_task, pause_series, resume_series,
    update_series,
};

use super::error::StoreError;
use super::sql::{Cell, bounded, cell};
use crate::model::ids::{MessageId, SessionId};
use crate::model::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, named_params};

/// A message for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInbound {
    /// Its id; a second insert of the same one changes nothing.
    pub id: MessageId,
    /// `chat`, `chat-sdk`, `task`, `webhook` or `system`.
    pub kind: String,
    /// Not before this instant; `None` = at once.
    pub process_after: Option<Timestamp>,
    /// Cron expression of a recurring message.
    pub recurrence: Option<String>,
    /// The series it belongs to; `None` = its own id.
    pub series_id: Option<MessageId>,
    /// Whether it wakes the agent. `false` = context for the next time.
    pub trigger: bool,
    /// Whether only a fresh container takes it.
    pub on_wake: bool,
    /// The chat it came from, or the agent group.
    pub platform_id: Option<String>,
    /// The kind of platform, `agent` for another agent.
    pub channel_type: Option<String>,
    /// The thread it came from.
    pub thread_id: Option<String>,
    /// JSON. The container searches it as text, so it must be compact.
    pub content: String,
    /// The session of another agent that sent it: where an answer goes.
    pub source_session_id: Option<SessionId>,
}

/// What became of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// The row is there now.
    Inserted {
        /// Its sequence number, which is the id that the agent sees.
        seq: i64,
    },
    /// A row of that id was there before, and is unchanged.
    Duplicate,
}

/// Inserts a pending message with the next even sequence number.
pub fn insert_message(
    tx: &Transaction<'_>,
    message: &NewInbound,
    now: Timestamp,
) -> Result<Insert, StoreError> {
    let seq = next_seq(tx)?;
    let mut statement = tx.prepare_cached(
        "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, recurrence, series_id, tries,
           trigger, platform_id, channel_type, thread_id, content, source_session_id, on_wake)
         VALUES (:id, :seq, :kind, :timestamp, 'pending', :process_after, :recurrence, :series_id, 0,
           :trigger, :platform_id, :channel_type, :thread_id, :content, :source_session_id, :on_wake)
         ON CONFLICT(id) DO NOTHING",
    )?;
    let inserted = statement.execute(named_params! {
        ":id": message.id.as_str(),
        ":seq": seq,
        ":kind": message.kind,
        ":timestamp": now.to_iso(),
        ":process_after": message.process_after.map(Timestamp::to_iso),
        ":recurrence": message.recurrence,
        ":series_id": message.series_id.as_ref().unwrap_or(&message.id).as_str(),
        ":trigger": message.trigger,
        ":platform_id": message.platform_id,
        ":channel_type": message.channel_type,
        ":thread_id": message.thread_id,
        ":content": message.content,
        ":source_session_id": message.source_session_id.as_ref().map(SessionId::as_str),
        ":on_wake": message.on_wake,
    })?;
    Ok(if inserted == 0 { Insert::Duplicate } else { Insert::Inserted { seq } })
}

/// What tells one message of an inbox from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMessage {
    /// Its number; 0 when the row has none that is usable.
    pub seq: i64,
    /// The kind of platform that it came from.
    pub channel_type: Option<String>,
    /// The chat.
    pub platform_id: Option<String>,
}

/// The message of that id, in files of any version.
pub fn find_message(conn: &Connection, id: &MessageId) -> Result<Option<FoundMessage>, StoreError> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        bounded!("seq"),
        ", ",
        bounded!("channel_type"),
        ", ",
        bounded!("platform_id"),
        " FROM messages_in WHERE id = ?1"
    ))?;
    let found = statement.query_row([id.as_str()], |row| {
        let text = |index| Ok::<_, rusqlite::Error>(cell(row, index)?.text().map(str::to_owned));
        let seq = if let Cell::Integer(seq) = cell(row, 0)? { seq } else { 0 };
        Ok(FoundMessage { seq, channel_type: text(1)?, platform_id: text(2)? })
    });
    Ok(found.optional()?)
}

/// The next even number above every row's. The bound keeps text out, which SQLite sorts after every number.
fn next_seq(conn: &Connection) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT CAST(max(seq) AS INTEGER) FROM messages_in WHERE seq <= 9223372036854775807",
    )?;
    let highest: i64 = statement.query_row([], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0);
    if highest < 2 {
        return Ok(2);
    }
    (highest - highest % 2)
        .checked_add(2)
        .ok_or_else(|| StoreError::Limit("messages_in has no sequence number left".to_owned()))
}

#[cfg(test)]
pub(crate) mod tests;
