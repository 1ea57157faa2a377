//! `delivered`: what the agent may know about its messages. The ledger decides; this table follows it.

use crate::model::ids::MessageId;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{bounded, cell, prepare_either, sql_limit};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::HashMap;

/// How a delivery ended, as the agent sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectedStatus {
    /// Accepted, applied or routed.
    Delivered,
    /// Given up.
    Failed,
}

impl ProjectedStatus {
    fn as_str(self) -> &'static str {
        match self {
            ProjectedStatus::Delivered => "delivered",
            ProjectedStatus::Failed => "failed",
        }
    }

    /// A row of whatever status ends a delivery; only `failed` says that it failed.
    fn from_name(name: Option<&str>) -> Self {
        if name == Some("failed") { ProjectedStatus::Failed } else { ProjectedStatus::Delivered }
    }
}

/// One outcome to be shown to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    /// The message.
    pub message_id: MessageId,
    /// How it ended.
    pub status: ProjectedStatus,
    /// The platform's id of it. Agents use it to edit what they said.
    pub platform_message_id: Option<String>,
    /// When it ended.
    pub delivered_at: Timestamp,
}

/// NanoClaw writes this column without a fraction.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_ms(at.as_ms().div_euclid(1000) * 1000)
}

/// Writes outcomes; returns how many rows that changed. A row is touched only when it says something else: the
/// same outcome twice is one write, a replayed message turns from failed to delivered.
pub fn project(tx: &Transaction<'_>, outcomes: &[Projection]) -> Result<usize, StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO delivered (message_out_id, platform_message_id, status, delivered_at)
         VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT(message_out_id) DO UPDATE SET platform_message_id = excluded.platform_message_id,
           status = excluded.status, delivered_at = excluded.delivered_at
         WHERE status IS NOT excluded.status OR platform_message_id IS NOT excluded.platform_message_id",
    )?;
    let mut changed = 0;
    for outcome in outcomes {
        changed += statement.execute(params![
            outcome.message_id.as_str(),
            outcome.platform_message_id,
            outcome.status.as_str(),
            whole_seconds(outcome.delivered_at).to_sqlite(),
        ])?;
    }
    Ok(changed)
}

/// How `id` ended according to the file; `None` when it has no row.
pub fn delivered_status(conn: &Connection, id: &MessageId) -> Result<Option<ProjectedStatus>, StoreError> {
    Ok(delivered_among(conn, std::slice::from_ref(id))?.remove(id))
}

/// How each of `ids` ended according to the file; those without a row are left out.
pub fn delivered_among(
    conn: &Connection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, ProjectedStatus>, StoreError> {
    let mut statement = prepare_either(
        conn,
        concat!("SELECT ", bounded!("status"), " FROM delivered WHERE message_out_id = ?1"),
        "SELECT NULL FROM delivered WHERE message_out_id = ?1",
    )?;
    let mut found = HashMap::new();
    for id in ids {
        let status = statement
            .query_row([id.as_str()], |row| Ok(ProjectedStatus::from_name(cell(row, 0)?.text())))
            .optional()?;
        found.extend(status.map(|status| (id.clone(), status)));
    }
    Ok(found)
}

/// One row of `delivered`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredRow {
    /// The message.
    pub message_id: MessageId,
    /// How it ended.
    pub status: ProjectedStatus,
    /// The platform's id of it.
    pub platform_message_id: Option<String>,
}

/// A part of `delivered`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveredPage {
    /// Its rows; those whose id is no id are left out.
    pub rows: Vec<DeliveredRow>,
    /// Where the next page begins.
    pub after_rowid: i64,
    /// Whether there may be a next page.
    pub more: bool,
}

/// Reads at most `limit` rows above `after_rowid`, of files of any version: for importing what a host before this
/// one delivered. Start with [`i64::MIN`].
pub fn delivered_page(
    conn: &Connection,
    after_rowid: i64,
    limit: usize,
) -> Result<DeliveredPage, StoreError> {
    let mut statement = prepare_either(
        conn,
        concat!(
            "SELECT rowid, ",
            bounded!("message_out_id"),
            ", ",
            bounded!("status"),
            ", ",
            bounded!("platform_message_id"),
            " FROM delivered WHERE rowid > ?1 ORDER BY rowid LIMIT ?2"
        ),
        concat!(
            "SELECT rowid, ",
            bounded!("message_out_id"),
            ", NULL, NULL FROM delivered WHERE rowid > ?1 ORDER BY rowid LIMIT ?2"
        ),
    )?;
    let mut page = DeliveredPage { after_rowid, ..DeliveredPage::default() };
    let mut seen = 0;
    let mut rows = statement.query(params![after_rowid, sql_limit(limit)])?;
    while let Some(row) = rows.next()? {
        seen += 1;
        page.after_rowid = row.get(0)?;
        let Some(message_id) = cell(row, 1)?.text().and_then(|text| MessageId::new(text).ok()) else {
            continue;
        };
        let status = ProjectedStatus::from_name(cell(row, 2)?.text());
        let platform_message_id = cell(row, 3)?.text().map(str::to_owned);
        page.rows.push(DeliveredRow { message_id, status, platform_message_id });
    }
    page.more = seen >= limit;
    Ok(page)
}
