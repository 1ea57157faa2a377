//! What `v2.db` says about sessions, groups and permissions, in memory.

use crate::model::ids::{AgentGroupId, ChannelType, InvalidId, PlatformId, SessionId, ThreadId};
use crate::model::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::sql::is_missing_table;
use indexmap::IndexMap;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A chat: a kind of platform and a place there.
pub type Chat = (ChannelType, PlatformId);

/// Whether a session is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStatus {
    /// In use.
    Active,
    /// Closed, or in a state that this version does not know.
    Closed,
}

/// What a session's container does, as far as the host recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatus {
    /// It runs.
    Running,
    /// It runs and has nothing to do.
    Idle,
    /// It does not run.
    Stopped,
}

impl ContainerStatus {
    /// The status as text, as in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ContainerStatus::Running => "running",
            ContainerStatus::Idle => "idle",
            ContainerStatus::Stopped => "stopped",
        }
    }
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its id.
    pub id: SessionId,
    /// The agent group it belongs to.
    pub agent_group_id: AgentGroupId,
    /// The chat it speaks in.
    pub own_chat: Option<Chat>,
    /// The thread it speaks in.
    pub thread_id: Option<ThreadId>,
    /// Whether it is in use.
    pub status: SessionStatus,
    /// What its container does.
    pub container_status: ContainerStatus,
    /// When it was created; `None` when the row holds no readable time.
    pub created_at: Option<Timestamp>,
    /// When it was last active.
    pub last_active: Option<Timestamp>,
}

/// One agent group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Its name.
    pub name: String,
    /// Chats that its sessions may write to, besides each one's own.
    pub channels: HashSet<Chat>,
    /// Other groups that its sessions may write to.
    pub agents: HashSet<AgentGroupId>,
    /// Its newest active session, by time of creation and then by id.
    pub newest_active: Option<SessionId>,
}

/// What `v2.db` said at one moment. Ids that occur often share their text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CentralSnapshot {
    /// [`super::Central::data_version`] at or before that moment.
    pub version: i64,
    /// All sessions, in the order of the table: a round over all of them finds their files where the system made them,
    /// side by side.
    pub sessions: IndexMap<SessionId, SessionFacts>,
    /// How many of them are in use.
    pub active_sessions: usize,
    /// All agent groups.
    pub groups: HashMap<AgentGroupId, GroupFacts>,
    /// Rows that cannot be used: what they are, and why.
    pub skipped: Vec<(String, String)>,
}

impl CentralSnapshot {
    /// Whether a session may write to a chat: its own, or one of its group's destinations.
    pub fn may_send(&self, session: &SessionId, channel: &ChannelType, platform: &PlatformId) -> bool {
        let Some(session) = self.sessions.get(session) else {
            return false;
        };
        let chat = (channel.clone(), platform.clone());
        session.own_chat.as_ref() == Some(&chat)
            || self.groups.get(&session.agent_group_id).is_some_and(|group| group.channels.contains(&chat))
    }

    /// Whether one agent group may write to another; to itself always.
    pub fn may_message(&self, from: &AgentGroupId, to: &AgentGroupId) -> bool {
        from == to || self.groups.get(from).is_some_and(|group| group.agents.contains(to))
    }

    /// The newest active session of a group.
    pub fn newest_active_session(&self, group: &AgentGroupId) -> Option<&SessionFacts> {
        self.sessions.get(self.groups.get(group)?.newest_active.as_ref()?)
    }
}

/// Reads a snapshot, all of it in one read transaction. `version` is kept in it.
pub fn read_snapshot(conn: &Connection, version: i64) -> Result<CentralSnapshot, StoreError> {
    let tx = conn.unchecked_transaction()?;
    let mut reader =
        Reader { snapshot: CentralSnapshot { version, ..Default::default() }, chats: HashMap::new() };
    reader.groups(&tx)?;
    reader.chats(&tx)?;
    reader.destinations(&tx)?;
    reader.sessions(&tx)?;
    reader.newest_sessions();
    Ok(reader.snapshot)
}

struct Reader {
    snapshot: CentralSnapshot,
    /// Chats by the id of their messaging group.
    chats: HashMap<String, Chat>,
}

