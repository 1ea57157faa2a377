use super::{Shell, assert_intact, leave_hot_journal, stock, with_databases};
use crate::store::error::StoreError;
use crate::store::open::{
    InboundAccess, SessionConnection, create_inbound, open_inbound, open_outbound, rollback_hot_journal,
};
use crate::store::session_dir::SessionFile;
use crate::store::session_dir::tests::Fixture;
use crate::store::vfs::file::{self, Place};
use rusqlite::ffi;
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;

const BUSY: &str = "5";
const INSERT: &str = "INSERT INTO delivered VALUES(hex(randomblob(8)), 'now')";

fn writer(fixture: &Fixture) -> SessionConnection {
    let connection = open_inbound(&fixture.directory, InboundAccess::ReadWrite).unwrap();
    // These tests look at locks that are held for as long as the test wants.
    connection.busy_handler(None).unwrap();
    connection
}

#[track_caller]
fn assert_busy(connection: &SessionConnection, sql: &str) {
    let error = connection.execute_batch(sql).map_err(|error| connection.classify(error));
    assert!(matches!(error, Err(StoreError::Busy(_))), "{sql}: {error:?}");
}

fn count(connection: &SessionConnection) -> i64 {
    connection.query_row("SELECT count(*) FROM delivered", [], |row| row.get(0)).unwrap()
}

#[test]
fn our_locks_stop_another_process() {
    let fixture = with_databases();
    let ours = writer(&fixture);
    let mut other = Shell::open(fixture.path("inbound.db"));

    ours.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(other.run("BEGIN IMMEDIATE"), BUSY, "one writer at a time");
    other.ok("SELECT count(*) FROM delivered");
    ours.execute_batch("ROLLBACK; BEGIN EXCLUSIVE").unwrap();
    assert_eq!(other.run("SELECT count(*) FROM delivered"), BUSY, "nobody reads beside an exclusive lock");
    ours.execute_batch("ROLLBACK").unwrap();
    other.ok(INSERT);

    // A reader lets a writer prepare, but not commit.
    ours.execute_batch("BEGIN; SELECT count(*) FROM delivered").unwrap();
    other.ok("BEGIN IMMEDIATE");
    other.ok(INSERT);
    assert_eq!(other.run("COMMIT"), BUSY);
    ours.execute_batch("COMMIT").unwrap();
    other.ok("COMMIT");
    assert_eq!(count(&ours), 2);
}

#[test]
fn another_process_stops_us() {
    let fixture = with_databases();
    let ours = writer(&fixture);
    let mut other = Shell::open(fixture.path("inbound.db"));

    other.ok("BEGIN IMMEDIATE");
    assert_busy(&ours, "BEGIN IMMEDIATE");
    assert_eq!(count(&ours), 0);
    other.ok("ROLLBACK");
    other.ok("BEGIN EXCLUSIVE");
    assert_busy(&ours, "SELECT count(*) FROM delivered");
    other.ok("ROLLBACK");

    other.ok("BEGIN");
    other.ok("SELECT count(*) FROM delivered");
    ours.execute_batch("BEGIN IMMEDIATE").unwrap();
    ours.execute_batch(INSERT).unwrap();
    assert_busy(&ours, "COMMIT");
    // We wait with the pending lock now: whoever comes later stands behind us.
    assert_eq!(Shell::open(fixture.path("inbound.db")).run("SELECT count(*) FROM delivered"), BUSY);
    other.ok("COMMIT");
    ours.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&ours), 1);
}

#[test]
fn a_writer_that_waits_for_readers_keeps_new_ones_out() {
    let fixture = with_databases();
    let (reader, late_reader) = (writer(&fixture), writer(&fixture));
    let mut other = Shell::open(fixture.path("inbound.db"));
    reader.execute_batch("BEGIN; SELECT count(*) FROM delivered").unwrap();
    other.ok("BEGIN IMMEDIATE");
    other.ok(INSERT);
    assert_eq!(other.run("COMMIT"), BUSY);
    assert_busy(&late_reader, "SELECT count(*) FROM delivered");
    reader.execute_batch("COMMIT").unwrap();
    other.ok("COMMIT");
    assert_eq!(count(&late_reader), 1);
}

