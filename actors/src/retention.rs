//! Keeps the ledger from growing for ever.
//!
//! Rows are looked at by a reader, page by page, and pruned in small operations: nobody else's record waits long.
//! What may go is decided by [`crate::model::retention`].

use crate::engine::Engine;
use crate::limits::{PRUNE_AGE_MIN, PRUNE_DELAY, PRUNE_INTERVAL};
use crate::model::retention::{Ages, Expiry};
use crate::model::time::Timestamp;
use crate::relay::OperationError;
use crate::report::{DeliveryState, PruneReport};
use crate::store::error::StoreError;
use crate::store::ledger::{LedgerReader, LedgerSize, SettledPage, SettledRow};
use std::sync::Arc;

/// Rows that are looked at in one go.
const ROWS_PER_PAGE: usize = 2000;
/// Rows that are pruned in one operation on the ledger.
const ROWS_PER_OPERATION: usize = 200;
/// Pages that are given back in one operation on the ledger.
const PAGES_PER_OPERATION: u32 = 128;
/// Free space of this part of the ledger is kept for new rows: 1/8.
const FREE_PART_KEPT: u64 = 8;
/// A ledger that is too large is brought below this part of its limit: 9/10.
const SIZE_TARGET_TENTHS: u64 = 9;

/// Prunes at intervals, until it is aborted.
pub(crate) async fn run(engine: Arc<Engine>) {
    // A host that starts has better things to do.
    tokio::time::sleep(PRUNE_DELAY).await;
    loop {
        match prune(&engine).await {
            Ok(report) if report.delivered + report.dead > 0 => {
                slog::info!(engine.logger, "ledger pruned"; "delivered" => report.delivered,
                    "dead" => report.dead, "used_bytes" => report.used_bytes);
            }
            Ok(_) => {}
            Err(error) => slog::error!(engine.logger, "ledger not pruned"; "error" => %error),
        }
        tokio::time::sleep(PRUNE_INTERVAL).await;
    }
}

/// Prunes once.
pub(crate) async fn prune(engine: &Engine) -> Result<PruneReport, OperationError> {
    let retention = &engine.settings.retention;
    let now = engine.now();
    let expiry = Expiry::by_age(retention, now);
    let mut walk = Walk::default();
    walk.walk_all(engine, &expiry).await?;
    for (session, excess) in std::mem::take(&mut walk.crowded) {
        walk.dead += thin_out(engine, session, excess).await?;
    }
    let used_bytes = read(engine, LedgerReader::size).await?.used_bytes;
    if let Some(excess_bytes) = used_bytes.checked_sub(retention.size_bytes_max).filter(|bytes| *bytes > 0) {
        let wanted_bytes = excess_bytes + retention.size_bytes_max / 10 * (10 - SIZE_TARGET_TENTHS);
        let rows = wanted_bytes / (used_bytes / walk.rows_left.max(1)).max(1);
        if let Some(delivered_before) = walk.ages.before(rows, PRUNE_AGE_MIN, now) {
            let mut second = Walk::default();
            second.walk_all(engine, &Expiry { delivered_before, ..expiry }).await?;
            walk.delivered += second.delivered;
        }
    }
    while engine.ledger.record(move |ledger| ledger.prune_agent_messages(ROWS_PER_OPERATION, now)).await? > 0
    {
    }
    while engine.ledger.record(|ledger| ledger.prune_edits(ROWS_PER_OPERATION)).await? > 0 {}
    prune_runs(engine, now).await?;
    let (audit_before, rows_max) = (now.minus(retention.keep_audit), retention.audit_rows_max);
    while engine
        .ledger
        .record(move |ledger| ledger.prune_audit(audit_before, rows_max, ROWS_PER_OPERATION))
        .await?
        > 0
    {}
    let size = give_back(engine).await?;
    if size.used_bytes > retention.size_bytes_max {
        slog::warn!(engine.logger, "ledger is larger than its limit"; "used_bytes" => size.used_bytes,
            "limit_bytes" => retention.size_bytes_max);
    }
    Ok(PruneReport {
        delivered: walk.delivered,
        dead: walk.dead,
        used_bytes: size.used_bytes,
        free_bytes: size.free_bytes,
    })
}

/// One walk over the whole ledger, in the order of its key.
#[derive(Debug, Default)]
struct Walk {
    delivered: u64,
    dead: u64,
    rows_left: u64,
    /// Of the delivered messages that stay.
    ages: Ages,
    /// The session that the walk is in, and how many dead messages of it stay.
    session: String,
    dead_of_session: u64,
    /// Sessions with more dead messages than they may have, and how many more.
    crowded: Vec<(String, u64)>,
}

