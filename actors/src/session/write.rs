//! The step that writes `inbound.db`: outcomes of deliveries, system actions, messages from other agents, all in
//! one transaction.

use super::accept;
use super::messages::{AcceptError, InboxArrival};
use super::notices::Notices;
use super::operate::TaskOperation;
use super::step::{OwnedStore, StepContext, StepError};
use super::tasks::{apply_task, change_series};
use crate::limits::{LAST_ACTIVE_STEP, Limits, PROJECTIONS_PER_TRANSACTION_MAX};
use crate::model::error::ErrorClass;
use crate::model::ids::MessageId;
use crate::model::message::OutboundRow;
use crate::model::time::Timestamp;
use crate::report::{DeliveryState, EventKind, TaskVerb};
use crate::store::arrivals::{self, Arrival, Enqueued};
use crate::store::attachments;
use crate::store::error::StoreError;
use crate::store::inbound::{self, NewInbound, ProjectedStatus, Projection};
use crate::store::ledger::{Effect, InboxFiles, Outcome, Unprojected};
use crate::store::session_store::{Adds, SessionStore};
use crate::system_action::ActionReply;
use crate::task_scheduler::PlannedAction;
use rusqlite::Transaction;
use std::sync::Arc;

/// What is to be written besides the outcomes that the ledger lists.
pub(super) struct WriteRequest {
    /// System actions with what the task scheduler made of them.
    pub actions: Vec<(OutboundRow, PlannedAction)>,
    /// Messages from other agents and from the application.
    pub accepts: Vec<InboxArrival>,
    /// What operators want of the tasks.
    pub operations: Vec<TaskOperation>,
}

/// What was written.
pub(super) struct WriteReport {
    /// System actions that are settled now.
    pub settled_actions: Vec<MessageId>,
    /// Whether the ledger lists more outcomes than one transaction takes.
    pub more: bool,
    /// Whether the agent has something new that should wake it.
    pub wake: bool,
    /// Whether attachments are left in the inbox that no row names.
    pub has_leftovers: bool,
}

struct Written {
    projected: Vec<(MessageId, DeliveryState)>,
    actions: Vec<(MessageId, Outcome)>,
    /// Attachments that have their row now.
    expected_files: Vec<InboxFiles>,
    /// Whether attachments are left that got none.
    has_leftovers: bool,
    /// How many rows each operation changed.
    changed: Vec<usize>,
    more: bool,
    wake: bool,
    /// Whether messages have arrived in the inbox.
    has_arrivals: bool,
}

/// What one transaction writes besides outcomes.
struct WriteWork {
    actions: Vec<(OutboundRow, PlannedAction)>,
    operations: Vec<(String, TaskVerb)>,
}

/// Writes, then tells the askers and the ledger. On an error nothing is lost: the ledger still lists the
/// outcomes, the actions are still queued, and whoever sent a message that is not written tries again.
pub(super) async fn write(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    request: WriteRequest,
) -> Result<WriteReport, StepError> {
    let now = context.engine.now();
    let WriteRequest { actions, accepts, operations } = request;
    let (works, replies): (Vec<_>, Vec<_>) = accepts.into_iter().map(InboxArrival::split).unzip();
    let changes = operations.iter().map(|operation| (operation.task_id.clone(), operation.verb)).collect();
    let work = WriteWork { actions, operations: changes };
    let written = write_in_order(context, store, work, works, now).await;
    let (written, answers) = match written {
        Ok(written) => written,
        Err(error) => {
            for operation in operations {
                operation.refuse(&error.to_string());
            }
            for (reply, _token) in replies {
                let _ = reply.send(Err(AcceptError::Unavailable(error.to_string())));
            }
            return Err(error);
        }
    };
    // It is in `inbound.db`: nobody is to ask again because the ledger cannot be written.
    for (operation, changed) in operations.into_iter().zip(&written.changed) {
        let _ = operation.reply.send(Ok(*changed));
    }
    for ((reply, _token), answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer);
    }
    if written.has_arrivals {
        context.engine.note_session(EventKind::Inbound, &context.session, None);
    }
    record(context, &written, now).await?;
    let settled_actions = written.actions.iter().map(|(id, _)| id.clone()).collect();
    let Written { more, wake, has_leftovers, .. } = written;
    Ok(WriteReport { settled_actions, more, wake, has_leftovers })
}

/// Files first, and before them the ledger's note of them; then all rows in one transaction.
async fn write_in_order(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    work: WriteWork,
    works: Vec<accept::AcceptWork>,
    now: Timestamp,
) -> Result<(Written, Answers), StepError> {
    let accept::Prepared { accepts, expected_files } = accept::prepare(context, store, works).await?;
    context
        .with_store(store, move |store, context| {
            let (written, answers) = write_all(store, context, &work, accepts, now)?;
            let has_row = |files: &InboxFiles| {
                let id = files.message_id.as_str();
                answers.iter().flatten().any(|enqueued| enqueued.message_id == id)
            };
            let (expected_files, left) = expected_files.into_iter().partition::<Vec<_>, _>(has_row);
            Ok((Written { expected_files, has_leftovers: !left.is_empty(), ..written }, answers))
        })
        .await
}

