//! Recurrences: an expression is refused or has a next run, which comes later than the last one and is named by its time.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::ids::MessageId;
use nanorelay_actors::model::recurrence::Recurrence;
use nanorelay_actors::model::series::{SeriesDefaults, SeriesRun, TaskOptions, planned_time};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::settings::Settings;

const SERIES_ID: &str = "series";

fuzz_target!(|input: (i64, bool, &str)| {
    let (seconds, in_berlin, expression) = input;
    if Recurrence::parse(expression).is_err() {
        return;
    }
    let zone =
        if in_berlin { TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC) } else { TimeZone::UTC };
    // A century around 2000: far outside of it there is no next run to be found.
    let now = Timestamp::from_ms(946_684_800_000 + seconds % 1_577_880_000 * 1000);
    let run = SeriesRun {
        id: MessageId::new(SERIES_ID).expect("a plain id"),
        series_id: SERIES_ID.to_owned(),
        recurrence: expression.to_owned(),
        scheduled: Some(now),
        last_planned: None,
        options: TaskOptions::default(),
    };
    let defaults = SeriesDefaults { zone, missed: Settings::default().missed_runs };
    if let Ok(next) = run.following(now, &defaults) {
        assert!(next.process_after > now, "{expression:?}");
        assert_eq!(planned_time(SERIES_ID, next.id.as_str()), Some(next.process_after), "{expression:?}");
    }
});
