//! Times as text: what is accepted survives being written in both forms.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::time::Timestamp;
use std::time::Duration;

fuzz_target!(|text: &str| {
    let _ = Timestamp::parse_in_zone(text, &TimeZone::UTC);
    let Ok(time) = Timestamp::parse(text) else { return };
    assert_eq!(Timestamp::parse(&time.to_iso()).ok(), Some(time), "{text:?}");
    Timestamp::parse(&time.to_sqlite()).expect("the form that SQLite parses");
    let _ = time.plus(Duration::from_secs(86_400)).since(time);
});
