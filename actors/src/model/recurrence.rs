//! Recurrences: cron expressions in a time zone.
//!
//! What an expression means is what NanoClaw's own library means (cron-parser 5.10.5), and a table generated
//! with it is part of the tests. Day of month and day of week are alternatives when both are restricted.
//!
//! Clock changes. An expression whose hour field selects every hour keeps its interval: it follows absolute
//! time through every change. All others follow the wall clock: a time that is skipped runs once, as much
//! later as the clock was moved (02:30 runs at 03:30); a time that happens twice runs the first time.
//!
//! Deliberately different from cron-parser:
//! - fewer than five fields, the empty text and `H` are refused: they run at times that nobody wrote down;
//! - a value that is listed twice (`*,5`) and a week that ends on Sunday (`fri-sun`) are accepted;
//! - a change of half an hour (Lord Howe) follows the rules above; cron-parser leaves out runs there.

mod expression;
#[cfg(test)]
mod tests;

use super::text::quoted;
use super::time::Timestamp;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp as Instant};

/// Most clock changes that the search for one occurrence passes: more than 40 years of any zone.
const SEGMENTS_MAX: usize = 256;
/// Most occurrences on the wall clock that are looked at for one in absolute time.
const CANDIDATES_MAX: usize = 64;
/// Days of each month in a leap year.
const MONTH_DAYS_MAX: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A valid cron expression.
///
/// It takes about 6 KiB: keep the text, and parse it when the next run is planned.
#[derive(Debug, Clone)]
pub struct Recurrence {
    cron: Cron,
    /// Whether every hour is selected: such an expression is about intervals, not about times of day.
    every_hour: bool,
}

/// A text that is no cron expression, or one that can never fire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{quoted_expression} is not a cron expression: {reason}")]
pub struct InvalidRecurrence {
    /// The beginning of the text, in quotes.
    quoted_expression: String,
    /// What is wrong with it.
    reason: String,
}

impl Recurrence {
    /// Parses five fields (minute, hour, day of month, month, day of week), six (a second before them), or a
    /// nickname such as `@daily`.
    ///
    /// ```
    /// use jiff::tz::TimeZone;
    /// use nanorelay_actors::model::{recurrence::Recurrence, time::Timestamp};
    ///
    /// let weekdays_at_nine = Recurrence::parse("0 9 * * mon-fri").unwrap();
    /// let friday_noon = Timestamp::parse("2026-11-20 12:00:00").unwrap();
    /// let next = weekdays_at_nine.next_after(friday_noon, &TimeZone::UTC).unwrap();
    /// assert_eq!(next.to_iso(), "2026-11-23T09:00:00.000Z");
    /// ```
    pub fn parse(expression: &str) -> Result<Self, InvalidRecurrence> {
        let invalid = |reason| InvalidRecurrence { quoted_expression: quoted(expression), reason };
        let plain = expression::normalise(expression).map_err(invalid)?;
        let parser = CronParser::builder().seconds(Seconds::Required).build();
        let cron = parser.parse(&plain).map_err(|error| invalid(error.to_string()))?;
        if is_impossible(&cron) {
            return Err(invalid("no month has such a day".to_owned()));
        }
        let every_hour = cron.pattern.hours.values().len() == 24;
        Ok(Self { cron, every_hour })
    }

