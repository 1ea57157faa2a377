//! The model: what the promises allow, message by message. It knows nothing of how they are kept.

use super::script::{Platform, Row, Script};
use super::stage::{LifeEnd, Seen, Written};
use nanorelay_actors::model::error::SendError;
use nanorelay_actors::report::{DeliveryRecord, DeliveryState};
use nanorelay_actors::testing::{Call, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Tries of a message that fails for now or in an unknown way; see `fast_settings`.
const ATTEMPTS_MAX: u32 = 3;

/// What has become of a message to a chat.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    /// It may be tried.
    Waiting,
    Delivered(Option<String>),
    Dead,
    Ambiguous,
}

/// One message to a chat, followed over all lives.
struct Followed<'a> {
    written: &'a Written,
    fate: Fate,
    /// Tries that the ledger must know of.
    attempts: u32,
    shown: usize,
    /// How often it became unknown whether it had been sent.
    unknown: usize,
    last: Option<&'a Call>,
    /// The answer to the last call was recorded: a crash has not taken it along.
    is_answer_known: bool,
}

/// Fails with words when a promise was not kept.
pub fn judge(script: &Script, seen: &Seen) {
    follow_messages(script.platform, seen);
    check_lanes(seen);
    check_nothing_is_left(script.platform, seen);
    for written in &seen.written {
        check_other_rows(seen, written);
    }
    check_what_agents_are_told(seen);
}

fn is_to_a_chat(row: &Row) -> bool {
    matches!(row, Row::Message { .. } | Row::Later { .. } | Row::Edit { .. })
}

/// Replays every call against the promises, and the ledger at the end of each life.
fn follow_messages(platform: Platform, seen: &Seen) {
    let to_chats = seen.written.iter().filter(|written| is_to_a_chat(&written.row));
    let mut followed: BTreeMap<&str, Followed<'_>> =
        to_chats.map(|written| (written.id.as_str(), Followed::new(written))).collect();
    let mut calls = seen.calls.iter().peekable();
    for life in &seen.lives {
        while let Some(call) = calls.next_if(|call| call.number <= life.calls) {
            let message = followed.get_mut(call.message_id.as_str());
            let message = message.unwrap_or_else(|| panic!("{call:?}: no such message may be sent"));
            message.check_not_early(seen, call);
            message.take(platform, call);
        }
        for message in followed.values_mut() {
            message.compare(platform, life);
        }
    }
    for message in followed.values() {
        message.check_end(platform, seen);
    }
}

impl<'a> Followed<'a> {
    fn new(written: &'a Written) -> Self {
        Self {
            written,
            fate: Fate::Waiting,
            attempts: 0,
            shown: 0,
            unknown: 0,
            last: None,
            is_answer_known: true,
        }
    }

    /// The platform was called.
    fn take(&mut self, platform: Platform, call: &'a Call) {
        let id = &self.written.id;
        assert_eq!(self.fate, Fate::Waiting, "{id} is settled, yet it was sent again: {call:?}");
        self.attempts += 1;
        assert_eq!(call.attempt, self.attempts, "{id}: tries are counted over all lives");
        self.shown += usize::from(call.shown);
        (self.last, self.is_answer_known) = (Some(call), true);
        self.fate = match &call.outcome {
            Outcome::Accepted(receipt) => Fate::Delivered(receipt.platform_message_id.clone()),
            Outcome::Failed(SendError::Permanent { .. }) => Fate::Dead,
            Outcome::Failed(SendError::RateLimited { .. }) => Fate::Waiting,
            Outcome::Failed(SendError::Transient { .. }) if self.attempts < ATTEMPTS_MAX => Fate::Waiting,
            Outcome::Failed(SendError::Transient { .. }) => Fate::Dead,
            Outcome::Failed(SendError::Ambiguous { .. }) | Outcome::Abandoned | Outcome::Panicked => {
                self.unknown += 1;
                match platform {
                    Platform::Hold => Fate::Ambiguous,
                    _ if self.attempts < ATTEMPTS_MAX => Fate::Waiting,
                    _ => Fate::Dead,
                }
            }
            other => panic!("{id}: no platform here answers {other:?}"),
        };
    }

