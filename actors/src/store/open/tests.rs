use super::*;
use crate::store::session_dir::tests::Fixture;
use crate::store::vfs::tests::{INBOUND_SQL, OUTBOUND_SQL, Shell, assert_intact, stock, with_databases};
use std::os::unix::fs::PermissionsExt;

#[track_caller]
fn assert_schema<T>(result: Result<T, StoreError>, words: &str) {
    match result {
        Err(StoreError::Schema { reason, .. }) => assert!(reason.contains(words), "{reason:?}"),
        Err(other) => panic!("not a schema error: {other:?}"),
        Ok(_) => panic!("accepted, {words}"),
    }
}

/// An `outbound.db` that stock SQLite makes of `sql` must be refused with these words.
#[track_caller]
fn refuses_outbound(sql: &str, words: &str) {
    let fixture = Fixture::new();
    stock(&fixture.path("outbound.db")).execute_batch(sql).unwrap();
    assert_schema(open_outbound(&fixture.directory), words);
}

fn writer(fixture: &Fixture) -> SessionConnection {
    open_inbound(&fixture.directory, InboundAccess::ReadWrite).unwrap()
}

#[test]
fn what_we_create_and_write_can_be_read_by_stock_sqlite() {
    let fixture = Fixture::new();
    let connection = create_inbound(&fixture.directory).unwrap();
    connection.execute_batch(INBOUND_SQL).unwrap();
    connection.execute_batch("INSERT INTO delivered VALUES('m1', '2026-01-01 00:00:00')").unwrap();
    drop(connection);
    create_outbound(&fixture.directory).unwrap().execute_batch(OUTBOUND_SQL).unwrap();
    open_outbound(&fixture.directory).unwrap();

    let path = fixture.path("inbound.db");
    assert_intact(&path);
    let mode: String = stock(&path).query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    let permissions = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(permissions & 0o600, 0o600);
    assert_eq!(permissions & 0o133, 0, "not executable, not writable by others");
    let ours = open_inbound(&fixture.directory, InboundAccess::ReadOnly).unwrap();
    let id: String = ours.query_row("SELECT message_out_id FROM delivered", [], |row| row.get(0)).unwrap();
    assert_eq!(id, "m1");
    assert!(ours.execute_batch("DELETE FROM delivered").is_err(), "opened for reading only");
}

#[test]
fn a_journal_has_the_mode_of_its_database() {
    let fixture = with_databases();
    let connection = writer(&fixture);
    let permissions = std::fs::Permissions::from_mode(0o660);
    std::fs::set_permissions(fixture.path("inbound.db"), permissions).unwrap();
    connection.execute_batch("BEGIN; INSERT INTO delivered VALUES('a', 'now')").unwrap();
    let journal = std::fs::metadata(fixture.path("inbound.db-journal")).unwrap();
    assert_eq!(journal.permissions().mode() & 0o777, 0o660);
    connection.execute_batch("COMMIT").unwrap();
    assert!(!fixture.path("inbound.db-journal").exists());
}

#[test]
fn an_empty_file_and_one_without_our_tables_say_so() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("outbound.db"), "").unwrap();
    assert_schema(open_outbound(&fixture.directory), "empty");
    refuses_outbound("CREATE TABLE other(x)", "table messages_out is missing");
    refuses_outbound(
        &OUTBOUND_SQL.replace("deliver_after TEXT,", ""),
        "table messages_out has no column deliver_after",
    );
}

#[test]
fn a_file_that_is_no_database_is_damaged() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("outbound.db"), "x".repeat(10_000)).unwrap();
    assert!(matches!(open_outbound(&fixture.directory), Err(StoreError::Corrupt { .. })));
    let fixture = with_databases();
    let file = std::fs::File::options().write(true).open(fixture.path("outbound.db")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 3000], 4096).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 3000], 100).unwrap();
    let result = open_outbound(&fixture.directory);
    assert!(matches!(result, Err(StoreError::Corrupt { .. })), "{:?}", result.err());
}

#[test]
fn later_files_with_more_tables_and_columns_are_accepted() {
    let fixture = with_databases();
    stock(&fixture.path("outbound.db"))
        .execute_batch(
            "CREATE TABLE session_state(key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
             ALTER TABLE messages_out ADD COLUMN later TEXT;
             CREATE TABLE own(x); CREATE INDEX by_kind ON messages_out(kind);
             CREATE VIEW harmless AS SELECT 1; CREATE TRIGGER on_own AFTER INSERT ON own BEGIN SELECT 1; END;",
        )
        .unwrap();
    open_outbound(&fixture.directory).unwrap();
}

