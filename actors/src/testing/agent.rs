//! An agent that writes its session's files exactly as a container does.

mod assertions;

use super::database;
use crate::model::time::Timestamp;
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, TransactionBehavior};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// The agent of one session. Cheap to make; it holds no file open between two calls.
#[derive(Debug, Clone)]
pub struct TestAgent {
    session_id: String,
    agent_group: String,
    folder: PathBuf,
    chat: Option<Chat>,
}

/// Where a session's own messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chat {
    pub(super) channel_type: String,
    pub(super) platform_id: String,
    pub(super) thread_id: Option<String>,
}

/// A row for `messages_out`, with attachments for its outbox folder. Every field may be set as a test likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSpec {
    /// The row's id; without one it gets an id that no other row of this process has.
    pub id: Option<String>,
    /// The row's seq; without one it gets the next odd one above all of both tables.
    pub seq: Option<i64>,
    /// Id of the inbound row that is answered.
    pub in_reply_to: Option<String>,
    /// Earliest time of delivery, as text.
    pub deliver_after: Option<String>,
    /// `chat`, `chat-sdk`, `system`, or anything.
    pub kind: String,
    /// Target channel type.
    pub channel_type: Option<String>,
    /// Target chat.
    pub platform_id: Option<String>,
    /// Target thread.
    pub thread_id: Option<String>,
    /// The content; need not be JSON.
    pub content: String,
    /// Files for `outbox/<id>/`. The content is not made to name them.
    pub files: Vec<(String, Vec<u8>)>,
}

impl RowSpec {
    /// A row of that kind and content, without a target.
    pub fn new(kind: &str, content: impl Into<String>) -> Self {
        Self {
            id: None,
            seq: None,
            in_reply_to: None,
            deliver_after: None,
            kind: kind.to_owned(),
            channel_type: None,
            platform_id: None,
            thread_id: None,
            content: content.into(),
            files: Vec::new(),
        }
    }

    /// A text for a chat.
    pub fn text(channel_type: &str, platform_id: &str, text: &str) -> Self {
        Self::new("chat", json!({ "text": text }).to_string()).to(channel_type, platform_id, None)
    }

    /// Sets the target.
    pub fn to(mut self, channel_type: &str, platform_id: &str, thread_id: Option<&str>) -> Self {
        self.channel_type = Some(channel_type.to_owned());
        self.platform_id = Some(platform_id.to_owned());
        self.thread_id = thread_id.map(str::to_owned);
        self
    }

    /// Sets the id.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Sets the row that is answered.
    pub fn in_reply_to(mut self, id: &str) -> Self {
        self.in_reply_to = Some(id.to_owned());
        self
    }

    /// Sets the earliest time of delivery, in whatever form.
    pub fn deliver_after(mut self, text: &str) -> Self {
        self.deliver_after = Some(text.to_owned());
        self
    }

    /// Adds a file to the outbox folder.
    pub fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), bytes.into()));
        self
    }
}

/// A row of `messages_in`. What a seed-era file lacks is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the contract, by their names")]
pub struct InboundRow {
    pub id: String,
    pub seq: Option<i64>,
    pub kind: String,
    pub timestamp: String,
    pub status: Option<String>,
    pub process_after: Option<String>,
    pub recurrence: Option<String>,
    pub series_id: Option<String>,
    pub tries: Option<i64>,
    pub trigger: Option<i64>,
    pub channel_type: Option<String>,
    pub platform_id: Option<String>,
    pub thread_id: Option<String>,
    pub content: String,
    pub source_session_id: Option<String>,
    pub on_wake: Option<i64>,
}

/// A row of `delivered`. What a seed-era file lacks is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the contract, by their names")]
pub struct DeliveredRow {
    pub message_out_id: String,
    pub platform_message_id: Option<String>,
    pub status: Option<String>,
    pub delivered_at: String,
}

impl TestAgent {
    pub(super) fn new(session_id: &str, agent_group: &str, folder: PathBuf, chat: Option<Chat>) -> Self {
        Self { session_id: session_id.to_owned(), agent_group: agent_group.to_owned(), folder, chat }
    }

    /// The session's id.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// The session's agent group.
    pub fn agent_group(&self) -> &str {
        &self.agent_group
    }

    /// The session's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of all attachments that the agent sends.
    pub fn outbox(&self) -> PathBuf {
        self.folder.join("outbox")
    }

    /// A connection to `inbound.db`.
    #[track_caller]
    pub fn inbound(&self) -> Connection {
        database::open(&self.folder.join("inbound.db"))
    }

    /// A connection to `outbound.db`.
    #[track_caller]
    pub fn outbound(&self) -> Connection {
        database::open(&self.folder.join("outbound.db"))
    }

