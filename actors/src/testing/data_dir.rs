//! Builds a NanoClaw data directory in a temporary folder.

use super::agent::{Chat, TestAgent, optional};
use super::{database, schema};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which NanoClaw made the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// The first v2 hosts: see [`super::seed_era`].
    Seed,
    /// v2.0.64 and later.
    Current,
}

/// A data directory as a NanoClaw host leaves it: `v2.db` and one folder for each session. It is removed when
/// this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    era: Era,
    /// Removes the folder at the end; none when somebody else does.
    _temporary: Option<tempfile::TempDir>,
}

/// What a new session is to be.
#[derive(Debug, Clone)]
pub struct SessionSpec {
    agent_group: String,
    id: Option<String>,
    chat: Option<Chat>,
    status: &'static str,
    container_status: &'static str,
}

impl SessionSpec {
    /// An active session of that agent group whose container runs. It has no chat: an agent-shared session.
    pub fn new(agent_group: &str) -> Self {
        Self {
            agent_group: agent_group.to_owned(),
            id: None,
            chat: None,
            status: "active",
            container_status: "running",
        }
    }

    /// Chooses the session's id. Without this it is `sess-<n>`.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// The chat that the session belongs to; it is made when it does not exist.
    pub fn chat(mut self, channel_type: &str, platform_id: &str) -> Self {
        self.chat = Some(Chat {
            channel_type: channel_type.to_owned(),
            platform_id: platform_id.to_owned(),
            thread_id: None,
        });
        self
    }

    /// The thread of the chat, for a session per thread.
    ///
    /// # Panics
    /// Without [`SessionSpec::chat`] before it.
    #[track_caller]
    pub fn thread(mut self, thread_id: &str) -> Self {
        self.chat.as_mut().expect("a thread needs a chat").thread_id = Some(thread_id.to_owned());
        self
    }

    /// The container does not run.
    pub fn stopped(mut self) -> Self {
        self.container_status = "stopped";
        self
    }

    /// The session is closed, and its container does not run.
    pub fn closed(mut self) -> Self {
        self.status = "closed";
        self.stopped()
    }
}

/// A row of `pending_questions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionRow {
    /// The question's id.
    pub question_id: String,
    /// The session that asked.
    pub session_id: String,
    /// The message that asked.
    pub message_out_id: String,
    /// Where it was asked.
    pub channel_type: Option<String>,
    /// In which chat.
    pub platform_id: Option<String>,
    /// In which thread.
    pub thread_id: Option<String>,
    /// Headline; none in seed-era files.
    pub title: Option<String>,
    /// The options as JSON; none in seed-era files.
    pub options_json: Option<String>,
    /// When it was stored.
    pub created_at: String,
}

const CREATED_AT: &str = "2026-01-01T00:00:00.000Z";

impl DataDir {
    /// An empty data directory of the current form.
    pub fn new() -> Self {
        Self::with_era(Era::Current)
    }

    /// An empty data directory as the first v2 hosts wrote it.
    pub fn seed_era() -> Self {
        Self::with_era(Era::Seed)
    }

    /// A data directory that exists already and that somebody else removes.
    ///
    /// # Panics
    /// When it has no `v2.db`.
    #[track_caller]
    pub fn at(root: impl Into<PathBuf>, era: Era) -> Self {
        let root = root.into();
        assert!(root.join("v2.db").is_file(), "{} has no v2.db", root.display());
        Self { root, era, _temporary: None }
    }

    /// Makes an empty data directory in a folder that somebody else removes.
    pub fn create_in(root: impl Into<PathBuf>, era: Era) -> Self {
        let root = root.into();
        fs::create_dir_all(root.join("v2-sessions")).expect("the folder can be made");
        let central = database::create(&root.join("v2.db"));
        database::use_wal(&central);
        schema::create_central(&central, era);
        Self { root, era, _temporary: None }
    }

    fn with_era(era: Era) -> Self {
        let temporary = tempfile::Builder::new().prefix("nanorelay-").tempdir().expect("a temporary folder");
        // One level down, so that tests have a place beside the data directory.
        let data = Self::create_in(temporary.path().join("data"), era);
        Self { _temporary: Some(temporary), ..data }
    }

    /// The folder that holds `v2.db` and `v2-sessions/`.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// A connection to `v2.db`.
    pub fn central(&self) -> Connection {
        database::open(&self.root.join("v2.db"))
    }

    /// Adds an agent group, unless it exists.
    pub fn agent_group(&self, id: &str) -> &Self {
        add_agent_group(&self.central(), id);
        self
    }

