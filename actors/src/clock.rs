//! The one place that reads the wall clock.

use crate::model::time::Timestamp;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells what time it is. Every decision takes its `now` from one of these.
pub trait Clock: Send + Sync + 'static {
    /// The current instant.
    fn now(&self) -> Timestamp;

    /// The current instant in microseconds since 1970, for receipts. Only the last three digits may be finer
    /// than [`Clock::now`].
    fn now_us(&self) -> i64 {
        self.now().as_ms() * 1000
    }
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_us().div_euclid(1000))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the injected clock")]
    fn now_us(&self) -> i64 {
        // A clock before 1970 is a broken machine; zero keeps the order of things that come later.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}
