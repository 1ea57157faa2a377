//! The first step: who was here before, and what is still to be done.

use super::step::{OwnedStore, StepContext, StepError};
use crate::limits::IMPORT_BYTES_MAX;
use crate::model::ids::MessageId;
use crate::model::message::Lane;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inbound::{self, ProjectedStatus};
use crate::store::lease::SessionLease;
use crate::store::ledger::{ImportedDelivery, InboxFiles, KnownSession, SessionCursor};
use crate::store::outbound::{self, Cursor};
use crate::store::session_store::SessionStore;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Pause between two tries to become a session's owner.
const LEASE_RETRY_PAUSE: Duration = Duration::from_millis(2);
/// Rows per page when the history of a session is imported.
const IMPORT_PAGE: usize = 1000;
/// Most `delivered` rows that are imported. A session with more is refused rather than sent twice.
const IMPORT_ROWS_MAX: usize = 1_000_000;

/// A session that may be worked on.
pub(super) struct OpenedSession {
    pub progress: SessionCursor,
    /// The ledger knows nothing of it but what was imported just now.
    pub is_new: bool,
    /// Held until the session has been read for the first time.
    pub activation: Option<OwnedSemaphorePermit>,
    /// The ledger has a reason why it cannot be served; it may be that of a life that is over.
    pub is_quarantined: bool,
}

/// Becomes the owner of the session, opens its folder and finds out how far it has been read.
pub(super) async fn open(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    activation: Option<OwnedSemaphorePermit>,
) -> Result<OpenedSession, StepError> {
    // A former try may have come as far as holding the lease.
    *store = None;
    let activation = match activation {
        Some(activation) => Some(activation),
        // The semaphore is never closed.
        None => Arc::clone(&context.engine.permits.activation).acquire_owned().await.ok(),
    };
    let lease = wait_for_lease(context).await;
    let opener = context.clone();
    let opened = context.engine.blocking.run(move || {
        let mut store = SessionStore::new(opener.place(), lease);
        let known = find_out(&mut store, &opener).map_err(|error| store.classify(error))?;
        Ok::<_, StoreError>((OwnedStore::new(store, &opener.engine), known))
    });
    let (opened, (known, history)) = opened.await.map_err(|_| StepError::Panicked)??;
    *store = Some(opened);
    let is_new = known.progress.is_none();
    let progress = match (known.progress, history) {
        (Some(progress), _) => progress,
        (None, history) => import(context, history.unwrap_or_default()).await?,
    };
    Ok(OpenedSession { progress, is_new, is_quarantined: known.is_quarantined, activation })
}

/// What the ledger knows of the session and, of one that it has never seen, what an earlier host did here.
fn find_out(
    store: &mut SessionStore,
    context: &StepContext,
) -> Result<(KnownSession, Option<SettledRows>), StoreError> {
    store.directory()?;
    let known = context.engine.ledger_reader.known_session(&context.session)?;
    let history = if known.progress.is_none() { Some(read_history(store)?) } else { None };
    Ok((known, history))
}

async fn wait_for_lease(context: &StepContext) -> SessionLease {
    loop {
        if let Some(lease) = context.engine.leases.try_acquire(&context.session) {
            return lease;
        }
        // Only a former life's blocking section can hold it, and that one ends.
        tokio::time::sleep(LEASE_RETRY_PAUSE).await;
    }
}

/// Takes over what an earlier host delivered here.
async fn import(context: &StepContext, history: SettledRows) -> Result<SessionCursor, StepError> {
    let (session, group, now) = (context.session.clone(), context.group.clone(), context.engine.now());
    let (cursor, imported) = history;
    // A power loss that takes this along takes along all that came after it; the files then tell the same again.
    context
        .engine
        .ledger
        .record(move |ledger| ledger.import_session(&session, &group, cursor, &imported, now))
        .await?;
    Ok(SessionCursor { cursor, low_water_seq: cursor.seq })
}

/// Up to where everything is settled, and the settled rows that must be kept by id.
type SettledRows = (Cursor, Vec<ImportedDelivery>);

/// The place up to which everything is settled, and the settled rows that must be kept by id.
pub(crate) fn read_history(store: &mut SessionStore) -> Result<SettledRows, StoreError> {
    let delivered = match store.inbound() {
        Ok(inbox) => {
            let mut delivered = HashMap::new();
            let (mut after, mut bytes) = (i64::MIN, 0);
            loop {
                let page = inbound::delivered_page(inbox, after, IMPORT_PAGE)?;
                after = page.after_rowid;
                bytes += page.rows.iter().map(bytes_of).sum::<usize>();
                if bytes > IMPORT_BYTES_MAX {
                    return Err(StoreError::Limit(format!(
                        "more than {IMPORT_BYTES_MAX} bytes of delivered rows"
                    )));
                }
                delivered.extend(
                    page.rows.into_iter().map(|row| (row.message_id, (row.status, row.platform_message_id))),
                );
                if delivered.len() > IMPORT_ROWS_MAX {
                    return Err(StoreError::Limit(format!("more than {IMPORT_ROWS_MAX} delivered rows")));
                }
                if !page.more {
                    break delivered;
                }
            }
        }
        Err(StoreError::Missing(_)) => HashMap::new(),
        Err(error) => return Err(error),
    };
    if delivered.is_empty() {
        return Ok((Cursor::default(), Vec::new()));
    }
    match store.outbound() {
        Ok(_) => settled_rows(store, &delivered),
        Err(StoreError::Missing(_)) => Ok((Cursor::default(), Vec::new())),
        Err(error) => Err(error),
    }
}

