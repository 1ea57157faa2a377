//! The data directory of the demo: three agents, their chats, and what is allowed between them.
//!
//! The tables are those that a current NanoClaw host makes.

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the demo's files cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The file system refused.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// SQLite refused.
    #[error("sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The directory holds something already.
    #[error("{0} already holds a data directory; give an empty one")]
    NotEmpty(PathBuf),
    /// What an agent waited for did not come.
    #[error("{0} did not come in time")]
    TooLate(&'static str),
}

/// One agent of the demo and its only session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoSession {
    /// The agent's name.
    pub name: &'static str,
    /// Its agent group.
    pub agent_group_id: &'static str,
    /// Its session.
    pub session_id: &'static str,
    /// The platform of its chat.
    pub channel_type: &'static str,
    /// Its chat.
    pub platform_id: &'static str,
}

/// Writes text, a file, a question, an edit, and asks Ben.
pub const ADA: DemoSession = DemoSession {
    name: "Ada",
    agent_group_id: "ag-ada",
    session_id: "sess-ada",
    channel_type: "slack",
    platform_id: "slack:C0TEAM",
};
/// Answers Ada and tells its own chat.
pub const BEN: DemoSession = DemoSession {
    name: "Ben",
    agent_group_id: "ag-ben",
    session_id: "sess-ben",
    channel_type: "discord",
    platform_id: "discord:100:200",
};
/// Schedules a task and writes a poison row.
pub const CLEO: DemoSession = DemoSession {
    name: "Cleo",
    agent_group_id: "ag-cleo",
    session_id: "sess-cleo",
    channel_type: "telegram",
    platform_id: "telegram:42",
};
/// All of them.
pub const SESSIONS: [DemoSession; 3] = [ADA, BEN, CLEO];

impl DemoSession {
    /// The session's folder.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        data_dir.join("v2-sessions").join(self.agent_group_id).join(self.session_id)
    }
}

const CENTRAL_SCHEMA: &str = "
CREATE TABLE agent_groups (id TEXT PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL UNIQUE, agent_provider TEXT,
  created_at TEXT NOT NULL);
CREATE TABLE messaging_groups (id TEXT PRIMARY KEY, channel_type TEXT NOT NULL, platform_id TEXT NOT NULL, name TEXT,
  is_group INTEGER DEFAULT 0, unknown_sender_policy TEXT NOT NULL DEFAULT 'strict', created_at TEXT NOT NULL,
  denied_at TEXT, UNIQUE(channel_type, platform_id));
CREATE TABLE messaging_group_agents (id TEXT PRIMARY KEY,
  messaging_group_id TEXT NOT NULL REFERENCES messaging_groups(id),
  agent_group_id TEXT NOT NULL REFERENCES agent_groups(id), session_mode TEXT DEFAULT 'shared',
  priority INTEGER DEFAULT 0, created_at TEXT NOT NULL, engage_mode TEXT, engage_pattern TEXT, sender_scope TEXT,
  ignored_message_policy TEXT, UNIQUE(messaging_group_id, agent_group_id));
CREATE TABLE sessions (id TEXT PRIMARY KEY, agent_group_id TEXT NOT NULL REFERENCES agent_groups(id),
  messaging_group_id TEXT REFERENCES messaging_groups(id), thread_id TEXT, agent_provider TEXT,
  status TEXT DEFAULT 'active', container_status TEXT DEFAULT 'stopped', last_active TEXT, created_at TEXT NOT NULL);
