//! When a dead actor comes back: after a growing delay, and not at all while it keeps dying.
//!
//! | exit | registry, scheduler, sweep, channel | session |
//! |---|---|---|
//! | panic | back after the delay | back after the delay; quarantined after too many in the window |
//! | normal | back after the delay | stays away until there is work |
//! | shutdown | stays away | stays away |

use crate::model::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// How an actor is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Delay before the first restart; doubles with each further one in the window.
    pub base: Duration,
    /// Longest delay.
    pub delay_max: Duration,
    /// Most restarts within the window; one more and it stays away for the rest of the window.
    pub restarts_max: usize,
    /// Length of the sliding window.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(10),
            delay_max: Duration::from_secs(5),
            restarts_max: 10,
            window: Duration::from_secs(60),
        }
    }
}

/// What to do about an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start it again after this delay.
    After(Duration),
    /// It died too often; try again when the window is over.
    TooOften {
        /// Time until the oldest death leaves the window.
        retry_in: Duration,
    },
}

/// The recent deaths of one actor.
#[derive(Debug, Clone, Default)]
pub struct RestartHistory {
    deaths: VecDeque<Timestamp>,
}

impl RestartHistory {
    /// Whether a death still counts at `now`.
    pub fn is_recent(&self, policy: &RestartPolicy, now: Timestamp) -> bool {
        self.deaths.back().is_some_and(|latest| now.since(*latest) < policy.window)
    }

    /// Whether it has died so often that it was kept away.
    pub fn is_full(&self, policy: &RestartPolicy) -> bool {
        self.deaths.len() >= policy.restarts_max
    }

    /// Counts a death at `now` and decides.
    pub fn decide(&mut self, policy: &RestartPolicy, now: Timestamp) -> Restart {
        while self.deaths.front().is_some_and(|oldest| now.since(*oldest) >= policy.window) {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        let oldest = self.deaths.front().copied().unwrap_or(now);
        if self.deaths.len() > policy.restarts_max {
            let retry_in = policy.window.saturating_sub(now.since(oldest)).max(policy.base);
            // Bounds the memory of an actor that dies for ever.
            self.deaths.pop_front();
            return Restart::TooOften { retry_in };
        }
        let doublings = u32::try_from(self.deaths.len() - 1).unwrap_or(u32::MAX).min(16);
        Restart::After((policy.base * 2_u32.pow(doublings)).min(policy.delay_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn delay_doubles_up_to_its_bound() {
        let policy = RestartPolicy { restarts_max: 100, ..RestartPolicy::default() };
        let mut history = RestartHistory::default();
        let mut last = Duration::ZERO;
        for death in 0..30 {
            let Restart::After(delay) = history.decide(&policy, at(death)) else { panic!("too often") };
            assert!(delay >= last && delay <= policy.delay_max);
            last = delay;
        }
        assert_eq!(last, policy.delay_max);
    }

    #[test]
    fn too_many_deaths_in_the_window_keep_it_away_until_the_window_is_over() {
        let policy = RestartPolicy { restarts_max: 2, ..RestartPolicy::default() };
        let mut history = RestartHistory::default();
        assert!(matches!(history.decide(&policy, at(0)), Restart::After(_)));
        assert!(matches!(history.decide(&policy, at(10)), Restart::After(_)));
        assert_eq!(
            history.decide(&policy, at(1_000)),
            Restart::TooOften { retry_in: Duration::from_millis(59_000) }
        );
        assert!(matches!(history.decide(&policy, at(200_000)), Restart::After(_)));
    }
}
