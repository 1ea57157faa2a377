//! Sessions that may have news: a set, so that a thousand events about one session are one hint.

use crate::model::ids::SessionId;
use crate::supervise::activity::ActivityToken;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// The hints that the registry has not looked at yet.
#[derive(Debug, Default)]
pub struct Hints {
    waiting: Mutex<HashMap<SessionId, ActivityToken>>,
    arrived: Notify,
}

impl Hints {
    /// Adds a hint.
    pub fn add(&self, session: SessionId, token: ActivityToken) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(session).or_insert(token);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes all hints.
    pub fn take(&self) -> HashMap<SessionId, ActivityToken> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a hint arrives.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