/// What a row needs in memory, about.
fn bytes_of(row: &inbound::DeliveredRow) -> usize {
    row.message_id.as_str().len() + row.platform_message_id.as_ref().map_or(0, String::len)
}

type Delivered = HashMap<MessageId, (ProjectedStatus, Option<String>)>;

fn settled_rows(store: &mut SessionStore, delivered: &Delivered) -> Result<SettledRows, StoreError> {
    let outbox = store.outbound()?;
    let (mut low_water_seq, mut contiguous) = (0, true);
    let mut imported = Vec::new();
    let mut cursor = Cursor::default();
    loop {
        let page = outbound::ids_in_order(outbox, cursor, IMPORT_PAGE)?;
        cursor = page.cursor;
        // They have still to be listed as dead.
        contiguous &= page.unusable.is_empty();
        for (id, seq) in &page.ids {
            let Some((status, platform_message_id)) = delivered.get(id) else {
                contiguous = false;
                continue;
            };
            let failed = *status == ProjectedStatus::Failed;
            if contiguous {
                low_water_seq = *seq;
            }
            if failed || !contiguous {
                imported.push(ImportedDelivery {
                    message_id: id.clone(),
                    seq: *seq,
                    platform_message_id: platform_message_id.clone(),
                    failed,
                });
            }
        }
        if !page.more {
            // With everything settled, no row need be looked at again. Else late rows may be among those below.
            let rowid = if contiguous && low_water_seq == cursor.seq { cursor.rowid } else { 0 };
            return Ok((Cursor { seq: low_water_seq, rowid }, imported));
        }
    }
}

/// Finds out which of the messages that wait another host has dealt with since this one was last here.
///
/// Of system actions only failed ones count: one that was applied is recognised when it is applied again.
pub(super) async fn adopt(context: &StepContext, store: &mut Option<OwnedStore>) -> Result<(), StepError> {
    let adopted = context.with_store(store, dealt_with_elsewhere).await?;
    if adopted.is_empty() {
        return Ok(());
    }
    slog::info!(context.engine.logger, "another host has delivered messages"; "session" => %context.session,
        "count" => adopted.len());
    let (session, now) = (context.session.clone(), context.engine.now());
    let adopt =
        context.engine.ledger.record_durably(move |ledger| ledger.adopt_deliveries(&session, &adopted, now));
    Ok(adopt.await?)
}

fn dealt_with_elsewhere(
    store: &mut SessionStore,
    context: &StepContext,
) -> Result<Vec<ImportedDelivery>, StoreError> {
    let waiting = context.engine.ledger_reader.waiting(&context.session)?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<MessageId> = waiting.iter().map(|delivery| delivery.message_id.clone()).collect();
    let delivered = match store.inbound() {
        Ok(inbox) => inbound::delivered_among(inbox, &ids)?,
        Err(StoreError::Missing(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let system_lane = Lane::System.key();
    let adopted = waiting.into_iter().filter_map(|delivery| {
        let failed = match delivered.get(&delivery.message_id)? {
            ProjectedStatus::Delivered if delivery.lane_key == system_lane => return None,
            ProjectedStatus::Delivered => false,
            // A message that was given up here and is replayed has such a row too.
            ProjectedStatus::Failed if !delivery.is_untouched => return None,
            ProjectedStatus::Failed => true,
        };
        let (message_id, seq) = (delivery.message_id, delivery.seq);
        Some(ImportedDelivery { message_id, seq, platform_message_id: None, failed })
    });
    Ok(adopted.collect())
}

/// What waits for a session, as the ledger knows it.
pub(super) struct Survey {
    pub lanes: Vec<String>,
    pub backlog: u64,
    pub has_unprojected: bool,
    pub next_scheduled: Option<Timestamp>,
    /// Attachments in the inbox that may have no row.
    pub inbox_files: Vec<InboxFiles>,
}

/// Asks the ledger what waits.
pub(super) async fn survey(context: &StepContext) -> Result<Survey, StepError> {
    let inside = context.clone();
    let now = context.engine.now();
    let surveyed = context.engine.blocking.run(move || {
        let reader = &inside.engine.ledger_reader;
        Ok::<_, StoreError>(Survey {
            lanes: reader.unsettled_lanes(&inside.session)?,
            backlog: reader.backlog(&inside.session)?,
            has_unprojected: !reader.unprojected(&inside.session, 1)?.is_empty(),
            next_scheduled: reader
                .next_scheduled(&inside.session, now, &|name| inside.engine.postpones_retries(name))?,
            inbox_files: reader.inbox_files(&inside.session)?,
        })
    });
    Ok(surveyed.await.map_err(|_| StepError::Panicked)??)
}
