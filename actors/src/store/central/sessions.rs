//! Finding the session of a chat, and making it when there is none.

use super::{Chat, ContainerStatus};
use crate::model::ids::{AgentGroupId, ChannelType, PlatformId, SessionId, ThreadId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::is_missing_table;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

/// Which messages share a session of an agent group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SessionMode {
    /// All of one chat.
    Shared,
    /// All of one thread.
    PerThread,
    /// All of the agent group's, of whatever chat. Such a session has no chat of its own.
    AgentShared,
}

impl SessionMode {
    /// All of them.
    pub const ALL: [SessionMode; 3] = [SessionMode::Shared, SessionMode::PerThread, SessionMode::AgentShared];

    /// The mode as text, as in `messaging_group_agents`.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionMode::Shared => "shared",
            SessionMode::PerThread => "per-thread",
            SessionMode::AgentShared => "agent-shared",
        }
    }

    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// The session that somebody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// The agent group that answers.
    pub agent_group_id: AgentGroupId,
    /// The chat it speaks in; `None` for a session without one.
    pub chat: Option<Chat>,
    /// The thread.
    pub thread_id: Option<ThreadId>,
    /// `None` = as `messaging_group_agents` says; where that says nothing, [`SessionMode::Shared`], and without a chat
    /// [`SessionMode::AgentShared`].
    pub mode: Option<SessionMode>,
    /// Whether a chat that `v2.db` does not know is added to it.
    pub adds_chat: bool,
}

impl SessionRequest {
    /// The agent group's session without a chat.
    pub fn new(agent_group_id: AgentGroupId) -> Self {
        Self { agent_group_id, chat: None, thread_id: None, mode: None, adds_chat: false }
    }

    /// The session of a chat.
    pub fn chat(mut self, channel_type: ChannelType, platform_id: PlatformId) -> Self {
        self.chat = Some((channel_type, platform_id));
        self
    }

    /// The session of a thread of that chat, where threads have sessions of their own.
    pub fn thread(mut self, thread_id: ThreadId) -> Self {
        self.thread_id = Some(thread_id);
        self
    }

    /// Says which messages share it.
    pub fn mode(mut self, mode: SessionMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Adds the chat to `v2.db` when it is not known.
    pub fn add_chat(mut self) -> Self {
        self.adds_chat = true;
        self
    }
}

/// The session that was found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedSession {
    /// Its id.
    pub session_id: SessionId,
    /// Whether it was made now.
    pub is_new: bool,
    /// The chat it speaks in.
    pub chat: Option<Chat>,
    /// The thread.
    pub thread_id: Option<ThreadId>,
}

/// Why no session was found or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnresolvedSession {
    /// `v2.db` has no such agent group.
    #[error("there is no agent group {0:?} in v2.db")]
    NoSuchAgentGroup(AgentGroupId),
    /// `v2.db` has no such chat.
    #[error(
        "there is no chat {1:?} of type {0:?} in v2.db; ask for it to be added, or add it to messaging_groups"
    )]
    NoSuchChat(ChannelType, PlatformId),
    /// A session of a chat, or of a thread, was asked for without saying which chat.
    #[error("a {} session needs a chat", .0.as_str())]
    ChatMissing(SessionMode),
}

/// Somebody whom an agent may write to, as it knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDestination {
    /// The name that the agent uses.
    pub name: String,
    /// A name for people.
    pub display_name: String,
    /// A chat or another agent group.
    pub target: DestinationTarget,
}

/// Where a destination leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationTarget {
    /// To a chat.
    Chat {
        /// The kind of platform.
        channel_type: String,
        /// The chat there.
        platform_id: String,
    },
    /// To another agent group.
    Agent(String),
}

