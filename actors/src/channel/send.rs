//! The steps of an attempt: the call of the adapter, and what comes of its answer. Which attempts there are, and when each
//! is recorded, is in `run.rs`.

use super::account::{ChannelAccount, InFlight};
use super::adapter::{Attachment, Delivery};
use super::gate::{Answered, SendPermit};
use super::parts::PartLog;
use super::queue::QueuedDelivery;
use crate::engine::Engine;
use crate::model::error::{ErrorClass, Receipt, SendError};
use crate::model::hold::HoldChange;
use crate::model::message::DeliveryKey;
use crate::model::on_block::{self, Blocked};
use crate::model::retry::{self, RetryDecision};
use crate::model::revision;
use crate::model::time::Timestamp;
use crate::report::EventKind;
use crate::session::messages::{Settled, Settlement};
use crate::settings::RetrySchedules;
use crate::store::ledger::{LedgerTransaction, Outcome};
use actix::dev::SendError as SendFailed;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// What the lane must know about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempted {
    /// The message is settled; the lane goes on.
    Settled,
    /// Try it again, not before that time.
    RetryAt(Timestamp),
}

/// The pause before another try when the attempt could not be recorded.
pub(super) const UNRECORDED_ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Why an attempt failed.
pub(super) struct Failed {
    error: SendError,
    /// Whether the message was not sent now, but may have been by an earlier attempt.
    still_unknown: bool,
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self { error, still_unknown: false }
    }
}

impl Failed {
    /// Nothing was sent; an earlier attempt may have been `still_unknown`.
    pub fn before_sending(error: SendError, still_unknown: bool) -> Self {
        Self { error, still_unknown }
    }
}

/// Sends the message, unless it `asks_first` and the platform has it.
pub(super) async fn call_adapter(
    engine: &Engine,
    account: &ChannelAccount,
    delivery: &Delivery,
    asks_first: bool,
) -> Result<Receipt, Failed> {
    let (limit, adapter) = (engine.settings.limits.send_timeout, &account.adapter);
    if asks_first {
        let found = within(limit, adapter.find(delivery)).await;
        if let Some(receipt) = found.map_err(|error| Failed::before_sending(error, true))? {
            return Ok(receipt);
        }
    }
    engine.statistics.count_attempt(&account.name);
    crash_point!("adapter_called");
    Ok(within(limit, adapter.send(delivery)).await?)
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    let unanswered =
        || SendError::Ambiguous { reason: format!("no answer within {} s", limit.as_secs_f64()) };
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(unanswered()))
}

/// Takes up that an attempt failed, and records it.
pub(super) async fn failed(
    engine: &Arc<Engine>,
    account: &ChannelAccount,
    item: &QueuedDelivery,
    (_in_flight, permit): (InFlight, Option<SendPermit>),
    failed: Failed,
    (attempt, first_due): (u32, Timestamp),
) -> Attempted {
    let now = engine.now();
    let schedules = schedules(engine, account);
    let Failed { error, still_unknown } = failed;
    let random = |bound_ms: u64| fastrand::u64(0..=bound_ms);
    let decision = retry::decide(&error, schedules, attempt, first_due, now, account.may_resend(), random);
    let retry_at = match &decision {
        RetryDecision::RetryAt { at, .. } => Some(*at),
        RetryDecision::Dead { .. } | RetryDecision::Ambiguous => None,
    };
    let changes = permit.map(|permit| answered(engine, account, permit, Err(&error), retry_at, now));
    record_holds(engine, item, changes.unwrap_or_default()).await;
    let class = error.class();
    engine.note_failed_attempt(&account.name, class);
    let decision = match decision {
        // Nobody knows whether it arrived, so nobody may say that it did not.
        RetryDecision::Dead { .. } if still_unknown => RetryDecision::Ambiguous,
        decision => decision,
    };
    if engine.may_warn(&item.session_id) {
        slog::warn!(engine.logger, "attempt failed"; "session" => %item.session_id,
            "msg_id" => %item.message_id, "channel" => %item.destination.channel_type, "attempt" => attempt,
            "class" => class.as_str(), "error" => %error, "decision" => ?decision);
    }
    match decision {
        RetryDecision::RetryAt { at, counts_attempt } => {
            let blocked = on_block::decide(account.settings.on_block, &error, attempt);
            let reason = error.to_string();
            let (outcome, settlement) = match blocked {
                Blocked::Wait => (Outcome::Retry { at, counts_attempt, class, reason }, None),
                Blocked::Skip => {
                    (Outcome::Retry { at, counts_attempt, class, reason }, Some(Settlement::Postponed(at)))
                }
                Blocked::Park => {
                    slog::warn!(engine.logger, "message parked, its lane goes on"; "session" => %item.session_id,
                        "msg_id" => %item.message_id, "attempts" => attempt);
                    let reason = format!("parked after {attempt} attempts: {reason}");
                    (Outcome::Held { class, reason, attempted: true }, Some(Settlement::Final))
                }
            };
            let kind = match outcome {
                Outcome::Held { .. } => EventKind::Held,
                _ => EventKind::Retrying,
            };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            engine.note_unsettled(kind, item.names(), class, (kind == EventKind::Retrying).then_some(at));
            let Some(settlement) = settlement else { return Attempted::RetryAt(at) };
            tell_session(engine, item, settlement).await;
            Attempted::Settled
        }
        RetryDecision::Dead { reason } => {
            let outcome = Outcome::Dead { class, reason, attempted: true, projected: false };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            engine.note_dead(&item.session_id, Some(&item.message_id), class);
            tell_session(engine, item, Settlement::Final).await;
            Attempted::Settled
        }
        RetryDecision::Ambiguous => {
            let outcome = Outcome::Ambiguous { reason: error.to_string() };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            engine.note_unsettled(EventKind::Ambiguous, item.names(), class, None);
            tell_session(engine, item, Settlement::Final).await;
            Attempted::Settled
        }
    }
}

