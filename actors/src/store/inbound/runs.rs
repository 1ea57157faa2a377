//! Rows that are runs of tasks: which series they belong to, and which of them are due and not begun.

use crate::model::ids::MessageId;
use crate::model::series::{SeriesRun, TaskOptions, planned_time};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::inbound::RecurringRun;
use crate::store::ledger::RunKey;
use crate::store::sql::{bounded, cell};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::collections::HashSet;

/// A row is a run when it is a task, or recurs.
const RUN: &str = concat!(
    "SELECT id, ",
    bounded!("series_id"),
    ", ",
    bounded!("process_after"),
    " FROM messages_in WHERE id = ?1 AND (kind = 'task' OR recurrence IS NOT NULL)"
);

/// Pending runs that recur. One that was begun before, and is to be tried again, is not missed.
const RECURRING: &str = concat!(
    "SELECT id, ",
    bounded!("series_id"),
    ", ",
    bounded!("process_after"),
    ", ",
    bounded!("recurrence"),
    ", CASE WHEN typeof(content) = 'text' AND octet_length(content) <= 4194304 THEN content END, rowid
     FROM messages_in WHERE status IN ('pending','paused') AND status = 'pending' AND recurrence IS NOT NULL
       AND coalesce(tries, 0) = 0 AND typeof(id) = 'text' AND octet_length(id) BETWEEN 1 AND 1024
       AND rowid > ?1 ORDER BY rowid"
);

/// Those of `ids` that are runs, with their place in their series.
pub fn runs_among(conn: &Connection, ids: &[MessageId]) -> Result<Vec<RunKey>, StoreError> {
    let mut statement = conn.prepare_cached(RUN)?;
    let mut runs = Vec::new();
    for id in ids {
        runs.extend(statement.query_row([id.as_str()], read_key).optional()?.flatten());
    }
    Ok(runs)
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<Option<RunKey>> {
    let Some(run_id) = cell(row, 0)?.text().and_then(|text| MessageId::new(text).ok()) else {
        return Ok(None);
    };
    let series_id = cell(row, 1)?.text().map_or_else(|| run_id.as_str().to_owned(), str::to_owned);
    let scheduled = cell(row, 2)?.text().and_then(|text| Timestamp::parse(text).ok());
    Ok(Some(RunKey { run_id, series_id, scheduled }))
}

/// A page of recurring runs that were due before `now`.
#[derive(Debug, Default)]
pub struct OverduePage {
    /// The runs.
    pub runs: Vec<SeriesRun>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<i64>,
}

/// At most `limit` recurring runs above `after_rowid` that were due before `now`, those of `begun` left out. Start with
/// [`i64::MIN`].
pub fn overdue_recurring(
    conn: &Connection,
    begun: &HashSet<MessageId>,
    after_rowid: i64,
    limit: usize,
    now: Timestamp,
) -> Result<OverduePage, StoreError> {
    let mut statement = conn.prepare_cached(RECURRING)?;
    let mut rows = statement.query([after_rowid])?;
    let mut overdue = Vec::new();
    let mut last = after_rowid;
    while let Some(row) = rows.next()? {
        if overdue.len() >= limit {
            return Ok(OverduePage { runs: overdue, next: Some(last) });
        }
        last = row.get(5)?;
        let Some(RunKey { run_id: id, series_id, scheduled }) = read_key(row)? else { continue };
        if scheduled.is_none_or(|scheduled| scheduled >= now) || begun.contains(&id) {
            continue;
        }
        let Some(recurrence) = cell(row, 3)?.text().map(str::to_owned) else { continue };
        let options = row.get_ref(4)?.as_str_or_null().ok().flatten().map(TaskOptions::from_content);
        let options = options.unwrap_or_default();
        overdue.push(SeriesRun { id, series_id, recurrence, scheduled, last_planned: None, options });
    }
    Ok(OverduePage { runs: overdue, next: None })
}

/// A finished run as the planner takes it.
pub fn series_run(conn: &Connection, run: &RecurringRun) -> Result<SeriesRun, StoreError> {
    Ok(SeriesRun {
        id: run.id.clone(),
        series_id: run.series_id.clone(),
        recurrence: run.recurrence.clone(),
        scheduled: run.process_after,
        last_planned: last_planned(conn, &run.series_id)?,
        options: run.content.as_deref().map(TaskOptions::from_content).unwrap_or_default(),
    })
}

/// The latest time for which a run of a series was ever planned. Ids of runs are in the order of their times, so that
/// the primary key finds it at once.
fn last_planned(conn: &Connection, series_id: &str) -> Result<Option<Timestamp>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT max(id) FROM messages_in WHERE id > ?1 AND id < ?2")?;
    // '@' precedes the time in an id, and 'A' follows '@'.
    let last = statement.query_row([format!("{series_id}@"), format!("{series_id}A")], |row| {
        Ok(cell(row, 0)?.text().and_then(|id| planned_time(series_id, id)))
    });
    Ok(last?)
}

