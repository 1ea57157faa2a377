//! When a message that was not accepted is tried again.

use super::error::SendError;
use super::text::bounded;
use super::time::Timestamp;
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::settings::{RetrySchedule, RetrySchedules};
use std::time::Duration;

/// No delay is shorter than this part of the schedule's base: with full jitter alone, some would be next to
/// nothing, and a lane would spin.
const BASE_PART_MIN: u64 = 10;

/// What happens to a message after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again.
    RetryAt {
        /// Not before this.
        at: Timestamp,
        /// Whether the failed attempt counts against the bound on attempts.
        counts_attempt: bool,
    },
    /// Give up.
    Dead {
        /// In words, of at most [`ERROR_TEXT_BYTES_MAX`] bytes.
        reason: String,
    },
    /// It is unknown whether the message was sent, and it must not be sent again: an operator decides.
    Ambiguous,
}

/// Decides about a message after a failed attempt.
///
/// | error | decision |
/// |---|---|
/// | rate limited, transient, unauthorized | retry, until the schedule's attempts or age are used up |
/// | unavailable | retry without spending an attempt, until the age is used up |
/// | ambiguous | retry as transient when it may be sent again, else [`RetryDecision::Ambiguous`] |
/// | permanent, destination gone | dead at once |
///
/// `attempts` counts those made so far, this one included. `first_due` is when the message was first due.
/// `random` gets a bound in ms and answers a number from 0 to that bound, each equally likely.
///
/// A platform's hint wins over the schedule and is never shortened. A hint that is longer than a message may
/// live is not waited for.
pub fn decide(
    error: &SendError,
    schedules: &RetrySchedules,
    attempts: u32,
    first_due: Timestamp,
    now: Timestamp,
    resend_ambiguous: bool,
    random: impl FnOnce(u64) -> u64,
) -> RetryDecision {
    let (schedule, hint, counts_attempt) = match error {
        SendError::RateLimited { retry_after, .. } => (&schedules.rate_limited, *retry_after, true),
        SendError::Transient { retry_after, .. } => (&schedules.transient, *retry_after, true),
        SendError::Unauthorized { .. } => (&schedules.unauthorized, None, true),
        SendError::Unavailable { .. } => (&schedules.unavailable, None, false),
        SendError::Ambiguous { .. } if resend_ambiguous => (&schedules.transient, None, true),
        SendError::Ambiguous { .. } => return RetryDecision::Ambiguous,
        SendError::Permanent { .. } | SendError::DestinationGone { .. } => return dead(error.to_string()),
    };
    if counts_attempt && schedule.attempts_max.is_some_and(|attempts_max| attempts >= attempts_max) {
        return dead(format!("given up after {attempts} attempts: {error}"));
    }
    let age = now.since(first_due);
    if age >= schedule.give_up_after {
        return dead(format!("given up after {}: {error}", in_words(age)));
    }
    if let Some(hint) = hint.filter(|hint| *hint > schedule.give_up_after) {
        return dead(format!("the platform asks to wait for {}: {error}", in_words(hint)));
    }
    // An attempt that was not spent does not raise the count; the age then tells how long it has gone on.
    let bound_ms = if counts_attempt { exponential_ms(schedule, attempts) } else { aged_ms(schedule, age) };
    let delay_ms = match hint {
        Some(hint) => to_ms_up(hint).max(shortest_ms(schedule)),
        None => random(bound_ms).clamp(shortest_ms(schedule).min(bound_ms), bound_ms),
    };
    RetryDecision::RetryAt { at: now.plus(Duration::from_millis(delay_ms)), counts_attempt }
}

fn dead(reason: String) -> RetryDecision {
    RetryDecision::Dead { reason: bounded(reason, ERROR_TEXT_BYTES_MAX) }
}

/// Upper bound of the delay after attempt number `attempts`: the base, doubled for each attempt before.
fn exponential_ms(schedule: &RetrySchedule, attempts: u32) -> u64 {
    let doublings = attempts.saturating_sub(1).min(63);
    to_ms_up(schedule.base).saturating_mul(1 << doublings).clamp(1, longest_ms(schedule))
}

/// Upper bound of the delay when attempts are not counted: the age, as doubling would give.
fn aged_ms(schedule: &RetrySchedule, age: Duration) -> u64 {
    to_ms_up(age.max(schedule.base)).clamp(1, longest_ms(schedule))
}

