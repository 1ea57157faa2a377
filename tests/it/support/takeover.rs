//! Whether NanoClaw can take a directory over again after nanorelay has worked on it.

use nanorelay_actors::testing::TestAgent;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::HashSet;

/// The rules of the on-disk contract for everything that a host writes into a session's folder.
#[track_caller]
pub fn assert_can_be_taken_over(agent: &TestAgent) {
    let session = agent.session_id();
    let inbound = agent.inbound();
    let text = |sql: &str| -> String { inbound.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(text("PRAGMA journal_mode"), "delete", "{session}");
    assert_eq!(text("PRAGMA integrity_check"), "ok", "{session}");
    assert_no_rows(&inbound, "SELECT id FROM messages_in WHERE seq IS NULL OR seq % 2 <> 0");
    assert_no_rows(
        &inbound,
        "SELECT id FROM messages_in WHERE process_after IS NOT NULL AND datetime(process_after) IS NULL",
    );
    assert_no_rows(&inbound, "SELECT message_out_id FROM delivered WHERE datetime(delivered_at) IS NULL");
    assert_no_rows(
        &inbound,
        "SELECT message_out_id FROM delivered WHERE status NOT IN ('delivered', 'failed')",
    );
    assert_no_rows(&inbound, "SELECT id FROM messages_in WHERE kind = 'task' AND series_id IS NULL");
    assert!(!agent.folder().join("inbound.db-wal").exists(), "{session}");
    assert!(!agent.folder().join("inbound.db-journal").exists(), "{session}");
}

/// A row that the host wrote: its JSON is compact, as containers search it with LIKE.
#[track_caller]
pub fn assert_compact_json(content: &str) {
    let value: Value = serde_json::from_str(content).unwrap_or_else(|error| panic!("{content}: {error}"));
    assert_eq!(content.len(), value.to_string().len(), "not compact: {content}");
}

/// The seqs of both tables of a session are unique together.
#[track_caller]
pub fn assert_seqs_unique(agent: &TestAgent) {
    let inbound = agent.messages_in().into_iter().filter_map(|row| row.seq);
    let outbound = agent.messages_out().into_iter().map(|(_, seq)| seq);
    let mut seen = HashSet::new();
    for seq in inbound.chain(outbound) {
        assert!(seen.insert(seq), "seq {seq} occurs twice in {}", agent.session_id());
    }
}

#[track_caller]
fn assert_no_rows(connection: &Connection, sql: &str) {
    let mut statement = connection.prepare(sql).unwrap();
    let ids: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).unwrap();
    assert!(ids.is_empty(), "{sql}: {ids:?}");
}
