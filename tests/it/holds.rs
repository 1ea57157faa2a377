//! What holds sends back: limits of a platform, refused credentials, breakers, pauses, tenants' shares.

use crate::support::host::TestHost;
use crate::support::wait::{called, record, settled, shown, until};
use nanorelay_actors::channel::ChannelSnapshot;
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::breaker::BreakerSettings;
use nanorelay_actors::model::error::{LimitScope, SendError};
use nanorelay_actors::model::hold::{HoldCause, HoldScope, HoldScopeKind};
use nanorelay_actors::model::ids::ChannelType;
use nanorelay_actors::model::tenant::TenantSettings;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{Relay, Resume};
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::supervise::exit_guard::ActorName;
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent, VirtualClock};
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// Two sessions of different groups, each with a chat of its own.
struct World {
    data: DataDir,
    a: TestAgent,
    b: TestAgent,
    host: TestHost,
    slack: Arc<MockChannel>,
}

impl World {
    fn new() -> Self {
        let data = DataDir::new();
        let session = |name: &str| {
            let spec = SessionSpec::new(&format!("ag-{name}")).id(&format!("sess-{name}"));
            data.session(spec.chat("slack", &format!("slack:{name}")))
        };
        let (a, b) = (session("a"), session("b"));
        let mut host = TestHost::new(data.path());
        let slack = host.channel("slack");
        Self { data, a, b, host, slack }
    }

    fn breaker(&mut self, failures: u32, open_min: Duration) {
        self.host.channel_settings.breaker = BreakerSettings { failures, open_min, open_max: HOUR };
    }
}

fn scope(kind: HoldScopeKind, parts: &[&str]) -> HoldScope {
    HoldScope::from_parts(kind, parts).unwrap()
}

fn slack_account() -> HoldScope {
    scope(HoldScopeKind::Channel, &["slack"])
}

async fn snapshot(relay: &Relay) -> ChannelSnapshot {
    let snapshots = relay.channel_snapshots().await;
    snapshots.into_iter().find(|snapshot| snapshot.name == "slack").expect("the channel's actor lives")
}

/// Waits until the channel has these messages in its lanes and does nothing about them.
async fn waiting(relay: &Relay, ids: &[&String]) {
    for id in ids {
        let waits = |state| matches!(state, DeliveryState::Queued | DeliveryState::Retrying);
        record(relay, id, |record| waits(record.state)).await;
    }
    settled(relay).await;
}

fn limited(scope: LimitScope) -> Answer {
    Answer::Fail(SendError::RateLimited { retry_after: Some(HOUR), scope, reason: "slow".to_owned() })
}

