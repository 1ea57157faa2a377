use super::{Shell, assert_intact, stock, with_databases};
use crate::store::error::StoreError;
use crate::store::open::{InboundAccess, create_inbound, open_inbound, open_outbound, rollback_hot_journal};
use crate::store::session_dir::SessionFile;
use crate::store::session_dir::tests::{Fixture, assert_missing, assert_refused, make_fifo};
use crate::store::vfs::{VFS_NAME, database_name, register};
use rusqlite::{Connection, OpenFlags};
use rustix::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

#[track_caller]
fn assert_all_refused(fixture: &Fixture, words: &str) {
    assert_refused(open_outbound(&fixture.directory), words);
    assert_refused(rollback_hot_journal(&fixture.directory), words);
    assert_refused(open_inbound(&fixture.directory, InboundAccess::ReadOnly), words);
    assert_refused(open_inbound(&fixture.directory, InboundAccess::ReadWrite), words);
    assert_refused(create_inbound(&fixture.directory), words);
}

#[test]
fn a_database_that_is_no_plain_file_is_refused_at_once() {
    #[track_caller]
    fn check(words: &str, make: impl Fn(&Fixture, &Path)) {
        let fixture = Fixture::new();
        for name in ["inbound.db", "outbound.db"] {
            make(&fixture, &fixture.path(name));
        }
        assert_all_refused(&fixture, words);
        fixture.assert_victim_untouched();
    }
    check("symbolic link", |fixture, path| symlink(fixture.victim(), path).unwrap());
    check("symbolic link", |_, path| symlink("dangling", path).unwrap());
    check("hard link", |fixture, path| std::fs::hard_link(fixture.victim(), path).unwrap());
    check("FIFO", |_, path| make_fifo(path));
    check("folder", |_, path| std::fs::create_dir(path).unwrap());
}

#[test]
fn a_journal_that_is_no_plain_file_is_refused_at_once() {
    #[track_caller]
    fn check(words: &str, make: impl Fn(&Fixture, &Path)) {
        let fixture = with_databases();
        for name in ["inbound.db-journal", "outbound.db-journal"] {
            make(&fixture, &fixture.path(name));
        }
        assert_all_refused_after_open(&fixture, words);
        fixture.assert_victim_untouched();
    }
    /// Opening alone does not look for a journal; the first lock does.
    #[track_caller]
    fn assert_all_refused_after_open(fixture: &Fixture, words: &str) {
        assert_refused(open_outbound(&fixture.directory), words);
        assert_refused(rollback_hot_journal(&fixture.directory), words);
        assert_refused(open_inbound(&fixture.directory, InboundAccess::ReadWrite), words);
    }
    check("symbolic link", |fixture, path| symlink(fixture.victim(), path).unwrap());
    check("hard link", |fixture, path| std::fs::hard_link(fixture.victim(), path).unwrap());
    check("FIFO", |_, path| make_fifo(path));
    check("folder", |_, path| std::fs::create_dir(path).unwrap());
}

