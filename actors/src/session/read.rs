//! The steps that read `outbound.db`: new rows after the cursor, and rows that wait in the ledger.

use super::judge::{Judge, Judged};
use super::step::{OwnedStore, StepContext, StepError};
use crate::engine::file_marks::ReadMark;
use crate::limits::LANE_WINDOW;
use crate::model::error::ErrorClass;
use crate::model::ids::MessageId;
use crate::model::message::{Lane, OutboundRow};
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::store::error::StoreError;
use crate::store::inbound::{self, ProjectedStatus};
use crate::store::ledger::{
    Admission, Admitted, ImportedDelivery, InitialState, LedgerTransaction, Outcome, SessionCursor,
};
use crate::store::outbound::{self, Batch, Cursor, UnusableRow};
use crate::store::session_dir::SessionFile;
use crate::store::session_store::SessionStore;
use std::collections::HashSet;
use std::sync::Arc;

/// A cycle's result.
pub(super) struct ReadReport {
    pub cursor: Cursor,
    /// Whether there are more rows than one cycle takes.
    pub more: bool,
    /// New rows with what the ledger said to them, in order.
    pub rows: Vec<(Judged, Admitted)>,
    /// Rows that are dead because their id is no text.
    pub unusable: usize,
    /// Whether `inbound.db` is known to ask for nothing.
    pub inbox_is_quiet: bool,
    /// `outbound.db` before it was read.
    pub outbound: ReadMark,
}

struct Judgement {
    judged: Vec<Judged>,
    unusable: Vec<UnusableRow>,
    imported: Vec<ImportedDelivery>,
    cursor: Cursor,
    more: bool,
    inbox_is_quiet: bool,
    outbound: ReadMark,
}

/// Reads at most `rows_max` new rows, judges them, and makes them known to the ledger.
///
/// With `adopting`, rows that another host has delivered since the ledger was last here are recognised. `heard_at` says
/// since when the host has known of what is new.
pub(super) async fn read(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    progress: SessionCursor,
    (adopting, rows_max): (bool, usize),
    heard_at: Option<Timestamp>,
) -> Result<ReadReport, StepError> {
    let now = context.engine.now();
    let judgement = context
        .with_store(store, move |store, context| {
            judge_new(store, context, progress, (adopting, rows_max), now)
        })
        .await?;
    let Judgement { judged, unusable, imported, cursor, more, inbox_is_quiet, outbound } = judgement;
    crash_point!("rows_read");
    if cursor == progress.cursor && judged.is_empty() && unusable.is_empty() {
        return Ok(ReadReport { cursor, more, rows: Vec::new(), unusable: 0, inbox_is_quiet, outbound });
    }
    let mut admissions: Vec<Admission> = judged.iter().map(|judged| judged.admission(heard_at)).collect();
    admissions.extend(unusable.iter().filter_map(unusable_admission));
    let (session, group) = (context.session.clone(), context.group.clone());
    // A message that enters twice is known the second time; only a change of another one cannot be made twice.
    let is_repeatable = admissions.iter().all(|admission| admission.revision.is_none());
    let admit = move |ledger: &mut LedgerTransaction<'_>| {
        ledger.import_deliveries(&session, &imported, now)?;
        ledger.admit(&session, &group, &admissions, cursor, progress.low_water_seq, now)
    };
    let ledger = &context.engine.ledger;
    let mut answers = match is_repeatable {
        true => ledger.record_repeatable(admit).await?.0,
        false => ledger.record(admit).await?,
    };
    crash_point!("admitted");
    let new_unusable =
        answers.split_off(judged.len()).into_iter().filter(|answer| *answer == Admitted::New).count();
    let rows = judged.into_iter().zip(answers).collect();
    Ok(ReadReport { cursor, more, rows, unusable: new_unusable, inbox_is_quiet, outbound })
}

fn judge_new(
    store: &mut SessionStore,
    context: &StepContext,
    progress: SessionCursor,
    (adopting, rows_max): (bool, usize),
    now: Timestamp,
) -> Result<Judgement, StoreError> {
    let content_bytes_max = context.engine.settings.limits.content_bytes_max;
    let outbound = ReadMark::new(store.directory()?.identity(SessionFile::Outbound)?, now);
    let batch = match store.outbound() {
        Ok(outbox) => outbound::read_after(outbox, progress.cursor, rows_max, content_bytes_max)?,
        // An agent that has not started yet has no file.
        Err(StoreError::Missing(_)) => Batch { cursor: progress.cursor, ..Batch::default() },
        Err(error) => return Err(error),
    };
    if !batch.rows.is_empty() {
        slog::debug!(context.engine.logger, "rows read"; "session" => %context.session, "count" => batch.rows.len());
    }
    // A row that comes late may be one that the ledger knew and has pruned.
    let has_late = batch.rows.iter().any(|row| row.seq <= progress.cursor.seq);
    let imported = if adopting || has_late { delivered_elsewhere(store, &batch)? } else { Vec::new() };
    let judged = judge_rows(store, context, batch.rows, now)?;
    let inbox_is_quiet = store.inbox_is_known_quiet();
    let Batch { unusable, cursor, more, .. } = batch;
    Ok(Judgement { judged, unusable, imported, cursor, more, inbox_is_quiet, outbound })
}

