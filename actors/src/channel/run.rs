//! A run: messages of one lane that are sent one after the other by one task, as long as no other lane waits for a turn.
//!
//! What came of a message and that the next one is about to be sent are then one operation of the ledger: a lane that has
//! the channel to itself waits for the ledger once for each message. Each attempt is recorded before it is made, and each
//! outcome before the next attempt, as in runs of one message.

use super::account::{ChannelAccount, InFlight};
use super::adapter::Delivery;
use super::attachments::{NotOpened, OpenAttachments, open_attachments};
use super::dispatch::Dispatcher;
use super::gate::SendPermit;
use super::queue::QueuedDelivery;
use super::send::{self, Attempted, Failed};
use crate::channel::LookAgain;
use crate::engine::Engine;
use crate::ledger::{Commit, LedgerError};
use crate::model::error::{ErrorClass, Receipt, SendError};
use crate::model::message::DeliveryKey;
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::session::messages::Settlement;
use crate::store::ledger::{Begin, Effect, LedgerTransaction, Outcome};
use crate::supervise::unwind::catching;
use std::cell::RefCell;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pause after a run whose own code panicked.
const BROKEN_RUN_PAUSE: Duration = Duration::from_secs(1);
/// The pause before another try when the session sends as many attachments already as it may.
const QUOTA_PAUSE: Duration = Duration::from_millis(250);

/// The last message of a run and what its lane must know about it.
pub(super) type Ended = (QueuedDelivery, Attempted);

/// How a run reaches the lanes that it serves. They end with their actor; a run outlives it.
#[derive(Clone)]
pub(super) struct Lanes {
    pub dispatcher: Weak<RefCell<Dispatcher>>,
    pub ended: mpsc::UnboundedSender<Ended>,
}

/// An attempt that is recorded, or the reason why it is not.
struct Begun {
    in_flight: InFlight,
    permit: SendPermit,
    attachments: Result<OpenAttachments, SendError>,
    begin: Result<Begin, LedgerError>,
    /// When it began.
    at: Timestamp,
}

/// How a run goes on after an attempt.
enum Next {
    Ends(Attempted),
    With(Box<(QueuedDelivery, Begun)>),
}

/// Sends `item` and what comes after it in its lane, and says how far it came.
pub(super) async fn run(engine: Arc<Engine>, lanes: Lanes, permit: SendPermit, item: QueuedDelivery) {
    let mut current = item;
    let probed = permit.is_probe().then(|| permit.account().name.clone());
    let sent = catching(send_all(&engine, &lanes, permit, &mut current)).await;
    // When its own code has panicked, the next run finds in the ledger how far this one came.
    let attempted = sent.unwrap_or_else(|_| Attempted::RetryAt(engine.now().plus(BROKEN_RUN_PAUSE)));
    // Without the actor its lanes are gone too.
    let _ = lanes.ended.send((current, attempted));
    // Others wait for how a probe ends; the actor that sent it may not be there any more.
    if let Some(channel) = probed.and_then(|name| engine.directory.channel(&name)) {
        // One whose mailbox is full looks again without being told.
        let _ = channel.try_send(LookAgain { _token: engine.activity.token() });
    }
}

async fn send_all(
    engine: &Arc<Engine>,
    lanes: &Lanes,
    permit: SendPermit,
    current: &mut QueuedDelivery,
) -> Attempted {
    let account = Arc::clone(permit.account());
    let mut begun = match begin_first(engine, &account, permit, current).await {
        Ok(begun) => begun,
        Err(attempted) => return attempted,
    };
    loop {
        match attempt(engine, (&account, lanes), current, begun).await {
            Next::Ends(attempted) => return attempted,
            Next::With(next) => (*current, begun) = *next,
        }
    }
}

