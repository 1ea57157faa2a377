//! Reads `outbound.db`: what the agent says, and what it says about its work.
//!
//! The container writes this file and may put anything into it. One row can be unusable; it never makes its
//! batch fail, and never holds up the rows after it.

mod acks;

pub use acks::{Ack, AckStatus, ContainerState, acks, claims, container_state};

use super::error::StoreError;
use super::sql::{COLUMN_BYTES_MAX, Cell, bounded, cell, sql_limit};
use crate::limits::BATCH_CONTENT_BYTES_MAX;
use crate::model::ids::MessageId;
use crate::model::message::{OutboundRow, RowFault};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, params};
use std::sync::Arc;

/// How far a session's `messages_out` has been read.
///
/// Every row up to `rowid` was either returned or has a seq above `seq`. The two belong together: keep and
/// restore them as a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Rows with a seq up to this one are done with, unless they were committed late.
    pub seq: i64,
    /// Rows above this one are looked through for late ones.
    pub rowid: i64,
}

/// A row without a usable id. It cannot be recorded as a delivery, only reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableRow {
    /// The row's number in its table.
    pub rowid: i64,
    /// What is wrong with its id.
    pub reason: String,
}

/// Rows read in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows, in seq order.
    pub rows: Vec<OutboundRow>,
    /// Rows that can only be reported.
    pub unusable: Vec<UnusableRow>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether more rows may be waiting.
    pub more: bool,
}

/// Ids read in one step, without their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdBatch {
    /// Ids and their place in the session's order, in seq order.
    pub ids: Vec<(MessageId, i64)>,
    /// Rows that can only be reported.
    pub unusable: Vec<UnusableRow>,
    /// Where to go on.
    pub cursor: Cursor,
    /// Whether more rows may be waiting.
    pub more: bool,
}

macro_rules! select_rows {
    ($rest:literal) => {
        concat!(
            "SELECT rowid, CASE typeof(seq) WHEN 'integer' THEN seq END, ",
            bounded!("id"),
            ", ",
            bounded!("in_reply_to"),
            ", ",
            bounded!("deliver_after"),
            ", ",
            bounded!("kind"),
            ", ",
            bounded!("channel_type"),
            ", ",
            bounded!("platform_id"),
            ", ",
            bounded!("thread_id"),
            ", CASE WHEN octet_length(content) > ?1 THEN -octet_length(content) ELSE content END",
            " FROM messages_out ",
            $rest
        )
    };
}

/// The upper bound keeps text out, which SQLite sorts after every number.
const IN_SEQ_ORDER: &str = select_rows!(
    "WHERE seq > ?2 AND seq <= 9223372036854775807 AND typeof(seq) = 'integer' ORDER BY seq LIMIT ?3"
);
/// The unary plus keeps SQLite on the table itself, whose order this walk needs.
const LATE: &str = select_rows!(
    "WHERE rowid > ?2 AND rowid <= ?3 AND (typeof(seq) <> 'integer' OR +seq <= ?4) ORDER BY rowid LIMIT ?5"
);
const BY_ID: &str = select_rows!("WHERE id = ?2 LIMIT 1");

/// Reads at most `limit` rows after `cursor`, and at most [`BATCH_CONTENT_BYTES_MAX`] bytes of content plus one
/// message.
///
/// Rows come in seq order at a cost that does not depend on the session's history. A row without a seq, and one
/// that was committed late with a seq below the cursor, is found by its rowid and returned as well, once. When
/// such rows alone fill the batch they go first.
pub fn read_after(
    conn: &Connection,
    cursor: Cursor,
    limit: usize,
    content_bytes_max: u64,
) -> Result<Batch, StoreError> {
    walk(conn, cursor, limit, content_cap(content_bytes_max))
}

/// Walks like [`read_after`], but loads no content: for importing what a host before this one delivered.
pub fn ids_in_order(conn: &Connection, cursor: Cursor, limit: usize) -> Result<IdBatch, StoreError> {
    // No content is shorter than this bound, so none is loaded.
    let Batch { rows, unusable, cursor, more } = walk(conn, cursor, limit, -1)?;
    let ids = rows.into_iter().map(|row| (row.id, row.seq)).collect();
    Ok(IdBatch { ids, unusable, cursor, more })
}