/// Moves a pending run from the time at which it was missed. Returns whether it was still there, at that time.
pub fn move_missed_run(tx: &Transaction<'_>, run: &SeriesRun, at: Timestamp) -> Result<bool, StoreError> {
    let moved = tx
        .prepare_cached("UPDATE messages_in SET process_after = ?2 WHERE id = ?1 AND status = 'pending'")?
        .execute(params![run.id.as_str(), at.to_iso()])?;
    Ok(moved > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{change, column, current, id};
    use super::super::{NewTask, completed_recurring, insert_task};
    use super::*;
    use crate::model::series::run_id;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn task(task_id: &str, process_after: &str, recurrence: Option<&str>) -> NewTask {
        NewTask {
            task_id: id(task_id),
            series_id: None,
            prompt: "p".to_owned(),
            script: None,
            process_after: at(process_after),
            recurrence: recurrence.map(str::to_owned),
            options: TaskOptions { timezone: Some("Asia/Tokyo".to_owned()), missed_runs: None },
            platform_id: None,
            channel_type: None,
            thread_id: None,
        }
    }

    const NOW: &str = "2026-11-22 12:00:00";

    #[test]
    fn overdue_are_recurring_runs_whose_time_has_passed_and_that_nobody_has_begun() {
        let conn = current();
        for (name, process_after, recurrence) in [
            ("late", "2026-11-22 09:00:00", Some("@hourly")),
            ("begun", "2026-11-22 09:00:00", Some("@hourly")),
            ("once", "2026-11-22 09:00:00", None),
            ("ahead", "2026-11-22 13:00:00", Some("@hourly")),
            ("paused", "2026-11-22 09:00:00", Some("@hourly")),
        ] {
            change(&conn, |tx| insert_task(tx, &task(name, process_after, recurrence), at(NOW)));
        }
        conn.execute("UPDATE messages_in SET status = 'paused' WHERE id = 'paused'", []).unwrap();
        let found = overdue_recurring(&conn, &HashSet::from([id("begun")]), i64::MIN, 10, at(NOW)).unwrap();
        let [late] = found.runs.as_slice() else { panic!("one run: {found:?}") };
        assert_eq!((late.id.as_str(), late.scheduled), ("late", Some(at("2026-11-22 09:00:00"))));
        assert_eq!(late.options.timezone.as_deref(), Some("Asia/Tokyo"));
        assert!(change(&conn, |tx| move_missed_run(tx, late, at("2026-11-22 11:00:00"))));
        assert_eq!(column(&conn, "late", "process_after").as_deref(), Some("2026-11-22T11:00:00.000Z"));
    }

    #[test]
    fn the_last_planned_time_is_found_among_the_ids_of_its_own_series() {
        let conn = current();
        let runs = ["2026-11-22 09:00:00", "2026-11-22 11:00:00", "2026-11-22 10:00:00"];
        change(&conn, |tx| insert_task(tx, &task("s", runs[0], Some("@hourly")), at(NOW)));
        conn.execute("UPDATE messages_in SET status = 'completed'", []).unwrap();
        let planned = |conn: &Connection| {
            series_run(conn, &completed_recurring(conn, 1).unwrap()[0]).unwrap().last_planned
        };
        assert_eq!(planned(&conn), None, "the first run's id holds no time");
        for (series, time) in runs.map(|time| ("s", time)).into_iter().chain([("s2", "2027-01-01 00:00:00")])
        {
            let name = run_id(series, at(time));
            change(&conn, |tx| insert_task(tx, &task(&name, time, None), at(NOW)));
        }
        change(&conn, |tx| insert_task(tx, &task("sB", runs[0], None), at(NOW)));
        assert_eq!(planned(&conn), Some(at("2026-11-22 11:00:00")));
    }

    #[test]
    fn only_tasks_and_what_recurs_are_runs() {
        let conn = current();
        change(&conn, |tx| insert_task(tx, &task("once", NOW, None), at(NOW)));
        conn.execute_batch(
            "INSERT INTO messages_in (id, seq, kind, timestamp, content) VALUES ('hello', 100, 'chat', '', '{}');
             INSERT INTO messages_in (id, seq, kind, timestamp, content, recurrence, series_id)
             VALUES ('news', 102, 'chat', '', '{}', '@daily', 'news-series')",
        )
        .unwrap();
        let found = runs_among(&conn, &[id("once"), id("hello"), id("news"), id("gone")]).unwrap();
        let expected = [
            RunKey { run_id: id("once"), series_id: "once".to_owned(), scheduled: Some(at(NOW)) },
            RunKey { run_id: id("news"), series_id: "news-series".to_owned(), scheduled: None },
        ];
        assert_eq!(found, expected);
    }
}
