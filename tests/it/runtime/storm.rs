//! Agents that are killed, hang, fork and crash: every message is answered exactly once, or has visibly failed.
//!
//! With `NANORELAY_TEST_STORM=200` there are 200 agents, and they are killed for a minute.

use super::{agent_processes, kill};
use crate::support::agent_processes::runs;
use crate::support::host::TestHost;
use nanorelay::agents::echo::{Echo, Message};
use nanorelay_actors::relay::Relay;
use nanorelay_actors::runtime::{AgentState, command};
use nanorelay_actors::testing::{DataDir, MockChannel, SessionSpec, TestAgent};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZE: &str = "NANORELAY_TEST_STORM";
/// Set for the agents of the storm, which are this program.
const AGENT: &str = "NANORELAY_TEST_STORM_AGENT";
const AGENTS: usize = 20;
const STORM: Duration = Duration::from_secs(60);
/// Far longer than it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

#[actix::test]
async fn agents_that_are_killed_hang_fork_and_crash_lose_nothing_and_repeat_nothing() {
    let large: Option<usize> = std::env::var(SIZE).ok().and_then(|size| size.parse().ok());
    let data = DataDir::new();
    let sessions: Vec<TestAgent> =
        (0..large.unwrap_or(AGENTS)).map(|number| data.session(session(number))).collect();
    let mut host = TestHost::new(data.path());
    let channel = host.channel("slack");
    host.settings.sweep_interval = Duration::from_millis(500);
    host.settings.heartbeat_ceiling = Duration::from_secs(if large.is_some() { 10 } else { 3 });
    host.settings.claim_stale_after = host.settings.heartbeat_ceiling;
    host.settings.claim_tries_max = if large.is_some() { 3 } else { 1 };
    let relay = start(&host, sessions.len()).await;
    let mut storm = Storm { sent: BTreeMap::new(), kills: 0, keepers: 0 };
    let begun = Instant::now();
    let mut round = 0;
    // Each round gives every session a message, and kills while they are answered.
    while if large.is_some() { begun.elapsed() < STORM } else { round < 2 } {
        for session in &sessions {
            storm.send(session, round);
        }
        storm.kill_some(&relay, &channel, sessions.len() / 4).await;
        round += 1;
    }
    let stormed = begun.elapsed();
    let settled = tokio::time::timeout(PATIENCE, storm.all_settled(&sessions, &channel)).await;
    assert!(settled.is_ok(), "messages are left: {:#?}", relay.agents().await);
    let statistics = relay.statistics();
    relay.shutdown(Duration::from_secs(60)).await;
    assert_eq!(agent_processes::of(data.path()), agent_processes::NONE, "no process is left");
    let failed = storm.judge(&sessions, &channel);
    println!(
        "{} agents, {} messages: {} answered, {failed} visibly failed; {} agents and {} keepers killed in {stormed:?}, \
         all settled after {:?}; {} wakes",
        sessions.len(),
        storm.sent.len(),
        channel.shown().len(),
        storm.kills,
        storm.keepers,
        begun.elapsed(),
        statistics.wakes,
    );
}

fn session(number: usize) -> SessionSpec {
    SessionSpec::new(&format!("ag-{}", number % 7))
        .id(&format!("storm-{number}"))
        .chat("slack", &format!("slack:C{number}"))
        .stopped()
}

async fn start(host: &TestHost, agents: usize) -> Relay {
    let program = std::env::current_exe().unwrap();
    let test = ["--exact", "--ignored", "--nocapture", "runtime::storm::an_agent_of_the_storm"];
    let command: Vec<&str> = [program.to_str().unwrap()].into_iter().chain(test).collect();
    let mut settings = runs(&command);
    settings.agent.environment.insert(AGENT.to_owned(), "1".to_owned());
    settings.roster.agents_max = (agents / 2).max(1);
    settings.roster.backoff_max = Duration::from_secs(1);
    settings.stop_grace = Duration::from_millis(500);
    host.start_with(|builder| builder.runtime(Arc::new(command::runtime(settings)))).await
}

struct Storm {
    /// Every message by its id, with the number of its session.
    sent: BTreeMap<String, usize>,
    kills: usize,
    keepers: usize,
}

impl Storm {
    fn send(&mut self, session: &TestAgent, round: usize) {
        let number: usize = session.session_id().trim_start_matches("storm-").parse().unwrap();
        let id = format!("in-{number}-{round}");
        // Every eleventh session gets a message that no agent survives.
        let text = if number % 11 == 10 && round == 0 { "poison" } else { "hello" };
        session.receive(&id, text);
        self.sent.insert(id, number);
    }

