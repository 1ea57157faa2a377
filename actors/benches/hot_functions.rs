//! The pure functions that every message passes: `cargo bench -p nanorelay-actors`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nanorelay_actors::model::content::Content;
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::model::ids::{AgentGroupId, ChannelType, MessageId, PlatformId, SessionId, TenantName};
use nanorelay_actors::model::lanes::{LaneId, ReadyLanes};
use nanorelay_actors::model::message::OutboundRow;
use nanorelay_actors::model::recurrence::Recurrence;
use nanorelay_actors::model::retry;
use nanorelay_actors::model::route::{self, Permissions};
use nanorelay_actors::model::tenant::Tenant;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::settings::RetrySchedules;
use std::hint::black_box;
use std::sync::Arc;

/// What most agents write: a text of a few sentences.
const TEXT: &str = r#"{"text":"The report is done. It has three parts: what was sold, what was returned, and what is still open. Two customers asked for a call back; both are in the list. Shall I write to them?"}"#;
/// The largest ordinary shape.
const QUESTION: &str = r#"{"type":"ask_question","questionId":"q-1","title":"Deploy?","question":"Which build?","options":["1.4.2","1.4.3",{"label":"none","selectedLabel":"nothing","value":"none"}]}"#;

struct Everything;

impl Permissions for Everything {
    fn may_send(&self, _: &ChannelType, _: &PlatformId) -> bool {
        true
    }
    fn may_message(&self, _: &AgentGroupId) -> bool {
        true
    }
    fn agent_exists(&self, _: &AgentGroupId) -> bool {
        true
    }
}

fn row() -> OutboundRow {
    OutboundRow {
        id: MessageId::new("msg-1776350220-x8k2").expect("an id"),
        seq: 1,
        in_reply_to: None,
        deliver_after: None,
        kind: Arc::from("chat"),
        channel_type: Some("slack".to_owned()),
        platform_id: Some("slack:C0TEAM".to_owned()),
        thread_id: Some("171.2".to_owned()),
        content: Ok(Arc::from(TEXT)),
    }
}

fn messages(c: &mut Criterion) {
    c.bench_function("content of a text", |b| b.iter(|| Content::parse(black_box(TEXT))));
    c.bench_function("content of a question", |b| b.iter(|| Content::parse(black_box(QUESTION))));
    let row = row();
    c.bench_function("route of a text", |b| b.iter(|| route::route(black_box(&row), &Everything)));
}

fn times(c: &mut Criterion) {
    for (form, text) in [
        ("SQLite", "2026-04-16 14:37:00"),
        ("ISO", "2026-04-16T14:37:00.123Z"),
        ("offset", "2026-04-16T16:37:00+02:00"),
    ] {
        c.bench_function(&format!("time, {form}"), |b| b.iter(|| Timestamp::parse(black_box(text))));
    }
    let berlin = jiff::tz::TimeZone::get("Europe/Berlin").expect("a zone");
    let now = Timestamp::parse("2026-04-16 14:37:00").expect("a time");
    for expression in ["*/5 * * * *", "30 7 * * 1-5", "0 9 L * *"] {
        let recurrence = Recurrence::parse(expression).expect("an expression");
        c.bench_function(&format!("next run of {expression}"), |b| {
            b.iter(|| recurrence.next_after(black_box(now), &berlin))
        });
    }
}

fn choices(c: &mut Criterion) {
    let schedules = RetrySchedules::default();
    let now = Timestamp::from_ms(1_776_350_220_000);
    let error = SendError::Transient { retry_after: None, reason: "503".to_owned() };
    c.bench_function("decision after a failure", |b| {
        b.iter(|| retry::decide(black_box(&error), &schedules, 3, now, now, true, |bound| bound / 2))
    });
    c.bench_function("1,000 lanes of 100 tenants in turn", |b| {
        b.iter_batched(ready_lanes, drain, BatchSize::SmallInput)
    });
}

fn ready_lanes() -> (ReadyLanes, Vec<Arc<Tenant>>) {
    let mut ready = ReadyLanes::default();
    let tenants: Vec<_> = (0..100)
        .map(|number| {
            let name = TenantName::new(&format!("tenant-{number}")).expect("a name");
            Arc::new(Tenant {
                name,
                weight: 1 + number % 3,
                in_flight_max: usize::MAX,
                wake_on_failure: None,
                timezone: None,
            })
        })
        .collect();
    for number in 0..1000 {
        let session_id = SessionId::new(&format!("sess-{}", number / 2)).expect("an id");
        let lane_key = Arc::from(format!("channel/slack/slack:C{number}"));
        ready.push(&tenants[number % 100], LaneId { session_id, lane_key });
    }
    (ready, tenants)
}

fn drain((mut ready, tenants): (ReadyLanes, Vec<Arc<Tenant>>)) -> usize {
    let mut popped = 0;
    while ready.pop().is_some() {
        popped += 1;
    }
    for tenant in &tenants {
        ready.finished(&tenant.name);
    }
    popped
}

criterion_group!(hot_functions, messages, times, choices);
criterion_main!(hot_functions);
