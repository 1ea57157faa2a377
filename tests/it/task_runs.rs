//! Runs of tasks: their history, what becomes of missed ones, zones, and time that jumps.

use crate::support::host::TestHost;
use crate::support::wait::{settled, until, within};
use async_trait::async_trait;
use nanorelay_actors::clock::Clock;
use nanorelay_actors::model::ids::SessionId;
use nanorelay_actors::model::missed::MissedRuns;
use nanorelay_actors::model::tenant::TenantSettings;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::{RunFilter, RunRecord, RunResult, TaskFilter, TaskRecord, TaskVerb};
use nanorelay_actors::runtime::{AgentRuntime, AgentSession, Running, RuntimeError};
use nanorelay_actors::testing::{DataDir, InboundRow, SessionSpec, TestAgent, VirtualClock};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;

fn schedule(agent: &TestAgent, fields: Value) {
    let mut action = json!({ "action": "schedule_task", "taskId": "task-1", "prompt": "p", "script": null });
    action.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    agent.system(&action);
}

/// A host on a clock that the test steps, and one session.
struct World {
    data: DataDir,
    agent: TestAgent,
    host: TestHost,
    clock: Arc<VirtualClock>,
}

impl World {
    fn at(start: &str) -> Self {
        let data = DataDir::new();
        let agent = data.session(SessionSpec::new("ag-main").id("sess-a").chat("slack", "slack:C1"));
        let mut host = TestHost::new(data.path());
        let clock = VirtualClock::starting_at_text(start);
        host.clock = clock.clone();
        Self { data, agent, host, clock }
    }

    fn schedule(&self, fields: Value) {
        schedule(&self.agent, fields);
    }

    fn step_to(&self, time: &str) {
        let target = Timestamp::parse(time).unwrap();
        self.clock.step_ms(target.as_ms() - self.clock.now().as_ms());
    }

    /// The run that is still to be.
    fn live(&self) -> InboundRow {
        let mut live: Vec<InboundRow> = self.agent.messages_in();
        live.retain(|row| row.kind == "task" && row.status.as_deref() == Some("pending"));
        assert_eq!(live.len(), 1, "one run is still to be: {live:?}");
        live.remove(0)
    }

    fn next_run(&self) -> String {
        self.live().process_after.expect("a time")
    }

    /// Says of the run that is still to be how it has ended.
    fn ends(&self, status: &str) {
        self.agent.ack(&self.live().id, status);
    }

    /// One life of the host, and what its history says after it: time, result, oldest first.
    async fn history(&self) -> Vec<(String, RunResult)> {
        let relay = self.host.start().await;
        relay.drain(Duration::from_secs(60)).await;
        let runs = runs(&relay).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;
        runs.into_iter().rev().map(|run| (short(&run.scheduled_at), run.result)).collect()
    }
}

/// `22 09:00` of a time.
fn short(iso: &str) -> String {
    iso[8..16].replace('T', " ")
}

fn expected(runs: &[(&str, RunResult)]) -> Vec<(String, RunResult)> {
    runs.iter().map(|(time, result)| ((*time).to_owned(), *result)).collect()
}

async fn runs(relay: &Relay) -> Vec<RunRecord> {
    let filter = RunFilter { session_id: "sess-a".to_owned(), ..RunFilter::default() };
    relay.task_runs(filter).await.expect("the history can be read")
}

async fn tasks(relay: &Relay, filter: TaskFilter) -> Vec<TaskRecord> {
    let list = relay.tasks(filter).await.expect("tasks can be listed");
    assert_eq!(list.unreadable, [], "every session can be read");
    list.tasks
}

async fn change(relay: &Relay, task_id: &str, verb: TaskVerb) -> usize {
    let session = SessionId::new("sess-a").unwrap();
    let changed = within("the change", relay.change_task(session, task_id, verb)).await;
    settled(relay).await;
    changed.expect("it is changed")
}

/// Notes at which time of its clock it is asked to wake which session's agent.
struct Alarm {
    clock: Arc<VirtualClock>,
    wakes: Mutex<Vec<(SessionId, Timestamp)>>,
}

impl Alarm {
    fn new(world: &World) -> Arc<Self> {
        Arc::new(Self { clock: world.clock.clone(), wakes: Mutex::default() })
    }

    fn wakes(&self) -> usize {
        self.wakes.lock().unwrap().len()
    }

    fn wakes_of(&self, agent: &TestAgent) -> Vec<Timestamp> {
        let wakes = self.wakes.lock().unwrap();
        let of_it = wakes.iter().filter(|(session, _)| session.as_str() == agent.session_id());
        of_it.map(|(_, at)| *at).collect()
    }
}

