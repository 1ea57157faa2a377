//! What an adapter answers: a receipt, or one of six kinds of error.

use super::time::Timestamp;
use std::time::Duration;

/// Proof that the platform accepted a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The platform's id of the new message, when it gives one. Agents use it to edit what they said.
    pub platform_message_id: Option<String>,
    /// What the platform said about how much more it takes, when it did.
    pub limit: Option<LearnedLimit>,
}

/// What a platform tells about its rate limit in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearnedLimit {
    /// What the limit covers.
    pub scope: LimitScope,
    /// Sends that it takes before `resets_at`.
    pub remaining: u64,
    /// When it counts anew.
    pub resets_at: Timestamp,
}

/// What a rate limit covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// Everything this channel account sends.
    Account,
    /// One chat.
    Destination,
}

/// Why a message was not accepted. The class decides what happens next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The platform asks to slow down. Retried not before the hint.
    #[error("rate limited: {reason}")]
    RateLimited {
        /// How long the platform says to wait.
        retry_after: Option<Duration>,
        /// What must wait.
        scope: LimitScope,
        /// In words.
        reason: String,
    },
    /// Not sent, and worth another try: a refused connection, a 5xx answer.
    #[error("{reason}")]
    Transient {
        /// The platform's hint, when it gave one.
        retry_after: Option<Duration>,
        /// In words.
        reason: String,
    },
    /// Will never be accepted. The message is dead.
    #[error("{reason}")]
    Permanent {
        /// In words.
        reason: String,
    },
    /// The destination is gone for good (HTTP 410): this message and later ones to it are dead.
    #[error("destination is gone: {reason}")]
    DestinationGone {
        /// In words.
        reason: String,
    },
    /// The platform refuses the account's credentials.
    #[error("unauthorized: {reason}")]
    Unauthorized {
        /// In words.
        reason: String,
    },
    /// It is unknown whether the platform accepted the message: the connection broke after the request left.
    #[error("unknown whether sent: {reason}")]
    Ambiguous {
        /// In words.
        reason: String,
    },
    /// The channel cannot send at all now: no adapter, not started, breaker open. Spends no attempt.
    #[error("channel unavailable: {reason}")]
    Unavailable {
        /// In words.
        reason: String,
    },
}

impl SendError {
    /// The class as the ledger and the metrics name it.
    pub fn class(&self) -> ErrorClass {
        match self {
            SendError::RateLimited { .. } => ErrorClass::RateLimited,
            SendError::Transient { .. } => ErrorClass::Transient,
            SendError::Permanent { .. } => ErrorClass::Permanent,
            SendError::DestinationGone { .. } => ErrorClass::DestinationGone,
            SendError::Unauthorized { .. } => ErrorClass::Unauthorized,
            SendError::Ambiguous { .. } => ErrorClass::Ambiguous,
            SendError::Unavailable { .. } => ErrorClass::Unavailable,
        }
    }
}

/// The kind of failure, as it is recorded and listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// See [`SendError::RateLimited`].
    RateLimited,
    /// See [`SendError::Transient`].
    Transient,
    /// See [`SendError::Permanent`].
    Permanent,
    /// See [`SendError::DestinationGone`].
    DestinationGone,
    /// See [`SendError::Unauthorized`].
    Unauthorized,
    /// See [`SendError::Ambiguous`].
    Ambiguous,
    /// See [`SendError::Unavailable`].
    Unavailable,
    /// The row cannot be understood: bad JSON, an unknown kind, a column that is not text.
    Invalid,
    /// The row names no destination, or one that does not exist.
    NoRoute,
    /// The agent may not write to that destination.
    NotPermitted,
    /// A declared attachment is missing or refused.
    Attachment,
    /// A system action was refused; the reason says what was wrong with it.
    ActionRefused,
    /// Too many messages to another agent, or too long a chain of them.
    AgentBudget,
    /// The row was gone from `outbound.db` before it could be sent.
    Vanished,
    /// A host that ran here before recorded it as failed.
    Imported,
    /// The row has a seq up to which the ledger has pruned: it may have been delivered before.
    Forgotten,
    /// The agent has deleted the message before it was sent, or an operator has cancelled it.
    Cancelled,
}

impl ErrorClass {
    /// The class as text, as in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::RateLimited => "rate_limited",
            ErrorClass::Transient => "transient",
            ErrorClass::Permanent => "permanent",
            ErrorClass::DestinationGone => "destination_gone",
            ErrorClass::Unauthorized => "unauthorized",
            ErrorClass::Ambiguous => "ambiguous",
            ErrorClass::Unavailable => "unavailable",
            ErrorClass::Invalid => "invalid",
            ErrorClass::NoRoute => "no_route",
            ErrorClass::NotPermitted => "not_permitted",
            ErrorClass::Attachment => "attachment",
            ErrorClass::ActionRefused => "action_refused",
            ErrorClass::AgentBudget => "agent_budget",
            ErrorClass::Vanished => "vanished",
            ErrorClass::Imported => "imported",
            ErrorClass::Forgotten => "forgotten",
            ErrorClass::Cancelled => "cancelled",
        }
    }
}
