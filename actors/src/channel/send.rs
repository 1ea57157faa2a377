//! One attempt from the record before it to the record after it.
//!
//! It runs as a task of its own: when the channel's actor dies in mid-send, the outcome is recorded all the
//! same.

use super::account::{ChannelAccount, InFlight};
use super::adapter::{Attachment, Delivery};
use super::queue::QueuedDelivery;
use crate::engine::Engine;
use crate::engine::quotas::AttachmentPermit;
use crate::ledger::LedgerError;
use crate::limits::GONE_DESTINATION_REMEMBERED;
use crate::model::error::{ErrorClass, LimitScope, SendError};
use crate::model::ids::PathComponent;
use crate::model::message::DeliveryKey;
use crate::model::retry::{self, RetryDecision};
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::session::messages::{Settled, Settlement};
use crate::settings::MissingAttachment;
use crate::store::attachments;
use crate::store::error::StoreError;
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
    /// Try it again, not before `at`; with a hint, others must wait too.
    RetryAt { at: Timestamp, blocks: Option<LimitScope> },
}

/// The pause before another try when the attempt could not be recorded.
const UNRECORDED_ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// The pause before another try when the session sends as many attachments already as it may.
const QUOTA_PAUSE: Duration = Duration::from_millis(250);

/// Makes one attempt at `item`.
pub(super) async fn attempt(
    engine: Arc<Engine>,
    account: Arc<ChannelAccount>,
    item: QueuedDelivery,
) -> Attempted {
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
    let attachments = match open_attachments(&engine, &item).await {
        Ok(opened) => Ok(opened),
        Err(NotOpened::Refused(reason)) => {
            return give_up(&engine, &item, ErrorClass::Attachment, reason).await;
        }
        Err(NotOpened::NotNow) => {
            return Attempted::RetryAt { at: engine.now().plus(QUOTA_PAUSE), blocks: None };
        }
        Err(NotOpened::Unavailable(reason)) => Err(SendError::Unavailable { reason }),
    };
    let now = engine.now();
    if account.is_gone(&item.destination.channel_type, &item.destination.platform_id, now) {
        let reason = "the platform said that this destination is gone".to_owned();
        return give_up(&engine, &item, ErrorClass::DestinationGone, reason).await;
    }
    match begin(&engine, &key, now).await {
        Ok(Begin::Started { attempt, first_due }) => {
            crash_point!("attempt_recorded");
            let (result, _permit) = match attachments {
                Ok((attachments, permit)) => {
                    engine.statistics.count_attempt();
                    (call_adapter(&engine, &account, delivery(&item, attempt, attachments)).await, permit)
                }
                Err(unavailable) => (Err(unavailable), None),
            };
            settle(&engine, &account, &item, in_flight, result, (attempt, first_due)).await
        }
        Ok(Begin::NotYet(at)) => Attempted::RetryAt { at, blocks: None },
        Ok(Begin::Refused(DeliveryState::Sending)) => {
            // We hold the mark, so nobody is sending it: an attempt ended without a record.
            let error = SendError::Ambiguous { reason: "an attempt ended without a record".to_owned() };
            settle(&engine, &account, &item, in_flight, Err(error), (1, now)).await
        }
        Ok(Begin::Refused(_) | Begin::Unknown) => {
            tell_session(&engine, &item, Settlement::LookAgain).await;
            Attempted::Settled
        }
        Err(error) => {
            // Without the record there is no attempt: nothing was sent.
            slog::error!(engine.logger, "attempt not recorded, not sent"; "session" => %key.session_id,
                "msg_id" => %key.message_id, "error" => %error);
            Attempted::RetryAt { at: engine.now().plus(UNRECORDED_ATTEMPT_PAUSE), blocks: None }
        }
    }
}

/// Records the attempt. After an error it may be in the ledger all the same, when only the disk has failed: then
/// it is taken back, for as long as that takes.
async fn begin(engine: &Engine, key: &DeliveryKey, now: Timestamp) -> Result<Begin, LedgerError> {
    let inside = key.clone();
    let begun = engine.ledger.record_durably(move |ledger| ledger.begin_attempt(&inside, now)).await;
    if begun.is_err() {
        engine
            .record_until_done(&key.session_id, &key.message_id, "attempt not taken back yet", || {
                let (inside, now) = (key.clone(), engine.now());
                move |ledger: &mut LedgerTransaction<'_>| ledger.abandon_attempt(&inside, now)
            })
            .await;
    }
    begun
}

