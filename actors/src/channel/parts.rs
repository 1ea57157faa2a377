//! Messages that an adapter sends in several parts, because the platform takes no longer ones.
//!
//! Each part that the platform accepts is recorded before the next one is sent. A later try, of this host or of the
//! next one, goes on with the part that failed: no part that is recorded is sent again.

use super::adapter::Delivery;
use crate::engine::Engine;
use crate::limits::PARTS_PER_MESSAGE_MAX;
use crate::model::error::SendError;
use crate::model::message::DeliveryKey;
use crate::store::ledger::LedgerTransaction;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::model::part::SentPart;

/// Where the parts of a [`Delivery`] are recorded: in the ledger. A default one keeps them in memory, for tests of an
/// adapter without a relay.
#[derive(Clone)]
pub struct PartLog(Place);

#[derive(Clone)]
enum Place {
    Ledger(Arc<Engine>),
    Memory(Arc<Mutex<Vec<SentPart>>>),
}

impl Default for PartLog {
    fn default() -> Self {
        Self(Place::Memory(Arc::default()))
    }
}

impl fmt::Debug for PartLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartLog")
    }
}

impl PartLog {
    pub(super) fn in_ledger(engine: &Arc<Engine>) -> Self {
        Self(Place::Ledger(Arc::clone(engine)))
    }
}

impl Delivery {
    /// The parts of this message that earlier tries have sent, in order. Ask before you send a part.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read now. Return the error from [`Channel::send`](super::adapter::Channel::send): nothing was
    /// sent, and the message is tried again.
    pub async fn sent_parts(&self) -> Result<Vec<SentPart>, SendError> {
        let engine = match &self.part_log.0 {
            Place::Ledger(engine) => engine,
            Place::Memory(parts) => return Ok(lock(parts).clone()),
        };
        let (inside, key) = (Arc::clone(engine), self.key());
        let read = engine.blocking.run(move || inside.ledger_reader.sent_parts(&key)).await;
        let failed = |error: &dyn fmt::Display| SendError::Unavailable {
            reason: format!("cannot tell which parts were sent: {error}"),
        };
        read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    /// Records that the platform has accepted the next part. Wait for it before you send the one after: what is recorded
    /// survives a killed host, and is not sent again. On a full disk this takes as long as the disk is full, or until
    /// the send's time is up.
    ///
    /// # Errors
    ///
    /// The message has too many parts ([`PARTS_PER_MESSAGE_MAX`]). Return the error from
    /// [`Channel::send`](super::adapter::Channel::send): the message is dead.
    pub async fn part_sent(&self, part: SentPart) -> Result<(), SendError> {
        let had_room = match &self.part_log.0 {
            Place::Ledger(engine) => {
                let operation = || {
                    let (key, part) = (self.key(), part.clone());
                    move |ledger: &mut LedgerTransaction<'_>| ledger.add_part(&key, &part)
                };
                let complaint = "part not recorded yet";
                engine.record_until_done(&self.session_id, &self.message_id, complaint, operation).await
            }
            Place::Memory(parts) => {
                let mut parts = lock(parts);
                let had_room = parts.len() < usize::try_from(PARTS_PER_MESSAGE_MAX).unwrap_or(usize::MAX);
                parts.extend(had_room.then_some(part));
                had_room
            }
        };
        let too_many = || SendError::Permanent {
            reason: format!("it has more than {PARTS_PER_MESSAGE_MAX} parts, which is the limit"),
        };
        had_room.then_some(()).ok_or_else(too_many)
    }

    fn key(&self) -> DeliveryKey {
        DeliveryKey { session_id: self.session_id.clone(), message_id: self.message_id.clone() }
    }
}

fn lock(parts: &Mutex<Vec<SentPart>>) -> MutexGuard<'_, Vec<SentPart>> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}