    /// Kills agents, and some keepers, each time that an answer has come.
    async fn kill_some(&mut self, relay: &Relay, channel: &MockChannel, count: usize) {
        for _ in 0..count {
            let before = channel.shown().len();
            let process = loop {
                let agents = relay.agents().await;
                let running: Vec<i32> = agents
                    .iter()
                    .filter(|agent| agent.state == AgentState::Running)
                    .filter_map(|agent| agent.process_id)
                    .collect();
                if let Some(process) = fastrand::choice(running) {
                    break process;
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            };
            let keeper = agent_processes::parent_of(process).filter(|_| fastrand::u8(..8) == 0);
            // It may have ended just now.
            match keeper.filter(|keeper| *keeper > 1 && is_keeper(*keeper)) {
                Some(keeper) => {
                    kill(keeper);
                    self.keepers += 1;
                }
                None if agent_processes::parent_of(process).is_some_and(is_keeper) => {
                    kill(process);
                    self.kills += 1;
                }
                None => {}
            }
            let answer = channel.wait_for_shown(before + 1);
            // Those that are left may all be waiting for a second try.
            let _ = tokio::time::timeout(Duration::from_millis(200), answer).await;
        }
    }

    /// Waits until no message is pending, and each that was completed has its answer shown.
    async fn all_settled(&self, sessions: &[TestAgent], channel: &MockChannel) {
        loop {
            let answered =
                sessions.iter().flat_map(|session| session.messages_in()).try_fold(0, |count, row| match row
                    .status
                    .as_deref()
                {
                    Some("completed") => Some(count + 1),
                    Some("failed") => Some(count),
                    _ => None,
                });
            if answered.is_some_and(|answered| channel.shown().len() >= answered) {
                return;
            }
            tokio::time::sleep(LOOK_PAUSE * 10).await;
        }
    }

    /// Every message was answered once, or failed and can be seen to have failed; how many failed.
    fn judge(&self, sessions: &[TestAgent], channel: &MockChannel) -> usize {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for call in channel.shown() {
            *answers.entry(call.message_id.to_string()).or_default() += 1;
        }
        let status: BTreeMap<String, String> = sessions
            .iter()
            .flat_map(|session| session.messages_in())
            .map(|row| (row.id, row.status.unwrap_or_default()))
            .collect();
        let mut failed = 0;
        for id in self.sent.keys() {
            let count = answers.get(&format!("re-{id}")).copied().unwrap_or(0);
            match status[id].as_str() {
                "completed" => assert_eq!(count, 1, "{id} is completed"),
                // An agent may have died between its answer and the host's look at it.
                "failed" => {
                    assert!(count <= 1, "{id} was answered {count} times");
                    failed += 1;
                }
                other => panic!("{id} is {other}"),
            }
        }
        assert!(answers.len() >= self.sent.len() - failed);
        failed
    }
}

fn is_keeper(process: i32) -> bool {
    let command = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).nth(1) == Some(b"agent-keeper")
}

#[test]
#[ignore = "this is an agent of the storm"]
fn an_agent_of_the_storm() {
    if std::env::var_os(AGENT).is_none() {
        return;
    }
    let folder = PathBuf::from(std::env::var_os("NANORELAY_SESSION_DIR").expect("the folder"));
    let session = std::env::var("NANORELAY_SESSION_ID").expect("the session");
    let number: usize = session.trim_start_matches("storm-").parse().expect("a number");
    let run = count_run(&folder);
    // Some crash before they do anything.
    if number % 5 == 1 && run < 2 {
        std::process::exit(1);
    }
    let idle_exit = Duration::from_millis(300);
    let misbehave = |message: &Message| misbehave(number, run, message);
    Echo::open(&folder).and_then(|mut echo| echo.run(idle_exit, misbehave)).expect("the contract is kept");
}

/// What an agent does with a message that it has claimed and not answered yet.
fn misbehave(number: usize, run: u64, message: &Message) {
    if message.text == "poison" {
        std::process::abort();
    }
    match number % 5 {
        // It hangs.
        2 if run == 0 => loop {
            std::thread::park();
        },
        // It leaves processes behind, one in its group and one in a session of its own.
        3 => {
            let script = "sleep 600 & setsid sleep 600 &";
            let _ = std::process::Command::new("/bin/sh").args(["-c", script]).status();
            if run == 0 {
                std::process::abort();
            }
        }
        _ => {}
    }
}

/// How many agents of the session there were before.
fn count_run(folder: &Path) -> u64 {
    let file = folder.join("runs");
    let before = std::fs::metadata(&file).map_or(0, |found| found.len());
    let mut runs = std::fs::File::options().create(true).append(true).open(file).expect("a file");
    std::io::Write::write_all(&mut runs, b".").expect("a mark");
    before
}
