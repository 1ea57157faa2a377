//! Durations, sizes and counts as people write them in a configuration.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::time::Duration;

const SECOND_MS: u64 = 1000;
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", SECOND_MS),
    ("m", 60 * SECOND_MS),
    ("h", 3600 * SECOND_MS),
    ("d", 24 * 3600 * SECOND_MS),
];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads `250ms`, `30s`, `15m`, `24h`, `7d`: a whole number and a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem =
        || format!("{text:?} is not a duration such as \"250ms\", \"30s\", \"15m\", \"24h\" or \"7d\"");
    parse_with_unit(text, &DURATION_UNITS).map(Duration::from_millis).ok_or_else(problem)
}

/// Reads `1048576`, `512KiB`, `64MiB`, `2GiB`: a whole number of bytes, with or without a unit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let problem = || format!("{text:?} is not a size such as 1048576, \"512KiB\", \"64MiB\" or \"2GiB\"");
    text.parse().ok().or_else(|| parse_with_unit(text, &SIZE_UNITS)).ok_or_else(problem)
}

fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a duration in the largest unit that fits without a remainder.
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| ms.is_multiple_of(*factor) && ms > 0)
        .unwrap_or(&("s", SECOND_MS));
    format!("{}{unit}", ms / factor)
}

/// Writes a size for people: `0 B`, `512 B`, `12.3 KiB`.
pub fn show_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().rev().find(|(_, factor)| bytes >= *factor) {
        None | Some((_, 1)) => format!("{bytes} B"),
        Some((unit, factor)) => {
            // One decimal is for reading; a rounding error of a float is far below it.
            format!("{:.1} {unit}", bytes as f64 / *factor as f64)
        }
    }
}

/// A duration from `MIN` to `MAX` milliseconds.
pub(super) fn duration<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration in quotes with its unit, such as \"30s\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).map_err(E::custom)
        }
    }
    let value = deserializer.deserialize_any(Text)?;
    let (min, max) = (Duration::from_millis(MIN), Duration::from_millis(MAX));
    in_bounds(value, min, max, |bound| show_duration(*bound)).map_err(de::Error::custom)
}

/// A size from `MIN` to `MAX` bytes.
pub(super) fn size<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<u64, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = u64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size in bytes, such as 1048576 or \"64MiB\"")
        }
        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::custom("a size is never negative"))
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            parse_size(text).map_err(E::custom)
        }
    }
    let value = deserializer.deserialize_any(Size)?;
    in_bounds(value, MIN, MAX, |bytes| format!("{bytes} bytes")).map_err(de::Error::custom)
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn count<'de, D: Deserializer<'de>, T: TryFrom<u64>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Count;
    impl Visitor<'_> for Count {
        type Value = i64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }
    }
    let found = deserializer.deserialize_any(Count)?;
    let number = u64::try_from(found)
        .map_err(|_| de::Error::custom(format!("{found} is out of bounds, {MIN} to {MAX} is allowed")))?;
    let number = in_bounds(number, MIN, MAX, u64::to_string).map_err(de::Error::custom)?;
    T::try_from(number).map_err(|_| de::Error::custom("the number is too large"))
}

/// The same for a key that may be absent.
pub(super) fn optional_count<'de, D: Deserializer<'de>, T: TryFrom<u64>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    count::<D, T, MIN, MAX>(deserializer).map(Some)
}

/// The same, or `unlimited`.
pub(super) fn optional_limit<'de, D: Deserializer<'de>, T: TryFrom<u64>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    or_unlimited(deserializer, count::<toml::Value, T, MIN, MAX>)
}

/// A size from `MIN` to `MAX` bytes, or `unlimited`.
pub(super) fn optional_size<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    or_unlimited(deserializer, size::<toml::Value, MIN, MAX>)
}

/// A duration from `MIN` to `MAX` milliseconds, or `unlimited`.
pub(super) fn optional_duration<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    or_unlimited(deserializer, duration::<toml::Value, MIN, MAX>)
}

/// `None` for `unlimited`, else what `read` makes of the value.
fn or_unlimited<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: fn(toml::Value) -> Result<T, toml::de::Error>,
) -> Result<Option<T>, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    if value.as_str() == Some("unlimited") {
        return Ok(None);
    }
    let problem = |error: toml::de::Error| format!("{}, or \"unlimited\"", error.message());
    read(value).map(Some).map_err(|error| de::Error::custom(problem(error)))
}

/// How often a second something may happen, as the time from one to the next; from once in 1,000 s to 10,000 times a
/// second.
pub(super) fn interval_of_rate<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    struct Rate;
    impl Visitor<'_> for Rate {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number such as 20 or 0.5")
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<f64, E> {
            // Far larger numbers than are allowed are exact.
            Ok(number as f64)
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<f64, E> {
            Ok(number)
        }
    }
    let rate = deserializer.deserialize_any(Rate)?;
    // A number that is none is in no bounds.
    match (0.001..=10_000.0).contains(&rate) {
        true => Ok(Some(Duration::from_secs_f64(1.0 / rate))),
        false => Err(de::Error::custom(format!("{rate} is out of bounds, 0.001 to 10000 is allowed"))),
    }
}

/// A number of attempts from 1 to 1,000,000, or `unlimited`.
pub(super) fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    struct Attempts;
    impl Visitor<'_> for Attempts {
        type Value = Option<u32>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number from 1 to 1000000, or \"unlimited\"")
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Option<u32>, E> {
            match u32::try_from(number) {
                Ok(number @ 1..=1_000_000) => Ok(Some(number)),
                _ => Err(E::custom(format!("{number} is out of bounds, 1 to 1000000 is allowed"))),
            }
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<u32>, E> {
            match text {
                "unlimited" => Ok(None),
                _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            }
        }
    }
    deserializer.deserialize_any(Attempts)
}

fn in_bounds<T: PartialOrd>(value: T, min: T, max: T, show: impl Fn(&T) -> String) -> Result<T, String> {
    if value < min || value > max {
        return Err(format!(
            "{} is out of bounds, {} to {} is allowed",
            show(&value),
            show(&min),
            show(&max)
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "5", "s", "1.5s", "-1s", "1 s", "1S", "1week", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_the_form_in_which_they_are_read() {
        for text in ["250ms", "30s", "15m", "1h", "7d", "0s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_are_bytes_with_or_without_a_unit() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("7B", 7), ("512KiB", 512 << 10), ("64MiB", 64 << 20)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1 MiB", "1MB", "1.5MiB", "-1", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(3 << 30), "3.0 GiB");
    }
}
