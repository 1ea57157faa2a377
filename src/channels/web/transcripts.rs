//! The file with the transcripts. Synchronous; one thread owns it.

use super::entry::{ID_START, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, PagePlace};
use super::{
    Author, ChatEntry, ChatsError, EntryFile, EntryState, NewEntry, PageRange, TranscriptPage,
    WebChatSettings,
};
use nanorelay_actors::clock::SharedClock;
use nanorelay_actors::model::message::Destination;
use nanorelay_actors::model::time::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::broadcast;

/// How long somebody else may hold the file, a backup for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Old entries are looked for once in so many new ones.
const ADDED_PER_PRUNING: u32 = 256;
/// Or in so many bytes.
const ADDED_BYTES_PER_PRUNING: u64 = 64 << 20;
/// Most entries that one pruning removes for one reason: it must not hold up those who write.
const PRUNED_MAX: i64 = 2000;
/// Entries that go at a time from a file that is too large.
const PRUNED_PER_STEP: i64 = 16;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS entries (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  channel_type TEXT NOT NULL, platform_id TEXT NOT NULL, thread_id TEXT NOT NULL,
  at_ms INTEGER NOT NULL, author TEXT NOT NULL, session_id TEXT NOT NULL, name TEXT,
  idempotency_key TEXT NOT NULL UNIQUE, row_id TEXT, row_seq INTEGER, target INTEGER,
  content TEXT NOT NULL, state TEXT NOT NULL, error TEXT
);
CREATE INDEX IF NOT EXISTS entries_by_chat ON entries (channel_type, platform_id, thread_id, number);
CREATE INDEX IF NOT EXISTS entries_by_row ON entries (session_id, row_id);
CREATE INDEX IF NOT EXISTS entries_by_seq ON entries (session_id, row_seq);
CREATE INDEX IF NOT EXISTS entries_by_time ON entries (at_ms);
CREATE TABLE IF NOT EXISTS files (
  number INTEGER NOT NULL REFERENCES entries (number) ON DELETE CASCADE, position INTEGER NOT NULL,
  name TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (number, position)
) WITHOUT ROWID;";

const COLUMNS: &str = "number, at_ms, author, session_id, name, target, content, state, error";
const OF_CHAT: &str = "channel_type = ?1 AND platform_id = ?2 AND thread_id = ?3";

/// One piece of work on the file.
pub(super) enum Job {
    Add(Box<NewEntry>),
    Settle { number: i64, state: EntryState, row: Option<(String, i64)> },
    Page { chat: Destination, range: PageRange },
    File { chat: Destination, number: i64, position: u32 },
}

/// What came of it.
pub(super) enum Done {
    Added { entry: Box<ChatEntry>, is_new: bool },
    Settled,
    Page(TranscriptPage),
    File(Option<(String, Vec<u8>)>),
}

/// The open file.
pub(super) struct Transcripts {
    connection: Connection,
    settings: WebChatSettings,
    clock: SharedClock,
    changes: broadcast::Sender<Destination>,
    /// What was added since the last pruning.
    added: Added,
}

#[derive(Default)]
struct Added {
    entries: u32,
    bytes: u64,
    chats: HashSet<Destination>,
}

impl Added {
    fn note(&mut self, new: &NewEntry) {
        let files: usize = new.files.iter().map(|(_, data)| data.len()).sum();
        self.entries += 1;
        self.bytes += (new.content.get().len() + files) as u64;
        self.chats.insert(new.chat.clone());
    }

    fn is_enough(&self) -> bool {
        self.entries >= ADDED_PER_PRUNING || self.bytes >= ADDED_BYTES_PER_PRUNING
    }
}

impl From<rusqlite::Error> for ChatsError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl Transcripts {
    pub fn open(
        path: &Path,
        settings: &WebChatSettings,
        clock: SharedClock,
        changes: broadcast::Sender<Destination>,
    ) -> Result<Self, ChatsError> {
        // Made before SQLite opens it: what people say is nobody else's to read.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| ChatsError(format!("cannot open {}: {error}", path.display())))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A receipt says that the entry is on the disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(TABLES)?;
        let settings = settings.clone();
        // The first write looks for old entries.
        let added = Added { entries: ADDED_PER_PRUNING, ..Added::default() };
        Ok(Self { connection, settings, clock, changes, added })
    }

