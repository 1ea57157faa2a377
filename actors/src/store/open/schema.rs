//! Checks that the tables of a session file are what their names promise.

use super::classify;
use crate::store::error::StoreError;
use crate::store::session_dir::SessionFile;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, StatementStatus};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most objects (tables, indexes, triggers, views) that a session file may hold. The real ones have ten.
pub const SCHEMA_OBJECTS_MAX: usize = 200;

/// A table and the columns that every version of it has.
struct Table {
    name: &'static str,
    /// Files of the first version lack the others.
    is_required: bool,
    columns: &'static [&'static str],
}

const INBOUND: [Table; 4] = [
    Table {
        name: "messages_in",
        is_required: true,
        columns: &[
            "id",
            "seq",
            "kind",
            "timestamp",
            "status",
            "process_after",
            "recurrence",
            "tries",
            "platform_id",
            "channel_type",
            "thread_id",
            "content",
        ],
    },
    Table { name: "delivered", is_required: true, columns: &["message_out_id", "delivered_at"] },
    Table {
        name: "destinations",
        is_required: false,
        columns: &["name", "display_name", "type", "channel_type", "platform_id", "agent_group_id"],
    },
    Table {
        name: "session_routing",
        is_required: false,
        columns: &["id", "channel_type", "platform_id", "thread_id"],
    },
];

const OUTBOUND: [Table; 4] = [
    Table {
        name: "messages_out",
        is_required: true,
        columns: &[
            "id",
            "seq",
            "in_reply_to",
            "timestamp",
            "deliver_after",
            "recurrence",
            "kind",
            "platform_id",
            "channel_type",
            "thread_id",
            "content",
        ],
    },
    Table { name: "processing_ack", is_required: true, columns: &["message_id", "status", "status_changed"] },
    Table { name: "session_state", is_required: false, columns: &["key", "value", "updated_at"] },
    Table {
        name: "container_state",
        is_required: false,
        columns: &["id", "current_tool", "tool_declared_timeout_ms", "tool_started_at", "updated_at"],
    },
];

/// Checks every table of a session file that we use: a real table, with its columns, and nothing that runs when it
/// is read or written.
///
/// Tables and columns that first-version files lack may be missing. Other objects may exist, up to
/// [`SCHEMA_OBJECTS_MAX`] altogether; they are never touched.
pub fn check_schema(connection: &Connection, file: SessionFile) -> Result<CheckedSchema, StoreError> {
    let tables: &[Table] = match file {
        SessionFile::Inbound => &INBOUND,
        SessionFile::Outbound => &OUTBOUND,
        _ => return Err(unexpected(file, "is no database".to_owned())),
    };
    let (found, checked) = check_objects(connection, file, tables)?;
    if is_known_good(&checked.fingerprint) {
        return Ok(checked);
    }
    for (table, found) in tables.iter().zip(found) {
        if found {
            check_columns(connection, file, table)?;
        } else if table.is_required {
            return Err(unexpected(file, format!("table {} is missing", table.name)));
        }
    }
    remember_as_good(checked.fingerprint);
    Ok(checked)
}

/// A hash of a whole schema, the file's kind and the places of its tables included.
pub type Fingerprint = [u8; 32];

/// A schema that has passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedSchema {
    /// What tells it from others.
    pub fingerprint: Fingerprint,
    /// Whether the connection has checked a schema before, and has not loaded one since.
    pub was_loaded: bool,
    /// Whether it is a small one without statistics: in one transaction, what SQLite has loaded of it is what was checked,
    /// because none of its pages has to be read twice.
    pub is_small: bool,
}

/// The most objects, and the most bytes of their definitions, that make a small schema.
const SMALL_SCHEMA_OBJECTS_MAX: usize = 32;
/// See [`SMALL_SCHEMA_OBJECTS_MAX`].
const SMALL_SCHEMA_BYTES_MAX: usize = 32 * 1024;

/// Schemas that have passed every check, and whether they are known to have the current form. All sessions of a host
/// share a handful, and the checks cost more than opening the file. A memory of a pure function: relays in one process
/// may share it.
static KNOWN_GOOD: Mutex<BTreeMap<Fingerprint, IsCurrent>> = Mutex::new(BTreeMap::new());
/// Bounds the memory of schemas that agents make up.
const KNOWN_GOOD_MAX: usize = 64;

type IsCurrent = bool;

fn known_good() -> MutexGuard<'static, BTreeMap<Fingerprint, IsCurrent>> {
    KNOWN_GOOD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_known_good(fingerprint: &Fingerprint) -> bool {
    known_good().contains_key(fingerprint)
}

