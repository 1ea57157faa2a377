use super::*;
use proptest::prelude::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// The next `count` occurrences after `after`, as a clock in the zone shows them.
fn local_runs(expression: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let (recurrence, zone) = (Recurrence::parse(expression).unwrap(), zone(zone_name));
    let mut now = at(after);
    let mut next = || {
        now = recurrence.next_after(now, &zone).unwrap();
        now.to_jiff().unwrap().to_zoned(zone.clone()).strftime("%d %H:%M %:z").to_string()
    };
    (0..count).map(|_| next()).collect()
}

#[track_caller]
fn check(expression: &str, zone_name: &str, after: &str, expected: &[&str]) {
    let found = local_runs(expression, zone_name, after, expected.len());
    assert_eq!(found, expected, "{expression} in {zone_name} after {after}");
}

#[track_caller]
fn refused(expression: &str, reason: &str) {
    let message = Recurrence::parse(expression).expect_err(expression).to_string();
    assert!(message.ends_with(reason), "{message}");
}

#[test]
fn means_what_nanoclaws_own_library_means() {
    let cases = include_str!("cases.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for case in cases {
        let [expression, zone_name, after, expected] =
            case.split(" | ").collect::<Vec<_>>().try_into().expect(case);
        let (recurrence, zone) = (Recurrence::parse(expression).expect(case), zone(zone_name));
        let mut now = at(after);
        for expected in expected.split(' ') {
            now = recurrence.next_after(now, &zone).expect(case);
            assert_eq!(now, at(expected), "{case}: found {}", now.to_iso());
        }
        count += 1;
    }
    assert!(count >= 380, "only {count} cases");
}

const BERLIN_FORWARD: &str = "2027-03-28T00:00:00Z"; // 01:00 +01, one hour before the change
const BERLIN_BACK: &str = "2026-10-24T23:45:00Z"; // 01:45 +02, 75 minutes before the change

#[test]
fn a_fixed_time_in_a_gap_runs_once_right_after_it() {
    check("30 2 * * *", "Europe/Berlin", BERLIN_FORWARD, &["28 03:30 +02:00", "29 02:30 +02:00"]);
    check("0 2 * * *", "Europe/Berlin", BERLIN_FORWARD, &["28 03:00 +02:00", "29 02:00 +02:00"]);
    check("30 2 * * *", "America/New_York", "2027-03-14T06:00:00Z", &["14 03:30 -04:00", "15 02:30 -04:00"]);
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00:00Z",
        &["04 02:45 +11:00", "05 02:15 +11:00"],
    );
    check("30 2 * * *", "UTC", BERLIN_FORWARD, &["28 02:30 +00:00", "29 02:30 +00:00"]);
}

#[test]
fn a_time_moved_out_of_a_gap_and_one_that_stands_there_are_one_run() {
    check("30 2,3 * * *", "Europe/Berlin", BERLIN_FORWARD, &["28 03:30 +02:00", "29 02:30 +02:00"]);
    check(
        "0,30 1-4 * * *",
        "Europe/Berlin",
        BERLIN_FORWARD,
        &["28 01:30 +01:00", "28 03:00 +02:00", "28 03:30 +02:00", "28 04:00 +02:00"],
    );
}

