use super::*;
use crate::store::session_dir::tests::Fixture;
use crate::store::vfs::tests::{OUTBOUND_SQL, leave_hot_journal, stock, with_databases};
use rusqlite::Connection;

/// Two sessions whose files have the same schema, and the same numbers in their headers.
struct Two {
    first: Fixture,
    second: Fixture,
    connections: SpareConnections,
}

fn two() -> Two {
    Two { first: with_databases(), second: with_databases(), connections: SpareConnections::default() }
}

impl Two {
    /// Opens the first session's `outbound.db` and gives the connection back.
    fn use_first(&self) {
        let opened = self.connections.open_outbound(&self.first.directory).unwrap();
        assert_eq!(ids(&opened), ["first"]);
        self.give_back(opened);
    }

    fn give_back(&self, opened: Box<SessionConnection>) {
        self.connections.give_back(opened, &self.first.root);
    }

    fn spare(&self) -> usize {
        lock(&self.connections.outbound).connections.len()
    }
}

/// One row in the session's `outbound.db`, which is its only one.
fn say(fixture: &Fixture, id: &str) {
    let row = "INSERT INTO messages_out(id, seq, timestamp, kind, content) VALUES(?1, 1, '', 'chat', '{}')";
    stock(&fixture.path("outbound.db")).execute(row, [id]).unwrap();
}

fn ids(connection: &Connection) -> Vec<String> {
    let mut statement = connection.prepare_cached("SELECT id FROM messages_out ORDER BY seq").unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.collect::<Result<_, _>>().unwrap()
}

/// The descriptors of this process that lead into a session's folder.
fn descriptors_in(fixture: &Fixture) -> usize {
    let folder = fixture.path("");
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter_map(|link| std::fs::read_link(link.path()).ok()).filter(|to| to.starts_with(&folder)).count()
}

#[test]
fn the_next_session_is_read_with_the_same_connection_and_nothing_of_the_last_one_is_seen() {
    let two = two();
    say(&two.first, "first");
    say(&two.second, "second");
    two.use_first();
    let mut opened = two.connections.take(SessionFile::Outbound).unwrap();
    assert!(opened.fits_after_move_to(&two.second.directory).unwrap());
    assert_eq!(ids(&opened), ["second"]);
    say_more(&two.second);
    assert_eq!(ids(&opened), ["second", "more"], "its own changes are seen");
}

fn say_more(fixture: &Fixture) {
    let row =
        "INSERT INTO messages_out(id, seq, timestamp, kind, content) VALUES('more', 2, '', 'chat', '{}')";
    stock(&fixture.path("outbound.db")).execute_batch(row).unwrap();
}

#[test]
fn a_spare_connection_holds_no_file_no_folder_and_no_lock() {
    let two = two();
    say(&two.first, "first");
    let directory = Arc::new(reopened(&two.first));
    let opened = two.connections.open_outbound(&directory).unwrap();
    drop(directory);
    let with_connection = descriptors_in(&two.first);
    two.give_back(opened);
    assert_eq!(two.spare(), 1);
    // The fixture itself holds the folder.
    assert_eq!((with_connection, descriptors_in(&two.first)), (3, 1));
    stock(&two.first.path("outbound.db")).execute_batch("BEGIN EXCLUSIVE; COMMIT").unwrap();
}

fn reopened(fixture: &Fixture) -> SessionDir {
    use crate::store::session_dir::tests::{group, session};
    fixture.root.session(&group(), &session()).unwrap()
}

#[test]
fn a_file_with_another_schema_gets_a_connection_of_its_own() {
    let two = two();
    say(&two.first, "first");
    let outbound = two.second.path("outbound.db");
    std::fs::remove_file(&outbound).unwrap();
    let other = "CREATE TABLE messages_out(seq INTEGER UNIQUE, content TEXT NOT NULL, id TEXT PRIMARY KEY,
        in_reply_to TEXT, timestamp TEXT NOT NULL, deliver_after TEXT, recurrence TEXT, kind TEXT NOT NULL,
        platform_id TEXT, channel_type TEXT, thread_id TEXT);
    CREATE TABLE processing_ack(message_id TEXT PRIMARY KEY, status TEXT NOT NULL, status_changed TEXT NOT NULL);";
    stock(&outbound).execute_batch(other).unwrap();
    say(&two.second, "second");
    two.use_first();
    let opened = two.connections.open_outbound(&two.second.directory).unwrap();
    assert_eq!(ids(&opened), ["second"]);
    assert_eq!(two.spare(), 0, "the one that did not fit is closed");
}

