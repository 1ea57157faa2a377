//! Opens the databases of a session folder, hardened against what their agent may have put into them.
//!
//! The only place that opens session databases. A connection made here runs no code of the file (no triggers,
//! views, unsafe functions, foreign key actions), is bounded in memory and time, and sees only plain files of its
//! own folder.

mod classify;
mod schema;
mod spare;

pub use classify::classify;
pub use schema::{CheckedSchema, SCHEMA_OBJECTS_MAX, check_schema};
pub use spare::SpareConnections;

use crate::limits::{SESSION_LOCK_WAIT, SESSION_STATEMENT_DEADLINE};
use crate::store::error::StoreError;
use crate::store::session_dir::{FileIdentity, SessionDir, SessionFile, io_error};
use crate::store::vfs::{self, FileFormat};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The largest value, and the largest row, that SQLite handles in a session file, in bytes.
///
/// A larger value in a file reads as [`StoreError::Limit`]; `octet_length()` tells its size without reading it.
pub const SESSION_VALUE_BYTES_MAX: i32 = 8 * 1024 * 1024 + 64 * 1024;
/// Virtual machine instructions between two looks at the clock.
const INSTRUCTIONS_PER_CHECK: i32 = 1000;
/// Compiled statements that one connection keeps: all that it is ever asked.
const STATEMENTS_MAX: usize = 64;
/// The page cache of one connection.
const CACHE_KIBIBYTES: i32 = 512;
/// Looks at the clock while a schema is loaded: enough for some 500 objects.
const SCHEMA_CHECKS_MAX: i64 = 4;
/// So often a lock is tried again without a pause. A host that hears of a commit comes to its file before the writer, which
/// may have lost the processor to it, has let go: a pause would take longer than that.
const LOCK_YIELDS: i32 = 20;
/// The first and shortest pause before a lock is tried again.
const LOCK_PAUSE_MIN: Duration = Duration::from_micros(50);
/// The longest one. A process that commits without a break leaves gaps of fractions of a millisecond: readers that
/// paused for 5 ms sometimes found none in 200 ms.
const LOCK_PAUSE_MAX: Duration = Duration::from_millis(1);

/// All limits of one connection. What our own statements need is far below each of them.
const LIMITS: [(Limit, i32); 12] = [
    (Limit::SQLITE_LIMIT_LENGTH, SESSION_VALUE_BYTES_MAX),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 * 1024),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 10),
    (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 16),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 2048),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 1000),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// What a connection may do, as SQLite's switches.
