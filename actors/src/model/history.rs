//! What came of messages over the last hours, in steps of ten seconds: counts, and how late they arrived.

use super::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// The length of a step, in milliseconds.
pub const HISTORY_STEP_MS: i64 = 10_000;
/// Steps that are kept: two hours.
pub const HISTORY_STEPS_MAX: usize = 720;

/// Parts into which a doubling of the lag is divided: a quantile is wrong by a sixteenth at most.
const PARTS_PER_DOUBLING: usize = 8;
/// A lag of 2^27 ms, a day and a half, or more counts as that.
const DOUBLINGS: usize = 27;
const LAG_BUCKETS: usize = PARTS_PER_DOUBLING * (DOUBLINGS - 2);

/// What came of a message, or of one attempt at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// A channel accepted it, so long after it was known of or due.
    Delivered(Duration),
    /// An attempt failed.
    Failed,
    /// It was given up.
    Dead,
}

/// The steps of the last hours; those in which nothing happened take no place.
#[derive(Debug, Default)]
pub struct History {
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Step {
    /// Steps since 1970.
    number: i64,
    delivered: u64,
    failed: u64,
    dead: u64,
    /// There once something was delivered.
    lags: Option<Box<Lags>>,
}

/// How often each lag occurred.
#[derive(Debug, Clone)]
struct Lags([u32; LAG_BUCKETS]);

/// One step as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// When it began.
    pub at: Timestamp,
    /// Messages that a channel accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// How late those that were accepted came.
    pub lag: Option<Lag>,
}

/// How late messages came, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Half of them at most so late.
    pub p50_ms: u64,
    /// All but a hundredth of them.
    pub p99_ms: u64,
}

impl History {
    /// Takes note of what came of a message.
    pub fn note(&mut self, came: Came, now: Timestamp) {
        let step = self.step_at(now);
        match came {
            Came::Delivered(lag) => {
                step.delivered += 1;
                step.lags.get_or_insert_with(Box::default).note(lag);
            }
            Came::Failed => step.failed += 1,
            Came::Dead => step.dead += 1,
        }
    }

    fn step_at(&mut self, now: Timestamp) -> &mut Step {
        // What happens while the clock stands behind its last word counts into the last step.
        let last = self.steps.back().map(|step| step.number);
        let number = step_number(now).max(last.unwrap_or(i64::MIN));
        if last != Some(number) {
            if self.steps.len() == HISTORY_STEPS_MAX {
                self.steps.pop_front();
            }
            self.steps.push_back(Step { number, delivered: 0, failed: 0, dead: 0, lags: None });
        }
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// The last `count` steps up to now, the oldest first, those without events included. At most
    /// [`HISTORY_STEPS_MAX`].
    pub fn points(&self, count: usize, now: Timestamp) -> Vec<Point> {
        let count = i64::try_from(count.min(HISTORY_STEPS_MAX)).unwrap_or(0);
        let end = step_number(now);
        let mut known = self.steps.iter().skip_while(|step| step.number <= end - count).peekable();
        let mut points = Vec::new();
        for number in end - count + 1..=end {
            let at = Timestamp::from_ms(number.saturating_mul(HISTORY_STEP_MS));
            let step = known.next_if(|step| step.number == number);
            points.push(step.map_or(Point { at, delivered: 0, failed: 0, dead: 0, lag: None }, |step| {
                let lag = step.lags.as_deref().and_then(Lags::lag);
                Point { at, delivered: step.delivered, failed: step.failed, dead: step.dead, lag }
            }));
        }
        points
    }

    /// How late messages came within the last `count` steps, the current one included; `None` when none came.
    pub fn lag(&self, count: usize, now: Timestamp) -> Option<Lag> {
        let first = step_number(now).saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
        let mut sum = Lags::default();
        for step in self.steps.iter().filter(|step| step.number > first) {
            if let Some(lags) = &step.lags {
                sum.add(lags);
            }
        }
        sum.lag()
    }
}

impl Default for Lags {
    fn default() -> Self {
        Self([0; LAG_BUCKETS])
    }
}

impl Lags {
    fn note(&mut self, lag: Duration) {
        let bucket = &mut self.0[bucket_of(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX))];
        *bucket = bucket.saturating_add(1);
    }