    /// A life has ended: the ledger must say what the model says, or that it does not know.
    fn compare(&mut self, platform: Platform, life: &LifeEnd) {
        let id = &self.written.id;
        let record = life.ledger.iter().find(|record| record.message_id == *id);
        let Some(record) = record else {
            assert_eq!((&self.fate, self.attempts), (&Fate::Waiting, 0), "{id} is not in the ledger");
            return;
        };
        if record.state == DeliveryState::Sending {
            assert!(life.crashed, "{id} was left in mid-send by a host that was shut down");
            // Either the outcome was not recorded, or the platform was not called any more.
            self.is_answer_known = false;
            let called = self.last.filter(|call| call.attempt == record.attempts);
            self.attempts += u32::from(called.is_none());
            // One that was broken off in mid-call counts already.
            self.unknown += usize::from(called.is_some_and(|call| call.outcome.is_answer()));
            self.fate = if platform == Platform::Hold { Fate::Ambiguous } else { Fate::Waiting };
        } else {
            let states: &[DeliveryState] = match self.fate {
                Fate::Waiting => &[DeliveryState::Queued, DeliveryState::Retrying],
                Fate::Delivered(_) => &[DeliveryState::Delivered],
                Fate::Dead => &[DeliveryState::Dead],
                Fate::Ambiguous => &[DeliveryState::Ambiguous],
            };
            assert!(states.contains(&record.state), "{id} is {:?}, yet {record:?}", self.fate);
        }
        assert_eq!(record.attempts, self.attempts, "{id}: {record:?}");
        if let Fate::Delivered(receipt) = &self.fate {
            assert_eq!(record.platform_message_id, *receipt, "{id} has the receipt of its platform");
        }
    }

    /// Nobody may send before the time that the message or the platform names. A clock that was set back between
    /// makes both later at most; it is given the benefit.
    fn check_not_early(&self, seen: &Seen, call: &Call) {
        let set_back = |from: usize| -> Duration {
            let steps = seen.clock_steps.iter().skip(from);
            let before = steps.filter(|step| step.calls < call.number && step.ms < 0);
            Duration::from_millis(before.map(|step| step.ms.unsigned_abs()).sum())
        };
        let Written { id, at, row, clock_steps, .. } = self.written;
        if let Row::Later { ms, .. } = row {
            let due = at.plus(Duration::from_millis(*ms));
            let now = call.started_at.plus(set_back(*clock_steps));
            assert!(now >= due, "{id} was due at {due:?} and sent at {now:?}");
        }
        let Some(earlier) = self.last.filter(|_| self.is_answer_known) else { return };
        if let (Some(hint), Some(answered_at)) = (earlier.outcome.retry_after(), earlier.answered_at) {
            let from = seen.clock_steps.iter().take_while(|step| step.calls < earlier.number).count();
            let now = call.started_at.plus(set_back(from));
            assert!(now >= answered_at.plus(hint), "{id} was sent again after {:?}", now.since(answered_at));
        }
    }

    /// The script is over and nothing is due any more.
    fn check_end(&self, platform: Platform, seen: &Seen) {
        let Self { written, fate, shown, unknown, .. } = self;
        let id = &written.id;
        match platform {
            Platform::Resend => {
                assert!(*shown <= 1 + unknown, "{id} was shown {shown} times, unknown {unknown} times");
            }
            Platform::Hold | Platform::KnowsKeys => assert!(*shown <= 1, "{id} was shown {shown} times"),
        }
        let outbox = seen.agents[written.session].outbox().join(id);
        let has_file = matches!(written.row, Row::Message { file: true, .. });
        match fate {
            Fate::Waiting => panic!("{id} is lost: nobody is going to send it"),
            Fate::Delivered(_) => {
                assert!(*shown >= 1, "{id} is delivered, yet nobody saw it");
                assert!(!outbox.exists(), "{id}: what was delivered leaves no file");
            }
            Fate::Ambiguous => assert_eq!(outbox.exists(), has_file, "{id}: its file stays"),
            Fate::Dead => {}
        }
    }
}

/// In each lane messages are tried in the order of their seqs, one at a time. One that is due later joins when it is.
fn check_lanes(seen: &Seen) {
    let seq = |call: &Call| (call.session_id.clone(), call.destination.clone());
    let mut last: BTreeMap<String, &Call> = BTreeMap::new();
    let later: Vec<&str> = seen
        .written
        .iter()
        .filter(|written| matches!(written.row, Row::Later { .. }))
        .map(|written| written.id.as_str())
        .collect();
    for call in &seen.calls {
        assert_eq!(call.overlaps, None, "two sends of a lane at a time: {call:?}");
        if later.contains(&call.message_id.as_str()) {
            continue;
        }
        let lane = format!("{:?}", seq(call));
        if let Some(before) = last.insert(lane, call) {
            assert!(before.seq <= call.seq, "out of order: {call:?} came after {before:?}");
        }
    }
}

