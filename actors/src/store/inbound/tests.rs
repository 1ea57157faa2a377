use super::*;
use crate::model::ids::AgentGroupId;
use crate::model::staleness::ClaimReset;
use crate::store::outbound::AckStatus;
use crate::store::seed_schema;
use rusqlite::params;

const NOW: Timestamp = Timestamp::from_ms(1_795_333_635_501);

pub(crate) fn current() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    create_schema(&conn).unwrap();
    conn
}

fn seed() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(seed_schema::INBOUND).unwrap();
    conn
}

pub(super) fn id(text: &str) -> MessageId {
    MessageId::new(text).unwrap()
}

/// Runs `change` in a transaction of its own.
pub(super) fn change<T>(
    conn: &Connection,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> T {
    let tx = conn.unchecked_transaction().unwrap();
    let result = change(&tx).unwrap();
    tx.commit().unwrap();
    result
}

/// One column of one row, as text.
pub(super) fn column(conn: &Connection, id: &str, column: &str) -> Option<String> {
    let sql = format!("SELECT CAST({column} AS TEXT) FROM messages_in WHERE id = ?1");
    conn.query_row(&sql, [id], |row| row.get(0)).unwrap()
}

fn message(text: &str) -> NewInbound {
    NewInbound {
        id: id(text),
        kind: "chat".to_owned(),
        process_after: None,
        recurrence: None,
        series_id: None,
        trigger: true,
        on_wake: false,
        platform_id: None,
        channel_type: None,
        thread_id: None,
        content: r#"{"text":"hi"}"#.to_owned(),
        source_session_id: None,
    }
}

fn seed_row(conn: &Connection, id: &str, seq: i64) {
    conn.execute(
        "INSERT INTO messages_in (id, seq, kind, timestamp, content) VALUES (?1, ?2, 'chat', '', '{}')",
        params![id, seq],
    )
    .unwrap();
}

#[test]
fn backfills_series_id_on_legacy_rows_and_is_idempotent() {
    let conn = seed();
    seed_row(&conn, "a", 2);
    seed_row(&conn, "b", 4);
    assert!(needs_upgrade(&conn).unwrap());
    upgrade(&conn).unwrap();
    assert!(!needs_upgrade(&conn).unwrap());
    assert_eq!(column(&conn, "a", "series_id").as_deref(), Some("a"));
    conn.execute("UPDATE messages_in SET series_id = 'kept' WHERE id = 'b'", []).unwrap();
    upgrade(&conn).unwrap();
    assert_eq!(column(&conn, "b", "series_id").as_deref(), Some("kept"));
    assert_eq!(column(&conn, "a", "trigger").as_deref(), Some("1"));
    assert_eq!(column(&conn, "a", "on_wake").as_deref(), Some("0"));
}

#[test]
fn adds_source_session_id_on_a_legacy_file_and_leaves_existing_rows_null() {
    let conn = seed();
    seed_row(&conn, "a", 2);
    assert_eq!(reply_source(&conn, "a").unwrap(), None, "readable before the upgrade");
    upgrade(&conn).unwrap();
    upgrade(&conn).unwrap();
    assert_eq!(column(&conn, "a", "source_session_id"), None);
    assert_eq!(reply_source(&conn, "a").unwrap(), None);
    assert_eq!(reply_source(&conn, "missing").unwrap(), None);
}

#[test]
fn an_upgraded_file_has_what_a_new_one_has() {
    let names = |conn: &Connection| -> Vec<String> {
        let sql = "SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                   UNION SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY 1";
        let mut statement = conn.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let old = seed();
    upgrade(&old).unwrap();
    let new = current();
    assert!(!needs_upgrade(&new).unwrap());
    assert_eq!(names(&old), names(&new));
    assert!(names(&new).contains(&"nanorelay_live".to_owned()));
}

#[test]
fn a_current_file_of_another_host_only_gains_our_indexes() {
    let conn = current();
    conn.execute_batch(
        "DROP INDEX nanorelay_live; DROP INDEX nanorelay_recurring; DROP INDEX nanorelay_peer;
         INSERT INTO messages_in (id, seq, kind, timestamp, content) VALUES ('a', 2, 'chat', '', '{}');",
    )
    .unwrap();
    assert!(needs_upgrade(&conn).unwrap());
    upgrade(&conn).unwrap();
    assert!(!needs_upgrade(&conn).unwrap());
    assert_eq!(column(&conn, "a", "series_id"), None, "rows are left alone");
}

#[test]
fn a_file_without_its_core_tables_is_an_error_and_not_filled() {
    let empty = Connection::open_in_memory().unwrap();
    let error = upgrade(&empty).unwrap_err();
    assert!(matches!(error, StoreError::Schema { .. }), "{error}");
    let tables: i64 = empty.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 0);
}

#[test]
fn host_sequence_numbers_are_even_and_rise() {
    let conn = current();
    let seq_after = |highest: Option<i64>| {
        conn.execute_batch("DELETE FROM messages_in").unwrap();
        if let Some(highest) = highest {
            seed_row(&conn, "there", highest);
        }
        change(&conn, |tx| insert_message(tx, &message("new"), NOW))
    };
    for (highest, seq) in [(None, 2), (Some(-7), 2), (Some(1), 2), (Some(2), 4), (Some(5), 6), (Some(10), 12)]
    {
        assert_eq!(seq_after(highest), Insert::Inserted { seq }, "after {highest:?}");
    }
}

#[test]
fn forged_sequence_numbers_are_refused_or_ignored_and_never_wrap() {
    let conn = current();
    conn.execute_batch(
        "INSERT INTO messages_in (id, seq, kind, timestamp, content)
         VALUES ('text', 'zzz', 'chat', '', ''), ('six', 6, 'chat', '', '')",
    )
    .unwrap();
    assert_eq!(change(&conn, |tx| insert_message(tx, &message("a"), NOW)), Insert::Inserted { seq: 8 });
    seed_row(&conn, "max", i64::MAX);
    let tx = conn.unchecked_transaction().unwrap();
    assert!(matches!(insert_message(&tx, &message("b"), NOW), Err(StoreError::Limit(_))));
}

#[test]
fn an_inserted_message_is_what_the_container_reads() {
    let conn = current();
    let process_after = Timestamp::from_ms(1_800_043_200_000);
    let new = NewInbound {
        process_after: Some(process_after),
        trigger: false,
        on_wake: true,
        platform_id: Some("ag-main".to_owned()),
        channel_type: Some("agent".to_owned()),
        source_session_id: Some(SessionId::new("sess-1").unwrap()),
        ..message("a")
    };
    assert_eq!(change(&conn, |tx| insert_message(tx, &new, NOW)), Insert::Inserted { seq: 2 });
    assert_eq!(column(&conn, "a", "timestamp").as_deref(), Some("2026-11-22T07:47:15.501Z"));
    assert_eq!(column(&conn, "a", "process_after").as_deref(), Some("2027-01-15T20:00:00.000Z"));
    assert_eq!(column(&conn, "a", "datetime(process_after)").as_deref(), Some("2027-01-15 20:00:00"));
    for (name, value) in
        [("status", "pending"), ("series_id", "a"), ("tries", "0"), ("trigger", "0"), ("on_wake", "1")]
    {
        assert_eq!(column(&conn, "a", name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_second_insert_of_an_id_changes_nothing() {
    let conn = current();
    change(&conn, |tx| insert_message(tx, &message("a"), NOW));
    let other = NewInbound { content: "other".to_owned(), ..message("a") };
    assert_eq!(change(&conn, |tx| insert_message(tx, &other, NOW)), Insert::Duplicate);
    assert_eq!(column(&conn, "a", "content").as_deref(), Some(r#"{"text":"hi"}"#));
}

#[test]
fn outcomes_are_projected_once_and_follow_the_ledger() {
    let conn = current();
    let outcome = |status, platform: Option<&str>| Projection {
        message_id: id("m"),
        status,
        platform_message_id: platform.map(str::to_owned),
        delivered_at: NOW,
    };
    let failed = outcome(ProjectedStatus::Failed, None);
    let delivered = outcome(ProjectedStatus::Delivered, Some("plat-1"));
    let write = |outcome: &Projection| change(&conn, |tx| project(tx, std::slice::from_ref(outcome)));
    assert_eq!(delivered_status(&conn, &id("m")).unwrap(), None);
    assert_eq!([write(&failed), write(&failed)], [1, 0]);
    assert_eq!(delivered_status(&conn, &id("m")).unwrap(), Some(ProjectedStatus::Failed));
    assert_eq!([write(&delivered), write(&delivered)], [1, 0]);
    let row: (String, String, String) = conn
        .query_row("SELECT status, platform_message_id, delivered_at FROM delivered", [], |row| {
            row.try_into()
        })
        .unwrap();
    assert_eq!(row, ("delivered".to_owned(), "plat-1".to_owned(), "2026-11-22 07:47:15".to_owned()));
    let among = delivered_among(&conn, &[id("m"), id("other")]).unwrap();
    assert_eq!(among.into_iter().collect::<Vec<_>>(), [(id("m"), ProjectedStatus::Delivered)]);
}

#[test]
fn delivered_rows_of_both_eras_can_be_imported_page_by_page() {
    let old = seed();
    old.execute_batch("INSERT INTO delivered VALUES ('a', ''), ('', ''), ('b', '')").unwrap();
    let new = current();
    new.execute_batch(
        "INSERT INTO delivered VALUES ('a', 'plat-1', 'delivered', ''), ('x', NULL, 'failed', ''),
           ('b', x'ff', 'unknown word', '')",
    )
    .unwrap();
    let pages = |conn: &Connection| {
        let (mut rows, mut after, mut more) = (Vec::new(), i64::MIN, true);
        while more {
            let page = delivered_page(conn, after, 2).unwrap();
            rows.extend(page.rows);
            (after, more) = (page.after_rowid, page.more);
        }
        rows.into_iter()
            .map(|row| (row.message_id.as_str().to_owned(), row.status, row.platform_message_id))
            .collect::<Vec<_>>()
    };
    let done = ProjectedStatus::Delivered;
    assert_eq!(pages(&old), [("a".to_owned(), done, None), ("b".to_owned(), done, None)]);
    assert_eq!(delivered_status(&old, &id("a")).unwrap(), Some(done));
    assert_eq!(
        pages(&new),
        [
            ("a".to_owned(), done, Some("plat-1".to_owned())),
            ("x".to_owned(), ProjectedStatus::Failed, None),
            ("b".to_owned(), done, None),
        ]
    );
}

#[test]
fn times_are_compared_as_instants_in_all_three_forms() {
    for conn in [current(), seed()] {
        let due_after = |process_after: &str| {
            conn.execute_batch("DELETE FROM messages_in").unwrap();
            seed_row(&conn, "a", 2);
            conn.execute("UPDATE messages_in SET process_after = ?1", [process_after]).unwrap();
            let next = next_due(&conn, NOW).unwrap();
            (due_work(&conn, &Default::default(), NOW).unwrap().count, next.at.is_some(), next.unparseable)
        };
        // Now is 2026-11-22 07:47:15.501 UTC. As text, the second would be late and the fourth early.
        assert_eq!(due_after("2026-11-22 07:47:15"), (1, false, 0));
        assert_eq!(due_after("2026-11-22T07:47:15.501Z"), (1, false, 0));
        assert_eq!(due_after("2026-11-22T09:47:15+02:00"), (1, false, 0));
        assert_eq!(due_after("2026-11-22T06:47:16-02:00"), (0, true, 0));
        assert_eq!(due_after("2026-11-22T07:47:15.502Z"), (0, true, 0));
        for unparseable in ["tomorrow 9am", "1795333608", ""] {
            assert_eq!(due_after(unparseable), (0, false, 1), "{unparseable:?}");
        }
    }
}

#[test]
fn only_what_somebody_will_take_is_due() {
    let conn = current();
    for (n, kind) in ["chat", "task", "webhook", "system"].into_iter().enumerate() {
        let new = NewInbound { kind: kind.to_owned(), ..message(&format!("m{n}")) };
        change(&conn, |tx| insert_message(tx, &new, NOW));
    }
    let context = NewInbound { trigger: false, ..message("context") };
    change(&conn, |tx| insert_message(tx, &context, NOW));
    let later = Timestamp::from_ms(NOW.as_ms() + 5000);
    let waits = NewInbound { process_after: Some(later), ..message("later") };
    change(&conn, |tx| insert_message(tx, &waits, NOW));
    conn.execute("UPDATE messages_in SET status = 'completed' WHERE id = 'm0'", []).unwrap();
    assert_eq!(due_work(&conn, &Default::default(), NOW).unwrap().count, 2);
    assert_eq!(next_due(&conn, NOW).unwrap(), NextDue { at: Some(later), unparseable: 0 });
    assert_eq!(due_work(&conn, &Default::default(), later).unwrap().count, 3);
    assert_eq!(next_due(&conn, later).unwrap().at, None, "what is due is not planned any more");
}

#[test]
fn an_ack_ends_a_pending_message_once_and_failed_stays_failed() {
    let conn = current();
    let ack = |text: &str, status: &AckStatus| {
        change(&conn, |tx| insert_message(tx, &message(text), NOW));
        let changed = change(&conn, |tx| apply_ack(tx, &id(text), status));
        (changed, column(&conn, text, "status").unwrap())
    };
    let other = |word: &str| AckStatus::Other(word.to_owned());
    assert_eq!(ack("a", &AckStatus::Completed), (true, "completed".to_owned()));
    assert_eq!(ack("b", &AckStatus::Failed), (true, "failed".to_owned()));
    assert_eq!(ack("c", &AckStatus::Processing), (false, "pending".to_owned()));
    assert_eq!(ack("d", &other("script-skip:error")), (true, "failed".to_owned()));
    assert_eq!(ack("e", &other("whatever")), (false, "pending".to_owned()));
    assert_eq!(ack("b", &AckStatus::Completed), (false, "failed".to_owned()));
    assert_eq!(ack("a", &AckStatus::Failed), (false, "completed".to_owned()));
}

#[test]
fn pending_ids_are_read_page_by_page() {
    let conn = current();
    for n in 0..5 {
        change(&conn, |tx| insert_message(tx, &message(&format!("m{n}")), NOW));
    }
    conn.execute_batch(
        "UPDATE messages_in SET status = 'paused' WHERE id = 'm1';
         UPDATE messages_in SET status = 'completed' WHERE id = 'm2'",
    )
    .unwrap();
    let first = live_ids(&conn, i64::MIN, 2).unwrap();
    assert_eq!((first.ids, first.more), (vec![id("m0"), id("m3")], true));
    let second = live_ids(&conn, first.after_rowid, 2).unwrap();
    assert_eq!((second.ids, second.more), (vec![id("m4")], false));
}

#[test]
fn a_stale_claim_is_reset_a_bounded_number_of_times_and_not_twice_at_once() {
    let conn = current();
    change(&conn, |tx| insert_message(tx, &message("a"), NOW));
    let reset = |at: i64| change(&conn, |tx| reset_claim(tx, &id("a"), 2, Timestamp::from_ms(at)));
    let retry = |at: i64, tries| ClaimReset::RetryAt { at: Timestamp::from_ms(at), tries };
    assert_eq!(reset(0), retry(5_000, 1));
    assert_eq!(reset(4999), ClaimReset::Leave);
    assert_eq!(column(&conn, "a", "tries").as_deref(), Some("1"), "the tries of a waiting one are kept");
    assert_eq!(reset(5000), retry(15_000, 2));
    assert_eq!(reset(15_000), ClaimReset::GiveUp);
    assert_eq!(column(&conn, "a", "status").as_deref(), Some("failed"));
    assert_eq!(reset(99_000), ClaimReset::Leave);
}

#[test]
fn answers_find_the_session_that_asked() {
    let conn = current();
    let from = |text: &str, channel: &str, session: Option<&str>| {
        let new = NewInbound {
            channel_type: Some(channel.to_owned()),
            platform_id: Some("ag-main".to_owned()),
            source_session_id: session.map(|session| SessionId::new(session).unwrap()),
            ..message(text)
        };
        change(&conn, |tx| insert_message(tx, &new, NOW));
    };
    let peer = AgentGroupId::new("ag-main").unwrap();
    assert_eq!(last_peer_session(&conn, &peer).unwrap(), None);
    from("a1", "agent", Some("sess-1"));
    from("a2", "agent", Some("sess-2"));
    from("a3", "agent", None);
    from("c1", "discord", Some("sess-3"));
    let session = |text: &str| SessionId::new(text).unwrap();
    assert_eq!(reply_source(&conn, "a1").unwrap(), Some((session("sess-1"), peer.clone())));
    assert_eq!(reply_source(&conn, "a3").unwrap(), None);
    assert_eq!(reply_source(&conn, "c1").unwrap(), None, "not from an agent");
    assert_eq!(last_peer_session(&conn, &peer).unwrap(), Some(session("sess-2")));
    conn.execute("UPDATE messages_in SET source_session_id = '../../x' WHERE id = 'a2'", []).unwrap();
    assert_eq!(last_peer_session(&conn, &peer).unwrap(), None, "a forged session is no path");
    assert_eq!(last_peer_session(&seed(), &peer).unwrap(), None);
}

#[test]
fn questions_about_live_rows_do_not_read_the_history() {
    let conn = current();
    let uses = |sql: &str, index: &str| {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        assert!(plan.iter().any(|step| step.contains(index)), "{sql}: {plan:?}");
        assert!(!plan.iter().any(|step| step == "SCAN messages_in"), "{sql}: {plan:?}");
    };
    let live = "FROM messages_in WHERE status IN ('pending','paused')";
    uses(&format!("SELECT process_after {live} AND status = 'pending' AND trigger = 1"), "nanorelay_live");
    uses(&format!("SELECT id {live} AND status = 'pending' AND rowid > 5 ORDER BY rowid"), "nanorelay_live");
    uses(&format!("SELECT count(*) {live} AND kind = 'task'"), "nanorelay_live");
    let ended = "WHERE recurrence IS NOT NULL AND status IN ('completed','failed') ORDER BY rowid";
    uses(&format!("SELECT id FROM messages_in {ended}"), "nanorelay_recurring");
    let peer = "channel_type = 'agent' AND source_session_id IS NOT NULL AND platform_id = 'x'";
    uses(&format!("SELECT id FROM messages_in WHERE {peer} ORDER BY seq DESC LIMIT 1"), "nanorelay_peer");
}
