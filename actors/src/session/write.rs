//! The step that writes `inbound.db`: outcomes of deliveries, system actions, messages from other agents, all in
//! one transaction.

use super::messages::{AcceptError, AgentMessage};
use super::operate::TaskOperation;
use super::step::{OwnedStore, StepContext, StepError};
use super::tasks::{apply_task, change_series};
use crate::limits::{Limits, PROJECTIONS_PER_TRANSACTION_MAX};
use crate::model::content;
use crate::model::error::ErrorClass;
use crate::model::ids::{MessageId, PathComponent, SessionId};
use crate::model::message::OutboundRow;
use crate::model::route::AGENT_CHANNEL_TYPE;
use crate::model::time::Timestamp;
use crate::report::{DeliveryState, TaskVerb};
use crate::store::attachments;
use crate::store::error::StoreError;
use crate::store::inbound::{self, NewInbound, ProjectedStatus, Projection};
use crate::store::ledger::{Effect, Outcome, Unprojected};
use crate::store::session_store::{Adds, SessionStore};
use crate::system_action::ActionReply;
use crate::task_scheduler::PlannedAction;
use rusqlite::Transaction;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What is to be written besides the outcomes that the ledger lists.
pub(super) struct WriteRequest {
    /// System actions with what the task scheduler made of them.
    pub actions: Vec<(OutboundRow, PlannedAction)>,
    /// Messages from other agents.
    pub accepts: Vec<AgentMessage>,
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
}

struct Written {
    projected: Vec<(MessageId, DeliveryState)>,
    actions: Vec<(MessageId, Outcome)>,
    /// How many rows each operation changed.
    changed: Vec<usize>,
    more: bool,
}

/// What one transaction writes besides outcomes.
struct WriteWork {
    actions: Vec<(OutboundRow, PlannedAction)>,
    accepts: Arc<Vec<AcceptWork>>,
    operations: Vec<(String, TaskVerb)>,
}

/// Writes, then tells the ledger and the askers. On an error nothing is lost: the ledger still lists the
/// outcomes, the actions are still queued, and whoever sent an agent message tries again.
pub(super) async fn write(
    context: &StepContext,
    store: &mut Option<OwnedStore>,
    request: WriteRequest,
) -> Result<WriteReport, StepError> {
    let now = context.engine.now();
    let WriteRequest { actions, accepts, operations } = request;
    let (accepts, replies): (Vec<_>, Vec<_>) = accepts.into_iter().map(AcceptWork::split).unzip();
    let accepts = Arc::new(accepts);
    let wake = !accepts.is_empty() || !operations.is_empty();
    let work = WriteWork {
        actions,
        accepts: Arc::clone(&accepts),
        operations: operations.iter().map(|operation| (operation.task_id.clone(), operation.verb)).collect(),
    };
    let written =
        context.with_store(store, move |store, context| write_all(store, context, &work, now)).await;
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
    let settled_actions = written.actions.iter().map(|(id, _)| id.clone()).collect();
    record(context, &written, now).await?;
    for (operation, changed) in operations.into_iter().zip(written.changed) {
        let _ = operation.reply.send(Ok(changed));
    }
    for ((reply, _token), answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer);
    }
    Ok(WriteReport { settled_actions, more: written.more, wake })
}

/// Tells the ledger what `inbound.db` now says.
async fn record(context: &StepContext, written: &Written, now: Timestamp) -> Result<(), StepError> {
    if written.projected.is_empty() && written.actions.is_empty() {
        return Ok(());
    }
    let (session, projected, actions) =
        (context.session.clone(), written.projected.clone(), written.actions.clone());
    context
        .engine
        .ledger
        .record(move |ledger| {
            for (message, outcome) in &actions {
                ledger.finish(&session, message, outcome, now)?;
            }
            ledger.mark_projected(&session, &projected)
        })
        .await?;
    crash_point!("projected");
    for (message, outcome) in &written.actions {
        match outcome {
            Outcome::Done { effect, .. } => context.engine.statistics.count_effect(*effect),
            Outcome::Dead { class, reason, .. } => {
                context.engine.statistics.count_dead(1);
                context.engine.warn_given_up(&context.session, message, *class, reason);
            }
            Outcome::Retry { .. } | Outcome::Held { .. } | Outcome::Ambiguous { .. } => {}
        }
    }
    Ok(())
}

