//! What the control plane keeps beside a relay. All workers of all servers that serve the relay share it.

use super::failures::Failures;
use super::idempotency::Answers;
use super::logins::Logins;
use std::sync::Arc;
use tokio::sync::watch;

/// Kept for as long as the relay lives.
pub(super) struct Shared {
    /// Who is logged in.
    pub logins: Logins,
    /// Answers for repeats.
    pub answers: Arc<Answers>,
    /// Who has failed to be recognised.
    pub failures: Failures,
    /// Whether the streams of events are to end.
    closing: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            logins: Logins::default(),
            answers: Arc::default(),
            failures: Failures::default(),
            closing: watch::Sender::new(false),
        }
    }
}

impl Shared {
    /// Ends all streams, now and from now on: a server waits for open connections when it stops.
    pub fn close_streams(&self) {
        self.closing.send_replace(true);
    }

    /// Becomes true when streams are to end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}
