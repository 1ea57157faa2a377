//! What the SQL modules share: columns of bounded size, and files of an older schema.

use crate::model::ids::OPAQUE_ID_BYTES_MAX;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row};

/// The longest text column that is read from a session file, content apart. [`bounded!`] has it as a literal.
pub(crate) const COLUMN_BYTES_MAX: u64 = 1024;
const _: () = assert!(COLUMN_BYTES_MAX as usize == OPAQUE_ID_BYTES_MAX);

/// SQL for a text column of at most 1,024 bytes. A longer one yields its negative size, and its bytes are never
/// loaded: an agent could otherwise make one row fail, or fill the memory of, a whole batch.
macro_rules! bounded {
    ($column:literal) => {
        concat!(
            "CASE WHEN octet_length(",
            $column,
            ") > 1024 THEN -octet_length(",
            $column,
            ") ELSE ",
            $column,
            " END"
        )
    };
}
pub(crate) use bounded;

/// A column of a file that an agent can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    /// NULL.
    Null,
    /// Text in UTF-8.
    Text(&'a str),
    /// A number where the schema has no text affinity.
    Integer(i64),
    /// Text or a blob beyond the bound; its size in bytes.
    TooLong(u64),
    /// A blob, a fraction, or bytes that are not UTF-8.
    NotText,
}

impl<'a> Cell<'a> {
    /// The text, if it is one.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Cell::Text(text) => Some(text),
            Cell::Null | Cell::Integer(_) | Cell::TooLong(_) | Cell::NotText => None,
        }
    }
}

/// Reads a column that was selected with [`bounded!`].
pub(crate) fn cell<'a>(row: &'a Row<'_>, index: usize) -> rusqlite::Result<Cell<'a>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => Cell::Null,
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_or(Cell::NotText, Cell::Text),
        ValueRef::Integer(number) if number < 0 && number.unsigned_abs() > COLUMN_BYTES_MAX => {
            Cell::TooLong(number.unsigned_abs())
        }
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(_) | ValueRef::Blob(_) => Cell::NotText,
    })
}

fn message(error: &rusqlite::Error) -> &str {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        _ => "",
    }
}

/// Whether a statement failed because a table does not exist.
pub(crate) fn is_missing_table(error: &rusqlite::Error) -> bool {
    message(error).contains("no such table")
}

/// Whether a statement failed because a column does not exist.
pub(crate) fn is_missing_column(error: &rusqlite::Error) -> bool {
    let message = message(error);
    message.contains("no such column") || message.contains("has no column named")
}

/// Prepares `current`, or `older` when the file lacks a column of it.
pub(crate) fn prepare_either<'c>(
    conn: &'c Connection,
    current: &str,
    older: &str,
) -> rusqlite::Result<CachedStatement<'c>> {
    match conn.prepare_cached(current) {
        Err(error) if is_missing_column(&error) => conn.prepare_cached(older),
        result => result,
    }
}

/// A bound as SQLite takes it.
pub(crate) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
