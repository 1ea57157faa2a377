//! Claims, acknowledgements, recurring tasks, and waking agents in time.

use crate::support::host::TestHost;
use crate::support::wait::{settled, until};
use async_trait::async_trait;
use nanorelay_actors::clock::{Clock, SharedClock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::runtime::{AgentRuntime, AgentSession, Running, RuntimeError};
use nanorelay_actors::settings::Watch;
use nanorelay_actors::testing::{DataDir, InboundRow, SessionSpec, TestAgent, VirtualClock};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

/// A runtime whose agents do not run, and that notes when, by the host's clock, it is asked to wake one.
struct Alarm {
    clock: SharedClock,
    wakes: Mutex<Vec<Timestamp>>,
}

impl Alarm {
    fn of(host: &TestHost) -> Arc<Self> {
        Arc::new(Self { clock: Arc::clone(&host.clock), wakes: Mutex::default() })
    }

    fn wakes(&self) -> Vec<Timestamp> {
        self.wakes.lock().unwrap().clone()
    }
}

#[async_trait]
impl AgentRuntime for Alarm {
    async fn wake(&self, _: &AgentSession) -> Result<(), RuntimeError> {
        self.wakes.lock().unwrap().push(self.clock.now());
        Ok(())
    }

    async fn is_running(&self, _: &AgentSession) -> Running {
        Running::No
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}

fn session(data: &DataDir) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1"))
}

fn row(agent: &TestAgent, id: &str) -> InboundRow {
    agent.messages_in().into_iter().find(|row| row.id == id).expect("the row is there")
}

fn status(agent: &TestAgent, id: &str) -> String {
    row(agent, id).status.expect("a status")
}

/// Claims a message at a time of the test's choice.
fn claim(agent: &TestAgent, message_id: &str, at: Timestamp) {
    agent
        .outbound()
        .execute(
            "INSERT OR REPLACE INTO processing_ack (message_id, status, status_changed) VALUES (?1, 'processing', ?2)",
            [message_id, &at.to_sqlite()],
        )
        .expect("a claim can be written");
}

fn schedule(agent: &TestAgent, task_id: &str, process_after: &str, recurrence: Option<&str>) {
    agent.system(&json!({
        "action": "schedule_task", "taskId": task_id, "prompt": "p", "script": null,
        "processAfter": process_after, "recurrence": recurrence,
    }));
}

fn runs(agent: &TestAgent) -> Vec<InboundRow> {
    agent.messages_in().into_iter().filter(|row| row.kind == "task").collect()
}

async fn start_with(host: &TestHost, alarm: &Arc<Alarm>) -> Relay {
    host.start_with(|builder| builder.runtime(alarm.clone())).await
}

#[actix_rt::test]
async fn a_stale_claim_is_reset_once_later_each_time_and_given_up_in_the_end() {
    let data = DataDir::new();
    let agent = session(&data);
    agent.receive("in-1", "hello");
    let mut host = TestHost::new(data.path());
    let clock = VirtualClock::starting_at_text("2026-11-22T12:00:00Z");
    host.clock = clock.clone();
    let mut last_delay = Duration::ZERO;
    for tries in 1..=5 {
        claim(&agent, "in-1", clock.now());
        host.drain().await;
        assert_eq!(row(&agent, "in-1").tries, Some(tries - 1), "a fresh claim is respected");
        clock.step_ms(61_000);
        host.drain().await;
        let reset = row(&agent, "in-1");
        assert_eq!((reset.tries, reset.status.as_deref()), (Some(tries), Some("pending")));
        let delay = Timestamp::parse(&reset.process_after.unwrap()).unwrap().since(clock.now());
        assert!(delay > last_delay, "{delay:?} after {last_delay:?}");
        last_delay = delay;
        clock.step_ms(3_600_000);
        host.drain().await;
        assert_eq!(row(&agent, "in-1").tries, Some(tries), "once per claim");
    }
    claim(&agent, "in-1", clock.now());
    clock.step_ms(61_000);
    host.drain().await;
    assert_eq!(status(&agent, "in-1"), "failed");
}

/// Somebody starts agents and writes nothing about it into `v2.db`.
#[actix_rt::test]
async fn that_an_agent_is_stopped_is_not_believed_while_its_heart_beats() {
    let data = DataDir::new();
    let agent = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1").stopped());
    agent.receive("in-1", "hello");
    let mut host = TestHost::new(data.path());
    let clock = VirtualClock::starting_at_text("2026-11-22T12:00:00Z");
    host.clock = clock.clone();
    claim(&agent, "in-1", clock.now());
    agent.heartbeat(clock.now());
    host.drain().await;
    assert_eq!(row(&agent, "in-1").tries, Some(0), "it works on the message");
    clock.step_ms(61_000);
    host.drain().await;
    assert_eq!(row(&agent, "in-1").tries, Some(1), "it was not heard of since");
    agent.receive("in-2", "hello");
    claim(&agent, "in-2", clock.now());
    host.drain().await;
    assert_eq!(row(&agent, "in-2").tries, Some(1), "silent and called stopped: nobody works on it");
}

#[actix_rt::test]
async fn what_the_agent_acknowledged_is_noted_as_it_said() {
    let data = DataDir::new();
    let agent = session(&data);
    for id in ["done", "broken", "open", "claimed"] {
        agent.receive(id, "hello");
    }
    agent.ack("done", "completed");
    agent.ack("broken", "failed");
    agent.ack("claimed", "processing");
    let host = TestHost::new(data.path());
    host.drain().await;
    let all = ["done", "broken", "open", "claimed"].map(|id| status(&agent, id));
    assert_eq!(all, ["completed", "failed", "pending", "pending"]);
}

#[actix_rt::test]
async fn a_series_goes_on_with_one_run_however_the_last_one_ended() {
    let data = DataDir::new();
    let agent = session(&data);
    let mut host = TestHost::new(data.path());
    let clock = VirtualClock::starting_at_text("2026-11-22T08:59:00Z");
    host.clock = clock.clone();
    schedule(&agent, "task-1", "2026-11-22T09:00:00Z", Some("0 9 * * *"));
    host.drain().await;
    for (count, ending) in ["completed", "failed", "completed"].into_iter().enumerate() {
        clock.step_ms(24 * 3_600_000);
        let last = runs(&agent).last().expect("a run").id.clone();
        agent.ack(&last, ending);
        host.drain().await;
        host.drain().await;
        let runs = runs(&agent);
        assert_eq!(runs.len(), count + 2, "one run follows: {runs:?}");
        assert_eq!(status(&agent, &last), ending);
        let next = runs.last().unwrap();
        assert_eq!((next.status.as_deref(), next.series_id.as_deref()), (Some("pending"), Some("task-1")));
        assert!(Timestamp::parse(next.process_after.as_deref().unwrap()).unwrap() > clock.now());
    }
}

#[actix_rt::test]
async fn a_task_that_pauses_its_own_series_stays_paused() {
    pauses_its_own_series(true).await;
}

#[actix_rt::test]
async fn a_pause_that_is_seen_together_with_the_end_of_the_run_holds() {
    pauses_its_own_series(false).await;
}

async fn pauses_its_own_series(is_seen_before_the_end: bool) {
    let data = DataDir::new();
    let agent = session(&data);
    let mut host = TestHost::new(data.path());
    let clock = VirtualClock::starting_at_text("2026-11-22T08:59:00Z");
    host.clock = clock.clone();
    schedule(&agent, "task-1", "2026-11-22T09:00:00Z", Some("0 9 * * *"));
    host.drain().await;
    clock.step_ms(120_000);
    claim(&agent, "task-1", clock.now());
    agent.system(&json!({ "action": "pause_task", "taskId": "task-1" }));
    if is_seen_before_the_end {
        host.drain().await;
    }
    agent.ack("task-1", "completed");
    for _ in 0..3 {
        host.drain().await;
        clock.step_ms(24 * 3_600_000);
    }
    let live: Vec<_> =
        runs(&agent).into_iter().filter(|run| run.status.as_deref() == Some("pending")).collect();
    assert!(live.is_empty(), "nothing runs while it is paused: {live:?}");
    let told = agent.messages_in().into_iter().filter(|row| row.content.contains("delivery_failed")).count();
    assert_eq!(told, 0, "there was something to pause");
    agent.system(&json!({ "action": "resume_task", "taskId": "task-1" }));
    for _ in 0..2 {
        host.drain().await;
    }
    let live = runs(&agent).into_iter().filter(|run| run.status.as_deref() == Some("pending")).count();
    assert_eq!(live, 1, "it goes on: {:?}", runs(&agent));
}

#[actix_rt::test]
async fn an_agent_is_woken_when_its_task_is_due_and_not_before() {
    let data = DataDir::new();
    let agent = session(&data);
    // An older task that nobody has taken yet hides no other.
    let mut host = TestHost::new(data.path());
    host.settings.sweep_interval = NEVER;
    host.settings.poll_interval = NEVER;
    let clock = VirtualClock::starting_at_text("2026-11-22T09:00:00Z");
    host.clock = clock.clone();
    schedule(&agent, "task-old", "2026-11-22T08:59:00Z", None);
    host.drain().await;
    let alarm = Alarm::of(&host);
    let due = Timestamp::parse("2026-11-22 10:00:00").unwrap();
    schedule(&agent, "task-1", &due.to_iso(), None);
    let relay = start_with(&host, &alarm).await;
    settled(&relay).await;
    let before = alarm.wakes().len();
    clock.step_ms(due.as_ms() - clock.now().as_ms());
    until("the agent is woken", || alarm.wakes().len() > before).await;
    assert!(alarm.wakes()[before] >= due);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_task_that_becomes_due_while_it_is_looked_at_wakes_too() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..30)
        .map(|number| data.session(SessionSpec::new("ag-main").id(&format!("sess-{number}"))))
        .collect();
    let mut host = TestHost::new(data.path());
    host.settings.sweep_interval = NEVER;
    // A folder that is not watched is polled only while its agent runs, which this runtime denies.
    host.settings.watch = Watch::Auto;
    let alarm = Alarm::of(&host);
    let relay = start_with(&host, &alarm).await;
    settled(&relay).await;
    for (number, agent) in (0_u64..).zip(&agents) {
        let due = SystemClock.now().plus(Duration::from_millis(20 + 2 * number));
        schedule(agent, "task-1", &due.to_iso(), None);
    }
    until("every agent is woken", || alarm.wakes().len() >= agents.len()).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_session_of_the_seed_that_writes_nothing_is_looked_after() {
    let data = DataDir::seed_era();
    let agent = session(&data);
    agent.receive("in-1", "hello");
    agent
        .inbound()
        .execute_batch(
            "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, recurrence, content)
             VALUES ('task-1', 4, 'task', datetime('now'), 'completed', '2026-11-22T09:00:00Z', '0 9 * * *', '{}')",
        )
        .unwrap();
    agent.ack("in-1", "completed");
    let mut host = TestHost::new(data.path());
    host.clock = VirtualClock::starting_at_text("2026-11-22T09:30:00Z");
    let run = host.drain().await;
    assert_eq!(run.report.held, 0, "it is served");
    assert_eq!(status(&agent, "in-1"), "completed");
    let next = runs(&agent).pop().expect("a run");
    assert_eq!((next.status.as_deref(), next.series_id.as_deref()), (Some("pending"), Some("task-1")));
}

#[actix_rt::test]
async fn an_agent_that_has_done_all_its_work_is_not_woken_for_it() {
    let data = DataDir::new();
    let agent = session(&data);
    agent.receive("hello-1", "hello");
    agent.ack("hello-1", "completed");
    let host = TestHost::new(data.path());
    let alarm = Alarm::of(&host);
    let relay = start_with(&host, &alarm).await;
    settled(&relay).await;
    assert!(alarm.wakes().is_empty(), "{:?}", alarm.wakes());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
