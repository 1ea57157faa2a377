//! A relay that goes on: what is written while it runs, by whatever session, is delivered without being asked for.

use crate::support::host::TestHost;
use crate::support::wait::{record, restarted, settled, shown, until, within};
use nanorelay_actors::clock::{Clock, SystemClock};
use nanorelay_actors::model::time::Timestamp;
use nanorelay_actors::report::DeliveryState;
use nanorelay_actors::settings::Watch;
use nanorelay_actors::supervise::exit_guard::ActorName;
use nanorelay_actors::testing::{Answer, DataDir, SessionSpec, TestAgent};
use std::time::Duration;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(3600);

fn session(data: &DataDir, id: &str) -> TestAgent {
    data.session(SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1").thread(id))
}

fn in_ms(ms: u64) -> Timestamp {
    SystemClock.now().plus(Duration::from_millis(ms))
}

#[actix_rt::test]
async fn a_commit_is_heard_of_at_once() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let mut host = TestHost::new(data.path());
    host.settings.watch = Watch::Auto;
    // Only the file events are left.
    host.settings.poll_interval = NEVER;
    host.settings.sweep_interval = NEVER;
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(agent.text("hello"));
        shown(&slack, number + 1).await;
    }
    relay.inject_panic(&ActorName::Registry);
    restarted(&relay, 1).await;
    ids.push(agent.text("while nobody listens"));
    shown(&slack, 21).await;
    ids.push(agent.text("to the new registry"));
    shown(&slack, 22).await;
    slack.assert_exactly_once(&ids);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_sweep_finds_what_all_of_many_sessions_wrote_unheard() {
    let data = DataDir::new();
    let agents: Vec<_> = (0..40).map(|number| session(&data, &format!("sess-{number:02}"))).collect();
    let mut host = TestHost::new(data.path());
    host.settings.poll_interval = NEVER;
    host.settings.sweep_interval = Duration::from_millis(200);
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    let mut ids = Vec::new();
    for round in 1..=2 {
        ids.extend(agents.iter().map(|agent| agent.text("to nobody in particular")));
        shown(&slack, round * agents.len()).await;
    }
    slack.assert_exactly_once(&ids);
    let found = relay.statistics().sweep_found;
    // A long sweep may find a session before its read is known.
    assert!(found.not_watched >= ids.len() as u64, "{found:?}");
    assert_eq!((found.event_missed, found.closed), (0, 0));
    settled(&relay).await;
    let sweeps = relay.sweep_snapshot().await.expect("a supervisor").sweeps;
    let rested = async {
        loop {
            let snapshot = relay.sweep_snapshot().await.expect("a supervisor");
            let found = snapshot.last_findings.unwrap_or_default();
            if snapshot.sweeps > sweeps && (found.changed, found.restless) == (0, 0) {
                return found.compared;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(within("a sweep that finds nothing", rested).await, agents.len() as u64);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn what_a_closed_session_has_left_behind_is_found_by_a_sweep_and_said_so() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    data.central().execute("UPDATE sessions SET status = 'closed'", []).unwrap();
    let mut host = TestHost::new(data.path());
    host.settings.watch = Watch::Auto;
    host.settings.poll_interval = NEVER;
    host.settings.sweep_interval = Duration::from_millis(200);
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    agent.text("the last word");
    shown(&slack, 1).await;
    let found = relay.statistics().sweep_found;
    assert!(found.closed >= 1 && found.event_missed == 0, "{found:?}");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_folder_that_appears_later_and_one_that_is_replaced_are_heard_of() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let aside = data.path().join("aside");
    std::fs::rename(agent.folder(), &aside).unwrap();
    let mut host = TestHost::new(data.path());
    host.settings.watch = Watch::Auto;
    host.settings.sweep_interval = NEVER;
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    std::fs::rename(&aside, agent.folder()).unwrap();
    let mut ids = vec![agent.text("there at last")];
    shown(&slack, 1).await;
    // The same files in another folder: its former watch tells nothing of it, a poll does.
    std::fs::create_dir(&aside).unwrap();
    for name in ["inbound.db", "outbound.db"] {
        std::fs::copy(agent.folder().join(name), aside.join(name)).unwrap();
    }
    std::fs::rename(agent.folder(), data.path().join("former")).unwrap();
    std::fs::rename(&aside, agent.folder()).unwrap();
    ids.push(agent.text("from another folder"));
    shown(&slack, 2).await;
    ids.push(agent.text("again"));
    shown(&slack, 3).await;
    slack.assert_exactly_once(&ids);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn without_file_events_a_commit_is_found_by_polling() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let mut host = TestHost::new(data.path());
    host.settings.sweep_interval = NEVER;
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    let ids = [agent.text("one"), agent.text("two")];
    shown(&slack, 2).await;
    slack.assert_exactly_once(&ids);
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_session_that_comes_later_is_found() {
    for watch in [Watch::Auto, Watch::Poll] {
        let data = DataDir::new();
        session(&data, "sess-a");
        let mut host = TestHost::new(data.path());
        host.settings.watch = watch;
        let slack = host.channel("slack");
        let relay = host.start().await;
        settled(&relay).await;
        let late = session(&data, "sess-late");
        let mut ids = vec![late.text("hello")];
        shown(&slack, 1).await;
        ids.push(late.text("again"));
        shown(&slack, 2).await;
        slack.assert_exactly_once(&ids);
        relay.shutdown(SHUTDOWN_DEADLINE).await;
    }
}

#[actix_rt::test]
async fn a_session_that_comes_while_the_registry_is_down_is_found() {
    let data = DataDir::new();
    session(&data, "sess-a");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    for death in 0..5_u64 {
        relay.inject_panic(&ActorName::Registry);
        let late = session(&data, &format!("sess-{death}"));
        late.text("hello");
        restarted(&relay, death + 1).await;
        shown(&slack, usize::try_from(death).unwrap() + 1).await;
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn closed_and_stopped_sessions_are_drained_too() {
    let data = DataDir::new();
    let spec = |id: &str| SessionSpec::new("ag-main").id(id).chat("slack", "slack:C1").thread(id);
    let closed = data.session(spec("sess-closed").closed());
    let stopped = data.session(spec("sess-stopped").stopped());
    let ids = [closed.text("my last words"), stopped.text("mine too")];
    let mut host = TestHost::new(data.path());
    host.settings.sweep_interval = Duration::from_millis(50);
    let slack = host.channel("slack");
    let relay = host.start().await;
    shown(&slack, 2).await;
    // A container may write and exit before anybody looks.
    let late = [stopped.text("one more"), closed.text("one more")];
    shown(&slack, 4).await;
    settled(&relay).await;
    slack.assert_exactly_once(&[&ids[..], &late[..]].concat());
    relay.shutdown(SHUTDOWN_DEADLINE).await;
    for agent in [&closed, &stopped] {
        assert_eq!(agent.delivered().len(), 2, "{}", agent.session_id());
    }
}

#[actix_rt::test]
async fn a_message_goes_out_at_its_time_and_never_before() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let mut host = TestHost::new(data.path());
    host.settings.sweep_interval = NEVER;
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    // Some of these times come while the row is being read.
    let mut ids = Vec::new();
    let mut due = Vec::new();
    for ms in [300, 0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 30, 50] {
        let at = in_ms(ms);
        ids.push(agent.row(agent.text_row("later").deliver_after(&at.to_iso())));
        due.push(at);
    }
    shown(&slack, ids.len()).await;
    slack.assert_exactly_once(&ids);
    for call in slack.calls() {
        let place = ids.iter().position(|id| *id == call.message_id.as_str()).unwrap();
        assert!(
            call.started_at >= due[place],
            "{}: {:?} before {:?}",
            call.message_id,
            call.started_at,
            due[place]
        );
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_message_whose_time_comes_while_the_registry_is_down_is_delivered() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let mut host = TestHost::new(data.path());
    host.settings.sweep_interval = NEVER;
    let slack = host.channel("slack");
    let relay = host.start().await;
    settled(&relay).await;
    for death in 0..4 {
        let at = in_ms(200);
        let id = agent.row(agent.text_row("later").deliver_after(&at.to_iso()));
        record(&relay, &id, |record| record.state != DeliveryState::Dead).await;
        until("its time has almost come", || in_ms(3) >= at).await;
        relay.inject_panic(&ActorName::Registry);
        shown(&slack, death + 1).await;
    }
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix_rt::test]
async fn a_backlog_that_vanished_does_not_hold_up_what_came_after_it() {
    let data = DataDir::new();
    let agent = session(&data, "sess-a");
    let gated = agent.text("at the gate");
    // More than are in memory at a time.
    let lost = agent.rows((0..800).map(|_| agent.text_row("to be deleted")).collect());
    let last = agent.text("still here");
    let mut host = TestHost::new(data.path());
    let slack = host.channel("slack");
    slack.on_message(&gated, [Answer::gate()]);
    let relay = host.start().await;
    record(&relay, &last, |record| record.state == DeliveryState::Queued).await;
    let lost_for_good = &lost[300..];
    let outbound = agent.outbound();
    for id in lost_for_good {
        outbound.execute("DELETE FROM messages_out WHERE id = ?1", [id]).unwrap();
    }
    slack.open_gate();
    shown(&slack, 302).await;
    settled(&relay).await;
    slack.assert_delivered(&last);
    let dead = relay.statistics().dead;
    assert_eq!(dead, lost_for_good.len() as u64, "each is listed as dead");
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}
