//! What the control plane keeps beside a relay. All workers of all servers that serve the relay share it.

use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use tokio::sync::watch;

/// Kept for as long as the relay lives.
pub(super) struct Shared {
    /// When the control plane was first mounted.
    pub started_at: Timestamp,
    /// Whether the streams of events are to end.
    closing: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { started_at: SystemClock.now(), closing: watch::Sender::new(false) }
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
