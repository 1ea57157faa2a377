//! What the container says about its work: claims, acknowledgements, the tool it runs.

use crate::model::ids::MessageId;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{bounded, cell, is_missing_table, sql_limit};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::time::Duration;

/// What the container did with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckStatus {
    /// Took it and works on it: a claim.
    Processing,
    /// Done.
    Completed,
    /// Not done.
    Failed,
    /// A later version's word, for example `script-skip:error`.
    Other(String),
}

impl AckStatus {
    fn from_name(name: &str) -> Self {
        match name {
            "processing" => AckStatus::Processing,
            "completed" => AckStatus::Completed,
            "failed" => AckStatus::Failed,
            other => AckStatus::Other(other.to_owned()),
        }
    }
}

impl AckStatus {
    /// The status that a message gets by this word; `None` when the word settles nothing.
    pub fn settled_status(&self) -> Option<&'static str> {
        match self {
            AckStatus::Completed => Some("completed"),
            AckStatus::Failed => Some("failed"),
            AckStatus::Other(word) if word.ends_with("error") => Some("failed"),
            AckStatus::Processing | AckStatus::Other(_) => None,
        }
    }
}

/// One row of `processing_ack`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The `messages_in` row it is about.
    pub message_id: MessageId,
    /// What was done.
    pub status: AckStatus,
    /// Since when; `None` when the container wrote no readable time.
    pub status_changed: Option<Timestamp>,
}

/// The tool that the container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name; `None` between tools.
    pub current_tool: Option<String>,
    /// How long it said that it may take, in milliseconds.
    pub tool_declared_timeout_ms: Option<u64>,
    /// When it began.
    pub tool_started_at: Option<Timestamp>,
}

impl ContainerState {
    /// How long the tool that runs now may take by its own word. Only Bash declares such a time.
    pub fn declared_timeout(&self) -> Option<Duration> {
        let is_bash = self.current_tool.as_deref() == Some("Bash");
        self.tool_declared_timeout_ms.filter(|_| is_bash).map(Duration::from_millis)
    }
}

/// The acknowledgements of `ids`, in their order; ids without one are left out.
pub fn acks(conn: &Connection, ids: &[MessageId]) -> Result<Vec<Ack>, StoreError> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        bounded!("message_id"),
        ", ",
        bounded!("status"),
        ", ",
        bounded!("status_changed"),
        " FROM processing_ack WHERE message_id = ?1 LIMIT 1"
    ))?;
    let mut acks = Vec::new();
    for id in ids {
        let ack = statement.query_row([id.as_str()], read_ack).optional()?.flatten();
        acks.extend(ack.filter(|ack| ack.message_id == *id));
    }
    Ok(acks)
}

/// At most `limit` claims: messages that the container took and has not finished.
///
/// Looks through the whole table, which has a row for every message the container ever took: for the sweep,
/// not for every cycle.
pub fn claims(conn: &Connection, limit: usize) -> Result<Vec<Ack>, StoreError> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        bounded!("message_id"),
        ", ",
        bounded!("status"),
        ", ",
        bounded!("status_changed"),
        " FROM processing_ack WHERE status = 'processing' LIMIT ?1"
    ))?;
    let found = statement.query_map([sql_limit(limit)], read_ack)?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

fn read_ack(row: &Row<'_>) -> rusqlite::Result<Option<Ack>> {
    let Some(message_id) = cell(row, 0)?.text().and_then(|text| MessageId::new(text).ok()) else {
        return Ok(None);
    };
    let status = AckStatus::from_name(cell(row, 1)?.text().unwrap_or_default());
    let status_changed = cell(row, 2)?.text().and_then(|text| Timestamp::parse(text).ok());
    Ok(Some(Ack { message_id, status, status_changed }))
}

/// The tool that the container runs; `None` when it never said so, as in files of the seed.
pub fn container_state(conn: &Connection) -> Result<Option<ContainerState>, StoreError> {
    let prepared = conn.prepare_cached(concat!(
        "SELECT ",
        bounded!("current_tool"),
        ", CASE typeof(tool_declared_timeout_ms) WHEN 'integer' THEN tool_declared_timeout_ms END, ",
        bounded!("tool_started_at"),
        " FROM container_state WHERE id = 1"
    ));
    let mut statement = match prepared {
        Err(error) if is_missing_table(&error) => return Ok(None),
        prepared => prepared?,
    };
    let state = statement.query_row(params![], |row| {
        Ok(ContainerState {
            current_tool: cell(row, 0)?.text().map(str::to_owned),
            tool_declared_timeout_ms: row.get::<_, Option<i64>>(1)?.and_then(|ms| u64::try_from(ms).ok()),
            tool_started_at: cell(row, 2)?.text().and_then(|text| Timestamp::parse(text).ok()),
        })
    });
    Ok(state.optional()?)
}