#[actix_rt::test]
async fn a_limit_of_an_account_or_a_chat_is_kept_over_a_restart() {
    for (limit, name) in
        [(LimitScope::Account, &["slack"][..]), (LimitScope::Destination, &["slack", "slack:a"])]
    {
        let world = World::new();
        let first = world.a.text("limited");
        world.slack.on_message(&first, [limited(limit)]);
        let relay = world.host.start().await;
        called(&world.slack, 1).await;
        waiting(&relay, &[&first]).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;

        let same_chat = world.data.session(SessionSpec::new("ag-c").id("sess-c").chat("slack", "slack:a"));
        let (same, other) = (same_chat.text("same chat"), world.b.text("other chat"));
        let relay = world.host.start().await;
        let holds = relay.holds();
        assert_eq!(
            (holds[0].name.clone(), holds[0].cause),
            (name.iter().map(|n| (*n).to_owned()).collect(), HoldCause::RateLimit)
        );
        match limit {
            LimitScope::Account => waiting(&relay, &[&first, &same, &other]).await,
            LimitScope::Destination => {
                shown(&world.slack, 1).await;
                waiting(&relay, &[&first, &same]).await;
                world.slack.assert_delivered(&other);
            }
        }
        let expected = if limit == LimitScope::Account { 1 } else { 2 };
        assert_eq!(world.slack.calls().len(), expected, "{limit:?}");

        let scope = HoldScope::from_parts(holds[0].scope, &holds[0].name).unwrap();
        assert_eq!(relay.resume(scope.clone(), Resume::Pause).await, Ok(0), "nobody has paused it");
        assert_eq!(relay.resume(scope, Resume::Everything).await, Ok(1));
        // The message that the platform refused does not wait for its hour either.
        shown(&world.slack, 3).await;
        world.slack.assert_delivered(&same);
        world.slack.assert_delivered(&first);
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
}

#[actix_rt::test]
async fn refused_credentials_stop_an_account_over_a_restart_until_somebody_knows_better() {
    let mut world = World::new();
    world.host.settings.retry.unauthorized.base = HOUR;
    world.host.settings.retry.unauthorized.delay_max = HOUR;
    let first = world.a.text("refused");
    world.slack.on_message(&first, [Answer::Fail(SendError::Unauthorized { reason: "401".to_owned() })]);
    let relay = world.host.start().await;
    called(&world.slack, 1).await;
    waiting(&relay, &[&first]).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;

    let second = world.b.text("another session");
    let relay = world.host.start().await;
    waiting(&relay, &[&second]).await;
    assert_eq!(world.slack.calls().len(), 1);
    assert_eq!(relay.holds()[0].cause, HoldCause::Unauthorized);
    assert!(snapshot(&relay).await.blocked_by.is_some());
    assert_eq!(relay.resume(slack_account(), Resume::Everything).await, Ok(1));
    shown(&world.slack, 2).await;
    world.slack.assert_exactly_once(&[first, second]);
    assert!(relay.holds().is_empty());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_suspended_account_asks_once_and_goes_on_when_it_is_welcome_again() {
    let world = World::new();
    let refused = || Answer::Fail(SendError::Unauthorized { reason: "401".to_owned() });
    world.slack.next([refused(), refused()]);
    let ids = [world.a.text("one"), world.b.text("two")];
    let relay = world.host.start().await;
    shown(&world.slack, 2).await;
    world.slack.assert_exactly_once(&ids);
    settled(&relay).await;
    assert!(relay.holds().is_empty(), "nothing is left of it");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn each_scope_can_be_paused_and_resumed_while_others_go_on() {
    for (kind, parts) in [
        (HoldScopeKind::Tenant, &["ag-a"][..]),
        (HoldScopeKind::Destination, &["slack", "slack:a"]),
        (HoldScopeKind::Session, &["sess-a"]),
        (HoldScopeKind::Lane, &["sess-a", "slack", "slack:a"]),
    ] {
        let world = World::new();
        let relay = world.host.start().await;
        relay.pause(scope(kind, parts), None, "repairs").await.unwrap();
        let (paused, free) = (world.a.text("paused"), world.b.text("free"));
        shown(&world.slack, 1).await;
        waiting(&relay, &[&paused]).await;
        world.slack.assert_exactly_once(&[free]);
        assert_eq!(snapshot(&relay).await.lanes_held_back, 1, "{kind}");
        assert_eq!(record(&relay, &paused, |_| true).await.attempts, 0, "a pause spends no attempts");
        assert_eq!(relay.resume(scope(kind, parts), Resume::Pause).await, Ok(1));
        shown(&world.slack, 2).await;
        world.slack.assert_delivered(&paused);
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
}

#[actix_rt::test]
async fn a_paused_channel_finishes_what_is_on_its_way_and_sends_nothing_new_over_restarts() {
    let world = World::new();
    let first = world.a.text("on its way");
    world.slack.on_message(&first, [Answer::gate()]);
    let relay = world.host.start().await;
    called(&world.slack, 1).await;
    relay.pause(slack_account(), None, "").await.unwrap();
    world.slack.open_gate();
    shown(&world.slack, 1).await;
    let second = world.b.text("new");
    waiting(&relay, &[&second]).await;
    assert_eq!(snapshot(&relay).await.blocked_by.as_deref(), Some("channel paused"));
    relay.shutdown(SHUTDOWN_DEADLINE).await;

    let run = world.host.drain().await;
    assert_eq!((run.report.delivered, run.report.retrying), (0, 1), "a drain does not wait for it");
    let stopped = nanorelay_actors::relay::StoppedHost::open(world.data.path()).unwrap();
    assert_eq!(stopped.holds().unwrap()[0].cause, HoldCause::Operator);
    assert_eq!(stopped.resume(&slack_account(), Resume::Pause), Ok(1));
    drop(stopped);
    assert_eq!(world.host.drain().await.report.delivered, 1);
    world.slack.assert_exactly_once(&[first, second]);
}

#[actix_rt::test]
async fn a_pause_ends_by_itself_at_its_time_and_not_before() {
    let world = World::new();
    let end = SystemClock.now().plus(Duration::from_millis(300));
    // On a host that never ran.
    let stopped = nanorelay_actors::relay::StoppedHost::open(world.data.path()).unwrap();
    stopped.pause(scope(HoldScopeKind::Session, &["sess-a"]), Some(end), "").unwrap();
    let past = stopped.pause(slack_account(), Some(SystemClock.now()), "").unwrap_err();
    assert_eq!(past.to_string(), "the end of the pause lies in the past");
    drop(stopped);
    let id = world.a.text("later");
    let relay = world.host.start().await;
    shown(&world.slack, 1).await;
    let calls = world.slack.calls();
    assert_eq!(calls[0].message_id.as_str(), id);
    assert!(calls[0].started_at >= end, "{:?} is before {end:?}", calls[0].started_at);
    assert!(relay.holds().is_empty());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_paused_session_sends_nothing_to_other_agents() {
    let world = World::new();
    world.data.allow_agent("ag-a", "ag-b");
    let relay = world.host.start().await;
    relay.pause(scope(HoldScopeKind::Session, &["sess-a"]), None, "").await.unwrap();
    let id = world.a.to_agent("ag-b", "please");
    waiting(&relay, &[&id]).await;
    assert!(world.b.messages_in().is_empty());
    relay.resume(scope(HoldScopeKind::Session, &["sess-a"]), Resume::Pause).await.unwrap();
    record(&relay, &id, |record| record.state == DeliveryState::Delivered).await;
    assert_eq!(world.b.messages_in().len(), 1);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_chat_that_fails_again_and_again_is_left_alone_and_spends_no_attempts() {
    let mut world = World::new();
    world.breaker(2, HOUR);
    world.host.settings.retry.transient.attempts_max = Some(3);
    let bad = world.a.text("bad");
    world.slack.on_message(&bad, [Answer::transient("502"), Answer::transient("502")]);
    let relay = world.host.start().await;
    called(&world.slack, 2).await;
    until_held_back(&relay).await;
    let good = world.b.text("good");
    shown(&world.slack, 1).await;
    settled(&relay).await;
    assert_eq!(world.slack.calls().len(), 3, "nothing more was tried");
    let waiting = record(&relay, &bad, |record| record.state == DeliveryState::Retrying).await;
    assert_eq!(waiting.attempts, 2);
    assert_eq!(snapshot(&relay).await.blocked_by, None, "one chat is not the channel");
    relay.resume(slack_account(), Resume::Everything).await.unwrap();
    shown(&world.slack, 2).await;
    world.slack.assert_exactly_once(&[good, bad]);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

/// Waits until the channel holds a lane back.
async fn until_held_back(relay: &Relay) {
    let look = async {
        while snapshot(relay).await.lanes_held_back == 0 {
            tokio::task::yield_now().await;
        }
    };
    crate::support::wait::within("a lane is held back", look).await;
}

#[actix_rt::test]
async fn a_channel_in_which_several_chats_fail_is_left_alone_until_a_probe_succeeds() {
    let mut world = World::new();
    world.breaker(4, Duration::from_millis(50));
    world.host.settings.retry.transient.attempts_max = None;
    world.slack.next((0..7).map(|_| Answer::transient("503")));
    let c = world.data.session(SessionSpec::new("ag-c").id("sess-c").chat("slack", "slack:c"));
    let ids = [world.a.text("one"), world.b.text("two"), c.text("three")];
    let relay = world.host.start().await;
    shown(&world.slack, 3).await;
    world.slack.assert_exactly_once(&ids);
    // Four failures open it, then each probe stands alone.
    let calls = world.slack.calls();
    let probes = &calls[5..8];
    assert!(probes.windows(2).all(|pair| pair[0].answered_at <= Some(pair[1].started_at)), "{probes:?}");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_probe_outlives_the_channels_actor() {
    let mut world = World::new();
    world.breaker(1, Duration::from_millis(1));
    let id = world.a.text("probe");
    world.slack.on_message(&id, [Answer::transient("502"), Answer::gate()]);
    let relay = world.host.start().await;
    called(&world.slack, 2).await;
    let restarts = relay.statistics().restarts;
    assert!(relay.inject_panic(&ActorName::Channel(ChannelType::new("slack").unwrap())));
    until("the actor is back", || relay.statistics().restarts > restarts).await;
    let same_chat = world.data.session(SessionSpec::new("ag-c").id("sess-c").chat("slack", "slack:a"));
    let behind = same_chat.text("waits for the probe");
    record(&relay, &behind, |record| record.state == DeliveryState::Queued).await;
    world.slack.open_gate();
    shown(&world.slack, 2).await;
    world.slack.assert_delivered(&behind);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_tenant_at_its_limit_leaves_the_channel_to_others() {
    let mut world = World::new();
    world.host.settings.tenants = vec![TenantSettings {
        timezone: None,
        name: "acme".to_owned(),
        agent_groups: vec!["ag-a*".to_owned()],
        weight: 5,
        in_flight_max: Some(2),
        wake_on_failure: None,
    }];
    world.slack.script(|call| match call.agent_group_id.as_str() {
        "ag-b" => Answer::Accept,
        _ => Answer::gate(),
    });
    let agents: Vec<_> = (0..6)
        .map(|n| {
            world.data.session(
                SessionSpec::new("ag-a2").id(&format!("a2-{n}")).chat("slack", &format!("slack:x{n}")),
            )
        })
        .collect();
    let mut ids: Vec<_> = agents.iter().map(|agent| agent.text("acme")).collect();
    let relay = world.host.start().await;
    called(&world.slack, 2).await;
    ids.push(world.b.text("quiet"));
    shown(&world.slack, 1).await;
    assert_eq!(world.slack.calls().len(), 3);
    world.slack.open_gate();
    shown(&world.slack, 7).await;
    world.slack.assert_exactly_once(&ids);

    relay.pause(scope(HoldScopeKind::Tenant, &["acme"]), None, "").await.unwrap();
    let paused = world.a.text("of the same tenant");
    waiting(&relay, &[&paused]).await;
    assert_eq!(world.slack.calls().len(), 7);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_try_does_not_come_before_its_backoff_is_over() {
    const MINUTE_MS: i64 = 60_000;
    let mut world = World::new();
    let clock = VirtualClock::starting_at_text("2026-11-22T12:00:00Z");
    world.host.clock = clock.clone();
    let schedule = &mut world.host.settings.retry.transient;
    (schedule.base, schedule.delay_max) = (HOUR, HOUR);
    let late = world.a.text("late");
    world.slack.on_message(&late, [Answer::transient("502")]);
    let relay = world.host.start().await;
    let failed = record(&relay, &late, |record| record.state == DeliveryState::Retrying).await;
    let due = Timestamp::parse(&failed.next_attempt_at.expect("a time")).unwrap();
    // The clock goes on by itself.
    clock.step_ms(due.as_ms() - clock.now().as_ms() - MINUTE_MS);
    // A channel looks at all of its lanes whenever it has something to send.
    world.b.text("a minute before");
    shown(&world.slack, 1).await;
    settled(&relay).await;
    assert_eq!(world.slack.calls().len(), 2, "one that failed, and the other chat's");
    clock.step_ms(MINUTE_MS);
    world.b.text("at the time");
    shown(&world.slack, 3).await;
    world.slack.assert_delivered(&late);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