#[test]
fn times_moved_out_of_a_gap_run_in_order_with_those_after_it() {
    let expected = ["04 02:30 +11:00", "04 02:40 +11:00", "04 02:45 +11:00", "05 02:00 +11:00"];
    check("0,15,40 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &expected);
}

#[test]
fn a_search_that_starts_right_after_a_gap_still_finds_the_moved_time() {
    check("30 2 * * *", "Europe/Berlin", "2027-03-28T01:10:00Z", &["28 03:30 +02:00", "29 02:30 +02:00"]);
    check("30 2 * * *", "Europe/Berlin", "2027-03-28T01:30:00Z", &["29 02:30 +02:00"]);
    check("* * 3-5 * * *", "Europe/Berlin", "2027-03-28T01:30:00Z", &["28 03:30 +02:00"]);
}

#[test]
fn a_fixed_time_in_an_overlap_runs_the_first_time_only() {
    check("30 2 * * *", "Europe/Berlin", BERLIN_BACK, &["25 02:30 +02:00", "26 02:30 +01:00"]);
    check("30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", &["01 01:30 -04:00", "02 01:30 -05:00"]);
    check(
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T12:00:00Z",
        &["05 01:45 +11:00", "06 01:45 +10:30"],
    );
    check(
        "*/30 1-3 * * *",
        "Europe/Berlin",
        BERLIN_BACK,
        &["25 02:00 +02:00", "25 02:30 +02:00", "25 03:00 +01:00", "25 03:30 +01:00", "26 01:00 +01:00"],
    );
    // From within the repeated hour.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", &["26 02:30 +01:00"]);
    check("0 3 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", &["25 03:00 +01:00"]);
    check("* * 2 * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", &["26 02:00 +01:00"]);
}

#[test]
fn an_expression_of_every_hour_keeps_its_interval_through_both_changes() {
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        BERLIN_FORWARD,
        &["28 01:30 +01:00", "28 03:00 +02:00", "28 03:30 +02:00"],
    );
    let back =
        ["25 02:00 +02:00", "25 02:30 +02:00", "25 02:00 +01:00", "25 02:30 +01:00", "25 03:00 +01:00"];
    check("*/30 * * * *", "Europe/Berlin", BERLIN_BACK, &back);
    check("*/30 0-23 * * *", "Europe/Berlin", BERLIN_BACK, &back);
    check(
        "0 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:30:00Z",
        &["05 02:00 +10:30", "05 03:00 +10:30"],
    );
    check(
        "30 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:00:00Z",
        &["05 01:30 +11:00", "05 01:30 +10:30"],
    );
}

#[test]
fn a_midnight_that_does_not_exist_is_moved_like_any_other_time() {
    check("@daily", "Africa/Cairo", "2027-04-29T12:00:00Z", &["30 01:00 +03:00", "01 00:00 +03:00"]);
}

#[test]
fn leap_days_are_found_across_decades() {
    let next = |expression: &str, after| {
        Recurrence::parse(expression).unwrap().next_after(at(after), &zone("Europe/Berlin")).unwrap().to_iso()
    };
    assert_eq!(next("0 12 29 2 *", "2096-03-01 00:00:00"), "2104-02-29T11:00:00.000Z");
    // A fifth Monday in February.
    assert_eq!(next("* * * 2 1#5", "2026-01-01 00:00:00"), "2044-02-28T23:00:00.000Z");
}

#[test]
fn what_is_no_expression_is_refused_in_words() {
    refused("", "it has 0 fields, use five: \"0 9 * * 1-5\"");
    refused("* * * *", "it has 4 fields, use five: \"0 9 * * 1-5\"");
    refused("0 0 9 * * * 2027", "it has 7 fields, use five: \"0 9 * * 1-5\"");
    refused("60 * * * *", "minute: \"60\" is not between 0 and 59");
    refused("0 24 * * *", "hour: \"24\" is not between 0 and 23");
    refused("0 0 0 * *", "day of month: \"0\" is not between 1 and 31");
    refused("0 0 * 13 *", "month: \"13\" is not between 1 and 12");
    refused("0 0 * * 8", "day of week: \"8\" is not between 0 and 7");
    refused("*/0 * * * *", "minute: \"0\" is not a step");
    refused("5-1 * * * *", "minute: the range \"5-1\" runs backwards");
    refused("0 0 * * 1,3#2", "is not between 0 and 7");
    refused("0 0 * * 1#6", "day of week: # takes a number from 1 to 5, and stands alone");
    for (expression, field) in [
        ("1,,2 * * * *", "minute"),
        ("/15 * * * *", "minute"),
        ("+5 * * * *", "minute"),
        ("mon * * * *", "minute"),
        ("H * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("1-* * * * *", "minute"),
        ("0 0 15W * *", "day of month"),
        ("0 0 3L * *", "day of month"),
        ("0 0 * FEBRUARY *", "month"),
        ("0 0 * * L", "day of week"),
        ("0 0 * * 5#L", "day of week"),
    ] {
        let message = Recurrence::parse(expression).expect_err(expression).to_string();
        assert!(message.contains(&format!("is not a cron expression: {field}: ")), "{message}");
    }
    let long = Recurrence::parse(&"1,".repeat(100_000)).unwrap_err().to_string();
    assert!(long.len() < 300 && long.ends_with("it has 200000 bytes, the limit is 1024"), "{long}");
}

#[test]
fn dates_that_never_come_are_refused() {
    refused("0 0 31 2 *", "no month has such a day");
    refused("0 0 30,31 feb *", "no month has such a day");
    refused("0 0 31 4,6 ?", "no month has such a day");
    for possible in ["0 0 29 2 *", "0 0 31 2 1", "0 0 L 2 *", "0 0 30,31 4 *"] {
        assert!(Recurrence::parse(possible).is_ok(), "{possible}");
    }
}

#[test]
fn lists_with_repeated_values_and_weeks_that_end_on_sunday_are_accepted() {
    check("*,5 9 20 11 *", "UTC", "2026-11-20 09:04:00", &["20 09:05 +00:00", "20 09:06 +00:00"]);
    check("0 9 * * fri-sun", "UTC", "2026-11-22 08:00:00", &["22 09:00 +00:00", "27 09:00 +00:00"]);
}

#[test]
fn the_end_of_the_calendar_is_no_occurrence_and_no_panic() {
    for expression in ["* * * * * *", "0 9 * * *"] {
        let recurrence = Recurrence::parse(expression).unwrap();
        let next = |ms| recurrence.next_after(Timestamp::from_ms(ms), &zone("Europe/Berlin"));
        for ms in [i64::MAX, 253_402_207_200_999, i64::MIN] {
            assert_eq!(next(ms), None);
        }
        // Before year 1 the calendar has no occurrences, but there is one after.
        assert!(next(-377_705_023_201_000).is_some());
    }
}

fn any_zone() -> impl Strategy<Value = TimeZone> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Pacific/Apia",
        "Asia/Kathmandu",
    ])
    .prop_map(zone)
}

