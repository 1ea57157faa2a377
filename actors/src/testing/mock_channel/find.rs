//! What the mock platform knows when it is asked for a message.

use super::{MockChannel, State};
use crate::channel::adapter::Delivery;
use crate::model::error::{Receipt, SendError};
use std::collections::VecDeque;

/// The questions of one channel and the failures that are to be answered.
#[derive(Debug, Default)]
pub(super) struct Finds {
    asked: Vec<String>,
    failures: VecDeque<SendError>,
}

impl MockChannel {
    /// Lets the next questions for a message fail.
    pub fn next_finds_fail(&self, errors: impl IntoIterator<Item = SendError>) -> &Self {
        self.lock().finds.failures.extend(errors);
        self
    }

    /// The ids of the messages that were asked for, in order.
    pub fn asked_for(&self) -> Vec<String> {
        self.lock().finds.asked.clone()
    }

    pub(super) fn find_shown(&self, delivery: &Delivery) -> Result<Option<Receipt>, SendError> {
        let mut guard = self.lock();
        let State { finds, calls, .. } = &mut *guard;
        finds.asked.push(delivery.message_id.to_string());
        if let Some(error) = finds.failures.pop_front() {
            return Err(error);
        }
        let key = &*delivery.idempotency_key;
        let shown = calls.iter().find(|call| call.shown && call.idempotency_key == key);
        Ok(shown.map(|call| Receipt {
            platform_message_id: Some(format!("plat-{}", call.number)),
            ..Receipt::default()
        }))
    }
}