#[async_trait]
impl AgentRuntime for Alarm {
    async fn wake(&self, agent: &AgentSession) -> Result<(), RuntimeError> {
        self.wakes.lock().unwrap().push((agent.session_id.clone(), self.clock.now()));
        Ok(())
    }

    async fn is_running(&self, _: &AgentSession) -> Running {
        Running::No
    }

    async fn stop(&self, _: &AgentSession, _: &str) -> Result<(), RuntimeError> {
        Ok(())
    }
}

#[actix_rt::test]
async fn every_run_is_in_the_history_once_with_how_it_ended_and_survives_restarts() {
    let world = World::at("2026-11-22T08:59:00Z");
    world.schedule(json!({ "recurrence": "0 9 * * *" }));
    world.host.drain().await;
    let endings = [
        ("completed", RunResult::Ok),
        ("failed", RunResult::Failed),
        ("script-skip:error", RunResult::Failed),
    ];
    let mut known = Vec::new();
    for (day, (word, result)) in (22..).zip(endings) {
        world.step_to(&format!("2026-11-{day} 09:00:07"));
        world.ends(word);
        known.push((format!("{day} 09:00"), result));
        assert_eq!(world.history().await, known, "after {word}");
        assert_eq!(world.history().await, known, "nothing is told twice");
        assert_eq!(short(&world.next_run()), format!("{} 09:00", day + 1), "a failed run ends no series");
    }
}

