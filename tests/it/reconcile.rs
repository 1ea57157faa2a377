//! A platform that can be asked whether it has a message.

use crate::support::host::TestHost;
use crate::support::wait::{record, settled, shown};
use nanorelay_actors::channel::adapter::Idempotency;
use nanorelay_actors::clock::SystemClock;
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::relay::StartError;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::settings::OnAmbiguous;
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent};
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

fn world(on_ambiguous: OnAmbiguous) -> (DataDir, TestAgent, TestHost, Arc<MockChannel>) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-1").chat("slack", "slack:C1"));
    let mut host = TestHost::new(data.path());
    host.channel_settings.on_ambiguous = on_ambiguous;
    let slack = MockChannel::with(Idempotency::Reconcile, Arc::new(SystemClock));
    host.add_channel("slack", &slack);
    (data, agent, host, slack)
}

#[actix_rt::test]
async fn a_message_that_has_arrived_is_found_and_not_sent_again() {
    for policy in [OnAmbiguous::Auto, OnAmbiguous::Reconcile] {
        let (_data, agent, host, slack) = world(policy);
        let id = agent.text("hello");
        slack.on_message(&id, [Answer::accept_then_drop()]);
        let relay = host.start().await;
        let delivered = record(&relay, &id, |record| record.state == DeliveryState::Delivered).await;
        assert_eq!(delivered.platform_message_id.as_deref(), Some("plat-1"));
        settled(&relay).await;
        assert_eq!((slack.calls().len(), slack.asked_for()), (1, vec![id.clone()]));
        relay.shutdown(DEADLINE).await;
    }
}

#[actix_rt::test]
async fn a_message_that_has_not_arrived_is_sent_and_one_of_which_nothing_is_unknown_is_not_asked_for() {
    let (_data, agent, host, slack) = world(OnAmbiguous::Reconcile);
    let (lost, refused) = (agent.text("lost"), agent.text("refused at first"));
    slack.on_message(&lost, [Answer::ambiguous()]);
    slack.on_message(&refused, [Answer::transient("502")]);
    let relay = host.start().await;
    shown(&slack, 2).await;
    settled(&relay).await;
    slack.assert_exactly_once(&[&lost, &refused]);
    assert_eq!(slack.asked_for(), [lost]);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_is_not_sent_while_the_platform_cannot_say_whether_it_has_it() {
    let (_data, agent, host, slack) = world(OnAmbiguous::Reconcile);
    let id = agent.text("hello");
    slack.on_message(&id, [Answer::accept_then_drop()]);
    let busy = SendError::Transient { retry_after: None, reason: "the search is down".to_owned() };
    slack.next_finds_fail([busy]);
    let relay = host.start().await;
    record(&relay, &id, |record| record.state == DeliveryState::Delivered).await;
    settled(&relay).await;
    assert_eq!((slack.calls().len(), slack.asked_for().len()), (1, 2));
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_whose_fate_cannot_be_found_out_is_ambiguous_and_never_dead() {
    let (_data, agent, host, slack) = world(OnAmbiguous::Reconcile);
    let (forbidden, down) = (agent.text("forbidden"), agent.text("down"));
    for id in [&forbidden, &down] {
        slack.on_message(id, [Answer::accept_then_drop()]);
    }
    let transient = || SendError::Transient { retry_after: None, reason: "the search is down".to_owned() };
    slack.next_finds_fail([SendError::Permanent { reason: "no such call".to_owned() }]);
    slack.next_finds_fail([transient(), transient(), transient()]);
    let relay = host.start().await;
    for id in [&forbidden, &down] {
        record(&relay, id, |record| record.state == DeliveryState::Ambiguous).await;
    }
    settled(&relay).await;
    assert_eq!(slack.calls().len(), 2, "neither was sent again");
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_channel_that_cannot_be_asked_is_refused_at_the_start() {
    let (_data, _agent, mut host, _) = world(OnAmbiguous::Reconcile);
    host.add_channel("slack", &MockChannel::new());
    let Err(StartError::Setting(reason)) = host.builder().start().await else { panic!("it is refused") };
    assert!(reason.contains("slack") && reason.contains("reconcile"), "{reason}");
}
