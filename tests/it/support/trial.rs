//! Runs one fixture and compares what came of it with what nanorelay owes.

use super::fixture::{FixtureRow, UpstreamCall, World, materialise};
use super::host::{Run, TestHost};
use super::takeover::{assert_can_be_taken_over, assert_compact_json, assert_seqs_unique};
use nanorelay_actors::report::{DeliveryState, DrainReport};
use nanorelay_actors::testing::{
    Call, DeliveredRow, InboundRow, MockChannel, Outcome, QuestionRow, TestAgent, VirtualClock,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// All fixtures were made on this day, before this hour.
const NOW: &str = "2026-11-22T12:00:00Z";

/// What nanorelay owes for a case. The default is what NanoClaw's own host did. Messages are named by a part of
/// their content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owed {
    /// Contents that the channels accepted, when they are not those of upstream.
    pub accepted: Option<&'static [&'static str]>,
    /// Messages that are dead, and their error class. The agent is told of each.
    pub dead: &'static [(&'static str, &'static str)],
    /// Messages that wait for another try, and their error class.
    pub retrying: &'static [(&'static str, &'static str)],
    /// Messages that are not due.
    pub scheduled: &'static [&'static str],
    /// The only changes of `messages_in` are notices of dead messages, whatever upstream wrote.
    pub only_notices: bool,
    /// The session `main` cannot be read, and this is visible.
    pub main_is_held: bool,
}

/// A fixture that is about to be run.
pub struct Trial {
    pub world: World,
    pub host: TestHost,
}

/// A fixture that was run twice: the second run shows that nothing is done again.
pub struct Ended {
    pub world: World,
    pub host: TestHost,
    before: Snapshot,
    first: (Run, Snapshot),
    second: (Run, Snapshot),
}

/// Everything that a run may change, by session.
#[derive(Debug, PartialEq)]
struct Snapshot {
    delivered: BTreeMap<String, Vec<DeliveredRow>>,
    messages_in: BTreeMap<String, Vec<InboundRow>>,
    outbound_files: BTreeMap<String, Option<Vec<u8>>>,
    questions: Vec<QuestionRow>,
    calls: usize,
}

