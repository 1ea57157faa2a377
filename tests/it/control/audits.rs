//! `nanorelay audit`: changes by commands, on a running and on a stopped host.

use super::server::Served;
use crate::support::program::{Finished, nanorelay};
use nanorelay_actors::testing::{DataDir, SessionSpec};
use serde_json::{Value, json};

fn run(data: &DataDir, arguments: &[&str]) -> Finished {
    nanorelay(arguments).data(data.path()).run()
}

fn audit(data: &DataDir) -> Vec<Value> {
    let listed = run(data, &["audit", "list", "--json"]).expect_code(0).json();
    listed.as_array().expect("a list").clone()
}

fn world() -> DataDir {
    let data = DataDir::new();
    data.session(SessionSpec::new("ag").id("sess-1").chat("slack", "slack:C1"));
    data
}

#[test]
fn what_a_command_changes_is_noted_with_its_user_and_its_reason() {
    let host = Served::start_on(world());
    let who = format!("local user {}", rustix::process::getuid().as_raw());
    run(&host.data, &["pause", "session", "sess-1", "--reason", "moving"]).expect_code(0);
    run(&host.data, &["resume", "session", "sess-1", "--reason", "moved"]).expect_code(0);
    run(&host.data, &["sessions", "send", "no-such", "x"]).expect_code(1);
    let rows = audit(&host.data);
    let told = |row: &Value| {
        ["who", "via", "action", "target", "outcome"]
            .map(|name| row[name].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(told(&rows[2]), [&who, "socket", "pause", "session sess-1", "done"]);
    assert_eq!(told(&rows[1]), [&who, "socket", "resume", "session sess-1", "done"]);
    assert_eq!((&rows[2]["reason"], &rows[1]["reason"]), (&json!("moving"), &json!("moved")));
    assert_eq!(rows[1]["after"], json!({ "changed": 1 }));
    assert_eq!(told(&rows[0])[2..], ["session.message", "no-such", "failed"]);
    assert!(rows[0]["error"].is_string());
    let table = run(&host.data, &["audit", "list", "--action", "resume"]).expect_code(0).stdout;
    assert!(table.contains("moved") && !table.contains("moving"), "{table}");
    host.stop();
}

#[test]
fn commands_on_a_stopped_host_are_noted_too_and_make_no_ledger_for_nothing() {
    let data = world();
    run(&data, &["resume", "channel", "slack"]).expect_code(3);
    run(&data, &["audit", "list"]).expect_code(3);
    assert!(!data.path().join("nanorelay.db").exists());
    run(&data, &["pause", "channel", "slack", "--reason", "before the first start"]).expect_code(0);
    run(&data, &["resume", "channel", "slack"]).expect_code(0);
    let rows = audit(&data);
    assert_eq!((&rows[1]["via"], &rows[1]["action"]), (&json!("command"), &json!("pause")));
    assert_eq!(
        (&rows[1]["reason"], &rows[0]["after"]),
        (&json!("before the first start"), &json!({ "changed": 1 }))
    );
    let host = Served::start_on(data);
    assert_eq!(audit(&host.data), rows, "a running host lists the same");
    host.stop();
}
