//! How fast an account and each of its chats may be sent to: token buckets from the configuration, narrowed by what the
//! platform says in its answers.

use super::time::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Buckets of chats are looked through for idle ones when there are twice as many as were left the last time, and never
/// below this count.
const SWEPT_BUCKETS_MIN: usize = 1024;

/// A steady rate with room for a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time for one more send, in microseconds; at least 1.
    interval_us: i64,
    /// Sends that may follow each other at once; at least 1.
    burst: u32,
}

impl Rate {
    /// One send each `interval`, and `burst` at once after a pause. Below a microsecond counts as one.
    pub fn new(interval: Duration, burst: u32) -> Self {
        let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1);
        Self { interval_us, burst: burst.max(1) }
    }

    /// Sends a second, on average.
    pub fn per_second(self) -> f64 {
        1e6 / self.interval_us as f64
    }

    /// Sends that may follow each other at once.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// How much earlier than at the steady rate a send may come.
    fn tolerance_us(self) -> i64 {
        self.interval_us.saturating_mul(i64::from(self.burst) - 1)
    }
}

/// The rates of one channel account; `None` = no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of everything that the account sends.
    pub account: Option<Rate>,
    /// Of each chat.
    pub destination: Option<Rate>,
}

/// What the platform said about the rest of its current window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    remaining: u64,
    resets_at: Timestamp,
}

/// One token bucket, as the generic cell rate algorithm keeps it: by the time at which it would be full again.
#[derive(Debug, Default)]
struct Bucket {
    full_at_us: i64,
    window: Option<Window>,
    in_flight: u64,
}

impl Bucket {
    /// When the next send may come; `None` = now.
    fn next_at(&self, rate: Option<Rate>, now: Timestamp) -> Option<Timestamp> {
        let by_rate = rate.map(|rate| {
            let earliest_us = self.full_at_us.saturating_sub(rate.tolerance_us());
            // Rounded up: rounding down would be early.
            Timestamp::from_ms(earliest_us.div_euclid(1000) + i64::from(earliest_us.rem_euclid(1000) > 0))
        });
        let by_window = self.window.filter(|window| window.remaining == 0).map(|window| window.resets_at);
        by_rate.max(by_window).filter(|at| *at > now)
    }

    fn take(&mut self, rate: Option<Rate>, now: Timestamp) {
        self.in_flight += 1;
        if let Some(rate) = rate {
            let now_us = now.as_ms().saturating_mul(1000);
            self.full_at_us = self.full_at_us.max(now_us).saturating_add(rate.interval_us);
        }
        match &mut self.window {
            Some(window) if window.resets_at <= now => self.window = None,
            Some(window) => window.remaining = window.remaining.saturating_sub(1),
            None => {}
        }
    }

    /// Those on their way may not be in the platform's count yet.
    fn learn(&mut self, remaining: u64, resets_at: Timestamp) {
        self.window = Some(Window { remaining: remaining.saturating_sub(self.in_flight), resets_at });
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.in_flight == 0
            && self.full_at_us <= now.as_ms().saturating_mul(1000)
            && self.window.is_none_or(|window| window.resets_at <= now)
    }
}

