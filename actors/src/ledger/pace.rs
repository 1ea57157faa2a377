//! When the writer stays awake although nothing is queued.

use std::time::{Duration, Instant};

/// The longest gap between two single operations after which the writer stays awake for the next one, and how long it does
/// so: a lane's next operation comes sooner, and waking a thread takes about as long.
const WATCH_MAX: Duration = Duration::from_micros(100);

/// Whether operations come one at a time, each shortly after the one before.
#[derive(Default)]
pub(super) struct Pace {
    /// When the queue was found empty, after a transaction of one operation.
    emptied_at: Option<Instant>,
    /// Whether the next operation came within [`WATCH_MAX`].
    is_steady: bool,
}

impl Pace {
    /// A transaction of `operations` has ended and nothing is queued. Returns until when the next operation is expected.
    pub fn emptied(&mut self, operations: usize, now: Instant) -> Option<Instant> {
        self.emptied_at = (operations == 1).then_some(now);
        self.is_steady &= operations == 1;
        self.is_steady.then(|| now + WATCH_MAX)
    }

    /// Operations are taken up.
    pub fn resumed(&mut self, now: Instant) {
        if let Some(emptied_at) = self.emptied_at.take() {
            self.is_steady = now.saturating_duration_since(emptied_at) < WATCH_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(50);

    /// The first two operations of a lane, each shortly after the one before.
    fn steady(start: Instant) -> Pace {
        let mut pace = Pace::default();
        pace.resumed(start);
        assert_eq!(pace.emptied(1, start), None, "one operation is no pace");
        pace.resumed(start + SOON);
        pace
    }

    #[test]
    fn the_next_operation_is_expected_while_they_come_shortly_after_each_other() {
        let start = Instant::now();
        let mut pace = steady(start);
        assert_eq!(pace.emptied(1, start), Some(start + WATCH_MAX));
        pace.resumed(start + WATCH_MAX);
        assert_eq!(pace.emptied(1, start), None, "it came too late");
    }

    #[test]
    fn operations_of_many_lanes_are_not_waited_for() {
        let start = Instant::now();
        let mut pace = steady(start);
        assert_eq!(pace.emptied(2, start), None);
        pace.resumed(start + SOON);
        assert_eq!(pace.emptied(1, start), None, "the gap after them says nothing about a lane");
        pace.resumed(start + SOON);
        assert_eq!(pace.emptied(1, start), Some(start + WATCH_MAX));
    }
}
