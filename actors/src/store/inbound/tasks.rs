//! Tasks: `messages_in` rows of kind `task`. Each run of a recurring task is a row of its own; all share the
//! series, and an agent may name any of them.

use super::{Insert, NewInbound, insert_message};
use crate::model::ids::MessageId;
use crate::model::missed::MissedRuns;
use crate::model::series::TaskOptions;
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use rusqlite::{Connection, Transaction, named_params};
use serde_json::{Map, Value};

/// The largest content of a task that is rewritten, in bytes. Only a forged row is larger.
const TASK_CONTENT_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// Rows that have still to run, of the series `?1` or with the id `?1`. The first condition is word for word
/// that of the index.
macro_rules! live_of_series {
    () => {
        "status IN ('pending','paused') AND kind = 'task' AND (id = ?1 OR series_id = ?1)"
    };
}

/// A task to be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its id, chosen by the agent.
    pub task_id: MessageId,
    /// The series it belongs to; `None` = its own id.
    pub series_id: Option<MessageId>,
    /// What the agent wants to be told.
    pub prompt: String,
    /// A script that runs before the agent is woken.
    pub script: Option<String>,
    /// When it is due.
    pub process_after: Timestamp,
    /// Cron expression; `None` = once.
    pub recurrence: Option<String>,
    /// What it says about its own time.
    pub options: TaskOptions,
    /// The chat it answers to.
    pub platform_id: Option<String>,
    /// The kind of platform.
    pub channel_type: Option<String>,
    /// The thread.
    pub thread_id: Option<String>,
}

/// What to change in a task; `None` = leave it, `Some(None)` = clear it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskUpdate {
    /// A new prompt.
    pub prompt: Option<String>,
    /// A new script, or none.
    pub script: Option<Option<String>>,
    /// A new time.
    pub process_after: Option<Timestamp>,
    /// A new cron expression, or none: the next run is the last.
    pub recurrence: Option<Option<String>>,
    /// A new zone, or none.
    pub timezone: Option<Option<String>>,
    /// A new policy for missed runs, or none.
    pub missed_runs: Option<Option<MissedRuns>>,
}