    /// Does a batch in one transaction. Nothing is answered, and nobody is told, before it is on the disk.
    pub fn run(&mut self, jobs: Vec<Job>) -> Vec<Result<Done, ChatsError>> {
        let count = jobs.len();
        match self.run_together(jobs) {
            Ok((answers, changed)) => {
                for chat in changed {
                    // Nobody need listen.
                    let _ = self.changes.send(chat);
                }
                answers
            }
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    #[expect(clippy::type_complexity, reason = "an answer for each job, and the chats that changed")]
    fn run_together(
        &mut self,
        jobs: Vec<Job>,
    ) -> Result<(Vec<Result<Done, ChatsError>>, Vec<Destination>), ChatsError> {
        let now = self.clock.now();
        let writes = jobs.iter().any(|job| matches!(job, Job::Add(_) | Job::Settle { .. }));
        let behavior = if writes { TransactionBehavior::Immediate } else { TransactionBehavior::Deferred };
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let mut changed: Vec<Destination> = Vec::new();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            if let Job::Add(new) = &job {
                self.added.note(new);
            }
            let (answer, chat) = run_one(&transaction, job, now)?;
            changed.extend(chat.filter(|chat| !changed.contains(chat)));
            answers.push(Ok(answer));
        }
        if writes && self.added.is_enough() {
            let added = std::mem::take(&mut self.added);
            prune(&transaction, &self.settings, now, &added.chats)?;
        }
        transaction.commit()?;
        Ok((answers, changed))
    }
}

/// Does one job. An error ends the whole batch: it is one of the file, never one of the job.
fn run_one(
    transaction: &Transaction<'_>,
    job: Job,
    now: Timestamp,
) -> rusqlite::Result<(Done, Option<Destination>)> {
    match job {
        Job::Add(new) => {
            let (number, is_new) = add(transaction, &new, now)?;
            let entry = Box::new(entry(transaction, number)?);
            Ok((Done::Added { entry, is_new }, is_new.then(|| new.chat.clone())))
        }
        Job::Settle { number, state, row } => {
            let chat = settle(transaction, number, &state, row)?;
            Ok((Done::Settled, chat))
        }
        Job::Page { chat, range } => Ok((Done::Page(page(transaction, &chat, range)?), None)),
        Job::File { chat, number, position } => {
            Ok((Done::File(file(transaction, &chat, number, position)?), None))
        }
    }
}

/// A number as SQLite has it.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn thread_of(chat: &Destination) -> &str {
    chat.thread_id.as_ref().map_or("", |thread| thread.as_str())
}

fn add(transaction: &Transaction<'_>, new: &NewEntry, now: Timestamp) -> rusqlite::Result<(i64, bool)> {
    let known = "SELECT number FROM entries WHERE idempotency_key = ?1";
    let known = transaction.prepare_cached(known)?.query_row([&*new.key], |row| row.get(0)).optional()?;
    if let Some(number) = known {
        return Ok((number, false));
    }
    let (state, error) = state_columns(&new.state);
    let (row_id, row_seq) = new.row.as_ref().map_or((None, None), |(id, seq)| (Some(id), Some(*seq)));
    transaction
        .prepare_cached(
            "INSERT INTO entries (channel_type, platform_id, thread_id, at_ms, author, session_id, name,
               idempotency_key, row_id, row_seq, target, content, state, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            new.chat.channel_type.as_str(),
            new.chat.platform_id.as_str(),
            thread_of(&new.chat),
            now.as_ms(),
            new.author.as_str(),
            new.session_id,
            new.name,
            &*new.key,
            row_id,
            row_seq,
            target(transaction, new)?,
            new.content.get(),
            state,
            error,
        ])?;
    let number = transaction.last_insert_rowid();
    let sql =
        "INSERT INTO files (number, position, name, size, sha256, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    for (position, (facts, data)) in new.files.iter().enumerate() {
        transaction.prepare_cached(sql)?.execute(params![
            number,
            integer(position as u64),
            facts.name,
            integer(facts.size),
            facts.sha256,
            data
        ])?;
    }
    Ok((number, true))
}