    /// Writes a text for the session's own chat and returns its id.
    #[track_caller]
    pub fn text(&self, text: &str) -> String {
        self.row(self.text_row(text))
    }

    /// A text for the session's own chat, not yet written.
    ///
    /// # Panics
    /// When the session has no chat.
    #[track_caller]
    pub fn text_row(&self, text: &str) -> RowSpec {
        self.own_chat(RowSpec::new("chat", json!({ "text": text }).to_string()))
    }

    /// Writes a text with one file for the session's own chat and returns its id.
    #[track_caller]
    pub fn file(&self, text: &str, name: &str, bytes: &[u8]) -> String {
        let content = json!({ "text": text, "files": [name] }).to_string();
        self.row(self.own_chat(RowSpec::new("chat", content)).file(name, bytes))
    }

    /// Writes a question for the session's own chat, in the current form, and returns its message id.
    #[track_caller]
    pub fn question(&self, question_id: &str, title: &str, question: &str, options: &[&str]) -> String {
        let options: Vec<Value> = options
            .iter()
            .map(|option| json!({ "label": option, "selectedLabel": option, "value": option }))
            .collect();
        let content = json!({
            "type": "ask_question", "questionId": question_id, "title": title, "question": question,
            "options": options,
        });
        self.row(self.own_chat(RowSpec::new("chat-sdk", content.to_string())))
    }

    /// Writes a text for another agent group and returns its id.
    #[track_caller]
    pub fn to_agent(&self, agent_group: &str, text: &str) -> String {
        self.row(RowSpec::text("agent", agent_group, text))
    }

    /// Writes a system action and returns its id.
    #[track_caller]
    pub fn system(&self, action: &Value) -> String {
        self.row(RowSpec::new("system", action.to_string()))
    }

    /// Writes one row and returns its id.
    #[track_caller]
    pub fn row(&self, row: RowSpec) -> String {
        self.rows(vec![row]).remove(0)
    }