const SWITCHES: [(DbConfig, bool); 8] = [
    // Without it, a statement is compiled anew whenever a value is bound that its plan could depend on.
    (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    // An agent could hang cascading deletes on our tables.
    (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
    (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
];

/// What is done with `inbound.db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboundAccess {
    /// Only reading.
    ReadOnly,
    /// Reading and writing. Also rolls back what a killed writer left behind.
    ReadWrite,
}

/// An open session database, and the folder that it is in.
///
/// Every lock on the file is held for a bounded time: a statement that is still running
/// [`SESSION_STATEMENT_DEADLINE`] after its transaction took the lock is interrupted. The time is kept per thread:
/// a transaction ends on the thread that began it.
#[derive(Debug)]
pub struct SessionConnection {
    // Dropped before the folder: closing may still delete a journal in it.
    connection: Connection,
    file: SessionFile,
    access: OpenFlags,
    budget: Arc<Budget>,
    /// The schema's version when it was checked.
    schema_version: i64,
    schema: Option<CheckedSchema>,
    /// How the file is laid out from which the schema was loaded.
    format: Option<FileFormat>,
    /// The database's name begins with this descriptor's number.
    directory: OwnedFd,
}

impl SessionConnection {
    /// Which of the session's files it is.
    pub fn file(&self) -> SessionFile {
        self.file
    }

    /// Sets how long a transaction may hold its lock before its running statement is interrupted.
    pub fn set_deadline(&self, deadline: Duration) {
        self.budget.set_deadline(deadline);
    }

    /// Runs `work` with another deadline; see [`SessionConnection::set_deadline`].
    pub fn with_deadline<T>(&mut self, deadline: Duration, work: impl FnOnce(&mut Connection) -> T) -> T {
        let before = self.budget.deadline_ms.load(Ordering::Relaxed);
        self.budget.set_deadline(deadline);
        let result = work(&mut self.connection);
        self.budget.deadline_ms.store(before, Ordering::Relaxed);
        result
    }

    /// The file's change counter, read without a lock in half a microsecond. Another value means another
    /// content; the same value may return after a crash and its rollback.
    pub fn change_counter(&self) -> Result<u32, StoreError> {
        vfs::change_counter(&self.connection)
    }

    /// The file that is open. Compare it with [`SessionDir::identity`]: another inode under the name means that
    /// the file was replaced and that this connection reads a ghost.
    pub fn identity(&self) -> Result<FileIdentity, StoreError> {
        vfs::file_identity(&self.connection)
    }

    /// Whether the schema is still the one that was checked when the file was opened. Ask at the beginning of a
    /// transaction; on `false`, open the file anew. Does not load the schema.
    pub fn schema_is_unchanged(&self) -> Result<bool, StoreError> {
        Ok(schema_version(&self.connection, self.file)? == self.schema_version)
    }

    /// Whether a file with this very schema was found to have the current form before.
    pub fn schema_is_known_current(&self) -> bool {
        self.schema.is_some_and(|schema| schema::is_known_current(&schema.fingerprint))
    }

    /// Takes note that this schema has the current form.
    pub fn remember_schema_as_current(&self) {
        if let Some(schema) = self.schema {
            schema::remember_as_current(schema.fingerprint);
        }
    }

    /// Does what loads the schema, which may not be too large for that.
    fn within_schema_budget<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.budget.limit_schema(SCHEMA_CHECKS_MAX);
        let read = read(self);
        match self.budget.unlimit_schema() {
            true if read.is_err() => Err(schema::too_many_objects(self.file)),
            _ => read,
        }
    }

    /// Loads and checks the schema; answers its version and what was found.
    fn read_checked_schema(&self) -> Result<(i64, CheckedSchema), StoreError> {
        let failed = |error| classify(self.file, error);
        // One transaction, so that the version belongs to the schema that was checked.
        let transaction = self.unchecked_transaction().map_err(failed)?;
        let version = schema_version(&transaction, self.file)?;
        let schema = check_schema(&transaction, self.file)?;
        transaction.commit().map_err(failed)?;
        Ok((version, schema))
    }

    /// Turns an error of a statement on this connection into ours.
    pub fn classify(&self, error: rusqlite::Error) -> StoreError {
        classify(self.file, error)
    }
}

impl Deref for SessionConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for SessionConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Opens `outbound.db` for reading and checks its schema.
pub fn open_outbound(directory: &Arc<SessionDir>) -> Result<SessionConnection, StoreError> {
    open_checked(directory, SessionFile::Outbound, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Opens `inbound.db` and checks its schema.
pub fn open_inbound(
    directory: &Arc<SessionDir>,
    access: InboundAccess,
) -> Result<SessionConnection, StoreError> {
    let flags = match access {
        InboundAccess::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        InboundAccess::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    open_checked(directory, SessionFile::Inbound, flags)
}

/// Opens `inbound.db` for writing and makes it when it is missing. Its schema is not checked.
pub fn create_inbound(directory: &Arc<SessionDir>) -> Result<SessionConnection, StoreError> {
    open_hardened(directory, SessionFile::Inbound, create_flags())
}

/// Opens `outbound.db` for writing and makes it when it is missing, for a session that has no agent yet. Its
/// schema is not checked.
pub fn create_outbound(directory: &Arc<SessionDir>) -> Result<SessionConnection, StoreError> {
    open_hardened(directory, SessionFile::Outbound, create_flags())
}

/// Rolls back what a killed agent left half-written in `outbound.db`.
///
/// The caller guarantees that no agent of this session runs: this is the only time that the host writes to an
/// agent's file. Does nothing when there is nothing to roll back.
pub fn rollback_hot_journal(directory: &Arc<SessionDir>) -> Result<(), StoreError> {
    let file = SessionFile::Outbound;
    // The first read through a writable handle rolls back; opening already reads.
    let connection = open_hardened(directory, file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema_version(&connection, file).map(drop)
}

fn create_flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
}

fn open_checked(
    directory: &Arc<SessionDir>,
    file: SessionFile,
    flags: OpenFlags,
) -> Result<SessionConnection, StoreError> {
    let mut connection = open_hardened(directory, file, flags)?;
    let (version, schema) = connection.within_schema_budget(SessionConnection::read_checked_schema)?;
    connection.schema_version = version;
    connection.schema = Some(schema);
    connection.format = Some(vfs::file_format(&connection)?);
    // Comes after the check, since it needs the schema. A page of a session file is rarely read twice.
    let bounded = connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES);
    bounded.map_err(|error| classify(file, error))?;
    Ok(connection)
}

fn open_hardened(
    directory: &Arc<SessionDir>,
    file: SessionFile,
    flags: OpenFlags,
) -> Result<SessionConnection, StoreError> {
    vfs::register()?;
    vfs::clear_failure();
    let directory = rustix::io::fcntl_dupfd_cloexec(directory.as_fd(), 0)
        .map_err(|errno| io_error("cannot hold the session folder".to_owned(), errno))?;
    let name = vfs::database_name(directory.as_fd(), file);
    let access = flags;
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let budget = Arc::new(Budget::new());
    let connection = Connection::open_with_flags_and_vfs(name, flags, vfs::VFS_NAME)
        .and_then(|connection| {
            harden(&connection, &budget)?;
            Ok(connection)
        })
        .map_err(|error| classify(file, error))?;
    Ok(SessionConnection {
        connection,
        file,
        access,
        budget,
        schema_version: -1,
        schema: None,
        format: None,
        directory,
    })
}

/// Bounds what a connection may do, before it reads anything of the schema.
fn harden(connection: &Connection, budget: &Arc<Budget>) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Lookaside can only be switched while nothing is allocated from it.
    vfs::disable_lookaside(connection)?;
    for (limit, value) in LIMITS {
        connection.set_limit(limit, value)?;
    }
    for (switch, on) in SWITCHES {
        connection.set_db_config(switch, on)?;
    }
    connection.busy_handler(Some(wait_for_lock))?;
    let budget = Arc::clone(budget);
    connection.progress_handler(INSTRUCTIONS_PER_CHECK, Some(move || budget.is_exhausted()))?;
    // None of these reads the schema.
    connection.execute_batch("PRAGMA temp_store=MEMORY; PRAGMA cell_size_check=ON; PRAGMA mmap_size=0;")
}

fn schema_version(connection: &Connection, file: SessionFile) -> Result<i64, StoreError> {
    let version = connection
        .prepare_cached("PRAGMA schema_version")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
    version.map_err(|error| classify(file, error))
}

/// What a connection may still spend.
#[derive(Debug)]
struct Budget {
    /// Milliseconds that a transaction may last.
    deadline_ms: AtomicU64,
    /// Checks left while the schema is loaded; no limit otherwise.
    schema_checks: AtomicI64,
}

impl Budget {
    fn new() -> Budget {
        let budget = Budget { deadline_ms: AtomicU64::new(0), schema_checks: AtomicI64::new(i64::MAX) };
        budget.set_deadline(SESSION_STATEMENT_DEADLINE);
        budget
    }

    fn set_deadline(&self, deadline: Duration) {
        let milliseconds = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms.store(milliseconds, Ordering::Relaxed);
    }

    fn limit_schema(&self, checks: i64) {
        self.schema_checks.store(checks, Ordering::Relaxed);
    }

    /// Ends the limit and tells whether it was reached.
    fn unlimit_schema(&self) -> bool {
        self.schema_checks.swap(i64::MAX, Ordering::Relaxed) < 0
    }

    /// Called by SQLite every [`INSTRUCTIONS_PER_CHECK`] instructions.
    fn is_exhausted(&self) -> bool {
        if self.schema_checks.load(Ordering::Relaxed) != i64::MAX
            && self.schema_checks.fetch_sub(1, Ordering::Relaxed) <= 0
        {
            return true;
        }
        let limit = Duration::from_millis(self.deadline_ms.load(Ordering::Relaxed));
        vfs::transaction_started().is_some_and(|started| started.elapsed() > limit)
    }
}

/// Waits a little for a lock; `false` gives up. `tries` counts from zero for each lock.
fn wait_for_lock(tries: i32) -> bool {
    thread_local! {
        static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    let since = WAITING_SINCE.try_with(|since| {
        if tries == 0 {
            since.set(Some(now));
        }
        since.get()
    });
    let waited = since.ok().flatten().map_or(SESSION_LOCK_WAIT, |since| now.duration_since(since));
    if waited >= SESSION_LOCK_WAIT {
        return false;
    }
    let Some(pauses) = tries.checked_sub(LOCK_YIELDS).and_then(|pauses| u32::try_from(pauses).ok()) else {
        std::thread::yield_now();
        return true;
    };
    // Doubling every fourth time: a commit is seen within fractions of a millisecond, a long wait costs little.
    let doublings = (pauses / 4).min(8);
    let pause = LOCK_PAUSE_MIN.saturating_mul(1 << doublings).min(LOCK_PAUSE_MAX);
    std::thread::sleep(pause.min(SESSION_LOCK_WAIT - waited));
    true
}

#[cfg(test)]
mod tests;
