//! The one place where tests open databases.

use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// As long as NanoClaw's own processes wait for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens an existing database for reading and writing, as an agent or a test does: without any of the host's
/// precautions.
///
/// # Panics
/// When the file does not exist or cannot be opened.
#[track_caller]
pub fn open(path: &Path) -> Connection {
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// Makes a new database.
///
/// # Panics
/// When the file cannot be made.
#[track_caller]
pub fn create(path: &Path) -> Connection {
    assert!(!path.exists(), "{} exists already", path.display());
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
}

#[track_caller]
fn connect(path: &Path, flags: OpenFlags) -> Connection {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    connection.busy_timeout(BUSY_TIMEOUT).expect("a busy timeout can be set");
    // What a power loss would do to a temporary folder is of no interest, and this is much faster.
    connection.execute_batch("PRAGMA synchronous=OFF").expect("a pragma");
    connection
}

/// Switches a new database to WAL, as `v2.db` is.
///
/// # Panics
/// When SQLite refuses.
#[track_caller]
pub fn use_wal(connection: &Connection) {
    let mode: String =
        connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).expect("a journal mode");
    assert_eq!(mode, "wal");
}
