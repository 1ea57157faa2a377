//! Messages to other agents: one lane per target, one message at a time, handed to the target's own actor.

use super::accept::agent_inbox_id;
use super::judge::AgentTarget;
use super::messages::{AcceptError, AgentMessage, ArrivalOrigin, InboxArrival};
use super::step::StepContext;
use crate::inbox::Enqueued;
use crate::ledger::LedgerError;
use crate::model::error::{ErrorClass, SendError};
use crate::model::ids::{MessageId, SessionId};
use crate::model::message::{DeliveryKey, Lane};
use crate::model::retry::{self, RetryDecision};
use crate::model::route::{self, AgentCandidates};
use crate::model::time::Timestamp;
use crate::registry::AcceptForSession;
use crate::report::EventKind;
use crate::store::central::SessionStatus;
use crate::store::ledger::{AgentArrival, AgentBudget, AgentRequest, Effect, LedgerTransaction, Outcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The pause between two looks at a lane that is paused.
const PAUSE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A message in its lane.
#[derive(Debug, Clone)]
pub(super) struct AgentItem {
    pub message_id: MessageId,
    pub target: AgentTarget,
    /// The row in this session's inbox that it says to answer.
    pub in_reply_to: Option<String>,
    pub content: Arc<str>,
    pub files: Arc<[String]>,
    pub not_before: Option<Timestamp>,
    /// When the message was first handed out; its age limit counts from here.
    pub first_due: Timestamp,
}

/// What came of one hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandedOver {
    /// Settled: arrived, or dead.
    Settled,
    /// Somebody else has dealt with it.
    Gone,
    /// It joins its lane at that time; the lane goes on without it.
    Postponed(Timestamp),
    /// Try again, not before.
    RetryAt(Timestamp),
}

/// Hands one message to its target and records what came of it.
pub(super) async fn hand_over(context: StepContext, item: AgentItem) -> HandedOver {
    if let Some(at) = paused_until(&context, &item) {
        return HandedOver::RetryAt(at);
    }
    // From here on nobody cancels it.
    let key = DeliveryKey { session_id: context.session.clone(), message_id: item.message_id.clone() };
    let _mark = context.engine.hand_overs.begin(key);
    let hop = match budget(&context, &item).await {
        Ok(AgentBudget::Allowed { hop }) => hop,
        Ok(AgentBudget::Settled) => return HandedOver::Gone,
        Ok(AgentBudget::Postponed(at)) => return HandedOver::Postponed(at),
        Ok(AgentBudget::NotYet(at)) => return HandedOver::RetryAt(at),
        Ok(AgentBudget::Exceeded(reason)) => {
            hold(&context, &item.message_id, reason).await;
            return HandedOver::Settled;
        }
        Err(error) => return try_later(&context, &item, error.to_string()).await,
    };
    let Some(target) = target_session(&context, &item.target) else {
        let reason = format!("agent group {:?} has no active session", item.target.group);
        settle(&context, &item.message_id, dead(ErrorClass::NoRoute, reason)).await;
        return HandedOver::Settled;
    };
    match ask_target(&context, &item, target.clone()).await {
        Ok(_) => {
            note_arrival(&context, &item, target, hop).await;
            let outcome =
                Outcome::Done { effect: Effect::Routed, platform_message_id: None, projected: false };
            settle(&context, &item.message_id, outcome).await;
            HandedOver::Settled
        }
        Err(AcceptError::Attachment(reason)) => {
            settle(&context, &item.message_id, dead(ErrorClass::Attachment, reason)).await;
            HandedOver::Settled
        }
        Err(AcceptError::Unavailable(reason)) => try_later(&context, &item, reason).await,
    }
}

/// When to look again at a message that a pause holds back.
fn paused_until(context: &StepContext, item: &AgentItem) -> Option<Timestamp> {
    let engine = &context.engine;
    let now = engine.now();
    let lane_key = Arc::from(Lane::Agent(item.target.group.clone()).key());
    let tenant = engine.tenants.of(&context.group);
    let blocked = engine.holds.agent_message_blocked(&tenant.name, &context.session, &lane_key, now)?;
    // Nobody tells this lane when somebody resumes.
    let look_at = now.plus(PAUSE_LOOK_INTERVAL);
    Some(blocked.until.map_or(look_at, |until| until.min(look_at)))
}

/// Whether the message is within the limits. Judged at the hand-over and not before: what waits spends nothing.
async fn budget(context: &StepContext, item: &AgentItem) -> Result<AgentBudget, LedgerError> {
    let limits = &context.engine.settings.limits;
    let (per_minute_max, hops_max) = (limits.agent_messages_per_minute_max, limits.agent_hops_max);
    let request = AgentRequest {
        source: context.session.clone(),
        message: item.message_id.clone(),
        target: item.target.group.clone(),
        in_reply_to: item.in_reply_to.clone(),
    };
    let now = context.engine.now();
    let judge = move |ledger: &mut LedgerTransaction<'_>| {
        ledger.agent_budget(&request, per_minute_max, hops_max, now)
    };
    context.engine.ledger.record(judge).await
}

