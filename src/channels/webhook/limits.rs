//! What the headers of an answer say about the receiver's rate limit.

use super::answer::RETRY_AFTER_MAX;
use nanorelay_actors::model::error::{LearnedLimit, LimitScope};
use nanorelay_actors::model::time::Timestamp;
use std::time::Duration;

/// A reset at or above this many seconds is a date since 1970, below it a time from now.
const SECONDS_OF_A_DATE_MIN: f64 = 1e9;
/// The same in milliseconds.
const MILLISECONDS_OF_A_DATE_MIN: f64 = 1e12;

/// Reads the limit in one of the forms that are in use:
///
/// ```text
/// RateLimit: "default";r=50;t=30                      the standard's draft
/// RateLimit: limit=100, remaining=50, reset=30        an earlier draft
/// RateLimit-Remaining: 50 and RateLimit-Reset: 30     a still earlier one
/// X-RateLimit-Remaining: 50, with one of              before any standard
///   X-RateLimit-Reset-After: 29.8
///   X-RateLimit-Reset: 30, or 1776350220
/// ```
///
/// Without both the count and the reset, it is no limit. It is the whole URL's: a webhook has no other scope.
pub(super) fn learned<'h>(header: impl Fn(&str) -> Option<&'h str>, now: Timestamp) -> Option<LearnedLimit> {
    let pair =
        |remaining: &str, reset: &str| Some((header(remaining)?.to_owned(), header(reset)?.to_owned()));
    let (remaining, reset) = header("ratelimit")
        .and_then(parameters)
        .or_else(|| pair("ratelimit-remaining", "ratelimit-reset"))
        .or_else(|| pair("x-ratelimit-remaining", "x-ratelimit-reset-after"))
        .or_else(|| pair("x-ratelimit-remaining", "x-ratelimit-reset"))?;
    let remaining = remaining.trim().parse().ok()?;
    Some(LearnedLimit { scope: LimitScope::Account, remaining, resets_at: instant(&reset, now)? })
}

/// The count and the reset in a header with parameters; of several limits, the first.
fn parameters(text: &str) -> Option<(String, String)> {
    let parameter = |names: [&str; 2]| {
        text.split([';', ','])
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| names.contains(&name.trim()))
            .map(|(_, value)| value.trim().to_owned())
    };
    Some((parameter(["r", "remaining"])?, parameter(["t", "reset"])?))
}

fn instant(text: &str, now: Timestamp) -> Option<Timestamp> {
    let number: f64 = text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let date_ms = match number {
        _ if number >= MILLISECONDS_OF_A_DATE_MIN => Some(number),
        _ if number >= SECONDS_OF_A_DATE_MIN => Some(number * 1000.0),
        _ => None,
    };
    let from_now = match date_ms {
        // Below 2^53: exact.
        Some(ms) => Timestamp::from_ms(ms.ceil() as i64).since(now),
        None => Duration::from_millis((number * 1000.0).ceil() as u64),
    };
    Some(now.plus(from_now.min(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_776_350_000;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected: Option<(u64, i64)>) {
        let now = Timestamp::from_ms(NOW_S * 1000);
        let header = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let found =
            learned(header, now).map(|limit| (limit.remaining, limit.resets_at.as_ms() - now.as_ms()));
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn a_limit_is_read_in_every_form() {
        check(&[("ratelimit", "\"default\";r=50;t=30")], Some((50, 30_000)));
        check(&[("ratelimit", "limit=100, remaining=0, reset=7")], Some((0, 7000)));
        check(&[("ratelimit-remaining", "3"), ("ratelimit-reset", "60")], Some((3, 60_000)));
        check(&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1776350005")], Some((1, 5000)));
        check(&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1776350005000")], Some((1, 5000)));
        check(&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "5")], Some((1, 5000)));
        let both = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1776350005"),
            ("x-ratelimit-reset-after", "4.0001"),
        ];
        check(&both, Some((0, 4001)));
        check(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000000000")], Some((0, 0)));
        let year_ms = i64::try_from(RETRY_AFTER_MAX.as_millis()).unwrap();
        check(&[("ratelimit-remaining", "3"), ("ratelimit-reset", "999999999")], Some((3, year_ms)));
    }

    #[test]
    fn half_a_limit_or_none_is_no_limit() {
        check(&[], None);
        check(&[("x-ratelimit-remaining", "1")], None);
        check(&[("x-ratelimit-reset", "1")], None);
        for wrong in ["", "-1", "many", "1.5"] {
            check(&[("ratelimit-remaining", wrong), ("ratelimit-reset", "1")], None);
        }
        for wrong in ["", "-1", "soon", "inf", "NaN"] {
            check(&[("ratelimit-remaining", "1"), ("ratelimit-reset", wrong)], None);
        }
        check(&[("ratelimit", "\"default\";r=50")], None);
    }
}