/// Reads rows by id, in the order of `ids`; those that are gone are left out. Also tells how many of `ids` were
/// looked for: it stops when their content has [`BATCH_CONTENT_BYTES_MAX`] bytes.
///
/// A row without a seq has seq 0 here: the place it got from [`read_after`] is known to the ledger.
pub fn read_by_ids(
    conn: &Connection,
    ids: &[MessageId],
    content_bytes_max: u64,
) -> Result<(Vec<OutboundRow>, usize), StoreError> {
    let cap = content_cap(content_bytes_max);
    // One lock for all of them.
    let _snapshot = read_snapshot(conn)?;
    let mut statement = conn.prepare_cached(BY_ID)?;
    let mut found = Vec::with_capacity(ids.len());
    let mut content_bytes = 0;
    for (looked_at, id) in ids.iter().enumerate() {
        if content_bytes >= BATCH_CONTENT_BYTES_MAX {
            return Ok((found, looked_at));
        }
        let row = statement.query_row(params![cap, id.as_str()], |row| read_row(row, cap)).optional()?;
        // A crafted collation could answer with another row.
        if let Some(Found { row: Ok(row), .. }) = row
            && row.id == *id
        {
            content_bytes += row.content.as_ref().map_or(0, |content| content.len());
            found.push(row);
        }
    }
    Ok((found, ids.len()))
}

/// The largest content that is read. A larger value than a batch may have is no value of SQLite's here: it would
/// make its whole batch fail.
fn content_cap(content_bytes_max: u64) -> i64 {
    let most = i64::try_from(BATCH_CONTENT_BYTES_MAX).unwrap_or(i64::MAX);
    i64::try_from(content_bytes_max).unwrap_or(i64::MAX).min(most)
}

/// Creates the tables of a current `outbound.db` in an empty database.
pub fn create_schema(conn: &Connection) -> Result<(), StoreError> {
    // All or nothing: a host that dies meanwhile leaves an empty file.
    let tx = conn.unchecked_transaction()?;
    tx.execute_batch(SCHEMA)?;
    Ok(tx.commit()?)
}

const SCHEMA: &str = "
CREATE TABLE messages_out (
  id TEXT PRIMARY KEY, seq INTEGER UNIQUE, in_reply_to TEXT, timestamp TEXT NOT NULL, deliver_after TEXT,
  recurrence TEXT, kind TEXT NOT NULL, platform_id TEXT, channel_type TEXT, thread_id TEXT,
  content TEXT NOT NULL);
CREATE TABLE processing_ack (
  message_id TEXT PRIMARY KEY, status TEXT NOT NULL, status_changed TEXT NOT NULL);
CREATE TABLE session_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE TABLE container_state (
  id INTEGER PRIMARY KEY CHECK (id = 1), current_tool TEXT, tool_declared_timeout_ms INTEGER,
  tool_started_at TEXT, updated_at TEXT NOT NULL);";

/// A row as it was found, with its seq as it stands there.
struct Found {
    rowid: i64,
    seq: Option<i64>,
    row: Result<OutboundRow, String>,
}

/// Rows of one statement, and whether it was left before its end.
struct Scan {
    found: Vec<Found>,
    full: bool,
}

fn walk(conn: &Connection, cursor: Cursor, limit: usize, cap: i64) -> Result<Batch, StoreError> {
    let limit = limit.max(1);
    let _snapshot = read_snapshot(conn)?;
    let rows_max = sql_limit(limit);
    let in_order = scan(conn, IN_SEQ_ORDER, params![cap, cursor.seq, rows_max], limit, cap)?;
    let highest_seen = in_order.found.iter().map(|found| found.rowid).max();
    let (base, upper) = if in_order.full {
        (cursor.rowid, highest_seen.unwrap_or(cursor.rowid))
    } else {
        let highest = highest_rowid(conn)?;
        // Rows deleted at the end: their numbers will be used again.
        (cursor.rowid.min(highest), highest)
    };
    let covered = in_order.found.iter().filter(|found| found.rowid > base && found.rowid <= upper).count();
    let late = if upper.saturating_sub(base) > sql_limit(covered) {
        scan(conn, LATE, params![cap, base, upper, cursor.seq, rows_max], limit, cap)?
    } else {
        Scan { found: Vec::new(), full: false }
    };
    if late.full || late.found.len() + in_order.found.len() > limit {
        // Only the late rows: taking both would exceed the bound, and forgetting some would return others twice.
        let last = late.found.last().map_or(upper, |found| found.rowid);
        let rowid = if late.full { last } else { upper };
        return Ok(batch(late.found, cursor, Cursor { seq: cursor.seq, rowid }, true));
    }
    let seq = in_order.found.last().and_then(|found| found.seq).unwrap_or(cursor.seq);
    let mut found = in_order.found;
    found.extend(late.found);
    Ok(batch(found, cursor, Cursor { seq, rowid: base.max(upper) }, in_order.full))
}

/// One view of the file for several statements: a row committed in between could otherwise be taken for seen.
fn read_snapshot(conn: &Connection) -> Result<Option<Transaction<'_>>, StoreError> {
    Ok(if conn.is_autocommit() { Some(conn.unchecked_transaction()?) } else { None })
}

