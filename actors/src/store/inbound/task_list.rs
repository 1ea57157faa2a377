//! Tasks as an operator sees them, and a run that an operator starts.

use super::next_seq;
use crate::limits::{TASK_LIST_BYTES_PER_SESSION_MAX, TASKS_LISTED_PER_SESSION_MAX};
use crate::model::ids::MessageId;
use crate::model::series::{TaskOptions, manual_run_id};
use crate::model::time::Timestamp;
use crate::report::TaskStatus;
use crate::store::error::StoreError;
use crate::store::sql::{bounded, cell, prepare_either};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use serde::Deserialize;

/// Of a longer prompt the beginning is read, unless one series is asked for. [`beginning!`] has it as a literal.
const PROMPT_CHARS_MAX: usize = 200;

/// A run that is still to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The row's id.
    pub run_id: String,
    /// Its series.
    pub series_id: String,
    /// Whether it waits for its time.
    pub status: TaskStatus,
    /// When it is due; `None` when the row holds no readable time.
    pub process_after: Option<Timestamp>,
    /// Cron expression; `None` = once.
    pub recurrence: Option<String>,
    /// How often it was given another try.
    pub tries: u32,
    /// What the agent is told.
    pub prompt: String,
    /// A script that runs before.
    pub script: Option<String>,
    /// What it says about its own time.
    pub options: TaskOptions,
    /// Where it answers to.
    pub channel_type: Option<String>,
    /// The chat.
    pub platform_id: Option<String>,
    /// The thread.
    pub thread_id: Option<String>,
}

/// Which runs are read, and how much of them.
#[derive(Debug, Clone, Copy)]
pub struct TaskQuery<'a> {
    /// Only this series, named by its id or that of any of its runs. It is read whole; of all series, the beginnings of
    /// prompts and no scripts.
    pub series_id: Option<&'a str>,
    /// Only those that stand so.
    pub status: Option<TaskStatus>,
    /// Most rows.
    pub rows_max: usize,
    /// The row that reaches so many bytes is the last one.
    pub bytes_max: usize,
}

/// Runs that are still to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveTasks {
    /// In the order in which they were written.
    pub rows: Vec<TaskRow>,
    /// Their size in memory.
    pub bytes: usize,
    /// Whether there are more.
    pub is_cut: bool,
}

impl Default for TaskQuery<'_> {
    fn default() -> Self {
        Self {
            series_id: None,
            status: None,
            rows_max: TASKS_LISTED_PER_SESSION_MAX,
            bytes_max: TASK_LIST_BYTES_PER_SESSION_MAX,
        }
    }
}

impl TaskRow {
    fn bytes(&self) -> usize {
        let options =
            [&self.recurrence, &self.script, &self.channel_type, &self.platform_id, &self.thread_id];
        let options = options.into_iter().chain([&self.options.timezone]).flatten();
        let texts = options.chain([&self.run_id, &self.series_id, &self.prompt]).map(String::len);
        size_of::<Self>() + texts.sum::<usize>()
    }
}

/// `series` is the name of the series' column, `content` what is read of the content.
macro_rules! live_tasks {
    ($series:literal, $content:expr) => {
        concat!(
            "SELECT id, ",
            bounded!($series),
            ", status, ",
            bounded!("process_after"),
            ", ",
            bounded!("recurrence"),
            ", CASE typeof(tries) WHEN 'integer' THEN tries ELSE 0 END, ",
            bounded!("channel_type"),
            ", ",
            bounded!("platform_id"),
            ", ",
            bounded!("thread_id"),
            ", CASE WHEN typeof(content) = 'text' AND octet_length(content) <= 4194304 THEN ",
            $content,
            " END
             FROM messages_in WHERE status IN ('pending','paused') AND (kind = 'task' OR recurrence IS NOT NULL)
               AND typeof(id) = 'text' AND octet_length(id) BETWEEN 1 AND 1024
               AND (?1 IS NULL OR id = ?1 OR ",
            $series,
            " = ?1) AND (?2 IS NULL OR status = ?2) ORDER BY rowid"
        )
    };
}

/// The keys of a content that a list shows, each of bounded length: one character more than [`PROMPT_CHARS_MAX`] of the
/// prompt, so that a longer one can be told.
macro_rules! beginning {
    () => {
        "CASE WHEN json_valid(content) THEN json_object(
           'prompt', CASE json_type(content, '$.prompt')
             WHEN 'text' THEN substr(content ->> '$.prompt', 1, 201) END,
           'timezone', CASE json_type(content, '$.timezone')
             WHEN 'text' THEN substr(content ->> '$.timezone', 1, 64) END,
           'missedRuns', CASE json_type(content, '$.missedRuns')
             WHEN 'text' THEN substr(content ->> '$.missedRuns', 1, 64) END) END"
    };
}

#[derive(Deserialize)]
struct TaskContent {
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    script: Option<String>,
}

