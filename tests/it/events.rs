//! What a relay tells while it happens, and what it remembers of the last hours.

use crate::support::host::TestHost;
use crate::support::wait::shown;
use nanorelay_actors::model::error::ErrorClass;
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::{ChannelType, SessionId, TenantName};
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::relay::{EventStream, Resume};
use nanorelay_actors::report::{EventFilter, EventId, EventKind, RelayEvent};
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent};
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

fn world() -> (DataDir, TestAgent, TestHost, Arc<MockChannel>) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", "slack:C1"));
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    (data, agent, host, slack)
}

async fn next(events: &mut EventStream) -> RelayEvent {
    tokio::time::timeout(DEADLINE, events.next()).await.expect("an event in time").expect("the relay runs")
}

fn only(kinds: &[EventKind]) -> EventFilter {
    EventFilter { kinds: kinds.to_vec(), ..EventFilter::default() }
}

#[actix_rt::test]
async fn a_listener_hears_what_becomes_of_a_message_in_order() {
    let (_data, agent, host, slack) = world();
    let relay = host.start().await;
    let mut events = relay.events(only(&[EventKind::Retrying, EventKind::Delivered, EventKind::Dead]));
    let good = agent.text("hello");
    let bad = agent.text_row("refused").id("bad");
    slack.on_message(&good, [Answer::transient("bad gateway")]);
    slack.on_message("bad", [Answer::permanent("no such chat")]);
    agent.row(bad);
    let told = [next(&mut events).await, next(&mut events).await, next(&mut events).await];
    assert_eq!(
        told.each_ref().map(|event| event.kind),
        [EventKind::Retrying, EventKind::Delivered, EventKind::Dead]
    );
    assert_eq!(told[0].message_id.as_deref(), Some(good.as_str()));
    assert_eq!(told[0].error_class.as_deref(), Some(ErrorClass::Transient.as_str()));
    assert!(told[0].until.is_some(), "when it is tried again");
    assert_eq!((told[1].channel.as_deref(), told[1].tenant.as_deref()), (Some("slack"), Some("ag-main")));
    assert!(told[1].lag_ms.is_some());
    assert_eq!((told[2].session_id.as_deref(), told[2].message_id.as_deref()), (Some("sess-1"), Some("bad")));
    relay.shutdown(DEADLINE).await;
    while events.next().await.is_some() {}
}

#[actix_rt::test]
async fn a_listener_goes_on_after_the_last_event_it_heard_and_hears_when_that_is_not_known() {
    let (_data, agent, host, slack) = world();
    let relay = host.start().await;
    let mut events = relay.events(only(&[EventKind::Delivered]));
    for text in ["one", "two", "three"] {
        agent.text(text);
    }
    shown(&slack, 3).await;
    let first: EventId = next(&mut events).await.id.parse().expect("a place");
    let mut again = relay.events_after(first, only(&[EventKind::Delivered]));
    let (second, third) = (next(&mut again).await, next(&mut again).await);
    assert_eq!(next(&mut events).await, second, "the same events, whoever listens");
    assert_eq!(next(&mut events).await, third);
    assert_eq!(again.try_next(), None);
    relay.shutdown(DEADLINE).await;
    let relay = host.start().await;
    let mut events = relay.events_after(first, EventFilter::default());
    assert_eq!(next(&mut events).await.kind, EventKind::Reset, "that was another life");
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_listener_hears_of_its_own_tenants_only() {
    let (data, agent, host, _slack) = world();
    let other = data.session(SessionSpec::new("ag-other").id("sess-2").chat("slack", "slack:C2"));
    let relay = host.start().await;
    let tenants = Some(TenantSet::Only([TenantName::new("ag-other").unwrap()].into()));
    let mut events = relay.events(EventFilter { tenants, ..EventFilter::default() });
    let mut all = relay.events(only(&[EventKind::Delivered]));
    agent.text("secret");
    assert_eq!(next(&mut all).await.session_id.as_deref(), Some("sess-1"));
    relay.pause(HoldScope::Channel(ChannelType::new("matrix").unwrap()), None, "").await.unwrap();
    other.text("hello");
    assert_eq!(next(&mut events).await.session_id.as_deref(), Some("sess-2"));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn operators_and_sessions_are_heard_of_too() {
    let (data, _agent, host, _slack) = world();
    let relay = host.start().await;
    relay.settle().await;
    let mut events = relay.events(EventFilter::default());
    let scope = HoldScope::Session(SessionId::new("sess-1").unwrap());
    relay.pause(scope.clone(), None, "moving house").await.unwrap();
    relay.resume(scope, Resume::Pause).await.unwrap();
    let (paused, resumed) = (next(&mut events).await, next(&mut events).await);
    assert_eq!((paused.kind, resumed.kind), (EventKind::Paused, EventKind::Resumed));
    assert_eq!(paused.session_id.as_deref(), Some("sess-1"));
    let broken = data.session(SessionSpec::new("ag-main").id("sess-2").chat("slack", "slack:C1"));
    std::fs::write(broken.folder().join("outbound.db"), b"no database, and long enough to be looked at")
        .unwrap();
    let mut events = relay.events(only(&[EventKind::Quarantined]));
    assert_eq!(next(&mut events).await.session_id.as_deref(), Some("sess-2"));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn the_history_counts_what_came_of_messages_and_how_late_they_were() {
    let (_data, agent, host, slack) = world();
    let relay = host.start().await;
    assert_eq!(relay.lag(Duration::from_secs(300)), None);
    slack.next([Answer::transient("bad gateway")]);
    let (late, _) = (agent.text("late"), agent.text("later"));
    slack.on_message(&late, [Answer::Accept]);
    shown(&slack, 2).await;
    relay.settle().await;
    let history = relay.history(60);
    assert_eq!((history.step_ms, history.points.len()), (10_000, 360));
    let sum = |count: fn(&nanorelay_actors::report::HistoryPoint) -> u64| {
        history.points.iter().map(count).sum::<u64>()
    };
    assert_eq!(sum(|point| point.delivered), 2);
    assert!(relay.lag(Duration::from_secs(300)).is_some());
    relay.shutdown(DEADLINE).await;
}