    /// The first occurrence strictly after `after`; `None` only near the end of the calendar.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = after.to_jiff()?;
        let next = if self.every_hour {
            self.next_by_interval(after, zone)
        } else {
            self.next_by_wall_clock(after, zone)
        };
        next.map(Timestamp::from_jiff)
    }

    /// Steps from one clock change to the next: between two of them the wall clock runs like absolute time.
    fn next_by_interval(&self, after: Instant, zone: &TimeZone) -> Option<Instant> {
        let mut start = next_full_second(after)?;
        for _ in 0..SEGMENTS_MAX {
            let offset = zone.to_offset(start);
            let end = zone.following(start).next().map(|change| change.timestamp());
            let occurrence =
                self.next_civil(offset.to_datetime(start)).and_then(|civil| offset.to_timestamp(civil).ok());
            match (occurrence, end) {
                (Some(occurrence), Some(end)) if occurrence >= end => start = end,
                (None, Some(end)) => start = end,
                (occurrence, _) => return occurrence,
            }
        }
        None
    }

    /// Finds occurrences on the wall clock, and the instant of each.
    fn next_by_wall_clock(&self, after: Instant, zone: &TimeZone) -> Option<Instant> {
        let start = next_full_second(after)?;
        let clock = WallClock::at(start, zone);
        let regular = self.first_on_wall_clock(clock.time, start, zone);
        let skipped = clock.skipped_from.and_then(|from| self.first_on_wall_clock(from, start, zone));
        regular.into_iter().chain(skipped).min()
    }

    /// The first occurrence that the wall clock shows from `civil` on, if its instant is `start` or later.
    fn first_on_wall_clock(&self, civil: DateTime, start: Instant, zone: &TimeZone) -> Option<Instant> {
        let mut civil = self.next_civil(civil)?;
        for _ in 0..CANDIDATES_MAX {
            let ambiguous = zone.to_ambiguous_timestamp(civil);
            let instant = ambiguous.compatible().ok()?;
            if instant >= start {
                // A skipped time is moved later, perhaps past one that stands right after the gap.
                let beyond_gap = match ambiguous.offset() {
                    AmbiguousOffset::Gap { .. } => self.first_after_change_before(instant, start, zone),
                    _ => None,
                };
                return Some(beyond_gap.map_or(instant, |beyond_gap| beyond_gap.min(instant)));
            }
            civil = self.next_civil(civil.checked_add(SignedDuration::from_secs(1)).ok()?)?;
        }
        None
    }

    /// The first occurrence after the last clock change up to `instant`, but not before `start`.
    fn first_after_change_before(
        &self,
        instant: Instant,
        start: Instant,
        zone: &TimeZone,
    ) -> Option<Instant> {
        let change = last_change(instant, zone)?;
        let offset = zone.to_offset(change);
        let civil = self.next_civil(offset.to_datetime(change.max(start)))?;
        zone.to_ambiguous_timestamp(civil).compatible().ok()
    }

    /// The first date and time on a calendar without zones that matches, `start` included.
    fn next_civil(&self, start: DateTime) -> Option<DateTime> {
        let start = start.to_zoned(TimeZone::UTC).ok()?;
        Some(self.cron.find_next_occurrence(&start, true).ok()?.datetime())
    }
}

/// Whether no month of the expression has a day that it asks for.
fn is_impossible(cron: &Cron) -> bool {
    let pattern = &cron.pattern;
    if !pattern.is_dow_wildcard() || pattern.days.has_modifiers() {
        return false;
    }
    let day_min = pattern.days.values().first().copied().unwrap_or(u16::MAX);
    let longest = pattern.months.values().iter().map(|month| MONTH_DAYS_MAX[usize::from(*month) - 1]).max();
    longest.is_none_or(|longest| day_min > longest)
}

fn next_full_second(after: Instant) -> Option<Instant> {
    let second = after.as_nanosecond().div_euclid(1_000_000_000) + 1;
    Instant::from_second(i64::try_from(second).ok()?).ok()
}

/// The instant of the last clock change up to and including `instant`.
fn last_change(instant: Instant, zone: &TimeZone) -> Option<Instant> {
    let one_later = instant.checked_add(SignedDuration::from_nanos(1)).ok()?;
    zone.preceding(one_later).next().map(|change| change.timestamp())
}

/// Where on the wall clock to look for occurrences whose instant is some start or later.
struct WallClock {
    /// From here on, no time's instant is before the start.
    time: DateTime,
    /// Set right after the clock went forward: times skipped from here on are still to come, moved later.
    skipped_from: Option<DateTime>,
}

impl WallClock {
    fn at(start: Instant, zone: &TimeZone) -> Self {
        let offset = zone.to_offset(start);
        let regular = Self { time: offset.to_datetime(start), skipped_from: None };
        let Some(change) = last_change(start, zone) else { return regular };
        let Ok(just_before) = change.checked_sub(SignedDuration::from_nanos(1)) else { return regular };
        let old_offset = zone.to_offset(just_before);
        let forward_seconds = i64::from(offset.seconds()) - i64::from(old_offset.seconds());
        let elapsed_seconds = start.duration_since(change).as_secs();
        if elapsed_seconds < forward_seconds {
            return Self { skipped_from: Some(old_offset.to_datetime(start)), ..regular };
        }
        if elapsed_seconds < -forward_seconds {
            // The clock shows these times again; they ran when it showed them first.
            return Self { time: old_offset.to_datetime(change), ..regular };
        }
        regular
    }
}