type Answers = Vec<Result<(), AcceptError>>;

fn write_all(
    store: &mut SessionStore,
    context: &StepContext,
    work: &WriteWork,
    now: Timestamp,
) -> Result<(Written, Answers), StoreError> {
    let WriteWork { actions, accepts, operations } = work;
    let reader = &context.engine.ledger_reader;
    let unprojected = reader.unprojected(&context.session, PROJECTIONS_PER_TRANSACTION_MAX)?;
    let directory = Arc::clone(store.directory()?);
    let mut answers: Answers = accepts.iter().map(|accept| accept.copy_files(context, &directory)).collect();
    let is_told_only = actions.is_empty()
        && accepts.is_empty()
        && operations.is_empty()
        && unprojected.iter().all(|delivery| delivery.state == DeliveryState::Delivered);
    let adds = if is_told_only { Adds::Outcomes } else { Adds::Messages };
    let (written_actions, changed) = store.write(adds, |transaction| {
        project(transaction, &unprojected, now)?;
        for (accept, answer) in accepts.iter().zip(&mut answers) {
            if answer.is_ok() {
                accept.insert(transaction, now)?;
            }
        }
        let applied = actions
            .iter()
            .map(|(row, planned)| Ok((row.id.clone(), apply(transaction, row, planned, context, now)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let change = |(task_id, verb): &(String, TaskVerb)| change_series(transaction, task_id, *verb, now);
        Ok((applied, operations.iter().map(change).collect::<Result<Vec<_>, _>>()?))
    })?;
    crash_point!("inbound_committed");
    // Only after the outcome is in the agent's own file may its attachments go.
    for delivery in unprojected.iter().filter(|delivery| delivery.has_files) {
        if delivery.state == DeliveryState::Delivered {
            remove_outbox(context, &directory, delivery);
        }
    }
    crash_point!("outbox_removed");
    let more = unprojected.len() == PROJECTIONS_PER_TRANSACTION_MAX;
    let projected = unprojected.into_iter().map(|delivery| (delivery.message_id, delivery.state)).collect();
    Ok((Written { projected, actions: written_actions, changed, more }, answers))
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
    now: Timestamp,
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
                tell_failure(transaction, message, facts, settled_at, now)?;
            }
            DeliveryState::Held => {
                tell_held(transaction, message, (delivery.seq, reason), settled_at, now)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Leaves a notice that a message waits for an operator, and that later ones of its kind will too.
fn tell_held(
    transaction: &Transaction<'_>,
    message: &MessageId,
    (seq, reason): (i64, &str),
    settled_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let content = serde_json::json!({
        "type": "delivery_held", "messageId": message.as_str(), "seq": seq, "reason": reason,
    });
    let id = derived_id("held", &[message.as_str(), &settled_at.as_ms().to_string()])?;
    let notice = NewInbound { content: content.to_string(), ..inbox_row(id, "system") };
    inbound::insert_message(transaction, &notice, now)?;
    Ok(())
}

/// Leaves a notice in the agent's inbox. It is context only: it wakes nobody.
fn tell_failure(
    transaction: &Transaction<'_>,
    message: &MessageId,
    (seq, attempts, reason): (i64, u32, &str),
    settled_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let content = serde_json::json!({
        "type": "delivery_failed", "messageId": message.as_str(), "seq": seq, "reason": reason,
        "attempts": attempts,
    });
    // One notice per death: a message that is replayed and dies again is told again.
    let id = derived_id("failed", &[message.as_str(), &settled_at.as_ms().to_string()])?;
    let notice = NewInbound { content: content.to_string(), ..inbox_row(id, "system") };
    inbound::insert_message(transaction, &notice, now)?;
    Ok(())
}

fn apply(
    transaction: &Transaction<'_>,
    row: &OutboundRow,
    planned: &PlannedAction,
    context: &StepContext,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
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
            tell_failure(transaction, &row.id, (row.seq, 0, &reason), now, now)?;
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

/// A short id that is always the same for the same parts, however long or odd these are.
fn derived_text(prefix: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    format!("{prefix}-{}", &format!("{:x}", hash.finalize())[..24])
}

pub(super) fn derived_id(prefix: &str, parts: &[&str]) -> Result<MessageId, StoreError> {
    MessageId::new(&derived_text(prefix, parts)).map_err(|error| StoreError::Limit(error.to_string()))
}

/// The id that a message gets in the inbox of the agent that it is for.
pub(super) fn agent_inbox_id(source: &SessionId, message: &MessageId) -> String {
    derived_text("a2a", &[source.as_str(), message.as_str()])
}

/// A message from another agent without the means to answer it.
struct AcceptWork {
    inbox_id: String,
    source_session: SessionId,
    source_group: crate::model::ids::AgentGroupId,
    source_message: MessageId,
    content: Arc<str>,
    files: Arc<[String]>,
}

type Reply =
    (tokio::sync::oneshot::Sender<Result<(), AcceptError>>, crate::supervise::activity::ActivityToken);

impl AcceptWork {
    fn split(message: AgentMessage) -> (Self, Reply) {
        let AgentMessage { source_session, source_group, source_message, content, files, reply, _token } =
            message;
        // Derived from the source, so that a repeated hand-over writes no second row.
        let inbox_id = agent_inbox_id(&source_session, &source_message);
        (Self { inbox_id, source_session, source_group, source_message, content, files }, (reply, _token))
    }

    /// Copies the declared files from the source's outbox into this session's inbox.
    fn copy_files(
        &self,
        context: &StepContext,
        directory: &crate::store::session_dir::SessionDir,
    ) -> Result<(), AcceptError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let limits = &context.engine.settings.limits;
        let refused = |name: &str, reason: &dyn std::fmt::Display| {
            AcceptError::Attachment(format!("attachment {name:?}: {reason}"))
        };
        if self.files.len() > limits.attachments_max {
            let reason = format!("{} attachments, the limit is {}", self.files.len(), limits.attachments_max);
            return Err(AcceptError::Attachment(reason));
        }
        let source = context
            .engine
            .sessions_root
            .session(&self.source_group, &self.source_session)
            .map_err(|error| AcceptError::Unavailable(error.to_string()))?;
        let inbox_folder = PathComponent::new(&self.inbox_id).map_err(|error| refused("", &error))?;
        let mut total = 0;
        for declared in self.files.iter() {
            limits.check_attachment_name(declared).map_err(AcceptError::Attachment)?;
            let name = PathComponent::new(declared).map_err(|error| refused(declared, &error))?;
            let folder = self.source_message.path_component().map_err(|error| refused(declared, &error))?;
            let (file, size) = attachments::open_outbox_file(&source, &folder, &name)
                .map_err(|error| refused(declared, &error))?;
            total += size;
            if size > limits.attachment_bytes_max || total > limits.attachments_total_bytes_max {
                return Err(refused(declared, &"the attachments are too large"));
            }
            attachments::copy_into_inbox(directory, &inbox_folder, &name, &file, size)
                .map_err(|error| AcceptError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }

    fn insert(&self, transaction: &Transaction<'_>, now: Timestamp) -> Result<(), StoreError> {
        let id = MessageId::new(&self.inbox_id).map_err(|error| StoreError::Limit(error.to_string()))?;
        let row = NewInbound {
            trigger: true,
            platform_id: Some(self.source_group.to_string()),
            channel_type: Some(AGENT_CHANNEL_TYPE.to_owned()),
            content: content::forwarded_to_agent(&self.content, &self.files, &self.inbox_id),
            source_session_id: Some(self.source_session.clone()),
            ..inbox_row(id, "chat")
        };
        // A duplicate is the same message handed over twice: it has arrived.
        inbound::insert_message(transaction, &row, now)?;
        Ok(())
    }
}