/// The buckets of one channel account and of its chats, `K`.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rates: Rates,
    account: Bucket,
    destinations: HashMap<K, Bucket>,
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> RateLimiter<K> {
    /// With full buckets.
    pub fn new(rates: Rates) -> Self {
        let account = Bucket::default();
        Self { rates, account, destinations: HashMap::new(), sweep_at: SWEPT_BUCKETS_MIN }
    }

    /// When the account may send next; `None` = now.
    pub fn account_next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.account.next_at(self.rates.account, now)
    }

    /// When a chat may be sent to next, as far as its own limit says; `None` = now.
    pub fn destination_next_at(&self, destination: &K, now: Timestamp) -> Option<Timestamp> {
        self.destinations.get(destination)?.next_at(self.rates.destination, now)
    }

    /// A send begins. Ask both limits before.
    pub fn begin(&mut self, destination: &K, now: Timestamp) {
        self.account.take(self.rates.account, now);
        let bucket = self.destinations.entry(destination.clone()).or_default();
        bucket.take(self.rates.destination, now);
        if self.destinations.len() > self.sweep_at {
            self.destinations.retain(|_, bucket| !bucket.is_idle(now));
            self.sweep_at = (self.destinations.len() * 2).max(SWEPT_BUCKETS_MIN);
        }
    }

    /// A send has ended, in whichever way.
    pub fn end(&mut self, destination: &K) {
        self.account.in_flight = self.account.in_flight.saturating_sub(1);
        if let Some(bucket) = self.destinations.get_mut(destination) {
            bucket.in_flight = bucket.in_flight.saturating_sub(1);
        }
    }

    /// The platform has said that the account may send `remaining` more before `resets_at`.
    pub fn learn_account(&mut self, remaining: u64, resets_at: Timestamp) {
        self.account.learn(remaining, resets_at);
    }

    /// The same about one chat.
    pub fn learn_destination(&mut self, destination: &K, remaining: u64, resets_at: Timestamp) {
        self.destinations.entry(destination.clone()).or_default().learn(remaining, resets_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(START.as_ms() + ms)
    }

    fn limiter(account: Option<Rate>, destination: Option<Rate>) -> RateLimiter<&'static str> {
        RateLimiter::new(Rates { account, destination })
    }

    /// Sends as soon as both limits allow; when each send came, in ms.
    fn send(limiter: &mut RateLimiter<&'static str>, destination: &'static str, count: usize) -> Vec<i64> {
        let mut now = START;
        let mut times = Vec::new();
        while times.len() < count {
            match limiter.account_next_at(now).max(limiter.destination_next_at(&destination, now)) {
                Some(next) => now = next,
                None => {
                    limiter.begin(&destination, now);
                    limiter.end(&destination);
                    times.push(now.as_ms() - START.as_ms());
                }
            }
        }
        times
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut limiter = limiter(Some(Rate::new(Duration::from_millis(100), 3)), None);
        assert_eq!(send(&mut limiter, "a", 6), [0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn a_chats_own_limit_holds_within_that_of_the_account() {
        let second = Duration::from_secs(1);
        let mut limiter = limiter(Some(Rate::new(second / 10, 10)), Some(Rate::new(second, 1)));
        assert_eq!(send(&mut limiter, "a", 3), [0, 1000, 2000]);
        assert_eq!(limiter.destination_next_at(&"b", at(2000)), None, "another chat has its own");
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        assert_eq!(send(&mut limiter(None, None), "a", 4), [0; 4]);
    }

    #[test]
    fn what_the_platform_says_narrows_and_ends_with_its_window() {
        let mut limiter = limiter(Some(Rate::new(Duration::from_millis(10), 100)), None);
        limiter.learn_account(2, at(5000));
        assert_eq!(send(&mut limiter, "a", 4), [0, 0, 5000, 5000]);
        limiter.learn_destination(&"a", 0, at(9000));
        assert_eq!(limiter.destination_next_at(&"a", at(8999)), Some(at(9000)));
        assert_eq!(limiter.destination_next_at(&"a", at(9000)), None);
        assert_eq!(limiter.destination_next_at(&"b", at(8999)), None);
    }

    #[test]
    fn those_on_their_way_are_taken_off_what_the_platform_says_is_left() {
        let mut limiter = limiter(None, None);
        for _ in 0..3 {
            limiter.begin(&"a", START);
        }
        limiter.end(&"a");
        limiter.learn_account(3, at(5000));
        limiter.begin(&"a", at(1));
        assert_eq!(limiter.account_next_at(at(1)), Some(at(5000)));
    }

    #[test]
    fn idle_buckets_are_forgotten() {
        let mut limiter = RateLimiter::new(Rates { account: None, destination: None });
        for number in 0..10_000 {
            limiter.begin(&number, START);
            limiter.end(&number);
        }
        assert!(limiter.destinations.len() <= SWEPT_BUCKETS_MIN + 1, "{}", limiter.destinations.len());
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_sends_than_its_rate_and_burst(
            interval_us in 1_i64..3_000_000, burst in 1_u32..20, pauses in prop::collection::vec(0_i64..5000, 1..60),
        ) {
            let rate = Rate { interval_us, burst };
            let mut limiter = limiter(Some(rate), None);
            let (mut now, mut times) = (START, Vec::new());
            for pause in pauses {
                now = Timestamp::from_ms(now.as_ms() + pause);
                now = limiter.account_next_at(now).unwrap_or(now);
                prop_assert_eq!(limiter.account_next_at(now), None);
                limiter.begin(&"a", now);
                limiter.end(&"a");
                times.push(now.as_ms());
            }
            for (first, start) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let allowed = i64::from(burst) + (end - start) * 1000 / interval_us;
                    prop_assert!((last - first + 1) as i64 <= allowed);
                }
            }
        }
    }
}
