//! What becomes of agents when their host goes, however it goes: the program itself as a process.

use super::STUBBORN;
use crate::serve::configure;
use crate::support::agent_processes;
use crate::support::program::{PATIENCE, Program, nanorelay};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A data directory whose agents run this script.
fn world(script: &str, stop_grace: &str) -> (DataDir, TestAgent) {
    let data = DataDir::new();
    let session = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1").stopped());
    run_script(&data, script, stop_grace);
    (data, session)
}

fn run_script(data: &DataDir, script: &str, stop_grace: &str) {
    let script = script.replace('\'', "\\u0027");
    let runtime = format!(
        "[runtime]\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_grace = \"{stop_grace}\"\n"
    );
    configure(data, &format!("{runtime}{}", Sink::table("*")));
}

fn serve(data: &DataDir) -> Program {
    let mut host = nanorelay(&["serve"]).data(data.path()).start();
    host.wait_for_log("ready");
    host
}

#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn log(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("nanorelay-agents/ag-main/sess-a/agent.log")).unwrap_or_default()
}

#[test]
fn agents_end_with_their_host() {
    let (data, session) = world(STUBBORN, "200ms");
    session.receive("in-1", "hello");
    let host = serve(&data);
    until("the agent runs", || agent_processes::of(data.path()).len() == 3);
    let listed = nanorelay(&["agents", "list", "--json"]).data(data.path()).run().expect_code(0).json();
    assert_eq!((&listed[0]["session_id"], &listed[0]["state"]), (&"sess-a".into(), &"running".into()));
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    assert_eq!(agent_processes::of(data.path()), agent_processes::NONE);
    nanorelay(&["agents", "list"]).data(data.path()).run().expect_code(69);
}

#[test]
fn no_agent_outlives_a_killed_host_and_none_runs_beside_one_of_the_next() {
    let (data, session) = world(STUBBORN, "200ms");
    session.receive("in-1", "hello");
    let mut before = Vec::new();
    for round in 0..3 {
        let host = serve(&data);
        until("a new agent runs", || {
            let now = agent_processes::of(data.path());
            now.len() == 3 && now.iter().all(|process| !before.contains(process))
        });
        before = agent_processes::of(data.path());
        if round < 2 {
            assert!(host.kill().was_killed());
        } else {
            host.signal(Signal::TERM);
            host.finish().expect_code(0);
        }
    }
    // Each run has ended, with all of its processes, before the next one began.
    let log = log(data.path());
    let marks = log.lines().filter(|line| line.starts_with("--- ")).map(|line| line.contains("started"));
    assert_eq!(marks.collect::<Vec<_>>(), [true, false].repeat(3), "{log}");
}

#[test]
fn agents_whose_host_and_keepers_were_killed_are_ended_by_the_next_host() {
    let (data, session) = world(STUBBORN, "10m");
    session.receive("in-1", "hello");
    let host = serve(&data);
    until("the agent runs", || agent_processes::of(data.path()).len() == 3);
    let listed = nanorelay(&["agents", "list", "--json"]).data(data.path()).run().expect_code(0).json();
    let agent = i32::try_from(listed[0]["process_id"].as_i64().unwrap()).unwrap();
    let keeper = agent_processes::parent_of(agent).unwrap();
    assert!(host.kill().was_killed());
    kill_process(Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
    let left = agent_processes::of(data.path());
    assert_eq!(left.len(), 3, "nobody is there to end them");
    run_script(&data, STUBBORN, "200ms");
    let mut next = nanorelay(&["serve"]).data(data.path()).start();
    let ended = next.wait_for_log("processes of a former host's agents were ended");
    assert_eq!(ended["count"], 3);
    until("they are gone", || agent_processes::of(data.path()).iter().all(|process| !left.contains(process)));
    next.signal(Signal::TERM);
    next.finish().expect_code(0);
    assert_eq!(agent_processes::of(data.path()), agent_processes::NONE);
}

#[test]
fn a_wrong_runtime_is_refused_at_the_start() {
    let (data, _) = world("true", "1s");
    configure(&data, "[runtime]\nkind = \"command\"\n");
    let refused = nanorelay(&["serve"]).data(data.path()).run().expect_code(78);
    assert!(refused.stderr.contains("runtime.command: is empty; give the program"), "{refused:?}");
}
