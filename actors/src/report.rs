//! What the relay tells about deliveries: one record each, and the counts of a run.

mod audit;
mod events;
mod lists;
mod operating;
mod replay;
mod standing;
mod tasks;

pub use audit::{AuditEnd, AuditEntry, AuditFilter, AuditOutcome, AuditRecord, AuditVia};
pub use events::{
    DeliveryHistory, EventFilter, EventId, EventKind, HistoryPoint, InvalidEventId, RelayEvent,
};
pub(crate) use lists::holds_text;
pub use lists::{
    DeliveryCursor, InboundRecord, OutboundRecord, Page, SessionOverview, SessionQuery, SessionState,
};
pub use operating::{BreakerRecord, ChannelRecord, RateRecord, TenantRecord};
pub use replay::{InvalidRate, ReplayRate};
pub use standing::{BusySession, FailingRecord, OldestUndelivered, SessionCounts, Standing, StateCounts};
pub use tasks::{RunFilter, RunRecord, RunResult, TaskFilter, TaskList, TaskRecord, TaskStatus, TaskVerb};

use crate::model::hold::{Hold, HoldCause, HoldScopeKind};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Seen, not yet tried.
    Queued,
    /// An attempt is on its way.
    Sending,
    /// Failed for now; tried again at `next_attempt_at`.
    Retrying,
    /// Accepted by the platform, applied, or routed to another agent.
    Delivered,
    /// Will not be tried again unless it is replayed.
    Dead,
    /// Unknown whether sent: the host died, or the connection broke, in mid-send.
    Ambiguous,
    /// Kept back until an operator releases it.
    Held,
}

impl DeliveryState {
    /// All states, in the order of a message's life.
    pub const ALL: [DeliveryState; 7] = [
        DeliveryState::Queued,
        DeliveryState::Sending,
        DeliveryState::Retrying,
        DeliveryState::Delivered,
        DeliveryState::Dead,
        DeliveryState::Ambiguous,
        DeliveryState::Held,
    ];

    /// The state as text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Queued => "queued",
            DeliveryState::Sending => "sending",
            DeliveryState::Retrying => "retrying",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "dead",
            DeliveryState::Ambiguous => "ambiguous",
            DeliveryState::Held => "held",
        }
    }

    /// Whether an operator can cancel such a message.
    pub fn is_cancellable(self) -> bool {
        use DeliveryState::{Ambiguous, Held, Queued, Retrying};
        matches!(self, Queued | Retrying | Held | Ambiguous)
    }

    /// Whether an operator can put such a message back into its lane.
    pub fn is_replayable(self) -> bool {
        matches!(self, DeliveryState::Dead | DeliveryState::Ambiguous | DeliveryState::Held)
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// One delivery as it is listed and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeliveryRecord {
    /// The session that wrote the message.
    pub session_id: String,
    /// The message's id there.
    pub message_id: String,
    /// Position in the session.
    pub seq: i64,
    /// `chat`, `chat-sdk`, `system`, or what the row said.
    pub kind: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Tries so far.
    pub attempts: u32,
    /// Kind of the last failure.
    pub error_class: Option<String>,
    /// The last failure in words.
    pub error: Option<String>,
    /// Target channel type.
    pub channel_type: Option<String>,
    /// Target chat.
    pub platform_id: Option<String>,
    /// Target thread.
    pub thread_id: Option<String>,
    /// The platform's id of the delivered message.
    pub platform_message_id: Option<String>,
    /// When it is tried next, or not before; RFC 3339 UTC.
    pub next_attempt_at: Option<String>,
    /// When this record last changed; RFC 3339 UTC.
    pub updated_at: String,
}

/// One failed attempt at a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AttemptRecord {
    /// Which try it was, 1 for the first; a replay begins anew.
    pub attempt: u32,
    /// When it failed; RFC 3339 UTC.
    pub ended_at: String,
    /// Kind of the failure.
    pub error_class: String,
    /// The failure in words.
    pub error: String,
}

/// One delivery with everything that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeliveryDetails {
    /// Where it stands.
    #[serde(flatten)]
    pub record: DeliveryRecord,
    /// Every attempt that failed, the oldest first.
    pub failed_attempts: Vec<AttemptRecord>,
}

/// What an operator found out about a message of which it was unknown whether it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It has arrived. It counts as delivered.
    Delivered {
        /// The platform's id of it, when known. Agents use it to edit what they said.
        platform_message_id: Option<String>,
    },
    /// It has not arrived. It goes back into its lane, and the attempt is not counted.
    NotDelivered,
}

/// What came of an operator's wish to cancel or to snooze a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intervention {
    /// It is done.
    Done,
    /// The message is on its way at this moment: try again when that has ended.
    InFlight,
    /// The message is in a state in which this cannot be done.
    Unsuitable(DeliveryState),
    /// It is a system action: those are applied at once. What it has planned can be changed as a task.
    SystemAction,
    /// The ledger does not know the message.
    Unknown,
}

impl Intervention {
    /// Why nothing was done, in words; `None` when it was, or when there is no such message.
    pub fn refusal(self) -> Option<String> {
        match self {
            Self::Done | Self::Unknown => None,
            Self::InFlight => Some("the message is on its way at this moment: try again".to_owned()),
            Self::Unsuitable(state) => Some(format!("the message is {}", state.as_str())),
            Self::SystemAction => {
                Some("a system action is applied at once: change the task that it has planned".to_owned())
            }
        }
    }
}

