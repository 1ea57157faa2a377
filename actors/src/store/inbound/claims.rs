//! Claims and acknowledgements, as far as `messages_in` follows them.

use crate::model::ids::MessageId;
use crate::model::staleness::{self, ClaimReset, ClaimedMessage};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::outbound::AckStatus;
use crate::store::sql::{bounded, cell, sql_limit};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::HashSet;

/// Some of the pending messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LivePage {
    /// Their ids.
    pub ids: Vec<MessageId>,
    /// Where the next page begins.
    pub after_rowid: i64,
    /// Whether there may be a next page.
    pub more: bool,
}

/// At most `limit` ids of pending messages above `after_rowid`. Start with [`i64::MIN`].
pub fn live_ids(conn: &Connection, after_rowid: i64, limit: usize) -> Result<LivePage, StoreError> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT rowid, ",
        bounded!("id"),
        " FROM messages_in WHERE status IN ('pending','paused') AND status = 'pending' AND rowid > ?1
          ORDER BY rowid LIMIT ?2"
    ))?;
    let mut page = LivePage { after_rowid, ..LivePage::default() };
    let mut seen = 0;
    let mut rows = statement.query(params![after_rowid, sql_limit(limit)])?;
    while let Some(row) = rows.next()? {
        seen += 1;
        page.after_rowid = row.get(0)?;
        page.ids.extend(cell(row, 1)?.text().and_then(|text| MessageId::new(text).ok()));
    }
    page.more = seen >= limit;
    Ok(page)
}

/// Those of `ids` that are pending.
pub fn pending_among(conn: &Connection, ids: &[MessageId]) -> Result<HashSet<MessageId>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT 1 FROM messages_in WHERE id = ?1 AND status = 'pending'")?;
    let mut pending = HashSet::new();
    for id in ids {
        if statement.exists([id.as_str()])? {
            pending.insert(id.clone());
        }
    }
    Ok(pending)
}

/// Ends a pending message as the container acknowledged it; returns whether it was pending and the word is a
/// final one. What has ended stays as it is; a paused row ends after it was resumed.
///
/// `script-skip:error` and other words that end in `error` mean failed; an unknown word changes nothing.
pub fn apply_ack(tx: &Transaction<'_>, id: &MessageId, ack: &AckStatus) -> Result<bool, StoreError> {
    let Some(status) = ack.settled_status() else { return Ok(false) };
    let mut statement =
        tx.prepare_cached("UPDATE messages_in SET status = ?2 WHERE id = ?1 AND status = 'pending'")?;
    Ok(statement.execute([id.as_str(), status])? > 0)
}

/// Gives a message whose claim is stale another try, as [`staleness::reset_claim`] decides.
pub fn reset_claim(
    tx: &Transaction<'_>,
    id: &MessageId,
    tries_max: u32,
    now: Timestamp,
) -> Result<ClaimReset, StoreError> {
    let found = tx
        .prepare_cached(concat!(
            "SELECT CASE typeof(tries) WHEN 'integer' THEN tries ELSE 0 END, ",
            bounded!("process_after"),
            " FROM messages_in WHERE id = ?1 AND status = 'pending'"
        ))?
        .query_row([id.as_str()], |row| {
            let process_after = cell(row, 1)?.text().and_then(|text| Timestamp::parse(text).ok());
            let tries = u32::try_from(row.get::<_, i64>(0)?.max(0)).unwrap_or(u32::MAX);
            Ok(ClaimedMessage { is_pending: true, tries, process_after })
        })
        .optional()?;
    let Some(message) = found else { return Ok(ClaimReset::Leave) };
    let reset = staleness::reset_claim(&message, tries_max, now);
    match &reset {
        ClaimReset::RetryAt { at, tries } => {
            tx.prepare_cached(
                "UPDATE messages_in SET tries = ?2, process_after = ?3 WHERE id = ?1 AND status = 'pending'",
            )?
            .execute(params![id.as_str(), tries, at.to_iso()])?;
        }
        ClaimReset::GiveUp => {
            tx.prepare_cached(
                "UPDATE messages_in SET status = 'failed' WHERE id = ?1 AND status = 'pending'",
            )?
            .execute([id.as_str()])?;
        }
        ClaimReset::Leave => {}
    }
    Ok(reset)
}