async fn hold(context: &StepContext, message: &MessageId, reason: String) {
    let engine = &context.engine;
    if engine.may_warn(&context.session) {
        slog::warn!(engine.logger, "message to an agent held"; "session" => %context.session,
            "msg_id" => %message, "error" => &reason);
    }
    let outcome = Outcome::Held { class: ErrorClass::AgentBudget, reason, attempted: false };
    engine.record_outcome(&context.session, message, outcome).await;
    engine.note_unsettled(EventKind::Held, (&context.session, message), ErrorClass::AgentBudget, None);
}

async fn note_arrival(context: &StepContext, item: &AgentItem, target: SessionId, hop: u32) {
    let arrival = AgentArrival {
        target_session: target,
        inbox_id: agent_inbox_id(&context.session, &item.message_id),
        target_group: item.target.group.clone(),
        source_session: context.session.clone(),
        source_group: context.group.clone(),
        source_message: item.message_id.clone(),
        hop,
    };
    let now = context.engine.now();
    let noted = context.engine.ledger.record(move |ledger| ledger.note_agent_arrival(&arrival, now)).await;
    if let Err(error) = noted {
        // The message has arrived; one that is not counted is better than one that is sent twice.
        slog::error!(context.engine.logger, "message to an agent not counted"; "session" => %context.session,
            "msg_id" => %item.message_id, "error" => %error);
    }
}

async fn try_later(context: &StepContext, item: &AgentItem, reason: String) -> HandedOver {
    let error = SendError::Unavailable { reason };
    let now = context.engine.now();
    let random = |bound_ms: u64| fastrand::u64(0..=bound_ms);
    match retry::decide(&error, &context.engine.settings.retry, 1, item.first_due, now, true, random) {
        RetryDecision::RetryAt { at, counts_attempt } => {
            let reason = error.to_string();
            let class = ErrorClass::Unavailable;
            let outcome = Outcome::Retry { at, counts_attempt, class, reason };
            context.engine.record_outcome(&context.session, &item.message_id, outcome).await;
            let names = (&context.session, &item.message_id);
            context.engine.note_unsettled(EventKind::Retrying, names, class, Some(at));
            HandedOver::RetryAt(at)
        }
        RetryDecision::Dead { reason } => {
            settle(context, &item.message_id, dead(ErrorClass::Unavailable, reason)).await;
            HandedOver::Settled
        }
        RetryDecision::Ambiguous => HandedOver::Settled,
    }
}

fn dead(class: ErrorClass, reason: String) -> Outcome {
    Outcome::Dead { class, reason, attempted: false, projected: false }
}

async fn settle(context: &StepContext, message: &MessageId, outcome: Outcome) {
    match &outcome {
        Outcome::Done { effect, .. } => context.engine.statistics.count_effect(*effect),
        Outcome::Dead { class, .. } => context.engine.note_dead(&context.session, Some(message), *class),
        Outcome::Retry { .. } | Outcome::Held { .. } | Outcome::Ambiguous { .. } => {}
    }
    context.engine.record_outcome(&context.session, message, outcome).await;
}

fn target_session(context: &StepContext, target: &AgentTarget) -> Option<SessionId> {
    let snapshot = context.engine.snapshot();
    let is_valid = |session: &SessionId| {
        snapshot.sessions.get(session).is_some_and(|facts| {
            facts.agent_group_id == target.group && facts.status == SessionStatus::Active
        })
    };
    let candidates = AgentCandidates {
        named: target.named_session.clone(),
        reply_source: target.reply_source.clone(),
        last_peer: target.last_peer.clone(),
        newest_active: snapshot.newest_active_session(&target.group).map(|facts| facts.id.clone()),
    };
    route::choose_agent_session(candidates, is_valid)
}

async fn ask_target(
    context: &StepContext,
    item: &AgentItem,
    target: SessionId,
) -> Result<Enqueued, AcceptError> {
    let unavailable = |reason: &str| AcceptError::Unavailable(reason.to_owned());
    let (reply, answer) = oneshot::channel();
    let message = AgentMessage {
        source_session: context.session.clone(),
        source_group: context.group.clone(),
        source_message: item.message_id.clone(),
        content: Arc::clone(&item.content),
        files: Arc::clone(&item.files),
    };
    let token = context.engine.activity.token();
    let message = InboxArrival { origin: ArrivalOrigin::Agent(message), reply, _token: token };
    let registry = context.engine.directory.registry().ok_or_else(|| unavailable("the registry is down"))?;
    let asked = registry.send(AcceptForSession { target, message }).await;
    asked.map_err(|_| unavailable("the registry ended"))?;
    // An actor that dies drops the reply; the message is then handed over again.
    answer.await.unwrap_or_else(|_| Err(unavailable("the target's actor ended")))
}
