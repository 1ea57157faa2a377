use super::*;
use crate::model::time::Timestamp;
use crate::store::seed_schema;
use rusqlite::limits::Limit;

const MIB: u64 = 1024 * 1024;

fn current() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    create_schema(&conn).unwrap();
    conn
}

fn seed() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(seed_schema::OUTBOUND).unwrap();
    conn
}

fn write(conn: &Connection, id: &str, seq: Option<i64>) {
    conn.execute(
        "INSERT INTO messages_out (id, seq, timestamp, kind, content) VALUES (?1, ?2, '', 'chat', '{}')",
        params![id, seq],
    )
    .unwrap();
}

/// Ids and seqs of a batch.
fn order(batch: &Batch) -> Vec<(&str, i64)> {
    batch.rows.iter().map(|row| (row.id.as_str(), row.seq)).collect()
}

fn read(conn: &Connection, cursor: Cursor, limit: usize) -> Batch {
    read_after(conn, cursor, limit, MIB).unwrap()
}

/// Reads to the end in batches of `limit`; every id in the order of its return.
fn drain(conn: &Connection, limit: usize) -> (Vec<String>, Cursor) {
    let (mut ids, mut cursor) = (Vec::new(), Cursor::default());
    loop {
        let batch = read(conn, cursor, limit);
        assert!(batch.rows.len() <= limit, "a batch keeps its bound");
        assert!(!batch.more || batch.cursor != cursor, "a batch makes progress");
        ids.extend(batch.rows.iter().map(|row| row.id.as_str().to_owned()));
        cursor = batch.cursor;
        if !batch.more {
            return (ids, cursor);
        }
    }
}

#[track_caller]
fn fault_of(conn: &Connection, id: &str) -> RowFault {
    let (rows, _) = read_by_ids(conn, &[MessageId::new(id).unwrap()], MIB).unwrap();
    rows.into_iter().next().expect("the row is there").content.expect_err("it is faulty")
}

#[test]
fn rows_come_in_seq_order_in_both_eras() {
    for conn in [current(), seed()] {
        write(&conn, "c", Some(7));
        write(&conn, "a", Some(3));
        write(&conn, "b", Some(5));
        let first = read(&conn, Cursor::default(), 2);
        assert_eq!(order(&first), [("a", 3), ("b", 5)]);
        assert!(first.more);
        let second = read(&conn, first.cursor, 2);
        assert_eq!(order(&second), [("c", 7)]);
        assert!(!second.more);
        let third = read(&conn, second.cursor, 2);
        assert!(third.rows.is_empty() && !third.more);
        assert_eq!(third.cursor, second.cursor);
    }
}

#[test]
fn a_row_without_seq_takes_the_place_of_the_row_before_it() {
    let conn = current();
    write(&conn, "a", Some(3));
    write(&conn, "null", None);
    write(&conn, "b", Some(5));
    let batch = read(&conn, Cursor::default(), 10);
    assert_eq!(order(&batch), [("a", 3), ("null", 3), ("b", 5)]);
    write(&conn, "later", None);
    let next = read(&conn, batch.cursor, 10);
    assert_eq!(order(&next), [("later", 5)]);
    assert!(read(&conn, next.cursor, 10).rows.is_empty(), "returned once");
}

#[test]
fn a_row_committed_late_with_a_low_seq_is_returned_once() {
    let conn = current();
    write(&conn, "a", Some(3));
    write(&conn, "c", Some(7));
    let batch = read(&conn, Cursor::default(), 10);
    write(&conn, "late", Some(5));
    let next = read(&conn, batch.cursor, 10);
    assert_eq!(order(&next), [("late", 5)]);
    write(&conn, "later", Some(1));
    write(&conn, "d", Some(9));
    let last = read(&conn, next.cursor, 10);
    assert_eq!(order(&last), [("later", 1), ("d", 9)]);
    assert!(read(&conn, last.cursor, 10).rows.is_empty());
}

