//! A session's files as an agent's container uses them: outbound.db is its own, inbound.db is only read.

use super::demo_world::{DemoError, DemoSession};
use nanorelay_actors::clock::{Clock, SystemClock};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Both sides wait so long for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks at inbound.db.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long an agent waits for something.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The agent's end of a session.
pub struct AgentSession {
    folder: PathBuf,
    session: DemoSession,
    outbound: Connection,
}

/// A row to be written.
pub struct Row<'a> {
    /// Its id.
    pub id: &'a str,
    /// `chat`, `chat-sdk` or `system`.
    pub kind: &'a str,
    /// Channel type and platform id; none for a system action.
    pub target: Option<(&'a str, &'a str)>,
    /// The row of `messages_in` that it answers.
    pub in_reply_to: Option<&'a str>,
    /// The content as it is written, JSON or not.
    pub content: &'a str,
}

impl AgentSession {
    /// Opens the files of a session folder.
    pub fn open(folder: &Path, session: DemoSession) -> Result<Self, DemoError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let outbound = Connection::open_with_flags(folder.join("outbound.db"), flags)?;
        outbound.busy_timeout(BUSY_TIMEOUT)?;
        let agent = Self { folder: folder.to_owned(), session, outbound };
        agent.beat()?;
        Ok(agent)
    }

    /// The agent's own chat.
    pub fn own_chat(&self) -> (&'static str, &'static str) {
        (self.session.channel_type, self.session.platform_id)
    }

    /// Writes one row. Its seq is the next odd one above the highest of both tables.
    pub fn write(&mut self, row: &Row<'_>) -> Result<(), DemoError> {
        let inbound_max = self.inbound()?.query_row("SELECT max(seq) FROM messages_in", [], max_seq)?;
        let transaction = self.outbound.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outbound_max = transaction.query_row("SELECT max(seq) FROM messages_out", [], max_seq)?;
        let highest = inbound_max.max(outbound_max);
        let seq = if highest % 2 == 0 { highest + 1 } else { highest + 2 };
        transaction.execute(
            "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, platform_id, channel_type, content)
             VALUES (?1, ?2, ?3, datetime('now'), ?4, ?5, ?6, ?7)",
            params![
                row.id,
                seq,
                row.in_reply_to,
                row.kind,
                row.target.map(|(_, platform_id)| platform_id),
                row.target.map(|(channel_type, _)| channel_type),
                row.content
            ],
        )?;
        transaction.commit()?;
        self.beat()
    }

    /// Puts a file into the outbox folder of a message, which is written afterwards.
    pub fn attach(&self, message_id: &str, name: &str, bytes: &[u8]) -> Result<(), DemoError> {
        let folder = self.folder.join("outbox").join(message_id);
        let cannot = |error| DemoError::Io(format!("cannot write {name} to the outbox"), error);
        fs::create_dir_all(&folder).map_err(cannot)?;
        fs::write(folder.join(name), bytes).map_err(cannot)
    }

    /// Waits until a message is delivered and its platform id is known.
    pub fn wait_for_platform_id(&self, message_id: &str) -> Result<String, DemoError> {
        self.wait("the platform's id of a delivered message", |inbound| {
            let sql = "SELECT platform_message_id FROM delivered WHERE message_out_id = ?1 AND status = 'delivered'";
            let id: Option<Option<String>> =
                inbound.query_row(sql, [message_id], |row| row.get(0)).optional()?;
            Ok(id.flatten())
        })
    }

    /// Waits for a message from another agent; its id and content.
    pub fn wait_for_agent_message(&self) -> Result<(String, String), DemoError> {
        self.wait("a message from another agent", |inbound| {
            let sql =
                "SELECT id, content FROM messages_in WHERE channel_type = 'agent' AND status = 'pending'
                       AND source_session_id IS NOT NULL ORDER BY seq LIMIT 1";
            inbound.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
    }

    /// Says that a row of `messages_in` is being worked on, or done.
    pub fn acknowledge(&self, message_in_id: &str, status: &str) -> Result<(), DemoError> {
        self.outbound.execute(
            "INSERT OR REPLACE INTO processing_ack (message_id, status, status_changed)
             VALUES (?1, ?2, datetime('now'))",
            params![message_in_id, status],
        )?;
        self.beat()
    }

    fn wait<T>(
        &self,
        what: &'static str,
        look: impl Fn(&Connection) -> rusqlite::Result<Option<T>>,
    ) -> Result<T, DemoError> {
        let start = SystemClock.now();
        while SystemClock.now().since(start) < WAIT_MAX {
            if let Some(found) = look(&self.inbound()?)? {
                return Ok(found);
            }
            self.beat()?;
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(DemoError::TooLate(what))
    }

    /// Opened anew for each look, as containers do: a cached page would hide what the host writes.
    fn inbound(&self) -> Result<Connection, DemoError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let inbound = Connection::open_with_flags(self.folder.join("inbound.db"), flags)?;
        inbound.busy_timeout(BUSY_TIMEOUT)?;
        Ok(inbound)
    }

    /// The file's time of change is the sign of life.
    fn beat(&self) -> Result<(), DemoError> {
        File::create(self.folder.join(".heartbeat"))
            .map(drop)
            .map_err(|error| DemoError::Io("cannot touch the heartbeat file".to_owned(), error))
    }
}

fn max_seq(row: &rusqlite::Row<'_>) -> rusqlite::Result<i64> {
    Ok(row.get::<_, Option<i64>>(0)?.unwrap_or(0))
}
