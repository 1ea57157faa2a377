//! What an operator does to messages that have not arrived: cancel and snooze.

use super::lists::Visible;
use super::{OperationError, Relay, StoppedHost};
use crate::channel::unblock::AskAgain;
use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::engine::events::Happened;
use crate::model::error::ErrorClass;
use crate::model::ids::SessionId;
use crate::model::message::DeliveryKey;
use crate::model::tenant::TenantSet;
use crate::model::time::Timestamp;
use crate::report::{DeliveryFilter, DeliveryRecord, EventKind, Intervention};
use crate::session::messages::LookReason;
use crate::store::ledger::{in_replay_order, keys_of};
use std::collections::BTreeSet;

/// Messages that are cancelled in one operation on the ledger: nobody else's record waits long for it.
const CANCELS_PER_OPERATION: usize = 500;

impl Relay {
    /// Gives a message up that waits, is held, or of which it is unknown whether it was sent. It is dead then with class
    /// `cancelled`, its agent is told like of any failure, and it can be replayed.
    pub async fn cancel(&self, key: DeliveryKey, reason: &str) -> Result<Intervention, OperationError> {
        Ok(self.cancel_some(vec![key], reason).await?.pop().unwrap_or(Intervention::Unknown))
    }

    /// What [`Relay::cancel_all`] would cancel, of these tenants' messages; the latest change first.
    pub async fn cancellable(
        &self,
        filter: DeliveryFilter,
        tenants: TenantSet,
    ) -> Result<Vec<DeliveryRecord>, OperationError> {
        let mut records = self.of_tenants(filter, tenants).await?;
        records.retain(|record| record.state.is_cancellable());
        Ok(records)
    }

    /// Cancels all of these tenants' messages that match. Returns how many; those that are on their way are passed over,
    /// and so are system actions.
    pub async fn cancel_all(
        &self,
        filter: DeliveryFilter,
        tenants: TenantSet,
        reason: &str,
    ) -> Result<usize, OperationError> {
        let records = self.cancellable(filter, tenants).await?;
        self.cancel_records(&records, reason).await
    }

    /// Cancels those of these deliveries that can be. Returns how many.
    pub async fn cancel_records(
        &self,
        records: &[DeliveryRecord],
        reason: &str,
    ) -> Result<usize, OperationError> {
        let keys = keys_of(records);
        let mut count = 0;
        for some in keys.chunks(CANCELS_PER_OPERATION) {
            let cancelled = self.cancel_some(some.to_vec(), reason).await?;
            count += cancelled.iter().filter(|it| **it == Intervention::Done).count();
        }
        Ok(count)
    }

    /// What a replay of these tenants' messages that match would put back, in that order.
    pub async fn replayable_of(
        &self,
        filter: DeliveryFilter,
        tenants: TenantSet,
    ) -> Result<Vec<DeliveryRecord>, OperationError> {
        let mut records = self.of_tenants(filter, tenants).await?;
        in_replay_order(&mut records);
        Ok(records)
    }

    /// Sends a message that waits not before a time. It leaves its lane, which goes on without it, and joins it then.
    pub async fn snooze(&self, key: DeliveryKey, until: Timestamp) -> Result<Intervention, OperationError> {
        let engine = self.engine();
        let now = engine.now();
        check_time(until, now)?;
        let (inside, hand_overs) = (key.clone(), engine.hand_overs.clone());
        let snoozed = engine
            .ledger
            .record_durably(move |ledger| ledger.snooze(&inside, until, &|key| hand_overs.has(key), now));
        let (found, waits_until) = snoozed.await?;
        if found == Intervention::Done {
            let happened = Happened::of_message(EventKind::Changed, &key.session_id, &key.message_id, now);
            engine.events.tell(Happened { detail: Some("snoozed".into()), until: Some(until), ..happened });
            self.changed(vec![(key, waits_until)]).await;
        }
        Ok(found)
    }