    fn add(&mut self, other: &Lags) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }

    fn lag(&self) -> Option<Lag> {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        (total > 0).then(|| Lag {
            p50_ms: self.quantile(total.div_ceil(2)),
            p99_ms: self.quantile((total * 99).div_ceil(100)),
        })
    }

    /// The largest lag of the bucket that holds the message of that rank, 1 being the fastest.
    fn quantile(&self, rank: u64) -> u64 {
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        largest_in(bucket.unwrap_or(LAG_BUCKETS - 1))
    }
}

fn step_number(at: Timestamp) -> i64 {
    at.as_ms().div_euclid(HISTORY_STEP_MS)
}

/// One bucket for each millisecond up to 15, then eight for each doubling.
fn bucket_of(lag_ms: u64) -> usize {
    let parts = PARTS_PER_DOUBLING as u64;
    if lag_ms < 2 * parts {
        return lag_ms as usize;
    }
    let doublings = lag_ms.ilog2() - parts.ilog2();
    let part = (lag_ms >> doublings) - parts;
    (((u64::from(doublings) + 1) * parts + part) as usize).min(LAG_BUCKETS - 1)
}

fn largest_in(bucket: usize) -> u64 {
    let (parts, bucket) = (PARTS_PER_DOUBLING as u64, bucket as u64);
    if bucket < 2 * parts {
        return bucket;
    }
    let doublings = bucket / parts - 1;
    ((bucket % parts + parts + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn later(steps: i64) -> Timestamp {
        Timestamp::from_ms(NOW.as_ms() + steps * HISTORY_STEP_MS)
    }

    #[test]
    fn every_lag_is_in_the_bucket_that_ends_with_the_least_one_not_below_it() {
        for lag_ms in (0..5000).chain([100_000, 123_456, (1 << 27) - 1]) {
            let largest = largest_in(bucket_of(lag_ms));
            assert!(largest >= lag_ms && largest <= lag_ms + lag_ms / 8, "{lag_ms} {largest}");
        }
        assert_eq!(bucket_of(u64::MAX), LAG_BUCKETS - 1);
        assert_eq!(largest_in(LAG_BUCKETS - 1), (1 << DOUBLINGS) - 1);
    }

    #[test]
    fn quantiles_are_of_the_messages_that_were_accepted() {
        let mut history = History::default();
        for lag_ms in 1..=100 {
            history.note(Came::Delivered(Duration::from_millis(lag_ms)), NOW);
        }
        history.note(Came::Failed, NOW);
        let points = history.points(1, NOW);
        let lag = points[0].lag.expect("messages came");
        assert_eq!((points[0].delivered, points[0].failed), (100, 1));
        assert!((50..=53).contains(&lag.p50_ms) && (99..=105).contains(&lag.p99_ms), "{lag:?}");
        assert_eq!(history.lag(30, later(29)), Some(lag));
        assert_eq!(history.lag(30, later(30)), None, "it was too long ago");
    }

    #[test]
    fn steps_without_events_are_told_and_old_ones_are_forgotten() {
        let mut history = History::default();
        history.note(Came::Dead, NOW);
        history.note(Came::Dead, later(3));
        let dead: Vec<u64> = history.points(5, later(3)).iter().map(|point| point.dead).collect();
        assert_eq!(dead, [0, 1, 0, 0, 1]);
        for steps in 4..2000 {
            history.note(Came::Dead, later(steps));
        }
        assert_eq!(history.steps.len(), HISTORY_STEPS_MAX);
        let points = history.points(usize::MAX, later(1999));
        assert_eq!((points.len(), points[0].dead), (HISTORY_STEPS_MAX, 1));
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let mut history = History::default();
        history.note(Came::Dead, later(10));
        history.note(Came::Dead, NOW);
        assert_eq!(history.points(1, later(10))[0].dead, 2);
        assert_eq!(history.points(3, NOW).iter().map(|point| point.dead).sum::<u64>(), 0);
    }
}
