//! Hosts come and go: on the same directory one after the other, and NanoClaw's own between two of ours.

use crate::support::host::{TestHost, in_a_process_that_is_killed};
use crate::support::wait::{called, record, settled, shown, until};
use nanorelay_actors::channel::adapter::Idempotency;
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::{Relay, StartError};
use nanorelay_actors::report::{DeliveryFilter, DeliveryState};
use nanorelay_actors::settings::OnAmbiguous;
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent, VirtualClock};
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn session(data: &DataDir, id: &str) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1").thread(id))
}

/// Starts a host whose sends wait at a gate, and kills it there.
fn kill_in_mid_send(host: TestHost, slack: &Arc<MockChannel>, calls: usize) {
    let slack = Arc::clone(slack);
    slack.script(|_| Answer::gate());
    in_a_process_that_is_killed(async move || {
        let relay = host.start().await;
        called(&slack, calls).await;
        // Everything else has come to rest: only the sends are on their way.
        relay.shutdown(Duration::from_millis(50)).await;
    });
}

#[actix_rt::test]
async fn what_was_on_its_way_is_held_when_a_second_send_would_be_seen() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let ids = [agent.text("one"), agent.text("two")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    kill_in_mid_send(host, &slack, 1);

    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let run = host.drain().await;
    slack.assert_exactly_once(&ids[1..]);
    let state = |id: &str| run.record(agent.session_id(), id).map(|record| record.state);
    assert_eq!(state(&ids[0]), Some(DeliveryState::Ambiguous));
    assert_eq!((run.report.delivered, run.report.ambiguous), (1, 1));
    let again = host.drain().await;
    assert_eq!((again.report.delivered, again.report.ambiguous), (0, 1), "it stays held");
}

#[actix_rt::test]
async fn what_was_on_its_way_is_sent_again_when_the_platform_knows_it_again() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..10).map(|number| session(&data, &format!("sess-{number}"))).collect();
    let ids: Vec<_> = agents.iter().flat_map(|agent| [agent.text("one"), agent.text("two")]).collect();
    let slack = MockChannel::with(Idempotency::NativeKey, Arc::new(SystemClock));
    let mut host = TestHost::new(data.path());
    host.add_channel("slack", &slack);
    kill_in_mid_send(host, &slack, 10);

    let mut host = TestHost::new(data.path());
    slack.script(|_| Answer::Accept);
    host.add_channel("slack", &slack);
    let run = host.drain().await;
    assert_eq!((run.report.delivered, run.report.ambiguous), (20, 0));
    slack.assert_exactly_once(&ids);
    for record in run.records {
        let expected = if record.seq == 1 { 2 } else { 1 };
        assert_eq!(record.attempts, expected, "{record:?}");
    }
}

#[actix_rt::test]
async fn what_was_on_its_way_is_sent_again_when_the_operator_says_so() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let ids = [agent.text("one"), agent.text("two")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    kill_in_mid_send(host, &slack, 1);

    let mut host = TestHost::new(data.path());
    host.channel_settings.on_ambiguous = OnAmbiguous::Resend;
    let slack = host.channel("slack");
    assert_eq!(host.drain().await.report.delivered, 2);
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
}

#[actix_rt::test]
async fn a_shutdown_waits_for_what_is_on_its_way_and_begins_nothing_new() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..5).map(|number| session(&data, &format!("sess-{number}"))).collect();
    let mut ids = Vec::new();
    for agent in &agents {
        ids.extend(agent.rows((0..100).map(|_| agent.text_row("hello")).collect()));
    }
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.script(|_| Answer::slow(Duration::from_millis(100)));
    let relay = host.start().await;
    called(&slack, 10).await;
    // The whole backlog would take ten seconds.
    relay.shutdown(Duration::from_secs(5)).await;
    drop(relay);
    let sent = slack.shown().len();
    assert!(sent < 50, "{sent} of 500 were sent");
    let told: usize = agents.iter().map(|agent| agent.delivered().len()).sum();
    assert_eq!(told, sent, "every session knows what was delivered");

    slack.script(|_| Answer::Accept);
    let run = host.drain().await;
    assert_eq!(run.report.ambiguous, 0, "nothing was cut off");
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
}

#[actix_rt::test]
async fn one_host_at_a_time_runs_on_a_directory() {
    let (data, other) = (DataDir::new(), DataDir::new());
    let (agent, far) = (session(&data, "sess-a"), session(&other, "sess-a"));
    let ids = [agent.text("here"), far.text("there")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    let second = TestHost::new(data.path()).builder().start().await;
    assert!(matches!(second, Err(StartError::AlreadyRunning { process: Some(_), .. })));
    // Another directory is another host, in the same process or not.
    let mut neighbour = TestHost::new(other.path());
    neighbour.add_channel("slack", &slack);
    let neighbours = neighbour.start().await;
    shown(&slack, 2).await;
    slack.assert_exactly_once(&ids);
    neighbours.shutdown(SHUTDOWN_DEADLINE).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let again = host.start().await;
    again.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_host_whose_handle_was_dropped_still_runs_alone() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    drop(host.start().await);
    let id = agent.text("is anybody there?");
    shown(&slack, 1).await;
    slack.assert_exactly_once(&[id]);
    let second = TestHost::new(data.path()).builder().start().await;
    assert!(matches!(second, Err(StartError::AlreadyRunning { .. })));
}

#[actix_rt::test]
async fn a_shutdown_leaves_no_actor_alive() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..20).map(|number| session(&data, &format!("sess-{number}"))).collect();
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    for agent in &agents {
        agent.text("hello");
    }
    shown(&slack, 20).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert!(relay.registry_snapshot().await.is_none());
    for agent in &agents {
        agent.text("nobody hears this");
    }
    settled(&relay).await;
    // The adapter is part of what the actors keep alive.
    drop((relay, host));
    let gone = async {
        while Arc::strong_count(&slack) > 1 {
            tokio::task::yield_now().await;
        }
    };
    crate::support::wait::within("every actor is gone", gone).await;
    assert_eq!(slack.calls().len(), 20);
}

