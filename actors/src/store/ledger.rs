//! The ledger: `DATA/nanorelay.db`, host-private, the truth about every delivery.
//!
//! [`LedgerWriter`] is the one connection that writes; the group-committing handle in [`crate::ledger`] owns it.
//! [`LedgerReader`] is a small pool of read-only connections for lists and projections.
//!
//! Two levels of durability: a committed record has reached the kernel and survives `kill -9`;
//! [`LedgerSync::sync`] makes everything committed before it survive a power loss.

mod admit;
mod agents;
mod attempt;
mod audit;
mod edits;
mod holds;
mod inbox_files;
mod lanes;
mod list;
pub mod mark;
mod operate;
mod pages;
mod parts;
mod prune;
mod read;
mod replace;
mod rest_marks;
mod schema;
mod session;
mod standing;
mod task_runs;

pub use admit::{Admission, Admitted, InitialState};
pub use agents::{AgentArrival, AgentBudget, AgentRequest};
pub use attempt::{Begin, Effect, Outcome};
pub use inbox_files::InboxFiles;
pub use lanes::Parked;
pub use list::{in_replay_order, keys_of};
pub use operate::{parse_state, state_of};
pub use prune::{LedgerSize, SettledPage, SettledRow};
pub use read::{LedgerReader, Left, PendingDelivery, Unprojected, WaitingDelivery};
pub use replace::NewLedger;
pub use rest_marks::RestMark;
pub use session::{ImportedDelivery, KnownSession, SessionCursor};
pub use task_runs::{RunEvent, RunKey};

use super::error::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Name of the ledger's file in the data directory.
pub const LEDGER_FILE: &str = "nanorelay.db";

/// The log begins anew at the latest when it has so many pages of 4 KiB.
const LOG_PAGES_MAX: u32 = 8192;

/// The connection that writes the ledger.
pub struct LedgerWriter {
    connection: Connection,
    sync: Arc<LedgerSync>,
}

/// Makes committed records survive a power loss.
#[derive(Debug)]
pub struct LedgerSync {
    ledger: PathBuf,
    write_ahead_log: File,
    /// A sync has failed, and the log has not begun anew since.
    may_have_hole: AtomicBool,
}

impl LedgerSync {
    /// Syncs everything that was committed before this call to the disk.
    ///
    /// A failed sync is reported by the system once, and what it lost stays lost: a later sync of the same log would
    /// succeed with a hole in it, behind which nothing can be read after a power loss. So after a failure the next
    /// call copies the whole log into the database, from memory, and lets the log begin anew.
    pub fn sync(&self) -> Result<(), StoreError> {
        let synced = self.sync_data();
        if synced.is_err() {
            self.may_have_hole.store(true, Ordering::Release);
        }
        synced.map_err(|source| StoreError::Io { context: "sync nanorelay.db-wal".to_owned(), source })?;
        if self.may_have_hole.load(Ordering::Acquire) {
            self.begin_log_anew()?;
            self.may_have_hole.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Copies the log into the database file, while records go on being written. When so much was written meanwhile that
    /// the log would grow without end, they wait for the rest of it.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let connection = self.connect()?;
        let logged: u32 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
        if logged > LOG_PAGES_MAX {
            // Readers that take long keep it from beginning anew; the next call tries again.
            connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&self.ledger, flags)?;
        connection.execute_batch(
            "PRAGMA synchronous=FULL; PRAGMA busy_timeout=5000; PRAGMA wal_autocheckpoint=0;",
        )?;
        Ok(connection)
    }

    fn begin_log_anew(&self) -> Result<(), StoreError> {
        let connection = self.connect()?;
        let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy {
            let reason = "the log of nanorelay.db could not begin anew after a failed sync: it is in use";
            return Err(StoreError::Io {
                context: "checkpoint nanorelay.db".to_owned(),
                source: std::io::Error::other(reason),
            });
        }
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        fault_point!(&self.write_ahead_log, Sync);
        self.write_ahead_log.sync_data()
    }
}

impl LedgerWriter {
    /// Opens the ledger of a data directory, creating it when there is none.
    ///
    /// A damaged file is an error and stays untouched, and so is one that is lost: the ledger is what keeps messages
    /// from being sent twice.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        mark::check(data_dir)?;
        let path = data_dir.join(LEDGER_FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let ledger = canonical(&path)?;
        let connection = Connection::open_with_flags(&ledger, flags).map_err(damaged)?;
        // A file that exists keeps its `auto_vacuum`: without it, free pages are used again, but not given back.
        // `synchronous=NORMAL` never syncs at a commit in WAL mode; `LedgerSync` does, once for a whole group.
        // `temp_store=MEMORY` keeps what savepoints remember out of temporary files.
        connection
            .execute_batch(
                "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;
                 PRAGMA wal_autocheckpoint=2000; PRAGMA journal_size_limit=67108864; PRAGMA temp_store=MEMORY;",
            )
            .map_err(damaged)?;
        schema::create_or_check(&connection)?;
        mark::set(data_dir)?;
        keep_plans(&connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        // SQLite keeps its locks on the database and its index, never on the log: a second descriptor of the
        // log is harmless.
        let log_path = data_dir.join(format!("{LEDGER_FILE}-wal"));
        let write_ahead_log = File::options()
            .read(true)
            .open(&log_path)
            .map_err(|source| StoreError::Io { context: format!("open {}", log_path.display()), source })?;
        let sync = LedgerSync { ledger, write_ahead_log, may_have_hole: AtomicBool::new(false) };
        Ok(Self { connection, sync: Arc::new(sync) })
    }

    /// The means to sync what was committed, usable from another thread while this one goes on writing. Whoever takes it
    /// calls [`LedgerSync::checkpoint`] too: commits do not any more, for it takes syncs.
    pub fn sync_handle(&self) -> Arc<LedgerSync> {
        // Should it fail, for want of memory, commits go on doing it.
        let _ = self.connection.execute_batch("PRAGMA wal_autocheckpoint=0");
        Arc::clone(&self.sync)
    }

    /// Starts a transaction. Many operations of many sessions share one.
    pub fn transaction(&mut self) -> Result<LedgerTransaction<'_>, StoreError> {
        // Statements that stay compiled: `rusqlite` compiles those of its own transactions each time.
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(LedgerTransaction { transaction: &self.connection })
    }
}

/// One transaction on the ledger. It is rolled back when it ends without a commit.
pub struct LedgerTransaction<'ledger> {
    pub(in crate::store::ledger) transaction: &'ledger Connection,
}

