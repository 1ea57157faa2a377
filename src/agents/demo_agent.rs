//! What each demo agent says.

use super::demo_world::{ADA, BEN, CLEO, DemoSession};
use super::session_files::{AgentError, Row, SessionFiles, Target};
use nanorelay_actors::clock::{Clock, SystemClock};
use serde_json::json;
use std::path::Path;

/// The id of the row that is no JSON.
pub const POISON_ID: &str = "cleo-2-poison";
/// The id of Ada's question.
pub const QUESTION_ID: &str = "ada-deploy";
/// Every row of the demo: its session, its id, and what it is.
pub const ROWS: [(DemoSession, &str, RowKind); 9] = [
    (ADA, "ada-1-text", RowKind::Channel),
    (ADA, "ada-2-file", RowKind::Channel),
    (ADA, "ada-3-question", RowKind::Channel),
    (ADA, "ada-4-to-ben", RowKind::Agent),
    (ADA, "ada-5-edit", RowKind::Channel),
    (BEN, "ben-1-text", RowKind::Channel),
    (CLEO, "cleo-1-task", RowKind::System),
    (CLEO, POISON_ID, RowKind::Poison),
    (CLEO, "cleo-3-text", RowKind::Channel),
];

/// What becomes of a row of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// Delivered to a chat.
    Channel,
    /// Handed to another agent.
    Agent,
    /// Applied by the host.
    System,
    /// Dead.
    Poison,
}

/// Plays one agent in its session folder, to the end of its part.
pub fn play(session: DemoSession, folder: &Path) -> Result<(), AgentError> {
    let mut agent = SessionFiles::open(folder)?;
    match session {
        ADA => play_ada(&mut agent),
        BEN => play_ben(&mut agent),
        _ => play_cleo(&mut agent),
    }
}

fn play_ada(agent: &mut SessionFiles) -> Result<(), AgentError> {
    let chat = Some(ADA.chat());
    let say = |agent: &mut SessionFiles, id, kind, target, content: serde_json::Value| {
        agent.write(&Row { id, kind, target, content: &content.to_string() })
    };
    say(agent, "ada-1-text", "chat", chat, json!({"text": "Good morning! The nightly build is runing."}))?;
    agent.attach("ada-2-file", "report.csv", b"suite,passed,failed\nunit,412,0\nend-to-end,37,0\n")?;
    let file = json!({"text": "Here is the test report.", "files": ["report.csv"]});
    say(agent, "ada-2-file", "chat", chat, file)?;
    let option = |label: &str| json!({"label": label, "selectedLabel": label, "value": label});
    let question = json!({
        "type": "ask_question", "questionId": QUESTION_ID, "title": "Deploy",
        "question": "All tests pass. Deploy to production?", "options": [option("Yes"), option("No")],
    });
    say(agent, "ada-3-question", "chat-sdk", chat, question)?;
    let to_ben = Some(Target { channel_type: "agent", platform_id: BEN.agent_group_id, thread_id: None });
    say(agent, "ada-4-to-ben", "chat", to_ben, json!({"text": "Please announce the build."}))?;
    let platform_id = agent.wait_for_platform_id("ada-1-text")?;
    let edit = json!({"operation": "edit", "messageId": platform_id, "text": "Good morning! The nightly build is done."});
    say(agent, "ada-5-edit", "chat", chat, edit)
}

fn play_ben(agent: &mut SessionFiles) -> Result<(), AgentError> {
    let (id, content) = agent.wait_for_agent_message()?;
    agent.acknowledge(&id, "processing")?;
    let request: serde_json::Value = serde_json::from_str(&content).unwrap_or_default();
    let request = request["text"].as_str().unwrap_or("(nothing)");
    let text = format!("Ada asked me: \"{request}\" So: there is a new build.");
    let content = json!({ "text": text }).to_string();
    agent.answer(&id, &Row { id: "ben-1-text", kind: "chat", target: Some(BEN.chat()), content: &content })
}

