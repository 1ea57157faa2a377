//! A clock that follows tokio's time, which a test can pause and advance.

use crate::clock::Clock;
use crate::model::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A clock whose now is a chosen instant plus the time that has passed on one tokio runtime.
///
/// While that runtime's time runs, this is a clock that starts at a date of the test's choice. After
/// `tokio::time::pause()` it stands still, and moves with `tokio::time::advance` or when every task of the
/// runtime waits for a timer. It tells the same time on every thread, inside and outside a runtime.
///
/// A paused runtime also jumps to its next timer while it waits for another thread: pause only where all work
/// of the test is done on the runtime's own thread.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use nanorelay_actors::{clock::Clock, model::time::Timestamp, testing::VirtualClock};
/// use std::time::Duration;
///
/// tokio::time::pause();
/// let clock = VirtualClock::starting_at(Timestamp::from_ms(1_000));
/// tokio::time::advance(Duration::from_secs(3600)).await;
/// assert_eq!(clock.now(), Timestamp::from_ms(3_601_000));
/// # }
/// ```
#[derive(Debug)]
pub struct VirtualClock {
    base_us: i64,
    started: Instant,
    /// The runtime whose time is followed. Held, because a thread elsewhere cannot find it.
    runtime: Handle,
    stepped_us: AtomicI64,
}

impl VirtualClock {
    /// Starts at `base` and follows the runtime of the caller.
    ///
    /// # Panics
    /// When it is called outside a tokio runtime: there is no time to follow.
    pub fn starting_at(base: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            base_us: base.as_ms().saturating_mul(1000),
            started: Instant::now(),
            runtime: Handle::current(),
            stepped_us: AtomicI64::new(0),
        })
    }

    /// Starts at a time in RFC 3339, for example `2026-11-22T12:00:00Z`.
    ///
    /// # Panics
    /// As [`VirtualClock::starting_at`], and when `text` is not such a time.
    pub fn starting_at_text(text: &str) -> Arc<Self> {
        let instant: jiff::Timestamp = text.parse().expect("a time in RFC 3339");
        Self::starting_at(Timestamp::from_ms(instant.as_millisecond()))
    }

    /// Steps this clock by `ms` milliseconds, forward or back, as when a machine's clock is set. Timers do not
    /// move with it.
    pub fn step_ms(&self, ms: i64) {
        self.stepped_us.fetch_add(ms.saturating_mul(1000), Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_us().div_euclid(1000))
    }

    fn now_us(&self) -> i64 {
        let _runtime = self.runtime.enter();
        let elapsed = Instant::now().saturating_duration_since(self.started);
        let elapsed_us = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        self.base_us.saturating_add(elapsed_us).saturating_add(self.stepped_us.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BASE: Timestamp = Timestamp::from_ms(1_000_000);

    #[tokio::test(start_paused = true)]
    async fn follows_paused_time_on_every_thread() {
        let clock = VirtualClock::starting_at(BASE);
        assert_eq!(clock.now(), BASE);
        tokio::time::advance(Duration::from_secs(90)).await;
        let expected = Timestamp::from_ms(1_090_000);
        assert_eq!(clock.now(), expected);

        let elsewhere = Arc::clone(&clock);
        let outside = std::thread::spawn(move || elsewhere.now()).join().unwrap();
        assert_eq!(outside, expected, "a thread without a runtime");

        let elsewhere = Arc::clone(&clock);
        let other_runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async move { elsewhere.now() })
        });
        assert_eq!(other_runtime.join().unwrap(), expected, "a thread of another runtime");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_moves_the_clock_and_no_timer() {
        let clock = VirtualClock::starting_at(BASE);
        let before = Instant::now();
        clock.step_ms(-250);
        assert_eq!(clock.now(), Timestamp::from_ms(999_750));
        assert_eq!(Instant::now(), before);
    }

    #[tokio::test]
    async fn starts_at_a_written_time() {
        let clock = VirtualClock::starting_at_text("1970-01-01T01:00:00+00:00");
        assert!(clock.now() >= Timestamp::from_ms(3_600_000));
        assert!(clock.now() < Timestamp::from_ms(3_700_000));
    }
}
