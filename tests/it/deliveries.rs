//! `nanorelay deliveries` as a process, on a host that is stopped and on one that runs.

use crate::serve::configure;
use crate::support::program::{Finished, nanorelay};
use crate::support::sink::Sink;
use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

/// What the issue promises; more may come.
const PROMISED_KEYS: [&str; 12] = [
    "session_id",
    "message_id",
    "state",
    "attempts",
    "error_class",
    "error",
    "channel_type",
    "platform_id",
    "thread_id",
    "platform_message_id",
    "next_attempt_at",
    "updated_at",
];
const ALL_KEYS: [&str; 14] = [
    "session_id",
    "message_id",
    "seq",
    "kind",
    "state",
    "attempts",
    "error_class",
    "error",
    "channel_type",
    "platform_id",
    "thread_id",
    "platform_message_id",
    "next_attempt_at",
    "updated_at",
];

/// A session whose second message names an attachment that is not there.
struct World {
    data: DataDir,
    agent: TestAgent,
    good: String,
    dead: String,
}

impl World {
    fn new() -> Self {
        let data = DataDir::new();
        let agent = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
        configure(&data, &Sink::table("*"));
        let good = agent.text("hello");
        let mut row = agent.text_row("");
        row.content = json!({ "text": "see the file", "files": ["report.pdf"] }).to_string();
        let dead = agent.row(row);
        Self { data, agent, good, dead }
    }

    /// Writes the file that was missing.
    fn fix(&self) {
        let folder = self.agent.outbox().join(&self.dead);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("report.pdf"), b"%PDF").unwrap();
    }

    fn run(&self, command: &[&str]) -> Finished {
        nanorelay(&[&["deliveries"], command].concat()).data(self.data.path()).run()
    }

    /// One message is delivered and one is dead.
    fn check_metrics(&self) {
        let metrics = nanorelay(&["metrics"]).data(self.data.path()).run().expect_code(0).stdout;
        for line in [
            "# TYPE nanorelay_dead_letters counter",
            "nanorelay_dead_letters_total{class=\"attachment\"} 1",
            "nanorelay_messages_total{outcome=\"delivered\"} 1",
            "nanorelay_messages_total{outcome=\"dead\"} 1",
            "nanorelay_delivery_attempts_total{channel=\"*\"} 1",
            "nanorelay_delivery_seconds_count{channel=\"*\"} 1",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
        }
        assert!(metrics.ends_with("# EOF\n"));
    }

    fn list(&self, more: &[&str]) -> Vec<Value> {
        let listed = self.run(&[&["list", "--json"], more].concat());
        let rows = listed.json().as_array().expect("an array").clone();
        listed.expect_code(if rows.is_empty() { 3 } else { 0 });
        rows
    }

    /// What must hold while the host runs and while it does not.
    fn check_lists(&self) {
        let (session, dead) = (self.agent.session_id(), self.dead.as_str());
        let rows = self.list(&[]);
        assert_eq!(rows.len(), 2);
        for row in &rows {
            let keys: Vec<&String> = row.as_object().expect("an object").keys().collect();
            assert_eq!(keys, ALL_KEYS);
            assert!(PROMISED_KEYS.iter().all(|key| row.get(key).is_some()));
        }
        assert_eq!(self.list(&["--state", "dead"]).len(), 1);
        assert_eq!(self.list(&["--state", "dead", "--state", "delivered"]).len(), 2);
        assert_eq!(self.list(&["--session", session, "--limit", "1"]).len(), 1);
        assert!(self.list(&["--session", "nobody"]).is_empty());
        assert!(self.list(&["--state", "ambiguous"]).is_empty());
        let shown = self.run(&["show", session, dead, "--json"]).expect_code(0).json();
        assert_eq!((&shown["state"], &shown["error_class"]), (&json!("dead"), &json!("attachment")));
        assert_eq!((&shown["channel_type"], &shown["platform_id"]), (&json!("slack"), &json!("slack:C1")));
        assert!(shown["error"].as_str().is_some_and(|error| error.contains("report.pdf")), "{shown}");
        let text = self.run(&["show", session, dead]).expect_code(0).stdout;
        assert!(text.contains("state                dead\n"), "{text}");
        let table = self.run(&["list"]).expect_code(0).stdout;
        assert!(table.starts_with("STATE") && table.lines().count() == 3, "{table}");
        let absent = self.run(&["show", session, "nothing", "--json"]).expect_code(3);
        assert_eq!(absent.stdout, "");
        let refused = self.run(&["replay", session, "nothing", "--json"]).expect_code(3);
        assert_eq!(refused.stdout, "{\"replayed\":0}\n");
        let settled = self.run(&["replay", session, &self.good, "--json"]).expect_code(3);
        assert_eq!(settled.stdout, "{\"replayed\":0}\n", "what is delivered is not sent again");
    }
}

#[test]
fn a_stopped_host_lists_and_replays() {
    let world = World::new();
    assert!(world.list(&[]).is_empty(), "no host ever ran here");
    let unreachable = nanorelay(&["metrics"]).data(world.data.path()).run().expect_code(69);
    assert!(unreachable.stderr.contains("no host listens"), "{unreachable:?}");
    let drain = || nanorelay(&["drain", "--json"]).data(world.data.path()).run().expect_code(0).json();
    assert_eq!(drain()["dead"], 1);
    world.check_lists();
    world.fix();
    let replayed = world.run(&["replay", world.agent.session_id(), &world.dead, "--json"]).expect_code(0);
    assert_eq!(replayed.stdout, "{\"replayed\":1}\n");
    assert_eq!(world.list(&["--state", "queued"]).len(), 1);
    assert_eq!(drain()["delivered"], 1);
    let ids = Sink::of(world.data.path()).ids();
    assert_eq!(ids, [world.good.clone(), world.dead.clone()]);
    assert!(!world.agent.outbox().join(&world.dead).exists(), "the attachment goes after the delivery");
}