#[test]
fn every_row_is_returned_exactly_once_whatever_its_seq() {
    fastrand::seed(7);
    for limit in [1, 2, 3, 7, 1000] {
        for _ in 0..40 {
            let conn = current();
            let mut seqs: Vec<i64> = (1..=30).collect();
            fastrand::shuffle(&mut seqs);
            for (n, seq) in seqs.into_iter().enumerate() {
                write(&conn, &format!("m{n}"), (fastrand::u8(..4) > 0).then_some(seq));
            }
            let (mut ids, cursor) = drain(&conn, limit);
            assert_eq!(ids.len(), 30, "limit {limit}");
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 30, "limit {limit}: none twice");
            assert!(read(&conn, cursor, limit).rows.is_empty());
        }
    }
}

#[test]
fn rows_that_arrive_between_batches_are_returned_exactly_once() {
    fastrand::seed(11);
    for _ in 0..60 {
        let conn = current();
        let mut seqs: Vec<i64> = (1..=60).collect();
        fastrand::shuffle(&mut seqs);
        let mut cursor = Cursor::default();
        let mut ids = Vec::new();
        while !seqs.is_empty() || read(&conn, cursor, 4).more {
            for _ in 0..fastrand::usize(..6) {
                if let Some(seq) = seqs.pop() {
                    write(&conn, &format!("m{seq}"), (fastrand::u8(..5) > 0).then_some(seq));
                }
            }
            let batch = read(&conn, cursor, 4);
            ids.extend(batch.rows.iter().map(|row| row.id.as_str().to_owned()));
            cursor = batch.cursor;
        }
        ids.extend(read(&conn, cursor, 4).rows.iter().map(|row| row.id.as_str().to_owned()));
        assert_eq!(ids.len(), 60);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 60);
    }
}

#[test]
fn a_seq_that_is_no_integer_counts_as_none() {
    let conn = current();
    write(&conn, "a", Some(3));
    conn.execute_batch(
        "INSERT INTO messages_out (id, seq, timestamp, kind, content) VALUES
           ('text', 'many', '', 'chat', '{}'), ('real', 3.5, '', 'chat', '{}'), ('blob', x'01', '', 'chat', '{}');",
    )
    .unwrap();
    let batch = read(&conn, Cursor::default(), 10);
    assert_eq!(order(&batch), [("a", 3), ("text", 3), ("real", 3), ("blob", 3)]);
    assert!(read(&conn, batch.cursor, 10).rows.is_empty(), "not for ever again");
}

#[test]
fn the_largest_seq_does_not_hide_later_rows() {
    let conn = current();
    write(&conn, "max", Some(i64::MAX));
    let batch = read(&conn, Cursor::default(), 10);
    write(&conn, "next", Some(5));
    assert_eq!(order(&read(&conn, batch.cursor, 10)), [("next", 5)]);
}

#[test]
fn a_rowid_that_is_used_again_is_seen_again() {
    let conn = current();
    write(&conn, "a", Some(3));
    write(&conn, "b", Some(5));
    let mut cursor = read(&conn, Cursor::default(), 10).cursor;
    conn.execute("DELETE FROM messages_out WHERE id = 'b'", []).unwrap();
    cursor = read(&conn, cursor, 10).cursor;
    write(&conn, "null", None);
    assert_eq!(order(&read(&conn, cursor, 10)), [("null", 5)]);
}

#[test]
fn unusable_ids_are_reported_and_do_not_stop_the_batch() {
    let conn = current();
    conn.execute_batch(&format!(
        "INSERT INTO messages_out (id, seq, timestamp, kind, content) VALUES
           (NULL, 1, '', 'chat', '{{}}'), ('', 3, '', 'chat', '{{}}'), (x'00ff', 5, '', 'chat', '{{}}'),
           ('{}', 7, '', 'chat', '{{}}'), (CAST(x'ff' AS TEXT), 9, '', 'chat', '{{}}');",
        "x".repeat(2000)
    ))
    .unwrap();
    write(&conn, "good", Some(11));
    let batch = read(&conn, Cursor::default(), 10);
    assert_eq!(order(&batch), [("good", 11)]);
    let reasons: Vec<_> = batch.unusable.iter().map(|row| (row.rowid, row.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "id is null"),
            (2, "id is empty"),
            (3, "id is not text"),
            (4, "id has 2000 bytes, the limit is 1024"),
            (5, "id is not text"),
        ]
    );
}

