//! Instants, and the three forms in which the session files write them.

use super::text::quoted;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// The latest instant that has a text form, 9999-12-31T23:59:59.999Z. Later ones are written as this one.
const TEXT_MS_MAX: i64 = 253_402_300_799_999;
/// The earliest instant that has a text form, 0000-01-01T00:00:00Z. Earlier ones are written as this one.
const TEXT_MS_MIN: i64 = -62_167_219_200_000;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is no instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{quoted_text} is not a time: use 2026-04-16T14:37:00Z, 2026-04-16T16:37:00+02:00 or \
     2026-04-16 14:37:00 (UTC)"
)]
pub struct InvalidTimestamp {
    /// The beginning of the text, in quotes.
    quoted_text: String,
}

impl Timestamp {
    /// From milliseconds since 1970.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// This instant and a duration later; stops at the end of representable time.
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// This instant less a duration; saturates.
    pub fn minus(self, duration: std::time::Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_ms(self.as_ms().saturating_sub(ms))
    }

    /// How much later `self` is than `earlier`; zero when it is not later.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads a time column. Fractions finer than a millisecond are cut off.
    ///
    /// Three forms are times: `YYYY-MM-DD HH:MM:SS` (UTC, as SQLite's `datetime('now')` writes it), the same
    /// with `T` and a final `Z`, and with an offset. Seconds may have a fraction, and may be absent before a
    /// `Z` or an offset. A `T` form without zone is an error: nobody can tell which instant it means.
    ///
    /// ```
    /// use nanorelay_actors::model::time::Timestamp;
    ///
    /// let utc = Timestamp::parse("2026-04-16 14:37:00").unwrap();
    /// assert_eq!(Timestamp::parse("2026-04-16T16:37:00+02:00").unwrap(), utc);
    /// assert!(Timestamp::parse("tomorrow 9am").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let invalid = || InvalidTimestamp { quoted_text: quoted(text) };
        let written = Written::read(text).ok_or_else(invalid)?;
        let utc_offset_seconds = match written.zone {
            Zone::Offset { seconds } => seconds,
            Zone::Absent if written.separator == b' ' && written.has_seconds => 0,
            Zone::Absent => return Err(invalid()),
        };
        let ms = civil_to_ms(written.civil) - i64::from(utc_offset_seconds) * 1000;
        // Its offset may take a time of the first or the last year out of the years that can be written.
        if (TEXT_MS_MIN..=TEXT_MS_MAX).contains(&ms) { Ok(Self(ms)) } else { Err(invalid()) }
    }

    /// Reads a time that an agent wrote into a system action: the forms of [`Timestamp::parse`], or
    /// `YYYY-MM-DDTHH:MM[:SS]` as shown by a clock in `zone`.
    ///
    /// A local time that a clock change skips means the same distance after the change (02:30 becomes
    /// 03:30); one that happens twice means the first.
    pub fn parse_in_zone(text: &str, zone: &TimeZone) -> Result<Self, InvalidTimestamp> {
        match Written::read(text) {
            Some(Written { civil, zone: Zone::Absent, separator: b'T', .. }) => zone
                .to_ambiguous_timestamp(civil)
                .compatible()
                .map(Self::from_jiff)
                .map_err(|_| InvalidTimestamp { quoted_text: quoted(text) }),
            _ => Self::parse(text),
        }
    }

    /// The form that SQLite's `datetime()` reads and that sorts with `datetime('now')`:
    /// `2026-11-22 07:47:15`, with milliseconds only when there are some.
    ///
    /// They are kept because a reader that compares with the current second must not be early.
    pub fn to_sqlite(self) -> String {
        let civil = ms_to_civil(self.0);
        match civil.subsec_nanosecond() {
            0 => civil.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            _ => civil.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string(),
        }
    }

    /// The ISO form with milliseconds: `2026-11-22T07:47:15.501Z`.
    pub fn to_iso(self) -> String {
        ms_to_civil(self.0).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }

    /// The same instant for the calendar library; `None` outside of its range, years -9999 to 9999.
    pub(crate) fn to_jiff(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_millisecond(self.0).ok()
    }

    /// From the calendar library's instant. Finer parts are cut off.
    pub(crate) fn from_jiff(instant: jiff::Timestamp) -> Self {
        Self(instant.as_nanosecond().div_euclid(1_000_000) as i64)
    }
}

/// Microseconds since 1970 as `2026-11-22T07:47:15.501000Z`.
pub fn to_rfc3339_micros(us: i64) -> String {
    // Dividing first: the bounds in microseconds would leave no room to add.
    let civil = ms_to_civil(us.div_euclid(1000));
    let micros_of_ms = us.rem_euclid(1000);
    format!("{}{micros_of_ms:03}Z", civil.strftime("%Y-%m-%dT%H:%M:%S.%3f"))
}

