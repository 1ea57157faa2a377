//! A channel that accepts at once and notes when.

use super::writer::monotonic_ns;
use async_trait::async_trait;
use nanorelay_actors::channel::adapter::{Channel, Delivery, Idempotency};
use nanorelay_actors::model::error::{Receipt, SendError};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// When each message was accepted, by session and message id.
#[derive(Default)]
pub struct BenchChannel {
    accepted: Mutex<HashMap<(String, String), u64>>,
    twice: AtomicU64,
}

impl BenchChannel {
    /// When a message was accepted.
    pub fn accepted_at(&self, session: &str, message: &str) -> Option<u64> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(&(session.to_owned(), message.to_owned())).copied()
    }

    /// The same, once: it is forgotten.
    pub fn take(&self, session: &str, message: &str) -> Option<u64> {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.remove(&(session.to_owned(), message.to_owned()))
    }

    /// How many messages came again, when all that were expected have been taken.
    pub fn surplus(&self) -> u64 {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        self.twice.load(Ordering::Relaxed) + accepted.len() as u64
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
        if accepted.insert((session.to_owned(), message.to_owned()), monotonic_ns()).is_some() {
            self.twice.fetch_add(1, Ordering::Relaxed);
        }
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
