use super::super::tests::{change, column, current, id};
use super::super::{NewRun, completed_recurring, insert_next_run};
use super::*;

const NOW: Timestamp = Timestamp::from_ms(1_795_333_635_501);
const DUE: Timestamp = Timestamp::from_ms(1_800_043_200_000);

fn task(text: &str) -> NewTask {
    NewTask {
        task_id: id(text),
        series_id: None,
        prompt: "daily digest".to_owned(),
        script: None,
        process_after: DUE,
        recurrence: Some("0 9 * * *".to_owned()),
        options: TaskOptions::default(),
        platform_id: Some("discord:100:200".to_owned()),
        channel_type: Some("discord".to_owned()),
        thread_id: None,
    }
}

/// A recurring task whose first run is over and whose second one, `run-2`, waits.
fn with_follow_up() -> Connection {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    conn.execute("UPDATE messages_in SET status = 'completed'", []).unwrap();
    let run = NewRun { id: id("run-2"), process_after: DUE, paused: false };
    change(&conn, |tx| insert_next_run(tx, &id("task-1"), &run, NOW));
    conn
}

fn rewrite(conn: &Connection, task_id: &str, update: &TaskUpdate) -> usize {
    change(conn, |tx| update_series(tx, task_id, update))
}

#[track_caller]
fn is(conn: &Connection, id: &str, name: &str, value: Option<&str>) {
    assert_eq!(column(conn, id, name).as_deref(), value, "{name} of {id}");
}

