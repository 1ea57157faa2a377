//! An agent that answers each message with its own text: the smallest one that keeps the contract.
//!
//! It claims a message, answers it, and says in the transaction of the answer that it is done. So whenever it is
//! killed, its successor finds an answer with its acknowledgement, or neither: nothing is answered twice.

use super::session_files::{AgentError, POLL_INTERVAL, Row, SessionFiles, Target};
use nanorelay_actors::clock::{Clock, SystemClock};
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How each answer begins. Two of these agents that write to each other would never end: one does not answer an answer.
pub const ANSWER_START: &str = "Echo: ";

/// What waits for the agent. A row with `trigger` 0 is context: nobody answers it, and nobody acknowledges it.
const DUE: &str = "SELECT id, channel_type, platform_id, thread_id, content FROM messages_in
    WHERE status = 'pending' AND kind <> 'system' AND trigger = 1
      AND (process_after IS NULL OR datetime(process_after) <= datetime('now')) ORDER BY seq";

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// Where it came from: channel type, chat, thread.
    origin: Option<(String, String, Option<String>)>,
    /// What it says.
    pub text: String,
}

/// The agent of one session.
pub struct Echo {
    files: SessionFiles,
}

impl Echo {
    /// Opens the files of a session folder, and gives back what an earlier agent had claimed: there is only one at a
    /// time.
    pub fn open(folder: &Path) -> Result<Self, AgentError> {
        let files = SessionFiles::open(folder)?;
        files.drop_claims()?;
        Ok(Self { files })
    }

    /// Answers what comes, until nothing has come for `idle_exit`. `before_answer` is called for each message that is
    /// claimed.
    pub fn run(
        &mut self,
        idle_exit: Duration,
        mut before_answer: impl FnMut(&Message),
    ) -> Result<(), AgentError> {
        let mut last_work = SystemClock.now();
        while SystemClock.now().since(last_work) < idle_exit {
            self.files.beat()?;
            for message in self.due()? {
                self.files.acknowledge(&message.id, "processing")?;
                before_answer(&message);
                self.answer(&message)?;
                last_work = SystemClock.now();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// What waits for an answer, in order.
    fn due(&self) -> Result<Vec<Message>, AgentError> {
        let inbound = self.files.inbound()?;
        let read = |row: &rusqlite::Row<'_>| {
            let content: String = row.get(4)?;
            let origin = match (row.get::<_, Option<String>>(1)?, row.get::<_, Option<String>>(2)?) {
                (Some(channel_type), Some(platform_id)) => Some((channel_type, platform_id, row.get(3)?)),
                _ => None,
            };
            Ok(Message { id: row.get(0)?, origin, text: text_of(&content) })
        };
        let mut statement = inbound.prepare(DUE)?;
        let found: Vec<Message> = statement.query_map([], read)?.collect::<Result<_, _>>()?;
        let own_chat = own_chat(&inbound)?;
        let mut due = Vec::new();
        for mut message in found {
            // The host takes a moment to take note of an acknowledgement.
            if !self.files.is_done(&message.id)? {
                message.origin = message.origin.or_else(|| own_chat.clone());
                due.push(message);
            }
        }
        Ok(due)
    }

    fn answer(&mut self, message: &Message) -> Result<(), AgentError> {
        let Some((channel_type, platform_id, thread_id)) = &message.origin else {
            // There is nowhere to answer to.
            return self.files.acknowledge(&message.id, "failed");
        };
        if message.text.starts_with(ANSWER_START) {
            return self.files.acknowledge(&message.id, "completed");
        }
        let target = Target { channel_type, platform_id, thread_id: thread_id.as_deref() };
        let content = json!({ "text": format!("{ANSWER_START}{}", message.text) }).to_string();
        // Derived from the message: a second answer to it could not even be written.
        let id = format!("re-{}", message.id);
        let row = Row { id: &id, kind: "chat", target: Some(target), content: &content };
        self.files.answer(&message.id, &row)
    }
}

/// A chat message's text, or a task's prompt; content of another form as it is.
fn text_of(content: &str) -> String {
    let parsed: Value = serde_json::from_str(content).unwrap_or_default();
    let text = parsed["text"].as_str().or_else(|| parsed["prompt"].as_str());
    text.unwrap_or(content).to_owned()
}

/// Where the session speaks, for messages that came from nowhere.
fn own_chat(inbound: &Connection) -> Result<Option<(String, String, Option<String>)>, AgentError> {
    let sql = "SELECT channel_type, platform_id, thread_id FROM session_routing
               WHERE channel_type IS NOT NULL AND platform_id IS NOT NULL";
    Ok(inbound.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorelay_actors::testing::{DataDir, SessionSpec};

    fn answers(agent: &nanorelay_actors::testing::TestAgent) -> Vec<(String, i64)> {
        agent.messages_out()
    }

    #[test]
    fn each_message_is_answered_once_by_whichever_agent_lives() {
        let data = DataDir::new();
        let session = data.session(SessionSpec::new("ag").chat("slack", "slack:C1").thread("t-1"));
        session.receive("in-1", "one");
        session.receive("in-2", "two");
        // An agent that died at work.
        session.ack("in-1", "processing");
        for _ in 0..2 {
            Echo::open(session.folder()).unwrap().run(Duration::from_millis(1), |_| {}).unwrap();
        }
        assert_eq!(answers(&session), [("re-in-1".to_owned(), 5), ("re-in-2".to_owned(), 7)]);
        let read = "SELECT channel_type || platform_id || thread_id || content FROM messages_out LIMIT 1";
        let row: String = session.outbound().query_row(read, [], |row| row.get(0)).unwrap();
        assert_eq!(row, "slackslack:C1t-1{\"text\":\"Echo: one\"}");
        let open = "SELECT count(*) FROM processing_ack WHERE status <> 'completed'";
        let count: i64 = session.outbound().query_row(open, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn an_answer_is_not_answered_and_a_message_from_nowhere_fails() {
        let data = DataDir::new();
        let session = data.session(SessionSpec::new("ag"));
        session.receive("in-1", "nowhere to go");
        let other = data.session(SessionSpec::new("ag").chat("slack", "slack:C1"));
        other.receive("in-2", "Echo: hello");
        for session in [&session, &other] {
            Echo::open(session.folder()).unwrap().run(Duration::from_millis(1), |_| {}).unwrap();
            assert!(answers(session).is_empty());
        }
        let status = |session: &nanorelay_actors::testing::TestAgent| -> String {
            session.outbound().query_row("SELECT status FROM processing_ack", [], |row| row.get(0)).unwrap()
        };
        assert_eq!((status(&session).as_str(), status(&other).as_str()), ("failed", "completed"));
    }

    #[test]
    fn the_text_of_a_task_is_its_prompt() {
        assert_eq!(text_of(r#"{"prompt":"p","script":null}"#), "p");
        assert_eq!(text_of(r#"{"text":"t"}"#), "t");
        assert_eq!(text_of("no JSON"), "no JSON");
    }
}