impl Reader {
    fn groups(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let mut statement = conn.prepare_cached("SELECT id, name FROM agent_groups")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = text(row, 0)?.unwrap_or_default();
            let name = text(row, 1)?.unwrap_or_default();
            if let Some(id) = self.usable("agent group", id, AgentGroupId::new(id)) {
                self.snapshot
                    .groups
                    .insert(id, GroupFacts { name: name.to_owned(), ..GroupFacts::default() });
            }
        }
        Ok(())
    }

    fn chats(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let mut channel_types: HashSet<ChannelType> = HashSet::new();
        let mut statement =
            conn.prepare_cached("SELECT id, channel_type, platform_id FROM messaging_groups")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = text(row, 0)?.unwrap_or_default();
            let channel = ChannelType::new(text(row, 1)?.unwrap_or_default());
            let platform = PlatformId::new(text(row, 2)?.unwrap_or_default());
            let chat = channel.and_then(|channel| Ok((channel, platform?)));
            let Some((channel, platform)) = self.usable("chat", id, chat) else {
                continue;
            };
            let channel = shared(&mut channel_types, channel);
            self.chats.insert(id.to_owned(), (channel, platform));
        }
        Ok(())
    }

    fn destinations(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let current = "SELECT agent_group_id, target_type, target_id FROM agent_destinations";
        // The seed has no such table: a chat that is wired to a group is open to it, other groups are not.
        let seed = "SELECT agent_group_id, 'channel', messaging_group_id FROM messaging_group_agents";
        let mut statement: CachedStatement<'_> = match conn.prepare_cached(current) {
            Err(error) if is_missing_table(&error) => conn.prepare_cached(seed)?,
            prepared => prepared?,
        };
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let from = text(row, 0)?.unwrap_or_default();
            let target_type = text(row, 1)?.unwrap_or_default();
            let target = text(row, 2)?.unwrap_or_default();
            self.destination(from, target_type, target);
        }
        Ok(())
    }

    fn destination(&mut self, from: &str, target_type: &str, target: &str) {
        let chat = self.chats.get(target).cloned();
        let agent = AgentGroupId::new(target).ok();
        let agent = agent.and_then(|id| Some(self.snapshot.groups.get_key_value(&id)?.0.clone()));
        let from_id = AgentGroupId::new(from).ok();
        let group = from_id.and_then(|id| self.snapshot.groups.get_mut(&id));
        match (group, target_type, chat, agent) {
            (Some(group), "channel", Some(chat), _) => _ = group.channels.insert(chat),
            (Some(group), "agent", _, Some(agent)) => _ = group.agents.insert(agent),
            (group, ..) => {
                let unknown = if group.is_some() { "target" } else { "agent group" };
                let what = format!("destination of {from:?}: {target_type} {target:?}");
                self.snapshot.skipped.push((what, format!("its {unknown} is unknown")));
            }
        }
    }

    fn sessions(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let mut statement = conn.prepare_cached(
            "SELECT id, agent_group_id, messaging_group_id, thread_id, status, container_status, created_at,
               last_active
             FROM sessions",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = text(row, 0)?.unwrap_or_default();
            let facts = self.session(row, id)?;
            if let Some(facts) = self.usable("session", id, facts) {
                self.snapshot.sessions.insert(facts.id.clone(), facts);
            }
        }
        self.snapshot.sessions.shrink_to_fit();
        Ok(())
    }

    /// One session, or what is wrong with its ids.
    fn session(&self, row: &Row<'_>, id: &str) -> rusqlite::Result<Result<SessionFacts, InvalidId>> {
        let group = AgentGroupId::new(text(row, 1)?.unwrap_or_default());
        let thread = text(row, 3)?.filter(|thread| !thread.is_empty());
        let thread = thread.map(ThreadId::new).transpose();
        let ids = SessionId::new(id).and_then(|id| Ok((id, group?, thread?)));
        let (id, group, thread_id) = match ids {
            Ok(ids) => ids,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let known = self.snapshot.groups.get_key_value(&group).map(|(id, _)| id.clone());
        let is_active = text(row, 4)? == Some("active");
        Ok(Ok(SessionFacts {
            id,
            agent_group_id: known.unwrap_or(group),
            own_chat: text(row, 2)?.and_then(|id| self.chats.get(id).cloned()),
            thread_id,
            status: if is_active { SessionStatus::Active } else { SessionStatus::Closed },
            container_status: match text(row, 5)? {
                Some("running") => ContainerStatus::Running,
                Some("idle") => ContainerStatus::Idle,
                _ => ContainerStatus::Stopped,
            },
            created_at: time(row, 6)?,
            last_active: time(row, 7)?,
        }))
    }

    /// Of each group, and how many sessions are in use.
    fn newest_sessions(&mut self) {
        let CentralSnapshot { sessions, groups, active_sessions, .. } = &mut self.snapshot;
        for session in sessions.values().filter(|session| session.status == SessionStatus::Active) {
            *active_sessions += 1;
            let Some(group) = groups.get_mut(&session.agent_group_id) else {
                continue;
            };
            let newest = group.newest_active.as_ref().and_then(|id| sessions.get(id));
            if newest.is_none_or(|newest| age_order(newest) < age_order(session)) {
                group.newest_active = Some(session.id.clone());
            }
        }
    }

    fn usable<T>(&mut self, what: &str, id: &str, result: Result<T, impl fmt::Display>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(reason) => {
                self.snapshot.skipped.push((format!("{what} {id:?}"), reason.to_string()));
                None
            }
        }
    }
}

fn age_order(session: &SessionFacts) -> (Option<Timestamp>, &SessionId) {
    (session.created_at, &session.id)
}

fn shared(known: &mut HashSet<ChannelType>, channel: ChannelType) -> ChannelType {
    if let Some(same) = known.get(&channel) {
        return same.clone();
    }
    known.insert(channel.clone());
    channel
}

/// A text column; `None` for NULL and for anything that is not text.
fn text<'a>(row: &'a Row<'_>, index: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    })
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(text(row, index)?.and_then(|text| Timestamp::parse(text).ok()))
}
