//! The data directory of the demo: four agents, their chats, and what is allowed between them.
//!
//! The tables are those that a current NanoClaw host makes.

use super::session_files::{AgentError, Target};
use nanorelay_actors::store::error::StoreError;
use nanorelay_actors::store::{central, inbound, outbound};
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
    /// The tables could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory holds something already.
    #[error("{0} already holds a data directory; give an empty one")]
    NotEmpty(PathBuf),
    /// An agent cannot play its part.
    #[error(transparent)]
    Agent(#[from] AgentError),
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
/// Answers people in the browser; see [`super::demo_chat`].
pub const DORA: DemoSession = DemoSession {
    name: "Dora",
    agent_group_id: "ag-dora",
    session_id: "sess-dora",
    channel_type: "web",
    platform_id: "web:demo",
};
/// Those that play a part of the demo.
pub const SESSIONS: [DemoSession; 3] = [ADA, BEN, CLEO];

impl DemoSession {
    /// The agent's own chat.
    pub fn chat(&self) -> Target<'static> {
        Target { channel_type: self.channel_type, platform_id: self.platform_id, thread_id: None }
    }

    /// The session's folder.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        data_dir.join("v2-sessions").join(self.agent_group_id).join(self.session_id)
    }
}

/// Makes the whole directory; `now` is an ISO time.
pub fn create(data_dir: &Path, now: &str) -> Result<(), DemoError> {
    make_folder(data_dir)?;
    let central_path = data_dir.join("v2.db");
    if central_path.exists() || data_dir.join("v2-sessions").exists() {
        return Err(DemoError::NotEmpty(data_dir.to_owned()));
    }
    let database = create_database(&central_path, central::create_central_schema)?;
    for session in SESSIONS.iter().chain([&DORA]) {
        add_session(&database, session, now)?;
        make_folder(&session.folder(data_dir).join("outbox"))?;
        let inbound = create_database(&session.folder(data_dir).join("inbound.db"), inbound::create_schema)?;
        inbound.execute(
            "INSERT INTO session_routing (id, channel_type, platform_id) VALUES (1, ?1, ?2)",
            params![session.channel_type, session.platform_id],
        )?;
        create_database(&session.folder(data_dir).join("outbound.db"), outbound::create_schema)?;
    }
    for (from, to) in [(&ADA, &BEN), (&BEN, &ADA)] {
        database.execute(
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
fn create_database(
    path: &Path,
    create_schema: fn(&Connection) -> Result<(), StoreError>,
) -> Result<Connection, DemoError> {
    let connection = Connection::open(path)?;
    create_schema(&connection)?;
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
