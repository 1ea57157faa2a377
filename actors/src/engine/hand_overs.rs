//! Messages that are being handed to another agent at this moment: nobody may cancel one in mid-way.
//!
//! A message to a channel is `sending` in the ledger meanwhile. A hand-over is so short that it has no record of its own.

use crate::model::message::DeliveryKey;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The hand-overs of one relay.
#[derive(Debug, Clone, Default)]
pub struct HandOvers {
    keys: Arc<Mutex<HashSet<DeliveryKey>>>,
}

/// The mark of one; it ends when this is dropped.
#[derive(Debug)]
pub struct HandOver {
    keys: Arc<Mutex<HashSet<DeliveryKey>>>,
    key: DeliveryKey,
}

impl HandOvers {
    /// Marks a message. Ask the ledger after that whether it still waits: whoever cancels it asks here in the ledger's
    /// turn, so that one of both sees the other.
    pub fn begin(&self, key: DeliveryKey) -> HandOver {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        HandOver { keys: Arc::clone(&self.keys), key }
    }

    /// Whether a message is being handed over.
    pub fn has(&self, key: &DeliveryKey) -> bool {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
