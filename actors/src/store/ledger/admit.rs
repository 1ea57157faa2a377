//! First sight of a message.

use super::LedgerTransaction;
use super::edits::Merged;
use crate::model::error::ErrorClass;
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::message::Lane;
use crate::model::revision::Revision;
use crate::model::time::Timestamp;
use crate::report::DeliveryState;
use crate::store::error::StoreError;
use crate::store::outbound::Cursor;
use rusqlite::{OptionalExtension, params};

/// A message that the ledger is to know from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The message.
    pub message_id: MessageId,
    /// Its position in the session.
    pub seq: i64,
    /// The row's kind.
    pub kind: String,
    /// The queue it joins.
    pub lane: Lane,
    /// The target as the row names it, for the lists.
    pub channel_type: Option<String>,
    /// See `channel_type`.
    pub platform_id: Option<String>,
    /// See `channel_type`.
    pub thread_id: Option<String>,
    /// Whether it declares attachments.
    pub has_files: bool,
    /// Whether it may go, must wait, or can go nowhere.
    pub initial: InitialState,
    /// The change of an earlier message that it asks for.
    pub revision: Option<Revision>,
    /// When the host heard of it, unless that is now: it counts as due from then.
    pub heard_at: Option<Timestamp>,
}

/// How a message enters the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitialState {
    /// May be sent now.
    Due,
    /// May not be sent before that time.
    Scheduled(Timestamp),
    /// Can never be sent.
    Dead {
        /// Kind of failure.
        class: ErrorClass,
        /// In words.
        reason: String,
    },
}

/// What the ledger says to an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It did not know the message.
    New,
    /// It knew it already, in this state.
    Known(DeliveryState),
    /// Its seq is one up to which everything was settled, and the ledger does not know it (any more). It may have
    /// been sent before, so it is dead now: visible, and never sent unless an operator replays it.
    BelowLowWater,
    /// It changes a message that has not been sent yet, and is settled by that. The other one is sent with the new
    /// content or, when it was deleted, is dead.
    Merged {
        /// Whether the other one was deleted.
        cancelled: bool,
    },
}

impl LedgerTransaction<'_> {
    /// Records new messages of one session and moves its cursor. Answers in the order of `admissions`.
    ///
    /// The low-water mark in the ledger counts when it is above `low_water_seq`: pruning has raised it.
    pub fn admit(
        &mut self,
        session: &SessionId,
        group: &AgentGroupId,
        admissions: &[Admission],
        cursor: Cursor,
        low_water_seq: i64,
        now: Timestamp,
    ) -> Result<Vec<Admitted>, StoreError> {
        let low_water_seq = self.low_water_seq(session)?.map_or(low_water_seq, |seq| seq.max(low_water_seq));
        let mut answers = Vec::with_capacity(admissions.len());
        for admission in admissions {
            answers.push(self.admit_one(session, admission, low_water_seq, now)?);
        }
        self.transaction
            .prepare_cached(
                "INSERT INTO sessions
                   (session_id, agent_group_id, cursor_seq, cursor_rowid, low_water_seq, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT(session_id) DO UPDATE SET
                   cursor_seq = ?3, cursor_rowid = ?4, updated_at = ?6",
            )?
            .execute(params![
                session.as_str(),
                group.as_str(),
                cursor.seq,
                cursor.rowid,
                low_water_seq,
                now.as_ms()
            ])?;
        Ok(answers)
    }

    fn admit_one(
        &mut self,
        session: &SessionId,
        admission: &Admission,
        low_water_seq: i64,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        let is_below = admission.seq <= low_water_seq;
        let forgotten = InitialState::Dead {
            class: ErrorClass::Forgotten,
            reason: "a message with this seq may have been sent before; replay it if it was not".to_owned(),
        };
        let initial = if is_below { &forgotten } else { &admission.initial };
        let mut state = DeliveryState::Queued;
        let mut next_attempt_at = None;
        let mut first_due_at = admission.heard_at.map_or(now, |heard_at| heard_at.min(now));
        let (mut class, mut error) = (None, None);
        match initial {
            InitialState::Due => {}
            InitialState::Scheduled(due) => {
                next_attempt_at = Some(due.as_ms());
                first_due_at = *due;
            }
            InitialState::Dead { class: error_class, reason } => {
                state = DeliveryState::Dead;
                class = Some(error_class.as_str());
                error = Some(reason.as_str());
            }
        }
        let inserted = self
            .transaction
            .prepare_cached(
                "INSERT INTO deliveries
                   (session_id, message_id, seq, kind, lane, channel_type, platform_id, thread_id, has_files,
                    state, first_due_at, next_attempt_at, error_class, error, projected, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                session.as_str(),
                admission.message_id.as_str(),
                admission.seq,
                admission.kind,
                admission.lane.key(),
                admission.channel_type,
                admission.platform_id,
                admission.thread_id,
                admission.has_files,
                state.as_str(),
                first_due_at.as_ms(),
                next_attempt_at,
                class,
                error,
                state != DeliveryState::Dead,
                now.as_ms(),
            ])?;
        if inserted == 1 {
            if is_below {
                return Ok(Admitted::BelowLowWater);
            }
            let merged = match initial {
                InitialState::Due => self.merge(session, admission, now)?,
                InitialState::Scheduled(_) | InitialState::Dead { .. } => Merged::No,
            };
            return Ok(match merged {
                Merged::Edited => Admitted::Merged { cancelled: false },
                Merged::Cancelled => Admitted::Merged { cancelled: true },
                Merged::No => Admitted::New,
            });
        }
        let known = self.state_of(session, &admission.message_id)?;
        Ok(known.map_or(Admitted::New, Admitted::Known))
    }

    /// Where a message stands; `None` when the ledger does not know it.
    pub fn state_of(
        &mut self,
        session: &SessionId,
        message: &MessageId,
    ) -> Result<Option<DeliveryState>, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT state FROM deliveries WHERE session_id = ?1 AND message_id = ?2")?;
        let state = statement
            .query_row(params![session.as_str(), message.as_str()], |row| row.get::<_, String>(0))
            .optional()?;
        state.map(|name| super::parse_state(&name)).transpose()
    }
}