/// The record before the first attempt of a run; the end of the run when there is to be none.
async fn begin_first(
    engine: &Arc<Engine>,
    account: &Arc<ChannelAccount>,
    permit: SendPermit,
    item: &QueuedDelivery,
) -> Result<Begun, Attempted> {
    let key = item.key();
    let in_flight = loop {
        match account.start_send(&key) {
            Ok(in_flight) => break in_flight,
            // The run of an earlier life of the channel's actor is still at it. The ledger then says whether
            // anything is left to do; until it is known, the lane stays where it is.
            Err(earlier) => drop(earlier.await),
        }
    };
    // The permit lasts as long as the attempt.
    let attachments = match open_attachments(engine, item).await {
        Ok(opened) => Ok(opened),
        Err(NotOpened::Refused(reason)) => {
            return Err(send::give_up(engine, item, ErrorClass::Attachment, reason).await);
        }
        Err(NotOpened::NotNow) => {
            return Err(Attempted::RetryAt(engine.now().plus(QUOTA_PAUSE)));
        }
        Err(NotOpened::Unavailable(reason)) => Err(SendError::Unavailable { reason }),
    };
    let at = engine.now();
    if engine.holds.is_gone(&item.destination, at) {
        let reason = "the platform said that this destination is gone".to_owned();
        return Err(send::give_up(engine, item, ErrorClass::DestinationGone, reason).await);
    }
    let begin = begin(engine, account, &key, at).await;
    Ok(Begun { in_flight, permit, attachments, begin, at })
}

/// Records the attempt, before which nothing is sent. Where an unknown outcome means another send anyway, the record
/// survives a killed host and nobody waits for the disk: a power loss that takes it along has the effect that the policy
/// has. Elsewhere it is on the disk first.
async fn begin(
    engine: &Engine,
    account: &ChannelAccount,
    key: &DeliveryKey,
    now: Timestamp,
) -> Result<Begin, LedgerError> {
    let inside = key.clone();
    let recorded = engine.ledger.record_repeatable(move |ledger| ledger.begin_attempt(&inside, now)).await;
    begun(engine, account, key, recorded).await
}

