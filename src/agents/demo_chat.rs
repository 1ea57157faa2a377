//! The demo's agent that people talk to in the browser. It repeats what they say, and shows on a word what else agents
//! can do.

use super::demo_world::DORA;
use super::session_files::{AgentError, POLL_INTERVAL, Row, SessionFiles};
use rustix::process::getppid;
use serde_json::{Value, json};
use std::path::Path;

/// What Dora says to whoever asks.
const HELP: &str = "I am Dora, a demo agent. I repeat what you say. Or say one of these words: file, question, card, react, \
                    edit.";

/// Answers to questions are of the kind `system`: only a tool that waits takes them, and Dora is one.
const DUE: &str = "SELECT id, content FROM messages_in WHERE status = 'pending'
    AND (kind = 'chat' OR content LIKE '%\"question_response\"%') ORDER BY seq LIMIT 16";

/// Answers what people say until the process that has started this one is gone.
pub fn play(folder: &Path) -> Result<(), AgentError> {
    let mut files = SessionFiles::open(folder)?;
    files.drop_claims()?;
    let parent = getppid();
    while getppid() == parent {
        files.beat()?;
        answer_all(&mut files)?;
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Answers what is there.
fn answer_all(files: &mut SessionFiles) -> Result<(), AgentError> {
    let due: Vec<(String, String)> = {
        let inbound = files.inbound()?;
        let mut statement = inbound.prepare(DUE)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    for (id, content) in due {
        // The host takes a moment to take note of an acknowledgement.
        if !files.is_done(&id)? {
            files.acknowledge(&id, "processing")?;
            answer(files, &id, &serde_json::from_str(&content).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Ids are derived from the message: an answer that is written twice could not even be stored.
fn answer(files: &mut SessionFiles, id: &str, content: &Value) -> Result<(), AgentError> {
    let text = content["text"].as_str().unwrap_or_default().trim();
    let (kind, said) = match text.to_lowercase().as_str() {
        _ if content["type"] == "question_response" => {
            ("chat", json!({ "text": format!("You chose {}.", content["selectedOption"]) }))
        }
        "" | "help" | "hello" | "hi" => ("chat", json!({ "text": HELP })),
        "file" => {
            files.attach(
                &format!("re-{id}"),
                "report.csv",
                b"suite,passed,failed\nunit,412,0\nend-to-end,37,0\n",
            )?;
            ("chat", json!({ "text": "Here is a file.", "files": ["report.csv"] }))
        }
        "question" => ("chat-sdk", question(id)),
        "card" => ("chat-sdk", card()),
        "react" => ("chat", json!({ "operation": "reaction", "messageId": id, "emoji": "thumbs_up" })),
        "edit" => ("chat", edited_later(files, id)?),
        _ => ("chat", json!({ "text": format!("You said: {text}") })),
    };
    let row = Row { id: &format!("re-{id}"), kind, target: Some(DORA.chat()), content: &said.to_string() };
    files.answer(id, &row)
}

fn question(id: &str) -> Value {
    let option =
        |label: &str| json!({ "label": label, "selectedLabel": label, "value": label.to_lowercase() });
    json!({
        "type": "ask_question", "questionId": format!("ask-{id}"), "title": "Deploy",
        "question": "All tests pass. Deploy to production?", "options": [option("Yes"), option("No")],
    })
}

fn card() -> Value {
    json!({
        "type": "card", "fallbackText": "Build 1842: all checks passed",
        "card": { "title": "Build 1842", "description": "All checks passed.", "children": ["412 unit tests", "37 end-to-end tests"] },
    })
}

/// Says something with a mistake; the edit of it, by the id that the platform gave it.
fn edited_later(files: &mut SessionFiles, id: &str) -> Result<Value, AgentError> {
    let first = format!("first-{id}");
    let content = json!({ "text": "This has a mistaek." }).to_string();
    files.write(&Row { id: &first, kind: "chat", target: Some(DORA.chat()), content: &content })?;
    let platform_id = files.wait_for_platform_id(&first)?;
    Ok(json!({ "operation": "edit", "messageId": platform_id, "text": "This had a mistake." }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorelay_actors::testing::{DataDir, SessionSpec, TestAgent};

    fn session(data: &DataDir) -> TestAgent {
        data.session(SessionSpec::new(DORA.agent_group_id).chat(DORA.channel_type, DORA.platform_id))
    }

    fn contents(session: &TestAgent) -> Vec<Value> {
        let outbound = session.outbound();
        let mut statement = outbound.prepare("SELECT content FROM messages_out ORDER BY seq").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|content| serde_json::from_str(&content.unwrap()).unwrap()).collect()
    }

    #[test]
    fn each_word_shows_one_thing_that_agents_can_do_and_is_answered_once() {
        let data = DataDir::new();
        let session = session(&data);
        for (number, word) in
            ["good morning", "help", "file", "question", "card", "react"].into_iter().enumerate()
        {
            session.receive(&format!("in-{number}"), word);
        }
        let mut files = SessionFiles::open(session.folder()).unwrap();
        answer_all(&mut files).unwrap();
        answer_all(&mut files).unwrap();
        let said = contents(&session);
        assert_eq!(said.len(), 6);
        assert_eq!(said[0], json!({ "text": "You said: good morning" }));
        assert_eq!(said[2]["files"], json!(["report.csv"]));
        assert_eq!(said[3]["questionId"], "ask-in-3");
        assert_eq!(said[4]["card"]["title"], "Build 1842");
        assert_eq!(said[5]["messageId"], "in-5");
        assert!(session.folder().join("outbox/re-in-2/report.csv").is_file());
    }
}
