//! A session at rest has no actor, whether its agent runs or not; the next one begins where the last one stopped.

use crate::support::host::TestHost;
use crate::support::wait::{record, settled, shown, until, within};
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::limits::OPEN_SESSIONS_MAX;
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::relay::Relay;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::settings::Watch;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent, VirtualClock};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

fn session(data: &DataDir, id: &str) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1").thread(id))
}

/// A host whose clock is ahead of everything that was written: what a file system's clock may hide lies behind it.
fn host_ahead(data: &DataDir) -> (TestHost, Arc<VirtualClock>) {
    let clock = VirtualClock::starting_at(SystemClock.now());
    clock.step_ms(600_000);
    let mut host = TestHost::new(data.path());
    host.clock = clock.clone();
    host.settings.watch = Watch::Auto;
    host.settings.poll_interval = NEVER;
    host.settings.sweep_interval = NEVER;
    (host, clock)
}

async fn all_actors_gone(relay: &Relay) {
    let gone = async {
        while relay.registry_snapshot().await.is_none_or(|registry| registry.living > 0) {
            tokio::task::yield_now().await;
        }
    };
    within("sessions at rest have no actor", gone).await;
}

#[actix_rt::test]
async fn a_look_that_finds_nothing_leaves_no_actor_and_the_next_message_is_heard_all_the_same() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..200).map(|number| session(&data, &format!("sess-{number:03}"))).collect();
    let (mut host, _) = host_ahead(&data);
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    all_actors_gone(&relay).await;
    let mut ids = Vec::new();
    for round in 0..3 {
        ids.extend(agents.iter().take(20).map(|agent| agent.text("hello")));
        shown(&slack, 20 * (round + 1)).await;
    }
    slack.assert_exactly_once(&ids);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn sweeps_let_actors_go_that_have_worked_and_nothing_is_sent_twice_or_lost_between_lives() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..10).map(|number| session(&data, &format!("sess-{number}"))).collect();
    let (mut host, clock) = host_ahead(&data);
    host.settings.sweep_interval = Duration::from_millis(100);
    let slack = host.channel("slack");
    let relay = host.start().await;
    let mut ids = Vec::new();
    for round in 0..3 {
        ids.extend(agents.iter().map(|agent| agent.text("hello")));
        shown(&slack, agents.len() * (round + 1)).await;
        clock.step_ms(600_000);
        all_actors_gone(&relay).await;
    }
    for id in &ids {
        record(&relay, id, |record| record.state == DeliveryState::Delivered).await;
    }
    slack.assert_exactly_once(&ids);
    for agent in &agents {
        assert_eq!(agent.delivered().len(), 3, "all outcomes are told to the agent");
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_task_is_due_at_its_time_though_its_session_has_lost_its_actor_twice() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let (mut host, clock) = host_ahead(&data);
    host.settings.sweep_interval = Duration::from_millis(100);
    let slack = host.channel("slack");
    let due = Timestamp::from_ms(clock.now().as_ms() + 7_200_000);
    agent.system(&serde_json::json!({
        "action": "schedule_task", "taskId": "task-1", "prompt": "p", "script": null,
        "processAfter": due.to_iso(), "recurrence": null,
    }));
    let relay = host.start().await;
    settled(&relay).await;
    clock.step_ms(600_000);
    all_actors_gone(&relay).await;
    agent.text("between two lives");
    shown(&slack, 1).await;
    clock.step_ms(600_000);
    all_actors_gone(&relay).await;
    assert_eq!(relay.statistics().wakes, 0);
    clock.step_ms(7_200_000);
    until("its task is due", || relay.statistics().wakes >= 1).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

/// The sessions of which this process has a database open.
fn open_sessions(data: &DataDir) -> BTreeSet<PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let files = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    files
        .filter(|file| file.starts_with(data.path().join("v2-sessions")))
        .filter(|file| file.extension().is_some_and(|extension| extension == "db"))
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect()
}

#[actix_rt::test]
async fn only_so_many_sessions_keep_their_databases_open_while_all_of_them_wait_for_the_platform() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..150).map(|number| session(&data, &format!("sess-{number:03}"))).collect();
    let (mut host, _) = host_ahead(&data);
    let slack = host.channel("slack");
    slack.close_gate();
    let relay = host.start().await;
    let ids: Vec<_> = agents.iter().map(|agent| agent.text("hello")).collect();
    within("all sends have begun", slack.wait_for(ids.len())).await;
    let at_work = host.settings.limits.blocking_max;
    let open = open_sessions(&data).len();
    assert!((1..=OPEN_SESSIONS_MAX + at_work).contains(&open), "{open} are open");
    slack.open_gate();
    shown(&slack, ids.len()).await;
    slack.assert_exactly_once(&ids);
    until("all databases are closed", || open_sessions(&data).is_empty()).await;
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