/// Inserts a task. A second insert of the same id changes nothing.
pub fn insert_task(tx: &Transaction<'_>, task: &NewTask, now: Timestamp) -> Result<Insert, StoreError> {
    let prompt = Value::from(task.prompt.as_str());
    let script = Value::from(task.script.as_deref());
    let message = NewInbound {
        id: task.task_id.clone(),
        kind: "task".to_owned(),
        process_after: Some(task.process_after),
        recurrence: task.recurrence.clone(),
        series_id: task.series_id.clone(),
        trigger: true,
        on_wake: false,
        platform_id: task.platform_id.clone(),
        channel_type: task.channel_type.clone(),
        thread_id: task.thread_id.clone(),
        content: format!(r#"{{"prompt":{prompt},"script":{script}{}}}"#, written(&task.options)),
        source_session_id: None,
    };
    insert_message(tx, &message, now)
}

/// The options as further keys of a content, so that one without them looks as NanoClaw writes it.
fn written(options: &TaskOptions) -> String {
    let timezone = options.timezone.as_deref().map(|name| format!(r#","timezone":{}"#, Value::from(name)));
    let missed = options.missed_runs.map(|policy| format!(r#","missedRuns":"{}""#, policy.as_str()));
    timezone.into_iter().chain(missed).collect()
}

/// Ends a series: its live rows count as completed, and none of its runs has a successor. Returns how many rows
/// that changed; a run whose successor was not inserted yet counts too.
pub fn cancel_series(tx: &Transaction<'_>, task_id: &str) -> Result<usize, StoreError> {
    let live = tx
        .prepare_cached(concat!(
            "UPDATE messages_in SET status = 'completed', recurrence = NULL WHERE ",
            live_of_series!()
        ))?
        .execute([task_id])?;
    let awaiting = tx
        .prepare_cached(
            "UPDATE messages_in SET recurrence = NULL
             WHERE recurrence IS NOT NULL AND kind = 'task' AND (id = ?1 OR series_id = ?1)",
        )?
        .execute([task_id])?;
    Ok(live + awaiting)
}

/// Pauses a series; returns how many rows have still to run. A run that the agent is working on is paused as
/// well: its acknowledgement counts once the series is resumed, and only then the next run is planned.
///
/// Insert the successors of finished runs first ([`super::insert_next_run`]): between two runs a series has
/// no row to pause. The same holds for [`resume_series`] and [`update_series`].
pub fn pause_series(tx: &Transaction<'_>, task_id: &str) -> Result<usize, StoreError> {
    let sql = concat!("UPDATE messages_in SET status = 'paused' WHERE ", live_of_series!());
    Ok(tx.prepare_cached(sql)?.execute([task_id])?)
}

/// Resumes a series; returns how many rows have still to run.
pub fn resume_series(tx: &Transaction<'_>, task_id: &str) -> Result<usize, StoreError> {
    let sql = concat!("UPDATE messages_in SET status = 'pending' WHERE ", live_of_series!());
    Ok(tx.prepare_cached(sql)?.execute([task_id])?)
}

/// Changes what has still to run of a series; returns how many rows that are. Keys of the content that are not
/// given stay as they are. A run that an operator started beside a recurring one keeps its time, and recurs never.
pub fn update_series(tx: &Transaction<'_>, task_id: &str, update: &TaskUpdate) -> Result<usize, StoreError> {
    let live = live_rows(tx, task_id)?;
    let mut statement = tx.prepare_cached(
        "UPDATE messages_in SET content = :content,
           process_after = CASE WHEN :move THEN :process_after ELSE process_after END,
           recurrence = CASE WHEN :repeat THEN :recurrence ELSE recurrence END
         WHERE rowid = :rowid",
    )?;
    for LiveRow { rowid, content, is_extra } in &live {
        statement.execute(named_params! {
            ":rowid": rowid,
            ":content": merged(content, update),
            ":move": update.process_after.is_some() && !is_extra,
            ":process_after": update.process_after.map(Timestamp::to_iso),
            ":repeat": update.recurrence.is_some() && !is_extra,
            ":recurrence": update.recurrence.clone().flatten(),
        })?;
    }
    Ok(live.len())
}

/// A row that has still to run.
struct LiveRow {
    rowid: i64,
    /// Empty when it is not text, or too large.
    content: String,
    /// Whether it runs besides the plan: it does not recur, and its series has a live row that does.
    is_extra: bool,
}

fn live_rows(tx: &Transaction<'_>, task_id: &str) -> Result<Vec<LiveRow>, StoreError> {
    let mut statement = tx.prepare_cached(concat!(
        "SELECT rowid, CASE WHEN typeof(content) = 'text' AND octet_length(content) <= ?2 THEN content END,
           recurrence IS NULL AND coalesce(series_id, id) IN (
             SELECT coalesce(series_id, id) FROM messages_in
             WHERE status IN ('pending','paused') AND kind = 'task' AND recurrence IS NOT NULL)
         FROM messages_in WHERE ",
        live_of_series!()
    ))?;
    let rows = statement.query_map((task_id, TASK_CONTENT_BYTES_MAX), |row| {
        let content = row.get_ref(1)?.as_str_or_null().unwrap_or_default();
        Ok(LiveRow {
            rowid: row.get(0)?,
            content: content.unwrap_or_default().to_owned(),
            // NULL when a forged row without any id is among those that recur.
            is_extra: row.get::<_, Option<bool>>(2)?.unwrap_or(false),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The content with the changed keys. Content that is no JSON object, which no host writes, is replaced.
fn merged(content: &str, update: &TaskUpdate) -> String {
    let is_untouched = update.prompt.is_none() && update.script.is_none();
    if is_untouched && update.timezone.is_none() && update.missed_runs.is_none() {
        return content.to_owned();
    }
    let mut keys: Map<String, Value> = serde_json::from_str(content).unwrap_or_default();
    if let Some(prompt) = &update.prompt {
        keys.insert("prompt".to_owned(), Value::from(prompt.as_str()));
    }
    if let Some(script) = &update.script {
        keys.insert("script".to_owned(), Value::from(script.as_deref()));
    }
    let names = update.missed_runs.map(|policy| policy.map(|policy| policy.as_str().to_owned()));
    for (key, option) in [("timezone", update.timezone.clone()), ("missedRuns", names)] {
        match option {
            Some(Some(name)) => drop(keys.insert(key.to_owned(), Value::from(name))),
            Some(None) => drop(keys.remove(key)),
            None => {}
        }
    }
    Value::Object(keys).to_string()
}

/// How many tasks have still to run, paused ones included.
pub fn count_live_tasks(conn: &Connection) -> Result<usize, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT count(*) FROM messages_in WHERE status IN ('pending','paused') AND kind = 'task'",
    )?;
    let count: i64 = statement.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests;