/// The entry of this chat that an edit, a deletion or a reaction is about. An agent names it by its id here, by its
/// row, or by the number under which it knows the row.
fn target(transaction: &Transaction<'_>, new: &NewEntry) -> rusqlite::Result<Option<i64>> {
    let content: Value = serde_json::from_str(new.content.get()).unwrap_or_default();
    if !content["operation"].is_string() {
        return Ok(None);
    }
    let (id, seq) = match &content["messageId"] {
        Value::String(id) => (id.clone(), None),
        Value::Number(number) => (number.to_string(), number.as_i64()),
        _ => return Ok(None),
    };
    let number: Option<i64> = id.strip_prefix(ID_START).and_then(|number| number.parse().ok());
    let sql = format!(
        "SELECT number FROM entries WHERE {OF_CHAT}
           AND (number = ?4 OR (session_id = ?5 AND (row_id = ?6 OR row_seq = ?7))) ORDER BY number DESC LIMIT 1"
    );
    let chat = &new.chat;
    transaction
        .prepare_cached(&sql)?
        .query_row(
            params![
                chat.channel_type.as_str(),
                chat.platform_id.as_str(),
                thread_of(chat),
                number,
                new.session_id,
                id,
                seq
            ],
            |row| row.get(0),
        )
        .optional()
}

