//! An attempt before it is made, and its outcome after.

use super::LedgerTransaction;
use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::model::error::ErrorClass;
use crate::model::ids::{MessageId, SessionId};
use crate::model::message::DeliveryKey;
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::store::error::StoreError;
use rusqlite::{OptionalExtension, params};

/// The answer to the wish to make an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// The attempt is recorded; it may be made once the record is durable.
    Started {
        /// 1 for the first try.
        attempt: u32,
        /// When the message was first due.
        first_due: Timestamp,
        /// Whether an earlier attempt may have arrived.
        maybe_sent: bool,
        /// The content of the agent's edit of it.
        edit: Option<String>,
    },
    /// The message may not be tried before that time.
    NotYet(Timestamp),
    /// The message joins its lane at that time; the lane goes on without it.
    Postponed(Timestamp),
    /// The message is not waiting to be sent.
    Refused(DeliveryState),
    /// The ledger does not know the message.
    Unknown,
}

/// What a settled message did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A channel accepted it.
    Delivered,
    /// A system action was applied.
    Applied,
    /// Another agent received it.
    Routed,
    /// An edit, or a deletion, of a message that had not been sent was carried out before it was.
    Merged,
}

impl Effect {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Effect::Delivered => "delivered",
            Effect::Applied => "applied",
            Effect::Routed => "routed",
            Effect::Merged => "merged",
        }
    }
}

/// How an attempt, or a message's whole life, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done {
        /// What it did.
        effect: Effect,
        /// The platform's id of the new message.
        platform_message_id: Option<String>,
        /// Whether `inbound.db` says so already.
        projected: bool,
    },
    /// Failed; tried again at `at`.
    Retry {
        /// Not before.
        at: Timestamp,
        /// Whether the try counts; it does not when nothing was sent.
        counts_attempt: bool,
        /// Kind of failure.
        class: ErrorClass,
        /// In words.
        reason: String,
    },
    /// Given up.
    Dead {
        /// Kind of failure.
        class: ErrorClass,
        /// In words.
        reason: String,
        /// Whether a try was made that ended so.
        attempted: bool,
        /// Whether `inbound.db` says so already.
        projected: bool,
    },
    /// Not sent; kept back until an operator releases it.
    Held {
        /// Kind of failure.
        class: ErrorClass,
        /// In words.
        reason: String,
        /// Whether a try was made that failed so.
        attempted: bool,
    },
    /// Unknown whether sent; kept for an operator.
    Ambiguous {
        /// In words.
        reason: String,
    },
}