/// Calls the adapter. A receipt is recorded by the same task in the same turn: from the platform's acceptance until
/// the record is in the kernel, a crash makes the message unknown.
async fn call_adapter(
    engine: &Arc<Engine>,
    account: &ChannelAccount,
    delivery: Delivery,
) -> Result<(), SendError> {
    let (engine, adapter) = (Arc::clone(engine), Arc::clone(&account.adapter));
    // A task of its own, so that a panic in the adapter is an answer and not the end of this function.
    let call = actix_rt::spawn(async move {
        crash_point!("adapter_called");
        let timeout = engine.settings.limits.send_timeout;
        let answer = tokio::time::timeout(timeout, adapter.send(&delivery)).await;
        crash_point!("adapter_answered");
        let Ok(answer) = answer else {
            let reason = format!("no answer within {} s", timeout.as_secs_f64());
            return Err(SendError::Ambiguous { reason });
        };
        let outcome = Outcome::Done {
            effect: Effect::Delivered,
            platform_message_id: answer?.platform_message_id,
            projected: false,
        };
        engine.record_outcome(&delivery.session_id, &delivery.message_id, outcome).await;
        Ok(())
    });
    let panicked = SendError::Ambiguous { reason: "the channel adapter panicked".to_owned() };
    call.await.unwrap_or(Err(panicked))
}