#[test]
fn a_running_host_lists_and_delivers_what_is_replayed() {
    let world = World::new();
    let sink = Sink::of(world.data.path());
    let mut host = nanorelay(&["serve"]).data(world.data.path()).start();
    assert_eq!(host.wait_for_log("given up")["msg_id"], world.dead.as_str());
    sink.wait_for(1);
    // The line is in the file a moment before its outcome is in the ledger.
    host.wait_for_log("delivered");
    world.check_lists();
    world.check_metrics();
    world.fix();
    let replayed = world.run(&["replay", "--all", "--state", "dead", "--json"]).expect_code(0);
    assert_eq!(replayed.stdout, "{\"replayed\":1}\n");
    assert_eq!(sink.wait_for(2)[1]["id"], world.dead.as_str());
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    assert_eq!(sink.ids(), [world.good.clone(), world.dead.clone()]);
    let status = world.agent.delivered().into_iter().find(|row| row.message_out_id == world.dead).unwrap();
    assert_eq!(status.status.as_deref(), Some("delivered"), "the agent sees that it arrived after all");
}

#[test]
fn a_replay_whose_cause_is_not_fixed_is_dead_again_and_told_again() {
    let world = World::new();
    let drain = || nanorelay(&["drain", "--json"]).data(world.data.path()).run().expect_code(0).json();
    assert_eq!(drain()["dead"], 1);
    world.run(&["replay", "--all", "--session", world.agent.session_id()]).expect_code(0);
    assert_eq!(drain()["dead"], 1);
    let notices = world.agent.messages_in().into_iter().filter(|row| row.content.contains("delivery_failed"));
    assert_eq!(notices.count(), 2);
    assert_eq!(Sink::of(world.data.path()).ids(), std::slice::from_ref(&world.good));
}

#[test]
fn ids_that_are_no_ids_are_wrong_usage() {
    let world = World::new();
    world.run(&["replay", "", "x"]).expect_code(2);
    world.run(&["list", "--state", "lost"]).expect_code(2);
    world.run(&["replay"]).expect_code(2);
}

#[test]
fn a_stopped_host_snoozes_and_cancels() {
    let world = World::new();
    let session = world.agent.session_id();
    let drain = |code| nanorelay(&["drain", "--json"]).data(world.data.path()).run().expect_code(code).json();
    drain(0);
    world.fix();
    world.run(&["replay", session, &world.dead]).expect_code(0);
    let snoozed = world.run(&["snooze", session, &world.dead, "--for", "2h"]).expect_code(0).stdout;
    assert!(snoozed.starts_with("not sent before 20"), "{snoozed}");
    assert_eq!(drain(0)["scheduled"], 1);
    let would = world.run(&["cancel", "--all", "--dry-run", "--json"]).expect_code(0).json();
    assert_eq!(would[0]["message_id"], world.dead.as_str());
    world.run(&["cancel", session, &world.dead, "--reason", "a typo"]).expect_code(0);
    let listed = world.list(&["--class", "cancelled"]);
    assert_eq!(listed[0]["error"], "cancelled by an operator: a typo");
    let refused = world.run(&["cancel", session, &world.good]).expect_code(1);
    assert!(refused.stderr.contains("the message is delivered"), "{refused:?}");
    world.run(&["cancel", session, "nobody"]).expect_code(3);
    world.run(&["snooze", session, "nobody", "--for", "1h"]).expect_code(3);
    world.run(&["cancel", "--all", "--state", "delivered"]).expect_code(2);
    drain(0);
    let told = world.agent.messages_in().into_iter().filter(|row| row.content.contains("a typo"));
    assert_eq!(told.count(), 1);
}

#[test]
fn a_running_host_snoozes_and_cancels() {
    let world = World::new();
    let session = world.agent.session_id();
    let mut host = nanorelay(&["serve"]).data(world.data.path()).start();
    host.wait_for_log("given up");
    host.wait_for_log("delivered");
    nanorelay(&["pause", "session", session]).data(world.data.path()).run().expect_code(0);
    world.fix();
    world.run(&["replay", "--all"]).expect_code(0);
    let snoozed = world.run(&["snooze", session, &world.dead, "--for", "2h", "--json"]).expect_code(0).json();
    assert_eq!(snoozed["snoozed"], true);
    assert_eq!(world.list(&["--state", "queued"])[0]["next_attempt_at"], snoozed["until"]);
    let cancelled = world.run(&["cancel", "--all", "--session", session, "--json"]).expect_code(0);
    assert_eq!(cancelled.stdout, "{\"cancelled\":1}\n");
    let refused = world.run(&["cancel", session, &world.dead]).expect_code(1);
    assert!(refused.stderr.contains("the message is dead"), "{refused:?}");
    host.signal(Signal::TERM);
    host.finish().expect_code(0);
    let told =
        world.agent.messages_in().into_iter().filter(|row| row.content.contains("cancelled by an operator"));
    assert_eq!(told.count(), 1);
}
