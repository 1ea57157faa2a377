//! What a lane does while its first message fails, and what an operator can do about it.

use crate::support::host::TestHost;
use crate::support::program::nanorelay;
use crate::support::wait::{record, settled, shown};
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::model::ids::{MessageId, SessionId};
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{DeliveryState, LaneFilter, LaneRecord};
use nanorelay_actors::settings::OnBlock;
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(600);

fn world() -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", "slack:C1"));
    (data, agent)
}

fn host(data: &DataDir, on_block: OnBlock) -> (TestHost, Arc<MockChannel>) {
    let mut host = TestHost::new(data.path());
    host.channel_settings.on_block = on_block;
    let slack = host.channel("slack");
    (host, slack)
}

/// A failure after which the platform asks to wait.
fn transient_for(wait: Duration) -> Answer {
    Answer::Fail(SendError::Transient { retry_after: Some(wait), reason: "bad gateway".to_owned() })
}

fn session() -> SessionId {
    SessionId::new("sess-1").unwrap()
}

async fn replay(relay: &Relay, message: &str) {
    let key = DeliveryKey { session_id: session(), message_id: MessageId::new(message).unwrap() };
    assert_eq!(relay.replay(vec![key]).await.unwrap(), 1);
}

async fn blocked(relay: &Relay) -> Vec<LaneRecord> {
    relay.lanes(LaneFilter { blocked: true, session_id: None }).await.unwrap()
}

fn shown_ids(channel: &MockChannel) -> Vec<String> {
    channel.shown().iter().map(|call| call.message_id.to_string()).collect()
}

