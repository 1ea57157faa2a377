//! What the ledger knows of a session besides its deliveries: cursor, quarantine, claims it has reset.

use super::{LedgerReader, LedgerTransaction};
use crate::limits::CLAIM_RESETS_PER_SESSION_MAX;
use crate::model::error::ErrorClass;
use crate::model::ids::{AgentGroupId, MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::outbound::Cursor;
use rusqlite::{OptionalExtension, params};

/// What is said of an attempt that the end of its host cut off.
const ENDED_IN_MID_SEND: &str = "the host ended in mid-send";

/// How far a session has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCursor {
    /// Rows up to here are in the ledger.
    pub cursor: Cursor,
    /// Rows up to this seq that are not in the ledger were settled before the ledger saw them.
    pub low_water_seq: i64,
}

/// What the ledger knows of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownSession {
    /// How far it has been read; `None` when the ledger has never seen it.
    pub progress: Option<SessionCursor>,
    /// Whether there is a reason why it cannot be served. It may be that of a life that is over.
    pub is_quarantined: bool,
}

/// One row that was settled before the ledger existed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedDelivery {
    /// The message.
    pub message_id: MessageId,
    /// Its seq.
    pub seq: i64,
    /// The platform's id, when recorded.
    pub platform_message_id: Option<String>,
    /// Whether the earlier host gave up on it.
    pub failed: bool,
}

type InLedger = (&'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);

impl ImportedDelivery {
    /// State, effect, error class and error.
    fn in_ledger(&self) -> InLedger {
        if self.failed {
            let reason = "marked as failed by an earlier host";
            ("dead", None, Some(ErrorClass::Imported.as_str()), Some(reason))
        } else {
            ("delivered", Some("imported"), None, None)
        }
    }
}

impl LedgerReader {
    /// What is known of a session.
    pub fn known_session(&self, session: &SessionId) -> Result<KnownSession, StoreError> {
        let known = self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT cursor_seq, cursor_rowid, low_water_seq, quarantine_reason IS NOT NULL FROM sessions
                 WHERE session_id = ?1",
            )?;
            let known = statement.query_row([session.as_str()], |row| {
                let cursor = Cursor { seq: row.get(0)?, rowid: row.get(1)? };
                let progress = SessionCursor { cursor, low_water_seq: row.get(2)? };
                // One that was given up before it was read has a cursor below every seq.
                let progress = Some(progress).filter(|progress| progress.cursor.seq >= 0);
                Ok(KnownSession { progress, is_quarantined: row.get(3)? })
            });
            known.optional()
        })?;
        Ok(known.unwrap_or_default())
    }
}

