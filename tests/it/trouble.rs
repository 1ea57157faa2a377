//! Locked, torn and missing files: only what is touched waits, and everything goes on when it is over.

use crate::support::host::TestHost;
use crate::support::process::Other;
use crate::support::wait::{called, quarantined, record, settled, shown, until};
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::testing::{Answer, DataDir, RowSpec, SessionSpec, TestAgent};
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

fn spec(id: &str) -> SessionSpec {
    SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1").thread(id)
}

fn session(data: &DataDir, id: &str) -> TestAgent {
    data.session(spec(id))
}

fn row_with_file(agent: &TestAgent) -> RowSpec {
    let content = r#"{"text":"look","files":["a.txt"]}"#.to_owned();
    RowSpec { content, ..agent.text_row("") }.file("a.txt", "hello")
}

fn now() -> Timestamp {
    SystemClock.now()
}

#[actix_rt::test]
async fn a_locked_ledger_delays_records_and_repeats_no_send() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..10).map(|number| session(&data, &format!("sess-{number}"))).collect();
    let ids: Vec<_> = agents.iter().map(|agent| agent.text("hello")).collect();
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.script(|_| Answer::gate());
    let relay = host.start().await;
    called(&slack, 10).await;
    let locker = Other::holding_write_lock(&data.path().join("nanorelay.db"));
    slack.open_gate();
    shown(&slack, 10).await;
    // More work arrives while nothing can be recorded.
    let more: Vec<_> = agents.iter().map(|agent| agent.text("more")).collect();
    let lock_is_old = now().plus(Duration::from_millis(600));
    until("the lock is held for a while", || now() >= lock_is_old).await;
    assert_eq!(slack.calls().len(), 10, "without a record there is no attempt");
    locker.stop();
    shown(&slack, 20).await;
    settled(&relay).await;
    slack.assert_exactly_once(&[ids, more].concat());
    assert_eq!(slack.calls().len(), 20);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    for agent in &agents {
        assert_eq!(agent.delivered().len(), 2, "{}", agent.session_id());
    }
}

#[actix_rt::test]
async fn a_locked_inbox_delays_what_the_agent_is_told_and_nothing_else() {
    let data = DataDir::new();
    let (agent, other) = (session(&data, "sess-a"), session(&data, "sess-b"));
    let mut ids = vec![agent.text("hello")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    shown(&slack, 1).await;
    settled(&relay).await;

    let locker = Other::holding_write_lock(&agent.folder().join("inbound.db"));
    let with_files: Vec<_> = (0..5).map(|_| agent.row(row_with_file(&agent))).collect();
    shown(&slack, 6).await;
    quarantined(&relay, true).await;
    ids.extend(with_files.iter().cloned());
    ids.push(agent.text("one more"));
    shown(&slack, 7).await;
    ids.push(other.text("elsewhere"));
    shown(&slack, 8).await;
    until("the other session is told", || other.delivered().len() == 1).await;
    assert_eq!(agent.delivered().len(), 1, "nothing can be told yet");
    for id in &with_files {
        assert!(agent.outbox().join(id).join("a.txt").exists(), "files stay until the agent is told");
    }

    locker.stop();
    until("the agent is told", || agent.delivered().len() == 7).await;
    quarantined(&relay, false).await;
    settled(&relay).await;
    for id in &with_files {
        assert!(!agent.outbox().join(id).exists(), "the file is gone");
    }
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_session_whose_agent_holds_its_files_holds_up_nobody_else() {
    let data = DataDir::new();
    let (agent, other) = (session(&data, "sess-a"), session(&data, "sess-b"));
    let mut ids = vec![agent.text("behind the lock")];
    let lockers =
        ["inbound.db", "outbound.db"].map(|file| Other::holding_exclusive_lock(&agent.folder().join(file)));
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    quarantined(&relay, true).await;
    for number in 1..=5 {
        ids.push(other.text("free"));
        shown(&slack, number).await;
    }
    assert_eq!(relay.quarantined().await.unwrap().keys().collect::<Vec<_>>(), ["sess-a"]);
    for locker in lockers {
        locker.stop();
    }
    shown(&slack, 6).await;
    quarantined(&relay, false).await;
    settled(&relay).await;
    slack.assert_exactly_once(&ids);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn what_a_killed_agent_left_half_written_is_rolled_back_when_no_agent_runs() {
    let data = DataDir::new();
    let agent = data.session(spec("sess-a").stopped());
    let ids = [agent.text("before"), agent.text("the kill")];
    Other::killed_in_mid_commit(&agent);
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let run = host.drain().await;
    assert_eq!((run.report.delivered, run.report.held), (2, 0));
    slack.assert_exactly_once(&ids);
    assert!(!agent.folder().join("outbound.db-journal").exists());
    assert_eq!(agent.messages_out().len(), 2, "nothing of the torn transaction is there");
}

#[actix_rt::test]
async fn beside_a_living_agent_a_hot_journal_is_left_alone_and_only_its_session_waits() {
    check_that_it_waits(spec("sess-a")).await;
}

/// Somebody starts agents and writes nothing about it into `v2.db`.
#[actix_rt::test]
async fn beside_a_living_agent_that_is_called_stopped_a_hot_journal_is_left_alone_too() {
    check_that_it_waits(spec("sess-a").stopped()).await;
}

async fn check_that_it_waits(living: SessionSpec) {
    let data = DataDir::new();
    let (agent, other) = (data.session(living), session(&data, "sess-b"));
    let mut ids = vec![agent.text("before the kill")];
    Other::killed_in_mid_commit(&agent);
    agent.heartbeat(now());
    let mut host = TestHost::new(data.path());
    host.settings.claim_stale_after = Duration::from_secs(3600);
    let slack = host.channel("slack");
    let relay = host.start().await;
    quarantined(&relay, true).await;
    ids.push(other.text("elsewhere"));
    shown(&slack, 1).await;
    assert!(agent.folder().join("outbound.db-journal").exists(), "somebody may still be at it");
    // The next container rolls back, as SQLite does for everyone who may write.
    ids.push(agent.text("after the kill"));
    shown(&slack, 3).await;
    quarantined(&relay, false).await;
    settled(&relay).await;
    slack.assert_exactly_once(&ids);
    slack.assert_lane_order();
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_limit_of_the_platform_outlives_the_channels_actor() {
    use nanorelay_actors::model::ids::ChannelType;
    use nanorelay_actors::supervise::exit_guard::ActorName;
    let data = DataDir::new();
    let (agent, other) = (session(&data, "sess-a"), session(&data, "sess-b"));
    let limited = agent.text("too much");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let hint = Duration::from_millis(700);
    slack.on_message(&limited, [Answer::rate_limited(Some(hint))]);
    let relay = host.start().await;
    called(&slack, 1).await;
    record(&relay, &limited, |record| record.state == DeliveryState::Retrying).await;
    let told_at = slack.calls()[0].answered_at.expect("an answer");
    relay.inject_panic(&ActorName::Channel(ChannelType::new("slack").unwrap()));
    let id = other.text("after the limit, please");
    shown(&slack, 2).await;
    for call in &slack.calls()[1..] {
        let waited = call.started_at.since(told_at);
        assert!(waited >= hint, "{} went out after {waited:?}", call.message_id);
    }
    slack.assert_exactly_once(&[limited, id]);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