/// Judges rows and stores the questions that they ask.
fn judge_rows(
    store: &mut SessionStore,
    context: &StepContext,
    rows: Vec<OutboundRow>,
    now: Timestamp,
) -> Result<Vec<Judged>, StoreError> {
    let snapshot = context.engine.snapshot();
    let judge = Judge { snapshot: &snapshot, session: &context.session, group: &context.group, now };
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let mut judged = judge.judge(row, store)?;
        if let Some(question) = judged.question(&context.session, now) {
            judged.store_question(&question, &context.engine.central)?;
        }
        all.push(judged);
    }
    Ok(all)
}

fn delivered_elsewhere(store: &mut SessionStore, batch: &Batch) -> Result<Vec<ImportedDelivery>, StoreError> {
    let ids: Vec<MessageId> = batch.rows.iter().map(|row| row.id.clone()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let delivered = match store.inbound() {
        Ok(inbox) => inbound::delivered_among(inbox, &ids)?,
        Err(StoreError::Missing(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let imported = batch.rows.iter().filter_map(|row| {
        delivered.get(&row.id).map(|status| ImportedDelivery {
            message_id: row.id.clone(),
            seq: row.seq,
            platform_message_id: None,
            failed: *status == ProjectedStatus::Failed,
        })
    });
    Ok(imported.collect())
}

/// A row without a usable id is dead under a name made from its place.
fn unusable_admission(row: &UnusableRow) -> Option<Admission> {
    Some(Admission {
        message_id: MessageId::new(&format!("rowid:{}", row.rowid)).ok()?,
        seq: i64::MAX,
        kind: "unknown".to_owned(),
        lane: Lane::Nowhere,
        channel_type: None,
        platform_id: None,
        thread_id: None,
        has_files: false,
        initial: InitialState::Dead { class: ErrorClass::Invalid, reason: row.reason.clone() },
        revision: None,
        heard_at: None,
    })
}

/// A lane's next messages.
pub(super) struct RefillReport {
    pub lane: Arc<str>,
    /// What the ledger lists, in order, with the row and the time before which it must not be tried.
    pub listed: Vec<(Judged, Option<Timestamp>)>,
    /// Whether the list holds the whole lane.
    pub complete: bool,
    /// Rows that are dead now: gone from `outbound.db`, or not permitted any more.
    pub dead: Vec<(MessageId, ErrorClass)>,
}

/// Reads the head of a lane that waits in the ledger.
pub(super) async fn refill(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    lane: Arc<str>,
    outstanding: HashSet<MessageId>,
) -> Result<RefillReport, StepError> {
    let now = context.engine.now();
    let lane_key = Arc::clone(&lane);
    let page = move |store: &mut SessionStore, context: &StepContext| {
        read_lane(store, context, &lane_key, &outstanding, now)
    };
    let (listed, complete, dead) = context.with_store(store, page).await?;
    for (message, class, reason) in &dead {
        let outcome =
            Outcome::Dead { class: *class, reason: reason.clone(), attempted: false, projected: false };
        context.engine.record_outcome(&context.session, message, outcome).await;
    }
    let dead = dead.into_iter().map(|(message, class, _)| (message, class)).collect();
    Ok(RefillReport { lane, listed, complete, dead })
}

type LanePage = (Vec<(Judged, Option<Timestamp>)>, bool, Vec<(MessageId, ErrorClass, String)>);

fn read_lane(
    store: &mut SessionStore,
    context: &StepContext,
    lane_key: &str,
    outstanding: &HashSet<MessageId>,
    now: Timestamp,
) -> Result<LanePage, StoreError> {
    let limit = 2 * LANE_WINDOW;
    let postpones = context.postpones_retries_in(lane_key);
    let reader = &context.engine.ledger_reader;
    let mut pending = reader.lane_page(&context.session, lane_key, limit, now, postpones)?;
    let mut complete = pending.len() < limit;
    // They are in memory already.
    pending.retain(|delivery| !outstanding.contains(&delivery.message_id));
    let ids: Vec<MessageId> = pending.iter().map(|delivery| delivery.message_id.clone()).collect();
    let content_bytes_max = context.engine.settings.limits.content_bytes_max;
    let (rows, looked_at) = match store.outbound() {
        Ok(outbox) => outbound::read_by_ids(outbox, &ids, content_bytes_max)?,
        Err(StoreError::Missing(_)) => (Vec::new(), ids.len()),
        Err(error) => return Err(error),
    };
    complete &= looked_at == pending.len();
    pending.truncate(looked_at);
    let judged = judge_rows(store, context, rows, now)?;
    let mut by_id: std::collections::HashMap<_, _> =
        judged.into_iter().map(|judged| (judged.row.id.clone(), judged)).collect();
    let (mut listed, mut dead) = (Vec::new(), Vec::new());
    for delivery in pending {
        let Some(mut judged) = by_id.remove(&delivery.message_id) else {
            let reason = "the row was gone from outbound.db before it could be sent".to_owned();
            dead.push((delivery.message_id, ErrorClass::Vanished, reason));
            continue;
        };
        if let super::judge::Verdict::Dead { class, reason } = judged.verdict {
            dead.push((delivery.message_id, class, reason));
            continue;
        }
        judged.row.seq = delivery.seq;
        let not_before =
            delivery.next_attempt_at.filter(|at| delivery.state == DeliveryState::Retrying && *at > now);
        listed.push((judged, not_before));
    }
    Ok((listed, complete, dead))
}
