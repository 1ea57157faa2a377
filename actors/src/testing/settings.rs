//! Settings for tests.

use crate::settings::{Durability, RetrySchedules, Settings, Watch};
use std::time::Duration;

/// Settings under which retries take milliseconds, three at most, and nothing is synced to the disk.
pub fn fast_settings() -> Settings {
    let mut retry = RetrySchedules::default();
    for schedule in
        [&mut retry.rate_limited, &mut retry.transient, &mut retry.unauthorized, &mut retry.unavailable]
    {
        schedule.base = Duration::from_millis(2);
        schedule.delay_max = Duration::from_millis(10);
    }
    retry.transient.attempts_max = Some(3);
    Settings {
        retry,
        watch: Watch::Poll,
        poll_interval: Duration::from_millis(20),
        durability: Durability::Process,
        ..Settings::default()
    }
}