/// What becomes of one row of `messages_out`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It was done before nanorelay came.
    Imported,
    /// It was given up before nanorelay came.
    ImportedFailure,
    Delivered,
    Applied,
    Routed,
    Dead(&'static str),
    Retrying(&'static str),
    Scheduled,
}

struct OutboundRow {
    id: String,
    seq: i64,
    kind: String,
    channel_type: Option<String>,
    content: String,
}

/// Runs a case as it is.
pub async fn deliver(case: &str) -> Ended {
    Trial::load(case).run().await
}

impl Trial {
    /// Makes the case's data directory, with a mock channel for every adapter that lived upstream.
    pub fn load(case: &str) -> Self {
        let world = materialise(case);
        let mut host = TestHost::new(world.data.path());
        host.clock = VirtualClock::starting_at_text(NOW);
        for channel_type in &world.fixture.upstream.live_adapters {
            host.channel(channel_type);
        }
        Self { world, host }
    }

    /// The mock channel of a type.
    pub fn channel(&self, channel_type: &str) -> &MockChannel {
        &self.host.channels()[channel_type]
    }

    /// Lets a message for which there is no channel wait for longer than a run takes, so that no run ends in the
    /// middle of a try.
    pub fn rarely_try_what_has_no_channel(mut self) -> Self {
        let schedule = &mut self.host.settings.retry.unavailable;
        (schedule.base, schedule.delay_max) = (Duration::from_secs(3600), Duration::from_secs(3600));
        self
    }

    /// Runs a relay on the directory, and then another one.
    pub async fn run(self) -> Ended {
        let Self { world, host } = self;
        let before = Snapshot::take(&world, &host);
        let run = host.drain().await;
        let first = (run, Snapshot::take(&world, &host));
        let run = host.drain().await;
        let second = (run, Snapshot::take(&world, &host));
        Ended { world, host, before, first, second }
    }
}

impl Snapshot {
    fn take(world: &World, host: &TestHost) -> Self {
        let each = |agent: &TestAgent| fs::read(agent.folder().join("outbound.db")).ok();
        let by_session = world.agents.iter();
        Self {
            delivered: by_session.clone().map(|(key, agent)| (key.clone(), agent.delivered())).collect(),
            messages_in: by_session.clone().map(|(key, agent)| (key.clone(), agent.messages_in())).collect(),
            outbound_files: by_session.map(|(key, agent)| (key.clone(), each(agent))).collect(),
            questions: world.data.pending_questions(),
            calls: host.channels().values().map(|channel| channel.calls().len()).sum(),
        }
    }
}

/// Compares everything that a run left with what is owed.
#[track_caller]
pub fn check(ended: &Ended, owed: &Owed) {
    check_calls(ended, owed);
    let mut expected = DrainReport::default();
    for (key, agent) in &ended.world.agents {
        if !(owed.main_is_held && key == "main") {
            for row in outbound_rows(agent) {
                let fate = ended.fate(key, &row, owed);
                count(&mut expected, fate);
                ended.check_row(key, agent, &row, fate);
            }
            assert_seqs_unique_if_readable(agent);
        }
        ended.check_inbound(key, agent, owed);
        assert_can_be_taken_over(agent);
    }
    check_questions(ended);
    if owed.dead.is_empty() && owed.retrying.is_empty() && owed.accepted.is_none() {
        check_delivered_as_upstream(ended);
    }

    let (run, after) = &ended.first;
    if owed.main_is_held {
        assert!(run.report.held > 0, "a session that cannot be read must be visible: {:?}", run.report);
        expected.held = run.report.held;
    }
    assert_eq!(run.report, expected);
    assert_eq!(after.outbound_files, ended.before.outbound_files, "the host never writes outbound.db");

    let (again, after_again) = &ended.second;
    let DrainReport { delivered, applied, routed, dead, .. } = again.report;
    assert_eq!([delivered, applied, routed, dead], [0; 4], "a second run has nothing to do");
    if owed.retrying.is_empty() {
        assert_eq!(after_again, after, "a second run changes nothing");
    }
}

/// What the channels accepted, and in which order.
#[track_caller]
fn check_calls(ended: &Ended, owed: &Owed) {
    let mut accepted: Vec<Call> = Vec::new();
    for channel in ended.host.channels().values() {
        channel.assert_lane_order();
        accepted
            .extend(channel.calls().into_iter().filter(|call| matches!(call.outcome, Outcome::Accepted(_))));
    }
    if let Some(contents) = owed.accepted {
        let mut found: Vec<&str> = accepted.iter().map(|call| call.content.as_str()).collect();
        let mut contents = contents.to_vec();
        found.sort_unstable();
        contents.sort_unstable();
        assert_eq!(found, contents);
        return;
    }
    let mut found: Vec<String> = accepted.iter().map(describe_call).collect();
    let upstream = ended.world.fixture.upstream.adapter_calls.iter();
    let mut expected: Vec<String> =
        upstream.filter(|call| !call.threw && !call.no_adapter).map(describe_upstream_call).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

fn describe_call(call: &Call) -> String {
    let to = &call.destination;
    let files: Vec<_> = call.files.iter().map(|file| (&file.name, file.size, &file.sha256)).collect();
    let thread = to.thread_id.as_ref().map(AsRef::as_ref);
    describe([to.channel_type.as_str(), to.platform_id.as_str(), &call.kind, &call.content], thread, &files)
}

fn describe_upstream_call(call: &UpstreamCall) -> String {
    let files: Vec<_> = call.files.iter().map(|file| (&file.filename, file.size, &file.sha256)).collect();
    let kind = call.kind.as_deref().unwrap_or_default();
    describe([&call.channel_type, &call.platform_id, kind, &call.content], call.thread_id.as_deref(), &files)
}

fn describe(parts: [&str; 4], thread: Option<&str>, files: &[(&String, u64, &String)]) -> String {
    format!("{parts:?} thread {thread:?} files {files:?}")
}

impl Ended {
    #[track_caller]
    fn fate(&self, key: &str, row: &OutboundRow, owed: &Owed) -> Fate {
        let named = |part: &str| row.content.contains(part);
        let before = self.before.delivered[key].iter().find(|found| found.message_out_id == row.id);
        if let Some(found) = before {
            let failed = found.status.as_deref() == Some("failed");
            return if failed { Fate::ImportedFailure } else { Fate::Imported };
        }
        if let Some((_, class)) = owed.dead.iter().find(|(part, _)| named(part)) {
            return Fate::Dead(class);
        }
        if let Some((_, class)) = owed.retrying.iter().find(|(part, _)| named(part)) {
            return Fate::Retrying(class);
        }
        if owed.scheduled.iter().any(|part| named(part)) {
            return Fate::Scheduled;
        }
        match (row.kind.as_str(), row.channel_type.as_deref()) {
            ("system", _) => Fate::Applied,
            (_, Some("agent")) => Fate::Routed,
            _ => Fate::Delivered,
        }
    }

    /// One outbound row: its record, its row in `delivered`, its outbox folder.
    #[track_caller]
    fn check_row(&self, key: &str, agent: &TestAgent, row: &OutboundRow, fate: Fate) {
        let name = format!("{key}/{} ({fate:?})", row.id);
        let (run, after) = &self.first;
        let record = run.record(agent.session_id(), &row.id);
        let state = record.map(|record| record.state);
        let class = record.and_then(|record| record.error_class.as_deref());
        let delivered = after.delivered[key].iter().find(|found| found.message_out_id == row.id);
        let status = delivered.and_then(|found| found.status.as_deref());
        let receipt = delivered.and_then(|found| found.platform_message_id.as_deref());

        match fate {
            Fate::Imported => {
                assert!(matches!(state, None | Some(DeliveryState::Delivered)), "{name}: {record:?}");
                assert_eq!(status, Some("delivered"), "{name}");
            }
            Fate::Delivered | Fate::Applied | Fate::Routed => {
                assert_eq!((state, status), (Some(DeliveryState::Delivered), Some("delivered")), "{name}");
                assert_eq!(receipt, self.receipt(agent, &row.id).as_deref(), "{name}");
                assert_eq!(receipt.is_some(), fate == Fate::Delivered, "{name}: a receipt");
                assert_eq!(
                    record.and_then(|record| record.platform_message_id.as_deref()),
                    receipt,
                    "{name}"
                );
                assert!(!agent.outbox().join(&row.id).exists(), "{name}: the outbox folder goes");
            }
            Fate::Dead(expected) => {
                assert_eq!((state, class), (Some(DeliveryState::Dead), Some(expected)), "{name}");
                let reason = record.and_then(|record| record.error.as_deref());
                assert!(reason.is_some_and(|reason| !reason.is_empty()), "{name}: has a reason");
                assert_eq!((status, receipt), (Some("failed"), None), "{name}");
            }
            Fate::ImportedFailure => {
                assert_eq!((state, class), (Some(DeliveryState::Dead), Some("imported")), "{name}");
                assert_eq!(status, Some("failed"), "{name}");
            }
            Fate::Retrying(expected) => {
                assert_eq!((state, class), (Some(DeliveryState::Retrying), Some(expected)), "{name}");
                assert_eq!(status, None, "{name}: nothing is delivered without a receipt");
            }
            Fate::Scheduled => {
                assert!(matches!(state, None | Some(DeliveryState::Queued)), "{name}: {record:?}");
                assert_eq!(status, None, "{name}");
            }
        }
    }

    /// The platform's id of a message, as its channel gave it.
    fn receipt(&self, agent: &TestAgent, message_id: &str) -> Option<String> {
        let calls = self.host.channels().values().flat_map(|channel: &Arc<MockChannel>| channel.calls());
        calls
            .filter(|call| call.session_id.as_str() == agent.session_id())
            .filter(|call| call.message_id.as_str() == message_id)
            .find_map(|call| match call.outcome {
                Outcome::Accepted(receipt) => receipt.platform_message_id,
                _ => None,
            })
    }

    /// New and changed rows of `messages_in`: upstream's, and a notice for each dead message.
    #[track_caller]
    fn check_inbound(&self, key: &str, agent: &TestAgent, owed: &Owed) {
        let before = &self.before.messages_in[key];
        let mut changed: Vec<&InboundRow> = self.first.1.messages_in[key]
            .iter()
            .filter(|row| !before.iter().any(|old| same_but_acknowledged(old, row)))
            .collect();
        if !(owed.main_is_held && key == "main") {
            for row in outbound_rows(agent) {
                if matches!(self.fate(key, &row, owed), Fate::Dead(_)) {
                    let at = changed.iter().position(|found| is_notice(found, &row));
                    let at = at.unwrap_or_else(|| panic!("{key}: no notice of {}: {changed:?}", row.id));
                    assert_compact_json(&changed.remove(at).content);
                }
            }
        }
        let upstream = self.world.fixture.upstream.changed.get(key).filter(|_| !owed.only_notices);
        for expected in upstream.into_iter().flat_map(|changes| &changes.messages_in) {
            let at = changed.iter().position(|found| is_row(found, expected));
            let at = at.unwrap_or_else(|| panic!("{key}: no row like {expected:?} in {changed:?}"));
            assert_compact_json(&changed.remove(at).content);
        }
        assert!(changed.is_empty(), "{key}: unexpected rows in messages_in: {changed:?}");
    }
}

/// Whether a row is as before, but for an acknowledgement that was taken over into its status.
fn same_but_acknowledged(old: &InboundRow, new: &InboundRow) -> bool {
    let acknowledged = new.status.as_deref() == Some("completed") && new.kind == "chat";
    let status = if acknowledged { new.status.clone() } else { old.status.clone() };
    *new == InboundRow { status, ..old.clone() }
}

/// Whether an inbound row tells the agent that a message of its own was given up.
fn is_notice(found: &InboundRow, row: &OutboundRow) -> bool {
    let Ok(content) = serde_json::from_str::<Value>(&found.content) else { return false };
    content["type"] == "delivery_failed"
        && content["messageId"] == row.id.as_str()
        && content["seq"] == row.seq
        && content["reason"].as_str().is_some_and(|reason| !reason.is_empty())
        && content["attempts"].is_u64()
        && found.kind == "system"
        && found.trigger == Some(0)
        && found.status.as_deref() == Some("pending")
}

/// Whether an inbound row is the one that upstream wrote, apart from ids that a host makes up and times.
fn is_row(found: &InboundRow, expected: &FixtureRow) -> bool {
    let text = |column: &str| expected.get(column).and_then(Value::as_str);
    let number = |column: &str| expected.get(column).and_then(Value::as_i64);
    let made_up = text("id").is_some_and(|id| id.contains("<new>"));
    let same_content = serde_json::from_str::<Value>(&found.content).ok()
        == text("content").and_then(|content| serde_json::from_str(content).ok());
    let id = if made_up { Some(found.id.as_str()) } else { text("id") };
    let series_id = if made_up { id } else { text("series_id") };
    Some(found.id.as_str()) == id
        && found.series_id.as_deref() == series_id
        && found.seq == number("seq")
        && Some(found.kind.as_str()) == text("kind")
        && found.status.as_deref() == text("status")
        && found.process_after.as_deref().map(instant) == text("process_after").map(instant)
        && found.recurrence.as_deref() == text("recurrence")
        && found.tries == number("tries")
        && found.trigger == number("trigger")
        && found.channel_type.as_deref() == text("channel_type")
        && found.platform_id.as_deref() == text("platform_id")
        && found.thread_id.as_deref() == text("thread_id")
        && found.source_session_id.as_deref() == text("source_session_id")
        && found.on_wake == number("on_wake")
        && same_content
}

/// An instant in either of the forms that hosts write.
fn instant(text: &str) -> jiff::Timestamp {
    text.parse()
        .or_else(|_| format!("{}Z", text.replace(' ', "T")).parse())
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// The new rows of `delivered` are those of upstream.
#[track_caller]
fn check_delivered_as_upstream(ended: &Ended) {
    for key in ended.world.agents.keys() {
        let before = &ended.before.delivered[key];
        let new = ended.first.1.delivered[key].iter().filter(|row| !before.contains(row));
        let mut found: Vec<&str> = new.map(|row| row.message_out_id.as_str()).collect();
        let changes = ended.world.fixture.upstream.changed.get(key);
        let rows = changes.into_iter().flat_map(|changes| &changes.delivered);
        let mut expected: Vec<&str> = rows.filter_map(|row| row["message_out_id"].as_str()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{key}");
    }
}

#[track_caller]
fn check_questions(ended: &Ended) {
    let found = &ended.first.1.questions;
    let expected = &ended.world.fixture.upstream.pending_questions;
    assert_eq!(found.len(), expected.len(), "pending_questions: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        let text = |column: &str| expected.get(column).and_then(Value::as_str);
        assert_eq!(Some(found.question_id.as_str()), text("question_id"));
        assert_eq!(Some(found.session_id.as_str()), text("session_id"));
        assert_eq!(Some(found.message_out_id.as_str()), text("message_out_id"));
        assert_eq!(found.channel_type.as_deref(), text("channel_type"));
        assert_eq!(found.platform_id.as_deref(), text("platform_id"));
        assert_eq!(found.thread_id.as_deref(), text("thread_id"));
        assert_eq!(found.title.as_deref(), text("title"));
        let options = |json: Option<&str>| json.and_then(|json| serde_json::from_str::<Value>(json).ok());
        assert_eq!(options(found.options_json.as_deref()), options(text("options_json")));
    }
}

fn count(report: &mut DrainReport, fate: Fate) {
    match fate {
        Fate::Imported | Fate::ImportedFailure => {}
        Fate::Delivered => report.delivered += 1,
        Fate::Applied => report.applied += 1,
        Fate::Routed => report.routed += 1,
        Fate::Dead(_) => report.dead += 1,
        Fate::Retrying(_) => report.retrying += 1,
        Fate::Scheduled => report.scheduled += 1,
    }
}

#[track_caller]
fn assert_seqs_unique_if_readable(agent: &TestAgent) {
    if agent.folder().join("outbound.db").exists() {
        assert_seqs_unique(agent);
    }
}

#[track_caller]
fn outbound_rows(agent: &TestAgent) -> Vec<OutboundRow> {
    if !agent.folder().join("outbound.db").exists() {
        return Vec::new();
    }
    let outbound = agent.outbound();
    let mut statement = outbound
        .prepare("SELECT id, seq, kind, channel_type, content FROM messages_out ORDER BY seq")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let (id, seq, kind) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(OutboundRow { id, seq, kind, channel_type: row.get(3)?, content: row.get(4)? })
    });
    rows.and_then(Iterator::collect).unwrap()
}