/// Runs that are still to be.
pub fn live_tasks(conn: &Connection, query: &TaskQuery<'_>) -> Result<LiveTasks, StoreError> {
    let mut statement = match query.series_id {
        Some(_) => prepare_either(conn, live_tasks!("series_id", "content"), live_tasks!("NULL", "content"))?,
        None => {
            prepare_either(conn, live_tasks!("series_id", beginning!()), live_tasks!("NULL", beginning!()))?
        }
    };
    let mut rows = statement.query(params![query.series_id, query.status.map(TaskStatus::as_str)])?;
    let mut live = LiveTasks::default();
    while let Some(row) = rows.next()? {
        if live.rows.len() >= query.rows_max || live.bytes >= query.bytes_max {
            live.is_cut = true;
            break;
        }
        let mut task = read_task(row)?;
        if query.series_id.is_none() {
            task.prompt = beginning(task.prompt);
        }
        live.bytes += task.bytes();
        live.rows.push(task);
    }
    Ok(live)
}

fn beginning(prompt: String) -> String {
    match prompt.char_indices().nth(PROMPT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &prompt[..end]),
        None => prompt,
    }
}

fn read_task(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    let owned = |index| Ok::<_, rusqlite::Error>(cell(row, index)?.text().map(str::to_owned));
    let run_id = owned(0)?.unwrap_or_default();
    let content = row.get_ref(9)?.as_str_or_null().ok().flatten().unwrap_or_default();
    let told = serde_json::from_str(content).unwrap_or(TaskContent { prompt: None, script: None });
    let is_paused = cell(row, 2)?.text() == Some("paused");
    Ok(TaskRow {
        series_id: owned(1)?.unwrap_or_else(|| run_id.clone()),
        run_id,
        status: if is_paused { TaskStatus::Paused } else { TaskStatus::Pending },
        process_after: cell(row, 3)?.text().and_then(|text| Timestamp::parse(text).ok()),
        recurrence: owned(4)?,
        tries: u32::try_from(row.get::<_, i64>(5)?.max(0)).unwrap_or(u32::MAX),
        prompt: told.prompt.unwrap_or_default(),
        script: told.script,
        options: TaskOptions::from_content(content),
        channel_type: owned(6)?,
        platform_id: owned(7)?,
        thread_id: owned(8)?,
    })
}

