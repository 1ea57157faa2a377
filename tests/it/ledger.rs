//! The ledger over a long time: what it forgets, and what happens when it is lost.

use crate::serve::configure;
use crate::support::host::TestHost;
use crate::support::program::nanorelay;
use crate::support::sink::Sink;
use crate::support::wait::{record, settled, shown};
use nanorelay_actors::model::ids::{MessageId, SessionId};
use nanorelay_actors::model::message::DeliveryKey;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState, Resolution};
use nanorelay_actors::settings::Retention;
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, SessionSpec, TestAgent, VirtualClock};
use serde_json::json;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 3600 * 1000;

fn slack_session(data: &DataDir, id: &str) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1"))
}

fn key(agent: &TestAgent, message: &str) -> DeliveryKey {
    DeliveryKey {
        session_id: SessionId::new(agent.session_id()).unwrap(),
        message_id: MessageId::new(message).unwrap(),
    }
}

/// A host whose time can be stepped, and its one channel.
fn host_in_time(data: &DataDir) -> (TestHost, Arc<VirtualClock>, Arc<MockChannel>) {
    let clock = VirtualClock::starting_at(Timestamp::from_ms(1_800_000_000_000));
    let mut host = TestHost::new(data.path());
    host.clock = clock.clone();
    let slack = host.channel("slack");
    (host, clock, slack)
}

#[actix_rt::test]
async fn what_the_ledger_has_forgotten_is_never_sent_again_whatever_the_agent_does() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    let mut ids: Vec<String> = (0..6).map(|number| agent.text(&format!("text {number}"))).collect();
    let (host, clock, slack) = host_in_time(&data);
    let relay = host.start().await;
    shown(&slack, 6).await;
    settled(&relay).await;
    clock.step_ms(29 * DAY_MS);
    assert_eq!(relay.prune_ledger().await.unwrap().delivered, 0);
    clock.step_ms(2 * DAY_MS);
    assert_eq!(relay.prune_ledger().await.unwrap().delivered, 5, "all but the one at the cursor");

    // The agent forges that nothing was delivered, and writes its rows anew.
    agent.inbound().execute("DELETE FROM delivered", []).unwrap();
    let rewrite = "INSERT OR REPLACE INTO messages_out SELECT * FROM messages_out";
    agent.outbound().execute(rewrite, []).unwrap();
    ids.push(agent.text("new"));
    let report = relay.drain(DEADLINE).await;
    assert_eq!(report.dead, 5, "each is visible");
    slack.assert_exactly_once(&ids);
    let forgotten = DeliveryFilter { error_class: Some("forgotten".to_owned()), ..DeliveryFilter::default() };
    assert_eq!(relay.deliveries(forgotten).await.unwrap().len(), 5);
    relay.shutdown(DEADLINE).await;
    drop(relay);
    host.drain().await;
    slack.assert_exactly_once(&ids);
}

