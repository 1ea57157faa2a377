//! Why a command failed, by what the caller can do about it.

use crate::ledger::LedgerError;
use crate::store::error::StoreError;
use crate::supervise::blocking::SectionLost;

/// Why a command failed. The variant says what to do, the words say what is the matter.
///
/// ```
/// use nanorelay_actors::relay::OperationError;
///
/// fn status_code(error: &OperationError) -> u16 {
///     match error {
///         OperationError::NotFound(_) => 404,
///         OperationError::Invalid(_) => 400,
///         OperationError::Conflict(_) => 409,
///         error if error.is_temporary() => 503,
///         _ => 500,
///     }
/// }
/// assert_eq!(status_code(&OperationError::Busy("the session's files are in use".to_owned())), 503);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such session, lane or task. Look at what there is.
    #[error("{0}")]
    NotFound(String),
    /// What was asked for makes no sense. The same call will never succeed.
    #[error("{0}")]
    Invalid(String),
    /// It does not fit the state that things are in, as a new ledger in place of one that is in order. Look at that
    /// state, then decide.
    #[error("{0}")]
    Conflict(String),
    /// Somebody is at it at this moment. The same call succeeds in a while.
    #[error("{0}")]
    Busy(String),
    /// A database or a file could not be read or written: a full disk, a damaged file. Nothing was changed.
    #[error("{reason}")]
    Storage {
        /// In words.
        reason: String,
        /// The [extended result code](https://sqlite.org/rescode.html) of SQLite, when it was SQLite that failed.
        sqlite_extended_code: Option<i32>,
    },
    /// The relay has ended. Start another one.
    #[error("the relay has ended")]
    Ended,
    /// A bug: code of nanorelay or of an implementation that it was given has panicked. Others were not harmed.
    #[error("{0}")]
    Internal(String),
}

impl OperationError {
    /// Whether the same call may succeed in a while without anybody's doing.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// SQLite's extended result code, when it was SQLite that failed.
    pub fn sqlite_extended_code(&self) -> Option<i32> {
        match self {
            Self::Storage { sqlite_extended_code, .. } => *sqlite_extended_code,
            _ => None,
        }
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(_) => Self::Busy(error.to_string()),
            error => Self::Storage {
                reason: error.to_string(),
                sqlite_extended_code: error.sqlite_extended_code(),
            },
        }
    }
}

impl From<LedgerError> for OperationError {
    fn from(error: LedgerError) -> Self {
        if error.is_ended {
            return Self::Ended;
        }
        Self::Storage { reason: error.to_string(), sqlite_extended_code: error.sqlite_extended_code }
    }
}

impl From<SectionLost> for OperationError {
    fn from(lost: SectionLost) -> Self {
        match lost {
            SectionLost::Panicked => Self::Internal(lost.to_string()),
            SectionLost::RuntimeEnded => Self::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn an_error_of_sqlite_keeps_its_extended_code_on_every_way() {
        let full =
            || StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        let read = OperationError::from(full());
        let written = OperationError::from(LedgerError::from(full()));
        for error in [read, written] {
            assert_eq!(error.sqlite_extended_code(), Some(ffi::SQLITE_FULL), "{error:?}");
            assert!(!error.is_temporary(), "a full disk needs somebody: {error:?}");
        }
    }

    #[test]
    fn a_lock_is_temporary_and_an_ended_relay_is_not() {
        assert!(OperationError::from(StoreError::Busy("nanorelay.db".to_owned())).is_temporary());
        assert_eq!(OperationError::from(SectionLost::RuntimeEnded), OperationError::Ended);
        assert_eq!(OperationError::from(LedgerError::ended()), OperationError::Ended);
        assert!(!OperationError::Ended.is_temporary());
    }
}
