//! The tables of `v2.db` that a relay reads or writes, in their current form.

use crate::store::error::StoreError;
use rusqlite::Connection;

/// Creates the tables in an empty database and switches it to WAL: for tests, examples and demonstrations. A
/// real `v2.db` is NanoClaw's and has more tables.
pub fn create_central_schema(conn: &Connection) -> Result<(), StoreError> {
    // On a database in memory this answers `memory`, which is as good there.
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    Ok(conn.execute_batch(SCHEMA)?)
}

const SCHEMA: &str = "
CREATE TABLE agent_groups (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL UNIQUE, agent_provider TEXT,
  created_at TEXT NOT NULL);
CREATE TABLE messaging_groups (
  id TEXT PRIMARY KEY, channel_type TEXT NOT NULL, platform_id TEXT NOT NULL, name TEXT,
  is_group INTEGER DEFAULT 0, unknown_sender_policy TEXT NOT NULL DEFAULT 'strict', created_at TEXT NOT NULL,
  denied_at TEXT, UNIQUE(channel_type, platform_id));
CREATE TABLE messaging_group_agents (
  id TEXT PRIMARY KEY, messaging_group_id TEXT NOT NULL REFERENCES messaging_groups(id),
  agent_group_id TEXT NOT NULL REFERENCES agent_groups(id), session_mode TEXT DEFAULT 'shared',
  priority INTEGER DEFAULT 0, created_at TEXT NOT NULL, engage_mode TEXT, engage_pattern TEXT,
  sender_scope TEXT, ignored_message_policy TEXT, UNIQUE(messaging_group_id, agent_group_id));
CREATE TABLE sessions (
  id TEXT PRIMARY KEY, agent_group_id TEXT NOT NULL REFERENCES agent_groups(id),
  messaging_group_id TEXT REFERENCES messaging_groups(id), thread_id TEXT, agent_provider TEXT,
  status TEXT DEFAULT 'active', container_status TEXT DEFAULT 'stopped', last_active TEXT,
  created_at TEXT NOT NULL);
CREATE INDEX idx_sessions_agent_group ON sessions(agent_group_id);
CREATE INDEX idx_sessions_lookup ON sessions(messaging_group_id, thread_id);
CREATE TABLE pending_questions (
  question_id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions(id),
  message_out_id TEXT NOT NULL, platform_id TEXT, channel_type TEXT, thread_id TEXT, title TEXT NOT NULL,
  options_json TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE agent_destinations (
  agent_group_id TEXT NOT NULL REFERENCES agent_groups(id), local_name TEXT NOT NULL,
  target_type TEXT NOT NULL, target_id TEXT NOT NULL, created_at TEXT NOT NULL,
  PRIMARY KEY (agent_group_id, local_name));
CREATE INDEX idx_agent_dest_target ON agent_destinations(target_type, target_id);";
