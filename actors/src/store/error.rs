//! What can be wrong with a database or a session folder.

use std::io;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// Something in a session folder is not what it must be: a link, a FIFO, a device, another file system's
    /// file. The session is quarantined.
    #[error("{name} is refused: {reason}")]
    Refused {
        /// What was refused, relative to the session folder.
        name: String,
        /// Why.
        reason: String,
    },
    /// The database is in WAL mode. A session's agent could then crash the host through shared memory.
    #[error("{0} is in WAL mode, which is refused for session files")]
    WalMode(String),
    /// An agent was killed in mid-commit; the file needs a rollback before it can be read.
    #[error("{0} has a hot journal")]
    HotJournal(String),
    /// Somebody holds a lock for longer than we wait.
    #[error("{0} is locked")]
    Busy(String),
    /// The file is not a database, or a damaged one.
    #[error("{file} is damaged: {reason}")]
    Corrupt {
        /// Which file.
        file: String,
        /// SQLite's words.
        reason: String,
    },
    /// The ledger was in the data directory before and is gone.
    #[error(
        "{0} is lost: it was here before, and without it messages could be sent twice. Restore a copy of it, or \
         run `nanorelay ledger rebuild`"
    )]
    LedgerLost(String),
    /// A table or column is not as the contract says.
    #[error("{file} has an unexpected schema: {reason}")]
    Schema {
        /// Which file.
        file: String,
        /// What is unexpected.
        reason: String,
    },
    /// A bound was exceeded.
    #[error("{0}")]
    Limit(String),
    /// Any other SQLite error, with its extended code kept.
    #[error("sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Any other error of the file system.
    #[error("{context}: {source}")]
    Io {
        /// What was tried.
        context: String,
        /// The error.
        source: io::Error,
    },
}

impl StoreError {
    /// The [extended result code](https://sqlite.org/rescode.html), when it was SQLite that failed.
    pub fn sqlite_extended_code(&self) -> Option<i32> {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => Some(failure.extended_code),
            Self::Sqlite(rusqlite::Error::SqlInputError { error, .. }) => Some(error.extended_code),
            _ => None,
        }
    }
}
