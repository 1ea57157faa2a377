//! Data directories for measuring: thousands of sessions, copied from one.

use super::BenchError;
use nanorelay_actors::store::{central, inbound, outbound};
use rusqlite::{Connection, OpenFlags, params};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// The agent group of session number `index`; every tenant has the sessions of one group.
pub const GROUP: &str = "ag-bench";
/// The group of the sessions of another tenant.
pub const NOISY_GROUP: &str = "ag-noisy";
/// Where all messages go.
pub const CHANNEL_TYPE: &str = "bench";
const PLATFORM_ID: &str = "bench:1";
const CREATED_AT: &str = "2026-01-01T00:00:00.000Z";

/// What a data directory is to hold.
#[derive(Debug, Clone, Copy)]
pub struct WorldSpec {
    /// Sessions of the first tenant.
    pub sessions: usize,
    /// Undelivered messages in each.
    pub messages: usize,
    /// Messages in each that are delivered already.
    pub history: usize,
    /// Messages queued in the one session of a second tenant; 0 = no such session.
    pub noisy_messages: usize,
}

/// The id of session number `index`.
pub fn session_id(index: usize) -> String {
    format!("sess-{index:06}")
}

/// The folder of session number `index`.
pub fn session_folder(data_dir: &Path, index: usize) -> PathBuf {
    data_dir.join("v2-sessions").join(GROUP).join(session_id(index))
}

/// Makes the data directory.
pub fn create(data_dir: &Path, spec: &WorldSpec) -> Result<(), BenchError> {
    fs::create_dir_all(data_dir.join("v2-sessions").join(GROUP))?;
    create_central(data_dir, spec)?;
    let templates = tempfile::tempdir_in(data_dir)?;
    let source = template(templates.path(), "session", spec.messages, spec.history)?;
    for index in 0..spec.sessions {
        copy_session(&source, &session_folder(data_dir, index))?;
    }
    if spec.noisy_messages > 0 {
        let source = template(templates.path(), "noisy", spec.noisy_messages, 0)?;
        copy_session(&source, &data_dir.join("v2-sessions").join(NOISY_GROUP).join("sess-noisy"))?;
    }
    // The measurement must not pay for what making its data left to be written.
    rustix::fs::sync();
    Ok(())
}

/// Makes all databases look as if they were last written long ago, as those of sessions at rest were.
pub fn age(data_dir: &Path, sessions: usize) -> Result<(), BenchError> {
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for index in 0..sessions {
        for name in ["inbound.db", "outbound.db"] {
            let path = session_folder(data_dir, index).join(name);
            fs::File::options().write(true).open(path)?.set_modified(long_ago)?;
        }
    }
    Ok(())
}

/// Writes `count` messages into a session that has none.
pub fn add_messages(data_dir: &Path, session: usize, count: usize) -> Result<(), BenchError> {
    let mut outbox = open(&session_folder(data_dir, session).join("outbound.db"))?;
    let rows = outbox.transaction()?;
    for number in 0..count {
        insert_message(&rows, number, "a message of the usual length, some sixty characters")?;
    }
    Ok(rows.commit()?)
}

fn copy_session(source: &Path, folder: &Path) -> Result<(), BenchError> {
    fs::create_dir_all(folder)?;
    for name in ["inbound.db", "outbound.db"] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Connection, BenchError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags)?;
    // Only while the data is made.
    connection.execute_batch("PRAGMA synchronous=OFF")?;
    Ok(connection)
}

fn create_central(data_dir: &Path, spec: &WorldSpec) -> Result<(), BenchError> {
    let mut connection = open(&data_dir.join("v2.db"))?;
    connection.execute_batch("PRAGMA journal_mode=WAL")?;
    central::create_central_schema(&connection)?;
    let transaction = connection.transaction()?;
    transaction.execute(
        "INSERT INTO messaging_groups (id, channel_type, platform_id, unknown_sender_policy, created_at)
         VALUES ('mg-bench', ?1, ?2, 'public', ?3)",
        params![CHANNEL_TYPE, PLATFORM_ID, CREATED_AT],
    )?;
    let noisy = (spec.noisy_messages > 0).then(|| (NOISY_GROUP, "sess-noisy".to_owned()));
    let sessions = (0..spec.sessions).map(|index| (GROUP, session_id(index)));
    for group in [GROUP, NOISY_GROUP] {
        transaction.execute(
            "INSERT INTO agent_groups (id, name, folder, created_at) VALUES (?1, ?1, ?1, ?2)",
            params![group, CREATED_AT],
        )?;
    }
    for (group, session) in sessions.chain(noisy) {
        transaction
            .prepare_cached(
                "INSERT INTO sessions (id, agent_group_id, messaging_group_id, status, container_status, created_at)
                 VALUES (?1, ?2, 'mg-bench', 'active', 'running', ?3)",
            )?
            .execute(params![session, group, CREATED_AT])?;
    }
    transaction.commit()?;
    Ok(())
}

fn template(folder: &Path, name: &str, messages: usize, history: usize) -> Result<PathBuf, BenchError> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    let mut inbox = open(&folder.join("inbound.db"))?;
    inbound::create_schema(&inbox)?;
    inbound::upgrade(&inbox)?;
    let mut outbox = open(&folder.join("outbound.db"))?;
    outbound::create_schema(&outbox)?;
    let rows = outbox.transaction()?;
    let delivered = inbox.transaction()?;
    for number in 0..history + messages {
        insert_message(&rows, number, "a message of the usual length, some sixty characters")?;
        if number < history {
            delivered
                .prepare_cached(
                    "INSERT INTO delivered VALUES (?1, NULL, 'delivered', '2026-01-01 00:00:00')",
                )?
                .execute([message_id(number)])?;
        }
    }
    rows.commit()?;
    delivered.commit()?;
    Ok(folder)
}

/// The id of message `number` of a session.
pub fn message_id(number: usize) -> String {
    format!("msg-{number:08}")
}

/// Writes message `number` of a session into its outbound.db.
pub fn insert_message(outbox: &Connection, number: usize, text: &str) -> Result<(), rusqlite::Error> {
    outbox
        .prepare_cached(
            "INSERT INTO messages_out (id, seq, timestamp, kind, platform_id, channel_type, content)
             VALUES (?1, ?2, datetime('now'), 'chat', ?3, ?4, ?5)",
        )?
        .execute(params![
            message_id(number),
            i64::try_from(number).unwrap_or(i64::MAX / 4) * 2 + 1,
            PLATFORM_ID,
            CHANNEL_TYPE,
            format!("{{\"text\":\"{text}\"}}"),
        ])?;
    Ok(())
}
