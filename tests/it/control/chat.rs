//! `/v1/chat`.

use super::SHUTDOWN_DEADLINE;
use crate::support::api::Api;
use crate::support::host::TestHost;
use nanorelay::channels::web::{WebChatSettings, WebChats};
use nanorelay_actors::relay::Relay;
use nanorelay_actors::settings::ChannelSettings;
use nanorelay_actors::testing::{DataDir, RowSpec, SessionSpec, TestAgent};
use serde_json::{Value, json};
use std::sync::Arc;

const MESSAGES: &str = "/v1/chat/sess-1/messages";

struct ChatWorld {
    data: DataDir,
    agent: TestAgent,
    relay: Relay,
    api: Api,
}

impl ChatWorld {
    async fn start() -> Self {
        let data = DataDir::new();
        let agent = data.session(SessionSpec::new("ag-a").id("sess-1").chat("web", "web:support"));
        let relay = start(&data).await;
        let api = Api::of(&relay).await;
        Self { data, agent, relay, api }
    }

    async fn say(&self, id: &str, text: &str) -> Value {
        self.api.post(MESSAGES, json!({ "id": id, "text": text })).await.expect(200)
    }

    /// What the agent writes is delivered.
    async fn agent_says(&self, content: Value) -> String {
        let id = self.agent.row(RowSpec { content: content.to_string(), ..self.agent.text_row("") });
        assert!(self.relay.drain(SHUTDOWN_DEADLINE).await.is_complete());
        id
    }

    async fn transcript(&self) -> Vec<Value> {
        let page = self.api.get(MESSAGES).await.expect(200);
        page["items"].as_array().expect("items").clone()
    }

    async fn stop(self) -> DataDir {
        self.relay.shutdown(SHUTDOWN_DEADLINE).await;
        self.data
    }
}

async fn start(data: &DataDir) -> Relay {
    let host = TestHost::new(data.path());
    let chats = WebChats::open(data.path(), &WebChatSettings::default(), Arc::clone(&host.clock)).unwrap();
    let relay = host
        .start_with(|builder| builder.channel_with("web", chats.channel("web"), ChannelSettings::default()))
        .await;
    chats.attach(&relay);
    relay
}

fn texts(entries: &[Value]) -> Vec<(&str, &str)> {
    entries
        .iter()
        .map(|entry| (entry["author"].as_str().unwrap(), entry["content"]["text"].as_str().unwrap()))
        .collect()
}

#[actix::test]
async fn a_person_and_an_agent_talk_and_a_restart_forgets_nothing() {
    let world = ChatWorld::start().await;
    let said = world.say("a-1", "Is the build green?").await;
    assert_eq!((&said["state"], &said["name"]), (&json!("sent"), &json!("root")));
    let inbox = world.agent.messages_in();
    let row = inbox.iter().find(|row| row.id == "web-in-a-1").expect("in the inbox");
    let content: Value = serde_json::from_str(&row.content).unwrap();
    assert_eq!((&content["text"], &content["sender"]), (&json!("Is the build green?"), &json!("root")));
    world.agent_says(json!({ "text": "It is." })).await;
    world.agent_says(json!({ "operation": "reaction", "messageId": "web-in-a-1", "emoji": "eyes" })).await;
    let before = world.transcript().await;
    assert_eq!(texts(&before[..2]), [("person", "Is the build green?"), ("agent", "It is.")]);
    assert_eq!(before[2]["target"], said["number"], "a reaction names what it is about");
    let data = world.stop().await;
    let relay = start(&data).await;
    let after = Api::of(&relay).await.get(MESSAGES).await.expect(200)["items"].clone();
    assert_eq!(after, Value::Array(before));
    relay.shutdown(SHUTDOWN_DEADLINE).await;
}

#[actix::test]
async fn the_same_id_is_said_once() {
    let world = ChatWorld::start().await;
    let first = world.say("a-1", "once").await;
    assert_eq!(world.say("a-1", "once").await, first);
    assert_eq!(world.transcript().await.len(), 1);
    let rows = world.agent.messages_in();
    assert_eq!(rows.iter().filter(|row| row.id.starts_with("web-in-")).count(), 1);
    world.stop().await;
}