#[test]
fn stamps_series_id_on_insert() {
    let conn = current();
    assert_eq!(change(&conn, |tx| insert_task(tx, &task("task-1"), NOW)), Insert::Inserted { seq: 2 });
    is(&conn, "task-1", "series_id", Some("task-1"));
    is(&conn, "task-1", "kind", Some("task"));
    is(&conn, "task-1", "content", Some(r#"{"prompt":"daily digest","script":null}"#));
    is(&conn, "task-1", "process_after", Some("2027-01-15T20:00:00.000Z"));
    let member = NewTask { series_id: Some(id("task-1")), ..task("task-2") };
    change(&conn, |tx| insert_task(tx, &member, NOW));
    is(&conn, "task-2", "series_id", Some("task-1"));
}

#[test]
fn a_second_task_of_the_same_id_changes_nothing() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    let other = NewTask { prompt: "other".to_owned(), ..task("task-1") };
    assert_eq!(change(&conn, |tx| insert_task(tx, &other, NOW)), Insert::Duplicate);
    is(&conn, "task-1", "content", Some(r#"{"prompt":"daily digest","script":null}"#));
}

#[test]
fn content_is_compact_json_whatever_the_prompt_says() {
    let conn = current();
    let script = Some("echo \"hi\"\n".to_owned());
    let odd = NewTask { prompt: "say \"hi\"\u{1}".to_owned(), script, ..task("task-1") };
    change(&conn, |tx| insert_task(tx, &odd, NOW));
    is(&conn, "task-1", "content", Some(r#"{"prompt":"say \"hi\"\u0001","script":"echo \"hi\"\n"}"#));
}

#[test]
fn cancel_by_original_id_reaches_the_live_follow_up() {
    let conn = with_follow_up();
    assert_eq!(change(&conn, |tx| cancel_series(tx, "task-1")), 1);
    is(&conn, "run-2", "status", Some("completed"));
    is(&conn, "run-2", "recurrence", None);
    assert_eq!(change(&conn, |tx| cancel_series(tx, "task-1")), 0);
}

#[test]
fn a_cancelled_task_has_no_next_run() {
    let conn = with_follow_up();
    change(&conn, |tx| cancel_series(tx, "run-2"));
    assert_eq!(completed_recurring(&conn, 10).unwrap(), []);
}

#[test]
fn cancel_between_two_runs_ends_the_series_too() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    conn.execute("UPDATE messages_in SET status = 'failed'", []).unwrap();
    assert_eq!(change(&conn, |tx| cancel_series(tx, "task-1")), 1);
    assert_eq!(completed_recurring(&conn, 10).unwrap(), []);
    is(&conn, "task-1", "status", Some("failed"));
}

#[test]
fn pause_by_original_id_pauses_the_live_follow_up() {
    let conn = with_follow_up();
    assert_eq!(change(&conn, |tx| pause_series(tx, "task-1")), 1);
    is(&conn, "run-2", "status", Some("paused"));
    is(&conn, "task-1", "status", Some("completed"));
    assert_eq!(change(&conn, |tx| pause_series(tx, "task-1")), 1, "paused already is no error");
}

#[test]
fn resume_by_original_id_resumes_the_live_follow_up() {
    let conn = with_follow_up();
    change(&conn, |tx| pause_series(tx, "task-1"));
    assert_eq!(change(&conn, |tx| resume_series(tx, "task-1")), 1);
    is(&conn, "run-2", "status", Some("pending"));
    is(&conn, "task-1", "status", Some("completed"));
}

#[test]
fn a_pause_during_the_tasks_own_run_survives_its_end() {
    use crate::store::inbound::apply_ack;
    use crate::store::outbound::AckStatus;
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    change(&conn, |tx| pause_series(tx, "task-1"));
    let ack = |conn: &Connection| change(conn, |tx| apply_ack(tx, &id("task-1"), &AckStatus::Completed));
    assert!(!ack(&conn));
    assert_eq!(completed_recurring(&conn, 10).unwrap(), [], "nothing is planned while it is paused");
    change(&conn, |tx| resume_series(tx, "task-1"));
    assert!(ack(&conn));
    assert_eq!(completed_recurring(&conn, 10).unwrap().len(), 1);
}

#[test]
fn merges_supplied_fields_into_content_without_clobbering_others() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    conn.execute(
        r#"UPDATE messages_in SET content = '{"prompt":"old","script":"s","extra":{"n":[1,2.5]}}'"#,
        [],
    )
    .unwrap();
    let prompt = TaskUpdate { prompt: Some("new".to_owned()), ..TaskUpdate::default() };
    assert_eq!(rewrite(&conn, "task-1", &prompt), 1);
    is(&conn, "task-1", "content", Some(r#"{"prompt":"new","script":"s","extra":{"n":[1,2.5]}}"#));
    is(&conn, "task-1", "recurrence", Some("0 9 * * *"));
    is(&conn, "task-1", "process_after", Some("2027-01-15T20:00:00.000Z"));
    let script = TaskUpdate { script: Some(None), ..TaskUpdate::default() };
    rewrite(&conn, "task-1", &script);
    is(&conn, "task-1", "content", Some(r#"{"prompt":"new","script":null,"extra":{"n":[1,2.5]}}"#));
}

#[test]
fn updates_recurrence_and_process_after_when_supplied() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    let update = TaskUpdate {
        process_after: Some(Timestamp::from_ms(0)),
        recurrence: Some(Some("*/5 * * * *".to_owned())),
        ..TaskUpdate::default()
    };
    assert_eq!(rewrite(&conn, "task-1", &update), 1);
    is(&conn, "task-1", "process_after", Some("1970-01-01T00:00:00.000Z"));
    is(&conn, "task-1", "recurrence", Some("*/5 * * * *"));
    is(&conn, "task-1", "content", Some(r#"{"prompt":"daily digest","script":null}"#));
}

#[test]
fn clears_recurrence_when_null_is_passed() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    let update = TaskUpdate { recurrence: Some(None), ..TaskUpdate::default() };
    assert_eq!(rewrite(&conn, "task-1", &update), 1);
    is(&conn, "task-1", "recurrence", None);
}

#[test]
fn an_update_by_original_id_reaches_the_live_follow_up_only() {
    let conn = with_follow_up();
    let update = TaskUpdate { prompt: Some("new".to_owned()), ..TaskUpdate::default() };
    assert_eq!(rewrite(&conn, "task-1", &update), 1);
    is(&conn, "run-2", "content", Some(r#"{"prompt":"new","script":null}"#));
    is(&conn, "task-1", "content", Some(r#"{"prompt":"daily digest","script":null}"#));
}

#[test]
fn an_update_of_a_series_moves_no_run_that_an_operator_has_just_started() {
    use crate::store::inbound::run_series_now;
    let conn = with_follow_up();
    assert_eq!(change(&conn, |tx| run_series_now(tx, "task-1", NOW)), 1);
    let started: String = conn
        .query_row("SELECT id FROM messages_in WHERE status = 'pending' AND recurrence IS NULL", [], |row| {
            row.get(0)
        })
        .unwrap();
    let update = TaskUpdate {
        prompt: Some("new".to_owned()),
        process_after: Some(Timestamp::from_ms(0)),
        recurrence: Some(Some("*/5 * * * *".to_owned())),
        ..TaskUpdate::default()
    };
    assert_eq!(rewrite(&conn, "task-1", &update), 2);
    is(&conn, "run-2", "process_after", Some("1970-01-01T00:00:00.000Z"));
    is(&conn, "run-2", "recurrence", Some("*/5 * * * *"));
    is(&conn, &started, "process_after", Some(&NOW.to_iso()));
    is(&conn, &started, "recurrence", None);
    is(&conn, &started, "content", Some(r#"{"prompt":"new","script":null}"#));
    // It is not made a second series when it is named itself either.
    let again = TaskUpdate { recurrence: Some(Some("@daily".to_owned())), ..TaskUpdate::default() };
    rewrite(&conn, &started, &again);
    is(&conn, &started, "recurrence", None);
    // The series' end leaves a run that may be moved, also beside a row that only an agent can have written.
    conn.execute_batch(
        "UPDATE messages_in SET status = 'completed' WHERE id = 'run-2';
         INSERT INTO messages_in (kind, timestamp, status, recurrence, content)
         VALUES ('task', '', 'pending', '@daily', '{}')",
    )
    .unwrap();
    let later = TaskUpdate { process_after: Some(DUE), ..TaskUpdate::default() };
    assert_eq!(rewrite(&conn, "task-1", &later), 1);
    is(&conn, &started, "process_after", Some(&DUE.to_iso()));
}

#[test]
fn an_update_replaces_content_that_is_no_json_object() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("task-1"), NOW));
    let update = TaskUpdate { prompt: Some("new".to_owned()), ..TaskUpdate::default() };
    for content in ["'broken'", "'[1]'", "x'ff'"] {
        conn.execute_batch(&format!("UPDATE messages_in SET content = {content}")).unwrap();
        assert_eq!(rewrite(&conn, "task-1", &update), 1);
        is(&conn, "task-1", "content", Some(r#"{"prompt":"new"}"#));
    }
}

#[test]
fn returns_zero_when_no_live_task_matches() {
    let conn = current();
    change(&conn, |tx| insert_task(tx, &task("done"), NOW));
    conn.execute("UPDATE messages_in SET status = 'completed', recurrence = NULL", []).unwrap();
    conn.execute_batch(
        "INSERT INTO messages_in (id, kind, timestamp, content) VALUES ('chat-1', 'chat', '', '{}')",
    )
    .unwrap();
    for target in ["done", "unknown", "chat-1"] {
        assert_eq!(rewrite(&conn, target, &TaskUpdate::default()), 0, "{target}");
        assert_eq!(change(&conn, |tx| cancel_series(tx, target)), 0, "{target}");
        assert_eq!(change(&conn, |tx| pause_series(tx, target)), 0, "{target}");
        assert_eq!(change(&conn, |tx| resume_series(tx, target)), 0, "{target}");
    }
}

#[test]
fn live_tasks_are_counted_with_the_paused_ones() {
    let conn = with_follow_up();
    change(&conn, |tx| insert_task(tx, &task("other"), NOW));
    change(&conn, |tx| pause_series(tx, "other"));
    assert_eq!(count_live_tasks(&conn).unwrap(), 2);
}
