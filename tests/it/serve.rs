//! `nanorelay serve` as a process: what it delivers, how it ends, and who else may run.

use crate::support::program::{PATIENCE, Program, nanorelay};
use crate::support::receiver::{Receiver, Reply};
use crate::support::sink::Sink;
use nanorelay_actors::relay::StoppedHost;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};

/// Writes the configuration of a data directory.
pub fn configure(data: &DataDir, text: &str) {
    fs::write(data.path().join("nanorelay.toml"), text).unwrap();
}

/// A data directory with one session and a jsonl channel for everything.
fn world() -> (DataDir, TestAgent, Sink) {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    configure(&data, &Sink::table("*"));
    let sink = Sink::of(data.path());
    (data, agent, sink)
}

fn serve(data: &DataDir) -> Program {
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    host
}

#[test]
fn rows_committed_while_it_runs_are_delivered_and_a_restart_sends_nothing_again() {
    let (data, agent, sink) = world();
    let mut written = vec![agent.text("before the start")];
    for (round, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        let host = serve(&data);
        written.extend((0..3).map(|n| agent.text(&format!("{round}: {n}"))));
        sink.wait_for(written.len());
        host.signal(signal);
        let ended = host.finish().expect_code(0);
        assert_eq!(ended.stdout, "", "results and the log are kept apart");
        assert!(!data.path().join("nanorelay.sock").exists(), "the socket is removed");
        assert_eq!(agent.delivered().len(), written.len(), "the agent can see what was delivered");
    }
    assert_eq!(sink.ids(), written);
}

#[test]
fn a_directory_of_the_first_hosts_is_served() {
    let data = DataDir::seed_era();
    let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
    configure(&data, &Sink::table("slack"));
    let sink = Sink::of(data.path());
    let host = serve(&data);
    let ids = vec![agent.text("one"), agent.file("two", "a.txt", b"abc")];
    let lines = sink.wait_for(2);
    assert_eq!(lines[1]["files"][0]["size"], 3);
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    assert_eq!(sink.ids(), ids);
    assert_eq!(agent.delivered().len(), 2);
}

#[test]
fn a_session_that_is_made_while_it_runs_is_served() {
    let (data, _, sink) = world();
    let host = serve(&data);
    let late = data.session(SessionSpec::new("ag-late").chat("discord", "discord:1"));
    let id = late.text("hello");
    assert_eq!(sink.wait_for(1)[0]["id"], id.as_str());
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}

#[test]
fn a_send_in_flight_ends_before_the_host_does() {
    let (data, agent, _) = world();
    let receiver = Receiver::start(|_, _| Reply::status(200).after(Duration::from_millis(300)));
    configure(&data, &receiver.table("slack"));
    let host = serve(&data);
    let id = agent.text("slow");
    receiver.wait_for(1);
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    let delivered = agent.delivered();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].message_out_id, id);
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (data, agent, _) = world();
        let receiver = Receiver::start(|_, _| Reply::status(200).after(PATIENCE));
        configure(&data, &receiver.table("slack"));
        let mut host = serve(&data);
        agent.text("hangs");
        receiver.wait_for(1);
        host.signal(signal);
        host.wait_for_log("stopping");
        host.signal(signal);
        let before = Instant::now();
        host.finish().expect_code(code);
        assert!(before.elapsed() < Duration::from_secs(5), "it did not wait for the send");
    }
}

#[test]
fn the_deadline_of_the_shutdown_is_kept() {
    let (data, agent, _) = world();
    let receiver = Receiver::start(|_, _| Reply::status(200).after(PATIENCE));
    configure(&data, &format!("{}on_ambiguous = \"hold\"\n", receiver.table("slack")));
    let host = nanorelay(&["serve"]).data(data.path()).env("NANORELAY__SHUTDOWN__DEADLINE", "100ms");
    let mut host = host.start();
    host.wait_for_log("ready");
    let id = agent.text("hangs");
    receiver.wait_for(1);
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    let report = nanorelay(&["drain", "--json"]).data(data.path()).run().expect_code(3).json();
    assert_eq!(report["ambiguous"], 1, "the host does not know whether {id} was sent");
    assert_eq!(receiver.count(), 1);
}

#[test]
fn a_host_waits_for_a_command_that_has_the_directory_for_a_moment() {
    let (data, agent, sink) = world();
    let id = agent.text("hello");
    let command = StoppedHost::open(data.path()).unwrap();
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("waiting for the data directory");
    drop(command);
    host.wait_for_log("ready");
    sink.wait_for(1);
    assert_eq!(sink.ids(), [id]);
}

#[test]
fn a_second_host_is_told_who_the_first_is() {
    let (data, agent, sink) = world();
    let first = serve(&data);
    for command in [&["serve"][..], &["drain", "--json"]] {
        let second = nanorelay(command).data(data.path()).run().expect_code(75);
        let expected = format!("(process {})", first.id());
        assert!(second.stderr.contains("another host runs on"), "{second:?}");
        assert!(second.stderr.contains(&expected), "{second:?}");
        assert_eq!(second.stdout, "");
    }
    // The first one and its socket are as they were.
    agent.text("still here");
    sink.wait_for(1);
    nanorelay(&["deliveries", "list", "--json"]).data(data.path()).run().expect_code(0);
    first.signal(Signal::TERM);
    first.finish().expect_code(0);
}

#[test]
fn a_killed_host_leaves_nothing_in_the_way_of_the_next() {
    let (data, agent, sink) = world();
    assert!(serve(&data).kill().was_killed());
    assert!(data.path().join("nanorelay.sock").exists());
    let host = serve(&data);
    agent.text("one");
    sink.wait_for(1);
    let listed = nanorelay(&["deliveries", "list", "--json"]).data(data.path()).run().expect_code(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}

#[test]
fn a_folder_that_is_no_data_directory_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["serve"][..], &["drain", "--json"], &["deliveries", "list", "--json"]] {
        let refused = nanorelay(command).data(folder.path()).run().expect_code(1);
        assert!(refused.stderr.contains("is not a NanoClaw data directory"), "{refused:?}");
        assert_eq!(refused.stdout, "");
    }
    let missing = folder.path().join("missing");
    let refused = nanorelay(&["serve"]).data(&missing).run().expect_code(1);
    assert!(refused.stderr.contains("is not a NanoClaw data directory"), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn without_a_channel_messages_wait_and_that_is_said() {
    let (data, agent, _) = world();
    configure(&data, "");
    let id = agent.text("to nowhere");
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("no channel is configured, messages wait until there is one");
    assert_eq!(host.wait_for_log("attempt failed")["msg_id"], id.as_str());
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    assert!(agent.delivered().is_empty());
}

#[test]
fn console_lines_are_the_only_standard_output() {
    let (data, agent, _) = world();
    configure(&data, "[channels.\"*\"]\nkind = \"console\"\n");
    let mut host = serve(&data);
    agent.text("to be read");
    host.wait_for_output("to be read");
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
}
