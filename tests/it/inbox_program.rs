//! `nanorelay sessions send`, `sessions create` and `questions`, on running and on stopped hosts.

use crate::serve::configure;
use crate::support::program::{Finished, Program, nanorelay};
use crate::support::sink::Sink;
use crate::support::takeover::assert_can_be_taken_over;
use nanorelay_actors::testing::crash_point;
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn world() -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").id("sess-a").chat("slack", "slack:C1").stopped());
    configure(&data, &Sink::table("*"));
    (data, agent)
}

fn serve(data: &DataDir) -> Program {
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    host
}

fn stop(host: Program) {
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}

fn run(data: &DataDir, arguments: &[&str]) -> Finished {
    nanorelay(arguments).data(data.path()).run()
}

/// A file beside the data directory.
fn file(data: &DataDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = data.path().parent().unwrap().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_message_is_sent_through_a_running_host_and_without_one() {
    let (data, agent) = world();
    let large = file(&data, "large.bin", &vec![7; 3_000_000]);
    let send = |id: &str, text: &str| {
        nanorelay(&["sessions", "send", "sess-a", text, "--id", id, "--sender", "Alice", "--attach"])
            .arg(&large)
            .data(data.path())
            .run()
    };
    let host = serve(&data);
    assert_eq!(send("m-1", "one").expect_code(0).stdout, "sent: m-1 (#2)\n");
    assert_eq!(send("m-1", "one").expect_code(0).stdout, "was sent before: m-1 (#2)\n");
    stop(host);
    assert_eq!(send("m-2", "two").expect_code(0).stdout, "sent: m-2 (#4)\n");
    assert_eq!(send("m-1", "one").expect_code(0).stdout, "was sent before: m-1 (#2)\n");
    let rows = agent.messages_in();
    assert_eq!(rows.len(), 2);
    for (row, text) in rows.iter().zip(["one", "two"]) {
        let content: Value = serde_json::from_str(&row.content).unwrap();
        assert_eq!((&content["text"], &content["sender"]), (&json!(text), &json!("Alice")));
        let path = content["attachments"][0]["localPath"].as_str().expect("a path");
        assert_eq!(path, format!("inbox/{}/large.bin", row.id));
        assert_eq!(fs::read(agent.folder().join(path)).unwrap(), vec![7; 3_000_000]);
    }
    assert_can_be_taken_over(&agent);
}

#[test]
fn every_part_of_a_row_can_be_said() {
    let (data, agent) = world();
    let arguments = [
        "sessions",
        "send",
        "sess-a",
        "--content",
        r#"{"x": 1}"#,
        "--kind",
        "webhook",
        "--trigger",
        "false",
        "--on-wake",
        "--after",
        "2030-01-01T00:00:00Z",
        "--from",
        "discord",
        "discord:7",
        "t-9",
        "--json",
    ];
    let sent = run(&data, &arguments).expect_code(0).json();
    assert_eq!((&sent["seq"], &sent["is_new"]), (&json!(2), &json!(true)));
    let row = agent.messages_in().remove(0);
    assert_eq!((row.kind.as_str(), row.content.as_str()), ("webhook", r#"{"x":1}"#));
    assert_eq!((row.trigger, row.on_wake), (Some(0), Some(1)));
    assert_eq!(row.process_after.as_deref(), Some("2030-01-01T00:00:00.000Z"));
    let chat = [row.channel_type, row.platform_id, row.thread_id].map(Option::unwrap_or_default);
    assert_eq!(chat, ["discord", "discord:7", "t-9"]);
}

#[test]
fn what_is_wrong_with_a_message_is_said() {
    let (data, agent) = world();
    configure(&data, "[limits]\nattachment_bytes = 10\n");
    let large = file(&data, "large.bin", &[7; 11]);
    let check = |data: &DataDir| {
        let refused = |arguments: &[&str], code: i32, words: &str| {
            let ended = run(data, arguments).expect_code(code);
            assert!(ended.stderr.contains(words), "{ended:?}");
        };
        refused(
            &["sessions", "send", "nobody", "x"],
            1,
            "there is no session \"nobody\"; `nanorelay sessions create`",
        );
        refused(&["sessions", "send", "../x", "x"], 2, "not a plain file name");
        refused(&["sessions", "send", "sess-a"], 2, "TEXT");
        refused(&["sessions", "send", "sess-a", "--content", "hello"], 1, "content is not JSON");
        refused(
            &["sessions", "send", "sess-a", "x", "--attach", "/nowhere/x"],
            1,
            "cannot attach /nowhere/x",
        );
        refused(&["sessions", "send", "sess-a", "x", "--attach", "/"], 1, "cannot attach /");
        let large = large.to_str().unwrap();
        refused(&["sessions", "send", "sess-a", "x", "--attach", large], 1, "has 11 bytes, the limit is 10");
        refused(
            &["sessions", "create", "--agent-group", "ag-none"],
            1,
            "there is no agent group \"ag-none\"",
        );
        refused(
            &["sessions", "create", "--agent-group", "ag", "--chat", "x", "y"],
            1,
            "there is no chat \"y\"",
        );
        refused(&["questions", "answer", "q-1", "Yes"], 1, "no question \"q-1\" waits");
    };
    check(&data);
    let host = serve(&data);
    check(&data);
    stop(host);
    assert!(agent.messages_in().is_empty());
}

#[test]
fn a_host_that_dies_between_files_and_row_leaves_neither() {
    let (data, agent) = world();
    let note = file(&data, "note.txt", b"note");
    let send = || {
        nanorelay(&["sessions", "send", "sess-a", "see", "--id", "m-1", "--attach"])
            .arg(&note)
            .data(data.path())
    };
    let folder = agent.folder().join("inbox/m-1");
    // On a running host, and in the command itself.
    let mut host =
        nanorelay(&["serve"]).data(data.path()).env(crash_point::VARIABLE, "inbox_files_copied:1").start();
    host.wait_for_log("ready");
    send().run().expect_code(69);
    assert!(host.finish().was_killed());
    assert!(folder.join("note.txt").exists() && agent.messages_in().is_empty(), "it died in between");
    run(&data, &["drain"]).expect_code(0);
    assert!(!folder.exists(), "the next host removes what has no row");

    assert!(send().env(crash_point::VARIABLE, "inbox_files_copied:1").run().was_killed());
    assert!(folder.exists() && agent.messages_in().is_empty());
    send().run().expect_code(0);
    assert_eq!(agent.messages_in().len(), 1);
    run(&data, &["drain"]).expect_code(0);
    assert!(folder.join("note.txt").exists(), "what has its row stays");

    let mut host =
        nanorelay(&["serve"]).data(data.path()).env(crash_point::VARIABLE, "inbound_committed:1").start();
    host.wait_for_log("ready");
    let second = ["sessions", "send", "sess-a", "again", "--id", "m-2", "--attach"];
    nanorelay(&second).arg(&note).data(data.path()).run().expect_code(69);
    assert!(host.finish().was_killed());
    assert_eq!(
        run(&data, &["sessions", "send", "sess-a", "again", "--id", "m-2"]).expect_code(0).stdout,
        "was sent before: m-2 (#4)\n"
    );
    run(&data, &["drain"]).expect_code(0);
    assert!(agent.folder().join("inbox/m-2/note.txt").exists());
}

#[test]
fn a_session_is_made_once_and_can_be_used_at_once() {
    let (data, _) = world();
    data.agent_group("ag-peer").allow_agent("ag", "ag-peer");
    data.allow_channel("ag", "discord", "discord:ops");
    let create = |chat: &str| {
        let arguments =
            ["sessions", "create", "--agent-group", "ag", "--chat", "slack", chat, "--add-chat", "--json"];
        run(&data, &arguments).expect_code(0).json()
    };
    let host = serve(&data);
    let made = create("slack:new");
    assert_eq!(made["is_new"], true);
    let id = made["session_id"].as_str().unwrap().to_owned();
    assert_eq!(create("slack:new"), json!({ "session_id": id, "agent_group_id": "ag", "is_new": false }));
    run(&data, &["sessions", "send", &id, "hello", "--id", "m-1"]).expect_code(0);
    let agent = data.agent(&id);
    assert_eq!(agent.messages_in()[0].platform_id.as_deref(), Some("slack:new"));
    let reply = agent.row(agent.text_row("hi").in_reply_to("m-1"));
    let sink = Sink::of(data.path());
    assert_eq!(sink.wait_for(1)[0]["id"], reply.as_str(), "its folder is watched");
    stop(host);
    assert_eq!(create("slack:new")["is_new"], false);
    let text = |sql: &str| -> String {
        agent.inbound().query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    };
    assert_eq!(
        text("SELECT channel_type || ' ' || platform_id FROM session_routing WHERE id = 1"),
        "slack slack:new"
    );
    assert_eq!(
        text(
            "SELECT group_concat(name || '=' || type || ':' || coalesce(platform_id, agent_group_id), ' ') FROM destinations"
        ),
        "ag-peer=agent:ag-peer mg-discord-discord:ops=channel:discord:ops"
    );
    for name in ["outbox", "inbox"] {
        assert!(agent.folder().join(name).is_dir());
    }
    assert_eq!(
        agent.outbound().query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0)).unwrap(),
        "delete"
    );
    assert_can_be_taken_over(&agent);
    let second = create("slack:other");
    assert!(second["is_new"] == true && second["session_id"] != id.as_str(), "on a stopped host, too");
}

#[test]
fn a_session_that_is_half_made_is_completed_and_nothing_of_it_is_overwritten() {
    let (data, _) = world();
    let create = || nanorelay(&["sessions", "create", "--agent-group", "ag", "--json"]).data(data.path());
    assert!(create().env(crash_point::VARIABLE, "session_row_written:1").run().was_killed());
    let made = create().run().expect_code(0).json();
    assert_eq!(made["is_new"], false, "its row was there");
    let agent = data.agent(made["session_id"].as_str().unwrap());
    let outbound = agent.folder().join("outbound.db");
    agent.receive("in-1", "precious");
    fs::write(&outbound, "").unwrap();
    create().run().expect_code(0);
    assert_eq!(agent.messages_in().len(), 1);
    agent.row(RowSpec::text("slack", "slack:C1", "the file has its tables again"));
}

#[test]
fn a_question_is_listed_and_answered_once() {
    let (data, agent) = world();
    let ask = |question: &str| {
        let content = json!({
            "type": "ask_question", "questionId": question, "title": "Deploy?", "question": "Now?",
            "options": [{ "label": "Go", "selectedLabel": "Gone", "value": "yes" }, { "label": "No", "value": "no" }],
        });
        agent.row(RowSpec::new("chat-sdk", content.to_string()).to("slack", "slack:C1", None));
    };
    ask("q-1");
    ask("q-2");
    run(&data, &["drain"]).expect_code(0);
    let listed = run(&data, &["questions", "list", "--json"]).expect_code(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!((&listed[0]["question_id"], &listed[0]["options"]), (&json!("q-1"), &json!(["yes", "no"])));
    let wrong = run(&data, &["questions", "answer", "q-1", "maybe"]).expect_code(1);
    assert!(wrong.stderr.contains("\"maybe\" is no option of this question; it has yes, no"), "{wrong:?}");
    run(&data, &["questions", "answer", "q-1", "yes", "--user", "U1"]).expect_code(0);
    run(&data, &["questions", "answer", "q-1", "no"]).expect_code(1);
    let host = serve(&data);
    run(&data, &["questions", "answer", "q-2", "no"]).expect_code(0);
    assert_eq!(
        run(&data, &["questions", "list"]).expect_code(3).stdout.lines().count(),
        1,
        "only the headline"
    );
    stop(host);
    let rows = agent.messages_in();
    assert_eq!(rows.len(), 2, "one answer for each question");
    let content: Value = serde_json::from_str(&rows[0].content).unwrap();
    assert_eq!((&content["selectedOption"], &content["userId"]), (&json!("yes"), &json!("U1")));
    assert!(rows[0].content.contains(r#""questionId":"q-1""#), "containers find it as text");
}