#[test]
fn columns_that_are_not_text_make_a_faulty_row_and_not_a_failed_batch() {
    let conn = current();
    let insert = |id: &str, column: &str, value: &str| {
        let columns = ["kind", "content"].iter().filter(|name| **name != column);
        let (mut names, mut values) = (format!("id, timestamp, {column}"), format!("'{id}', '', {value}"));
        for name in columns {
            names += &format!(", {name}");
            values += ", '{}'";
        }
        conn.execute_batch(&format!("INSERT INTO messages_out ({names}) VALUES ({values})")).unwrap();
    };
    for column in
        ["in_reply_to", "deliver_after", "kind", "channel_type", "platform_id", "thread_id", "content"]
    {
        insert(&format!("blob-{column}"), column, "x'ff00'");
        insert(&format!("utf8-{column}"), column, "CAST(x'fffe' AS TEXT)");
    }
    let long = format!("'{}'", "y".repeat(5000));
    insert("long", "platform_id", &long);
    let batch = read(&conn, Cursor::default(), 100);
    assert_eq!(batch.rows.len(), 15);
    for row in &batch.rows[..14] {
        let column = row.id.as_str().split_once('-').unwrap().1;
        let error = row.content.as_ref().unwrap_err().to_string();
        assert_eq!(error, format!("column {column} is not text"));
    }
    let too_long = RowFault::ColumnTooLong { column: "platform_id", bytes: 5000, limit: 1024 };
    assert_eq!(fault_of(&conn, "long"), too_long);
}

#[test]
fn numbers_in_a_table_without_types_are_faults_except_as_a_time() {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(
        "CREATE TABLE messages_out (id, seq, in_reply_to, timestamp, deliver_after, recurrence, kind,
           platform_id, channel_type, thread_id, content);
         INSERT INTO messages_out (id, seq, kind, deliver_after, content) VALUES ('a', 1, 'chat', 1795333608, '{}');
         INSERT INTO messages_out (id, seq, kind, platform_id, content) VALUES ('b', 3, 'chat', 42, '{}');
         INSERT INTO messages_out (id, seq, content) VALUES ('c', 5, '{}');
         INSERT INTO messages_out (id, seq, kind, content) VALUES ('d', 7, 'chat', 42);",
    )
    .unwrap();
    let rows = read(&conn, Cursor::default(), 10).rows;
    assert_eq!(rows[0].deliver_after.as_deref(), Some("1795333608"));
    assert!(rows[0].content.is_ok());
    assert_eq!(rows[1].content, Err(RowFault::NotText { column: "platform_id" }));
    assert_eq!(rows[2].content, Err(RowFault::NotText { column: "kind" }));
    assert_eq!(rows[3].content, Err(RowFault::NotText { column: "content" }));
}

#[test]
fn huge_content_is_measured_and_not_loaded() {
    let conn = current();
    let size = i64::try_from(8 * MIB).unwrap();
    conn.execute(
        "INSERT INTO messages_out (id, seq, timestamp, kind, content)
         VALUES ('huge', 1, '', 'chat', replace(hex(zeroblob(?1)), '00', 'x'))",
        [size],
    )
    .unwrap();
    write(&conn, "small", Some(3));
    // Loading it would now fail the whole statement.
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, 4 * 1024 * 1024).unwrap();
    let rows = read(&conn, Cursor::default(), 10).rows;
    assert_eq!(rows[0].content, Err(RowFault::TooLarge { bytes: 8 * MIB, limit: MIB }));
    assert!(rows[1].content.is_ok());
}

