//! What nanorelay promises for every data directory.

use crate::support::host::TestHost;
use crate::support::takeover::{assert_can_be_taken_over, assert_compact_json, assert_seqs_unique};
use nanorelay_actors::relay::StoppedHost;
use nanorelay_actors::report::{DeliveryFilter, DeliveryState, DrainReport};
use nanorelay_actors::testing::{Answer, DataDir, MockChannel, RowSpec, SessionSpec, TestAgent};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const SESSIONS: usize = 1_000;
const MESSAGES_EACH: usize = 10;

fn slack_session(data: &DataDir, id: &str) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1").thread(id))
}

#[actix_rt::test]
async fn a_thousand_sessions_deliver_each_message_once_and_in_order() {
    let data = DataDir::new();
    let mut ids = Vec::new();
    for number in 0..SESSIONS {
        let agent = slack_session(&data, &format!("sess-{number:04}"));
        let row = |index: usize| agent.text_row("hello").id(&format!("m-{number:04}-{index}"));
        ids.extend(agent.rows((0..MESSAGES_EACH).map(row).collect()));
    }
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    host.drain_deadline = Duration::from_secs(300);
    let run = host.drain().await;
    let expected = DrainReport { delivered: ids.len() as u64, ..DrainReport::default() };
    assert_eq!(run.report, expected);
    slack.assert_exactly_once(&ids);
    assert_in_seq_order(&slack);

    assert_eq!(host.drain().await.report, DrainReport::default(), "a second drain delivers nothing");
    assert_eq!(slack.calls().len(), ids.len());
}

/// Every session's messages were tried in seq order. All go to one lane here.
#[track_caller]
fn assert_in_seq_order(channel: &MockChannel) {
    channel.assert_lane_order();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for call in channel.calls() {
        let before = last.insert(call.session_id.to_string(), call.seq).unwrap_or(0);
        assert!(before < call.seq, "{}: seq {} came after {before}", call.session_id, call.seq);
    }
}

#[actix_rt::test]
async fn a_seed_era_directory_is_upgraded_and_delivered() {
    let data = DataDir::seed_era();
    let agent = slack_session(&data, "sess-seed");
    agent.receive("in-1", "hello");
    let text = agent.text("hi");
    let question = json!({
        "type": "ask_question", "questionId": "q-1", "question": "Deploy?", "options": ["Yes", "No"],
    });
    let question = RowSpec::new("chat-sdk", question.to_string()).to("slack", "slack:C1", Some("sess-seed"));
    let question = agent.row(question);
    let task = json!({
        "action": "schedule_task", "taskId": "task-1", "prompt": "digest", "script": null,
        "processAfter": "2099-01-01T00:00:00Z", "recurrence": "0 9 * * *",
    });
    agent.system(&task);

    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let run = host.drain().await;
    assert_eq!(run.report, DrainReport { delivered: 2, applied: 1, ..DrainReport::default() });
    slack.assert_exactly_once(&[text, question]);

    let rows = agent.messages_in();
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row.series_id.as_ref(), Some(&row.id), "series are filled in");
    }
    assert_eq!((rows[1].id.as_str(), rows[1].kind.as_str()), ("task-1", "task"));
    assert_eq!(agent.delivered().len(), 3);
    for row in agent.delivered() {
        assert_eq!(row.status.as_deref(), Some("delivered"));
    }
    assert_eq!(data.pending_questions().len(), 1);
    assert_can_be_taken_over(&agent);
    assert_eq!(host.drain().await.report, DrainReport::default());
}

#[actix_rt::test]
async fn nanoclaw_can_take_a_directory_over_again() {
    let data = DataDir::new();
    data.allow_agent("ag-main", "ag-helper");
    let agent = slack_session(&data, "sess-a");
    let helper = data.session(SessionSpec::new("ag-helper").id("sess-h"));
    agent.receive("in-1", "hello");
    agent.text("one");
    agent.question("q-1", "Confirm", "Deploy?", &["Yes", "No"]);
    agent.to_agent("ag-helper", "please");
    for (number, time) in
        ["2099-01-01T00:00:00Z", "2099-01-01 00:00:00", "2099-01-01T02:00:00+02:00"].into_iter().enumerate()
    {
        let task_id = format!("task-{number}");
        agent.system(&json!({
            "action": "schedule_task", "taskId": task_id, "prompt": "p", "script": null, "processAfter": time,
            "recurrence": null,
        }));
    }
    let refused = agent.system(&json!({ "action": "make_coffee" }));

    let mut host = TestHost::new(data.path());
    host.channel("slack");
    let run = host.drain().await;
    assert_eq!(
        run.report,
        DrainReport { delivered: 2, applied: 3, routed: 1, dead: 1, ..DrainReport::default() }
    );
    for agent in [&agent, &helper] {
        assert_can_be_taken_over(agent);
        assert_seqs_unique(agent);
        for row in agent.messages_in().iter().filter(|row| row.id != "in-1") {
            assert_compact_json(&row.content);
        }
    }
    assert_eq!(agent.delivered().len(), agent.messages_out().len());
    for row in agent.delivered() {
        let expected = if row.message_out_id == refused { "failed" } else { "delivered" };
        assert_eq!(row.status.as_deref(), Some(expected), "{row:?}");
    }
    let same_instant = "SELECT count(DISTINCT datetime(process_after)) FROM messages_in WHERE kind = 'task'";
    let instants: i64 = agent.inbound().query_row(same_instant, [], |row| row.get(0)).unwrap();
    assert_eq!(instants, 1, "all forms of a time are one instant");
}