#[actix_rt::test]
async fn a_message_is_parked_after_so_many_attempts_and_the_lane_goes_on() {
    let (data, agent) = world();
    let (host, slack) = host(&data, OnBlock::ParkAfter(2));
    let (poison, next) = (agent.text("poison"), agent.text("next"));
    slack.on_message(&poison, [Answer::transient("bad gateway"), Answer::transient("bad gateway")]);
    let relay = host.start().await;
    shown(&slack, 1).await;
    let parked = record(&relay, &poison, |record| record.state == DeliveryState::Held).await;
    assert_eq!((parked.attempts, parked.error_class.as_deref()), (2, Some("transient")));
    assert_eq!(parked.error.as_deref(), Some("parked after 2 attempts: bad gateway"));
    settled(&relay).await;
    assert_eq!(shown_ids(&slack), std::slice::from_ref(&next));
    let notices = agent.messages_in().into_iter().filter(|row| row.content.contains("delivery_held"));
    assert_eq!(notices.count(), 1, "the agent is told");
    assert!(agent.delivered().iter().all(|row| row.message_out_id != poison), "it has not failed for good");
    replay(&relay, &poison).await;
    shown(&slack, 2).await;
    slack.assert_exactly_once(&[poison, next]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_limit_of_the_platform_parks_nothing_and_skips_nothing() {
    for on_block in [OnBlock::ParkAfter(1), OnBlock::Skip] {
        let (data, agent) = world();
        let (host, slack) = host(&data, on_block);
        let ids = [agent.text("first"), agent.text("second")];
        slack.on_message(&ids[0], [Answer::rate_limited(Some(Duration::from_millis(20)))]);
        let relay = host.start().await;
        shown(&slack, 2).await;
        assert_eq!(shown_ids(&slack), ids, "in order with {on_block:?}");
        relay.shutdown(DEADLINE).await;
    }
}

#[actix_rt::test]
async fn a_skipped_message_is_tried_again_at_its_time_and_not_before() {
    let (data, agent) = world();
    let (host, slack) = host(&data, OnBlock::Skip);
    let (slow, next) = (agent.text("slow"), agent.text("next"));
    slack.on_message(&slow, [transient_for(Duration::from_millis(300))]);
    let relay = host.start().await;
    shown(&slack, 2).await;
    assert_eq!(shown_ids(&slack), [next.clone(), slow.clone()]);
    let calls = slack.calls();
    let tries: Vec<_> = calls.iter().filter(|call| call.message_id.as_str() == slow).collect();
    let answered_at = tries[0].answered_at.expect("answered");
    assert!(tries[1].started_at.since(answered_at) >= Duration::from_millis(300));
    slack.assert_exactly_once(&[slow, next]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_skipped_message_holds_up_nobody_after_a_restart_either() {
    let (data, agent) = world();
    let (host, slack) = host(&data, OnBlock::Skip);
    let slow = agent.text("slow");
    slack.on_message(&slow, [transient_for(LONG)]);
    let relay = host.start().await;
    record(&relay, &slow, |record| record.state == DeliveryState::Retrying).await;
    settled(&relay).await;
    relay.shutdown(DEADLINE).await;
    drop(relay);
    let next = agent.text("next");
    let relay = host.start().await;
    shown(&slack, 1).await;
    settled(&relay).await;
    assert_eq!(shown_ids(&slack), [next]);
    assert!(blocked(&relay).await.is_empty(), "its lane goes on");
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn an_operator_sees_what_holds_up_a_lane_and_lets_it_go_on() {
    let (data, agent) = world();
    let (host, slack) = host(&data, OnBlock::Wait);
    let ids: Vec<String> = (0..3).map(|number| agent.text(&format!("text {number}"))).collect();
    slack.on_message(&ids[0], [transient_for(LONG)]);
    let relay = host.start().await;
    record(&relay, &ids[0], |record| record.state == DeliveryState::Retrying).await;
    settled(&relay).await;
    let lanes = blocked(&relay).await;
    assert_eq!(lanes.len(), 1);
    let lane = &lanes[0];
    assert_eq!((lane.lane.as_str(), &lane.head_message_id), ("channel/slack/slack:C1", &ids[0]));
    assert_eq!((lane.waiting_behind, lane.attempts), (2, 1));
    assert_eq!(lane.error.as_deref(), Some("bad gateway"));
    assert!(!relay.unblock_lane(session(), "channel/slack/slack:C9").await.unwrap());
    assert!(relay.unblock_lane(session(), "no lane").await.is_err());
    assert!(relay.unblock_lane(session(), &lane.lane).await.unwrap());
    shown(&slack, 2).await;
    settled(&relay).await;
    assert_eq!(shown_ids(&slack), ids[1..]);
    record(&relay, &ids[0], |record| record.state == DeliveryState::Held).await;
    assert!(blocked(&relay).await.is_empty());
    assert!(!relay.unblock_lane(session(), &lane.lane).await.unwrap(), "nothing holds it up now");
    replay(&relay, &ids[0]).await;
    shown(&slack, 3).await;
    slack.assert_exactly_once(&ids);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn other_lanes_keep_their_times_when_one_is_unblocked() {
    let (data, agent) = world();
    let other = data.session(SessionSpec::new("ag-main").id("sess-2").chat("slack", "slack:C2"));
    let (host, slack) = host(&data, OnBlock::Wait);
    let (head, waits) = (agent.text("head"), other.text("waits"));
    for id in [&head, &waits] {
        slack.on_message(id, [transient_for(LONG)]);
    }
    let relay = host.start().await;
    for id in [&head, &waits] {
        record(&relay, id, |record| record.state == DeliveryState::Retrying).await;
    }
    settled(&relay).await;
    assert!(relay.unblock_lane(session(), "channel/slack/slack:C1").await.unwrap());
    settled(&relay).await;
    assert_eq!(slack.calls().len(), 2, "nobody is tried before the time");
    record(&relay, &waits, |record| record.state == DeliveryState::Retrying).await;
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn lanes_of_a_stopped_host_are_listed_and_unblocked_by_the_program() {
    let (data, agent) = world();
    let (host, slack) = host(&data, OnBlock::Wait);
    let ids = [agent.text("first"), agent.text("second")];
    slack.on_message(&ids[0], [transient_for(LONG)]);
    let relay = host.start().await;
    record(&relay, &ids[0], |record| record.state == DeliveryState::Retrying).await;
    settled(&relay).await;
    relay.shutdown(DEADLINE).await;
    drop(relay);
    let run = |command: &[&str]| nanorelay(command).data(data.path()).run();
    let listed = run(&["lanes", "list", "--blocked", "--json"]).expect_code(0).json();
    assert_eq!(
        (&listed[0]["lane"], &listed[0]["waiting_behind"]),
        (&json!("channel/slack/slack:C1"), &json!(1))
    );
    let unblocked = run(&["lanes", "unblock", "sess-1", "channel/slack/slack:C1", "--json"]).expect_code(0);
    assert_eq!(unblocked.stdout, "{\"unblocked\":true}\n");
    run(&["lanes", "unblock", "sess-1", "channel/slack/slack:C1"]).expect_code(3);
    run(&["lanes", "unblock", "sess-1", "nonsense"]).expect_code(1);
    host.drain().await;
    assert_eq!(shown_ids(&slack), ids[1..]);
}