    /// Writes rows in one transaction and returns their ids. Attachments are written before the transaction,
    /// as containers do.
    #[track_caller]
    pub fn rows(&self, rows: Vec<RowSpec>) -> Vec<String> {
        let ids: Vec<String> =
            rows.iter().map(|row| row.id.clone().unwrap_or_else(next_message_id)).collect();
        for (row, id) in rows.iter().zip(&ids).filter(|(row, _)| !row.files.is_empty()) {
            let folder = self.outbox().join(id);
            fs::create_dir_all(&folder).expect("an outbox folder can be made");
            for (name, bytes) in &row.files {
                fs::write(folder.join(name), bytes).expect("an attachment can be written");
            }
        }
        let inbound = self.inbound();
        let mut outbound = self.outbound();
        let transaction =
            outbound.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
        let newest = max_seq(&inbound, "messages_in").max(max_seq(&transaction, "messages_out"));
        let mut next_seq = newest + if newest % 2 == 0 { 1 } else { 2 };
        for (row, id) in rows.iter().zip(&ids) {
            transaction
                .execute(
                    "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, deliver_after, kind, platform_id,
                       channel_type, thread_id, content)
                     VALUES (?1, ?2, ?3, datetime('now'), ?4, ?5, ?6, ?7, ?8, ?9)",
                    (
                        id,
                        row.seq.unwrap_or(next_seq),
                        &row.in_reply_to,
                        &row.deliver_after,
                        &row.kind,
                        &row.platform_id,
                        &row.channel_type,
                        &row.thread_id,
                        &row.content,
                    ),
                )
                .unwrap_or_else(|error| panic!("row {id:?}: {error}"));
            next_seq = next_seq.max(row.seq.map_or(next_seq, |seq| seq | 1)) + 2;
        }
        transaction.commit().expect("a commit");
        ids
    }

    /// Acknowledges an inbound row: `processing`, `completed` or `failed`, as of SQLite's now.
    #[track_caller]
    pub fn ack(&self, message_id: &str, status: &str) {
        self.outbound()
            .execute(
                "INSERT OR REPLACE INTO processing_ack (message_id, status, status_changed)
                 VALUES (?1, ?2, datetime('now'))",
                [message_id, status],
            )
            .expect("an acknowledgement can be written");
    }

    /// Sets the container's last sign of life.
    #[track_caller]
    pub fn heartbeat(&self, at: Timestamp) {
        let ms = u64::try_from(at.as_ms()).expect("a time after 1970");
        File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(".heartbeat"))
            .and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_millis(ms)))
            .expect("a heartbeat can be written");
    }

    /// Writes an inbound chat message as the host does, with the next even seq, and returns its seq.
    #[track_caller]
    pub fn receive(&self, id: &str, text: &str) -> i64 {
        let mut inbound = self.inbound();
        let transaction =
            inbound.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
        let seq = max_seq(&transaction, "messages_in") / 2 * 2 + 2;
        let chat = self.chat.as_ref();
        transaction
            .execute(
                "INSERT INTO messages_in (id, seq, kind, timestamp, channel_type, platform_id, thread_id, content)
                 VALUES (?1, ?2, 'chat', datetime('now'), ?3, ?4, ?5, ?6)",
                (
                    id,
                    seq,
                    chat.map(|chat| &chat.channel_type),
                    chat.map(|chat| &chat.platform_id),
                    chat.and_then(|chat| chat.thread_id.as_ref()),
                    json!({ "text": text, "sender": "Alice", "senderId": "u1" }).to_string(),
                ),
            )
            .unwrap_or_else(|error| panic!("inbound row {id:?}: {error}"));
        let has_series = transaction.prepare("SELECT series_id FROM messages_in").is_ok();
        if has_series {
            transaction
                .execute("UPDATE messages_in SET series_id = id WHERE id = ?1", [id])
                .expect("a series can be written");
        }
        transaction.commit().expect("a commit");
        seq
    }

    /// All rows of `messages_in`, in seq order.
    #[track_caller]
    pub fn messages_in(&self) -> Vec<InboundRow> {
        let inbound = self.inbound();
        let mut statement = inbound.prepare("SELECT * FROM messages_in ORDER BY seq, id").expect("a table");
        let rows = statement.query_map([], |row| {
            Ok(InboundRow {
                id: row.get("id")?,
                seq: row.get("seq")?,
                kind: row.get("kind")?,
                timestamp: row.get("timestamp")?,
                status: row.get("status")?,
                process_after: row.get("process_after")?,
                recurrence: row.get("recurrence")?,
                series_id: optional(row, "series_id"),
                tries: row.get("tries")?,
                trigger: optional(row, "trigger"),
                channel_type: row.get("channel_type")?,
                platform_id: row.get("platform_id")?,
                thread_id: row.get("thread_id")?,
                content: row.get("content")?,
                source_session_id: optional(row, "source_session_id"),
                on_wake: optional(row, "on_wake"),
            })
        });
        rows.and_then(Iterator::collect).expect("readable rows")
    }

    /// All rows of `delivered`, by message id.
    #[track_caller]
    pub fn delivered(&self) -> Vec<DeliveredRow> {
        let inbound = self.inbound();
        let mut statement =
            inbound.prepare("SELECT * FROM delivered ORDER BY message_out_id").expect("a table");
        let rows = statement.query_map([], |row| {
            Ok(DeliveredRow {
                message_out_id: row.get("message_out_id")?,
                platform_message_id: optional(row, "platform_message_id"),
                status: optional(row, "status"),
                delivered_at: row.get("delivered_at")?,
            })
        });
        rows.and_then(Iterator::collect).expect("readable rows")
    }

    /// Ids and seqs of `messages_out`, in seq order.
    #[track_caller]
    pub fn messages_out(&self) -> Vec<(String, i64)> {
        let outbound = self.outbound();
        let mut statement =
            outbound.prepare("SELECT id, seq FROM messages_out ORDER BY seq").expect("a table");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.and_then(Iterator::collect).expect("readable rows")
    }

    pub(super) fn write_session_routing(&self) {
        let chat = self.chat.as_ref();
        self.inbound()
            .execute(
                "INSERT INTO session_routing (id, channel_type, platform_id, thread_id) VALUES (1, ?1, ?2, ?3)",
                (
                    chat.map(|chat| &chat.channel_type),
                    chat.map(|chat| &chat.platform_id),
                    chat.and_then(|chat| chat.thread_id.as_ref()),
                ),
            )
            .expect("routing can be written");
    }

    #[track_caller]
    fn own_chat(&self, row: RowSpec) -> RowSpec {
        let chat = self.chat.as_ref().expect("the session has a chat");
        row.to(&chat.channel_type, &chat.platform_id, chat.thread_id.as_deref())
    }
}

/// A column that may be missing in a seed-era file.
pub(super) fn optional<T: FromSql>(row: &Row<'_>, column: &str) -> Option<T> {
    row.as_ref().column_index(column).ok().and_then(|index| row.get(index).ok())
}

fn max_seq(connection: &Connection, table: &str) -> i64 {
    connection
        .query_row(&format!("SELECT coalesce(max(seq), 0) FROM {table}"), [], |row| row.get(0))
        .expect("a seq")
}

fn next_message_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("msg-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests;