fn schedules<'a>(engine: &'a Engine, account: &'a ChannelAccount) -> &'a RetrySchedules {
    account.settings.retry.as_ref().unwrap_or(&engine.settings.retry)
}

/// Puts in force at once what an answer asks of others than its message. Returns what is to be recorded of it.
pub(super) fn answered(
    engine: &Engine,
    account: &ChannelAccount,
    permit: SendPermit,
    result: Result<&Receipt, &SendError>,
    retry_at: Option<Timestamp>,
    now: Timestamp,
) -> Vec<HoldChange> {
    let schedules = schedules(engine, account);
    permit.answered(&engine.holds, &Answered { result, retry_at, schedules, now })
}

/// Records what an answer asks of others than its message, for as long as that takes: before the outcome of a failure, so
/// that no other send comes in between.
pub(super) async fn record_holds(engine: &Arc<Engine>, item: &QueuedDelivery, changes: Vec<HoldChange>) {
    if changes.is_empty() {
        return;
    }
    engine
        .record_until_done(&item.session_id, &item.message_id, "hold not recorded yet", || {
            let (changes, now) = (changes.clone(), engine.now());
            move |ledger: &mut LedgerTransaction<'_>| ledger.change_holds(&changes, now)
        })
        .await;
}

/// Gives a message up without an attempt.
pub(super) async fn give_up(
    engine: &Arc<Engine>,
    item: &QueuedDelivery,
    class: ErrorClass,
    reason: String,
) -> Attempted {
    let outcome = Outcome::Dead { class, reason: reason.clone(), attempted: false, projected: false };
    engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
    engine.given_up(&item.session_id, &item.message_id, class, &reason);
    tell_session(engine, item, Settlement::Final).await;
    Attempted::Settled
}

/// Tells the session's actor that a message is settled, or the registry when there is no such actor now.
pub(super) async fn tell_session(engine: &Arc<Engine>, item: &QueuedDelivery, settlement: Settlement) {
    let settled = Settled {
        lane_key: item.lane_key.clone(),
        message_id: item.message_id.clone(),
        settlement,
        _token: engine.activity.token(),
    };
    let Some(living) = engine.directory.session(&item.session_id) else {
        return engine.hint(&item.session_id);
    };
    let told = match living.address.try_send(settled) {
        Ok(()) => true,
        Err(SendFailed::Full(settled)) => living.address.send(settled).await.is_ok(),
        Err(SendFailed::Closed(_)) => false,
    };
    if !told {
        engine.hint(&item.session_id);
    }
}

/// The message as the adapter gets it.
pub(super) fn delivery(
    engine: &Arc<Engine>,
    item: &QueuedDelivery,
    attempt: u32,
    attachments: Vec<Attachment>,
    edit: Option<&str>,
) -> Delivery {
    let content = edit.map(|edit| Arc::from(revision::with_edit(&item.content, edit)));
    Delivery {
        session_id: item.session_id.clone(),
        agent_group_id: item.agent_group_id.clone(),
        message_id: item.message_id.clone(),
        seq: item.seq,
        destination: item.destination.clone(),
        kind: Arc::clone(&item.kind),
        content: content.unwrap_or_else(|| Arc::clone(&item.content)),
        attachments,
        attempt,
        idempotency_key: idempotency_key(&item.key()),
        part_log: PartLog::in_ledger(engine),
    }
}

/// The same for every attempt at a message: derived from its key.
fn idempotency_key(key: &DeliveryKey) -> Arc<str> {
    let mut hash = Sha256::new();
    hash.update(key.session_id.as_str());
    hash.update([0]);
    hash.update(key.message_id.as_str());
    let mut text = String::from("msg_");
    for byte in &hash.finalize()[..16] {
        let _ = write!(text, "{byte:02x}");
    }
    Arc::from(text)
}
