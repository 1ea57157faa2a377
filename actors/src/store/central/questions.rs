//! Questions that agents asked and nobody answered yet.

use crate::model::ids::{MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{is_missing_column, is_missing_table};
use rusqlite::{CachedStatement, OptionalExtension, Transaction, named_params};

/// A question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingQuestion {
    /// The question's id, chosen by the agent, unique in the whole installation.
    pub question_id: String,
    /// The session that asks.
    pub session_id: SessionId,
    /// The message that carries the question.
    pub message_out_id: MessageId,
    /// The chat where it is asked.
    pub platform_id: Option<String>,
    /// The kind of platform.
    pub channel_type: Option<String>,
    /// The thread.
    pub thread_id: Option<String>,
    /// What the buttons stand under.
    pub title: String,
    /// The options as a JSON array of `{label, selectedLabel, value}`.
    pub options_json: String,
    /// When it was asked.
    pub created_at: Timestamp,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionInsert {
    /// It waits for its answer now.
    Inserted,
    /// The same message has asked it before: a repeated delivery.
    Same,
    /// Another message uses its id. An answer would go there.
    Taken,
    /// This `v2.db` keeps no questions. It can be asked, but no answer will find its session.
    NoTable,
}

const CURRENT: &str = "
INSERT INTO pending_questions (question_id, session_id, message_out_id, platform_id, channel_type, thread_id,
  title, options_json, created_at)
VALUES (:question_id, :session_id, :message_out_id, :platform_id, :channel_type, :thread_id,
  :title, :options_json, :created_at)
ON CONFLICT(question_id) DO NOTHING";

/// Files of the seed have neither title nor options. The parameters are named all the same, so that both
/// statements take the same values.
const SEED: &str = "
INSERT INTO pending_questions (question_id, session_id, message_out_id, platform_id, channel_type, thread_id,
  created_at)
SELECT :question_id, :session_id, :message_out_id, :platform_id, :channel_type, :thread_id, :created_at
WHERE :title IS NOT NULL AND :options_json IS NOT NULL
ON CONFLICT(question_id) DO NOTHING";

pub(super) fn insert(tx: &Transaction<'_>, question: &PendingQuestion) -> Result<QuestionInsert, StoreError> {
    let Some(mut statement) = prepare(tx)? else {
        return Ok(QuestionInsert::NoTable);
    };
    let inserted = statement.execute(named_params! {
        ":question_id": question.question_id,
        ":session_id": question.session_id.as_str(),
        ":message_out_id": question.message_out_id.as_str(),
        ":platform_id": question.platform_id,
        ":channel_type": question.channel_type,
        ":thread_id": question.thread_id,
        ":title": question.title,
        ":options_json": question.options_json,
        ":created_at": question.created_at.to_iso(),
    })?;
    if inserted > 0 {
        return Ok(QuestionInsert::Inserted);
    }
    let is_same = tx
        .prepare_cached(
            "SELECT session_id = ?2 AND message_out_id = ?3 FROM pending_questions WHERE question_id = ?1",
        )?
        .query_row(
            [&question.question_id, question.session_id.as_str(), question.message_out_id.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    Ok(if is_same == Some(true) { QuestionInsert::Same } else { QuestionInsert::Taken })
}

fn prepare<'t>(tx: &'t Transaction<'_>) -> Result<Option<CachedStatement<'t>>, StoreError> {
    match tx.prepare_cached(CURRENT) {
        Err(error) if is_missing_table(&error) => Ok(None),
        Err(error) if is_missing_column(&error) => Ok(Some(tx.prepare_cached(SEED)?)),
        prepared => Ok(Some(prepared?)),
    }
}