/// Tells the ledger what `inbound.db` now says.
async fn record(context: &StepContext, written: &Written, now: Timestamp) -> Result<(), StepError> {
    if written.projected.is_empty() && written.actions.is_empty() && written.expected_files.is_empty() {
        return Ok(());
    }
    let (session, projected, actions) =
        (context.session.clone(), written.projected.clone(), written.actions.clone());
    let copied = written.expected_files.clone();
    if actions.is_empty() && copied.is_empty() {
        // What is not marked is projected again, which changes nothing.
        context
            .engine
            .ledger
            .record_repeatable(move |ledger| ledger.mark_projected(&session, &projected))
            .await?;
        crash_point!("projected");
        return Ok(());
    }
    context
        .engine
        .ledger
        .record(move |ledger| {
            for (message, outcome) in &actions {
                ledger.finish(&session, message, outcome, now)?;
            }
            ledger.forget_inbox_files(&session, &copied)?;
            ledger.mark_projected(&session, &projected)
        })
        .await?;
    crash_point!("projected");
    for (message, outcome) in &written.actions {
        match outcome {
            Outcome::Done { effect, .. } => context.engine.statistics.count_effect(*effect),
            Outcome::Dead { class, reason, .. } => {
                context.engine.given_up(&context.session, message, *class, reason);
            }
            Outcome::Retry { .. } | Outcome::Held { .. } | Outcome::Ambiguous { .. } => {}
        }
    }
    Ok(())
}

type Answers = Vec<Result<Enqueued, AcceptError>>;

