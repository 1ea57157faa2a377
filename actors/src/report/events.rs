//! What the relay tells while it happens.

use crate::model::tenant::TenantSet;
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum EventKind {
    /// A channel accepted a message.
    Delivered,
    /// An attempt at a message failed; it is tried again.
    Retrying,
    /// A message was given up.
    Dead,
    /// It is unknown whether a message was sent.
    Ambiguous,
    /// A message waits for an operator.
    Held,
    /// A session cannot be served.
    Quarantined,
    /// A session is served again.
    Released,
    /// An operator holds something back.
    Paused,
    /// An operator lets it go on.
    Resumed,
    /// A platform, or its failures, hold a channel or a destination back.
    ChannelBlocked,
    /// A run of a task has begun, ended, or was left out.
    TaskRun,
    /// A session was made.
    SessionCreated,
    /// A session's inbox got messages.
    Inbound,
    /// An operator changed what is to become of a message.
    Changed,
    /// This reader was too slow, and events are missing here: load again what is shown.
    Overflow,
    /// The event to go on after is not known any more: load again what is shown.
    Reset,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 16] = [
        EventKind::Delivered,
        EventKind::Retrying,
        EventKind::Dead,
        EventKind::Ambiguous,
        EventKind::Held,
        EventKind::Quarantined,
        EventKind::Released,
        EventKind::Paused,
        EventKind::Resumed,
        EventKind::ChannelBlocked,
        EventKind::TaskRun,
        EventKind::SessionCreated,
        EventKind::Inbound,
        EventKind::Changed,
        EventKind::Overflow,
        EventKind::Reset,
    ];

    /// The kind as text, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Delivered => "delivered",
            EventKind::Retrying => "retrying",
            EventKind::Dead => "dead",
            EventKind::Ambiguous => "ambiguous",
            EventKind::Held => "held",
            EventKind::Quarantined => "quarantined",
            EventKind::Released => "released",
            EventKind::Paused => "paused",
            EventKind::Resumed => "resumed",
            EventKind::ChannelBlocked => "channel_blocked",
            EventKind::TaskRun => "task_run",
            EventKind::SessionCreated => "session_created",
            EventKind::Inbound => "inbound",
            EventKind::Changed => "changed",
            EventKind::Overflow => "overflow",
            EventKind::Reset => "reset",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it is about the reader itself, and told to every reader.
    pub fn is_about_reader(self) -> bool {
        matches!(self, EventKind::Overflow | EventKind::Reset)
    }
}

/// The place of an event: a life of the host, and a number in it. As text `<life>-<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Which start of the host on its data directory.
    pub life: u64,
    /// The events of one life are numbered without gaps, from 1.
    pub number: u64,
}

/// A text names no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event is named by two numbers, such as 7-1234")]
pub struct InvalidEventId;

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.life, self.number)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (life, number) = text.split_once('-').ok_or(InvalidEventId)?;
        let parse = |text: &str| text.parse().map_err(|_| InvalidEventId);
        Ok(Self { life: parse(life)?, number: parse(number)? })
    }
}

/// One event as it is told. What does not apply is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RelayEvent {
    /// Its place; see [`EventId`].
    pub id: String,
    /// When it happened; RFC 3339 UTC.
    pub at: String,
    /// What happened.
    pub kind: EventKind,
    /// The session that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The tenant of that session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The message, or the run of a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The channel account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The kind of failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// More about it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Until when it lasts, or when it is tried next; RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// How long after it was known of or due a message was accepted, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
}

/// Which events a reader wants. Empty = all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those of sessions of these tenants.
    pub tenants: Option<TenantSet>,
    /// Only those of these kinds; empty = every kind.
    pub kinds: Vec<EventKind>,
    /// Only those of this session.
    pub session_id: Option<String>,
}

/// What came of messages in one step of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HistoryPoint {
    /// When the step began; RFC 3339 UTC.
    pub at: String,
    /// Messages that a channel accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// Half of the accepted messages came at most so long after the host knew of them or they were due, in milliseconds.
    pub p50_ms: Option<u64>,
    /// All but a hundredth of them.
    pub p99_ms: Option<u64>,
}

/// What came of messages over some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeliveryHistory {
    /// The length of a step, in milliseconds.
    pub step_ms: u64,
    /// The steps, the oldest first; the last one goes on.
    pub points: Vec<HistoryPoint>,
}

impl From<crate::model::history::Point> for HistoryPoint {
    fn from(point: crate::model::history::Point) -> Self {
        Self {
            at: Timestamp::to_iso(point.at),
            delivered: point.delivered,
            failed: point.failed,
            dead: point.dead,
            p50_ms: point.lag.map(|lag| lag.p50_ms),
            p99_ms: point.lag.map(|lag| lag.p99_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_event_is_read_as_it_is_written() {
        let id = EventId { life: 3, number: 42 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "3", "3-", "-3", "a-1", "3-4-5", "-3-4"] {
            assert_eq!(wrong.parse::<EventId>(), Err(InvalidEventId), "{wrong}");
        }
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.as_str()), Some(kind));
        }
    }
}