/// Finds the active session that the request describes, or makes one under `new_id`.
pub(super) fn resolve(
    tx: &Transaction<'_>,
    request: &SessionRequest,
    new_id: &SessionId,
    now: Timestamp,
) -> Result<Result<ResolvedSession, UnresolvedSession>, StoreError> {
    let group = &request.agent_group_id;
    if !tx.prepare_cached("SELECT 1 FROM agent_groups WHERE id = ?1")?.exists([group.as_str()])? {
        return Ok(Err(UnresolvedSession::NoSuchAgentGroup(group.clone())));
    }
    let known_chat = match &request.chat {
        None => None,
        Some(chat) => match chat_id(tx, chat, request.adds_chat, now)? {
            Some(id) => Some(id),
            None => return Ok(Err(UnresolvedSession::NoSuchChat(chat.0.clone(), chat.1.clone()))),
        },
    };
    let mode = match (request.mode, &known_chat) {
        (Some(mode), _) => mode,
        (None, Some(chat)) => wired_mode(tx, chat, group)?.unwrap_or(SessionMode::Shared),
        (None, None) => SessionMode::AgentShared,
    };
    let (chat_id, chat) = match (mode, known_chat) {
        (SessionMode::AgentShared, _) => (None, None),
        (_, None) => return Ok(Err(UnresolvedSession::ChatMissing(mode))),
        (_, Some(id)) => (Some(id), request.chat.clone()),
    };
    let thread_id = request.thread_id.clone().filter(|_| mode == SessionMode::PerThread);
    let thread = thread_id.as_ref().map(ThreadId::as_str);
    if let Some(session_id) = find(tx, group, chat_id.as_deref(), thread)? {
        return Ok(Ok(ResolvedSession { session_id, is_new: false, chat, thread_id }));
    }
    tx.prepare_cached(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, status, container_status, created_at)
         VALUES (?1, ?2, ?3, ?4, 'active', ?5, ?6)",
    )?
    .execute(params![
        new_id.as_str(),
        group.as_str(),
        chat_id,
        thread,
        ContainerStatus::Stopped.as_str(),
        now.to_iso(),
    ])?;
    Ok(Ok(ResolvedSession { session_id: new_id.clone(), is_new: true, chat, thread_id }))
}

/// The oldest active session of exactly this place; rows whose id cannot be used are passed over.
fn find(
    conn: &Connection,
    group: &AgentGroupId,
    chat_id: Option<&str>,
    thread: Option<&str>,
) -> Result<Option<SessionId>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM sessions WHERE agent_group_id = ?1 AND messaging_group_id IS ?2
           AND nullif(thread_id, '') IS ?3 AND status = 'active' ORDER BY created_at, id",
    )?;
    let ids = statement.query_map(params![group.as_str(), chat_id, thread], |row| row.get::<_, String>(0))?;
    let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    Ok(ids.iter().find_map(|id| SessionId::new(id).ok()))
}

fn chat_id(
    tx: &Transaction<'_>,
    (channel_type, platform_id): &Chat,
    adds_chat: bool,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let find = || {
        tx.prepare_cached("SELECT id FROM messaging_groups WHERE channel_type = ?1 AND platform_id = ?2")?
            .query_row([channel_type.as_str(), platform_id.as_str()], |row| row.get(0))
            .optional()
    };
    let found: Option<String> = find()?;
    if found.is_some() || !adds_chat {
        return Ok(found);
    }
    let id = format!("mg-{}-{:08x}", now.as_ms(), fastrand::u32(..));
    tx.prepare_cached(
        "INSERT INTO messaging_groups (id, channel_type, platform_id, created_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute([&id, channel_type.as_str(), platform_id.as_str(), &now.to_iso()])?;
    Ok(Some(id))
}

fn wired_mode(
    conn: &Connection,
    chat_id: &str,
    group: &AgentGroupId,
) -> Result<Option<SessionMode>, StoreError> {
    let mode: Option<Option<String>> = conn
        .prepare_cached(
            "SELECT session_mode FROM messaging_group_agents WHERE messaging_group_id = ?1 AND agent_group_id = ?2",
        )?
        .query_row([chat_id, group.as_str()], |row| row.get(0))
        .optional()?;
    Ok(mode.flatten().and_then(|name| SessionMode::from_name(&name)))
}

/// Whom a group's agents may write to besides their own chat; none in a `v2.db` of the seed.
pub(super) fn destinations(
    conn: &Connection,
    group: &AgentGroupId,
) -> Result<Vec<NamedDestination>, StoreError> {
    let sql =
        "SELECT d.local_name, coalesce(m.name, a.name, d.local_name), m.channel_type, m.platform_id, a.id
               FROM agent_destinations d
               LEFT JOIN messaging_groups m ON d.target_type = 'channel' AND m.id = d.target_id
               LEFT JOIN agent_groups a ON d.target_type = 'agent' AND a.id = d.target_id
               WHERE d.agent_group_id = ?1 AND (m.id IS NOT NULL OR a.id IS NOT NULL) ORDER BY d.local_name";
    let mut statement = match conn.prepare_cached(sql) {
        Err(error) if is_missing_table(&error) => return Ok(Vec::new()),
        prepared => prepared?,
    };
    let rows = statement.query_map([group.as_str()], |row| {
        let target = match row.get::<_, Option<String>>(4)? {
            Some(agent_group) => DestinationTarget::Agent(agent_group),
            None => DestinationTarget::Chat { channel_type: row.get(2)?, platform_id: row.get(3)? },
        };
        Ok(NamedDestination { name: row.get(0)?, display_name: row.get(1)?, target })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
