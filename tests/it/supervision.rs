//! Actors die, one or several, in every moment: the others go on, the dead come back, nothing is lost or repeated.

use crate::support::host::TestHost;
use crate::support::wait::{called, restarted, settled, shown, until, within};
use nanorelay_actors::model::ids::{ChannelType, SessionId};
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{DeliveryFilter, DeliveryRecord, DeliveryState};
use nanorelay_actors::supervise::exit_guard::ActorName;
use nanorelay_actors::testing::{Answer, DataDir, SessionSpec, TestAgent};
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn sessions(data: &DataDir, count: usize) -> Vec<TestAgent> {
    let session = |number| {
        let id = format!("sess-{number:03}");
        data.session(SessionSpec::new("ag-main").id(&id).chat("slack", "slack:C1").thread(&id))
    };
    (0..count).map(session).collect()
}

fn channel_actor() -> ActorName {
    ActorName::Channel(ChannelType::new("slack").unwrap())
}

fn session_actor(agent: &TestAgent) -> ActorName {
    ActorName::Session(SessionId::new(agent.session_id()).unwrap())
}

/// One more message of each agent.
fn all_write(agents: &[TestAgent], text: &str) -> Vec<String> {
    agents.iter().map(|agent| agent.text(text)).collect()
}

async fn records(relay: &Relay) -> Vec<DeliveryRecord> {
    relay.deliveries(DeliveryFilter::default()).await.expect("the ledger can be read")
}

/// Nothing is left to do, and every message is recorded as delivered, at the first try.
async fn assert_all_delivered_at_once(relay: &Relay, count: usize) {
    settled(relay).await;
    let records = records(relay).await;
    assert_eq!(records.len(), count);
    for record in records {
        assert_eq!((record.state, record.attempts), (DeliveryState::Delivered, 1), "{record:?}");
    }
}

async fn an_actor_dies_while_messages_flow(name: impl Fn(&[TestAgent]) -> ActorName) {
    let data = DataDir::new();
    let agents = sessions(&data, 12);
    let name = name(&agents);
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.script(|_| Answer::slow(Duration::from_millis(3)));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.extend(all_write(&agents, "before"));
    }
    let relay = host.start().await;
    called(&slack, 6).await;
    assert!(relay.inject_panic(&name), "{name} lives");
    ids.extend(all_write(&agents, "while it is down"));
    restarted(&relay, 1).await;
    shown(&slack, ids.len()).await;
    settled(&relay).await;
    ids.extend(all_write(&agents, "after"));
    shown(&slack, ids.len()).await;
    assert_all_delivered_at_once(&relay, ids.len()).await;
    assert!(relay.inject_panic(&name), "{name} is back");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    for agent in &agents {
        assert_eq!(agent.delivered().len(), 6, "{}", agent.session_id());
    }
}

#[actix_rt::test]
async fn the_registry_may_die_while_messages_flow() {
    an_actor_dies_while_messages_flow(|_| ActorName::Registry).await;
}

#[actix_rt::test]
async fn a_sessions_actor_may_die_while_messages_flow() {
    an_actor_dies_while_messages_flow(|agents| session_actor(&agents[3])).await;
}

#[actix_rt::test]
async fn a_channels_actor_may_die_while_messages_flow() {
    an_actor_dies_while_messages_flow(|_| channel_actor()).await;
}

#[actix_rt::test]
async fn the_task_scheduler_may_die_while_messages_flow() {
    an_actor_dies_while_messages_flow(|_| ActorName::TaskScheduler).await;
}

#[actix_rt::test]
async fn the_supervisor_may_die_while_messages_flow() {
    an_actor_dies_while_messages_flow(|_| ActorName::Sweep).await;
}

