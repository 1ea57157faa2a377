//! What the control plane keeps beside a relay. All workers of all servers that serve the relay share it.

use super::failures::Failures;
use super::idempotency::Answers;
use super::logins::Logins;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Streams of events that are open at a time.
const STREAMS_MAX: usize = 128;

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
    /// The right to be one of the streams of events.
    streams: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            logins: Logins::default(),
            answers: Arc::default(),
            failures: Failures::default(),
            closing: watch::Sender::new(false),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

impl Shared {
    /// Ends all streams, now and from now on: a server waits for open connections when it stops.
    pub fn close_streams(&self) {
        self.closing.send_replace(true);
    }

    /// The right to open a stream of events; `None` when as many are open as may be.
    pub fn stream_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// Becomes true when streams are to end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}