#[test]
fn closing_another_descriptor_of_the_file_keeps_our_locks() {
    let fixture = with_databases();
    let ours = writer(&fixture);
    let mut other = Shell::open(fixture.path("inbound.db"));
    ours.execute_batch("BEGIN EXCLUSIVE").unwrap();
    drop(File::open(fixture.path("inbound.db")).unwrap());
    drop(open_outbound(&fixture.directory).unwrap());
    assert_eq!(other.run("BEGIN IMMEDIATE"), BUSY);
    assert_eq!(other.run("SELECT count(*) FROM delivered"), BUSY);
}

#[test]
fn two_connections_of_one_process_exclude_each_other() {
    let fixture = with_databases();
    let (first, second) = (writer(&fixture), writer(&fixture));
    first.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_busy(&second, "BEGIN IMMEDIATE");
    assert_eq!(count(&second), 0);
    first.execute_batch(INSERT).unwrap();
    first.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&second), 1);
}

#[test]
fn locks_end_with_the_connection() {
    let fixture = with_databases();
    let ours = writer(&fixture);
    ours.execute_batch("BEGIN EXCLUSIVE").unwrap();
    drop(ours);
    Shell::open(fixture.path("inbound.db")).ok(INSERT);
}

#[test]
fn a_killed_writer_leaves_a_hot_journal_that_only_a_writable_open_heals() {
    let fixture = with_databases();
    leave_hot_journal(fixture.path("outbound.db"));
    assert!(fixture.path("outbound.db-journal").exists());
    for _ in 0..2 {
        let error = open_outbound(&fixture.directory).unwrap_err();
        assert!(matches!(error, StoreError::HotJournal(_)), "{error:?}");
    }
    rollback_hot_journal(&fixture.directory).unwrap();
    assert!(!fixture.path("outbound.db-journal").exists());
    let connection = open_outbound(&fixture.directory).unwrap();
    let changed: i64 =
        connection.query_row("SELECT count(*) FROM filler WHERE i < 0", [], |row| row.get(0)).unwrap();
    assert_eq!(changed, 0, "nothing of the killed transaction is left");
    assert_intact(&fixture.path("outbound.db"));
    rollback_hot_journal(&fixture.directory).unwrap();
}

#[test]
fn the_journal_of_a_living_writer_is_not_hot() {
    let fixture = with_databases();
    let mut other = Shell::open(fixture.path("inbound.db"));
    // Without syncs the journal has its full header from the start.
    other.ok("PRAGMA synchronous=OFF");
    other.ok("BEGIN IMMEDIATE");
    other.ok(INSERT);
    assert_ne!(std::fs::read(fixture.path("inbound.db-journal")).unwrap()[0], 0);
    assert_eq!(count(&open_inbound(&fixture.directory, InboundAccess::ReadOnly).unwrap()), 0);
    assert_eq!(count(&writer(&fixture)), 0);
    other.ok("COMMIT");
    assert_eq!(count(&writer(&fixture)), 1);
}

#[test]
fn a_journal_that_vanishes_while_it_is_looked_at_is_not_hot() {
    let fixture = with_databases();
    let folder = fixture.directory.as_fd().try_clone_to_owned().unwrap();
    let folder: &'static OwnedFd = Box::leak(Box::new(folder));
    let directory = folder.as_fd();
    let place = Place { directory, file: SessionFile::InboundJournal };
    let look = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    let journal = file::open(Some(place), look).expect("stock SQLite would take this for a hot journal");
    let mut first = [0; 1];
    assert_eq!(journal.read(&mut first, 0), ffi::SQLITE_IOERR_SHORT_READ);
    assert_eq!(first, [0]);
    journal.close();
    // A rollback that finds no journal has nothing to roll back, and says so.
    let play_back = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_MAIN_JOURNAL;
    assert_eq!(file::open(Some(place), play_back).unwrap_err(), ffi::SQLITE_CANTOPEN);
}