fn check_nothing_is_left(platform: Platform, seen: &Seen) {
    let report = &seen.report;
    assert_eq!([report.retrying, report.held, report.scheduled], [0; 3], "{report:?}");
    assert!(platform == Platform::Hold || report.ambiguous == 0, "{report:?}");
}

fn last_record<'a>(seen: &'a Seen, written: &Written) -> &'a DeliveryRecord {
    let ledger = &seen.lives.last().expect("a life").ledger;
    let found = ledger.iter().find(|record| record.message_id == written.id);
    found.unwrap_or_else(|| panic!("{} is lost: {:?}", written.id, written.row))
}

/// Rows that go to no chat.
fn check_other_rows(seen: &Seen, written: &Written) {
    let record = last_record(seen, written);
    let rows = seen.agents[written.session].messages_in();
    match written.row {
        Row::Message { .. } | Row::Later { .. } | Row::Edit { .. } => {}
        Row::Broken => assert_eq!(record.state, DeliveryState::Dead, "{record:?}"),
        Row::Forbidden => assert_eq!(record.error_class.as_deref(), Some("not_permitted"), "{record:?}"),
        Row::Schedule | Row::Cancel => {
            assert_eq!(record.state, DeliveryState::Delivered, "{record:?}");
            let tasks: Vec<_> = rows.iter().filter(|row| row.id == written.names).collect();
            assert_eq!(tasks.len(), 1, "{}: {rows:?}", written.names);
            let is_ended = seen
                .written
                .iter()
                .any(|other| other.names == written.names && matches!(other.row, Row::Cancel));
            let status = if is_ended { "completed" } else { "pending" };
            assert_eq!(tasks[0].status.as_deref(), Some(status), "{}", written.names);
        }
        Row::Tell => {
            assert_eq!(record.state, DeliveryState::Delivered, "{record:?}");
            let told = seen.peer.messages_in();
            let count = told.iter().filter(|row| text_of(&row.content) == written.names).count();
            assert_eq!(count, 1, "{} was told {count} times", written.names);
        }
    }
}

fn text_of(content: &str) -> String {
    let content: Value = serde_json::from_str(content).expect("JSON");
    content["text"].as_str().unwrap_or_default().to_owned()
}

/// Each agent learns how each of its messages ended, once; its peer hears what it is told in order.
fn check_what_agents_are_told(seen: &Seen) {
    for (number, agent) in seen.agents.iter().enumerate() {
        let told = agent.delivered();
        let notices: Vec<Value> = agent
            .messages_in()
            .iter()
            .map(|row| serde_json::from_str(&row.content).expect("JSON"))
            .filter(|content: &Value| content["type"] == "delivery_failed")
            .collect();
        for written in seen.written.iter().filter(|written| written.session == number) {
            let id = &written.id;
            let record = last_record(seen, written);
            let row = told.iter().find(|row| row.message_out_id == *id);
            let status = row.and_then(|row| row.status.as_deref());
            let notices = notices.iter().filter(|notice| notice["messageId"] == id.as_str()).count();
            match record.state {
                DeliveryState::Delivered => {
                    assert_eq!((status, notices), (Some("delivered"), 0), "{id}");
                    let receipt = row.and_then(|row| row.platform_message_id.as_deref());
                    assert_eq!(receipt, record.platform_message_id.as_deref(), "{id}");
                }
                DeliveryState::Dead => assert_eq!((status, notices), (Some("failed"), 1), "{id}"),
                _ => assert_eq!(status, None, "{id}: nobody knows"),
            }
        }
    }
    let told: Vec<String> = seen.peer.messages_in().iter().map(|row| text_of(&row.content)).collect();
    for session in 0..seen.agents.len() {
        let of_session = seen.written.iter().filter(|written| written.session == session);
        let texts =
            of_session.filter(|written| matches!(written.row, Row::Tell)).map(|written| &written.names);
        let places: Vec<_> = texts.map(|text| told.iter().position(|found| found == text)).collect();
        assert!(places.is_sorted(), "session {session} is heard out of order: {told:?}");
    }
}
