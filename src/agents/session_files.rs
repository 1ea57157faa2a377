//! A session's files as an agent uses them: outbound.db is its own, inbound.db is only read.

use nanorelay_actors::clock::{Clock, SystemClock};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Both sides wait so long for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks at inbound.db. File events do not cross every mount: an agent polls.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long an agent waits for something.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Why an agent cannot use its files.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The file system refused.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// SQLite refused.
    #[error("sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What an agent waited for did not come.
    #[error("{0} did not come in time")]
    TooLate(&'static str),
}

/// The agent's end of a session.
pub struct SessionFiles {
    folder: PathBuf,
    outbound: Connection,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The platform, or `agent`.
    pub channel_type: &'a str,
    /// The chat, or the agent group.
    pub platform_id: &'a str,
    /// The thread of the chat.
    pub thread_id: Option<&'a str>,
}

/// A row to be written.
pub struct Row<'a> {
    /// Its id.
    pub id: &'a str,
    /// `chat`, `chat-sdk` or `system`.
    pub kind: &'a str,
    /// None for a system action.
    pub target: Option<Target<'a>>,
    /// The content as it is written, JSON or not.
    pub content: &'a str,
}

impl SessionFiles {
    /// Opens the files of a session folder.
    pub fn open(folder: &Path) -> Result<Self, AgentError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let outbound = Connection::open_with_flags(folder.join("outbound.db"), flags)?;
        outbound.busy_timeout(BUSY_TIMEOUT)?;
        let agent = Self { folder: folder.to_owned(), outbound };
        agent.beat()?;
        Ok(agent)
    }

    /// Writes one row. Its seq is the next odd one above the highest of both tables.
    pub fn write(&mut self, row: &Row<'_>) -> Result<(), AgentError> {
        self.write_in_reply_to(row, None)
    }

    /// Writes a row that answers a row of `messages_in`, and says in the same transaction that this one is done: an
    /// agent that dies has done both or neither.
    pub fn answer(&mut self, message_in_id: &str, row: &Row<'_>) -> Result<(), AgentError> {
        self.write_in_reply_to(row, Some(message_in_id))
    }

    fn write_in_reply_to(&mut self, row: &Row<'_>, answered: Option<&str>) -> Result<(), AgentError> {
        let inbound_max = self.inbound()?.query_row("SELECT max(seq) FROM messages_in", [], max_seq)?;
        let transaction = self.outbound.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let outbound_max = transaction.query_row("SELECT max(seq) FROM messages_out", [], max_seq)?;
        let highest = inbound_max.max(outbound_max);
        let seq = if highest % 2 == 0 { highest + 1 } else { highest + 2 };
        transaction.execute(
            "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, platform_id, channel_type, thread_id, content)
             VALUES (?1, ?2, ?3, datetime('now'), ?4, ?5, ?6, ?7, ?8)",
            params![
                row.id,
                seq,
                answered,
                row.kind,
                row.target.map(|target| target.platform_id),
                row.target.map(|target| target.channel_type),
                row.target.and_then(|target| target.thread_id),
                row.content
            ],
        )?;
        if let Some(answered) = answered {
            acknowledge(&transaction, answered, "completed")?;
        }
        transaction.commit()?;
        self.beat()
    }

    /// Puts a file into the outbox folder of a message, which is written afterwards.
    pub fn attach(&self, message_id: &str, name: &str, bytes: &[u8]) -> Result<(), AgentError> {
        let folder = self.folder.join("outbox").join(message_id);
        let cannot = |error| AgentError::Io(format!("cannot write {name} to the outbox"), error);
        fs::create_dir_all(&folder).map_err(cannot)?;
        fs::write(folder.join(name), bytes).map_err(cannot)
    }

    /// Waits until a message is delivered and its platform id is known.
    pub fn wait_for_platform_id(&self, message_id: &str) -> Result<String, AgentError> {
        self.wait("the platform's id of a delivered message", |inbound| {
            let sql = "SELECT platform_message_id FROM delivered WHERE message_out_id = ?1 AND status = 'delivered'";
            let id: Option<Option<String>> =
                inbound.query_row(sql, [message_id], |row| row.get(0)).optional()?;
            Ok(id.flatten())
        })
    }

    /// Waits for a message from another agent; its id and content.
    pub fn wait_for_agent_message(&self) -> Result<(String, String), AgentError> {
        self.wait("a message from another agent", |inbound| {
            let sql =
                "SELECT id, content FROM messages_in WHERE channel_type = 'agent' AND status = 'pending'
                       AND source_session_id IS NOT NULL ORDER BY seq LIMIT 1";
            inbound.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
    }

    /// Says that a row of `messages_in` is being worked on, or done.
    pub fn acknowledge(&self, message_in_id: &str, status: &str) -> Result<(), AgentError> {
        acknowledge(&self.outbound, message_in_id, status)?;
        self.beat()
    }

    /// Gives back what an earlier agent of the session was working on when it ended.
    pub fn drop_claims(&self) -> Result<(), AgentError> {
        self.outbound.execute("DELETE FROM processing_ack WHERE status = 'processing'", [])?;
        Ok(())
    }

    /// Whether the work on a row of `messages_in` has ended.
    pub fn is_done(&self, message_in_id: &str) -> Result<bool, AgentError> {
        let sql = "SELECT 1 FROM processing_ack WHERE message_id = ?1 AND status <> 'processing'";
        Ok(self.outbound.prepare_cached(sql)?.exists([message_in_id])?)
    }

    fn wait<T>(
        &self,
        what: &'static str,
        look: impl Fn(&Connection) -> rusqlite::Result<Option<T>>,
    ) -> Result<T, AgentError> {
        let start = SystemClock.now();
        while SystemClock.now().since(start) < WAIT_MAX {
            if let Some(found) = look(&self.inbound()?)? {
                return Ok(found);
            }
            self.beat()?;
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(AgentError::TooLate(what))
    }

    /// Opened anew for each look, as containers do: a cached page would hide what the host writes.
    pub fn inbound(&self) -> Result<Connection, AgentError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let inbound = Connection::open_with_flags(self.folder.join("inbound.db"), flags)?;
        inbound.busy_timeout(BUSY_TIMEOUT)?;
        Ok(inbound)
    }

    /// The file's time of change is the sign of life.
    pub fn beat(&self) -> Result<(), AgentError> {
        File::create(self.folder.join(".heartbeat"))
            .map(drop)
            .map_err(|error| AgentError::Io("cannot touch the heartbeat file".to_owned(), error))
    }
}

fn acknowledge(outbound: &Connection, message_in_id: &str, status: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO processing_ack (message_id, status, status_changed)
               VALUES (?1, ?2, datetime('now'))";
    outbound.execute(sql, [message_in_id, status]).map(drop)
}

fn max_seq(row: &rusqlite::Row<'_>) -> rusqlite::Result<i64> {
    Ok(row.get::<_, Option<i64>>(0)?.unwrap_or(0))
}
