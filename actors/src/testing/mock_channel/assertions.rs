//! Assertions over all calls of a channel. A failed one tells the calls it is about.

use super::{Call, MockChannel, Outcome};
use crate::model::ids::SessionId;
use crate::model::message::Destination;
use crate::model::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

impl MockChannel {
    /// Every one of these messages was shown once, and no other message was shown. The ids must be unique over
    /// all sessions.
    ///
    /// # Panics
    /// When that is not so; the message names each wrong id and its calls.
    #[track_caller]
    pub fn assert_exactly_once<I: AsRef<str>>(&self, message_ids: &[I]) {
        let calls = self.calls();
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.shown) {
            *shown.entry(call.message_id.as_str()).or_default() += 1;
        }
        let expected: BTreeSet<&str> = message_ids.iter().map(AsRef::as_ref).collect();
        assert_eq!(expected.len(), message_ids.len(), "an id was given twice to assert_exactly_once");
        let all: BTreeSet<&str> = expected.iter().chain(shown.keys()).copied().collect();
        let mut complaints = String::new();
        for id in all {
            let wanted = usize::from(expected.contains(id));
            let times = shown.get(id).copied().unwrap_or(0);
            if times != wanted {
                let _ = writeln!(complaints, "{id} was shown {times} times, expected {wanted}");
                complaints.push_str(&list(calls.iter().filter(|call| call.message_id.as_str() == id)));
            }
        }
        assert!(complaints.is_empty(), "{complaints}");
    }

    /// This message was shown once.
    ///
    /// # Panics
    /// When it was not, or more often.
    #[track_caller]
    pub fn assert_delivered(&self, message_id: &str) {
        let calls = self.calls();
        let of_message = || calls.iter().filter(|call| call.message_id.as_str() == message_id);
        let times = of_message().filter(|call| call.shown).count();
        assert_eq!(times, 1, "{message_id} was shown {times} times\n{}", list(of_message()));
    }

    /// Within each lane (session, chat and thread), messages were tried in seq order, one at a time: none was
    /// tried before an earlier one was done with. A replay of dead messages breaks this on purpose.
    ///
    /// # Panics
    /// When a lane was not in order; the message shows its calls.
    #[track_caller]
    pub fn assert_lane_order(&self) {
        let calls = self.calls();
        let mut lanes: BTreeMap<(&SessionId, &Destination), Vec<&Call>> = BTreeMap::new();
        for call in &calls {
            lanes.entry((&call.session_id, &call.destination)).or_default().push(call);
        }
        for ((session, destination), lane) in lanes {
            for call in &lane {
                if let Some(other) = call.overlaps {
                    let told = list(lane.iter().copied());
                    panic!("call {} began while call {other} of its lane was open\n{told}", call.number);
                }
            }
            for pair in lane.windows(2) {
                let (earlier, later) = (pair[0], pair[1]);
                let again = later.message_id == earlier.message_id;
                let in_order = later.seq > earlier.seq || again;
                let overtaken = again && matches!(earlier.outcome, Outcome::Accepted(_));
                if !in_order || overtaken {
                    let told = list(lane.iter().copied());
                    let what = if overtaken { "tried again after its receipt" } else { "out of seq order" };
                    panic!("lane {session} → {destination:?}: call {} is {what}\n{told}", later.number);
                }
            }
        }
    }

    /// This message was tried, and not before that time: its `deliver_after`, the end of a pause.
    ///
    /// # Panics
    /// When it was tried earlier, or never.
    #[track_caller]
    pub fn assert_not_before(&self, message_id: &str, time: Timestamp) {
        let calls = self.calls();
        let of_message = || calls.iter().filter(|call| call.message_id.as_str() == message_id);
        let first = of_message().map(|call| call.started_at).min();
        let told = list(of_message());
        assert!(first.is_some_and(|at| at >= time), "{message_id} before {} ms\n{told}", time.as_ms());
    }

    /// No message was tried again before the time that the platform had asked for.
    ///
    /// # Panics
    /// When one was.
    #[track_caller]
    pub fn assert_never_early(&self) {
        let calls = self.calls();
        for (index, call) in calls.iter().enumerate() {
            let (Some(hint), Some(answered_at)) = (call.outcome.retry_after(), call.answered_at) else {
                continue;
            };
            let same =
                |next: &&Call| (&next.session_id, &next.message_id) == (&call.session_id, &call.message_id);
            if let Some(next) = calls[index + 1..].iter().find(same) {
                let waited = next.started_at.since(answered_at);
                assert!(waited >= hint, "tried after {waited:?} instead of {hint:?}\n{}", list([call, next]));
            }
        }
    }
}

/// One line for each call.
fn list<'a>(calls: impl IntoIterator<Item = &'a Call>) -> String {
    let mut text = String::new();
    for call in calls {
        let Call { number, session_id, message_id, seq, attempt, started_at, outcome, shown, .. } = call;
        let at = started_at.as_ms();
        let _ = writeln!(
            text,
            "  call {number}: {session_id} {message_id} seq {seq} attempt {attempt} at {at} ms: {outcome:?}{}",
            if *shown { ", shown" } else { "" }
        );
    }
    if text.is_empty() {
        text.push_str("  no calls\n");
    }
    text
}