fn write_all(
    store: &mut SessionStore,
    context: &StepContext,
    work: &WriteWork,
    accepts: Vec<Result<Arrival, AcceptError>>,
    now: Timestamp,
) -> Result<(Written, Answers), StoreError> {
    let WriteWork { actions, operations } = work;
    let reader = &context.engine.ledger_reader;
    let unprojected = reader.unprojected(&context.session, PROJECTIONS_PER_TRANSACTION_MAX)?;
    let directory = Arc::clone(store.directory()?);
    let is_told_only = actions.is_empty()
        && accepts.is_empty()
        && operations.is_empty()
        && unprojected.iter().all(|delivery| delivery.state == DeliveryState::Delivered);
    let placed = accept::place(store, accepts)?;
    let notices = Notices::new(context, now);
    let adds = if is_told_only { Adds::Outcomes } else { Adds::Messages };
    let (written_actions, answers, changed) = store.write(adds, |transaction| {
        project(transaction, &unprojected, &notices)?;
        let mut answers = Answers::with_capacity(placed.len());
        for placed in placed {
            answers.push(match placed {
                Ok(placed) => Ok(arrivals::insert(transaction, &placed, now)?),
                Err(refusal) => Err(refusal),
            });
        }
        let applied = actions
            .iter()
            .map(|(row, planned)| Ok((row.id.clone(), apply(transaction, row, planned, context, &notices)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let change = |(task_id, verb): &(String, TaskVerb)| change_series(transaction, task_id, *verb, now);
        let changed = operations.iter().map(change).collect::<Result<Vec<_>, _>>()?;
        Ok((applied, answers, changed))
    })?;
    crash_point!("inbound_committed");
    let is_told = notices.note_wake();
    let has_arrivals = answers.iter().flatten().any(|enqueued| enqueued.is_new);
    if has_arrivals {
        note_activity(context, now);
    }
    // Only after the outcome is in the agent's own file may its attachments go.
    for delivery in unprojected.iter().filter(|delivery| delivery.has_files) {
        if delivery.state == DeliveryState::Delivered {
            remove_outbox(context, &directory, delivery);
        }
    }
    crash_point!("outbox_removed");
    let more = unprojected.len() == PROJECTIONS_PER_TRANSACTION_MAX;
    let projected = unprojected.into_iter().map(|delivery| (delivery.message_id, delivery.state)).collect();
    let wake = is_told || has_arrivals || !operations.is_empty();
    let written = Written {
        projected,
        actions: written_actions,
        expected_files: Vec::new(),
        has_leftovers: false,
        changed,
        more,
        wake,
        has_arrivals,
    };
    Ok((written, answers))
}

/// Has `v2.db` told that the session is in use; not with every message, since each change of that file is read again.
fn note_activity(context: &StepContext, now: Timestamp) {
    let snapshot = context.engine.snapshot();
    let known = snapshot.sessions.get(&context.session).and_then(|facts| facts.last_active);
    if known.is_some_and(|known| now.since(known) < LAST_ACTIVE_STEP) {
        return;
    }
    context.engine.active_sessions.note(&context.session, now, context.engine.activity.token());
}

fn remove_outbox(
    context: &StepContext,
    directory: &crate::store::session_dir::SessionDir,
    delivery: &Unprojected,
) {
    let Ok(folder) = delivery.message_id.path_component() else { return };
    match attachments::remove_outbox(directory, &folder) {
        Ok(()) | Err(StoreError::Missing(_)) => {}
        // The message is delivered; what is left of its folder harms nobody.
        Err(error) if context.engine.may_warn(&context.session) => slog::warn!(context.engine.logger,
            "outbox folder not removed"; "session" => %context.session, "msg_id" => %delivery.message_id,
            "error" => %error),
        Err(_) => {}
    }
}

fn project(
    transaction: &Transaction<'_>,
    unprojected: &[Unprojected],
    notices: &Notices<'_>,
) -> Result<(), StoreError> {
    // A held message is neither delivered nor failed; its agent is only told.
    let outcomes: Vec<Projection> = unprojected
        .iter()
        .filter(|delivery| delivery.state != DeliveryState::Held)
        .map(|delivery| Projection {
            message_id: delivery.message_id.clone(),
            status: match delivery.state {
                DeliveryState::Delivered => ProjectedStatus::Delivered,
                _ => ProjectedStatus::Failed,
            },
            platform_message_id: delivery.platform_message_id.clone(),
            delivered_at: delivery.settled_at,
        })
        .collect();
    inbound::project(transaction, &outcomes)?;
    for delivery in unprojected {
        let reason = delivery.error.as_deref().unwrap_or("given up");
        let (message, settled_at) = (&delivery.message_id, delivery.settled_at);
        match delivery.state {
            DeliveryState::Dead => {
                let facts = (delivery.seq, delivery.attempts, reason);
                notices.failed(transaction, message, facts, settled_at)?;
            }
            DeliveryState::Held => {
                notices.held(transaction, message, (delivery.seq, reason), settled_at)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn apply(
    transaction: &Transaction<'_>,
    row: &OutboundRow,
    planned: &PlannedAction,
    context: &StepContext,
    notices: &Notices<'_>,
) -> Result<Outcome, StoreError> {
    let now = notices.now;
    let done = Outcome::Done { effect: Effect::Applied, platform_message_id: None, projected: true };
    // The host died after this transaction and before the ledger knew of it.
    match inbound::delivered_status(transaction, &row.id)? {
        Some(ProjectedStatus::Delivered) => return Ok(done),
        Some(ProjectedStatus::Failed) | None => {}
    }
    let applied = match planned {
        PlannedAction::Task(change) => apply_task(transaction, change, context, now)?,
        PlannedAction::Reply(reply) => {
            insert_reply(transaction, reply, &context.engine.settings.limits, now)?
        }
        PlannedAction::Refused(reason) => Err(reason.clone()),
    };
    let (status, outcome) = match applied {
        Ok(()) => (ProjectedStatus::Delivered, done),
        Err(reason) => {
            notices.failed(transaction, &row.id, (row.seq, 0, &reason), now)?;
            let class = ErrorClass::ActionRefused;
            (ProjectedStatus::Failed, Outcome::Dead { class, reason, attempted: false, projected: true })
        }
    };
    let projection =
        Projection { message_id: row.id.clone(), status, platform_message_id: None, delivered_at: now };
    inbound::project(transaction, &[projection])?;
    Ok(outcome)
}

fn insert_reply(
    transaction: &Transaction<'_>,
    reply: &ActionReply,
    limits: &Limits,
    now: Timestamp,
) -> Result<Result<(), String>, StoreError> {
    let content_bytes_max = usize::try_from(limits.content_bytes_max).unwrap_or(usize::MAX);
    if let Some(large) = reply.messages.iter().find(|message| message.content.len() > content_bytes_max) {
        let size = large.content.len();
        return Ok(Err(format!("the answer has {size} bytes, the limit is {content_bytes_max}")));
    }
    for message in &reply.messages {
        let Ok(id) = MessageId::new(&message.id) else {
            return Ok(Err(format!("the handler answered with an unusable row id {:?}", message.id)));
        };
        let row = NewInbound {
            trigger: message.wake,
            content: message.content.clone(),
            ..inbox_row(id, &message.kind)
        };
        inbound::insert_message(transaction, &row, now)?;
    }
    Ok(Ok(()))
}

/// A row for the agent's inbox that wakes nobody and answers to no chat.
pub(super) fn inbox_row(id: MessageId, kind: &str) -> NewInbound {
    NewInbound {
        id,
        kind: kind.to_owned(),
        process_after: None,
        recurrence: None,
        series_id: None,
        trigger: false,
        on_wake: false,
        platform_id: None,
        channel_type: None,
        thread_id: None,
        content: String::new(),
        source_session_id: None,
    }
}