#[actix_rt::test]
async fn a_sessions_actor_that_dies_again_and_again_loses_nothing() {
    let data = DataDir::new();
    let agents = sessions(&data, 2);
    let row = |agent: &TestAgent| agent.text_row("hello");
    let mut ids = agents[0].rows((0..200).map(|_| row(&agents[0])).collect());
    ids.extend(agents[1].rows((0..200).map(|_| row(&agents[1])).collect()));
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    for death in 1..=8 {
        called(&slack, 40 * death).await;
        relay.inject_panic(&session_actor(&agents[0]));
    }
    shown(&slack, ids.len()).await;
    assert_all_delivered_at_once(&relay, ids.len()).await;
    assert!(relay.statistics().restarts > 0);
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_channels_actor_that_dies_again_and_again_keeps_the_order_of_every_lane() {
    let data = DataDir::new();
    let agents = sessions(&data, 10);
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let mut fails = 0_u32;
    // Every seventh try fails at first: retries are on their way when the actor dies.
    slack.script(move |_| {
        fails += 1;
        if fails.is_multiple_of(7) { Answer::transient("bad gateway") } else { Answer::slow(Duration::from_millis(1)) }
    });
    host.settings.retry.transient.attempts_max = None;
    let relay = host.start().await;
    let mut ids = Vec::new();
    for death in 0..8 {
        for _ in 0..4 {
            ids.extend(all_write(&agents, "hello"));
        }
        called(&slack, ids.len() * 3 / 4).await;
        relay.inject_panic(&channel_actor());
        restarted(&relay, death + 1).await;
    }
    shown(&slack, ids.len()).await;
    settled(&relay).await;
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_send_on_its_way_outlives_its_channels_actor() {
    let data = DataDir::new();
    let agents = sessions(&data, 1);
    let ids = [agents[0].text("one"), agents[0].text("two"), agents[0].text("three")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.on_message(&ids[0], [Answer::gate()]);
    let relay = host.start().await;
    called(&slack, 1).await;
    relay.inject_panic(&channel_actor());
    restarted(&relay, 1).await;
    slack.open_gate();
    shown(&slack, 3).await;
    assert_all_delivered_at_once(&relay, 3).await;
    assert_eq!(slack.calls().len(), 3, "no second send");
    slack.assert_lane_order();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(agents[0].delivered().len(), 3);
}

#[actix_rt::test]
async fn a_retry_that_outlives_its_channels_actor_is_not_overtaken() {
    let data = DataDir::new();
    let agents = sessions(&data, 2);
    let mut ids = vec![agents[0].text("one"), agents[0].text("two")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let pause = Duration::from_millis(300);
    slack.on_message(&ids[0], [Answer::Gate(Box::new(Answer::rate_limited(Some(pause))))]);
    let relay = host.start().await;
    called(&slack, 1).await;
    relay.inject_panic(&channel_actor());
    restarted(&relay, 1).await;
    ids.push(agents[1].text("through the new actor"));
    shown(&slack, 1).await;
    // By now it has the first message from the ledger too, and waits for the send that is on its way.
    slack.open_gate();
    shown(&slack, 3).await;
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    slack.assert_never_early();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn the_registry_may_die_with_two_hundred_sessions_alive() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..200)
        .map(|number| {
            let id = format!("sess-{number:03}");
            let spec = SessionSpec::new("ag-main").id(&id).chat("slack", "slack:C1").thread(&id);
            data.session(spec.stopped())
        })
        .collect();
    let ids = all_write(&agents, "hello");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.script(|_| Answer::gate());
    let relay = host.start().await;
    called(&slack, 200).await;
    relay.inject_panic(&ActorName::Registry);
    restarted(&relay, 1).await;
    slack.open_gate();
    shown(&slack, 200).await;
    assert_all_delivered_at_once(&relay, 200).await;
    slack.assert_exactly_once(&ids);
    let gone = async {
        while relay.registry_snapshot().await.is_none_or(|registry| registry.living > 0) {
            tokio::task::yield_now().await;
        }
    };
    within("sessions that have nothing to do have no actor any more", gone).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn an_actor_comes_back_though_its_supervisor_dies_before_it_could_see_to_it() {
    for name in [channel_actor(), ActorName::Registry, ActorName::TaskScheduler] {
        let data = DataDir::new();
        let agents = sessions(&data, 2);
        let mut host = TestHost::new(data.path());
        let slack = host.channel("slack");
        let relay = host.start().await;
        settled(&relay).await;
        relay.inject_panic(&name);
        // The restart is planned, and now forgotten.
        restarted(&relay, 1).await;
        relay.inject_panic(&ActorName::Sweep);
        restarted(&relay, 2).await;
        until("it is back", || relay.inject_panic(&name)).await;
        let mut ids = all_write(&agents, "hello");
        // Both ends are in the queue at once, the supervisor's behind the other.
        relay.inject_panic(&name);
        relay.inject_panic(&ActorName::Sweep);
        shown(&slack, ids.len()).await;
        ids.extend(all_write(&agents, "after"));
        shown(&slack, ids.len()).await;
        settled(&relay).await;
        slack.assert_exactly_once(&ids);
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
}