#[test]
fn a_journal_of_absurd_size_is_refused() {
    let fixture = with_databases();
    std::fs::write(fixture.path("outbound.db-journal"), journal("")).unwrap();
    let file = std::fs::File::options().write(true).open(fixture.path("outbound.db-journal")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_refused(rollback_hot_journal(&fixture.directory), "larger than a journal may be");
}

#[test]
fn a_missing_database_is_missing() {
    let fixture = Fixture::new();
    assert_missing(open_outbound(&fixture.directory));
    assert_missing(open_inbound(&fixture.directory, InboundAccess::ReadWrite));
    assert_missing(rollback_hot_journal(&fixture.directory));
    assert!(!fixture.path("outbound.db").exists());
}

#[test]
fn a_database_swapped_for_a_link_never_opens_the_links_target() {
    let fixture = with_databases();
    let secret = fixture.data.path().join("outside/secret.db");
    stock(&secret).execute_batch(&format!("{}CREATE TABLE secret(x);", super::OUTBOUND_SQL)).unwrap();
    let (database, link, spare) =
        (fixture.path("outbound.db"), fixture.path("link"), fixture.path("spare.db"));
    std::fs::copy(&database, &spare).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                symlink(&secret, &link).unwrap();
                std::fs::rename(&link, &database).unwrap();
                std::fs::copy(&spare, fixture.path("next")).unwrap();
                std::fs::rename(fixture.path("next"), &database).unwrap();
            }
        });
        let opened: Vec<Result<bool, StoreError>> = (0..500)
            .map(|_| {
                let connection = open_outbound(&fixture.directory)?;
                Ok(connection.prepare("SELECT x FROM secret").is_ok())
            })
            .collect();
        // Before any assertion, which would leave the other thread running for ever.
        done.store(true, Ordering::Relaxed);
        for result in opened {
            match result {
                Ok(has_read_the_secret) => assert!(!has_read_the_secret),
                // A file that is replaced between the look and the open has no name any longer.
                Err(StoreError::Refused { .. } | StoreError::Missing(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn no_other_name_can_be_opened_through_the_vfs() {
    register().unwrap();
    let fixture = with_databases();
    std::fs::write(fixture.path(".heartbeat"), "").unwrap();
    let folder = fixture.directory.as_fd().as_raw_fd();
    let victim = fixture.victim().display().to_string();
    let names = [
        victim.clone(),
        format!("/{folder}/{victim}"),
        format!("/{folder}/../outside/victim"),
        format!("/{folder}/./inbound.db"),
        format!("/{folder}/.heartbeat"),
        format!("/{folder}/inbound.db-journal"),
        format!("/{folder}/inbound.db-wal"),
        "/-1/inbound.db".to_owned(),
        "inbound.db".to_owned(),
    ];
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    for name in names {
        let opened = Connection::open_with_flags_and_vfs(&name, flags, VFS_NAME)
            .and_then(|connection| connection.execute_batch("CREATE TABLE t(x)"));
        assert!(opened.is_err(), "{name:?}");
    }
    fixture.assert_victim_untouched();
    let good = database_name(fixture.directory.as_fd(), SessionFile::Inbound);
    Connection::open_with_flags_and_vfs(good, flags, VFS_NAME).unwrap();
}

/// A hot journal without records that names a super-journal, laid out as SQLite's pager reads it.
fn journal(super_journal: &str) -> Vec<u8> {
    const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let mut bytes = MAGIC.to_vec();
    // Records, checksum seed, pages of the databases that `with_databases` makes, sector size, page size.
    for number in [0_u32, 0, 6, 512, 4096] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.resize(512, 0);
    if !super_journal.is_empty() {
        // The page that holds the lock bytes marks the record; then the name, its length and its sum.
        bytes.extend((0x4000_0000_u32 / 4096 + 1).to_be_bytes());
        bytes.extend(super_journal.as_bytes());
        bytes.extend(u32::try_from(super_journal.len()).unwrap().to_be_bytes());
        bytes.extend(super_journal.bytes().map(u32::from).sum::<u32>().to_be_bytes());
        bytes.extend(MAGIC);
    }
    bytes
}

#[test]
fn a_journal_that_names_a_super_journal_deletes_nothing() {
    // First the proof that the journal works: stock SQLite deletes the file.
    let control = with_databases();
    let victim = control.victim().display().to_string();
    std::fs::write(control.path("inbound.db-journal"), journal(&victim)).unwrap();
    Shell::open(control.path("inbound.db")).ok("SELECT count(*) FROM sqlite_schema");
    assert!(!control.victim().exists(), "the crafted journal is harmless and proves nothing");

    let fixture = with_databases();
    let folder = fixture.directory.as_fd().as_raw_fd();
    for target in [
        fixture.victim().display().to_string(),
        format!("/{folder}/outbound.db"),
        format!("/{folder}/outbound.db-journal"),
        format!("/{folder}/inbound.db"),
        "inbound.db".to_owned(),
    ] {
        for name in ["inbound.db-journal", "outbound.db-journal"] {
            std::fs::write(fixture.path(name), journal(&target)).unwrap();
        }
        let _ = open_inbound(&fixture.directory, InboundAccess::ReadWrite);
        let _ = rollback_hot_journal(&fixture.directory);
        fixture.assert_victim_untouched();
        assert!(fixture.path("inbound.db").exists() && fixture.path("outbound.db").exists(), "{target}");
    }
}

#[test]
fn a_leftover_journal_does_not_become_the_end_of_ours() {
    let fixture = with_databases();
    let connection = open_inbound(&fixture.directory, InboundAccess::ReadWrite).unwrap();
    connection.execute_batch("CREATE TABLE big(x); INSERT INTO big VALUES(zeroblob(200000))").unwrap();
    // Not hot, since its first byte is zero; but its end names a super-journal that does not exist, which
    // would keep our own rollback from restoring anything.
    let mut leftover = journal("/nowhere");
    leftover[0] = 0;
    leftover.splice(512..512, vec![0; 4 << 20]);
    std::fs::write(fixture.path("inbound.db-journal"), leftover).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size=5; PRAGMA cache_spill=5; BEGIN; UPDATE big SET x=randomblob(200000); ROLLBACK",
        )
        .unwrap();
    let zeros: bool =
        connection.query_row("SELECT x = zeroblob(200000) FROM big", [], |row| row.get(0)).unwrap();
    assert!(zeros);
    drop(connection);
    assert_intact(&fixture.path("inbound.db"));
}

#[track_caller]
fn assert_wal_mode<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::WalMode(_))), "{:?}", result.err());
}

