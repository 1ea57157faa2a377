//! System actions: parsing and planning end with a change of tasks or a sentence for the agent.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use nanorelay_actors::model::action::SystemAction;
use nanorelay_actors::model::task::{RowRouting, plan_task};
use nanorelay_actors::model::time::Timestamp;

fuzz_target!(|json: &str| {
    let Ok(action) = SystemAction::parse(json) else { return };
    let now = Timestamp::from_ms(1_776_000_000_000);
    let routing = RowRouting { platform_id: Some("slack:C1"), channel_type: Some("slack"), thread_id: None };
    if let Err(error) = plan_task(&action, routing, now, &TimeZone::UTC) {
        assert!(!error.to_string().is_empty());
    }
});