    /// Adds a chat, unless it exists.
    pub fn chat(&self, channel_type: &str, platform_id: &str) -> &Self {
        add_chat(&self.central(), channel_type, platform_id);
        self
    }

    /// Lets a group's agents write to a chat that is not their session's own.
    ///
    /// # Panics
    /// In a seed-era directory, which knows no permissions.
    pub fn allow_channel(&self, agent_group: &str, channel_type: &str, platform_id: &str) -> &Self {
        let central = self.central();
        add_agent_group(&central, agent_group);
        let chat = add_chat(&central, channel_type, platform_id);
        self.allow(&central, agent_group, "channel", &chat)
    }

    /// Lets a group's agents write to another group's.
    ///
    /// # Panics
    /// In a seed-era directory, which knows no permissions.
    pub fn allow_agent(&self, from: &str, to: &str) -> &Self {
        let central = self.central();
        add_agent_group(&central, from);
        add_agent_group(&central, to);
        self.allow(&central, from, "agent", to)
    }

    fn allow(&self, central: &Connection, agent_group: &str, target_type: &str, target: &str) -> &Self {
        assert_eq!(self.era, Era::Current, "seed-era directories have no agent_destinations");
        central
            .execute(
                "INSERT OR IGNORE INTO agent_destinations
                   (agent_group_id, local_name, target_type, target_id, created_at) VALUES (?1, ?2, ?3, ?2, ?4)",
                (agent_group, target, target_type, CREATED_AT),
            )
            .expect("a destination can be added");
        self
    }