    async fn cancel_some(
        &self,
        keys: Vec<DeliveryKey>,
        reason: &str,
    ) -> Result<Vec<Intervention>, OperationError> {
        let engine = self.engine();
        let (inside, reason, now) = (keys.clone(), reason.to_owned(), engine.now());
        let hand_overs = engine.hand_overs.clone();
        let cancelled = engine.ledger.record_durably(move |ledger| {
            let is_handed_over = |key: &DeliveryKey| hand_overs.has(key);
            inside
                .iter()
                .map(|key| ledger.cancel(key, &reason, &is_handed_over, now))
                .collect::<Result<Vec<_>, _>>()
        });
        let found = cancelled.await?;
        let mut changed = Vec::new();
        for (key, (intervention, waits_until)) in keys.into_iter().zip(&found) {
            if *intervention == Intervention::Done {
                engine.note_dead(&key.session_id, Some(&key.message_id), ErrorClass::Cancelled);
                changed.push((key, *waits_until));
            }
        }
        self.changed(changed).await;
        Ok(found.into_iter().map(|(intervention, _)| intervention).collect())
    }

    /// Lanes that waited for these messages go on, and their agents are told.
    async fn changed(&self, changed: Vec<(DeliveryKey, Option<Timestamp>)>) {
        if changed.is_empty() {
            return;
        }
        // The longest wait of all: the ledger says to those that were woken early until when they wait.
        let until = changed.iter().filter_map(|(_, until)| *until).max().unwrap_or(self.engine().now());
        for (_, channel) in self.engine().directory.channels() {
            // An actor that has just died asks the ledger for everything when it is back.
            let _ = channel.send(AskAgain { until, _token: self.engine().activity.token() }).await;
        }
        let sessions: BTreeSet<SessionId> = changed.into_iter().map(|(key, _)| key.session_id).collect();
        self.look(Some(sessions.into_iter().collect()), LookReason::Reload).await;
    }

    /// The deliveries of these tenants that match; the latest change first.
    pub(super) async fn of_tenants(
        &self,
        filter: DeliveryFilter,
        tenants: TenantSet,
    ) -> Result<Vec<DeliveryRecord>, OperationError> {
        self.read(move |engine: &Engine| {
            let mut visible = Visible::new(engine, &tenants);
            let mut records = engine.ledger_reader.deliveries(&filter)?;
            records.retain(|record| visible.has(&record.session_id));
            Ok(records)
        })
        .await
    }
}

fn check_time(until: Timestamp, now: Timestamp) -> Result<(), OperationError> {
    if until > now {
        return Ok(());
    }
    Err(OperationError::Invalid("a message can be snoozed until a time to come only".to_owned()))
}

impl StoppedHost {
    /// Gives a message up; see [`Relay::cancel`]. Its agent is told when a host runs again. A message to another agent that
    /// was being handed over when the host was killed may have arrived.
    pub fn cancel(&self, key: &DeliveryKey, reason: &str) -> Result<Intervention, OperationError> {
        let now = SystemClock.now();
        let cancelled = self.write(|ledger| ledger.cancel(key, reason, &|_| false, now).map(Some))?;
        Ok(cancelled.map_or(Intervention::Unknown, |(found, _)| found))
    }

    /// What [`StoppedHost::cancel_all`] would cancel; the latest change first.
    pub fn cancellable(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        let mut records = self.deliveries(filter)?;
        records.retain(|record| record.state.is_cancellable());
        Ok(records)
    }

    /// Cancels all that match. Returns how many.
    pub fn cancel_all(&self, filter: &DeliveryFilter, reason: &str) -> Result<usize, OperationError> {
        let (keys, now) = (keys_of(&self.cancellable(filter)?), SystemClock.now());
        self.write(|ledger| {
            let mut count = 0;
            for key in &keys {
                let (found, _) = ledger.cancel(key, reason, &|_| false, now)?;
                count += usize::from(found == Intervention::Done);
            }
            Ok(count)
        })
    }

    /// Sends a message not before a time; see [`Relay::snooze`].
    pub fn snooze(&self, key: &DeliveryKey, until: Timestamp) -> Result<Intervention, OperationError> {
        let now = SystemClock.now();
        check_time(until, now)?;
        let snoozed = self.write(|ledger| ledger.snooze(key, until, &|_| false, now).map(Some))?;
        Ok(snoozed.map_or(Intervention::Unknown, |(found, _)| found))
    }
}
