//! Questions that agents asked and nobody answered yet.

use crate::model::ids::{MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{is_missing_column, is_missing_table};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, named_params};

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

const LIST_CURRENT: &str = "
SELECT question_id, session_id, message_out_id, platform_id, channel_type, thread_id, title, options_json, created_at
FROM pending_questions WHERE ?1 IS NULL OR question_id = ?1 ORDER BY created_at, question_id";
const LIST_SEED: &str = "
SELECT question_id, session_id, message_out_id, platform_id, channel_type, thread_id, '', '[]', created_at
FROM pending_questions WHERE ?1 IS NULL OR question_id = ?1 ORDER BY created_at, question_id";

/// Rows that cannot be used are left out.
pub(super) fn list(conn: &Connection, question_id: Option<&str>) -> Result<Vec<PendingQuestion>, StoreError> {
    let mut statement = match conn.prepare_cached(LIST_CURRENT) {
        Err(error) if is_missing_table(&error) => return Ok(Vec::new()),
        Err(error) if is_missing_column(&error) => conn.prepare_cached(LIST_SEED)?,
        prepared => prepared?,
    };
    let questions = statement.query_map([question_id], |row| {
        let ids = SessionId::new(&row.get::<_, String>(1)?)
            .ok()
            .zip(MessageId::new(&row.get::<_, String>(2)?).ok());
        let Some((session_id, message_out_id)) = ids else { return Ok(None) };
        let created_at: String = row.get(8)?;
        Ok(Some(PendingQuestion {
            question_id: row.get(0)?,
            session_id,
            message_out_id,
            platform_id: row.get(3)?,
            channel_type: row.get(4)?,
            thread_id: row.get(5)?,
            title: row.get(6)?,
            options_json: row.get(7)?,
            created_at: Timestamp::parse(&created_at).unwrap_or(Timestamp::from_ms(0)),
        }))
    })?;
    Ok(questions.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

pub(super) fn remove(conn: &Connection, question: &PendingQuestion) -> Result<(), StoreError> {
    conn.prepare_cached(
        "DELETE FROM pending_questions WHERE question_id = ?1 AND session_id = ?2 AND message_out_id = ?3",
    )?
    .execute([&question.question_id, question.session_id.as_str(), question.message_out_id.as_str()])?;
    Ok(())
}

fn prepare<'t>(tx: &'t Transaction<'_>) -> Result<Option<CachedStatement<'t>>, StoreError> {
    match tx.prepare_cached(CURRENT) {
        Err(error) if is_missing_table(&error) => Ok(None),
        Err(error) if is_missing_column(&error) => Ok(Some(tx.prepare_cached(SEED)?)),
        prepared => Ok(Some(prepared?)),
    }
}
