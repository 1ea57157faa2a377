use super::super::tests::{change, column, current, id};
use super::super::{NewTask, insert_task, pause_series};
use super::*;

const NOW: Timestamp = Timestamp::from_ms(1_795_333_635_501);
const NEXT: Timestamp = Timestamp::from_ms(1_800_043_200_000);

/// A database with one recurring task in `status`.
fn with_task(status: &str) -> Connection {
    let conn = current();
    let task = NewTask {
        task_id: id("task-1"),
        series_id: None,
        prompt: "p".to_owned(),
        script: None,
        process_after: NOW,
        recurrence: Some("0 9 * * *".to_owned()),
        options: Default::default(),
        platform_id: Some("slack:C0OPS".to_owned()),
        channel_type: Some("slack".to_owned()),
        thread_id: Some("t".to_owned()),
    };
    change(&conn, |tx| insert_task(tx, &task, NOW));
    conn.execute("UPDATE messages_in SET status = ?1, tries = 3", [status]).unwrap();
    conn
}

fn run(text: &str) -> NewRun {
    NewRun { id: id(text), process_after: NEXT, paused: false }
}

fn insert(conn: &Connection, old: &str, new: &NewRun) -> NextRun {
    change(conn, |tx| insert_next_run(tx, &id(old), new, NOW))
}

#[test]
fn clones_a_completed_recurring_task_and_clears_the_original() {
    let conn = with_task("completed");
    let found = completed_recurring(&conn, 10).unwrap();
    let expected = RecurringRun {
        id: id("task-1"),
        kind: "task".to_owned(),
        series_id: "task-1".to_owned(),
        recurrence: "0 9 * * *".to_owned(),
        process_after: Some(NOW),
        status: RunStatus::Completed,
        content: Some(r#"{"prompt":"p","script":null}"#.to_owned()),
        platform_id: Some("slack:C0OPS".to_owned()),
        channel_type: Some("slack".to_owned()),
        thread_id: Some("t".to_owned()),
    };
    assert_eq!(found, [expected]);
    assert_eq!(insert(&conn, "task-1", &run("run-2")), NextRun::Inserted { seq: 4 });
    assert_eq!(column(&conn, "task-1", "recurrence"), None);
    for (name, value) in [
        ("status", "pending"),
        ("process_after", "2027-01-15T20:00:00.000Z"),
        ("recurrence", "0 9 * * *"),
        ("series_id", "task-1"),
        ("kind", "task"),
        ("tries", "0"),
        ("trigger", "1"),
        ("platform_id", "slack:C0OPS"),
        ("channel_type", "slack"),
        ("thread_id", "t"),
        ("content", r#"{"prompt":"p","script":null}"#),
    ] {
        assert_eq!(column(&conn, "run-2", name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(completed_recurring(&conn, 10).unwrap(), []);
}

#[test]
fn the_series_id_is_copied_forward_through_many_runs() {
    let conn = with_task("completed");
    for n in 2..6 {
        let (old, new) =
            (if n == 2 { "task-1".to_owned() } else { format!("run-{}", n - 1) }, format!("run-{n}"));
        insert(&conn, &old, &run(&new));
        assert_eq!(column(&conn, &new, "series_id").as_deref(), Some("task-1"));
        conn.execute("UPDATE messages_in SET status = 'completed' WHERE id = ?1", [new]).unwrap();
    }
}

#[test]
fn a_failed_run_never_ends_the_series() {
    let conn = with_task("failed");
    assert_eq!(completed_recurring(&conn, 10).unwrap()[0].status, RunStatus::Failed);
    assert_eq!(insert(&conn, "task-1", &run("run-2")), NextRun::Inserted { seq: 4 });
    assert_eq!(column(&conn, "task-1", "status").as_deref(), Some("failed"), "failed stays failed");
}

#[test]
fn does_not_clone_rows_whose_recurrence_is_cleared() {
    let conn = with_task("completed");
    change(&conn, |tx| clear_recurrence(tx, &id("task-1")));
    assert_eq!(completed_recurring(&conn, 10).unwrap(), []);
    assert_eq!(insert(&conn, "task-1", &run("run-2")), NextRun::SeriesEnded);
    let rows: i64 = conn.query_row("SELECT count(*) FROM messages_in", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn live_rows_have_no_next_run_yet() {
    for status in ["pending", "paused"] {
        assert_eq!(completed_recurring(&with_task(status), 10).unwrap(), [], "{status}");
    }
}

#[test]
fn a_run_that_exists_is_not_inserted_again() {
    let conn = with_task("completed");
    insert(&conn, "task-1", &run("run-2"));
    // As after a crash of a host that clears in a second step; the successor has ended meanwhile.
    conn.execute_batch(
        "UPDATE messages_in SET recurrence = '0 9 * * *' WHERE id = 'task-1';
         UPDATE messages_in SET recurrence = NULL, status = 'completed' WHERE id = 'run-2'",
    )
    .unwrap();
    assert_eq!(insert(&conn, "task-1", &run("run-2")), NextRun::AlreadyThere);
    assert_eq!(column(&conn, "task-1", "recurrence"), None);
}

#[test]
fn a_series_that_another_host_left_half_done_does_not_fork() {
    let conn = with_task("completed");
    insert(&conn, "task-1", &run("its-own-id"));
    conn.execute("UPDATE messages_in SET recurrence = '0 9 * * *' WHERE id = 'task-1'", []).unwrap();
    change(&conn, |tx| pause_series(tx, "task-1"));
    assert_eq!(insert(&conn, "task-1", &run("run-2")), NextRun::AlreadyThere);
    assert_eq!(completed_recurring(&conn, 10).unwrap(), []);
    let live: i64 = conn
        .query_row("SELECT count(*) FROM messages_in WHERE recurrence IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(live, 1);
}

#[test]
fn a_rolled_back_transaction_leaves_the_series_as_it_was() {
    let conn = with_task("completed");
    let tx = conn.unchecked_transaction().unwrap();
    insert_next_run(&tx, &id("task-1"), &run("run-2"), NOW).unwrap();
    drop(tx);
    assert_eq!(completed_recurring(&conn, 10).unwrap().len(), 1);
}

#[test]
fn the_next_run_of_a_paused_series_is_paused() {
    let conn = with_task("completed");
    insert(&conn, "task-1", &NewRun { paused: true, ..run("run-2") });
    assert_eq!(column(&conn, "run-2", "status").as_deref(), Some("paused"));
}

#[test]
fn unusable_rows_take_no_place_within_the_limit() {
    let conn = with_task("completed");
    conn.execute_batch(
        "UPDATE messages_in SET rowid = 100;
         INSERT INTO messages_in (id, kind, timestamp, status, recurrence, content) VALUES
           ('', 'task', '', 'completed', 'x', ''), (NULL, 'task', '', 'completed', 'x', ''),
           (x'ff', 'task', '', 'completed', 'x', ''), ('blob', 'task', '', 'completed', x'ff', '')",
    )
    .unwrap();
    let found = completed_recurring(&conn, 1).unwrap();
    assert_eq!(found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["task-1"]);
}
