//! What an operator sees of deliveries, and what can be done to those that did not arrive.

use super::{OperationError, Relay};
use crate::model::ids::SessionId;
use crate::model::message::DeliveryKey;
use crate::report::{DeliveryDetails, DeliveryFilter, DeliveryRecord, ReplayRate, Resolution};
use crate::session::messages::LookReason;
use crate::store::ledger::keys_of;
use std::collections::BTreeSet;

/// Messages that are put back in one operation on the ledger: nobody else's record waits long for it.
const REPLAYS_PER_OPERATION: usize = 500;

impl Relay {
    /// The deliveries that match, the most recently changed first.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        self.read(move |engine| engine.ledger_reader.deliveries(&filter)).await
    }

    /// One delivery with everything that was tried.
    pub async fn delivery(&self, key: DeliveryKey) -> Result<Option<DeliveryDetails>, OperationError> {
        self.read(move |engine| engine.ledger_reader.delivery(&key)).await
    }

    /// What [`Relay::replay_all`] would put back, in that order.
    pub async fn replayable(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, OperationError> {
        self.read(move |engine| engine.ledger_reader.replayable(&filter)).await
    }

    /// Puts dead, held or ambiguous deliveries back into their lanes with fresh attempts. Returns how many;
    /// keys of others are passed over.
    pub async fn replay(&self, keys: Vec<DeliveryKey>) -> Result<usize, OperationError> {
        self.replay_at(keys, None).await
    }

    /// The same for all that match. With a rate, each gets a time of its own, in the order of
    /// [`Relay::replayable`]; until then it counts as scheduled, also after a restart.
    pub async fn replay_all(
        &self,
        filter: DeliveryFilter,
        rate: Option<ReplayRate>,
    ) -> Result<usize, OperationError> {
        let records = self.replayable(filter).await?;
        self.replay_at(keys_of(&records), rate).await
    }

    /// Puts these deliveries back, those that can be; see [`Relay::replay_all`].
    pub async fn replay_records(
        &self,
        records: &[DeliveryRecord],
        rate: Option<ReplayRate>,
    ) -> Result<usize, OperationError> {
        self.replay_at(keys_of(records), rate).await
    }

    async fn replay_at(
        &self,
        keys: Vec<DeliveryKey>,
        rate: Option<ReplayRate>,
    ) -> Result<usize, OperationError> {
        let now = self.engine().now();
        let mut count = 0;
        for some in keys.chunks(REPLAYS_PER_OPERATION) {
            let (inside, before) = (some.to_vec(), count);
            let replayed = self
                .engine()
                .ledger
                .record_durably(move |ledger| ledger.replay_many(&inside, rate, before, now));
            count += replayed.await?;
            let sessions: BTreeSet<SessionId> = some.iter().map(|key| key.session_id.clone()).collect();
            self.look(Some(sessions.into_iter().collect()), LookReason::Reload).await;
        }
        Ok(count)
    }

    /// Settles an ambiguous delivery: it has arrived, or it has not and is sent again. Returns whether it was
    /// ambiguous.
    pub async fn resolve(&self, key: DeliveryKey, resolution: Resolution) -> Result<bool, OperationError> {
        let (session, now) = (key.session_id.clone(), self.engine().now());
        let resolved =
            self.engine().ledger.record_durably(move |ledger| ledger.resolve(&key, &resolution, now));
        let resolved = resolved.await?;
        self.look(Some(vec![session]), LookReason::Reload).await;
        Ok(resolved)
    }
}