impl LedgerTransaction<'_> {
    /// Counts a start of the host. Attempts that a former incarnation left unfinished become `ambiguous`, or
    /// `queued` again where `may_resend` says for their channel type that a second send is allowed.
    /// Returns how many became ambiguous.
    pub fn begin_incarnation(
        &mut self,
        now: Timestamp,
        may_resend: &dyn Fn(&str) -> bool,
    ) -> Result<usize, StoreError> {
        self.transaction.execute("UPDATE host SET value = value + 1 WHERE key = 'incarnation'", [])?;
        let mut statement = self
            .transaction
            .prepare("SELECT DISTINCT coalesce(channel_type, '') FROM deliveries WHERE state = 'sending'")?;
        let types: Vec<String> =
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
        // It is among the attempts like any other that failed.
        self.transaction.execute(
            "INSERT OR REPLACE INTO attempts SELECT session_id, message_id, ?1, attempts, ?2, ?3
             FROM deliveries WHERE state = 'sending'",
            params![now.as_ms(), ErrorClass::Ambiguous.as_str(), ENDED_IN_MID_SEND],
        )?;
        let mut ambiguous = 0;
        for channel_type in types {
            if may_resend(&channel_type) {
                self.transaction.execute(
                    "UPDATE deliveries SET state = 'queued', error_class = ?3, error = ?4, updated_at = ?2
                     WHERE state = 'sending' AND coalesce(channel_type, '') = ?1",
                    params![channel_type, now.as_ms(), ErrorClass::Ambiguous.as_str(), ENDED_IN_MID_SEND],
                )?;
            } else {
                ambiguous += self.transaction.execute(
                    "UPDATE deliveries SET state = 'ambiguous', error_class = ?3, error = ?4, updated_at = ?2
                     WHERE state = 'sending' AND coalesce(channel_type, '') = ?1",
                    params![channel_type, now.as_ms(), ErrorClass::Ambiguous.as_str(), ENDED_IN_MID_SEND],
                )?;
            }
        }
        Ok(ambiguous)
    }

    /// How often a host has started on this ledger.
    pub fn incarnation(&mut self) -> Result<u64, StoreError> {
        let count: i64 =
            self.transaction
                .query_row("SELECT value FROM host WHERE key = 'incarnation'", [], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Takes over what an earlier host delivered in a session that the ledger sees for the first time.
    ///
    /// Everything up to `cursor` counts as settled; `imported` are the settled rows above it and all
    /// failed ones, which stay listed as dead.
    pub fn import_session(
        &mut self,
        session: &SessionId,
        group: &AgentGroupId,
        cursor: Cursor,
        imported: &[ImportedDelivery],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO sessions
                   (session_id, agent_group_id, cursor_seq, cursor_rowid, low_water_seq, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?3, ?5)
                 ON CONFLICT(session_id) DO UPDATE SET
                   cursor_seq = ?3, cursor_rowid = ?4, low_water_seq = ?3, updated_at = ?5
                 WHERE cursor_seq < 0",
            )?
            .execute(params![session.as_str(), group.as_str(), cursor.seq, cursor.rowid, now.as_ms()])?;
        self.import_deliveries(session, imported, now)
    }

    /// Records deliveries that another host made, so that they are not made again. Those that the ledger knows stay as
    /// they are.
    pub fn import_deliveries(
        &mut self,
        session: &SessionId,
        imported: &[ImportedDelivery],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.made_elsewhere(session, imported, false, now)
    }

    /// Records that another host dealt with messages that wait here.
    pub fn adopt_deliveries(
        &mut self,
        session: &SessionId,
        adopted: &[ImportedDelivery],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.made_elsewhere(session, adopted, true, now)
    }

    fn made_elsewhere(
        &mut self,
        session: &SessionId,
        deliveries: &[ImportedDelivery],
        settles_waiting: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO deliveries
               (session_id, message_id, seq, kind, lane, state, effect, error_class, error,
                platform_message_id, first_due_at, updated_at)
             VALUES (?1, ?2, ?3, 'imported', 'imported', ?4, ?5, ?6, ?7, ?8, ?9, ?9)
             ON CONFLICT (session_id, message_id) DO UPDATE SET
               state = excluded.state, effect = excluded.effect, error_class = excluded.error_class,
               error = excluded.error, platform_message_id = excluded.platform_message_id,
               next_attempt_at = NULL, projected = 1, updated_at = excluded.updated_at
             WHERE ?10 AND state IN ('queued', 'retrying')",
        )?;
        for delivery in deliveries {
            let (state, effect, class, reason) = delivery.in_ledger();
            insert.execute(params![
                session.as_str(),
                delivery.message_id.as_str(),
                delivery.seq,
                state,
                effect,
                class,
                reason,
                delivery.platform_message_id,
                now.as_ms(),
                settles_waiting,
            ])?;
        }
        Ok(())
    }

    /// Records that a session cannot be served and why, or that it can be again.
    pub fn set_quarantine(
        &mut self,
        session: &SessionId,
        group: &AgentGroupId,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match reason {
            None => self.transaction.execute(
                "UPDATE sessions SET quarantine_reason = NULL, updated_at = ?2
                 WHERE session_id = ?1 AND quarantine_reason IS NOT NULL",
                params![session.as_str(), now.as_ms()],
            )?,
            // A session that was never read has no row yet. A cursor below every seq marks it as not imported.
            Some(reason) => self.transaction.execute(
                "INSERT INTO sessions
                   (session_id, agent_group_id, cursor_seq, cursor_rowid, low_water_seq, quarantine_reason,
                    updated_at)
                 VALUES (?1, ?2, -1, 0, -1, ?3, ?4)
                 ON CONFLICT(session_id) DO UPDATE SET quarantine_reason = ?3, updated_at = ?4",
                params![session.as_str(), group.as_str(), reason, now.as_ms()],
            )?,
        };
        Ok(())
    }

    /// Notes that claims were reset: their rows stay in outbound.db, which is not ours to write. Forgets the oldest ones
    /// above [`CLAIM_RESETS_PER_SESSION_MAX`]: should one of them still be there, it is reset once more.
    pub fn note_claim_resets(
        &mut self,
        session: &SessionId,
        resets: &[(MessageId, String)],
    ) -> Result<(), StoreError> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO claim_resets VALUES (?1, ?2, ?3)
             ON CONFLICT(session_id, message_id) DO UPDATE SET claimed_at = excluded.claimed_at",
        )?;
        for (message, claimed_at) in resets {
            insert.execute(params![session.as_str(), message.as_str(), claimed_at])?;
        }
        self.transaction
            .prepare_cached(
                "DELETE FROM claim_resets WHERE session_id = ?1 AND message_id IN
                   (SELECT message_id FROM claim_resets WHERE session_id = ?1
                    ORDER BY claimed_at DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![session.as_str(), CLAIM_RESETS_PER_SESSION_MAX])?;
        Ok(())
    }
}
