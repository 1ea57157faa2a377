//! Questions that agents asked and nobody answered yet.

use crate::limits::{
    QUESTION_LIST_BYTES_MAX, QUESTION_OPTIONS_BYTES_MAX, QUESTION_TITLE_BYTES_MAX, QUESTIONS_LISTED_MAX,
    QUESTIONS_PER_SESSION_MAX,
};
use crate::model::ids::{MessageId, SessionId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::{is_missing_column, is_missing_table, prepare_either, sql_limit};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, Transaction, named_params, params};

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

impl PendingQuestion {
    fn bytes(&self) -> usize {
        let options = [&self.platform_id, &self.channel_type, &self.thread_id].into_iter().flatten();
        let texts = options.chain([&self.question_id, &self.title, &self.options_json]).map(String::len);
        let ids = self.session_id.as_str().len() + self.message_out_id.as_str().len();
        size_of::<Self>() + ids + texts.sum::<usize>()
    }
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
        forget_oldest(tx, question)?;
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

/// Keeps a session from having more than so many questions. The one that was just asked stays, whatever the clock says.
fn forget_oldest(tx: &Transaction<'_>, question: &PendingQuestion) -> Result<(), StoreError> {
    tx.prepare_cached(
        "DELETE FROM pending_questions WHERE question_id IN (
           SELECT question_id FROM pending_questions WHERE session_id = ?1 AND question_id <> ?2
           ORDER BY created_at DESC, question_id LIMIT -1 OFFSET ?3)",
    )?
    .execute(params![
        question.session_id.as_str(),
        question.question_id,
        sql_limit(QUESTIONS_PER_SESSION_MAX - 1)
    ])?;
    Ok(())
}

/// `title` and `options` are what is read of those columns.
macro_rules! questions {
    ($title:literal, $options:literal, $rest:literal) => {
        concat!(
            "SELECT question_id, session_id, message_out_id, platform_id, channel_type, thread_id, ",
            $title,
            ", ",
            $options,
            ", created_at FROM pending_questions ",
            $rest
        )
    };
}

/// The question of that id.
pub(super) fn find(conn: &Connection, question_id: &str) -> Result<Option<PendingQuestion>, StoreError> {
    let current = questions!("title", "options_json", "WHERE question_id = ?1");
    let seed = questions!("''", "'[]'", "WHERE question_id = ?1");
    let Some(mut statement) = prepare_read(conn, current, seed)? else { return Ok(None) };
    Ok(statement.query_row([question_id], read).optional()?.flatten())
}

/// Questions, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingQuestions {
    /// Those of a list that has room for so many.
    pub questions: Vec<PendingQuestion>,
    /// How many more there are.
    pub left_out: u64,
}

/// Another program may have written longer titles and options than we do: of the former the beginning is read, of the
/// latter nothing. Rows that cannot be used are left out.
pub(super) fn list(conn: &Connection) -> Result<PendingQuestions, StoreError> {
    let current = questions!(
        "substr(title, 1, ?1)",
        "CASE WHEN octet_length(options_json) <= ?2 THEN options_json ELSE '[]' END",
        "ORDER BY created_at, question_id"
    );
    let seed = questions!("substr('', 1, ?1)", "substr('[]', 1, ?2)", "ORDER BY created_at, question_id");
    let Some(mut statement) = prepare_read(conn, current, seed)? else {
        return Ok(PendingQuestions::default());
    };
    let bounds = [sql_limit(QUESTION_TITLE_BYTES_MAX), sql_limit(QUESTION_OPTIONS_BYTES_MAX)];
    let (mut rows, mut list, mut bytes) = (statement.query(bounds)?, PendingQuestions::default(), 0);
    while let Some(row) = rows.next()? {
        if list.questions.len() >= QUESTIONS_LISTED_MAX || bytes >= QUESTION_LIST_BYTES_MAX {
            list.left_out += 1;
        } else if let Some(question) = read(row)? {
            bytes += question.bytes();
            list.questions.push(question);
        }
    }
    Ok(list)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<PendingQuestion>> {
    let ids =
        SessionId::new(&row.get::<_, String>(1)?).ok().zip(MessageId::new(&row.get::<_, String>(2)?).ok());
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
}

/// None when there is no such table.
fn prepare_read<'c>(
    conn: &'c Connection,
    current: &str,
    seed: &str,
) -> Result<Option<CachedStatement<'c>>, StoreError> {
    match prepare_either(conn, current, seed) {
        Err(error) if is_missing_table(&error) => Ok(None),
        prepared => Ok(Some(prepared?)),
    }
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