/// Which deliveries to list. Empty = all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeliveryFilter {
    /// Only these states; empty = every state.
    pub states: Vec<DeliveryState>,
    /// Only this session.
    pub session_id: Option<String>,
    /// Only this message id.
    pub message_id: Option<String>,
    /// Only messages to this channel type.
    #[serde(default)]
    pub channel_type: Option<String>,
    /// Only those whose last failure was of this kind.
    #[serde(default)]
    pub error_class: Option<String>,
    /// Only those in whose ids, destination or error this text occurs.
    #[serde(default)]
    pub text: Option<String>,
    /// Only those that changed at or after this time, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: Option<i64>,
    /// Only those that changed before this time, in milliseconds since 1970.
    #[serde(default)]
    pub until_ms: Option<i64>,
    /// At most so many, the most recently changed first.
    pub limit: Option<u32>,
}

/// One session as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionRecord {
    /// The session.
    pub session_id: String,
    /// Its agent group.
    pub agent_group_id: String,
    /// Why it cannot be served; none when it can.
    pub quarantine_reason: Option<String>,
    /// Messages that wait to be sent.
    pub waiting: u64,
    /// When this record last changed; RFC 3339 UTC.
    pub updated_at: String,
}

/// One lane that holds something to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LaneRecord {
    /// The session.
    pub session_id: String,
    /// The lane's name, such as `channel/slack/slack:C0TEAM/171.2`, unique within the session.
    pub lane: String,
    /// The message that stands first.
    pub head_message_id: String,
    /// Its position in the session.
    pub head_seq: i64,
    /// Where it stands: `queued`, `sending` or `retrying`.
    pub state: DeliveryState,
    /// Whether the lane waits for it because it has failed.
    pub is_blocked: bool,
    /// Tries so far.
    pub attempts: u32,
    /// Kind of its last failure.
    pub error_class: Option<String>,
    /// Its last failure in words.
    pub error: Option<String>,
    /// When it is tried next; RFC 3339 UTC.
    pub next_attempt_at: Option<String>,
    /// When it failed first, or was due first; RFC 3339 UTC.
    pub since: String,
    /// Messages of the lane that wait behind it.
    pub waiting_behind: u64,
}

/// Which lanes to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LaneFilter {
    /// Only those that wait for a message that has failed.
    pub blocked: bool,
    /// Only those of this session.
    pub session_id: Option<String>,
}

/// Which sessions to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SessionFilter {
    /// Only those that cannot be served.
    pub quarantined: bool,
}

/// What a ledger was rebuilt from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RebuildReport {
    /// Under which name the former ledger is kept; none when there was none.
    pub kept_as: Option<String>,
    /// Sessions that were read.
    pub sessions: u64,
    /// Messages that their `delivered` tables list as delivered.
    pub delivered: u64,
    /// Messages that they list as failed: dead now, and can be replayed.
    pub failed: u64,
    /// Messages that they do not list: sent at the next start.
    pub waiting: u64,
    /// Sessions that cannot be read now, with the reason. They are imported when they can be.
    pub unreadable: Vec<(String, String)>,
}

/// What one run of pruning came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PruneReport {
    /// Delivered messages that the ledger has forgotten.
    pub delivered: u64,
    /// Dead, held and ambiguous ones.
    pub dead: u64,
    /// What the rest takes, in bytes.
    pub used_bytes: u64,
    /// What is free for new rows, in bytes.
    pub free_bytes: u64,
}

/// What holds sends back, as it is listed: an operator's pause, or what a platform asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HoldRecord {
    /// The kind of what is held back.
    pub scope: HoldScopeKind,
    /// Its name, in parts; see [`crate::model::hold::HoldScope::from_parts`].
    pub name: Vec<String>,
    /// What made it.
    pub cause: HoldCause,
    /// When it ends by itself, RFC 3339 UTC; none when it lasts until it is resumed.
    pub until: Option<String>,
    /// In words.
    pub reason: String,
    /// When it was made, RFC 3339 UTC.
    pub since: String,
}

impl From<Hold> for HoldRecord {
    fn from(hold: Hold) -> Self {
        Self {
            scope: hold.scope.kind(),
            name: hold.scope.parts(),
            cause: hold.cause,
            until: hold.until.map(Timestamp::to_iso),
            reason: hold.reason,
            since: hold.since.to_iso(),
        }
    }
}

/// The counts of one run of `drain`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DrainReport {
    /// Accepted by a channel in this run.
    pub delivered: u64,
    /// System actions applied in this run.
    pub applied: u64,
    /// Messages handed to another agent in this run.
    pub routed: u64,
    /// Given up in this run.
    pub dead: u64,
    /// Left: failed for now, tried again later.
    pub retrying: u64,
    /// Left: kept back until released, and messages in sessions that cannot be read.
    pub held: u64,
    /// Left: unknown whether sent.
    pub ambiguous: u64,
    /// Left: not due yet.
    pub scheduled: u64,
}

impl DrainReport {
    /// Whether nothing that was due is left.
    pub fn is_complete(&self) -> bool {
        self.retrying == 0 && self.held == 0 && self.ambiguous == 0
    }
}