#[actix_rt::test]
async fn rows_that_an_honest_agent_rewrites_after_pruning_stay_delivered() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    let ids: Vec<String> = (0..4).map(|number| agent.text(&format!("text {number}"))).collect();
    let (host, clock, slack) = host_in_time(&data);
    let relay = host.start().await;
    shown(&slack, 4).await;
    settled(&relay).await;
    clock.step_ms(31 * DAY_MS);
    assert_eq!(relay.prune_ledger().await.unwrap().delivered, 3);
    let rewrite = "INSERT OR REPLACE INTO messages_out SELECT * FROM messages_out";
    agent.outbound().execute(rewrite, []).unwrap();
    assert_eq!(relay.drain(DEADLINE).await.dead, 0, "inbound.db says that they were delivered");
    slack.assert_exactly_once(&ids);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn the_dead_are_kept_longer_but_only_so_many() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    let (mut host, clock, slack) = host_in_time(&data);
    host.settings.retention = Retention { dead_per_session_max: 2, ..Retention::default() };
    slack.script(|_| Answer::permanent("blocked"));
    let ids: Vec<String> = (0..5).map(|number| agent.text(&format!("text {number}"))).collect();
    let relay = host.start().await;
    record(&relay, &ids[4], |record| record.state == DeliveryState::Dead).await;
    settled(&relay).await;
    assert_eq!(relay.prune_ledger().await.unwrap().dead, 3);
    clock.step_ms(60 * DAY_MS);
    assert_eq!(relay.prune_ledger().await.unwrap().dead, 0);
    clock.step_ms(31 * DAY_MS);
    assert_eq!(relay.prune_ledger().await.unwrap().dead, 1, "all but the one at the cursor");
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn a_ledger_that_is_too_large_forgets_the_oldest_first() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    let (mut host, clock, slack) = host_in_time(&data);
    let rows = |count: usize| (0..count).map(|_| agent.text_row("x")).collect::<Vec<_>>();
    agent.rows(rows(2_000));
    let relay = host.start().await;
    shown(&slack, 2_000).await;
    settled(&relay).await;
    let used_bytes = relay.prune_ledger().await.unwrap().used_bytes;
    relay.shutdown(DEADLINE).await;
    drop(relay);
    host.settings.retention.size_bytes_max = used_bytes;
    clock.step_ms(3 * 3600 * 1000);
    let newest = agent.rows(rows(200));
    let relay = host.start().await;
    shown(&slack, 2_200).await;
    settled(&relay).await;
    let report = relay.prune_ledger().await.unwrap();
    assert!(report.delivered >= 200 && report.used_bytes < used_bytes, "{report:?}");
    let kept = relay.deliveries(DeliveryFilter::default()).await.unwrap();
    for id in &newest {
        assert!(kept.iter().any(|record| record.message_id == *id), "{id} is of the last hour");
    }
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn an_ambiguous_message_is_resolved_as_the_operator_says() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    let (arrived, lost) = (agent.text("arrived"), agent.text("lost"));
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.on_message(&arrived, [Answer::accept_then_drop()]);
    slack.on_message(&lost, [Answer::ambiguous()]);
    let relay = host.start().await;
    for id in [&arrived, &lost] {
        record(&relay, id, |record| record.state == DeliveryState::Ambiguous).await;
    }
    let delivered = Resolution::Delivered { platform_message_id: Some("slack:17".to_owned()) };
    assert!(relay.resolve(key(&agent, &arrived), delivered).await.unwrap());
    assert!(relay.resolve(key(&agent, &lost), Resolution::NotDelivered).await.unwrap());
    shown(&slack, 2).await;
    settled(&relay).await;
    slack.assert_exactly_once(&[&arrived, &lost]);
    let rows = agent.delivered();
    let row = rows.iter().find(|row| row.message_out_id == arrived).expect("the agent is told");
    assert_eq!(row.platform_message_id.as_deref(), Some("slack:17"));
    let details = relay.delivery(key(&agent, &lost)).await.unwrap().expect("known");
    assert_eq!((details.record.state, details.record.attempts), (DeliveryState::Delivered, 1));
    assert_eq!(details.failed_attempts.len(), 1);
    relay.shutdown(DEADLINE).await;
}

#[actix_rt::test]
async fn the_program_shows_and_resolves_what_a_stopped_host_left_ambiguous() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    let ids = [agent.text("one"), agent.text("two"), agent.text("three")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    for id in &ids {
        slack.on_message(id, [Answer::ambiguous()]);
    }
    host.drain().await;
    let run = |command: &[&str]| nanorelay(&[&["deliveries"], command].concat()).data(data.path()).run();
    let shown = run(&["show", "sess-1", &ids[0], "--json"]).expect_code(0).json();
    assert_eq!((&shown["state"], &shown["attempts"]), (&json!("ambiguous"), &json!(1)));
    let failed = &shown["failed_attempts"][0];
    assert_eq!((&failed["attempt"], &failed["error_class"]), (&json!(1), &json!("ambiguous")));
    let text = run(&["show", "sess-1", &ids[0]]).expect_code(0).stdout;
    assert!(text.contains("attempt 1 failed"), "{text}");

    run(&["resolve", "sess-1", &ids[0], "--as", "not-delivered", "--receipt", "p"]).expect_code(2);
    let resolved = run(&["resolve", "sess-1", &ids[0], "--as", "delivered", "--receipt", "p-1", "--json"]);
    assert_eq!(resolved.expect_code(0).stdout, "{\"resolved\":true}\n");
    run(&["resolve", "sess-1", &ids[0], "--as", "not-delivered"]).expect_code(3);
    run(&["resolve", "sess-1", &ids[1], "--as", "not-delivered"]).expect_code(0);

    let all = ["replay", "--all", "--state", "ambiguous", "--channel", "slack"];
    let listed = run(&[&all[..], &["--dry-run", "--json"]].concat()).expect_code(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(listed[0]["message_id"], ids[2].as_str());
    run(&["replay", "--all", "--state", "ambiguous", "--class", "transient"]).expect_code(3);
    let replayed = run(&[&all[..], &["--rate", "100/s", "--json"]].concat()).expect_code(0);
    assert_eq!(replayed.stdout, "{\"replayed\":1}\n", "the dry run has changed nothing");
    host.drain().await;
    slack.assert_exactly_once(&ids[1..]);
    let row = agent.delivered().into_iter().find(|row| row.message_out_id == ids[0]).expect("told");
    assert_eq!(row.platform_message_id.as_deref(), Some("p-1"));
}

fn remove_ledger(data: &DataDir) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(data.path().join(format!("nanorelay.db{suffix}")));
    }
}

