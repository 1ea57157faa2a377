//! What a mock channel can answer, and how a call can end.

use crate::model::error::{LearnedLimit, LimitScope, Receipt, SendError};
use std::time::Duration;

/// What a [`super::MockChannel`] does with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Takes the message; the receipt is `plat-<number of the call>`.
    Accept,
    /// Takes the message under a platform id of the test's choice.
    AcceptAs(String),
    /// Takes the message, and says how much more it takes.
    AcceptAndLimit(LearnedLimit),
    /// Takes the message, and then fails: the answer is lost on its way.
    AcceptThenFail(SendError),
    /// Fails without taking the message.
    Fail(SendError),
    /// Never answers.
    Hang,
    /// Panics with these words.
    Panic(String),
    /// Waits, in tokio's time, before it answers.
    After(Duration, Box<Answer>),
    /// Waits for [`super::MockChannel::open_gate`] before it answers.
    Gate(Box<Answer>),
}

impl Answer {
    /// The account is asked to slow down.
    pub fn rate_limited(retry_after: Option<Duration>) -> Self {
        Self::Fail(SendError::RateLimited {
            retry_after,
            scope: LimitScope::Account,
            reason: "too many requests".to_owned(),
        })
    }

    /// Not sent, worth another try.
    pub fn transient(reason: &str) -> Self {
        Self::Fail(SendError::Transient { retry_after: None, reason: reason.to_owned() })
    }

    /// Never to be accepted.
    pub fn permanent(reason: &str) -> Self {
        Self::Fail(SendError::Permanent { reason: reason.to_owned() })
    }

    /// The destination is asked to slow down; the others are not.
    pub fn destination_rate_limited(retry_after: Option<Duration>) -> Self {
        Self::Fail(SendError::RateLimited {
            retry_after,
            scope: LimitScope::Destination,
            reason: "too many requests for this chat".to_owned(),
        })
    }

    /// The platform has a fault and says when to come again, as HTTP 503 with `Retry-After`.
    pub fn overloaded(retry_after: Duration) -> Self {
        Self::Fail(SendError::Transient { retry_after: Some(retry_after), reason: "overloaded".to_owned() })
    }

    /// The destination is gone for good.
    pub fn destination_gone() -> Self {
        Self::Fail(SendError::DestinationGone { reason: "no such chat".to_owned() })
    }

    /// The account's credentials are refused.
    pub fn unauthorized() -> Self {
        Self::Fail(SendError::Unauthorized { reason: "invalid token".to_owned() })
    }

    /// Accepts, and says how much more the platform takes until when.
    pub fn accept_and_limit(limit: LearnedLimit) -> Self {
        Self::AcceptAndLimit(limit)
    }

    /// The channel cannot send at all now.
    pub fn unavailable(reason: &str) -> Self {
        Self::Fail(SendError::Unavailable { reason: reason.to_owned() })
    }

    /// The connection breaks after the platform took the message.
    pub fn accept_then_drop() -> Self {
        Self::AcceptThenFail(SendError::Ambiguous { reason: "connection reset".to_owned() })
    }

    /// The connection breaks after the request left, and the platform never got it.
    pub fn ambiguous() -> Self {
        Self::Fail(SendError::Ambiguous { reason: "connection reset".to_owned() })
    }

    /// Accepts after a time.
    pub fn slow(time: Duration) -> Self {
        Self::After(time, Box::new(Self::Accept))
    }

    /// Accepts once the gate is open.
    pub fn gate() -> Self {
        Self::Gate(Box::new(Self::Accept))
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Open,
    /// With a receipt.
    Accepted(Receipt),
    /// With an error.
    Failed(SendError),
    /// The caller gave up waiting: a deadline, or its end.
    Abandoned,
    /// With a panic.
    Panicked,
}

impl Outcome {
    /// Whether the caller got an answer.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Failed(_))
    }

    /// How long the caller was told to wait before it tries again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(
                SendError::RateLimited { retry_after, .. } | SendError::Transient { retry_after, .. },
            ) => *retry_after,
            _ => None,
        }
    }
}