fn longest_ms(schedule: &RetrySchedule) -> u64 {
    to_ms_up(schedule.delay_max).max(1)
}

fn shortest_ms(schedule: &RetrySchedule) -> u64 {
    (to_ms_up(schedule.base) / BASE_PART_MIN).max(1)
}

/// Whole milliseconds, rounded up: rounding down would be early.
fn to_ms_up(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::LimitScope;
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn transient(retry_after: Option<Duration>) -> SendError {
        SendError::Transient { retry_after, reason: "502".to_owned() }
    }

    fn rate_limited(retry_after: Option<Duration>) -> SendError {
        SendError::RateLimited { retry_after, scope: LimitScope::Account, reason: "429".to_owned() }
    }

    fn unavailable() -> SendError {
        SendError::Unavailable { reason: "no adapter".to_owned() }
    }

    fn ambiguous() -> SendError {
        SendError::Ambiguous { reason: "reset".to_owned() }
    }

    /// Decides at `START` plus `age` with the longest delay that the jitter allows.
    fn decide_longest(error: &SendError, attempts: u32, age: Duration) -> RetryDecision {
        let now = START.plus(age);
        decide(error, &RetrySchedules::default(), attempts, START, now, true, |bound_ms| bound_ms)
    }

    #[track_caller]
    fn delay(error: &SendError, attempts: u32, age: Duration) -> Duration {
        match decide_longest(error, attempts, age) {
            RetryDecision::RetryAt { at, .. } => at.since(START.plus(age)),
            other => panic!("no retry: {other:?}"),
        }
    }

    #[track_caller]
    fn dead(error: &SendError, attempts: u32, age: Duration) -> String {
        match decide_longest(error, attempts, age) {
            RetryDecision::Dead { reason } => reason,
            other => panic!("not dead: {other:?}"),
        }
    }

    #[test]
    fn the_bound_of_the_delay_doubles_up_to_the_cap() {
        let bounds: Vec<u64> =
            (1..=9).map(|attempts| delay(&transient(None), attempts, Duration::ZERO).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(delay(&rate_limited(None), 13, Duration::ZERO), HOUR);
        assert_eq!(delay(&rate_limited(None), u32::MAX, Duration::ZERO), HOUR);
        assert_eq!(delay(&transient(None), 0, Duration::ZERO), Duration::from_secs(1));
    }

    #[test]
    fn jitter_never_makes_a_retry_immediate() {
        let decision = decide(&transient(None), &RetrySchedules::default(), 1, START, START, true, |_| 0);
        let at = START.plus(Duration::from_millis(100));
        assert_eq!(decision, RetryDecision::RetryAt { at, counts_attempt: true });
    }

    #[test]
    fn a_platforms_hint_wins_and_is_never_shortened() {
        assert_eq!(delay(&transient(Some(5 * HOUR)), 1, Duration::ZERO), 5 * HOUR);
        assert_eq!(
            delay(&rate_limited(Some(Duration::from_secs(3))), 20, Duration::ZERO),
            Duration::from_secs(3)
        );
        // Rounded up, and never a spin.
        let micros = Duration::from_micros(2_000_001);
        assert_eq!(delay(&transient(Some(micros)), 1, Duration::ZERO), Duration::from_millis(2001));
        assert_eq!(delay(&transient(Some(Duration::ZERO)), 1, Duration::ZERO), Duration::from_millis(100));
    }

    #[test]
    fn a_hint_longer_than_a_message_may_live_is_not_waited_for() {
        assert_eq!(
            dead(&transient(Some(240 * HOUR)), 1, Duration::ZERO),
            "the platform asks to wait for 240 h: 502"
        );
        assert_eq!(delay(&transient(Some(24 * HOUR)), 1, 23 * HOUR), 24 * HOUR);
    }

    #[test]
    fn attempts_and_age_are_both_bounded() {
        assert_eq!(dead(&transient(None), 10, Duration::ZERO), "given up after 10 attempts: 502");
        assert_eq!(dead(&transient(None), u32::MAX, HOUR), "given up after 4294967295 attempts: 502");
        assert_eq!(dead(&rate_limited(None), 3, 24 * HOUR), "given up after 24 h: rate limited: 429");
        assert_eq!(delay(&rate_limited(None), 1000, 23 * HOUR), HOUR);
    }

    #[test]
    fn an_unavailable_channel_spends_no_attempt_and_waits_longer_with_age() {
        let decision = decide_longest(&unavailable(), u32::MAX, Duration::ZERO);
        let at = START.plus(Duration::from_secs(5));
        assert_eq!(decision, RetryDecision::RetryAt { at, counts_attempt: false });
        assert_eq!(delay(&unavailable(), 0, Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(delay(&unavailable(), 0, 100 * HOUR), Duration::from_secs(300));
        assert_eq!(
            dead(&unavailable(), 0, 168 * HOUR),
            "given up after 168 h: channel unavailable: no adapter"
        );
    }

    #[test]
    fn refused_credentials_wait_for_new_ones() {
        let error = SendError::Unauthorized { reason: "401".to_owned() };
        assert_eq!(delay(&error, 1, Duration::ZERO), Duration::from_secs(60));
        assert_eq!(delay(&error, 99, HOUR), HOUR);
    }

    #[test]
    fn what_will_never_be_accepted_is_dead_at_once() {
        let permanent = SendError::Permanent { reason: "chat not found".to_owned() };
        assert_eq!(dead(&permanent, 1, Duration::ZERO), "chat not found");
        let gone = SendError::DestinationGone { reason: "410".to_owned() };
        assert_eq!(dead(&gone, 1, Duration::ZERO), "destination is gone: 410");
    }

    #[test]
    fn an_ambiguous_send_is_repeated_only_where_that_is_allowed() {
        assert_eq!(delay(&ambiguous(), 2, Duration::ZERO), Duration::from_secs(2));
        let held = decide(&ambiguous(), &RetrySchedules::default(), 1, START, START, false, |_| 0);
        assert_eq!(held, RetryDecision::Ambiguous);
        assert_eq!(dead(&ambiguous(), 10, HOUR), "given up after 10 attempts: unknown whether sent: reset");
    }

    #[test]
    fn a_reason_is_bounded() {
        let error = SendError::Permanent { reason: "é".repeat(100_000) };
        assert_eq!(dead(&error, 1, Duration::ZERO).len(), ERROR_TEXT_BYTES_MAX);
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()))
        ]
    }

    fn any_schedules() -> impl Strategy<Value = RetrySchedules> {
        (any_duration(), any_duration(), any_duration()).prop_map(|(base, delay_max, give_up_after)| {
            let schedule = RetrySchedule { attempts_max: None, base, delay_max, give_up_after };
            RetrySchedules {
                rate_limited: schedule.clone(),
                transient: schedule.clone(),
                unauthorized: schedule.clone(),
                unavailable: schedule,
            }
        })
    }

    proptest! {
        #[test]
        fn a_retry_is_never_before_the_hint(
            schedules in any_schedules(), hint in any_duration(), attempts in any::<u32>(), drawn in any::<u64>(),
        ) {
            let error = rate_limited(Some(hint));
            let decision = decide(&error, &schedules, attempts, START, START, true, |_| drawn);
            if let RetryDecision::RetryAt { at, .. } = decision {
                prop_assert!(at >= START.plus(hint) && at > START);
            }
        }

        #[test]
        fn without_a_hint_a_delay_is_positive_and_within_the_cap(
            schedules in any_schedules(), attempts in any::<u32>(), drawn in any::<u64>(), age_ms in any::<u32>(),
            error in prop_oneof![Just(transient(None)), Just(unavailable()), Just(ambiguous())],
        ) {
            let now = START.plus(Duration::from_millis(age_ms.into()));
            let decision = decide(&error, &schedules, attempts, START, now, true, |_| drawn);
            if let RetryDecision::RetryAt { at, .. } = decision {
                let cap_ms = to_ms_up(schedules.transient.delay_max).max(1);
                prop_assert!(at > now);
                prop_assert!(at <= now.plus(Duration::from_millis(cap_ms)));
            }
        }

        #[test]
        fn the_upper_bound_grows_with_the_attempts(schedules in any_schedules(), attempts in 0..u32::MAX) {
            let bound = |attempts| exponential_ms(&schedules.transient, attempts);
            prop_assert!(bound(attempts) <= bound(attempts + 1));
        }
    }
}