impl LedgerTransaction<'_> {
    /// Records that an attempt is about to be made.
    pub fn begin_attempt(&mut self, key: &DeliveryKey, now: Timestamp) -> Result<Begin, StoreError> {
        let (session, message) = (key.session_id.as_str(), key.message_id.as_str());
        let begin = self
            .transaction
            .prepare_cached(
                "SELECT state, next_attempt_at, attempts, first_due_at,
                   error_class IS NOT NULL AND EXISTS
                     (SELECT 1 FROM attempts a WHERE a.session_id = ?1 AND a.message_id = ?2
                        AND a.error_class = 'ambiguous'),
                   (SELECT content FROM edits e WHERE e.session_id = ?1 AND e.message_id = ?2)
                 FROM deliveries WHERE session_id = ?1 AND message_id = ?2",
            )?
            .query_row([session, message], |row| {
                let ahead = row.get::<_, Option<i64>>(1)?.map(Timestamp::from_ms).filter(|at| *at > now);
                Ok(match (super::state_of(row, 0)?, ahead) {
                    (DeliveryState::Queued, Some(at)) => Begin::Postponed(at),
                    (DeliveryState::Retrying, Some(at)) => Begin::NotYet(at),
                    (DeliveryState::Queued | DeliveryState::Retrying, None) => Begin::Started {
                        attempt: row.get::<_, u32>(2)?.saturating_add(1),
                        first_due: Timestamp::from_ms(row.get(3)?),
                        maybe_sent: row.get(4)?,
                        edit: row.get(5)?,
                    },
                    (state, _) => Begin::Refused(state),
                })
            })
            .optional()?
            .unwrap_or(Begin::Unknown);
        // Not in one statement with the question: what an UPDATE returns goes through a table of its own.
        if let Begin::Started { attempt, .. } = &begin {
            self.transaction
                .prepare_cached(
                    "UPDATE deliveries SET state = 'sending', attempts = ?4, next_attempt_at = NULL, updated_at = ?3
                     WHERE session_id = ?1 AND message_id = ?2",
                )?
                .execute(params![session, message, now.as_ms(), attempt])?;
        }
        Ok(begin)
    }

    /// Takes back the record of an attempt that was not made.
    pub fn abandon_attempt(&mut self, key: &DeliveryKey, now: Timestamp) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 'queued', attempts = attempts - 1, updated_at = ?3
                 WHERE session_id = ?1 AND message_id = ?2 AND state = 'sending'",
            )?
            .execute(params![key.session_id.as_str(), key.message_id.as_str(), now.as_ms()])?;
        Ok(())
    }

    /// Records how it ended. A message that was settled otherwise meanwhile keeps its first outcome:
    /// returns whether this one was taken.
    pub fn finish(
        &mut self,
        session: &SessionId,
        message: &MessageId,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match outcome {
            Outcome::Done { effect, platform_message_id, projected } => {
                self.finish_done(session, message, (*effect, platform_message_id.as_deref(), *projected), now)
            }
            Outcome::Retry { at, counts_attempt, class, reason } => {
                let uncounted = i64::from(!counts_attempt);
                let failure = (DeliveryState::Retrying, *class, reason.as_str());
                self.note_attempt(session, message, *class, reason, now)?;
                self.finish_failed(session, message, failure, Some(*at), (uncounted, true), now)
            }
            Outcome::Dead { class, reason, attempted, projected } => {
                if *attempted {
                    self.note_attempt(session, message, *class, reason, now)?;
                }
                let failure = (DeliveryState::Dead, *class, reason.as_str());
                self.finish_failed(session, message, failure, None, (0, *projected), now)
            }
            Outcome::Held { class, reason, attempted } => {
                if *attempted {
                    self.note_attempt(session, message, *class, reason, now)?;
                }
                // The agent is told of the first one only: it may have written thousands.
                let is_told = self.lane_has_held(session, message)?;
                let failure = (DeliveryState::Held, *class, reason.as_str());
                self.finish_failed(session, message, failure, None, (0, is_told), now)
            }
            Outcome::Ambiguous { reason } => {
                self.note_attempt(session, message, ErrorClass::Ambiguous, reason, now)?;
                let failure = (DeliveryState::Ambiguous, ErrorClass::Ambiguous, reason.as_str());
                self.finish_failed(session, message, failure, None, (0, true), now)
            }
        }
    }

    /// Whether a message of the same lane is held already.
    pub(super) fn lane_has_held(
        &mut self,
        session: &SessionId,
        message: &MessageId,
    ) -> Result<bool, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT 1 FROM deliveries WHERE state = 'held' AND session_id = ?1 AND lane =
               (SELECT lane FROM deliveries WHERE session_id = ?1 AND message_id = ?2) LIMIT 1",
        )?;
        Ok(statement.exists(params![session.as_str(), message.as_str()])?)
    }

    fn finish_done(
        &mut self,
        session: &SessionId,
        message: &MessageId,
        (effect, platform_message_id, projected): (Effect, Option<&str>, bool),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self
            .transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 'delivered', effect = ?3, platform_message_id = ?4,
                   error_class = NULL, error = NULL, next_attempt_at = NULL, projected = ?5, updated_at = ?6
                 WHERE session_id = ?1 AND message_id = ?2 AND state <> 'delivered'",
            )?
            .execute(params![
                session.as_str(),
                message.as_str(),
                effect.as_str(),
                platform_message_id,
                projected,
                now.as_ms(),
            ])?;
        Ok(changed == 1)
    }

    fn finish_failed(
        &mut self,
        session: &SessionId,
        message: &MessageId,
        (state, class, reason): (DeliveryState, ErrorClass, &str),
        next_attempt_at: Option<Timestamp>,
        (uncounted, projected): (i64, bool),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self
            .transaction
            .prepare_cached(
                "UPDATE deliveries SET state = ?3, error_class = ?4, error = ?5, next_attempt_at = ?6,
                   attempts = max(0, attempts - ?7), projected = ?8, updated_at = ?9
                 WHERE session_id = ?1 AND message_id = ?2 AND state NOT IN ('delivered', 'dead')",
            )?
            .execute(params![
                session.as_str(),
                message.as_str(),
                state.as_str(),
                class.as_str(),
                shorten(reason),
                next_attempt_at.map(Timestamp::as_ms),
                uncounted,
                projected,
                now.as_ms(),
            ])?;
        Ok(changed == 1)
    }

    fn note_attempt(
        &mut self,
        session: &SessionId,
        message: &MessageId,
        class: ErrorClass,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO attempts
                 SELECT session_id, message_id, ?3, attempts, ?4, ?5 FROM deliveries
                 WHERE session_id = ?1 AND message_id = ?2",
            )?
            .execute(params![
                session.as_str(),
                message.as_str(),
                now.as_ms(),
                class.as_str(),
                shorten(reason)
            ])?;
        Ok(())
    }

    /// Records that `inbound.db` now says what the ledger says.
    pub fn mark_projected(
        &mut self,
        session: &SessionId,
        messages: &[(MessageId, DeliveryState)],
    ) -> Result<(), StoreError> {
        // A message that was replayed meanwhile has another state and must be projected again.
        let mut statement = self.transaction.prepare_cached(
            "UPDATE deliveries SET projected = 1
             WHERE session_id = ?1 AND message_id = ?2 AND state = ?3",
        )?;
        for (message, state) in messages {
            statement.execute(params![session.as_str(), message.as_str(), state.as_str()])?;
        }
        Ok(())
    }
}

/// At most [`ERROR_TEXT_BYTES_MAX`] bytes of `text`, cut between characters.
fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_TEXT_BYTES_MAX)]
}