#[test]
fn our_own_hot_journal_is_healed_by_stock_sqlite_and_theirs_by_us() {
    let fixture = with_databases();
    leave_hot_journal(fixture.path("inbound.db"));
    let ours = writer(&fixture);
    assert!(!fixture.path("inbound.db-journal").exists());
    // A transaction that spilled to the disk and is never ended, seen from another process after a copy.
    ours.execute_batch("PRAGMA cache_size=5; PRAGMA cache_spill=5; BEGIN; UPDATE filler SET i=-i").unwrap();
    for name in ["inbound.db", "inbound.db-journal"] {
        std::fs::copy(fixture.path(name), fixture.path(&format!("copy-{name}"))).unwrap();
    }
    drop(ours);
    let mut other = Shell::open(fixture.path("copy-inbound.db"));
    other.ok("CREATE TABLE proof AS SELECT i FROM filler WHERE i < 0");
    let copy = stock(&fixture.path("copy-inbound.db"));
    let changed: i64 = copy.query_row("SELECT count(*) FROM proof", [], |row| row.get(0)).unwrap();
    assert_eq!(changed, 0);
    assert_intact(&fixture.path("copy-inbound.db"));
    assert_intact(&fixture.path("inbound.db"));
}

/// Two rows that every commit changes together; half a commit would show as a difference.
const PAIR: &str = "CREATE TABLE pair(side TEXT PRIMARY KEY, value INTEGER, filler BLOB);
    INSERT INTO pair VALUES('left', 0, zeroblob(9000)), ('right', 0, zeroblob(9000));";
const STEP: &str = "BEGIN IMMEDIATE; UPDATE pair SET value=value+1, filler=randomblob(9000) WHERE side='left'; \
    UPDATE pair SET value=value+1, filler=randomblob(9000) WHERE side='right'; COMMIT;";
const SAME: &str = "SELECT min(value), max(value) FROM pair";

#[test]
fn a_reader_beside_a_writing_process_sees_whole_commits_only() {
    const COMMITS: i64 = 300;
    let fixture = with_databases();
    let mut other = Shell::open(fixture.path("outbound.db"));
    other.ok(&PAIR.replace('\n', " "));
    other.ok("PRAGMA busy_timeout=5000");
    let mut connection = open_outbound(&fixture.directory).unwrap();
    other.start(&format!("repeat {COMMITS} {STEP}"));
    let mut seen = 0;
    let mut reads = 0;
    while seen < COMMITS {
        // A reader that opens anew and one that stays open take different ways through the VFS.
        if reads % 16 == 0 {
            match open_outbound(&fixture.directory) {
                Ok(reopened) => connection = reopened,
                Err(StoreError::Busy(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        reads += 1;
        let pair = connection.query_row(SAME, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        match pair.map_err(|error| connection.classify(error)) {
            Ok((low, high)) => {
                assert_eq!(low, high, "half a commit");
                assert!(low >= seen, "went back in time");
                seen = low;
            }
            Err(StoreError::Busy(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(other.answer(), "ok");
    assert_intact(&fixture.path("outbound.db"));
}

#[test]
fn a_writer_beside_a_writing_process_loses_nothing() {
    const COMMITS: i64 = 150;
    let fixture = with_databases();
    let mut other = Shell::open(fixture.path("inbound.db"));
    other.ok(&PAIR.replace('\n', " "));
    other.ok("PRAGMA busy_timeout=10000");
    let ours = create_inbound(&fixture.directory).unwrap();
    ours.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    other.start(&format!("repeat {COMMITS} {STEP}"));
    for _ in 0..COMMITS {
        ours.execute_batch(STEP).unwrap();
    }
    assert_eq!(other.answer(), "ok");
    let pair = ours.query_row(SAME, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap();
    assert_eq!(pair, (2 * COMMITS, 2 * COMMITS));
    drop(ours);
    assert_intact(&fixture.path("inbound.db"));
}
