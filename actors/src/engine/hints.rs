//! Sessions that may have news: a set, so that a thousand events about one session are one hint.

use crate::model::ids::SessionId;
use crate::model::time::Timestamp;
use crate::supervise::activity::ActivityToken;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// The hints that the registry has not looked at yet.
#[derive(Debug, Default)]
pub struct Hints {
    waiting: Mutex<HashMap<SessionId, Hint>>,
    arrived: Notify,
}

/// What is known of a session that may have news.
#[derive(Debug)]
pub struct Hint {
    /// When the first of its hints came: its messages count as late from then.
    pub heard_at: Timestamp,
    /// Held until the session has been looked at.
    pub token: ActivityToken,
}

impl Hints {
    /// Adds a hint.
    pub fn add(&self, session: SessionId, hint: Hint) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(session).or_insert(hint);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes all hints.
    pub fn take(&self) -> HashMap<SessionId, Hint> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a hint arrives.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
