//! One attempt from the record before it to the record after it.
//!
//! It runs as a task of its own: when the channel's actor dies in mid-send, the outcome is recorded all the
//! same.

use super::account::{ChannelAccount, InFlight};
use super::adapter::{Attachment, Channel, Delivery};
use super::attachments::{NotOpened, open_attachments};
use super::gate::{Answered, SendPermit};
use super::queue::QueuedDelivery;
use crate::channel::LookAgain;
use crate::engine::Engine;
use crate::ledger::LedgerError;
use crate::model::error::{ErrorClass, Receipt, SendError};
use crate::model::hold::HoldChange;
use crate::model::ids::ChannelType;
use crate::model::message::DeliveryKey;
use crate::model::on_block::{self, Blocked};
use crate::model::retry::{self, RetryDecision};
use crate::model::revision;
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::session::messages::{Settled, Settlement};
use crate::store::ledger::{Begin, Effect, LedgerTransaction, Outcome};
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
const UNRECORDED_ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// The pause before another try when the session sends as many attachments already as it may.
const QUOTA_PAUSE: Duration = Duration::from_millis(250);

/// Makes one attempt at `item`.
pub(super) async fn attempt(engine: Arc<Engine>, permit: SendPermit, item: QueuedDelivery) -> Attempted {
    let probed = permit.is_probe().then(|| permit.account().name.clone());
    let attempted = attempt_with(&engine, permit, item).await;
    // Others wait for how a probe ends; the actor that sent it may not be there any more.
    if let Some(channel) = probed.and_then(|name| engine.directory.channel(&name)) {
        // One whose mailbox is full looks again without being told.
        let _ = channel.try_send(LookAgain { _token: engine.activity.token() });
    }
    attempted
}

async fn attempt_with(engine: &Arc<Engine>, permit: SendPermit, item: QueuedDelivery) -> Attempted {
    let account = Arc::clone(permit.account());
    let key = item.key();
    let in_flight = loop {
        match account.start_send(&key) {
            Ok(in_flight) => break in_flight,
            // The task of an earlier life of the channel's actor is still at it. The ledger then says whether
            // anything is left to do; until it is known, the lane stays where it is.
            Err(earlier) => drop(earlier.await),
        }
    };
    // The permit lasts as long as the attempt.
    let attachments = match open_attachments(engine, &item).await {
        Ok(opened) => Ok(opened),
        Err(NotOpened::Refused(reason)) => {
            return give_up(engine, &item, ErrorClass::Attachment, reason).await;
        }
        Err(NotOpened::NotNow) => {
            return Attempted::RetryAt(engine.now().plus(QUOTA_PAUSE));
        }
        Err(NotOpened::Unavailable(reason)) => Err(SendError::Unavailable { reason }),
    };
    let now = engine.now();
    if engine.holds.is_gone(&item.destination, now) {
        let reason = "the platform said that this destination is gone".to_owned();
        return give_up(engine, &item, ErrorClass::DestinationGone, reason).await;
    }
    match begin(engine, &account, &key, now).await {
        Ok(Begin::Started { attempt, first_due, maybe_sent, edit }) => {
            crash_point!("attempt_recorded");
            if engine.holds.target_blocked(&account.name, &item.destination, engine.now()).is_some() {
                // Another send was told to wait while this one was recorded. The queue knows until when.
                take_back(engine, &key).await;
                return Attempted::RetryAt(now);
            }
            let asks_first = maybe_sent && account.reconciles();
            let (result, permit, _quota) = match attachments {
                Ok((attachments, quota)) => {
                    let delivery = delivery(&item, attempt, attachments, edit.as_deref());
                    (make(engine, &account, delivery, asks_first).await, Some(permit), quota)
                }
                // The host's own trouble says nothing about the platform.
                Err(unavailable) => (Err(Failed::before_sending(unavailable, asks_first)), None, None),
            };
            settle(engine, &account, &item, (in_flight, permit), result, (attempt, first_due)).await
        }
        Ok(Begin::NotYet(at)) => Attempted::RetryAt(at),
        Ok(Begin::Refused(DeliveryState::Sending)) => {
            // We hold the mark, so nobody is sending it: an attempt ended without a record.
            let error = SendError::Ambiguous { reason: "an attempt ended without a record".to_owned() };
            settle(engine, &account, &item, (in_flight, None), Err(error.into()), (1, now)).await
        }
        Ok(Begin::Refused(_) | Begin::Unknown) => {
            tell_session(engine, &item, Settlement::LookAgain).await;
            Attempted::Settled
        }
        Err(error) => {
            // Without the record there is no attempt: nothing was sent.
            slog::error!(engine.logger, "attempt not recorded, not sent"; "session" => %key.session_id,
                "msg_id" => %key.message_id, "error" => %error);
            Attempted::RetryAt(engine.now().plus(UNRECORDED_ATTEMPT_PAUSE))
        }
    }
}

