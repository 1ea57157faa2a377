//! What a service manager such as systemd is told: that the host is ready, that it lives, that it stops. Without one, or
//! when it does not listen, nothing happens.

use sd_notify::NotifyState;
use slog::Logger;
use std::time::Duration;

/// A sign of life is given so many times in the time after which its absence is noticed.
const SIGNS_PER_TIMEOUT: u32 = 3;
/// The shortest pause between two signs of life.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Tells the service manager about this process.
pub(super) struct ServiceManager {
    logger: Logger,
}

impl ServiceManager {
    pub fn new(logger: Logger) -> Self {
        Self { logger }
    }

    /// Says that the host is ready, and from now on that it lives: for as long as the actors' thread turns, also while the
    /// host stops. Must run on that thread.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
        let Some(timeout) = sd_notify::watchdog_enabled() else { return };
        let pause = (timeout / SIGNS_PER_TIMEOUT).max(PAUSE_MIN);
        let manager = Self { logger: self.logger.clone() };
        // It ends with the thread.
        tokio::task::spawn_local(async move {
            loop {
                manager.tell(&[NotifyState::Watchdog]);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Says that the host stops.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            slog::warn!(self.logger, "service manager cannot be told"; "error" => %error);
        }
    }
}
