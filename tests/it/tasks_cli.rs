//! `nanorelay tasks` as a process, on a host that is stopped and on one that runs.

use crate::serve::configure;
use crate::support::program::{Finished, nanorelay};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A data directory with a session of a tenant in Berlin, in which a host has scheduled two tasks.
fn world() -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-acme").id("sess-a").chat("slack", "slack:C1"));
    let tenant = "[tenants.acme]\nagent_groups = [\"ag-acme\"]\ntimezone = \"Europe/Berlin\"\n";
    configure(&data, &format!("{tenant}{}", Sink::table("*")));
    for (task, fields) in [
        ("daily", json!({ "recurrence": "30 2 * * *", "missedRuns": "skip" })),
        ("once", json!({ "processAfter": "2099-01-01T00:00:00Z" })),
    ] {
        let mut action = json!({ "action": "schedule_task", "taskId": task, "prompt": "water the plants" });
        action.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        agent.system(&action);
    }
    run(&data, &["drain", "--json"]).expect_code(0);
    (data, agent)
}

fn run(data: &DataDir, arguments: &[&str]) -> Finished {
    nanorelay(arguments).data(data.path()).run()
}

fn tasks(data: &DataDir, code: i32, filter: &[&str]) -> Value {
    run(data, &[&["tasks", "list", "--json"], filter].concat()).expect_code(code).json()
}

fn statuses(data: &DataDir) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let listed = tasks(data, 0, &[]);
    listed.as_array().unwrap().iter().map(|task| (text(&task["run_id"]), text(&task["status"]))).collect()
}

/// All that is the same on both kinds of host.
fn check_all(data: &DataDir) {
    let listed = tasks(data, 0, &["--tenant", "acme"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let daily = &listed[0];
    let found = ["session_id", "series_id", "tenant", "timezone", "missed_runs", "recurrence", "status"];
    assert_eq!(
        found.map(|key| daily[key].as_str().unwrap_or_default()),
        ["sess-a", "daily", "acme", "Europe/Berlin", "skip", "30 2 * * *", "pending"]
    );
    assert_eq!(tasks(data, 3, &["--tenant", "other"]), json!([]));
    assert_eq!(tasks(data, 3, &["--session", "sess-b"]), json!([]));
    let shown = run(data, &["tasks", "show", "sess-a", "once"]).expect_code(0).stdout;
    assert!(shown.contains("next run      2099-01-01T00:00:00.000Z\n"), "{shown}");
    run(data, &["tasks", "show", "sess-a", "other"]).expect_code(3);
    let next = run(data, &["tasks", "next", "sess-a", "daily", "-n", "3", "--json"]).expect_code(0).json();
    assert_eq!((next.as_array().unwrap().len(), &next[0]["at"]), (3, &daily["next_run"]));

    assert_eq!(run(data, &["tasks", "pause", "sess-a", "daily"]).expect_code(0).stdout, "paused\n");
    let pair = |run: &str, status: &str| (run.to_owned(), status.to_owned());
    assert_eq!(statuses(data), [pair("daily", "paused"), pair("once", "pending")]);
    assert_eq!(tasks(data, 0, &["--status", "paused"])[0]["series_id"], "daily");
    run(data, &["tasks", "resume", "sess-a", "daily"]).expect_code(0);
    assert_eq!(statuses(data)[0], pair("daily", "pending"));
    run(data, &["tasks", "run-now", "sess-a", "daily"]).expect_code(0);
    let extra = statuses(data);
    assert!(extra.len() == 3 && extra[0].0.starts_with("daily+"), "{extra:?}");
    let json = run(data, &["tasks", "cancel", "sess-a", "daily", "--json"]).expect_code(0).json();
    assert_eq!(json, json!({ "changed": 2 }));
    assert_eq!(statuses(data), [pair("once", "pending")]);
    let none = run(data, &["tasks", "cancel", "sess-a", "daily"]).expect_code(3);
    assert_eq!(none.stdout, "no such task is still to run\n");
    let wrong = run(data, &["tasks", "cancel", "sess-b", "daily"]).expect_code(1);
    assert!(wrong.stderr.contains("there is no session sess-b"), "{wrong:?}");
}

#[test]
fn tasks_of_a_stopped_host_are_listed_and_changed() {
    let (data, _) = world();
    check_all(&data);
}

#[test]
fn tasks_of_a_running_host_are_listed_and_changed_through_its_socket() {
    let (data, _) = world();
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    while tasks_code(&data) != Some(0) {}
    check_all(&data);
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}

/// How a list ends: 3 until the host has looked at its sessions.
fn tasks_code(data: &DataDir) -> Option<i32> {
    run(data, &["tasks", "list"]).code()
}

#[test]
fn the_history_of_a_task_is_listed_with_its_lateness() {
    let (data, agent) = world();
    agent
        .inbound()
        .execute("UPDATE messages_in SET process_after = '2026-11-22T09:00:00Z', recurrence = NULL WHERE id = 'daily'", [])
        .unwrap();
    agent.ack("daily", "failed");
    agent.outbound().execute("UPDATE processing_ack SET status_changed = '2026-11-22 09:01:05'", []).unwrap();
    run(&data, &["drain", "--json"]).expect_code(0);
    let history = run(&data, &["tasks", "history", "sess-a", "daily", "--json"]).expect_code(0).json();
    let found =
        ["result", "scheduled_at", "ended_at"].map(|key| history[0][key].as_str().unwrap_or_default());
    assert_eq!(found, ["failed", "2026-11-22T09:00:00.000Z", "2026-11-22T09:01:05.000Z"]);
    assert_eq!(history[0]["late_ms"], 65_000);
    let table = run(&data, &["tasks", "history", "sess-a"]).expect_code(0).stdout;
    assert!(table.contains("failed") && table.contains("1 min 5 s"), "{table}");
    assert_eq!(
        run(&data, &["tasks", "history", "sess-a", "--result", "ok", "--json"]).expect_code(3).json(),
        json!([])
    );
    let shown = run(&data, &["tasks", "show", "sess-a", "daily", "--json"]).expect_code(0).json();
    assert_eq!((&shown["tasks"], &shown["runs"][0]["result"]), (&json!([]), &json!("failed")), "it is over");
}

#[test]
fn any_expression_can_be_asked_when_it_runs_next() {
    let next = |arguments: &[&str]| nanorelay(&[&["tasks", "next", "--cron"], arguments].concat()).run();
    let arguments =
        ["30 2 * * *", "--timezone", "Europe/Berlin", "--after", "2027-03-27T12:00:00Z", "-n", "2"];
    let expected = "LOCAL                           UTC\n\
                    Sun 2027-03-28 03:30:00 +02:00  2027-03-28T01:30:00.000Z\n\
                    Mon 2027-03-29 02:30:00 +02:00  2027-03-29T00:30:00.000Z\n";
    assert_eq!(next(&arguments).expect_code(0).stdout, expected);
    let wrong = next(&["every day"]).expect_code(2);
    assert!(wrong.stderr.contains("\"every day\" is not a cron expression"), "{wrong:?}");
    assert!(next(&["@daily", "--timezone", "Mars"]).expect_code(2).stderr.contains("IANA"));
}