/// A data directory in which a host has delivered one message, given one up, and has one left to do.
fn world_with_history() -> (DataDir, TestAgent, [String; 3]) {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-1");
    configure(&data, &Sink::table("*"));
    let good = agent.text("hello");
    let mut row = agent.text_row("");
    row.content = json!({ "text": "see the file", "files": ["report.pdf"] }).to_string();
    let dead = agent.row(row);
    nanorelay(&["drain"]).data(data.path()).run().expect_code(0);
    let waiting = agent.text("written after the host");
    (data, agent, [good, dead, waiting])
}

#[test]
fn a_lost_ledger_is_an_error_and_is_rebuilt_without_sending_anything_twice() {
    let (data, _agent, [good, _dead, waiting]) = world_with_history();
    remove_ledger(&data);
    let refused = nanorelay(&["drain"]).data(data.path()).run().expect_code(1);
    assert!(refused.stderr.contains("nanorelay ledger rebuild"), "{}", refused.stderr);
    nanorelay(&["deliveries", "list"]).data(data.path()).run().expect_code(1);
    assert!(!data.path().join("nanorelay.db").exists(), "it is not made anew by itself");

    let expected = json!({
        "kept_as": null, "sessions": 1, "delivered": 1, "failed": 1, "waiting": 1, "unreadable": [],
    });
    let dry = nanorelay(&["ledger", "rebuild", "--dry-run", "--json"]).data(data.path()).run().expect_code(0);
    assert_eq!(dry.json(), expected);
    assert!(!data.path().join("nanorelay.db").exists());
    let made = nanorelay(&["ledger", "rebuild", "--json"]).data(data.path()).run().expect_code(0);
    assert_eq!(made.json(), expected);
    nanorelay(&["drain"]).data(data.path()).run().expect_code(0);
    assert_eq!(Sink::of(data.path()).ids(), [good, waiting]);
}

#[test]
fn a_damaged_ledger_is_kept_aside_and_one_in_order_is_not_replaced() {
    let (data, _agent, [good, _dead, waiting]) = world_with_history();
    let rebuild = |more: &[&str]| nanorelay(&[&["ledger", "rebuild"], more].concat()).data(data.path()).run();
    let refused = rebuild(&[]).expect_code(1);
    assert!(refused.stderr.contains("nothing to rebuild"), "{}", refused.stderr);
    remove_ledger(&data);
    fs::write(data.path().join("nanorelay.db"), vec![b'x'; 9000]).unwrap();
    let refused = nanorelay(&["drain"]).data(data.path()).run().expect_code(1);
    assert!(refused.stderr.contains("nanorelay ledger rebuild"), "{}", refused.stderr);
    let made = rebuild(&["--json"]).expect_code(0).json();
    let kept = data.path().join(made["kept_as"].as_str().expect("a name"));
    assert_eq!(fs::read(kept).unwrap(), vec![b'x'; 9000]);
    nanorelay(&["drain"]).data(data.path()).run().expect_code(0);
    assert_eq!(Sink::of(data.path()).ids(), [good, waiting]);
}