#[actix::test]
async fn an_answer_to_a_question_stands_in_the_transcript_and_counts_once() {
    let world = ChatWorld::start().await;
    let question = json!({
        "type": "ask_question", "questionId": "q-1", "title": "Deploy", "question": "Now?", "options": ["Yes", "No"],
    });
    let row = RowSpec { kind: "chat-sdk".into(), content: question.to_string(), ..world.agent.text_row("") };
    world.agent.row(row);
    assert!(world.relay.drain(SHUTDOWN_DEADLINE).await.is_complete());
    let answers = "/v1/chat/sess-1/answers";
    let body = |option: &str| json!({ "question_id": "q-1", "selected_option": option });
    world.api.post(answers, body("Maybe")).await.expect_problem(422, "refused");
    let answered = world.api.post(answers, body("Yes")).await.expect(200);
    assert_eq!(answered["content"]["selectedOption"], "Yes");
    world.api.post(answers, body("No")).await.expect_problem(409, "conflict");
    let transcript = world.transcript().await;
    assert_eq!(transcript.len(), 2);
    assert_eq!(transcript[1]["content"]["type"], "question_response");
    world.stop().await;
}

#[actix::test]
async fn a_browser_is_told_of_which_types_chats_can_be() {
    let world = ChatWorld::start().await;
    assert_eq!(world.api.get("/v1/chat").await.expect(200), json!({ "channel_types": ["web"] }));
    world.stop().await;
}

#[actix::test]
async fn only_sessions_of_the_browser_and_of_the_caller_have_a_chat() {
    let world = ChatWorld::start().await;
    world.data.session(SessionSpec::new("ag-a").id("sess-slack").chat("slack", "slack:C1"));
    let detail = world.api.get("/v1/chat/sess-slack/messages").await.expect_problem(409, "conflict");
    assert!(detail.contains("speaks in slack"), "{detail}");
    world.api.get("/v1/chat/no-such/messages").await.expect_problem(404, "not-found");
    let other = Api::of(&world.relay).await.caller("eve/admin/ag-b");
    for path in [MESSAGES, "/v1/chat/sess-1/events", "/v1/chat/sess-1/files/1/0"] {
        other.get(path).await.expect_problem(404, "not-found");
    }
    let reader = Api::of(&world.relay).await.caller("bob/read/*");
    reader.get(MESSAGES).await.expect(200);
    reader.post(MESSAGES, json!({ "id": "x", "text": "x" })).await.expect_problem(403, "missing-scope");
    world.stop().await;
}

#[actix::test]
async fn bad_words_are_refused_and_nothing_of_them_is_kept() {
    let world = ChatWorld::start().await;
    for (body, words) in [
        (json!({ "id": "a", "text": "  " }), "text: is empty"),
        (json!({ "id": "a b", "text": "x" }), "id: must be"),
        (json!({ "id": "", "text": "x" }), "id: must be"),
        (json!({ "text": "x" }), "missing field `id`"),
    ] {
        let detail = world.api.post(MESSAGES, body).await.expect_problem(400, "invalid-request");
        assert!(detail.contains(words), "{detail} should say {words}");
    }
    for query in ["limit=0", "limit=201", "after=1&before=2", "colour=red"] {
        world.api.get(&format!("{MESSAGES}?{query}")).await.expect_problem(400, "invalid-request");
    }
    assert!(world.transcript().await.is_empty());
    world.stop().await;
}

#[actix::test]
async fn a_file_of_an_agent_is_always_a_download() {
    let world = ChatWorld::start().await;
    let page = b"<script>alert(1)</script>".to_vec();
    world.agent.row(RowSpec {
        content: json!({ "text": "", "files": ["page.html"] }).to_string(),
        files: vec![("page.html".to_owned(), page)],
        ..world.agent.text_row("")
    });
    assert!(world.relay.drain(SHUTDOWN_DEADLINE).await.is_complete());
    assert_eq!(world.transcript().await[0]["files"][0]["name"], "page.html");
    let answer = world.api.get("/v1/chat/sess-1/files/1/0").await;
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"page.html\""));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    answer.expect(200);
    world.api.get("/v1/chat/sess-1/files/1/1").await.expect_problem(404, "not-found");
    world.stop().await;
}