fn highest_rowid(conn: &Connection) -> Result<i64, StoreError> {
    let mut statement = conn.prepare_cached("SELECT max(rowid) FROM messages_out")?;
    Ok(statement.query_row([], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0))
}

fn scan(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    limit: usize,
    cap: i64,
) -> Result<Scan, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    let mut content_bytes = 0;
    while let Some(row) = rows.next()? {
        let row = read_row(row, cap)?;
        if let Ok(OutboundRow { content: Ok(content), .. }) = &row.row {
            content_bytes += content.len();
        }
        found.push(row);
        if content_bytes >= BATCH_CONTENT_BYTES_MAX {
            return Ok(Scan { found, full: true });
        }
    }
    let full = found.len() >= limit;
    Ok(Scan { found, full })
}

/// Gives every row its place in the order and makes the batch of them.
fn batch(mut found: Vec<Found>, from: Cursor, cursor: Cursor, more: bool) -> Batch {
    found.sort_by_key(|found| found.rowid);
    let mut before = from.seq;
    for found in &mut found {
        before = *found.seq.get_or_insert(before);
    }
    found.sort_by_key(|found| (found.seq, found.rowid));
    let mut batch = Batch { cursor, more, ..Batch::default() };
    for Found { rowid, seq, row } in found {
        match row {
            Ok(row) => batch.rows.push(OutboundRow { seq: seq.unwrap_or(row.seq), ..row }),
            Err(reason) => batch.unusable.push(UnusableRow { rowid, reason }),
        }
    }
    batch
}

fn read_row(row: &Row<'_>, cap: i64) -> rusqlite::Result<Found> {
    let rowid = row.get(0)?;
    let seq: Option<i64> = row.get(1)?;
    let id = match message_id(cell(row, 2)?) {
        Ok(id) => id,
        Err(reason) => return Ok(Found { rowid, seq, row: Err(reason) }),
    };
    let mut fault = None;
    let in_reply_to = text(row, 3, "in_reply_to", &mut fault)?;
    let deliver_after = match cell(row, 4)? {
        // Left to the parser of times, which names the value in its error.
        Cell::Integer(number) => Some(number.to_string()),
        _ => text(row, 4, "deliver_after", &mut fault)?,
    };
    let kind = text(row, 5, "kind", &mut fault)?;
    if kind.is_none() {
        fault.get_or_insert(RowFault::NotText { column: "kind" });
    }
    let channel_type = text(row, 6, "channel_type", &mut fault)?;
    let platform_id = text(row, 7, "platform_id", &mut fault)?;
    let thread_id = text(row, 8, "thread_id", &mut fault)?;
    let content = match fault {
        Some(fault) => Err(fault),
        None => content(row, 9, cap)?,
    };
    let row = OutboundRow {
        id,
        seq: seq.unwrap_or(0),
        in_reply_to,
        deliver_after,
        kind: Arc::from(kind.as_deref().unwrap_or_default()),
        channel_type,
        platform_id,
        thread_id,
        content,
    };
    Ok(Found { rowid, seq, row: Ok(row) })
}

fn message_id(cell: Cell<'_>) -> Result<MessageId, String> {
    match cell {
        Cell::Text(text) => MessageId::new(text).map_err(|error| error.to_string()),
        Cell::Null => Err("id is null".to_owned()),
        Cell::TooLong(bytes) => Err(format!("id has {bytes} bytes, the limit is {COLUMN_BYTES_MAX}")),
        Cell::Integer(_) | Cell::NotText => Err("id is not text".to_owned()),
    }
}

/// A text column; what is wrong with it goes to `fault`, where the first one stays.
fn text(
    row: &Row<'_>,
    index: usize,
    column: &'static str,
    fault: &mut Option<RowFault>,
) -> rusqlite::Result<Option<String>> {
    let found = match cell(row, index)? {
        Cell::Null => return Ok(None),
        Cell::Text(text) => return Ok(Some(text.to_owned())),
        Cell::TooLong(bytes) => RowFault::ColumnTooLong { column, bytes, limit: COLUMN_BYTES_MAX },
        Cell::Integer(_) | Cell::NotText => RowFault::NotText { column },
    };
    fault.get_or_insert(found);
    Ok(None)
}

fn content(row: &Row<'_>, index: usize, cap: i64) -> rusqlite::Result<Result<Arc<str>, RowFault>> {
    let not_text = RowFault::NotText { column: "content" };
    Ok(match row.get_ref(index)? {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map(Arc::from).map_err(|_| not_text),
        ValueRef::Integer(size) if size < 0 => {
            Err(RowFault::TooLarge { bytes: size.unsigned_abs(), limit: u64::try_from(cap).unwrap_or(0) })
        }
        _ => Err(not_text),
    })
}

#[cfg(test)]
mod tests;