#[test]
fn a_file_in_wal_mode_is_refused() {
    let fixture = with_databases();
    for name in ["inbound.db", "outbound.db"] {
        Shell::open(fixture.path(name)).ok("PRAGMA journal_mode=WAL");
    }
    assert_wal_mode(open_outbound(&fixture.directory));
    assert_wal_mode(rollback_hot_journal(&fixture.directory));
    assert_wal_mode(open_inbound(&fixture.directory, InboundAccess::ReadWrite));
    assert_wal_mode(create_inbound(&fixture.directory));
}

#[test]
fn a_file_that_is_switched_to_wal_mode_while_open_is_refused() {
    let fixture = with_databases();
    let connection = open_outbound(&fixture.directory).unwrap();
    let mut other = Shell::open(fixture.path("outbound.db"));
    other.ok("PRAGMA journal_mode=WAL");
    let read = || connection.query_row("SELECT count(*) FROM messages_out", [], |row| row.get::<_, i64>(0));
    assert_wal_mode(read().map_err(|error| connection.classify(error)));
    other.ok("PRAGMA journal_mode=DELETE");
    assert_eq!(read().unwrap(), 0);
}

#[test]
fn we_cannot_switch_a_file_to_wal_mode() {
    let fixture = with_databases();
    let connection = open_inbound(&fixture.directory, InboundAccess::ReadWrite).unwrap();
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
}

#[test]
fn nothing_is_written_to_a_file_that_was_replaced() {
    let fixture = with_databases();
    let connection = open_inbound(&fixture.directory, InboundAccess::ReadWrite).unwrap();
    let opened = connection.identity().unwrap();
    std::fs::copy(fixture.path("inbound.db"), fixture.path("new")).unwrap();
    std::fs::rename(fixture.path("new"), fixture.path("inbound.db")).unwrap();
    let found = fixture.directory.identity(SessionFile::Inbound).unwrap().unwrap();
    assert!(!opened.is_same_file(&found));
    let written = connection.execute_batch("INSERT INTO delivered VALUES('a', 'now')");
    let error = connection.classify(written.unwrap_err());
    assert!(error.to_string().contains("replaced"), "{error}");
}