#[test]
fn a_batch_ends_with_the_message_that_reaches_the_memory_bound() {
    let conn = current();
    for n in 0..20 {
        conn.execute(
            "INSERT INTO messages_out (id, seq, timestamp, kind, content)
             VALUES (?1, ?2, '', 'chat', replace(hex(zeroblob(1048576)), '00', 'x'))",
            params![format!("m{n:02}"), 2 * n + 1],
        )
        .unwrap();
    }
    let batch = read(&conn, Cursor::default(), 100);
    assert_eq!((batch.rows.len(), batch.more), (8, true));
    let (ids, _) = drain(&conn, 100);
    assert_eq!(ids, (0..20).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
}

#[test]
fn ids_are_walked_like_rows() {
    let conn = current();
    write(&conn, "a", Some(3));
    write(&conn, "null", None);
    write(&conn, "b", Some(5));
    let first = ids_in_order(&conn, Cursor::default(), 2).unwrap();
    let second = ids_in_order(&conn, first.cursor, 2).unwrap();
    let ids: Vec<_> = first.ids.iter().chain(&second.ids).map(|(id, _)| id.as_str()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["a", "b", "null"]);
    assert!(read(&conn, second.cursor, 10).rows.is_empty(), "the cursor serves both");
}

#[test]
fn rows_are_read_by_id_and_missing_ones_left_out() {
    let conn = current();
    write(&conn, "a", Some(3));
    write(&conn, "b", Some(5));
    let ids = ["b", "gone", "a"].map(|id| MessageId::new(id).unwrap());
    let (rows, looked_at) = read_by_ids(&conn, &ids, MIB).unwrap();
    assert_eq!(looked_at, ids.len());
    assert_eq!(rows.iter().map(|row| (row.id.as_str(), row.seq)).collect::<Vec<_>>(), [("b", 5), ("a", 3)]);
}

#[test]
fn a_look_at_a_long_history_reads_no_row_of_it() {
    let conn = current();
    for (sql, uses) in [
        (IN_SEQ_ORDER, "SEARCH messages_out USING INDEX"),
        (LATE, "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ] {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let params = rusqlite::params_from_iter(std::iter::repeat_n(1, count));
        let plan: Vec<String> =
            statement.query_map(params, |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        assert!(plan.len() == 1 && plan[0].contains(uses), "{plan:?}");
    }
}

#[test]
fn acks_are_read_by_message_and_claims_by_status() {
    let conn = seed();
    conn.execute_batch(
        "INSERT INTO processing_ack VALUES
           ('a', 'processing', '2026-11-22 07:47:15'), ('b', 'completed', '2026-11-22T07:47:15.500Z'),
           ('c', 'failed', 'yesterday'), ('d', 'script-skip:error', ''), ('e', 'processing', ''),
           ('', 'processing', '');",
    )
    .unwrap();
    let ids = ["d", "c", "b", "a", "none"].map(|id| MessageId::new(id).unwrap());
    let found = acks(&conn, &ids).unwrap();
    let status: Vec<_> = found.iter().map(|ack| (ack.message_id.as_str(), ack.status.clone())).collect();
    let other = AckStatus::Other("script-skip:error".to_owned());
    assert_eq!(
        status,
        [("d", other), ("c", AckStatus::Failed), ("b", AckStatus::Completed), ("a", AckStatus::Processing)]
    );
    let times: Vec<_> = found.iter().map(|ack| ack.status_changed.map(Timestamp::as_ms)).collect();
    assert_eq!(times, [None, None, Some(1_795_333_635_500), Some(1_795_333_635_000)]);
    let claimed = claims(&conn, 10).unwrap();
    assert_eq!(claimed.iter().map(|ack| ack.message_id.as_str()).collect::<Vec<_>>(), ["a", "e"]);
}

#[test]
fn the_running_tool_is_read_where_the_table_exists() {
    assert_eq!(container_state(&seed()).unwrap(), None);
    let conn = current();
    assert_eq!(container_state(&conn).unwrap(), None);
    conn.execute_batch("INSERT INTO container_state VALUES (1, 'Bash', 7200000, '2026-11-22 07:47:15', '')")
        .unwrap();
    let state = container_state(&conn).unwrap().unwrap();
    assert_eq!(state.current_tool.as_deref(), Some("Bash"));
    assert_eq!(state.tool_declared_timeout_ms, Some(7_200_000));
    assert_eq!(state.tool_started_at, Some(Timestamp::from_ms(1_795_333_635_000)));
    conn.execute_batch("UPDATE container_state SET current_tool = x'ff', tool_declared_timeout_ms = -1")
        .unwrap();
    let state = container_state(&conn).unwrap().unwrap();
    assert_eq!((state.current_tool, state.tool_declared_timeout_ms), (None, None));
}