fn settle(
    transaction: &Transaction<'_>,
    number: i64,
    state: &EntryState,
    row: Option<(String, i64)>,
) -> rusqlite::Result<Option<Destination>> {
    let (state, error) = state_columns(state);
    let (row_id, row_seq) = row.unzip();
    let sql = "UPDATE entries SET state = ?2, error = ?3, row_id = coalesce(?4, row_id), row_seq = coalesce(?5, row_seq)
               WHERE number = ?1 RETURNING channel_type, platform_id, thread_id";
    let mut statement = transaction.prepare_cached(sql)?;
    let chat = statement
        .query_row(params![number, state, error, row_id, row_seq], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    Ok(chat.and_then(|(channel_type, platform_id, thread_id)| {
        use nanorelay_actors::model::ids::{ChannelType, PlatformId, ThreadId};
        // What is in the file came from checked ids.
        Some(Destination {
            channel_type: ChannelType::new(&channel_type).ok()?,
            platform_id: PlatformId::new(&platform_id).ok()?,
            thread_id: if thread_id.is_empty() { None } else { Some(ThreadId::new(&thread_id).ok()?) },
        })
    }))
}

fn state_columns(state: &EntryState) -> (&'static str, Option<&str>) {
    match state {
        EntryState::Sending => ("sending", None),
        EntryState::Sent => ("sent", None),
        EntryState::Failed { error } => ("failed", Some(error)),
    }
}

fn entry(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<ChatEntry> {
    let sql = format!("SELECT {COLUMNS} FROM entries WHERE number = ?1");
    let mut entry = transaction.prepare_cached(&sql)?.query_row([number], read)?;
    entry.files = files(transaction, number)?;
    Ok(entry)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ChatEntry> {
    let number: i64 = row.get(0)?;
    let author: String = row.get(2)?;
    let state: String = row.get(7)?;
    let content: String = row.get(6)?;
    Ok(ChatEntry {
        number,
        id: format!("{ID_START}{number}"),
        at: Timestamp::from_ms(row.get(1)?).to_iso(),
        author: if author == Author::Agent.as_str() { Author::Agent } else { Author::Person },
        session_id: row.get(3)?,
        name: row.get(4)?,
        target: row.get(5)?,
        content: RawValue::from_string(content).unwrap_or_default(),
        files: Vec::new(),
        state: match state.as_str() {
            "sending" => EntryState::Sending,
            "failed" => EntryState::Failed { error: row.get::<_, Option<String>>(8)?.unwrap_or_default() },
            _ => EntryState::Sent,
        },
    })
}

fn files(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<Vec<EntryFile>> {
    let sql = "SELECT name, size, sha256 FROM files WHERE number = ?1 ORDER BY position";
    let mut statement = transaction.prepare_cached(sql)?;
    let read = |row: &Row<'_>| {
        Ok(EntryFile { name: row.get(0)?, size: row.get::<_, i64>(1)?.unsigned_abs(), sha256: row.get(2)? })
    };
    statement.query_map([number], read)?.collect()
}

fn page(
    transaction: &Transaction<'_>,
    chat: &Destination,
    range: PageRange,
) -> rusqlite::Result<TranscriptPage> {
    let (condition, order, place) = match range.place {
        PagePlace::Newest => ("number < ?4", "DESC", i64::MAX),
        PagePlace::Before(number) => ("number < ?4", "DESC", number),
        PagePlace::After(number) => ("number > ?4", "ASC", number),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM entries WHERE {OF_CHAT} AND {condition} ORDER BY number {order} LIMIT ?5"
    );
    let limit = range.limit.clamp(1, PAGE_ENTRIES_MAX) as usize;
    let mut statement = transaction.prepare_cached(&sql)?;
    let chat = params![
        chat.channel_type.as_str(),
        chat.platform_id.as_str(),
        thread_of(chat),
        place,
        integer(limit as u64 + 1)
    ];
    let mut rows = statement.query(chat)?;
    let mut page = TranscriptPage { items: Vec::new(), has_more: false };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let mut entry = read(row)?;
        bytes += entry.content.get().len();
        if page.items.len() == limit || (bytes > PAGE_BYTES_MAX && !page.items.is_empty()) {
            page.has_more = true;
            break;
        }
        entry.files = files(transaction, entry.number)?;
        page.items.push(entry);
    }
    if order == "DESC" {
        page.items.reverse();
    }
    Ok(page)
}

fn file(
    transaction: &Transaction<'_>,
    chat: &Destination,
    number: i64,
    position: u32,
) -> rusqlite::Result<Option<(String, Vec<u8>)>> {
    let sql = format!(
        "SELECT files.name, files.data FROM files JOIN entries USING (number)
         WHERE {OF_CHAT} AND files.number = ?4 AND files.position = ?5"
    );
    let wanted =
        params![chat.channel_type.as_str(), chat.platform_id.as_str(), thread_of(chat), number, position];
    transaction.prepare_cached(&sql)?.query_row(wanted, |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Removes what is too old, what is too much in the chats that have just grown, and, in a file that is too large, the
/// oldest of all.
fn prune(
    transaction: &Transaction<'_>,
    settings: &WebChatSettings,
    now: Timestamp,
    grown: &HashSet<Destination>,
) -> rusqlite::Result<()> {
    let keep_ms = i64::try_from(settings.keep.as_millis()).unwrap_or(i64::MAX);
    let too_old = now.as_ms().saturating_sub(keep_ms);
    let oldest = "DELETE FROM entries WHERE number IN
        (SELECT number FROM entries WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)";
    transaction.execute(oldest, params![too_old, PRUNED_MAX])?;
    let of_chat = format!(
        "DELETE FROM entries WHERE number IN (SELECT number FROM entries WHERE {OF_CHAT} AND number <=
           (SELECT number FROM entries WHERE {OF_CHAT} ORDER BY number DESC LIMIT 1 OFFSET ?4)
         ORDER BY number LIMIT ?5)"
    );
    for chat in grown {
        let place = params![
            chat.channel_type.as_str(),
            chat.platform_id.as_str(),
            thread_of(chat),
            integer(settings.entries_per_chat),
            PRUNED_MAX
        ];
        transaction.execute(&of_chat, place)?;
    }
    for _ in 0..PRUNED_MAX / PRUNED_PER_STEP {
        let pragma = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
        if used <= integer(settings.size_bytes) {
            break;
        }
        let oldest =
            "DELETE FROM entries WHERE number IN (SELECT number FROM entries ORDER BY number LIMIT ?1)";
        transaction.execute(oldest, [PRUNED_PER_STEP])?;
    }
    Ok(())
}
