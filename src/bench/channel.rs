//! A channel that accepts at once and notes when.

use super::writer::monotonic_ns;
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery, Idempotency};
use nanorelay_actors::model::error::{Receipt, SendError};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// When each message was accepted, by session and message id.
#[derive(Default)]
pub struct BenchChannel {
    accepted: Mutex<HashMap<(String, String), u64>>,
}

impl BenchChannel {
    /// When a message was accepted.
    pub fn accepted_at(&self, session: &str, message: &str) -> Option<u64> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(&(session.to_owned(), message.to_owned())).copied()
    }

    /// When the first and the last message were accepted, and how many.
    pub fn span(&self) -> (u64, u64, usize) {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let first = accepted.values().min().copied().unwrap_or(0);
        let last = accepted.values().max().copied().unwrap_or(0);
        (first, last, accepted.len())
    }

    /// Accepts a message now.
    pub fn accept(&self, session: &str, message: &str) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.insert((session.to_owned(), message.to_owned()), monotonic_ns());
    }
}

#[async_trait]
impl Channel for BenchChannel {
    fn idempotency(&self) -> Idempotency {
        Idempotency::NativeKey
    }

    async fn send(&self, delivery: &Delivery) -> Result<Receipt, SendError> {
        self.accept(delivery.session_id.as_str(), delivery.message_id.as_str());
        Ok(Receipt::default())
    }
}