CREATE TABLE pending_questions (question_id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions(id),
  message_out_id TEXT NOT NULL, platform_id TEXT, channel_type TEXT, thread_id TEXT, title TEXT NOT NULL,
  options_json TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE agent_destinations (agent_group_id TEXT NOT NULL REFERENCES agent_groups(id), local_name TEXT NOT NULL,
  target_type TEXT NOT NULL, target_id TEXT NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (agent_group_id, local_name));
";

const INBOUND_SCHEMA: &str = "
CREATE TABLE messages_in (id TEXT PRIMARY KEY, seq INTEGER UNIQUE, kind TEXT NOT NULL, timestamp TEXT NOT NULL,
  status TEXT DEFAULT 'pending', process_after TEXT, recurrence TEXT, series_id TEXT, tries INTEGER DEFAULT 0,
  trigger INTEGER NOT NULL DEFAULT 1, platform_id TEXT, channel_type TEXT, thread_id TEXT, content TEXT NOT NULL,
  source_session_id TEXT, on_wake INTEGER NOT NULL DEFAULT 0);
CREATE INDEX idx_messages_in_series ON messages_in(series_id);
CREATE TABLE delivered (message_out_id TEXT PRIMARY KEY, platform_message_id TEXT,
  status TEXT NOT NULL DEFAULT 'delivered', delivered_at TEXT NOT NULL);
CREATE TABLE destinations (name TEXT PRIMARY KEY, display_name TEXT, type TEXT NOT NULL, channel_type TEXT,
  platform_id TEXT, agent_group_id TEXT);
CREATE TABLE session_routing (id INTEGER PRIMARY KEY CHECK (id = 1), channel_type TEXT, platform_id TEXT,
  thread_id TEXT);
";

const OUTBOUND_SCHEMA: &str = "
CREATE TABLE messages_out (id TEXT PRIMARY KEY, seq INTEGER UNIQUE, in_reply_to TEXT, timestamp TEXT NOT NULL,
  deliver_after TEXT, recurrence TEXT, kind TEXT NOT NULL, platform_id TEXT, channel_type TEXT, thread_id TEXT,
  content TEXT NOT NULL);
CREATE TABLE processing_ack (message_id TEXT PRIMARY KEY, status TEXT NOT NULL, status_changed TEXT NOT NULL);
CREATE TABLE session_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE TABLE container_state (id INTEGER PRIMARY KEY CHECK (id = 1), current_tool TEXT,
  tool_declared_timeout_ms INTEGER, tool_started_at TEXT, updated_at TEXT NOT NULL);
";

/// Makes the whole directory; `now` is an ISO time.
pub fn create(data_dir: &Path, now: &str) -> Result<(), DemoError> {
    make_folder(data_dir)?;
    let central_path = data_dir.join("v2.db");
    if central_path.exists() || data_dir.join("v2-sessions").exists() {
        return Err(DemoError::NotEmpty(data_dir.to_owned()));
    }
    let central = create_database(&central_path, "WAL", CENTRAL_SCHEMA)?;
    for session in &SESSIONS {
        add_session(&central, session, now)?;
        make_folder(&session.folder(data_dir).join("outbox"))?;
        let inbound =
            create_database(&session.folder(data_dir).join("inbound.db"), "DELETE", INBOUND_SCHEMA)?;
        inbound.execute(
            "INSERT INTO session_routing (id, channel_type, platform_id) VALUES (1, ?1, ?2)",
            params![session.channel_type, session.platform_id],
        )?;
        create_database(&session.folder(data_dir).join("outbound.db"), "DELETE", OUTBOUND_SCHEMA)?;
    }
    for (from, to) in [(&ADA, &BEN), (&BEN, &ADA)] {
        central.execute(
            "INSERT INTO agent_destinations VALUES (?1, ?2, 'agent', ?3, ?4)",
            params![from.agent_group_id, to.name.to_lowercase(), to.agent_group_id, now],
        )?;
    }
    Ok(())
}

fn add_session(central: &Connection, session: &DemoSession, now: &str) -> Result<(), DemoError> {
    let DemoSession { name, agent_group_id: group, session_id, channel_type, platform_id } = session;
    let chat = format!("mg-{channel_type}");
    central.execute("INSERT INTO agent_groups VALUES (?1, ?2, ?1, NULL, ?3)", params![group, name, now])?;
    central.execute(
        "INSERT INTO messaging_groups (id, channel_type, platform_id, name, is_group, created_at)
         VALUES (?1, ?2, ?3, ?4, 1, ?5)",
        params![chat, channel_type, platform_id, format!("{name}'s chat"), now],
    )?;
    central.execute(
        "INSERT INTO messaging_group_agents (id, messaging_group_id, agent_group_id, created_at)
         VALUES (?1 || '-' || ?2, ?1, ?2, ?3)",
        params![chat, group, now],
    )?;
    central.execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, container_status, last_active, created_at)
         VALUES (?1, ?2, ?3, 'running', ?4, ?4)",
        params![session_id, group, chat, now],
    )?;
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), DemoError> {
    fs::create_dir_all(path).map_err(|error| DemoError::Io(format!("cannot make {}", path.display()), error))
}

#[expect(
    clippy::disallowed_methods,
    reason = "plays NanoClaw, which makes the files that the engine opens hardened"
)]
fn create_database(path: &Path, journal_mode: &str, schema: &str) -> Result<Connection, DemoError> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", journal_mode)?;
    connection.execute_batch(&format!("BEGIN; {schema} COMMIT;"))?;
    Ok(connection)
}

fn read_only(path: &Path) -> Result<Connection, DemoError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// A task that a host has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTask {
    /// The row's id in `messages_in`.
    pub id: String,
    /// When it is due.
    pub process_after: Option<String>,
    /// How it recurs.
    pub recurrence: Option<String>,
}

/// The first task in a session's inbound.db.
pub fn stored_task(data_dir: &Path, session: &DemoSession) -> Result<Option<StoredTask>, DemoError> {
    let inbound = read_only(&session.folder(data_dir).join("inbound.db"))?;
    let sql =
        "SELECT id, process_after, recurrence FROM messages_in WHERE kind = 'task' ORDER BY seq LIMIT 1";
    let task = inbound
        .query_row(sql, [], |row| {
            Ok(StoredTask { id: row.get(0)?, process_after: row.get(1)?, recurrence: row.get(2)? })
        })
        .optional()?;
    Ok(task)
}

/// The content of the first row that a host wrote to tell an agent of a failure.
pub fn notice(data_dir: &Path, session: &DemoSession) -> Result<Option<String>, DemoError> {
    let inbound = read_only(&session.folder(data_dir).join("inbound.db"))?;
    let sql = "SELECT content FROM messages_in WHERE kind <> 'task' ORDER BY seq LIMIT 1";
    Ok(inbound.query_row(sql, [], |row| row.get(0)).optional()?)
}

/// The session and title of a stored question.
pub fn stored_question(data_dir: &Path, question_id: &str) -> Result<Option<(String, String)>, DemoError> {
    let central = read_only(&data_dir.join("v2.db"))?;
    let sql = "SELECT session_id, title FROM pending_questions WHERE question_id = ?1";
    Ok(central.query_row(sql, [question_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}