fn remember_as_good(fingerprint: Fingerprint) {
    let mut known = known_good();
    if known.len() < KNOWN_GOOD_MAX {
        known.insert(fingerprint, false);
    }
}

pub(super) fn is_known_current(fingerprint: &Fingerprint) -> bool {
    known_good().get(fingerprint).copied().unwrap_or(false)
}

pub(super) fn remember_as_current(fingerprint: Fingerprint) {
    if let Some(is_current) = known_good().get_mut(&fingerprint) {
        *is_current = true;
    }
}

pub(super) fn too_many_objects(file: SessionFile) -> StoreError {
    unexpected(file, format!("more than {SCHEMA_OBJECTS_MAX} objects"))
}

/// Looks at all objects; tells which of `tables` are there, and the fingerprint of it all.
fn check_objects(
    connection: &Connection,
    file: SessionFile,
    tables: &[Table],
) -> Result<(Vec<bool>, CheckedSchema), StoreError> {
    let failed = |error| classify(file, error);
    let mut fingerprint = Sha256::new();
    fingerprint.update(file.name());
    let mut found = vec![false; tables.len()];
    // The beginning of the SQL is SQLite's own normalised text; nothing but a real table has this one.
    let mut statement = connection
        .prepare_cached(
            "SELECT type, name, tbl_name, rootpage, substr(sql, 1, 13) = 'CREATE TABLE ', sql
             FROM sqlite_schema",
        )
        .map_err(failed)?;
    // SQLite prepares a statement anew, and counts that, once it has loaded another schema.
    let has_run = statement.get_status(StatementStatus::Run) > 0;
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut count, mut bytes, mut has_statistics) = (0, 0, false);
    while let Some(row) = rows.next().map_err(failed)? {
        count += 1;
        if count > SCHEMA_OBJECTS_MAX {
            return Err(too_many_objects(file));
        }
        let text = |column| row.get_ref(column).map(lossy).map_err(failed);
        let (kind, name, owner) = (text(0)?, text(1)?, text(2)?);
        let sql = text(5)?;
        for part in [&kind, &name, &owner, &sql] {
            fingerprint.update(part.len().to_le_bytes());
            fingerprint.update(part);
            bytes += part.len();
        }
        let root_page = match row.get_ref(3).map_err(failed)? {
            ValueRef::Integer(page) => page,
            _ => 0,
        };
        fingerprint.update(root_page.to_le_bytes());
        has_statistics |= name.to_ascii_lowercase().starts_with("sqlite_stat");
        let index_of = |name: &str| tables.iter().position(|table| table.name.eq_ignore_ascii_case(name));
        match kind.as_str() {
            "trigger" if index_of(&owner).is_some() => {
                return Err(unexpected(file, format!("trigger {name:.64} on table {owner}")));
            }
            "index" | "trigger" => {}
            _ => {
                let Some(index) = index_of(&name) else { continue };
                let is_plain: Option<bool> = row.get(4).map_err(failed)?;
                if kind != "table" || is_plain != Some(true) || root_page <= 0 {
                    return Err(unexpected(file, format!("{name} is not an ordinary table")));
                }
                if let Some(found) = found.get_mut(index) {
                    *found = true;
                }
            }
        }
    }
    if count == 0 {
        return Err(unexpected(file, "the file is empty or has no tables".to_owned()));
    }
    drop(rows);
    let checked = CheckedSchema {
        fingerprint: fingerprint.finalize().into(),
        was_loaded: has_run && statement.get_status(StatementStatus::RePrepare) == 0,
        is_small: count <= SMALL_SCHEMA_OBJECTS_MAX && bytes <= SMALL_SCHEMA_BYTES_MAX && !has_statistics,
    };
    Ok((found, checked))
}

fn check_columns(connection: &Connection, file: SessionFile, table: &Table) -> Result<(), StoreError> {
    let failed = |error| classify(file, error);
    let mut statement = connection.prepare(&format!("PRAGMA table_xinfo({})", table.name)).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut missing = table.columns.to_vec();
    while let Some(row) = rows.next().map_err(failed)? {
        let name = lossy(row.get_ref("name").map_err(failed)?);
        let hidden: i64 = row.get("hidden").map_err(failed)?;
        if hidden != 0 {
            return Err(unexpected(file, format!("column {name:.64} of table {} is computed", table.name)));
        }
        missing.retain(|column| !column.eq_ignore_ascii_case(&name));
    }
    match missing.first() {
        Some(column) => Err(unexpected(file, format!("table {} has no column {column}", table.name))),
        None => Ok(()),
    }
}

/// A value that should be text, whatever the file says.
fn lossy(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

fn unexpected(file: SessionFile, reason: String) -> StoreError {
    StoreError::Schema { file: file.name().to_owned(), reason }
}