impl Drop for LedgerTransaction<'_> {
    fn drop(&mut self) {
        if !self.transaction.is_autocommit() {
            // Should it fail, the next transaction cannot begin, and says so.
            let _ = self.transaction.execute_batch("ROLLBACK");
        }
    }
}

impl LedgerTransaction<'_> {
    /// Commits: the records have reached the kernel.
    pub fn commit(self) -> Result<(), StoreError> {
        self.transaction.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Writes what is there already, to see that it can be written.
    pub fn check_writable(&mut self) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached("UPDATE host SET value = value WHERE key = 'incarnation'")?
            .execute([])?;
        Ok(())
    }

    /// Runs one operation; when it fails, nothing of it stays, and the others of the group are untouched.
    pub fn operation<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transaction.prepare_cached("SAVEPOINT operation")?.execute([])?;
        let result = self.step(run);
        match result {
            Ok(_) => drop(self.transaction.prepare_cached("RELEASE operation")?.execute([])?),
            Err(_) => self.abandon_operation()?,
        }
        result
    }

    /// Runs one operation of which, when it fails, the statements before the failed one stay.
    pub fn step<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        run(self).map_err(|error| match error {
            StoreError::Sqlite(error) => damaged(error),
            other => other,
        })
    }

    /// Whether SQLite has rolled all of it back, as it does after some errors of the disk.
    pub fn is_lost(&self) -> bool {
        self.transaction.is_autocommit()
    }
}

impl LedgerTransaction<'_> {
    /// Undoes an operation that panicked in mid-way.
    pub fn abandon_operation(&mut self) -> Result<(), StoreError> {
        Ok(self.transaction.execute_batch("ROLLBACK TO operation; RELEASE operation")?)
    }
}

/// The path with links in its folders resolved: SQLite refuses to open through any link.
fn canonical(path: &Path) -> Result<PathBuf, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let folder = folder
        .canonicalize()
        .map_err(|source| StoreError::Io { context: format!("open {}", folder.display()), source })?;
    Ok(folder.join(LEDGER_FILE))
}

/// Statements are compiled once. Without this, one is compiled anew whenever a value is bound that its plan could
/// depend on, which is every time for the tables that have partial indexes.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn damaged(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let reason = format!("{error}. Restore a copy of it, or run `nanorelay ledger rebuild`");
            StoreError::Corrupt { file: LEDGER_FILE.to_owned(), reason }
        }
        _ => StoreError::Sqlite(error),
    }
}

#[cfg(test)]
mod tests;