#[actix_rt::test]
async fn what_nanoclaw_delivered_meanwhile_is_not_sent_again() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let ids = agent.rows((0..300).map(|_| agent.text_row("hello")).collect());
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.script(|call| if call.seq < 100 { Answer::Accept } else { Answer::transient("bad gateway") });
    host.settings.retry.transient.attempts_max = None;
    host.settings.retry.transient.base = Duration::from_secs(600);
    host.settings.retry.transient.delay_max = Duration::from_secs(600);
    let relay = host.start().await;
    shown(&slack, 50).await;
    record(&relay, &ids[50], |record| record.state == DeliveryState::Retrying).await;
    record(&relay, &ids[299], |record| record.state == DeliveryState::Queued).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;

    // The other host starts where the delivered rows end; it delivers some and fails with one.
    let more = agent.text("written meanwhile");
    let inbound = agent.inbound();
    let delivered = [&ids[50..60], &ids[200..290], &[more][..]].concat();
    for id in &delivered {
        let row =
            "INSERT INTO delivered (message_out_id, status, delivered_at) VALUES (?1, ?2, datetime('now'))";
        let status = if *id == ids[205] { "failed" } else { "delivered" };
        inbound.execute(row, [id.as_str(), status]).unwrap();
    }
    slack.script(|_| Answer::Accept);
    host.settings.retry.transient.base = Duration::from_millis(2);
    let run = host.drain().await;
    let ours: Vec<_> = [&ids[..50], &ids[60..200], &ids[290..]].concat();
    slack.assert_exactly_once(&ours);
    assert_eq!((run.report.delivered, run.report.retrying), (150, 0));
    let failed = run.record(agent.session_id(), &ids[205]).map(|record| record.state);
    assert_eq!(failed, Some(DeliveryState::Dead), "what the other host gave up stays given up");

    // A failure of our own is no such word: it can be replayed.
    let dead = agent.text("blocked at first");
    slack.on_message(&dead, [Answer::permanent("blocked")]);
    let relay = host.start().await;
    record(&relay, &dead, |record| record.state == DeliveryState::Dead).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    drop(relay);
    let stopped = nanorelay_actors::relay::StoppedHost::open(data.path()).unwrap();
    let filter = DeliveryFilter { message_id: Some(dead.clone()), ..DeliveryFilter::default() };
    assert_eq!(stopped.replay_all(&filter, None).unwrap(), 1);
    drop(stopped);
    host.drain().await;
    slack.assert_delivered(&dead);
}

/// Makes a session's databases look as if they were last written long ago.
fn age(agent: &TestAgent) {
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for name in ["inbound.db", "outbound.db"] {
        let file = std::fs::File::options().write(true).open(agent.folder().join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
}

async fn living(relay: &Relay) -> usize {
    relay.registry_snapshot().await.expect("the registry lives").living
}

#[actix_rt::test]
async fn a_session_that_rested_is_not_looked_at_by_the_next_host_until_something_changes() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..4).map(|number| session(&data, &format!("sess-{number}"))).collect();
    let first: Vec<_> = agents.iter().map(|agent| agent.text("before")).collect();
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    shown(&slack, first.len()).await;
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    // What was written just now could change again without a trace.
    let relay = host.start().await;
    settled(&relay).await;
    assert_eq!(living(&relay).await, agents.len(), "marks that are not firm are not believed");
    relay.shutdown(SHUTDOWN_DEADLINE).await;

    agents.iter().for_each(age);
    for _ in 0..2 {
        let relay = host.start().await;
        settled(&relay).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
    let due = Timestamp::from_ms(SystemClock.now().as_ms() + 3_600_000);
    let while_down = agents[1].text("while no host ran");
    let schedule = serde_json::json!({
        "action": "schedule_task", "taskId": "task-1", "prompt": "p", "script": null,
        "processAfter": due.to_iso(), "recurrence": null,
    });
    agents[2].system(&schedule);
    let relay = host.start().await;
    settled(&relay).await;
    assert_eq!(living(&relay).await, 2, "two have changed, the others are left alone");
    slack.assert_exactly_once(&[&first[..], &[while_down]].concat());
    let after = agents[0].text("to a host that has not looked yet");
    shown(&slack, first.len() + 2).await;
    settled(&relay).await;
    assert_eq!(slack.calls().last().map(|call| call.message_id.to_string()), Some(after));
    assert_eq!(living(&relay).await, 3);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_resting_session_s_task_is_due_in_the_next_host_s_life_too() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let due = Timestamp::from_ms(SystemClock.now().as_ms() + 3_600_000);
    agent.system(&serde_json::json!({
        "action": "schedule_task", "taskId": "task-1", "prompt": "p", "script": null,
        "processAfter": due.to_iso(), "recurrence": null,
    }));
    let host = TestHost::new(data.path());
    host.drain().await;
    age(&agent);
    for _ in 0..2 {
        let relay = host.start().await;
        settled(&relay).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
    let clock = VirtualClock::starting_at(SystemClock.now());
    let mut host = TestHost::new(data.path());
    host.clock = clock.clone();
    let relay = host.start().await;
    settled(&relay).await;
    assert_eq!(living(&relay).await, 0, "it rests");
    let wakes = relay.statistics().wakes;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(wakes, 0);
    clock.step_ms(3_600_000);
    let relay = host.start().await;
    until("its task is due", || relay.statistics().wakes == 1).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
