//! Agents as processes of this machine: they are woken, bounded, stopped, and leave nothing behind.

mod docker;
mod hosts;
mod storm;

use crate::support::agent_processes::{self, runs, shell};
use crate::support::host::TestHost;
use crate::support::wait::{settled, shown, until, within};
use nanorelay_actors::relay::Relay;
use nanorelay_actors::runtime::command::{self, CommandSettings};
use nanorelay_actors::runtime::keeper::order::AgentLimits;
use nanorelay_actors::runtime::{AgentRecord, AgentState};
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// A script that forks twice, the second time into a session of its own, and does not end when it is asked to.
const STUBBORN: &str = "trap '' TERM; sleep 600 & setsid sleep 600 & wait; wait; sleep 600";

struct World {
    data: DataDir,
    session: TestAgent,
    host: TestHost,
}

fn world() -> World {
    let data = DataDir::new();
    let session = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1").stopped());
    let mut host = TestHost::new(data.path());
    host.channel("slack");
    host.settings.sweep_interval = Duration::from_millis(50);
    World { data, session, host }
}

fn echo(idle_exit: &str) -> CommandSettings {
    runs(&[env!("CARGO_BIN_EXE_nanorelay"), "agent-echo", "--idle-exit", idle_exit])
}

impl World {
    async fn start(&self, settings: CommandSettings) -> Relay {
        self.host.start_with(|builder| builder.runtime(Arc::new(command::runtime(settings)))).await
    }

    fn container_status(&self) -> String {
        let read = "SELECT container_status FROM sessions WHERE id = 'sess-a'";
        self.data.central().query_row(read, [], |row| row.get(0)).unwrap()
    }

    fn place(&self) -> PathBuf {
        self.data.path().join("nanorelay-agents/ag-main/sess-a")
    }

    fn processes(&self) -> Vec<i32> {
        agent_processes::of(self.data.path())
    }

    /// Waits until the agent of the session has so many processes.
    async fn has_processes(&self, count: usize) {
        until("the processes of the agent", || self.processes().len() == count).await;
    }
}

