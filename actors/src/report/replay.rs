//! How fast messages are replayed.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many messages in a time: `5/s`, `30/m`, `100/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplayRate {
    /// At least 1, at most [`ReplayRate::COUNT_MAX`].
    count: u32,
    per: Unit,
}

/// The time of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// A text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number from 1 to {} and /s, /m or /h, such as 5/s", ReplayRate::COUNT_MAX)]
pub struct InvalidRate;

impl ReplayRate {
    /// The largest number of a rate.
    pub const COUNT_MAX: u32 = 10_000;

    /// How long after the first message the one with this index goes, 0 being the first.
    pub fn delay_of(self, index: usize) -> Duration {
        let unit_ms: u64 = match self.per {
            Unit::Second => 1000,
            Unit::Minute => 60_000,
            Unit::Hour => 3_600_000,
        };
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        // Rounded up: earlier would be faster than asked for.
        Duration::from_millis(index.saturating_mul(unit_ms).div_ceil(u64::from(self.count)))
    }
}

impl FromStr for ReplayRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, unit) = text.split_once('/').ok_or(InvalidRate)?;
        let per = match unit {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(InvalidRate),
        };
        let count = count.parse().map_err(|_| InvalidRate)?;
        if (1..=Self::COUNT_MAX).contains(&count) { Ok(Self { count, per }) } else { Err(InvalidRate) }
    }
}

impl fmt::Display for ReplayRate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(out, "{}/{unit}", self.count)
    }
}

impl TryFrom<String> for ReplayRate {
    type Error = InvalidRate;

    fn try_from(text: String) -> Result<Self, InvalidRate> {
        text.parse()
    }
}

impl From<ReplayRate> for String {
    fn from(rate: ReplayRate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_messages_evenly_and_never_faster() {
        let rate: ReplayRate = "3/s".parse().unwrap();
        let delays_ms: Vec<u128> = (0..5).map(|index| rate.delay_of(index).as_millis()).collect();
        assert_eq!(delays_ms, [0, 334, 667, 1000, 1334]);
        assert_eq!("60/m".parse::<ReplayRate>().unwrap().delay_of(2), Duration::from_secs(2));
        assert_eq!("1/h".parse::<ReplayRate>().unwrap().delay_of(1), Duration::from_secs(3600));
    }

    #[test]
    fn a_rate_is_read_as_it_is_written_and_everything_else_is_refused() {
        for text in ["1/s", "30/m", "10000/h"] {
            assert_eq!(text.parse::<ReplayRate>().unwrap().to_string(), text);
        }
        for wrong in ["", "5", "0/s", "10001/s", "-1/s", "5/d", "5/s ", "1.5/s", "/s"] {
            assert_eq!(wrong.parse::<ReplayRate>(), Err(InvalidRate), "{wrong}");
        }
    }
}