#[actix_rt::test]
async fn the_beginning_of_a_run_is_kept_through_stale_claims_and_giving_up_is_a_failure() {
    let mut world = World::at("2026-11-22T08:59:00Z");
    world.host.settings.claim_tries_max = 1;
    world.schedule(json!({ "processAfter": "2026-11-22T09:00:00Z" }));
    world.host.drain().await;
    for claimed in ["09:00:05", "09:10:00"] {
        world.step_to(&format!("2026-11-22 {claimed}"));
        world.agent.ack("task-1", "processing");
        world
            .agent
            .outbound()
            .execute("UPDATE processing_ack SET status_changed = ?1", [format!("2026-11-22 {claimed}")])
            .unwrap();
        assert_eq!(world.history().await, expected(&[("22 09:00", RunResult::Running)]));
        world.clock.step_ms(120_000);
        world.host.drain().await;
    }
    let relay = world.host.start().await;
    settled(&relay).await;
    let [run] = runs(&relay).await.try_into().expect("one run");
    assert_eq!((run.result, run.late_ms), (RunResult::Failed, Some(5_000)), "{run:?}");
    assert!(run.detail.as_deref().is_some_and(|detail| detail.starts_with("given up")), "{run:?}");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

/// What becomes of an hourly task whose host is away from 08:30 to 12:20.
async fn missed(policy: Value) -> (World, Vec<(String, RunResult)>) {
    let world = World::at("2026-11-22T08:30:00Z");
    world.schedule(json!({ "recurrence": "@hourly", "missedRuns": policy }));
    world.host.drain().await;
    assert_eq!(short(&world.next_run()), "22 09:00");
    world.step_to("2026-11-22 12:20:00");
    let history = world.history().await;
    (world, history)
}

const SKIPPED_09_TO_11: [(&str, RunResult); 3] =
    [("22 09:00", RunResult::Skipped), ("22 10:00", RunResult::Skipped), ("22 11:00", RunResult::Skipped)];

#[actix_rt::test]
async fn of_missed_runs_the_latest_is_made_up_for_unless_the_task_says_otherwise() {
    for policy in [Value::Null, json!("latest")] {
        let (world, history) = missed(policy).await;
        assert_eq!(history, expected(&SKIPPED_09_TO_11));
        assert_eq!(short(&world.next_run()), "22 12:00", "due now");
        world.ends("completed");
        let history = world.history().await;
        assert_eq!(history.last(), Some(&("22 12:00".to_owned(), RunResult::Ok)));
        assert_eq!(short(&world.next_run()), "22 13:00");
    }
}

#[actix_rt::test]
async fn missed_runs_are_skipped_when_the_task_wants_none_of_them() {
    let (world, history) = missed(json!("skip")).await;
    let all = [&SKIPPED_09_TO_11[..], &[("22 12:00", RunResult::Skipped)]].concat();
    assert_eq!(history, expected(&all));
    assert_eq!(short(&world.next_run()), "22 13:00");
}

#[actix_rt::test]
async fn all_missed_runs_follow_each_other_up_to_the_cap() {
    let (mut world, history) = missed(json!("all")).await;
    assert_eq!(history, []);
    for hour in [9, 10, 11, 12, 13] {
        assert_eq!(short(&world.next_run()), format!("22 {hour:02}:00"));
        world.ends("completed");
        let history = world.history().await;
        assert_eq!(history.last(), Some(&(format!("22 {hour:02}:00"), RunResult::Ok)));
    }
    world.host.settings.missed_runs.catch_up_max = 2;
    world.step_to("2026-11-22 18:30:00");
    let history = world.history().await;
    let skipped: Vec<&str> = history
        .iter()
        .filter(|(_, result)| *result == RunResult::Skipped)
        .map(|(time, _)| time.as_str())
        .collect();
    assert_eq!(skipped, ["22 14:00", "22 15:00", "22 16:00"]);
    assert_eq!(short(&world.next_run()), "22 17:00");
}

#[actix_rt::test]
async fn a_run_that_takes_longer_than_the_interval_is_followed_by_the_latest_that_it_missed() {
    let world = World::at("2026-11-22T08:59:00Z");
    world.schedule(json!({ "recurrence": "*/10 * * * *" }));
    world.host.drain().await;
    world.step_to("2026-11-22 09:00:01");
    world.agent.ack("task-1", "processing");
    world.host.drain().await;
    world.step_to("2026-11-22 09:34:00");
    world.agent.ack("task-1", "completed");
    let history = world.history().await;
    let expected = expected(&[
        ("22 09:00", RunResult::Ok),
        ("22 09:10", RunResult::Skipped),
        ("22 09:20", RunResult::Skipped),
    ]);
    assert_eq!(history, expected);
    assert_eq!(short(&world.next_run()), "22 09:30");
}

#[actix_rt::test]
async fn a_task_that_runs_once_runs_however_late() {
    let mut world = World::at("2026-11-22T08:00:00Z");
    world.host.settings.missed_runs.runs = MissedRuns::Skip;
    world.schedule(json!({ "processAfter": "2026-11-22T09:00:00Z" }));
    world.host.drain().await;
    world.step_to("2026-12-24 12:00:00");
    assert_eq!(world.history().await, []);
    assert_eq!(short(&world.next_run()), "22 09:00", "it waits for its agent");
}

#[actix_rt::test]
async fn a_clock_that_goes_back_repeats_no_run() {
    let world = World::at("2026-11-22T08:59:00Z");
    world.schedule(json!({ "recurrence": "@hourly" }));
    world.host.drain().await;
    for time in ["09:00:05", "10:00:05", "11:00:05"] {
        world.step_to(&format!("2026-11-22 {time}"));
        world.ends("completed");
        world.host.drain().await;
    }
    // The run of 12:00 is started by hand, an hour and a half early by the clock that goes back now.
    world.step_to("2026-11-22 09:30:00");
    world.ends("completed");
    let history = world.history().await;
    let times: Vec<&str> = history.iter().map(|(time, _)| time.as_str()).collect();
    assert_eq!(times, ["22 09:00", "22 10:00", "22 11:00", "22 12:00"], "each once");
    assert_eq!(short(&world.next_run()), "22 13:00");
}

#[actix_rt::test]
async fn a_task_is_read_in_its_own_zone_else_in_its_tenants_else_in_the_hosts() {
    let mut world = World::at("2026-11-22T00:00:00Z");
    world.host.settings.timezone = "Europe/Berlin".to_owned();
    let nine = |task_id: &str, timezone: Value| json!({ "taskId": task_id, "recurrence": "0 9 * * *", "timezone": timezone });
    let planned = async |world: &World, session: &str| {
        let relay = world.host.start().await;
        relay.drain(Duration::from_secs(60)).await;
        let filter = TaskFilter { session_id: Some(session.to_owned()), ..TaskFilter::default() };
        let tasks = tasks(&relay, filter).await;
        relay.shutdown(SHUTDOWN_DEADLINE).await;
        let shown = |task: TaskRecord| (task.timezone, short(&task.next_run.unwrap()), task.tenant);
        tasks.into_iter().map(shown).collect::<Vec<_>>()
    };
    let text = |words: [&str; 3]| (words[0].to_owned(), words[1].to_owned(), words[2].to_owned());
    world.schedule(nine("of-host", Value::Null));
    world.schedule(nine("of-task", json!("America/New_York")));
    let found = planned(&world, "sess-a").await;
    let own = text(["America/New_York", "22 14:00", "ag-main"]);
    assert_eq!(found, [text(["Europe/Berlin", "22 08:00", "ag-main"]), own]);

    world.host.settings.tenants = vec![TenantSettings {
        wake_on_failure: None,
        name: "acme".to_owned(),
        agent_groups: vec!["ag-*".to_owned()],
        weight: 1,
        in_flight_max: None,
        timezone: Some("Asia/Tokyo".to_owned()),
    }];
    world.schedule(nine("of-tenant", Value::Null));
    world.agent.system(&json!({ "action": "cancel_task", "taskId": "of-host" }));
    let found = planned(&world, "sess-a").await;
    let own = text(["America/New_York", "22 14:00", "acme"]);
    assert_eq!(found, [own, text(["Asia/Tokyo", "23 00:00", "acme"])]);
    // The next runs of the series stay in the task's own zone, whatever else its content says.
    world.agent.system(&json!({ "action": "cancel_task", "taskId": "of-tenant" }));
    world.agent.system(&json!({ "action": "update_task", "taskId": "of-task", "prompt": "new" }));
    world.host.drain().await;
    world.step_to("2026-11-22 14:00:01");
    world.ends("completed");
    world.host.drain().await;
    assert_eq!(short(&world.next_run()), "23 14:00");
}

#[actix_rt::test]
async fn a_wrong_zone_or_policy_is_refused_and_the_agent_is_told() {
    let world = World::at("2026-11-22T00:00:00Z");
    world.schedule(json!({ "recurrence": "@daily", "timezone": "Mars/Base" }));
    world.schedule(json!({ "recurrence": "@daily", "missedRuns": "never" }));
    world.host.drain().await;
    let notices: Vec<String> = world
        .agent
        .messages_in()
        .into_iter()
        .filter(|row| row.kind == "system")
        .map(|row| row.content)
        .collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].contains("Mars/Base") && notices[1].contains("missedRuns"), "{notices:?}");
}

