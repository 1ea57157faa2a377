//! Recurrences: an expression is refused or has a next run, which comes later than the last one.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::recurrence::{Recurrence, plan_next_run, run_id};
use nanorelay_actors::model::time::Timestamp;

fuzz_target!(|input: (i64, bool, &str)| {
    let (seconds, in_berlin, expression) = input;
    let Ok(recurrence) = Recurrence::parse(expression) else { return };
    let zone = if in_berlin {
        TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC)
    } else {
        TimeZone::UTC
    };
    // A century around 2000: far outside of it there is no next run to be found.
    let now = Timestamp::from_ms(946_684_800_000 + seconds % 1_577_880_000 * 1000);
    if let Some(next) = plan_next_run(now, &recurrence, now, &zone) {
        assert!(next > now, "{expression:?}");
        let _ = run_id("series", next);
    }
});