/// Records the attempt, before which nothing is sent. Where an unknown outcome means another send anyway, the record
/// survives a killed host and nobody waits for the disk: a power loss that takes it along has the effect that the policy
/// has. Elsewhere it is on the disk first.
///
/// After an error it may be in the ledger all the same, when only the disk has failed: then it is taken back, for as long as
/// that takes.
async fn begin(
    engine: &Engine,
    account: &ChannelAccount,
    key: &DeliveryKey,
    now: Timestamp,
) -> Result<Begin, LedgerError> {
    let inside = key.clone();
    let attempt = move |ledger: &mut LedgerTransaction<'_>| ledger.begin_attempt(&inside, now);
    let begun = if account.may_resend() && !account.reconciles() {
        engine.ledger.record_synced_soon(attempt).await
    } else {
        engine.ledger.record_durably(attempt).await
    };
    if begun.is_err() {
        take_back(engine, key).await;
    }
    begun
}

/// Takes the record of an attempt back that is not made.
async fn take_back(engine: &Engine, key: &DeliveryKey) {
    engine
        .record_until_done(&key.session_id, &key.message_id, "attempt not taken back yet", || {
            let (inside, now) = (key.clone(), engine.now());
            move |ledger: &mut LedgerTransaction<'_>| ledger.abandon_attempt(&inside, now)
        })
        .await;
}

/// Why an attempt failed.
struct Failed {
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
    fn before_sending(error: SendError, still_unknown: bool) -> Self {
        Self { error, still_unknown }
    }
}

/// Sends the message, unless it `asks_first` and the platform has it. A receipt is recorded by the same task in the same
/// turn: from the platform's acceptance until the record is in the kernel, a crash makes the message unknown.
async fn make(
    engine: &Arc<Engine>,
    account: &ChannelAccount,
    delivery: Delivery,
    asks_first: bool,
) -> Result<Receipt, Failed> {
    let (engine, adapter, name) = (Arc::clone(engine), Arc::clone(&account.adapter), account.name.clone());
    // A task of its own, so that a panic in the adapter is an answer and not the end of this function.
    let call = actix_rt::spawn(async move {
        let answer = call_adapter(&engine, (&name, &*adapter), &delivery, asks_first).await;
        crash_point!("adapter_answered");
        let receipt = answer?;
        let outcome = Outcome::Done {
            effect: Effect::Delivered,
            platform_message_id: receipt.platform_message_id.clone(),
            projected: false,
        };
        engine.record_outcome(&delivery.session_id, &delivery.message_id, outcome).await;
        Ok(receipt)
    });
    let panicked = SendError::Ambiguous { reason: "the channel adapter panicked".to_owned() };
    call.await.unwrap_or(Err(panicked.into()))
}

