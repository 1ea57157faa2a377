//! Where an agent's words go: its own chat, its destinations, and an answer to another agent.
//!
//! The agent could forge all of it. What it may do is in `v2.db`: a session named here may receive a message only if it belongs to the
//! addressed group, is active, and the sender may write to that group.

use crate::model::ids::{AgentGroupId, SessionId, ThreadId};
use crate::store::central::{Chat, DestinationTarget, NamedDestination};
use crate::store::error::StoreError;
use crate::store::sql::{bounded, cell, is_missing_column};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// Tells the agent in which chat and thread it speaks; nothing for a session without a chat.
pub fn write_session_routing(
    tx: &Transaction<'_>,
    chat: Option<&Chat>,
    thread_id: Option<&ThreadId>,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT OR REPLACE INTO session_routing (id, channel_type, platform_id, thread_id) VALUES (1, ?1, ?2, ?3)",
        params![
            chat.map(|(channel_type, _)| channel_type.as_str()),
            chat.map(|(_, platform_id)| platform_id.as_str()),
            thread_id.map(ThreadId::as_str),
        ],
    )?;
    Ok(())
}

/// Tells the agent whom it may write to besides its own chat.
pub fn write_destinations(tx: &Transaction<'_>, destinations: &[NamedDestination]) -> Result<(), StoreError> {
    tx.execute("DELETE FROM destinations", [])?;
    let mut statement = tx.prepare(
        "INSERT INTO destinations (name, display_name, type, channel_type, platform_id, agent_group_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for NamedDestination { name, display_name, target } in destinations {
        let (kind, channel_type, platform_id, group) = match target {
            DestinationTarget::Chat { channel_type, platform_id } => {
                ("channel", Some(channel_type), Some(platform_id), None)
            }
            DestinationTarget::Agent(group) => ("agent", None, None, Some(group)),
        };
        statement.execute(params![name, display_name, kind, channel_type, platform_id, group])?;
    }
    Ok(())
}

/// The session and the agent group that sent the message `in_reply_to`; `None` when it is not there, or not from
/// an agent, or from a time before sessions were recorded.
pub fn reply_source(
    conn: &Connection,
    in_reply_to: &str,
) -> Result<Option<(SessionId, AgentGroupId)>, StoreError> {
    let sql = concat!(
        "SELECT ",
        bounded!("source_session_id"),
        ", ",
        bounded!("platform_id"),
        " FROM messages_in WHERE id = ?1 AND channel_type = 'agent'"
    );
    find(conn, sql, in_reply_to, |row| {
        let group = cell(row, 1)?.text().and_then(|text| AgentGroupId::new(text).ok());
        Ok(session_id(row)?.zip(group))
    })
}

/// The session of `peer` that sent the most recent message.
pub fn last_peer_session(conn: &Connection, peer: &AgentGroupId) -> Result<Option<SessionId>, StoreError> {
    let sql = concat!(
        "SELECT ",
        bounded!("source_session_id"),
        " FROM messages_in WHERE channel_type = 'agent' AND source_session_id IS NOT NULL AND platform_id = ?1
          ORDER BY seq DESC LIMIT 1"
    );
    find(conn, sql, peer.as_str(), session_id)
}

fn session_id(row: &Row<'_>) -> rusqlite::Result<Option<SessionId>> {
    Ok(cell(row, 0)?.text().and_then(|text| SessionId::new(text).ok()))
}

fn find<T>(
    conn: &Connection,
    sql: &str,
    key: &str,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> Result<Option<T>, StoreError> {
    let mut statement = match conn.prepare_cached(sql) {
        // A file of the seed, where no row has a source session.
        Err(error) if is_missing_column(&error) => return Ok(None),
        prepared => prepared?,
    };
    Ok(statement.query_row([key], read).optional()?.flatten())
}