fn any_expression() -> impl Strategy<Value = String> {
    let minute = prop::sample::select(vec!["*", "0", "*/7", "15,45", "59", "10-20/3", "?"]);
    let hour = prop::sample::select(vec!["*", "2", "*/2", "1-3", "0-23", "0,23", "22/1"]);
    let day = prop::sample::select(vec!["*", "1", "L", "*/10", "31", "28-31"]);
    let month = prop::sample::select(vec!["*", "3,10", "mar-apr", "*/5"]);
    let weekday = prop::sample::select(vec!["*", "0", "1-5", "5L", "sun#1", "sat,7"]);
    (minute, hour, day, month, weekday)
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// 2001 to 2064: past the tables of every zone.
fn any_instant() -> impl Strategy<Value = Timestamp> {
    (978_307_200_000_i64..2_966_371_200_000).prop_map(Timestamp::from_ms)
}

/// A second within three hours of a change of clock.
fn near_a_change(zone: &TimeZone, instant: Timestamp, offset_seconds: i64) -> Timestamp {
    let change = zone.following(instant.to_jiff().unwrap()).next();
    change.map_or(instant, |change| {
        Timestamp::from_ms((change.timestamp().as_second() + offset_seconds) * 1000)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn next_is_strictly_after_and_monotonic(
        expression in any_expression(), zone in any_zone(), instant in any_instant(),
        offset_seconds in -10_800_i64..10_800, step_ms in 0_i64..7_200_000,
    ) {
        // Dates that no month has are refused at parse.
        let Ok(recurrence) = Recurrence::parse(&expression) else { return Ok(()) };
        for start in [instant, near_a_change(&zone, instant, offset_seconds)] {
            let next = recurrence.next_after(start, &zone).unwrap();
            prop_assert!(next > start);
            let later = Timestamp::from_ms(start.as_ms() + step_ms);
            let next_of_later = recurrence.next_after(later, &zone).unwrap();
            prop_assert!(next_of_later >= next);
            // Nothing is jumped over: a search from anywhere before it finds the same occurrence.
            if later < next {
                prop_assert_eq!(next_of_later, next);
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), instant in any_instant(), zone in any_zone()) {
        if let Ok(recurrence) = Recurrence::parse(&text) {
            recurrence.next_after(instant, &zone);
        }
    }

    #[test]
    fn nearly_right_text_never_panics(
        text in "[0-9*?,/#LWa-j+-]{1,6}( [0-9*?,/L#-]{1,4}){4,5}", instant in any_instant(), zone in any_zone(),
    ) {
        if let Ok(recurrence) = Recurrence::parse(&text)
            && let Some(next) = recurrence.next_after(instant, &zone)
        {
            prop_assert!(next > instant);
        }
    }
}