async fn call_adapter(
    engine: &Engine,
    (channel, adapter): (&ChannelType, &dyn Channel),
    delivery: &Delivery,
    asks_first: bool,
) -> Result<Receipt, Failed> {
    let limit = engine.settings.limits.send_timeout;
    if asks_first {
        let found = within(limit, adapter.find(delivery)).await;
        if let Some(receipt) = found.map_err(|error| Failed::before_sending(error, true))? {
            return Ok(receipt);
        }
    }
    engine.statistics.count_attempt(channel);
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

/// Takes up what came of an attempt, and records it unless it was accepted: that is recorded already.
async fn settle(
    engine: &Arc<Engine>,
    account: &ChannelAccount,
    item: &QueuedDelivery,
    (in_flight, permit): (InFlight, Option<SendPermit>),
    result: Result<Receipt, Failed>,
    (attempt, first_due): (u32, Timestamp),
) -> Attempted {
    let now = engine.now();
    let schedules = account.settings.retry.as_ref().unwrap_or(&engine.settings.retry);
    let Failed { error, still_unknown } = match result {
        Ok(receipt) => {
            heed(engine, item, permit, Answered { result: Ok(&receipt), retry_at: None, schedules, now })
                .await;
            drop(in_flight);
            engine.statistics.count_delivered(&account.name, engine.now().since(first_due));
            slog::info!(engine.logger, "delivered"; "session" => %item.session_id, "msg_id" => %item.message_id,
                "channel" => %item.destination.channel_type, "attempt" => attempt);
            tell_session(engine, item, Settlement::Final).await;
            return Attempted::Settled;
        }
        Err(failed) => failed,
    };
    let random = |bound_ms: u64| fastrand::u64(0..=bound_ms);
    let decision = retry::decide(&error, schedules, attempt, first_due, now, account.may_resend(), random);
    let retry_at = match &decision {
        RetryDecision::RetryAt { at, .. } => Some(*at),
        RetryDecision::Dead { .. } | RetryDecision::Ambiguous => None,
    };
    heed(engine, item, permit, Answered { result: Err(&error), retry_at, schedules, now }).await;
    let class = error.class();
    engine.statistics.count_failed_attempt(&account.name, class);
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
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            let Some(settlement) = settlement else { return Attempted::RetryAt(at) };
            tell_session(engine, item, settlement).await;
            Attempted::Settled
        }
        RetryDecision::Dead { reason } => {
            let outcome = Outcome::Dead { class, reason, attempted: true, projected: false };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            engine.statistics.count_dead(class);
            tell_session(engine, item, Settlement::Final).await;
            Attempted::Settled
        }
        RetryDecision::Ambiguous => {
            let outcome = Outcome::Ambiguous { reason: error.to_string() };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            tell_session(engine, item, Settlement::Final).await;
            Attempted::Settled
        }
    }
}

/// Puts in force at once what an answer asks of others than its message, and records it, for as long as that takes: before
/// the outcome, so that no other send comes in between.
async fn heed(
    engine: &Arc<Engine>,
    item: &QueuedDelivery,
    permit: Option<SendPermit>,
    answered: Answered<'_>,
) {
    let changes: Vec<HoldChange> =
        permit.map(|permit| permit.answered(&engine.holds, &answered)).unwrap_or_default();
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

async fn give_up(
    engine: &Arc<Engine>,
    item: &QueuedDelivery,
    class: ErrorClass,
    reason: String,
) -> Attempted {
    engine.given_up(&item.session_id, &item.message_id, class, &reason);
    let outcome = Outcome::Dead { class, reason, attempted: false, projected: false };
    engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
    tell_session(engine, item, Settlement::Final).await;
    Attempted::Settled
}

/// Tells the session's actor that a message is settled, or the registry when there is no such actor now.
async fn tell_session(engine: &Arc<Engine>, item: &QueuedDelivery, settlement: Settlement) {
    let settled = Settled {
        lane_key: item.lane_key.clone(),
        message_id: item.message_id.clone(),
        settlement,
        _token: engine.activity.token(),
    };
    if let Some(living) = engine.directory.session(&item.session_id)
        && living.address.send(settled).await.is_ok()
    {
        return;
    }
    engine.hint(&item.session_id);
}

fn delivery(
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
