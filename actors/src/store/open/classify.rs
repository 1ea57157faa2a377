//! From SQLite's result codes to what they mean for a session.

use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::store::error::StoreError;
use crate::store::session_dir::SessionFile;
use crate::store::vfs;
use rusqlite::ffi;
use std::io;

/// Turns an error of a statement on a session's database into ours.
///
/// Call it on the thread that ran the statement and before the next one: the reason for a refusal waits there.
pub fn classify(file: SessionFile, error: rusqlite::Error) -> StoreError {
    let name = || file.name().to_owned();
    let (code, message) = match &error {
        rusqlite::Error::SqliteFailure(failure, message) => (failure.extended_code, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.extended_code, Some(msg.clone())),
        _ => return StoreError::Sqlite(error),
    };
    let message = shortened(message.unwrap_or_else(|| ffi::code_to_str(code).to_owned()));
    match code {
        ffi::SQLITE_READONLY_ROLLBACK => return StoreError::HotJournal(name()),
        ffi::SQLITE_READONLY_DBMOVED => {
            let source = io::Error::from(rustix::io::Errno::STALE);
            return StoreError::Io {
                context: format!("{} was replaced while it was open", file.name()),
                source,
            };
        }
        _ => {}
    }
    // The low byte is the class, the rest the detail.
    match code & 0xff {
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => StoreError::Busy(name()),
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => StoreError::Corrupt { file: name(), reason: message },
        ffi::SQLITE_INTERRUPT => {
            StoreError::Limit(format!("{}: a statement ran past its deadline", file.name()))
        }
        ffi::SQLITE_FULL => {
            let source = io::Error::from(rustix::io::Errno::NOSPC);
            StoreError::Io { context: format!("cannot write {}", file.name()), source }
        }
        ffi::SQLITE_TOOBIG => StoreError::Limit(format!("{}: a value is too large", file.name())),
        ffi::SQLITE_CANTOPEN | ffi::SQLITE_IOERR | ffi::SQLITE_PERM => {
            vfs::take_failure().unwrap_or(StoreError::Sqlite(error))
        }
        ffi::SQLITE_ERROR if names_something_missing(&message) => {
            StoreError::Schema { file: name(), reason: message }
        }
        _ => StoreError::Sqlite(error),
    }
}

/// Whether SQLite complains about the file's schema and not about our SQL.
fn names_something_missing(message: &str) -> bool {
    ["no such table", "no such column"].iter().any(|start| message.starts_with(start))
        || message.contains(" has no column named ")
}

/// SQLite quotes parts of a hostile schema in its messages.
fn shortened(mut message: String) -> String {
    if message.len() > ERROR_TEXT_BYTES_MAX {
        let end = (0..=ERROR_TEXT_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
    }
    message
}
