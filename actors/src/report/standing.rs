//! How things stand: what waits, since when, and what fails.

use serde::{Deserialize, Serialize};

/// How things stand at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Standing {
    /// Messages by their state.
    pub counts: StateCounts,
    /// The message that is due and waits longest.
    pub oldest_undelivered: Option<OldestUndelivered>,
    /// What fails now: messages that are tried again, by channel type and kind of error, the most frequent first.
    pub failing: Vec<FailingRecord>,
    /// The sessions with the most messages that wait, the busiest first.
    pub busiest: Vec<BusySession>,
    /// Sessions by their state.
    pub sessions: SessionCounts,
}

/// How many messages there are of each state but `delivered`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StateCounts {
    /// Seen, not yet tried.
    pub queued: u64,
    /// On their way.
    pub sending: u64,
    /// Failed for now.
    pub retrying: u64,
    /// Given up.
    pub dead: u64,
    /// Unknown whether sent.
    pub ambiguous: u64,
    /// Kept back.
    pub held: u64,
}

impl StateCounts {
    /// The counts by the names of the states.
    pub fn by_name(&self) -> [(&'static str, u64); 6] {
        [
            ("queued", self.queued),
            ("sending", self.sending),
            ("retrying", self.retrying),
            ("dead", self.dead),
            ("ambiguous", self.ambiguous),
            ("held", self.held),
        ]
    }
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OldestUndelivered {
    /// Its session.
    pub session_id: String,
    /// Its id there.
    pub message_id: String,
    /// When it was due first, in milliseconds since 1970.
    pub since_ms: i64,
    /// The same as text.
    pub since: String,
}

/// Messages that fail in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FailingRecord {
    /// The channel type that they are for; none = no channel.
    pub channel: Option<String>,
    /// The kind of error.
    pub error_class: String,
    /// How many messages.
    pub count: u64,
    /// When one failed last.
    pub last_at: String,
}

/// A session with messages that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BusySession {
    /// Its id.
    pub session_id: String,
    /// How many wait.
    pub waiting: u64,
}

/// How many sessions there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionCounts {
    /// In `v2.db`.
    pub total: u64,
    /// Of those, the active ones.
    pub active: u64,
    /// Of those, the ones whose agent runs.
    pub running: u64,
    /// Sessions that cannot be served at the moment.
    pub quarantined: u64,
}