    /// Adds a session with its folder and both databases.
    pub fn session(&self, spec: SessionSpec) -> TestAgent {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = spec.id.clone().unwrap_or_else(|| format!("sess-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let folder = self.root.join("v2-sessions").join(&spec.agent_group).join(&id);
        fs::create_dir_all(folder.join("outbox")).expect("the session folder can be made");
        fs::write(folder.join("inbound.db"), template(self.era, Side::Inbound)).expect("inbound.db");
        fs::write(folder.join("outbound.db"), template(self.era, Side::Outbound)).expect("outbound.db");

        let central = self.central();
        add_agent_group(&central, &spec.agent_group);
        let chat_id =
            spec.chat.as_ref().map(|chat| add_chat(&central, &chat.channel_type, &chat.platform_id));
        let thread_id = spec.chat.as_ref().and_then(|chat| chat.thread_id.clone());
        central
            .execute(
                "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, status,
                   container_status, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (&id, &spec.agent_group, chat_id, thread_id, spec.status, spec.container_status, CREATED_AT),
            )
            .expect("the session is new");
        let agent = TestAgent::new(&id, &spec.agent_group, folder, spec.chat);
        if self.era == Era::Current {
            agent.write_session_routing();
        }
        agent
    }

    /// The agent of a session that exists.
    ///
    /// # Panics
    /// When there is no such session.
    #[track_caller]
    pub fn agent(&self, session_id: &str) -> TestAgent {
        let (agent_group, chat): (String, Option<Chat>) = self
            .central()
            .query_row(
                "SELECT s.agent_group_id, m.channel_type, m.platform_id, s.thread_id
                 FROM sessions s LEFT JOIN messaging_groups m ON m.id = s.messaging_group_id WHERE s.id = ?1",
                [session_id],
                |row| {
                    let channel_type: Option<String> = row.get(1)?;
                    let chat = match channel_type {
                        Some(channel_type) => {
                            Some(Chat { channel_type, platform_id: row.get(2)?, thread_id: row.get(3)? })
                        }
                        None => None,
                    };
                    Ok((row.get(0)?, chat))
                },
            )
            .unwrap_or_else(|error| panic!("session {session_id:?}: {error}"));
        let folder = self.root.join("v2-sessions").join(&agent_group).join(session_id);
        TestAgent::new(session_id, &agent_group, folder, chat)
    }

    /// All rows of `pending_questions`, by question id.
    pub fn pending_questions(&self) -> Vec<QuestionRow> {
        let central = self.central();
        let mut statement =
            central.prepare("SELECT * FROM pending_questions ORDER BY question_id").expect("a table");
        let rows = statement.query_map([], |row| {
            Ok(QuestionRow {
                question_id: row.get("question_id")?,
                session_id: row.get("session_id")?,
                message_out_id: row.get("message_out_id")?,
                channel_type: row.get("channel_type")?,
                platform_id: row.get("platform_id")?,
                thread_id: row.get("thread_id")?,
                title: optional(row, "title"),
                options_json: optional(row, "options_json"),
                created_at: row.get("created_at")?,
            })
        });
        rows.and_then(Iterator::collect).expect("readable rows")
    }
}

impl Default for DataDir {
    fn default() -> Self {
        Self::new()
    }
}

fn add_agent_group(central: &Connection, id: &str) {
    central
        .execute(
            "INSERT OR IGNORE INTO agent_groups (id, name, folder, created_at) VALUES (?1, ?1, ?1, ?2)",
            (id, CREATED_AT),
        )
        .expect("an agent group can be added");
}

/// Returns the chat's id in `messaging_groups`.
fn add_chat(central: &Connection, channel_type: &str, platform_id: &str) -> String {
    central
        .execute(
            "INSERT OR IGNORE INTO messaging_groups (id, channel_type, platform_id, name, is_group, created_at)
             VALUES (?1, ?2, ?3, ?3, 1, ?4)",
            (format!("mg-{channel_type}-{platform_id}"), channel_type, platform_id, CREATED_AT),
        )
        .expect("a chat can be added");
    central
        .query_row(
            "SELECT id FROM messaging_groups WHERE channel_type = ?1 AND platform_id = ?2",
            [channel_type, platform_id],
            |row| row.get(0),
        )
        .expect("the chat exists")
}

#[derive(Clone, Copy)]
enum Side {
    Inbound,
    Outbound,
}

/// The bytes of an empty database. Copying them is much faster than making the tables each time, which counts
/// in tests with thousands of sessions.
fn template(era: Era, side: Side) -> &'static [u8] {
    static TEMPLATES: [[OnceLock<Vec<u8>>; 2]; 2] = [const { [const { OnceLock::new() }; 2] }; 2];
    TEMPLATES[era as usize][side as usize].get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("template.db");
        let connection = database::create(&path);
        match side {
            Side::Inbound => schema::create_inbound(&connection, era),
            Side::Outbound => schema::create_outbound(&connection, era),
        }
        drop(connection);
        fs::read(&path).expect("the template is readable")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RowSpec;

    fn journal_mode(connection: &Connection) -> String {
        connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap()
    }

    fn check_integrity(connection: &Connection) {
        let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }

    #[test]
    fn a_new_directory_has_the_layout_of_the_contract() {
        for data in [DataDir::new(), DataDir::seed_era()] {
            let agent = data.session(SessionSpec::new("ag-main").chat("slack", "slack:C1").thread("t-1"));
            assert_eq!(journal_mode(&data.central()), "wal");
            for connection in [agent.inbound(), agent.outbound()] {
                assert_eq!(journal_mode(&connection), "delete");
                check_integrity(&connection);
            }
            check_integrity(&data.central());
            assert!(agent.outbox().is_dir());
            let again = data.agent(agent.session_id());
            assert_eq!(again.folder(), agent.folder());
            assert_eq!(again.text_row("x"), agent.text_row("x"), "the session's chat is known again");
        }
    }

    #[test]
    fn only_seed_era_files_lack_the_later_tables_and_columns() {
        let lacks = |data: &DataDir, agent: &TestAgent| {
            [
                agent.inbound().prepare("SELECT trigger FROM messages_in").is_err(),
                agent.inbound().prepare("SELECT 1 FROM destinations").is_err(),
                agent.outbound().prepare("SELECT 1 FROM session_state").is_err(),
                data.central().prepare("SELECT 1 FROM agent_destinations").is_err(),
            ]
        };
        let seed = DataDir::seed_era();
        assert_eq!(lacks(&seed, &seed.session(SessionSpec::new("ag"))), [true; 4]);
        let current = DataDir::new();
        assert_eq!(lacks(&current, &current.session(SessionSpec::new("ag"))), [false; 4]);
    }

    #[test]
    fn permissions_are_rows_and_groups_and_chats_are_made_once() {
        let data = DataDir::new();
        data.agent_group("ag-a").chat("slack", "slack:C1");
        data.allow_channel("ag-a", "slack", "slack:C1")
            .allow_agent("ag-a", "ag-b")
            .allow_agent("ag-a", "ag-b");
        let count = |table: &str| -> i64 {
            data.central().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count("agent_destinations"), 2);
        assert_eq!(count("agent_groups"), 2);
        assert_eq!(count("messaging_groups"), 1);
        assert!(data.pending_questions().is_empty());
    }

    #[test]
    fn the_folder_is_gone_with_the_value() {
        let data = DataDir::new();
        data.session(SessionSpec::new("ag")).row(RowSpec::text("slack", "slack:C1", "x"));
        let path = data.path().to_owned();
        drop(data);
        assert!(!path.exists());
    }
}
