//! What an operator does to messages that have not arrived: cancel and snooze.

use crate::support::host::TestHost;
use crate::support::wait::{called, record, settled, shown, until, within};
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::model::hold::HoldScope;
use nanorelay_actors::model::ids::{MessageId, SessionId, TenantName};
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::model::tenant::TenantSet;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{Relay, Resume, StoppedHost};
use nanorelay_actors::report::{DeliveryFilter, DeliveryState, Intervention};
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent, VirtualClock};
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

fn key(message: &str) -> DeliveryKey {
    DeliveryKey { session_id: session(), message_id: MessageId::new(message).unwrap() }
}

fn session() -> SessionId {
    SessionId::new("sess-1").unwrap()
}

fn transient_for_an_hour() -> Answer {
    Answer::Fail(SendError::Transient {
        retry_after: Some(Duration::from_secs(3600)),
        reason: "bad gateway".to_owned(),
    })
}

fn notices(agent: &TestAgent) -> usize {
    agent.messages_in().iter().filter(|row| row.content.contains("delivery_failed")).count()
}

async fn cancel(relay: &Relay, message: &str) -> Intervention {
    relay.cancel(key(message), "a typo").await.unwrap()
}

#[actix_rt::test]
async fn a_lane_goes_on_when_the_message_that_it_waits_for_is_cancelled() {
    let (_data, agent, host, slack) = world();
    let (first, second) = (agent.text("first"), agent.text("second"));
    slack.on_message(&first, [transient_for_an_hour()]);
    let relay = host.start().await;
    record(&relay, &first, |record| record.state == DeliveryState::Retrying).await;
    assert_eq!(cancel(&relay, &first).await, Intervention::Done);
    shown(&slack, 1).await;
    settled(&relay).await;
    slack.assert_exactly_once(std::slice::from_ref(&second));
    let dead = record(&relay, &first, |record| record.state == DeliveryState::Dead).await;
    assert_eq!(dead.error_class.as_deref(), Some("cancelled"));
    until("the agent is told", || notices(&agent) == 1).await;
    assert_eq!(cancel(&relay, &first).await, Intervention::Unsuitable(DeliveryState::Dead));
    assert_eq!(cancel(&relay, &second).await, Intervention::Unsuitable(DeliveryState::Delivered));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_behind_others_and_one_in_a_paused_lane_are_cancelled_and_never_sent() {
    let (_data, agent, host, slack) = world();
    let relay = host.start().await;
    let scope = HoldScope::Session(session());
    relay.pause(scope.clone(), None, "").await.unwrap();
    let ids: Vec<String> = (0..3).map(|number| agent.text(&format!("text {number}"))).collect();
    record(&relay, &ids[2], |record| record.state == DeliveryState::Queued).await;
    assert_eq!(cancel(&relay, &ids[1]).await, Intervention::Done);
    relay.resume(scope, Resume::Pause).await.unwrap();
    shown(&slack, 2).await;
    settled(&relay).await;
    slack.assert_exactly_once(&[ids[0].clone(), ids[2].clone()]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn what_is_on_its_way_is_not_cancelled() {
    let (_data, agent, host, slack) = world();
    let sending = agent.text("on its way");
    slack.on_message(&sending, [Answer::gate()]);
    let relay = host.start().await;
    called(&slack, 1).await;
    assert_eq!(cancel(&relay, &sending).await, Intervention::InFlight);
    slack.open_gate();
    record(&relay, &sending, |record| record.state == DeliveryState::Delivered).await;
    assert_eq!(notices(&agent), 0);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_to_an_agent_that_waits_is_cancelled_and_its_lane_goes_on() {
    let (data, agent, host, _slack) = world();
    data.allow_agent("ag-main", "ag-other");
    let other = data.session(SessionSpec::new("ag-other").id("sess-2"));
    let folder = other.folder().to_owned();
    let aside = folder.with_extension("aside");
    std::fs::rename(&folder, &aside).unwrap();
    let (first, second) = (agent.to_agent("ag-other", "first"), agent.to_agent("ag-other", "second"));
    let relay = host.start().await;
    record(&relay, &first, |record| record.state == DeliveryState::Retrying).await;
    // It is tried again and again, and left alone while it is.
    let cancelled = async {
        loop {
            match cancel(&relay, &first).await {
                Intervention::InFlight => tokio::task::yield_now().await,
                other => break other,
            }
        }
    };
    assert_eq!(within("it is between two tries", cancelled).await, Intervention::Done);
    std::fs::rename(&aside, &folder).unwrap();
    relay.release(SessionId::new("sess-2").unwrap()).await.unwrap();
    record(&relay, &second, |record| record.state == DeliveryState::Delivered).await;
    let texts: Vec<String> = other.messages_in().into_iter().map(|row| row.content).collect();
    assert!(texts.iter().all(|text| !text.contains("first")), "{texts:?}");
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn all_that_match_are_cancelled_of_ones_own_tenants_only() {
    let (data, agent, host, slack) = world();
    let other = data.session(SessionSpec::new("ag-other").id("sess-2").chat("slack", "slack:C2"));
    slack.script(|_| transient_for_an_hour());
    let ids = [agent.text("one"), agent.text("two"), other.text("three")];
    let relay = host.start().await;
    for id in [&ids[0], &ids[2]] {
        record(&relay, id, |record| record.state == DeliveryState::Retrying).await;
    }
    let own = || TenantSet::Only([TenantName::new("ag-main").unwrap()].into());
    let filter = DeliveryFilter { channel_type: Some("slack".to_owned()), ..DeliveryFilter::default() };
    let listed = relay.cancellable(filter.clone(), own()).await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(relay.cancel_all(filter.clone(), own(), "cleaning up").await.unwrap(), 2);
    assert_eq!(relay.cancel_all(filter.clone(), own(), "cleaning up").await.unwrap(), 0);
    assert_eq!(relay.cancellable(filter, TenantSet::All).await.unwrap().len(), 1);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_snoozed_message_leaves_its_lane_and_comes_at_its_time_also_after_a_restart() {
    let (_data, agent, mut host, slack) = world();
    let clock = VirtualClock::starting_at_text("2027-01-01T00:00:00Z");
    host.clock = clock.clone();
    let (first, second) = (agent.text("first"), agent.text("second"));
    slack.on_message(&first, [transient_for_an_hour()]);
    let relay = host.start().await;
    record(&relay, &first, |record| record.state == DeliveryState::Retrying).await;
    let past = Timestamp::parse("2026-12-31T00:00:00Z").unwrap();
    assert!(relay.snooze(key(&first), past).await.is_err());
    let time = Timestamp::parse("2027-01-02T00:00:00Z").unwrap();
    assert_eq!(relay.snooze(key(&first), time).await.unwrap(), Intervention::Done);
    shown(&slack, 1).await;
    slack.assert_delivered(&second);
    let waits = record(&relay, &first, |record| record.state == DeliveryState::Queued).await;
    assert_eq!(waits.next_attempt_at.as_deref(), Some("2027-01-02T00:00:00.000Z"));
    relay.shutdown(DEADLINE).await;
    clock.step_ms(25 * 3_600_000);
    let relay = host.start().await;
    shown(&slack, 2).await;
    slack.assert_delivered(&first);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_stopped_host_cancels_and_snoozes_too() {
    let (data, agent, host, slack) = world();
    slack.script(|_| transient_for_an_hour());
    let (first, second) = (agent.text("first"), agent.text("second"));
    let relay = host.start().await;
    record(&relay, &first, |record| record.state == DeliveryState::Retrying).await;
    relay.shutdown(DEADLINE).await;
    let stopped = StoppedHost::open(data.path()).unwrap();
    assert_eq!(stopped.cancel(&key(&first), "").unwrap(), Intervention::Done);
    assert_eq!(stopped.cancel(&key("nobody"), "").unwrap(), Intervention::Unknown);
    let later = Timestamp::from_ms(i64::MAX / 2);
    assert_eq!(stopped.snooze(&key(&second), later).unwrap(), Intervention::Done);
    assert_eq!(stopped.cancel_all(&DeliveryFilter::default(), "").unwrap(), 1);
    drop(stopped);
    let relay = host.start().await;
    until("the agent is told of both", || notices(&agent) == 2).await;
    relay.shutdown(DEADLINE).await;
}