#[test]
fn a_table_that_would_run_code_is_refused() {
    let rest = OUTBOUND_SQL.split_once(';').unwrap().1;
    refuses_outbound(
        &format!("{OUTBOUND_SQL}CREATE TRIGGER t AFTER INSERT ON Messages_Out BEGIN SELECT 1; END;"),
        "trigger t",
    );
    refuses_outbound(
        &format!("CREATE VIEW messages_out AS SELECT 1 AS id;{rest}"),
        "messages_out is not an ordinary table",
    );
    refuses_outbound(
        &OUTBOUND_SQL.replace("thread_id TEXT", "thread_id TEXT AS (hex(zeroblob(1000000)))"),
        "column thread_id of table messages_out is computed",
    );
    let stored = OUTBOUND_SQL.replace("thread_id TEXT", "thread_id TEXT AS (upper(kind)) STORED");
    refuses_outbound(&stored, "computed");
    refuses_outbound(
        &format!("{OUTBOUND_SQL}CREATE VIEW container_state AS SELECT 1 AS id;"),
        "not an ordinary",
    );
}

#[test]
fn a_virtual_table_of_a_module_that_only_agents_have_is_refused() {
    let fixture = Fixture::new();
    let agent = stock(&fixture.path("outbound.db"));
    agent.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    let rest = OUTBOUND_SQL.split_once(';').unwrap().1;
    // What a SQLite with this module leaves behind.
    let table = "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema VALUES
        ('table', 'messages_out', 'messages_out', 0, 'CREATE VIRTUAL TABLE messages_out USING fts5(id)');";
    agent.execute_batch(&format!("{rest}{table}")).unwrap();
    drop(agent);
    assert_schema(open_outbound(&fixture.directory), "messages_out is not an ordinary table");
}

#[test]
fn a_virtual_table_in_disguise_is_refused() {
    let fixture = with_databases();
    let agent = stock(&fixture.path("outbound.db"));
    agent.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    agent
        .execute_batch(
            "PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET sql='CREATE VIRTUAL TABLE messages_out USING fts5(id)'
                WHERE name='messages_out';",
        )
        .unwrap();
    drop(agent);
    let result = open_outbound(&fixture.directory);
    assert!(
        matches!(result, Err(StoreError::Schema { .. } | StoreError::Corrupt { .. })),
        "{:?}",
        result.err()
    );
}

#[test]
fn a_schema_with_too_many_objects_is_refused_without_loading_it_all() {
    for count in [SCHEMA_OBJECTS_MAX, 3_000] {
        let fixture = with_databases();
        let agent = stock(&fixture.path("outbound.db"));
        let tables: String = (0..count).map(|number| format!("CREATE TABLE t{number}(x);")).collect();
        agent.execute_batch(&format!("BEGIN;{tables}COMMIT;")).unwrap();
        drop(agent);
        assert_schema(open_outbound(&fixture.directory), "more than 200 objects");
    }
}

#[test]
fn a_changed_schema_is_noticed() {
    let fixture = with_databases();
    let connection = open_outbound(&fixture.directory).unwrap();
    assert!(connection.schema_is_unchanged().unwrap());
    stock(&fixture.path("outbound.db")).execute_batch("CREATE VIEW v AS SELECT 1").unwrap();
    assert!(!connection.schema_is_unchanged().unwrap());
}

#[test]
fn the_change_counter_moves_with_each_commit() {
    let fixture = with_databases();
    let connection = open_outbound(&fixture.directory).unwrap();
    let mut before = connection.change_counter().unwrap();
    let agent = stock(&fixture.path("outbound.db"));
    for number in 0..5 {
        agent.execute("INSERT INTO processing_ack VALUES(?1, 'processing', 'now')", [number]).unwrap();
        let after = connection.change_counter().unwrap();
        assert_ne!(before, after);
        before = after;
    }
}

#[test]
fn other_databases_cannot_be_attached() {
    let fixture = with_databases();
    let connection = writer(&fixture);
    assert!(connection.execute("ATTACH ?1 AS other", [fixture.victim().to_str().unwrap()]).is_err());
    assert!(connection.execute_batch("ATTACH ':memory:' AS other").is_err());
    assert!(connection.execute("VACUUM INTO ?1", [fixture.path("copy").to_str().unwrap()]).is_err());
    assert!(!fixture.path("copy").exists());
}

