//! `nanorelay pause`, `resume` and `pauses` as a process, on a host that is stopped and on one that runs; and what a
//! receiver says about its limit.

use crate::serve::configure;
use crate::support::program::{Finished, nanorelay};
use crate::support::receiver::{Receiver, Reply};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use rustix::process::Signal;
use serde_json::{Value, json};

fn world() -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    configure(&data, &Sink::table("*"));
    (data, agent)
}

fn run(data: &DataDir, arguments: &[&str]) -> Finished {
    nanorelay(arguments).data(data.path()).run()
}

fn pauses(data: &DataDir, code: i32) -> Value {
    run(data, &["pauses", "--json"]).expect_code(code).json()
}

fn drain(data: &DataDir, code: i32) -> Value {
    run(data, &["drain", "--json"]).expect_code(code).json()
}

#[test]
fn a_stopped_host_is_paused_listed_and_resumed() {
    let (data, agent) = world();
    assert_eq!(pauses(&data, 3), json!([]), "no host ever ran here");
    let chat = ["destination", "slack", "slack:C1"];
    let paused = run(&data, &[&["pause"], &chat[..], &["--reason", "moving house"]].concat()).expect_code(0);
    assert_eq!(paused.stdout, "paused until it is resumed\n");
    let listed = pauses(&data, 0);
    assert_eq!(
        (
            &listed[0]["scope"],
            &listed[0]["name"],
            &listed[0]["cause"],
            &listed[0]["until"],
            &listed[0]["reason"]
        ),
        (
            &json!("destination"),
            &json!(["slack", "slack:C1"]),
            &json!("operator"),
            &json!(null),
            &json!("moving house")
        )
    );
    let table = run(&data, &["pauses"]).expect_code(0).stdout;
    assert!(table.starts_with("SCOPE") && table.contains("moving house"), "{table}");
    agent.text("hello");
    let report = drain(&data, 3);
    assert_eq!((&report["delivered"], &report["retrying"]), (&json!(0), &json!(1)));
    let resumed = run(&data, &[&["resume"], &chat[..], &["--json"]].concat()).expect_code(0);
    assert_eq!(resumed.stdout, "{\"resumed\":1}\n");
    assert_eq!(run(&data, &[&["resume"], &chat[..]].concat()).expect_code(3).stdout, "nothing was paused\n");
    assert_eq!(drain(&data, 0)["delivered"], 1);
}

#[test]
fn a_running_host_is_paused_and_resumed_through_its_socket() {
    let (data, agent) = world();
    let sink = Sink::of(data.path());
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    agent.text("one");
    sink.wait_for(1);
    run(&data, &["pause", "channel", "slack", "--for", "1h"]).expect_code(0);
    assert_eq!(host.wait_for_log("paused")["scope"], "channel slack");
    let id = agent.text("two");
    // The host has seen it and keeps it.
    while run(&data, &["deliveries", "show", agent.session_id(), &id, "--json"]).code() != Some(0) {}
    assert!(pauses(&data, 0)[0]["until"].is_string());
    assert_eq!(sink.ids().len(), 1);
    run(&data, &["resume", "channel", "slack"]).expect_code(0);
    assert_eq!(sink.wait_for(2)[1]["id"], id.as_str());
    let wrong = run(&data, &["pause", "channel", "slack", "--until", "2020-01-01T00:00:00Z"]).expect_code(1);
    assert!(wrong.stderr.contains("lies in the past"), "{wrong:?}");
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}

#[test]
fn scopes_that_are_none_are_wrong_usage() {
    let (data, _) = world();
    run(&data, &["pause", "planet", "earth"]).expect_code(2);
    run(&data, &["pause", "destination", "slack"]).expect_code(2);
    run(&data, &["pause", "session", "../x"]).expect_code(2);
    run(&data, &["resume", "channel", "slack", "--for", "1h"]).expect_code(2);
}

#[test]
fn a_receiver_that_says_how_much_it_still_takes_is_not_asked_for_more() {
    let (data, agent) = world();
    let other = data.session(SessionSpec::new("ag").chat("slack", "slack:C2"));
    let receiver = Receiver::start(|_, _| Reply::status(200).header("ratelimit", "\"default\";r=0;t=3600"));
    configure(&data, &receiver.table("slack"));
    agent.text("the last one");
    assert_eq!(drain(&data, 0)["delivered"], 1);
    other.text("too much");
    assert_eq!(drain(&data, 3)["retrying"], 1, "also after a restart");
    assert_eq!(receiver.count(), 1);
    run(&data, &["resume", "channel", "slack"]).expect_code(3);
    run(&data, &["resume", "channel", "slack", "--platform"]).expect_code(0);
    assert_eq!(drain(&data, 0)["delivered"], 1);
}