impl Walk {
    async fn walk_all(&mut self, engine: &Engine, expiry: &Expiry) -> Result<(), OperationError> {
        let mut after = None;
        loop {
            let page = read(engine, move |reader| reader.settled_page(after.as_ref(), ROWS_PER_PAGE)).await?;
            let SettledPage { rows, looked_at, next } = page;
            let expired = self.sort_out(rows, expiry, engine.settings.retention.dead_per_session_max);
            let (delivered, dead): (Vec<_>, Vec<_>) =
                expired.into_iter().partition(|row| row.state == DeliveryState::Delivered);
            let pruned = (remove(engine, &delivered).await?, remove(engine, &dead).await?);
            self.delivered += pruned.0;
            self.dead += pruned.1;
            self.rows_left += (looked_at as u64).saturating_sub(pruned.0 + pruned.1);
            if next.is_none() || engine.is_stopping() {
                self.leave_session(engine.settings.retention.dead_per_session_max);
                return Ok(());
            }
            after = next;
        }
    }

    /// Takes note of the rows that stay; returns the others.
    fn sort_out(
        &mut self,
        rows: Vec<SettledRow>,
        expiry: &Expiry,
        dead_per_session_max: u64,
    ) -> Vec<SettledRow> {
        let mut expired = Vec::new();
        for row in rows {
            if row.session_id != self.session {
                self.leave_session(dead_per_session_max);
                self.session.clone_from(&row.session_id);
            }
            if expiry.is_over(row.state, row.settled_at) {
                expired.push(row);
            } else if row.state == DeliveryState::Delivered {
                self.ages.add(row.settled_at);
            } else {
                self.dead_of_session += 1;
            }
        }
        expired
    }

    fn leave_session(&mut self, dead_per_session_max: u64) {
        let excess = std::mem::take(&mut self.dead_of_session).saturating_sub(dead_per_session_max);
        if excess > 0 {
            self.crowded.push((self.session.clone(), excess));
        }
    }
}

/// Prunes the oldest of a session's dead messages.
async fn thin_out(engine: &Engine, session: String, mut excess: u64) -> Result<u64, OperationError> {
    let mut pruned = 0;
    while excess > 0 && !engine.is_stopping() {
        let limit = usize::try_from(excess).unwrap_or(usize::MAX).min(ROWS_PER_PAGE);
        let inside = session.clone();
        let rows = read(engine, move |reader| reader.oldest_dead(&inside, limit)).await?;
        let gone = remove(engine, &rows).await?;
        pruned += gone;
        if gone == 0 {
            break;
        }
        excess = excess.saturating_sub(gone);
    }
    Ok(pruned)
}

/// Forgets what is too old, or too much, of the history of tasks.
async fn prune_runs(engine: &Engine, now: Timestamp) -> Result<(), OperationError> {
    let retention = &engine.settings.retention;
    let before = now.minus(retention.keep_runs);
    while engine.ledger.record(move |ledger| ledger.prune_runs(before, ROWS_PER_OPERATION)).await? > 0 {}
    let max = retention.runs_per_session_max;
    for (session, runs) in read(engine, move |reader| reader.sessions_with_many_runs(max)).await? {
        let mut excess = usize::try_from(runs.saturating_sub(max)).unwrap_or(usize::MAX);
        while excess > 0 && !engine.is_stopping() {
            let (session, limit) = (session.clone(), excess.min(ROWS_PER_OPERATION));
            let gone = engine.ledger.record(move |ledger| ledger.prune_runs_of(&session, limit)).await?;
            if gone == 0 {
                break;
            }
            excess -= gone.min(excess);
        }
    }
    Ok(())
}

async fn remove(engine: &Engine, rows: &[SettledRow]) -> Result<u64, OperationError> {
    let mut pruned = 0;
    for some in rows.chunks(ROWS_PER_OPERATION) {
        let some = some.to_vec();
        pruned += engine.ledger.record(move |ledger| ledger.prune(&some)).await?;
    }
    Ok(pruned as u64)
}

/// Gives free pages back to the file system, but for some.
async fn give_back(engine: &Engine) -> Result<LedgerSize, OperationError> {
    let mut size = read(engine, LedgerReader::size).await?;
    while size.free_bytes > size.used_bytes / FREE_PART_KEPT && !engine.is_stopping() {
        let smaller = engine.ledger.record(|ledger| ledger.give_back(PAGES_PER_OPERATION)).await?;
        if smaller.free_bytes >= size.free_bytes {
            // A ledger of an earlier version keeps its free pages.
            break;
        }
        size = smaller;
    }
    Ok(size)
}

async fn read<T: Send + 'static>(
    engine: &Engine,
    read: impl FnOnce(&LedgerReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, OperationError> {
    let reader = engine.ledger_reader.clone();
    Ok(engine.blocking.run(move || read(&reader)).await??)
}