#[actix_rt::test]
async fn two_sessions_may_use_the_same_message_id() {
    let data = DataDir::new();
    let agents = [slack_session(&data, "sess-a"), slack_session(&data, "sess-b")];
    for agent in &agents {
        agent.row(agent.text_row("hello").id("msg-same"));
    }
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    assert_eq!(host.drain().await.report.delivered, 2);
    assert_eq!(slack.shown().len(), 2);
    for agent in &agents {
        assert_eq!(agent.delivered().len(), 1, "{}", agent.session_id());
    }
}

#[actix_rt::test]
async fn an_agent_writes_only_where_it_is_permitted() {
    let data = DataDir::new();
    data.chat("slack", "slack:SECRET").allow_channel("ag-main", "slack", "slack:OPEN");
    let agent = slack_session(&data, "sess-a");
    let refused = agent.row(RowSpec::text("slack", "slack:SECRET", "psst"));
    let permitted = agent.row(RowSpec::text("slack", "slack:OPEN", "hello"));
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let run = host.drain().await;
    slack.assert_exactly_once(&[permitted]);
    let record = run.record(agent.session_id(), &refused).expect("it is listed");
    let class = record.error_class.as_deref();
    assert_eq!((record.state, class), (DeliveryState::Dead, Some("not_permitted")));
}

#[actix_rt::test]
async fn a_hanging_send_holds_up_no_other_lane() {
    let data = DataDir::new();
    let (hanging, other) = (slack_session(&data, "sess-a"), slack_session(&data, "sess-b"));
    let stuck = hanging.text("stuck");
    let fine = other.text("fine");
    let mut host = TestHost::new(data.path());
    host.settings.limits.send_timeout = Duration::from_millis(300);
    let slack = host.channel("slack");
    slack.on_message(&stuck, [Answer::Hang]);
    let run = host.drain().await;
    slack.assert_exactly_once(&[fine]);
    let state = run.record(hanging.session_id(), &stuck).map(|record| record.state);
    assert_eq!(state, Some(DeliveryState::Ambiguous), "nobody knows whether it was sent");
    assert_eq!((run.report.delivered, run.report.ambiguous), (1, 1));
    assert!(hanging.delivered().is_empty(), "nothing is delivered without a receipt");
}

#[actix_rt::test]
async fn a_panicking_adapter_stops_nobody() {
    let data = DataDir::new();
    let (unlucky, other) = (slack_session(&data, "sess-a"), slack_session(&data, "sess-b"));
    let bad = unlucky.text("boom");
    let rest = [unlucky.text("after the panic"), other.text("elsewhere")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.on_message(&bad, [Answer::Panic("a bug in the adapter".to_owned())]);
    let run = host.drain().await;
    for id in &rest {
        slack.assert_delivered(id);
    }
    assert!(run.record(unlucky.session_id(), &bad).is_some(), "the message is not lost");
}

#[actix_rt::test]
async fn no_try_comes_before_the_platforms_hint() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-a");
    let ids = [agent.text("one"), agent.text("two")];
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let hint = Some(Duration::from_millis(250));
    slack.on_message(&ids[0], [Answer::rate_limited(hint), Answer::rate_limited(hint)]);
    assert_eq!(host.drain().await.report.delivered, 2);
    slack.assert_exactly_once(&ids);
    slack.assert_never_early();
    slack.assert_lane_order();
}

#[actix_rt::test]
async fn a_dead_message_can_be_replayed() {
    let data = DataDir::new();
    let agent = slack_session(&data, "sess-a");
    let id = agent.text("blocked at first");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.on_message(&id, [Answer::permanent("blocked")]);
    assert_eq!(host.drain().await.report.dead, 1);
    let dead = DeliveryFilter { states: vec![DeliveryState::Dead], ..DeliveryFilter::default() };
    {
        let stopped = StoppedHost::open(data.path()).expect("no host runs");
        assert_eq!(stopped.deliveries(&dead).unwrap().len(), 1);
        assert_eq!(stopped.replay_all(&dead, None).unwrap(), 1);
    }
    assert_eq!(host.drain().await.report.delivered, 1);
    slack.assert_delivered(&id);
    let delivered = agent.delivered();
    assert_eq!(delivered[0].status.as_deref(), Some("delivered"), "the failure is replaced: {delivered:?}");
}
