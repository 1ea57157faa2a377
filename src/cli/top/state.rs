//! What the view shows: the last answers, and what was pressed.

use crate::control::status::HostStatus;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rates that are kept for the plot.
const RATES_KEPT: usize = 240;

/// An answer of the host, or why there was none.
pub struct Asked {
    pub at: Instant,
    pub answer: Result<HostStatus, String>,
}

impl Asked {
    pub fn now(answer: Result<HostStatus, String>) -> Self {
        Self { at: Instant::now(), answer }
    }
}

/// What the lower part lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Sessions,
    Failures,
    Holds,
}

impl List {
    pub const ALL: [List; 3] = [List::Sessions, List::Failures, List::Holds];

    /// The one after it.
    pub fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }
}

/// Counts per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub delivered: f64,
    pub attempts: f64,
    pub dead: f64,
}

/// Everything that is drawn.
pub struct Screen {
    /// The last answer.
    pub status: HostStatus,
    /// Why there was no answer since.
    pub problem: Option<String>,
    /// Between the last two answers; none after the first one.
    pub rates: Option<Rates>,
    /// Deliveries per second, in tenths, the latest last.
    pub history: VecDeque<u64>,
    pub is_paused: bool,
    pub interval: Duration,
    pub list: List,
    answered_at: Instant,
    asked_at: Option<Instant>,
}

impl Screen {
    pub fn new(status: HostStatus, interval: Duration) -> Self {
        Self {
            status,
            problem: None,
            rates: None,
            history: VecDeque::new(),
            is_paused: false,
            interval,
            list: List::Sessions,
            answered_at: Instant::now(),
            asked_at: None,
        }
    }

    /// Whether it is time to ask again; then that counts as done.
    pub fn wants_to_ask(&mut self) -> bool {
        let is_waiting = self.asked_at.is_some();
        let is_time = !self.is_paused && !is_waiting && self.answered_at.elapsed() >= self.interval;
        if is_time {
            self.asked_at = Some(Instant::now());
        }
        is_time
    }

    /// Takes an answer.
    pub fn take(&mut self, asked: Asked) {
        self.asked_at = None;
        let since = asked.at.saturating_duration_since(self.answered_at);
        match asked.answer {
            Ok(status) => {
                self.rates = rates(&self.status, &status, since);
                self.history.extend(self.rates.map(|rates| (rates.delivered * 10.0).round() as u64));
                if self.history.len() > RATES_KEPT {
                    self.history.pop_front();
                }
                self.status = status;
                self.problem = None;
            }
            Err(problem) => {
                self.rates = None;
                self.problem = Some(problem);
            }
        }
        self.answered_at = asked.at;
    }
}

/// None when the host was started anew in between, or no time has passed.
fn rates(before: &HostStatus, after: &HostStatus, since: Duration) -> Option<Rates> {
    if before.process_id != after.process_id || before.started_at != after.started_at || since.is_zero() {
        return None;
    }
    let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / since.as_secs_f64();
    Some(Rates {
        delivered: per_second(before.totals.delivered, after.totals.delivered),
        attempts: per_second(before.totals.attempts, after.totals.attempts),
        dead: per_second(before.totals.dead, after.totals.dead),
    })
}