fn civil_to_ms(civil: DateTime) -> i64 {
    civil.duration_since(EPOCH).as_millis() as i64
}

fn ms_to_civil(ms: i64) -> DateTime {
    let ms = ms.clamp(TEXT_MS_MIN, TEXT_MS_MAX);
    EPOCH.saturating_add(jiff::SignedDuration::from_millis(ms))
}

/// What a text says about its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zone {
    /// Nothing.
    Absent,
    /// `Z` or `+02:00`.
    Offset { seconds: i32 },
}

/// A date and time as it is written.
#[derive(Debug, Clone, Copy)]
struct Written {
    civil: DateTime,
    zone: Zone,
    separator: u8,
    has_seconds: bool,
}

impl Written {
    fn read(text: &str) -> Option<Self> {
        let mut rest = Reader(text.as_bytes());
        let year = rest.digits(4)?;
        rest.expect(b'-')?;
        let month = rest.digits(2)?;
        rest.expect(b'-')?;
        let day = rest.digits(2)?;
        let separator = rest.one_of(b" T")?;
        let hour = rest.digits(2)?;
        rest.expect(b':')?;
        let minute = rest.digits(2)?;
        let has_seconds = rest.one_of(b":").is_some();
        let second = if has_seconds { rest.digits(2)? } else { 0 };
        let nanosecond = match has_seconds.then(|| rest.one_of(b".")).flatten() {
            Some(_) => rest.fraction()?,
            None => 0,
        };
        let zone = rest.zone()?;
        if !rest.0.is_empty() {
            return None;
        }
        let date = Date::new(i16::try_from(year).ok()?, month as i8, day as i8).ok()?;
        let time = Time::new(hour as i8, minute as i8, second as i8, nanosecond).ok()?;
        Some(Self { civil: date.to_datetime(time), zone, separator, has_seconds })
    }
}