#[test]
fn a_file_of_another_layout_gets_a_connection_of_its_own() {
    let two = two();
    say(&two.first, "first");
    let outbound = two.second.path("outbound.db");
    std::fs::remove_file(&outbound).unwrap();
    stock(&outbound).execute_batch(&format!("PRAGMA encoding='UTF-16le'; {OUTBOUND_SQL}")).unwrap();
    say(&two.second, "second");
    two.use_first();
    let opened = two.connections.open_outbound(&two.second.directory).unwrap();
    assert_eq!(ids(&opened), ["second"]);
}

#[test]
fn a_schema_that_an_agent_has_slipped_in_reaches_no_other_session() {
    let two = two();
    say(&two.first, "first");
    say(&two.second, "second");
    let opened = two.connections.open_outbound(&two.first.directory).unwrap();
    assert_eq!(ids(&opened), ["first"]);
    let agent = stock(&two.first.path("outbound.db"));
    let version: i64 = agent.query_row("PRAGMA schema_version", [], |row| row.get(0)).unwrap();
    // Another order of the columns under the old number, once the connection has loaded it under a new one.
    let swapped = OUTBOUND_SQL.replace(
        "id TEXT PRIMARY KEY, seq INTEGER UNIQUE, in_reply_to TEXT",
        "in_reply_to TEXT PRIMARY KEY, seq INTEGER UNIQUE, id TEXT",
    );
    agent.execute_batch(&format!("DROP TABLE messages_out; DROP TABLE processing_ack; {swapped}")).unwrap();
    assert_eq!(ids(&opened), Vec::<String>::new());
    agent.pragma_update(None, "schema_version", version).unwrap();
    assert_eq!(ids(&opened), Vec::<String>::new());
    // The old text again: by its words and by its number the file is what it was at first.
    agent
        .execute_batch(&format!("DROP TABLE messages_out; DROP TABLE processing_ack; {OUTBOUND_SQL}"))
        .unwrap();
    agent.pragma_update(None, "schema_version", version).unwrap();
    two.give_back(opened);
    let opened = two.connections.open_outbound(&two.second.directory).unwrap();
    assert_eq!(ids(&opened), ["second"]);
    assert_eq!(two.spare(), 0, "the one that has loaded another schema is closed");
}

#[test]
fn what_is_written_goes_into_the_next_sessions_file_and_its_journal_beside_it() {
    let two = two();
    let connections = &two.connections;
    let write = |fixture: &Fixture, id: &str| {
        let opened = connections.open_inbound(&fixture.directory).unwrap();
        let transaction = opened.unchecked_transaction().unwrap();
        transaction.execute("INSERT INTO delivered VALUES(?1, '')", [id]).unwrap();
        assert!(fixture.path("inbound.db-journal").exists());
        transaction.commit().unwrap();
        assert!(!fixture.path("inbound.db-journal").exists());
        connections.give_back(opened, &fixture.root);
    };
    write(&two.first, "first");
    write(&two.second, "second");
    write(&two.first, "again");
    let delivered = |fixture: &Fixture| -> String {
        let all = "SELECT group_concat(message_out_id ORDER BY rowid) FROM delivered";
        stock(&fixture.path("inbound.db")).query_row(all, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((delivered(&two.first).as_str(), delivered(&two.second).as_str()), ("first,again", "second"));
    assert_eq!(lock(&connections.inbound).connections.len(), 1);
}

#[test]
fn a_hot_journal_in_the_next_folder_is_seen() {
    let two = two();
    leave_hot_journal(two.second.path("outbound.db"));
    say(&two.first, "first");
    two.use_first();
    let opened = two.connections.open_outbound(&two.second.directory);
    assert!(matches!(opened, Err(StoreError::HotJournal(_))), "{:?}", opened.map(drop));
}

#[test]
fn a_connection_in_mid_transaction_is_closed() {
    let two = two();
    let opened = two.connections.open_outbound(&two.first.directory).unwrap();
    opened.execute_batch("BEGIN; SELECT count(*) FROM messages_out").unwrap();
    two.give_back(opened);
    assert_eq!(two.spare(), 0);
    stock(&two.first.path("outbound.db")).execute_batch("BEGIN EXCLUSIVE; COMMIT").unwrap();
}

#[test]
fn so_many_are_kept_and_those_that_nobody_needs_are_forgotten() {
    let two = two();
    let open = |_| two.connections.open_outbound(&two.first.directory).unwrap();
    let opened: Vec<_> = (0..SPARE_CONNECTIONS_MAX + 3).map(open).collect();
    opened.into_iter().for_each(|connection| two.give_back(connection));
    assert_eq!(two.spare(), SPARE_CONNECTIONS_MAX);
    two.connections.forget_unneeded();
    let needed: Vec<_> = (0..3).map(open).collect();
    needed.into_iter().for_each(|connection| two.give_back(connection));
    two.connections.forget_unneeded();
    assert_eq!(two.spare(), 3);
    two.connections.forget_unneeded();
    assert_eq!(two.spare(), 0);
}
