use super::*;
use crate::testing::{DataDir, SessionSpec};

fn slack(data: &DataDir) -> TestAgent {
    data.session(SessionSpec::new("ag-main").chat("slack", "slack:C1").thread("t-1"))
}

#[test]
fn rows_get_odd_seqs_above_both_tables() {
    for data in [DataDir::new(), DataDir::seed_era()] {
        let agent = slack(&data);
        let first = agent.text("one");
        assert_eq!(agent.receive("in-1", "hello"), 2);
        let second = agent.text("two");
        assert_eq!(agent.receive("in-2", "hello again"), 4);
        let more = agent.rows(vec![agent.text_row("three"), agent.text_row("four").id("mine")]);
        assert_eq!(more[1], "mine");
        let expected = [(first, 1), (second, 3), (more[0].clone(), 5), (more[1].clone(), 7)];
        assert_eq!(agent.messages_out(), expected);
    }
}

#[test]
fn a_chosen_seq_is_kept_and_later_rows_go_above_it() {
    let data = DataDir::new();
    let agent = slack(&data);
    let mut jump = agent.text_row("jump");
    jump.seq = Some(10);
    agent.rows(vec![jump, agent.text_row("next")]);
    let seqs: Vec<i64> = agent.messages_out().into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, [10, 13]);
}

#[test]
fn files_lie_in_the_outbox_folder_of_their_message() {
    let data = DataDir::new();
    let agent = slack(&data);
    let id = agent.file("see this", "report.txt", b"42");
    assert_eq!(fs::read(agent.outbox().join(&id).join("report.txt")).unwrap(), b"42");
    let content: String =
        agent.outbound().query_row("SELECT content FROM messages_out", [], |row| row.get(0)).unwrap();
    assert_eq!(content, r#"{"text":"see this","files":["report.txt"]}"#);
}

#[test]
fn every_shape_has_its_kind_and_target() {
    let data = DataDir::new();
    let agent = slack(&data);
    agent.text("t");
    agent.question("q-1", "Confirm", "Deploy?", &["Yes"]);
    agent.to_agent("ag-helper", "please");
    agent.system(&json!({ "action": "cancel_task", "taskId": "task-1" }));
    let outbound = agent.outbound();
    let mut statement = outbound
        .prepare("SELECT kind, channel_type, platform_id, thread_id FROM messages_out ORDER BY seq")
        .unwrap();
    type Found = (String, Option<String>, Option<String>, Option<String>);
    let found: Vec<Found> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .and_then(Iterator::collect)
        .unwrap();
    let row = |kind: &str, to: [Option<&str>; 3]| -> Found {
        let [channel, platform, thread] = to.map(|part| part.map(str::to_owned));
        (kind.to_owned(), channel, platform, thread)
    };
    let own = [Some("slack"), Some("slack:C1"), Some("t-1")];
    let expected = [
        row("chat", own),
        row("chat-sdk", own),
        row("chat", [Some("agent"), Some("ag-helper"), None]),
        row("system", [None; 3]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn acknowledgements_replace_each_other_and_a_heartbeat_is_a_time() {
    let data = DataDir::new();
    let agent = slack(&data);
    agent.receive("in-1", "hello");
    agent.ack("in-1", "processing");
    agent.ack("in-1", "completed");
    let found: (i64, String) = agent
        .outbound()
        .query_row("SELECT count(*), status FROM processing_ack", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(found, (1, "completed".to_owned()));

    for ms in [1_000_000_000_000, 999_999_999_000] {
        agent.heartbeat(Timestamp::from_ms(ms));
        let modified = fs::metadata(agent.folder().join(".heartbeat")).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(UNIX_EPOCH).unwrap().as_millis(), u128::try_from(ms).unwrap());
    }
}

#[test]
fn host_rows_are_read_back_from_both_eras() {
    for (data, era_has_series) in [(DataDir::new(), true), (DataDir::seed_era(), false)] {
        let agent = slack(&data);
        agent.receive("in-1", "hello");
        let column = if era_has_series { ", status, platform_message_id" } else { "" };
        let values = if era_has_series { ", 'delivered', 'plat-1'" } else { "" };
        let sql = format!(
            "INSERT INTO delivered (message_out_id, delivered_at{column}) VALUES ('m', '2026-01-01 00:00:00'{values})"
        );
        agent.inbound().execute(&sql, []).unwrap();
        let row = &agent.messages_in()[0];
        assert_eq!((row.id.as_str(), row.seq, row.thread_id.as_deref()), ("in-1", Some(2), Some("t-1")));
        assert_eq!(row.trigger, era_has_series.then_some(1));
        let delivered = &agent.delivered()[0];
        assert_eq!(delivered.platform_message_id.as_deref(), era_has_series.then_some("plat-1"));
    }
}