/// Waits until the session's agent is as wanted.
async fn agent(relay: &Relay, is_wanted: impl Fn(&AgentRecord) -> bool) -> AgentRecord {
    let look = async {
        loop {
            if let Some(found) = relay.agents().await.into_iter().find(&is_wanted) {
                return found;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    within("the state of an agent", look).await
}

async fn running(relay: &Relay) -> i32 {
    let found = agent(relay, |agent| agent.state == AgentState::Running && agent.process_id.is_some()).await;
    found.process_id.unwrap()
}

/// Kills a process, if it has not just ended.
fn kill(process: i32) {
    match kill_process(Pid::from_raw(process).unwrap(), Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("process {process} cannot be killed: {error}"),
    }
}

#[actix::test]
async fn the_agent_in_python_answers_as_a_process_of_the_host() {
    let world = world();
    world.session.receive("in-1", "hello");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/agent.py");
    let relay = world.start(runs(&["python3", script])).await;
    shown(&world.host.channels()["slack"], 1).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn a_message_wakes_an_agent_that_answers_and_leaves() {
    let world = world();
    world.session.receive("in-1", "hello");
    let relay = world.start(echo("300ms")).await;
    shown(&world.host.channels()["slack"], 1).await;
    until("v2.db says that it runs, or ran", || world.processes().is_empty()).await;
    until("v2.db says that it is gone", || world.container_status() == "stopped").await;
    until("the acknowledgement is applied", || {
        world.session.messages_in()[0].status.as_deref() == Some("completed")
    })
    .await;
    assert!(relay.agents().await.is_empty());
    // The next message finds it gone, and wakes another one.
    world.session.receive("in-2", "again");
    shown(&world.host.channels()["slack"], 2).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    world.host.channels()["slack"].assert_exactly_once(&["re-in-1", "re-in-2"]);
    let log = fs::read_to_string(world.place().join("agent.log")).unwrap();
    assert_eq!(log.matches("started as process").count(), 2, "{log}");
    assert_eq!(world.container_status(), "stopped");
}

#[actix::test]
async fn v2_db_says_that_an_agent_runs_while_it_does_and_is_corrected_at_the_start() {
    let world = world();
    let left = "UPDATE sessions SET container_status = 'running'";
    world.data.central().execute(left, []).unwrap();
    let relay = world.start(echo("1h")).await;
    until("what a killed host left is corrected", || world.container_status() == "stopped").await;
    world.session.receive("in-1", "hello");
    until("it is said to run", || world.container_status() == "running").await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(world.container_status(), "stopped");
    assert_eq!(world.processes(), agent_processes::NONE);
}

#[actix::test]
async fn an_agent_without_work_is_stopped() {
    let mut world = world();
    world.host.settings.agent_idle_after = Some(Duration::from_millis(1));
    world.session.receive("in-1", "hello");
    let relay = world.start(echo("1h")).await;
    shown(&world.host.channels()["slack"], 1).await;
    until("it is stopped", || world.processes().is_empty()).await;
    until("v2.db says so", || world.container_status() == "stopped").await;
    settled(&relay).await;
    assert!(relay.agents().await.is_empty(), "being stopped is no failure");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn an_agent_gets_the_variables_of_its_session_and_nothing_of_the_hosts() {
    let world = world();
    world.session.receive("in-1", "hello");
    let mut settings = shell("env > env.tmp; mv env.tmp env; echo out; echo err >&2; sleep 600");
    settings.agent.environment = BTreeMap::from([("KEY".to_owned(), "value".to_owned())]);
    settings.pass_environment = vec!["PATH".to_owned()];
    let relay = world.start(settings).await;
    let file = world.session.folder().join("env");
    until("it has said what it got", || file.exists()).await;
    let text = fs::read_to_string(file).unwrap();
    let mut variables: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let folder = world.session.folder().display().to_string();
    for (name, value) in [
        ("NANORELAY_SESSION_ID", "sess-a".to_owned()),
        ("NANORELAY_AGENT_GROUP_ID", "ag-main".to_owned()),
        ("NANORELAY_SESSION_DIR", folder.clone()),
        ("NANORELAY_INBOUND_DB", format!("{folder}/inbound.db")),
        ("NANORELAY_OUTBOUND_DB", format!("{folder}/outbound.db")),
        ("NANORELAY_HEARTBEAT", format!("{folder}/.heartbeat")),
        ("NANORELAY_INBOX", format!("{folder}/inbox")),
        ("NANORELAY_OUTBOX", format!("{folder}/outbox")),
        ("KEY", "value".to_owned()),
        ("PWD", folder.clone()),
    ] {
        assert_eq!(variables.remove(name), Some(value.as_str()), "{name}");
    }
    // What is left: the path, the mark of the run, and what a shell sets by itself.
    let left: Vec<&str> = variables.into_keys().collect();
    let known = ["NANORELAY_RUN_ID", "PATH", "SHLVL", "_", "OLDPWD"];
    assert!(left.iter().all(|name| known.contains(name)), "{left:?}");
    let log = world.place().join("agent.log");
    until("its output is in the log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("out\n") && text.contains("err\n")
    })
    .await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn no_process_of_an_agent_outlives_it() {
    let world = world();
    world.session.receive("in-1", "hello");
    let relay = world.start(shell(STUBBORN)).await;
    for _ in 0..2 {
        world.has_processes(3).await;
        let before = running(&relay).await;
        kill(before);
        until("all of its processes are gone", || {
            !world.processes().contains(&before) && world.processes().len() != 2
        })
        .await;
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(world.processes(), agent_processes::NONE);
}

#[actix::test]
async fn an_agent_whose_keeper_is_killed_goes_too() {
    let world = world();
    world.session.receive("in-1", "hello");
    let relay = world.start(shell(STUBBORN)).await;
    world.has_processes(3).await;
    let first = world.processes();
    kill(agent_processes::parent_of(running(&relay).await).unwrap());
    until("its processes are gone, and the next agent's are there", || {
        let now = world.processes();
        now.len() == 3 && now.iter().all(|process| !first.contains(process))
    })
    .await;
    let failed = agent(&relay, |agent| agent.failures == 1).await;
    assert!(failed.reason.unwrap().starts_with("its keeper was ended"));
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(world.processes(), agent_processes::NONE);
}

#[actix::test]
async fn an_agent_that_does_not_end_is_ended_by_force() {
    let world = world();
    world.session.receive("in-1", "hello");
    let settings = CommandSettings { stop_grace: Duration::from_millis(100), ..shell(STUBBORN) };
    let relay = world.start(settings).await;
    world.has_processes(3).await;
    within("the shutdown", relay.shutdown(SHUTDOWN_DEADLINE)).await;
    assert_eq!(world.processes(), agent_processes::NONE);
    let log = fs::read_to_string(world.place().join("agent.log")).unwrap();
    assert!(log.trim_end().ends_with("ended as the host wished, by signal 9"), "{log}");
}

#[actix::test]
async fn an_agent_that_keeps_failing_is_listed_with_the_reason() {
    let world = world();
    world.session.receive("in-1", "hello");
    let relay = world.start(shell("exit 7")).await;
    let failed = agent(&relay, |agent| agent.failures >= 3 && agent.state == AgentState::BackingOff).await;
    assert_eq!(failed.reason.as_deref(), Some("exit code 7"));
    assert!(failed.not_before.is_some());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn an_agent_that_leaves_without_its_message_stays_away_and_is_listed() {
    let world = world();
    world.session.receive("in-1", "hello");
    let mut settings = shell("echo > started");
    settings.roster.backoff_base = Duration::from_secs(3600);
    settings.roster.backoff_max = Duration::from_secs(3600);
    let relay = world.start(settings).await;
    let failed = agent(&relay, |agent| agent.state == AgentState::BackingOff).await;
    assert_eq!((failed.failures, failed.reason.as_deref()), (1, Some("it ended without taking its message")));
    settled(&relay).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    let log = fs::read_to_string(world.place().join("agent.log")).unwrap();
    assert_eq!(log.matches("started as process").count(), 1, "{log}");
}

#[actix::test]
async fn an_agent_that_uses_up_its_processor_time_leaves_its_keeper_alone() {
    let world = world();
    world.session.receive("in-1", "hello");
    let limits = AgentLimits { cpu_seconds: Some(1), ..AgentLimits::default() };
    // It says so much that its keeper has as much to do.
    let relay = world.start(CommandSettings { limits, ..shell("exec yes") }).await;
    let failed = agent(&relay, |agent| agent.failures >= 1).await;
    assert_eq!(failed.reason.as_deref(), Some("ended by signal 9"));
    let keeper = agent_processes::parent_of(running(&relay).await).unwrap();
    let limits = fs::read_to_string(format!("/proc/{keeper}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap();
    assert_eq!(line.split_whitespace().filter(|word| *word == "unlimited").count(), 2, "{line}");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(world.processes(), agent_processes::NONE);
}

#[actix::test]
async fn a_command_that_cannot_be_started_is_named() {
    let world = world();
    world.session.receive("in-1", "hello");
    let relay = world.start(runs(&["/nowhere/agent"])).await;
    let failed = agent(&relay, |agent| agent.failures >= 1).await;
    let reason = failed.reason.unwrap();
    assert!(reason.starts_with("cannot start \"/nowhere/agent\": No such file"), "{reason}");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn an_agent_keeps_to_its_limits() {
    let world = world();
    world.session.receive("in-1", "hello");
    let script = "ulimit -v > memory; ulimit -n > files; ulimit -t > time;
                  for n in 1 2 3 4 5 6 7 8; do sleep 600 & done; sleep 600";
    let limits = AgentLimits {
        memory_bytes: Some(256 << 20),
        cpu_seconds: Some(60),
        open_files: Some(100),
        processes: Some(5),
    };
    let relay = world.start(CommandSettings { limits, ..shell(script) }).await;
    let failed = agent(&relay, |agent| agent.failures >= 1).await;
    assert_eq!(failed.reason.as_deref(), Some("it had too many processes"));
    let said = |name: &str| fs::read_to_string(world.session.folder().join(name)).unwrap();
    assert_eq!((said("memory").trim(), said("files").trim(), said("time").trim()), ("262144", "100", "60"));
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    assert_eq!(world.processes(), agent_processes::NONE);
}

#[actix::test]
async fn agents_above_the_cap_wait_for_a_place() {
    let world = world();
    let others: Vec<TestAgent> = (0..3)
        .map(|n| {
            world.data.session(SessionSpec::new("ag-main").chat("slack", &format!("slack:D{n}")).stopped())
        })
        .collect();
    let ids: Vec<String> = (0..3).map(|n| format!("re-in-{n}")).collect();
    for (n, session) in others.iter().enumerate() {
        session.receive(&format!("in-{n}"), "hello");
    }
    let mut settings = echo("200ms");
    settings.roster.agents_max = 1;
    let relay = world.start(settings).await;
    let most = async {
        let mut most = 0;
        while world.host.channels()["slack"].shown().len() < 3 {
            let agents = relay.agents().await;
            most = most.max(agents.iter().filter(|agent| agent.state == AgentState::Running).count());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        most
    };
    assert_eq!(within("three answers", most).await, 1);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    world.host.channels()["slack"].assert_exactly_once(&ids);
}

#[actix::test]
async fn a_silent_agent_is_stopped_and_its_message_goes_to_the_next() {
    let mut world = world();
    world.host.settings.heartbeat_ceiling = Duration::from_millis(300);
    world.host.settings.agent_start_grace = Duration::from_millis(300);
    world.session.receive("in-1", "hello");
    // The first one hangs, the second one works.
    let program = env!("CARGO_BIN_EXE_nanorelay");
    let script =
        format!("if mkdir once; then exec sleep 600; else exec {program} agent-echo --idle-exit 1h; fi");
    let relay = world.start(shell(&script)).await;
    shown(&world.host.channels()["slack"], 1).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    world.host.channels()["slack"].assert_exactly_once(&["re-in-1"]);
}