#[test]
fn a_huge_value_is_a_limit_and_its_size_can_still_be_asked() {
    let fixture = with_databases();
    stock(&fixture.path("outbound.db"))
        .execute_batch(
            "INSERT INTO messages_out(id, seq, timestamp, kind, content)
                VALUES('m1', 1, 'now', 'chat', CAST(zeroblob(20000000) AS TEXT)), ('m2', 3, 'now', 'chat', '{}')",
        )
        .unwrap();
    let connection = open_outbound(&fixture.directory).unwrap();
    let read = connection
        .query_row("SELECT content FROM messages_out WHERE seq=1", [], |row| row.get::<_, String>(0));
    let error = connection.classify(read.unwrap_err());
    assert!(matches!(error, StoreError::Limit(_)), "{error:?}");
    let sizes: Vec<i64> = connection
        .prepare("SELECT octet_length(content) FROM messages_out ORDER BY seq")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(sizes, [20_000_000, 2]);
}

#[test]
fn foreign_keys_of_an_agent_cascade_to_nothing() {
    let fixture = with_databases();
    stock(&fixture.path("inbound.db"))
        .execute_batch(
            "CREATE TABLE trap(id TEXT REFERENCES delivered(message_out_id) ON DELETE CASCADE);
             INSERT INTO delivered VALUES('a', 'now'); INSERT INTO trap VALUES('a');",
        )
        .unwrap();
    let connection = writer(&fixture);
    connection.execute_batch("DELETE FROM delivered").unwrap();
    let left: i64 = connection.query_row("SELECT count(*) FROM trap", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}

#[test]
fn a_statement_past_its_deadline_is_interrupted_and_the_next_one_runs() {
    let fixture = with_databases();
    let mut connection = writer(&fixture);
    let endless = "WITH RECURSIVE n(i) AS (SELECT count(*) FROM delivered UNION ALL SELECT i+1 FROM n) \
                   SELECT max(i) FROM n";
    let started = Instant::now();
    let result = connection
        .with_deadline(Duration::from_millis(30), |connection| {
            connection.query_row(endless, [], |row| row.get::<_, i64>(0))
        })
        .map_err(|error| connection.classify(error));
    assert!(matches!(result, Err(StoreError::Limit(_))), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(4));
    connection.execute_batch("INSERT INTO delivered VALUES('a', 'now')").unwrap();
}

#[test]
fn a_lock_that_is_never_released_costs_a_bounded_wait() {
    let fixture = with_databases();
    let connection = open_outbound(&fixture.directory).unwrap();
    let mut agent = Shell::open(fixture.path("outbound.db"));
    agent.ok("BEGIN EXCLUSIVE");
    let started = Instant::now();
    let read = connection.query_row("SELECT count(*) FROM messages_out", [], |row| row.get::<_, i64>(0));
    let waited = started.elapsed();
    assert!(matches!(connection.classify(read.unwrap_err()), StoreError::Busy(_)));
    assert!(waited >= SESSION_LOCK_WAIT && waited < 10 * SESSION_LOCK_WAIT, "{waited:?}");
    assert!(matches!(open_outbound(&fixture.directory), Err(StoreError::Busy(_))));
    agent.ok("COMMIT");
    open_outbound(&fixture.directory).unwrap();
}

#[test]
fn a_lock_that_is_released_soon_is_waited_for() {
    let fixture = with_databases();
    let connection = writer(&fixture);
    let mut agent = Shell::open(fixture.path("inbound.db"));
    agent.ok("BEGIN EXCLUSIVE");
    agent.start("COMMIT");
    connection.execute_batch("INSERT INTO delivered VALUES('a', 'now')").unwrap();
    assert_eq!(agent.answer(), "ok");
}

#[test]
fn a_connection_keeps_its_folder_open() {
    let fixture = with_databases();
    let directory = Arc::clone(&fixture.directory);
    let connection = writer(&fixture);
    let Fixture { data, root, directory: original } = fixture;
    drop((original, directory));
    connection.execute_batch("BEGIN; INSERT INTO delivered VALUES('a', 'now')").unwrap();
    drop(connection);
    drop((root, data));
}

#[test]
fn first_version_files_can_be_upgraded_through_a_hardened_connection() {
    let fixture = with_databases();
    let connection = writer(&fixture);
    connection
        .execute_batch(
            "BEGIN IMMEDIATE;
             ALTER TABLE messages_in ADD COLUMN series_id TEXT;
             ALTER TABLE messages_in ADD COLUMN trigger INTEGER NOT NULL DEFAULT 1;
             ALTER TABLE delivered ADD COLUMN status TEXT NOT NULL DEFAULT 'delivered';
             UPDATE messages_in SET series_id=id;
             CREATE INDEX IF NOT EXISTS by_series ON messages_in(series_id);
             CREATE TABLE IF NOT EXISTS session_routing(id INTEGER PRIMARY KEY CHECK(id=1), channel_type TEXT,
                platform_id TEXT, thread_id TEXT);
             COMMIT;",
        )
        .unwrap();
    assert_intact(&fixture.path("inbound.db"));
    drop(connection);
    writer(&fixture);
}