#[actix_rt::test]
async fn a_series_whose_recurrence_cannot_be_understood_ends_and_the_agent_is_told() {
    let world = World::at("2026-11-22T08:59:00Z");
    world.schedule(json!({ "recurrence": "@hourly" }));
    world.host.drain().await;
    // As a former host may have left it.
    world
        .agent
        .inbound()
        .execute("UPDATE messages_in SET recurrence = 'every day' WHERE id = 'task-1'", [])
        .unwrap();
    world.step_to("2026-11-22 09:00:05");
    world.ends("completed");
    assert_eq!(world.history().await, expected(&[("22 09:00", RunResult::Ok)]));
    let notice = world.agent.messages_in().into_iter().find(|row| row.kind == "system").expect("a notice");
    let content: Value = serde_json::from_str(&notice.content).unwrap();
    assert_eq!((&content["type"], &content["taskId"]), (&json!("task_ended"), &json!("task-1")));
    assert!(content["reason"].as_str().is_some_and(|reason| reason.contains("every day")), "{content}");
}

#[actix_rt::test]
async fn a_clock_that_jumps_forward_wakes_at_once_and_one_that_went_back_not_before_the_time() {
    let mut world = World::at("2026-11-22T08:00:00Z");
    world.host.settings.sweep_interval = NEVER;
    world.host.settings.poll_interval = NEVER;
    let other = world.data.session(SessionSpec::new("ag-main").id("sess-b").chat("slack", "slack:C2"));
    world.schedule(json!({ "processAfter": "2026-11-22T09:00:00Z" }));
    let alarm = Alarm::new(&world);
    let relay = world.host.start_with(|builder| builder.runtime(alarm.clone())).await;
    settled(&relay).await;
    world.clock.step_ms(-HOUR_MS);
    // What is due before shows when the scheduler has looked at the clock that went back.
    schedule(&other, json!({ "taskId": "task-2", "processAfter": "2026-11-22T07:30:00Z" }));
    within("the task is planned", relay.drain(SHUTDOWN_DEADLINE)).await;
    world.clock.step_ms(HOUR_MS / 2 + 1);
    until("the scheduler has looked at the clock", || !alarm.wakes_of(&other).is_empty()).await;
    settled(&relay).await;
    assert_eq!(alarm.wakes_of(&world.agent), [], "the clock went back");
    world.clock.step_ms(2 * HOUR_MS);
    until("the agent is woken", || !alarm.wakes_of(&world.agent).is_empty()).await;
    let due = Timestamp::parse("2026-11-22 09:00:00").unwrap();
    let wakes = alarm.wakes_of(&world.agent);
    assert!(wakes.iter().all(|at| *at >= due), "{wakes:?}");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_host_that_was_away_at_the_time_wakes_the_agent_when_it_is_back() {
    let world = World::at("2026-11-22T08:00:00Z");
    world.schedule(json!({ "recurrence": "0 9 * * *" }));
    world.host.drain().await;
    world.step_to("2026-11-22 09:30:00");
    let alarm = Alarm::new(&world);
    let relay = world.host.start_with(|builder| builder.runtime(alarm.clone())).await;
    until("the agent is woken", || alarm.wakes() > 0).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn an_operator_pauses_resumes_runs_and_cancels_a_series() {
    let mut world = World::at("2026-11-22T08:00:00Z");
    world.host.settings.sweep_interval = NEVER;
    world.schedule(json!({ "recurrence": "0 9 * * *" }));
    world.host.drain().await;
    let alarm = Alarm::new(&world);
    let relay = world.host.start_with(|builder| builder.runtime(alarm.clone())).await;
    settled(&relay).await;
    let status = async |relay: &Relay| {
        let tasks = tasks(relay, TaskFilter::default()).await;
        tasks.into_iter().map(|task| (task.run_id, task.status.as_str())).collect::<Vec<_>>()
    };
    let before = alarm.wakes();
    assert_eq!(change(&relay, "task-1", TaskVerb::Pause).await, 1);
    assert_eq!(status(&relay).await, [("task-1".to_owned(), "paused")]);
    assert_eq!(alarm.wakes(), before);
    assert_eq!(change(&relay, "task-1", TaskVerb::RunNow).await, 1);
    until("the agent is woken", || alarm.wakes() > before).await;
    assert_eq!(status(&relay).await.len(), 2, "one run more than planned");
    assert_eq!(change(&relay, "task-1", TaskVerb::Resume).await, 2);
    assert_eq!(short(&tasks(&relay, TaskFilter::default()).await[1].next_run.clone().unwrap()), "22 09:00");
    assert_eq!(change(&relay, "task-1", TaskVerb::Cancel).await, 2);
    assert_eq!(status(&relay).await, []);
    assert_eq!(change(&relay, "task-1", TaskVerb::Cancel).await, 0, "there is none");
    let unknown = relay.change_task(SessionId::new("nobody").unwrap(), "task-1", TaskVerb::Pause).await;
    assert_eq!(unknown.unwrap_err().to_string(), "there is no session nobody");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn what_runs_next_is_told_in_the_zone_of_the_task() {
    let world = World::at("2027-03-26T12:00:00Z");
    world.schedule(json!({ "recurrence": "30 2 * * *", "timezone": "Europe/Berlin" }));
    let relay = world.host.start().await;
    settled(&relay).await;
    let task = tasks(&relay, TaskFilter { series_id: Some("task-1".to_owned()), ..TaskFilter::default() })
        .await
        .remove(0);
    let times: Vec<String> = task.upcoming(3).into_iter().map(|time| short(&time.to_iso())).collect();
    assert_eq!(times, ["27 01:30", "28 01:30", "29 00:30"], "through the change of the clock");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_run_whose_claim_was_reset_is_followed_by_the_next_of_its_own_time() {
    let world = World::at("2026-11-22T08:59:00Z");
    world.schedule(json!({ "recurrence": "@hourly" }));
    world.host.drain().await;
    world.step_to("2026-11-22 09:58:30");
    world.agent.ack("task-1", "processing");
    let sql = "UPDATE processing_ack SET status_changed = '2026-11-22 09:58:30'";
    world.agent.outbound().execute(sql, []).unwrap();
    world.step_to("2026-11-22 10:00:30");
    world.host.drain().await;
    assert!(Timestamp::parse(&world.next_run()).unwrap() > world.clock.now());
    world.step_to("2026-11-22 10:02:00");
    world.ends("completed");
    world.host.drain().await;
    assert_eq!(short(&world.next_run()), "22 10:00", "it was not left out");
}

#[actix_rt::test]
async fn however_many_runs_were_missed_none_of_them_wakes_when_all_are_to_be_skipped() {
    let world = World::at("2026-11-22T08:30:00Z");
    for number in 0..150 {
        let task = format!("task-{number}");
        world.schedule(json!({ "taskId": task, "recurrence": "@hourly", "missedRuns": "skip" }));
    }
    world.host.drain().await;
    world.step_to("2026-11-23 12:20:00");
    let alarm = Alarm::new(&world);
    let relay = world.host.start_with(|builder| builder.runtime(alarm.clone())).await;
    settled(&relay).await;
    assert_eq!(alarm.wakes(), 0);
    let rows = world.agent.messages_in().into_iter();
    let times = rows.filter_map(|row| row.process_after).filter(|time| short(time) == "23 13:00");
    assert_eq!(times.count(), 150);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