/// The part of a text that is not yet read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// Exactly `count` digits, at most four.
    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        allowed.contains(&first).then(|| {
            self.0 = rest;
            first
        })
    }

    fn expect(&mut self, byte: u8) -> Option<u8> {
        self.one_of(&[byte])
    }

    /// The digits after the point, as whole milliseconds in nanoseconds.
    fn fraction(&mut self) -> Option<i32> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        if digits.is_empty() {
            return None;
        }
        self.0 = rest;
        let digit = |place: usize| i32::from(digits.get(place).map_or(0, |digit| digit - b'0'));
        Some((digit(0) * 100 + digit(1) * 10 + digit(2)) * 1_000_000)
    }

    fn zone(&mut self) -> Option<Zone> {
        if self.0.is_empty() {
            return Some(Zone::Absent);
        }
        let sign = match self.one_of(b"Z+-")? {
            b'Z' => return Some(Zone::Offset { seconds: 0 }),
            b'+' => 1,
            _ => -1,
        };
        let hours = self.digits(2)?;
        self.expect(b':')?;
        let minutes = self.digits(2)?;
        (hours < 24 && minutes < 60)
            .then_some(Zone::Offset { seconds: sign * (hours * 3600 + minutes * 60) as i32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, iso: &str) {
        assert_eq!(Timestamp::parse(text).expect(text).to_iso(), iso);
    }

    #[track_caller]
    fn refused(text: &str) {
        assert!(Timestamp::parse(text).is_err(), "{text:?} must not be a time");
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    #[test]
    fn a_time_whose_offset_leaves_the_years_that_can_be_written_is_no_time() {
        refused("9999-12-31T23:59-14:37");
        refused("0000-01-01T00:00+00:01");
        check("9999-12-31T23:59-00:00", "9999-12-31T23:59:00.000Z");
    }

    #[test]
    fn treats_a_sqlite_style_time_without_zone_as_utc() {
        check("2026-04-20 12:00:00", "2026-04-20T12:00:00.000Z");
        check("2026-04-20 12:00:00.5", "2026-04-20T12:00:00.500Z");
    }

    #[test]
    fn preserves_an_explicit_z_marker() {
        check("2026-11-22T07:47:15.501Z", "2026-11-22T07:47:15.501Z");
        check("2026-11-22T07:47Z", "2026-11-22T07:47:00.000Z");
        check("2026-11-22 07:47:15Z", "2026-11-22T07:47:15.000Z");
    }

    #[test]
    fn preserves_an_explicit_numeric_offset() {
        check("2026-04-20T12:00:00+02:00", "2026-04-20T10:00:00.000Z");
        check("2026-04-20T23:30:00.1239-05:30", "2026-04-21T05:00:00.123Z");
        check("2026-04-20T12:00+02:00", "2026-04-20T10:00:00.000Z");
    }

    #[test]
    fn what_is_no_time_is_an_error_that_quotes_it() {
        for text in [
            "",
            " ",
            "tomorrow 9am",
            "1776350220",
            "1776350220000",
            "2026-04-20",
            "2026-04-20T12:00:00",
            "2026-04-20 12:00",
            "2026-04-20T12:00:00.Z",
            "2026-04-20T12:00.5Z",
            "2026-02-30T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-04-20T24:00:00Z",
            "2026-04-20T12:60:00Z",
            "2026-04-20T12:00:60Z",
            "2026-04-20T12:00:00z",
            "2026-04-20T12:00:00+2",
            "2026-04-20T12:00:00+24:00",
            "2026-04-20T12:00:00+02:00 ",
            " 2026-04-20T12:00:00Z",
            "2026-04-20T12:00:00ZZ",
            "+2026-04-20T12:00:00Z",
            "２026-04-20T12:00:00Z",
        ] {
            refused(text);
        }
        let message = Timestamp::parse("tomorrow 9am").unwrap_err().to_string();
        assert!(message.starts_with("\"tomorrow 9am\" is not a time: use 2026-04-16T14:37:00Z"), "{message}");
        assert!(Timestamp::parse(&"9".repeat(100_000)).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn a_local_time_is_read_in_the_zone() {
        let parse = |text| Timestamp::parse_in_zone(text, &berlin()).unwrap().to_iso();
        assert_eq!(parse("2027-01-15T21:00"), "2027-01-15T20:00:00.000Z");
        assert_eq!(parse("2026-07-01T09:00:30"), "2026-07-01T07:00:30.000Z");
        // Forms that name their zone, or that are UTC by contract, stay what they are.
        assert_eq!(parse("2026-07-01T09:00:00Z"), "2026-07-01T09:00:00.000Z");
        assert_eq!(parse("2026-07-01 09:00:00"), "2026-07-01T09:00:00.000Z");
        assert!(Timestamp::parse_in_zone("tomorrow 9am", &berlin()).is_err());
        assert!(Timestamp::parse_in_zone("2026-07-01", &berlin()).is_err());
    }

    #[test]
    fn a_skipped_local_time_is_after_the_change_and_a_doubled_one_the_first() {
        let parse = |text| Timestamp::parse_in_zone(text, &berlin()).unwrap().to_iso();
        assert_eq!(parse("2027-03-28T02:30"), "2027-03-28T01:30:00.000Z");
        assert_eq!(parse("2026-10-25T02:30"), "2026-10-25T00:30:00.000Z");
    }

    #[test]
    fn writes_what_sqlite_reads() {
        assert_eq!(Timestamp::from_ms(1_795_333_635_000).to_sqlite(), "2026-11-22 07:47:15");
        assert_eq!(Timestamp::from_ms(1_795_333_635_501).to_sqlite(), "2026-11-22 07:47:15.501");
    }

    #[test]
    fn writes_microseconds() {
        assert_eq!(to_rfc3339_micros(1_795_333_635_501_000), "2026-11-22T07:47:15.501000Z");
        assert_eq!(to_rfc3339_micros(-1), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn instants_without_a_text_form_are_written_as_the_nearest_one() {
        assert_eq!(Timestamp::from_ms(i64::MAX).to_iso(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_ms(i64::MIN).to_sqlite(), "0000-01-01 00:00:00");
        let _ = (to_rfc3339_micros(i64::MIN), to_rfc3339_micros(i64::MAX));
    }

    proptest! {
        #[test]
        fn every_written_form_reads_back(ms in TEXT_MS_MIN..=TEXT_MS_MAX) {
            let instant = Timestamp::from_ms(ms);
            prop_assert_eq!(Timestamp::parse(&instant.to_iso()).unwrap(), instant);
            prop_assert_eq!(Timestamp::parse(&instant.to_sqlite()).unwrap(), instant);
        }

        #[test]
        fn the_written_order_is_the_order_of_instants(a in 0..TEXT_MS_MAX, b in 0..TEXT_MS_MAX) {
            let (a, b) = (Timestamp::from_ms(a), Timestamp::from_ms(b));
            prop_assert_eq!(a.cmp(&b), a.to_iso().cmp(&b.to_iso()));
            prop_assert_eq!(a.cmp(&b), a.to_sqlite().cmp(&b.to_sqlite()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = Timestamp::parse(&text);
            let _ = Timestamp::parse_in_zone(&text, &berlin());
        }

        #[test]
        fn nearly_right_text_never_panics(text in "[0-9]{3,5}-[0-9]{1,2}-[0-9]{2}[T ][0-9:.]{0,9}[Z+-]?[0-9:]{0,6}") {
            let _ = Timestamp::parse(&text);
            let _ = Timestamp::parse_in_zone(&text, &berlin());
        }
    }
}
