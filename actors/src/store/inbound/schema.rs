//! The schema of `inbound.db`, and the way there from files of the seed.

use crate::store::error::StoreError;
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// Columns that seed-era files lack.
const ADDED_COLUMNS: [(&str, &str, &str); 6] = [
    ("messages_in", "series_id", "TEXT"),
    ("messages_in", "trigger", "INTEGER NOT NULL DEFAULT 1"),
    ("messages_in", "source_session_id", "TEXT"),
    ("messages_in", "on_wake", "INTEGER NOT NULL DEFAULT 0"),
    ("delivered", "platform_message_id", "TEXT"),
    ("delivered", "status", "TEXT NOT NULL DEFAULT 'delivered'"),
];

/// Tables and indexes that seed-era files lack, and our own indexes. The indexes hold live rows only: with them
/// no question about a session costs more as its history grows.
const ADDED_OBJECTS: [(&str, &str); 6] = [
    (
        "destinations",
        "CREATE TABLE IF NOT EXISTS destinations (
           name TEXT PRIMARY KEY, display_name TEXT, type TEXT NOT NULL, channel_type TEXT, platform_id TEXT,
           agent_group_id TEXT)",
    ),
    (
        "session_routing",
        "CREATE TABLE IF NOT EXISTS session_routing (
           id INTEGER PRIMARY KEY CHECK (id = 1), channel_type TEXT, platform_id TEXT, thread_id TEXT)",
    ),
    ("idx_messages_in_series", "CREATE INDEX IF NOT EXISTS idx_messages_in_series ON messages_in(series_id)"),
    (
        "nanorelay_live",
        "CREATE INDEX IF NOT EXISTS nanorelay_live ON messages_in(status)
           WHERE status IN ('pending','paused')",
    ),
    (
        "nanorelay_recurring",
        "CREATE INDEX IF NOT EXISTS nanorelay_recurring ON messages_in(status) WHERE recurrence IS NOT NULL",
    ),
    (
        "nanorelay_peer",
        "CREATE INDEX IF NOT EXISTS nanorelay_peer ON messages_in(platform_id, seq)
           WHERE channel_type = 'agent' AND source_session_id IS NOT NULL",
    ),
];

const CORE: &str = "
CREATE TABLE messages_in (
  id TEXT PRIMARY KEY, seq INTEGER UNIQUE, kind TEXT NOT NULL, timestamp TEXT NOT NULL,
  status TEXT DEFAULT 'pending', process_after TEXT, recurrence TEXT, series_id TEXT,
  tries INTEGER DEFAULT 0, trigger INTEGER NOT NULL DEFAULT 1, platform_id TEXT, channel_type TEXT,
  thread_id TEXT, content TEXT NOT NULL, source_session_id TEXT, on_wake INTEGER NOT NULL DEFAULT 0);
CREATE TABLE delivered (
  message_out_id TEXT PRIMARY KEY, platform_message_id TEXT, status TEXT NOT NULL DEFAULT 'delivered',
  delivered_at TEXT NOT NULL);";

/// Creates the tables of a current `inbound.db` in an empty database.
pub fn create_schema(conn: &Connection) -> Result<(), StoreError> {
    let tx = conn.unchecked_transaction()?;
    create_tables(&tx)?;
    Ok(tx.commit()?)
}

/// The same in a transaction that does more.
pub fn create_tables(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute_batch(CORE)?;
    for (_, sql) in ADDED_OBJECTS {
        tx.execute_batch(sql)?;
    }
    Ok(())
}

/// Whether [`upgrade`] has something to do. Fails when a table is missing that every version has.
pub fn needs_upgrade(conn: &Connection) -> Result<bool, StoreError> {
    Ok(!missing_columns(conn)?.is_empty() || !missing_objects(conn)?.is_empty())
}

/// Brings a seed-era file to the current form, in one transaction. A current file is not written to.
pub fn upgrade(conn: &Connection) -> Result<(), StoreError> {
    if !needs_upgrade(conn)? {
        return Ok(());
    }
    let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
    for (table, column, definition) in missing_columns(&tx)? {
        tx.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {definition}"))?;
        if column == "series_id" {
            tx.execute("UPDATE messages_in SET series_id = id WHERE series_id IS NULL", [])?;
        }
    }
    for sql in missing_objects(&tx)? {
        tx.execute_batch(sql)?;
    }
    Ok(tx.commit()?)
}

type Column = (&'static str, &'static str, &'static str);

fn missing_columns(conn: &Connection) -> Result<Vec<Column>, StoreError> {
    let mut missing = Vec::new();
    for table in ["messages_in", "delivered"] {
        let present = columns(conn, table)?;
        if present.is_empty() {
            let reason = format!("table {table} is missing");
            return Err(StoreError::Schema { file: "inbound.db".to_owned(), reason });
        }
        let lacks = |column: &&Column| column.0 == table && !present.iter().any(|name| name == column.1);
        missing.extend(ADDED_COLUMNS.iter().filter(lacks));
    }
    Ok(missing)
}

fn columns(conn: &Connection, table: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn missing_objects(conn: &Connection) -> Result<Vec<&'static str>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = ?1")?;
    let mut missing = Vec::new();
    for (name, sql) in ADDED_OBJECTS {
        if !statement.exists([name])? {
            missing.push(sql);
        }
    }
    Ok(missing)
}