/// Waits for the disk where that is called for. After an error the record may be in the ledger all the same, when only
/// the disk has failed: then it is taken back, for as long as that takes.
async fn begun(
    engine: &Engine,
    account: &ChannelAccount,
    key: &DeliveryKey,
    recorded: Result<(Begin, Commit), LedgerError>,
) -> Result<Begin, LedgerError> {
    let begun = match recorded {
        Ok((begin, commit)) => {
            let synced = if account.may_resend() && !account.reconciles() {
                engine.ledger.on_disk_soon(commit).await
            } else {
                engine.ledger.on_disk(commit).await
            };
            synced.map(|()| begin)
        }
        Err(error) => Err(error),
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

/// Makes the attempt that has begun.
async fn attempt(
    engine: &Arc<Engine>,
    (account, lanes): (&Arc<ChannelAccount>, &Lanes),
    item: &QueuedDelivery,
    begun: Begun,
) -> Next {
    let Begun { in_flight, permit, attachments, begin, at } = begun;
    match begin {
        Ok(Begin::Started { attempt, first_due, maybe_sent, edit }) => {
            crash_point!("attempt_recorded");
            if engine.holds.target_blocked(&account.name, &item.destination, engine.now()).is_some() {
                // Another send was told to wait while this one was recorded. The queue knows until when.
                take_back(engine, &item.key()).await;
                return Next::Ends(Attempted::RetryAt(at));
            }
            let asks_first = maybe_sent && account.reconciles();
            let times = (attempt, first_due);
            let (failed, permit, _quota) = match attachments {
                Ok((attachments, quota)) => {
                    let delivery = send::delivery(engine, item, attempt, attachments, edit.as_deref());
                    match make(engine, account, &delivery, asks_first).await {
                        Ok(receipt) => {
                            return delivered(
                                engine,
                                (account, lanes),
                                item,
                                (in_flight, permit),
                                receipt,
                                times,
                            )
                            .await;
                        }
                        Err(failed) => (failed, Some(permit), quota),
                    }
                }
                // The host's own trouble says nothing about the platform.
                Err(unavailable) => (Failed::before_sending(unavailable, asks_first), None, None),
            };
            Next::Ends(send::failed(engine, account, item, (in_flight, permit), failed, times).await)
        }
        Ok(Begin::NotYet(at)) => Next::Ends(Attempted::RetryAt(at)),
        Ok(Begin::Postponed(at)) => {
            send::tell_session(engine, item, Settlement::Postponed(at)).await;
            Next::Ends(Attempted::Settled)
        }
        Ok(Begin::Refused(DeliveryState::Sending)) => {
            // We hold the mark, so nobody is sending it: an attempt ended without a record.
            let error = SendError::Ambiguous { reason: "an attempt ended without a record".to_owned() };
            Next::Ends(send::failed(engine, account, item, (in_flight, None), error.into(), (1, at)).await)
        }
        Ok(Begin::Refused(_) | Begin::Unknown) => {
            send::tell_session(engine, item, Settlement::LookAgain).await;
            Next::Ends(Attempted::Settled)
        }
        Err(error) => {
            // Without the record there is no attempt: nothing was sent.
            slog::error!(engine.logger, "attempt not recorded, not sent"; "session" => %item.session_id,
                "msg_id" => %item.message_id, "error" => %error);
            Next::Ends(Attempted::RetryAt(engine.now().plus(send::UNRECORDED_ATTEMPT_PAUSE)))
        }
    }
}

/// Sends the message, unless it `asks_first` and the platform has it. A panic in the adapter is an answer.
async fn make(
    engine: &Engine,
    account: &ChannelAccount,
    delivery: &Delivery,
    asks_first: bool,
) -> Result<Receipt, Failed> {
    let panicked = || SendError::Ambiguous { reason: "the channel adapter panicked".to_owned() }.into();
    let answer = catching(send::call_adapter(engine, account, delivery, asks_first)).await;
    crash_point!("adapter_answered");
    answer.unwrap_or_else(|_| Err(panicked()))
}

/// Takes up that a message was accepted. From the platform's acceptance until the record is in the kernel, a crash makes
/// the message unknown: nothing is waited for in between.
async fn delivered(
    engine: &Arc<Engine>,
    (account, lanes): (&Arc<ChannelAccount>, &Lanes),
    item: &QueuedDelivery,
    (in_flight, permit): (InFlight, SendPermit),
    receipt: Receipt,
    (attempt, first_due): (u32, Timestamp),
) -> Next {
    let now = engine.now();
    let is_probe = permit.is_probe();
    let changes = send::answered(engine, account, permit, Ok(&receipt), None, now);
    let outcome = Outcome::Done {
        effect: Effect::Delivered,
        platform_message_id: receipt.platform_message_id,
        projected: false,
    };
    let goes_on = changes.is_empty() && !is_probe && !engine.is_stopping();
    let next = lanes.dispatcher.upgrade().filter(|_| goes_on).and_then(|dispatcher| {
        let mut dispatcher = dispatcher.try_borrow_mut().ok()?;
        dispatcher.next_of_lane(item, &engine.holds, now)
    });
    let begin = match &next {
        None => {
            engine.record_outcome(&item.session_id, &item.message_id, outcome).await;
            send::record_holds(engine, item, changes).await;
            None
        }
        Some((next, ..)) => Some(record_and_begin(engine, item, outcome, next, now).await),
    };
    drop(in_flight);
    engine.note_delivered(&account.name, item.names(), engine.now().since(first_due));
    slog::info!(engine.logger, "delivered"; "session" => %item.session_id, "msg_id" => %item.message_id,
        "channel" => %item.destination.channel_type, "attempt" => attempt);
    send::tell_session(engine, item, Settlement::Final).await;
    let (Some((next, permit, in_flight)), Some(recorded)) = (next, begin) else {
        return Next::Ends(Attempted::Settled);
    };
    let begin = begun(engine, account, &next.key(), recorded).await;
    let begun = Begun { in_flight, permit, attachments: Ok((Vec::new(), None)), begin, at: now };
    Next::With(Box::new((next, begun)))
}

/// Records the outcome of a message, for as long as it takes, and in the same operation that an attempt at the next one is
/// about to be made.
async fn record_and_begin(
    engine: &Engine,
    settled: &QueuedDelivery,
    outcome: Outcome,
    next: &QueuedDelivery,
    now: Timestamp,
) -> Result<(Begin, Commit), LedgerError> {
    let (session, message, inside) =
        (settled.session_id.clone(), settled.message_id.clone(), outcome.clone());
    let next_key = next.key();
    let recorded = engine
        .ledger
        .record_outcome_and_more(move |ledger| {
            ledger.finish(&session, &message, &inside, now)?;
            ledger.begin_attempt(&next_key, now)
        })
        .await;
    if recorded.is_err() {
        // The next message has not been sent: it can wait.
        engine.record_outcome(&settled.session_id, &settled.message_id, outcome).await;
    } else {
        crash_point!("outcome_recorded");
    }
    recorded
}