/// Lets a series run now, once more than planned; a task that runs once runs now instead of at its time. Returns how
/// many rows that made or changed.
pub fn run_series_now(tx: &Transaction<'_>, task_id: &str, now: Timestamp) -> Result<usize, StoreError> {
    let recurring: Option<(String, String)> = tx
        .prepare_cached(
            "SELECT id, coalesce(series_id, id) FROM messages_in
             WHERE status IN ('pending','paused') AND kind = 'task' AND (id = ?1 OR series_id = ?1)
               AND recurrence IS NOT NULL AND typeof(id) = 'text' ORDER BY rowid LIMIT 1",
        )?
        .query_row([task_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((row_id, series_id)) = recurring else {
        return Ok(tx
            .prepare_cached(
                "UPDATE messages_in SET status = 'pending', process_after = ?2
                 WHERE status IN ('pending','paused') AND kind = 'task' AND (id = ?1 OR series_id = ?1)",
            )?
            .execute(params![task_id, now.to_iso()])?);
    };
    let id = MessageId::new(&manual_run_id(&series_id, now))
        .map_err(|error| StoreError::Limit(format!("the id of the run: {error}")))?;
    let seq = next_seq(tx)?;
    let inserted = tx
        .prepare_cached(
            "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, recurrence, series_id, tries,
               trigger, platform_id, channel_type, thread_id, content, source_session_id, on_wake)
             SELECT :id, :seq, kind, :now, 'pending', :now, NULL, :series_id, 0, trigger, platform_id, channel_type,
               thread_id, content, source_session_id, 0 FROM messages_in WHERE id = :row_id
             ON CONFLICT(id) DO NOTHING",
        )?
        .execute(named_params! {
            ":id": id.as_str(), ":seq": seq, ":now": now.to_iso(), ":series_id": series_id, ":row_id": row_id,
        })?;
    Ok(inserted)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{change, column, current, id};
    use super::super::{NewTask, completed_recurring, insert_task, pause_series};
    use super::*;
    use crate::model::missed::MissedRuns;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_500);
    const LATER: Timestamp = Timestamp::from_ms(1_900_000_000_000);

    fn with_task(recurrence: Option<&str>) -> Connection {
        let conn = current();
        let task = NewTask {
            task_id: id("t"),
            series_id: None,
            prompt: "water the plants".to_owned(),
            script: Some("date".to_owned()),
            process_after: LATER,
            recurrence: recurrence.map(str::to_owned),
            options: TaskOptions { timezone: None, missed_runs: Some(MissedRuns::All) },
            platform_id: Some("slack:C1".to_owned()),
            channel_type: Some("slack".to_owned()),
            thread_id: None,
        };
        change(&conn, |tx| insert_task(tx, &task, NOW));
        conn
    }

    fn listed(conn: &Connection, series_id: Option<&str>) -> Vec<TaskRow> {
        live_tasks(conn, &TaskQuery { series_id, ..TaskQuery::default() }).unwrap().rows
    }

    #[test]
    fn a_task_is_listed_with_all_that_its_row_says() {
        let conn = with_task(Some("@daily"));
        change(&conn, |tx| pause_series(tx, "t"));
        conn.execute_batch(
            "INSERT INTO messages_in (id, seq, kind, timestamp, content) VALUES ('c', 50, 'chat', '', '{}')",
        )
        .unwrap();
        let expected = TaskRow {
            run_id: "t".to_owned(),
            series_id: "t".to_owned(),
            status: TaskStatus::Paused,
            process_after: Some(LATER),
            recurrence: Some("@daily".to_owned()),
            tries: 0,
            prompt: "water the plants".to_owned(),
            script: Some("date".to_owned()),
            options: TaskOptions { timezone: None, missed_runs: Some(MissedRuns::All) },
            channel_type: Some("slack".to_owned()),
            platform_id: Some("slack:C1".to_owned()),
            thread_id: None,
        };
        assert_eq!(listed(&conn, Some("t")), std::slice::from_ref(&expected));
        assert_eq!(listed(&conn, None), [TaskRow { script: None, ..expected }]);
        assert_eq!(listed(&conn, Some("u")), []);
        conn.execute("UPDATE messages_in SET content = 'no JSON', process_after = 'soon' WHERE id = 't'", [])
            .unwrap();
        for series in [Some("t"), None] {
            let odd = &listed(&conn, series)[0];
            assert_eq!((odd.prompt.as_str(), odd.process_after), ("", None));
        }
    }

    #[test]
    fn a_list_has_the_beginnings_of_prompts_and_no_script_and_says_that_it_is_cut() {
        let conn = with_task(Some("@daily"));
        let content = serde_json::json!({ "prompt": "é".repeat(100_000), "script": "x".repeat(1_000_000),
            "timezone": "Europe/Berlin", "missedRuns": "skip" });
        conn.execute("UPDATE messages_in SET content = ?1", [content.to_string()]).unwrap();
        let task = &listed(&conn, None)[0];
        assert_eq!(task.prompt, format!("{}…", "é".repeat(PROMPT_CHARS_MAX)));
        assert_eq!((&task.script, task.options.timezone.as_deref()), (&None, Some("Europe/Berlin")));
        assert_eq!(task.options.missed_runs, Some(MissedRuns::Skip));
        let whole = &listed(&conn, Some("t"))[0];
        assert_eq!((whole.prompt.len(), whole.script.as_ref().map(String::len)), (200_000, Some(1_000_000)));

        conn.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99)
             INSERT INTO messages_in (id, seq, kind, timestamp, status, content)
             SELECT 'more-' || i, 100 + 2 * i, 'task', '', CASE i WHEN 99 THEN 'paused' ELSE 'pending' END, '{}' FROM n",
        )
        .unwrap();
        let count = |query: TaskQuery<'_>| {
            let live = live_tasks(&conn, &query).unwrap();
            (live.rows.len(), live.is_cut)
        };
        assert_eq!(count(TaskQuery::default()), (100, false));
        assert_eq!(count(TaskQuery { rows_max: 100, ..TaskQuery::default() }), (100, false));
        assert_eq!(count(TaskQuery { rows_max: 99, ..TaskQuery::default() }), (99, true));
        assert_eq!(count(TaskQuery { bytes_max: 1, ..TaskQuery::default() }), (1, true));
        let paused = TaskQuery { status: Some(TaskStatus::Paused), ..TaskQuery::default() };
        assert_eq!(count(TaskQuery { rows_max: 1, ..paused }), (1, false));
    }

    #[test]
    fn a_series_runs_once_more_now_and_its_plan_stays() {
        let conn = with_task(Some("@daily"));
        assert_eq!(change(&conn, |tx| run_series_now(tx, "t", NOW)), 1);
        let extra = "t+20270115T080000.500Z";
        for (name, value) in [
            ("status", Some("pending")),
            ("process_after", Some("2027-01-15T08:00:00.500Z")),
            ("recurrence", None),
            ("series_id", Some("t")),
            ("channel_type", Some("slack")),
        ] {
            assert_eq!(column(&conn, extra, name).as_deref(), value, "{name}");
        }
        assert_eq!(column(&conn, "t", "process_after"), Some(LATER.to_iso()));
        conn.execute("UPDATE messages_in SET status = 'completed' WHERE id = ?1", [extra]).unwrap();
        assert_eq!(completed_recurring(&conn, 10).unwrap(), [], "nothing follows it");
        change(&conn, |tx| pause_series(tx, "t"));
        assert_eq!(change(&conn, |tx| run_series_now(tx, "t", LATER)), 1, "a paused one too");
        assert_eq!(column(&conn, "t", "status").as_deref(), Some("paused"));
    }

    #[test]
    fn a_task_that_runs_once_runs_now_instead() {
        let conn = with_task(None);
        assert_eq!(change(&conn, |tx| run_series_now(tx, "t", NOW)), 1);
        assert_eq!(column(&conn, "t", "process_after"), Some(NOW.to_iso()));
        assert_eq!(listed(&conn, None).len(), 1);
        assert_eq!(change(&conn, |tx| run_series_now(tx, "other", NOW)), 0);
    }
}