fn play_cleo(agent: &mut SessionFiles) -> Result<(), AgentError> {
    let chat = Some(CLEO.chat());
    let in_an_hour = SystemClock.now().as_ms() / 1000 + 3600;
    let due = jiff::Timestamp::from_second(in_an_hour).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    let task = json!({
        "action": "schedule_task", "taskId": "cleo-digest", "prompt": "Write the daily digest.", "script": null,
        "processAfter": due, "recurrence": "0 9 * * *",
    });
    let mut say = |id, kind, target, content: &str| agent.write(&Row { id, kind, target, content });
    say("cleo-1-task", "system", None, &task.to_string())?;
    say(POISON_ID, "chat", chat, "{\"text\": \"this JSON ends too ea")?;
    let after = json!({"text": "The row before this one was broken. I am not held up by it."});
    say("cleo-3-text", "chat", chat, &after.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::demo_world::{self, DemoError};
    use super::*;
    use rusqlite::{Connection, OpenFlags, params};

    type WrittenRow = (i64, String, Option<String>, String);

    fn world() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        demo_world::create(dir.path(), "2026-04-16T14:37:00.000Z").unwrap();
        dir
    }

    fn open(dir: &Path, session: DemoSession, file: &str) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        Connection::open_with_flags(session.folder(dir).join(file), flags).unwrap()
    }

    fn written(dir: &Path, session: DemoSession) -> Vec<WrittenRow> {
        let outbound = open(dir, session, "outbound.db");
        let sql = "SELECT seq, id, channel_type, content FROM messages_out ORDER BY seq";
        let mut statement = outbound.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    fn ids_of(session: DemoSession) -> Vec<&'static str> {
        ROWS.into_iter().filter(|(owner, ..)| *owner == session).map(|(_, id, _)| id).collect()
    }

    #[test]
    fn ada_edits_with_the_id_that_the_host_has_projected() {
        let dir = world();
        // The projection is there before she looks: nothing waits.
        open(dir.path(), ADA, "inbound.db")
            .execute(
                "INSERT INTO delivered VALUES ('ada-1-text', 'console-1', 'delivered', '2026-04-16 14:37:00')",
                [],
            )
            .unwrap();
        play(ADA, &ADA.folder(dir.path())).unwrap();
        let rows = written(dir.path(), ADA);
        assert_eq!(rows.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ids_of(ADA));
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        assert!(rows[4].3.contains("\"messageId\":\"console-1\""), "{}", rows[4].3);
        assert!(ADA.folder(dir.path()).join("outbox/ada-2-file/report.csv").is_file());
    }

    #[test]
    fn ben_answers_above_the_hosts_seq_and_acknowledges() {
        let dir = world();
        open(dir.path(), BEN, "inbound.db")
            .execute(
                "INSERT INTO messages_in (id, seq, kind, timestamp, channel_type, platform_id, content, source_session_id)
                 VALUES ('in-1', 8, 'chat', 'now', 'agent', ?1, '{\"text\":\"hi\"}', ?2)",
                params![ADA.agent_group_id, ADA.session_id],
            )
            .unwrap();
        play(BEN, &BEN.folder(dir.path())).unwrap();
        let rows = written(dir.path(), BEN);
        assert_eq!((rows[0].0, rows[0].1.as_str()), (9, "ben-1-text"));
        let status: String = open(dir.path(), BEN, "outbound.db")
            .query_row("SELECT status FROM processing_ack WHERE message_id = 'in-1'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(status, "completed");
    }

    #[test]
    fn cleo_writes_one_row_that_is_no_json_between_good_ones() {
        let dir = world();
        play(CLEO, &CLEO.folder(dir.path())).unwrap();
        let rows = written(dir.path(), CLEO);
        let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        assert_eq!(rows.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ids_of(CLEO));
        assert_eq!(rows.iter().map(|row| is_json(&row.3)).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(rows[0].2, None, "a system action has no destination");
    }

    #[test]
    fn a_directory_that_is_in_use_is_refused() {
        let dir = world();
        let again = demo_world::create(dir.path(), "2026-04-16T14:37:00.000Z");
        assert!(matches!(again, Err(DemoError::NotEmpty(_))));
    }
}
