//! Tasks as an operator sees them, and a run that an operator starts.

use super::next_seq;
use crate::model::ids::MessageId;
use crate::model::series::{TaskOptions, manual_run_id};
use crate::model::time::Timestamp;
use crate::report::TaskStatus;
use crate::store::error::StoreError;
use crate::store::sql::{bounded, cell, prepare_either, sql_limit};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use serde::Deserialize;

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

/// `series` is the text of the second column.
macro_rules! live_tasks {
    ($series:expr) => {
        concat!(
            "SELECT id, ",
            $series,
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
            ", CASE WHEN typeof(content) = 'text' AND octet_length(content) <= 4194304 THEN content END
             FROM messages_in WHERE status IN ('pending','paused') AND (kind = 'task' OR recurrence IS NOT NULL)
               AND typeof(id) = 'text' AND octet_length(id) BETWEEN 1 AND 1024 ORDER BY rowid LIMIT ?1"
        )
    };
}

#[derive(Deserialize)]
struct TaskContent {
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    script: Option<String>,
}

/// At most `limit` runs that are still to be.
pub fn live_tasks(conn: &Connection, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
    let mut statement =
        prepare_either(conn, live_tasks!(bounded!("series_id")), live_tasks!("NULL AS series_id"))?;
    let rows = statement.query_map([sql_limit(limit)], read_task)?;
    Ok(rows.collect::<Result<_, _>>()?)
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
        assert_eq!(live_tasks(&conn, 10).unwrap(), [expected]);
        conn.execute("UPDATE messages_in SET content = 'no JSON', process_after = 'soon' WHERE id = 't'", [])
            .unwrap();
        let odd = &live_tasks(&conn, 10).unwrap()[0];
        assert_eq!((odd.prompt.as_str(), odd.process_after), ("", None));
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
        assert_eq!(live_tasks(&conn, 10).unwrap().len(), 1);
        assert_eq!(change(&conn, |tx| run_series_now(tx, "other", NOW)), 0);
    }
}