async fn settle(
    engine: &Arc<Engine>,
    account: &ChannelAccount,
    item: &QueuedDelivery,
    in_flight: InFlight,
    result: Result<(), SendError>,
    (attempt, first_due): (u32, Timestamp),
) -> Attempted {
    let now = engine.now();
    let error = match result {
        Ok(()) => {
            drop(in_flight);
            engine.statistics.count_effect(Effect::Delivered);
            slog::info!(engine.logger, "delivered"; "session" => %item.session_id, "msg_id" => %item.message_id,
                "channel" => %item.destination.channel_type, "attempt" => attempt);
            tell_session(engine, item, Settlement::Final).await;
            return Attempted::Settled;
        }
        Err(error) => error,
    };
    let class = error.class();
    let random = |bound_ms: u64| fastrand::u64(0..=bound_ms);
    let decision =
        retry::decide(&error, &engine.settings.retry, attempt, first_due, now, account.may_resend(), random);
    if engine.may_warn(&item.session_id) {
        slog::warn!(engine.logger, "attempt failed"; "session" => %item.session_id,
            "msg_id" => %item.message_id, "channel" => %item.destination.channel_type, "attempt" => attempt,
            "class" => class.as_str(), "error" => %error, "decision" => ?decision);
    }
    match decision {
        RetryDecision::RetryAt { at, counts_attempt } => {
            let outcome = Outcome::Retry { at, counts_attempt, class, reason: error.to_string() };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            Attempted::RetryAt { at, blocks: blocked_scope(&error) }
        }
        RetryDecision::Dead { reason } => {
            if matches!(error, SendError::DestinationGone { .. }) {
                let destination = item.destination.clone();
                let until = now.plus(GONE_DESTINATION_REMEMBERED);
                account.set_gone(destination.channel_type, destination.platform_id, until);
            }
            let outcome = Outcome::Dead { class, reason, attempted: true, projected: false };
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            engine.statistics.count_dead(1);
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

/// What else must wait after this failure.
fn blocked_scope(error: &SendError) -> Option<LimitScope> {
    match error {
        SendError::RateLimited { scope, .. } => Some(*scope),
        SendError::Unauthorized { .. } => Some(LimitScope::Account),
        _ => None,
    }
}

async fn give_up(
    engine: &Arc<Engine>,
    item: &QueuedDelivery,
    class: ErrorClass,
    reason: String,
) -> Attempted {
    engine.warn_given_up(&item.session_id, &item.message_id, class, &reason);
    let outcome = Outcome::Dead { class, reason, attempted: false, projected: false };
    engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
    engine.statistics.count_dead(1);
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

fn delivery(item: &QueuedDelivery, attempt: u32, attachments: Vec<Attachment>) -> Delivery {
    Delivery {
        session_id: item.session_id.clone(),
        agent_group_id: item.agent_group_id.clone(),
        message_id: item.message_id.clone(),
        seq: item.seq,
        destination: item.destination.clone(),
        kind: Arc::clone(&item.kind),
        content: Arc::clone(&item.content),
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

/// Why a message's attachments could not be opened.
enum NotOpened {
    /// Never: one is missing, refused or too large.
    Refused(String),
    /// The session sends as many already as it may.
    NotNow,
    /// The host could not: it may have run out of descriptors.
    Unavailable(String),
}

type OpenAttachments = (Vec<Attachment>, Option<AttachmentPermit>);

async fn open_attachments(engine: &Arc<Engine>, item: &QueuedDelivery) -> Result<OpenAttachments, NotOpened> {
    if item.files.is_empty() {
        return Ok((Vec::new(), None));
    }
    let (engine_inside, item) = (Arc::clone(engine), item.clone());
    engine
        .blocking
        .run(move || {
            let attachments = open_declared_files(&engine_inside, &item)?;
            let permit = take_permit(&engine_inside, &item, &attachments)?;
            Ok((attachments, Some(permit)))
        })
        .await
        .unwrap_or_else(|error| Err(NotOpened::Unavailable(error.to_string())))
}

fn take_permit(
    engine: &Engine,
    item: &QueuedDelivery,
    attachments: &[Attachment],
) -> Result<AttachmentPermit, NotOpened> {
    let limits = &engine.settings.limits;
    let bytes = attachments.iter().map(Attachment::size).fold(0, u64::saturating_add);
    // It would never fit, however long it waits.
    if bytes > limits.attachment_bytes_per_session_max {
        let limit = limits.attachment_bytes_per_session_max;
        let reason = format!("attachments have {bytes} bytes, the limit of a session is {limit}");
        return Err(NotOpened::Refused(reason));
    }
    let permit = engine.attachments.take(&item.session_id, attachments.len(), bytes, limits);
    permit.ok_or(NotOpened::NotNow)
}

fn open_declared_files(engine: &Engine, item: &QueuedDelivery) -> Result<Vec<Attachment>, NotOpened> {
    let limits = &engine.settings.limits;
    let too_large = |reason: String| Err(NotOpened::Refused(reason));
    if item.files.len() > limits.attachments_max {
        return too_large(format!(
            "{} attachments, the limit is {}",
            item.files.len(),
            limits.attachments_max
        ));
    }
    let directory = engine
        .sessions_root
        .session(&item.agent_group_id, &item.session_id)
        .map_err(|error| not_opened(&error, error.to_string()))?;
    let mut attachments = Vec::with_capacity(item.files.len());
    let mut total = 0_u64;
    for declared in item.files.iter() {
        limits.check_attachment_name(declared).map_err(NotOpened::Refused)?;
        let opened = open_declared_file(&directory, item, declared);
        let (name, file, size) = match opened {
            Ok(opened) => opened,
            Err(NotOpened::Refused(_))
                if engine.settings.missing_attachment == MissingAttachment::SendWithout =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        total = total.saturating_add(size);
        if size > limits.attachment_bytes_max {
            return too_large(format!(
                "attachment {declared:?} has {size} bytes, the limit is {}",
                limits.attachment_bytes_max
            ));
        }
        if total > limits.attachments_total_bytes_max {
            return too_large(format!(
                "attachments have more than {} bytes together",
                limits.attachments_total_bytes_max
            ));
        }
        attachments.push(Attachment::new(name, size, file));
    }
    Ok(attachments)
}

fn not_opened(error: &StoreError, reason: String) -> NotOpened {
    match error {
        StoreError::Io { .. } | StoreError::Busy(_) => NotOpened::Unavailable(reason),
        _ => NotOpened::Refused(reason),
    }
}

fn open_declared_file(
    directory: &crate::store::session_dir::SessionDir,
    item: &QueuedDelivery,
    declared: &str,
) -> Result<(PathComponent, std::fs::File, u64), NotOpened> {
    let in_words = |reason: &dyn std::fmt::Display| format!("attachment {declared:?}: {reason}");
    let refused = |reason: &dyn std::fmt::Display| NotOpened::Refused(in_words(reason));
    let name = PathComponent::new(declared).map_err(|error| refused(&error))?;
    let folder = item.message_id.path_component().map_err(|error| refused(&error))?;
    match attachments::open_outbox_file(directory, &folder, &name) {
        Ok((file, size)) => Ok((name, file, size)),
        Err(StoreError::Missing(_)) => Err(refused(&"the file does not exist")),
        Err(error) => Err(not_opened(&error, in_words(&error))),
    }
}
