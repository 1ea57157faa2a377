//! Long lists, page by page: what to list, where a page ends, and what is known of a session over all its databases.

use super::{DeliveryFilter, DeliveryRecord};
use crate::model::time::Timestamp;
use crate::runtime::AgentRecord;
use serde::{Deserialize, Serialize};

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// At most as many as were asked for; fewer, also none, when many were looked at that do not match.
    pub items: Vec<T>,
    /// After what the next part begins; `None` when nothing follows.
    pub next: Option<C>,
}

/// A place in the list of deliveries, which is ordered by when they last changed, the latest first. One that changes while
/// the list is read moves to its beginning; all others are listed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryCursor {
    /// When the last one listed had changed, in milliseconds since 1970.
    pub updated_at_ms: i64,
    /// Its session.
    pub session_id: String,
    /// Its id there.
    pub message_id: String,
}

impl DeliveryFilter {
    /// Whether a delivery is one of those that are asked for.
    pub fn matches(&self, record: &DeliveryRecord, updated_at: Timestamp) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        (self.states.is_empty() || self.states.contains(&record.state))
            && is(&self.session_id, Some(&record.session_id))
            && is(&self.message_id, Some(&record.message_id))
            && is(&self.channel_type, record.channel_type.as_deref())
            && is(&self.error_class, record.error_class.as_deref())
            && self.since_ms.is_none_or(|since| updated_at.as_ms() >= since)
            && self.until_ms.is_none_or(|until| updated_at.as_ms() < until)
            && self.text.as_deref().is_none_or(|text| record.holds(text))
    }
}

impl DeliveryRecord {
    /// Whether a text occurs in its ids, its destination or its error, in small or capital letters.
    fn holds(&self, text: &str) -> bool {
        let optional =
            [&self.error, &self.platform_id, &self.thread_id, &self.platform_message_id, &self.error_class];
        [&self.session_id, &self.message_id]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .any(|part| holds_text(part, text))
    }
}

/// Whether `part` occurs in `text`; letters of ASCII may be small or capital.
pub(crate) fn holds_text(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// What the list of sessions can be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum SessionState {
    /// In use.
    Active,
    /// Closed.
    Closed,
    /// Cannot be served at the moment.
    Quarantined,
    /// Its agent runs.
    Running,
}

/// Which sessions to list. Empty = all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only those of this agent group.
    pub agent_group_id: Option<String>,
    /// Only those in this state.
    pub state: Option<SessionState>,
    /// Only those in whose ids, group or chat this text occurs.
    pub text: Option<String>,
}

/// What is known of a session: from `v2.db`, from the ledger, and of its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionOverview {
    /// The session.
    pub session_id: String,
    /// Its agent group.
    pub agent_group_id: String,
    /// Whose it is.
    pub tenant: String,
    /// `active` or `closed`.
    pub status: String,
    /// `running`, `idle` or `stopped`, as `v2.db` has it.
    pub container_status: String,
    /// When it was last active; RFC 3339 UTC.
    pub last_active: Option<String>,
    /// Messages that wait to be sent.
    pub waiting: u64,
    /// Why it cannot be served; none when it can.
    pub quarantine_reason: Option<String>,
    /// The kind of platform of its own chat.
    pub channel_type: Option<String>,
    /// Its own chat.
    pub platform_id: Option<String>,
    /// The thread there.
    pub thread_id: Option<String>,
    /// Its agent, when this host runs it or wants to.
    pub agent: Option<AgentRecord>,
}

/// One row of a session's `outbound.db`, with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OutboundRecord {
    /// The row's place in its table; pages go by it.
    pub rowid: i64,
    /// Its position in the session, when it is a number.
    pub seq: Option<i64>,
    /// Its id, when it is a text.
    pub id: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// When the agent wrote it, as it wrote that.
    pub timestamp: Option<String>,
    /// Not to be sent before, as the agent wrote it.
    pub deliver_after: Option<String>,
    /// Target channel type.
    pub channel_type: Option<String>,
    /// Target chat.
    pub platform_id: Option<String>,
    /// Target thread.
    pub thread_id: Option<String>,
    /// Which row of the inbox it answers.
    pub in_reply_to: Option<String>,
    /// The content; the first [`crate::limits::SHOWN_CONTENT_BYTES_MAX`] bytes of a longer one.
    pub content: Option<String>,
    /// Whether there is more of the content.
    pub is_truncated: bool,
    /// What the ledger says about it; none when it has not been read yet, or was forgotten.
    pub delivery: Option<DeliveryRecord>,
}

/// One row of a session's `inbound.db`, with what its agent said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InboundRecord {
    /// The row's place in its table; pages go by it.
    pub rowid: i64,
    /// Its position in the session, when it is a number.
    pub seq: Option<i64>,
    /// Its id, when it is a text.
    pub id: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// When it was written.
    pub timestamp: Option<String>,
    /// `pending`, `completed`, `failed`, `paused`, or what was written there.
    pub status: Option<String>,
    /// Whether it wakes the agent.
    pub trigger: Option<bool>,
    /// Not to be looked at before.
    pub process_after: Option<String>,
    /// How often it runs, when it is a task.
    pub recurrence: Option<String>,
    /// The task that it is a run of.
    pub series_id: Option<String>,
    /// How often it was taken and not finished.
    pub tries: Option<i64>,
    /// The chat that it came from.
    pub channel_type: Option<String>,
    /// See `channel_type`.
    pub platform_id: Option<String>,
    /// See `channel_type`.
    pub thread_id: Option<String>,
    /// The content; the first [`crate::limits::SHOWN_CONTENT_BYTES_MAX`] bytes of a longer one.
    pub content: Option<String>,
    /// Whether there is more of the content.
    pub is_truncated: bool,
    /// What the agent says it does with it: `processing`, `completed`, `failed`, or a word of its own.
    pub claim: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_whatever_its_letters_are_like() {
        for (text, part, is_there) in [
            ("Bad Gateway", "gate", true),
            ("bad gateway", "GATEWAY", true),
            ("bad", "bad gateway", false),
            ("", "", true),
            ("Übel", "übel", false),
        ] {
            assert_eq!(holds_text(text, part), is_there, "{text:?} {part:?}");
        }
    }
}
